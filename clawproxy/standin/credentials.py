"""The credentials of the providers: files made where absent, and the judgement of what a request brought.

A request names its credential as the provider's clients do: ``Authorization: Bearer`` (OpenAI, OpenRouter, Azure,
Anthropic, Bedrock), ``x-api-key`` (Anthropic), ``x-goog-api-key`` (Gemini), ``api-key`` (Azure), ``Authorization: Key``
(fal), Signature Version 4 (Bedrock; its bearer is the whole file or the secret alone). Ollama wants none.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .request import Request
from .sigv4 import access_key_of, fault_of

KEYED = ("openai", "anthropic", "google", "openrouter", "fal", "azure", "bedrock")
"""Providers that want a credential, each in ``<provider>.key``."""
_HEADER = {"anthropic": "x-api-key", "google": "x-goog-api-key", "azure": "api-key"}
_SCHEME = {"fal": "key"}
_NO_SCHEME = ("google",)


@dataclass(frozen=True, slots=True)
class Judgement:
    """``verdict`` is ``right``, ``wrong`` or ``none``; ``sent`` is what an answer could echo."""

    verdict: str
    sent: str
    fault: str = ""


def ensure_credential(path: Path, provider: str) -> str:
    """The credential of ``path``, made (0600) where absent."""
    made = f"sk-standin-{secrets.token_hex(16)}"
    if provider == "bedrock":
        made = f"AKIA{secrets.token_hex(8).upper()}:{secrets.token_urlsafe(30)}"
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(made + "\n")
    return path.read_text().strip()


def judge(request: Request, provider: str, credentials: Mapping[str, str], now_s: float) -> Judgement:
    """Whether ``request`` brought the credential of ``provider``."""
    authorization = request.header("authorization")
    if provider == "bedrock" and authorization.startswith("AWS4"):
        fault = fault_of(
            request.method,
            request.path,
            request.headers,
            request.body,
            credential=credentials[provider],
            now_s=now_s,
        )
        return Judgement("wrong" if fault else "right", access_key_of(authorization), fault)
    scheme, _, value = authorization.partition(" ")
    sent = request.header(_HEADER[provider]) if provider in _HEADER else ""
    if not sent and provider not in _NO_SCHEME and scheme.lower() == _SCHEME.get(provider, "bearer"):
        sent = value
    if not sent:
        return Judgement("none", "")
    expected = credentials.get(provider, "")
    accepted = {expected, expected.partition(":")[2]} if provider == "bedrock" else {expected}
    right = any(one and hmac.compare_digest(sent.encode("latin-1"), one.encode()) for one in accepted)
    return Judgement("right" if right else "wrong", sent)


def keys_seen(request: Request, credentials: Mapping[str, str]) -> list[str]:
    """The providers whose credential (of Bedrock the secret) stands anywhere in the request."""
    whole = b"\n".join(
        [request.path.encode("latin-1"), *(v.encode("latin-1") for _, v in request.headers), request.body]
    )
    return [name for name, value in credentials.items() if value.rpartition(":")[2].encode() in whole]
