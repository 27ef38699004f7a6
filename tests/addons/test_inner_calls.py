"""Which tools a call of a meta-tool asks for, as far as that can be told, in linear time."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from clawproxy.addons.wire.called import CalledTool
from clawproxy.addons.wire.inner_calls import inner_names
from clawproxy.addons.wire.reader import MAX_TOOL_CALLS, MORE_TOOL_CALLS
from hypothesis import given
from hypothesis import strategies as st


def names(name: str, arguments: Any) -> tuple[str, ...]:
    call = CalledTool(0, name, free_text=isinstance(arguments, str))
    call.add(arguments if isinstance(arguments, str) else json.dumps(arguments))
    return inner_names(call)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("tool_call", {"id": "bash", "args": {"command": "ls"}}, ("bash",)),
        ("tool_call", {"id": "tool_call", "args": {"id": "bash"}}, ("tool_call", "bash")),
        ("tool_call", {"id": "exec", "args": {"code": "tools.rm()"}}, ("exec", "rm")),
        ("tool_call", {"id": "a", "name": "b"}, ("a", "b")),
        ("tool_call", {"args": {"id": "bash"}}, ()),
        ("tool_call", [], ()),
        ("tool_search", {"query": "select:bash"}, ()),
        ("ToolSearch", {"query": "select:bash"}, ()),
        ("read", {"id": "bash", "code": "tools.rm()"}, ()),
        ("exec", {"command": "ls -l"}, ()),
        ("exec", {"code": "await tools.a.b({})", "more": ["tools.c()"]}, ("a.b", "c")),
    ],
)
def test_the_tools_that_arguments_name(name: str, arguments: Any, expected: tuple[str, ...]) -> None:
    assert names(name, arguments) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("const r = await tools.exec_command({cmd: 'ls'})", ("exec_command",)),
        ("tools['exec_command']({}); tools[\"b\"](); tools[`c`]()", ("exec_command", "b", "c")),
        ("tools?.a?.(); tools?.['b']()", ("a", "b")),
        ("tools . /* x */ a // y\n . b ( )", ("a.b",)),
        ("(tools).a(); (tools)['b']()", ("a", "b")),
        ("tools.\\u0065xec(); tools['\\x65xec']; t\\u{6f}ols.rm()", ("exec", "rm")),
        ("tools['\\ex\\\nec']", ("exec",)),
        ("tools.a.call(null); tools.a.then(f)", ("a",)),
        ("tools.then()", ("then",)),
        ("const f = tools.a; f()", ("a",)),
        ("globalThis.tools.a(); x.tools.b()", ("a", "b")),
        ("// tools.a()\n'tools.b()'", ("a", "b")),
        ("mytools.a(); tools_.b(); $tools.c(); toolset.d()", ()),
        ("tools[a + 'b'](); tools['a' + b](); const {x} = tools; tools", ()),
        ("tools['", ()),
        ("tools[", ()),
        ("tools.", ()),
        ("", ()),
    ],
)
def test_the_tools_that_stand_in_code(code: str, expected: tuple[str, ...]) -> None:
    assert names("functions.exec", code) == expected
    assert names("exec", {"code": code}) == expected


def test_the_number_of_names_is_bounded_and_so_is_their_length() -> None:
    many = names("exec", "".join(f"tools.a{n}();" for n in range(2 * MAX_TOOL_CALLS)))
    assert (len(many), many[-1]) == (MAX_TOOL_CALLS + 1, MORE_TOOL_CALLS)
    assert max(map(len, names("exec", "tools." + "a" * 9000 + "; tools['" + "b" * 9000 + "']"))) <= 256


def test_arguments_that_cannot_be_read_name_nothing() -> None:
    call = CalledTool(0, "tool_call")
    call.add('{"id": "bash", "id": "read"}')
    assert inner_names(call) == ()


@pytest.mark.parametrize(
    "bait",
    [
        *("tools", "tools ", "tools.", "tools/*", "tools//", "tools['", "tools[`\\", "tools.a.", "tools)", "tools?.["),
        *("\\u{0000", "(", " ", "tools" + " " * 50, "tools/**/", "tools['a'].", "\\x6", "tools.a\n.b"),
    ],
)
def test_no_code_takes_long(bait: str) -> None:
    """A megabyte takes less than a second; with a square in it, it would take hours."""
    started = time.process_time()
    names("exec", bait * (1_000_000 // len(bait)))
    assert time.process_time() - started < 2


@given(code=st.text("tols.[]'\"`\\/*()?a \n", max_size=60))
def test_no_code_makes_it_raise(code: str) -> None:
    assert all(isinstance(name, str) for name in names("exec", code))
