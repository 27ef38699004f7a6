"""A job directory, verified: from file names to the last count. Pure; the files come as a mapping path -> bytes.

The rule book, in the order of the checks (docs/evidence-format.md is what they hold the files to):

J01 only the files of the format, under their names; job.json, contract.json and receipts.jsonl are there (FILE_MISSING,
    FILE_UNLISTED)
J02 job.json is the JCS bytes of a closed object
J03 the job key and the gateway's are Ed25519 did:keys; no DID stands in two roles, of this job or of the trust file and
    its lists (KEY_IN_TWO_ROLES); ``gateway_did`` signed the first record (EVIDENCE_MISMATCH); note: another receipt key
    signs later ones (SIGNER_CHANGED)
J04 contract.json is the JCS bytes of a signed contract that says what a contract may say
    (verify_wire, W02 to W05); so is each file in contracts/
J05 its hash is the one in job.json, that of a file in contracts/ the one in its name, and each is that of a contract
    the auditor gave, if any (POLICY_HASH_MISMATCH)
J06 its signer is a trusted policy key, unless the auditor gave the contract itself
J07 no trust file, or none that names receipt keys (and policy keys): a gap (TRUST_NOT_GIVEN)
J08 no SEAL.json: a gap (NOT_SEALED)
J10 to J18 MANIFEST.json and SEAL.json: verify_seal
J20 to J30 the lines of the journal and what is signed in them: verify_journal
J31 to J43 events, calls, authority, recovery: verify_calls; J44, J45 approvals: verify_approvals
J50 to J54 the proof bundles: verify_segments
J60 to J64 every decision worked out again with the contract: verify_contract
J75, J76 the operator's orders: verify_orders
J90 to J92 jobs that were opened to observe: verify_observed, verify_contract

Bytes and hashes come first, for all files; signatures and meaning only when those hold, so a changed byte is found at
once and at its place. Within a phase the first broken rule is told.

VERIFIED: sealed, every rule holds, and the trust file names the signers. Zero calls are VERIFIED only since the seal
counts zero. INCOMPLETE: all that is there holds, but there are gaps. FAILED: anything else.

Limits: who holds the receipt key can write another history; only a copy of the seal or of a head kept elsewhere shows
that. The name of the directory is not checked: bundles travel under other names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..policies.contract import document_in, hash_contract, parse_contract
from ..policies.policy import Policy
from ..tokens.canonical import JsonObject, parse_json_object
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role, public_key_from_did
from ..tokens.trust import Trust, TrustedKey, build_trust
from .job_shapes import ATTACHMENT_PATH, CONTRACT_PATH, JOB_FACTS, TORN_PATH
from .report import Fault, Finding, Findings, Report, Verdict, build_report
from .verify_approvals import ApprovalsSeen
from .verify_budgets import BudgetsSeen
from .verify_calls import JobSeen, check_end
from .verify_change import ContractSeen
from .verify_contract import ContractCheck
from .verify_journal import JOURNAL, Entry, Place, check_signed, parse_canonical, read_journal
from .verify_seal import (
    MANIFEST_FILE,
    SEAL_FILE,
    check_manifest,
    check_seal,
    check_sealed_counts,
    check_sealed_job,
    tell_cut,
)
from .verify_segments import check_proof_bundles
from .verify_wire import check_contract_envelope
from .wire_envelope import Signatures, check_shape, join

JOB_FILE = "job.json"
CONTRACT_FILE = "contract.json"
_NEEDED = (JOB_FILE, CONTRACT_FILE, JOURNAL)
_PROOF_BUNDLE = re.compile(r"proof_bundle(?:\.(?!000[01])\d{4})?\.json", re.ASCII)


@dataclass(frozen=True, slots=True)
class JobBundle:
    """A job's files, read and checked as far as they could be. ``report`` says how far that was."""

    report: Report
    facts: Mapping[str, Any] | None
    entries: tuple[Entry, ...]


def verify_job(
    files: Mapping[str, bytes],
    trust: Trust,
    contract: bytes | Sequence[bytes] | None = None,
    refused: Sequence[Finding] = (),
) -> Report:
    """Verify the files of one job. ``contract`` is the contract that the auditor expects, document or envelope; several
    where the job came under another.

    ``refused`` is what the reader of the files did not take: with any of it, the job fails.
    """
    return examine_job(files, trust, contract, refused).report


