"""OpenAI chat completions, as OpenAI, Azure, OpenRouter and many servers speak it. Pure.

Request: ``tools[]`` of type ``function`` or ``custom``, the older ``functions[]``, ``web_search_options`` (the tool
``web_search``, as are models that search before each answer). Answer: ``choices[].message``, or data-only events with
``choices[].delta``, ended by ``data: [DONE]``.

Limits: a stream that a server ends without ``[DONE]`` counts as incomplete.
"""

from __future__ import annotations

import re
from typing import Any

from ...policies.facts import CallFacts
from ...tokens.canonical import JsonObject
from .asked import Asked, list_of_objects, object_at
from .chat_rewrite import ChatRewriter
from .events import Framing, SseFraming
from .keys import TOOL, BodyKeys, refuse
from .parts import Parts
from .reader import MAX_TOOL_CALLS, ResponseReader, load_object, member, objects, text
from .refusal_text import RefusalText, openai_error
from .request import WireRequest
from .rewrite import AnswerRewriter

# one class in front of the alternatives: measured a third faster than the plain alternatives
CHAT_MARKERS = (
    rb'["\[\\](?:DONE\]|usage"(?!: ?null)|error"(?!: ?null)|function_call"(?!: ?null)|tool_calls"(?!: ?(?:null|\[\]))'
    rb"|u00[4-7]%s)"
)
_KEYS = BodyKeys(
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages"
    " metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key"
    " prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier"
    " stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity"
    # as clients send to OpenRouter
    " web_search_options reasoning usage"
)
_SEARCHES = re.compile(r"-search-(?:preview|api)(?![a-z])", re.ASCII | re.IGNORECASE)
CHAT_PARTS = Parts("text image_url input_audio file refusal")
_ENCRYPTED = frozenset({"reasoning.encrypted", "redacted_thinking"})
_FUNCTION_CALL = -1
"""Where the one call of the older kind stands."""
_COUNTS = ("prompt_tokens", "completion_tokens")
_CHOICE_WORDS = frozenset({"none", "auto", "required"})

type _Place = tuple[int, int]
"""Choice and index."""


class OpenAIChat:
    """The format ``openai_chat``."""

    name = "openai_chat"
    _keys = _KEYS

    def read_request(self, request: WireRequest) -> CallFacts:
        asked, body = Asked(request, self._keys), request.body
        self._read_routing(asked, body)
        if asked.model is not None and _SEARCHES.search(asked.model):
            asked.provider_tool("web_search", "model")
        for n, tool in enumerate(asked.objects("tools")):
            if not self._read_hosted_tool(asked, tool, f"tools[{n}]"):
                asked.tool(_tool_name(tool, f"tools[{n}]"), f"tools[{n}]")
        for n, function in enumerate(asked.objects("functions")):
            TOOL.check(function, f"functions[{n}]")
            asked.tool(function.get("name"), f"functions[{n}].name")
        _read_choice(asked, body.get("tool_choice"))
        called = body.get("function_call")
        if isinstance(called, dict):
            TOOL.check(called, "function_call")
            asked.force(called.get("name"), "function_call.name")
        elif called is not None and called not in ("none", "auto"):
            refuse("function_call", "neither a word nor a function", expected="none, auto or an object with a name")
        for _ in CHAT_PARTS.walk(asked, body.get("prediction") or [], "prediction"):
            pass  # seen is enough
        for part in CHAT_PARTS.walk(asked, asked.objects("messages", needed=True), "messages"):
            audio = part.get("audio")
            if part.get("role") == "assistant" and isinstance(audio, dict) and audio.get("id") is not None:
                asked.state("audio")
        return asked.facts("max_tokens", "max_completion_tokens", choices=body.get("n", 1))

    def _read_routing(self, asked: Asked, body: JsonObject) -> None:
        """What a router takes beside the keys of the API."""

    def _read_hosted_tool(self, asked: Asked, tool: JsonObject, where: str) -> bool:
        """Whether ``tool`` is one that a router runs itself."""
        return False

    def framing(self, content_type: str, *, stream: bool) -> Framing | None:
        return SseFraming() if content_type == "text/event-stream" else None

    def new_reader(self) -> ResponseReader:
        return ChatReader()

    def new_rewriter(self) -> AnswerRewriter | None:
        return ChatRewriter(self.refusal_body, self.new_reader)

    def refusal_body(self, refusal: RefusalText) -> JsonObject:
        return openai_error(refusal)


def _tool_name(tool: JsonObject, where: str) -> object:
    TOOL.check(tool, where)
    kind = tool.get("type")
    if kind not in ("function", "custom"):
        refuse(f"{where}.type", "a kind of tool that is not known here", expected="function or custom")
    inner = object_at(tool, kind, where)
    TOOL.check(inner, f"{where}.{kind}")
    name = inner.get("name")
    if tool.get("name", name) != name or ("function" in tool and "custom" in tool) or "tools" in {*tool, *inner}:
        refuse(where, "a tool with two names, or tools of its own", expected=f"{kind}.name alone")
    return name


