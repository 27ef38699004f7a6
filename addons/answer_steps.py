"""The steps that follow an answer: 10, observe, and 11, attest.

A stream has a tap, which reads it as it passes and holds what must wait; any other answer is held whole. What the agent
gets in its place, if anything, is known before the receipt is written, since that holds its digest.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from mitmproxy import http

from ..policies.facts import CallKind
from ..receipts.calls import Outcome
from ..tokens.reasons import Refusal
from .budgeting import Budgeting
from .call import Call
from .data_gate import DataGate
from .ending import Ending
from .handshake import answer_fault, answer_fields
from .http_stream import UPGRADE
from .stream_tap import StreamTap, redact
from .tool_gate import WAITS, CallJudges, ToolGate
from .upstream import clean_answer

_UTF_8 = re.compile(r"[^;]*;\s*charset=\"?utf-?8\"?\s*", re.IGNORECASE)


class AnswerSteps:
    """``judges`` say what a call of a tool must pass; ``clock_ms`` is Unix milliseconds."""

    def __init__(
        self,
        *,
        ending: Ending,
        judges: CallJudges,
        data: DataGate,
        budgeting: Budgeting,
        clock_ms: Callable[[], int],
    ) -> None:
        self._ending = ending
        self._judges = judges
        self._data = data
        self._budgeting = budgeting
        self._clock_ms = clock_ms

    # -- 10 observe ------------------------------------------------------------------------------------------------

    def observe(self, call: Call) -> None:
        """The answer's head: what passes on of it, and how its body is read."""
        response = call.flow.response
        assert response is not None
        assert call.match is not None
        assert call.format is not None
        assert call.facts is not None
        if 300 <= response.status_code < 400 and response.status_code != 304:
            call.outcome, call.detail = Outcome.UPSTREAM_FAILED, "the provider answered with a redirect"
            call.last_words = "UPSTREAM_REDIRECT"
            call.flow.kill()  # type: ignore[no-untyped-call]  # mitmproxy leaves it untyped
            return
        if response.status_code == 101 and call.match.route.websocket:
            self._observe_socket(call, response)
            return
        if response.status_code < 200 or response.headers.get("content-encoding", "identity") != "identity":
            call.outcome, call.detail = Outcome.UPSTREAM_FAILED, "the provider's answer cannot be read"
            call.flow.kill()  # type: ignore[no-untyped-call]  # mitmproxy leaves it untyped
            return
        marks = {b"x-clawproxy-receipt-id": call.receipt_id.encode(), b"x-clawproxy-job": (call.job_id or "").encode()}
        if call.reservation is not None:
            marks |= self._budgeting.marks(call, call.reservation)
        clean_answer(response, call.credential, marks)
        response.headers.pop("location", None)
        call.reader = call.format.new_reader()
        call.gate = ToolGate(call, call.format.new_rewriter(), self._judges)
        stated = response.headers.get("content-type", "")
        kind = stated.partition(";")[0].strip().lower()
        if "charset" in stated.lower() and not _UTF_8.fullmatch(stated):  # in another, its reader finds another answer
            response.headers["content-type"] = f"{kind}; charset=utf-8"
        call.framing = call.format.framing(kind, stream=call.facts.stream) if response.status_code == 200 else None
        if call.framing is not None:
            response.headers.pop("content-length", None)
            response.headers["transfer-encoding"] = "chunked"
            framing = self._data.screened(call, call.framing)
            secret = call.credential.encode()
            call.tap = StreamTap(
                call.flow, call.reader, framing, secret, call.started_ms, self._clock_ms, gate=call.gate
            )
            response.stream = call.tap  # type: ignore[assignment]  # the seam reads it (http_stream.py)

    def _observe_socket(self, call: Call, response: http.Response) -> None:
        """The provider agrees to a WebSocket; ``websocket.Sockets`` judges what is said on it."""
        assert call.format is not None
        fault = answer_fault(response, call.headers, call.flow.metadata[UPGRADE])
        if fault is not None:
            call.outcome, call.detail = Outcome.UPSTREAM_FAILED, fault
            call.flow.kill()  # type: ignore[no-untyped-call]  # mitmproxy leaves it untyped
            return
        marks = {b"x-clawproxy-receipt-id": call.receipt_id.encode(), b"x-clawproxy-job": (call.job_id or "").encode()}
        clean_answer(response, call.credential, {**marks, **answer_fields(response, call.headers)})
        call.reader = call.format.new_reader()

    def judge_calls(self, call: Call) -> Awaitable[None] | None:
        """The calls of tools that are held: those of a part of a stream, which waits, or all of a whole answer."""
        assert call.gate is not None
        assert call.reader is not None
        assert call.match is not None
        if call.tap is not None:
            return self._settle_part(call, call.gate)
        call.judged = True
        response = call.flow.response
        assert response is not None
        if response.status_code == 101:
            return None
        call.reader.read_json(response.raw_content or b"")
        if response.status_code < 400 and call.reader.unread and call.match.route.kind is CallKind.GENERATE:
            call.outcome, call.detail = Outcome.UPSTREAM_FAILED, "the provider's answer cannot be read"
            refusal = Refusal("UPSTREAM_FAILED", "calls of tools in the answer", "the answer is no JSON object")
            call.instead = self._ending.answer(call, refusal)
            return None
        if not call.reader.untaken:
            return None
        verdict = call.gate.judge(call.reader)
        if verdict is WAITS:
            return self._settle_whole(call, call.gate)
        if verdict is not None:
            self._refuse_whole(call, call.gate, verdict)
        return None

    async def _settle_part(self, call: Call, gate: ToolGate) -> None:
        refusal = await gate.settle()
        assert isinstance(call.tap, StreamTap)
        call.released = call.tap.settle(refusal)

    async def _settle_whole(self, call: Call, gate: ToolGate) -> None:
        refusal = await gate.settle()
        if refusal is not None:
            self._refuse_whole(call, gate, refusal)

    def _refuse_whole(self, call: Call, gate: ToolGate, refusal: Refusal) -> None:
        response = call.flow.response
        assert response is not None
        assert call.reader is not None
        body = gate.replaced_whole(response.raw_content or b"", refusal, call.reader)
        if body is None:
            gate.refuse(refusal)
            call.instead = self._ending.answer(call, refusal)
        else:
            call.instead = _with_body(response, redact(body, call.credential.encode()))

    # -- 11 attest -------------------------------------------------------------------------------------------------

    async def attest(self, call: Call) -> None:
        """The answer is here up to its last event: the receipt, durable; only then does the end leave.

        A stream that ended without its terminal event is recorded as incomplete and cut, since the agent would take a
        clean end for a whole answer.
        """
        assert call.reader is not None
        response = call.flow.response
        assert response is not None
        whole = True
        if call.tap is not None:
            whole = call.reader.ended
        elif call.outcome is None and response.status_code != 101:
            shown = call.instead or response
            body = shown.raw_content or b""
            screened = await self._data.answer(call, body)
            if isinstance(screened, Refusal):
                call.outcome, call.detail = Outcome.STOPPED, f"{screened.reason}: {screened.detail}"
                call.instead = self._ending.answer(call, screened)
            else:
                clean = redact(body if screened is None else screened, call.credential.encode())
                if clean is not body:
                    call.instead = _with_body(shown, clean)
        await self._ending.attest(call, call.outcome or (Outcome.COMPLETE if whole else Outcome.INCOMPLETE))
        if call.outcome not in (Outcome.COMPLETE, Outcome.CALL_REFUSED) and call.instead is None:
            return
        if call.instead is not None:
            call.flow.response = call.instead
        if call.tap is None and call.outcome is Outcome.COMPLETE:
            self._ending.dress(call)
        call.release = True


def _with_body(response: http.Response, body: bytes) -> http.Response:
    changed = response.copy()
    changed.content = body
    return changed
