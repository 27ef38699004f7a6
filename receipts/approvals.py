"""A person's yes or no: what exactly is asked, and the signed answer to it (docs/evidence-format.md). Pure.

The gateway makes a question: a ``Scope`` with a nonce of its own. The approver's key signs a ``human_approval_receipt``
(protocol.md E.5, stand-alone form) over the digest of that scope, so an answer fits one question and no other: another
job, another call, other arguments or another contract have another digest. What an answer may say for itself is
who gives it, which of the two it is, when, and one line for people; everything else must be what the question says.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum

from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.digests import sha256_b64u
from ..tokens.envelope import build_envelope, open_envelope, timestamp
from ..tokens.errors import ClawproxyError
from ..tokens.keys import SigningKey
from .payloads import clip_text, span_id

ENVELOPE_TYPE = "human_approval_receipt"
MAX_SUMMARY_CHARS = 512
MAX_TOOL_BYTES = 256
CLOCK_SKEW_MS = 60_000
"""How far the clock of an approver may be off."""
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


class ApprovalType(StrEnum):
    """What an answer says; the third is the gateway's own word that nobody answered in time."""

    APPROVE = "explicit_approve"
    DENY = "explicit_deny"
    TIMEOUT = "timeout_deny"


@dataclass(frozen=True, slots=True)
class Scope:
    """What exactly is to be approved. Without ``call`` it is the whole job, and ``action``, ``tool``,
    ``arguments_hash_b64u`` and ``event_hash_b64u`` are None.

    ``call`` is the receipt id of the model call whose answer calls the tool, ``event_hash_b64u`` that of its intent's
    event. ``nonce`` is made by the gateway for this question. Times are as in ``tokens.envelope.timestamp``.
    """

    approval_id: str
    job_id: str
    incarnation: str
    agent_did: str
    run_id: str
    policy_hash_b64u: str
    group: str | None
    nonce: str
    asked_at: str
    answer_by: str
    call: str | None = None
    event_hash_b64u: str | None = None
    action: str | None = None
    tool: str | None = None
    arguments_hash_b64u: str | None = None

    def to_json(self) -> JsonObject:
        return {name: getattr(self, name) for name in _SCOPE_FIELDS}

    @property
    def hash_b64u(self) -> str:
        """What is signed of it."""
        return sha256_b64u(jcs_bytes(self.to_json()))

    @property
    def summary(self) -> str:
        """What it is about, in one line without anything that an agent wrote."""
        return f"the job {self.job_id}" if self.call is None else f"one call of a tool, for the action {self.action}"


_SCOPE_FIELDS = tuple(sorted(field.name for field in dataclasses.fields(Scope)))
_MAY_BE_NULL = frozenset({"group", "call", "event_hash_b64u", "action", "tool", "arguments_hash_b64u"})


def read_scope(document: object) -> Scope:
    """A scope as ``to_json`` writes it; raises ``ClawproxyError`` (APPROVAL_INVALID). For who is asked to sign one."""
    if not isinstance(document, dict) or set(document) != set(_SCOPE_FIELDS):
        raise _invalid("the question", "not a question of this version")
    for name, value in document.items():
        if not (isinstance(value, str) or (value is None and name in _MAY_BE_NULL)):
            raise _invalid(name, "not a text")
    return Scope(**document)


def approval_payload(scope: Scope, kind: ApprovalType, signer_did: str, at: str, reason: str = "") -> JsonObject:
    """What is signed. ``reason`` is one line for people, and ends in the evidence."""
    said = f"{scope.summary}: {kind}" + (f"; {reason}" if reason else "")
    binding: JsonObject = {"nonce": scope.nonce, "policy_hash": scope.policy_hash_b64u, "run_id": scope.run_id}
    if scope.call is not None:
        binding |= {"event_hash_b64u": scope.event_hash_b64u, "parent_span_id": span_id(scope.call)}
    return {
        "agent_did": scope.agent_did,
        "approval_type": str(kind),
        "approver_subject": signer_did,
        "binding": dict(sorted(binding.items())),
        "hash_algorithm": "SHA-256",
        "policy_hash_b64u": scope.policy_hash_b64u,
        "receipt_id": scope.approval_id,
        "receipt_version": "1",
        "scope_hash_b64u": scope.hash_b64u,
        "scope_summary": said[:MAX_SUMMARY_CHARS],
        "timestamp": at,
    }


