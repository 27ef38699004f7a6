"""How an answer is framed towards the client, so that its end is explicit and a cut cannot pass for one. Pure."""

from __future__ import annotations

from mitmproxy import http
from mitmproxy.net.http.http1 import expected_http_body_size


def is_eof_framed(request: http.Request, response: http.Response) -> bool:
    """Whether only the end of the connection shows where this answer ends (RFC 9112 6.3)."""
    if response.is_http2 or response.is_http3:
        return False
    try:
        return expected_http_body_size(request, response) == -1
    except ValueError:
        return False


def frame_tapped(request: http.Request, response: http.Response) -> None:
    """Frame an answer whose length may change and which may be cut: chunks in HTTP/1.1, nothing in HTTP/2."""
    for name in ("content-length", "transfer-encoding", "trailer"):
        response.headers.pop(name, None)
    if request.http_version == "HTTP/1.1":
        response.http_version = "HTTP/1.1"
        response.headers["transfer-encoding"] = "chunked"


def frame_whole(request: http.Request, response: http.Response) -> None:
    """Frame an answer that is sent whole: as long as it says, and no body where HTTP allows none."""
    response.trailers = None
    response.headers.pop("trailer", None)
    if request.method.upper() == "HEAD" or response.status_code in (204, 304):
        response.data.content = b""
    else:
        response.headers.pop("transfer-encoding", None)
        response.headers["content-length"] = str(len(response.raw_content or b""))
