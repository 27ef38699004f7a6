"""``egress_allowlist``: where plain HTTP(S) calls of tools may go, and the decision about one. Pure.

A request is compared in its one canonical form: a host as ``addresses.host_fault`` wants it, a path whose bytes can be
read in one way only (``parse_target``). What has two readings is refused before it is compared.

An escaped slash (``%2F``; scoped packages of npm, projects of GitLab) is one segment to some servers and two to others.
So it is never below a prefix: a path of the contract states it, or the contract lets every path of the host through and
has one credential for all of them. Then each reading of it, however the escape is spelled, is decided alike.

Limits: what a query says is not judged; a path prefix counts from ``/`` to ``/``, whatever the server makes of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from ..tokens.errors import clip, word_or
from ..tokens.reasons import Refusal
from .addresses import bracketed, host_fault, is_literal
from .fields import PROVIDER_NAME, Fields

if TYPE_CHECKING:
    from .policy import Policy

FIELD = "egress_allowlist"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
SCHEMES = ("http", "https")
MAX_ENTRIES = 256
MAX_TARGET_CHARS = 8192
ENTRY_FIELDS = ("host", "methods", "paths", "scheme", "port", "credential", "client_credentials")
# what may stand in a path unencoded; without ``;``, behind which some servers read parameters that others do not see
_RAW = "A-Za-z0-9._~!$&'()*+,=:@-"
_PATH = re.compile(rf"(?:/(?:[{_RAW}]|%[0-9A-F]{{2}}|%2f)+)*/?", re.ASCII)
_ESCAPED_SLASH = re.compile("%2[Ff]", re.ASCII)
_CUT = re.compile("%3F|%23", re.ASCII)
_RAW_BYTE = re.compile(rf"[;/\\%\x00-\x1f\x7f{_RAW}]".encode("ascii"))
_ESCAPE = re.compile(r"%([0-9A-F]{2})", re.ASCII)
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%(?!00)[0-9A-Fa-f]{2})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class EgressFacts:
    """One call of a tool. ``path`` and ``query`` are as ``parse_target`` gave them."""

    scheme: str
    host: str
    port: int
    method: str
    path: str
    query: str = ""

    @property
    def authority(self) -> str:
        """The Host field: the port only where it is not the scheme's own."""
        return authority_of(self.scheme, self.host, self.port)

    @property
    def target(self) -> str:
        """Path and query, as they leave."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def url(self) -> str:
        """What ``target_hash_b64u`` of the receipt is over."""
        return f"{self.scheme}://{self.authority}{self.target}"


@dataclass(frozen=True, slots=True)
class EgressEntry:
    """One entry of the list. ``host`` is exact, or ``*.`` and a name, for every name below it."""

    index: int
    host: str
    methods: tuple[str, ...]
    paths: tuple[str, ...]
    scheme: str
    port: int
    credential: str | None = None
    client_credentials: bool = False

    def reaches(self, scheme: str, host: str, port: int) -> bool:
        """Whether the entry is about this destination."""
        if (scheme, port) != (self.scheme, self.port):
            return False
        if not self.host.startswith("*."):
            return host == self.host
        return host.endswith(self.host[1:]) and len(host) > len(self.host) - 1

    def takes_path(self, path: str) -> bool:
        """Whether one of ``paths`` is this path, or, ending in ``/*``, lies above it, with no escaped slash between."""
        return "/*" in self.paths or self.states_path(path)

    def states_path(self, path: str) -> bool:
        """Whether one of ``paths`` takes it that is not ``/*``: with its escaped slashes as they are written."""
        return any(path == entry or (entry != "/*" and lies_below(path, entry)) for entry in self.paths)

    @property
    def sends(self) -> tuple[str | None, bool]:
        """Whose credential goes along: two entries with the same paths differ in nothing else."""
        return self.credential, self.client_credentials

    @property
    def rule(self) -> str:
        """As a refusal or an explanation names it."""
        return f'{FIELD}[{self.index}] "{self.host}"'


@dataclass(frozen=True, slots=True)
class EgressAllow:
    """The entry that let a call through."""

    policy_hash_b64u: str
    entry: EgressEntry


def authority_of(scheme: str, host: str, port: int) -> str:
    """``host`` or ``host:port``, an IPv6 address in brackets."""
    shown = bracketed(host)
    return shown if port == default_port(scheme) else f"{shown}:{port}"


def lies_below(path: str, entry: str) -> bool:
    """Whether a path of a contract ends in ``/*`` and stands for ``path``: a slash behind it must be a slash to all."""
    if not entry.endswith("/*") or not path.startswith(above := entry.removesuffix("*")):
        return False
    return entry == "/*" or not _ESCAPED_SLASH.search(path, len(above))


def has_escaped_slash(path: str) -> bool:
    """Whether servers may read another path: one with a plain slash in place of the escaped one."""
    return _ESCAPED_SLASH.search(path) is not None


def default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def destination_fault(host: str) -> str | None:
    """Why ``host`` is neither a plain name nor an address in its only spelling; None if it is."""
    return None if is_literal(host) else host_fault(host)


def parse_target(target: str) -> tuple[str, str] | Refusal:
    """Path and query of a request target, or REQUEST_AMBIGUOUS where two servers could read two things.

    A path has no empty and no dot segment, and an escape only for a byte that needs one, in upper case: never for
    ``\\``, ``;``, ``%`` or a control character, and only for text that is UTF-8 and its own NFKC form. An escaped
    slash, of either case, stands between two segments that are none of these; ``takes_path`` says where it may. A query
    passes as it is, as far as it is characters of a query.
    """
    path, mark, query = target.partition("?")
    if len(target) > MAX_TARGET_CHARS or not path or not _PATH.fullmatch(path):
        return _ambiguous("path", "not plain segments after a slash")
    plain = _ESCAPED_SLASH.sub("/", path)
    # what an escaped "?" or "#" cuts off is gone where a path is decoded and then read once more
    if any(_CUT.split(segment, 1)[0] in (".", "..") for segment in plain.split("/")):
        return _ambiguous("path", "a dot segment")
    if "//" in plain or (plain.endswith("/") and not path.endswith("/")):
        return _ambiguous("path", "an empty segment")
    escapes = bytes(int(code, 16) for code in _ESCAPE.findall(plain))
    if escapes:
        if _RAW_BYTE.search(escapes):
            return _ambiguous("path", "an escape for a byte that needs none, or that changes the path")
        try:
            text = unquote_to_bytes(path).decode("utf-8")
        except UnicodeDecodeError:
            return _ambiguous("path", "escapes that are not UTF-8")
        if unicodedata.normalize("NFKC", text) != text:
            return _ambiguous("path", "characters that stand for others")
    if mark and not _QUERY.fullmatch(query):
        return _ambiguous("query", "characters that are none of a query")
    return path, query


def _ambiguous(rule: str, detail: str) -> Refusal:
    return Refusal("REQUEST_AMBIGUOUS", rule, detail)


# -- the decision ------------------------------------------------------------------------------------------------------


def decide_destination(scheme: str, host: str, port: int, policy: Policy) -> tuple[EgressEntry, ...] | Refusal:
    """The entries about a destination, for a tunnel, whose requests are judged one by one once it stands."""
    shown = word_or("this host", host)
    where = f"{scheme}, port {port}"
    if fault := destination_fault(host):
        return Refusal("EGRESS_NOT_ALLOWED", FIELD, f"the host is no plain name: {fault}")
    entries = tuple(entry for entry in policy.egress if entry.reaches(scheme, host, port))
    if entries:
        return entries
    return Refusal("EGRESS_NOT_ALLOWED", f"{FIELD} has no entry for {shown} ({where})", _listed(policy.egress))


def decide_egress(facts: EgressFacts, policy: Policy) -> EgressAllow | Refusal:
    """Judge one call of a tool: the first entry with this destination, method and path lets it through."""
    entries = decide_destination(facts.scheme, facts.host, facts.port, policy)
    if isinstance(entries, Refusal):
        return entries
    with_method = [entry for entry in entries if facts.method in entry.methods]
    if not with_method:
        allowed = ", ".join(sorted({method for entry in entries for method in entry.methods}))
        return Refusal("EGRESS_NOT_ALLOWED", f"{entries[0].rule} methods", f"allowed methods: {allowed or 'none'}")
    found = next((entry for entry in with_method if entry.takes_path(facts.path)), None)
    if found is None:  # not the path itself: it may hold a secret
        allowed = ", ".join(dict.fromkeys(path for entry in with_method for path in entry.paths))
        detail = f"allowed paths: {clip(allowed, 300) or 'none'}"
        return Refusal("EGRESS_NOT_ALLOWED", f"{with_method[0].rule} paths", detail)
    if has_escaped_slash(facts.path) and not found.states_path(facts.path) and len({e.sends for e in with_method}) > 1:
        detail = "an escaped slash, at a host whose paths have different credentials: state the path"
        return Refusal("EGRESS_NOT_ALLOWED", f"{with_method[0].rule} paths", detail)
    return EgressAllow(policy.policy_hash_b64u, found)


def _listed(entries: Iterable[EgressEntry]) -> str:
    hosts = ", ".join(dict.fromkeys(authority_of(entry.scheme, entry.host, entry.port) for entry in entries))
    return f"listed hosts: {clip(hosts, 300)}" if hosts else "the contract lists no host"


# -- the contract ------------------------------------------------------------------------------------------------------


def read_egress(fields: Fields) -> tuple[EgressEntry, ...]:
    """The field of a Claw contract; raises ``ClawproxyError`` (WPC_INVALID). Absent and empty both allow nothing.

    ``host`` and ``paths`` must be stated (``["/*"]`` for every path); ``methods`` are GET alone and ``scheme`` https
    where they are not.
    """
    entries = fields.objects(FIELD, ENTRY_FIELDS, max_items=MAX_ENTRIES) or ()
    return tuple(_entry(entry, index) for index, entry in enumerate(entries))


def _entry(fields: Fields, index: int) -> EgressEntry:
    fields.need("host", "paths")
    scheme = fields.text("scheme", one_of=SCHEMES) or "https"
    host = fields.text("host", max_chars=255) or ""
    _check_host(fields, host, scheme)
    methods = fields.texts("methods", min_items=1, max_items=len(METHODS))
    for n, method in enumerate(methods or ()):
        if method not in METHODS:
            fields.refuse(f"methods[{n}]", "not a method of a tool", got=method, expected=", ".join(METHODS))
    paths = fields.texts("paths", max_chars=1024) or ()
    for n, path in enumerate(paths):
        _check_path(fields, f"paths[{n}]", path)
    credential = fields.text("credential", like=PROVIDER_NAME)
    client_credentials = fields.flag("client_credentials") or False
    if credential and scheme != "https":
        fields.refuse("credential", "it would cross the network in the clear", expected='scheme "https"')
    if credential and client_credentials:
        fields.refuse("client_credentials", "the gateway's credential and the client's own exclude each other")
    return EgressEntry(
        index=index,
        host=host,
        methods=methods or ("GET",),
        paths=paths,
        scheme=scheme,
        port=fields.integer("port", least=1, most=65_535) or default_port(scheme),
        credential=credential,
        client_credentials=client_credentials,
    )


def _check_host(fields: Fields, host: str, scheme: str) -> None:
    if is_literal(host):
        if scheme == "https":
            fields.refuse("host", "an address has no server name that TLS could check", got=host, expected="a name")
        return
    name = host.removeprefix("*.")
    fault = host_fault(name) or (
        "a pattern needs two labels behind the star" if name != host and "." not in name else ""
    )
    if fault:
        expected = "a lower-case host name, or *. and one for every name below it"
        fields.refuse("host", f"not a host: {fault}", got=host, expected=expected)


def _check_path(fields: Fields, place: str, path: str) -> None:
    """Exact, or a prefix that ends at a slash; ``*`` itself cannot stand in it otherwise."""
    bare = path.removesuffix("*") if path.endswith("/*") else path
    read = parse_target(bare)
    if isinstance(read, Refusal) or "?" in bare or "*" in bare:
        why = "no request can have this path" if isinstance(read, Refusal) else "a query or a star inside a path"
        fields.refuse(place, why, got=path, expected="an exact path, or one that ends in /* for all below it")
