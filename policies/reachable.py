"""The names that a contract lets calls go to. Pure."""

from __future__ import annotations

from .addresses import is_literal
from .policy import Policy
from .routes import Catalogue


def reachable_names(policy: Policy, catalogue: Catalogue) -> frozenset[str]:
    """Those of the providers that it allows, and the hosts of its ``egress_allowlist``, ``*.name`` as it stands there.

    Addresses are none.
    """
    providers = (
        provider
        for provider in catalogue.providers.values()
        if policy.providers is None or provider.name in policy.providers
    )
    hosts = {host for provider in providers for host, _ in provider.hosts} | {entry.host for entry in policy.egress}
    return frozenset(host for host in hosts if not is_literal(host))
