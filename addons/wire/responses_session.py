"""The responses API of OpenAI over a WebSocket, as Codex speaks it by default. Pure.

The client sends ``response.create`` with the members of the HTTP body beside ``type`` (and ``generate: false`` for a
warm-up); the provider sends the events of the stream, one per message. A later request holds only what is new and
names the response that it goes on from. Such a response is known here if it was given on this connection: then what it
was built on was judged as well, and its tools are declared still.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from ...policies.facts import CallFacts
from ...tokens.canonical import JsonObject
from .keys import refuse, refuse_type
from .openai_responses import OpenAIResponses
from .reader import ResponseReader, member
from .request import WireRequest
from .session import MAX_TOOLS, Told

_MAX_RESPONSES = 256
_MAX_ID_CHARS = 256
_NOT_OF_THE_BODY = frozenset({"type", "generate", "event_id"})
_UNASKED = frozenset({"error", "codex.rate_limits", "rate_limits.updated"})
_STATE = "previous_response_id"


@dataclass(frozen=True, slots=True)
class _Declared:
    tools: tuple[str, ...] = ()
    any_tools: tuple[str, ...] = ()


class ResponsesSession:
    """One connection to ``/v1/responses``. Only the last 256 responses can be built on."""

    def __init__(self, provider: str, route: str) -> None:
        self._provider = provider
        self._route = route
        self._format = OpenAIResponses()
        self._given: OrderedDict[str, _Declared] = OrderedDict()
        self._asked = _Declared()

    def read(self, message: JsonObject) -> Told:
        kind = message.get("type")
        if kind != "response.create":
            refuse_type("message", kind, "a message")
        if not isinstance(message.get("generate", True), bool):
            refuse("generate", "neither true nor false", expected="true, false or no such key")
        if not isinstance(message.get("event_id", ""), str):
            refuse("event_id", "not a string", expected="a string or no such key")
        body = {key: value for key, value in message.items() if key not in _NOT_OF_THE_BODY}
        facts = self._format.read_request(WireRequest(body, self._provider, self._route, stream=True))
        facts = self._with_state(facts, body.get(_STATE))
        self._asked = _Declared(facts.tools, facts.any_tools)
        return Told(facts, asks=True)

    def _with_state(self, facts: CallFacts, previous: object) -> CallFacts:
        given = self._given.get(previous) if isinstance(previous, str) else None
        if given is None:
            return facts  # if it names one, that is content which was not judged here
        tools = tuple(dict.fromkeys((*given.tools, *facts.tools)))
        if len(tools) > MAX_TOOLS:
            refuse("tools", "too many tools on one connection", len(tools), f"at most {MAX_TOOLS}")
        return replace(
            facts,
            tools=given.tools if tools == given.tools else tools,
            any_tools=tuple(dict.fromkeys((*given.any_tools, *facts.any_tools))),
            provider_state=tuple(name for name in facts.provider_state if name != _STATE),
        )

    def heard(self, event: JsonObject) -> None:
        if event.get("type") != "response.created":
            return
        name = member(event, "response").get("id")
        if isinstance(name, str) and 0 < len(name) <= _MAX_ID_CHARS:
            self._given[name] = self._asked
            self._given.move_to_end(name)
            if len(self._given) > _MAX_RESPONSES:
                self._given.popitem(last=False)

    def may_come(self, event: JsonObject) -> bool:
        return event.get("type") in _UNASKED

    def new_reader(self) -> ResponseReader:
        return self._format.new_reader()
