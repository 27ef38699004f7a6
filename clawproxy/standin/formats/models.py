"""Short lists of models in every provider's shape. Pure."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

from .encode import CREATED, CREATED_S, JsonObject, dump

_OPENAI = ("gpt-4o-mini", "gpt-5")
_ANTHROPIC = ("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5")
_GEMINI = ("gemini-2.5-pro", "gemini-2.5-flash")
_OPENROUTER = ("anthropic/claude-sonnet-5.5", "openai/gpt-4o-mini")
_OLLAMA = ("llama3.2:latest",)


def _openai(query: str) -> JsonObject:
    rows = [{"id": name, "object": "model", "created": CREATED_S, "owned_by": "stand-in"} for name in _OPENAI]
    return {"object": "list", "data": rows}


def _anthropic(query: str) -> JsonObject:
    """``limit`` and ``after_id`` page through the list."""
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    limit = int(asked["limit"]) if asked.get("limit", "").isdigit() else 20
    after = asked.get("after_id")
    names = _ANTHROPIC[_ANTHROPIC.index(after) + 1 :] if after in _ANTHROPIC else _ANTHROPIC
    page = names[: max(1, min(limit, 1000))]
    rows = [{"type": "model", "id": name, "display_name": "Stand-in", "created_at": CREATED} for name in page]
    ends = {"first_id": page[0], "last_id": page[-1]} if page else {"first_id": None, "last_id": None}
    return {"data": rows, "has_more": len(names) > len(page)} | ends


def _gemini(query: str) -> JsonObject:
    methods = ["generateContent", "streamGenerateContent", "countTokens"]
    limits = {"inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536}
    rows = [
        {"name": f"models/{name}", "version": "1", "displayName": "Stand-in", "supportedGenerationMethods": methods}
        | limits
        for name in _GEMINI
    ]
    return {"models": rows}


def _openrouter(query: str) -> JsonObject:
    pricing = {"prompt": "0.000001", "completion": "0.000004"}
    rows = [
        {"id": name, "name": "Stand-in", "created": CREATED_S, "context_length": 200_000, "pricing": pricing}
        for name in _OPENROUTER
    ]
    return {"data": rows}


def _ollama(query: str) -> JsonObject:
    details = {"format": "gguf", "family": "stand-in", "parameter_size": "1B", "quantization_level": "Q4_0"}
    rows = [
        {"name": name, "model": name, "modified_at": CREATED, "size": 1, "digest": "5" * 64, "details": details}
        for name in _OLLAMA
    ]
    return {"models": rows}


_LISTS: dict[str, Callable[[str], JsonObject]] = {
    "openai": _openai,
    "azure": _openai,
    "anthropic": _anthropic,
    "google": _gemini,
    "openrouter": _openrouter,
    "ollama": _ollama,
}


def models_answer(provider: str, query: str = "") -> bytes:
    """The models of ``provider``."""
    return dump(_LISTS[provider](query))
