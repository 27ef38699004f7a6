"""The operator's orders in a running gateway: in force at once, then on record. Runs on the event loop.

``take`` is one step without an ``await``: new calls are judged by the new orders from then on, and what is open and
falls under them is halted: a call that is still being judged goes no further, a live answer or socket is cut. Only then
are the orders written as signed events into the open jobs that they touch; a job that cannot write holds up no other.
A job that is opened later gets the events that it lacks before its first call (``on_open``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..policies.call_rules import ToolCall, called_names
from ..policies.orders import Orders, Revocation, Revoked, StopOrder, parse_orders
from ..policies.stops import Stops
from ..receipts.job import Job
from ..receipts.jobs import JobBook
from ..receipts.order_book import OrderBook
from ..receipts.order_events import Event, lifted_event, missing_events, revoked_event, stopped_event
from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from ..tokens.reasons import Refusal
from ..tokens.revocation import Revocations
from .admin import AdminSocket
from .call import Call
from .order_desk import OPERATION, give

if TYPE_CHECKING:
    from mitmproxy import connection

    from .identity import Leases
    from .websocket import Socket

log = logging.getLogger("clawproxy.orders")

_NOTE_WITHIN_S = 2.0


def stopped_call(stops: Stops) -> Callable[[Call, ToolCall], Refusal | None]:
    """What the operator's orders say of a call of a tool in an answer, with what it names inside."""

    def judge(call: Call, tool: ToolCall) -> Refusal | None:
        assert call.policy is not None
        job_id = call.job_id or ""
        refusal = stops.refuse_tool(call.policy, job_id, tool.name, exact=tool.is_meta)
        for inner in (*called_names(tool.name, call.declared_tools)[1:], *tool.inner):
            refusal = refusal or stops.refuse_tool(call.policy, job_id, inner)
        return replace(refusal, at="observe") if refusal is not None else None

    return judge


