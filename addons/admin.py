"""The admin socket of a running gateway: a Unix socket, mode 0600, one JSON object per line each way. Opens sockets.

Only the user that runs the gateway (or root) is answered, by the peer credentials of the kernel. Requests are
``{"op": NAME, …arguments}``; answers ``{"ok": true, …}`` or ``{"ok": false, "reason", "error"}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from ..tokens.canonical import JsonObject, parse_json_object
from ..tokens.errors import ClawproxyError

log = logging.getLogger("clawproxy.admin")

_MAX_LINE_BYTES = 64 * 1024
_IDLE_S = 30
_CALL_TIMEOUT_S = 120
_MAX_PATH_BYTES = 100  # sun_path holds 108
_HANDLES = "/proc/self/fd"

type Operation = Callable[[JsonObject], Awaitable[JsonObject]]


class AdminSocket:
    """Serves ``operations`` by name on a Unix socket."""

    def __init__(self, path: Path, operations: Mapping[str, Operation]) -> None:
        self.path = path
        self._operations = operations
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; raises ``ClawproxyError`` (GATEWAY_RUNNING) if another gateway answers there already."""
        if self.path.exists():
            if await listens(self.path):
                raise ClawproxyError(
                    "GATEWAY_RUNNING", "another gateway runs with this state directory", where=str(self.path),
                    remedy="stop it first, or use another --state",
                )  # fmt: skip
            self.path.unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            with _short(self.path) as path:
                sock.bind(path)
            self._server = await asyncio.start_unix_server(
                self._serve, sock=sock, limit=_MAX_LINE_BYTES, cleanup_socket=False
            )
        except BaseException:
            sock.close()
            raise
        finally:
            os.umask(before)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _peer_uid(writer.get_extra_info("socket")) not in (os.geteuid(), 0):
                return
            while line := await asyncio.wait_for(reader.readline(), _IDLE_S):
                writer.write(orjson.dumps(await self._answer(line)) + b"\n")
                await writer.drain()
        except (TimeoutError, OSError, ValueError):
            log.info("an admin connection ended early")
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> JsonObject:
        try:
            request = parse_json_object(line, max_bytes=_MAX_LINE_BYTES)
            operation = self._operations.get(str(request.get("op")))
            if operation is None:
                raise ClawproxyError(
                    "UNKNOWN_OPERATION",
                    "no such operation",
                    got=request.get("op"),
                    expected=", ".join(self._operations),
                )
            return {"ok": True, **await operation(request)}
        except ClawproxyError as err:
            return {"ok": False, "reason": err.reason, "error": err.one_line()}
        except Exception as err:  # the gateway goes on; the person at the other end gets a line
            log.exception("an admin operation failed")
            return {"ok": False, "reason": "GATEWAY_FAULT", "error": f"the operation failed: {type(err).__name__}"}


async def call_admin(path: Path, op: str, *, timeout_s: float = _CALL_TIMEOUT_S, **arguments: Any) -> JsonObject:
    """Ask the gateway behind ``path``; raises ``ClawproxyError`` (GATEWAY_NOT_RUNNING, or the gateway's own reason)."""
    try:
        async with asyncio.timeout(timeout_s):
            with _short(path) as near:
                reader, writer = await asyncio.open_unix_connection(near, limit=_MAX_LINE_BYTES * 16)
            writer.write(orjson.dumps({"op": op, **arguments}) + b"\n")
            await writer.drain()
            line = await reader.readline()
            writer.close()
    except (OSError, TimeoutError, ValueError):
        line = b""
    if not line:
        raise ClawproxyError(
            "GATEWAY_NOT_RUNNING", "no gateway answers", where=str(path), remedy="start one with: clawproxy serve"
        )
    answer: JsonObject = orjson.loads(line)
    if not answer.pop("ok"):
        reason = str(answer.get("reason"))
        raise ClawproxyError(reason, str(answer.get("error")).removesuffix(f" [{reason}]"))
    return answer


async def listens(path: Path) -> bool:
    """Whether a process listens there, however slow it is."""
    try:
        with _short(path) as near:
            _, writer = await asyncio.open_unix_connection(near)
    except OSError:
        return False
    writer.close()
    return True


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """``path`` as it fits into the address of a socket: by way of its directory's handle, where it is too long."""
    if len(os.fsencode(path.absolute())) <= _MAX_PATH_BYTES:
        yield str(path)
        return
    if not os.path.isdir(_HANDLES):
        raise ClawproxyError(
            "CONFIG_INVALID", "the path of the admin socket is too long", where=str(path),
            remedy="use a shorter state directory",
        )  # fmt: skip
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"{_HANDLES}/{handle}/{path.name}"
    finally:
        os.close(handle)


def _peer_uid(sock: socket.socket) -> int:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
