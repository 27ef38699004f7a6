"""Whether providers can be reached from here, and whether their clock agrees with ours. Opens connections.

One TLS connection to each provider with a credential, verified as the gateway does; one HEAD without a credential, for
the Date of its answer. Nothing else is sent.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import certifi

from ...tokens.errors import ClawproxyError
from .symptom import Symptom

if TYPE_CHECKING:
    from ...addons.settings import Settings
    from ...policies.routes import Provider

_TIMEOUT_S = 4.0
_MAX_SKEW_S = 60


def check_reach(settings: Settings) -> Iterator[Symptom]:
    """A row for each provider that has a credential, and one for the clock."""
    from ...addons.provider_settings import configured_catalogue

    try:
        catalogue = configured_catalogue(settings)
    except ClawproxyError:  # told by the check of the configuration
        return
    names = [name for name, section in settings.providers.items() if section.credential]
    providers = [catalogue.providers[name] for name in names if name in catalogue.providers]
    if not providers:
        return
    trust = ssl.create_default_context(cafile=settings.upstream_ca or certifi.where())
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(lambda provider: _reach(provider, trust), providers))
    skews = []
    for row, skew_s in found:
        yield row
        skews += [] if skew_s is None else [skew_s]
    if skews:
        yield _clock(min(skews, key=abs))


def _reach(provider: Provider, trust: ssl.SSLContext) -> tuple[Symptom, float | None]:
    what, at = f"reach {provider.name}", f"{provider.host}:{provider.port}"
    if provider.scheme == "https":
        line: http.client.HTTPConnection = http.client.HTTPSConnection(
            provider.host, provider.port, timeout=_TIMEOUT_S, context=trust
        )
    else:
        line = http.client.HTTPConnection(provider.host, provider.port, timeout=_TIMEOUT_S)
    start = time.perf_counter()
    try:
        line.request("HEAD", "/", headers={"User-Agent": "clawproxy-doctor"})
        answer = line.getresponse()
        took_ms = (time.perf_counter() - start) * 1000
        return Symptom("ok", what, f"{at} answers in {took_ms:.0f} ms"), _skew_s(answer.getheader("Date"))
    except ssl.SSLCertVerificationError as err:
        remedy = "if a firewall stands in for it: set upstream_ca to its CA file"
        return Symptom("warn", what, f"{at}: its certificate does not verify: {err.verify_message}", remedy), None
    except (OSError, http.client.HTTPException) as err:
        why = getattr(err, "strerror", None) or type(err).__name__
        remedy = "let this host connect there, or set the provider's upstream"
        return Symptom("warn", what, f"{at}: {str(why).lower()}", remedy), None
    finally:
        line.close()


def _skew_s(date: str | None) -> float | None:
    try:
        return time.time() - parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def _clock(skew_s: float) -> Symptom:
    if abs(skew_s) <= _MAX_SKEW_S:
        return Symptom("ok", "clock", "agrees with the providers'")
    direction = "ahead of" if skew_s > 0 else "behind"
    found = f"{abs(skew_s):.0f} s {direction} the providers'"
    return Symptom("fail", "clock", found, "set the clock (NTP): tokens and receipts depend on it")
