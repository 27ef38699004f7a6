"""Names behind which a provider chooses the model, or hands the call on: only an entry that is exactly such a name
allows it (``decide``). Pure.
"""

from __future__ import annotations

import re

_OPENROUTER = ("openrouter/", "~", "switchpoint/router")
_OPENROUTER_BARE = frozenset({"auto", "free"})
_CLOUD = re.compile(r":(?:[^:/]*-)?cloud(?![a-z0-9])", re.ASCII | re.IGNORECASE)
_ARN = re.compile(r"arn:aws[a-z-]*:(?:bedrock|sagemaker):[a-z0-9-]*:[0-9]*:([a-z-]+)/[A-Za-z0-9./:_-]+", re.ASCII)
_ROUTER_ARNS = frozenset({"default-prompt-router", "prompt-router"})


OPENROUTER_PATTERNS = (
    *(f"{name}*" for name in _OPENROUTER),
    *_OPENROUTER_BARE,
    *(f"{name}:*" for name in _OPENROUTER_BARE),
)
"""What ``is_openrouter_router`` takes, as patterns for a name in small letters."""
PROVIDERS = ("bedrock", "fal", "ollama", "openrouter")
"""Providers that have such names."""


def is_openrouter_router(model: str) -> bool:
    """``openrouter/…``, ``~vendor/…``, ``auto``, ``free`` and ``switchpoint/router``, at OpenRouter and fal."""
    return model.lower().startswith(_OPENROUTER) or model.lower().partition(":")[0] in _OPENROUTER_BARE


def is_ollama_cloud(model: str) -> bool:
    """A model whose tag says ``cloud`` runs at ollama.com, to which the server hands the request on."""
    return _CLOUD.search(model) is not None


def bedrock_arn_kind(model: str) -> str | None:
    """What an ARN names (``inference-profile``, ``prompt-router``); None for what is no ARN of Bedrock's."""
    found = _ARN.fullmatch(model)
    return found[1] if found else None


def is_bedrock_router(model: str) -> bool:
    """The ARN of a prompt router."""
    return bedrock_arn_kind(model) in _ROUTER_ARNS


def is_router(provider: str, model: str) -> bool:
    """Whether ``model`` is such a name at ``provider``."""
    if provider in ("openrouter", "fal"):
        return is_openrouter_router(model)
    return (provider == "ollama" and is_ollama_cloud(model)) or (provider == "bedrock" and is_bedrock_router(model))
