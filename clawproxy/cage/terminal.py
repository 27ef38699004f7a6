"""The person's terminal in front of a job's own: keys in, output out, sizes along. One thread.

The job never has the person's terminal itself: a program that may write to a terminal may also read its keys, and put
characters into its input.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import termios
import threading
import time
import tty
from typing import Any

_CHUNK = 65536
_MOST_PENDING = 65536
_DRAIN_S = 1.0
_STOP_S = 2.0
_ANSWERS_S = 0.1
"""So long a terminal may take to answer what the job asked it with its last words."""


def drop_answers() -> None:
    """Forget what lies unread in standard input, where that is the person's terminal.

    A terminal answers to some sequences as if the answer had been typed; what a job asked at its end must not come to
    the shell. Keys that were pressed too early go with it.
    """
    with contextlib.suppress(OSError, termios.error):
        if os.tcgetpgrp(0) == os.getpgrp():
            termios.tcflush(0, termios.TCIFLUSH)


_CALM = (
    b"\x18\x1b\\"  # an unfinished sequence or string ends
    b"\x1b[!p\x1b[0m\x0f\x1b(B"  # margins, characters and colours as they are at first
    b"\x1b]104\x07\x1b]110\x07\x1b]111\x07"
    b"\x1b[?1047l\x1b[?25h"  # the usual screen, a cursor; no reports of mouse, focus or pastes
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?2004l"
)


def calm() -> None:
    """Have the person's terminal show what is written next, whatever the job wrote to it last.

    The beginning of a title, never ended, would swallow the verdict; a made-up one would be all that is seen.
    """
    if os.environ.get("TERM", "dumb") != "dumb":
        screen = next((fd for fd in (2, 1) if os.isatty(fd)), None)
        if screen is not None:
            with contextlib.suppress(OSError):
                os.write(screen, _CALM)


def size_of(fds: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the first of ``fds`` that is a terminal."""
    for fd in fds:
        with contextlib.suppress(OSError):
            rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
            if rows and columns:
                return rows, columns
    return 24, 80


class Screen:
    """Passes bytes between the person's terminal and ``master``, the other end of the job's.

    ``stdio`` are this process's own descriptors of input, output and errors. Input is read only where it is a terminal;
    while it is, it is in raw mode, so that Ctrl-C and its like reach the job. Owns ``master``.
    """

    def __init__(self, master: int, stdio: tuple[int, int, int] = (0, 1, 2)) -> None:
        self._master = master
        self._stdio = stdio
        self._input = stdio[0] if os.isatty(stdio[0]) else None
        self._output = next((fd for fd in stdio[1:] if os.isatty(fd)), stdio[1])
        self._before: list[Any] | None = None
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC)
        self._closing = False
        self._resumed = threading.Event()
        os.set_blocking(master, False)
        self._go_raw()
        self._thread = threading.Thread(target=self._relay, name="terminal", daemon=True)
        self._thread.start()

    def resize(self) -> None:
        """Give the job's terminal the size of the person's."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", *size_of(self._stdio), 0, 0))

    def suspend(self, number: int) -> None:
        """The job was stopped from its terminal: stop this program likewise, and go on when the person's shell says so.

        The whole process group stops, as it would have without a terminal in between.
        """
        time.sleep(_ANSWERS_S)  # to what the job asked the terminal before it stopped: they are the job's
        self._restore()
        self._resumed.clear()
        os.kill(0, signal.SIGSTOP if number not in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU) else signal.SIGTSTP)
        # the stop may come a moment after the call; where nobody could bring the group back, it does not come at all
        self._resumed.wait(_STOP_S)
        self._go_raw()
        self.resize()

    def resume(self) -> None:
        """To be called on SIGCONT."""
        self._resumed.set()

    def close(self) -> None:
        """Pass on what the job has written to the last, and put the terminal back. A second time does nothing."""
        if self._closing:
            return
        self._closing = True
        os.write(self._wake, b".")
        self._thread.join()
        if self._before is not None:
            time.sleep(_ANSWERS_S)
        self._restore()
        for fd in (self._woken, self._wake, self._master):
            if fd >= 0:
                os.close(fd)

    def _go_raw(self) -> None:
        if self._input is not None:
            self._before = termios.tcgetattr(self._input)
            tty.setraw(self._input, termios.TCSADRAIN)

    def _restore(self) -> None:
        if self._input is not None and self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._input, termios.TCSAFLUSH, self._before)
            self._before = None

    def _hang_up(self) -> None:
        """The kernel tells the job, as it would have without a terminal in between: SIGHUP, and SIGCONT if stopped."""
        master, self._master = self._master, -1
        os.close(master)

    def _relay(self) -> None:
        poll = select.poll()
        pending = b""
        listening = self._input
        poll.register(self._woken, select.POLLIN)
        while True:
            poll.register(self._master, select.POLLIN | (select.POLLOUT if pending else 0))
            if listening is not None:
                if len(pending) < _MOST_PENDING:
                    poll.register(listening, select.POLLIN)
                else:
                    with contextlib.suppress(KeyError):
                        poll.unregister(listening)
            ready = dict(poll.poll(_DRAIN_S * 1000 if self._closing else None))
            if self._woken in ready:
                poll.unregister(self._woken)
            if ready.get(self._master, 0) & (select.POLLIN | select.POLLHUP | select.POLLERR) and not self._pass_on():
                self._hang_up()
                return
            if pending and ready.get(self._master, 0) & select.POLLOUT:
                with contextlib.suppress(OSError):
                    pending = pending[os.write(self._master, pending) :]
            if listening is not None and listening in ready:
                keys = b""
                with contextlib.suppress(OSError):
                    keys = os.read(listening, _CHUNK)
                pending += keys
                if not keys and ready[listening] & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                    self._hang_up()  # the person's terminal is gone: so is the job's
                    return
            if self._closing and not ready:
                return

    def _pass_on(self) -> bool:
        """What the job wrote; false when its terminal is gone, or the person's is."""
        try:
            text = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        left = text
        while left:
            try:
                left = left[os.write(self._output, left) :]
            except BlockingIOError:
                select.select([], [self._output], [])
            except OSError:
                return False
        return bool(text)
