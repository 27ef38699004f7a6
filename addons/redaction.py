"""Our credential, found in what a provider sends, in any form that programs render it in. Pure.

Raw; with characters escaped as in URLs (``%2d``), JSON (``\\u002d``, ``\\/``) or HTML (``&#45;``, ``&amp;``); in
base64, plain or URL-safe, wherever it stands in what was encoded (``user:key``), and that with characters escaped in
turn.

Most data has none, so one search looks for a few rare bytes of each form, and for escapes; only where it finds some
is every form looked for.

Limits: base64 that is broken into lines, several layers of it, hex, compression, UTF-16, and a credential that a
provider spells out over several events are not found. Of one under 12 characters only the raw and escaped forms are.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache

REDACTED = b"[redacted by clawproxy]"
_MIN_CORE_CHARS = 14
_PROBE_CHARS = 6
_RARE = b"QZXJKVqzWYUjGHxBPLFkNMO9786v5430RDwESATICybg21"
"""Bytes that answers hold seldom, the rarest first."""
_ESCAPES = (rb"%[2-7]", rb"\\u00[2-7]", rb"\\/", b"&#")
_NAMED = {ord("&"): b"&amp;", ord("<"): b"&lt;", ord(">"): b"&gt;", ord('"'): b"&quot;", ord("'"): b"&apos;"}
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_NEVER = b"(?!)"
_LONGEST_SPELLING = len("&#x00002d;")


class Redactor:
    """Finds one credential; empty, it finds nothing.

    Each branch of a pattern begins with one plain byte: so ``re`` scans for those bytes alone.
    """

    def __init__(self, secret: bytes) -> None:
        cores = [core for offset in range(3) if len(core := _core(secret, offset)) >= _MIN_CORE_CHARS]
        literals = dict.fromkeys([secret, *cores, *(core.translate(_URL_SAFE) for core in cores)])
        escapes = [*_ESCAPES, *(re.escape(b"\\" + quoted) for quoted in (b'"', b"\\") if quoted in secret)]
        escapes += [name for code, name in _NAMED.items() if code in secret]
        forms = [form for text in (secret, *cores) for form in _forms(text)] if secret else []
        self.probe = re.compile(_either([*map(_probe_of, literals), *escapes]) if secret else _NEVER).search
        """What data without the credential seldom matches, and data with it always."""
        self.longest_bytes = max(map(len, literals)) * _LONGEST_SPELLING
        """No form is longer: who passes bytes on as they come keeps so many back, less one."""
        self._form = re.compile(_either(forms) or _NEVER)

    def found_in(self, data: bytes) -> bool:
        """Whether ``data`` holds the credential in some form."""
        return self.probe(data) is not None and self._form.search(data) is not None

    def clean(self, data: bytes) -> bytes:
        """``data`` with ``REDACTED`` in place of each form; the same object where there is none."""
        return self._form.sub(REDACTED, data) if self.found_in(data) else data


@lru_cache(maxsize=64)
def redactor_for(secret: bytes) -> Redactor:
    """Compiled once per credential."""
    return Redactor(secret)


def redact(text: bytes, secret: bytes) -> bytes:
    """``text`` without ``secret``, which a provider may echo."""
    return redactor_for(secret).clean(text) if secret else text


def _core(secret: bytes, offset: int) -> bytes:
    """The characters of base64 that ``secret`` alone decides when it begins ``offset`` bytes into a group of three."""
    bits = 8 * (offset + len(secret))
    return base64.b64encode(bytes(offset) + secret)[(0, 2, 3)[offset] : bits // 6]


def _probe_of(literal: bytes) -> bytes:
    """A few bytes of ``literal``, from the rarest on."""
    starts = range(max(1, len(literal) - _PROBE_CHARS + 1))
    at = min(starts, key=lambda n: _RARE.index(literal[n]) if literal[n] in _RARE else len(_RARE))
    return re.escape(literal[at : at + _PROBE_CHARS])


def _forms(literal: bytes) -> list[bytes]:
    """Patterns for ``literal`` in which each character may be escaped; of base64, in either alphabet."""
    rest = b"".join(b"(?:%s)" % _either(_spellings(byte)) for byte in literal[1:])
    return [first + rest for first in _spellings(literal[0])]


def _spellings(byte: int) -> list[bytes]:
    spelled = []
    for code in {ord("+"): b"+-", ord("/"): b"/_"}.get(byte, bytes([byte])):
        spelled += [re.escape(bytes([code])), rb"%%(?i:%02x)" % code, rb"\\u00(?i:%02x)" % code]
        spelled += [rb"&#0{0,4}%d;" % code, rb"&#[xX]0{0,4}(?i:%02x);" % code]
        if code in _NAMED:
            spelled.append(_NAMED[code])
        if code in b'"\\/':
            spelled.append(rb"\\" + re.escape(bytes([code])))
    return spelled


def _either(patterns: list[bytes]) -> bytes:
    return b"|".join(patterns)
