"""Names of OpenRouter's models: what a name asks for beside the model. Pure.

``:online`` has OpenRouter search the web; ``openrouter/…`` (``auto``, ``free``, models under another name) and
``~vendor/…`` are names behind which it chooses the model; ``@preset/…`` holds a model, a prompt and tools that stand
at OpenRouter. Models that search before each answer (Perplexity's, deep research) are the tool ``web_search`` as well.
A name with a space in it is refused: a reader that trims it sees another.
"""

from __future__ import annotations

import re

from ...policies.routers import is_openrouter_router
from .asked import Asked
from .keys import refuse

WEB_SEARCH = "web_search"
_SEARCHES = re.compile(r"(?:^|/)perplexity/|-search-(?:preview|api)(?![a-z])|-deep-research(?![a-z])", re.ASCII)


def read_model(asked: Asked, model: str | None) -> None:
    """Note what ``model``, as OpenRouter gets it, asks for."""
    if model is None:
        return
    if is_openrouter_router(model):
        asked.router()
    _read_marks(asked, model, "model")


def read_fallbacks(asked: Asked, models: object) -> None:
    """Note the models that may stand in; raises ``ClawproxyError`` for a router, which may not."""
    if not isinstance(models, list):
        refuse("models", "not a list", type(models).__name__, "a list of model names")
    for n, name in enumerate(models):
        asked.fallback(name, f"models[{n}]")
        if name != asked.model and is_openrouter_router(name):
            refuse(f"models[{n}]", "a router as a fallback", expected="a model")
        _read_marks(asked, name, "models")


def _read_marks(asked: Asked, model: str, where: str) -> None:
    folded = model.lower()
    if any(char.isspace() for char in folded):
        refuse(where, "a space in the name of a model", expected="no such name")
    if "@preset/" in folded:
        asked.state("preset")
    if "online" in folded.split(":")[1:] or _SEARCHES.search(folded):
        asked.provider_tool(WEB_SEARCH, where)
