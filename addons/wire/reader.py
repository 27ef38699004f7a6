"""What is read from a provider's answer while it passes: usage, the model that answered, the tools it calls, its end.

A reader looks, it never changes a byte, and it never raises: an answer that is not what the provider documents leaves
its members as they are. Pure.

``markers`` is a regular expression over raw bytes: an event in which it finds nothing tells the reader nothing, so that
the tap can pass a chunk on after one scan (``stream_tap``). Its alternatives lie within one line and ask for nothing
around them, hence splitting or joining chunks cannot hide a match. Keys and types written with ``\\u`` escapes of ASCII
letters match as well.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

import orjson

from ...tokens.canonical import MAX_SAFE_INT, JsonObject
from ...tokens.errors import clip
from .called import CalledTool

ESCAPED_ASCII = rb"\\u00(?:[4-7]|2[eE])"
MAX_TOOL_CALLS = 256
MORE_TOOL_CALLS = "…"
"""Stands last in ``tool_calls`` when an answer calls more than ``MAX_TOOL_CALLS`` tools."""
_MAX_NAME_CHARS = 256


class ResponseReader(ABC):
    """Reads one answer: ``read_json`` once, or ``on_event`` for each event of a stream.

    ``tokens_input`` counts everything that was read by the model, cached or not; ``tokens_output`` what it wrote,
    reasoning included: the provider's own figures, 0 where it gave none (``usage_known``). Of the input,
    ``tokens_cached`` were read from a cache and ``tokens_cache_write`` written to one; of the output,
    ``tokens_reasoning`` were thoughts; 0 where not told. ``model`` is the one that the answer names. ``ended`` says
    that the provider ended the answer in its own way, ``failed`` that this end is an error, ``unread`` that something
    could not be read as the provider documents it.

    Calls of tools are told as they come: ``open_calls`` is the number of those that have begun and not ended; while it
    is not 0, ``on_event`` wants every event, whatever ``markers`` say. ``more_calls`` says that there were more than
    are kept. ``signed_reasoning`` says that the answer holds thoughts which the provider will want back unchanged,
    beside the calls that they led to.
    """

    markers: re.Pattern[bytes]

    def __init__(self) -> None:
        self.tokens_input = 0
        self.tokens_output = 0
        self.tokens_cached = 0
        self.tokens_cache_write = 0
        self.tokens_reasoning = 0
        self.usage_known = False
        self.model: str | None = None
        self.ended = False
        self.failed = False
        self.unread = False
        self.signed_reasoning = False
        self.more_calls = False
        self.open_calls = 0
        self._calls: dict[object, CalledTool] = {}
        self._taken = 0

    @property
    def tool_calls(self) -> tuple[str, ...]:
        """Names of the tools that the answer calls, in order, one for each call that has a name."""
        names = tuple(call.name for call in self._calls.values() if call.name)
        return (*names, MORE_TOOL_CALLS) if self.more_calls else names

    @property
    def untaken(self) -> bool:
        """Whether a call began since ``take_calls``, or more than are kept."""
        return len(self._calls) > self._taken or self.more_calls

    def take_calls(self) -> list[CalledTool]:
        """The calls that began since this was asked last, in order; ask when none is open, or when no more comes."""
        begun = list(self._calls.values())[self._taken :]
        self._taken += len(begun)
        return begun

    def read_json(self, body: bytes) -> None:
        """Read a whole answer that is not a stream."""
        answer = load_object(body)
        if answer is None:
            self.unread = True
            return
        self.ended = True
        self.failed = bool(answer.get("error"))
        self._read_answer(answer)

    @abstractmethod
    def on_event(self, event: str, data: bytes) -> bool:
        """Read one event of a stream; True for the provider's terminal event, from which on bytes are held."""

    @abstractmethod
    def _read_answer(self, answer: JsonObject) -> None: ...

    def _begin(self, key: object, name: str, *, choice: int = 0, free_text: bool = False) -> None:
        """The call ``key`` begins; the same key again, while it is open, may replace its name."""
        call = self._calls.get(key)
        if call is not None:
            if call.ended:
                self.unread = True
            else:
                call.name = _shown(name) or call.name
        elif len(self._calls) < MAX_TOOL_CALLS:
            self._calls[key] = CalledTool(key, _shown(name), choice, free_text)
            self.open_calls += 1
        else:
            self.more_calls = True

    def _argue(self, key: object, piece: object) -> None:
        """A piece of the arguments of ``key``."""
        call = self._calls.get(key)
        if call is not None and isinstance(piece, str):
            call.add(piece)

    def _end(self, key: object) -> None:
        """No more of the call ``key`` comes."""
        call = self._calls.get(key)
        if call is not None and not call.ended:
            call.ended = True
            self.open_calls -= 1

    def _end_choice(self, choice: int | None = None) -> None:
        """No more of any call of one choice, or of all."""
        for key, call in self._calls.items():
            if choice is None or call.choice == choice:
                self._end(key)

    def _whole(self, key: object, name: str, value: object = None, *, choice: int = 0, free_text: bool = False) -> None:
        """A call that comes in one piece; ``value`` are its arguments, as text or as JSON."""
        self._begin(key, name, choice=choice, free_text=free_text)
        call = self._calls.get(key)
        if call is not None:
            call.give(value)
            self._end(key)

    def _read_counts(self, usage: JsonObject, names: tuple[str, str] = ("input_tokens", "output_tokens")) -> None:
        """Take what ``usage`` tells, in the words of OpenAI's APIs: ``names`` are its members for input and output,
        whose parts stand in ``<name>_details``. A figure that is not there leaves the one before."""
        read, wrote = (count(usage.get(name)) for name in names)
        if read is None and wrote is None:
            return
        self.usage_known = True
        self.tokens_input = self.tokens_input if read is None else read
        self.tokens_output = self.tokens_output if wrote is None else wrote
        of_input, of_output = (member(usage, f"{name}_details") for name in names)
        self.tokens_cached = count(of_input.get("cached_tokens")) or self.tokens_cached
        self.tokens_cache_write = count(of_input.get("cache_write_tokens")) or self.tokens_cache_write
        thoughts = count(of_output.get("reasoning_tokens")) or 0
        self.tokens_reasoning = thoughts or self.tokens_reasoning
        if thoughts and wrote is not None and usage.get("total_tokens") == self.tokens_input + wrote + thoughts:
            self.tokens_output += thoughts  # some servers count thoughts beside what was written

    def _in_list(self, value: Any) -> list[JsonObject]:
        """The objects in a list. One object in place of the list is not read: clients that take the first of it, by
        the number 0, find a member of that name."""
        self.unread = self.unread or (isinstance(value, dict) and bool(value))
        return objects(value)

    def _read_model(self, value: object) -> None:
        if isinstance(value, str) and value:
            self.model = clip(value, _MAX_NAME_CHARS)


