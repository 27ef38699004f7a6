"""Anthropic messages (and token counting, which has the same body). Pure.

Request: ``tools[].name``; versioned tools (``bash_20250124``) by their name, and by their type too where that is not
the one which belongs to the name; toolsets without a name by their type; ``mcp_servers`` as ``mcp:<name>`` and
``mcp:<host>``; tools that a ``tool_addition`` block defines within the messages. Answer: one object with ``content[]``,
or named events ended by ``message_stop`` or ``error``.

Usage: ``tokens_input`` is ``input_tokens`` plus both cache counts, since Anthropic counts cached input apart, and the
others do not. In a stream the figures of ``message_delta`` replace those of ``message_start``.
"""

from __future__ import annotations

import re
from typing import Any

from ...policies.facts import CallFacts
from ...tokens.canonical import JsonObject
from .anthropic_rewrite import AnthropicRewriter
from .asked import Asked, list_of_objects, object_at
from .events import Framing, SseFraming
from .keys import PART, TOOL, BodyKeys, refuse, refuse_type
from .parts import Parts
from .reader import ESCAPED_ASCII, ResponseReader, count, load_object, member, text
from .refusal_text import RefusalText
from .request import WireRequest
from .rewrite import AnswerRewriter

# not: keys that choose who pays or another model (billing_policy, fallbacks), and those that the SDK sends as headers
_KEYS = BodyKeys(
    "cache_control compaction container context_management diagnostics inference_geo max_tokens mcp_servers messages"
    " metadata model output_config output_format service_tier speed stop_sequences stream system temperature thinking"
    " thread tool_choice tools top_k top_p"
)
_OF_PROVIDER_TOOLS = (
    "advisor_tool_result bash_code_execution_tool_result code_execution_tool_result tool_search_tool_result"
    " text_editor_code_execution_tool_result web_fetch_tool_result web_search_tool_result"
)
_PARTS = Parts(
    f"{_OF_PROVIDER_TOOLS} compaction container_upload document fallback image mcp_tool_listing mcp_tool_result"
    " mcp_tool_use redacted_thinking search_result server_tool_use text thinking tool_addition tool_reference"
    " tool_removal tool_result tool_use",
    loose=_OF_PROVIDER_TOOLS,
    holders={
        "tool_addition": "tool",
        "tool_removal": "tool",
        "compaction": "tool_changes",
        "mcp_tool_listing": "tools",
    },
)
_SYSTEM_PARTS = Parts("text")
_CHANGES = frozenset({"tool_addition", "tool_removal"})
_SOURCES = frozenset({"base64", "content", "file", "text", "url"})
_VERSIONED = re.compile(r"([a-z][a-z0-9_]*)_\d{8}", re.ASCII)
_OTHER_NAMES = {"text_editor": ("str_replace_editor", "str_replace_based_edit_tool")}
_RUN_BY_CLIENT = frozenset({"bash", "computer", "memory", "text_editor"})
_REFERENCES = frozenset({"tool_reference", "mcp_tool_reference", "mcp_toolset_reference"})
_INPUT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_TERMINAL = frozenset({"message_stop", "error"})
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


