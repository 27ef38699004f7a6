"""Touches files: ends a job. Reads the journal once more, verified, and writes proof bundles, MANIFEST and SEAL.

The order, each file whole and durable before the next: proof bundles, MANIFEST.json, SEAL.json, then write permission
goes. SEAL.json's presence means sealed. All that is written follows from the journal (times are those of its records,
ids those of the job), so a seal that was cut off is done again and gives the same bytes.

A file that is not the gateway's would be found by every verifier for ever, so ``check_directory`` refuses it before
anything is written.

``custody: gateway`` in a proof bundle says that the gateway held the agent's key: it is not the agent's own consent.

Limits: until checkpoints leave the machine, nothing outside the state directory remembers it. Who can write it can put
it back to an earlier moment, or take SEAL.json away, cut the journal at a line and have it sealed again: only a copy
of the first seal, or of a later head, shows that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..policies.budget_rules import NOTHING, Amounts
from ..tokens.canonical import JsonObject, jcs_bytes, parse_json_object
from ..tokens.digests import b64u_encode, sha256_b64u
from ..tokens.envelope import build_envelope
from ..tokens.errors import ClawproxyError
from ..tokens.keys import SigningKey
from .attachments import attachment_names
from .budget import charged_in
from .contract_files import contract_names, stray_file
from .disk import Disk, place_file, read_whole
from .job_facts import JobFacts
from .job_paths import JobPaths, proof_bundle_name
from .progress import Progress
from .rate_claims import Rates, read_rates
from .records import Record
from .recover import check_torn_names, new_progress, progress_take, walk_journal

_MAX_SEAL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class SealResult:
    """A sealed job. ``sealed_now`` is False where it was sealed before."""

    job_id: str
    directory: Path
    head_b64u: str
    final_seq: int
    counts: Mapping[str, int]
    sealed_now: bool


@dataclass(slots=True)
class _SegmentBundle:
    """What one segment's proof bundle gathers while the journal is read."""

    policy_hash_b64u: str
    """The contract that its calls are under."""
    event_chain: list[JsonObject] = field(default_factory=list)
    receipts: list[JsonObject] = field(default_factory=list)
    effects: list[JsonObject] = field(default_factory=list)
    """Side effects that hang on a receipt of the segment; of the others, only ``effects_total`` tells."""
    effects_total: int = 0
    approvals: list[JsonObject] = field(default_factory=list)
    """Approvals that are on record in the segment and name a call."""
    approvals_total: int = 0
    open_calls: set[str] = field(default_factory=set)
    denials: int = 0
    gaps: int = 0
    harness_bound: int = 0
    charged: Amounts = NOTHING
    """What its calls were charged, in a job with budgets."""

    @property
    def anchored_approvals(self) -> list[JsonObject]:
        """Those that hang on a receipt of the segment; of the others, only ``approvals_total`` tells."""
        spans = {envelope["payload"]["binding"].get("span_id") for envelope in self.receipts}
        return [item for item in self.approvals if item["binding"]["parent_span_id"] in spans]

    @property
    def is_of_a_harness_alone(self) -> bool:
        return self.harness_bound > 0 and not self.receipts


def read_seal(disk: Disk, paths: JobPaths) -> SealResult | None:
    """The seal of a job, if it has one. Reads it, does not verify it."""
    if disk.size(paths.seal) is None:
        return None
    payload = parse_json_object(read_whole(disk, paths.seal, _MAX_SEAL_BYTES))["payload"]
    return SealResult(
        paths.job_id, paths.directory, payload["head_b64u"], payload["final_seq"], payload["counts"], sealed_now=False
    )


def check_directory(disk: Disk, paths: JobPaths, made: Iterable[str] = ()) -> None:
    """That a job's directory holds the job, its torn files and contracts, and of what a seal makes at most ``made``.

    Raises ``ClawproxyError`` (JOB_DAMAGED) naming the first file that is not the gateway's.
    """
    known = {paths.facts.name, paths.contract.name, paths.journal.name, *made}
    for name in disk.names(paths.directory):
        path = paths.directory / name
        fits = (
            disk.is_dir(path)
            if name in (paths.torn.name, paths.contracts.name, paths.attachments.name)
            else name in known and disk.size(path) is not None
        )
        if not fits:
            raise stray_file(paths, name)
    check_torn_names(disk, paths)
    contract_names(disk, paths)
    attachment_names(disk, paths)


