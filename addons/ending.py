"""How a call ends: exactly one record, and what the agent gets to see of it."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

import orjson
from mitmproxy import http

from ..policies.addresses import bracketed
from ..policies.facts import NO_MODEL
from ..receipts.calls import CallDenied, CallEnd, CallStart, JudgedCall, Outcome
from ..receipts.effects import EffectEnd, EffectStart
from ..receipts.job import Job
from ..receipts.legacy import build_legacy_receipt
from ..receipts.refusals import RefusalLog
from ..receipts.side_traffic import shown_host
from ..tokens.canonical import JsonObject
from ..tokens.digests import sha256_b64u
from ..tokens.keys import SigningKey
from ..tokens.reasons import Refusal
from . import compat
from .budgeting import Budgeting
from .call import Call
from .egress_request import Egress
from .http_stream import LAST_WORDS
from .refusal import build_refusal
from .stream_tap import StreamTap
from .usage import SAMPLE_BYTES, count_tokens

log = logging.getLogger("clawproxy.ending")

_LAST_WORDS = {
    Outcome.UPSTREAM_UNREACHABLE: "UPSTREAM_UNREACHABLE",
    Outcome.UPSTREAM_FAILED: "UPSTREAM_FAILED",
    Outcome.FAULT: "GATEWAY_FAULT",
}
_EMPTY_SHA256_B64U = sha256_b64u(b"")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection comes from. ``home`` is the job that it belongs to, where that is certain."""

    presenter: str
    way_in: str
    home: str | None = None