class AnthropicMessages:
    """The format ``anthropic_messages``."""

    name = "anthropic_messages"
    _keys = _KEYS

    def read_request(self, request: WireRequest) -> CallFacts:
        asked, body = Asked(request, self._keys), request.body
        self._read_more(asked, request)
        for n, tool in enumerate(asked.objects("tools")):
            _read_tool(asked, tool, f"tools[{n}]")
        choice = body.get("tool_choice")
        if choice is not None:
            if not isinstance(choice, dict):
                refuse("tool_choice", "not an object", type(choice).__name__, "an object with a type")
            TOOL.check(choice, "tool_choice")
            if choice.get("type") == "tool":
                asked.force(choice.get("name"), "tool_choice.name")
            elif choice.get("type") not in ("auto", "any", "none"):
                refuse("tool_choice.type", "a choice that is not known here", expected="auto, any, none or tool")
        system = body.get("system", "")
        if not isinstance(system, str):
            for _ in _SYSTEM_PARTS.walk(asked, list_of_objects(system, "system"), "system", content=True):
                pass  # seen is enough
        for part in _PARTS.walk(asked, asked.objects("messages", needed=True), "messages"):
            _read_part(asked, part)
        return asked.facts("max_tokens")

    def _read_more(self, asked: Asked, request: WireRequest) -> None:
        """What another host of the API adds."""

    def framing(self, content_type: str, *, stream: bool) -> Framing | None:
        return SseFraming() if content_type == "text/event-stream" else None

    def new_reader(self) -> ResponseReader:
        return AnthropicReader()

    def new_rewriter(self) -> AnswerRewriter | None:
        return AnthropicRewriter(self.refusal_body, self.new_reader, "error")

    def refusal_body(self, refusal: RefusalText) -> JsonObject:
        kind = _ERROR_TYPES.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "api_error")
        error = {"type": kind, "message": refusal.message, "details": {"error_code": refusal.reason}}
        return {
            "type": "error",
            "error": {**error, "clawproxy": refusal.marks()},
            "request_id": refusal.receipt_id,
        }


def _read_tool(asked: Asked, tool: JsonObject, where: str) -> None:
    TOOL.check(tool, where)
    kind, name = tool.get("type", "custom"), tool.get("name")
    asked.same_model(tool.get("model"), f"{where}.model")
    if "function" in tool or "custom" in tool or ("tools" in tool and kind != "mcp_toolset"):
        refuse(where, "a tool of another API", expected="the name beside the type")
    if kind == "custom":
        asked.tool(name, f"{where}.name")
    elif kind == "mcp_toolset":
        server = tool.get("mcp_server_name")
        asked.provider_tool(f"mcp:{server}" if isinstance(server, str) and server else None, f"{where}.mcp_server_name")
    elif isinstance(kind, str) and (versioned := _VERSIONED.fullmatch(kind)):
        family = versioned[1]
        declare = asked.tool if family in _RUN_BY_CLIENT else asked.provider_tool
        if name is not None:
            declare(name, f"{where}.name")
        if name != family and name not in _OTHER_NAMES.get(family, ()):
            declare(kind, f"{where}.type")
    else:
        refuse(f"{where}.type", "a kind of tool that is not known here", expected="custom or a versioned type")


def _read_part(asked: Asked, part: JsonObject) -> None:
    """A block of content: where it comes from, and tools that come in the middle of a conversation."""
    source = part.get("source")
    if isinstance(source, dict) and text(source.get("type")) not in _SOURCES:
        refuse_type("messages.source", source.get("type"), "a source")
    for change in list_of_objects(part.get("tool_changes") or [], "messages.tool_changes"):
        if text(change.get("type")) not in _CHANGES:
            refuse_type("messages.tool_changes", change.get("type"), "a change of tools")
        _read_change(asked, change)
    kind = text(part.get("type"))
    if kind in _CHANGES:
        _read_change(asked, part)
    elif kind == "mcp_tool_listing":
        server = part.get("mcp_server_name")
        asked.provider_tool(f"mcp:{server}" if isinstance(server, str) else None, "messages.mcp_server_name")


def _read_change(asked: Asked, change: JsonObject) -> None:
    where = f"messages.{change['type']}"
    PART.check(change, where)
    tool = object_at(change, "tool", where)
    TOOL.check(tool, f"{where}.tool")
    if tool.get("type") == "tool_definition" and change["type"] == "tool_addition":
        _read_tool(asked, object_at(tool, "definition", f"{where}.tool"), f"{where}.tool.definition")
    elif text(tool.get("type")) not in _REFERENCES or "definition" in tool:
        refuse(f"{where}.tool", "a tool that is not known here", expected="a reference or a definition")


