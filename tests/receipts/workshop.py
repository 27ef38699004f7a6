"""Keys, a contract, grants, calls and a clock for the tests of the write side, and the verifier's verdict on a job."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import uuid
from pathlib import Path
from typing import Any

from clawproxy.policies.contract import sign_contract
from clawproxy.receipts.calls import CallDenied, CallEnd, CallStart, Outcome, Usage
from clawproxy.receipts.disk import Disk, OsDisk
from clawproxy.receipts.job import Job, JobLimits
from clawproxy.receipts.jobs import JobBook, create_job
from clawproxy.receipts.journal import Journal
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.report import Report
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.digests import sha256_b64u, sha256_hex
from clawproxy.tokens.grant import Grant
from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.reasons import Refusal
from clawproxy.tokens.scope_hash import token_scope_hash
from clawproxy.tokens.trust import Trust, TrustedKey, build_trust

RECEIPT_KEY = SigningKey.from_seed(Role.RECEIPT, bytes([0x31]) * 32)
POLICY_KEY = SigningKey.from_seed(Role.POLICY, bytes([0x32]) * 32)
ISSUER = SigningKey.from_seed(Role.TOKEN, bytes([0x33]) * 32)
AGENT_DID = SigningKey.from_seed(Role.JOB, bytes([0x34]) * 32).did
GATEWAY_ID = "did:web:gateway.test"
PRESENTER = "uid:1000"
TEMPLATE = {"token_version": "1", "aud": ["gateway.test"], "scope": ["clawproxy:call"]}
CONTRACT = sign_contract(
    {
        "wpc_version": "v1",
        "policy_name": "workshop",
        "allowed_models": ["*", "openrouter/*"],
        "allowed_tools": ["ticket.read"],
        "denied_tools": ["shell.exec"],
        "tool_classes": {"ticket.read": ["*"]},
        "egress_allowlist": [
            {"host": "tickets.example.com", "methods": ["POST"], "paths": ["/*"]},
            {"host": "tickets.example.com", "methods": ["POST"], "paths": ["/*"], "credential": "crm"},
        ],
        "token_constraints": {"cst_ttl_minutes": 30, "pin_policy_hash": True, "job_bound": True},
    },
    POLICY_KEY,
    "2030-01-01T00:00:00.000Z",
)
POLICY_HASH: str = CONTRACT["payload_hash_b64u"]
OTHER_HASH = sha256_b64u(b"another contract")
START_MS = 1_900_000_000_000


class Clock:
    """Milliseconds that go on by one with each reading."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        self.now_ms += 1
        return self.now_ms


