"""The decisions of a job, put to another contract: which of them would change. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..policies.fixtures import ALLOW, REFUSE, Decision, pin_refusal
from ..policies.policy import Policy
from ..tokens.canonical import JsonObject
from .recorded_facts import grant_of
from .redecide import DECIDED, Redecided, redecide_call, redecide_called, redecide_denied, redecide_effect
from .verify_journal import Entry

_BY_NAME = ("allowed_tools", "denied_tools", "statements", "tool names", "wpc v1")
"""Rules by which a call of a tool was denied for its name; what else refused it is not on record as a whole."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision on record. ``was`` is ``allow``, ``refuse`` or a reason code; ``now`` is None where the facts on
    record are not enough, which ``missing`` names."""

    name: str
    was: str
    now: Decision | None
    missing: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return self.now is not None and not self.now.meets(self.was)


def replay(entries: Sequence[Entry], policy: Policy) -> Iterator[Replayed]:
    """Every call, denial and delivered or denied call of a tool of a job's records, in order.

    What orders of an operator, budgets, arguments, data and people decided rests on more, and is left out.
    """
    tokens: dict[str, JsonObject] = {}
    starts: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        payload = entry.payload
        if entry.kind == "event" and isinstance(token := payload["detail"].get("token"), dict):
            tokens[str(token.get("token_hash_hex"))] = token
        elif entry.kind == "intent":
            detail = payload["detail"]
            token = tokens.get(detail["token_hash_hex"], {})
            if payload["event"]["event_type"] == "llm_call":
                starts[detail["receipt_id"]] = detail
                yield _replayed(detail["receipt_id"], ALLOW, redecide_call(detail, token, policy), token, policy)
            else:
                yield _replayed(detail["receipt_id"], ALLOW, redecide_effect(detail, policy), token, policy)
        elif entry.kind == "denial" and payload["reason"] in DECIDED:
            token = tokens.get(str(payload["token_hash_hex"]), {})
            again = redecide_denied(payload, token, policy)
            yield _replayed(payload["receipt_id"], payload["reason"], again, token, policy)
        elif entry.kind == "receipt":
            yield from _called(payload, starts.pop(payload["receipt_id"], None), tokens, policy)


def _called(
    payload: JsonObject, detail: Mapping[str, Any] | None, tokens: Mapping[str, JsonObject], policy: Policy
) -> Iterator[Replayed]:
    for n, item in enumerate(payload["metadata"]["clawproxy"].get("called", ())):
        if detail is None or item["outcome"] == "withheld":
            continue
        if item["outcome"] == "denied" and not item.get("rule", "").startswith(_BY_NAME):
            continue
        token = tokens.get(detail["token_hash_hex"], {})
        was = REFUSE if item["outcome"] == "denied" else ALLOW
        again = redecide_called(item["name"], detail, token, policy)
        yield _replayed(f"{payload['receipt_id']} called[{n}]", was, again, token, policy)


def _replayed(name: str, was: str, again: Redecided, token: Mapping[str, Any], policy: Policy) -> Replayed:
    grant = grant_of(token)
    pinned = pin_refusal(policy, grant.exp_s - grant.iat_s if grant is not None else 0)
    if refusal := pinned or again.refusal:
        return Replayed(name, was, Decision.refused(refusal), again.missing)
    if not again.rules:
        return Replayed(name, was, None, again.missing)
    if again.missing and was != ALLOW:
        return Replayed(name, was, None, again.missing)
    return Replayed(name, was, Decision(ALLOW, again.rules[0]), again.missing)
