"""A TCP relay in front of the stand-in: counts every connection and byte of the gateway on its way to the provider,
the TLS handshake included, so that "nothing left" means nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass


@dataclass
class Relay:
    """``connections`` and ``bytes_up`` only grow; ``open`` are those not closed yet."""

    port: int
    connections: int = 0
    bytes_up: int = 0
    open: int = 0
    url: str = ""
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def seen(self) -> tuple[int, int]:
        return self.connections, self.bytes_up

    async def until_open(self, at_most: int) -> None:
        """Until no more than ``at_most`` connections are open, so that their last bytes are counted."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while self.open > at_most:  # noqa: ASYNC110 - a test waits
                    await asyncio.sleep(0.002)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.port)
            back = asyncio.create_task(self._pump(up_reader, writer, up=False))
            await self._pump(reader, up_writer, up=True)
            back.cancel()
        except OSError:
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                self.bytes_up += len(data) * up
                writer.write(data)
                await writer.drain()
        writer.close()
