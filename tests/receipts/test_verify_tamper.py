"""Every byte of a sealed bundle counts: flips, drops, copies, swaps, cuts, each FAILED at its place.

Exempt members of a sealed bundle: none. The members that an envelope leaves unsigned (``issued_at``, ``signer_did``
and so on, protocol.md A.3) lie under the record's ``h`` and the manifest's hashes, and those of SEAL.json must repeat
what is signed or be the one value that is known. Without its SEAL.json a bundle is INCOMPLETE, and says no more.

Seen red: without J17 and J24, the flips of the journal's unsigned members pass; without J11, those of the seal's
``issued_at`` do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from clawproxy.receipts.report import Report, Verdict
from clawproxy.receipts.verify import load_bundle
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.trust import Trust

from .forge import plain_job
from .forge import trust as forge_trust
from .workshop import Workshop, call, make_denied, make_start
from .workshop import trust as workshop_trust

SAMPLES = 6_000
Bundle = dict[str, bytes]


async def _twenty_calls(root: Path) -> Bundle:
    shop = Workshop(root)
    grant = shop.create()
    job = await shop.job(grant)
    for n in range(20):
        harness = {"harness_run_id": "run_h", "harness_event_hash_b64u": "evthash_abcdefgh"} if n == 7 else {}
        await call(job, grant, **harness)
    await job.deny(make_denied())
    await shop.book.seal("job-1")
    await shop.end()
    return load_bundle(shop.jobs_dir / "job-1").files


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A sealed job of 20 calls, made by the gateway's own writer."""
    return asyncio.run(_twenty_calls(tmp_path_factory.mktemp("state")))


TRUST = workshop_trust()


def assert_failed(files: Bundle, name: str, trust: Trust = TRUST) -> Report:
    """FAILED, and some finding names the file that was changed."""
    report = verify_job(files, trust)
    assert report.verdict is Verdict.FAILED, name
    assert report.exit_code == 1
    places = [finding.path for finding in report.findings if finding.severity == "fail"]
    assert any(place == name or place.startswith((f"{name}:", f"{name}.")) for place in places), (name, places)
    return report


def flipped(data: bytes, at: int, mask: int) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def test_the_bundle_of_the_writer_verifies(bundle: Bundle) -> None:
    report = verify_job(bundle, TRUST)
    assert (report.verdict, report.findings) == (Verdict.VERIFIED, ())
    expected = {"calls": 20, "denials": 1, "events": 23, "gaps": 0, "receipts": 20, "segments": 1, "records": 44}
    assert report.counts == expected


def test_each_sampled_byte_change_of_the_bundle_fails_at_its_place(bundle: Bundle) -> None:
    chance = random.Random(20)
    places = [(name, at) for name in sorted(bundle) for at in range(len(bundle[name]))]
    # the small files whole as far as the sample goes, the large ones evenly
    for name, at in chance.sample(places, min(SAMPLES, len(places))):
        mask = chance.randrange(1, 256)
        assert_failed({**bundle, name: flipped(bundle[name], at, mask)}, name)


@pytest.mark.parametrize("name", ["SEAL.json", "MANIFEST.json", "job.json", "contract.json"])
def test_each_byte_of_the_small_files_counts(bundle: Bundle, name: str) -> None:
    for at in range(len(bundle[name])):
        assert_failed({**bundle, name: flipped(bundle[name], at, 1 << (at % 8))}, name)


@pytest.mark.slow
def test_each_change_of_each_byte_of_a_small_bundle_fails_at_its_place() -> None:
    files = plain_job(calls=2, denials=1).files()
    trust = forge_trust()
    for name, data in files.items():
        for at in range(len(data)):
            for mask in (0x01, 0x02, 0x20, 0x80):
                assert_failed({**files, name: flipped(data, at, mask)}, name, trust)