def names_of_a_seal(facts: JobFacts, segments: int) -> Iterator[str]:
    """What a seal that was cut off may have left."""
    yield from ("MANIFEST.json", "SEAL.json")
    if facts.gateway_is_agent:
        yield from map(proof_bundle_name, range(1, segments + 1))


def write_seal(
    disk: Disk,
    paths: JobPaths,
    facts: JobFacts,
    signers: frozenset[str],
    receipt_key: SigningKey,
    job_key: SigningKey | None,
    segments: int,
) -> SealResult:
    """Seal a job whose journal ends in ``job_sealed`` and which nobody writes; the caller holds its lock.

    ``job_key`` signs the proof bundles; without it there are none. ``segments`` is how many the journal has. Raises
    ``ClawproxyError`` (JOB_DAMAGED) or ``OSError``.
    """
    progress = new_progress(facts)
    rates = read_rates(disk, paths)
    open_bundles: dict[int, _SegmentBundle] = {}
    written: list[str] = []
    at = ""
    for record in walk_journal(disk, paths, facts, signers):
        if isinstance(record, bytes):
            raise ClawproxyError("JOB_DAMAGED", "the journal ends in a torn line", where=str(paths.journal))
        _gather(record, progress, open_bundles)
        progress_take(progress, record, paths)
        at = record.payload["timestamp"]
        for number in [n for n, bundle in open_bundles.items() if n < progress.current and not bundle.open_calls]:
            written += _write_bundle(disk, paths, facts, job_key, number, segments, open_bundles.pop(number), at, rates)
    if not progress.sealed or progress.current != segments or rates.window_end not in ("", at):
        raise ClawproxyError("JOB_DAMAGED", "the journal has no end to seal", where=str(paths.journal))
    for number, bundle in sorted(open_bundles.items()):
        written += _write_bundle(disk, paths, facts, job_key, number, segments, bundle, at, rates)
    check_directory(disk, paths, [*written, paths.manifest.name, paths.seal.name])
    manifest = jcs_bytes({"entries": list(_entries(disk, paths, written)), "generated_at": at, "manifest_version": "1"})
    place_file(disk, paths.staged("MANIFEST.json"), paths.manifest, manifest)
    result = _place_seal(disk, paths, facts, receipt_key, progress, sha256_b64u(manifest), at)
    protect(disk, paths)
    return result


def protect(disk: Disk, paths: JobPaths) -> None:
    """Take write permission away: against accidents, since the owner can give it back."""
    for inner in (paths.torn, paths.contracts, paths.attachments):
        for name in disk.names(inner):
            disk.make_read_only(inner / name)
    for name in disk.names(paths.directory):
        disk.make_read_only(paths.directory / name)
    disk.make_read_only(paths.directory)


def _gather(record: Record, progress: Progress, bundles: dict[int, _SegmentBundle]) -> None:
    """Add one record to the bundle of its segment; ``progress`` still stands before it."""
    payload = record.payload
    if record.kind == "recovery":
        for receipt_id in payload["open_calls"]:
            call = progress.open_calls[receipt_id]
            bundle = bundles[call.segment]
            bundle.charged += call.reserved or NOTHING
            bundle.gaps += 1
            bundle.open_calls.discard(receipt_id)
        return
    place = payload["metadata"]["clawproxy"] if record.kind == "receipt" else payload
    if place["segment"] not in bundles:
        bundles[place["segment"]] = _SegmentBundle(progress.policy_hash_b64u)
    bundle = bundles[place["segment"]]
    if record.kind == "denial":
        bundle.denials += 1
    elif record.kind == "receipt":
        bundle.open_calls.discard(payload["receipt_id"])
        bundle.charged += charged_in(place) or NOTHING
        if "run_id" in place:
            bundle.harness_bound += 1
        else:
            bundle.receipts.append(record.envelope)
    elif record.kind == "effect":
        receipt = payload["side_effect"]
        bundle.open_calls.discard(receipt["receipt_id"])
        bundle.effects_total += 1
        if "parent_span_id" in receipt["binding"]:
            bundle.effects.append(receipt)
    else:
        bundle.event_chain.append(payload["event"])
        if record.kind == "intent":
            bundle.open_calls.add(payload["detail"]["receipt_id"])
        elif payload["event"]["event_type"] == "authority_changed":
            bundle.policy_hash_b64u = payload["detail"].get("policy_hash_b64u", bundle.policy_hash_b64u)
        elif payload["event"]["event_type"] == "approval":
            bundle.approvals_total += 1
            if payload["detail"]["scope"]["call"] is not None:
                bundle.approvals.append(payload["detail"]["approval"]["payload"])


