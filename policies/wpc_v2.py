"""Work Policy Contract v2 of the reference: statements (protocol.md C.2). Pure; ``statements`` says how they are
judged.

What no statement allows is denied, so nothing that is absent allows anything.
"""

from __future__ import annotations

import ipaddress
import re

from ..tokens.canonical import JsonObject
from .fields import Fields
from .policy import Demand, Policy, Shape
from .statements import CONTEXT_KEYS, NUMBER, NUMERIC, OPERATORS, Condition, Statement
from .wpc_v1 import DID

KNOWN_FIELDS = (
    "policy_version",
    "policy_id",
    "issuer_did",
    "statements",
    "inherits",
    "coverage_enforcement",
    "witnessed_web_policy",
    "metadata",
)
_STATEMENT_FIELDS = ("sid", "effect", "actions", "resources", "conditions")
_OPERATOR = re.compile(r"[A-Za-z]{1,64}", re.ASCII)


def read_wpc_v2(document: JsonObject, policy_hash_b64u: str) -> Policy:
    """The policy of a WPC v2; raises ``ClawproxyError`` (WPC_INVALID) for the first field that is wrong.

    ``model:invoke`` is judged on ``<provider>/<model>``, ``tool:execute`` on each declared tool's name. Demands:
    ``inherits`` (it names an id and no hash, so the parent cannot be pinned), ``coverage_enforcement: enforce``, a
    ``witnessed_web_policy`` that enforces, actions ``side_effect:…`` and conditions on what the gateway has no value
    for.
    """
    fields = Fields(document, KNOWN_FIELDS)
    fields.need("policy_version", "policy_id", "issuer_did", "statements")
    fields.text("policy_version", one_of=("2",))
    fields.text("issuer_did", max_chars=256, like=DID)
    fields.object("metadata")
    demands: list[Demand] = []
    if fields.text("inherits") is not None:
        demands.append(Demand("inherits", "the parent is named by id, not by hash, so it cannot be pinned"))
    if fields.text("coverage_enforcement", one_of=("observe", "warn", "enforce")) == "enforce":
        demands.append(Demand("coverage_enforcement", "coverage of side effects is not attested yet"))
    _witnessed_web(fields, demands)
    inner = fields.objects("statements", _STATEMENT_FIELDS, min_items=1, max_items=64) or ()
    statements = tuple(_statement(entry, demands) for entry in inner)
    return Policy(
        policy_hash_b64u=policy_hash_b64u,
        shape=Shape.WPC_V2,
        name=fields.text("policy_id") or "",
        providers=None,
        models=None,
        tools=None,
        statements=statements,
        demands=tuple(demands),
    )


def _statement(entry: Fields, demands: list[Demand]) -> Statement:
    entry.need("sid", "effect", "actions", "resources")
    sid = entry.text("sid") or ""
    actions = entry.texts("actions", min_items=1, max_items=64) or ()
    for action in actions:
        if action.startswith("side_effect:"):
            demands.append(Demand(f'statements["{sid}"].actions', f'"{action}" is not seen by this gateway yet'))
    return Statement(
        sid=sid,
        allows=entry.text("effect", one_of=("Allow", "Deny")) == "Allow",
        actions=actions,
        resources=entry.texts("resources", min_items=1, max_chars=512) or (),
        conditions=_conditions(entry, sid, demands),
    )


def _conditions(entry: Fields, sid: str, demands: list[Demand]) -> tuple[Condition, ...]:
    operators = entry.object("conditions")
    if operators is None:
        return ()
    out: list[Condition] = []
    for operator in operators.names("operator", max_items=16):
        if not _OPERATOR.fullmatch(operator):
            operators.refuse(operator, "not the name of an operator", expected="letters")
        pairs = operators.object(operator)
        if pairs is None or pairs.is_empty():  # an operator that asks nothing would hold for everything
            operators.refuse(operator, "no condition", expected="at least one key")
        if operator not in OPERATORS:
            demands.append(
                Demand(f'statements["{sid}"].conditions.{operator}', "the gateway does not know this operator")
            )
        for key in pairs.names("key", max_items=16):
            expected = pairs.text(key, max_chars=512) or ""
            _check_operand(pairs, key, operator, expected)
            if key not in CONTEXT_KEYS:
                why = f'the gateway has no value for "{key}" yet'
                demands.append(Demand(f'statements["{sid}"].conditions.{operator}', why))
            out.append(Condition(operator, key, expected))
    return tuple(out)


def _check_operand(pairs: Fields, key: str, operator: str, expected: str) -> None:
    if operator in NUMERIC and not NUMBER.fullmatch(expected):
        pairs.refuse(key, "not a number", got=expected, expected='a decimal number as text, like "3"')
    if operator == "Bool" and expected not in ("true", "false"):
        pairs.refuse(key, "not true or false", got=expected, expected='"true" or "false"')
    if operator == "IpAddress":
        try:
            ipaddress.IPv4Network(expected, strict=False)
        except ValueError:
            pairs.refuse(key, "not an IPv4 network", got=expected, expected='like "10.0.0.0/8"')


def _witnessed_web(fields: Fields, demands: list[Demand]) -> None:
    web = fields.object("witnessed_web_policy", ("mode", "quorum", "transparency"))
    if web is None:
        return
    quorum = web.object("quorum", ("m", "n"))
    if quorum is not None:
        quorum.need("m", "n")
        quorum.integer("m", least=1)
        quorum.integer("n", least=1)
    transparency = web.object("transparency", ("mode", "required_after"))
    enforced = web.text("mode", one_of=("warn", "enforce")) == "enforce"
    if transparency is not None:
        transparency.text("required_after")
        enforced |= transparency.text("mode", one_of=("optional", "warn", "enforce")) == "enforce"
    if enforced:
        demands.append(Demand("witnessed_web_policy", "witnesses are not asked by this gateway"))
