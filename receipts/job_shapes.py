"""The closed shapes of a job directory's files and records (docs/evidence-format.md), as data for ``wire_schema``.

Written from the format page, not from the writer: the two share no code, so that a slip of one is seen by the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .wire_schema import Choice, Flag, ListOf, Nullable, Number, Obj, Shape, Text

JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)
_RECEIPT_ID = re.compile(r"rcpt_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_CONTRACT = re.compile(r"contracts/([A-Za-z0-9_-]{43})\.json", re.ASCII)
_TORN = re.compile(r"torn/(0|[1-9]\d{0,17})\.(0|[1-9]\d{0,5})", re.ASCII)
# 32 and 64 bytes leave 2 and 4 bits over in the last character, which must be zero
_DIGEST = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", re.ASCII)
_SIGNATURE = re.compile(r"[A-Za-z0-9_-]{85}[AQgw]", re.ASCII)

STRING = Text(min=0, what="a string")
NAME = Text(max=1024)
DIGEST = Text(pattern=_DIGEST, what="the canonical base64url of a SHA-256 digest")
SIGNATURE = Text(pattern=_SIGNATURE, what="the canonical base64url of an Ed25519 signature")
DID = Text(min=5, max=256, pattern=re.compile(r"did:[a-z0-9]+:[A-Za-z0-9._:%-]+", re.ASCII), what="a DID")
TIME = Text(pattern=TIMESTAMP, what="YYYY-MM-DDTHH:MM:SS.mmmZ")
COUNT = Number(0, 2**53 - 1, whole=True)
RECEIPT_ID = Text(pattern=_RECEIPT_ID, what="rcpt_ and a random UUID")
CONTRACT_PATH = Text(pattern=_CONTRACT, what="contracts/<hash>.json")
ATTACHMENT_PATH = Text(
    pattern=re.compile(r"attachments/[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", re.ASCII), what="attachments/<digest>"
)
TORN_PATH = Text(pattern=_TORN, what="torn/<offset>.<n>")
JOB = Text(pattern=JOB_ID, what="a job id")
INCARNATION = Text(min=32, max=32, pattern=_HEX, what="128 bits in hex")
TOKEN_HASH = Text(min=64, max=64, pattern=_HEX, what="SHA-256 in hex")
OPEN = Obj(open=True)
PORT = Number(1, 65_535, whole=True)
SCHEME = Text(among=("http", "https"))
OUTCOME = Text(
    among=(
        "complete",
        "incomplete",
        "client_gone",
        "upstream_failed",
        "upstream_unreachable",
        "stopped",
        "fault",
        "call_refused",
    )
)


def _const(value: str) -> Text:
    return Text(among=(value,))


JOB_FACTS = Obj(
    required={
        "agent_did": NAME,
        "format_version": _const("1"),
        "gateway_did": DID,
        "gateway_id": NAME,
        "incarnation": INCARNATION,
        "job_did": DID,
        "job_id": JOB,
        "opened_ms": COUNT,
        "policy_hash_b64u": DIGEST,
        "run_id": NAME,
    }
)

DOOR_COUNTED = Obj(
    required={"packets": Obj(required=dict.fromkeys(("icmp", "other", "quic", "tcp", "udp"), COUNT))},
    optional={"denials_left_out": Number(1, 2**53 - 1, whole=True)},
)
CONTAINMENT = Text(among=("isolated", "not contained", "not attested"))
_WORD = Text(min=1, max=64, pattern=re.compile(r"[a-z0-9][a-z0-9._-]*", re.ASCII), what="a plain word")
ISOLATION = Obj(
    required={
        "limits": ListOf(Obj(required={"name": _WORD, "value": COUNT}), max=16),
        "probes": ListOf(
            Obj(required={"name": _WORD, "outcome": Text(among=("blocked", "reached", "not tried"))}), max=64
        ),
        "rules_hash_b64u": DIGEST,
        **dict.fromkeys(("uid_changed", "user_namespace"), Flag()),
        "way_in": _const("transparent"),
    },
    optional={"distant_files": ListOf(_WORD, max=16)},
)
"""What ``job_opened`` says of a job that is isolated."""

KINDS: Mapping[str, str] = {
    "event": "gateway_event",
    "intent": "gateway_intent",
    "receipt": "gateway_receipt",
    "effect": "gateway_side_effect",
    "denial": "gateway_denial",
    "recovery": "gateway_recovery",
}
RECORD = Obj(
    required={
        "body": OPEN,
        "h": DIGEST,
        "prev": DIGEST,
        "seq": COUNT,
        "t": Text(among=tuple(KINDS)),
        "v": Number(1, 1, whole=True),
    }
)


def envelope(envelope_type: str) -> Obj:
    """Our own envelopes have exactly the nine members, canonical digests, and no ``expires_at``."""
    return Obj(
        required={
            "algorithm": _const("Ed25519"),
            "envelope_type": _const(envelope_type),
            "envelope_version": _const("1"),
            "hash_algorithm": _const("SHA-256"),
            "issued_at": TIME,
            "payload": OPEN,
            "payload_hash_b64u": DIGEST,
            "signature_b64u": SIGNATURE,
            "signer_did": DID,
        }
    )


ENVELOPES: Mapping[str, Obj] = {kind: envelope(name) for kind, name in KINDS.items()}
SEAL_ENVELOPE = envelope("gateway_seal")

PLACE: Mapping[str, Shape] = {
    "incarnation": INCARNATION,
    "job_id": JOB,
    "prev_b64u": DIGEST,
    "segment": Number(1, 9_999, whole=True),
    "seq": COUNT,
}
EVENT_ENTRY = Obj(
    required={
        "event_hash_b64u": DIGEST,
        "event_id": NAME,
        "event_type": Text(
            among=(
                "job_opened",
                "segment_opened",
                "llm_call",
                "tool_egress",
                "authority_changed",
                "approval",
                "resumed",
                "revoked",
                "stopped",
                "frozen",
                "budget_warning",
                "attached",
                "config_compared",
                "config_audited",
                "host_observed",
                "door_counted",
                "job_sealed",
            )
        ),
        "payload_hash_b64u": DIGEST,
        "prev_hash_b64u": Nullable(DIGEST),
        "run_id": NAME,
        "timestamp": TIME,
    }
)
_KIND = Text(among=("generate", "embed", "count", "list", "connect"))
_NAMES = ListOf(STRING, max=128)
FACTS = Obj(
    required={"kind": _KIND},
    optional={
        **dict.fromkeys(("any_tools", "clipped", "fallback_models", "provider_state", "provider_tools"), _NAMES),
        **dict.fromkeys(("remote_urls", "surcharges"), _NAMES),
        **dict.fromkeys(("is_router", "kept_by_provider", "no_model"), Flag()),
        **dict.fromkeys(("choices", "max_output_tokens"), COUNT),
        "tool_choice": STRING,
    },
)
"""What else the call asked for; evidence of before has none of it."""
DENIED_FACTS = Obj(
    required={**FACTS.required, "stream": Flag()},
    optional={**FACTS.optional, "tools": _NAMES, **dict.fromkeys(("upstream", "upstream_model"), STRING)},
)
EVENT = Obj(required={**PLACE, "timestamp": TIME, "event": EVENT_ENTRY, "detail": OPEN})
DENIAL = Obj(
    required={
        **PLACE,
        "timestamp": TIME,
        "at_ms": COUNT,
        **dict.fromkeys(("detail", "method", "presenter", "rule", "way_in"), STRING),
        **dict.fromkeys(("model", "provider", "route"), Nullable(STRING)),
        "policy_hash_b64u": Nullable(STRING),
        "reason": NAME,
        "receipt_id": RECEIPT_ID,
        "request_hash_b64u": Nullable(DIGEST),
        "step": NAME,
        "token_hash_hex": Nullable(TOKEN_HASH),
    },
    optional={"destination": STRING, "facts": DENIED_FACTS},
)
TORN_RECORD = Obj(required={"receipt_id": Nullable(RECEIPT_ID), "t": Text(among=tuple(KINDS))})
TORN_ENTRY = Obj(
    required={"path": TORN_PATH, "sha256_b64u": DIGEST, "size_bytes": COUNT},
    optional={"records": ListOf(TORN_RECORD)},
)
RECOVERY = Obj(
    required={**PLACE, "timestamp": TIME, "open_calls": ListOf(RECEIPT_ID), "torn": ListOf(TORN_ENTRY)},
)
_UPSTREAM: Mapping[str, Shape] = dict.fromkeys(("upstream", "upstream_model"), STRING)
_AMOUNTS = Obj(required=dict.fromkeys(("cost_microusd", "input_tokens", "output_tokens", "requests"), COUNT))
_PRICES = ("cache_write", "cached_input", "input", "output")
_STATE = Obj(
    optional={
        **dict.fromkeys(
            ("cost_microusd", "input_tokens", "output_tokens", "requests", "total_tokens"),
            Obj(required=dict.fromkeys(("limit", "reserved", "used"), COUNT)),
        ),
        **dict.fromkeys(("concurrent_calls", "wall_time_s"), Obj(required=dict.fromkeys(("limit", "used"), COUNT))),
    }
)
_RESERVATION = Obj(
    required={"choices": COUNT, "reserved": _AMOUNTS},
    optional={"price": Obj(required={"as_of": STRING, **dict.fromkeys(_PRICES, COUNT)})},
)
_SETTLEMENT = Obj(
    required={
        "basis": Text(among=("reported", "reserved", "nothing", "not_sent")),
        "charged": _AMOUNTS,
        "state": _STATE,
    },
    optional={"per_contract": _STATE},
)
BUDGET_WARNING = Obj(required={"budget": NAME, "limit": COUNT, "percent": COUNT, "used": COUNT})
_COUNTED = ListOf(Obj(required={"count": COUNT, "of": NAME}), max=256)
_DATA: Mapping[str, Shape] = {
    "data": Obj(
        required={"labels": ListOf(STRING, max=1_000), "found": _COUNTED, "paths": _COUNTED, "redacted": _COUNTED}
    )
}
_WOULD_REFUSE = Obj(required={"code": NAME, "rule": STRING})
_OBSERVED: Mapping[str, Shape] = {"would_refuse": ListOf(_WOULD_REFUSE, max=16)}
"""Only in a job that was opened to observe (verify_observed)."""
HOST_OBSERVED = Obj(required={"code": NAME, "host": NAME, "port": Nullable(PORT), "rule": STRING})
CALL_START = Obj(
    required={
        **dict.fromkeys(("model", "nonce", "presenter", "provider", "route", "way_in"), STRING),
        **dict.fromkeys(("harness_event_hash_b64u", "harness_run_id"), Nullable(STRING)),
        **dict.fromkeys(("policy_hash_b64u", "request_hash_b64u", "token_scope_hash_b64u"), DIGEST),
        **dict.fromkeys(("request_bytes", "started_ms", "tools_total"), COUNT),
        "receipt_id": RECEIPT_ID,
        "stream": Flag(),
        "token_hash_hex": TOKEN_HASH,
        "tools": ListOf(STRING, max=1_000),
    },
    optional={
        **_UPSTREAM,
        **_DATA,
        **_OBSERVED,
        "budget": _RESERVATION,
        "facts": FACTS,
        "stripped": ListOf(STRING, max=1_000),
        "stripped_total": COUNT,
    },
)
EFFECT_START = Obj(
    required={
        **dict.fromkeys(("nonce", "presenter", "way_in"), STRING),
        **dict.fromkeys(("host", "method"), NAME),
        **dict.fromkeys(("policy_hash_b64u", "request_hash_b64u", "target_hash_b64u", "token_scope_hash_b64u"), DIGEST),
        **dict.fromkeys(("request_bytes", "started_ms"), COUNT),
        "credential": Nullable(NAME),
        "port": PORT,
        "receipt_id": RECEIPT_ID,
        "scheme": SCHEME,
        "token_hash_hex": TOKEN_HASH,
    },
    optional={**_OBSERVED, "has_query": Flag(), "path": Text(max=1024)},
)
_CALL_END: Mapping[str, Shape] = {
    **PLACE,
    "agent_did": NAME,
    **dict.fromkeys(("detail", "presenter", "route", "way_in"), STRING),
    **dict.fromkeys(("intent_seq", "request_bytes", "response_bytes", "tool_calls_total", "tools_total"), COUNT),
    "first_byte_ms": Nullable(COUNT),
    "outcome": OUTCOME,
    "response_model": Nullable(STRING),
    "status": Nullable(Number(100, 999, whole=True)),
    "stream": Flag(),
    **dict.fromkeys(("tool_calls", "tools"), ListOf(STRING, max=1_000)),
}
_TOKENS = Number(0, 10_000_000, whole=True)
_HARNESS: Mapping[str, Shape] = {**_DATA, "event_hash_b64u": DIGEST, "run_id": NAME}
APPROVAL_ID = Text(
    pattern=re.compile(r"apr_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII),
    what="apr_ and a random UUID",
)
CALLED = Obj(
    required={
        "arguments_hash_b64u": DIGEST,
        "name": STRING,
        "outcome": Text(among=("allowed", "approved", "denied", "withheld")),
    },
    optional={
        "approval": APPROVAL_ID,
        "inner": ListOf(STRING, max=64),
        "rule": STRING,
        "would_refuse": _WOULD_REFUSE,
    },
)
"""A call of a tool in an answer (``calls.JudgedCall``)."""
_CALLED: Mapping[str, Shape] = {
    "called": ListOf(CALLED, max=256),
    "called_total": COUNT,
    "delivered_hash_b64u": DIGEST,
}
_CALL_END_NOW = Obj(
    required={
        **_CALL_END,
        "model_match": Text(among=("same", "snapshot", "other", "unknown")),
        **dict.fromkeys(("tokens_cache_write", "tokens_cached", "tokens_reasoning"), _TOKENS),
        "usage": Text(among=("reported", "estimated", "none")),
    },
    optional={**_HARNESS, **_CALLED, **_OBSERVED, "budget": _SETTLEMENT},
)
_CALL_END_BEFORE = Obj(required={**_CALL_END, "usage_known": Flag()}, optional=_HARNESS)
CALL_END = Choice(lambda end: _CALL_END_BEFORE if "usage_known" in end else _CALL_END_NOW, "an object")
"""With ``usage``, or as it was before that, with ``usage_known``."""
RECEIPT = Obj(
    required={
        "binding": Obj(
            required={
                "event_hash_b64u": NAME,
                "nonce": STRING,
                "policy_hash": DIGEST,
                "run_id": NAME,
                "token_scope_hash_b64u": DIGEST,
            },
            optional={"parent_span_id": NAME, "span_id": NAME},
        ),
        **dict.fromkeys(("gateway_id", "model", "provider"), NAME),
        "latency_ms": Number(0, 3_600_000, whole=True),
        "metadata": Obj(
            required={"clawproxy": CALL_END, "model_identity": OPEN, "model_identity_hash_b64u": DIGEST},
            optional=_UPSTREAM,
        ),
        "receipt_id": RECEIPT_ID,
        "receipt_version": _const("1"),
        **dict.fromkeys(("request_hash_b64u", "response_hash_b64u"), DIGEST),
        "timestamp": TIME,
        **dict.fromkeys(("tokens_input", "tokens_output"), _TOKENS),
    }
)
EFFECT = Obj(
    required={
        **PLACE,
        "timestamp": TIME,
        "credential": Nullable(NAME),
        **dict.fromkeys(("detail", "presenter", "way_in"), STRING),
        "first_byte_ms": Nullable(COUNT),
        **dict.fromkeys(("host", "method"), NAME),
        **dict.fromkeys(("intent_seq", "request_bytes", "response_bytes"), COUNT),
        "outcome": OUTCOME,
        "port": PORT,
        "scheme": SCHEME,
        "side_effect": Obj(
            required={
                "agent_did": NAME,
                "binding": Obj(
                    required={
                        "event_hash_b64u": DIGEST,
                        "nonce": STRING,
                        "policy_hash": DIGEST,
                        "run_id": NAME,
                        "span_id": NAME,
                        "token_scope_hash_b64u": DIGEST,
                    },
                    optional={"parent_span_id": NAME},
                ),
                "effect_class": _const("network_egress"),
                "hash_algorithm": _const("SHA-256"),
                "latency_ms": Number(0, 3_600_000, whole=True),
                "receipt_id": RECEIPT_ID,
                "receipt_version": _const("1"),
                **dict.fromkeys(("request_hash_b64u", "response_hash_b64u", "target_hash_b64u"), DIGEST),
                "timestamp": TIME,
            }
        ),
        "status": Nullable(Number(100, 999, whole=True)),
    },
    optional=_OBSERVED,
)
PAYLOADS: Mapping[str, Obj] = {
    "event": EVENT,
    "intent": EVENT,
    "receipt": RECEIPT,
    "effect": EFFECT,
    "denial": DENIAL,
    "recovery": RECOVERY,
}

APPROVAL_DETAIL = Obj(
    required={
        "approval": envelope("human_approval_receipt"),
        "scope": Obj(
            required={
                **dict.fromkeys(("agent_did", "run_id"), NAME),
                **dict.fromkeys(("action", "group", "tool"), Nullable(NAME)),
                **dict.fromkeys(("arguments_hash_b64u", "event_hash_b64u"), Nullable(DIGEST)),
                **dict.fromkeys(("answer_by", "asked_at"), TIME),
                "approval_id": APPROVAL_ID,
                "call": Nullable(RECEIPT_ID),
                "incarnation": INCARNATION,
                "job_id": JOB,
                "nonce": Text(min=32, max=32, pattern=_HEX, what="128 bits in hex"),
                "policy_hash_b64u": DIGEST,
            }
        ),
    }
)
"""The ``detail`` of an ``approval`` event: what was asked, and the signed answer."""
APPROVAL_PAYLOAD = Obj(
    required={
        **dict.fromkeys(("agent_did", "approver_subject"), NAME),
        "approval_type": Text(among=("explicit_approve", "explicit_deny", "timeout_deny")),
        "binding": Obj(
            required={"nonce": STRING, "policy_hash": DIGEST, "run_id": NAME},
            optional={"event_hash_b64u": DIGEST, "parent_span_id": NAME},
        ),
        "hash_algorithm": _const("SHA-256"),
        **dict.fromkeys(("policy_hash_b64u", "scope_hash_b64u"), DIGEST),
        "receipt_id": APPROVAL_ID,
        "receipt_version": _const("1"),
        "scope_summary": Text(max=512),
        "timestamp": TIME,
    }
)

MANIFEST = Obj(
    required={
        "manifest_version": _const("1"),
        "generated_at": TIME,
        "entries": ListOf(
            Obj(required={"path": NAME, "sha256_b64u": DIGEST, "content_type": NAME, "size_bytes": COUNT})
        ),
    }
)
COUNT_NAMES = ("calls", "denials", "events", "gaps", "receipts", "segments")
SEAL = Obj(
    required={
        "counts": Obj(required=dict.fromkeys(COUNT_NAMES, COUNT), optional={"effects": COUNT}),
        "final_seq": COUNT,
        "head_b64u": DIGEST,
        "incarnation": INCARNATION,
        "job_id": JOB,
        "manifest_sha256_b64u": DIGEST,
        "policy_hash_b64u": DIGEST,
        "run_id": NAME,
        "timestamp": TIME,
    }
)
