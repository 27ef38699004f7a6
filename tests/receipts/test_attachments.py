"""Other evidence in a job: what is stored, named, sealed and verified, and what a verifier says where it is spoilt."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts import attachments
from clawproxy.receipts.attachments import Attachment, drop_staged, measure_file, stage_file
from clawproxy.receipts.audits import MAX_LISTED, audit_detail
from clawproxy.receipts.disk import OsDisk
from clawproxy.receipts.job_paths import JobPaths
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.report import Fault, Verdict
from clawproxy.receipts.verify_attachments import AttachedSeen
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.errors import ClawproxyError

from .workshop import OTHER_HASH, POLICY_HASH, Workshop, call, trust

CONTENT = b"2 passed\n"
DIGEST = sha256_b64u(CONTENT)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    shop = Workshop(tmp_path)
    yield shop
    await shop.end()


def paths(shop: Workshop) -> JobPaths:
    return JobPaths(shop.jobs_dir, "job-1")


async def attach(shop: Workshop, content: bytes = CONTENT, *, stored: bool = True, **over: Any) -> Attachment:
    file = shop.root / "report.txt"
    file.write_bytes(content)
    digest, size = stage_file(OsDisk(), paths(shop), file) if stored else measure_file(file)
    told: JsonObject = {"kind": "test_report", "name": "report.txt", "note": "", **over}
    attachment = Attachment.parse({**told, "sha256_b64u": digest, "size_bytes": size, "stored": stored})
    await shop.book.attach("job-1", attachment)
    return attachment


async def begun(shop: Workshop) -> None:
    grant = shop.create()
    await call(await shop.job(grant), grant)


def compared(**over: Any) -> JsonObject:
    return {
        "agent": "openclaw",
        "agent_version": "2026.9.6",
        "config_hash_b64u": DIGEST,
        "label": "before",
        "policy_hash_b64u": POLICY_HASH,
        "report_hash_b64u": DIGEST,
        "wider": [{"path": "tools.allow", "value": '"*"', "field": "allowed_tools"}],
        "wider_total": 1,
        **over,
    }


def audited(**over: Any) -> JsonObject:
    return {
        "agent": "openclaw",
        "agent_version": "2026.9.6",
        "config_hash_b64u": DIGEST,
        "label": "after",
        "outcome": "done",
        "exit_code": 0,
        "summary": {"critical": 1, "warn": 2, "info": 3},
        "critical_ids": ["gateway.bind_no_auth"],
        "report_hash_b64u": DIGEST,
        "detail": "",
        **over,
    }


async def test_a_file_is_stored_named_sealed_and_verified_also_after_a_restart(shop: Workshop) -> None:
    await begun(shop)
    await attach(shop, note="of the last run")
    await shop.reopen()
    await attach(shop, kind="ticket", name="T-1.txt")
    await attach(shop, b"", kind="empty")
    kept = paths(shop).attachments / DIGEST
    assert kept.read_bytes() == CONTENT
    assert kept.stat().st_mode & 0o777 == 0o600
    assert list(paths(shop).staging.iterdir()) == []
    report = shop.verdict()
    assert (report.verdict, report.facts["attached"]) == (Verdict.INCOMPLETE, {"attached": 3})
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.VERIFIED, report.findings
    manifest = json.loads(paths(shop).manifest.read_bytes())
    assert {entry["path"] for entry in manifest["entries"]} >= {f"attachments/{DIGEST}"}
    with pytest.raises(ClawproxyError) as caught:
        await attach(shop, b"late")
    assert caught.value.reason == "JOB_SEALED"
    assert list(paths(shop).staging.iterdir()) == []


async def test_the_digest_alone_leaves_no_file_and_verifies(shop: Workshop) -> None:
    await begun(shop)
    await attach(shop, stored=False)
    await shop.book.seal("job-1")
    assert not paths(shop).attachments.exists()
    assert shop.verdict().verdict is Verdict.VERIFIED


def _remove(file: Path) -> None:
    file.unlink()


def _change(file: Path) -> None:
    file.write_bytes(CONTENT.replace(b"2", b"3"))


def _add(file: Path) -> None:
    (file.parent / sha256_b64u(b"planted")).write_bytes(b"planted")


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("spoil", [_remove, _change, _add])
async def test_a_missing_changed_or_added_attachment_is_found(
    shop: Workshop, spoil: Callable[[Path], None], sealed: bool
) -> None:
    await begun(shop)
    await attach(shop)
    if sealed:
        await shop.book.seal("job-1")
        for path in (paths(shop).directory, paths(shop).attachments, paths(shop).attachments / DIGEST):
            path.chmod(0o700)
    spoil(paths(shop).attachments / DIGEST)
    report = shop.verdict()
    gap = spoil is _add and not sealed  # a crash leaves a file that no event names yet
    assert report.verdict is (Verdict.INCOMPLETE if gap else Verdict.FAILED)
    rule = ("J17" if spoil is _change else "J16") if sealed else "J80"
    assert rule in {finding.rule for finding in report.findings}


async def test_a_job_whose_attachment_was_changed_is_not_sealed_so_that_it_can_be_put_right(shop: Workshop) -> None:
    await begun(shop)
    await attach(shop)
    kept = paths(shop).attachments / DIGEST
    _change(kept)
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.seal("job-1")
    assert caught.value.reason == "JOB_DAMAGED"
    kept.write_bytes(CONTENT)
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.VERIFIED


async def test_a_file_that_a_crash_left_unnamed_goes_when_the_job_is_opened_again(shop: Workshop) -> None:
    await begun(shop)
    await shop.book.close()
    folder = paths(shop).attachments
    folder.mkdir()
    (folder / DIGEST).write_bytes(CONTENT)
    shop.book = shop.make_book()
    await attach(shop, b"another")
    assert [path.name for path in folder.iterdir()] == [sha256_b64u(b"another")]
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.VERIFIED


async def test_a_file_that_is_not_the_one_named_is_not_taken(shop: Workshop) -> None:
    await begun(shop)
    file = shop.root / "x"
    file.write_bytes(CONTENT)
    digest, _ = stage_file(OsDisk(), paths(shop), file)
    wrong = Attachment("ticket", "x", "", digest, 3, stored=True)
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.attach("job-1", wrong)
    assert caught.value.reason == "ATTACHMENT_INVALID"
    with pytest.raises(ClawproxyError):
        await shop.book.attach("job-1", Attachment("ticket", "x", "", OTHER_HASH, 3, stored=True))
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert (report.verdict, report.facts.get("attached")) == (Verdict.VERIFIED, None)


async def test_a_job_takes_so_many_attachments_and_so_many_bytes(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clawproxy.receipts.jobs.MAX_ATTACHMENTS", 2)
    monkeypatch.setattr("clawproxy.receipts.jobs.MAX_ATTACHED_BYTES", 12)
    await begun(shop)
    await attach(shop)
    with pytest.raises(ClawproxyError) as caught:
        await attach(shop, b"more bytes")
    assert caught.value.reason == "JOB_FULL"
    await attach(shop, kind="again")  # its file is there
    with pytest.raises(ClawproxyError) as caught:
        await attach(shop, stored=False)
    assert caught.value.reason == "JOB_FULL"


def test_only_regular_files_of_bounded_size_are_staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MAX_ATTACHMENT_BYTES", 10)
    where = JobPaths(tmp_path / "jobs", "j")
    where.jobs_dir.mkdir()
    (tmp_path / "large").write_bytes(b"x" * 11)
    (tmp_path / "link").symlink_to(tmp_path / "large")
    os.mkfifo(tmp_path / "fifo")
    for name in ("large", "link", "fifo", "absent", "."):
        with pytest.raises(ClawproxyError):
            stage_file(OsDisk(), where, tmp_path / name)
        with pytest.raises(ClawproxyError):
            measure_file(tmp_path / name)
    assert list(where.staging.iterdir()) == []
    drop_staged(OsDisk(), where, DIGEST)


@pytest.mark.parametrize(
    "over",
    [
        {"kind": "Test Report"},
        {"kind": ""},
        {"name": "a/b"},
        {"name": ""},
        {"note": "two\nlines"},
        {"note": "x" * 501},
        {"sha256_b64u": "x"},
        {"size_bytes": -1},
        {"size_bytes": True},
        {"stored": 1},
    ],
)
def test_what_an_attachment_may_say_is_bounded(over: JsonObject) -> None:
    told = {"kind": "ticket", "name": "x", "note": "", "sha256_b64u": DIGEST, "size_bytes": 1, "stored": True}
    Attachment.parse(told)
    with pytest.raises(ClawproxyError) as caught:
        Attachment.parse({**told, **over})
    assert caught.value.reason == "ATTACHMENT_INVALID"


async def test_audits_are_on_record_and_verify(shop: Workshop) -> None:
    await begun(shop)
    await shop.book.record_audit("job-1", "config_compared", compared())
    await shop.book.record_audit("job-1", "config_audited", audited())
    failed = audited(outcome="failed", summary=None, exit_code=None, report_hash_b64u=None, config_hash_b64u=None)
    await shop.book.record_audit("job-1", "config_audited", failed)
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.VERIFIED, report.findings
    assert report.facts["attached"] == {"config_audited": 2, "config_compared": 1}


async def test_a_comparison_with_another_contract_than_the_jobs_is_not_recorded(shop: Workshop) -> None:
    await begun(shop)
    with pytest.raises(ClawproxyError) as caught:
        await shop.book.record_audit("job-1", "config_compared", compared(policy_hash_b64u=OTHER_HASH))
    assert caught.value.reason == "POLICY_HASH_MISMATCH"


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ("job_sealed", compared()),
        ("config_compared", audited()),
        ("config_compared", compared(more=1)),
        ("config_compared", compared(label="during")),
        ("config_compared", compared(agent="Open Claw")),
        ("config_compared", compared(wider_total=0)),
        ("config_compared", compared(wider_total=True)),
        ("config_compared", compared(wider="x")),
        ("config_compared", compared(wider=[{"path": 1}])),
        ("config_compared", compared(config_hash_b64u=None)),
        ("config_compared", compared(policy_hash_b64u="x")),
        ("config_audited", audited(summary=None)),
        ("config_audited", audited(outcome="failed")),
        ("config_audited", audited(outcome="perhaps")),
        ("config_audited", audited(exit_code=256)),
        ("config_audited", audited(exit_code=True)),
        ("config_audited", audited(summary={"critical": 0})),
        ("config_audited", audited(summary={"critical": -1, "warn": 0, "info": 0})),
        ("config_audited", audited(critical_ids=[1])),
        ("config_audited", audited(detail=None)),
    ],
)
def test_an_audit_that_is_not_whole_is_not_recorded(event: str, told: JsonObject) -> None:
    with pytest.raises(ClawproxyError) as caught:
        audit_detail(event, told)
    assert caught.value.reason == "INVALID_REQUEST"


def test_lists_and_texts_of_an_audit_are_cut() -> None:
    rows = [{"path": "p" * 9000, "value": "v\n", "field": "f"}] * 500
    detail = audit_detail("config_compared", compared(wider=rows, wider_total=500))
    assert (len(detail["wider"]), detail["wider_total"]) == (MAX_LISTED, 500)
    AttachedSeen().take("config_compared", detail, POLICY_HASH, "x")


@pytest.mark.parametrize(
    ("event", "detail", "reason"),
    [
        ("attached", {"kind": "x"}, "SCHEMA_VALIDATION_FAILED"),
        ("config_compared", compared(policy_hash_b64u=OTHER_HASH), "EVIDENCE_MISMATCH"),
        ("config_compared", compared(wider_total=0), "SCHEMA_VALIDATION_FAILED"),
        ("config_compared", compared(extra=1), "SCHEMA_VALIDATION_FAILED"),
        ("config_audited", audited(summary=None), "SCHEMA_VALIDATION_FAILED"),
        ("config_audited", audited(critical_ids=["x"] * 65), "SCHEMA_VALIDATION_FAILED"),
    ],
)
def test_the_verifier_does_not_take_the_writers_word(event: str, detail: JsonObject, reason: str) -> None:
    with pytest.raises(Fault) as caught:
        AttachedSeen().take(event, detail, POLICY_HASH, "x")
    assert caught.value.reason == reason


async def test_evidence_without_attachments_is_as_it_was(shop: Workshop) -> None:
    await begun(shop)
    await shop.book.seal("job-1")
    files = load_directory(paths(shop).directory).files
    assert not any(name.startswith("attachments") for name in files)
    assert verify_job(files, trust()).verdict is Verdict.VERIFIED
