"""OpenAI realtime over a WebSocket. Pure.

The model stands in the query of the handshake, and no message may name another. Tools, instructions and options come in
``session.update`` and hold for every later ``response.create``; what a ``response.create`` says itself goes on top.
Items of the conversation are judged as they are sent.

What would make the provider act without being asked is refused: turn detection that begins responses by itself (which
is on until the client switches it off, so before that no audio is taken, nor after the provider has turned that down),
transcription by a second model, stored prompts, traces.

Limits: audio that follows a ``session.update`` at once is with the provider before it can say that it took the update.
"""

from __future__ import annotations

import re
from typing import Any

from ...policies.facts import CallFacts
from ...tokens.canonical import JsonObject
from .asked import object_at
from .called_items import ItemsReader, digest_given, given_to, name_called
from .events import Framing
from .keys import ClosedKeys, refuse, refuse_type
from .openai_responses import OpenAIResponses
from .reader import ResponseReader, load_object, member, objects, text
from .refusal_text import RefusalText, openai_error
from .request import WireRequest
from .responses_rewrite import RealtimeRewriter
from .rewrite import AnswerRewriter
from .session import Told

_SESSION = ClosedKeys(
    "type model instructions tools tool_choice output_modalities modalities audio voice speed temperature"
    " input_audio_format output_audio_format input_audio_noise_reduction input_audio_transcription turn_detection"
    " max_output_tokens max_response_output_tokens truncation prompt include tracing parallel_tool_calls reasoning"
)
_RESPONSE = ClosedKeys(
    "conversation input instructions tools tool_choice output_modalities modalities audio voice output_audio_format"
    " temperature max_output_tokens max_response_output_tokens prompt metadata parallel_tool_calls reasoning"
)
_AUDIO = ClosedKeys("input output")
_AUDIO_OF_RESPONSE = ClosedKeys("output")
_AUDIO_IN = ClosedKeys("format noise_reduction transcription turn_detection")
_AUDIO_OUT = ClosedKeys("format speed voice")
_TURNS = ClosedKeys(
    "type create_response interrupt_response threshold prefix_padding_ms silence_duration_ms eagerness idle_timeout_ms"
)
_MESSAGES = {
    "session.update": ClosedKeys("type event_id session"),
    "conversation.item.create": ClosedKeys("type event_id previous_item_id item"),
    "conversation.item.delete": ClosedKeys("type event_id item_id"),
    "conversation.item.retrieve": ClosedKeys("type event_id item_id"),
    "conversation.item.truncate": ClosedKeys("type event_id item_id content_index audio_end_ms"),
    "input_audio_buffer.append": ClosedKeys("type event_id audio"),
    "input_audio_buffer.commit": ClosedKeys("type event_id"),
    "input_audio_buffer.clear": ClosedKeys("type event_id"),
    "response.create": ClosedKeys("type event_id response"),
    "response.cancel": ClosedKeys("type event_id response_id"),
}
_OF_SESSION = ("tools", "tool_choice", "instructions", "max_output_tokens", "prompt", "parallel_tool_calls")
_BY_ITSELF = (
    "session.created session.updated conversation.created conversation.item.created conversation.item.added"
    " conversation.item.done conversation.item.deleted conversation.item.truncated conversation.item.retrieved"
    " input_audio_buffer.committed input_audio_buffer.cleared input_audio_buffer.speech_started"
    " input_audio_buffer.speech_stopped rate_limits.updated error mcp_list_tools.in_progress"
    " mcp_list_tools.completed mcp_list_tools.failed"
)
_UNASKED = frozenset(_BY_ITSELF.split())
_MAX_CALLS = 1024
"""Calls of tools on one connection that may be told again while no response is open."""


