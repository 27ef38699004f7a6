"""What a crash can leave at the end of a journal, and what such bytes hold (docs/evidence-format.md, A record). Pure.

A disk writes sectors of 512 bytes whole or not at all, in any order, and only the last write can be unfinished. So a
hole begins where that write began or at a sector's edge, and ends at a sector's edge or at the end of the file; all is
within one write; and nothing in it shows that there were two writes, of which the first was acknowledged.

Limits: who can write the file can blank whole sectors of its end, as a disk that goes bad can, or cut it at a line;
that is a journal rolled back (docs/threat-model.md).
"""

from __future__ import annotations

import re

from ..tokens.canonical import JsonObject, parse_json_object
from ..tokens.errors import ClawproxyError
from .journal import MAX_LINE_BYTES, MAX_WRITE_BYTES
from .records import read_record

SECTOR_BYTES = 512
_HOLE = re.compile(rb"\0+")
# keys stand behind a quote that no text can hold unescaped, so what an agent chose is not taken for one
_INTENT_SEQ = re.compile(rb'"intent_seq":([0-9]{1,16})[,}]')
_RECEIPT_ID = re.compile(rb'"receipt_id":"(rcpt_[0-9a-f-]{36})"')


def why_not_torn(tail: bytes, offset: int, seq: int) -> str:
    """Why no crash leaves ``tail`` at ``offset``, where record ``seq`` should begin; empty where one can."""
    if len(tail) > MAX_WRITE_BYTES:
        return "more bytes than one write do not verify: acknowledged records are overwritten"
    for hole in _HOLE.finditer(tail):
        begin, end = offset + hole.start(), offset + hole.end()
        begins = begin == offset or begin % SECTOR_BYTES == 0
        ends = hole.end() == len(tail) or end % SECTOR_BYTES == 0
        if not (begins and ends):
            return "a hole that is no sector's: acknowledged records are overwritten"
    seen = tail.replace(b"\0", b"")  # a hole inside a key must not hide it
    ids = _RECEIPT_ID.findall(seen)
    if len(ids) != len(set(ids)) or any(int(number) >= seq for number in _INTENT_SEQ.findall(seen)):
        return "an intent and its receipt, which are two writes: acknowledged records are overwritten"
    return ""


def records_within(tail: bytes, signers: frozenset[str]) -> list[JsonObject]:
    """The whole records among torn bytes, of any place, by ``signers``: ``{"t","receipt_id"}``, null where none.

    The last may lack its LF. They were perhaps never acknowledged, so they do not count; but an auditor should know.
    """
    found: list[JsonObject] = []
    for line in tail.split(b"\n"):
        try:
            stated = parse_json_object(line, max_bytes=MAX_LINE_BYTES)
            record = read_record(line, seq=stated["seq"], prev_b64u=stated["prev"], signers=signers)
            payload = record.payload
            named = payload.get({"intent": "detail", "effect": "side_effect"}.get(record.kind, ""), payload)
            found.append({"receipt_id": named.get("receipt_id"), "t": record.kind})
        except (ClawproxyError, KeyError, TypeError, AttributeError):
            continue
    return found