def examine_job(
    files: Mapping[str, bytes],
    trust: Trust,
    contract: bytes | Sequence[bytes] | None = None,
    refused: Sequence[Finding] = (),
) -> JobBundle:
    """``verify_job``, with the records that were read."""
    given = (contract,) if isinstance(contract, bytes) else tuple(contract or ())
    examination = _Examination(files, trust, given)
    try:
        examination.run()
    except Fault as fault:
        examination.findings.add(fault.finding())
    bundle = examination.result()
    return replace(bundle, report=_with_refused(bundle.report, refused)) if refused else bundle


def _with_refused(report: Report, refused: Sequence[Finding]) -> Report:
    findings = Findings((*refused, *report.findings)).all()
    return replace(report, verdict=Verdict.FAILED, reason=refused[0].reason, findings=findings)


def _is_inner(name: str) -> bool:
    return any(shape.fault(name) is None for shape in (TORN_PATH, CONTRACT_PATH, ATTACHMENT_PATH))


class _Examination:
    """One verification, phase after phase."""

    def __init__(self, files: Mapping[str, bytes], trust: Trust, given: tuple[bytes, ...]) -> None:
        self.files = files
        self.trust = trust
        self.given = given
        self.findings = Findings()
        self.signatures = Signatures()
        self.job: JsonObject | None = None
        self.entries: list[Entry] = []
        self.seen: JobSeen | None = None
        self.decisions: ContractCheck | None = None

    def run(self) -> None:
        sealed = SEAL_FILE in self.files
        self._check_names()
        job = self.job = self._read_facts()
        signers = self._receipt_signers()
        seal = check_seal(self.files[SEAL_FILE], signers, self.signatures) if sealed else None
        self._check_manifest(seal, job)
        if self.findings.failed and not any(finding.path == JOURNAL for finding in self.findings.kept):
            return  # the place is told; only a journal that differs is read on, for the line
        if seal is not None:
            check_sealed_job(seal, job)
        roles = self._roles_of(job)
        approvals = ApprovalsSeen(job, self.trust, roles, signatures=self.signatures)
        seen = JobSeen(job, self.trust.signers(Role.TOKEN), roles, approvals, ContractSeen(job))
        self._read_records(job, seen, signers, ended=sealed)
        if self.findings.failed:  # the journal differs, and its lines do not say where: what they mean says no more
            if seal is not None:
                tell_cut(seal, self.entries[-1].seq, JOURNAL, self.findings)
            return
        self.seen = seen
        check_end(seen, self.files, self.findings)
        if seal is None:
            lost = "the last record says that the job was sealed, but the seal is not here: it was taken away, or lost"
            open_ = "the job is not sealed: more may follow, or be cut off"
            self.findings.gap("J08", "NOT_SEALED", SEAL_FILE, lost if seen.ended else open_)
        bundles = any(name.startswith("proof_bundle") for name in self.files)
        if seen.ended:
            self._check_bundles(seen, all_due=MANIFEST_FILE in self.files)
        elif sealed or bundles or MANIFEST_FILE in self.files:
            raise Fault("J32", "EVENT_OUT_OF_PLACE", JOURNAL, "files of a seal, but the journal has no job_sealed")
        if seal is not None:
            last = self.entries[-1]
            check_sealed_counts(seal, last.seq, last.h_b64u, seen.counts())
        if self.decisions is not None:
            self.decisions.tell(self.findings)

    def result(self) -> JobBundle:
        counts = dict(self.seen.counts()) if self.seen else {}
        if self.entries:
            counts["records"] = len(self.entries)
        facts: dict[str, Any] = {}
        if self.job is not None:
            facts = {name: self.job[name] for name in ("policy_hash_b64u", "run_id", "agent_did", "gateway_did")}
        if self.entries:
            facts["head_b64u"] = self.entries[-1].h_b64u
        if self.seen:
            facts["containment"] = self.seen.containment.told
            if self.seen.containment.turned_away is not None:
                facts["turned_away"] = dict(sorted(self.seen.containment.turned_away.items()))
            if self.seen.containment.denials_left_out:
                facts["denials_left_out"] = self.seen.containment.denials_left_out
            if self.seen.presenter_strengths:
                facts["presenter_strength"] = sorted(self.seen.presenter_strengths)
            facts |= {name: dict(sorted(told.items())) for name, told in self.seen.told.items()}
        if self.seen and self.seen.attached.counted:
            facts["attached"] = dict(sorted(self.seen.attached.counted.items()))
        if self.seen and len(self.seen.contract.named) > 1:
            facts["policy_hash_b64u_last"] = self.seen.contract.in_force
        if self.seen and self.decisions and self.seen.observe:
            facts["observed"] = {name: self.decisions.outside[name] for name in ("calls", "tools")}
        if self.seen and self.decisions:
            facts["recomputed"] = dict(sorted(self.decisions.counted.items()))
            if self.decisions.without:
                facts["recomputed_without"] = dict(sorted(self.decisions.without.items()))
        job_id = self.job["job_id"] if self.job else None
        report = build_report("job", self.findings, whole=Verdict.VERIFIED, job=job_id, counts=counts, facts=facts)
        return JobBundle(report, self.job, tuple(self.entries))

    # -- phases --------------------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        known = {*_NEEDED, MANIFEST_FILE, SEAL_FILE}
        for name in sorted(self.files):
            if name in known or _PROOF_BUNDLE.fullmatch(name) or _is_inner(name):
                continue
            self.findings.fail("J01", "FILE_UNLISTED", name, "not a file of the format")
        for name in _NEEDED:
            if name not in self.files:
                raise Fault("J01", "FILE_MISSING", name, "every job has this file")
        if SEAL_FILE in self.files and MANIFEST_FILE not in self.files:
            raise Fault("J01", "FILE_MISSING", MANIFEST_FILE, "a sealed job has this file")

    def _read_facts(self) -> JsonObject:
        job: JsonObject = parse_canonical(self.files[JOB_FILE], "J02", JOB_FILE)
        check_shape(JOB_FACTS, job, "J02", JOB_FILE)
        for member in ("gateway_did", "job_did"):
            try:
                public_key_from_did(job[member])
            except ClawproxyError as err:
                raise Fault.of(err, "J03", join(JOB_FILE, member)) from None
        self._check_roles(job)
        return job

    def _check_roles(self, job: JsonObject) -> None:
        """J03. The agent's DID may be the job key's, and nothing else."""
        roles = dict(self.trust.roles)
        for member, role in (("gateway_did", Role.RECEIPT), ("job_did", Role.JOB), ("agent_did", Role.JOB)):
            known = roles.setdefault(job[member], str(role))
            if known != role:
                detail = f"{job[member]} is a {known} key as well"
                raise Fault("J03", "KEY_IN_TWO_ROLES", join(JOB_FILE, member), detail)

    def _roles_of(self, job: JsonObject) -> dict[str, str]:
        """DID -> role, of all that this job and the trust file name."""
        stated = {job["agent_did"]: Role.JOB, job["job_did"]: Role.JOB, job["gateway_did"]: Role.RECEIPT}
        return dict(self.trust.roles) | {did: str(role) for did, role in stated.items()}

    def _receipt_signers(self) -> frozenset[str] | None:
        signers = self.trust.signers(Role.RECEIPT)
        if signers:
            return signers
        why = "the trust file names no receipt key" if self.trust.given else "no trust file was given"
        self.findings.gap("J07", "TRUST_NOT_GIVEN", JOB_FILE, f"{why}: who made this bundle is not known")
        return None

    def _check_manifest(self, seal: Mapping[str, Any] | None, job: JsonObject) -> None:
        if seal is not None:
            if sha256_b64u(self.files[MANIFEST_FILE]) != seal["manifest_sha256_b64u"]:
                check_sealed_job(seal, job)  # a seal of another job is told before a manifest that it does not fit
            check_manifest(self.files, seal["manifest_sha256_b64u"], self.findings)
        elif MANIFEST_FILE in self.files:
            check_manifest(self.files, None, self.findings)

    def _check_contracts(self, job: JsonObject, seen: JobSeen) -> None:
        """J04 to J06, of the job's first contract and of those that it came under."""
        given = self._given_hashes()
        checks = ContractCheck(strict=bool(given))
        policies: dict[str, Policy] = {}
        later = sorted(name for name in self.files if name.startswith("contracts/"))
        for name in (CONTRACT_FILE, *later):
            envelope = parse_canonical(self.files[name], "J04", name)
            policy_hash = self._check_contract(envelope, name, given)
            stated = name.removeprefix("contracts/").removesuffix(".json") if name in later else job["policy_hash_b64u"]
            if policy_hash != stated or policy_hash in policies:
                what = "job.json" if name == CONTRACT_FILE else "its own name"
                raise Fault("J05", "POLICY_HASH_MISMATCH", name, f"not the contract that {what} names, or there twice")
            signer = envelope["signer_did"]
            known = seen.roles.setdefault(signer, str(Role.POLICY))
            if known != Role.POLICY:
                raise Fault("J03", "KEY_IN_TWO_ROLES", join(name, "signer_did"), f"it is a {known} key as well")
            policies[policy_hash] = parse_contract(envelope["payload"]).policy
            checks.add(policy_hash, envelope["payload"], name)
        seen.policies, seen.contract.known = policies, policies.keys()
        first = policies[job["policy_hash_b64u"]]
        seen.approvals.policy = first
        seen.budgets = BudgetsSeen(first.budgets, job["opened_ms"])
        self.decisions = checks

    def _check_contract(self, envelope: JsonObject, name: str, given: frozenset[str]) -> str:
        signers = self.trust.signers(Role.POLICY)
        signer_known = bool(signers) and not given
        try:
            policy_hash = check_contract_envelope(
                envelope, self.trust, self.signatures, name, signer_known=signer_known
            )
        except Fault as fault:
            rule = "J06" if fault.reason in ("CLAIM_NOT_FOUND", "DEPENDENCY_NOT_CONFIGURED") else "J04"
            raise Fault(rule, fault.reason, fault.path, fault.detail) from None
        if given and policy_hash not in given:
            expected = ", ".join(sorted(given))
            detail = f"the job ran under {policy_hash}, the contract given is {expected}"
            raise Fault("J05", "POLICY_HASH_MISMATCH", name, detail)
        if not signers and not given:
            why = "the trust file names no policy key, and no contract was given"
            self.findings.gap("J07", "TRUST_NOT_GIVEN", name, f"{why}: who signed it is not known")
        return policy_hash

    def _given_hashes(self) -> frozenset[str]:
        try:
            return frozenset(hash_contract(document_in(parse_json_object(given))) for given in self.given)
        except ClawproxyError as err:
            raise Fault.of(err, "J05", "the contract given") from None

    def _read_records(self, job: JsonObject, seen: JobSeen, signers: frozenset[str] | None, *, ended: bool) -> None:
        """The contract, then the journal. What of the journal holds is kept also if the contract does not."""
        unfit: Fault | None = None
        try:
            self._check_contracts(job, seen)
        except Fault as fault:
            unfit = fault
        head = sha256_b64u(self.files[JOB_FILE])
        check = self._record_check(job, seen, signers)
        try:
            read_journal(
                self.files[JOURNAL], head, ended=ended, findings=self.findings, entries=self.entries, check=check
            )
            if not self.entries:
                detail = "no record: a job's directory appears with its first one"
                raise Fault("J32", "EVENT_OUT_OF_PLACE", JOURNAL, detail)
        except Fault as fault:
            raise (unfit or fault) from None
        if unfit:
            raise unfit

    def _record_check(self, job: JsonObject, seen: JobSeen, signers: frozenset[str] | None) -> Callable[[Entry], None]:
        """J03 and J25 to J40 of each record, as it is read."""
        place = Place(job["job_id"], job["incarnation"], signers)
        others = {job["job_did"], job["agent_did"]}
        known: set[str] = set()

        def check(entry: Entry) -> None:
            where = join(entry.path, "body.signer_did")
            if not self.entries and entry.envelope.get("signer_did") != job["gateway_did"]:
                raise Fault("J03", "EVIDENCE_MISMATCH", where, "not the gateway_did of job.json")
            last_timestamp = self.entries[-1].payload["timestamp"] if self.entries else ""
            check_signed(entry, place, last_timestamp, self.signatures)
            signer = entry.envelope["signer_did"]
            if self.entries and signer not in known:
                self.findings.note("J03", "SIGNER_CHANGED", where, f"from here {signer} signs")
            known.add(signer)
            if entry.envelope["signer_did"] in others:
                raise Fault("J03", "KEY_IN_TWO_ROLES", where, "the job's or agent's key signs as a receipt key")
            seen.take(entry)
            if self.decisions is not None:
                self.decisions.take(entry, seen.tokens)

        return check

    def _check_bundles(self, seen: JobSeen, *, all_due: bool) -> None:
        """Against the receipt keys that count: the trusted ones, or, while nobody named any, those of the journal."""
        trust = self.trust
        if not trust.signers(Role.RECEIPT):
            dids = {entry.envelope["signer_did"] for entry in self.entries}
            trust = build_trust(TrustedKey(did, Role.RECEIPT) for did in sorted(dids))
        check_proof_bundles(self.files, seen, trust, self.findings, self.signatures, all_due=all_due)
