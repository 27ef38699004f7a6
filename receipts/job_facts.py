"""job.json: what a job is, written once and hashed into the first record (docs/evidence-format.md). Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ..tokens.canonical import jcs_bytes, parse_json_object
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError

FORMAT_VERSION = "1"
MAX_FACTS_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class JobFacts:
    """The members of job.json. ``opened_ms`` is Unix milliseconds; ``incarnation`` is 128 random bits in hex."""

    agent_did: str
    gateway_did: str
    gateway_id: str
    incarnation: str
    job_did: str
    job_id: str
    opened_ms: int
    policy_hash_b64u: str
    run_id: str

    def to_bytes(self) -> bytes:
        return jcs_bytes({**dataclasses.asdict(self), "format_version": FORMAT_VERSION})

    @property
    def hash_b64u(self) -> str:
        """``prev`` of the first record."""
        return sha256_b64u(self.to_bytes())

    @property
    def gateway_is_agent(self) -> bool:
        """Whether the gateway holds the key of the agent's DID, and so can sign the job's proof bundles."""
        return self.agent_did == self.job_did


def parse_job_facts(data: bytes) -> JobFacts:
    """Read job.json; raises ``ClawproxyError`` (JOB_DAMAGED) unless it is byte for byte what ``to_bytes`` wrote."""
    try:
        members = parse_json_object(data, max_bytes=MAX_FACTS_BYTES)
        version = members.pop("format_version", None)
        facts = JobFacts(**members)
    except (ClawproxyError, TypeError):
        raise ClawproxyError("JOB_DAMAGED", "job.json is not readable", where="job.json") from None
    kinds = all(
        value.__class__ is (int if name == "opened_ms" else str) for name, value in dataclasses.asdict(facts).items()
    )
    if not kinds or version != FORMAT_VERSION or facts.to_bytes() != data:
        raise ClawproxyError(
            "JOB_DAMAGED", "job.json is not as it was written", where="job.json", expected="format_version 1, JCS bytes"
        )
    return facts
