"""Gemini generateContent, streamGenerateContent (events, or one array) and countTokens. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .ask import SIGNATURE, Ask
from .encode import JsonObject, data_event, dump


def _usage(ask: Ask) -> JsonObject:
    """Cached input is part of the prompt's count; thoughts are told apart from the candidates."""
    if "no-usage" in ask.steering.words:
        return {}
    figures: JsonObject = {
        "promptTokenCount": ask.all_input_tokens,
        "candidatesTokenCount": ask.output_tokens,
        "totalTokenCount": ask.total_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": ask.all_input_tokens}],
    }
    if ask.steering.cached:
        figures["cachedContentTokenCount"] = ask.steering.cached
    if ask.steering.reasoning:
        figures["thoughtsTokenCount"] = ask.steering.reasoning
    return {"usageMetadata": figures}


def _answer(ask: Ask, parts: list[JsonObject], *, last: bool) -> JsonObject:
    candidate: JsonObject = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = "STOP"
    named = {"modelVersion": ask.named_model, "responseId": f"standin-{ask.seed}"}
    return {"candidates": [candidate]} | (_usage(ask) if last else {}) | named


def _call_parts(ask: Ask) -> list[JsonObject]:
    """A call is whole, never in pieces; the first one carries the signature that clients send back."""
    parts: list[JsonObject] = [{"functionCall": {"name": call.name, "args": call.arguments}} for call in ask.calls]
    if parts and "unsigned" not in ask.steering.words:
        parts[0]["thoughtSignature"] = SIGNATURE
    return parts


def answer(ask: Ask) -> JsonObject:
    """The whole answer."""
    return _answer(ask, ([{"text": ask.text}] if ask.speaks else []) + _call_parts(ask), last=True)


def count(ask: Ask) -> JsonObject:
    """The answer of countTokens."""
    return {"totalTokens": ask.all_input_tokens}


def _answers(ask: Ask) -> list[JsonObject]:
    told = [[{"text": piece}] for piece in ask.pieces] if ask.speaks else []
    if calls := _call_parts(ask):
        told.append(calls)
    return [_answer(ask, parts, last=n == len(told)) for n, parts in enumerate(told, 1)]


def events(ask: Ask) -> Iterator[bytes]:
    """The answer as server-sent events (``alt=sse``)."""
    return (data_event(answer) for answer in _answers(ask))


def array(ask: Ask) -> Iterator[bytes]:
    """The answer as one JSON array, an element at a time."""
    for n, element in enumerate(_answers(ask)):
        yield (b"[" if n == 0 else b",\r\n") + dump(element)
    yield b"]"
