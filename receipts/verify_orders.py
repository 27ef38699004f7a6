"""Rules of the operator's orders in a job (docs/evidence-format.md). Pure.

J75 ``stopped``, ``revoked``, ``resumed``: closed detail; an order is named once, a stop or a revocation of a job or a
    contract is this job's, and what is resumed is a stop that stands (EVENT_OUT_OF_PLACE, EVIDENCE_MISMATCH)
J76 no call goes out while a stop stands that is about it, or on a token that was revoked: everything, the job, the
    contract, the provider (the one that serves it, too), a declared tool of that very name; under ``no_tools`` none
    that declares a tool and no side effect, under ``read_only_tools`` no side effect but by GET, HEAD or OPTIONS
    (CALL_WHILE_STOPPED)

Limits: a stopped word of the contract that is no wire name, and which tools only read, are not looked up here; what
came after an order but was on its way to the journal before it cannot be told from a call before it, and is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from ..tokens.canonical import JsonObject
from .job_shapes import COUNT, DIGEST, JOB, TIME, TOKEN_HASH
from .report import Fault
from .wire_envelope import check_shape, join
from .wire_schema import Choice, Number, Obj, Shape, Text

_NUMBER = Number(1, 2**53 - 1, whole=True)
_REASON = Text(min=0, max=200, what="one line of up to 200 characters")
_GIVEN: Mapping[str, Shape] = {"given_at": TIME, "number": _NUMBER, "reason": _REASON}
_NAMES: Mapping[str, Shape] = {
    "all": Text(min=0, max=0, what="nothing"),
    "job": JOB,
    "contract": DIGEST,
    "provider": Text(min=1, max=64, pattern=re.compile(r"[a-z][a-z0-9_-]*", re.ASCII), what="a provider"),
    "tool": Text(min=1, max=256, what="a tool"),
    "token": TOKEN_HASH,
    "jti": Text(min=1, max=256, what="a token id"),
}
_MODES = ("stop", "no_tools", "read_only_tools")


def _stopped(detail: Any) -> Obj:
    scope = detail.get("scope")
    lesser = scope in ("all", "job", "contract")
    return Obj(
        required={
            **_GIVEN,
            "mode": Text(among=_MODES if lesser else _MODES[:1]),
            "name": _NAMES.get(scope, _NAMES["all"]) if isinstance(scope, str) else _NAMES["all"],
            "scope": Text(among=("all", "job", "contract", "provider", "tool")),
        }
    )


def _revoked(detail: Any) -> Obj:
    kind = detail.get("kind")
    return Obj(
        required={
            **_GIVEN,
            "kind": Text(among=("token", "jti", "job", "contract")),
            "name": _NAMES.get(kind, _NAMES["all"]) if isinstance(kind, str) else _NAMES["all"],
        }
    )


_SHAPES: Mapping[str, Shape] = {
    "stopped": Choice(_stopped, "an object"),
    "revoked": Choice(_revoked, "an object"),
    "resumed": Obj(required={"lifts": _NUMBER, "number": COUNT}),
}
EVENTS = tuple(_SHAPES)
_READING = ("GET", "HEAD", "OPTIONS")


@dataclass(slots=True)
class OrdersSeen:
    """The orders on record so far; ``facts`` is job.json."""

    facts: Mapping[str, Any]
    contracts: Set[str]
    """Hashes of the contracts that were in force so far."""
    named: set[int] = field(default_factory=set)
    stops: dict[int, JsonObject] = field(default_factory=dict)
    """Number -> detail, of those that no later event lifts."""
    revoked: list[JsonObject] = field(default_factory=list)

    def take(self, event_type: str, detail: JsonObject, path: str) -> None:
        """J75. Raises ``Fault``."""
        check_shape(_SHAPES[event_type], detail, "J75", path)
        if event_type == "resumed":
            if self.stops.pop(detail["lifts"], None) is None:
                raise Fault("J75", "EVENT_OUT_OF_PLACE", join(path, "lifts"), "no such stop stands on record")
            return
        if detail["number"] in self.named:
            raise Fault("J75", "EVENT_OUT_OF_PLACE", join(path, "number"), "the order is on record already")
        self.named.add(detail["number"])
        own = {"job": {self.facts["job_id"]}, "contract": self.contracts}
        about = detail["scope"] if event_type == "stopped" else detail["kind"]
        if detail["name"] not in own.get(about, {detail["name"]}):
            raise Fault("J75", "EVIDENCE_MISMATCH", join(path, "name"), f"not this job's {about}")
        if event_type == "stopped":
            self.stops[detail["number"]] = detail
        else:
            self.revoked.append(detail)

    def check_intent(self, detail: JsonObject, token: JsonObject, path: str, *, is_effect: bool) -> None:
        """J76. ``token`` are the facts of its token. Raises ``Fault``."""
        if not self.stops and not self.revoked:
            return
        why = next(self._against(detail, token, is_effect=is_effect), None)
        if why is not None:
            raise Fault("J76", "CALL_WHILE_STOPPED", path, f"it went out though {why}")

    def _against(self, detail: JsonObject, token: JsonObject, *, is_effect: bool) -> Iterator[str]:
        contract = detail["policy_hash_b64u"]
        names = {"token": detail["token_hash_hex"], "jti": token.get("jti"), "contract": contract}
        for order in self.revoked:
            if names.get(order["kind"], order["name"]) == order["name"]:
                yield f"order {order['number']} had revoked its {order['kind']}"
        providers = {detail.get("provider"), detail.get("upstream")}
        tools = detail.get("tools", ())
        for order in self.stops.values():
            scope, mode = order["scope"], order["mode"]
            if scope == "contract" and order["name"] != contract:
                hit = False
            elif mode == "no_tools":
                hit = is_effect or bool(tools)
            elif mode == "read_only_tools":
                hit = is_effect and detail["method"] not in _READING
            elif scope == "provider":
                hit = order["name"] in providers
            elif scope == "tool":
                hit = order["name"] in tools
            else:
                hit = True
            if hit:
                yield f"order {order['number']} had stopped it"