def test_a_changed_line_of_the_journal_is_named(bundle: Bundle) -> None:
    lines = bundle["receipts.jsonl"].splitlines(keepends=True)
    for n in range(len(lines)):
        changed = [*lines[:n], flipped(lines[n], len(lines[n]) // 2, 1), *lines[n + 1 :]]
        report = assert_failed({**bundle, "receipts.jsonl": b"".join(changed)}, "receipts.jsonl")
        assert any(finding.path.startswith(f"receipts.jsonl:{n + 1}") for finding in report.findings)


def _reorderings(lines: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    for n in range(len(lines)):
        yield f"dropped {n}", lines[:n] + lines[n + 1 :]
        yield f"doubled {n}", [*lines[: n + 1], *lines[n:]]
        yield f"moved to the end {n}", [*lines[:n], *lines[n + 1 :], lines[n]]
    for n in range(len(lines) - 1):
        yield f"swapped {n}", [*lines[:n], lines[n + 1], lines[n], *lines[n + 2 :]]
    yield "reversed", lines[::-1]
    yield "nothing left", []


def _resealed_without_keys(files: Bundle) -> Bundle:
    """What one can do who has no key: make all plain hashes agree with the changed journal."""
    prev = sha256_b64u(files["job.json"])
    lines = []
    for n, line in enumerate(files["receipts.jsonl"].splitlines()):
        record = {**orjson.loads(line), "seq": n, "prev": prev}
        record.pop("h")
        prev = sha256_b64u(b"clawproxy.log.v1\n" + jcs_bytes(record))
        lines.append(jcs_bytes({**record, "h": prev}) + b"\n")
    journal = b"".join(lines)
    manifest = orjson.loads(files["MANIFEST.json"])
    for entry in manifest["entries"]:
        if entry["path"] == "receipts.jsonl":
            entry |= {"sha256_b64u": sha256_b64u(journal), "size_bytes": len(journal)}
    return {**files, "receipts.jsonl": journal, "MANIFEST.json": jcs_bytes(manifest)}


def test_each_dropped_doubled_swapped_or_moved_record_fails(bundle: Bundle) -> None:
    lines = bundle["receipts.jsonl"].splitlines(keepends=True)
    for what, changed in _reorderings(lines):
        files = {**bundle, "receipts.jsonl": b"".join(changed)}
        if files == bundle:
            continue
        assert_failed(files, "receipts.jsonl")
        # with the hashes made good, the manifest that was sealed tells; without seal and manifest, the signed places
        resealed = _resealed_without_keys(files)
        assert verify_job(resealed, TRUST).verdict is Verdict.FAILED, what
        bare = {name: data for name, data in resealed.items() if name not in ("SEAL.json", "MANIFEST.json")}
        report = verify_job(bare, TRUST)
        assert report.verdict is Verdict.FAILED or not changed, what


def test_each_truncation_fails(bundle: Bundle) -> None:
    chance = random.Random(21)
    for name, data in bundle.items():
        cuts = {0, 1, len(data) - 1, *(chance.randrange(len(data)) for _ in range(60))}
        if name == "receipts.jsonl":
            cuts |= {n + 1 for n, byte in enumerate(data) if byte == 0x0A and n + 1 < len(data)}
        for cut in cuts:
            assert_failed({**bundle, name: data[:cut]}, name)


CUT = ("J18", "SEAL_MISMATCH", "receipts.jsonl")


def _cuts(report: Report) -> list[str]:
    return [found.detail for found in report.findings if (found.rule, found.reason, found.path) == CUT]


def test_a_journal_without_its_last_records_is_said_to_end_before_its_seal_says(bundle: Bundle) -> None:
    lines = bundle["receipts.jsonl"].splitlines(keepends=True)
    for left in range(1, len(lines)):
        report = assert_failed({**bundle, "receipts.jsonl": b"".join(lines[:left])}, "receipts.jsonl")
        gone = len(lines) - left
        (detail,) = _cuts(report)
        assert detail.startswith("the bundle ends before its seal says: ")
        assert f"number {left - 1}, the seal's is number {len(lines) - 1};" in detail
        assert detail.endswith("one record is cut off" if gone == 1 else f"{gone} records are cut off")
        # the seal alone must not decide: the file that differs is still the first thing told
        assert (report.reason, report.findings[0].rule) == ("HASH_MISMATCH", "J17")
        assert "bytes, expected" in report.findings[0].detail


def test_a_journal_that_was_changed_otherwise_is_not_said_to_be_cut(bundle: Bundle) -> None:
    lines = bundle["receipts.jsonl"].splitlines(keepends=True)
    for n in range(len(lines)):
        changed = [*lines[:n], flipped(lines[n], len(lines[n]) // 2, 1), *lines[n + 1 :]]
        assert _cuts(assert_failed({**bundle, "receipts.jsonl": b"".join(changed)}, "receipts.jsonl")) == []
        if n + 1 < len(lines):
            rest = b"".join(lines[:n] + lines[n + 1 :])
            assert _cuts(assert_failed({**bundle, "receipts.jsonl": rest}, "receipts.jsonl")) == []
    torn = {**bundle, "receipts.jsonl": b"".join(lines)[:-1]}
    assert _cuts(assert_failed(torn, "receipts.jsonl")) == []
    whole = {**bundle, "contract.json": flipped(bundle["contract.json"], 40, 1)}
    assert _cuts(assert_failed(whole, "contract.json")) == []


def test_a_cut_journal_whose_manifest_was_made_good_fails_at_the_manifest(bundle: Bundle) -> None:
    lines = bundle["receipts.jsonl"].splitlines(keepends=True)
    resealed = _resealed_without_keys({**bundle, "receipts.jsonl": b"".join(lines[:-1])})
    report = assert_failed(resealed, "MANIFEST.json")
    assert report.reason == "HASH_MISMATCH"


def test_each_appended_byte_fails(bundle: Bundle) -> None:
    for name, data in bundle.items():
        for more in (b"\n", b" ", b"\0", b"{}"):
            assert_failed({**bundle, name: data + more}, name)


def test_each_missing_file_fails_and_a_missing_seal_is_incomplete(bundle: Bundle) -> None:
    for name in bundle:
        rest = {other: data for other, data in bundle.items() if other != name}
        report = verify_job(rest, TRUST)
        if name == "SEAL.json":
            assert (report.verdict, report.reason, report.exit_code) == (Verdict.INCOMPLETE, "NOT_SEALED", 3)
        else:
            assert_failed(rest, name)


def test_without_its_seal_a_cut_journal_still_fails_by_the_manifest(bundle: Bundle) -> None:
    lines = bundle["receipts.jsonl"].splitlines(keepends=True)
    files = {**bundle, "receipts.jsonl": b"".join(lines[:-1])}
    del files["SEAL.json"]
    assert_failed(files, "receipts.jsonl")


def test_two_jobs_of_one_name_do_not_splice(bundle: Bundle, tmp_path: Path) -> None:
    other = asyncio.run(_twenty_calls(tmp_path))
    for name in ("SEAL.json", "receipts.jsonl", "proof_bundle.json", "MANIFEST.json", "job.json"):
        assert_failed({**bundle, name: other[name]}, name)
    both = {**bundle, "MANIFEST.json": other["MANIFEST.json"], "SEAL.json": other["SEAL.json"]}
    assert verify_job(both, TRUST).verdict is Verdict.FAILED
    lines, others = bundle["receipts.jsonl"].splitlines(True), other["receipts.jsonl"].splitlines(True)
    spliced = _resealed_without_keys({**bundle, "receipts.jsonl": b"".join(lines[:10] + others[10:])})
    bare = {name: spliced[name] for name in ("job.json", "contract.json", "receipts.jsonl")}
    assert assert_failed(bare, "receipts.jsonl").reason == "RECORD_OUT_OF_PLACE"


def test_a_job_without_calls_made_by_the_writer_verifies(tmp_path: Path) -> None:
    async def make() -> Report:
        shop = Workshop(tmp_path)
        shop.create()
        await shop.book.seal("job-1")
        await shop.end()
        return shop.verdict()

    assert asyncio.run(make()).verdict is Verdict.VERIFIED


def test_a_job_with_a_call_left_open_is_incomplete_and_names_the_call(tmp_path: Path) -> None:
    async def make() -> tuple[Report, str]:
        shop = Workshop(tmp_path)
        grant = shop.create()
        job = await shop.job(grant)
        await call(job, grant)
        start = make_start(grant)
        await job.intend(start)
        await shop.book.seal("job-1", force=True)
        await shop.end()
        return shop.verdict(), start.receipt_id

    report, receipt_id = asyncio.run(make())
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "OUTCOME_UNKNOWN")
    assert receipt_id in report.findings[0].detail


@pytest.mark.slow
def test_ten_thousand_receipts_verify_in_a_few_seconds() -> None:
    """A bound against something quadratic, not a bench: the machine may be busy."""
    import time

    forge = plain_job(calls=0, denials=0)
    forge.records.pop()
    for n in range(10_000):
        if n and n % 900 == 0:
            forge.roll()
        forge.attest(forge.intend(n))
    forge.end()
    files = forge.files()
    started = time.process_time()
    report = verify_job(files, forge_trust())
    assert report.verdict is Verdict.VERIFIED
    assert time.process_time() - started < 30
