"""OpenAI responses. Pure.

Request: flat ``tools[]``; ``namespace`` tools, whose members are named ``namespace.member``; tools of the provider by
their type; tools that stand in ``input`` (``additional_tools``, as Codex sends them, and ``tool_search_output``).
Answer: one object with ``output[]``, or named events ended by ``response.completed``, ``.failed``, ``.incomplete`` or
``error``. A background response is refused: it would go on, and could be fetched, outside of the gateway.
An item or a part of a type that is not known here is refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ...policies.facts import CallFacts
from ...tokens.canonical import JsonObject
from .asked import Asked, list_of_objects
from .called_items import ItemsReader
from .events import Framing, SseFraming
from .keys import TOOL, BodyKeys, ClosedKeys, refuse, refuse_type
from .parts import Parts
from .reader import ESCAPED_ASCII, ResponseReader, load_object, member, text
from .refusal_text import RefusalText, openai_error
from .request import WireRequest
from .responses_rewrite import ResponsesRewriter
from .rewrite import AnswerRewriter

_KEYS = BodyKeys(
    "access_programs background background_options context_management conversation image include input instructions"
    " max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt"
    " prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store"
    " stream stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
    # as Codex sends
    " client_metadata"
)
_PROVIDER_RUN = frozenset(
    {
        "apply_patch",
        "code_interpreter",
        "computer",
        "computer_use_preview",
        "file_search",
        "image_generation",
        "local_shell",
        "programmatic_tool_calling",
        "shell",
        "tool_search",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)
_RUN_BY_CLIENT = frozenset({"apply_patch", "computer", "computer_use_preview", "local_shell"})
_VERSION = re.compile(r"(_preview)?(_\d{4}_\d{2}_\d{2})?$")
_CHOICE_WORDS = frozenset({"none", "auto", "required"})
_TOOL_ITEMS = frozenset({"additional_tools", "tool_search_output"})
_OF_PROVIDER_TOOLS = (
    "apply_patch_call apply_patch_call_output code_interpreter_call computer_call file_search_call"
    " image_generation_call local_shell_call local_shell_call_output mcp_call program program_output shell_call"
    " shell_call_output tool_search_call web_search_call"
)
_ITEMS = frozenset(
    f"{_OF_PROVIDER_TOOLS} additional_tools compaction compaction_trigger computer_call_output configuration_update"
    " custom_tool_call custom_tool_call_output function_call function_call_output item_reference mcp_approval_request"
    " mcp_approval_response mcp_list_tools message reasoning tool_search_output".split()
)
_PARTS = Parts(
    "input_text input_image input_file input_audio output_text refusal text reasoning_text summary_text"
    " computer_screenshot",
    loose=_OF_PROVIDER_TOOLS,
    holders={kind: "tools" for kind in (*_TOOL_ITEMS, "mcp_list_tools")},
)
_PLACE = ClosedKeys("type container_id file_id file_ids skills network_policy image_url memory_limit")
_NO_NETWORK = {"type": "disabled"}
_FAILED = frozenset({"response.failed", "error"})
_TERMINAL = _FAILED | {"response.completed", "response.incomplete"}


class OpenAIResponses:
    """The format ``openai_responses``."""

    name = "openai_responses"

    def read_request(self, request: WireRequest) -> CallFacts:
        asked, body = Asked(request, _KEYS), request.body
        self._read_routing(asked, body)
        if body.get("background") not in (None, False):
            refuse(
                "background", "a background response goes on outside of the gateway", expected="false or no such key"
            )
        for n, tool in enumerate(asked.objects("tools")):
            _read_tool(asked, tool, f"tools[{n}]")
        if not isinstance(said := body.get("instructions"), str | None):
            refuse("instructions", "the instructions are not a string", type(said).__name__, "a string")
        _read_choice(asked, body.get("tool_choice"))
        _read_prompt(asked, body.get("prompt"))
        asked_for = body.get("input")
        if asked_for is not None and not isinstance(asked_for, str):
            for n, item in enumerate(list_of_objects(asked_for, "input")):
                _read_item(asked, item, f"input[{n}]")
            for _ in _PARTS.walk(asked, asked_for, "input"):
                pass  # seen is enough
        return replace(asked.facts("max_output_tokens"), kept_by_provider=body.get("store") is not False)

    def _read_routing(self, asked: Asked, body: JsonObject) -> None:
        """What a router reads out of the model's name."""

    def framing(self, content_type: str, *, stream: bool) -> Framing | None:
        return SseFraming() if content_type == "text/event-stream" else None

    def new_reader(self) -> ResponseReader:
        return _Reader()

    def new_rewriter(self) -> AnswerRewriter | None:
        return ResponsesRewriter(self.refusal_body, self.new_reader)

    def refusal_body(self, refusal: RefusalText) -> JsonObject:
        return openai_error(refusal)


