"""How a request asks the stand-in for a slow, broken or tool-calling answer. Pure.

Words in the last user text, or in the header ``x-standin`` (blanks between words):

| word | effect |
|---|---|
| ``slow:MS`` | waits MS milliseconds before each event of a stream, or before a JSON answer |
| ``hang:MS`` | waits MS milliseconds before the first byte of the answer |
| ``events:N`` | N text deltas in a stream (N words in a JSON answer) |
| ``tool:NAME`` | calls the tool NAME, declared or not; ``call the tool NAME`` in plain words does the same |
| ``tool:NAME({…})`` | the same with these arguments: JSON without blanks, written as it stands |
| ``tool:NAME(%7B…%7D)`` | the same, percent-encoded, for clients that put quotes and blanks in another form |
| | (a tool that takes free text is called with what is at ``input`` there) |
| ``use-a-tool`` | calls the first declared tool |
| ``two-tools`` | two calls: the last two that ``tool:`` named, else the named or first declared and another |
| ``all-tools`` | a call of each tool that ``tool:`` named, up to 16 |
| ``text-first`` | text before the calls of tools |
| ``signed-thought`` | a thought with a signature before all else (formats that have such) |
| ``unsigned`` | no signature beside a call (Gemini, which has one else) |
| ``reasoning:N`` | N tokens of reasoning in the usage (formats that have such a figure) |
| ``cached:N`` | N cached input tokens in the usage (formats that have such a figure) |
| ``no-usage`` | an answer without usage |
| ``model:NAME`` | the answer names the model NAME instead of the one asked for |
| ``status:N`` | answers with HTTP status N and the provider's error shape |
| ``redirect-home`` | answers 307 with another path of the same host as its Location |
| ``redirect-other`` | answers 302 with another host as its Location |
| ``redirect-plain`` | answers 307 with the same host over plain ``http://`` as its Location |
| ``alt-svc`` | ``Alt-Svc`` and ``Set-Cookie`` headers in the answer |
| ``echo-result`` | says the result of the tool, once it has come, in place of the usual text |
| ``echo-credential`` | puts the credential it was sent into the answer, as a hostile provider might |
| ``echo-basic`` | the same as base64 of ``x:`` and the credential |
| ``no-terminal`` | ends the stream cleanly, but without the provider's terminal event |
| ``die-before-answer`` | records the request, then resets the connection |
| ``die-mid-stream`` | resets the connection after half of the answer |
| ``short-body`` | promises a longer body than it sends, then closes (JSON only) |
| ``not-json`` | answers 200 with a body that is not JSON |
| ``drip`` | sends each byte of the answer in a write of its own; over WebSocket, messages in small fragments |

Limits: the words of HTTP headers and statuses mean nothing inside a WebSocket, where ``status:N`` is an error event.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

_WORD = re.compile(
    r"\b(slow|hang|events|status|reasoning|cached):([0-9]{1,6})\b"
    r"|\btool:([A-Za-z0-9_.-]{1,128})(?:\((\{\S{0,4000}?\}|%7B[A-Za-z0-9%._~-]{0,4000}%7D)\))?"
    r"|\bcall the tool ([A-Za-z0-9_.-]{1,128})"
    r"|\bmodel:([A-Za-z0-9_.:/@-]{1,128})"
    r"|(?<![\w-])(use-a-tool|two-tools|all-tools|text-first|signed-thought|unsigned|echo-credential|echo-basic"
    r"|echo-result|no-terminal|no-usage|die-before-answer|die-mid-stream|short-body|not-json|drip|redirect-home|redirect-other|redirect-plain|alt-svc)(?![\w-])"
)
_MAX_EVENTS = 20_000
_MAX_TOOLS = 16


@dataclass(frozen=True, slots=True)
class Steering:
    """What the request asked for; the default is a quick and whole answer."""

    slow_ms: int = 0
    hang_ms: int = 0
    events: int = 0
    status: int = 0
    reasoning: int = 0
    cached: int = 0
    tools: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    """Of each of ``tools``, as they were given; empty where they were not."""
    model: str = ""
    words: frozenset[str] = frozenset()

    @property
    def tool(self) -> str:
        """The tool that was named last, or nothing."""
        return self.tools[-1] if self.tools else ""


def parse_steering(text: str) -> Steering:
    """Read the words of the table above; unknown text means nothing."""
    numbers = {"slow": 0, "hang": 0, "events": 0, "status": 0, "reasoning": 0, "cached": 0}
    words: set[str] = set()
    tools: list[str] = []
    arguments: list[str] = []
    model = ""
    for key, number, marked_tool, given, spoken_tool, other_model, word in _WORD.findall(text):
        if key:
            numbers[key] = int(number)
        elif marked_tool or spoken_tool:
            tools.append((marked_tool or spoken_tool).rstrip("."))
            arguments.append(unquote(given) if given.startswith("%") else given)
        elif other_model:
            model = other_model
        else:
            words.add(word)
    return Steering(
        slow_ms=min(numbers["slow"], 60_000),
        hang_ms=min(numbers["hang"], 600_000),
        events=min(numbers["events"], _MAX_EVENTS),
        status=numbers["status"] if 400 <= numbers["status"] <= 599 else 0,
        reasoning=numbers["reasoning"],
        cached=numbers["cached"],
        tools=tuple(tools[-_MAX_TOOLS:]),
        arguments=tuple(arguments[-_MAX_TOOLS:]),
        model=model,
        words=frozenset(words),
    )