class Ending:
    """Writes the one record of a call and shapes its answer. ``clock_ms`` is Unix milliseconds."""

    def __init__(
        self,
        refusal_log: RefusalLog,
        receipt_key: SigningKey,
        gateway_id: str,
        clock_ms: Callable[[], int],
        *,
        timeout_s: float,
        budgeting: Budgeting | None = None,
        clean: Callable[[Call, str], str] = lambda _, text: text,
        opened: Callable[[str], Job | None] = lambda _: None,
        by_handle: Callable[[Call], Awaitable[Job | None]] | None = None,
    ) -> None:
        """``clean`` gives a text as it may stand in records and errors of a call, ``opened`` an open job by its id,
        ``by_handle`` the job whose handle a call carries."""
        self._opened = opened
        self._by_handle = by_handle
        self._budgeting = budgeting or Budgeting.unmetered(clock_ms)
        self._clean = clean
        self._refusal_log = refusal_log
        self._receipt_key = receipt_key
        self._gateway_id = gateway_id
        self._clock_ms = clock_ms
        self._timeout_s = timeout_s

    # -- refusals --------------------------------------------------------------------------------------------------

    async def refuse(self, call: Call, refusal: Refusal) -> None:
        """Record the refusal, and answer the agent with it."""
        await self.record_refusal(call, refusal)
        call.flow.response = self.answer(call, refusal)
        call.release = True

    async def record_refusal(self, call: Call, refusal: Refusal) -> None:
        """The one record of a refused call: a denial, or a receipt where the intent is durable already."""
        if call.job is not None and call.intended is None:
            call.job.release(call.nonce)
            self._budgeting.give_back(call)
        if not call.recorded:
            if call.intended is not None:
                call.unsent = True
                if refusal is not call.halt:
                    call.detail = f"{refusal.reason} at {refusal.step}"
                await self.attest(call, Outcome.FAULT if refusal is not call.halt else Outcome.STOPPED)
            else:
                call.recorded = True
                await self._deny(call, refusal)

    def _cleaned(self, call: Call, refusal: Refusal) -> Refusal:
        rule, detail = self._clean(call, refusal.rule), self._clean(call, refusal.detail)
        return (
            refusal if (rule, detail) == (refusal.rule, refusal.detail) else replace(refusal, rule=rule, detail=detail)
        )

    def goodbye(self, call: Call, refusal: Refusal) -> bytes:
        """The refusal as the last event that the agent gets on a socket."""
        status, _, body = _refusal_of(call, self._cleaned(call, refusal))
        return orjson.dumps({"type": "error", "event_id": call.receipt_id, "status": status, **orjson.loads(body)})

    def answer(self, call: Call, refusal: Refusal) -> http.Response:
        """The refusal as the agent gets it."""
        status, headers, body = _refusal_of(call, self._cleaned(call, refusal))
        return http.Response.make(status, body, headers)

    async def _deny(self, call: Call, refusal: Refusal) -> None:
        route = call.match.route.name if call.match else None
        refusal = self._cleaned(call, refusal)
        denied = CallDenied(
            receipt_id=call.receipt_id,
            step=refusal.step,
            reason=refusal.reason,
            rule=refusal.rule,
            detail=refusal.detail,
            at_ms=self._clock_ms(),
            presenter=call.presenter,
            way_in=call.way_in,
            method=call.flow.request.method[:16],
            provider=call.match.provider.name if call.match else None,
            route=call.facts.route if call.facts else route,
            model=self._clean(call, call.facts.model) if call.facts and call.facts.model else None,
            request_hash_b64u=call.request_hash_b64u,
            token_hash_hex=call.grant.token_hash_hex if call.grant else None,
            policy_hash_b64u=call.policy_hash_b64u,
            facts=call.facts if self._is_recordable(call) else None,
            destination=_destination(call),
        )
        call.envelope = await self._write_denial(denied, call.job or self._home(call.home), call)

    def _is_recordable(self, call: Call) -> bool:
        """Whether nothing in the facts has to be kept out of records."""
        facts = call.facts
        names = "" if facts is None else "\n".join((facts.model or "", *facts.tools, *facts.fallback_models))
        return self._clean(call, names) == names

    async def deny_connection(
        self, origin: Origin, refusal: Refusal, destination: str | None, *, method: str = "CONNECT"
    ) -> None:
        """Record a refusal of what is no request: inside a tunnel, or of a connection or a name at a door. Nobody gets
        an answer."""
        denied = CallDenied(
            receipt_id=f"rcpt_{uuid.uuid4()}",
            step=refusal.step,
            reason=refusal.reason,
            rule=refusal.rule,
            detail=refusal.detail,
            at_ms=self._clock_ms(),
            presenter=origin.presenter,
            way_in=origin.way_in,
            method=method,
            destination=None if destination is None else shown_host(destination),
        )
        await self._write_denial(denied, self._home(origin.home))

    def _home(self, job_id: str | None) -> Job | None:
        return self._opened(job_id) if job_id is not None else None

    async def _write_denial(self, denied: CallDenied, job: Job | None, call: Call | None = None) -> JsonObject | None:
        """In the job, else in that of the handle which ``call`` carries, else in the gateway's own journal."""
        writers: list[Callable[[CallDenied], Awaitable[JsonObject | None]]] = [self._refusal_log.deny]
        if job is not None and job.takes_denial():
            writers.insert(0, job.deny)
        elif job is None and call is not None and self._by_handle is not None:
            writers.insert(0, partial(self._deny_by_handle, self._by_handle, call))
        for write in writers:
            try:
                async with asyncio.timeout(self._timeout_s):
                    if (written := await write(denied)) is not None:
                        return written
            except Exception as err:  # whatever it is, the agent is refused all the same
                log.error("call %s: its denial could not be written: %s", denied.receipt_id, err)
        return None

    @staticmethod
    async def _deny_by_handle(
        find: Callable[[Call], Awaitable[Job | None]], call: Call, denied: CallDenied
    ) -> JsonObject | None:
        job = await find(call)
        return await job.deny(denied) if job is not None and job.takes_denial() else None

    def explain(self, call: Call, outcome: Outcome) -> None:
        """Last words for an answer that failed before it began (``http_stream.LAST_WORDS``)."""
        reason = call.last_words or _LAST_WORDS.get(outcome)
        if reason is not None and call.match is not None:
            provider = call.match.provider
            refusal = Refusal(reason, f"{provider.name} at {provider.host}:{provider.port}", call.detail)
            call.flow.metadata[LAST_WORDS] = self.answer(call, refusal)
        elif reason is not None and call.egress is not None:
            refusal = Refusal(reason, f"{call.egress.facts.host}:{call.egress.facts.port}", call.detail)
            call.flow.metadata[LAST_WORDS] = self.answer(call, refusal)

    # -- receipts --------------------------------------------------------------------------------------------------

    async def attest(self, call: Call, outcome: Outcome) -> None:
        """Sign and append the receipt; durable on return, or the error is raised and the call is not released.

        Every caller is bounded: a step by the steps' time-out, a hook by the dispatcher's.
        """
        if call.recorded or call.job is None or call.intended is None:
            return
        call.recorded = True
        call.outcome = outcome
        end = self._end_of(call, outcome) if call.egress is None else self._effect_end(call, call.egress, outcome)
        reservation = call.reservation
        if reservation is None or not isinstance(end, CallEnd):
            call.envelope = await call.job.attest(call.intended, end)
            return
        end, charged = self._budgeting.close(call, reservation, end)
        try:
            call.envelope = await call.job.attest(call.intended, end)
        except BaseException:
            self._budgeting.lose(call, reservation)
            raise
        await self._budgeting.settle(call, reservation, charged)

    def _effect_end(self, call: Call, egress: Egress, outcome: Outcome) -> EffectEnd:
        tap, response = egress.tap, call.flow.response if egress.answered else None
        body = (response.raw_content or b"") if response is not None else b""
        return EffectEnd(
            outcome=outcome,
            status=response.status_code if response is not None else None,
            response_hash_b64u=sha256_b64u(body) if tap is None else tap.digest_b64u,
            response_bytes=len(body) if tap is None else tap.seen_bytes,
            first_byte_ms=None if tap is None else tap.first_byte_ms,
            ended_ms=self._clock_ms(),
            detail=self._clean(call, call.detail[:200]),
        )

    def _end_of(self, call: Call, outcome: Outcome) -> CallEnd:
        reader, tap, response = call.reader, call.tap, call.flow.response
        if call.gate is not None and reader is not None:
            call.gate.abandon(reader)
        if tap is not None:
            digest, size, first_byte_ms = tap.digest_b64u, tap.seen_bytes, tap.first_byte_ms
            sample = bytes(tap.sample)
        elif response is not None and call.reader is not None:
            body = response.raw_content or b""
            digest, size, first_byte_ms = sha256_b64u(body), len(body), None
            sample = body[:SAMPLE_BYTES]
        else:
            digest, size, first_byte_ms, sample = _EMPTY_SHA256_B64U, 0, None, b""
        assert call.facts is not None
        status = response.status_code if response is not None and reader is not None else None
        used = count_tokens(
            reader,
            call.facts.kind,
            status=status if call.frame_bytes is None else 200,  # events have no status; that of the socket is 101
            request_bytes=call.request_bytes,
            sample=sample,
            answer_bytes=size,
        )
        return CallEnd(
            outcome=outcome,
            status=status,
            response_hash_b64u=digest,
            response_bytes=size,
            tokens_input=used.input,
            tokens_output=used.output,
            tokens_cached=used.cached,
            tokens_cache_write=used.cache_write,
            tokens_reasoning=used.reasoning,
            usage=used.usage,
            response_model=self._clean(call, reader.model) if reader and reader.model else None,
            tool_calls=tuple(self._clean(call, name) for name in reader.tool_calls) if reader else (),
            first_byte_ms=first_byte_ms,
            ended_ms=self._clock_ms(),
            detail=self._clean(call, call.detail[:200]),
            sent=not (call.unsent or outcome is Outcome.UPSTREAM_UNREACHABLE),
            called=tuple(self._told(call, judged) for judged in call.called),
            delivered_hash_b64u=_delivered(call),
        )

    def _told(self, call: Call, judged: JudgedCall) -> JudgedCall:
        """A call of a tool without what has no place in records; the name that a person approved is that."""
        name = judged.name if judged.approval is not None else self._clean(call, judged.name)
        told = replace(judged, name=name, rule=self._clean(call, judged.rule))
        if judged.would_refuse is None and not judged.inner:
            return told
        would = judged.would_refuse
        would = None if would is None else replace(would, rule=self._clean(call, would.rule))
        return replace(told, would_refuse=would, inner=tuple(self._clean(call, inner) for inner in judged.inner))

    # -- what travels with the answer ------------------------------------------------------------------------------

    def trailer(self, call: Call, held: bytes) -> bytes:
        """The comments with the receipt that follow ``held`` on a compatibility route (protocol.md D.6)."""
        if call.tap is None or not call.compat or call.envelope is None:
            return b""
        return compat.sse_comments(call.envelope, self._legacy(call), after=held)

    def dress(self, call: Call) -> None:
        """Put the receipt into a JSON answer on a compatibility route (protocol.md D.6)."""
        response = call.flow.response
        if not call.compat or call.envelope is None or response is None or call.tap is not None:
            return
        status, body = compat.json_answer(
            response.status_code, response.raw_content or b"", call.envelope, self._legacy(call)
        )
        response.status_code = status
        response.headers["content-type"] = "application/json"
        response.content = body

    def _legacy(self, call: Call) -> JsonObject:
        assert call.envelope is not None
        return build_legacy_receipt(call.envelope, self._receipt_key)


