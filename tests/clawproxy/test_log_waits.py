"""The log of a gateway whose agent has the terminal: it comes when the agent has ended, and not before."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawproxy.cli.log_waits import log_waits

from .standin_process import running_standin

LOG = logging.getLogger("clawproxy.somewhere")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root of all loggers with no handler of the test run."""
    found = logging.getLogger()
    before = found.handlers[:]
    yield found
    found.handlers[:] = before


def writing_to(stream: io.StringIO, root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    root.handlers[:] = [logging.StreamHandler(stream)]


def test_at_a_terminal_lines_come_after_the_agent_in_their_order(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    writing_to(screen, root, monkeypatch)
    with contextlib.suppress(OSError), log_waits():
        LOG.warning("one %d", 1)
        LOG.error("two")
        assert screen.getvalue() == ""
        raise OSError("the agent could not be started")
    assert screen.getvalue() == "one 1\ntwo\n"
    LOG.warning("three")
    assert screen.getvalue().endswith("three\n")


def test_of_many_lines_the_last_are_kept_and_the_others_counted(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    writing_to(screen, root, monkeypatch)
    with log_waits():
        for n in range(250):
            LOG.warning("line %d", n)
    lines = screen.getvalue().splitlines()
    assert lines[0].startswith("50 lines")
    assert (lines[1], lines[-1], len(lines)) == ("line 50", "line 249", 201)


def test_a_log_that_goes_to_a_file_is_written_at_once(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    writing_to(file, root, monkeypatch)
    with log_waits():
        LOG.warning("now")
        assert file.getvalue() == "now\n"


AGENT = """
import base64, os, socket, ssl
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTPS_PROXY"])
with socket.create_connection((proxy.hostname, proxy.port)) as link:
    word = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    head = "CONNECT api.openai.com:443 HTTP/1.1", "host: x", f"proxy-authorization: Basic {word}", "", ""
    link.sendall("\\r\\n".join(head).encode())
    assert b" 200 " in link.recv(4096)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with trust.wrap_socket(link, server_hostname="api.openai.com", do_handshake_on_connect=False) as tls:
        try:
            tls.do_handshake()
        except ssl.SSLCertVerificationError:
            pass
        try:
            while os.read(tls.fileno(), 4096):  # until the gateway, which has heard of it, closes
                pass
        except ConnectionError:
            pass
print("the agent's last line", flush=True)
"""


@pytest.mark.slow
def test_a_warning_of_the_gateway_does_not_come_between_the_lines_of_an_agent(tmp_path: Path) -> None:
    with running_standin(tmp_path / "provider") as provider:
        state = provider.make_state(tmp_path / "state", "openai")
        person, terminal = pty.openpty()
        command = [sys.executable, "-m", "clawproxy", "run", "--state", str(state), "--", sys.executable, "-c", AGENT]
        with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
            os.close(terminal)
            screen = b""
            try:
                while chunk := os.read(person, 65536):
                    screen += chunk
            except OSError:  # the terminal has no other end any more
                pass
        os.close(person)
    shown = screen.decode()
    assert process.returncode == 0, shown
    assert 0 < shown.index("the agent's last line") < shown.index("does not trust the gateway's CA")
