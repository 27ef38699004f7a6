"""Bedrock's Converse: one API over the models of every vendor. Pure.

Request: ``toolConfig.tools[].toolSpec.name``; ``systemTool`` is run by the provider, by its name. A content block has
exactly one member, of a closed list, and so has what stands in it: keys that the API does not document are refused at
every place. ``s3Location`` is fetched by the provider (the URL ``s3_location``). A prompt that is stored at Bedrock and
its variables are the state ``prompt`` and ``prompt_variables``. ``additionalModelRequestFields`` go to the model as
they are, so only a few of them pass.
Answer: ``output.message.content[]``, or a binary event stream, in which ``metadata`` with the usage follows
``messageStop``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...policies.facts import CallFacts
from ...tokens.canonical import JsonObject
from .asked import Asked, list_of_objects, object_at
from .bedrock_models import aws_error, read_model
from .betas import check_betas
from .converse_rewrite import ConverseRewriter
from .events import AwsEventFraming, Framing
from .keys import BodyKeys, ClosedKeys, refuse, refuse_type
from .reader import ESCAPED_ASCII, ResponseReader, count, load_object, member, text
from .refusal_text import RefusalText
from .request import WireRequest
from .rewrite import AnswerRewriter

_KEYS = BodyKeys(
    "additionalModelRequestFields additionalModelResponseFieldPaths guardrailConfig inferenceConfig messages"
    " outputConfig performanceConfig promptVariables requestMetadata serviceTier system toolConfig"
)
_MESSAGE = ClosedKeys("content role")
_TOOL_CONFIG = ClosedKeys("toolChoice tools")
_TOOL_SPEC = ClosedKeys("description inputSchema name strict")
_SYSTEM_TOOL = ClosedKeys("name")
_CACHE_POINT = ClosedKeys("ttl type")
_REFERENCE = ClosedKeys("name serverName type")
_OPTIONS = {
    "inferenceConfig": ClosedKeys("maxTokens stopSequences temperature topP"),
    "guardrailConfig": ClosedKeys("guardrailIdentifier guardrailVersion streamProcessingMode trace"),
    "performanceConfig": ClosedKeys("latency"),
    "serviceTier": ClosedKeys("type"),
    "outputConfig": ClosedKeys("effort textFormat"),
    "additionalModelRequestFields": ClosedKeys(
        "anthropic_beta inferenceConfig reasoning_config reasoning_effort reasoningConfig thinking top_k"
    ),
}
_SOURCES = frozenset({"bytes", "content", "s3Location", "text"})
_MEDIA = ClosedKeys("citations context error format name source")
_BLOCKS: Mapping[str, ClosedKeys | None] = {
    # member of a block: the keys of the object in it, None for a text or what the agent itself gives
    "audio": _MEDIA,
    "cachePoint": _CACHE_POINT,
    "citationsContent": ClosedKeys("citations content"),
    "document": _MEDIA,
    "guardContent": ClosedKeys("image text"),
    "image": _MEDIA,
    "json": None,
    "reasoningContent": ClosedKeys("reasoningText redactedContent"),
    "searchResult": ClosedKeys("citations content source title"),
    "text": None,
    "toolAddition": ClosedKeys("tool"),
    "toolRemoval": ClosedKeys("tool"),
    "toolResult": ClosedKeys("content status toolUseId type"),
    "toolUse": ClosedKeys("input name toolUseId type"),
    "video": _MEDIA,
}
_SYSTEM_BLOCKS = frozenset({"cachePoint", "guardContent", "text"})
_RESULT_BLOCKS = frozenset({"document", "image", "json", "searchResult", "text", "video"})
_MESSAGE_BLOCKS = frozenset(_BLOCKS) - {"json"}
_COUNTS = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")


class BedrockConverse:
    """The format ``bedrock_converse``."""

    name = "bedrock_converse"

    def read_request(self, request: WireRequest) -> CallFacts:
        asked, body = Asked(request, _KEYS), request.body
        read_model(asked, request.model)
        if body.get("promptVariables") is not None:
            asked.state("prompt_variables")
        for key, keys in _OPTIONS.items():
            if body.get(key) is not None:
                keys.check(object_at(body, key, "body"), key)
        _read_additional(body.get("additionalModelRequestFields") or {})
        if body.get("toolConfig") is not None:
            _read_tools(asked, object_at(body, "toolConfig", "body"))
        _read_blocks(asked, body.get("system", []), "system", _SYSTEM_BLOCKS)
        for n, message in enumerate(asked.objects("messages")):
            _MESSAGE.check(message, f"messages[{n}]")
            _read_blocks(asked, message.get("content"), f"messages[{n}].content", _MESSAGE_BLOCKS)
        limit = member(body, "inferenceConfig").get("maxTokens")
        if limit is not None and count(limit) is None:
            refuse("inferenceConfig.maxTokens", "not a number of tokens", type(limit).__name__, "a whole number")
        return asked.facts(limit=limit)

    def framing(self, content_type: str, *, stream: bool) -> Framing | None:
        return AwsEventFraming() if content_type == "application/vnd.amazon.eventstream" else None

    def new_reader(self) -> ResponseReader:
        return _Reader()

    def new_rewriter(self) -> AnswerRewriter | None:
        return ConverseRewriter(self.refusal_body, self.new_reader)

    def refusal_body(self, refusal: RefusalText) -> JsonObject:
        return aws_error(refusal)


def _read_additional(fields: JsonObject) -> None:
    where = "additionalModelRequestFields"
    if fields.get("anthropic_beta") is not None:
        check_betas(fields["anthropic_beta"], f"{where}.anthropic_beta")
    inner = fields.get("inferenceConfig")
    if inner is not None:
        ClosedKeys("topK").check(object_at(fields, "inferenceConfig", where), f"{where}.inferenceConfig")


def _read_tools(asked: Asked, config: JsonObject) -> None:
    _TOOL_CONFIG.check(config, "toolConfig")
    for n, tool in enumerate(list_of_objects(config.get("tools", []), "toolConfig.tools")):
        where = f"toolConfig.tools[{n}]"
        kind = _only_member(tool, where)
        if kind == "toolSpec":
            spec = object_at(tool, kind, where)
            _TOOL_SPEC.check(spec, f"{where}.toolSpec")
            asked.tool(spec.get("name"), f"{where}.toolSpec.name")
        elif kind == "systemTool":
            system_tool = object_at(tool, kind, where)
            _SYSTEM_TOOL.check(system_tool, f"{where}.systemTool")
            asked.provider_tool(system_tool.get("name"), f"{where}.systemTool.name")
        elif kind == "cachePoint":
            _CACHE_POINT.check(object_at(tool, kind, where), f"{where}.cachePoint")
        else:
            refuse_type(where, kind, "a tool")
    if config.get("toolChoice") is None:
        return
    choice = object_at(config, "toolChoice", "toolConfig")
    kind = _only_member(choice, "toolConfig.toolChoice")
    if kind == "tool":
        chosen = object_at(choice, "tool", "toolConfig.toolChoice")
        _SYSTEM_TOOL.check(chosen, "toolConfig.toolChoice.tool")
        asked.force(chosen.get("name"), "toolConfig.toolChoice.tool.name")
    elif kind not in ("auto", "any"):
        refuse("toolConfig.toolChoice", "a choice that is not known here", expected="auto, any or tool")


def _read_blocks(asked: Asked, blocks: Any, where: str, known: frozenset[str]) -> None:
    for n, block in enumerate(list_of_objects(blocks, where)):
        kind = _only_member(block, f"{where}[{n}]")
        if kind not in known:
            refuse_type(f"{where}[{n}]", kind, "a block")
        at, keys = f"{where}[{n}].{kind}", _BLOCKS[kind]
        if keys is None:
            if kind == "text" and not isinstance(block[kind], str):
                refuse(at, "not a string", type(block[kind]).__name__, "a string")
            continue
        inner = object_at(block, kind, f"{where}[{n}]")
        keys.check(inner, at)
        if keys is _MEDIA and "source" in inner:
            _read_source(asked, object_at(inner, "source", at), f"{at}.source")
        elif kind == "guardContent" and "image" in inner:
            image = object_at(inner, "image", at)
            _MEDIA.check(image, f"{at}.image")
            _read_source(asked, object_at(image, "source", f"{at}.image"), f"{at}.image.source")
        elif kind == "toolResult":
            _read_blocks(asked, inner.get("content", []), f"{at}.content", _RESULT_BLOCKS)
        elif kind in ("toolAddition", "toolRemoval"):
            tool = object_at(inner, "tool", at)
            _REFERENCE.check(tool, f"{at}.tool")
            server = tool.get("serverName")
            if isinstance(server, str):
                asked.provider_tool(f"mcp:{server}", f"{at}.tool")
            else:
                asked.tool(tool.get("name"), f"{at}.tool")


def _read_source(asked: Asked, source: JsonObject, where: str) -> None:
    kind = _only_member(source, where)
    if kind not in _SOURCES:
        refuse_type(where, kind, "a source")
    if kind == "s3Location":
        asked.url(member(source, kind).get("uri"), "s3_location")


def _only_member(union: JsonObject, where: str) -> str:
    """The one member that an object of AWS's union types has."""
    if len(union) != 1:
        refuse(where, "not exactly one member", len(union), "one member, which says what it is")
    return next(iter(union))


