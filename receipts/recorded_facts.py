"""What of a call's facts goes on record, and the facts read back from it, so that a contract can decide again. Pure.

An intent says provider, route, model and tools by themselves; what else the decision rests on stands in its member
``facts``. A denial has no list of tools, so its ``facts`` name those as well, as far as they are plain words: what
nobody allowed may be any text that an agent wrote.

Texts and lists are clipped, and ``clipped`` names the members that are not whole. What is not whole is never taken for
the whole: ``read_call`` leaves it out and says so in ``missing``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..policies.facts import NO_MODEL, CallFacts, CallKind
from ..tokens.canonical import JsonObject
from ..tokens.grant import Grant

MAX_FACTS_BYTES = 4096
MAX_DENIED_FACTS_BYTES = 1536
"""Less than of an intent: an agent can make a gateway write many denials."""
_WORD = re.compile(r"[A-Za-z0-9_.:/-]{1,128}", re.ASCII)
_MAX_NAMES = 128
_MAX_NAME_BYTES = 256
_SURELY_WHOLE_BYTES = 100
"""A name that is shorter than this in JSON was not clipped (``payloads.clip_names`` keeps 7/8 of 128 at the least)."""
_SURELY_WHOLE_TEXT_BYTES = 440
"""The same of another text (7/8 of 512)."""

LISTS = ("provider_state", "remote_urls", "surcharges", "fallback_models", "provider_tools", "any_tools")
"""Members of ``CallFacts`` that are recorded where they are not empty."""
_FLAGS = ("is_router", "kept_by_provider")
BESIDE = ("model", "provider", "route", "stream", "tools", "upstream", "upstream_model")
"""Members that an intent records by themselves."""
MAX_INNER = 16
"""So many of the tools that a call of a meta-tool names are on record."""
_TOO_OLD = "what else the call asked for"


def call_facts(facts: CallFacts, *, clipped: Sequence[str] = ()) -> JsonObject:
    """The member ``facts`` of an intent. ``clipped`` are members beside it that the writer had to clip."""
    return _Room(MAX_FACTS_BYTES, clipped).record(facts)


def denied_facts(facts: CallFacts) -> JsonObject:
    """The member ``facts`` of a denial: those of an intent, and ``stream``, ``tools`` and where it would have gone."""
    room = _Room(MAX_DENIED_FACTS_BYTES, ())
    told = room.record(facts, only_words=True)
    told["stream"] = facts.stream
    if facts.upstream is not None:
        told |= {"upstream": facts.upstream, "upstream_model": room.text("upstream_model", facts.upstream_model or "")}
    if facts.tools:
        told["tools"] = room.names("tools", facts.tools, only_words=True)
    if room.clipped:
        told["clipped"] = sorted(room.clipped)
    return dict(sorted(told.items()))


class _Room:
    """What fits into so many bytes of JSON; the rest is named in ``clipped``."""

    def __init__(self, max_bytes: int, clipped: Sequence[str]) -> None:
        self.left = max_bytes
        self.clipped = set(clipped)

    def record(self, facts: CallFacts, *, only_words: bool = False) -> JsonObject:
        told: JsonObject = {"kind": str(facts.kind)}
        told |= {name: True for name in _FLAGS if getattr(facts, name)}
        if not facts.model:
            told["no_model"] = True
        if facts.max_output_tokens is not None and 0 <= facts.max_output_tokens < 2**53:
            told["max_output_tokens"] = facts.max_output_tokens
        if facts.choices != 1 and 0 <= facts.choices < 2**53:
            told["choices"] = facts.choices
        if facts.tool_choice is not None:
            for choice in self.names("tool_choice", (facts.tool_choice,), only_words=only_words):
                told["tool_choice"] = choice
        for name in LISTS:
            if names := getattr(facts, name):
                told[name] = self.names(name, names, only_words=only_words and name.endswith("_tools"))
        if self.clipped:
            told["clipped"] = sorted(self.clipped)
        return dict(sorted(told.items()))

    def names(self, member: str, names: Sequence[str], *, only_words: bool = False) -> list[str]:
        kept = []
        for name in names[:_MAX_NAMES]:
            size = _json_bytes(name) + 3
            if size > _MAX_NAME_BYTES or size > self.left or (only_words and not _WORD.fullmatch(name)):
                continue
            self.left -= size
            kept.append(name)
        if len(kept) != len(names):
            self.clipped.add(member)
        return kept

    def text(self, member: str, text: str) -> str:
        return next(iter(self.names(member, (text,))), "")


def _json_bytes(text: str) -> int:
    try:
        return len(orjson.dumps(text)) - 2
    except orjson.JSONEncodeError:  # half of a surrogate pair
        return _MAX_NAME_BYTES + 1


@dataclass(frozen=True, slots=True)
class Recorded:
    """The facts of a call as its record has them. ``missing`` says what of them is not there, or not whole; what is
    there is judged all the same, since more facts never allow more."""

    facts: CallFacts
    missing: tuple[str, ...] = ()


def read_call(detail: Mapping[str, Any]) -> Recorded:
    """The facts of an intent (its ``detail``), whose shape holds."""
    told, model = detail.get("facts"), detail["model"]
    if told is None:
        missing = [_TOO_OLD, *(() if model != NO_MODEL else ("model",))]
        tools = _surely_whole(detail["tools"])
        if len(tools) != detail["tools_total"]:
            missing.append(_some_tools(tools, detail))
        named = None if model == NO_MODEL else model
        facts = _facts(detail, {}, CallKind.GENERATE, named, tools)
        return Recorded(facts, tuple(missing))
    clipped = set(told.get("clipped", ()))
    tools = tuple(detail["tools"])
    if "tools" in clipped or len(tools) != detail["tools_total"]:
        tools = _surely_whole(tools)
        clipped = clipped - {"tools"} | {_some_tools(tools, detail)}
    named = None if "no_model" in told else model
    return Recorded(_facts(detail, told, CallKind(told["kind"]), named, tools), tuple(sorted(clipped)))


def read_denied(payload: Mapping[str, Any]) -> Recorded | None:
    """The facts of a denial, whose shape holds; None where it has none at all: it left before a body was read."""
    told = payload.get("facts")
    if payload["provider"] is None:
        return None
    if told is None:
        return Recorded(CallFacts(payload["provider"], payload["route"] or "", payload["model"], False), (_TOO_OLD,))
    where = {**payload, "stream": told["stream"], **{k: told[k] for k in ("upstream", "upstream_model") if k in told}}
    model = None if "no_model" in told else payload["model"]
    clipped = set(told.get("clipped", ()))
    if model is not None and _json_bytes(model) >= _SURELY_WHOLE_TEXT_BYTES:
        clipped.add("model")
    facts = _facts(where, told, CallKind(told["kind"]), model, tuple(told.get("tools", ())))
    return Recorded(facts, tuple(sorted(clipped)))


def _some_tools(tools: Sequence[str], detail: Mapping[str, Any]) -> str:
    return f"tools ({len(tools)} of {detail['tools_total']} are)"


def _facts(
    where: Mapping[str, Any], told: Mapping[str, Any], kind: CallKind, model: str | None, tools: tuple[str, ...]
) -> CallFacts:
    clipped = told.get("clipped", ())
    choice = None if "tool_choice" in clipped or "tools" in clipped else told.get("tool_choice")
    return CallFacts(
        provider=where["provider"],
        route=where["route"] or "",
        model=model,
        stream=where["stream"],
        tools=tools,
        tool_choice=choice if len(tools) == where.get("tools_total", len(tools)) else None,
        max_output_tokens=told.get("max_output_tokens"),
        choices=told.get("choices", 1),
        kind=kind,
        is_router=bool(told.get("is_router")),
        kept_by_provider=bool(told.get("kept_by_provider")),
        upstream=where.get("upstream"),
        upstream_model=where.get("upstream_model"),
        any_tools=tuple(told.get("any_tools", ())),
        provider_tools=tuple(told.get("provider_tools", ())),
        surcharges=tuple(told.get("surcharges", ())),
        fallback_models=tuple(told.get("fallback_models", ())),
        provider_state=tuple(told.get("provider_state", ())),
        remote_urls=tuple(told.get("remote_urls", ())),
    )


def is_surely_whole(name: str) -> bool:
    """Whether ``name`` is so short that no writer clipped it."""
    return _json_bytes(name) < _SURELY_WHOLE_BYTES


def is_inner_whole(names: Sequence[str]) -> bool:
    """Whether ``names``, the tools that a call of a meta-tool names, are all that it named."""
    return len(names) < MAX_INNER and all(map(is_surely_whole, names))


def is_word(name: str) -> bool:
    """Whether ``name`` is a plain word, which stands in rules as it is."""
    return _WORD.fullmatch(name) is not None and is_surely_whole(name)


def _surely_whole(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if is_surely_whole(name))


def grant_of(token: Mapping[str, Any]) -> Grant | None:
    """The grant that the token facts on record describe; None for a job opened before there was a token."""
    if "token_hash_hex" not in token:
        return None
    aud = token["aud"]
    return Grant(
        token_hash_hex=token["token_hash_hex"],
        token_scope_hash_b64u=token["token_scope_hash_b64u"],
        sub=token["sub"],
        aud=(aud,) if isinstance(aud, str) else tuple(aud),
        scope=tuple(token["scope"]),
        job_id=token["mission_id"],
        jti=str(token.get("jti", "")),
        iat_s=_seconds(token.get("iat")),
        exp_s=_seconds(token.get("exp")),
        policy_hash_b64u=token.get("policy_hash_b64u"),
        issuer_did=token["issuer_did"],
        claims=dict(token),
    )


def _seconds(value: object) -> int:
    return value if isinstance(value, int) else 0