def _write_bundle(
    disk: Disk,
    paths: JobPaths,
    facts: JobFacts,
    job_key: SigningKey | None,
    number: int,
    segments: int,
    bundle: _SegmentBundle,
    at: str,
    rates: Rates,
) -> list[str]:
    """Returns the name of the file, if there is one."""
    if job_key is None or bundle.is_of_a_harness_alone:
        return []
    ours = {
        "custody": "gateway",
        "denials": bundle.denials,
        "gaps": bundle.gaps,
        "harness_bound": bundle.harness_bound,
        "incarnation": facts.incarnation,
        "job_id": facts.job_id,
        "policy_hash_b64u": bundle.policy_hash_b64u,
        "segment": number,
        "segments": segments,
    }
    if bundle.effects_total:
        ours |= {"effects": bundle.effects_total, "effects_unanchored": bundle.effects_total - len(bundle.effects)}
    approvals = bundle.anchored_approvals
    if bundle.approvals_total:
        ours |= {
            "approvals": bundle.approvals_total,
            "approvals_unanchored": bundle.approvals_total - len(approvals),
        }
    payload: JsonObject = {
        "agent_did": facts.agent_did,
        "bundle_id": f"bundle_{facts.incarnation}_{number:04d}",
        "bundle_version": "1",
        "event_chain": bundle.event_chain,
        "metadata": {"clawproxy": ours},
    }
    if bundle.receipts:
        payload["receipts"] = sorted(bundle.receipts, key=lambda envelope: str(envelope["payload"]["receipt_id"]))
    claim = rates.claim(bundle.policy_hash_b64u, bundle.charged, facts, bundle.event_chain[0]["run_id"])
    if claim is not None:
        payload["rate_limit_claims"] = [claim]
    if bundle.effects:
        payload["side_effect_receipts"] = sorted(bundle.effects, key=lambda effect: str(effect["receipt_id"]))
    if approvals:
        payload["human_approval_receipts"] = sorted(approvals, key=lambda item: str(item["receipt_id"]))
    name = proof_bundle_name(number)
    content = jcs_bytes(build_envelope("proof_bundle", payload, job_key, at))
    place_file(disk, paths.staged(name), paths.directory / name, content)
    return [name]


def _entries(disk: Disk, paths: JobPaths, bundles: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Every file of the bundle but MANIFEST and SEAL."""
    names = [*bundles, paths.facts.name, paths.contract.name, paths.journal.name]
    names += [f"{paths.torn.name}/{n}" for n in disk.names(paths.torn)]
    for inner in (paths.contracts, paths.attachments):
        names += [f"{inner.name}/{n}" for n in disk.names(inner)]
    for name in sorted(names):
        digest, size = hashlib.sha256(), 0
        for block in disk.read_blocks(paths.directory / name):
            digest.update(block)
            size += len(block)
        yield {
            "content_type": _content_type(name),
            "path": name,
            "sha256_b64u": b64u_encode(digest.digest()),
            "size_bytes": size,
        }


def _content_type(name: str) -> str:
    if name.endswith(".jsonl"):
        return "application/x-ndjson"
    return "application/json" if name.endswith(".json") else "application/octet-stream"


def _place_seal(
    disk: Disk,
    paths: JobPaths,
    facts: JobFacts,
    receipt_key: SigningKey,
    progress: Progress,
    manifest_sha256_b64u: str,
    at: str,
) -> SealResult:
    counts = progress.counts
    payload: JsonObject = {
        "counts": counts,
        "final_seq": progress.next_seq - 1,
        "head_b64u": progress.head_b64u,
        "incarnation": facts.incarnation,
        "job_id": facts.job_id,
        "manifest_sha256_b64u": manifest_sha256_b64u,
        "policy_hash_b64u": facts.policy_hash_b64u,
        "run_id": facts.run_id,
        "timestamp": at,
    }
    envelope = build_envelope("gateway_seal", payload, receipt_key, at)
    place_file(disk, paths.staged("SEAL.json"), paths.seal, jcs_bytes(envelope))
    return SealResult(facts.job_id, paths.directory, progress.head_b64u, progress.next_seq - 1, counts, sealed_now=True)
