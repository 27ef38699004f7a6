"""AWS Signature Version 4 for the requests that leave, by botocore's signer (extra ``bedrock``). Reads the clock.

A credential ``ACCESS:SECRET`` or ``ACCESS:SECRET:SESSION`` signs; one without a colon is a bearer key. Signed are
method, path, query, body, host, content type and every ``x-amz`` field: what was judged, as it leaves. It is arithmetic
in memory, a fraction of a millisecond for a small body; nothing is read or fetched for it.

Limits: header signatures only. The region is the one of the host's name, or of the configuration.
"""

from __future__ import annotations

import hmac
import re
from typing import Any

from ..tokens.errors import ClawproxyError

_CREDENTIAL = re.compile(r"(?P<access>[A-Za-z0-9_]{16,128}):(?P<secret>[!-9;-~]{16,256})(?::(?P<session>[!-~]+))?")
_HOST = re.compile(r"(?:[a-z0-9-]+\.)*bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?")
_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}")
_SIGNED = re.compile(r"host|content-type|x-amz.*")


class Signer:
    """Signs with one credential for one region; ``repr`` shows neither key."""

    def __init__(self, access: str, secret: str, session: str | None, region: str) -> None:
        try:
            from botocore.auth import SigV4Auth
            from botocore.awsrequest import AWSRequest
            from botocore.credentials import Credentials
        except ImportError:
            raise ClawproxyError(
                "CONFIG_INVALID",
                "an AWS access key needs botocore to sign",
                where="providers.bedrock.credential",
                remedy="install clawproxy[bedrock], or give a bearer key",
            ) from None
        self.region = region
        self.session = session
        self._request: Any = AWSRequest
        self._auth: Any = SigV4Auth(Credentials(access, secret, session), "bedrock", region)

    def is_same(self, other: Signer) -> bool:
        """Whether ``other`` signs with the same keys for the same region."""
        mine, theirs = self._auth.credentials, other._auth.credentials
        return self.region == other.region and all(
            hmac.compare_digest(str(getattr(mine, name)), str(getattr(theirs, name)))
            for name in ("access_key", "secret_key", "token")
        )

    def sign(self, method: str, url: str, headers: dict[str, str], body_sha256_hex: str) -> dict[str, str]:
        """The fields to send beside ``headers``, whose names are in lower case; ``url`` as it leaves.

        The hash is that of the judged body, so that another body would be refused by AWS.
        """
        signed = {name: value for name, value in headers.items() if _SIGNED.fullmatch(name)}
        request = self._request(method=method, url=url, headers={**signed, "x-amz-content-sha256": body_sha256_hex})
        self._auth.add_auth(request)
        return {name.lower(): str(value) for name, value in request.headers.items() if name.lower() not in signed}


def signer_for(credential: str, host: str, region: str | None) -> Signer | None:
    """A signer, if ``credential`` is an access key; raises ``ClawproxyError`` (CONFIG_INVALID) without a region."""
    found = _CREDENTIAL.fullmatch(credential)
    if found is None and ":" in credential:
        raise ClawproxyError(
            "CONFIG_INVALID",
            "neither a bearer key nor a pair of keys",
            where="providers.bedrock.credential",
            expected="KEY, ACCESS:SECRET or ACCESS:SECRET:SESSION",
        )
    if found is None:
        return None
    named = _HOST.fullmatch(host)
    region = region or (named[1] if named else None)
    if region is None or not _REGION.fullmatch(region):
        raise ClawproxyError(
            "CONFIG_INVALID",
            "the region to sign for is not known",
            where="providers.bedrock.region",
            got=region or "a host of another name",
            expected="a region such as us-east-1",
        )
    return Signer(found["access"], found["secret"], found["session"], region)
