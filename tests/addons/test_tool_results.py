"""Results of tools, in the shapes of every format, with the tool that each is from; and what is known of them later."""

from __future__ import annotations

from typing import Any

import pytest
from clawproxy.addons import data_marks
from clawproxy.addons.data_marks import JobMarks, Marks
from clawproxy.addons.tool_results import is_compacted, tool_results
from clawproxy.tokens.errors import ClawproxyError

SHAPES: dict[str, Any] = {
    "anthropic": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "read", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "x"}]},
    ],
    "chat": [
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "read"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ],
    "chat before tools": [{"role": "function", "name": "read", "content": "x"}],
    "responses": [
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "read", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ],
    "responses custom": [
        {"type": "custom_tool_call", "call_id": "c", "name": "read", "input": ""},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "x"},
    ],
    "responses mcp": [{"type": "mcp_call", "id": "m", "name": "read", "output": "x"}],
    "gemini": [
        {"role": "model", "parts": [{"functionCall": {"name": "read", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "read", "response": {"a": "x"}}}]},
    ],
    "converse": [
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c", "name": "read", "input": {}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "c", "content": [{"text": "x"}]}}]},
    ],
    "ollama": [{"role": "tool", "tool_name": "read", "content": "x"}],
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_result_is_found_with_its_tool(name: str) -> None:
    assert [result.tool for result in tool_results({"messages": SHAPES[name]})] == ["read"]


OF_THE_PROVIDER: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "files": ("file_search", "file_search", [{"type": "file_search_call", "id": "f", "results": [{"text": "x"}]}]),
    "web": ("web_search", "web_search_preview", [{"type": "web_search_call", "id": "w", "status": "completed"}]),
    "code": ("code_interpreter", "code_interpreter", [{"type": "code_interpreter_call", "outputs": [{"logs": "x"}]}]),
    "screen": (
        "computer",
        "computer_use_preview",
        [{"type": "computer_call", "call_id": "c"}, {"type": "computer_call_output", "call_id": "c", "output": "x"}],
    ),
    "server": ("read", "mcp:crm", [{"type": "mcp_call", "id": "m", "server_label": "crm", "name": "read"}]),
    "server at anthropic": (
        "read",
        "mcp:crm",
        [
            {"type": "mcp_tool_use", "id": "c", "server_name": "crm", "name": "read", "input": {}},
            {"type": "mcp_tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "x"}]},
        ],
    ),
    "code at google": ("code_execution", "code_execution", [{"parts": [{"codeExecutionResult": {"output": "x"}}]}]),
    "search at google": (
        "google_search",
        "google_search",
        [
            {"parts": [{"toolCall": {"id": "1", "toolType": "GOOGLE_SEARCH"}}]},
            {"parts": [{"toolResponse": {"id": "1", "toolType": "GOOGLE_SEARCH", "response": {"a": "x"}}}]},
        ],
    ),
    "a tool that calls others": (
        "tool_call",
        "read",
        [
            {"type": "tool_use", "id": "c", "name": "tool_call", "input": {"id": "read", "args": {}}},
            {"type": "tool_result", "tool_use_id": "c", "content": "x"},
        ],
    ),
    "code that calls others": (
        "functions.exec",
        "read",
        [
            {
                "type": "custom_tool_call",
                "call_id": "c",
                "namespace": "functions",
                "name": "exec",
                "input": "tools.read()",
            },
            {"type": "custom_tool_call_output", "call_id": "c", "output": "x"},
        ],
    ),
}


@pytest.mark.parametrize("name", OF_THE_PROVIDER)
def test_results_of_other_tools_are_found_under_each_name_that_a_contract_may_have_for_them(name: str) -> None:
    tool, also, items = OF_THE_PROVIDER[name]
    [result] = tool_results({"input": items})
    assert result.tool == tool
    assert also in (result.tool, *result.also)


def test_a_result_of_nobody_or_of_two_tools_has_no_tool() -> None:
    calls = [{"type": "tool_use", "id": "c", "name": name} for name in ("read", "write")]
    result = {"type": "tool_result", "tool_use_id": "c", "content": "x"}
    assert [one.tool for one in tool_results([*calls, result])] == [None]
    assert [one.tool for one in tool_results([result])] == [None]


def test_a_condensed_conversation_is_seen_and_a_schema_with_several_types_is_none() -> None:
    assert is_compacted({"input": [{"type": "compaction", "encrypted_content": "x"}]})
    assert not is_compacted({"tools": [{"parameters": {"type": ["string", "null"]}}]})


LINE = "The merger with Northwind closes on the fourteenth."


def test_kept_text_is_known_again_in_other_spacing_case_and_company() -> None:
    marks = JobMarks()
    marks.keep([f"Title\n{LINE}\nEnd"], frozenset({"secret"}))
    for text in (LINE, LINE.upper(), f"> {LINE}", f"x\\n{LINE}\\ny", f"He wrote: {LINE} And more followed here."):
        assert marks.labels_in([text]) == {"secret"}, text
    assert marks.labels_in(["The merger closes."]) == frozenset()


def test_a_job_that_has_seen_too_much_carries_all_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_marks, "MAX_PIECES", 3)
    marks = JobMarks()
    marks.keep([f"{n} {LINE}" for n in range(9)], frozenset({"secret"}))
    assert marks.labels_in(["anything"]) == {"secret"}


def test_jobs_with_labels_are_never_forgotten_to_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_marks, "MAX_JOBS", 2)
    marks = Marks()
    marks.of("a").keep([LINE], frozenset({"secret"}))
    marks.of("b")
    marks.of("c").keep([LINE], frozenset({"secret"}))
    with pytest.raises(ClawproxyError):
        marks.of("d")
    marks.forget("a")
    assert marks.of("d").seen == frozenset()
