"""Torn tails: what a crash can leave is a gap, and what only a hand can make of acknowledged records fails."""

from __future__ import annotations

import pytest
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.digests import sha256_b64u

from .forge import Forge, trust


def _lines(calls: int) -> tuple[dict[str, bytes], list[bytes]]:
    """The files of an unsealed job of ``calls`` whole calls, and the lines of its journal."""
    forge = Forge(sealed=False)
    forge.open()
    for n in range(calls):
        forge.attest(forge.intend(n))
    files = forge.files()
    return files, files["receipts.jsonl"].splitlines(keepends=True)


def _holed(data: bytes, start: int, end: int) -> bytes:
    return data[:start] + bytes(end - start) + data[end:]


def test_one_nul_in_each_acknowledged_line_is_no_torn_tail() -> None:
    files, lines = _lines(30)
    files["receipts.jsonl"] = lines[0] + b"".join(_holed(line, 5, 6) for line in lines[1:])
    report = verify_job(files, trust())
    assert (report.verdict, report.reason) == (Verdict.FAILED, "TORN_TAIL")


@pytest.mark.parametrize("member", [b'"intent_seq"', b'"receipt_id"', b'"receipt","v"'])
def test_a_hole_of_a_sector_hides_no_receipt_of_an_intent_in_the_tail(member: bytes) -> None:
    files, lines = _lines(4)
    data = files["receipts.jsonl"]
    at = data.index(member, len(b"".join(lines[:2])))  # in the receipt of the first call
    start = at - at % 512
    files["receipts.jsonl"] = _holed(data, start, start + 512)
    report = verify_job(files, trust())
    assert (report.verdict, report.reason) == (Verdict.FAILED, "TORN_TAIL")


def test_holes_of_whole_sectors_in_the_intents_of_one_write_are_a_gap() -> None:
    forge = Forge(sealed=False)
    forge.open()
    for n in range(4):
        forge.intend(n)
    files = forge.files()
    first = len(files["receipts.jsonl"].splitlines(keepends=True)[0])
    edge = first + -first % 512
    for start, end in ((first, edge), (edge, edge + 1024), (first, edge + 512)):
        torn = {**files, "receipts.jsonl": _holed(files["receipts.jsonl"], start, end)}
        report = verify_job(torn, trust())
        assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "TORN_TAIL"), (start, end)
    for start, end in ((first + 1, edge), (edge, edge + 511), (edge - 1, edge + 512)):
        torn = {**files, "receipts.jsonl": _holed(files["receipts.jsonl"], start, end)}
        assert verify_job(torn, trust()).verdict is Verdict.FAILED, (start, end)


def _recovered(tail: bytes) -> Forge:
    forge = Forge(torn={"torn/512.0": tail})
    forge.open()
    forge.recover([], [{"path": "torn/512.0", "sha256_b64u": sha256_b64u(tail), "size_bytes": len(tail)}])
    forge.end()
    return forge


def test_torn_bytes_that_recovery_named_are_told_and_do_not_spoil_the_job() -> None:
    report = verify_job(_recovered(b'{"body":{"algori').files(), trust())
    assert report.verdict is Verdict.VERIFIED
    assert [(finding.severity, finding.reason) for finding in report.findings] == [("note", "TORN_BYTES")]


@pytest.mark.parametrize("kind", ["intent", "receipt", "denial"])
@pytest.mark.parametrize("hole", [0, 64])
def test_a_whole_record_in_a_torn_file_is_a_gap(kind: str, hole: int) -> None:
    forge = Forge(sealed=False)
    forge.open()
    forge.attest(forge.intend(0))
    forge.deny(7)
    records = dict(zip(("intent", "receipt", "denial"), forge.files()["receipts.jsonl"].splitlines()[1:], strict=True))
    line = records[kind]
    report = verify_job(_recovered(bytes(hole) + line).files(), trust())
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "TORN_RECORD")
    assert kind in report.findings[0].detail
    blanked = line[:-3] + b"\0" + line[-2:]
    assert verify_job(_recovered(blanked).files(), trust()).reason == "TORN_RECORD"
    sectors = bytes(512) + line[512:]
    assert verify_job(_recovered(sectors).files(), trust()).verdict is Verdict.VERIFIED
