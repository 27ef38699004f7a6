"""Orders of the operator as events of a job: ``stopped``, ``resumed``, ``revoked`` (docs/evidence-format.md). Pure.

Which events a job lacks follows from what its journal names and what stands: an order is named once, and one that the
journal names and that stands no more was lifted. A revocation is never lifted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..policies.orders import Orders, Revocation, Revoked, Scope, StopOrder, revocation_json, stop_json
from ..tokens.canonical import JsonObject


class JobOfOrders(Protocol):
    """What is asked of a job."""

    @property
    def job_id(self) -> str: ...

    @property
    def contracts(self) -> frozenset[str]:
        """Those that were ever in force: a call of an earlier one may be open."""
        ...

    @property
    def standing_orders(self) -> list[StopOrder | Revocation]: ...

    @property
    def named_orders(self) -> set[int]: ...

    def has_token(self, token_hash_hex: str) -> bool: ...

    def has_jti(self, jti: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Event:
    """An event to write, and which jobs it is for."""

    type: str
    detail: JsonObject
    touches: Callable[[JobOfOrders], bool]


def stopped_event(order: StopOrder) -> Event:
    return Event("stopped", stop_json(order), lambda job: _stop_touches(order, job))


def revoked_event(revocation: Revocation) -> Event:
    return Event("revoked", revocation_json(revocation), lambda job: _revocation_touches(revocation, job))


def lifted_event(order: StopOrder, number: int) -> Event:
    """``number`` is that of the change which lifted it."""
    detail = {"lifts": order.number, "number": number}
    return Event("resumed", detail, lambda job: order in job.standing_orders)


def missing_events(job: JobOfOrders, orders: Orders) -> list[Event]:
    """What a job that is being opened lacks, in order."""
    named = job.named_orders
    standing = {order.number for order in orders.stops}
    lifted = [order for order in job.standing_orders if isinstance(order, StopOrder) and order.number not in standing]
    events = [lifted_event(order, orders.last_number) for order in lifted]
    for event in (*map(stopped_event, orders.stops), *map(revoked_event, orders.revocations)):
        if event.detail["number"] not in named and event.touches(job):
            events.append(event)
    return events


def _stop_touches(order: StopOrder, job: JobOfOrders) -> bool:
    if order.scope is Scope.JOB:
        return order.name == job.job_id
    if order.scope is Scope.CONTRACT:
        return order.name in job.contracts
    return True  # a provider or a tool: any job may use it


def _revocation_touches(revocation: Revocation, job: JobOfOrders) -> bool:
    match revocation.kind:
        case Revoked.TOKEN:
            return job.has_token(revocation.name)
        case Revoked.JTI:
            return job.has_jti(revocation.name)
        case Revoked.JOB:
            return revocation.name == job.job_id
        case _:
            return revocation.name in job.contracts
