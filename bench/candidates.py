"""Texts that the pattern of a detector matches, made from the pattern itself."""

from __future__ import annotations

import importlib
import random
from typing import Any

_MORE = 3
"""How much longer than it must a repeated part may get."""
_KINDS = {"DIGIT": "0123456789", "SPACE": " ", "WORD": "abcXYZ019_"}
_ANY = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_parser: Any = importlib.import_module("re._parser")


def candidate(pattern: str, dice: random.Random) -> str:
    """A text that ``pattern`` matches; all that detectors use of RE2's syntax Python reads alike, and what stands
    around a match (``\\b``, ``^``) is not made."""
    return "".join(_made(_parser.parse(pattern), dice))


def _made(parts: Any, dice: random.Random) -> list[str]:
    out: list[str] = []
    for kind, told in parts:
        name = str(kind)
        if name == "LITERAL":
            out.append(chr(told))
        elif name == "ANY":
            out.append(dice.choice(_ANY))
        elif name == "NOT_LITERAL":
            out.append(dice.choice([char for char in _ANY if char != chr(told)]))
        elif name == "IN":
            out.append(_one_of(told, dice))
        elif name == "BRANCH":
            out += _made(dice.choice(told[1]), dice)
        elif name == "SUBPATTERN":
            out += _made(told[3], dice)
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, inner = told
            for _ in range(dice.randint(least, min(int(most), least + _MORE))):
                out += _made(inner, dice)
        elif name != "AT":
            raise ValueError(f"a part of a pattern that is not known here: {name}")
    return out


def _one_of(parts: Any, dice: random.Random) -> str:
    chars: set[str] = set()
    is_not = False
    for kind, told in parts:
        name = str(kind)
        if name == "NEGATE":
            is_not = True
        elif name == "LITERAL":
            chars.add(chr(told))
        elif name == "RANGE":
            chars.update(map(chr, range(told[0], told[1] + 1)))
        else:
            chars.update(_KINDS[str(told).removeprefix("CATEGORY_")])
    return dice.choice(sorted(chars) if not is_not else sorted(set(_ANY) - chars) or [" "])
