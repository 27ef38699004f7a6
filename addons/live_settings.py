"""What the configuration amounts to: the part of a gateway that a reload may replace, read in one go.

``read_live`` is what a gateway is built from and what a reload builds anew; it reads keys, secrets and the catalogue,
so it blocks. ``refuse_fixed`` says which keys cannot change while the gateway runs, and ``changes`` what a reload
changes, and whether that allows more than before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..policies.routes import Catalogue
from ..policies.source import DirectorySource
from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role
from .approvers import Approvers, load_approvers
from .dial import Destination
from .egress_credentials import egress_credentials, private_destinations
from .egress_request import EgressCredential
from .provider_settings import configured_catalogue, private_providers, provider_credentials
from .settings import Settings, signer_dids
from .sigv4 import Signer

_LIVE = frozenset(
    {
        "contracts.sources",
        "egress",
        "egress_private",
        "gateway.max_calls_per_minute_per_job",
        "gateway.max_connections_per_job",
        "gateway.max_headers",
        "gateway.max_open_calls_per_job",
        "providers",
        "trust.approvers",
        "trust.contract_signers",
        "trust.token_issuers",
    }
)
"""Every other key holds until the gateway is started again."""


@dataclass(frozen=True, slots=True)
class Live:
    """One configuration, read. ``repr`` shows no secret."""

    settings: Settings
    catalogue: Catalogue
    issuers: frozenset[str]
    reviewers: frozenset[str]
    approvers: Approvers
    source: DirectorySource
    credentials: Mapping[str, str] = field(repr=False)
    signers: Mapping[str, Signer] = field(repr=False)
    egress: Mapping[str, EgressCredential] = field(repr=False)
    private: frozenset[Destination]


@dataclass(frozen=True, slots=True)
class Change:
    """One key that a reload changes. ``widens``: more is allowed than before, or it goes elsewhere."""

    key: str
    what: str
    widens: bool = False

    def to_json(self) -> JsonObject:
        return {"key": self.key, "what": self.what, "widens": self.widens}


def read_live(settings: Settings, own_did: str) -> Live:
    """Read what ``settings`` refer to; ``own_did`` is the gateway's own key. Blocks; raises ``ClawproxyError``
    (CONFIG_INVALID, SECRET_UNREADABLE, KEY_IN_TWO_ROLES, …)."""
    state = settings.state_dir
    catalogue = configured_catalogue(settings)
    credentials, signers = provider_credentials(settings, catalogue)
    issuers = signer_dids(settings.trust.token_issuers, Role.TOKEN, state)
    reviewers = signer_dids(settings.trust.contract_signers, Role.POLICY, state)
    others = {"an issuer's": issuers, "a reviewer's": reviewers, "the gateway's own": {own_did}}
    return Live(
        settings=settings,
        catalogue=catalogue,
        issuers=issuers,
        reviewers=reviewers,
        approvers=load_approvers(settings, others),
        source=DirectorySource([state / entry for entry in settings.contracts.sources]),
        credentials=credentials,
        signers=signers,
        egress=egress_credentials(settings.egress),
        private=private_destinations(settings.egress_private) | private_providers(settings, catalogue),
    )


def refuse_fixed(before: Settings, after: Settings) -> None:
    """Raise ``ClawproxyError`` (RELOAD_REFUSED) for the first changed key that a running gateway cannot take over."""
    old, new = _flat(before), _flat(after)
    for key in sorted(old.keys() | new.keys()):
        if key not in _LIVE and old.get(key) != new.get(key):
            raise ClawproxyError(
                "RELOAD_REFUSED",
                "this key cannot change while the gateway runs, so nothing was changed",
                where=key,
                remedy="put it back, or restart the gateway",
            )


def _flat(settings: Settings) -> dict[str, Any]:
    """By ``section.key``; what is keyed by names as a whole."""
    flat: dict[str, Any] = {}
    for name, value in settings.model_dump().items():
        if isinstance(value, dict) and name not in _LIVE:
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def changes(before: Live, after: Live) -> list[Change]:
    """What changes between the two, key by key; no secret is told, only that one is another."""
    old, new = before.settings, after.settings
    found = [
        *_sets("trust.token_issuers", before.issuers, after.issuers),
        *_sets("trust.contract_signers", before.reviewers, after.reviewers),
        *_sets("trust.approvers", _in_groups(before.approvers), _in_groups(after.approvers)),
        *_sets("contracts.sources", old.contracts.sources, new.contracts.sources),
        *_sets("egress_private", old.egress_private, new.egress_private),
    ]
    for key in sorted(_LIVE):
        section, _, name = key.partition(".")
        if section == "gateway":
            was, now = getattr(old.gateway, name), getattr(new.gateway, name)
            if was != now:
                found.append(Change(key, f"{was} → {now}", widens=now > was))
    found += _providers(before, after)
    found += _egress(before, after)
    return found


def _in_groups(approvers: Approvers) -> list[str]:
    loose = approvers.everyone.difference(*approvers.groups.values())
    return [*loose, *(f"{did} in {group}" for group, dids in approvers.groups.items() for did in dids)]


def _sets(key: str, was: Iterable[str], now: Iterable[str]) -> Iterator[Change]:
    before, after = set(was), set(now)
    for name in sorted(after - before):
        yield Change(key, f"added {name}", widens=True)
    for name in sorted(before - after):
        yield Change(key, f"removed {name}")


def _providers(before: Live, after: Live) -> Iterator[Change]:
    old, new = before.settings.providers, after.settings.providers
    for name in sorted(old.keys() | new.keys()):
        key = f"providers.{name}"
        was, now = before.credentials.get(name), after.credentials.get(name)
        if (was is None) != (now is None):
            yield Change(f"{key}.credential", "added" if was is None else "removed", widens=was is None)
        elif was != now or _signs_otherwise(before.signers.get(name), after.signers.get(name)):
            yield Change(f"{key}.credential", "another one")
        there, here = before.catalogue.providers.get(name), after.catalogue.providers.get(name)
        goes = [None if p is None else (p.scheme, p.host, p.port) for p in (there, here)]
        if goes[0] != goes[1]:
            yield Change(f"{key}.upstream", _at(goes[0]) + " → " + _at(goes[1]), widens=goes[1] is not None)
        sections = old.get(name), new.get(name)
        hosts = [set(s.hosts or ()) if s is not None else set() for s in sections]
        yield from _sets(f"{key}.hosts", *hosts)
        private = [s is not None and s.allow_private for s in sections]
        if private[0] != private[1]:
            yield Change(f"{key}.allow_private", str(private[1]).lower(), widens=private[1])
        regions = [None if s is None else s.region for s in sections]
        if regions[0] != regions[1]:
            yield Change(f"{key}.region", f"{regions[0]} → {regions[1]}")


def _signs_otherwise(was: Signer | None, now: Signer | None) -> bool:
    return (was is None) != (now is None) or (was is not None and now is not None and not was.is_same(now))


def _at(place: tuple[str, str, int] | None) -> str:
    return "nowhere" if place is None else f"{place[0]}://{place[1]}:{place[2]}"


def _egress(before: Live, after: Live) -> Iterator[Change]:
    old, new = before.egress, after.egress
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if was is None or now is None:
            yield Change(f"egress.{name}", "added" if was is None else "removed", widens=was is None)
            continue
        yield from _sets(f"egress.{name}.hosts", was.hosts, now.hosts)
        if was.secret != now.secret:
            yield Change(f"egress.{name}.credential", "another one")
        if (was.header, was.scheme) != (now.header, now.scheme):
            yield Change(f"egress.{name}.header", "sent in another way")
