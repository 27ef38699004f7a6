"""A refusal as the agent gets it: the provider's own error shape, saying who refused, why, and what to do. Pure.

The official SDKs raise their usual exception for the status and show ``error.message``. A final refusal carries
``x-should-retry: false``, which they obey; one that may pass later does not.
"""

from __future__ import annotations

import math
import re

import orjson

from ..tokens.claims import is_job_id
from ..tokens.errors import clip
from ..tokens.reasons import REASONS, Refusal
from .wire.format import WireFormat
from .wire.refusal_text import RefusalText, openai_error

_FINAL_FAULTS = frozenset({"GATEWAY_FAULT", "JOB_DAMAGED", "CREDENTIAL_MISSING", "UPSTREAM_REDIRECT"})
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)
_RULE_CHARS = 200
_DETAIL_CHARS = 300


def build_refusal(
    refusal: Refusal,
    wire: WireFormat | None,
    *,
    receipt_id: str,
    policy_hash: str | None,
    job_id: str | None,
) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and JSON body. Without a ``wire`` format the body has what both SDK families look for."""
    text = text_of(refusal, receipt_id=receipt_id, policy_hash=policy_hash, job_id=job_id)
    body = wire.refusal_body(text) if wire else {"type": "error", **openai_error(text), "request_id": receipt_id}
    headers = {
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-clawproxy-receipt-id": receipt_id,
        "x-clawproxy-reason": refusal.reason,
    }
    if job_id and _HEADER_SAFE.fullmatch(job_id):
        headers["x-clawproxy-job"] = job_id
    if refusal.status == 401:
        headers["www-authenticate"] = 'Bearer realm="clawproxy"'  # RFC 9110 section 15.5.2 asks for one
    if refusal.status == 429:
        headers["retry-after"] = str(max(1, math.ceil(refusal.retry_after_s)))
    if is_final(refusal):
        headers["x-should-retry"] = "false"
    return refusal.status, headers, orjson.dumps(body)


def text_of(refusal: Refusal, *, receipt_id: str, policy_hash: str | None, job_id: str | None) -> RefusalText:
    """What a refusal says, without the provider's shape around it."""
    remedy = refusal.remedy
    if job_id and is_job_id(job_id):  # and so can stand in a command line as it is
        remedy = remedy.replace("--job JOB ", f"--job {job_id} ")
    return RefusalText(
        status=refusal.status,
        message=_sentence(refusal, receipt_id, policy_hash, remedy),
        reason=refusal.reason,
        step=refusal.step,
        rule=clip(refusal.rule, _RULE_CHARS),
        remedy=remedy,
        receipt_id=receipt_id,
        policy_hash_b64u=policy_hash,
        job=job_id,
    )


def is_final(refusal: Refusal) -> bool:
    """Whether the same call would be refused again: all but a full queue and what the gateway may recover from."""
    return refusal.reason in _FINAL_FAULTS or (refusal.status < 500 and refusal.status != 429)


def _sentence(refusal: Refusal, receipt_id: str, policy_hash: str | None, remedy: str) -> str:
    why = REASONS[refusal.reason].meaning
    if refusal.detail:
        why += f": {clip(refusal.detail, _DETAIL_CHARS)}"
    rule, contract = clip(refusal.rule, _RULE_CHARS), policy_hash or "not known yet"
    return (
        f"clawproxy refused this call ({refusal.reason} at step {refusal.step}): {why}"
        f" [rule: {rule}; contract: {contract}; receipt: {receipt_id}]. Next: {remedy}."
    )
