"""What the operator ordered: stops, which ``resume`` lifts, and revocations, which nothing lifts. Pure.

``Orders`` is all that stands at one moment, as a value: a change gives the next one. Each change takes the next
number, so that of two sets the later is known, and so that a job's journal which names an order can tell one that was
lifted (its number is not above ``last_number``) from one that the state directory has forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from ..tokens.canonical import JsonObject
from ..tokens.claims import is_job_id
from ..tokens.digests import is_sha256_b64u
from ..tokens.errors import ClawproxyError
from ..tokens.revocation import Revocations
from .fields import PROVIDER_NAME
from .tools import MODEL_CALL

MAX_STOPS = 1000
MAX_REVOCATIONS = 20_000
MAX_REASON_CHARS = 200
ORDERS_VERSION = "1"
_TOKEN_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_MAX_NUMBER = 2**53 - 1
_MAX_NAME_CHARS = 256


class Scope(StrEnum):
    """What a stop is about."""

    ALL = "all"
    JOB = "job"
    CONTRACT = "contract"
    PROVIDER = "provider"
    TOOL = "tool"


class Mode(StrEnum):
    """How far it goes: everything, or tools alone (the agent stays online)."""

    STOP = "stop"
    NO_TOOLS = "no_tools"
    READ_ONLY_TOOLS = "read_only_tools"


class Revoked(StrEnum):
    """What a revocation is about."""

    TOKEN = "token"
    JTI = "jti"
    JOB = "job"
    CONTRACT = "contract"


@dataclass(frozen=True, slots=True)
class StopOrder:
    """One stop. ``name`` is empty for ``all``; ``given_at`` is ``YYYY-MM-DDTHH:MM:SS.mmmZ``."""

    number: int
    scope: Scope
    name: str
    mode: Mode
    reason: str
    given_at: str

    @property
    def command(self) -> str:
        """How it was given, which is how a refusal names it."""
        selector = f"--{self.scope}" + (f" {self.name}" if self.name else "")
        lesser = {Mode.STOP: "", Mode.NO_TOOLS: " --no-tools", Mode.READ_ONLY_TOOLS: " --read-only-tools"}[self.mode]
        return f"stop {selector}{lesser}"

    @property
    def told(self) -> str:
        return f"order {self.number} of {self.given_at}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revocation, of a token by its hash, of a token id, a job, or a contract by its hash."""

    number: int
    kind: Revoked
    name: str
    reason: str
    given_at: str

    def add_to(self, revocations: Revocations) -> None:
        """In force there from here on."""
        match self.kind:
            case Revoked.TOKEN:
                revocations.revoke_token(self.name)
            case Revoked.JTI:
                revocations.revoke_jti(self.name)
            case Revoked.JOB:
                revocations.revoke_job(self.name)
            case Revoked.CONTRACT:
                revocations.revoke_contract(self.name)


