"""Messages between the processes of a cage: one JSON object each, with descriptors beside it. Over Unix sockets."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

_INLINE_BYTES = 32 * 1024
_MAX_BYTES = 8 * 1024 * 1024
_MAX_FDS = 16

type Message = dict[str, Any]


def pair() -> tuple[Wire, Wire]:
    """Two ends that keep the borders of messages; neither is inherited."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Wire(one), Wire(two)


class Wire:
    """One end. An environment may be larger than a datagram: then the text lies in a memory file that goes along."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Raises ``OSError`` where the other end is gone."""
        text = json.dumps(message).encode()
        if len(text) <= _INLINE_BYTES:
            socket.send_fds(self.sock, [b"=" + text], fds)
            return
        memory = os.memfd_create("clawproxy-message", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(memory), "wb") as file:
                file.write(text)
            socket.send_fds(self.sock, [b"@"], [memory, *fds])
        finally:
            os.close(memory)

    def receive(self) -> tuple[Message, list[int]]:
        """The next message; raises ``EOFError`` when the other end is gone."""
        try:
            raw, fds, flags, _ = socket.recv_fds(self.sock, _INLINE_BYTES + 1, _MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            raw, fds, flags = b"", [], 0
        if not raw:
            raise EOFError
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            for fd in fds:
                os.close(fd)
            raise EOFError
        if raw[:1] == b"=":
            return json.loads(raw[1:]), fds
        with os.fdopen(fds[0], "rb") as file:
            file.seek(0)
            return json.loads(file.read(_MAX_BYTES)), fds[1:]
