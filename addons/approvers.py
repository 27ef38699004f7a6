"""Who may approve: keys by the group that a contract names. Reads key files (``load_approvers``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role
from ..tokens.trust import TrustedKey
from .settings import Settings, signer_dids


@dataclass(frozen=True, slots=True)
class Approvers:
    """The DIDs of approvers by group, and those of ``everyone``, who are in some group or in none."""

    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    everyone: frozenset[str] = frozenset()

    def of(self, group: str | None) -> frozenset[str]:
        """Who may approve for ``group``; None is any approver. A group that nobody configured has nobody."""
        return self.everyone if group is None else self.groups.get(group, frozenset())

    def trusted_keys(self) -> list[TrustedKey]:
        """As a trust file names them, each with its groups."""
        return [
            TrustedKey(
                did, Role.APPROVAL, groups=tuple(sorted(name for name, dids in self.groups.items() if did in dids))
            )
            for did in sorted(self.everyone)
        ]


def load_approvers(settings: Settings, others: Mapping[str, Iterable[str]]) -> Approvers:
    """``trust.approvers``, or without it the key ``keys/approval.pem`` of the state directory, in no group.

    ``others`` are the keys that have another role here, by what they are. Raises ``ClawproxyError`` (KEY_ROLE,
    INVALID_DID_FORMAT, KEY_IN_TWO_ROLES): who mints tokens, signs contracts or attests calls approves none.
    """
    state: Path = settings.state_dir
    groups = {
        name: signer_dids(entries, Role.APPROVAL, state) if entries else frozenset()
        for name, entries in settings.trust.approvers.items()
    }
    everyone = frozenset().union(*groups.values()) if groups else signer_dids([], Role.APPROVAL, state)
    for what, dids in others.items():
        if both := sorted(everyone & frozenset(dids)):
            raise ClawproxyError(
                "KEY_IN_TWO_ROLES",
                f"an approver's key is {what} as well",
                where="trust.approvers",
                got=both[0],
                remedy="give each approver a key of their own: clawproxy keys new approval --name NAME",
            )
    return Approvers(groups, everyone)
