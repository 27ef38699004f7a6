"""The corpus as it is read from tests/abuse/*.json: strictly, so that a misspelt key is no silent pass. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILES = ("a_destination", "b_framing", "c_body", "e_tokens", "formats", "sockets", "egress")
TRANSPORTS = (
    *("reverse", "bare", "compat", "regular", "connect", "http2"),
    *("websocket", "websocket_connect", "egress_connect", "egress_http"),
)
DENIALS = ("signed", "recorded", "none")

_ID = re.compile(r"(?:[a-f]|eg)[0-9]{1,2}-[a-z0-9-]{2,80}")
_CLASS = re.compile(r"(?:[A-F]|EG)[0-9]{1,2}")
_CASE_KEYS = frozenset(
    {
        "id",
        "class",
        "title",
        "source",
        "transports",
        "formats",
        "not_formats",
        "send",
        "expect",
        "expect_on",
        "xfail_why",
    }
)
_NEEDED = frozenset({"id", "class", "title", "source", "transports", "send", "expect"})
_SEND_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "method": str,
    "target": (str, list),
    "version": str,
    "headers": list,
    "without": list,
    "body": list,
    "raw": (str, list),
    "connect": dict,
    "after_clean": bool,
    "hang_up": bool,
    "token": dict,
    "contract": dict,
    "place": str,
    "frames": list,
}
_CONNECT_KEYS = frozenset({"authority", "sni", "plain", "headers", "version", "credential"})
_EXPECT_KEYS = frozenset({"reasons", "statuses", "denial", "why", "codes", "arrives_without", "arrives_with"})


class CorpusError(ValueError):
    """A case that cannot be read; the message names file, case and key."""


@dataclass(frozen=True, slots=True)
class Expect:
    """``denial``: ``signed`` (the answer carries the id of a signed denial), ``recorded`` (the answer is the HTTP
    parser's, the denial is in the journal all the same) or ``none`` (no request that could be denied; ``why``).
    ``codes`` are those of a WebSocket's end. With ``arrives_without`` the call passes, and these texts are not in what
    the server gets; those of ``arrives_with`` are."""

    reasons: tuple[str, ...]
    statuses: tuple[int, ...] = ()
    denial: str = "signed"
    why: str = ""
    codes: tuple[int, ...] = (1008,)
    arrives_without: tuple[str, ...] = ()
    arrives_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One attack; executed once per transport and format."""

    id: str
    cls: str
    title: str
    source: str
    transports: tuple[str, ...]
    formats: tuple[str, ...]
    not_formats: tuple[str, ...]
    send: Mapping[str, Any]
    expect: Expect
    expect_on: Mapping[str, Expect] = field(default_factory=dict)
    xfail_why: str = ""

    def expected(self, transport: str, wire: str = "") -> Expect:
        """``expect_on`` names a transport or a format."""
        return self.expect_on.get(transport) or self.expect_on.get(wire) or self.expect


def load_corpus(folder: Path = HERE) -> list[Case]:
    """All cases, ids unique. Raises ``CorpusError``."""
    cases = [case for name in FILES for case in load_file(folder / f"{name}.json")]
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise CorpusError(f"{case.id}: the id occurs twice")
        seen.add(case.id)
    return cases


def load_file(path: Path) -> list[Case]:
    """The cases of one file."""
    document = json.loads(path.read_text(), object_pairs_hook=_once)
    if not isinstance(document, list):
        raise CorpusError(f"{path.name}: not a list of cases")
    return [parse_case(entry, f"{path.name}[{n}]") for n, entry in enumerate(document)]


def parse_case(entry: Any, where: str) -> Case:
    """One entry of a file, every key known and of its type."""
    if not isinstance(entry, dict):
        raise CorpusError(f"{where}: not an object")
    where = f"{where} {entry.get('id', '')}"
    _known(entry, _CASE_KEYS, where)
    if missing := _NEEDED - entry.keys():
        raise CorpusError(f"{where}: missing {sorted(missing)}")
    if not _ID.fullmatch(entry["id"]) or not _CLASS.fullmatch(entry["class"]):
        raise CorpusError(f"{where}: id or class is not well-formed")
    transports = tuple(entry["transports"])
    if not transports or (unknown := set(transports) - set(TRANSPORTS)):
        raise CorpusError(f"{where}: transports {sorted(unknown) if transports else 'are missing'}")
    _known(entry["send"], frozenset(_SEND_KEYS), f"{where} send")
    for key, value in entry["send"].items():
        if not isinstance(value, _SEND_KEYS[key]):
            raise CorpusError(f"{where} send.{key}: {type(value).__name__}")
    _known(entry["send"].get("connect", {}), _CONNECT_KEYS, f"{where} send.connect")
    return Case(
        id=entry["id"],
        cls=entry["class"],
        title=entry["title"],
        source=entry["source"],
        transports=transports,
        formats=tuple(entry.get("formats", ("openai_chat",))),
        not_formats=tuple(entry.get("not_formats", ())),
        send=entry["send"],
        expect=_expect(entry["expect"], where),
        expect_on={name: _expect(value, where) for name, value in entry.get("expect_on", {}).items()},
        xfail_why=entry.get("xfail_why", ""),
    )


def _expect(entry: Any, where: str) -> Expect:
    _known(entry, _EXPECT_KEYS, f"{where} expect")
    denial = entry.get("denial", "signed")
    if not entry.get("reasons") or denial not in DENIALS or (denial != "signed" and not entry.get("why")):
        raise CorpusError(f"{where} expect: reasons, a known denial, and why where it is not signed")
    return Expect(
        reasons=tuple(entry["reasons"]),
        statuses=tuple(entry.get("statuses", ())),
        denial=denial,
        why=entry.get("why", ""),
        codes=tuple(entry.get("codes", (1008,))),
        arrives_without=tuple(entry.get("arrives_without", ())),
        arrives_with=tuple(entry.get("arrives_with", ())),
    )


def _known(entry: Any, keys: frozenset[str], where: str) -> None:
    if not isinstance(entry, dict):
        raise CorpusError(f"{where}: not an object")
    if unknown := entry.keys() - keys:
        raise CorpusError(f"{where}: unknown keys {sorted(unknown)}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CorpusError("a key occurs twice in the corpus")
    return found
