"""The one exception family of clawproxy: an error that tells a person what to do."""

from __future__ import annotations

import re

_CLIP_CHARS = 80
_WORD_CHARS = 40
_WORD = re.compile(r"[A-Za-z0-9_.:-]+", re.ASCII)


def clip(value: object, limit: int = _CLIP_CHARS) -> str:
    """Shorten ``value`` for a message; control characters are escaped so that one error stays one line."""
    text = str(value)
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return shown.encode("unicode_escape").decode("ascii") if not shown.isprintable() else shown


def word_or(otherwise: str, value: object) -> str:
    """``value`` in quotes, clipped, if it is one plain word such as names of keys and tools are; else ``otherwise``.

    For what an agent wrote and an error must name: a sentence in place of a name does not get into a record.
    """
    if not isinstance(value, str) or not _WORD.fullmatch(value, endpos=_WORD_CHARS + 1):
        return otherwise
    return f'"{clip(value, _WORD_CHARS)}"'


def _printable(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


class ClawproxyError(Exception):
    """Something could not be read, checked or done.

    ``reason`` is a stable code (for wire files, the codes of protocol.md F.6; otherwise those of
    ``tokens.reasons``). ``where`` names the file, key or step; ``got`` and ``expected`` are short and never hold a
    token, a key or prompt text; ``remedy`` says what to do next. ``str()`` is one line.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        where: str = "",
        got: object = None,
        expected: str = "",
        remedy: str = "",
    ) -> None:
        self.reason = reason
        self.message = message
        self.where = where
        self.got = None if got is None else clip(got)
        self.expected = expected
        self.remedy = remedy
        super().__init__(self.one_line())

    def one_line(self) -> str:
        """``where: message (got …, expected …); remedy [REASON]``."""
        line = f"{self.where}: {self.message}" if self.where else self.message
        facts = [f"got {self.got}"] if self.got is not None else []
        facts += [f"expected {self.expected}"] if self.expected else []
        line += f" ({', '.join(facts)})" if facts else ""
        line += f"; {self.remedy}" if self.remedy else ""
        line = f"{line} [{self.reason}]"
        # file names are other people's: nothing in them acts on a terminal
        return line if line.isprintable() else "".join(map(_printable, line))

    def at(self, where: str) -> ClawproxyError:
        """The same error with a place in front, for a caller that knows the file name."""
        place = f"{where}: {self.where}" if self.where else where
        return type(self)(
            self.reason, self.message, where=place, got=self.got, expected=self.expected, remedy=self.remedy
        )
