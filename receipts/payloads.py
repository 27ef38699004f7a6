"""What is signed about a call: payloads of intents, receipts and denials (docs/evidence-format.md). Pure.

A receipt is the closed wire payload of protocol.md D.9/E.1, keys in JCS order, integers only. Texts and lists that an
agent or a provider chose are values, never keys, and are clipped here, so that ``metadata`` stays within the wire
format's 16,384 bytes whatever they hold; a clipped list is known by its ``…_total``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache

import orjson

from ..policies.facts import NO_MODEL
from ..policies.model_match import model_match
from ..tokens.canonical import MAX_SAFE_INT, JsonObject, jcs_bytes
from ..tokens.digests import sha256_b64u
from ..tokens.grant import Grant
from .calls import NO_DATA, CallDenied, CalledOutcome, CallEnd, CallStart, DataSeen, JudgedCall, WouldRefuse
from .containment import NOT_ATTESTED, Containment
from .presenters import strength_of
from .recorded_facts import MAX_INNER, call_facts, denied_facts

OBSERVE = "observe"
"""``enforcement`` of a job that lets through what its contract refuses; absent, the contract is enforced."""
MAX_TOKENS = 10_000_000
MAX_LATENCY_MS = 3_600_000
MAX_NONCE_CHARS = 256
_MAX_NAMES = 128
_MAX_COUNTS = 32
_MAX_NAME_BYTES = 128
_MAX_NAMES_BYTES = 3072
_MAX_TEXT_BYTES = 512
_MAX_CALLED_BYTES = 4096
MAX_WOULD_REFUSE = 8
MAX_RULE_BYTES = 192
_MAX_DETAIL_BYTES = 1024
_MOST_BYTES_PER_CHAR = 6  # \u001f


def clip_text(text: str, max_bytes: int = _MAX_TEXT_BYTES) -> str:
    """``text`` cut so that its JSON form, without quotes, has at most ``max_bytes``; half surrogates become ``?``."""
    if text.isascii() and len(text) * _MOST_BYTES_PER_CHAR <= max_bytes:
        return text
    text = text[:max_bytes].encode("utf-8", "replace").decode("utf-8")
    while len(orjson.dumps(text)) - 2 > max_bytes:
        text = text[: len(text) * 7 // 8]
    return text


def clip_names(names: Sequence[str]) -> list[str]:
    """The first names, each clipped, that fit into ``_MAX_NAMES_BYTES`` of JSON."""
    kept, room = [], _MAX_NAMES_BYTES
    for name in names[:_MAX_NAMES]:
        short = clip_text(name, _MAX_NAME_BYTES)
        room -= len(orjson.dumps(short)) + 1
        if room < 0:
            break
        kept.append(short)
    return kept


def called_entries(called: Sequence[JudgedCall]) -> list[JsonObject]:
    """What became of the calls of tools, in order, as many as fit into ``_MAX_CALLED_BYTES``; those that were not
    simply allowed before the others. The rule stands where it refused, or asked for an approval."""
    plain = CalledOutcome.ALLOWED
    order = sorted(range(len(called)), key=lambda n: called[n].outcome is plain and called[n].would_refuse is None)
    kept, room = {}, _MAX_CALLED_BYTES
    for n in order:
        call = called[n]
        entry: JsonObject = {
            "arguments_hash_b64u": call.arguments_hash_b64u,
            "name": clip_text(call.name, _MAX_NAME_BYTES),
            "outcome": str(call.outcome),
        }
        if call.outcome is not plain and call.rule:
            entry["rule"] = clip_text(call.rule, 2 * _MAX_NAME_BYTES)
        if call.approval is not None:
            entry["approval"] = call.approval
        if call.would_refuse is not None:
            [entry["would_refuse"]] = would_refuse_entries((call.would_refuse,))
        if call.inner:
            entry["inner"] = [clip_text(name, _MAX_NAME_BYTES) for name in call.inner[:MAX_INNER]]
        room -= len(orjson.dumps(entry)) + 1
        if room < 0:
            break
        kept[n] = entry
    return [kept[n] for n in sorted(kept)]


def would_refuse_entries(refusals: Sequence[WouldRefuse]) -> list[JsonObject]:
    """``would_refuse`` of an intent, receipt, effect or call of a tool; a step refuses once, so there are few."""
    return [{"code": each.code, "rule": clip_text(each.rule, MAX_RULE_BYTES)} for each in refusals[:MAX_WOULD_REFUSE]]


def observed_host(refusal: WouldRefuse, host: str, port: int | None) -> JsonObject:
    """The ``detail`` of a ``host_observed`` event."""
    [told] = would_refuse_entries((refusal,))
    return {"host": clip_text(host), "port": port, **told}


def _clip_nonce(nonce: str) -> str:
    return clip_text(nonce, MAX_NONCE_CHARS * _MOST_BYTES_PER_CHAR)


def _bounded(value: int, highest: int = MAX_SAFE_INT) -> int:
    return min(max(int(value), 0), highest)


def token_facts(grant: Grant) -> JsonObject:
    """The claims of a token as they stood, so that its scope hash can be computed again, and who issued it."""
    facts = {**grant.claims, "token_hash_hex": grant.token_hash_hex, "issuer_did": grant.issuer_did}
    return {**facts, "token_scope_hash_b64u": grant.token_scope_hash_b64u}


def authority_detail(
    token: JsonObject, presenter: str | None, way_in: str, containment: Containment | None = NOT_ATTESTED
) -> JsonObject:
    """The ``detail`` of ``job_opened`` and ``authority_changed``: on whose authority calls go out from here on; in the
    first, and there alone, what keeps the agent from other ways out."""
    bound = {} if presenter is None else {"presenter_strength": str(strength_of(presenter))}
    return {
        **(containment.to_json() if containment is not None else {}),
        "presenter": None if presenter is None else clip_text(presenter),
        **bound,
        "token": token,
        "way_in": clip_text(way_in),
    }


def start_detail(start: CallStart) -> JsonObject:
    """The ``detail`` of a ``llm_call`` event: the fields of ``CallStart``; of ``facts`` what no other field says."""
    detail = dict.fromkeys(_START_FIELDS)
    for name in _START_FIELDS:
        value = getattr(start, name)
        detail[name] = clip_text(value) if value.__class__ is str else value
    if start.upstream is None:
        del detail["upstream"], detail["upstream_model"]
    del detail["stripped"]
    if start.stripped:
        detail |= {"stripped": clip_names(start.stripped), "stripped_total": len(start.stripped)}
    if start.budget is None:
        del detail["budget"]
    else:
        detail["budget"] = start.budget.to_json()
    del detail["data"], detail["would_refuse"]
    if start.data != NO_DATA:
        detail["data"] = data_detail(start.data)
    if start.would_refuse:
        detail["would_refuse"] = would_refuse_entries(start.would_refuse)
    detail |= {"nonce": _clip_nonce(start.nonce), "tools": clip_names(start.tools), "tools_total": len(start.tools)}
    if start.facts is None:
        del detail["facts"]
    else:
        whole = {"model": start.model, "tools": list(start.tools)} | (
            {"upstream_model": start.upstream_model} if start.upstream is not None else {}
        )
        detail["facts"] = call_facts(start.facts, clipped=[name for name in whole if detail[name] != whole[name]])
    return detail


def data_detail(seen: DataSeen) -> JsonObject:
    """What ``DataSeen`` tells: labels, and (class or action, count) in lists, at most as many as names are kept."""
    detail: JsonObject = {"labels": clip_names(seen.labels)}
    for name, counts in (("found", seen.found), ("redacted", seen.redacted), ("paths", seen.paths)):
        detail[name] = [{"count": _bounded(count), "of": clip_text(of, 64)} for of, count in counts[:_MAX_COUNTS]]
    return dict(sorted(detail.items()))


_START_FIELDS = tuple(sorted(field.name for field in dataclasses.fields(CallStart)))
_DENIED_FIELDS = tuple(sorted(field.name for field in dataclasses.fields(CallDenied)))


def denial_fields(denied: CallDenied) -> JsonObject:
    """The fields of ``CallDenied``; what is not known is null."""
    fields: JsonObject = {}
    for name in _DENIED_FIELDS:
        value = getattr(denied, name)
        limit = _MAX_DETAIL_BYTES if name == "detail" else _MAX_TEXT_BYTES
        fields[name] = clip_text(value, limit) if value.__class__ is str else value
    if denied.destination is None:
        del fields["destination"]
    if denied.facts is None:
        del fields["facts"]
    else:
        fields["facts"] = denied_facts(denied.facts)
    return fields


def _model_identity(provider: str, model: str) -> JsonObject:
    """Identity of a model that only its provider can see (protocol.md D.9): nothing more than its name."""
    return {"model": {"name": model, "provider": provider}, "model_identity_version": "1", "tier": "closed_opaque"}


@lru_cache(maxsize=256)
def _model_identity_hash(provider: str, model: str) -> str:
    return sha256_b64u(jcs_bytes(_model_identity(provider, model)))


def receipt_payload(
    start: CallStart,
    end: CallEnd,
    place: JsonObject,
    *,
    agent_did: str,
    gateway_id: str,
    run_id: str,
    event_hash_b64u: str,
    intent_seq: int,
    parent_span_id: str | None,
    timestamp: str,
    budget: JsonObject | None = None,
) -> JsonObject:
    """The payload of a gateway receipt. ``place`` is the record's; run id and event hash are those of its event.

    ``agent_did`` is job.json's: whose call it was, for whoever has the receipt alone.

    Where a harness keeps its own chain, the receipt binds to that (protocol.md G.3), ours stand in ``metadata``, and
    there is no span: the harness's bundle may hold no causal graph but its own (protocol.md E.6, G.7).
    """
    model = clip_text(start.model) or NO_MODEL
    provider = clip_text(start.provider)
    harness = is_harness_bound(start)
    binding: JsonObject = {
        "event_hash_b64u": clip_text(start.harness_event_hash_b64u or "") if harness else event_hash_b64u,
        "nonce": _clip_nonce(start.nonce),
    }
    if not harness and parent_span_id is not None:
        binding["parent_span_id"] = parent_span_id
    binding["policy_hash"] = start.policy_hash_b64u
    binding["run_id"] = clip_text(start.harness_run_id or "") if harness else run_id
    if not harness:
        binding["span_id"] = span_id(start.receipt_id)
    binding["token_scope_hash_b64u"] = start.token_scope_hash_b64u
    status, detail = status_and_detail(end)
    tokens = tokens_of(end)
    ours: JsonObject = {
        **place,
        "agent_did": agent_did,
        "detail": clip_text(detail, _MAX_DETAIL_BYTES),
        "first_byte_ms": None if end.first_byte_ms is None else _bounded(end.first_byte_ms),
        "intent_seq": intent_seq,
        "model_match": str(model_match(start.model, end.response_model)),
        "outcome": str(end.outcome),
        "presenter": clip_text(start.presenter),
        "request_bytes": _bounded(start.request_bytes),
        "response_bytes": _bounded(end.response_bytes),
        "response_model": None if end.response_model is None else clip_text(end.response_model),
        "route": clip_text(start.route),
        "status": status,
        "stream": start.stream,
        "tokens_cache_write": tokens["tokens_cache_write"],
        "tokens_cached": tokens["tokens_cached"],
        "tokens_reasoning": _bounded(end.tokens_reasoning, tokens["tokens_output"]),
        "tool_calls": clip_names(end.tool_calls),
        "tool_calls_total": len(end.tool_calls),
        "tools": clip_names(start.tools),
        "tools_total": len(start.tools),
        "usage": str(end.usage),
        "way_in": clip_text(start.way_in),
    }
    if start.data != NO_DATA:
        ours["data"] = data_detail(start.data)
    if start.would_refuse:
        ours["would_refuse"] = would_refuse_entries(start.would_refuse)
    rerouted: JsonObject = {}
    if start.upstream is not None:
        rerouted = {"upstream": clip_text(start.upstream), "upstream_model": clip_text(start.upstream_model or "")}
    if budget is not None:
        ours["budget"] = budget
    if end.called:
        ours |= {"called": called_entries(end.called), "called_total": len(end.called)}
    if end.delivered_hash_b64u is not None:
        ours["delivered_hash_b64u"] = end.delivered_hash_b64u
    if harness:
        ours |= {"event_hash_b64u": event_hash_b64u, "run_id": run_id}
    return {
        "binding": binding,
        "gateway_id": gateway_id,
        "latency_ms": _bounded(end.ended_ms - start.started_ms, MAX_LATENCY_MS),
        "metadata": {
            "clawproxy": dict(sorted(ours.items())),
            "model_identity": _model_identity(provider, model),
            "model_identity_hash_b64u": _model_identity_hash(provider, model),
            **rerouted,
        },
        "model": model,
        "provider": provider,
        "receipt_id": start.receipt_id,
        "receipt_version": "1",
        "request_hash_b64u": start.request_hash_b64u,
        "response_hash_b64u": end.response_hash_b64u,
        "timestamp": timestamp,
        "tokens_input": tokens["tokens_input"],
        "tokens_output": tokens["tokens_output"],
    }


def tokens_of(end: CallEnd) -> dict[str, int]:
    """The figures of tokens that a receipt states: bounded, and no part more than the whole."""
    read, wrote = _bounded(end.tokens_input, MAX_TOKENS), _bounded(end.tokens_output, MAX_TOKENS)
    cached = _bounded(end.tokens_cached, read)
    return {
        "tokens_cache_write": _bounded(end.tokens_cache_write, read - cached),
        "tokens_cached": cached,
        "tokens_input": read,
        "tokens_output": wrote,
    }


def status_and_detail(end: CallEnd) -> tuple[int | None, str]:
    """A provider can answer with any number; one that is no status of HTTP is told in words, before the detail."""
    if end.status is None or 100 <= end.status <= 999:
        return end.status, end.detail
    told = f"the provider answered with status {'-' * (end.status < 0)}{_bounded(abs(end.status))}, which is none"
    return None, f"{told}; {end.detail}" if end.detail else told


def is_harness_bound(start: CallStart) -> bool:
    """Whether the receipt binds to a chain that the agent's harness keeps, not to ours."""
    return bool(start.harness_run_id and start.harness_event_hash_b64u)


def span_id(receipt_id: str) -> str:
    """The span of a call: one per receipt, so derived from its id."""
    return "span_" + receipt_id.removeprefix("rcpt_")
