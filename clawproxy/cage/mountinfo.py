"""What is mounted in this process's view of the files. Reads /proc/self/mountinfo (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_ESCAPED = re.compile(r"\\([0-7]{3})")
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mounted:
    """One mount: the type of its file system, as a plain word, where it is, and which part of the file system it is."""

    kind: str
    path: str
    root: str = "/"


def read_mounts(text: str) -> Iterator[Mounted]:
    """The lines of a mountinfo; the last of a path is the one that is seen."""
    for line in text.split("\n"):  # a path may hold what else ends lines
        before, _, after = line.partition(" - ")
        words = before.split(" ")
        if len(words) > 4 and after:
            kind = after.split(" ", 1)[0].lower()
            plain = kind if _WORD.fullmatch(kind) else kind.partition(".")[0]
            yield Mounted(plain, _ESCAPED.sub(lambda match: chr(int(match[1], 8)), words[4]), words[3])


def own_mountinfo() -> str:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return file.read()
