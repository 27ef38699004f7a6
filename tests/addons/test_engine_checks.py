"""An unknown mitmproxy is refused by name, and a seam that does not hold is noticed before a listener opens."""

from __future__ import annotations

import ast
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from clawproxy.addons import http_stream
from clawproxy.addons.engine_checks import check_engine, moved_functions, print_of, take_prints
from clawproxy.addons.engine_prints import PRINTS
from clawproxy.addons.http_stream import SeamStream
from clawproxy.addons.rehearsal import rehearse
from clawproxy.tokens.errors import ClawproxyError
from mitmproxy.proxy.layers import http as engine


@pytest.fixture(autouse=True)
def _seam() -> Iterator[None]:
    http_stream.install()
    yield
    http_stream.uninstall()


def test_installed_mitmproxy_is_the_one_that_was_checked() -> None:
    check_engine()
    assert take_prints(PRINTS) == PRINTS


def test_functions_that_moved_or_went_are_named() -> None:
    known = PRINTS | {"flow.py:Flow.kill": "0" * 16, "flow.py:Flow.gone": "1" * 16, "gone.py:x": "2" * 16}
    assert moved_functions(known) == ["flow.py:Flow.kill", "flow.py:Flow.gone", "gone.py:x"]
    with pytest.raises(ClawproxyError) as caught:
        check_engine(known)
    assert caught.value.reason == "ENGINE_UNKNOWN"
    assert "flow.py:Flow.kill" in str(caught.value)
    assert caught.value.remedy


def _print(source: str) -> str:
    return print_of(ast.parse(source).body[0])


def test_comments_docstrings_and_layout_do_not_change_a_fingerprint_but_code_does() -> None:
    plain = _print("def f(a):\n    return a + 1\n")
    assert _print('def f(a):\n    """Says."""\n\n    # why\n    return (a  +  1)\n') == plain
    assert _print("def f(a):\n    return a + 2\n") != plain
    assert _print("def f(a, b):\n    return a + 1\n") != plain


def _never_asks(self: SeamStream) -> Generator[Any, Any]:
    assert self.hold is not None
    self.hold.verdict = self.hold.held
    yield from self._answered()


def _never_watches(self: SeamStream) -> Generator[Any, Any, bool]:
    return (yield from engine.HttpStream.make_server_connection(self))


def _quiet_cut(self: SeamStream, why: str) -> Generator[Any, Any]:
    yield engine.DropStream(self.stream_id)


@pytest.mark.parametrize(
    ("method", "broken"),
    [("_attest", _never_asks), ("make_server_connection", _never_watches), ("cut", _quiet_cut)],
)
def test_rehearsal_notices_a_broken_seam(
    monkeypatch: pytest.MonkeyPatch, method: str, broken: Callable[..., Any]
) -> None:
    monkeypatch.setattr(SeamStream, method, broken)
    with pytest.raises(ClawproxyError, match="rehearsal"):
        rehearse()


def test_rehearsal_notices_that_the_seam_is_not_installed() -> None:
    http_stream.uninstall()
    with pytest.raises(ClawproxyError, match="terminal event is not held"):
        rehearse()
