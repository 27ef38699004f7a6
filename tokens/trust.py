"""Whom to believe for what: the trust file, read from disk (``load_trust``); everything else here is pure.

Two forms are read. Ours names a role for each key:

    {"trust_version": "1", "keys": [{"did": "did:key:z6Mk…", "role": "receipt", "name": "gateway of team A"}]}

A key of the role ``approval`` may name the groups that it approves for: ``"groups": ["SupportOps"]``.

The reference verifier's config (protocol.md F.5) names lists of signers; ``gateway_receipt_signer_dids`` are receipt
keys, the other lists are kept by name, each a role of its own. In both forms one DID in two roles is refused: the wire
format has no domain separation, so that a signature made in one role could be shown in the other (ADR-0004).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .canonical import JsonObject, parse_json_object
from .errors import ClawproxyError
from .keys import Role, public_key_from_did

RECEIPT_LIST = "gateway_receipt_signer_dids"
MAX_TRUST_BYTES = 1024 * 1024
MAX_TRUST_KEYS = 10_000
_MAX_NAME_CHARS = 128
_MAX_GROUPS = 64


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One key and the one thing it may sign. ``name`` is for people, ``groups`` are an approver's."""

    did: str
    role: Role
    name: str = ""
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trust:
    """The keys that a verifier believes. ``given`` is False where nobody named any: then nothing is believed.

    ``allowlists`` are the reference config's lists that have no role here, by their name there.
    """

    given: bool = False
    keys: tuple[TrustedKey, ...] = ()
    allowlists: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))

    def signers(self, role: Role) -> frozenset[str]:
        """The DIDs that may sign as ``role``."""
        return frozenset(key.did for key in self.keys if key.role is role)

    def groups_of(self, did: str) -> tuple[str, ...]:
        """The groups that an approver's key stands in."""
        return next((key.groups for key in self.keys if key.did == did and key.role is Role.APPROVAL), ())

    @property
    def roles(self) -> dict[str, str]:
        """Each DID that is named, and the role or the list that it stands in; it stands in one (``build_trust``)."""
        listed = {did: name for name, dids in self.allowlists.items() for did in dids}
        return listed | {key.did: str(key.role) for key in self.keys}

    def document(self) -> JsonObject:
        """The trust file in our form (to be written with ``jcs_bytes``); ``allowlists`` have no place in it."""
        return {"trust_version": "1", "keys": [_row(key) for key in self.keys]}


def _row(key: TrustedKey) -> JsonObject:
    row: JsonObject = {"did": key.did, "role": str(key.role)}
    if key.name:
        row["name"] = key.name
    if key.groups:
        row["groups"] = list(key.groups)
    return row


def build_trust(keys: Iterable[TrustedKey], allowlists: Mapping[str, Iterable[str]] | None = None) -> Trust:
    """A ``Trust`` of these keys; refuses malformed DIDs (INVALID_DID_FORMAT) and two roles (TRUST_ROLE_CONFLICT)."""
    kept: dict[str, TrustedKey] = {}
    for key in keys:
        public_key_from_did(key.did)
        known = kept.setdefault(key.did, key)
        if known.role is not key.role:
            raise _two_roles(key.did, known.role, key.role)
        if known is not key:  # named again, perhaps with another of its groups
            groups = tuple(dict.fromkeys((*known.groups, *key.groups)))
            kept[key.did] = replace(known, name=known.name or key.name, groups=groups)
    lists = {name: frozenset(dids) for name, dids in (allowlists or {}).items()}
    role_of = {did: str(key.role) for did, key in kept.items()}
    for name, dids in lists.items():
        for did in sorted(dids):
            if did.startswith("did:key:"):
                public_key_from_did(did)
            if role_of.setdefault(did, name) != name:
                raise _two_roles(did, role_of[did], name)
    return Trust(True, tuple(kept.values()), MappingProxyType(lists))


def parse_trust(data: bytes) -> Trust:
    """Read either form of a trust file.

    Raises ``ClawproxyError``: PARSE_ERROR, TRUST_INVALID, TRUST_ROLE_CONFLICT or INVALID_DID_FORMAT.
    """
    document = parse_json_object(data, max_bytes=MAX_TRUST_BYTES, max_depth=16, max_nodes=20 * MAX_TRUST_KEYS)
    if "trust_version" in document:
        return _parse_ours(document)
    if "config_version" in document:
        return _parse_reference(document)
    raise _invalid(
        "", "neither a trust file nor a verifier config", expected="trust_version or config_version", remedy=_MAKE_ONE
    )


