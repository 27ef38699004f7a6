"""Whether the model that answered is the one that was asked for. Pure.

Providers answer an alias under the name of what stands behind it (``gpt-4o-mini`` → ``gpt-4o-mini-2024-07-18``), and
routes write the vendor before the name (``openai/…``, ``us.anthropic.…-v1:0``, ``models/…``). Such names are told from
those of another model.

``other_names`` are those under which a provider serves the very model that was asked for.

Limits: names alone are compared. What a name that says nothing stands for (an Azure deployment, an inference profile,
a router) cannot be known, so its answer is another model's; a dated name that is answered by its alias is one as well.
"""

from __future__ import annotations

import re
from enum import StrEnum

from .facts import NO_MODEL


class ModelMatch(StrEnum):
    """What the answered name is beside the one asked for."""

    SAME = "same"  # the same characters
    SNAPSHOT = "snapshot"  # a dated, versioned or prefixed form of the name asked for
    OTHER = "other"
    UNKNOWN = "unknown"  # one of the two was not told


_OWNERS = frozenset(
    {
        *("openrouter", "models", "publishers", "openai", "anthropic", "google", "meta", "meta-llama", "mistral"),
        *("mistralai", "deepseek", "deepseek-ai", "qwen", "x-ai", "xai", "amazon", "cohere", "nvidia", "microsoft"),
        *("moonshotai", "minimax", "z-ai", "perplexity"),
    }
)
"""What stands before a ``/`` without making the model another one."""
_ARN = re.compile(r"arn:aws[a-z-]*:bedrock:[a-z0-9-]*:\d*:[a-z-]+/", re.ASCII)
REGIONS = ("us-gov", "us", "eu", "apac", "global", "jp", "au", "ca", "sa", "me")
VENDORS = (
    *("ai21", "amazon", "anthropic", "cohere", "deepseek", "google", "luma", "meta", "minimax", "mistral", "moonshot"),
    *("nvidia", "openai", "qwen", "stability", "twelvelabs", "writer"),
)
"""What stands before the name of a model at Bedrock: where it runs, and whose it is."""
LISTS = ("registry.ollama.ai/", "library/", "models/")
"""How providers' own lists begin a name."""
MARKS = ("free", "nitro", "floor", "online", "exacto", "extended", "thinking", "beta", "latest")
"""What may stand behind a colon without making the model another one."""
_REGIONS = rf"(?:{'|'.join(REGIONS)})\."
_VENDORS = rf"(?:{'|'.join(VENDORS)})\."
_BEDROCK = re.compile(rf"(?:{_REGIONS})?{_VENDORS}", re.ASCII)
_REGION = re.compile(rf"{_REGIONS}(?={_VENDORS})", re.ASCII)
_BEDROCK_VERSION = re.compile(r"(?:-v\d+)?(?::\d+){1,2}k?", re.ASCII)
_ROUTING = re.compile(r":(?:free|nitro|floor|online|exacto|latest)", re.ASCII)
_DATE = r"20\d\d-?[01]\d-?[0-3]\d|preview-\d\d-(?:\d\d|20\d\d)"
_VERSION = re.compile(rf"(?:[-@](?:{_DATE}|\d{{3,4}}|v\d+))(?:-v\d+)?(?::\d+)?|(?:-v\d+)?:\d+|:latest", re.ASCII)
_MAX_CHARS = 1024
_LISTED = re.compile("|".join(map(re.escape, LISTS)), re.ASCII | re.IGNORECASE)
_MARK = re.compile(rf":(?:{'|'.join(MARKS)})\Z", re.ASCII | re.IGNORECASE)


def model_match(asked: str | None, answered: str | None) -> ModelMatch:
    """Compare the model that a request named with the one that the answer names."""
    if not asked or not answered or asked == NO_MODEL or max(len(asked), len(answered)) > _MAX_CHARS:
        return ModelMatch.UNKNOWN
    if asked == answered:
        return ModelMatch.SAME
    base, name = _bare(asked), _bare(answered)
    for of in (base, base.removesuffix("-latest")):
        if of and name.startswith(of) and (name == of or _VERSION.fullmatch(name, len(of))):
            return ModelMatch.SNAPSHOT
    return ModelMatch.OTHER


def other_names(model: str) -> tuple[str, ...]:
    """Names by which a provider knows ``model`` as well: without an ARN, the provider's own list (``models/``,
    ``library/``) or a region in front, without a mark at the end, and with ``:latest``. Case stays as it is."""
    name, names = model, dict.fromkeys([model])
    for front in (_ARN, _LISTED, _LISTED, _REGION):
        if found := front.match(name.lower()):
            name = name[found.end() :]
            names[name] = None
    if found := _MARK.search(name):
        name = name[: found.start()]
        names[name] = None
    if ":" not in name:
        names[f"{name}:latest"] = None
    return tuple(other for other in names if other and other != model)


def is_bare(name: str) -> bool:
    """Whether ``other_names`` finds nothing to take off ``name``."""
    lower = name.lower()
    return not any(front.match(lower) for front in (_ARN, _LISTED, _REGION)) and _MARK.search(name) is None


def _bare(name: str) -> str:
    """The name in small letters without the marks of the route that it takes."""
    bare = name.lower()
    if found := _ARN.match(bare):
        bare = bare[found.end() :]
    while "/" in bare and bare.partition("/")[0] in _OWNERS:
        bare = bare.partition("/")[2]
    if found := _ROUTING.search(bare):
        bare = bare[: found.start()] if found.end() == len(bare) else bare
    if found := _BEDROCK.match(bare):
        bare = _cut_version(bare[found.end() :])
    return bare


def _cut_version(name: str) -> str:
    found = _BEDROCK_VERSION.search(name)
    return name[: found.start()] if found and found.end() == len(name) else name
