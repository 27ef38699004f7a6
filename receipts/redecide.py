"""Decides again, from what is on record, what the gateway decided then. Pure; what it is given has its shape.

Model calls by ``policies.decide``, calls of tools by ``policies.egress``, both with the contract at hand. A decision
that rests on facts which are not on record, or not whole, is never called the same: ``missing`` names them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..policies.argument_rules import NO_ARGUMENT_RULES
from ..policies.call_rules import ToolCall, approval_of, argument_rules, called_names, decide_call
from ..policies.data_rules import Action, DataRules, call_refusal, label_refusal
from ..policies.decide import Allow, decide
from ..policies.detect.classes import PII
from ..policies.egress import EgressEntry, EgressFacts, decide_destination, decide_egress
from ..policies.policy import Policy
from ..tokens.digests import sha256_b64u
from ..tokens.reasons import Refusal
from .recorded_facts import Recorded, grant_of, is_inner_whole, is_surely_whole, is_word, read_call, read_denied
from .verify_observed import is_same

DECIDED = frozenset(
    {
        "POLICY_MODEL_IDENTITY_TIER_TOO_LOW",
        "POLICY_MODEL_NOT_ALLOWED",
        "POLICY_MODEL_REQUIRED",
        "POLICY_PROVIDER_NOT_ALLOWED",
        "POLICY_REMOTE_URL",
        "POLICY_STATEMENT_DENIED",
        "POLICY_STATE_NOT_READABLE",
        "POLICY_TOOL_DENIED",
        "POLICY_TOOL_NOT_ALLOWED",
        "TOKEN_INSUFFICIENT_SCOPE",
    }
)
"""The refusals of ``policies.decide``."""
_REDACTS = (Action.REMOVE, Action.MASK, Action.HASH)
_NO_TOKEN = "the token"
_COMPARED_WHOLE = frozenset({"model", "upstream_model"})
"""Of these a part may be refused where the whole is allowed; of a list the rest only refuses more."""

_MOST_PATHS = 64
"""So many exact paths of an entry are held to the digest, so that a long contract keeps a long journal quick."""
_ITS_PATH = ("the path, which is on record as a digest",)


@dataclass(frozen=True, slots=True)
class Redecided:
    """What the contract says of a call. ``refusal`` None and nothing ``missing``: it allows it, by ``rules``."""

    rules: tuple[str, ...] = ()
    refusal: Refusal | None = None
    missing: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool | None:
        """None where that cannot be worked out."""
        if self.refusal is not None:
            return False
        return None if self.missing else True


def redecide_call(detail: Mapping[str, Any], token: Mapping[str, Any], policy: Policy) -> Redecided:
    """A model call, from the ``detail`` of its intent and the facts of its token: what it asked for, and what data it
    carried."""
    again = _decide(read_call(detail), token, policy)
    if again.refusal is None and policy.data is not None and (seen := detail.get("data")) is not None:
        return replace(again, refusal=data_refusal(policy.data, seen))
    return again


def data_refusal(rules: DataRules, seen: Mapping[str, Any]) -> Refusal | None:
    """Why a call that carried these labels, and in which these classes were found, may not leave: a label or class that
    is denied, or one that is to be redacted and was not."""
    refusal = label_refusal(rules, seen["labels"])
    if refusal is not None:
        return refusal
    redacted = {row["of"]: row["count"] for row in seen["redacted"]}
    for row in seen["found"]:
        name = row["of"]
        spoken = [(field, action) for field, of, action in rules.actions if of == name]
        spoken = spoken or [(field, action) for field, of, action in rules.actions if of == PII]
        for field, action in spoken:
            if action is Action.DENY:
                return Refusal("DATA_CLASS_DENIED", f'{field} "{name}"', "the record says that it was found")
            if action in _REDACTS and redacted.get(name, 0) < row["count"]:
                return Refusal("DATA_CLASS_DENIED", f'{field} "{name}"', "the record does not say that it was redacted")
    return None


def redecide_denied(payload: Mapping[str, Any], token: Mapping[str, Any], policy: Policy) -> Redecided:
    """A model call that was refused, from the payload of its denial."""
    recorded = read_denied(payload)
    return Redecided(missing=("the request",)) if recorded is None else _decide(recorded, token, policy)


def _decide(recorded: Recorded, token: Mapping[str, Any], policy: Policy) -> Redecided:
    grant = grant_of(token)
    if grant is None:
        return Redecided(missing=(_NO_TOKEN,))
    if recorded.facts.model is None and "model" in recorded.missing:
        return Redecided(missing=recorded.missing)
    again = decide(recorded.facts, grant, policy)
    if isinstance(again, Allow):
        by_tool = [f"{tool}: {rule}" for tool, rule in zip(recorded.facts.tools, again.tool_rules, strict=False)]
        rules = (f"provider: {again.provider_rule}", f"model: {again.model_rule}", *by_tool)
        return Redecided(rules, None, recorded.missing)
    if _COMPARED_WHOLE & set(recorded.missing):
        return Redecided(missing=recorded.missing)
    return Redecided((), again, recorded.missing)


def redecide_called(
    name: str, detail: Mapping[str, Any], token: Mapping[str, Any], policy: Policy, inner: tuple[str, ...] = ()
) -> Redecided:
    """A call of the tool ``name`` that an answer made and the agent got, from the ``detail`` of the intent. Its
    arguments are on record as a digest, and what is decided by them is not judged: rules on them, and what a tool that
    can call any other was to call, but for ``inner``, the tools that it names, where those are on record."""
    grant = grant_of(token)
    if grant is None or not is_surely_whole(name):
        return Redecided(missing=("the name of a tool that was called",))
    facts = read_call(detail).facts
    is_meta = name in facts.any_tools or bool(inner)
    call = ToolCall(name, {}, is_meta, tuple(each for each in inner if is_surely_whole(each)))
    verdict = decide_call(call, facts, grant, replace(policy, arguments=NO_ARGUMENT_RULES))
    if isinstance(verdict, Refusal):
        return Redecided(refusal=verdict)
    names = called_names(name, facts.tools)
    if (seen := detail.get("data")) is not None:
        carried = (*seen["labels"], *(row["of"] for row in seen["found"]))
        for each in names:
            refusal = call_refusal(policy.data, carried, each)
            if refusal is not None:
                return Redecided(refusal=refusal)
    decided_by_them = (is_meta and not inner) or argument_rules(names, policy)
    missing = ["the arguments, which are on record as a digest"] if decided_by_them else []
    missing += ["some of the tools that it names"] if not is_inner_whole(inner) else []
    return Redecided((verdict.rule,), None, tuple(missing))


def would_refuse_so(
    item: Mapping[str, Any], detail: Mapping[str, Any], token: Mapping[str, Any], policy: Policy
) -> bool | None:
    """J92: whether the contract refuses a call of a tool in an answer (an entry of ``called``) as its ``would_refuse``
    says. None where that cannot be worked out, since names in it are not whole on record."""
    told, inner = item["would_refuse"], tuple(item.get("inner", ()))
    again = redecide_called(item["name"], detail, token, policy, inner)
    grant = grant_of(token)
    if grant is None or not is_surely_whole(item["name"]):
        return None
    names = called_names(item["name"], read_call(detail).facts.tools)
    if told["code"] == "APPROVAL_REQUIRED":
        right = again.refusal is None and approval_of(names, policy) is not None
    elif told["code"] == "POLICY_TOOL_ARGUMENTS":  # of its own, or of the first of those that it names
        right = (again.refusal is None and bool(argument_rules(names, policy))) or is_same(told, again.refusal)
        right = right or any(policy.arguments.of(each) for each in inner)
    elif all(map(is_word, (item["name"], *inner))):
        right = is_same(told, again.refusal)
    else:
        right = again.refusal is not None or bool(again.missing)
    return True if right else None if not is_inner_whole(inner) else False


def redecide_effect(detail: Mapping[str, Any], policy: Policy) -> Redecided:
    """A call of a tool, from the ``detail`` of its intent: scheme, host, port, method and the gateway's credential.

    Its path is on record as a digest. An entry for every path needs no more, unless one before it has another
    credential, and one for an exact path is held to the digest; otherwise the path is ``missing``.
    """
    listed = decide_destination(detail["scheme"], detail["host"], detail["port"], policy)
    if isinstance(listed, Refusal):
        return Redecided(refusal=listed)
    with_method = [entry for entry in listed if detail["method"] in entry.methods]
    if not with_method:
        return Redecided(refusal=Refusal("EGRESS_NOT_ALLOWED", f"{listed[0].rule} methods", detail["method"]))
    if "path" in detail:
        facts = EgressFacts(detail["scheme"], detail["host"], detail["port"], detail["method"], detail["path"])
        if isinstance(again := decide_egress(facts, policy), Refusal):
            return Redecided(refusal=replace(again, detail="another path"))
    entries = [entry for entry in with_method if entry.credential == detail["credential"] and entry.paths]
    if not entries:
        if "path" not in detail and detail["credential"] is None and _was_outside(detail):
            return Redecided(missing=_ITS_PATH)  # in a job opened to observe, with a secret in its path
        what = "another credential" if any(e.paths for e in with_method) else "no path"
        return Redecided(refusal=Refusal("EGRESS_NOT_ALLOWED", with_method[0].rule, f"the contract gives it {what}"))
    alike = list(itertools.takewhile(lambda entry: entry.sends == with_method[0].sends, with_method))
    proven = [entry for entry in entries if _takes_its_path(entry, detail, every=entry in alike)]
    rules = tuple(entry.rule for entry in proven or entries)
    return Redecided(rules, None, () if proven else _ITS_PATH)


def _was_outside(detail: Mapping[str, Any]) -> bool:
    return any(each["code"] == "EGRESS_NOT_ALLOWED" for each in detail.get("would_refuse", ()))


def _takes_its_path(entry: EgressEntry, detail: Mapping[str, Any], *, every: bool) -> bool:
    if "path" in detail:  # a job opened to observe
        return entry.takes_path(detail["path"])
    if every and "/*" in entry.paths:
        return True
    facts = EgressFacts(detail["scheme"], detail["host"], detail["port"], detail["method"], "/")
    exact = [replace(facts, path=path).url for path in entry.paths if not path.endswith("/*")][:_MOST_PATHS]
    return any(sha256_b64u(url.encode()) == detail["target_hash_b64u"] for url in exact)


def token_life_refusal(token: Mapping[str, Any], policy: Policy) -> Refusal | None:
    """Why a token on record lives longer than its contract allows, or says no time at all."""
    times = [token.get(name) for name in ("iat", "exp")]
    if not all(time.__class__ in (int, float) for time in times):
        return None  # an intent under it is out of its time, which is told elsewhere
    life_s = times[1] - times[0]  # type: ignore[operator]  # both are numbers
    if life_s <= policy.max_ttl_s:
        return None
    rule = f"longest life {policy.max_ttl_s // 60} minutes"
    return Refusal("TOKEN_TTL_TOO_LONG", rule, f"the token lives {life_s} s, the contract allows {policy.max_ttl_s} s")
