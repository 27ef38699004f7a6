"""fal's own route to OpenRouter: a prompt in, a text out. Pure."""

from __future__ import annotations

from .ask import Ask
from .encode import JsonObject
from .openai_chat import usage


def answer(ask: Ask) -> JsonObject:
    """The whole answer of ``/openrouter/router``."""
    whole: JsonObject = {"output": ask.text, "reasoning": None, "partial": False, "error": None}
    if "no-usage" in ask.steering.words:
        return whole
    names = ("prompt_tokens", "completion_tokens", "total_tokens", "cost")
    return whole | {"usage": {name: value for name, value in usage(ask).items() if name in names}}
