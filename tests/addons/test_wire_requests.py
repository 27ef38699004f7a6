"""What is read from a request: everything that the policy judges, or a refusal."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from clawproxy.addons.wire.format import FORMATS, WireRequest
from clawproxy.policies.facts import CallFacts
from clawproxy.tokens.canonical import parse_json_object
from clawproxy.tokens.errors import ClawproxyError
from hypothesis import given
from hypothesis import strategies as st

from .payloads import anthropic, anthropic_tool, chat, chat_tool, flat_tool, responses

MAKERS = {"openai_chat": chat, "openai_responses": responses, "anthropic_messages": anthropic}
EVERY = sorted(MAKERS)


def read(name: str, body: dict[str, Any]) -> CallFacts:
    return FORMATS[name].read_request(WireRequest(body, "p", "r"))


def refused(name: str, body: dict[str, Any]) -> str:
    with pytest.raises(ClawproxyError) as caught:
        read(name, body)
    two_readings = "reads like" in caught.value.message
    assert caught.value.reason == ("REQUEST_AMBIGUOUS" if two_readings else "INVALID_REQUEST")
    return str(caught.value)


ROUTING = [
    *("api_base", "api_key", "base_url", "custom_llm_provider", "extra_body", "fallbacks", "models", "provider"),
    *("route", "plugins"),
]


# -- models, streams, limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_a_plain_call_asks_for_its_model_and_nothing_else(name: str) -> None:
    facts = read(name, MAKERS[name]())
    assert facts.model == MAKERS[name]()["model"]
    assert (facts.provider, facts.route, facts.stream) == ("p", "r", False)
    assert (facts.tools, facts.tool_choice, facts.provider_state) == ((), None, ())


@pytest.mark.parametrize("name", EVERY)
def test_stream_is_read_only_from_a_real_bool(name: str) -> None:
    assert read(name, MAKERS[name](stream=True)).stream is True
    for value in ("true", 1, 0, None, "false", [True]):
        refused(name, MAKERS[name](stream=value))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("model", ["", None, 5, ["gpt-5"], "a\nb", "ｇpt-5", "x" * 257])
def test_a_model_that_is_no_settled_name_is_refused(name: str, model: object) -> None:
    refused(name, MAKERS[name](model=model))


@pytest.mark.parametrize("name", EVERY)
def test_a_call_without_a_model_has_none(name: str) -> None:
    body = MAKERS[name]()
    del body["model"]
    assert read(name, body).model is None


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("key", ROUTING)
def test_a_key_that_would_send_the_call_elsewhere_is_refused(name: str, key: str) -> None:
    values: tuple[Any, ...] = ("https://other.example", ["gpt-5"], {}, None)
    for value in values:
        assert repr(key) in refused(name, MAKERS[name](**{key: value}))


@pytest.mark.parametrize("name", EVERY)
def test_a_key_that_the_provider_does_not_document_is_refused_and_named(name: str) -> None:
    assert '"future_tools": the gateway cannot judge' in refused(name, MAKERS[name](future_tools=[]))
    for key in ("my secret is hunter2", "hunter2", "hunter2\u00e9", "x" * 41 + "hunter2", "hunter2 " * 100):
        assert "hunter2" not in refused(name, MAKERS[name](**{key: 1}))


def test_the_largest_output_limit_counts_and_must_be_a_number() -> None:
    assert read("openai_chat", chat(max_tokens=5, max_completion_tokens=9)).max_output_tokens == 9
    assert read("openai_responses", responses(max_output_tokens=9)).max_output_tokens == 9
    assert read("anthropic_messages", anthropic(max_tokens=9)).max_output_tokens == 9
    for value in (True, -1, 1.5, "9", 2**53):
        refused("anthropic_messages", anthropic(max_tokens=value))


# -- keys that look like ours --------------------------------------------------------------------------------------

LOOKALIKES = [
    "Model",
    "MODEL",
    "toolſ",
    "tool_Choice",
    "bac\u212aground",
    "toolChoice",
    "ｍodel",
    "model ",
    "m_o_d_e_l",
    "mcpServers",
]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("key", LOOKALIKES)
def test_a_key_that_folds_to_one_we_read_is_refused(name: str, key: str) -> None:
    said = refused(name, MAKERS[name](**{key: "x"}))
    assert "without being it" in said


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("openai_chat", {"type": "function", "Function": {"name": "b"}, "function": {"name": "a"}}),
        ("openai_chat", {"type": "function", "function": {"name": "a", "NAME": "b"}}),
        ("openai_responses", {"type": "function", "name": "a", "Name": "b"}),
        (
            "openai_responses",
            {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "a", "namE": "b"}]},
        ),
        ("anthropic_messages", {"name": "a", "nAme": "b"}),
    ],
)
def test_a_lookalike_key_in_a_tool_is_refused(name: str, tool: dict[str, Any]) -> None:
    refused(name, MAKERS[name](tools=[tool]))


def test_a_lookalike_key_in_content_is_refused() -> None:
    refused("anthropic_messages", anthropic(messages=[{"role": "user", "content": [{"Type": "tool_addition"}]}]))
    refused("openai_responses", responses(input=[{"role": "user", "Tools": []}]))


@pytest.mark.parametrize("key", ["_" * 5000, "\u00e9t\u00e9"])
def test_a_key_in_content_that_no_provider_has_is_refused(key: str) -> None:
    refused("openai_chat", chat(messages=[{"role": "user", "content": "hi", key: 1}]))


def test_keys_inside_tool_schemas_and_arguments_are_not_ours() -> None:
    content = [{"type": "tool_use", "id": "t", "name": "n", "input": {"Model": 1, "file_id": "x", "Tools": []}}]
    facts = read(
        "anthropic_messages",
        anthropic(
            tools=[{"name": "n", "input_schema": {"properties": {"Model": {}, "file_id": {}}}}],
            messages=[{"role": "assistant", "content": content}],
        ),
    )
    assert (facts.tools, facts.provider_state) == (("n",), ())


# -- tools ---------------------------------------------------------------------------------------------------------


def test_chat_tools_of_every_kind_are_named_in_order_without_repeats() -> None:
    body = chat(
        tools=[chat_tool("b"), {"type": "custom", "custom": {"name": "c"}}, chat_tool("b")],
        functions=[{"name": "old", "parameters": {}}],
        web_search_options={},
    )
    assert read("openai_chat", body).tools == ("web_search", "b", "c", "old")


def test_responses_tools_of_every_kind_are_named() -> None:
    body = responses(
        tools=[
            flat_tool("a"),
            {"type": "custom", "name": "b", "format": {"type": "text"}},
            {
                "type": "namespace",
                "name": "ns",
                "description": "",
                "tools": [flat_tool("c"), {"type": "custom", "name": "d"}],
            },
            {"type": "web_search"},
            {"type": "web_search_preview_2025_03_11"},
            {"type": "image_generation", "size": "auto"},
            {"type": "mcp", "server_label": "t", "server_url": "https://MCP.example:8443/sse"},
            {"type": "mcp", "server_label": "m", "connector_id": "connector_gmail"},
        ]
    )
    assert read("openai_responses", body).tools == (
        "a",
        "b",
        "ns.c",
        "ns.d",
        "web_search",
        "web_search_preview_2025_03_11",
        "image_generation",
        "mcp",
        "mcp:t",
        "mcp:mcp.example:8443",
        "mcp:m",
        "mcp:connector_gmail",
    )


def test_tools_that_stand_in_the_input_are_named() -> None:
    items = [
        {
            "type": "additional_tools",
            "role": "developer",
            "tools": [{"type": "namespace", "name": "f", "tools": [flat_tool("exec")]}],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "tool_search_output", "tools": [flat_tool("found")]},
        {"type": "configuration_update", "reasoning": {"effort": "low"}},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ]
    assert read("openai_responses", responses(input=items)).tools == ("f.exec", "found")


@pytest.mark.parametrize(
    "item",
    [
        {"type": "configuration_update", "tools": [flat_tool("a")]},
        {"type": "message", "role": "user", "tools": [flat_tool("a")]},
        {"type": "configuration_update", "model": "other"},
        {"type": "additional_tools", "tools": {"a": 1}},
        {"type": "additional_tools", "tools": ["a"]},
        {"type": None, "role": "user"},
        {"type": ["message"]},
    ],
)
def test_an_item_that_could_smuggle_tools_or_a_model_is_refused(item: dict[str, Any]) -> None:
    refused("openai_responses", responses(input=[item]))


def test_anthropic_tools_of_every_kind_are_named() -> None:
    body = anthropic(
        tools=[
            anthropic_tool("Read"),
            {"type": "custom", **anthropic_tool("Edit")},
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
            {"type": "web_fetch_20250910", "name": "Read"},
            {"type": "computer_toolset_20260801"},
            {"type": "mcp_toolset", "mcp_server_name": "t"},
        ],
        mcp_servers=[{"type": "url", "name": "t", "url": "https://mcp.example/x"}],
    )
    assert read("anthropic_messages", body).tools == (
        "mcp:t",
        "mcp:mcp.example",
        "Read",
        "Edit",
        "bash",
        "str_replace_based_edit_tool",
        "web_search",
        "web_fetch_20250910",  # a name that is not its own does not hide a tool of the provider
        "computer_toolset_20260801",
    )


def test_tools_that_are_added_in_the_middle_of_a_conversation_are_named() -> None:
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": anthropic_tool("late")}}
    compacted = {
        "type": "compaction",
        "content": "c",
        "tool_changes": [
            {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": anthropic_tool("kept")}}
        ],
    }
    reference = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "late"}}
    messages = [{"role": "user", "content": [added, reference]}, {"role": "assistant", "content": [compacted]}]
    assert read("anthropic_messages", anthropic(messages=messages)).tools == ("late", "kept")


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_addition"},
        {"type": "tool_addition", "tool": {"type": "new_kind"}},
        {"type": "tool_addition", "tool": {"type": "tool_reference", "definition": anthropic_tool("x")}},
        {"type": "text", "definition": anthropic_tool("x")},
        {"type": "text", "tools": [anthropic_tool("x")]},
    ],
)
def test_a_block_that_could_smuggle_tools_is_refused(block: dict[str, Any]) -> None:
    refused("anthropic_messages", anthropic(messages=[{"role": "user", "content": [block]}]))


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("openai_chat", {"function": {"name": "a"}}),
        ("openai_chat", {"type": "web_search"}),
        ("openai_chat", {"type": "function", "name": "a"}),
        ("openai_chat", {"type": "function", "name": "b", "function": {"name": "a"}}),
        ("openai_chat", {"type": "function", "function": {"name": "a"}, "custom": {"name": "b"}}),
        ("openai_chat", {"type": "function", "function": {}}),
        ("openai_chat", {"type": "function", "function": {"name": "a\u200bb"}}),
        ("openai_responses", {"type": "function", "function": {"name": "a"}}),
        ("openai_responses", {"type": "function"}),
        ("openai_responses", {"name": "a"}),
        ("openai_responses", {"type": "quantum_search"}),
        ("openai_responses", {"type": "namespace", "name": "n"}),
        ("openai_responses", {"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}),
        ("openai_responses", {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": ""}]}),
        ("openai_responses", {"type": "mcp", "server_label": "t"}),
        ("openai_responses", {"type": "mcp", "server_label": "t", "server_url": "https://a", "tunnel_id": "x"}),
        ("openai_responses", {"type": "mcp", "server_label": "t", "server_url": "https://user@a/"}),
        ("openai_responses", {"type": "mcp", "server_label": "t", "server_url": "https://a:port/"}),
        ("openai_responses", {"type": "image_generation", "model": "painter"}),
        ("openai_responses", {"type": "image_generation", "svg": {"model": "painter"}}),
        ("anthropic_messages", {"type": "bash", "name": "bash"}),
        ("anthropic_messages", {"type": None, "name": "bash"}),
        ("anthropic_messages", {"input_schema": {}}),
        ("anthropic_messages", {"type": "mcp_toolset"}),
        ("anthropic_messages", {"type": "advisor_20260301", "name": "advisor", "model": "other"}),
        ("anthropic_messages", {"name": "a", "function": {"name": "b"}}),
        ("anthropic_messages", {"name": "a", "tools": [{"name": "b"}]}),
    ],
)
def test_a_tool_of_unknown_shape_is_refused_and_never_skipped(name: str, tool: dict[str, Any]) -> None:
    refused(name, MAKERS[name](tools=[tool]))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("tools", [None, {}, "x", [1], [["a"]], [None]])
def test_tools_that_are_not_a_list_of_objects_are_refused(name: str, tools: object) -> None:
    refused(name, MAKERS[name](tools=tools))


@pytest.mark.parametrize(
    ("name", "body", "forced", "named"),
    [
        ("openai_chat", {"tool_choice": "auto"}, None, ()),
        ("openai_chat", {"tool_choice": {"type": "function", "function": {"name": "a"}}}, "a", ()),
        ("openai_chat", {"tool_choice": {"type": "custom", "custom": {"name": "a"}}}, "a", ()),
        ("openai_chat", {"function_call": {"name": "a"}}, "a", ()),
        ("openai_chat", {"function_call": "none"}, None, ()),
        (
            "openai_chat",
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [chat_tool("a")]}}},
            None,
            ("a",),
        ),
        ("openai_responses", {"tool_choice": "required"}, None, ()),
        ("openai_responses", {"tool_choice": {"type": "function", "name": "a"}}, "a", ()),
        ("openai_responses", {"tool_choice": {"type": "mcp", "server_label": "t"}}, "mcp:t", ()),
        ("openai_responses", {"tool_choice": {"type": "web_search_preview"}}, "web_search_preview", ()),
        (
            "openai_responses",
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "a"}]}},
            None,
            ("a",),
        ),
        ("anthropic_messages", {"tool_choice": {"type": "any"}}, None, ()),
        ("anthropic_messages", {"tool_choice": {"type": "tool", "name": "a"}}, "a", ()),
    ],
)
def test_a_forced_tool_is_named(name: str, body: dict[str, Any], forced: str | None, named: tuple[str, ...]) -> None:
    facts = read(name, MAKERS[name](**body))
    assert (facts.tool_choice, facts.tools) == (forced, named)


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("openai_chat", "Auto"),
        ("openai_chat", ["auto"]),
        ("openai_chat", {"type": "quantum"}),
        ("openai_chat", {"type": "allowed_tools", "allowed_tools": {"tools": "a"}}),
        ("openai_responses", {"type": "quantum"}),
        ("openai_responses", {"type": "allowed_tools", "tools": [1]}),
        ("anthropic_messages", "auto"),
        ("anthropic_messages", {"type": "function"}),
        ("anthropic_messages", {"type": "tool"}),
    ],
)
def test_a_tool_choice_of_unknown_shape_is_refused(name: str, choice: object) -> None:
    refused(name, MAKERS[name](tool_choice=choice))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("web_search_preview_2025_03_11", ("web_search_preview_2025_03_11", "web_search")),
        ("web_search_2025_08_26", ("web_search_2025_08_26", "web_search")),
        ("computer_use_preview", ("computer_use_preview", "computer_use")),
        ("shell", ("shell",)),
    ],
)
def test_a_version_does_not_hide_a_tool_of_the_provider(kind: str, names: tuple[str, ...]) -> None:
    assert read("openai_responses", responses(tools=[{"type": kind}])).tools == names


# -- content that the provider holds -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body", "state"),
    [
        ("openai_responses", {"previous_response_id": "resp_1"}, ("previous_response_id",)),
        ("openai_responses", {"previous_response_id": None}, ()),
        ("openai_responses", {"conversation": {"id": "c"}, "prompt": {"id": "p"}}, ("conversation", "prompt")),
        ("openai_responses", {"input": [{"type": "item_reference", "id": "m"}]}, ("item_reference",)),
        ("openai_responses", {"input": [{"id": "m"}]}, ("item_reference",)),
        (
            "openai_responses",
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            ("file_id",),
        ),
        (
            "openai_responses",
            {"input": [{"type": "function_call_output", "output": [{"type": "input_image", "file_id": "f"}]}]},
            ("file_id",),
        ),
        ("openai_responses", {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, ("container",)),
        (
            "openai_responses",
            {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"]}}]},
            ("file_id",),
        ),
        ("openai_responses", {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, ()),
        (
            "openai_chat",
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
            ("file_id",),
        ),
        ("openai_chat", {"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, ("audio",)),
        ("anthropic_messages", {"thread": {"type": "create"}}, ("thread",)),
        ("openai_responses", {"tools": [{"type": "computer_use_preview", "environment": "linux"}]}, ()),
        ("anthropic_messages", {"container": "c"}, ("container",)),
        (
            "anthropic_messages",
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}
                ]
            },
            ("file_id",),
        ),
        (
            "anthropic_messages",
            {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]},
            ("file_id",),
        ),
        (
            "anthropic_messages",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}],
                            }
                        ],
                    }
                ]
            },
            ("file_id",),
        ),
        (
            "anthropic_messages",
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "eA"}}]}
                ]
            },
            (),
        ),
    ],
)
def test_references_to_content_of_the_provider_are_named(
    name: str, body: dict[str, Any], state: tuple[str, ...]
) -> None:
    assert read(name, MAKERS[name](**body)).provider_state == state


# -- tools where they are not looked for ---------------------------------------------------------------------------


def item(**members: Any) -> dict[str, Any]:
    return responses(input=[{"type": "message", "role": "user", "content": "hi"}, members])


def said(**part: Any) -> dict[str, Any]:
    return anthropic(messages=[{"role": "user", "content": [part]}])


ADDITION = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": anthropic_tool("Bash")}}
SEARCH = [{"type": "web_search"}]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("openai_responses", item(type="future_item", payload={"tools": SEARCH})),
        ("openai_responses", item(type="message", role="user", content="hi", payload={"tools": SEARCH})),
        ("openai_responses", item(type="message", role="user", content=[{"type": "input_text", "x": [{"tool": {}}]}])),
        ("openai_responses", item(type="reasoning", summary=[{"Tools": SEARCH}])),
        ("openai_responses", item(role="user", content=[{"type": "future_part"}])),
        ("openai_responses", item(role="user", content=[{"text": "hi"}])),
        ("openai_responses", item(role="user", content=["hi"])),
        ("openai_responses", item(type="function_call_output", call_id="c", output=[{"type": "future_part"}])),
        ("openai_responses", item(type="shell_call", environment={"network_policy": {"type": "allowlist"}})),
        ("openai_responses", item(type="web_search_call", action={"mcp_servers": []})),
        ("openai_responses", responses(instructions=[{"type": "additional_tools", "tools": SEARCH}])),
        ("openai_responses", responses(instructions={"text": "x"})),
        ("openai_responses", responses(tools=[{**flat_tool("a"), "tools": SEARCH}])),
        ("openai_responses", responses(tools=[{"type": "shell", "tools": SEARCH}])),
        ("anthropic_messages", anthropic(system=[ADDITION])),
        ("anthropic_messages", anthropic(system=[{"type": "text", "text": "x", "tools": [anthropic_tool("Bash")]}])),
        ("anthropic_messages", anthropic(system=["x"])),
        ("anthropic_messages", anthropic(system={"type": "text", "text": "x"})),
        ("anthropic_messages", anthropic(system=None)),
        ("anthropic_messages", said(type="future_block")),
        ("anthropic_messages", said(type="tool_result", tool_use_id="t", content=[{"type": "future_block"}])),
        ("anthropic_messages", said(type="document", source={"type": "content", "content": [{"type": "future"}]})),
        ("anthropic_messages", said(type="document", source={"type": "future"})),
        ("anthropic_messages", said(type="web_search_tool_result", content=[{"type": "new", "x": {"tools": []}}])),
        ("anthropic_messages", said(type="text", text="x", later={"tool_changes": [ADDITION]})),
        ("anthropic_messages", said(type="compaction", content="c", tool_changes=[{"type": "future"}])),
        ("anthropic_messages", said(type="tool_removal", tool=ADDITION["tool"])),
        ("anthropic_messages", said(type="tool_addition", tool={"type": ["tool_reference"]})),
        ("anthropic_messages", said(type="compaction", tool_changes=[{"type": ["tool_addition"]}])),
        ("anthropic_messages", said(type="image", source={"type": ["url"]})),
        ("openai_chat", chat(messages=[{"role": "user", "content": "hi", "tools": [chat_tool("a")]}])),
        ("openai_chat", chat(messages=[{"role": "user", "content": [{"type": "video_url"}]}])),
        ("openai_chat", chat(messages=[{"role": "user", "content": "hi", "x": {"functions": []}}])),
        ("openai_chat", chat(prediction={"type": "content", "content": [{"type": "future"}]})),
        ("openai_chat", chat(tools=[{**chat_tool("a"), "tools": SEARCH}])),
        ("openai_chat", chat(response_format={"type": "text", "Tools": SEARCH})),
        ("openai_responses", responses(text={"tools": SEARCH})),
        ("openai_responses", responses(reasoning={"effort": "low", "model": "other"})),
        ("anthropic_messages", anthropic(compaction={"type": "summarize", "tools": [anthropic_tool("Bash")]})),
        ("anthropic_messages", anthropic(context_management={"edits": [{"type": "x", "mcp_servers": []}]})),
    ],
)
def test_tools_and_types_that_are_not_known_there_are_refused(name: str, body: dict[str, Any]) -> None:
    refused(name, body)


def test_an_unknown_type_is_named_only_if_it_is_a_word() -> None:
    assert 'an item whose type, "future_item",' in refused("openai_responses", item(type="future_item"))
    assert 'a part whose type, "future_block",' in refused("anthropic_messages", said(type="future_block"))
    for kind in ("my secret is hunter2", "hunter2", ["hunter2"], {"hunter2": 1}, "hunter2\n"):
        assert "hunter2" not in refused("openai_responses", item(type=kind))
        assert "hunter2" not in refused("anthropic_messages", said(type=kind))
        assert "hunter2" not in refused("anthropic_messages", said(type="image", source={"type": kind}))


def test_options_that_only_speak_of_tools_are_none() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"properties": {"tools": {}, "model": {}}}}}
    body = chat(response_format=schema, metadata={"tools": "x"}, moderation={"model": "omni-moderation-latest"})
    assert read("openai_chat", body).tools == ()
    edits = [{"type": "clear_tool_uses_20250919", "exclude_tools": ["a"], "clear_tool_inputs": True}]
    assert read("anthropic_messages", anthropic(context_management={"edits": edits})).tools == ()


def test_a_listing_of_a_server_s_tools_is_judged_by_the_server() -> None:
    listed = item(type="mcp_list_tools", server_label="t", tools=[{"name": "a", "input_schema": {}}])
    assert read("openai_responses", listed).tools == ("mcp:t",)
    listed = said(type="mcp_tool_listing", mcp_server_name="t", tools=[anthropic_tool("a")])
    assert read("anthropic_messages", listed).tools == ("mcp:t",)


def test_what_tools_of_the_provider_gave_is_only_history() -> None:
    found = {"type": "web_search_result", "url": "https://a.example/", "title": "t", "encrypted_content": "e"}
    output = {"type": "code_execution_result", "stdout": "", "content": [{"type": "code_execution_output"}]}
    content = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"tools": 1}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [found]},
        {"type": "code_execution_tool_result", "tool_use_id": "s", "content": output},
        {"type": "text", "text": "x", "citations": [{"type": "char_location", "file_id": "f", "url": "https://a/"}]},
    ]
    facts = read("anthropic_messages", anthropic(messages=[{"role": "assistant", "content": content}]))
    items = [
        {"type": "web_search_call", "id": "w", "action": {"type": "open_page", "url": "https://a.example/"}},
        {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "", "outcome": {"type": "exit"}}]},
        {"type": "tool_search_call", "call_id": "c", "arguments": {"tools": ["a"]}},
        {
            "type": "file_search_call",
            "id": "f",
            "queries": [],
            "results": [{"file_id": "f", "attributes": {"Tool": 1}}],
        },
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "x"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "x", "annotations": [{"type": "url_citation", "url": "https://a/"}]}
            ],
        },
    ]
    for one in (facts, read("openai_responses", responses(input=items))):
        assert (one.tools, one.provider_state, one.remote_urls) == ((), (), ())


# -- egress through the provider -----------------------------------------------------------------------------------

PNG = "data:image/png;base64,eA"


@pytest.mark.parametrize("url", ["https://collector.example/?q=1", "HTTP://a", "//a", "", " data:,x", "file:///x", PNG])
@pytest.mark.parametrize(
    ("name", "member", "place"),
    [
        ("openai_chat", "image_url.url", lambda url: {"type": "image_url", "image_url": {"url": url}}),
        ("openai_chat", "image_url", lambda url: {"type": "image_url", "image_url": url}),
        ("openai_responses", "image_url", lambda url: {"type": "input_image", "image_url": url}),
        ("openai_responses", "file_url", lambda url: {"type": "input_file", "file_url": url}),
        ("anthropic_messages", "source.url", lambda url: {"type": "image", "source": {"type": "url", "url": url}}),
        ("anthropic_messages", "source.url", lambda url: {"type": "document", "source": {"type": "url", "url": url}}),
        ("anthropic_messages", "source.url", lambda url: {"type": "document", "source": {"type": "text", "url": url}}),
        (
            "anthropic_messages",
            "source.url",
            lambda url: {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": url}}]},
        ),
    ],
)
def test_a_url_that_the_provider_would_fetch_is_noted(name: str, member: str, place: Any, url: str) -> None:
    turns = [{"role": "user", "content": [place(url)]}]
    body = responses(input=turns) if name == "openai_responses" else MAKERS[name](messages=turns)
    assert read(name, body).remote_urls == (() if url == PNG else (member,))


def test_urls_in_outputs_tools_and_files_are_noted() -> None:
    url = "https://collector.example/"
    output = item(type="function_call_output", call_id="c", output=[{"type": "input_image", "image_url": url}])
    screen = item(type="computer_call_output", call_id="c", output={"type": "computer_screenshot", "image_url": url})
    mask = responses(tools=[{"type": "image_generation", "input_image_mask": {"image_url": url}}])
    for body in (output, screen, mask):
        assert read("openai_responses", body).remote_urls == ("image_url",)
    for data, noted in ((url, ("file_data",)), ("data:application/pdf;base64,eA", ()), ("eA", ())):
        turns = [{"role": "user", "content": [{"type": "file", "file": {"file_data": data, "filename": "a"}}]}]
        assert read("openai_chat", chat(messages=turns)).remote_urls == noted


@pytest.mark.parametrize("value", [5, True, ["https://a"], {"url": None}, {}])
def test_a_url_that_is_none_is_refused(value: Any) -> None:
    refused("openai_chat", chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": value}]}]))


@pytest.mark.parametrize(("kind", "key"), [("code_interpreter", "container"), ("shell", "environment")])
def test_a_tool_of_the_provider_gets_no_network(kind: str, key: str) -> None:
    def asking(**place: Any) -> dict[str, Any]:
        return responses(tools=[{"type": kind, key: {"type": "auto", **place}}])

    assert read("openai_responses", asking(network_policy={"type": "disabled"})).tools == (kind,)
    granted = {"type": "allowlist", "allowed_domains": ["collector.example"]}
    for policy in (granted, {"type": "disabled", "allowed_domains": ["a"]}, "all", True, {}):
        assert "network_policy" in refused("openai_responses", asking(network_policy=policy))
    for more in ({"networkPolicy": granted}, {"egress": "all"}):
        refused("openai_responses", asking(**more))


def test_a_background_response_is_refused() -> None:
    assert read("openai_responses", responses(background=False)).model
    for value in (True, 1, "yes"):
        assert "outside of the gateway" in refused("openai_responses", responses(background=value))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("openai_chat", {"model": "m"}),
        ("openai_chat", {"model": "m", "messages": "hi"}),
        ("openai_responses", {"model": "m", "input": {"role": "user"}}),
        ("openai_responses", {"model": "m", "messages": []}),
        ("anthropic_messages", {"model": "m", "messages": [1]}),
        ("anthropic_messages", {"model": "m", "input": "hi", "messages": []}),
        ("anthropic_messages", {"model": "m", "messages": [], "mcp_servers": [{"name": "a"}]}),
    ],
)
def test_a_body_of_another_api_is_refused(name: str, body: dict[str, Any]) -> None:
    refused(name, body)


def test_a_refusal_shows_no_text_of_the_request() -> None:
    for body in (chat(messages="SECRET"), chat(tools=["SECRET"]), chat(tool_choice="SECRET"), chat(model=["SECRET"])):
        assert "SECRET" not in refused("openai_chat", body)


# -- properties ----------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    [
        *("model", "models", "fallbacks", "stream", "tools", "functions", "tool_choice", "function_call", "messages"),
        *("input", "type", "name", "function", "custom", "content", "role", "source", "file", "file_id", "tool", "id"),
        *("definition", "tool_changes", "mcp_servers", "url", "container", "prompt", "prediction", "system"),
        *("instructions", "output", "image_url", "environment", "server_label", "network_policy"),
    ]
)
VALUES = st.sampled_from(
    [
        *("function", "custom", "namespace", "mcp", "tool_addition", "tool_definition", "auto", "x", "", None, True, 0),
        *(1.5, "message", "text", "input_image", "mcp_list_tools", "shell", "compaction", "image_url", "document"),
    ]
)
TREES = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
DOCUMENTS = st.dictionaries(KEYS, TREES, max_size=6)


@given(name=st.sampled_from(EVERY), body=DOCUMENTS, real=st.booleans())
def test_only_our_errors_escape_from_a_request(name: str, body: dict[str, Any], real: bool) -> None:
    try:
        facts = read(name, {**MAKERS[name](), **body} if real else body)
    except ClawproxyError as err:
        reason = err.reason
    else:
        reason = (
            "INVALID_REQUEST"
            if all(isinstance(tool, str) and tool for tool in facts.tools)
            else "a tool without a name"
        )
    assert reason in ("INVALID_REQUEST", "REQUEST_AMBIGUOUS")


@given(name=st.sampled_from(EVERY), text=st.binary(max_size=60))
def test_random_bytes_are_refused_or_read(name: str, text: bytes) -> None:
    with contextlib.suppress(ClawproxyError):
        read(name, parse_json_object(b'{"model":"m",' + text + b"}"))


@pytest.mark.parametrize(
    "address",
    [
        r"https://evil.example\.good.example/x",  # browsers' readers take \ for /
        "https:/evil.example/.good.example",
        "https:evil.example/.good.example",
        r"https:\\evil.example\.good.example",
        "//evil.example/.good.example",
        "https://evil.example\t.good.example/",
        " https://evil.example/",
        "https://good.example./x",
        "https://good.example%2eevil.example/",
        "https://evil.example\u3002good.example/",
        "https://evil.example&.good.example/",
        "https://good.example:/x",
        "https://good.example:0443/x",
        "https://ok@evil.example/",
        "wss://good.example/",
        "evil.example",
    ],
)
@pytest.mark.parametrize("name", ["openai_responses", "anthropic_messages"])
def test_an_mcp_address_that_two_readers_take_for_two_hosts_is_refused(name: str, address: str) -> None:
    if name == "openai_responses":
        body = responses(tools=[{"type": "mcp", "server_label": "t", "server_url": address}])
    else:
        body = anthropic(mcp_servers=[{"type": "url", "name": "t", "url": address}])
    assert "MCP server" in refused(name, body)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("HTTPS://Good.example", "mcp:good.example"),
        ("https://good.example:443/a?b=c#d", "mcp:good.example"),
        ("https://good.example?q=@evil.example", "mcp:good.example"),
        ("http://good.example/x", "mcp:good.example:80"),
        ("http://good.example:443/x", "mcp:good.example"),
        ("https://[2001:DB8::1]:8443/", "mcp:[2001:db8::1]:8443"),
    ],
)
def test_an_mcp_server_is_its_host_and_the_port_that_is_called(address: str, shown: str) -> None:
    body = anthropic(mcp_servers=[{"type": "url", "name": "t", "url": address}])
    assert read("anthropic_messages", body).tools == ("mcp:t", shown)


def test_a_file_that_is_a_url_behind_spaces_is_one() -> None:
    held = {"filename": "a.pdf", "file_data": " " * 40 + "https://evil.example/a.pdf"}
    body = chat(messages=[{"role": "user", "content": [{"type": "file", "file": held}]}])
    assert read("openai_chat", body).remote_urls == ("file_data",)
    held["file_data"] = "QUJD" * 40
    assert read("openai_chat", body).remote_urls == ()


@pytest.mark.parametrize(
    "model", ["gpt-4o-search-preview", "gpt-4o-mini-search-preview-2025-03-11", "GPT-5-search-api"]
)
def test_a_model_that_always_searches_the_web_is_that_tool(model: str) -> None:
    assert read("openai_chat", chat(model=model)).tools == ("web_search",)
    assert read("openai_chat", chat(model="my-search-previews")).tools == ()


def test_what_the_provider_holds_is_told_however_it_is_named() -> None:
    stores = {"type": "file_search", "vector_store_ids": ["vs_1"]}
    assert read("openai_responses", responses(tools=[stores])).provider_state == ("vector_store_ids",)
    image: dict[str, Any] = {"type": "image_generation_call", "id": "ig_1"}
    for missing in ({}, {"result": None}, {"result": ""}):
        facts = read("openai_responses", responses(input=[{**image, **missing}]))
        assert facts.provider_state == ("item_reference",)
    assert read("openai_responses", responses(input=[{**image, "result": "QUJD"}])).provider_state == ()


@pytest.mark.parametrize(
    "item",
    [
        {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": "x", "status": "completed"},
        {
            "type": "shell_call",
            "call_id": "c",
            "action": {"commands": ["ls"]},
            "environment": {"type": "container_reference", "container_id": "cntr_1"},
        },
    ],
)
def test_a_call_in_the_input_that_names_a_container_is_content_of_the_provider(item: dict[str, Any]) -> None:
    tool = {"type": "code_interpreter", "container": {"type": "auto"}}
    assert read("openai_responses", responses(tools=[tool])).provider_state == ()
    assert read("openai_responses", responses(tools=[tool], input=[item])).provider_state == ("container",)


def test_a_file_url_that_is_no_string_is_refused() -> None:
    part = {"type": "input_file", "file_url": {"url": "https://evil.example/a.pdf"}}
    refused("openai_responses", responses(input=[{"role": "user", "content": [part]}]))


def test_what_is_put_into_a_stored_prompt_is_read_like_a_message() -> None:
    def prompt(**variables: Any) -> CallFacts:
        return read("openai_responses", responses(prompt={"id": "pmpt_1", "variables": variables}))

    assert (prompt(a="text").provider_state, prompt(a="text").remote_urls) == (("prompt",), ())
    assert prompt(a={"type": "input_file", "file_url": "https://evil.example/a"}).remote_urls == ("file_url",)
    assert prompt(a={"type": "input_image", "image_url": "https://evil.example/a"}).remote_urls == ("image_url",)
    assert prompt(a={"type": "input_image", "file_id": "f"}).provider_state == ("prompt", "file_id")
    assert read("openai_responses", responses(prompt={"id": "p", "variables": None})).remote_urls == ()
    wrong: Any
    for wrong in (5, None, ["x"], {"type": "video_url", "video_url": "https://evil.example/a"}, {"tools": []}):
        refused("openai_responses", responses(prompt={"id": "p", "variables": {"a": wrong}}))
    refused("openai_responses", responses(prompt={"id": "p", "variables": ["x"]}))


@pytest.mark.parametrize("image", [None, {"url": "data:image/png;base64,QUJD"}])
def test_media_under_a_name_that_the_server_keeps_it_by_is_content_of_the_provider(image: Any) -> None:
    part = {"type": "image_url", "image_url": image, "uuid": "image-1"}
    facts = read("openai_chat", chat(messages=[{"role": "user", "content": [part]}]))
    assert (facts.provider_state, facts.remote_urls) == (("uuid",), ())


def test_a_url_in_a_file_that_an_annotation_repeats_is_one() -> None:
    def told(part: dict[str, Any]) -> CallFacts:
        note = {"type": "file", "file": {"hash": "x", "name": "a.pdf", "content": [part]}}
        return read("openai_chat", chat(messages=[{"role": "assistant", "content": "x", "annotations": [note]}]))

    assert told({"type": "image_url", "image_url": {"url": "https://evil.example/a"}}).remote_urls == ("image_url.url",)
    assert told({"type": "file", "file": {"file_data": "https://evil.example/a"}}).remote_urls == ("file_data",)
    assert told({"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}).remote_urls == ()
    citation = {"type": "url_citation", "url_citation": {"url": "https://example.com", "title": "x"}}
    cited = read("openai_chat", chat(messages=[{"role": "assistant", "content": "x", "annotations": [citation]}]))
    assert cited.remote_urls == ()
