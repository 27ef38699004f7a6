"""Tools taken out of a request: whatever its shape, what is left declares no refused tool, or is refused as a whole."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from clawproxy.addons import strip
from clawproxy.addons.strip import MAX_TOOLS, strip_tools, write
from clawproxy.addons.wire.format import FORMATS, WireRequest
from clawproxy.policies.decide import decide_tools
from clawproxy.policies.facts import CallFacts
from clawproxy.policies.policy import Policy
from clawproxy.tokens.canonical import parse_json_object
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.reasons import Refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from ..policies.makers import a_grant, claw, policy_of, statement, wpc_v2
from .payloads import anthropic, anthropic_tool, chat, chat_tool, flat_tool, responses

CLASSES = {
    "ticket.read": ["get_ticket", "mcp__tickets__*", "n.get_ticket", "n.search", "n.mcp__tickets__*"],
    "fs.write": ["Write", "mcp__files__*"],
}
POLICY = policy_of(claw(on_denied_tool="strip", tool_classes=CLASSES))
GRANT = a_grant()
GOOD, ALSO_GOOD, BAD = "get_ticket", "search", "Write"
NAMES = (
    *(GOOD, ALSO_GOOD, BAD, "Bash", "mcp__tickets__read", "mcp__files__read", "rocket"),
    # lookalikes
    *("write", "WRITE", "Write2", "\uff37rite", "Wr\u0131te", "get_ticket "),
    *("Get_Ticket", "search\u200b", "", "*", "tool_call"),
)  # fmt: skip

type Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a format declares tools: ``body`` of a list of names."""

    name: str
    format: str
    body: Callable[[Sequence[str]], Document]
    path: Document


def _chat(names: Sequence[str]) -> Document:
    return chat(tools=[chat_tool(name) for name in names])


def _responses(names: Sequence[str]) -> Document:
    return responses(tools=[flat_tool(name) for name in names])


def _namespaces(names: Sequence[str]) -> Document:
    spaces = [{"type": "namespace", "name": "n", "description": "d", "tools": [flat_tool(name)]} for name in names]
    return responses(tools=spaces)


def _anthropic(names: Sequence[str]) -> Document:
    return anthropic(tools=[anthropic_tool(name) for name in names])


def _invoke(names: Sequence[str]) -> Document:
    body = anthropic(tools=[anthropic_tool(name) for name in names], anthropic_version="bedrock-2023-05-31")
    del body["model"]
    return body


def _converse(names: Sequence[str]) -> Document:
    tools = [{"toolSpec": {"name": name, "inputSchema": {"json": {}}}} for name in names]
    return {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "toolConfig": {"tools": tools}}


def _gemini(key: str, together: bool) -> Callable[[Sequence[str]], Document]:
    def body(names: Sequence[str]) -> Document:
        declared = [{"name": name, "description": "d"} for name in names]
        tools: list[Any] = [{key: declared}] if together else [{key: [each]} for each in declared]
        return {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "tools": tools}

    return body