class OpenAIRealtime:
    """The format ``openai_realtime``: of the handshake; messages are read by ``RealtimeSession``."""

    name = "openai_realtime"

    def read_request(self, request: WireRequest) -> CallFacts:
        if not request.model:
            refuse("query", "the handshake names no model", expected="model=NAME")
        return CallFacts(request.provider, request.route, request.model, stream=False, kind=request.kind)

    def framing(self, content_type: str, *, stream: bool) -> Framing | None:
        return None

    def new_reader(self) -> ResponseReader:
        return RealtimeReader()

    def new_rewriter(self) -> AnswerRewriter | None:
        return RealtimeRewriter(self.refusal_body)

    def refusal_body(self, refusal: RefusalText) -> JsonObject:
        return openai_error(refusal)


class RealtimeSession:
    """One connection to ``/v1/realtime``."""

    def __init__(self, provider: str, route: str, model: str) -> None:
        self._provider = provider
        self._route = route
        self._model = model
        self._format = OpenAIResponses()
        self._session: JsonObject = {}
        self._asked_before_speaking = False
        self._unanswered_updates = 0
        self._known: dict[tuple[str, str], None] = {}

    def read(self, message: JsonObject) -> Told:
        kind = message.get("type")
        keys = _MESSAGES.get(kind) if isinstance(kind, str) else None
        if keys is None:
            refuse_type("message", kind, "a message")
        keys.check(message, "message")
        for key in ("event_id", "previous_item_id", "item_id", "response_id"):
            if not isinstance(message.get(key), str | None):
                refuse(key, "not a string", expected="a string or no such key")
        if kind == "session.update":
            return Told(self._update(object_at(message, "session", "message")))
        if kind == "conversation.item.create":
            item = object_at(message, "item", "message")
            facts = self._facts({"input": [item]})
            self._know(item)
            return Told(facts)
        if kind == "response.create":
            return Told(self._respond(message.get("response")), asks=True)
        if kind == "input_audio_buffer.append":
            if not isinstance(message.get("audio"), str):
                refuse("audio", "not a string", expected="base64")
            if not self._asked_before_speaking:
                refuse(
                    "input_audio_buffer.append",
                    "the provider would begin responses of its own",
                    expected="turn_detection null, or with create_response false, in a session.update before",
                )
        return Told(None)

    def _update(self, session: JsonObject) -> CallFacts:
        _SESSION.check(session, "session")
        if session.get("type", "realtime") != "realtime":
            refuse("session.type", "another kind of session", expected="realtime")
        if session.get("model", self._model) != self._model:
            refuse("session.model", "another model than the handshake's", expected="no such key, or the same model")
        if session.get("tracing") is not None:
            refuse("session.tracing", "traces would be kept at the provider", expected="null or no such key")
        self._read_audio(session)
        told = {key: session[key] for key in _OF_SESSION if key in session}
        if "max_response_output_tokens" in session:
            told["max_output_tokens"] = session["max_response_output_tokens"]
        merged = {**self._session, **told}
        facts = self._facts(merged)
        self._session = merged
        self._unanswered_updates += 1
        return facts

    def _respond(self, response: Any) -> CallFacts:
        response = {} if response is None else response
        if not isinstance(response, dict):
            refuse("response", "not an object", type(response).__name__, "an object")
        _RESPONSE.check(response, "response")
        if response.get("conversation") not in (None, "auto", "none"):
            refuse("response.conversation", "not a known conversation", expected="auto or none")
        self._read_audio(response, _AUDIO_OF_RESPONSE)
        told = {key: response[key] for key in (*_OF_SESSION, "input", "metadata") if key in response}
        if "max_response_output_tokens" in response:
            told["max_output_tokens"] = response["max_response_output_tokens"]
        facts = self._facts({**self._session, **told})
        for item in objects(told.get("input")):
            self._know(item)
        return facts

    def _facts(self, told: JsonObject) -> CallFacts:
        """As the responses API reads the same members."""
        body = {"model": self._model, **told}
        if body.get("max_output_tokens") == "inf":
            del body["max_output_tokens"]
        return self._format.read_request(WireRequest(body, self._provider, self._route, stream=True))

    def _read_audio(self, told: JsonObject, known: ClosedKeys = _AUDIO) -> None:
        audio = told.get("audio")
        audio = {} if audio is None else audio
        if not isinstance(audio, dict):
            refuse("audio", "not an object", type(audio).__name__, "an object")
        known.check(audio, "audio")
        spoken, said = (_object(audio, key) for key in ("input", "output"))
        _AUDIO_IN.check(spoken, "audio.input")
        _AUDIO_OUT.check(said, "audio.output")
        for held, name in ((told, "input_audio_transcription"), (spoken, "transcription")):
            if held.get(name) is not None:
                refuse(name, "a second model, which would not be judged", expected="null or no such key")
        for held in (told, spoken):
            if "turn_detection" in held:
                self._read_turns(held["turn_detection"])

    def _read_turns(self, turns: Any) -> None:
        if isinstance(turns, dict):
            _TURNS.check(turns, "turn_detection")
            if turns.get("create_response") is not False or turns.get("idle_timeout_ms") is not None:
                refuse(
                    "turn_detection",
                    "the provider would begin responses of its own",
                    expected="null, or create_response false without idle_timeout_ms",
                )
        elif turns is not None:
            refuse("turn_detection", "not an object", type(turns).__name__, "an object or null")
        self._asked_before_speaking = True

    def heard(self, event: JsonObject) -> None:
        """Whether the provider took what it was told of turn detection: else no more audio is taken. And which tools
        its responses call."""
        kind = text(event.get("type"))
        if kind == "session.updated":
            self._unanswered_updates = max(0, self._unanswered_updates - 1)
            session = member(event, "session")
            for held in (session, member(member(session, "audio"), "input")):
                turns = held.get("turn_detection")
                if isinstance(turns, dict) and turns.get("create_response") is not False:
                    self._asked_before_speaking = False
        elif kind == "error" and self._unanswered_updates:
            self._unanswered_updates -= 1
            self._asked_before_speaking = False
        elif kind.startswith("response."):
            for item in (event.get("item"), *objects(member(event, "response").get("output"))):
                self._know(item)

    def may_come(self, event: JsonObject) -> bool:
        item = event.get("item")
        return event.get("type") in _UNASKED and (not isinstance(item, dict) or self._is_known(item))

    def _know(self, item: object) -> None:
        """A call of a tool that is the client's own, or stands in a response and is judged there."""
        if isinstance(item, dict) and (name := name_called(item)) is not None:
            self._known[name, digest_given(item)] = None
            while len(self._known) > _MAX_CALLS:
                del self._known[next(iter(self._known))]

    def _is_known(self, item: JsonObject) -> bool:
        """Whether an item calls no tool, or one that is known; without arguments, it has only begun."""
        name = name_called(item)
        if name is None or (name, digest_given(item)) in self._known:
            return True
        return not given_to(item) and any(known == name for known, _ in self._known)

    def new_reader(self) -> ResponseReader:
        return RealtimeReader()