def sign_approval(scope: Scope, kind: ApprovalType, key: SigningKey, now_ms: int, reason: str = "") -> JsonObject:
    """The signed answer to a question. Raises ``ClawproxyError`` (APPROVAL_INVALID) for a reason of several lines."""
    if not (reason.isprintable() or not reason) or len(reason) > MAX_SUMMARY_CHARS // 2:
        raise _invalid("reason", f"not one line of at most {MAX_SUMMARY_CHARS // 2} characters")
    at = timestamp(now_ms)
    return build_envelope(ENVELOPE_TYPE, approval_payload(scope, kind, key.did, at, reason), key, at)


def open_approval(envelope: object, scope: Scope, approvers: Container[str], now_ms: int) -> ApprovalType:
    """What an approver's answer to the question ``scope`` says.

    ``approvers`` are the keys that may give it. Raises ``ClawproxyError``: APPROVER_NOT_TRUSTED, the codes of an
    envelope that does not hold, or APPROVAL_INVALID for one that answers another question.
    """
    if not isinstance(envelope, dict) or "expires_at" in envelope:
        raise _invalid("the envelope", "not an envelope as clawproxy writes it")
    try:
        payload = open_envelope(envelope, ENVELOPE_TYPE, approvers)
    except ClawproxyError as err:
        if err.reason != "CLAIM_NOT_FOUND":
            raise
        raise ClawproxyError(
            "APPROVER_NOT_TRUSTED",
            "this key may not approve this",
            where="signer_did",
            got=err.got,
            expected="an approver of the group" if scope.group is not None else "a trusted approver",
            remedy="see trust.approvers in the gateway's configuration",
        ) from None
    at, said, kind = payload.get("timestamp"), payload.get("scope_summary"), payload.get("approval_type")
    if kind not in (ApprovalType.APPROVE, ApprovalType.DENY):
        raise _invalid("approval_type", "neither a yes nor a no")
    if not isinstance(at, str) or not _TIMESTAMP.fullmatch(at) or envelope["issued_at"] != at:
        raise _invalid("timestamp", "not the time of the envelope")
    if not timestamp(now_ms - CLOCK_SKEW_MS) <= at <= timestamp(now_ms + CLOCK_SKEW_MS):
        raise _invalid("timestamp", "the approver's clock is off, or the answer is an old one")
    if not isinstance(said, str) or not said.isprintable() or not 0 < len(said) <= MAX_SUMMARY_CHARS:
        raise _invalid("scope_summary", f"not one line of at most {MAX_SUMMARY_CHARS} characters")
    expected = approval_payload(scope, ApprovalType(kind), envelope["signer_did"], at) | {"scope_summary": said}
    for member in sorted(payload.keys() | expected.keys()):
        if payload.get(member) != expected.get(member):
            raise _invalid(member, "it answers another question than the one that is open")
    return ApprovalType(kind)


def said_reason(scope: JsonObject, payload: JsonObject) -> str:
    """What an answer on record (``scope`` and signed ``payload``, whose shapes hold) says besides the yes or no: the
    approver's reason, or all of its line where that does not begin as ``approval_payload`` writes it."""
    said: str = payload["scope_summary"]
    usual = f"{Scope(**scope).summary}: {payload['approval_type']}"
    return said if not said.startswith(usual) else said.removeprefix(usual).removeprefix("; ")


def clip_tool(name: str) -> str:
    """A tool's name, as far as a scope holds it."""
    return clip_text(name, MAX_TOOL_BYTES)


def approval_detail(scope: Scope, envelope: JsonObject) -> JsonObject:
    """The ``detail`` of an ``approval`` event."""
    return {"approval": envelope, "scope": scope.to_json()}


def _invalid(where: str, message: str) -> ClawproxyError:
    return ClawproxyError(
        "APPROVAL_INVALID", message, where=where, remedy="see what is open now with: clawproxy approve list"
    )