AT_BEDROCK: Document = {"model": "anthropic.claude-x", "stream": False}
SHAPES = (
    Shape("chat", "openai_chat", _chat, {}),
    Shape("responses", "openai_responses", _responses, {}),
    Shape("namespaces", "openai_responses", _namespaces, {}),
    Shape("openrouter", "openrouter_chat", _chat, {}),
    Shape("openrouter-responses", "openrouter_responses", _responses, {}),
    Shape("anthropic", "anthropic_messages", _anthropic, {}),
    Shape("invoke", "bedrock_anthropic", _invoke, AT_BEDROCK),
    Shape("converse", "bedrock_converse", _converse, AT_BEDROCK),
    Shape("gemini", "gemini", _gemini("functionDeclarations", True), AT_BEDROCK),
    Shape("gemini-apart", "gemini", _gemini("function_declarations", False), AT_BEDROCK),
    Shape("ollama", "ollama_chat", _chat, {}),
)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=[shape.name for shape in SHAPES])


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a request: its document and facts, the names taken out, the last word on it."""

    body: Document
    facts: CallFacts
    gone: tuple[str, ...]
    verdict: tuple[str, ...] | Refusal


def stripped(shape: Shape, body: Document, policy: Policy = POLICY) -> Left | None:
    """As step 6 does it, with the bytes read again."""
    wire = FORMATS[shape.format]
    request = WireRequest(body, "openai", "r", **shape.path)
    facts = wire.read_request(request)
    told = strip_tools(request, wire, facts, GRANT, policy)
    if told is None:
        return None
    again = parse_json_object(write(told[0]), max_bytes=1 << 24, max_depth=64, max_nodes=1_000_000)
    left = wire.read_request(WireRequest(again, "openai", "r", **shape.path))
    assert set(left.tools) <= set(facts.tools)
    assert set(told[1]) <= set(facts.tools)
    return Left(again, left, told[1], decide_tools(left, GRANT, policy))


# -- what it is for ----------------------------------------------------------------------------------------------------


@each_shape
def test_a_refused_tool_is_taken_out_and_the_others_stay_as_they_were(shape: Shape) -> None:
    body = shape.body([GOOD, BAD, ALSO_GOOD])
    left = stripped(shape, body)
    assert left is not None
    assert left.body == shape.body([GOOD, ALSO_GOOD])
    assert [name.rpartition(".")[2] for name in left.gone] == [BAD]
    assert not isinstance(left.verdict, Refusal)


@each_shape
def test_a_request_that_has_no_tool_left_says_nothing_of_tools(shape: Shape) -> None:
    left = stripped(shape, shape.body([BAD, "rocket", BAD]))
    assert left is not None
    assert left.facts.tools == ()
    assert not {"tools", "toolConfig", "tool_choice"} & left.body.keys()


@each_shape
def test_where_every_tool_is_allowed_nothing_is_taken_out(shape: Shape) -> None:
    assert stripped(shape, shape.body([GOOD, ALSO_GOOD])) is None
    assert stripped(shape, shape.body([])) is None


def test_statements_decide_as_well() -> None:
    rules = (
        statement("models", "Allow", ["model:*"], ["*"]),
        statement("tools", "Allow", ["tool:*"], ["*"]),
        statement("not", "Deny", ["tool:*"], [f"*{BAD}*"]),
    )
    left = stripped(SHAPES[0], _chat([GOOD, BAD]), policy_of(wpc_v2(*rules)))
    if left is not None:
        assert BAD not in left.facts.tools


@each_shape
@given(names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_whatever_is_declared_what_is_left_is_allowed_or_refused_as_a_whole(shape: Shape, names: list[str]) -> None:
    body = shape.body(names)
    try:
        left = stripped(shape, body)
    except ClawproxyError:
        return  # no request that this format reads
    facts = FORMATS[shape.format].read_request(WireRequest(body, "openai", "r", **shape.path))
    if left is None:
        assert not isinstance(decide_tools(facts, GRANT, POLICY), Refusal)
        return
    assert not isinstance(left.verdict, Refusal)
    assert not set(left.gone) & set(left.facts.tools)
    raw = json.dumps(left.body)
    for name in left.gone:
        assert f": {json.dumps(name.rpartition('.')[2])}" not in raw


# -- hostile shapes ----------------------------------------------------------------------------------------------------


def refused_or_none(shape: Shape, body: Document) -> bool:
    """Whether the whole is refused: nothing is taken out, or what is left is refused."""
    left = stripped(shape, body)
    return left is None or isinstance(left.verdict, Refusal)


@each_shape
def test_a_refused_tool_behind_the_first_thousand_has_the_whole_refused(shape: Shape) -> None:
    names = [BAD, *(f"mcp__tickets__{n}" for n in range(MAX_TOOLS)), BAD]
    left = stripped(shape, shape.body(names))
    assert left is not None
    assert isinstance(left.verdict, Refusal)
    within = stripped(shape, shape.body(names[: MAX_TOOLS - 1]))
    assert within is not None
    assert not isinstance(within.verdict, Refusal)


def test_nested_declarations_share_one_bound() -> None:
    """A list of lists would cost seconds else."""
    declared = [{"functionDeclarations": [{"name": f"t{n}_{m}"} for m in range(200)]} for n in range(100)]
    body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "tools": declared}
    shape = SHAPES[8]
    request = WireRequest(body, "openai", "r", **AT_BEDROCK)
    facts = FORMATS["gemini"].read_request(request)
    began = time.process_time()
    told = strip_tools(request, FORMATS["gemini"], facts, GRANT, POLICY)
    assert time.process_time() - began < 1.5
    assert told is not None
    assert len(told[1]) == MAX_TOOLS
    assert refused_or_none(shape, body)


def test_without_its_bound_nested_declarations_are_all_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strip, "MAX_TOOLS", 10**9)
    left = stripped(SHAPES[0], _chat([f"t{n}" for n in range(1500)]))
    assert left is not None
    assert len(left.gone) == 1500


@pytest.mark.parametrize(
    ("shape", "choice"),
    [
        (SHAPES[0], {"tool_choice": {"type": "function", "function": {"name": BAD}}}),
        (
            SHAPES[0],
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [chat_tool(BAD)]}}},
        ),
        (SHAPES[0], {"tool_choice": "required", "tools": [chat_tool(BAD)]}),
        (SHAPES[1], {"tool_choice": {"type": "function", "name": BAD}}),
        (SHAPES[1], {"tool_choice": "required", "tools": [flat_tool(BAD)]}),
        (SHAPES[5], {"tool_choice": {"type": "tool", "name": BAD}}),
        (SHAPES[5], {"tool_choice": {"type": "any"}, "tools": [anthropic_tool(BAD)]}),
        (SHAPES[7], {"toolConfig": {**_converse([BAD, GOOD])["toolConfig"], "toolChoice": {"tool": {"name": BAD}}}}),
        (SHAPES[7], {"toolConfig": {**_converse([BAD])["toolConfig"], "toolChoice": {"any": {}}}}),
        (SHAPES[8], {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [BAD]}}}),
    ],
    ids=range(10),
)
def test_a_choice_that_needs_what_is_gone_is_not_weakened(shape: Shape, choice: Document) -> None:
    """It is refused; or the model could be made to use another tool than the one that was meant."""
    body = shape.body([GOOD, BAD]) | choice
    try:
        left = stripped(shape, body)
    except ClawproxyError:
        return
    if left is not None and not isinstance(left.verdict, Refusal):
        assert left.facts.tool_choice == BAD  # decide refuses it: not declared any more
        assert BAD not in left.facts.tools


@pytest.mark.parametrize(
    ("format_name", "body"),
    [
        ("openai_chat", chat(functions=[{"name": BAD}])),
        ("openai_chat", chat(messages=[{"role": "developer", "content": "x", "tools": [chat_tool(BAD)]}])),
        (
            "openai_responses",
            responses(input=[{"type": "additional_tools", "role": "developer", "tools": [flat_tool(BAD)]}]),
        ),
        (
            "openai_responses",
            responses(
                tools=[{"type": "custom", "name": BAD}],
                input=[{"type": "additional_tools", "role": "developer", "tools": [flat_tool(BAD)]}],
            ),
        ),
        (
            "openai_responses",
            responses(tools=[{"type": "mcp", "server_label": "files", "server_url": "https://x.example"}]),
        ),
        (
            "openai_responses",
            responses(tools=[{"type": "web_search"}, {"type": "code_interpreter", "container": {"type": "auto"}}]),
        ),
        ("openai_chat", chat(tools=[{"type": "custom", "custom": {"name": BAD}}, chat_tool(GOOD)])),
        ("openai_chat", chat(web_search_options={}, tools=[chat_tool(BAD)])),
        (
            "anthropic_messages",
            anthropic(tools=[{"type": "web_search_20250305", "name": "web_search"}, anthropic_tool(GOOD)]),
        ),
        (
            "anthropic_messages",
            anthropic(
                mcp_servers=[{"type": "url", "url": "https://x.example", "name": "files"}],
                tools=[{"type": "mcp_toolset", "mcp_server_name": "files"}],
            ),
        ),
        # of another API
        ("anthropic_messages", anthropic(tools=[chat_tool(BAD)])),
        ("openai_chat", chat(tools=[flat_tool(BAD), anthropic_tool(BAD)])),
        ("openai_chat", chat(tools=[{"functionDeclarations": [{"name": BAD}]}])),
        ("openai_chat", chat(tools=[chat_tool(BAD), None, 3, [chat_tool(BAD)]])),
        (
            "gemini",
            {
                "contents": [],
                "tools": [{"functionDeclarations": [{"name": GOOD}], "function_declarations": [{"name": BAD}]}],
            },
        ),
        ("gemini", {"contents": [], "tools": {"functionDeclarations": [{"name": BAD}]}}),
        (
            "gemini",
            {
                "contents": [],
                "tools": [
                    {"functionDeclarations": {"name": BAD}},
                    {"functionDeclarations": [{"name": GOOD}], "googleSearch": {}},
                ],
            },
        ),
        (
            "bedrock_converse",
            {
                "messages": [],
                "toolConfig": {
                    "tools": [
                        {"systemTool": {"name": "nova_grounding"}},
                        {"toolSpec": {"name": BAD, "inputSchema": {"json": {}}}},
                    ]
                },
            },
        ),
        ("bedrock_converse", {"messages": [], "tools": [chat_tool(BAD)], "toolConfig": {"tools": []}}),
    ],
    ids=range(19),
)
def test_wherever_else_tools_are_declared_none_that_is_refused_gets_through(format_name: str, body: Document) -> None:
    path: Document = AT_BEDROCK if format_name in ("gemini", "bedrock_converse") else {}
    try:
        left = stripped(Shape("", format_name, _chat, path), body)
    except ClawproxyError:
        return  # refused while it was read
    if left is None:
        facts = FORMATS[format_name].read_request(WireRequest(body, "openai", "r", **path))
        assert isinstance(decide_tools(facts, GRANT, POLICY), Refusal)
    elif not isinstance(left.verdict, Refusal):
        assert json.dumps(BAD) not in json.dumps(left.body)
        assert not any(word in json.dumps(left.body) for word in ("web_search", "mcp", "Search", "nova_grounding"))


@pytest.mark.parametrize("value", ["\ud800", 2**70, -(2**70)])
def test_a_value_that_cannot_be_written_again_is_an_error_and_no_request(value: object) -> None:
    with pytest.raises(ClawproxyError, match="cannot be written again"):
        write({"model": "gpt-5", "metadata": {"x": value}})
