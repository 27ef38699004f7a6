"""Bodies of 200 KB that are made to take long."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from clawproxy.policies.detect.detectors import DETECTORS

from .candidates import candidate

BYTES = 200_000
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MAX_VALUES = 90_000
"""A body may hold 100,000 keys and values."""

_BAIT = (
    "4", "1", "41 ", "4111 1111 1111 1112 ", "1.1.1.", "1.", "255.255.255.255.", "a1:", "::", ":", "a@", "a@a.", "@", "a.b@c.d-",
    "password ", "password=", "token: ", "secret", "key" , "api_key = ", "eyJ", "eyJhbGciOiJub25lIn0.", "eyJ.", "sk-", "sk-ant-",
    "AKIA", "AKIAXXXXXXXXXXXXXXXX ", "ghp_", "xox", "xoxb-1", "-----BEGIN ", "-----BEGIN RSA PRIVATE KEY-----", "-", "://", "://a:",
    "://a:b@", "http://", "DE89", "DE00 0000 0000 ", "GB82 WEST 1234 ", "+49 ", "+1 (", "(555) ", "0123/", "000-00-0000 ", "078-05-11",
    "AB123456C", "123456789 ", "12345678901 ", "98765432101,", "756.1234.", "2 85 05 78 ", "AAAAAA00A00A000A", "passport ", "curl -u ",
    "sshpass -p ", "mysql -p", '"auth": "', "hooks.slack.com/services/", "SG.", "AIza", "Q~", "sig=", "{", "[", '{"', "}", '"', "\\",
    "\\\\", "\\n", "\\u0034", "\\u", "\\uD83D", "%", "%4", "%41", "%25", "%2541", "+", "=", "==", "A", "A=", "/", "_", "\n", "\r\n", " ", "\t",
    "\x00", "\x01", "\x02", "\u200b", "4\u200b", "４", "４１１１", "é", "пароль ", "пароль: ", "телефон 8", "😀", "\u0301", "\ufe0f", "?",
    "aaaaaaaaaaaaaaaa ", "Zm9v", "QUtJQQ", "((((", "(a+)+", "(.*)*", "a" * 30 + "!", "x" * 999 + " ",
)  # fmt: skip


_ODD = "４１５６７８９０ａｂｃｄｅｆ١٢٣٤٥०१२३४−‐‑\u00a0\u2003𝟘𝟙𝟚ⅰℂ" + "\u200b\u200c\u00ad\ufeff\u180e"
"""More characters that only look like ASCII, or are not seen, than are replaced one by one."""


def chat(*texts: str) -> dict[str, Any]:
    """A request with these messages."""
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text} for text in texts]}


def filled(piece: str, size: int = BYTES) -> str:
    """``piece`` again and again, ``size`` bytes of it."""
    chars = size * len(piece) // max(1, len(piece.encode("utf-8", "surrogatepass")))
    return (piece * (size // max(1, len(piece)) + 1))[:chars]


def adversarial(dice: random.Random, count: int) -> Iterator[tuple[str, Any]]:
    """``count`` bodies that are made to take long: bait alone, mixed, nested, split, encoded; candidates of detectors,
    real ones and such as fail their check, in all the places where they are looked for."""
    kinds = (*_OF_BAIT, *_OF_CANDIDATES)
    detectors = list(DETECTORS.values())
    for made in range(count):
        turn, kind = divmod(made, len(kinds))
        make = kinds[kind]
        if kind < len(_OF_BAIT):
            bait = _BAIT[turn % len(_BAIT)]
            text = "".join(dice.choices((bait, *dice.choices(_BAIT, k=2)), k=400)) if turn % 3 == 2 else bait
            text += dice.choice(_BAIT) if turn % 3 == 1 else ""
            yield (
                f"{make.__name__[1:]} of {bait[:12]!r}{('', ' and another', ' and others')[turn % 3]}",
                make(dice, text),
            )
        else:
            detector = detectors[turn % len(detectors)]
            behind = dice.choice((" ", "\n", "; ", '" "', ", ", "/", ""))
            one = candidate(detector.pattern, dice) + behind
            if turn % 2:  # others of its kind
                one += "".join(candidate(detector.pattern, dice) + behind for _ in range(50))
            yield f"{make.__name__[1:]} of {detector.name}", make(dice, one)


# -- where the text of it stands ---------------------------------------------------------------------------------


def _run(_dice: random.Random, text: str) -> Any:
    return chat(filled(text))


def _pieces(dice: random.Random, text: str) -> Any:
    step = dice.choice((1, 2, 3, 17, 200))
    whole = filled(text, min(BYTES, 45_000 * step))
    return {"input": [whole[n : n + step] for n in range(0, len(whole), step)]}


def _lines_of_values(_dice: random.Random, text: str) -> Any:
    size = max(1, len(text))
    return {"input": [{"type": "text", "text": text}] * min(BYTES // (size + 30), _MAX_VALUES // 4)}


def _keys(dice: random.Random, text: str) -> Any:
    other = dice.choice(_BAIT)
    return {f"{text[:60]}{n}": f"{other}{n}" for n in range(BYTES // (min(60, len(text)) + len(other) + 16))}


def _base64(dice: random.Random, text: str) -> Any:
    plain = filled(text).encode("utf-8", "surrogatepass")[dice.randint(0, 2) : BYTES * 3 // 4]
    told = base64.b64encode(plain).decode()
    step = dice.choice((0, 0, 3, 16, 76))
    return (
        chat(told)
        if not step
        else {"input": [told[n : n + step] for n in range(0, min(len(told), 45_000 * step), step)]}
    )


def _percent(_dice: random.Random, text: str) -> Any:
    plain = filled(text).encode("utf-8", "surrogatepass")[: BYTES // 3]
    return chat("".join(f"%{byte:02X}" for byte in plain))


def _escapes(_dice: random.Random, text: str) -> Any:
    return chat("".join(f"\\u{ord(char) & 0xFFFF:04x}" for char in filled(text, BYTES // 6)))


def _escapes_between(dice: random.Random, text: str) -> Any:
    size = dice.choice((3, 8, 20))
    whole = filled(text, BYTES * size // (size + 5))
    marks = ("\\n", "%20", "\\\\", '\\"', "%41", "+%2B")
    return chat("".join(whole[n : n + size] + dice.choice(marks) for n in range(0, len(whole), size))[:BYTES])


def _odd_characters(dice: random.Random, text: str) -> Any:
    odd = dice.choice((_ODD, "\u200b", "４\u0301", "é"))
    return chat("".join(text[n % max(1, len(text))] + dice.choice(odd) for n in range(BYTES // 4)))


def _noise(dice: random.Random, text: str) -> Any:
    alphabet = text + LETTERS[: dice.randint(1, 26)] + "0123456789"[: dice.randint(1, 10)]
    return chat("".join(dice.choices(alphabet, k=BYTES)))


def _nested(dice: random.Random, text: str) -> Any:
    """As deep as a body may be, many times."""
    value: Any = text[:20]
    inner: list[Any] = []
    for _ in range(BYTES // (len(value) + 140)):
        value = text[:20]
        for level in range(40):
            value = {text[:1]: value} if level % 8 == 0 else [value]
        inner.append(value)
    return {"input": inner}


def _mixed_values(dice: random.Random, text: str) -> Any:
    some = (text[:3], 1, None, True, 0.5, [], "", 4111111111111112, {}, [text[:1]], {"a": 1})
    values: list[Any] = []
    size = 0
    while size < BYTES and len(values) < _MAX_VALUES // 2:
        values.append(dice.choice(some))
        size += len(json.dumps(values[-1], ensure_ascii=False)) + 1
    return {"input": values}


def _numbers(dice: random.Random, text: str) -> Any:
    make: Callable[[], Any] = dice.choice(
        (lambda: 1, lambda: dice.randint(0, 60_000), dice.random, lambda: 4111111111111112, lambda: 1.5, lambda: 10**8)
    )
    values: list[Any] = []
    size = 0
    while size < BYTES and len(values) < _MAX_VALUES:
        values.append(make())
        size += len(repr(values[-1])) + 1
    return {"input": values, "text": text[:40]}


def _behind_a_key(dice: random.Random, text: str) -> Any:
    """What begins a private key and has no end, before thousands of values."""
    begin = dice.choice(
        ("-----BEGIN RSA PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\\n", "%2D-----BEGIN PRIVATE KEY-----")
    )
    each = (text.replace("-", "a") or "a")[: dice.choice((1, 4, 40))]
    return {"input": [begin + filled("abcdef12", 80), *[each] * min(45_000, BYTES // (len(each) + 3))]}


def _all_candidates(dice: random.Random, text: str) -> Any:
    """A candidate of every detector in every rendering, before much text."""
    every = [candidate(detector.pattern, dice) for detector in DETECTORS.values()]
    once = " ; ".join(every)
    told = base64.b64encode(once.encode()).decode()
    quoted = "".join(f"%{ord(char):02X}" for char in once)
    escaped = "".join(f"\\u{ord(char):04x}" for char in once)
    head = f"{once}\n{told}\n{quoted}\n{escaped}\n"
    if dice.random() < 0.5:
        return chat(head + filled(" some words " + text, BYTES - len(head)))
    step = dice.choice((7, 150))
    whole = head + filled("some words " + text, BYTES - 2 * len(head)) + once
    return {"input": [whole[n : n + step] for n in range(0, len(whole), step)]}


_OF_BAIT = (
    _run, _run, _run, _pieces, _pieces, _keys, _base64, _percent, _escapes, _escapes_between, _odd_characters, _noise,
    _nested, _mixed_values, _numbers, _behind_a_key,
)  # fmt: skip
_OF_CANDIDATES = (
    _run, _pieces, _lines_of_values, _keys, _base64, _percent, _escapes_between, _odd_characters, _all_candidates,
)  # fmt: skip