def _read_tool(asked: Asked, tool: JsonObject, where: str, namespace: str = "") -> None:
    TOOL.check(tool, where)
    kind = tool.get("type")
    if "tools" in tool and kind != "namespace":
        refuse(where, "tools in a tool that is no namespace", expected="no such key")
    if kind in ("function", "custom"):
        if "function" in tool or "custom" in tool:
            refuse(where, "a tool of the chat API", expected="the name beside the type")
        name = tool.get("name")
        asked.tool(f"{namespace}.{name}" if namespace and isinstance(name, str) and name else name, f"{where}.name")
    elif kind == "namespace" and not namespace:
        name = tool.get("name")
        if not isinstance(name, str) or not name:
            refuse(f"{where}.name", "a namespace without a name", type(name).__name__, "a string")
        for n, inner in enumerate(list_of_objects(tool.get("tools"), f"{where}.tools")):
            _read_tool(asked, inner, f"{where}.tools[{n}]", name)
    elif kind == "mcp" and not namespace:
        stated = [key for key in ("server_url", "connector_id", "tunnel_id") if tool.get(key) is not None]
        if len(stated) != 1:
            refuse(where, "an MCP server with no address or several", expected="server_url, connector_id or tunnel_id")
        asked.provider_tool("mcp", where)
        asked.mcp_server(tool.get("server_label"), tool[stated[0]], where)
    elif isinstance(kind, str) and kind in _PROVIDER_RUN and not namespace:
        _read_provider_tool(asked, tool, kind, where)
    else:
        refuse(f"{where}.type", "a kind of tool that is not known here", expected="a type of the responses API")


def _read_provider_tool(asked: Asked, tool: JsonObject, kind: str, where: str) -> None:
    """A tool that the provider runs, by its type and, if that has a version, its family: denying either denies it."""
    declare = asked.tool if kind in _RUN_BY_CLIENT else asked.provider_tool
    declare(kind, where)
    if family := _VERSION.sub("", kind):
        declare(family, where)
    asked.same_model(tool.get("model"), f"{where}.model")
    if isinstance(svg := tool.get("svg"), dict):
        TOOL.check(svg, f"{where}.svg")
        asked.same_model(svg.get("model"), f"{where}.svg.model")
    if tool.get("vector_store_ids"):
        asked.state("vector_store_ids")
    for key in ("container", "environment", "input_image_mask"):
        held = tool.get(key)
        if isinstance(held, dict):
            _read_place(asked, held, f"{where}.{key}")
        elif held is not None and kind != "computer_use_preview":  # its environment is the name of a system
            asked.state("container")


def _read_place(asked: Asked, held: JsonObject, where: str) -> None:
    """Where a tool of the provider runs, or what it works on: files of the provider, skills, and access to networks."""
    _PLACE.check(held, where)
    for name, state in (
        ("container_id", "container"),
        ("file_id", "file_id"),
        ("file_ids", "file_id"),
        ("skills", "skills"),
    ):
        if held.get(name):
            asked.state(state)
    if held.get("image_url") is not None:
        asked.url(held["image_url"], "image_url")
    if held.get("network_policy") not in (None, _NO_NETWORK):
        refuse(
            f"{where}.network_policy",
            "'network_policy' lets a tool of the provider reach the network",
            expected="no such key, or the type disabled",
        )


