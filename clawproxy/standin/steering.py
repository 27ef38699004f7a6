"""How a request asks the stand-in for a slow, broken or tool-calling answer. Pure.

Words in the last user text, or in the header ``x-standin`` (blanks between words):

| word | effect |
|---|---|
| ``slow:MS`` | waits MS milliseconds before each event of a stream, or before a JSON answer |
| ``hang:MS`` | waits MS milliseconds before the first byte of the answer |
| ``events:N`` | N text deltas in a stream (N words in a JSON answer) |
| ``tool:NAME`` | calls the tool NAME, declared or not; ``call the tool NAME`` in plain words does the same |
| ``use-a-tool`` | calls the first declared tool |
| ``status:N`` | answers with HTTP status N and the provider's error shape |
| ``echo-credential`` | puts the credential it was sent into the answer, as a hostile provider might |
| ``no-terminal`` | ends the stream cleanly, but without the provider's terminal event |
| ``die-before-answer`` | records the request, then resets the connection |
| ``die-mid-stream`` | resets the connection after half of the answer |
| ``short-body`` | promises a longer body than it sends, then closes (JSON only) |
| ``not-json`` | answers 200 with a body that is not JSON |
| ``drip`` | sends each byte of the answer in a write of its own |
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = re.compile(
    r"\b(slow|hang|events|status):([0-9]{1,6})\b"
    r"|\btool:([A-Za-z0-9_.-]{1,128})"
    r"|\bcall the tool ([A-Za-z0-9_.-]{1,128})"
    r"|(?<![\w-])(use-a-tool|echo-credential|no-terminal|die-before-answer|die-mid-stream|short-body|not-json|drip)(?![\w-])"
)
_MAX_EVENTS = 20_000


@dataclass(frozen=True, slots=True)
class Steering:
    """What the request asked for; the default is a quick and whole answer."""

    slow_ms: int = 0
    hang_ms: int = 0
    events: int = 0
    status: int = 0
    tool: str = ""
    words: frozenset[str] = frozenset()


def parse_steering(text: str) -> Steering:
    """Read the words of the table above; unknown text means nothing."""
    numbers = {"slow": 0, "hang": 0, "events": 0, "status": 0}
    words: set[str] = set()
    tool = ""
    for key, number, marked_tool, spoken_tool, word in _WORD.findall(text):
        if key:
            numbers[key] = int(number)
        elif marked_tool or spoken_tool:
            tool = (marked_tool or spoken_tool).rstrip(".")
        else:
            words.add(word)
    return Steering(
        slow_ms=min(numbers["slow"], 60_000),
        hang_ms=min(numbers["hang"], 600_000),
        events=min(numbers["events"], _MAX_EVENTS),
        status=numbers["status"] if 400 <= numbers["status"] <= 599 else 0,
        tool=tool,
        words=frozenset(words),
    )
