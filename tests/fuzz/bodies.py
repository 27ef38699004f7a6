"""Bodies for the differential fuzz: valid requests in every style of writing them, and most ways to spoil one. Pure.

Everything hangs on the seed. A share of the bodies is left whole, so that many are forwarded: a refused body tells
nothing about what was sent.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WHOLE_SHARE = 0.4
TOOLS = ("read_ticket", "search_docs", "comment_on", "list_files", "lookup")
_TEXTS = (
    "hello",
    "a longer sentence, with punctuation; and numbers 1 2 3",
    "línea ñandú 漢字 😀 \u200b\u202e",
    'quotes " and \\ slashes / and \t tabs',
    '{"model":"another","tools":[]}',
    "\u2028 line \u2029 separators",
    "",
)
_FOLDS = {"s": "ſ", "k": "\u212a", "i": "İ", "m": "ｍ", "o": "º", "t": "ｔ", "l": "Ⅼ", "e": "ℯ"}


@dataclass(frozen=True, slots=True)
class Body:
    """One request body, for a route of one format. ``whole`` says that nothing was spoilt on purpose."""

    format: str
    target: str
    raw: bytes
    whole: bool


def make_body(rng: random.Random) -> Body:
    """The next body."""
    name = rng.choice(tuple(_MAKERS))
    target, document = _MAKERS[name](rng)
    whole = rng.random() < WHOLE_SHARE
    if not whole and rng.random() < 0.45:
        rng.choice(_SPOIL_DOCUMENT)(rng, document)
        raw = _write(rng, document)
    else:
        raw = _write(rng, document)
        if not whole:
            raw = rng.choice(_SPOIL_BYTES)(rng, raw)
    return Body(name, target, raw, whole)


# -- whole ones ----------------------------------------------------------------------------------------------------


def _text(rng: random.Random) -> str:
    return rng.choice(_TEXTS) * rng.choice((1, 1, 1, 3))


def _schema(rng: random.Random) -> dict[str, Any]:
    return {"type": "object", "properties": {rng.choice(("q", "model", "path")): {"type": "string"}}}


def _names(rng: random.Random) -> list[str]:
    return rng.sample(TOOLS, rng.randrange(4))


def _sampling(rng: random.Random, document: dict[str, Any]) -> None:
    if rng.random() < 0.3:
        document["temperature"] = rng.choice((0, 1, 0.5, 0.1, 1e-3, 0.30000000000000004))
    if rng.random() < 0.3:
        document["stream"] = rng.random() < 0.5


def _chat(rng: random.Random) -> tuple[str, dict[str, Any]]:
    roles = rng.choices(("user", "system", "assistant"), k=rng.choice((1, 1, 2, 4)))
    turns: list[dict[str, Any]] = [{"role": role, "content": _text(rng)} for role in roles]
    if rng.random() < 0.3:
        turns.append({"role": "user", "content": [{"type": "text", "text": _text(rng)}]})
    document: dict[str, Any] = {"model": "gpt-4o-mini", "messages": turns}
    _sampling(rng, document)
    if names := _names(rng):
        document["tools"] = [
            {"type": "function", "function": {"name": name, "description": _text(rng), "parameters": _schema(rng)}}
            for name in names
        ]
        if rng.random() < 0.3:
            document["tool_choice"] = rng.choice(
                ("auto", "none", {"type": "function", "function": {"name": rng.choice(names)}})
            )
    if rng.random() < 0.2:
        document["max_tokens"] = rng.randrange(1, 4096)
    return "/openai/v1/chat/completions", document


def _responses(rng: random.Random) -> tuple[str, dict[str, Any]]:
    document: dict[str, Any] = {"model": "gpt-4o-mini", "input": _text(rng)}
    if rng.random() < 0.6:
        document["input"] = [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": _text(rng)}]}
        ]
        if rng.random() < 0.3:
            tools = [{"type": "function", "name": name, "parameters": _schema(rng)} for name in _names(rng)]
            document["input"].append({"type": "additional_tools", "role": "developer", "tools": tools})
    _sampling(rng, document)
    if names := _names(rng):
        document["tools"] = [{"type": "function", "name": name, "parameters": _schema(rng)} for name in names]
        if rng.random() < 0.2:
            document["tools"] = [{"type": "namespace", "name": "files", "tools": document["tools"][:1]}]
    return "/openai/v1/responses", document


def _messages(rng: random.Random) -> tuple[str, dict[str, Any]]:
    document: dict[str, Any] = {
        "model": "claude-sonnet-5-5",
        "max_tokens": rng.randrange(1, 4096),
        "messages": [{"role": "user", "content": rng.choice((_text(rng), [{"type": "text", "text": _text(rng)}]))}],
    }
    _sampling(rng, document)
    if rng.random() < 0.4:
        document["system"] = _text(rng)
    if names := _names(rng):
        document["tools"] = [{"name": name, "description": "d", "input_schema": _schema(rng)} for name in names]
    return "/anthropic/v1/messages", document


def _gemini(rng: random.Random) -> tuple[str, dict[str, Any]]:
    document: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": _text(rng)}]}]}
    if rng.random() < 0.4:
        document["systemInstruction"] = {"parts": [{"text": _text(rng)}]}
    if rng.random() < 0.4:
        document["generationConfig"] = {
            "temperature": rng.choice((0, 0.5, 1e-3)),
            "maxOutputTokens": rng.randrange(1, 99),
        }
    if names := _names(rng):
        declared = [{"name": name, "description": _text(rng), "parametersJsonSchema": _schema(rng)} for name in names]
        document["tools"] = [{rng.choice(("functionDeclarations", "function_declarations")): declared}]
    verb = rng.choice(("generateContent", "streamGenerateContent?alt=sse"))
    return f"/google/v1beta/models/gemini-2.5-pro:{verb}", document


def _converse(rng: random.Random) -> tuple[str, dict[str, Any]]:
    document: dict[str, Any] = {"messages": [{"role": "user", "content": [{"text": _text(rng)}]}]}
    if rng.random() < 0.4:
        document["inferenceConfig"] = {"maxTokens": rng.randrange(1, 99), "temperature": rng.choice((0, 0.5))}
    if rng.random() < 0.4:
        document["system"] = [{"text": _text(rng)}]
    if names := _names(rng):
        specs = [{"name": name, "description": "d", "inputSchema": {"json": _schema(rng)}} for name in names]
        document["toolConfig"] = {"tools": [{"toolSpec": spec} for spec in specs]}
    return f"/bedrock/model/{rng.choice(_BEDROCK_MODELS)}/{rng.choice(('converse', 'converse-stream'))}", document


def _invoke(rng: random.Random) -> tuple[str, dict[str, Any]]:
    document = _messages(rng)[1]
    del document["model"]
    document.pop("stream", None)
    document["anthropic_version"] = "bedrock-2023-05-31"
    verb = rng.choice(("invoke", "invoke-with-response-stream"))
    return f"/bedrock/model/{rng.choice(_BEDROCK_MODELS)}/{verb}", document


def _ollama(rng: random.Random) -> tuple[str, dict[str, Any]]:
    document: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": _text(rng)}]}
    if rng.random() < 0.5:
        document["stream"] = rng.random() < 0.5
    if names := _names(rng):
        functions = [{"name": name, "description": "d", "parameters": _schema(rng)} for name in names]
        document["tools"] = [{"type": "function", "function": function} for function in functions]
    return "/ollama/api/chat", document


_BEDROCK_MODELS = ("anthropic.claude-3-5-v2%3A0", "anthropic.claude-3-5-v2:0", "us.anthropic.claude-opus-5-5")
_MAKERS: dict[str, Callable[[random.Random], tuple[str, dict[str, Any]]]] = {
    "openai_chat": _chat,
    "openai_responses": _responses,
    "anthropic_messages": _messages,
    "gemini": _gemini,
    "bedrock_converse": _converse,
    "bedrock_anthropic": _invoke,
    "ollama_chat": _ollama,
}


# -- writing -------------------------------------------------------------------------------------------------------


def _write(rng: random.Random, document: Any) -> bytes:
    style = rng.random()
    if style < 0.5:
        return json.dumps(document, ensure_ascii=rng.random() < 0.5, separators=(",", ":")).encode("utf-8", "replace")
    parts: list[str] = []
    _write_value(rng, document, parts)
    return "".join(parts).encode("utf-8", "surrogatepass")


def _space(rng: random.Random) -> str:
    return rng.choice(("", "", "", " ", "\n", "\t", "\r\n  "))


def _write_string(rng: random.Random, value: str) -> str:
    out = ['"']
    for char in value:
        code = ord(char)
        if char in '"\\':
            out.append("\\" + char)
        elif code < 0x20 or rng.random() < 0.03:
            if code > 0xFFFF:
                high, low = 0xD800 + ((code - 0x10000) >> 10), 0xDC00 + ((code - 0x10000) & 0x3FF)
                out.append(f"\\u{high:04x}\\u{low:04X}")
            else:
                out.append(f"\\u{code:04x}")
        elif char == "/" and rng.random() < 0.3:
            out.append("\\/")
        else:
            out.append(char)
    return "".join([*out, '"'])


def _write_value(rng: random.Random, value: Any, parts: list[str]) -> None:
    if isinstance(value, dict):
        items = list(value.items())
        if rng.random() < 0.5:
            rng.shuffle(items)
        parts.append("{")
        for n, (key, inner) in enumerate(items):
            written = _space(rng) + _write_string(rng, str(key)) + _space(rng)
            parts.append(("," if n else "") + written + ":" + _space(rng))
            _write_value(rng, inner, parts)
        parts.append(_space(rng) + "}")
    elif isinstance(value, list):
        parts.append("[")
        for n, inner in enumerate(value):
            parts.append(("," if n else "") + _space(rng))
            _write_value(rng, inner, parts)
        parts.append(_space(rng) + "]")
    elif isinstance(value, str):
        parts.append(_write_string(rng, value))
    elif isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.1:
        parts.append(rng.choice((f"{value}.0", f"{value}e0", f"{value}0E-1")))
    else:
        parts.append(json.dumps(value))


_ADDED_KEYS = (
    *("model", "models", "tools", "functions", "stream", "fallbacks", "extra_body", "n", "user", "x", "route"),
    *("messages", "prompt", "provider", "plugins", "Model"),
)
_ADDED_VALUES: tuple[Any, ...] = (
    *("gpt-4o-mini", "another", [], {}, True, None, 1),
    [{"type": "function", "function": {"name": "Bash"}}],
)
_OTHER_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -0.0, 1.5, 2**53, -(2**53), 2**64, "", [], {}, [[]], [None], {"a": 1}),
    *("Bash", "gpt-4o-mini ", "ＧＰＴ-4o-mini", "x\u0000y"),
)
_OTHER_NAMES = (
    *("Bash", "bash", "ＢＡＳＨ", "Ba\u017fh", "read_ticket ", "read_ticket\u200b", "READ_TICKET", "r\u0435ad_ticket"),
    *("", "a" * 300, "exec"),
)


# -- spoiling the document -----------------------------------------------------------------------------------------


def _objects(value: Any) -> list[dict[str, Any]]:
    found, left = [], [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            found.append(item)
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
    return found


def _fold_a_key(rng: random.Random, document: dict[str, Any]) -> None:
    obj = rng.choice([o for o in _objects(document) if o] or [{"a": 1}])
    key = rng.choice(list(obj))
    folded = rng.choice(
        (
            key.upper(),
            key.title(),
            key.replace("_", ""),
            key + " ",
            key + "\u200b",
            "".join(_FOLDS.get(c, c) if rng.random() < 0.4 else c for c in key),
            key.replace("_", "-"),
            "".join(part.title() if n else part for n, part in enumerate(key.split("_"))),
        )
    )
    if rng.random() < 0.5:
        obj[folded] = rng.choice((obj[key], "another", [], True))
    else:
        obj[folded] = obj.pop(key)


def _add_a_key(rng: random.Random, document: dict[str, Any]) -> None:
    obj = rng.choice([*_objects(document), document, document])
    obj.setdefault(rng.choice(_ADDED_KEYS), rng.choice(_ADDED_VALUES))


def _change_a_value(rng: random.Random, document: dict[str, Any]) -> None:
    obj = rng.choice([o for o in _objects(document) if o] or [document])
    if obj:
        obj[rng.choice(list(obj))] = rng.choice(_OTHER_VALUES)


def _rename_a_tool(rng: random.Random, document: dict[str, Any]) -> None:
    named = [o for o in _objects(document) if isinstance(o.get("name"), str)]
    if named:
        rng.choice(named)["name"] = rng.choice(_OTHER_NAMES)


def _nest(rng: random.Random, document: dict[str, Any]) -> None:
    value: Any = rng.choice(("x", 1, None))
    for _ in range(rng.choice((3, 20, 70, 150))):
        value = {"a": value} if rng.random() < 0.5 else [value]
    rng.choice([*_objects(document), document])[rng.choice(("metadata", "content", "deep", "parameters"))] = value


def _drop_a_key(rng: random.Random, document: dict[str, Any]) -> None:
    obj = rng.choice([o for o in _objects(document) if o] or [{"a": 1}])
    del obj[rng.choice(list(obj))]


_SPOIL_DOCUMENT = (_fold_a_key, _fold_a_key, _add_a_key, _change_a_value, _rename_a_tool, _nest, _drop_a_key)


# -- spoiling the bytes --------------------------------------------------------------------------------------------


def _places(raw: bytes, what: bytes) -> list[int]:
    return [n for n in range(len(raw)) if raw.startswith(what, n)]


def _insert(rng: random.Random, raw: bytes, what: bytes, near: bytes = b"") -> bytes:
    spots = _places(raw, near) if near else list(range(len(raw) + 1))
    at = (rng.choice(spots) + len(near)) if spots else len(raw)
    return raw[:at] + what + raw[at:]


_DOUBLED = (b"model", b"tools", b"stream", b"messages", b"role", b"name", b"m\\u006fdel", b"type", b"content")


def _double_a_key(rng: random.Random, raw: bytes) -> bytes:
    key = rng.choice(_DOUBLED)
    value = rng.choice((b'"another"', b"[]", b"true", b"null", b"{}"))
    return _insert(rng, raw, b'"' + key + b'":' + value + b",", b"{")


def _flip(rng: random.Random, raw: bytes) -> bytes:
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 5))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


_ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-7")
_TAILS = (b" {}", b"\x00", b"//", b" ", b"\n\n", b"]", b"null", b'\n{"model":"another"}')
_NUMBERS = (b"NaN", b"1e400", b"-Infinity", b"01", b"+1", b".5", b"1.", b"0x10", b"1_0")
_BETWEEN = (b"/* */", b"//\n", b"#\n", b",", b"\x0b", b"\xc2\xa0", b"\xe2\x80\xa8")
_NOT_UTF8 = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x00", b"\x1f", b"\x7f")
_ESCAPED = (b"\\ud800", b"\\udc00\\ud800", b"\\u0000", b"\\x41", b"\\u00", b"\\ud83d\\ude00")
_SPOIL_BYTES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _double_a_key,
    _double_a_key,
    _flip,
    lambda rng, raw: raw[: rng.randrange(len(raw))],
    lambda rng, raw: b"\xef\xbb\xbf" + raw,
    lambda rng, raw: raw.decode("utf-8", "replace").encode(rng.choice(_ENCODINGS)),
    lambda rng, raw: raw + rng.choice(_TAILS),
    lambda rng, raw: _insert(rng, raw, rng.choice(_NUMBERS), b":"),
    lambda rng, raw: _insert(rng, raw, rng.choice(_BETWEEN)),
    lambda rng, raw: _insert(rng, raw, rng.choice(_NOT_UTF8)),
    lambda rng, raw: _insert(rng, raw, rng.choice(_ESCAPED), b'"'),
    lambda rng, raw: raw.replace(b'"', b"'"),
    lambda rng, raw: b" " * rng.randrange(100) + raw,
)