class AnthropicReader(ResponseReader):
    """Reads an answer of the API, whole or as its events."""

    # starts and stops of messages and blocks, signatures, and the last usage; of the deltas only pieces of arguments,
    # since those that stand in no call are wrong. Each alternative begins with a letter of its own: three times faster
    markers = re.compile(
        rb'_st(?:art|op)|message_delta|json_delta"|signature_delta"|error"(?!: ?null)|event: ?error|' + ESCAPED_ASCII
    )

    def __init__(self) -> None:
        super().__init__()
        self._read: dict[str, int] = {}
        self._open: dict[int, object] = {}  # calls, by the index of their block
        self._blocks = 0

    def on_event(self, event: str, data: bytes) -> bool:
        if not self.open_calls and event not in _TERMINAL and not self.markers.search(data):
            return False
        told = load_object(data)
        if told is None:
            self.unread = True
            return event in _TERMINAL
        kind = text(told.get("type"))
        if kind == "message_start":
            self._read_answer(member(told, "message"))
        elif kind == "message_delta":
            self._read_usage(told.get("usage"))
        elif kind.startswith("content_block_"):
            self._read_part(kind, told)
        ending = {event, kind} & _TERMINAL
        self.ended = self.ended or bool(ending)
        self.failed = self.failed or "error" in ending
        return bool(ending)

    def _read_answer(self, answer: JsonObject) -> None:
        self._read_model(answer.get("model"))
        self._read_usage(answer.get("usage"))
        for n, block in enumerate(self._in_list(answer.get("content"))):
            self._read_block(n, block)
            self._close(n)

    def _read_usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        for key in _INPUT_COUNTS:
            if (read := count(usage.get(key))) is not None:
                self._read[key] = read
                self.usage_known = True
        self.tokens_input = sum(self._read.values())
        self.tokens_cached = self._read.get("cache_read_input_tokens", 0)
        self.tokens_cache_write = self._read.get("cache_creation_input_tokens", 0)
        if (wrote := count(usage.get("output_tokens"))) is not None:
            self.tokens_output = wrote
            self.usage_known = True
        thoughts = count(member(usage, "output_tokens_details").get("thinking_tokens"))
        self.tokens_reasoning = self.tokens_reasoning if thoughts is None else thoughts

    def _read_part(self, kind: str, told: JsonObject) -> None:
        """An event of one block: its start, a delta or its stop."""
        index = told.get("index")
        if isinstance(index, bool) or not isinstance(index, int):
            self.unread = True
        elif kind == "content_block_start":
            self.unread = self.unread or index in self._open  # a block begins within another
            self._read_block(index, member(told, "content_block"))
        elif kind == "content_block_stop":
            self._close(index)
        elif kind == "content_block_delta":
            delta = member(told, "delta")
            if delta.get("type") == "signature_delta":
                self.signed_reasoning = self.signed_reasoning or bool(delta.get("signature"))
            elif delta.get("type") == "input_json_delta":
                piece = delta.get("partial_json")
                self.unread = self.unread or index not in self._open or not isinstance(piece, str)
                self._argue(self._open.get(index), piece)

    def _read_block(self, index: int, block: JsonObject) -> None:
        kind, name = text(block.get("type")), text(block.get("name"))
        if kind == "fallback":
            # the rest of the answer is another model's
            self._read_model(member(block, "to").get("model"))
        elif kind == "redacted_thinking" or (kind == "thinking" and block.get("signature")):
            self.signed_reasoning = True
        if not kind.endswith("tool_use"):
            return
        if kind == "mcp_tool_use":
            name = f"mcp:{text(block.get('server_name'))}.{name}"
        elif toolset := text(block.get("toolset_name")):
            name = f"{toolset}.{name}"
        key = (index, self._blocks)
        self._blocks += 1
        self._begin(key, name)
        given = block.get("input")
        if key in self._calls:
            self._calls[key].value = None if given == {} else given  # {} stands where pieces follow
            self._open[index] = key

    def _close(self, index: int) -> None:
        self._end(self._open.pop(index, None))
