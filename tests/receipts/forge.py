"""Makes job bundles from docs/evidence-format.md alone, without the writer, and makes them wrong on purpose.

A ``Forge`` holds what a job says (facts, contract, records); ``files`` signs and seals it all afresh, with real keys.
So a test can change one fact, have everything around it made consistent again, and see whether the verifier still
notices: only rules about meaning can, since every hash and signature holds. ``meddle`` reaches between those steps.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clawproxy.policies.contract import sign_contract
from clawproxy.tokens.canonical import jcs_bytes, wire_order_bytes
from clawproxy.tokens.digests import sha256_b64u, sha256_hex
from clawproxy.tokens.envelope import build_envelope, timestamp
from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.scope_hash import token_scope_hash
from clawproxy.tokens.trust import Trust, TrustedKey, build_trust

RECEIPT_KEY = SigningKey.from_seed(Role.RECEIPT, bytes([0x51]) * 32)
POLICY_KEY = SigningKey.from_seed(Role.POLICY, bytes([0x52]) * 32)
ISSUER_KEY = SigningKey.from_seed(Role.TOKEN, bytes([0x53]) * 32)
JOB_KEY = SigningKey.from_seed(Role.JOB, bytes([0x54]) * 32)
STRANGER_KEY = SigningKey.from_seed(Role.RECEIPT, bytes([0x55]) * 32)
PRESENTER = "uid:1000"
START_MS = 1_900_000_000_000
TYPES = {
    "event": "gateway_event",
    "intent": "gateway_intent",
    "receipt": "gateway_receipt",
    "denial": "gateway_denial",
    "recovery": "gateway_recovery",
}
CONTRACT_DOCUMENT = {
    "wpc_version": "v1",
    "policy_name": "forged-jobs",
    "allowed_providers": ["openai"],
    "allowed_models": ["gpt-*"],
    "allowed_tools": ["read_ticket"],
    "denied_tools": ["shell_exec"],
    "token_constraints": {"cst_ttl_minutes": 30, "pin_policy_hash": True, "job_bound": True},
}

type Meddler = Callable[[int, dict[str, Any]], None]


def trust(*more: TrustedKey) -> Trust:
    return build_trust(
        [
            TrustedKey(RECEIPT_KEY.did, Role.RECEIPT),
            TrustedKey(POLICY_KEY.did, Role.POLICY),
            TrustedKey(ISSUER_KEY.did, Role.TOKEN),
            *more,
        ]
    )


def numbered_receipt_id(n: int) -> str:
    return f"rcpt_{uuid.UUID(int=n * 7919 + 1, version=4)}"


@dataclass
class Forge:
    """A job to be. ``records`` are ``{"kind", "payload"}`` whose places, chains and signatures ``files`` fills in."""

    job_id: str = "job-forged"
    incarnation: str = "0123456789abcdef" * 2
    sealed: bool = True
    receipt_key: SigningKey = RECEIPT_KEY
    job_key: SigningKey = JOB_KEY
    policy_key: SigningKey = POLICY_KEY
    document: dict[str, Any] = field(default_factory=lambda: dict(CONTRACT_DOCUMENT))
    """The contract that the job ran under, before it is signed."""
    records: list[dict[str, Any]] = field(default_factory=list)
    torn: dict[str, bytes] = field(default_factory=dict)
    leave_out: set[str] = field(default_factory=set)
    facts_over: dict[str, Any] = field(default_factory=dict)
    meddle: dict[str, Meddler] = field(default_factory=dict)
    """Stage -> what to do to the object then: ``event``, ``payload``, ``envelope``, ``record`` (with the record's
    number), ``bundle`` (payload), ``bundle_envelope``, ``manifest``, ``seal`` (payload), ``seal_envelope`` (with 0)."""

    def __post_init__(self) -> None:
        self.contract = sign_contract(self.document, self.policy_key, timestamp(START_MS))
        self.policy_hash: str = self.contract["payload_hash_b64u"]
        self.claims: dict[str, Any] = {
            "token_version": "1",
            "sub": self.job_key.did,
            "aud": ["gateway.test"],
            "scope": ["clawproxy:call"],
            "iat": START_MS // 1000,
            "exp": START_MS // 1000 + 1800,
            "mission_id": self.job_id,
            "policy_hash_b64u": self.policy_hash,
            "jti": "token-1",
        }
        self.segment = 1

    # -- what happened ---------------------------------------------------------------------------------------------

    def token(self, **over: Any) -> dict[str, Any]:
        claims = {**self.claims, **over}
        facts = {"token_hash_hex": sha256_hex(jcs_bytes(claims)), "issuer_did": ISSUER_KEY.did}
        return {**claims, **facts, "token_scope_hash_b64u": token_scope_hash(claims)}

    def add(self, kind: str, payload: dict[str, Any], segment: int | None = None) -> int:
        """Append a record; returns its number."""
        n = len(self.records)
        at = timestamp(START_MS + 10 * n)
        self.records.append({"kind": kind, "payload": {"timestamp": at, **payload}, "segment": segment or self.segment})
        return n

    def event(self, event_type: str, detail: dict[str, Any], kind: str = "event") -> int:
        return self.add(kind, {"event": {"event_type": event_type}, "detail": detail})

    def open(self, **token_over: Any) -> int:
        return self.event("job_opened", self.authority(**token_over))

    def authority(self, **token_over: Any) -> dict[str, Any]:
        return {
            "containment": "not attested",
            "presenter": PRESENTER,
            "token": self.token(**token_over),
            "way_in": "reverse",
        }

    def intend(self, n: int, **over: Any) -> int:
        """With ``facts=None`` as it was written before there were any; the same in ``deny``."""
        token = self.token()
        detail = {
            "harness_event_hash_b64u": None,
            "harness_run_id": None,
            "model": "gpt-5-mini",
            "nonce": f"nonce-{n}",
            "policy_hash_b64u": self.policy_hash,
            "presenter": PRESENTER,
            "provider": "openai",
            "receipt_id": numbered_receipt_id(n),
            "request_bytes": 7,
            "request_hash_b64u": sha256_b64u(b"request %d" % n),
            "route": "chat_completions",
            "started_ms": START_MS,
            "stream": False,
            "token_hash_hex": token["token_hash_hex"],
            "token_scope_hash_b64u": token["token_scope_hash_b64u"],
            "tools": ["read_ticket"],
            "tools_total": 1,
            "way_in": "reverse",
            "facts": {"kind": "generate"},
            **over,
        }
        detail = {name: value for name, value in detail.items() if (name, value) != ("facts", None)}
        return self.event("llm_call", detail, "intent")

    def attest(self, intent: int, **over: Any) -> int:
        detail = self.records[intent]["payload"]["detail"]
        identity = {
            "model": {"name": detail["model"], "provider": detail["provider"]},
            "model_identity_version": "1",
            "tier": "closed_opaque",
        }
        same = ("presenter", "request_bytes", "route", "stream", "tools", "tools_total", "way_in")
        ours = {
            "agent_did": self.facts()["agent_did"],
            "detail": "",
            "first_byte_ms": 3,
            "intent_seq": intent,
            "model_match": "other",
            "outcome": "complete",
            "response_bytes": 8,
            "response_model": "gpt-5-mini-2030",
            "status": 200,
            "tool_calls": [],
            "tool_calls_total": 0,
            "tokens_cache_write": 0,
            "tokens_cached": 3,
            "tokens_reasoning": 2,
            "usage": "reported",
            **{name: detail[name] for name in same},
        }
        payload = {
            "binding": {
                "nonce": detail["nonce"],
                "policy_hash": detail["policy_hash_b64u"],
                "token_scope_hash_b64u": detail["token_scope_hash_b64u"],
            },
            "gateway_id": "did:web:gateway.test",
            "latency_ms": 40,
            "metadata": {
                "clawproxy": ours,
                "model_identity": identity,
                "model_identity_hash_b64u": sha256_b64u(jcs_bytes(identity)),
            },
            **{name: detail[name] for name in ("model", "provider", "receipt_id", "request_hash_b64u")},
            "receipt_version": "1",
            "response_hash_b64u": sha256_b64u(b"response"),
            "tokens_input": 11,
            "tokens_output": 5,
            **over,
        }
        return self.add("receipt", payload, self.records[intent]["segment"])

    def deny(self, n: int, **over: Any) -> int:
        fields = {
            "at_ms": START_MS,
            "detail": "allowed models: gpt-*",
            "facts": {"kind": "generate", "stream": False},
            "method": "POST",
            "model": "o1",
            "policy_hash_b64u": self.policy_hash,
            "presenter": PRESENTER,
            "provider": "openai",
            "reason": "POLICY_MODEL_NOT_ALLOWED",
            "receipt_id": numbered_receipt_id(n),
            "request_hash_b64u": None,
            "route": "chat_completions",
            "rule": 'allowed_models has no entry for "o1"',
            "step": "decide",
            "token_hash_hex": self.token()["token_hash_hex"],
            "way_in": "reverse",
        }
        told = {**fields, **over}
        return self.add("denial", {name: value for name, value in told.items() if (name, value) != ("facts", None)})

    def recover(self, open_calls: list[str], torn: list[dict[str, Any]] | None = None) -> int:
        return self.add("recovery", {"open_calls": open_calls, "torn": torn or []})

    def roll(self) -> int:
        self.segment += 1
        return self.event("segment_opened", {})

    def end(self) -> int:
        return self.event("job_sealed", {})

    # -- what is written -------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        return {
            "agent_did": self.job_key.did,
            "format_version": "1",
            "gateway_did": self.receipt_key.did,
            "gateway_id": "did:web:gateway.test",
            "incarnation": self.incarnation,
            "job_did": self.job_key.did,
            "job_id": self.job_id,
            "opened_ms": START_MS,
            "policy_hash_b64u": self.policy_hash,
            "run_id": "run_forged",
            **self.facts_over,
        }

    def _at(self, stage: str, n: int, thing: dict[str, Any]) -> None:
        if stage in self.meddle:
            self.meddle[stage](n, thing)

    def files(self) -> dict[str, bytes]:
        """Everything, chained, signed and, if ``sealed``, sealed."""
        facts = self.facts()
        files = {"job.json": jcs_bytes(facts), "contract.json": jcs_bytes(self.contract), **self.torn}
        state = _Written(sha256_b64u(files["job.json"]))
        lines = [self._line(n, copy.deepcopy(record), facts, state) for n, record in enumerate(self.records)]
        files["receipts.jsonl"] = b"".join(lines)
        if not self.sealed:
            return files
        last = self.records[-1]["payload"]["timestamp"]
        for number, part in sorted(state.segments.items()):
            if facts["agent_did"] != facts["job_did"] or (part.harness_bound and not part.receipts):
                continue
            name = "proof_bundle.json" if number == 1 else f"proof_bundle.{number:04d}.json"
            if name not in self.leave_out:
                files[name] = jcs_bytes(self._bundle(number, part, facts, state, last))
        manifest = {
            "entries": [
                {
                    "content_type": "application/octet-stream",
                    "path": path,
                    "sha256_b64u": sha256_b64u(files[path]),
                    "size_bytes": len(files[path]),
                }
                for path in sorted(files)
            ],
            "generated_at": last,
            "manifest_version": "1",
        }
        self._at("manifest", 0, manifest)
        files["MANIFEST.json"] = jcs_bytes(manifest)
        seal = {
            "counts": state.counts(),
            "final_seq": len(lines) - 1,
            "head_b64u": state.prev,
            "incarnation": facts["incarnation"],
            "job_id": facts["job_id"],
            "manifest_sha256_b64u": sha256_b64u(files["MANIFEST.json"]),
            "policy_hash_b64u": facts["policy_hash_b64u"],
            "run_id": facts["run_id"],
            "timestamp": last,
        }
        self._at("seal", 0, seal)
        envelope = build_envelope("gateway_seal", seal, self.receipt_key, last)
        self._at("seal_envelope", 0, envelope)
        files["SEAL.json"] = jcs_bytes(envelope)
        return files

    def _line(self, n: int, record: dict[str, Any], facts: dict[str, Any], state: _Written) -> bytes:
        kind, payload = record["kind"], record["payload"]
        part = state.segments.setdefault(record["segment"], _Part(f"{facts['run_id']}::{record['segment']:04d}"))
        if kind in ("event", "intent"):
            self._fill_event(n, payload, facts, part, state)
        elif kind == "receipt":
            self._fill_binding(payload, state, part)
        place = {
            "incarnation": facts["incarnation"],
            "job_id": facts["job_id"],
            "prev_b64u": state.prev,
            "segment": record["segment"],
            "seq": n,
        }
        inner = payload["metadata"]["clawproxy"] if kind == "receipt" else payload
        inner.update({name: value for name, value in place.items() if name not in inner})
        self._at("payload", n, payload)
        envelope = build_envelope(TYPES[kind], payload, self.receipt_key, payload["timestamp"])
        self._at("envelope", n, envelope)
        state.count(kind, payload, envelope, part)
        line: dict[str, Any] = {"body": envelope, "prev": state.prev, "seq": n, "t": kind, "v": 1}
        self._at("record", n, line)
        line["h"] = sha256_b64u(b"clawproxy.log.v1\n" + jcs_bytes(line))
        state.prev = line["h"]
        return jcs_bytes(line) + b"\n"

    def _fill_event(self, n: int, payload: dict[str, Any], facts: dict[str, Any], part: _Part, state: _Written) -> None:
        event, detail = payload["event"], payload["detail"]
        if event["event_type"] == "segment_opened" and not detail:
            before = state.segments[max(state.segments) - 1]
            detail |= {
                "head_b64u": state.prev,
                "previous_event_hash_b64u": before.events[-1]["event_hash_b64u"],
                "previous_run_id": before.run_id,
            }
        if event["event_type"] == "job_sealed" and not detail:
            detail["counts"] = state.counts()
        header = {
            "event_id": f"evt_{facts['incarnation']}_{n}",
            "run_id": part.run_id,
            "event_type": event["event_type"],
            "timestamp": payload["timestamp"],
            "payload_hash_b64u": sha256_b64u(jcs_bytes(detail)),
            "prev_hash_b64u": part.events[-1]["event_hash_b64u"] if part.events else None,
        }
        self._at("event", n, header)
        payload["event"] = {**header, "event_hash_b64u": sha256_b64u(wire_order_bytes(header))}
        part.events.append(payload["event"])
        if event["event_type"] == "llm_call":
            state.calls_by_id[detail["receipt_id"]] = payload

    def _fill_binding(self, payload: dict[str, Any], state: _Written, part: _Part) -> None:
        start = state.calls_by_id.get(payload["receipt_id"])
        binding = payload["binding"]
        if start is None:
            payload["binding"] = {"run_id": "run_x::0001", "event_hash_b64u": sha256_b64u(b"no event"), **binding}
            return
        own = {name: start["event"][name] for name in ("run_id", "event_hash_b64u")}
        if start["detail"]["harness_run_id"]:
            theirs = {"run_id": start["detail"]["harness_run_id"]}
            theirs["event_hash_b64u"] = start["detail"]["harness_event_hash_b64u"]
            payload["binding"] = {**theirs, **binding}
            payload["metadata"]["clawproxy"] |= own
            return
        spans = {"span_id": "span_" + payload["receipt_id"].removeprefix("rcpt_")}
        if part.root_span:
            spans["parent_span_id"] = part.root_span
        part.root_span = part.root_span or spans["span_id"]
        payload["binding"] = {**own, **spans, **binding}

    def _bundle(self, number: int, part: _Part, facts: dict[str, Any], state: _Written, at: str) -> dict[str, Any]:
        receipts = sorted(part.receipts, key=lambda item: str(item["payload"]["receipt_id"]))
        payload = {
            "agent_did": facts["agent_did"],
            "bundle_id": f"bundle_{number}",
            "bundle_version": "1",
            "event_chain": part.events,
            "metadata": {
                "clawproxy": {
                    "custody": "gateway",
                    "denials": part.denials,
                    "gaps": part.gaps,
                    "harness_bound": part.harness_bound,
                    "incarnation": facts["incarnation"],
                    "job_id": facts["job_id"],
                    "policy_hash_b64u": facts["policy_hash_b64u"],
                    "segment": number,
                    "segments": len(state.segments),
                }
            },
            **({"receipts": receipts} if receipts else {}),
        }
        payload = copy.deepcopy(payload)
        self._at("bundle", number, payload)
        envelope = build_envelope("proof_bundle", payload, self.job_key, at)
        self._at("bundle_envelope", number, envelope)
        return envelope


@dataclass
class _Part:
    """A segment as it is written."""

    run_id: str
    events: list[dict[str, Any]] = field(default_factory=list)
    receipts: list[dict[str, Any]] = field(default_factory=list)
    denials: int = 0
    gaps: int = 0
    harness_bound: int = 0
    root_span: str | None = None


@dataclass
class _Written:
    prev: str
    segments: dict[int, _Part] = field(default_factory=dict)
    calls_by_id: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: int = 0
    receipts: int = 0

    def count(self, kind: str, payload: dict[str, Any], envelope: dict[str, Any], part: _Part) -> None:
        self.calls += kind == "intent"
        self.receipts += kind == "receipt"
        part.denials += kind == "denial"
        if kind == "recovery":
            for receipt_id in payload["open_calls"]:
                start = self.calls_by_id.get(receipt_id)
                number = start["segment"] if start else max(self.segments)
                self.segments[number].gaps += 1
        if kind == "receipt":
            if "run_id" in payload["metadata"]["clawproxy"]:
                part.harness_bound += 1
            else:
                part.receipts.append(envelope)

    def counts(self) -> dict[str, int]:
        return {
            "calls": self.calls,
            "denials": sum(part.denials for part in self.segments.values()),
            "events": sum(len(part.events) for part in self.segments.values()),
            "gaps": sum(part.gaps for part in self.segments.values()),
            "receipts": self.receipts,
            "segments": len(self.segments),
        }


def plain_job(calls: int = 3, denials: int = 1, **over: Any) -> Forge:
    """A job of ``calls`` whole calls and ``denials`` refusals, ended."""
    forge = Forge(**over)
    forge.open()
    for n in range(calls):
        forge.attest(forge.intend(n))
    for n in range(denials):
        forge.deny(1000 + n)
    forge.end()
    return forge


def job_of_two_keys() -> Forge:
    """A job of two calls whose records are signed by the stranger's key from the fourth on."""
    forge = plain_job(calls=2)

    def resign(n: int, envelope: dict[str, Any]) -> None:
        if n >= 3:
            message = envelope["payload_hash_b64u"].encode()
            envelope |= {"signer_did": STRANGER_KEY.did, "signature_b64u": STRANGER_KEY.sign_b64u(message)}

    forge.meddle["envelope"] = resign
    return forge
