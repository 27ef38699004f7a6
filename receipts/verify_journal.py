"""Rules of the journal's lines and of what is signed in each (docs/evidence-format.md, A record). Pure.

Of each line, by hash alone first:

J20 the journal ends with LF; what a crash tore is a gap before the end of the job, a failure after (TORN_TAIL): bytes
    without LF, or from the first line with a NUL, where each run of NULs is made of whole sectors (but for where the
    tail begins and ends); at most one write, and no receipt among them for an intent among them
J21 each line is the JCS bytes of a closed record (MALFORMED_ENVELOPE), of at most 256 KiB and 1,000 objects and lists
    (BUNDLE_TOO_LARGE)
J22 ``seq`` counts from 0 without gaps (RECORD_OUT_OF_PLACE)
J23 ``prev`` is the ``h`` before, at first the hash of job.json (RECORD_OUT_OF_PLACE)
J24 ``h`` is the hash of the record (HASH_MISMATCH)

Then, before the next line is read, so that what nobody signed takes no memory:

J25 the body is a closed envelope of the record's kind, its payload closed and of that kind (SCHEMA_VALIDATION_FAILED)
J26 the payload has the hash it states (HASH_MISMATCH)
J27 the signer is a trusted receipt key (CLAIM_NOT_FOUND)
J28 the signature is the signer's (SIGNATURE_INVALID)
J29 the payload states the record's place: job, incarnation, ``seq``, ``prev`` (RECORD_OUT_OF_PLACE)
J30 ``issued_at`` is the payload's ``timestamp``, and time does not go back (CAUSAL_CLOCK_CONTRADICTION)

Limits: a journal cut at a line's end is a shorter journal; only the seal, or a copy of a later head, shows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ..tokens.canonical import JsonObject, is_plain, jcs_bytes
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError
from .job_shapes import ENVELOPES, PAYLOADS, RECORD
from .report import Fault, Findings
from .wire_envelope import Signatures, check_shape, check_signature, join
from .wire_shapes import MAX_METADATA_BYTES

JOURNAL = "receipts.jsonl"
MAX_LINE_BYTES = 256 * 1024
MAX_LINE_PARTS = 1_000
"""Objects and lists in one line: an empty one takes two bytes here and sixty in memory."""
MAX_FILE_PARTS = 100_000
MAX_RECORDS = 1_000_000
MAX_TORN_BYTES = 256 * 1024
_DOMAIN = b"clawproxy.log.v1\n"
_SECTOR_BYTES = 512
_HOLE = re.compile(rb"\0+")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
# a quote inside a JSON text is escaped, so a text cannot contain these
_INTENT_SEQ = re.compile(rb'"intent_seq":(\d{1,18})')
_CALL_ID = re.compile(rb'"receipt_id":"([^"]{1,64})"')


@dataclass(frozen=True, slots=True)
class Entry:
    """One record whose line, place and hash hold. ``path`` names the file and the line, counted from 1."""

    path: str
    seq: int
    kind: str
    h_b64u: str
    prev_b64u: str
    envelope: JsonObject
    line_bytes: int
    plain: bool
    """Whether orjson gives the JCS bytes of every part of it (``is_plain``)."""

    @property
    def payload(self) -> JsonObject:
        payload: JsonObject = self.envelope["payload"]
        return payload

    def sha256_b64u(self, part: Any) -> str:
        """The digest of the JCS bytes of ``part`` of this record."""
        return sha256_b64u(orjson.dumps(part, option=orjson.OPT_SORT_KEYS) if self.plain else jcs_bytes(part))


@dataclass(frozen=True, slots=True)
class Place:
    """What every record of a job repeats."""

    job_id: str
    incarnation: str
    signers: Collection[str] | None
    """Whose signature counts; None while nobody said whom to trust."""


def parse_canonical(data: bytes, rule: str, path: str) -> Any:
    """Parse ``data``, which must be the JCS bytes of what it says; that leaves no room for duplicate keys or spaces."""
    return _parse_canonical(data, rule, path, MAX_FILE_PARTS)[0]


def _parse_canonical(data: bytes, rule: str, path: str, most_parts: int) -> tuple[Any, bool]:
    if _parts(data) > most_parts and _parts(_STRING.sub(b"", data)) > most_parts:
        raise Fault(rule, "BUNDLE_TOO_LARGE", path, f"more than {most_parts} objects and lists")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise Fault(rule, "MALFORMED_ENVELOPE", path, "not JSON") from None
    try:
        plain = is_plain(value)
        canonical = orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if plain else jcs_bytes(value)
    except (ClawproxyError, orjson.JSONEncodeError, RecursionError):
        raise Fault(rule, "MALFORMED_ENVELOPE", path, "not JSON that RFC 8785 can express") from None
    if canonical != data:
        raise Fault(rule, "MALFORMED_ENVELOPE", path, "not the canonical bytes of what it says")
    return value, plain


def _parts(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{")


def read_journal(
    data: bytes,
    first_prev_b64u: str,
    *,
    ended: bool,
    findings: Findings,
    entries: list[Entry],
    check: Callable[[Entry], None],
) -> None:
    """J20 to J24, line by line, each then given to ``check`` and kept in ``entries``.

    Raises ``Fault`` at the first line that does not hold, or that ``check`` does not let pass; so nothing is kept that
    nobody signed. ``ended`` says that the job is sealed, where a torn tail is a failure. An unsealed journal may end in
    a tail that a crash tore: bytes without LF, or, as sectors land in any order, from the first line with a NUL.
    """
    if data.count(b"\n") > MAX_RECORDS:
        raise Fault("J21", "BUNDLE_TOO_LARGE", JOURNAL, f"more than {MAX_RECORDS} records")
    hole = data.find(b"\0")
    whole_bytes = data.rfind(b"\n", 0, hole if hole >= 0 else len(data)) + 1
    start, prev = 0, first_prev_b64u
    while start < whole_bytes:
        end = data.index(b"\n", start)
        path = f"{JOURNAL}:{len(entries) + 1}"
        if end - start > MAX_LINE_BYTES:
            detail = f"got {end - start} bytes, expected at most {MAX_LINE_BYTES}"
            raise Fault("J21", "BUNDLE_TOO_LARGE", path, detail)
        entry = _read_line(data[start:end], len(entries), prev)
        check(entry)
        entries.append(entry)
        start, prev = end + 1, entry.h_b64u
    torn_bytes = len(data) - whole_bytes
    if torn_bytes:
        path = f"{JOURNAL}:{len(entries) + 1}"
        detail = f"{torn_bytes} bytes after the last whole record, at offset {whole_bytes}"
        if ended or any(entry.kind == "event" and _is_end(entry) for entry in entries[-1:]):
            raise Fault("J20", "TORN_TAIL", path, detail)
        if torn_bytes > MAX_TORN_BYTES or not crash_leaves(data[whole_bytes:], whole_bytes, len(entries)):
            raise Fault("J20", "TORN_TAIL", path, f"{detail}: more than a crash tears, so records are overwritten")
        findings.gap("J20", "TORN_TAIL", path, f"{detail}; recovery has not run")


def crash_leaves(tail: bytes, offset: int, first_seq: int = MAX_RECORDS) -> bool:
    """Whether a crash can leave ``tail`` at ``offset``, where record ``first_seq`` (if known) should begin.

    Judged by its bytes, not by parsing lines: a NUL in a line must not hide what the rest of it says.
    """
    if len(tail) > MAX_TORN_BYTES:
        return False
    for hole in _HOLE.finditer(tail):
        starts = hole.start() == 0 or (offset + hole.start()) % _SECTOR_BYTES == 0
        ends = hole.end() == len(tail) or (offset + hole.end()) % _SECTOR_BYTES == 0
        if not starts or not ends:
            return False
    kept = _HOLE.sub(b"", tail)
    if any(int(seq) >= first_seq for seq in _INTENT_SEQ.findall(kept)):
        return False  # an intent is durable before its call goes out, so these were two writes
    calls = _CALL_ID.findall(kept)
    return len(calls) == len(set(calls))


def _is_end(entry: Entry) -> bool:
    event = entry.envelope.get("payload", {}).get("event")
    return isinstance(event, dict) and event.get("event_type") == "job_sealed"


def _read_line(line: bytes, n: int, prev_b64u: str) -> Entry:
    path = f"{JOURNAL}:{n + 1}"
    record, plain = _parse_canonical(line, "J21", path, MAX_LINE_PARTS)
    check_shape(RECORD, record, "J21", path)
    h, kind, seq = record["h"], record["t"], record["seq"]
    if seq != n:
        raise Fault("J22", "RECORD_OUT_OF_PLACE", join(path, "seq"), f"got {seq}, expected {n}")
    if record["prev"] != prev_b64u:
        raise Fault("J23", "RECORD_OUT_OF_PLACE", join(path, "prev"), "not the hash of the record before")
    # the line is canonical and closed, so the record without `h` is the line without that one member
    rest = f'"prev":"{prev_b64u}","seq":{seq},"t":"{kind}","v":1}}'.encode("ascii")
    tail = f'"h":"{h}",'.encode("ascii") + rest
    if sha256_b64u(_DOMAIN + line.removesuffix(tail) + rest) != h:
        raise Fault("J24", "HASH_MISMATCH", join(path, "h"), "the hash of the record is another")
    return Entry(path, seq, kind, h, prev_b64u, record["body"], len(line), plain)


def check_signed(entry: Entry, place: Place, last_timestamp: str, signatures: Signatures) -> None:
    """J25 to J30 for one record."""
    envelope, path = entry.envelope, join(entry.path, "body")
    check_shape(ENVELOPES[entry.kind], envelope, "J25", path)
    payload, inside = entry.payload, join(path, "payload")
    check_shape(PAYLOADS[entry.kind], payload, "J25", inside)
    computed = entry.sha256_b64u(payload)
    check_own_signature(envelope, computed, place.signers, signatures, ("J26", "J27", "J28"), path)
    check_place(payload["metadata"]["clawproxy"] if entry.kind == "receipt" else payload, entry, place, inside)
    if envelope["issued_at"] != payload["timestamp"]:
        raise Fault("J30", "CAUSAL_CLOCK_CONTRADICTION", join(path, "issued_at"), "not the payload's timestamp")
    if payload["timestamp"] < last_timestamp:
        raise Fault("J30", "CAUSAL_CLOCK_CONTRADICTION", join(inside, "timestamp"), "before the record before")
    if entry.kind == "receipt" and entry.line_bytes <= MAX_METADATA_BYTES:
        # all that verify_receipt asks of it holds, so its copy in a proof bundle need only be equal
        signatures.receipts[envelope["payload_hash_b64u"]] = envelope


def check_own_signature(
    envelope: Mapping[str, Any],
    computed_hash_b64u: str,
    signers: Collection[str] | None,
    signatures: Signatures,
    rules: tuple[str, str, str],
    path: str,
) -> None:
    """Hash (``computed_hash_b64u``: of the payload, under JCS alone), signer, signature: the three ``rules``."""
    hash_rule, signer_rule, signature_rule = rules
    if computed_hash_b64u != envelope["payload_hash_b64u"]:
        raise Fault(hash_rule, "HASH_MISMATCH", join(path, "payload_hash_b64u"), "the hash of the payload is another")
    signer = envelope["signer_did"]
    if signers is not None and signer not in signers:
        raise Fault(signer_rule, "CLAIM_NOT_FOUND", join(path, "signer_did"), f"{signer} is not a trusted receipt key")
    check_signature(signatures, signer, envelope["payload_hash_b64u"], envelope["signature_b64u"], signature_rule, path)


def check_place(stated: Mapping[str, Any], entry: Entry, place: Place, path: str) -> None:
    for member, expected in (
        ("job_id", place.job_id),
        ("incarnation", place.incarnation),
        ("seq", entry.seq),
        ("prev_b64u", entry.prev_b64u),
    ):
        if stated[member] != expected:
            detail = f"the signed place says {stated[member]}, the record lies at {expected}"
            raise Fault("J29", "RECORD_OUT_OF_PLACE", join(path, member), detail)
