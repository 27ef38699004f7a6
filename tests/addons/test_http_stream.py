"""The seam without sockets: every state of a held answer against every thing that can happen to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clawproxy.addons import http_stream
from clawproxy.addons.http_stream import CUT, Hold, Watch
from clawproxy.addons.rehearsal import REQUEST, SSE_HEAD, Stage, chunk
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import http

from .engine_rig import DONE, EVENT, DoneTap, EventTap

END = b"0\r\n\r\n"


@pytest.fixture(autouse=True)
def _seam() -> Iterator[None]:
    http_stream.install(end_deadline_s=3, part_deadline_s=3)
    yield
    http_stream.uninstall()


class Play(Stage):
    """A call whose holds and watch stay open until the test answers them."""

    def __init__(self, sends: bytes = REQUEST, tap: Callable[[http.HTTPFlow], Any] = DoneTap, **answers: Any) -> None:
        self.holds: list[Hold] = []
        self.watches: list[Watch] = []
        self.errors: list[str] = []
        self.tap: Any = None

        def keep(hold: Hold) -> bool:
            self.holds.append(hold)
            return False

        def watch(watch: Watch) -> bool:
            self.watches.append(watch)
            return False

        def error(flow: http.HTTPFlow) -> bool:
            self.errors.append(flow.error.msg if flow.error else "")
            return True

        def responseheaders(flow: http.HTTPFlow) -> bool:
            if flow.response and "event-stream" in flow.response.headers.get("content-type", ""):
                flow.response.stream = self.tap = tap(flow)
            return True

        defaults: dict[str, Any] = {
            "seam_hold": keep,
            "seam_watch": watch,
            "error": error,
            "responseheaders": responseheaders,
        }
        super().__init__(defaults | answers)
        self.client_sends(sends)

    def release(self, verdict: bytes | None = None, **more: Any) -> None:
        hold = self.holds[-1]
        hold.verdict = hold.held if verdict is None else verdict
        self.answer("seam_hold")

    def stop(self) -> None:
        self.watches[-1].stop = "test"
        self.answer("seam_watch")

    def was_cut(self, why: str = "") -> bool:
        return (
            "client" in self.closed
            and self.asked.count("error") == 1
            and "response" not in self.asked
            and b"[DONE]" not in self.to_client
            and not self.to_client.endswith(END)
            and all(message.startswith(CUT + why) for message in self.errors)
            and all(watch.over.is_set() for watch in self.watches)
        )


def streaming(*pieces: bytes, end: bool = False, **more: Any) -> Play:
    play = Play(**more)
    play.upstream_sends(SSE_HEAD)
    for piece in pieces:
        play.upstream_sends(chunk(piece))
    if end:
        play.upstream_sends(END)
    return play


def part_held() -> Play:
    return streaming(EVENT, b"PART one")


def in_grace() -> Play:
    return streaming(EVENT, DONE)


def attesting() -> Play:
    return streaming(EVENT, DONE, end=True)


def whole_held() -> Play:
    play = Play()
    play.upstream_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    return play


HELD = {"part": part_held, "grace": in_grace, "attest": attesting, "whole": whole_held}


# -- the way it should go ------------------------------------------------------------------------------------------


def test_terminal_event_and_end_of_message_leave_together_after_the_release() -> None:
    play = attesting()
    assert play.to_client.endswith(chunk(EVENT))
    play.release()
    assert play.to_client.endswith(chunk(DONE) + END)
    assert play.asked[-2:] == ["seam_hold", "response"]
    assert play.watches[0].over.is_set()
    assert not play.closed


def test_verdict_may_differ_from_what_was_held() -> None:
    play = attesting()
    play.release(DONE + b": receipt\n\n")
    assert play.to_client.endswith(chunk(DONE + b": receipt\n\n") + END)


def test_connection_is_reused_after_a_held_end() -> None:
    play = attesting()
    for _ in range(20):
        play.release()
        play.client_sends(REQUEST)
        play.upstream_sends(SSE_HEAD + chunk(EVENT + DONE) + END)
    play.release()
    assert len(play.upstreams) == 1
    assert play.to_client.count(DONE) == 21
    assert not play.closed


def test_next_request_in_the_pipe_waits_for_the_held_end() -> None:
    play = streaming(EVENT, DONE, end=True)
    play.client_sends(REQUEST)
    assert play.to_upstream.count(b"POST") == 1
    play.release()
    assert play.to_upstream.count(b"POST") == 2


def test_end_of_message_without_terminal_event_closes_the_tap_and_is_held_too() -> None:
    play = streaming(EVENT, end=True)
    assert play.tap.closed
    assert play.holds[0].held == b""
    play.answer("seam_hold")
    assert play.was_cut("not released")


def test_upstream_that_never_ends_its_message_is_cancelled_after_the_grace() -> None:
    play = in_grace()
    assert not play.holds
    play.wake()
    assert play.closed == {"upstream"}
    play.release()
    assert play.to_client.endswith(chunk(DONE) + END)
    play.client_sends(REQUEST)
    assert len(play.upstreams) == 2, "the connection that still owed bytes is not used again"


def test_upstream_that_dies_after_the_terminal_event_has_given_a_complete_answer() -> None:
    play = in_grace()
    play.upstream_leaves()
    play.release()
    assert play.to_client.endswith(chunk(DONE) + END)
    assert "error" not in play.asked


def test_bytes_behind_the_terminal_event_reach_the_tap_and_join_the_held() -> None:
    play = in_grace()
    play.upstream_sends(chunk(b": bye\n\n") + END)
    assert play.holds[0].held == DONE + b": bye\n\n"
    assert play.tap.seen.endswith(b": bye\n\n")


def test_part_is_released_replaced_and_the_backlog_follows_in_order() -> None:
    play = part_held()
    for piece in (b"two", b"PART three", b"four", DONE):  # a read each: chunks of one read are one piece
        play.upstream_sends(chunk(piece))
    play.upstream_sends(END)
    assert play.to_client.endswith(chunk(EVENT))
    play.release(b"replaced")
    assert play.to_client.endswith(chunk(b"replaced") + chunk(b"two"))
    assert len(play.holds) == 2
    play.release()
    assert play.to_client.endswith(chunk(b"PART three") + chunk(b"four"))
    play.release()
    assert play.to_client.endswith(chunk(b"four") + chunk(DONE) + END)


def test_ping_is_sent_while_a_part_is_held_and_the_question_asked_again() -> None:
    play = part_held()
    play.holds[0].ping = b": keep-alive\n\n"
    play.answer("seam_hold")
    assert play.to_client.endswith(chunk(b": keep-alive\n\n"))
    assert play.asked.count("seam_hold") == 2
    play.release()
    assert play.to_client.endswith(chunk(b"PART one"))


def test_pressure_is_told_while_the_backlog_is_high_and_again_when_it_is_gone() -> None:
    http_stream.install(backlog_high_bytes=100)
    pressed: list[bool] = []

    def note(hold: Hold) -> bool:
        pressed.append(hold.pressed)
        return True

    play = streaming(b"PART", seam_pressure=note)
    for _ in range(3):
        play.upstream_sends(chunk(b"x" * 60))
    play.release()
    assert pressed == [True, True, False]


def test_whole_answer_may_be_changed_while_it_is_held() -> None:
    play = whole_held()
    assert not play.to_client
    flow = play.holds[0].flow
    assert flow.response is not None
    flow.response.content = b'{"receipt":1}'
    play.release(b"")
    assert play.to_client.endswith(b'13\r\n\r\n{"receipt":1}')


@pytest.mark.parametrize("status", [204, 304])
def test_answer_without_a_body_is_held_and_released(status: int) -> None:
    play = Play()
    play.upstream_sends(b"HTTP/1.1 %d X\r\n\r\n" % status)
    play.release(b"")
    assert play.to_client.startswith(b"HTTP/1.1 %d" % status)
    assert not play.closed


def test_empty_event_stream_is_held_whole() -> None:
    play = Play()
    play.upstream_sends(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 0\r\n\r\n")
    play.release(b"")
    assert play.to_client.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", [b"HEAD", b"POST"])
def test_refusal_made_by_an_addon_waits_for_its_release_and_has_a_body_only_where_http_allows_it(method: bytes) -> None:
    def refuse(flow: http.HTTPFlow) -> bool:
        flow.response = http.Response.make(403, b"no")
        return True

    play = Play(REQUEST.replace(b"POST", method), request=refuse)
    assert not play.to_client
    play.release(b"")
    assert play.to_client.startswith(b"HTTP/1.1 403")
    assert play.to_client.endswith(b"\r\n\r\n" if method == b"HEAD" else b"\r\n\r\nno")
    assert not play.to_upstream


def test_http_1_0_client_gets_a_tapped_answer_in_one_piece_with_its_length() -> None:
    play = streaming(EVENT, DONE, end=True, sends=REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert not play.to_client
    play.release()
    assert b"content-length: %d" % len(EVENT + DONE) in play.to_client
    assert play.to_client.endswith(EVENT + DONE)
    assert b"chunked" not in play.to_client


def test_eof_framed_upstream_is_reframed_and_its_connection_closed() -> None:
    play = Play()
    play.upstream_sends(b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + EVENT + DONE)
    assert play.to_client.startswith(b"HTTP/1.1 200 OK")
    assert b"transfer-encoding: chunked" in play.to_client
    play.upstream_leaves()
    play.release()
    assert play.to_client.endswith(chunk(DONE) + END)
    assert play.closed == {"upstream"}


def test_length_of_a_tapped_answer_is_not_passed_on() -> None:
    play = Play()
    body = EVENT + DONE
    play.upstream_sends(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )
    play.release()
    assert b"content-length" not in play.to_client
    assert play.to_client.endswith(chunk(DONE) + END)


# -- every way it should not ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", HELD)
@pytest.mark.parametrize("verdict", [None, "text", bytearray(b"x"), 7])
def test_hold_that_is_not_released_with_bytes_is_cut(state: str, verdict: Any) -> None:
    play = HELD[state]()
    play.wake()  # ends the grace
    play.holds[-1].verdict = verdict
    play.answer("seam_hold")
    assert play.was_cut("not released")
    assert b"PART" not in play.to_client
    assert b"{}" not in play.to_client


@pytest.mark.parametrize("state", HELD)
def test_hold_without_an_answer_is_cut_at_its_deadline_and_a_late_release_is_ignored(state: str) -> None:
    play = HELD[state]()
    for _ in range(5):
        play.wake()
    assert play.was_cut("held past the deadline")
    assert play.holds[-1].gone.is_set()
    sent = bytes(play.to_client)
    play.release(b"late")
    assert play.to_client == sent
    assert play.asked.count("error") == 1


@pytest.mark.parametrize("state", ["waiting", "idle", *HELD])
def test_stop_cuts_in_every_state(state: str) -> None:
    states = {"waiting": Play, "idle": lambda: streaming(EVENT)} | HELD
    play = states[state]()
    play.stop()
    assert play.was_cut("stopped")
    assert b"PART" not in play.to_client
    if state in ("waiting", "idle", "part", "grace"):
        assert "upstream" in play.closed


@pytest.mark.parametrize("state", ["idle", "part", "grace"])
def test_client_that_leaves_before_the_end_is_an_error_and_the_upstream_is_cancelled(state: str) -> None:
    play = {"idle": lambda: streaming(EVENT), "part": part_held, "grace": in_grace}[state]()
    play.client_leaves()
    assert play.errors == ["Client disconnected."]
    assert "upstream" in play.closed
    assert b"[DONE]" not in play.to_client
    assert all(hold.gone.is_set() for hold in play.holds)
    assert play.watches[0].over.is_set()


@pytest.mark.parametrize("state", ["attest", "whole"])
def test_client_that_leaves_while_the_record_is_written_gets_nothing_and_the_call_ends_once(state: str) -> None:
    play = HELD[state]()
    sent = bytes(play.to_client)
    play.client_leaves()
    play.release()
    assert play.to_client == sent
    assert [name for name in play.asked if name in ("response", "error")] == ["response"]


@pytest.mark.parametrize("state", ["idle", "part"])
def test_upstream_that_dies_before_the_end_is_an_error_and_held_bytes_never_leave(state: str) -> None:
    play = {"idle": lambda: streaming(EVENT), "part": part_held}[state]()
    play.upstream_leaves()
    assert play.asked.count("error") == 1
    assert "client" in play.closed
    assert b"PART" not in play.to_client
    assert not play.to_client.endswith(END)


class _Broken(DoneTap):
    """Fails as told."""

    fault: Any = ValueError("x")
    at = "feed"

    def feed(self, data: bytes) -> Any:
        if self.at != "feed":
            return super().feed(data)
        if isinstance(self.fault, BaseException):
            raise self.fault
        return self.fault

    def close(self) -> Any:
        if isinstance(self.fault, BaseException):
            raise self.fault
        return self.fault


FAULTS: list[Any] = [ValueError("x"), asyncio.CancelledError(), SystemExit(3), None, "text", bytearray(b"x"), 5]


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
@pytest.mark.parametrize("at", ["feed", "close"])
def test_tap_that_fails_or_returns_nonsense_cuts_the_call(fault: Any, at: str) -> None:
    tap = type("Broken", (_Broken,), {"fault": fault, "at": at})
    play = streaming(EVENT, end=True, tap=tap)
    assert play.was_cut()
    assert play.to_client.count(EVENT) == (at == "close")


def test_stream_that_is_not_a_tap_is_cut_before_its_head_leaves() -> None:
    play = streaming(EVENT, tap=lambda flow: True)
    assert play.was_cut("a streamed answer without a tap")
    assert not play.to_client


def test_streamed_request_is_cut_before_anything_goes_upstream() -> None:
    def stream(flow: http.HTTPFlow) -> bool:
        flow.request.stream = True
        return True

    play = Play(requestheaders=stream)
    assert play.was_cut("a request is never streamed")
    assert not play.upstreams


@pytest.mark.parametrize("status", [100, 101, 103])
def test_upstream_that_switches_protocols_or_informs_is_cut(status: int) -> None:
    play = Play()
    play.upstream_sends(b"HTTP/1.1 %d X\r\nupgrade: websocket\r\n\r\nraw" % status)
    assert play.was_cut("the upstream answered")
    assert "upstream" in play.closed
    assert not play.to_client


def test_101_made_by_an_addon_is_cut() -> None:
    def switch(flow: http.HTTPFlow) -> bool:
        flow.response = http.Response.make(101, b"", {"upgrade": "websocket"})
        return True

    play = Play(request=switch)
    assert play.was_cut()
    assert not play.to_client


def test_trailers_of_a_request_are_refused_before_anything_goes_upstream() -> None:
    head = b"POST / HTTP/1.1\r\nHost: upstream.invalid\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n"
    play = Play(head + b"2\r\n{}\r\n0\r\nx: y\r\n\r\n")
    assert play.to_client.startswith(b"HTTP/1.1 400")
    assert play.asked.count("error") == 1
    assert not play.upstreams


def test_trailers_of_a_response_end_as_an_error_and_not_as_an_answer() -> None:
    play = streaming(EVENT)
    play.upstream_sends(chunk(DONE)[:-2])
    play.upstream_sends(b"\r\n0\r\nx: y\r\n\r\n")
    # the terminal event was there: complete, but the connection is not used again
    play.release()
    assert play.to_client.endswith(chunk(DONE) + END)
    play = streaming(EVENT)
    play.upstream_sends(b"0\r\nx: y\r\n\r\n")
    assert play.errors == ["HTTP/1: trailers are not accepted"]
    assert not play.to_client.endswith(END)


@pytest.mark.parametrize("side", ["client", "upstream"])
def test_head_without_end_is_refused(side: str) -> None:
    http_stream.install(head_cap_bytes=1000)
    play = Play(b"POST / HTTP/1.1\r\nHost: x\r\n" if side == "client" else REQUEST)
    for _ in range(3):
        line = b"x-%d: %s\r\n" % (len(play.to_client), b"a" * 500)
        play.client_sends(line) if side == "client" else play.upstream_sends(b"HTTP/1.1 200 OK\r\n" + line)
    assert side in play.closed
    assert play.to_client.startswith(b"HTTP/1.1 431" if side == "client" else b"HTTP/1.1 502")


def test_answer_that_is_too_large_to_hold_is_502_and_the_upstream_cancelled() -> None:
    http_stream.install(whole_cap_bytes=1000)
    play = Play()
    play.upstream_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 1001)
    assert play.to_client.startswith(b"HTTP/1.1 502")
    assert "upstream" in play.closed
    assert b"xxx" not in play.to_client


def test_backlog_behind_a_part_is_bounded() -> None:
    http_stream.install(backlog_cap_bytes=1000)
    play = part_held()
    play.upstream_sends(chunk(b"x" * 1001))
    assert play.was_cut("too much behind a held part")


def test_bytes_behind_the_terminal_event_are_bounded() -> None:
    http_stream.install(backlog_cap_bytes=1000)
    play = in_grace()
    play.upstream_sends(chunk(b"x" * 1001))
    assert play.was_cut("too much behind the terminal event")


def test_crash_inside_the_http_layer_closes_the_client() -> None:
    class Bomb(http.Headers):
        def get(self, *args: Any) -> Any:
            raise RuntimeError

    def bomb(flow: http.HTTPFlow) -> bool:
        assert flow.response is not None
        flow.response.headers = Bomb(flow.response.headers.fields)
        return True

    play = Play(responseheaders=bomb)
    play.upstream_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    play.release(b"")
    assert "client" in play.closed


def test_finished_stream_lets_go_of_its_bodies_while_a_nap_is_pending() -> None:
    play = attesting()
    play.release()
    streams = [layer for layer in play._layer.command_sources.values() if hasattr(layer, "phase")]
    assert streams
    assert not any("flow" in vars(stream) for stream in streams)


# -- any cut of the bytes into reads -------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 400), max_size=12), st.sampled_from(["release", "refuse"]), st.booleans())
def test_what_the_client_sees_does_not_depend_on_how_the_bytes_arrive(
    cuts: list[int], what: str, terminal: bool
) -> None:
    answer = SSE_HEAD + chunk(EVENT) * 3 + (chunk(DONE) if terminal else b"") + END
    play = Play(tap=EventTap)
    at = 0
    for cut in [*cuts, len(answer)]:
        piece, at = answer[at : at + cut], at + cut
        if piece:
            play.upstream_sends(piece)
    if what == "release":
        play.release()
        assert dechunked(bytes(play.to_client)) == EVENT * 3 + (DONE if terminal else b"")
    else:
        play.answer("seam_hold")
        assert play.was_cut("not released")


def dechunked(message: bytes) -> bytes:
    body, rest = b"", bytes(message).partition(b"\r\n\r\n")[2]
    while rest != END:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body
