"""Touches files: makes a job's directory, whole or not at all, and the key that the gateway holds for it.

The directory is filled under ``.staging/``, synced, and renamed into place, so a job that exists has its facts, its
contract and its first record.
"""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.claims import is_job_id
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role, SigningKey, load_key, save_key
from .containment import NOT_ATTESTED, Containment
from .contract_files import MAX_CONTRACT_BYTES
from .disk import Disk, OsDisk, write_synced
from .job_facts import JobFacts
from .job_paths import JobPaths, job_key_path
from .payloads import OBSERVE, authority_detail
from .recover import new_progress
from .scribe import Scribe


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """A job made by ``create_job``: mint its tokens with ``sub`` = ``job_did``."""

    job_id: str
    job_did: str
    run_id: str
    directory: Path


def create_job(
    jobs_dir: Path,
    job_keys_dir: Path,
    *,
    receipt_key: SigningKey,
    gateway_id: str,
    policy_hash_b64u: str,
    contract_envelope: JsonObject,
    now_ms: int,
    job_id: str | None = None,
    token_template: Mapping[str, Any] | None = None,
    presenter: str | None = None,
    way_in: str = "job open",
    containment: Containment = NOT_ATTESTED,
    observe: bool = False,
    disk: Disk | None = None,
) -> CreatedJob:
    """Open a job without a gateway: its agent is the key that the gateway holds, so its proof bundles can be signed.

    ``token_template`` are the claims that tokens of this job will bear (``aud``, ``scope``, …), as far as they are
    known; ``sub``, ``mission_id`` and the contract are filled in. With ``observe``, which is signed with the opening
    and never changes, what the contract refuses is let through and recorded. Blocks on the disk; durable on return.
    Raises ``ClawproxyError`` (JOB_EXISTS, JOB_LOCKED, EVIDENCE_UNAVAILABLE, POLICY_HASH_MISMATCH, KEY_IN_TWO_ROLES).
    """
    disk = disk or OsDisk()
    paths = JobPaths(jobs_dir, job_id or f"job-{uuid.uuid4()}")
    if not is_job_id(paths.job_id):
        raise ClawproxyError(
            "PARSE_ERROR",
            "not a job id",
            got=job_id,
            expected="letters, digits, . _ -, at most 128, a letter or digit first",
        )
    try:
        make_directories(disk, paths)
        lock = disk.lock(paths.lock)
        if lock is None:
            raise locked(paths)
        try:
            if disk.is_dir(paths.directory):
                raise ClawproxyError(
                    "JOB_EXISTS",
                    "a job of this name is already there",
                    where=paths.job_id,
                    remedy="choose another --job",
                )
            key = ensure_job_key(job_keys_dir, paths.job_id)
            if key.did in (receipt_key.did, contract_envelope.get("signer_did")):
                raise ClawproxyError(
                    "KEY_IN_TWO_ROLES",
                    "the job's key is the gateway's receipt key or the contract signer's",
                    where=str(job_key_path(job_keys_dir, paths.job_id)),
                    remedy="remove that file; a key of its own is then made for the job",
                )
            token: JsonObject = {
                **(token_template or {}),
                "mission_id": paths.job_id,
                "policy_hash_b64u": policy_hash_b64u,
                "sub": key.did,
            }
            facts = build_facts(paths.job_id, key.did, key.did, receipt_key, gateway_id, policy_hash_b64u, now_ms)
            detail = authority_detail(token, presenter, way_in, containment)
            detail |= {"enforcement": OBSERVE} if observe else {}
            create_files(disk, paths, facts, contract_envelope, receipt_key, detail)
        finally:
            disk.close(lock)
    except OSError as err:
        raise unavailable(paths, err) from None
    return CreatedJob(paths.job_id, key.did, facts.run_id, paths.directory)


def make_directories(disk: Disk, paths: JobPaths) -> None:
    """``jobs/`` and what lies beside the jobs; its parent must exist."""
    for directory in (paths.jobs_dir, paths.locks, paths.staging):
        if not disk.is_dir(directory):
            disk.mkdir(directory)
    disk.fsync_dir(paths.jobs_dir.parent)


def build_facts(
    job_id: str,
    agent_did: str,
    job_did: str,
    receipt_key: SigningKey,
    gateway_id: str,
    policy_hash_b64u: str,
    now_ms: int,
) -> JobFacts:
    """job.json of a new job, with a fresh incarnation and run id."""
    return JobFacts(
        agent_did=agent_did,
        gateway_did=receipt_key.did,
        gateway_id=gateway_id,
        incarnation=secrets.token_hex(16),
        job_did=job_did,
        job_id=job_id,
        opened_ms=now_ms,
        policy_hash_b64u=policy_hash_b64u,
        run_id=f"run_{uuid.uuid4()}",
    )


def create_files(
    disk: Disk,
    paths: JobPaths,
    facts: JobFacts,
    contract_envelope: JsonObject,
    receipt_key: SigningKey,
    detail: JsonObject,
) -> None:
    """The directory with job.json, contract.json and the ``job_opened`` record; durable on return."""
    contract = jcs_bytes(contract_envelope)
    if contract_envelope.get("payload_hash_b64u") != facts.policy_hash_b64u or len(contract) > MAX_CONTRACT_BYTES:
        raise ClawproxyError(
            "POLICY_HASH_MISMATCH",
            "the contract is not the one of this job, or too large",
            got=contract_envelope.get("payload_hash_b64u"),
            expected=facts.policy_hash_b64u,
        )
    scribe = Scribe(new_progress(facts), receipt_key, facts.gateway_id, facts.agent_did)
    opened = scribe.event("job_opened", detail, facts.opened_ms)
    staged = paths.staged_job
    for name in disk.names(staged):
        disk.unlink(staged / name)  # what a crash left
    disk.mkdir(staged)
    for target, content in ((paths.facts, facts.to_bytes()), (paths.contract, contract), (paths.journal, opened.line)):
        write_synced(disk, staged / target.name, content)
    disk.fsync_dir(staged)
    disk.rename(staged, paths.directory)
    disk.fsync_dir(paths.jobs_dir)


def ensure_job_key(job_keys_dir: Path, job_id: str) -> SigningKey:
    """The job's key, made if it is not there; durable on return."""
    path = job_key_path(job_keys_dir, job_id)
    if path.exists():
        return load_key(path, Role.JOB)
    job_keys_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    half = path.with_name(path.name + ".new")
    half.unlink(missing_ok=True)
    key = SigningKey.generate(Role.JOB)
    save_key(key, half)
    os.rename(half, path)
    OsDisk().fsync_dir(job_keys_dir)
    return key


def locked(paths: JobPaths) -> ClawproxyError:
    return ClawproxyError(
        "JOB_LOCKED",
        "another process has this job open",
        where=str(paths.directory),
        remedy="let the running gateway do it (clawproxy job …), or stop it first",
    )


def unavailable(paths: JobPaths, err: OSError) -> ClawproxyError:
    """A disk that does not do as asked."""
    return ClawproxyError(
        "EVIDENCE_UNAVAILABLE",
        f"the job's files could not be written or read: {(err.strerror or type(err).__name__).lower()}",
        where=str(err.filename or paths.directory),
        remedy="free the disk or repair it",
    )
