from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from clawproxy.receipts.job import Job
from clawproxy.receipts.job_facts import JobFacts, parse_job_facts
from clawproxy.receipts.jobs import JobBook
from clawproxy.receipts.journal import MAX_WRITE_BYTES
from clawproxy.receipts.records import event_hash
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.torn import SECTOR_BYTES, why_not_torn
from clawproxy.tokens.canonical import jcs_bytes
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.grant import Grant
from clawproxy.tokens.keys import Role, SigningKey, load_key
from clawproxy.tokens.reasons import Refusal
from hypothesis import given
from hypothesis import strategies as st

from .workshop import CONTRACT, GATEWAY_ID, POLICY_HASH, PRESENTER, Workshop, call, make_denied, make_grant, make_start


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """A job with four whole calls, one open, a denial and two tokens, and nobody who has it open."""
    shop = Workshop(tmp_path)
    grant = shop.create()
    job = await shop.job(grant)
    for _ in range(4):
        await call(job, grant)
    await job.deny(make_denied())
    await job.intend(make_start(grant))
    await shop.job(make_grant("job-1", grant.sub, jti="renewed"))
    await shop.reopen()
    yield shop
    await shop.end()


def journal_of(shop: Workshop) -> Path:
    return shop.jobs_dir / "job-1" / "receipts.jsonl"


def grant_of(shop: Workshop) -> Grant:
    return make_grant("job-1", load_key(shop.keys_dir / "job-1.pem", Role.JOB).did)


async def reopened(shop: Workshop) -> Job | Refusal:
    grant = grant_of(shop)
    return await shop.ask(grant)


async def is_damaged(shop: Workshop) -> bool:
    """Whether the job is refused as damaged, and nothing in its directory was touched."""
    before = {path: path.read_bytes() for path in (shop.jobs_dir / "job-1").rglob("*") if path.is_file()}
    found = await reopened(shop)
    await shop.reopen()
    after = {path: path.read_bytes() for path in (shop.jobs_dir / "job-1").rglob("*") if path.is_file()}
    damaged = isinstance(found, Refusal) and found.reason == "JOB_DAMAGED"
    assert not damaged or after == before
    return damaged


def lines_of(shop: Workshop) -> list[bytes]:
    return journal_of(shop).read_bytes().splitlines(keepends=True)


# -- a clean restart ---------------------------------------------------------------------------------------------------


async def test_a_reopened_job_stands_where_the_writer_stood(shop: Workshop) -> None:
    before = len(lines_of(shop))
    job = await reopened(shop)
    assert isinstance(job, Job)
    assert job.open_calls == 0
    recovery = shop.records()[before]
    assert recovery["t"] == "recovery"
    assert len(recovery["body"]["payload"]["open_calls"]) == 1
    assert recovery["body"]["payload"]["torn"] == []
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.INCOMPLETE
    assert [finding.reason for finding in report.findings] == ["OUTCOME_UNKNOWN"]


async def test_a_second_restart_has_nothing_to_recover(shop: Workshop) -> None:
    await reopened(shop)
    await shop.reopen()
    before = journal_of(shop).read_bytes()
    await reopened(shop)
    assert journal_of(shop).read_bytes() == before


async def test_a_journal_by_an_earlier_receipt_key_is_continued_when_that_key_was_ours(shop: Workshop) -> None:
    new_key = SigningKey.from_seed(Role.RECEIPT, bytes([0x77]) * 32)
    old_did = json.loads(lines_of(shop)[0])["body"]["signer_did"]

    def book_of(*dids: str) -> JobBook:
        return JobBook(
            shop.jobs_dir, shop.journal, new_key, GATEWAY_ID, shop.keys_dir, shop.clock, shop.limits, receipt_dids=dids
        )

    grant = grant_of(shop)
    stranger = await book_of().job_for(grant, POLICY_HASH, CONTRACT, PRESENTER, "reverse")
    assert isinstance(stranger, Refusal)
    assert stranger.reason == "JOB_DAMAGED"
    ours = book_of(old_did)
    job = await ours.job_for(grant, POLICY_HASH, CONTRACT, PRESENTER, "reverse")
    assert isinstance(job, Job)
    await call(job, grant)
    await ours.close()
    assert json.loads(lines_of(shop)[-1])["body"]["signer_did"] == new_key.did


def to_sector(before: list[bytes]) -> int:
    """How many bytes lie between the end of these lines and the next sector of the file."""
    return -len(b"".join(before)) % SECTOR_BYTES