def _read_choice(asked: Asked, choice: Any) -> None:
    if choice is None or (isinstance(choice, str) and choice in _CHOICE_WORDS):
        return
    if not isinstance(choice, dict):
        refuse("tool_choice", "neither a word nor a tool", expected="none, auto, required or an object")
    TOOL.check(choice, "tool_choice")
    if choice.get("type") == "allowed_tools":
        for n, tool in enumerate(list_of_objects(choice.get("tools"), "tool_choice.tools")):
            TOOL.check(tool, f"tool_choice.tools[{n}]")
            asked.tool(_chosen(tool, f"tool_choice.tools[{n}]"), f"tool_choice.tools[{n}]")
    else:
        asked.force(_chosen(choice, "tool_choice"), "tool_choice")


def _chosen(tool: JsonObject, where: str) -> object:
    kind, name, space = tool.get("type"), tool.get("name"), tool.get("namespace")
    if kind in ("function", "custom"):
        return f"{space}.{name}" if isinstance(space, str) and isinstance(name, str) else name
    if kind == "mcp" and isinstance(tool.get("server_label"), str):
        return f"mcp:{tool['server_label']}"
    if kind == "namespace" or not (isinstance(kind, str) and kind in _PROVIDER_RUN):
        refuse(f"{where}.type", "a choice that is not known here", expected="a type of the responses API")
    return kind


def _read_prompt(asked: Asked, prompt: Any) -> None:
    """What is put into a prompt that the provider holds: texts, or parts as in a message."""
    variables = prompt.get("variables") if isinstance(prompt, dict) else None
    if variables is None:
        return
    if not isinstance(variables, dict):
        refuse("prompt.variables", "not an object", type(variables).__name__, "an object")
    parts = [part for part in variables.values() if not isinstance(part, str)]
    for _ in _PARTS.walk(asked, list_of_objects(parts, "prompt.variables"), "prompt.variables", content=True):
        pass  # seen is enough


def _read_item(asked: Asked, item: JsonObject, where: str) -> None:
    """One item of ``input``: messages, calls and their results, and the items that change what the model may use."""
    kind = item.get("type", "message" if "role" in item else "item_reference")
    if not (isinstance(kind, str) and kind in _ITEMS):
        refuse_type(where, kind, "an item")
    if kind == "item_reference" or (kind == "image_generation_call" and not item.get("result")):
        asked.state("item_reference")  # of an image that is named by its id alone, too
    environment = item.get("environment")
    if item.get("container_id") or (isinstance(environment, dict) and environment.get("container_id")):
        asked.state("container")  # a container "auto" is that of the last call
    if kind in _TOOL_ITEMS:
        for n, tool in enumerate(list_of_objects(item.get("tools"), f"{where}.tools")):
            _read_tool(asked, tool, f"{where}.tools[{n}]")
    elif kind == "mcp_list_tools":
        label = item.get("server_label")
        asked.provider_tool(f"mcp:{label}" if isinstance(label, str) else None, f"{where}.server_label")
    asked.same_model(item.get("model"), f"{where}.model")


class _Reader(ItemsReader):
    # events with the whole response, items, pieces of calls, ends; no text delta, of which most of a stream consists
    markers = re.compile(
        rb"\.(?:completed|failed|incomplete|created|in_progress|queued)|_item\.|_call_|\[DONE\]|"
        rb'error"(?!: ?null)|event: ?error|' + ESCAPED_ASCII
    )

    def on_event(self, event: str, data: bytes) -> bool:
        if data.lstrip().startswith(b"[DONE]"):
            return True  # clients stop here; without a terminal event before it the answer is not whole
        if not self.open_calls and event not in _TERMINAL and not self.markers.search(data):
            return False
        told = load_object(data)
        if told is None:
            self.unread = True
            return event in _TERMINAL
        kind = text(told.get("type"))
        self._read_item_event(kind, told)
        self._read_answer(member(told, "response"))
        ending = {event, kind} & _TERMINAL
        self.ended = self.ended or bool(ending)
        self.failed = self.failed or bool(ending & _FAILED)
        return bool(ending)

    def _read_answer(self, answer: JsonObject) -> None:
        self._read_model(answer.get("model"))
        self._read_counts(member(answer, "usage"))
        self._read_items(answer.get("output"))
