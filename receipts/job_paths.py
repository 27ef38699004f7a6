"""Where the files of a job lie (docs/evidence-format.md). Pure; the names here are the only ones that are written.

Beside the job directories, ``jobs/`` holds ``.locks/`` (one lock per job), ``.staging/`` (files and directories before
their rename, so that a bundle never holds a half-written file) and ``.reserve`` (space for sealing on a full disk).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RESERVE_NAME = ".reserve"


@dataclass(frozen=True, slots=True)
class JobPaths:
    """The paths of one job. ``job_id`` must satisfy ``tokens.claims.is_job_id``."""

    jobs_dir: Path
    job_id: str

    @property
    def directory(self) -> Path:
        return self.jobs_dir / self.job_id

    @property
    def facts(self) -> Path:
        return self.directory / "job.json"

    @property
    def contract(self) -> Path:
        return self.directory / "contract.json"

    @property
    def contracts(self) -> Path:
        return self.directory / "contracts"

    @property
    def attachments(self) -> Path:
        return self.directory / "attachments"

    def contract_of(self, policy_hash_b64u: str) -> Path:
        """Where a contract lies that the job came under after its first."""
        return self.contracts / f"{policy_hash_b64u}.json"

    @property
    def journal(self) -> Path:
        return self.directory / "receipts.jsonl"

    @property
    def torn(self) -> Path:
        return self.directory / "torn"

    @property
    def manifest(self) -> Path:
        return self.directory / "MANIFEST.json"

    @property
    def seal(self) -> Path:
        return self.directory / "SEAL.json"

    @property
    def locks(self) -> Path:
        return self.jobs_dir / ".locks"

    @property
    def lock(self) -> Path:
        return self.locks / self.job_id

    @property
    def staging(self) -> Path:
        return self.jobs_dir / ".staging"

    @property
    def staged_job(self) -> Path:
        return self.staging / self.job_id

    def staged(self, name: str) -> Path:
        """Where a file of this job is written before its rename."""
        return self.staging / f"{self.job_id}+{name}"  # no job id holds a plus sign, so jobs cannot collide

    @property
    def reserve(self) -> Path:
        return self.jobs_dir / RESERVE_NAME


def proof_bundle_name(segment: int) -> str:
    """``proof_bundle.json`` for the first segment, ``proof_bundle.0002.json`` for the second."""
    return "proof_bundle.json" if segment == 1 else f"proof_bundle.{segment:04d}.json"


def job_key_path(job_keys_dir: Path, job_id: str) -> Path:
    """The file of the key that the gateway holds for a job."""
    return job_keys_dir / f"{job_id}.pem"
