"""A fence whose listener is not there cuts its agents off, which whoever installs it is told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from clawproxy.fence.listening import listens
from tests.clawproxy.command_line import run_cli


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_is_found_while_something_listens_on_it(family: int, address: str) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.bind((address, 0))
        port = sock.getsockname()[1]
        assert not listens(port)  # bound is not enough
        sock.listen()
        assert listens(port)
    assert not listens(port)


def test_where_nothing_can_be_read_nothing_listens(tmp_path: Path) -> None:
    assert not listens(80, tmp_path)


def test_rules_for_a_listener_that_is_not_there_are_printed_with_a_warning() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        words = ("host", "install", "--print", "--interface", "br0", "--port", str(port))
        without = run_cli(*words)
        sock.listen()
        with_it = run_cli(*words)
    assert (without.code, with_it.code) == (0, 0)
    assert without.out == with_it.out
    assert f'[listen] transparent = "127.0.0.1:{port}"' in without.err
    assert with_it.err == ""
