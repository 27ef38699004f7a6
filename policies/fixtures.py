"""Facts of calls as a reviewer writes them down, with what is expected of a contract, and what a contract says. Pure.

A file is an object with a list ``fixtures``, or one fixture a line (docs/contract.md, "Trying a contract"). It is
written by people, so every member is checked and an unknown one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..tokens.canonical import JsonObject, parse_json_object
from ..tokens.errors import ClawproxyError, clip
from ..tokens.grant import Grant
from ..tokens.reasons import REASONS, Refusal
from .call_rules import CallAsks, ToolCall, decide_call
from .decide import decide
from .egress import METHODS, SCHEMES, EgressFacts, decide_egress, default_port, parse_target
from .facts import CallFacts, CallKind
from .policy import Policy

ALLOW, ASK, REFUSE = "allow", "ask", "refuse"
MAX_BYTES = 16 * 1024 * 1024
MAX_FIXTURES = 10_000
_KINDS = ("call", "tool", "egress")
_ABOUT = ("expect", "name", "scope", "sub", "token_life_s")
_LISTS = ("any_tools", "fallback_models", "provider_state", "provider_tools", "remote_urls", "surcharges", "tools")
_TEXTS = ("model", "provider", "route", "tool_choice", "upstream", "upstream_model")
_CALL = (*_LISTS, *_TEXTS, "choices", "is_router", "kind", "max_output_tokens", "stream")


@dataclass(frozen=True, slots=True)
class Decision:
    """What a contract says: ``word`` is ``allow``, ``ask`` (a person is asked) or the reason code of the refusal."""

    word: str
    rule: str = ""
    detail: str = ""

    @classmethod
    def refused(cls, refusal: Refusal) -> Decision:
        return cls(refusal.reason, refusal.rule, refusal.detail)

    def meets(self, expected: str) -> bool:
        """``refuse`` stands for every reason code."""
        return self.word == expected or (expected == REFUSE and self.word not in (ALLOW, ASK))


@dataclass(frozen=True, slots=True)
class Fixture:
    """One call. ``egress`` is judged where there is one, else ``tool``, in an answer to ``call``, else ``call``."""

    name: str
    expect: str | None
    grant: Grant
    call: CallFacts
    tool: ToolCall | None = None
    egress: EgressFacts | None = None


def read_fixtures(content: bytes) -> list[Fixture]:
    """The fixtures of a file; raises ``ClawproxyError`` (FIXTURE_INVALID) for the first that is wrong, by number."""
    if len(content) > MAX_BYTES:
        raise _invalid("the file is too large", got=f"{len(content)} bytes", expected=f"at most {MAX_BYTES}")
    found: list[Any] = []
    try:
        whole = parse_json_object(content, max_bytes=MAX_BYTES, max_nodes=2_000_000)
        found = whole["fixtures"] if set(whole) == {"fixtures"} and isinstance(whole["fixtures"], list) else [whole]
    except ClawproxyError as err:
        lines = [line for line in content.splitlines() if line.strip()]
        if len(lines) < 2:
            raise _invalid(err.message, where=err.where) from None
        for n, line in enumerate(lines[: MAX_FIXTURES + 1], 1):
            try:
                found.append(parse_json_object(line))
            except ClawproxyError as fault:
                raise _invalid(fault.message, where=f"fixture {n}") from None
    if not 1 <= len(found) <= MAX_FIXTURES:
        raise _invalid("a file has some fixtures", got=str(len(found)), expected=f"1 to {MAX_FIXTURES}")
    return [_fixture(value, n) for n, value in enumerate(found, 1)]


def decide_fixture(fixture: Fixture, policy: Policy) -> Decision:
    """Judge one, from the contract's demands and the token's life on."""
    if (refusal := pin_refusal(policy, fixture.grant.exp_s - fixture.grant.iat_s)) is not None:
        return Decision.refused(refusal)
    if fixture.egress is not None:
        found = decide_egress(fixture.egress, policy)
        return Decision.refused(found) if isinstance(found, Refusal) else Decision(ALLOW, found.entry.rule)
    if fixture.tool is not None:
        verdict = decide_call(fixture.tool, fixture.call, fixture.grant, policy)
        if isinstance(verdict, Refusal):
            return Decision.refused(verdict)
        return Decision(ASK if isinstance(verdict, CallAsks) else ALLOW, verdict.rule)
    allowed = decide(fixture.call, fixture.grant, policy)
    if isinstance(allowed, Refusal):
        return Decision.refused(allowed)
    return Decision(ASK if policy.approvals.job is not None else ALLOW, allowed.model_rule)


def pin_refusal(policy: Policy, life_s: float) -> Refusal | None:
    """Why no call of a token that lives so long goes out under the contract."""
    if policy.demands:
        return Refusal("WPC_UNENFORCEABLE", ", ".join(demand.field for demand in policy.demands))
    if life_s > policy.max_ttl_s:
        return Refusal("TOKEN_TTL_TOO_LONG", f"longest life {policy.max_ttl_s // 60} minutes")
    return None


def fixture_row(fixture: Fixture) -> JsonObject:
    """A fixture as it stands in a file: what ``read_fixtures`` reads, without what is the same when absent."""
    row: JsonObject = {"name": fixture.name}
    if fixture.egress is not None:
        egress = fixture.egress
        row["egress"] = {
            "scheme": egress.scheme,
            "host": egress.host,
            "port": egress.port,
            "method": egress.method,
            "path": egress.path,
        }
    elif fixture.call.provider:
        row["call"] = _call_row(fixture.call)
    if fixture.tool is not None:
        row["tool"] = {"name": fixture.tool.name, "arguments": fixture.tool.arguments}
    if fixture.grant.sub:
        row["sub"] = fixture.grant.sub
    if fixture.grant.exp_s > fixture.grant.iat_s:
        row["token_life_s"] = fixture.grant.exp_s - fixture.grant.iat_s
    return row if fixture.expect is None else {**row, "expect": fixture.expect}


def _call_row(call: CallFacts) -> JsonObject:
    plain = CallFacts(call.provider, "", None, stream=False)
    values = {name: getattr(call, name) for name in ("provider", *_CALL)}
    kept = {name: value for name, value in values.items() if name == "provider" or value != getattr(plain, name)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


# -- reading -----------------------------------------------------------------------------------------------------------


def _fixture(value: Any, n: int) -> Fixture:
    where = f"fixture {n}"
    row = _object(value, (*_KINDS, *_ABOUT), where)
    kinds = [kind for kind in _KINDS if kind in row]
    if not kinds or ("egress" in kinds and len(kinds) > 1):
        raise _invalid("it says not what is judged", where=where, expected="call, tool (with or without call), egress")
    expect = _text(row, "expect", where) if "expect" in row else None
    if expect is not None and expect not in (ALLOW, ASK, REFUSE) and expect not in REASONS:
        raise _invalid("no such outcome", where=where, got=expect, expected="allow, ask, refuse or a reason code")
    call = _call(_object(row.get("call", {}), _CALL, f"{where}.call"), f"{where}.call", is_alone=kinds == ["call"])
    tool = _tool(_object(row["tool"], ("name", "arguments"), f"{where}.tool"), call, where) if "tool" in row else None
    egress = _egress(row["egress"], f"{where}.egress") if "egress" in row else None
    return Fixture(_text(row, "name", where) or where, expect, _grant(row, where), call, tool, egress)


def _call(row: JsonObject, where: str, *, is_alone: bool) -> CallFacts:
    if is_alone and "provider" not in row:
        raise _invalid("the provider is missing", where=where)
    kind = _text(row, "kind", where) or str(CallKind.GENERATE)
    if kind not in set(CallKind):
        raise _invalid("no such kind", where=where, got=kind, expected=", ".join(CallKind))
    texts = {name: _text(row, name, where) or None for name in _TEXTS}
    lists: dict[str, tuple[str, ...]] = {name: _texts(row, name, where) for name in _LISTS}
    choices = _number(row, "choices", where)
    return CallFacts(
        provider=texts["provider"] or "",
        route=texts["route"] or "",
        model=texts["model"],
        stream=_flag(row, "stream", where),
        tools=lists["tools"],
        tool_choice=texts["tool_choice"],
        provider_state=lists["provider_state"],
        max_output_tokens=_number(row, "max_output_tokens", where),
        remote_urls=lists["remote_urls"],
        kind=CallKind(kind),
        any_tools=lists["any_tools"],
        provider_tools=lists["provider_tools"],
        fallback_models=lists["fallback_models"],
        is_router=_flag(row, "is_router", where),
        upstream=texts["upstream"],
        upstream_model=texts["upstream_model"],
        choices=1 if choices is None else choices,
        surcharges=lists["surcharges"],
    )


def _tool(row: JsonObject, call: CallFacts, where: str) -> ToolCall:
    name = _text(row, "name", f"{where}.tool")
    if not name:
        raise _invalid("the tool has no name", where=f"{where}.tool")
    return ToolCall(name, row.get("arguments", {}), is_meta=name in call.any_tools)


def _egress(value: Any, where: str) -> EgressFacts:
    row = _object(value, ("host", "method", "path", "port", "scheme"), where)
    scheme, method = _text(row, "scheme", where) or "https", _text(row, "method", where) or "GET"
    if scheme not in SCHEMES or method not in METHODS or not row.get("host"):
        raise _invalid("not a call of a tool", where=where, expected="host, and a scheme and method that tools have")
    target = parse_target(_text(row, "path", where) or "/")
    if isinstance(target, Refusal):
        raise _invalid("no request can have this path", where=where, got=str(row.get("path")))
    port = _number(row, "port", where) or default_port(scheme)
    return EgressFacts(scheme, _text(row, "host", where), port, method, *target)


def _grant(row: JsonObject, where: str) -> Grant:
    life_s = _number(row, "token_life_s", where) or 0
    return Grant(
        token_hash_hex="",
        token_scope_hash_b64u="",
        sub=_text(row, "sub", where),
        aud=(),
        scope=_texts(row, "scope", where) if "scope" in row else ("clawproxy:call",),
        job_id="",
        jti="",
        iat_s=0,
        exp_s=life_s,
        policy_hash_b64u=None,
        issuer_did="",
        claims={},
    )


def _object(value: Any, names: tuple[str, ...], where: str) -> JsonObject:
    if not isinstance(value, dict):
        raise _invalid("not an object", where=where)
    if unknown := sorted(value.keys() - set(names)):
        raise _invalid("unknown member", where=where, got=unknown[0], expected=", ".join(sorted(names)))
    return value


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise _invalid("not a string", where=f"{where}.{name}")
    return value


def _texts(row: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = row.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _invalid("not a list of strings", where=f"{where}.{name}")
    return tuple(value)


def _flag(row: Mapping[str, Any], name: str, where: str) -> bool:
    value = row.get(name, False)
    if not isinstance(value, bool):
        raise _invalid("not true or false", where=f"{where}.{name}")
    return value


def _number(row: Mapping[str, Any], name: str, where: str) -> int | None:
    value = row.get(name)
    if value is not None and (value.__class__ is not int or not 0 <= value < 2**53):
        raise _invalid("not an integer from 0", where=f"{where}.{name}")
    return value


def _invalid(message: str, *, where: str = "", got: str | None = None, expected: str = "") -> ClawproxyError:
    remedy = "see docs/contract.md, Trying a contract"
    shown = None if got is None else clip(got)
    return ClawproxyError("FIXTURE_INVALID", message, where=where, got=shown, expected=expected, remedy=remedy)