_READ = frozenset({"contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"})
_DELTAS = re.compile(rb"toolUse|signature|redactedContent|" + ESCAPED_ASCII)


class _Reader(ResponseReader):
    markers = re.compile(rb"[\s\S]")  # events of this framing are always read

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[object, object] = {}  # calls, by the index of their block
        self._number = 0

    def on_event(self, event: str, data: bytes) -> bool:
        if event == AwsEventFraming.FAILED:
            self.ended = self.failed = True
            return True
        if event not in _READ or (event == "contentBlockDelta" and not self.open_calls and not _DELTAS.search(data)):
            return False
        told = load_object(data)
        if told is None:
            self.unread = True
        elif event == "contentBlockStart":
            self._read_start(told)
        elif event == "contentBlockDelta":
            self._read_delta(told.get("contentBlockIndex"), member(told, "delta"))
        elif event == "contentBlockStop":
            self._end(self._open.pop(_number(told.get("contentBlockIndex")), None))
        elif event == "metadata":
            self._read_end(told)
        self.ended = self.ended or event == "messageStop"
        return self.ended

    def _read_answer(self, answer: JsonObject) -> None:
        self._read_end(answer)
        for n, block in enumerate(self._in_list(member(member(answer, "output"), "message").get("content"))):
            if "toolUse" in block:
                call = member(block, "toolUse")
                self._whole((n, 0), text(call.get("name")), call.get("input"))
            self._read_thoughts(member(block, "reasoningContent"))

    def _read_start(self, told: JsonObject) -> None:
        start = member(told, "start")
        if "toolUse" not in start:
            return
        index = _number(told.get("contentBlockIndex"))
        self.unread = self.unread or index is None or index in self._open
        key = (index, self._number)
        self._number += 1
        self._begin(key, text(member(start, "toolUse").get("name")))
        if key in self._calls:
            self._open[index] = key

    def _read_delta(self, index: object, delta: JsonObject) -> None:
        if "toolUse" in delta:
            key, piece = self._open.get(_number(index)), member(delta, "toolUse").get("input")
            self.unread = self.unread or key is None or not isinstance(piece, str)
            self._argue(key, piece)
        self._read_thoughts(member(delta, "reasoningContent"))

    def _read_thoughts(self, thoughts: JsonObject) -> None:
        """A piece of them in a stream, or all in ``reasoningText``."""
        signature = thoughts.get("signature") or member(thoughts, "reasoningText").get("signature")
        if signature or thoughts.get("redactedContent"):
            self.signed_reasoning = True

    def _read_end(self, told: JsonObject) -> None:
        router = member(member(told, "trace"), "promptRouter")
        self._read_model(router.get("invokedModelId"))
        usage = member(told, "usage")
        read = [count(usage.get(key)) for key in _COUNTS]
        wrote = count(usage.get("outputTokens"))
        if wrote is None and all(part is None for part in read):
            return
        self.usage_known = True
        self.tokens_input = sum(part or 0 for part in read)
        self.tokens_cached, self.tokens_cache_write = read[1] or 0, read[2] or 0
        self.tokens_output = wrote or 0


def _number(index: object) -> int | None:
    return index if isinstance(index, int) and not isinstance(index, bool) else None
