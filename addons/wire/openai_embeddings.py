"""OpenAI embeddings, as OpenAI, Azure, OpenRouter and vLLM serve them. Pure.

Request: ``input`` is a text, a list of texts, or tokens, always in the request itself. Answer: one object with
``usage.prompt_tokens``; nothing is written, so there are no tokens of output and no tool calls.
"""

from __future__ import annotations

from typing import Any

from ...policies.facts import CallFacts
from ...tokens.canonical import JsonObject
from .asked import Asked
from .events import Framing
from .keys import BodyKeys, refuse
from .reader import ResponseReader, WholeReader
from .refusal_text import RefusalText, openai_error
from .request import WireRequest
from .rewrite import AnswerRewriter

_KEYS = BodyKeys("dimensions encoding_format input model user")


class OpenAIEmbeddings:
    """The format ``openai_embeddings``."""

    name = "openai_embeddings"

    def read_request(self, request: WireRequest) -> CallFacts:
        asked = Asked(request, _KEYS)
        if not _is_input(request.body.get("input")):
            refuse("input", "neither texts nor tokens", expected="a string, strings, or lists of whole numbers")
        return asked.facts()

    def framing(self, content_type: str, *, stream: bool) -> Framing | None:
        return None

    def new_reader(self) -> ResponseReader:
        return WholeReader()

    def new_rewriter(self) -> AnswerRewriter | None:
        return None

    def refusal_body(self, refusal: RefusalText) -> JsonObject:
        return openai_error(refusal)


def _is_input(value: Any) -> bool:
    if isinstance(value, str):
        return True
    if not isinstance(value, list) or not value:
        return False
    if isinstance(value[0], list):
        return all(isinstance(tokens, list) and _are_tokens(tokens) for tokens in value)
    return all(isinstance(text, str) for text in value) or _are_tokens(value)


def _are_tokens(value: list[Any]) -> bool:
    return all(isinstance(token, int) and not isinstance(token, bool) for token in value)
