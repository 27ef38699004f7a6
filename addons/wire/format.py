"""One provider API as the gateway knows it: how a request is read, how an answer is read, how an error looks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from ...policies.facts import CallFacts
from ...tokens.canonical import JsonObject
from .anthropic_messages import AnthropicMessages
from .bedrock_anthropic import BedrockAnthropic
from .bedrock_converse import BedrockConverse
from .events import Framing
from .fal_router import FalRouter
from .gemini import Gemini
from .models_list import ModelsList
from .ollama import OllamaChat, OllamaEmbed, OllamaGenerate, OllamaShow
from .openai_chat import OpenAIChat
from .openai_embeddings import OpenAIEmbeddings
from .openai_realtime import OpenAIRealtime
from .openai_responses import OpenAIResponses
from .openrouter_chat import OpenRouterChat, OpenRouterResponses
from .reader import ResponseReader
from .refusal_text import RefusalText
from .request import WireRequest
from .rewrite import AnswerRewriter

__all__ = ["FORMATS", "RefusalText", "ResponseReader", "WireFormat", "WireRequest"]


class WireFormat(Protocol):
    """A provider API. ``name`` is how routes of the catalogue refer to it."""

    @property
    def name(self) -> str: ...

    def read_request(self, request: WireRequest) -> CallFacts:
        """The facts of a request whose body ``tokens.canonical.parse_json_object`` has parsed.

        Raises ``ClawproxyError`` (INVALID_REQUEST) for what it cannot read with certainty.
        """
        ...

    def framing(self, content_type: str, *, stream: bool) -> Framing | None:
        """How an answer of this content type (lower case, without parameters) is cut into events; None where it is
        read whole. ``stream`` is what the request asked for."""
        ...

    def new_reader(self) -> ResponseReader:
        """A reader for the answer to one call."""
        ...

    def new_rewriter(self) -> AnswerRewriter | None:
        """What changes the answer to one call where it calls a tool that it may not; None where answers call none."""
        ...

    def refusal_body(self, refusal: RefusalText) -> JsonObject:
        """An error body in the provider's own shape, so that its SDKs raise their usual exceptions."""
        ...


FORMATS: Mapping[str, WireFormat] = MappingProxyType(
    {
        known.name: known
        for known in (
            OpenAIChat(),
            OpenAIResponses(),
            OpenAIRealtime(),
            OpenAIEmbeddings(),
            AnthropicMessages(),
            Gemini(),
            ModelsList(),
            OpenRouterChat(),
            OpenRouterResponses(),
            OllamaChat(),
            OllamaGenerate(),
            OllamaEmbed(),
            OllamaShow(),
            FalRouter(),
            BedrockAnthropic(),
            BedrockConverse(),
        )
    }
)