@dataclass(frozen=True, slots=True)
class Orders:
    """All orders that stand, oldest first."""

    last_number: int = 0
    stops: tuple[StopOrder, ...] = ()
    revocations: tuple[Revocation, ...] = ()

    def with_stop(self, scope: Scope, name: str, mode: Mode, reason: str, given_at: str) -> tuple[Orders, StopOrder]:
        """One stop more; the one that stands, where it stands already. Raises ``ClawproxyError`` (ORDER_INVALID)."""
        _check_stop(scope, name, mode)
        _check_reason(reason)
        for order in self.stops:
            if (order.scope, order.name, order.mode) == (scope, name, mode):
                return self, order
        if len(self.stops) >= MAX_STOPS:
            raise _invalid("too many stops stand", got=len(self.stops), remedy="stop --all, or resume some")
        order = StopOrder(self.last_number + 1, scope, name, mode, reason, given_at)
        return replace(self, last_number=order.number, stops=(*self.stops, order)), order

    def without(self, scope: Scope, name: str, mode: Mode | None) -> tuple[Orders, tuple[StopOrder, ...]]:
        """The stops of one selector lifted, of every mode if ``mode`` is None; and which they were."""
        _check_stop(scope, name, mode or Mode.STOP)
        lifted = tuple(
            order for order in self.stops if (order.scope, order.name) == (scope, name) and mode in (None, order.mode)
        )
        if not lifted:
            return self, ()
        left = tuple(order for order in self.stops if order not in lifted)
        return replace(self, last_number=self.last_number + 1, stops=left), lifted

    def with_revocation(self, kind: Revoked, name: str, reason: str, given_at: str) -> tuple[Orders, Revocation]:
        """One revocation more; the one that stands, where it stands already. Raises ``ClawproxyError``."""
        _check_revoked(kind, name)
        _check_reason(reason)
        for revocation in self.revocations:
            if (revocation.kind, revocation.name) == (kind, name):
                return self, revocation
        if len(self.revocations) >= MAX_REVOCATIONS:
            raise _invalid("too many revocations stand", got=len(self.revocations), remedy="revoke jobs or contracts")
        made = Revocation(self.last_number + 1, kind, name, reason, given_at)
        return replace(self, last_number=made.number, revocations=(*self.revocations, made)), made

    def without_expired(self, before: str) -> Orders:
        """Without revocations of single tokens that were given before ``before``: those tokens have expired since."""
        left = tuple(r for r in self.revocations if r.kind in (Revoked.JOB, Revoked.CONTRACT) or r.given_at >= before)
        return self if len(left) == len(self.revocations) else replace(self, revocations=left)

    def to_json(self) -> JsonObject:
        return {
            "last_number": self.last_number,
            "orders_version": ORDERS_VERSION,
            "revocations": [revocation_json(r) for r in self.revocations],
            "stops": [stop_json(order) for order in self.stops],
        }


def stop_json(order: StopOrder) -> JsonObject:
    return {
        "given_at": order.given_at,
        "mode": str(order.mode),
        "name": order.name,
        "number": order.number,
        "reason": order.reason,
        "scope": str(order.scope),
    }


def revocation_json(revocation: Revocation) -> JsonObject:
    return {
        "given_at": revocation.given_at,
        "kind": str(revocation.kind),
        "name": revocation.name,
        "number": revocation.number,
        "reason": revocation.reason,
    }


def parse_orders(payload: JsonObject) -> Orders:
    """The inverse of ``to_json``: closed and whole. Raises ``ClawproxyError`` (ORDER_INVALID)."""
    if set(payload) != {"last_number", "orders_version", "revocations", "stops"}:
        raise _invalid("not a set of orders", got=", ".join(sorted(payload))[:80])
    if payload["orders_version"] != ORDERS_VERSION:
        raise _invalid("orders of another version", got=payload["orders_version"], expected=ORDERS_VERSION)
    last = _number(payload["last_number"], least=0)
    stops = tuple(_each(payload["stops"], parse_stop, MAX_STOPS))
    revocations = tuple(_each(payload["revocations"], parse_revocation, MAX_REVOCATIONS))
    numbers = [order.number for order in stops] + [revocation.number for revocation in revocations]
    if len(set(numbers)) != len(numbers) or max(numbers, default=0) > last:
        raise _invalid("the numbers of the orders do not fit together")
    return Orders(last, stops, revocations)


def parse_stop(entry: Any) -> StopOrder:
    """One stop, closed. Raises ``ClawproxyError`` (ORDER_INVALID)."""
    told = _members(entry, ("given_at", "mode", "name", "number", "reason", "scope"))
    try:
        scope, mode = Scope(told["scope"]), Mode(told["mode"])
    except ValueError:
        raise _invalid("a stop of an unknown scope or mode") from None
    _check_stop(scope, told["name"], mode)
    return StopOrder(told["number"], scope, told["name"], mode, told["reason"], told["given_at"])


