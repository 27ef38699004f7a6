"""``[providers.NAME]`` of the configuration, read: the catalogue with its changes, and credentials. Reads secrets, at
start-up only; ``clawproxy doctor`` asks for the same."""

from __future__ import annotations

from collections.abc import Mapping

from ..policies.catalogue_file import load_catalogue
from ..policies.packaged import packaged_file
from ..policies.routes import Catalogue
from ..tokens.errors import ClawproxyError
from .dial import Destination
from .settings import NO_CREDENTIAL, Settings, check_encrypted, is_address, read_secret
from .sigv4 import Signer, signer_for


def configured_catalogue(settings: Settings) -> Catalogue:
    """The packaged catalogue, as this gateway changes it. Raises ``ClawproxyError`` (CONFIG_INVALID)."""
    overrides = {name: section.upstream for name, section in settings.providers.items() if section.upstream}
    hosts = {name: tuple(section.hosts) for name, section in settings.providers.items() if section.hosts is not None}
    catalogue = load_catalogue(packaged_file("providers.toml"), overrides, hosts)
    for name in settings.providers:
        if name not in catalogue.names:
            raise ClawproxyError(
                "CONFIG_INVALID", "no such provider", where=f"providers.{name}", expected=", ".join(catalogue.names)
            )
        if name not in catalogue.providers:
            raise ClawproxyError(
                "CONFIG_INVALID",
                f"providers.{name} needs an upstream",
                remedy=f'set providers.{name}.upstream = "https://HOST", or take the section out',
            )
    return catalogue


def provider_credentials(settings: Settings, catalogue: Catalogue) -> tuple[Mapping[str, str], Mapping[str, Signer]]:
    """Credentials and signers by provider; raises ``ClawproxyError`` (CONFIG_INVALID, SECRET_UNREADABLE)."""
    credentials: dict[str, str] = {}
    signers: dict[str, Signer] = {}
    for name in settings.providers:
        credential, signer = provider_credential(settings, catalogue, name)
        if credential is not None:
            credentials[name] = credential
        if signer is not None:
            signers[name] = signer
    return credentials, signers


def provider_credential(settings: Settings, catalogue: Catalogue, name: str) -> tuple[str | None, Signer | None]:
    """What is sent to a provider: None where nothing is configured, empty where it takes none, and never in the clear.

    Of a key pair, which signs, nothing is sent but its session token, if it has one.
    """
    section, provider = settings.providers[name], catalogue.providers[name]
    if section.credential is None or section.credential == NO_CREDENTIAL:
        return (None if section.credential is None else ""), None
    check_encrypted(name, provider.scheme)
    credential = read_secret(section.credential, where=f"providers.{name}.credential")
    signer = signer_for(credential, provider.host, section.region) if provider.signing else None
    return (credential, None) if signer is None else (signer.session or "", signer)


def private_providers(settings: Settings, catalogue: Catalogue) -> frozenset[Destination]:
    """Providers that may have a private address: the configuration says so, or names the address itself."""
    return frozenset(
        (provider.host, provider.port)
        for name, section in settings.providers.items()
        for provider in [catalogue.providers[name]]
        if section.allow_private or (section.upstream is not None and is_address(provider.host))
    )
