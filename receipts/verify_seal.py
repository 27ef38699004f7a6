"""Rules of MANIFEST.json and SEAL.json (docs/evidence-format.md). Pure.

J10 SEAL.json is the JCS bytes of a closed ``gateway_seal`` envelope, its payload closed
J11 ``issued_at`` is the payload's ``timestamp`` (CAUSAL_CLOCK_CONTRADICTION)
J12 hash, trusted receipt key, signature (HASH_MISMATCH, CLAIM_NOT_FOUND, SIGNATURE_INVALID)
J13 it seals this job: job id, incarnation, run id, contract (EVIDENCE_MISMATCH)
J14 MANIFEST.json is there and has the hash that the seal names (HASH_MISMATCH)
J15 it is the JCS bytes of a closed manifest, sorted by path
J16 it lists every file but itself and SEAL.json, and no other (FILE_MISSING, FILE_UNLISTED)
J17 each file has the listed size and hash (HASH_MISMATCH)
J18 the seal's head, final ``seq`` and counts are the journal's (SEAL_MISMATCH); of a journal that differs (J17) and
    each of whose lines holds, it is said if it ends before that

No byte of a sealed bundle is exempt: the members that an envelope leaves unsigned are covered by the manifest's hashes,
in SEAL.json itself by J10 and J11.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.digests import sha256_b64u
from .job_shapes import MANIFEST, SEAL, SEAL_ENVELOPE
from .report import Fault, Findings
from .verify_journal import check_own_signature, parse_canonical
from .wire_envelope import Signatures, check_shape, join

SEAL_FILE = "SEAL.json"
MANIFEST_FILE = "MANIFEST.json"


def check_seal(data: bytes, signers: Collection[str] | None, signatures: Signatures) -> JsonObject:
    """J10 to J12; returns the seal's payload. Raises ``Fault``."""
    envelope = parse_canonical(data, "J10", SEAL_FILE)
    check_shape(SEAL_ENVELOPE, envelope, "J10", SEAL_FILE)
    payload: JsonObject = envelope["payload"]
    check_shape(SEAL, payload, "J10", join(SEAL_FILE, "payload"))
    if envelope["issued_at"] != payload["timestamp"]:
        raise Fault("J11", "CAUSAL_CLOCK_CONTRADICTION", join(SEAL_FILE, "issued_at"), "not the payload's timestamp")
    computed = sha256_b64u(jcs_bytes(payload))
    check_own_signature(envelope, computed, signers, signatures, ("J12", "J12", "J12"), SEAL_FILE)
    return payload


def check_sealed_job(seal: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    """J13."""
    for member in ("job_id", "incarnation", "run_id", "policy_hash_b64u"):
        if seal[member] != job[member]:
            where = join(SEAL_FILE, f"payload.{member}")
            raise Fault("J13", "EVIDENCE_MISMATCH", where, f"not that of job.json, {job[member]}")


def check_manifest(files: Mapping[str, bytes], manifest_sha256_b64u: str | None, findings: Findings) -> None:
    """J14 to J17. Files that differ are findings, all of them, so that a reader sees how far the damage goes."""
    data = files[MANIFEST_FILE]
    if manifest_sha256_b64u is not None and sha256_b64u(data) != manifest_sha256_b64u:
        raise Fault("J14", "HASH_MISMATCH", MANIFEST_FILE, "not the manifest that was sealed")
    manifest = parse_canonical(data, "J15", MANIFEST_FILE)
    check_shape(MANIFEST, manifest, "J15", MANIFEST_FILE)
    entries = {entry["path"]: entry for entry in manifest["entries"]}
    if list(entries) != sorted(entries) or len(entries) != len(manifest["entries"]):
        raise Fault("J15", "MALFORMED_ENVELOPE", join(MANIFEST_FILE, "entries"), "not sorted by path, each once")
    there = files.keys() - {MANIFEST_FILE, SEAL_FILE}
    for path in sorted(entries.keys() - there):
        findings.fail("J16", "FILE_MISSING", path, "the manifest lists it, and it is not there")
    for path in sorted(there - entries.keys()):
        findings.fail("J16", "FILE_UNLISTED", path, "the manifest does not list it")
    for path in sorted(entries.keys() & there):
        if len(files[path]) != entries[path]["size_bytes"] or sha256_b64u(files[path]) != entries[path]["sha256_b64u"]:
            stated, found = entries[path]["size_bytes"], len(files[path])
            sizes = "" if found == stated else f": got {found} bytes, expected {stated}"
            findings.fail("J17", "HASH_MISMATCH", path, f"not the bytes that the manifest lists{sizes}")


def tell_cut(seal: Mapping[str, Any], last_seq: int, path: str, findings: Findings) -> None:
    """J18 for a journal that differs and each of whose lines holds: that it was cut, and how much is gone."""
    missing = seal["final_seq"] - last_seq
    if missing > 0:
        gone = f"{missing} records are" if missing > 1 else "one record is"
        where = f"its last record is number {last_seq}, the seal's is number {seal['final_seq']}"
        findings.fail("J18", "SEAL_MISMATCH", path, f"the bundle ends before its seal says: {where}; {gone} cut off")


def check_sealed_counts(seal: Mapping[str, Any], final_seq: int, head_b64u: str, counts: Mapping[str, int]) -> None:
    """J18."""
    inside = join(SEAL_FILE, "payload")
    for member, value in (("final_seq", final_seq), ("head_b64u", head_b64u)):
        if seal[member] != value:
            raise Fault("J18", "SEAL_MISMATCH", join(inside, member), f"the journal's is {value}")
    for name in sorted(counts.keys() | seal["counts"].keys()):
        if seal["counts"].get(name) != counts.get(name):
            detail = f"the journal has {counts.get(name)}"
            raise Fault("J18", "SEAL_MISMATCH", join(inside, f"counts.{name}"), detail)