def _object(holder: JsonObject, key: str) -> JsonObject:
    held = holder.get(key)
    if not isinstance(held, dict | None):
        refuse(f"audio.{key}", "not an object", type(held).__name__, "an object")
    return held or {}


class RealtimeReader(ItemsReader):
    """One response: from ``response.created`` to ``response.done``; an ``error`` before that is its end, too."""

    markers = re.compile(rb"")  # each message is one event, and is read

    def __init__(self) -> None:
        super().__init__()
        self._begun = False

    def on_event(self, event: str, data: bytes) -> bool:
        told = load_object(data)
        if told is None:
            self.unread = True
            return False
        kind = text(told.get("type"))
        if kind == "response.created":
            self._begun = True
        elif kind == "response.done":
            self._read_answer(member(told, "response"))
            self.ended = True
        elif kind.startswith("conversation.item."):
            self._read_repeated(member(told, "item"))
        elif kind == "error" and not self._begun:
            self.ended = self.failed = True
        else:
            self._read_item_event(kind, told)
        return self.ended

    def _read_answer(self, answer: JsonObject) -> None:
        usage = member(answer, "usage")
        details = {f"{name}s_details": usage.get(f"{name}_details") for name in ("input_token", "output_token")}
        self._read_counts({**usage, **details})
        self.failed = self.failed or answer.get("status") == "failed"
        self._read_items(answer.get("output"))