def _read_choice(asked: Asked, choice: Any) -> None:
    if choice is None or (isinstance(choice, str) and choice in _CHOICE_WORDS):
        return
    if not isinstance(choice, dict):
        refuse("tool_choice", "neither a word nor a tool", expected="none, auto, required or an object")
    TOOL.check(choice, "tool_choice")
    if choice.get("type") != "allowed_tools":
        asked.force(_tool_name(choice, "tool_choice"), "tool_choice")
        return
    allowed = object_at(choice, "allowed_tools", "tool_choice")
    TOOL.check(allowed, "tool_choice.allowed_tools")
    for tool in list_of_objects(allowed.get("tools"), "tool_choice.allowed_tools.tools"):
        asked.tool(_tool_name(tool, "tool_choice.allowed_tools"), "tool_choice.allowed_tools")


class ChatReader(ResponseReader):
    """Reads an answer of the API, whole or as its chunks. A call's key is its choice, its index there, and how many
    calls with other ids stood there before."""

    markers = re.compile(CHAT_MARKERS % rb'|model"')
    _markers_after_model = re.compile(CHAT_MARKERS % b"")

    def __init__(self) -> None:
        super().__init__()
        self._ids: dict[_Place, str] = {}
        self._turns: dict[_Place, int] = {}

    def on_event(self, event: str, data: bytes) -> bool:
        if data.lstrip().startswith(b"[DONE]"):
            self.ended = True
            return True
        if not self.open_calls and not self.markers.search(data):
            return False
        chunk = load_object(data)
        if chunk is None:
            self.unread = True
            return False
        self._read_common(chunk)
        for place, choice in enumerate(self._in_list(chunk.get("choices"))):
            index = self._number(choice.get("index"), place)
            for said in (member(choice, "delta"), member(choice, "message")):
                self._read_signatures(said)
                for n, call in enumerate(self._listed(said)):
                    self._piece((index, self._number(call.get("index"), n)), call)
                if said.get("function_call"):
                    self._piece((index, _FUNCTION_CALL), {"function": said["function_call"]})
            if choice.get("finish_reason"):
                self._end_choice(index)
        if chunk.get("error"):
            # SDKs raise on it and leave: the end of the answer, though servers may send [DONE] after it
            self.ended = self.failed = True
        return self.ended

    def _read_answer(self, answer: JsonObject) -> None:
        self._read_common(answer)
        for n, choice in enumerate(self._in_list(answer.get("choices"))):
            message = member(choice, "message")
            self._read_signatures(message)
            for m, call in enumerate(self._listed(message)):
                self._piece((n, m), call)
            if message.get("function_call"):
                self._piece((n, _FUNCTION_CALL), {"function": message["function_call"]})
            self._end_choice(n)

    def _listed(self, said: JsonObject) -> list[JsonObject]:
        calls = said.get("tool_calls")
        found = objects(calls)
        if calls and not (isinstance(calls, list) and len(found) == len(calls)):
            self.unread = True
        return found

    def _read_signatures(self, said: JsonObject) -> None:
        """Thoughts as OpenRouter and others hand them on, and the signatures that Gemini puts beside calls."""
        parts = [*objects(said.get("reasoning_details")), *objects(said.get("thinking_blocks"))]
        parts += [member(member(call, "extra_content"), "google") for call in objects(said.get("tool_calls"))]
        for part in parts:
            if part.get("signature") or part.get("thought_signature") or part.get("type") in _ENCRYPTED:
                self.signed_reasoning = True

    def _read_common(self, answer: JsonObject) -> None:
        self._read_model(answer.get("model"))
        if self.model is not None:
            self.markers = self._markers_after_model
        usage = member(answer, "usage")
        if "prompt_tokens" in usage or "completion_tokens" in usage:
            self._read_counts(usage, _COUNTS)
        else:
            self._read_counts(usage)

    def _piece(self, place: _Place, call: JsonObject) -> None:
        """A name may come in pieces, or whole again with each piece of the arguments; a new id is a new call."""
        ident = text(call.get("id"))
        if place not in self._ids and len(self._ids) >= MAX_TOOL_CALLS:
            self.more_calls = True
            return
        known = self._calls.get((*place, self._turns.get(place, 0)))
        if known is not None and known.ended:
            self.unread = True  # more of what was whole
        old = self._ids.get(place)
        if (known is not None and known.ended) or (old and ident and ident != old):
            if known is not None and not known.text:
                self.unread = True  # clients that go by the index alone would read one call with both names
            self._turns[place] = self._turns.get(place, 0) + 1
            known = None
        self._ids[place] = ident or old or ""
        key = (*place, self._turns.get(place, 0))
        free_text = "custom" in call or call.get("type") == "custom"
        function, custom = member(call, "function"), member(call, "custom")
        name = text(function.get("name")) or text(custom.get("name"))
        if known is not None:
            name = name if name.startswith(known.name) else known.name + name
        self._begin(key, name, choice=place[0], free_text=free_text)
        for given in (function.get("arguments"), custom.get("input")):
            if isinstance(given, dict | list) and key in self._calls:
                self.unread = self.unread or self._calls[key].value not in (None, given)  # which of the two counts?
                self._calls[key].value = given
            else:
                self._argue(key, given)

    def _number(self, index: Any, otherwise: int) -> int:
        if isinstance(index, int) and not isinstance(index, bool):
            return index
        self.unread = self.unread or index is not None  # clients would put the pieces together otherwise
        return otherwise
