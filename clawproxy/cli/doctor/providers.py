"""Providers, credentials for tools, prices: what ``clawproxy serve`` would end with. Reads files and secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...tokens.errors import ClawproxyError
from .symptom import Symptom, failed

if TYPE_CHECKING:
    from ...addons.settings import Settings


def check_providers(settings: Settings, set_one: str) -> Iterator[Symptom]:
    from ...addons.provider_settings import configured_catalogue, provider_credential
    from ...addons.settings import NO_CREDENTIAL, check_ca_file

    if settings.upstream_ca:
        try:
            check_ca_file(Path(settings.upstream_ca))
        except ClawproxyError as err:
            yield failed("upstream_ca", err, "correct the path, or take the key out")
    if not any(section.credential for section in settings.providers.values()):
        yield Symptom("warn", "providers", "no credential is set", set_one)
    try:
        catalogue = configured_catalogue(settings)
    except ClawproxyError as err:
        yield failed("providers", err)
        return
    for name, section in settings.providers.items():
        if not section.credential:
            continue
        try:
            provider_credential(settings, catalogue, name)
        except ClawproxyError as err:
            yield failed(f"provider {name}", err)
        else:
            none = section.credential == NO_CREDENTIAL
            yield Symptom("ok", f"provider {name}", "called without a credential" if none else "credential present")


def check_egress(settings: Settings) -> Iterator[Symptom]:
    from ...addons.egress_credentials import egress_credential, private_destinations
    from ...addons.price_settings import configured_prices

    try:
        prices = configured_prices(settings)
    except ClawproxyError as err:
        yield failed("prices", err)
    else:
        if settings.prices.file or settings.prices.rows:
            yield Symptom("ok", "prices", f"as of {prices.as_of}, and {len(settings.prices.rows)} rows of your own")
    for name, section in settings.egress.items():
        try:
            egress_credential(name, section)
        except ClawproxyError as err:
            yield failed(f"egress {name}", err)
        else:
            yield Symptom("ok", f"egress {name}", f"credential present, for {', '.join(section.hosts)}")
    try:
        private_destinations(settings.egress_private)
    except ClawproxyError as err:
        yield failed("egress_private", err)
