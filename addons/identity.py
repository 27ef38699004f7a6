"""Which token a call carries: collected from every place a client can put it, and two of them never pass (step 2).

A token is a CST or a job handle. Handles are random names that the gateway gave out for a job (``Leases``): the agent
holds no CST, a renewed token goes underneath, and a leaked handle means nothing elsewhere. Pure, but for ``Leases``,
which draws randomness.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..tokens.reasons import Refusal

HANDLE_PREFIX = "cph_"
# Where a token says of itself that it is one; anything else found here is a wrong token, not a provider's key.
EXPLICIT_HEADERS = ("x-cst", "x-scoped-token")
# Where a token can stand in place of the provider's key; a provider's own key found here is dropped.
KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key", "api-key")
# Words in front of a token there; fal's clients say Key.
_SCHEMES = ("bearer", "key")
MAX_TOKEN_CHARS = 8192
_AWS_SIGNATURE = re.compile(
    rf"AWS4-HMAC-SHA256 Credential=([A-Za-z0-9_.-]{{1,{MAX_TOKEN_CHARS}}})/[0-9]{{8}}/", re.ASCII
)
_MAX_PROXY_HEADER_CHARS = 2 * MAX_TOKEN_CHARS
_NO_TOKEN = (
    f"no token in {', '.join((*EXPLICIT_HEADERS, *KEY_HEADERS))}, as access key of an AWS signature, or as password in"
    " proxy-authorization"
)

type Header = tuple[bytes, bytes]


def collect_token(fields: Iterable[Header], connection_credential: str | None) -> str | Refusal:
    """The one token of a call: from its header fields, or else the one remembered for its client connection.

    Returns TOKEN_REQUIRED when there is none, TOKEN_AMBIGUOUS when two places differ or one place occurs twice.
    """
    found: dict[str, str] = {}
    places: set[str] = set()
    for raw_name, raw_value in fields:
        name = raw_name.decode("latin-1").lower()
        if name == "proxy-authorization":
            token = proxy_password(raw_value.decode("latin-1"))
        elif name in EXPLICIT_HEADERS:
            token = _without_scheme(raw_value.decode("latin-1"))
        elif name in KEY_HEADERS:
            token = _without_scheme(_access_key(raw_value.decode("latin-1")))
            token = token if token and looks_like_token(token) else None
        else:
            continue
        if name in places:
            return Refusal("TOKEN_AMBIGUOUS", f"header {name}", f"the header {name} occurs twice")
        places.add(name)
        if token:
            found[name] = token
    if connection_credential is not None:
        found["the tunnel"] = connection_credential
    distinct = set(found.values())
    if not distinct:
        return Refusal("TOKEN_REQUIRED", "one CST per call", _NO_TOKEN)
    if len(distinct) > 1:
        return Refusal("TOKEN_AMBIGUOUS", "one CST per call", f"different tokens in {' and '.join(sorted(found))}")
    return distinct.pop()


def _access_key(value: str) -> str:
    """The access key of an AWS signature, where a client can put a CST or a job handle; else ``value``.

    The signature itself is not checked: the token is the secret, as it is in place of any other API key.
    """
    found = _AWS_SIGNATURE.match(value)
    return found[1] if found else value


def looks_like_token(value: str) -> bool:
    """Whether a value in place of an API key is ours: a handle, or a compact JWS with a JSON header."""
    return value.startswith(HANDLE_PREFIX) or (value.startswith("eyJ") and value.count(".") == 2)


def proxy_password(header: str) -> str | None:
    """The password of a ``Proxy-Authorization`` header (Basic, or Bearer); None if it holds none."""
    scheme, _, rest = header.strip().partition(" ")
    if len(header) > _MAX_PROXY_HEADER_CHARS:
        return None
    if scheme.lower() == "bearer":
        return rest.strip() or None
    if scheme.lower() != "basic":
        return None
    try:
        user_password = base64.b64decode(rest.strip(), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return user_password.partition(":")[2] or None


def _without_scheme(value: str) -> str | None:
    scheme, _, rest = value.strip().partition(" ")
    return (rest.strip() if scheme.lower() in _SCHEMES else value.strip()) or None


@dataclass(slots=True)
class Lease:
    """A job that the gateway keeps supplied with tokens. ``repr`` shows neither handle nor token."""

    job_id: str
    handle: str = field(repr=False)
    policy_hash_b64u: str
    renew: Callable[[], tuple[str, int]] = field(repr=False)
    """Mints a token under the same contract; returns it and its expiry in Unix seconds."""
    margin_s: int = 120
    isolated: bool = False
    """Whether the job has a network namespace of its own, and with it a door."""
    _token: str = field(default="", repr=False)
    _exp_s: int = 0

    def token(self, now_s: int) -> str:
        """The job's current CST, renewed when fewer than ``margin_s`` seconds are left."""
        if self._exp_s - now_s < self.margin_s:
            self._token, self._exp_s = self.renew()
        return self._token


class Leases:
    """Handles given out by this gateway, kept by their hash, in memory: they end with the gateway."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, Lease] = {}

    def grant(
        self,
        job_id: str,
        policy_hash_b64u: str,
        renew: Callable[[], tuple[str, int]],
        *,
        margin_s: int = 120,
        isolated: bool = False,
    ) -> Lease:
        """A new random handle for a job; handles of the job from before stay valid."""
        handle = HANDLE_PREFIX + secrets.token_urlsafe(32)
        lease = Lease(job_id, handle, policy_hash_b64u, renew, margin_s, isolated)
        self._by_digest[_digest(handle)] = lease
        return lease

    def of(self, handle: str) -> Lease | None:
        """The lease that has this handle."""
        return self._by_digest.get(_digest(handle))

    def end(self, job_id: str) -> None:
        """Forget every handle of a job."""
        self._by_digest = {d: lease for d, lease in self._by_digest.items() if lease.job_id != job_id}

    def resolve(self, token: str, now_s: int) -> str | Refusal:
        """The CST behind a handle, or ``token`` itself when it is none."""
        if not token.startswith(HANDLE_PREFIX):
            return token
        lease = self._by_digest.get(_digest(token))
        if lease is None:
            return Refusal("HANDLE_UNKNOWN", "job handle", "no job of this gateway has this handle")
        return lease.token(now_s)


def _digest(handle: str) -> bytes:
    return hashlib.sha256(handle.encode("utf-8", "surrogatepass")).digest()
