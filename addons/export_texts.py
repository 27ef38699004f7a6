"""The texts in a call to a host that is no provider as its reader sees them, so that labels are found in them. Pure.

A value of a query or a form is percent-encoded, and stands between others; a name of a host is words with hyphens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from urllib.parse import unquote_plus

from ..policies.addresses import is_literal

_BORDERS = re.compile(r"[&=;,/?]")


def decoded_parts(texts: Iterable[str]) -> Iterator[str]:
    """What stands between the borders of addresses and forms, with the escapes undone: first only between ``name=`` and
    ``&``, where other borders may be text, then between all of them."""
    for text in texts:
        for pair in text.split("&"):
            for part in (pair, pair.partition("=")[2]):
                yield unquote_plus(part)
        for part in _BORDERS.split(text):
            yield unquote_plus(part)


def chosen_host(host: str, pattern: str | None) -> list[str]:
    """The labels of ``host`` that a client chose: those in place of the star, if its entry has one. Without an entry it
    chose all of them, and nobody knows how many of the last say whose host it is: so each beginning of the name."""
    if pattern is not None:
        return [host.removesuffix(pattern[1:])] if pattern.startswith("*.") else []
    if is_literal(host):
        return []
    return [*accumulate(host.split("."), lambda name, label: f"{name}.{label}")]
