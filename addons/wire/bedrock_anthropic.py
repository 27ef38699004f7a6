"""Anthropic messages through Bedrock's InvokeModel. Pure.

The body is Anthropic's with ``anthropic_version``, and ``anthropic_beta`` in place of the header; model and stream
stand in the path. The streamed answer is a binary event stream whose ``chunk`` events hold Anthropic's events in
base64. A model that is not Anthropic's has a body that this format cannot read, so its calls are refused.
"""

from __future__ import annotations

import base64
import binascii
import re

from ...tokens.canonical import JsonObject
from .anthropic_messages import AnthropicMessages, AnthropicReader
from .anthropic_rewrite import WrappedRewriter
from .asked import Asked
from .bedrock_models import aws_error, read_model
from .betas import check_betas
from .events import AwsEventFraming, Framing
from .keys import BodyKeys, refuse
from .reader import ResponseReader, load_object, text
from .refusal_text import RefusalText
from .request import WireRequest
from .rewrite import AnswerRewriter

_VERSION = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
# not a sibling of another vendor, and nothing that hides whose model it is but an ARN, whose owner made it
_ANTHROPIC = re.compile(r"(?:[a-z-]+\.)?anthropic\.|arn:", re.ASCII)


class BedrockAnthropic(AnthropicMessages):
    """The format ``bedrock_anthropic``."""

    name = "bedrock_anthropic"
    _keys = BodyKeys(
        "anthropic_beta anthropic_version cache_control context_management max_tokens mcp_servers messages metadata"
        " output_config output_format speed stop_sequences system temperature thinking tool_choice tools top_k top_p"
    )

    def _read_more(self, asked: Asked, request: WireRequest) -> None:
        if request.model is None or not _ANTHROPIC.match(request.model):
            refuse("model", "a model whose requests are not Anthropic's", expected="a model of Anthropic")
        read_model(asked, request.model)
        version = request.body.get("anthropic_version")
        if not (isinstance(version, str) and _VERSION.fullmatch(version)):
            refuse("anthropic_version", "not a version", type(version).__name__, "bedrock-2023-05-31")
        if request.body.get("anthropic_beta") is not None:
            check_betas(request.body["anthropic_beta"], "anthropic_beta")

    def framing(self, content_type: str, *, stream: bool) -> Framing | None:
        return AwsEventFraming() if content_type == "application/vnd.amazon.eventstream" else None

    def new_reader(self) -> ResponseReader:
        return _Reader()

    def new_rewriter(self) -> AnswerRewriter | None:
        return WrappedRewriter(self.refusal_body, AnthropicReader)

    def refusal_body(self, refusal: RefusalText) -> JsonObject:
        return aws_error(refusal)


class _Reader(AnthropicReader):
    def on_event(self, event: str, data: bytes) -> bool:
        if event == AwsEventFraming.FAILED:
            self.ended = self.failed = True
            return True
        if event != "chunk":
            return False
        held = load_object(data)
        try:
            inner = base64.b64decode(text(held.get("bytes")) if held else "", validate=True)
        except (binascii.Error, ValueError):
            inner = b""
        if not inner:
            self.unread = True
            return False
        return super().on_event("", inner)