def load_trust(path: Path) -> Trust:
    """Read a trust file; errors name it. Raises ``ClawproxyError`` (TRUST_UNREADABLE, else as ``parse_trust``)."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TRUST_BYTES + 1)
    except (OSError, ValueError) as err:
        why = getattr(err, "strerror", None) or "not a file name"
        raise ClawproxyError(
            "TRUST_UNREADABLE", f"cannot read the trust file: {why.lower()}", where=str(path), remedy=_MAKE_ONE
        ) from None
    try:
        return parse_trust(content)
    except ClawproxyError as err:
        raise err.at(str(path)) from None


_MAKE_ONE = "make one with: clawproxy keys trust"


def _parse_ours(document: JsonObject) -> Trust:
    _closed(document, {"trust_version", "keys"}, "")
    if document["trust_version"] != "1":
        raise _invalid("trust_version", "not a version that this program reads", document["trust_version"], '"1"')
    rows = document.get("keys")
    if not isinstance(rows, list) or len(rows) > MAX_TRUST_KEYS:
        raise _invalid("keys", "not a list of keys", expected=f"a list of at most {MAX_TRUST_KEYS} objects")
    return build_trust(_parse_key(row, f"keys[{n}]") for n, row in enumerate(rows))


def _parse_key(row: Any, where: str) -> TrustedKey:
    if not isinstance(row, dict):
        raise _invalid(where, "not a key", type(row).__name__, 'an object with "did" and "role"')
    _closed(row, {"did", "role", "name", "groups"}, where)
    did, role, name = row.get("did"), row.get("role"), row.get("name", "")
    if not isinstance(did, str):
        raise _invalid(f"{where}.did", "missing or not a string", expected="a did:key")
    if not isinstance(role, str) or role not in {str(known) for known in Role}:
        raise _invalid(f"{where}.role", "not a role", role, f"one of {', '.join(Role)}")
    if not isinstance(name, str) or len(name) > _MAX_NAME_CHARS or not (name.isprintable()):
        raise _invalid(f"{where}.name", "not a name", expected=f"one line of at most {_MAX_NAME_CHARS} characters")
    try:
        public_key_from_did(did)
    except ClawproxyError as err:
        raise err.at(f"{where}.did") from None
    return TrustedKey(did, Role(role), name, _parse_groups(row, where))


def _parse_groups(row: JsonObject, where: str) -> tuple[str, ...]:
    if "groups" not in row:
        return ()
    groups = row["groups"]
    if row["role"] != Role.APPROVAL:
        raise _invalid(f"{where}.groups", "groups of a key that is no approver's", expected='the role "approval"')
    names = isinstance(groups, list) and all(isinstance(name, str) and name.isprintable() for name in groups)
    if (
        not names
        or not 1 <= len(groups) <= _MAX_GROUPS
        or not all(1 <= len(name) <= _MAX_NAME_CHARS for name in groups)
    ):
        raise _invalid(f"{where}.groups", "not a list of names", expected=f"1 to {_MAX_GROUPS} names")
    return tuple(groups)


def _parse_reference(document: JsonObject) -> Trust:
    """The reference ignores members that it does not know; so does this, for files in the wild have some.

    That can only narrow the trust. A did:web entry is kept, though nothing verifies under it.
    """
    if document["config_version"] != "1":
        raise _invalid("config_version", "not a version that this program reads", document["config_version"], '"1"')
    lists = document.get("allowlists")
    if not isinstance(lists, dict):
        raise _invalid("allowlists", "missing or not an object", expected="an object of lists of DIDs")
    allowlists: dict[str, frozenset[str]] = {}
    for name, dids in lists.items():
        if not isinstance(dids, list) or len(dids) > MAX_TRUST_KEYS or not all(isinstance(did, str) for did in dids):
            raise _invalid(f"allowlists.{name}", "not a list of DIDs", expected=f"at most {MAX_TRUST_KEYS} strings")
        allowlists[name] = frozenset(dids)
    receipt = sorted(allowlists.pop(RECEIPT_LIST, frozenset()))
    keys = (TrustedKey(did, Role.RECEIPT) for did in receipt if not did.startswith("did:web:"))
    return build_trust(keys, allowlists)


def _closed(members: JsonObject, known: set[str], where: str) -> None:
    unknown = sorted(members.keys() - known)
    if unknown:
        raise _invalid(where, "unknown member", unknown[0], f"only {', '.join(sorted(known))}")


def _invalid(where: str, message: str, got: object = None, expected: str = "", remedy: str = "") -> ClawproxyError:
    return ClawproxyError("TRUST_INVALID", message, where=where, got=got, expected=expected, remedy=remedy)


def _two_roles(did: str, first: str, second: str) -> ClawproxyError:
    return ClawproxyError(
        "TRUST_ROLE_CONFLICT",
        f"one key stands in two roles, {first} and {second}",
        got=did,
        expected="a key of its own for each role",
        remedy="give each role its own key (clawproxy keys new), and take this one out of one of the two",
    )
