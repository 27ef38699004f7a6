"""fal's own route to OpenRouter's models: one prompt in, one text out. Pure.

Request: ``prompt`` and ``system_prompt`` are texts, ``model`` is OpenRouter's name for it (``openrouter_models``).
Answer: one object with ``output`` and ``usage``; no tools, no stream. fal's queue and its streams are no routes.
"""

from __future__ import annotations

from ...policies.facts import CallFacts
from ...tokens.canonical import JsonObject
from .asked import Asked
from .events import Framing
from .keys import BodyKeys, refuse
from .openrouter_models import read_model
from .reader import ResponseReader, WholeReader
from .refusal_text import RefusalText, openai_error
from .request import WireRequest
from .rewrite import AnswerRewriter

_KEYS = BodyKeys("max_tokens model prompt reasoning system_prompt temperature")


class FalRouter:
    """The format ``fal_router``."""

    name = "fal_router"

    def read_request(self, request: WireRequest) -> CallFacts:
        asked = Asked(request, _KEYS, state_keys=())
        for key in ("prompt", "system_prompt"):
            if not isinstance(said := request.body.get(key), str | None):
                refuse(key, "not a string", type(said).__name__, "a string")
        read_model(asked, asked.model)
        return asked.facts("max_tokens")

    def framing(self, content_type: str, *, stream: bool) -> Framing | None:
        return None

    def new_reader(self) -> ResponseReader:
        return WholeReader()

    def new_rewriter(self) -> AnswerRewriter | None:
        return None

    def refusal_body(self, refusal: RefusalText) -> JsonObject:
        return {"detail": refusal.message, **openai_error(refusal)}
