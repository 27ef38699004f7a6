"""The tools that a call of a meta-tool (``meta_tools``) asks for, as far as they can be told. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ...tokens.errors import ClawproxyError
from .called import CalledTool
from .reader import MAX_TOOL_CALLS, MORE_TOOL_CALLS

_BY_NAME = frozenset({"tool_call"})
_NAME_KEYS = ("id", "name", "tool")
_ARGUMENT_KEYS = ("args", "arguments", "input")
_CODE = frozenset({"exec", "functions.exec", "programmatic_tool_calling"})
_MAX_NESTED = 8
_MAX_NAME_CHARS = 256
_MAX_COMMENT_CHARS = 256
_TOOLS = re.compile(r"(?<![\w$])tools(?![\w$])")
_ESCAPE = re.compile(r"\\(?:u\{0{0,8}([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))")
_BLANK = re.compile(r"[\s)]*+")
_IDENTIFIER = re.compile(r"#?[\w$]{1,256}+")
_CALLING = frozenset({"apply", "bind", "call", "catch", "finally", "then"})
"""What functions and promises have: not part of a tool's name."""


def inner_names(call: CalledTool) -> tuple[str, ...]:
    """Names of the tools that ``call`` asks for in its arguments, each once, in order; ``MORE_TOOL_CALLS`` last where
    there are more than ``MAX_TOOL_CALLS``. Empty for a call of any other tool, or where nothing can be told.

    OpenClaw's ``tool_call`` names one (``id``), which may be a meta-tool again. Of the JavaScript of a code mode, these
    are the names that stand literally behind ``tools``: ``tools.NAME``, ``tools["NAME"]``, ``tools.a.b``; whether they
    are called, and whether they stand in a comment or a text, makes no difference. Searching for a tool asks for none.

    What it cannot know: names that the code puts together (``tools[a + b]``), ``tools`` under another name or taken
    apart (``const {x} = tools``), code that is made by code, what a shell command runs, comments of more than 256
    characters within a name. So no name found does not mean that none is called: code can be anything, and is allowed
    as such or not at all.
    """
    found: dict[str, None] = {}
    for name in _asked(call.name, call, 0):
        found[name] = None
        if len(found) > MAX_TOOL_CALLS:
            return (*list(found)[:MAX_TOOL_CALLS], MORE_TOOL_CALLS)
    return tuple(found)


def _asked(name: str, call: CalledTool, depth: int) -> Iterator[str]:
    if name in _CODE and call.free_text:
        yield from _in_code("" if call.overlong else call.text)
    elif name in _BY_NAME or name in _CODE:
        try:
            arguments = call.arguments()
        except ClawproxyError:
            return
        yield from _in_arguments(name, arguments, depth)


def _in_arguments(name: str, arguments: Any, depth: int) -> Iterator[str]:
    if name in _CODE:
        for text in _texts(arguments):
            yield from _in_code(text)
    elif name in _BY_NAME and isinstance(arguments, dict):
        given = [arguments[key] for key in _ARGUMENT_KEYS if key in arguments]
        for key in _NAME_KEYS:
            inner = arguments.get(key)
            if isinstance(inner, str) and inner:
                yield inner[:_MAX_NAME_CHARS]
                if depth < _MAX_NESTED:
                    for value in given:
                        yield from _in_arguments(inner, value, depth + 1)


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, keys left out."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict | list):
            left.extend(reversed(item.values() if isinstance(item, dict) else item))


def _in_code(code: str) -> Iterator[str]:
    code = _ESCAPE.sub(_unescaped, code)
    at = 0
    while match := _TOOLS.search(code, at):
        name, at = _name_at(code, match.end())
        if name:
            yield name


def _unescaped(match: re.Match[str]) -> str:
    number = int(match[1] or match[2] or match[3], 16)
    return chr(number) if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF else match[0]


def _name_at(code: str, at: int) -> tuple[str, int]:
    """The members behind ``tools`` as one dotted name, and where the last of them ends."""
    parts: list[str] = []
    length, end = 0, at
    while length <= _MAX_NAME_CHARS:
        at = _behind_blanks(code, at)
        if code.startswith("?.", at):
            at = _behind_blanks(code, at + 2)
            dotted = not code.startswith("[", at)
        elif code.startswith(".", at):
            at, dotted = _behind_blanks(code, at + 1), True
        else:
            dotted = False
        if dotted:
            found = _IDENTIFIER.match(code, at)
            part, at = (found[0], found.end()) if found else ("", at)
        else:
            part, at = _quoted(code, _behind_blanks(code, at + 1)) if code.startswith("[", at) else ("", at)
        if not part or (dotted and parts and part in _CALLING):
            break
        parts.append(part)
        length, end = length + len(part) + 1, at
    return ".".join(parts)[:_MAX_NAME_CHARS], end


def _behind_blanks(code: str, at: int) -> int:
    """Behind white space, comments and closing parentheses."""
    while True:
        found = _BLANK.match(code, at)
        at = found.end() if found else at
        if code.startswith("/*", at):
            end = code.find("*/", at + 2, at + _MAX_COMMENT_CHARS)
        elif code.startswith("//", at):
            end = code.find("\n", at + 2, at + _MAX_COMMENT_CHARS) - 1
        else:
            return at
        if end < 0:
            return at
        at = end + 2


def _quoted(code: str, at: int) -> tuple[str, int]:
    """The text in quotes at ``at``, without its escapes, and where its bracket ends; empty where it is not just that
    text."""
    quote = code[at : at + 1]
    if not quote or quote not in "\"'`":
        return "", at
    said: list[str] = []
    at += 1
    while len(said) <= _MAX_NAME_CHARS and at < len(code):
        letter = code[at]
        if letter == quote:
            at = _behind_blanks(code, at + 1)
            return ("".join(said), at + 1) if code.startswith("]", at) else ("", at)
        if letter == "\\":
            at += 1
            letter = code[at : at + 1]
        said.append("" if letter == "\n" else letter)
        at += 1
    return "", at
