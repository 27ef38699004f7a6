"""The gateway's own journal (receipts/refusals.py): finds and checks a refusal that has no job. Reads files.

Only the record that is asked for is checked: its bytes, hash, signature and stated place. Whether records around it are
missing is not: nothing seals this journal, and it is bounded.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..receipts.records import read_record
from ..receipts.report import Verdict
from ..tokens.canonical import JsonObject, parse_json_object
from ..tokens.errors import ClawproxyError, clip
from ..tokens.keys import Role
from ..tokens.reasons import REASONS
from ..tokens.trust import Trust
from .journal_view import open_journal, payload_of, read_records

_PATTERN = "refusals-*.jsonl"
_DENIAL = b'"t":"denial"'
MAX_LISTED = 1000
"""So many refusals are listed, the last ones."""
_MAX_LINE_BYTES = 16 * 1024 * 1024
_CALL = (
    "method",
    "destination",
    "provider",
    "route",
    "model",
    "presenter",
    "way_in",
    "request_hash_b64u",
    "policy_hash_b64u",
)
_DECISION = ("step", "reason", "rule", "detail")


@dataclass(frozen=True, slots=True)
class GatewayRefusal:
    """A refusal in the gateway's own journal. ``payload`` is what it says, ``verdict`` whether to believe it."""

    receipt_id: str
    file: Path
    line: int
    payload: JsonObject
    h_b64u: str
    verdict: Verdict
    why: str

    @property
    def what(self) -> str:
        """Provider and model, or method and destination, as far as known; else whose routes have none for it."""
        names = ("provider", "model") if self.payload.get("provider") else ("method", "destination")
        if self.payload.get("reason") == "ROUTE_NOT_FOUND" and not self.payload.get(names[1]):
            return f"{self.payload.get('method')} ({self.payload.get('rule')})"
        return " ".join(str(self.payload[name]) for name in names if self.payload.get(name))

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    def decision(self) -> dict[str, Any]:
        row = REASONS.get(str(self.payload.get("reason")))
        told = {name: self.payload.get(name) for name in _DECISION}
        return {**told, "meaning": row.meaning if row else None, "remedy": row.remedy if row else None}

    def to_json(self) -> dict[str, Any]:
        return {
            "receipt_id": self.receipt_id,
            "kind": "refused",
            "record": {
                "verdict": str(self.verdict),
                "why": self.why,
                "file": str(self.file),
                "line": self.line,
                "h_b64u": self.h_b64u,
            },
            "decision": self.decision(),
            "call": {name: self.payload.get(name) for name in ("timestamp", *_CALL)},
        }

    def lines(self) -> list[str]:
        """One fact per line; what is not known is left out."""
        shown = self.to_json()
        out = [f"{self.receipt_id}: refused before a job was known"]
        for title in ("record", "decision", "call"):
            out.append(title)
            facts = shown[title].items()
            out += [f"  {name}: {clip(value, 1024)}" for name, value in facts if value not in (None, "")]
        return out

    def told(self) -> str:
        """The refusal in one line, for a message."""
        found = {name: clip(value, 200) for name, value in self.decision().items() if value}
        parts = (found.get("rule"), found.get("detail"), found.get("remedy"))
        return f"refused at {found.get('step')}: {found.get('reason')}: {'; '.join(filter(None, parts))}"


@dataclass(frozen=True, slots=True)
class RefusalList:
    """The last refusals of a gateway's own journal, oldest first. ``left_out`` are earlier ones, which nobody looked
    at; ``verdict`` is the worst of those that are listed."""

    refusals: tuple[GatewayRefusal, ...]
    left_out: int

    @property
    def verdict(self) -> Verdict:
        found = {refusal.verdict for refusal in self.refusals}
        return next((bad for bad in (Verdict.FAILED, Verdict.INCOMPLETE) if bad in found), Verdict.VERIFIED)

    def to_json(self) -> dict[str, Any]:
        calls = [
            {
                "receipt_id": refusal.receipt_id,
                "at": refusal.payload.get("timestamp"),
                "what": refusal.what,
                "kind": "refused",
                "outcome": f"refused: {refusal.payload.get('reason')}",
                "verdict": str(refusal.verdict),
            }
            for refusal in self.refusals
        ]
        return {"calls": calls, "left_out": self.left_out}

    def lines(self) -> list[str]:
        """One line each; a record that does not hold is said to."""
        out = [f"{self.left_out} earlier ones are not listed"] if self.left_out else []
        for call in self.to_json()["calls"]:
            parts = [clip(call["at"] or ""), clip(call["receipt_id"]), clip(call["what"]), clip(call["outcome"])]
            out.append("  ".join(parts) + ("" if call["verdict"] == Verdict.VERIFIED else f"  {call['verdict']}"))
        return out or ["no refusal"]


