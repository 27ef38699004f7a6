"""Requests and answers of our own, in the shapes that the providers document."""

from __future__ import annotations

from typing import Any

import orjson


def schema() -> dict[str, Any]:
    return {"type": "object", "properties": {"model": {"type": "string"}}}


def chat_tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": schema()}}


def flat_tool(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": schema(), "strict": False}


def anthropic_tool(name: str) -> dict[str, Any]:
    return {"name": name, "description": "d", "input_schema": schema()}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}], **more}


def responses(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-5", "input": "hi", **more}


def anthropic(**more: Any) -> dict[str, Any]:
    return {"model": "claude-x", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}], **more}


def sse(*events: Any, named: bool = False, end: bytes = b"\n") -> bytes:
    """Events as a server writes them; with ``named``, each says its type as event name as well."""
    out = b""
    for event in events:
        if isinstance(event, bytes):
            out += event
            continue
        if named:
            out += b"event: " + event["type"].encode() + end
        out += b"data: " + orjson.dumps(event) + end + end
    return out


def chat_chunk(delta: dict[str, Any] | None = None, choice: int = 0, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": choice, "delta": delta, "finish_reason": None}]
    return {"id": "c1", "object": "chat.completion.chunk", "model": "gpt-5-2026", "choices": choices, **more}


def tool_piece(index: int, *, name: str | None = None, arguments: str = "", id: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    head = {"index": index} if id is None else {"index": index, "id": id, "type": "function"}
    return {"tool_calls": [{**head, "function": function}]}


DONE = b"data: [DONE]\n\n"

CHAT_STREAM = sse(
    b": WARMING UP\n\n",
    chat_chunk({"role": "assistant", "content": "", "tool_calls": []}, usage=None),
    chat_chunk({"content": 'say "usage": {"prompt_tokens": 9} and [not done]'}, usage=None),
    chat_chunk(tool_piece(0, name="read_file", id="call_1"), usage=None),
    chat_chunk(tool_piece(0, arguments='{"path": "\u00e9'), usage=None),
    chat_chunk(tool_piece(1, name="bash", id="call_2"), usage=None),
    chat_chunk(tool_piece(1, arguments="{}"), usage=None),
    chat_chunk({}, usage=None),
    chat_chunk(usage={"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38}),
    DONE,
)


def _response(status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "model": "gpt-5-2026",
        "output": [],
        "usage": None,
        **more,
    }


RESPONSES_OUTPUT: list[dict[str, Any]] = [
    {"type": "message", "id": "m1", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]},
    {"type": "function_call", "id": "f1", "call_id": "c1", "name": "close", "namespace": "agents", "arguments": "{}"},
    {"type": "custom_tool_call", "id": "f2", "call_id": "c2", "name": "exec", "input": "1+1"},
    {"type": "web_search_call", "id": "w1", "status": "completed"},
    {"type": "mcp_call", "id": "x1", "server_label": "tickets", "name": "read", "arguments": "{}"},
]
RESPONSES_CALLS = ("agents.close", "exec", "web_search", "mcp:tickets.read")
RESPONSES_USAGE = {
    "input_tokens": 31,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens": 7,
    "total_tokens": 38,
}

RESPONSES_STREAM = sse(
    {"type": "response.created", "sequence_number": 0, "response": _response("in_progress")},
    {"type": "response.output_item.added", "output_index": 0, "item": RESPONSES_OUTPUT[0]},
    {"type": "response.output_text.delta", "output_index": 0, "delta": "response.completed, [DONE]"},
    *[
        {"type": f"response.output_item.{what}", "output_index": n, "item": item}
        for n, item in enumerate(RESPONSES_OUTPUT)
        for what in ("added", "done")
        if n
    ],
    {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
    {
        "type": "response.completed",
        "response": _response("completed", output=RESPONSES_OUTPUT, usage=RESPONSES_USAGE),
    },
    named=True,
)
RESPONSES_ANSWER = _response("completed", output=RESPONSES_OUTPUT, usage=RESPONSES_USAGE)

ANTHROPIC_BLOCKS: list[dict[str, Any]] = [
    {"type": "text", "text": "hi"},
    {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"name": "x"}},
    {"type": "server_tool_use", "id": "t2", "name": "web_search", "input": {}},
    {"type": "mcp_tool_use", "id": "t3", "server_name": "tickets", "name": "read", "input": {}},
    {"type": "tool_use", "id": "t4", "name": "zoom", "toolset_name": "browser", "input": {}},
]
ANTHROPIC_CALLS = ("Bash", "web_search", "mcp:tickets.read", "browser.zoom")
ANTHROPIC_USAGE = {
    "input_tokens": 20,
    "cache_creation_input_tokens": 4,
    "cache_read_input_tokens": 7,
    "output_tokens": 1,
}

ANTHROPIC_STREAM = sse(
    {
        "type": "message_start",
        "message": {"id": "m1", "role": "assistant", "model": "claude-x-1", "content": [], "usage": ANTHROPIC_USAGE},
    },
    *[
        event
        for n, block in enumerate(ANTHROPIC_BLOCKS)
        for event in (
            {"type": "content_block_start", "index": n, "content_block": {**block, "input": {}}},
            {"type": "ping"},
            {
                "type": "content_block_delta",
                "index": n,
                "delta": {"type": "input_json_delta", "partial_json": '{"type": "message_stop"}'},
            },
            {"type": "content_block_stop", "index": n},
        )
    ],
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}},
    {"type": "message_stop"},
    named=True,
)
ANTHROPIC_ANSWER = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x-1",
    "content": ANTHROPIC_BLOCKS,
    "usage": {**ANTHROPIC_USAGE, "output_tokens": 7},
}
CHAT_ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "model": "gpt-5-2026",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "read_file", "arguments": "{}"}},
                    {"id": "call_2", "type": "custom", "custom": {"name": "bash", "input": "ls"}},
                ],
            },
            "finish_reason": "tool_calls",
        },
        {"index": 1, "message": {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}}},
    ],
    "usage": {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38},
}