def make_grant(job_id: str = "job-1", sub: str = AGENT_DID, jti: str = "token 1", **over: Any) -> Grant:
    claims: JsonObject = {**TEMPLATE, "sub": sub, "mission_id": job_id, "policy_hash_b64u": POLICY_HASH, "jti": jti}
    claims |= {"iat": START_MS // 1000, "exp": START_MS // 1000 + 1800, **over}
    claims["token_scope_hash_b64u"] = token_scope_hash(claims)
    return Grant(
        token_hash_hex=sha256_hex(json.dumps(claims).encode()),
        token_scope_hash_b64u=claims["token_scope_hash_b64u"],
        sub=sub,
        aud=tuple(claims["aud"]),
        scope=tuple(claims["scope"]),
        job_id=job_id,
        jti=jti,
        iat_s=claims["iat"],
        exp_s=claims["exp"],
        policy_hash_b64u=claims["policy_hash_b64u"],
        issuer_did=ISSUER.did,
        claims=claims,
    )


def make_start(grant: Grant, **over: Any) -> CallStart:
    start = CallStart(
        receipt_id=f"rcpt_{uuid.uuid4()}",
        nonce=f"nonce_{uuid.uuid4()}",
        provider="openai",
        route="chat_completions",
        model="gpt-5-mini",
        stream=True,
        request_hash_b64u=sha256_b64u(b"request"),
        request_bytes=7,
        tools=("mcp__tickets__read",),
        token_hash_hex=grant.token_hash_hex,
        token_scope_hash_b64u=grant.token_scope_hash_b64u,
        policy_hash_b64u=grant.policy_hash_b64u or POLICY_HASH,
        presenter=PRESENTER,
        way_in="reverse",
        started_ms=START_MS,
    )
    return dataclasses.replace(start, **over)


def make_end(**over: Any) -> CallEnd:
    end = CallEnd(
        outcome=Outcome.COMPLETE,
        status=200,
        response_hash_b64u=sha256_b64u(b"response"),
        response_bytes=8,
        tokens_input=11,
        tokens_output=5,
        usage=Usage.REPORTED,
        response_model="gpt-5-mini-2030",
        tool_calls=("mcp__tickets__read",),
        first_byte_ms=3,
        ended_ms=START_MS + 40,
    )
    return dataclasses.replace(end, **over)


def make_denied(**over: Any) -> CallDenied:
    denied = CallDenied(
        receipt_id=f"rcpt_{uuid.uuid4()}",
        step="decide",
        reason="POLICY_MODEL_NOT_ALLOWED",
        rule="allowed_models",
        detail="no such model in the contract",
        at_ms=START_MS + 5,
        presenter=PRESENTER,
        way_in="reverse",
        method="POST",
    )
    return dataclasses.replace(denied, **over)


@dataclasses.dataclass
class Workshop:
    """A state directory with a job book on it. ``clock`` and ``journal`` go on when the book is opened again."""

    root: Path
    disk: Disk = dataclasses.field(default_factory=OsDisk)
    clock: Clock = dataclasses.field(default_factory=Clock)
    limits: JobLimits = dataclasses.field(default_factory=lambda: JobLimits(reserve_bytes=0))
    contract: JsonObject = dataclasses.field(default_factory=lambda: CONTRACT)

    def __post_init__(self) -> None:
        self.journal = Journal(self.disk)
        self.book = self.make_book()

    @property
    def jobs_dir(self) -> Path:
        return self.root / "jobs"

    @property
    def keys_dir(self) -> Path:
        return self.root / "keys"

    def make_book(self) -> JobBook:
        return JobBook(self.jobs_dir, self.journal, RECEIPT_KEY, GATEWAY_ID, self.keys_dir, self.clock, self.limits)

    def create(self, job_id: str = "job-1", **more: Any) -> Grant:
        """A job that the gateway holds the agent's key of, and a grant for it; ``more`` goes to ``create_job``."""
        created = create_job(
            self.jobs_dir,
            self.keys_dir,
            receipt_key=RECEIPT_KEY,
            gateway_id=GATEWAY_ID,
            policy_hash_b64u=self.contract["payload_hash_b64u"],
            contract_envelope=self.contract,
            now_ms=self.clock(),
            job_id=job_id,
            token_template=TEMPLATE,
            disk=self.disk,
            **more,
        )
        return make_grant(job_id, created.job_did, policy_hash_b64u=self.contract["payload_hash_b64u"])

    async def ask(self, grant: Grant, presenter: str = PRESENTER, policy_hash: str = "") -> Job | Refusal:
        policy_hash = policy_hash or self.contract["payload_hash_b64u"]
        return await self.book.job_for(grant, policy_hash, self.contract, presenter, "reverse")

    async def job(self, grant: Grant) -> Job:
        job = await self.ask(grant)
        assert isinstance(job, Job), job
        return job

    async def reopen(self) -> None:
        """As after a restart of the gateway: another book on the same directory."""
        await self.book.close()
        self.book = self.make_book()

    async def end(self) -> None:
        await self.book.close()
        await asyncio.to_thread(self.journal.close)

    def records(self, job_id: str = "job-1") -> list[Any]:
        lines = (self.jobs_dir / job_id / "receipts.jsonl").read_bytes().splitlines()
        return [json.loads(line) for line in lines]

    def verdict(self, job_id: str = "job-1") -> Report:
        loaded = load_directory(self.jobs_dir / job_id)
        assert not loaded.findings
        return verify_job(loaded.files, trust())


async def call(job: Job, grant: Grant, **over: Any) -> JsonObject:
    """One whole call; returns the receipt's envelope."""
    intended = await job.intend(make_start(grant, **over))
    return await job.attest(intended, make_end())


def trust() -> Trust:
    return build_trust(
        [
            TrustedKey(RECEIPT_KEY.did, Role.RECEIPT),
            TrustedKey(POLICY_KEY.did, Role.POLICY),
            TrustedKey(ISSUER.did, Role.TOKEN),
        ]
    )
