"""Streams of OpenAI's responses API that call tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .shape import (
    ARGUMENTS,
    CODE,
    WRITTEN,
    Block,
    Called,
    CalledMessages,
    CalledStream,
    block,
    messages_of,
    pieces,
    sse,
)

Event = dict[str, Any]


def response(status: str, output: list[Event]) -> Event:
    tokens: Event = {"input_tokens": 31, "output_tokens": 7, "total_tokens": 38}
    tokens |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "gpt-5-2026",
        "output": output,
        "usage": tokens if output else None,
        "parallel_tool_calls": True,
        "tools": [],
        "tool_choice": "auto",
        "error": None,
        "incomplete_details": None,
        "metadata": {},
    }


def begins() -> list[Event]:
    return [
        {"type": f"response.{what}", "response": response("in_progress", [])} for what in ("created", "in_progress")
    ]


def ends(output: list[Event]) -> Event:
    return {"type": "response.completed", "response": response("completed", output)}


def told(what: str, index: int, item: Event) -> Event:
    return {"type": f"response.output_item.{what}", "output_index": index, "item": item}


def message(index: int, text: str) -> tuple[list[Event], Event]:
    part = {"type": "output_text", "text": "", "annotations": []}
    item = {"id": f"msg_{index}", "type": "message", "role": "assistant"}
    place = {"item_id": item["id"], "output_index": index, "content_index": 0}
    whole = item | {"status": "completed", "content": [part | {"text": text}]}
    return [
        told("added", index, item | {"status": "in_progress", "content": []}),
        {"type": "response.content_part.added", **place, "part": part},
        *[{"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in pieces(text)],
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part | {"text": text}},
        told("done", index, whole),
    ], whole


def written(index: int, kind: str, name: str, text: str, member: str = "arguments", **more: Any) -> tuple[Any, Event]:
    """An item whose arguments come in pieces."""
    item = {"id": f"fc_{index}", "type": kind, "call_id": f"call_{index}", "name": name, **more}
    place = {"item_id": item["id"], "output_index": index}
    whole = item | {member: text, "status": "completed"}
    event = "response." + {"function_call": "function_call_arguments", "mcp_call": "mcp_call_arguments"}.get(
        kind, "custom_tool_call_input"
    )
    return [
        told("added", index, item | {member: "", "status": "in_progress"}),
        *[{"type": f"{event}.delta", **place, "delta": piece} for piece in pieces(text)],
        {"type": f"{event}.done", **place, member: text},
        told("done", index, whole),
    ], whole


def use(index: int, name: str = "read_file", text: str = WRITTEN, **more: Any) -> tuple[Any, Event]:
    return written(index, "function_call", name, text, **more)


def hosted(index: int, kind: str, **given: Any) -> tuple[Any, Event]:
    """An item whose arguments stand in it at the end."""
    item = {"id": f"ci_{index}", "type": kind, "status": "in_progress"}
    whole = item | {"status": "completed", **given}
    return [told("added", index, item), told("done", index, whole)], whole


type Shape = tuple[str, list[Any], tuple[Called, ...], dict[str, Any]]


def shapes() -> Iterator[Shape]:
    read, bash = Called("read_file", ARGUMENTS), Called("bash", {"command": "ls"})
    first, item = use(0)
    yield "one", [*begins(), first, ends([item])], (read,), {}
    text, said = message(0, "I say function_call_arguments")
    second, other = use(1)
    third, third_item = use(2, "bash", '{"command": "ls"}')
    yield "after_text", [*begins(), *text, second, ends([said, other])], (read,), {}
    yield "parallel", [*begins(), *text, second, third, ends([said, other, third_item])], (read, bash), {}
    woven = [event for n in range(len(second)) for event in (*second[n : n + 1], *third[n : n + 1])]
    yield "interleaved", [*begins(), *text, woven, ends([said, other, third_item])], (read, bash), {}
    code, code_item = written(0, "custom_tool_call", "exec", CODE, "input")
    yield "code_mode", [*begins(), code, ends([code_item])], (Called("exec", {"input": CODE}),), {}
    mcp, mcp_item = written(0, "mcp_call", "read", WRITTEN, server_label="tickets")
    spaced, spaced_item = use(1, "close", "{}", namespace="agents")
    yield (
        "servers_and_namespaces",
        [*begins(), mcp, spaced, ends([mcp_item, spaced_item])],
        (Called("mcp:tickets.read", ARGUMENTS), Called("agents.close", {})),
        {},
    )
    kinds: list[tuple[str, Event]] = [
        ("computer", {"action": {"type": "click", "x": 1, "y": 2}, "pending_safety_checks": []}),
        ("shell", {"action": {"commands": ["ls"], "timeout_ms": 9}}),
        ("local_shell", {"action": {"type": "exec", "command": ["ls"], "env": {}}}),
        ("apply_patch", {"operation": {"type": "update_file", "path": "a", "diff": "+x"}}),
        ("web_search", {"action": {"type": "search", "query": "q"}}),
        ("file_search", {"queries": ["q"]}),
        ("code_interpreter", {"code": "1+1", "container_id": "c"}),
        ("tool_search", {"arguments": {"query": "files"}, "execution": "client"}),
    ]
    blocks = [hosted(n, f"{kind}_call", **given) for n, (kind, given) in enumerate(kinds)]
    yield (
        "hosted_tools",
        [*begins(), *[events for events, _ in blocks], ends([whole for _, whole in blocks])],
        tuple(Called(kind, given) for kind, given in kinds),
        {},
    )
    patch, patch_item = hosted(0, "apply_patch_call", operation={"type": "update_file", "path": "a", "diff": "+xy"})
    patch[0]["item"]["operation"] = {"type": "update_file", "path": "a", "diff": "+"}
    grown = Called("apply_patch", {"operation": {"type": "update_file", "path": "a", "diff": "+xy"}})
    yield "arguments_that_grow", [*begins(), patch, ends([patch_item])], (grown,), {}
    program, program_item = hosted(0, "program", code="tools.a()")
    yield (
        "a_program",
        [*begins(), program, ends([program_item])],
        (Called("programmatic_tool_calling", {"code": "tools.a()"}),),
        {},
    )
    asks, asks_item = hosted(0, "mcp_approval_request", server_label="tickets", name="read", arguments=WRITTEN)
    asks[0] = told("added", 0, asks_item)
    yield "approval_request", [*begins(), asks, ends([asks_item])], (Called("mcp:tickets.read", ARGUMENTS),), {}
    whole = [told("added", 0, item), told("done", 0, item)]
    yield "whole_arguments", [*begins(), whole, ends([item])], (read,), {}
    yield "only_done", [*begins(), [told("done", 0, item)], ends([item])], (read,), {}
    yield "only_in_the_whole_response", [*begins(), *text, [ends([said, other])]], (read,), {}
    evil = item | {"arguments": '{"path": "/etc/shadow"}'}
    both = (read, Called("read_file", {"path": "/etc/shadow"}))
    yield "repeated_with_other_arguments", [*begins(), first, [ends([evil])]], both, {}
    yield (
        "repeated_with_another_name",
        [*begins(), first, [ends([item | {"name": "bash"}])]],
        (read, Called("bash", ARGUMENTS)),
        {},
    )
    changed = [*first[:-1], told("done", 0, evil)]
    yield "done_with_other_arguments", [*begins(), changed, ends([item])], both, {}
    yield (
        "repeated_in_another_order",
        [*begins(), *text, second, third, ends([third_item, said, other])],
        (read, bash),
        {},
    )
    respaced = item | {"arguments": WRITTEN.replace(": ", ":")}
    yield "repeated_with_other_spaces", [*begins(), first, ends([respaced])], (read,), {}
    think = {"id": "rs_0", "type": "reasoning", "summary": [], "encrypted_content": "eA=="}
    thinks = [told("added", 0, think | {"encrypted_content": None}), told("done", 0, think)]
    yield (
        "reasoning",
        [*begins(), *thinks, second, ends([think, other])],
        (read,),
        {"signed": True},
    )
    yield "no_item_done", [*begins(), [*first[:-1], ends([item])]], (read,), {}
    yield "cut_off", [*begins(), first[:1]], (Called("read_file", {}),), {"closed": False, "ended": False}
    yield "lost_item", [*begins(), *text, [*second[:-1], ends([said])]], (read,), {"closed": False}
    yield "no_calls", [*begins(), *text, ends([said])], (), {}


def streams() -> Iterator[CalledStream]:
    for name, events, calls, more in shapes():
        closed, number = more.pop("closed", True), 0
        parts: list[bytes | Block] = []
        for part in events:
            shown = []
            for event in part if isinstance(part, list) else [part]:
                shown.append(sse(event | {"sequence_number": number}, named=True))
                number += 1
            parts.append(block(shown, closed=closed) if isinstance(part, list) else shown[0])
        for form in ("openai_responses", "openrouter_responses"):
            yield CalledStream(f"{form}_{name}", form, "text/event-stream", tuple(parts), calls, **more)


def messages() -> Iterator[CalledMessages]:
    for name, events, calls, more in shapes():
        yield messages_of(f"responses_session_{name}", "openai_responses", events, calls, **more)
