"""Lists of models, of every provider: a GET without a body, which calls no model. Pure."""

from __future__ import annotations

from ...policies.facts import CallFacts
from ...tokens.canonical import JsonObject
from .events import Framing
from .keys import refuse
from .reader import ResponseReader, WholeReader
from .refusal_text import RefusalText, openai_error
from .request import WireRequest
from .rewrite import AnswerRewriter


class ModelsList:
    """The format ``models_list``."""

    name = "models_list"

    def read_request(self, request: WireRequest) -> CallFacts:
        if request.body:
            refuse("body", "a list of models is asked for without a body", expected="no body")
        return CallFacts(request.provider, request.route, None, False, kind=request.kind)

    def framing(self, content_type: str, *, stream: bool) -> Framing | None:
        return None

    def new_reader(self) -> ResponseReader:
        return _Reader()

    def new_rewriter(self) -> AnswerRewriter | None:
        return None

    def refusal_body(self, refusal: RefusalText) -> JsonObject:
        """In the shape of OpenAI, with what the SDKs of Anthropic and Google look for beside it."""
        error: JsonObject = openai_error(refusal)["error"]
        return {
            "type": "error",
            "error": {**error, "status": refusal.reason},
            "request_id": refusal.receipt_id,
        }


class _Reader(WholeReader):
    def _read_answer(self, answer: JsonObject) -> None:
        """Nothing in it says what a call used."""