def parse_revocation(entry: Any) -> Revocation:
    """One revocation, closed. Raises ``ClawproxyError`` (ORDER_INVALID)."""
    told = _members(entry, ("given_at", "kind", "name", "number", "reason"))
    try:
        kind = Revoked(told["kind"])
    except ValueError:
        raise _invalid("a revocation of an unknown kind") from None
    _check_revoked(kind, told["name"])
    return Revocation(told["number"], kind, told["name"], told["reason"], told["given_at"])


def _members(entry: Any, names: tuple[str, ...]) -> JsonObject:
    if not isinstance(entry, dict) or set(entry) != set(names):
        raise _invalid("not an order", expected=", ".join(names))
    told: JsonObject = entry
    _number(told["number"], least=1)
    _check_reason(told["reason"])
    if not isinstance(told["given_at"], str) or not _TIME.fullmatch(told["given_at"]):
        raise _invalid("an order without its time")
    return told


def _each[T](entries: Any, parse: Callable[[Any], T], most: int) -> list[T]:
    if not isinstance(entries, list) or len(entries) > most:
        raise _invalid("not a list of orders", expected=f"at most {most}")
    return [parse(entry) for entry in entries]


def _number(value: Any, *, least: int) -> int:
    if value.__class__ is not int or not least <= value <= _MAX_NUMBER:
        raise _invalid("not the number of an order")
    return int(value)


def _check_reason(reason: Any) -> None:
    if not isinstance(reason, str) or len(reason) > MAX_REASON_CHARS or (reason and not reason.isprintable()):
        raise _invalid("not a reason", expected=f"one printable line, at most {MAX_REASON_CHARS} characters")


def _check_stop(scope: Scope, name: Any, mode: Mode) -> None:
    fits = {
        Scope.ALL: name == "",
        Scope.JOB: is_job_id(name),
        Scope.CONTRACT: is_sha256_b64u(name),
        Scope.PROVIDER: isinstance(name, str) and PROVIDER_NAME.fullmatch(name) is not None,
        Scope.TOOL: isinstance(name, str) and 0 < len(name) <= _MAX_NAME_CHARS and name.isprintable(),
    }
    if scope is Scope.TOOL and name == MODEL_CALL:
        raise _invalid("the model call is no tool", remedy="stop --all, --job, --contract or --provider")
    if not fits[scope]:
        expected = {Scope.ALL: "nothing", Scope.JOB: "a job id", Scope.CONTRACT: "a contract hash"}
        # no `got`: someone may have given a token
        raise _invalid(f"this is no {scope}", expected=expected.get(scope, f"the name of a {scope}"))
    if mode is not Mode.STOP and scope in (Scope.PROVIDER, Scope.TOOL):
        raise _invalid(f"a stop of a {scope} has no lesser mode", remedy="leave --no-tools and --read-only-tools out")


def _check_revoked(kind: Revoked, name: Any) -> None:
    fits = {
        Revoked.TOKEN: isinstance(name, str) and _TOKEN_HASH.fullmatch(name) is not None,
        Revoked.JTI: isinstance(name, str) and 0 < len(name) <= _MAX_NAME_CHARS and name.isprintable(),
        Revoked.JOB: is_job_id(name),
        Revoked.CONTRACT: is_sha256_b64u(name),
    }
    if not fits[kind]:
        expected = {
            Revoked.TOKEN: "64 lowercase hex digits",
            Revoked.JTI: "the jti claim of a token",
            Revoked.JOB: "a job id",
            Revoked.CONTRACT: "43 base64url characters",
        }
        raise _invalid(f"this is no {kind}", expected=expected[kind], remedy="see: clawproxy token inspect")


def _invalid(message: str, *, got: object = None, expected: str = "", remedy: str = "") -> ClawproxyError:
    return ClawproxyError("ORDER_INVALID", message, got=got, expected=expected, remedy=remedy)
