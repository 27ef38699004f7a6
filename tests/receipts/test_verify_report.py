"""Reports: the finding that decides is never lost among others, however many there are."""

from __future__ import annotations

from clawproxy.receipts.report import MAX_FINDINGS, Findings, Verdict, build_report
from clawproxy.receipts.verify_job import verify_job

from .forge import Forge, trust


def test_a_gap_after_any_number_of_notes_still_decides_and_is_told() -> None:
    findings = Findings()
    for n in range(MAX_FINDINGS + 50):
        findings.note("P12", "TOKEN_SCOPE_VARIES", f"bundle {n}", "a note")
    findings.gap("J08", "NOT_SEALED", "SEAL.json", "not sealed")
    report = build_report("job", findings, whole=Verdict.VERIFIED)
    assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "NOT_SEALED")
    assert "NOT_SEALED" in {finding.reason for finding in report.findings}


def test_a_failure_after_any_number_of_notes_and_gaps_still_decides_and_is_told() -> None:
    findings = Findings()
    for n in range(MAX_FINDINGS + 50):
        findings.note("P12", "TOKEN_SCOPE_VARIES", f"bundle {n}", "a note")
        findings.gap("J41", "CALL_OPEN", f"line {n}", "a gap")
    findings.fail("J17", "HASH_MISMATCH", "contract.json", "another")
    report = build_report("job", findings, whole=Verdict.VERIFIED)
    assert (report.verdict, report.reason) == (Verdict.FAILED, "HASH_MISMATCH")
    assert "HASH_MISMATCH" in {finding.reason for finding in report.findings}
    assert report.findings[-1].detail == "100 more findings are not listed"


def test_a_job_whose_seal_was_taken_away_is_incomplete_behind_a_note_for_each_of_many_segments() -> None:
    forge = Forge()
    forge.open()
    second = forge.token(scope=["clawproxy:call", "x"])
    forge.event("authority_changed", {**forge.authority(), "token": second})
    under_second = {name: second[name] for name in ("token_hash_hex", "token_scope_hash_b64u")}
    for n in range(MAX_FINDINGS + 1):
        if n:
            forge.roll()
        forge.attest(forge.intend(2 * n))
        forge.attest(forge.intend(2 * n + 1, **under_second))
    forge.end()
    files = forge.files()
    assert verify_job(files, trust()).verdict is Verdict.VERIFIED
    for name in ("SEAL.json", "MANIFEST.json"):
        del files[name]
        report = verify_job(files, trust())
        assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "NOT_SEALED")