class Stopping:
    """Orders of one gateway. ``stops`` and ``revocations`` are what the steps ask; ``open_calls`` and
    ``open_sockets`` what is under way; ``hang_up`` ends a client's connection at once."""

    def __init__(
        self,
        book: OrderBook,
        stops: Stops,
        revocations: Revocations,
        jobs: JobBook,
        leases: Leases,
        open_calls: Callable[[], list[Call]],
        open_sockets: Callable[[], list[Socket]],
        hang_up: Callable[[connection.Client], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self.orders = Orders()
        self._book = book
        self._stops = stops
        self._revocations = revocations
        self._jobs = jobs
        self._leases = leases
        self._open_calls = open_calls
        self._open_sockets = open_sockets
        self._hang_up = hang_up
        self._clock_ms = clock_ms
        self._tasks: set[asyncio.Task[None]] = set()
        path = book.directory / f"{secrets.token_hex(8)}.sock"
        self._socket = AdminSocket(path, {OPERATION: self._op_orders})
        jobs.on_open = self.events_for

    @property
    def socket(self) -> Path:
        return self._socket.path

    async def open(self) -> None:
        """Read what stands, and listen for what comes, as one step towards whoever gives an order.

        Raises ``ClawproxyError`` (ORDERS_DAMAGED, ORDERS_BUSY).
        """
        lock = await asyncio.to_thread(self._book.lock)
        try:
            self.take(await asyncio.to_thread(self._book.load))
            await self._socket.start()
        finally:
            self._book.unlock(lock)
        for order in self.orders.stops:
            log.warning("%s stands: %s", order.command, order.told)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._socket.stop()

    # -- in force ------------------------------------------------------------------------------------------------------

    def take(self, orders: Orders) -> int:
        """In force from here on; returns how many calls and sockets were halted. No ``await``, no disk."""
        known = {(r.kind, r.name) for r in self.orders.revocations}
        self.orders = orders
        self._stops.take(orders)
        for revocation in orders.revocations:
            if (revocation.kind, revocation.name) not in known:
                revocation.add_to(self._revocations)
                if revocation.kind is Revoked.JOB:
                    self._leases.end(revocation.name)
        return self._halt()

    def _halt(self) -> int:
        halted = 0
        for call in self._open_calls():
            if not call.recorded and (refusal := self.refusal_of(call)) is not None:
                halt(call, refusal)
                if call.intended is not None and call.flow.response is not None:
                    self._hang_up(call.flow.client_conn)  # before all records: they take their time
                halted += 1
        for socket in self._open_sockets():
            calls = [call for call in (socket.handshake, socket.call, socket.judged) if call is not None]
            refusal = next((refusal for call in calls if (refusal := self.refusal_of(call)) is not None), None)
            if refusal is not None:
                for call in calls:
                    halt(call, refusal)
                self._hang_up(socket.handshake.flow.client_conn)
                halted += 1
        return halted

    def refusal_of(self, call: Call) -> Refusal | None:
        """Why a call goes no further, by what is known of it so far."""
        grant = call.grant
        if grant is None:
            return None
        facts, hash_b64u = call.facts, grant.policy_hash_b64u
        providers = {call.match.provider.name if call.match else None}
        if facts is not None:
            providers |= {facts.provider, facts.upstream}
        refusal = self._revocations.check(grant) or self._stops.refuse_call(grant.job_id, hash_b64u, providers)
        if refusal is None and call.egress is not None:
            refusal = self._stops.refuse_egress(grant.job_id, hash_b64u, call.egress.facts.method)
        if refusal is None and facts is not None and call.policy is not None:
            refusal = self._stops.refuse_declared(call.policy, grant.job_id, facts.tools, facts.any_tools)
        return refusal

    # -- on record -----------------------------------------------------------------------------------------------------

    async def note(self, before: Orders, now: Orders) -> JsonObject:
        """Write what is new between the two as events; returns the jobs that have it, and those that could not write.

        Each job gets at most ``_NOTE_WITHIN_S``, all at the same time.
        """
        events = [stopped_event(order) for order in now.stops if order not in before.stops]
        events += [revoked_event(made) for made in now.revocations if made not in before.revocations]
        events += [lifted_event(order, now.last_number) for order in before.stops if order not in now.stops]
        jobs = [(job, [event for event in events if event.touches(job)]) for job in self._jobs.open_jobs()]
        touched = [(job, mine) for job, mine in jobs if mine and job.refusal is None]
        done = await asyncio.gather(*(self._note_one(job, mine) for job, mine in touched))
        pairs = list(zip(touched, done, strict=True))
        return {
            "noted": sorted(job.job_id for (job, _), well in pairs if well),
            "not_noted": sorted(job.job_id for (job, _), well in pairs if not well),
        }

    async def _note_one(self, job: Job, events: Iterable[Event]) -> bool:
        try:
            async with asyncio.timeout(_NOTE_WITHIN_S):
                for event in events:
                    await job.note(event.type, event.detail)
            return True
        except (ClawproxyError, TimeoutError) as err:
            log.error("job %s could not record an order: %s", job.job_id, err or "it took too long")
            return False

    def events_for(self, job: Job) -> list[Event]:
        """What a job that is being opened lacks. An order that its journal has and the directory has forgotten is taken
        up again: somebody put an earlier state back, and a stop that nobody lifted still stands."""
        forgotten = [order for order in job.standing_orders if order.number > self.orders.last_number]
        if forgotten:
            log.error("job %s names orders that the state directory has forgotten; they stand again", job.job_id)
            self._take_up(forgotten)
        return missing_events(job, self.orders)

    def _take_up(self, forgotten: list[StopOrder | Revocation]) -> None:
        stops = tuple(order for order in forgotten if isinstance(order, StopOrder))
        revocations = tuple(order for order in forgotten if isinstance(order, Revocation))
        last = max(order.number for order in forgotten)
        restored = replace(
            self.orders,
            last_number=last,
            stops=(*self.orders.stops, *stops),
            revocations=(*self.orders.revocations, *revocations),
        )
        self.take(restored)
        task = asyncio.get_running_loop().create_task(self._keep(restored))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, restored: Orders) -> None:
        def change(found: Orders, _now: str) -> tuple[Orders, None]:
            return (restored if found.last_number < restored.last_number else found), None

        with contextlib.suppress(ClawproxyError):
            await give(self._book, change, self._clock_ms())

    # -- the sockets ---------------------------------------------------------------------------------------------------

    async def _op_orders(self, request: JsonObject) -> JsonObject:
        """Read the file again; or take the orders that are given, where it could not be written."""
        given = request.get("orders")
        now = await asyncio.to_thread(self._book.load) if given is None else parse_orders(given)
        before = self.orders
        if now.last_number < before.last_number:
            raise ClawproxyError(
                "ORDERS_DAMAGED",
                "the file of stops and revocations is older than what stands here",
                where=str(self._book.path),
                remedy="somebody put an earlier one back; give the order again",
            )
        halted = self.take(now)
        return {"number": now.last_number, "halted": halted, **await self.note(before, now)}


def halt(call: Call, refusal: Refusal) -> None:
    """End a call: before its intent it is refused, after that it is cut, and its receipt says why."""
    call.halt = refusal
    if call.flow.response is None:  # else its head has left, and nobody reads last words
        call.last_words = call.last_words or refusal.reason
    call.stop(f"{refusal.reason}: {refusal.rule}" + (f"; {refusal.detail}" if refusal.detail else ""))
