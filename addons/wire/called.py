"""A call of a tool as an answer makes it: its name and its arguments, which may come in many pieces. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import orjson

from ...tokens.canonical import jcs_bytes, parse_json
from ...tokens.digests import sha256_b64u
from ...tokens.errors import ClawproxyError

MAX_ARGUMENT_CHARS = 4 * 1024 * 1024
_BOUNDS = {"max_bytes": 4 * MAX_ARGUMENT_CHARS, "max_depth": 64, "max_nodes": 200_000}


@dataclass(slots=True)
class CalledTool:
    """One call. ``key`` is its place in the answer, ``choice`` the one of several answers that it stands in.

    ``written`` holds the pieces of the arguments as the model wrote them: JSON, or with ``free_text`` anything (the
    code of a code mode). ``value`` holds them where the format has them as JSON already, and nothing is written then.
    ``name`` is empty where the answer gives none. ``ended`` says that no more of it comes; ``overlong`` that there was
    more than anybody judges.
    """

    key: object
    name: str
    choice: int = 0
    free_text: bool = False
    written: list[str] = field(default_factory=list, repr=False)
    value: Any = field(default=None, repr=False)
    ended: bool = False
    overlong: bool = False
    _chars: int = 0

    def add(self, piece: str) -> None:
        """The next piece of the arguments."""
        if not piece:
            return
        self._chars += len(piece)
        if self._chars > MAX_ARGUMENT_CHARS:
            self.overlong = True
            self.written.clear()
        elif not self.overlong:
            self.written.append(piece)

    def give(self, arguments: Any) -> None:
        """All of the arguments at once, as text or as JSON."""
        if isinstance(arguments, str):
            self.written = []
            self.add(arguments)
        else:
            self.value = arguments

    @property
    def text(self) -> str:
        """The arguments as text: as written, or the value as JSON; where both stand there, one after the other."""
        written = "".join(self.written)
        if self.value is None:
            return written
        try:
            return orjson.dumps(self.value).decode() + written
        except orjson.JSONEncodeError:  # deeper than it writes
            return json.dumps(self.value) + written

    def arguments(self) -> Any:
        """The arguments as a JSON value; ``{"input": …}`` for free text, ``{}`` where nothing is written.

        Raises ``ClawproxyError`` for what is no JSON, or can be read in two ways.
        """
        if self.overlong:
            raise ClawproxyError("INVALID_REQUEST", "the arguments are too long", where="arguments")
        if self.value is not None and self.written:
            raise ClawproxyError("INVALID_REQUEST", "the arguments stand there twice", where="arguments")
        if self.free_text:
            return {"input": self.text}
        return parse_json(self.text.encode() or b"{}", **_BOUNDS)

    def digest_b64u(self) -> str:
        """SHA-256 of the arguments: of their JCS form, so that it does not hang on how they were sent; of the text
        where they have none."""
        try:
            canonical = jcs_bytes(self.arguments())
        except ClawproxyError:
            canonical = self.text.encode("utf-8", "surrogatepass")
        return sha256_b64u(canonical)
