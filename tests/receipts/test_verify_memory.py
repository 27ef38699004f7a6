"""Hostile sizes: what nobody signed is refused before it takes memory."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.reader import load_directory, load_zip, most_bytes
from clawproxy.receipts.report import Report, Verdict
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.digests import sha256_b64u

from .forge import Forge, plain_job, trust
from .test_verify_reader import pack


def peak_bytes(files: dict[str, bytes]) -> tuple[Report, int]:
    """The report on ``files``, and the most memory that making it took."""
    tracemalloc.start()
    try:
        return verify_job(files, trust()), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def unsigned_line(files: dict[str, bytes], body: bytes) -> bytes:
    """A first record whose place and hash hold, around anything."""
    rest = b'"prev":"%s","seq":0,"t":"event","v":1}' % sha256_b64u(files["job.json"]).encode()
    h = sha256_b64u(b"clawproxy.log.v1\n" + b'{"body":' + body + b"," + rest).encode()
    return b'{"body":' + body + b',"h":"' + h + b'",' + rest + b"\n"


def test_empty_lines_and_lists_in_a_journal_take_no_memory() -> None:
    files = plain_job(sealed=False).files()
    nested = b'{"a":[' + b"[]," * 60_000 + b"[]]}"
    for journal in (b"\n" * 900_000, b"\n" * 5_000_000, unsigned_line(files, nested), b"[" * 4_000_000):
        report, peak = peak_bytes({**files, "receipts.jsonl": journal})
        assert report.verdict is Verdict.FAILED
        assert peak < 3_000_000


def test_a_record_that_nobody_signed_ends_the_reading() -> None:
    forge = plain_job(calls=40, sealed=False)

    def spoil(n: int, envelope: dict[str, Any]) -> None:
        if n == 1:
            envelope["signature_b64u"] = "A" * 86

    forge.meddle["envelope"] = spoil
    report = verify_job(forge.files(), trust())
    assert (report.verdict, report.counts["records"]) == (Verdict.FAILED, 1)
    assert report.findings[0].path.startswith("receipts.jsonl:2")


def test_brackets_in_texts_are_not_counted() -> None:
    forge = Forge()
    forge.open()
    forge.attest(forge.intend(0, route="[{" * 2_000))
    forge.end()
    assert verify_job(forge.files(), trust()).verdict is Verdict.VERIFIED


@pytest.mark.parametrize("name", ["job.json", "contract.json", "SEAL.json", "MANIFEST.json", "torn/5.0", "notes.txt"])
def test_each_file_has_a_size_of_its_own(tmp_path: Path, name: str) -> None:
    for size, kept in ((most_bytes(name), True), (most_bytes(name) + 1, False)):
        path = tmp_path / "job" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        packed = pack(tmp_path / "job.zip", {"receipts.jsonl": b"y", name: b"x" * size}, zipfile.ZIP_STORED)
        for loaded in (load_directory(tmp_path / "job"), load_zip(packed)):
            assert (name in loaded.files) is kept
            assert [finding.reason for finding in loaded.findings] == ([] if kept else ["BUNDLE_TOO_LARGE"])


def test_no_file_may_be_larger_than_a_journal() -> None:
    names = ("job.json", "contract.json", "SEAL.json", "MANIFEST.json", "torn/5.0", "proof_bundle.0002.json", "x")
    assert all(most_bytes(name) < most_bytes("receipts.jsonl") for name in names)