def journal_files(path: Path) -> list[Path]:
    """The files of a gateway's journal, oldest first: those in a directory, or the one that ``path`` is."""
    if path.is_dir():
        return sorted(path.glob(_PATTERN))
    return [path] if path.match(_PATTERN) and path.is_file() else []


def refusals_since(path: Path, since_ms: int) -> Counter[str]:
    """How many refusals by reason stand in the journals that were begun at ``since_ms`` (Unix milliseconds) or later;
    nothing of it is checked."""
    reasons: Counter[str] = Counter()
    for file in journal_files(path):
        if not (begun := file.name.split("-")[1]).isdecimal() or int(begun) < since_ms:
            continue
        with open_journal(file) as opened:
            reasons.update(str(payload_of(r).get("reason")) for r in read_records(opened) if r.get("t") == "denial")
    return reasons


def find_refusal(path: Path, receipt_id: str, trust: Trust) -> GatewayRefusal | None:
    """The refusal that ``receipt_id`` names. Without a trust file, the receipt key beside the journal is believed."""
    signers = trust.signers(Role.RECEIPT) if trust.given else None
    for file in journal_files(path):
        for number, line in _lines_with(file, receipt_id.encode("utf-8", "surrogateescape")):
            if signers is None:
                signers = _local_signers(file.parent.parent)
            found = _judge(receipt_id, file, number, line, signers)
            if found is not None:
                return found
    return None


def list_refusals(path: Path, trust: Trust) -> RefusalList:
    """The last refusals of a gateway's own journal, each record checked as ``find_refusal`` checks it."""
    places: deque[tuple[Path, int, bytes]] = deque(maxlen=MAX_LISTED)
    total = 0
    for file in journal_files(path):
        for number, line in _lines_with(file, _DENIAL):
            if line.endswith(b"\n"):  # else a gateway is writing it just now, or a crash tore it
                places.append((file, number, line))
                total += 1
    signers = trust.signers(Role.RECEIPT) if trust.given else None
    found = []
    for file, number, line in places:
        signers = _local_signers(file.parent.parent) if signers is None else signers
        found += [refusal] if (refusal := _judge(None, file, number, line, signers)) is not None else []
    return RefusalList(tuple(found), total - len(places))


def _lines_with(file: Path, part: bytes) -> Iterator[tuple[int, bytes]]:
    with open_journal(file) as opened:
        number = 0
        while line := opened.readline(_MAX_LINE_BYTES):
            number += 1
            if part in line:
                yield number, line


def _local_signers(state: Path) -> frozenset[str]:
    from ..addons.settings import did_in_key_file

    try:
        return frozenset([did_in_key_file(state / "keys" / "receipt.pem", Role.RECEIPT)])
    except ClawproxyError:
        return frozenset()


def _judge(
    receipt_id: str | None, file: Path, number: int, line: bytes, signers: Container[str]
) -> GatewayRefusal | None:
    """The refusal on this line; None where it is none, or the id stands in it as something else."""
    bare = line.removesuffix(b"\n")
    try:
        said = parse_json_object(bare, max_bytes=_MAX_LINE_BYTES)
    except ClawproxyError as err:
        raise err.at(f"{file}:{number}") from None
    payload = payload_of(said)
    named = payload.get("receipt_id")
    if not isinstance(named, str) or receipt_id not in (None, named):
        return None
    verdict, why = _check(bare, said, payload, signers)
    return GatewayRefusal(named, file, number, payload, str(said.get("h")), verdict, why)


def _check(bare: bytes, said: JsonObject, payload: JsonObject, signers: Container[str]) -> tuple[Verdict, str]:
    seq, prev, signer = said.get("seq"), said.get("prev"), said["body"].get("signer_did")
    try:
        if not isinstance(seq, int) or not isinstance(prev, str):
            raise ClawproxyError("MALFORMED_ENVELOPE", "the record has no place")
        read_record(bare, seq=seq, prev_b64u=prev, signers=frozenset([str(signer)]))
        if (payload.get("seq"), payload.get("prev_b64u")) != (seq, prev):
            raise ClawproxyError("HASH_MISMATCH", "the place that is signed is another")
    except ClawproxyError as err:
        return Verdict.FAILED, err.one_line()
    if signer not in signers:
        return Verdict.INCOMPLETE, f"hash and signature hold, but nobody vouches for the signer {signer}; give --trust"
    return Verdict.VERIFIED, f"hash and signature hold, signed by {signer}"