# -- torn tails --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tear",
    [
        lambda lines: lines[-1][:-9],
        lambda lines: lines[-1][:1],
        lambda lines: bytes(3000),
        lambda lines: lines[-1][: to_sector(lines[:-1])] + bytes(500),
        lambda lines: b"not JSON at all",
    ],
    ids=["half a line", "one byte", "zeros", "half a line and zeros", "noise"],
)
async def test_a_torn_tail_is_kept_named_and_cut(shop: Workshop, tear: Callable[[list[bytes]], bytes]) -> None:
    lines = lines_of(shop)
    tail = tear(lines)
    good = b"".join(lines[:-1])
    journal_of(shop).write_bytes(good + tail)
    assert isinstance(await reopened(shop), Job)
    torn = shop.jobs_dir / "job-1" / "torn" / f"{len(good)}.0"
    assert torn.read_bytes() == tail
    after = journal_of(shop).read_bytes()
    assert after.startswith(good)
    recovery = json.loads(after[len(good) :].splitlines()[0])["body"]["payload"]
    named = {"path": f"torn/{len(good)}.0", "sha256_b64u": sha256_b64u(tail), "size_bytes": len(tail)}
    assert recovery["torn"] == [named]
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.INCOMPLETE


async def torn_of(shop: Workshop, whole: bytes) -> list[object]:
    """The journal with these bytes, opened again: the ``records`` of what the recovery names."""
    journal_of(shop).write_bytes(whole)
    assert isinstance(await reopened(shop), Job)
    recovery = next(record for record in reversed(shop.records()) if record["t"] == "recovery")
    return [item.get("records") for item in recovery["body"]["payload"]["torn"]]


async def test_a_last_line_without_its_lf_is_cut_and_the_record_says_what_it_was(shop: Workshop) -> None:
    await call(await shop.job(grant_of(shop)), grant_of(shop))
    await (await shop.job(grant_of(shop))).deny(denied := make_denied())
    await shop.reopen()
    whole = journal_of(shop).read_bytes()
    assert await torn_of(shop, whole[:-1]) == [[{"receipt_id": denied.receipt_id, "t": "denial"}]]
    assert shop.verdict().verdict is not Verdict.FAILED


async def test_what_the_whole_lines_behind_a_hole_were_is_on_record(shop: Workshop) -> None:
    lines = lines_of(shop)
    start = len(lines) - 3  # a denial, an intent, an event
    hole = to_sector(lines[:start])
    tail = bytes(hole) + lines[start][hole:] + b"".join(lines[start + 1 :])
    (records,) = await torn_of(shop, b"".join(lines[:start]) + tail)
    intent = json.loads(lines[start + 1])["body"]["payload"]["detail"]["receipt_id"]
    assert records == [{"receipt_id": intent, "t": "intent"}, {"receipt_id": None, "t": "event"}]
    assert [path.read_bytes() for path in (shop.jobs_dir / "job-1" / "torn").iterdir()] == [tail]


async def test_a_record_that_is_not_signed_is_none_among_torn_bytes(shop: Workshop) -> None:
    whole = journal_of(shop).read_bytes()
    line = json.loads(lines_of(shop)[-1])
    line["seq"] += 1
    assert await torn_of(shop, whole + jcs_bytes(line)) == [None]


async def test_a_hole_over_an_intent_whose_receipt_follows_is_damage(shop: Workshop) -> None:
    lines = lines_of(shop)
    holes = {n: to_sector(lines[:n]) for n, line in enumerate(lines) if b'"t":"intent"' in line}
    at, hole = next((n, size) for n, size in holes.items() if size)  # one that begins where a sector does has none
    tail = bytes(hole) + lines[at][hole:] + b"".join(lines[at + 1 :])
    journal_of(shop).write_bytes(b"".join(lines[:at]) + tail)
    assert await is_damaged(shop)


async def test_a_nul_in_every_acknowledged_line_is_damage(shop: Workshop) -> None:
    """No line parses then, so what they are must be seen in their bytes; and no crash makes holes of one byte."""
    lines = lines_of(shop)
    for at in (1, 60, -40):
        for first in range(1, len(lines)):
            spoilt = [line[:at] + b"\0" + line[at + 1 :] for line in lines[first:]]
            journal_of(shop).write_bytes(b"".join([*lines[:first], *spoilt]))
            assert await is_damaged(shop), (at, first)