class WholeReader(ResponseReader):
    """Reads answers that are never streams: who answered, and usage under the names of OpenAI's chat API."""

    markers = re.compile(rb"(?!)")

    def on_event(self, event: str, data: bytes) -> bool:
        return False

    def _read_answer(self, answer: JsonObject) -> None:
        self._read_model(answer.get("model"))
        self._read_counts(member(answer, "usage"), ("prompt_tokens", "completion_tokens"))


def _shown(name: str) -> str:
    """A tool's name, bounded and printable. One that is not as it came ends in ``…``, which no contract allows:
    else ``rm`` with a line end would be judged as another tool, by the escape that stands for it."""
    shown = clip(name, _MAX_NAME_CHARS)
    return shown if name.isprintable() else f"{shown[: _MAX_NAME_CHARS - 1]}…"


def load_object(data: bytes) -> JsonObject | None:
    """``data`` as a JSON object, or None. Lenient: this is for looking, not for judging."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def objects(value: Any) -> list[JsonObject]:
    """The objects in a list; empty for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def member(value: Any, key: str) -> JsonObject:
    """The object at ``key``, or an empty one."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def count(value: Any) -> int | None:
    """``value`` as a number of tokens, or None."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_SAFE_INT else None


def text(value: Any) -> str:
    """``value`` if it is a string, else the empty one."""
    return value if isinstance(value, str) else ""