def _delivered(call: Call) -> str | None:
    """The digest of what the agent gets, where the answer reached its end and that is not what came."""
    if call.outcome not in (Outcome.COMPLETE, Outcome.CALL_REFUSED) and call.instead is None:
        return None
    if isinstance(call.tap, StreamTap):
        return call.tap.delivered_b64u
    return None if call.instead is None else sha256_b64u(call.instead.raw_content or b"")


def _destination(call: Call) -> str | None:
    """Where a refused call would have gone, if that is no route of a provider."""
    request = call.flow.request
    if call.bound_for is None and request.method != "CONNECT":
        return None
    host, port = call.bound_for or (request.host, request.port)
    return shown_host(f"{bracketed(host)}:{port}")


def _refusal_of(call: Call, refusal: Refusal) -> tuple[int, dict[str, str], bytes]:
    return build_refusal(
        refusal,
        call.format,
        receipt_id=call.receipt_id,
        policy_hash=call.policy_hash_b64u,
        job_id=call.job_id or call.home,
    )


async def intend(call: Call, start: CallStart | EffectStart) -> None:
    """The intent of a decided call, durable on return: then its first byte may leave.

    A call that is halted gets none."""
    assert call.job is not None
    if call.halt is not None:
        return
    try:
        call.intended = await call.job.intend(start)
    except asyncio.CancelledError:
        call.recorded = True  # the intent is on its way to the disk, and the job attests it as not sent
        raise


def start_of(call: Call) -> CallStart:
    """The start of a decided call, as the intent records it."""
    assert call.grant is not None
    assert call.facts is not None
    assert call.policy is not None
    assert call.request_hash_b64u is not None
    return CallStart(
        receipt_id=call.receipt_id,
        nonce=call.nonce,
        provider=call.facts.provider,
        route=call.facts.route,
        model=call.facts.model or NO_MODEL,
        stream=call.facts.stream,
        request_hash_b64u=call.request_hash_b64u,
        request_bytes=call.request_bytes,
        tools=call.facts.tools,
        token_hash_hex=call.grant.token_hash_hex,
        token_scope_hash_b64u=call.grant.token_scope_hash_b64u,
        policy_hash_b64u=call.policy.policy_hash_b64u,
        presenter=call.presenter,
        way_in=call.way_in,
        started_ms=call.started_ms,
        harness_run_id=call.headers.get("x-run-id"),
        harness_event_hash_b64u=call.headers.get("x-event-hash"),
        stripped=call.stripped,
        upstream=call.facts.upstream,
        upstream_model=call.facts.upstream_model,
        facts=call.facts,
        budget=call.reservation,
        data=call.data,
        would_refuse=call.would_refuse,
    )
