"""The admin socket of a running gateway: a Unix socket, mode 0600, one JSON object per line each way. Opens sockets.

Only the user that runs the gateway (or root) is answered, by the peer credentials of the kernel. Requests are
``{"op": NAME, …arguments}``; answers ``{"ok": true, …}`` or ``{"ok": false, "reason", "error"}``.

An operation that takes open files is answered ``{"ok": true, "send_files": true}`` first; then they follow in one
message (SCM_RIGHTS), and the answer to the operation comes. What it opened stays open as long as the connection does.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

from ..tokens.canonical import JsonObject, parse_json_object
from ..tokens.errors import ClawproxyError

log = logging.getLogger("clawproxy.admin")

_MAX_LINE_BYTES = 64 * 1024
_IDLE_S = 30
_CALL_TIMEOUT_S = 120
_MAX_FILES = 12
_FILES_WITHIN_S = 10
_MAX_PATH_BYTES = 100  # sun_path holds 108
_HANDLES = "/proc/self/fd"

type Operation = Callable[[JsonObject], Awaitable[JsonObject]]


class Held(Protocol):
    """What stays open for as long as the connection that it was opened by."""

    async def close(self) -> None: ...

    async def wait_closed(self) -> None: ...


type FileOperation = Callable[[JsonObject, list[int]], Awaitable[tuple[JsonObject, Held]]]
"""Takes a request and the descriptors that came with it, which are its own from then on, also where it raises."""


class AdminSocket:
    """Serves ``operations`` by name on a Unix socket."""

    def __init__(
        self, path: Path, operations: Mapping[str, Operation], with_files: Mapping[str, FileOperation] | None = None
    ) -> None:
        self.path = path
        self._operations = operations
        self._with_files = with_files or {}
        self._server: asyncio.Server | None = None

    async def check_free(self) -> None:
        """Raises ``ClawproxyError`` (GATEWAY_RUNNING) if another gateway answers there already."""
        if self.path.exists() and await listens(self.path):
            raise ClawproxyError(
                "GATEWAY_RUNNING", "another gateway runs with this state directory", where=str(self.path),
                remedy="stop it first, or use another --state",
            )  # fmt: skip

    async def start(self) -> None:
        """Listen; raises ``ClawproxyError`` as ``check_free``."""
        await self.check_free()
        self.path.unlink(missing_ok=True)
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
                if self._takes_files(line):
                    await self._serve_with_files(line, reader, writer)
                    return
                writer.write(orjson.dumps(await self._answer(line)) + b"\n")
                await writer.drain()
        except (TimeoutError, OSError, ValueError):
            log.info("an admin connection ended early")
        finally:
            writer.close()

    def _takes_files(self, line: bytes) -> bool:
        try:
            return parse_json_object(line, max_bytes=_MAX_LINE_BYTES).get("op") in self._with_files
        except ClawproxyError:
            return False

    async def _serve_with_files(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One operation with files, and then nothing more on this connection but its end."""
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()  # what asyncio reads comes without the files
        writer.write(orjson.dumps({"ok": True, "send_files": True}) + b"\n")
        await writer.drain()
        with writer.get_extra_info("socket").dup() as sock:
            files = await receive_files(sock)
        held: Held | None = None

        async def run(request: JsonObject) -> JsonObject:
            nonlocal held
            answer, held = await self._with_files[str(request["op"])](request, files)
            return answer

        try:
            writer.write(orjson.dumps(await self._answer(line, run)) + b"\n")
            await writer.drain()
            transport.resume_reading()
            if held is not None:
                await _first_of(held.wait_closed(), reader.read(1))
        finally:
            if held is not None:
                await held.close()

    async def _answer(self, line: bytes, run: Operation | None = None) -> JsonObject:
        try:
            request = parse_json_object(line, max_bytes=_MAX_LINE_BYTES)
            operation = run or self._operations.get(str(request.get("op")))
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
            reader, writer = await _connect(path)
            line = await _ask(reader, writer, op, arguments)
            writer.close()
    except (OSError, TimeoutError, ValueError):
        line = b""
    return _read_answer(line, path)


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    with _short(path) as near:
        return await asyncio.open_unix_connection(near, limit=_MAX_LINE_BYTES * 16)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, op: str, arguments: JsonObject) -> bytes:
    writer.write(orjson.dumps({"op": op, **arguments}) + b"\n")
    await writer.drain()
    return await reader.readline()


def _not_running(path: Path) -> ClawproxyError:
    return ClawproxyError(
        "GATEWAY_NOT_RUNNING", "no gateway answers", where=str(path), remedy="start one with: clawproxy serve"
    )


def _read_answer(line: bytes, path: Path) -> JsonObject:
    if not line:
        raise _not_running(path)
    answer: JsonObject = orjson.loads(line)
    if not answer.pop("ok"):
        reason = str(answer.get("reason"))
        raise ClawproxyError(reason, str(answer.get("error")).removesuffix(f" [{reason}]"))
    return answer


async def call_admin_with_files(
    path: Path, op: str, files: Sequence[int], **arguments: Any
) -> tuple[JsonObject, asyncio.StreamWriter, asyncio.StreamReader]:
    """Ask for an operation that takes ``files``, which stay the caller's. What it opens lives as long as the connection
    that is returned. Raises ``ClawproxyError`` as ``call_admin`` does."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_CALL_TIMEOUT_S):
            reader, writer = await _connect(path)
            line = await _ask(reader, writer, op, arguments)
            if line and orjson.loads(line).get("send_files"):
                with writer.get_extra_info("socket").dup() as sock:
                    socket.send_fds(sock, [b"f"], list(files))
                line = await reader.readline()
        answer = _read_answer(line, path)
    except BaseException as err:
        if writer is not None:
            writer.close()
        if isinstance(err, OSError | TimeoutError | ValueError):
            raise _not_running(path) from None
        raise
    return answer, writer, reader


async def receive_files(sock: socket.socket) -> list[int]:
    """The descriptors that the next message on ``sock`` brings, none of them inherited by other programs.

    Raises ``OSError`` where there are none, or more than were made room for; none is left open then.
    """
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    ready = asyncio.Event()
    loop.add_reader(sock.fileno(), ready.set)
    try:
        async with asyncio.timeout(_FILES_WITHIN_S):
            await ready.wait()
    finally:
        loop.remove_reader(sock.fileno())
    _, ancillary, flags, _ = sock.recvmsg(1, socket.CMSG_SPACE(_MAX_FILES * 4), socket.MSG_CMSG_CLOEXEC)
    files = array.array("i")
    for level, kind, packed in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            files.frombytes(packed[: len(packed) - len(packed) % files.itemsize])
    if flags & socket.MSG_CTRUNC or not files:
        for handle in files:
            os.close(handle)
        raise OSError("no files, or too many")
    return list(files)


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
