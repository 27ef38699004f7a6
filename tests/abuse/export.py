"""An execution as one line of JSON, for other gateways: see README.md. Pure."""

from __future__ import annotations

import base64
import json

from .bodies import BASES, SOCKETS
from .frames import frame_bytes
from .request import request_bytes, values_of
from .runner import Execution
from .texts import expand


def exported(execution: Execution) -> str:
    """The line; empty for what only makes sense with tokens and contracts of clawproxy."""
    case, base = execution.case, BASES[execution.format]
    if "token" in case.send or "contract" in case.send:
        return ""
    values = values_of(base, execution.transport, b"@@TOKEN@@", b"@@TOKEN@@", b"@@OTHER_TOKEN@@")
    connect = case.send.get("connect", {})
    tunnel = {
        "authority": expand(connect.get("authority", f"{base.host}:{base.port}"), values).decode("latin-1"),
        "sni": connect.get("sni", base.host),
        "tls": not connect.get("plain", False),
    }
    frames = case.send.get("frames", [{"body": case.send["body"]}] if "body" in case.send else [])
    messages = b"".join(frame_bytes(frame, base.on(execution.transport), values) for frame in frames)
    line = {
        "name": execution.name,
        "class": case.cls,
        "title": case.title,
        "source": case.source,
        "transport": execution.transport,
        **({"tunnel": tunnel} if execution.transport.endswith("connect") else {}),
        **({"frames_b64": base64.b64encode(messages).decode()} if execution.transport in SOCKETS and frames else {}),
        "after_clean": bool(case.send.get("after_clean")),
        "bytes_b64": base64.b64encode(request_bytes(case.send, base, execution.transport, values)).decode(),
        "reasons": case.expected(execution.transport).reasons,
    }
    return json.dumps(line) + "\n"
