"""Strict JSON in, canonical JSON out.

In: ``parse_json`` refuses what two parsers could read differently: duplicate keys, NaN and Infinity, numbers outside
the interoperable range, lone surrogates, a byte-order mark, trailing text, and anything beyond the given bounds. Its
errors quote nothing of the document, which may hold a prompt. All are PARSE_ERROR; for those who must tell them apart,
what has two readings is an ``AmbiguousJsonError``, and what is beyond a bound a ``TooDeepJsonError`` or a
``TooManyNodesError``.

Out, two rules (protocol.md A.2): ``jcs_bytes`` is RFC 8785, and ``wire_order_bytes`` is what JavaScript's
``JSON.stringify`` makes of the parsed object (document order, array-index keys first). What we sign is emitted in JCS
order, so that both rules give the same bytes; the second is needed to check envelopes that others made.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

import orjson
import rfc8785

from .errors import ClawproxyError

type Json = dict[str, Json] | list[Json] | str | int | float | bool | None
type JsonObject = dict[str, Any]

MAX_SAFE_INT = 2**53 - 1
MAX_JSON_BYTES = 16 * 1024 * 1024
MAX_JSON_DEPTH = 64
MAX_JSON_NODES = 500_000
MAX_BODY_NODES = 100_000
"""Keys and values in the body of a model call: a hundred times what the largest requests of real agents have."""
_SPACE = re.compile(r"[ \t\n\r]*")
_ARRAY_INDEX = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_MAX_ARRAY_INDEX = 2**32 - 2


class AmbiguousJsonError(ClawproxyError):
    """Two parsers could read this document in two ways, or one of them not at all."""


class TooDeepJsonError(ClawproxyError):
    """More levels than ``max_depth``."""


class TooManyNodesError(ClawproxyError):
    """More keys, items and scalars than ``max_nodes``."""


def _refuse(
    message: str, got: object = None, expected: str = "", kind: type[ClawproxyError] = ClawproxyError
) -> NoReturn:
    raise kind("PARSE_ERROR", message, got=got, expected=expected)


def _ambiguous(message: str, got: object = None, expected: str = "") -> NoReturn:
    _refuse(message, got, expected, AmbiguousJsonError)


def _too_deep(max_depth: int) -> NoReturn:
    _refuse("nested too deeply", expected=f"at most {max_depth} levels", kind=TooDeepJsonError)


def _too_many(max_nodes: int) -> NoReturn:
    _refuse("too many keys and values", expected=f"at most {max_nodes}", kind=TooManyNodesError)


def _pairs(pairs: list[tuple[str, Any]]) -> JsonObject:
    out = dict(pairs)
    if len(out) != len(pairs):
        _ambiguous("an object has the same key twice", expected="each key once")
    return out


def _int(text: str) -> int:
    if len(text) > 17 or abs(value := int(text)) > MAX_SAFE_INT:
        _ambiguous("a number is too large to mean the same everywhere", expected="|n| < 2^53")
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _ambiguous("a number is not finite", expected="a finite number")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs,
    parse_int=_int,
    parse_float=_float,
    parse_constant=lambda _text: _ambiguous("not JSON: NaN or an infinity", expected="a finite number"),
)


def parse_json(
    data: bytes,
    *,
    max_bytes: int = MAX_JSON_BYTES,
    max_depth: int = MAX_JSON_DEPTH,
    max_nodes: int = MAX_JSON_NODES,
) -> Any:
    """Parse one JSON document strictly; raises ``ClawproxyError`` (PARSE_ERROR) with the first thing that is wrong.

    ``max_nodes`` bounds keys, items and scalars together. Numbers come back as ``int`` where written without fraction
    or exponent, else as ``float``.
    """
    if len(data) > max_bytes:
        _refuse("the document is too large", got=f"{len(data)} bytes", expected=f"at most {max_bytes}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as err:
        _ambiguous("not UTF-8", got=f"byte {err.start}", expected="valid UTF-8")
    if text.startswith("\ufeff"):
        _ambiguous("the document starts with a byte-order mark", expected="plain UTF-8")
    if len(data) > max_nodes:
        _check_count(text, max_nodes)
    try:
        value, end = _DECODER.raw_decode(text, _skip_space(text, 0))
    except json.JSONDecodeError as err:
        said = err.msg.lower().partition(":")[0]  # what may follow is a piece of the document
        _refuse(f"not JSON: {said}", got=f"line {err.lineno} column {err.colno}", expected="one JSON document")
    except RecursionError:
        _too_deep(max_depth)
    except ValueError:
        _refuse("not JSON", expected="one JSON document")
    if _skip_space(text, end) != len(text):
        _ambiguous("text follows the document", got=f"offset {end}", expected="one JSON document")
    _check_bounds(value, max_depth, max_nodes)
    if "\\u" in text:
        _check_surrogates(value)
    return value


def parse_json_object(data: bytes, **bounds: int) -> JsonObject:
    """``parse_json`` for a document that must be an object."""
    value = parse_json(data, **bounds)
    if not isinstance(value, dict):
        _refuse("not a JSON object", got=type(value).__name__, expected="an object")
    return value


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _check_count(text: str, max_nodes: int) -> None:
    """Refuse, before it is decoded, what has far too many values; decoding 16 MiB of ``{"":1},`` takes seconds.

    Strings (keys too) and opening brackets are nodes of their own; each comma outside of strings
    stands in front of another. So nothing is refused here that ``_check_bounds`` would let through, and what
    passes is decoded in a time that ``max_nodes`` bounds.
    """
    if sum(map(text.count, ",{[")) <= max_nodes:
        return  # also with those that stand in strings
    at = commas = apart = 0
    while True:
        quote = text.find('"', at)
        end = quote if quote >= 0 else len(text)
        commas += text.count(",", at, end)
        apart += text.count("{", at, end) + text.count("[", at, end)
        if apart > max_nodes or commas > max_nodes:
            _too_many(max_nodes)
        if quote < 0:
            return
        try:
            at = _DECODER.raw_decode(text, quote)[1]
        except json.JSONDecodeError:
            return  # decoding ends here as well, and says why
        apart += 1


def _check_bounds(value: Any, max_depth: int, max_nodes: int) -> None:
    """Breadth first, one list per level, so that depth is the number of rounds and nothing recurses."""
    level, nodes, depth = [value], 1, 0
    while level:
        depth += 1
        if depth > max_depth + 1:
            _too_deep(max_depth)
        below: list[Any] = []
        for item in level:
            if item.__class__ is dict:
                below.extend(item.values())
                nodes += 2 * len(item)
            elif item.__class__ is list:
                below.extend(item)
                nodes += len(item)
        if nodes > max_nodes:
            _too_many(max_nodes)
        level = [item for item in below if item.__class__ is dict or item.__class__ is list]


def _check_surrogates(value: Any) -> None:
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        _ambiguous("a string holds half a surrogate pair", expected="valid Unicode")


# -- out ---------------------------------------------------------------------------------------------------------


def jcs_bytes(value: Any) -> bytes:
    """RFC 8785 bytes of ``value``; raises ``ClawproxyError`` (PARSE_ERROR) for what JCS cannot express.

    orjson with sorted keys gives the same bytes some 50 times faster for ASCII keys, strings and safe integers,
    so the guard picks it there; everything else goes through rfc8785.
    """
    try:
        if is_plain(value):
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        return rfc8785.dumps(value)
    except orjson.JSONEncodeError:
        _refuse("a string holds half a surrogate pair, or nested too deeply", expected="valid Unicode")
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as err:
        _refuse(f"cannot be canonicalised: {str(err)[:60]}", expected="JSON that RFC 8785 can express")


def is_plain(value: Any) -> bool:
    """Whether orjson with sorted keys gives the JCS bytes of ``value``: ASCII keys, safe integers, no floats."""
    kind = value.__class__
    if kind is dict:
        # loops, and leaves looked at in place: a third of the time of all() over a generator
        for key, item in value.items():
            if key.__class__ is not str or not key.isascii() or not (item.__class__ is str or is_plain(item)):
                return False
        return True
    if kind is list:
        for item in value:  # noqa: SIM110 # see above
            if not (item.__class__ is str or is_plain(item)):
                return False
        return True
    if kind is int:
        return bool(-MAX_SAFE_INT <= value <= MAX_SAFE_INT)
    return kind is str or kind is bool or value is None


def wire_order_bytes(value: Any) -> bytes:
    """UTF-8 of what ``JSON.stringify`` prints for ``value`` (protocol.md A.2 rule 1).

    Keys keep their order, except that array-index keys come first, ascending; numbers print the ECMAScript way.
    """
    parts: list[str] = []
    _stringify(value, parts, 0)
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError:
        _refuse("a string holds half a surrogate pair", expected="valid Unicode")


def _stringify(value: Any, parts: list[str], depth: int) -> None:
    if depth > 4 * MAX_JSON_DEPTH:
        _refuse("nested too deeply")
    if isinstance(value, dict):
        parts.append("{")
        for n, key in enumerate(_js_key_order(value)):
            parts.append(("," if n else "") + _js_string(key) + ":")
            _stringify(value[key], parts, depth + 1)
        parts.append("}")
    elif isinstance(value, list):
        parts.append("[")
        for n, item in enumerate(value):
            if n:
                parts.append(",")
            _stringify(item, parts, depth + 1)
        parts.append("]")
    elif isinstance(value, str):
        parts.append(_js_string(value))
    elif value is None or isinstance(value, bool):
        parts.append({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, int | float):
        parts.append(_js_number(value))
    else:
        _refuse("not a JSON value", got=type(value).__name__)


def _js_key_order(obj: JsonObject) -> Iterable[str]:
    if not any(k[:1].isdigit() for k in obj):
        return obj
    indices = {k for k in obj if _ARRAY_INDEX.fullmatch(k) and int(k) <= _MAX_ARRAY_INDEX}
    return sorted(indices, key=int) + [k for k in obj if k not in indices]


_ESCAPES = {0x22: '\\"', 0x5C: "\\\\", 0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0C: "\\f", 0x0D: "\\r"}
_JS_ESCAPES = {n: _ESCAPES.get(n, f"\\u{n:04x}") for n in [*range(0x20), 0x22, 0x5C]}
_JS_ESCAPES |= {n: f"\\u{n:04x}" for n in range(0xD800, 0xE000)}


def _js_string(text: str) -> str:
    return f'"{text.translate(_JS_ESCAPES)}"'


def _js_number(value: float) -> str:
    try:
        number = float(value)
    except OverflowError:
        return "null"  # an infinity, for JavaScript
    if not math.isfinite(number):
        return "null"
    # rfc8785 prints finite doubles exactly as ECMAScript's Number::toString does
    return rfc8785.dumps(number).decode("ascii")
