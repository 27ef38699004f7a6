"""How a provider of the catalogue is written into OpenClaw's ``models.providers``, and whose a model is. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..policies.prices import PriceTable

PREFIX = "claw-"
"""Providers are written under names of their own, so that no stored profile of a built-in one counts for them."""


@dataclass(frozen=True, slots=True)
class Shape:
    """``api`` is OpenClaw's adapter, ``path`` its base path at the gateway's base-URL listener, ``direct`` the base URL
    in an isolated job, whose connections the gateway takes by their destination (empty: there is none)."""

    api: str
    path: str
    direct: str = ""


SHAPES = {
    "anthropic": Shape("anthropic-messages", "/anthropic", "https://api.anthropic.com"),
    "openai": Shape("openai-responses", "/openai/v1", "https://api.openai.com/v1"),
    "google": Shape("google-generative-ai", "/google/v1beta", "https://generativelanguage.googleapis.com/v1beta"),
    "openrouter": Shape("openai-completions", "/openrouter/api/v1", "https://openrouter.ai/api/v1"),
    "fal": Shape(
        "openai-completions", "/fal/openrouter/router/openai/v1", "https://fal.run/openrouter/router/openai/v1"
    ),
    "ollama": Shape("ollama", "/ollama"),
    "vllm": Shape("openai-completions", "/vllm/v1"),
}
"""Azure (a deployment in the path) and Bedrock (signed requests) are reached through the proxy port alone."""
_BEGINNINGS = (
    ("anthropic", ("claude",)),
    ("openai", ("gpt-", "chatgpt-", "codex-", "o1", "o3", "o4")),
    ("google", ("gemini-",)),
)


def base_url(provider: str, gateway: str, *, isolated: bool) -> str:
    """Where OpenClaw sends calls for ``provider``; empty where it cannot."""
    shape = SHAPES.get(provider)
    if shape is None:
        return ""
    return shape.direct if isolated else gateway.rstrip("/") + shape.path


def provider_of(model: str, among: Iterable[str], prices: PriceTable) -> str | None:
    """The provider that serves ``model``, of those that the contract allows; None where that cannot be told."""
    allowed = list(among)
    for provider, beginnings in _BEGINNINGS:
        if provider in allowed and "/" not in model and model.startswith(beginnings):
            return provider
    priced = [name for name in allowed if prices.price_of(name, model) is not None]
    if priced:
        return priced[0]
    if "/" in model and "openrouter" in allowed:
        return "openrouter"
    return allowed[0] if len(allowed) == 1 else None
