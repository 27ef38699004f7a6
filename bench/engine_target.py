"""The engine alone: master, guard, seam and tuning, with an addon that hashes the answer and releases its end at once.

``python -m bench.engine_target UPSTREAM_PORT`` prints a ready line with its port; shows what the gateway adds to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
from pathlib import Path

from clawproxy.addons.dial import permit
from clawproxy.addons.http_stream import Hold, Watch
from clawproxy.addons.master import EngineOptions, GatewayMaster
from mitmproxy import http
from mitmproxy.proxy.server_hooks import ServerConnectionHookData


class _HashTap:
    def __init__(self, flow: http.HTTPFlow) -> None:
        self._flow = flow
        self._hash = hashlib.sha256()

    def feed(self, data: bytes) -> bytes | Hold:
        self._hash.update(data)
        at = data.find(b"data: [DONE]")
        return data if at < 0 else Hold(self._flow, "end", data[:at], data[at:])

    def close(self) -> tuple[bytes, bytes]:
        return b"", b""


class _Minimal:
    def __init__(self, upstream_port: int) -> None:
        self._port = upstream_port

    def request(self, flow: http.HTTPFlow) -> None:
        flow.request.scheme, flow.request.host, flow.request.port = "http", "127.0.0.1", self._port

    def server_connect(self, data: ServerConnectionHookData) -> None:
        permit(("127.0.0.1", self._port), ("127.0.0.1",))

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        assert flow.response is not None
        if flow.response.headers.get("content-type") == "text/event-stream":
            flow.response.stream = _HashTap(flow)  # type: ignore[assignment]

    async def seam_watch(self, watch: Watch) -> None:
        await watch.over.wait()

    def seam_hold(self, hold: Hold) -> None:
        hold.verdict = hold.held


async def _serve(upstream_port: int) -> None:
    with tempfile.TemporaryDirectory() as confdir:
        mode = "reverse:http://127.0.0.1:9@127.0.0.1:0"
        options = EngineOptions(modes=(mode,), confdir=Path(confdir), max_body_bytes=1 << 24)
        master = GatewayMaster.build(options, [_Minimal(upstream_port)])
        await master.start()
        print(json.dumps({"port": master.addresses()[0][1], "path": "/v1/chat/completions", "headers": {}}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