async def test_sectors_blanked_over_acknowledged_calls_are_damage(shop: Workshop) -> None:
    """Whole sectors, as a disk would, but two writes are to be seen in what is left."""
    lines = lines_of(shop)
    at = next(n for n, line in enumerate(lines) if b'"t":"intent"' in line)
    whole, start = b"".join(lines), len(b"".join(lines[:at]))
    for sector in range(-(-start // SECTOR_BYTES), len(b"".join(lines[: at + 2])) // SECTOR_BYTES):
        begin = sector * SECTOR_BYTES
        journal_of(shop).write_bytes(whole[:begin] + bytes(SECTOR_BYTES) + whole[begin + SECTOR_BYTES :])
        assert await is_damaged(shop), sector


@pytest.mark.parametrize(
    ("tail", "offset", "torn"),
    [
        (b"no line", 7, True),
        (bytes(9), 7, True),
        (b"ab" + bytes(9), 510, True),
        (b"ab" + bytes(9), 511, False),
        (bytes(2) + b"ab\n", 510, True),
        (bytes(2) + b"ab\n", 511, False),
        (b"ab" + bytes(512) + b"ab\n", 510, True),
        (b"ab" + bytes(511) + b"ab\n", 510, False),
        (bytes(2) + b'"intent_seq":5,', 510, False),
        (bytes(2) + b'"intent_seq":4,', 510, True),
        (b'"intent' + bytes(512) + b'_seq":5}', 505, False),
        (bytes(2) + b'\\"intent_seq\\":5,', 510, True),
        (bytes(2) + 2 * b'"receipt_id":"rcpt_00000000-0000-4000-8000-000000000000"', 510, False),
        (bytes(2) + b'"receipt_id":"rcpt_00000000-0000-4000-8000-000000000000"', 510, True),
        (bytes(MAX_WRITE_BYTES), 0, True),
        (bytes(MAX_WRITE_BYTES + 1), 0, False),
    ],
)
def test_what_a_crash_leaves(tail: bytes, offset: int, torn: bool) -> None:
    assert (why_not_torn(tail, offset, 5) == "") is torn


async def test_more_bytes_than_one_write_are_no_torn_tail(shop: Workshop) -> None:
    whole = journal_of(shop).read_bytes()
    for tail in (b"x" * (MAX_WRITE_BYTES + 1), bytes(MAX_WRITE_BYTES) + b"\n"):
        journal_of(shop).write_bytes(whole + tail)
        assert await is_damaged(shop)


async def test_torn_files_that_no_record_names_yet_are_named_by_the_next(shop: Workshop) -> None:
    """As after a crash between the cut and the recovery record."""
    torn = shop.jobs_dir / "job-1" / "torn"
    torn.mkdir()
    (torn / "77.0").write_bytes(b"torn before")
    (torn / "770.3").write_bytes(b"torn before, too")
    assert isinstance(await reopened(shop), Job)
    recoveries = [record["body"]["payload"] for record in shop.records() if record["t"] == "recovery"]
    named = [item["path"] for recovery in recoveries for item in recovery["torn"]]
    assert named == ["torn/77.0", "torn/770.3"]


@pytest.mark.parametrize("name", ["x", "077.0", "77", "77.0.0", "77.0/below"])
async def test_a_file_in_torn_that_recovery_did_not_put_there_is_damage(shop: Workshop, name: str) -> None:
    path = shop.jobs_dir / "job-1" / "torn" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"stray")
    assert await is_damaged(shop)
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.seal("job-1")
    assert "torn/" in str(caught.value)


async def test_another_tail_at_the_same_place_gets_a_number_of_its_own(shop: Workshop) -> None:
    whole = journal_of(shop).read_bytes()
    torn = shop.jobs_dir / "job-1" / "torn"
    torn.mkdir()
    (torn / f"{len(whole)}.0").write_bytes(b"an older tail")
    journal_of(shop).write_bytes(whole + b"a newer tail")
    assert isinstance(await reopened(shop), Job)
    assert (torn / f"{len(whole)}.0").read_bytes() == b"an older tail"
    assert (torn / f"{len(whole)}.1").read_bytes() == b"a newer tail"


# -- damage ------------------------------------------------------------------------------------------------------------


def swap(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[1:],
        lambda lines: lines[:3] + lines[4:],
        lambda lines: lines[:3] + lines[2:],
        swap,
        lambda lines: [*lines[:3], b"\n", *lines[3:]],
        lambda lines: [*lines[:3], lines[3].replace(b'"seq":3', b'"seq": 3'), *lines[4:]],
        lambda lines: [*lines[:-1], lines[-1].replace(b'"v":1}', b'"v":2}')],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines, b"{}\n"],
        lambda lines: [],
    ],
    ids=[
        "first gone",
        "one gone",
        "one twice",
        "swapped",
        "empty line",
        "space",
        "version",
        "last twice",
        "added",
        "empty",
    ],
)
async def test_whole_lines_that_do_not_verify_are_damage_and_never_cut(
    shop: Workshop, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    journal_of(shop).write_bytes(b"".join(change(lines_of(shop))))
    assert await is_damaged(shop)


async def test_any_changed_byte_of_an_acknowledged_line_is_damage(shop: Workshop) -> None:
    whole = journal_of(shop).read_bytes()
    last_lf = whole.rindex(b"\n", 0, -1)
    for at in range(5, last_lf, 257):
        journal_of(shop).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert await is_damaged(shop), at
    journal_of(shop).write_bytes(whole)
    assert not await is_damaged(shop)


async def test_a_forged_line_with_right_hashes_is_damage(shop: Workshop) -> None:
    """Who can write the file can also compute hashes; the signature is what they lack."""
    lines = lines_of(shop)
    record = json.loads(lines[-1])
    payload = record["body"]["payload"]
    payload["detail"]["way_in"] = "elsewhere"
    payload["event"]["payload_hash_b64u"] = sha256_b64u(jcs_bytes(payload["detail"]))
    payload["event"]["event_hash_b64u"] = event_hash(payload["event"])
    record["body"]["payload_hash_b64u"] = sha256_b64u(jcs_bytes(record["body"]["payload"]))
    del record["h"]
    record["h"] = sha256_b64u(b"clawproxy.log.v1\n" + jcs_bytes(record))
    journal_of(shop).write_bytes(b"".join(lines[:-1]) + jcs_bytes(record) + b"\n")
    assert await is_damaged(shop)


@pytest.mark.parametrize("name", ["job.json", "contract.json", "receipts.jsonl"])
async def test_a_job_with_a_file_missing_or_changed_is_damaged(shop: Workshop, name: str) -> None:
    path = shop.jobs_dir / "job-1" / name
    content = path.read_bytes()
    for changed in (b"", b"{}", content[:-2], b"[]\n", b"\xff"):
        if name == "receipts.jsonl" and changed == content[:-2]:
            continue  # that is a torn tail
        path.write_bytes(changed)
        assert await is_damaged(shop), changed
    path.unlink()
    assert await is_damaged(shop)


async def test_a_damaged_job_cannot_be_sealed_and_is_judged_once(shop: Workshop) -> None:
    lines = lines_of(shop)
    journal_of(shop).write_bytes(b"".join(lines[1:]))
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.seal("job-1")
    assert caught.value.reason == "JOB_DAMAGED"
    assert "line 1" in str(caught.value)
    assert isinstance(await reopened(shop), Refusal)
    journal_of(shop).write_bytes(b"".join(lines))
    assert isinstance(await reopened(shop), Refusal)  # until a restart: a flood of calls costs one verification


async def test_records_after_the_end_of_a_job_are_damage(shop: Workshop) -> None:
    await shop.book.seal("job-1", force=True)
    await shop.reopen()
    (shop.jobs_dir / "job-1").chmod(0o700)  # who is not root has to
    (shop.jobs_dir / "job-1" / "SEAL.json").unlink()
    journal_of(shop).chmod(0o600)
    whole = journal_of(shop).read_bytes()
    journal_of(shop).write_bytes(whole + b"torn")
    assert await is_damaged(shop)
    journal_of(shop).write_bytes(whole)
    assert (await shop.book.seal("job-1")).sealed_now


async def test_an_end_without_a_seal_takes_no_calls_and_is_sealed_on_request(shop: Workshop) -> None:
    await shop.book.seal("job-1", force=True)
    (shop.jobs_dir / "job-1").chmod(0o700)
    journal_of(shop).chmod(0o600)
    for name in ("SEAL.json", "MANIFEST.json", "proof_bundle.json"):
        (shop.jobs_dir / "job-1" / name).unlink()
    await shop.reopen()
    found = await reopened(shop)
    assert isinstance(found, Refusal)
    assert found.reason == "JOB_SEALED"
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.INCOMPLETE


# -- job.json ----------------------------------------------------------------------------------------------------------


_objects = st.dictionaries(st.text(max_size=9), st.integers() | st.text(max_size=9))


@given(st.binary(max_size=50) | _objects.map(lambda members: json.dumps(members).encode()))
def test_only_our_errors_escape_from_reading_job_json(data: bytes) -> None:
    with pytest.raises(ClawproxyError):
        parse_job_facts(data)


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.integers(0, 2**53 - 1))
def test_job_json_is_read_back_as_it_was_written(text: str, number: int) -> None:
    facts = JobFacts(text, "g", "id", "0" * 32, "j", "job", number, "p", "r")
    assert parse_job_facts(facts.to_bytes()) == facts


async def test_many_restarts_with_tails_between_them_keep_every_call(shop: Workshop) -> None:
    grant = grant_of(shop)
    receipts = []
    for n in range(8):
        await shop.reopen()
        with journal_of(shop).open("ab") as journal:
            journal.write(b"x" * n)
        job = await shop.job(grant)
        receipts += await asyncio.gather(*(call(job, grant) for _ in range(5)))
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.INCOMPLETE
    assert report.counts["receipts"] == 4 + len(receipts)
    assert len(list((shop.jobs_dir / "job-1" / "torn").iterdir())) == 7
