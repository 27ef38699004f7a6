"""The Gemini format: what is read from a request in either spelling, what is refused, what an answer tells."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from clawproxy.addons.stream_tap import StreamTap
from clawproxy.addons.wire.events import Framing, JsonArrayFraming, SseFraming
from clawproxy.addons.wire.format import FORMATS, RefusalText, WireRequest
from clawproxy.addons.wire.gemini import Gemini
from clawproxy.addons.wire.proto_json import Messages, camel
from clawproxy.policies.facts import CallFacts, CallKind
from clawproxy.tokens.errors import ClawproxyError
from hypothesis import given
from hypothesis import strategies as st

from .taps import play

MODEL = "gemini-9-pro"
FLOW: Any = SimpleNamespace()
REFUSED = ("INVALID_REQUEST", "REQUEST_AMBIGUOUS")


def body(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": list(parts) or [{"text": "hi"}]}], **more}


def read(asked: dict[str, Any], *, kind: CallKind = CallKind.GENERATE, stream: bool = False) -> CallFacts:
    return Gemini().read_request(WireRequest(asked, "google", "r", kind, MODEL, stream))


def refused(asked: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ClawproxyError) as caught:
        read(asked, **more)
    assert caught.value.reason in REFUSED
    return str(caught.value)


def snake(value: Any) -> Any:
    """The same request in the other spelling of its keys, schemas and arguments apart."""
    if isinstance(value, list):
        return [snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for key, inner in value.items():
        spelled = "".join(f"_{char.lower()}" if char.isupper() else char for char in key)
        out[spelled] = inner if key in ("args", "response", "parametersJsonSchema") else snake(inner)
    return out


AGENT = body(
    {"text": "look"},
    {"inlineData": {"mimeType": "image/png", "data": "eA=="}},
    {"functionCall": {"id": "1", "name": "run", "args": {"tools": [{"model": "x"}], "fileUri": "y"}}},
    {
        "functionResponse": {"id": "1", "name": "run", "response": {"functionDeclarations": []}},
        "thoughtSignature": "eA",
    },
    {"thought": True, "text": "hm"},
    {"executableCode": {"language": "PYTHON", "code": "1"}},
    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
    systemInstruction={"role": "user", "parts": [{"text": "be brief"}]},
    tools=[
        {
            "functionDeclarations": [
                {"name": "read", "parametersJsonSchema": {"properties": {"model": {}}}},
                {"name": "run"},
            ]
        },
        {"googleSearch": {}},
    ],
    toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["run"]}},
    safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    generationConfig={
        "maxOutputTokens": 9,
        "topP": 0.5,
        "responseSchema": {"type": "OBJECT", "properties": {"tools": {}}},
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 5},
        "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "v"}}},
    },
    labels={"team": "a"},
)


# -- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [AGENT, snake(AGENT)], ids=["camel", "snake"])
@pytest.mark.parametrize("stream", [False, True])
def test_both_spellings_of_a_request_have_the_same_facts(asked: dict[str, Any], stream: bool) -> None:
    facts = read(asked, stream=stream)
    assert (facts.model, facts.stream, facts.kind) == (MODEL, stream, CallKind.GENERATE)
    assert facts.tools == ("read", "run", "google_search")
    assert (facts.tool_choice, facts.max_output_tokens) == ("run", 9)
    assert (facts.provider_state, facts.remote_urls, facts.any_tools) == ((), (), ())


def test_the_spelling_helper_of_these_tests_changes_the_keys() -> None:
    assert "system_instruction" in snake(AGENT)
    assert "function_declarations" in snake(AGENT)["tools"][0]
    assert camel("system_instruction") == "systemInstruction"


@pytest.mark.parametrize(
    "tool",
    [
        *("googleSearch", "googleSearchRetrieval", "codeExecution", "urlContext", "computerUse", "googleMaps"),
        *("fileSearch", "enterpriseWebSearch"),
    ],
)
def test_a_tool_of_the_provider_is_named_by_its_key(tool: str) -> None:
    no_objects: tuple[Any, ...] = ("x", [[]], 1, True)
    name = next(iter(snake({tool: {}})))
    for key in (tool, name):
        assert read(body(tools=[{key: {}}])).tools == (name,)
        assert read(body(tools={key: {}})).tools == (name,)
        for value in no_objects:
            refused(body(tools=[{key: value}]))


def test_servers_that_the_provider_calls_are_named_by_label_and_host() -> None:
    server = {"name": "crm", "streamableHttpTransport": {"url": "https://mcp.example/x", "headers": {"a": "b"}}}
    assert read(body(tools=[{"mcpServers": [server]}])).tools == ("mcp:crm", "mcp:mcp.example")
    refused(body(tools=[{"mcpServers": [{"name": "crm"}]}]))


@pytest.mark.parametrize(
    ("asked", "state", "urls"),
    [
        (body(cachedContent="cachedContents/1"), ("cached_content",), ()),
        (body(cached_content="cachedContents/1"), ("cached_content",), ()),
        (body(continuationToken="eA=="), ("continuation_token",), ()),
        (body(tools=[{"fileSearch": {"fileSearchStoreNames": ["s"]}}]), ("file_search_store_names",), ()),
    ],
)
def test_content_that_the_provider_holds_is_noted(asked: Any, state: Any, urls: Any) -> None:
    facts = read(asked)
    assert (facts.provider_state, facts.remote_urls) == (state, urls)


HELD, FETCHED, BOTH, NEITHER = (("file_uri",), ()), ((), ("file_uri",)), (("file_uri",), ("file_uri",)), ((), ())


@pytest.mark.parametrize(
    ("uri", "noted"),
    [
        ("https://generativelanguage.googleapis.com/v1beta/files/abc-1", HELD),
        ("files/abc", HELD),
        ("https://video.example/watch", FETCHED),
        ("HTTP://a.example", FETCHED),
        ("https://generativelanguage.googleapis.com/v1beta/files/../x", BOTH),
        ("https://GENERATIVELANGUAGE.googleapis.com/v1beta/files/abc", BOTH),
        ("https://a:b@generativelanguage.googleapis.com/v1beta/files/abc", BOTH),
        ("gs://bucket/x", BOTH),
        ("", BOTH),
        (" data:,x", BOTH),
        ("data:text/plain,x", NEITHER),
    ],
)
def test_where_a_file_comes_from_is_noted(uri: str, noted: Any) -> None:
    file = {"fileData": {"mimeType": "a/b", "fileUri": uri}}
    within = {"functionResponse": {"name": "f", "response": {}, "parts": [file]}}
    for asked in (body(file), snake(body(file)), body(within), body(systemInstruction={"parts": [file]})):
        facts = read(asked)
        assert (facts.provider_state, facts.remote_urls) == noted


@pytest.mark.parametrize("value", [5, None, ["files/a"], {"uri": "files/a"}])
def test_a_file_without_an_address_is_refused(value: Any) -> None:
    refused(body({"fileData": {"fileUri": value}}))
    refused(body({"fileData": {}}))


@pytest.mark.parametrize("model", [MODEL, f"models/{MODEL}"])
def test_a_body_may_repeat_the_model_of_its_path_and_no_other(model: str) -> None:
    assert read(body(model=model)).model == MODEL
    for other in ("models/other", "other", "", f"tunedModels/{MODEL}", f"models/{MODEL} ", ["x"], 1):
        refused(body(model=other))
        refused({"generateContentRequest": body(model=other)}, kind=CallKind.COUNT)


@pytest.mark.parametrize(
    "key",
    [
        *("stream", "Contents", "functions", "future", "tool_Config", "GenerationConfig", "models", "safetysettings"),
        *("generation-config", "ｃontents", "x" * 500, "my secret is hunter2", "fallbacks", "api_key", "messages"),
        *("system__instruction", "_contents", "contents ", "toolConfiguration", "modelSelectionConfig"),
    ],
)
def test_a_key_that_is_no_spelling_of_a_documented_one_is_refused(key: str) -> None:
    assert "hunter2" not in refused(body(**{key: {}}))


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (body(tools=[], tool_config={}, toolConfig={}), "two spellings"),
        (body({"fileData": {"fileUri": "files/a"}, "file_data": None}), "two spellings"),
        (body(tools=[{"functionDeclarations": [], "function_declarations": [{"name": "a"}]}]), "two spellings"),
        (body(tools=[{"functiondeclarations": []}]), "without being it"),
        (body(tools=[{"functionDeclarations": [{"name": "a", "Name": "b"}]}]), "without being it"),
        (body(tools=[{"parallelAiSearch": {"apiKey": "k"}}]), "cannot judge"),
        (body(tools=[{"googleMaps": {"authConfig": {"apiKey": "k"}}}]), "cannot judge"),
        (body(tools=[{"retrieval": {"externalApi": {"endpoint": "https://a.example"}}}]), "cannot judge"),
        (body(tools=["google_search"]), "not an object"),
        (body(tools=[[{"googleSearch": {}}]]), "not an object"),
        (body({"fileUri": "https://a.example"}), "cannot judge"),
        (body({"text": {"fileData": {}}}), "not a plain value"),
        (body({"inlineData": {"data": ["x", {"fileUri": "y"}]}}), "not a plain value"),
        (body("hi"), "not an object"),
        (body(generationConfig={"routingConfig": {"autoMode": {}}}), "cannot judge"),
        (body(generationConfig={"maxOutputTokens": "9"}), "not a number"),
        (body(generationConfig={"max_output_tokens": -1}), "not a number"),
        (body(toolConfig={"functionCallingConfig": {"mode": "any"}}), "mode"),
        (body(toolConfig={"functionCallingConfig": {"mode": 3}}), "mode"),
        (body(toolConfig={"functionCallingConfig": {"allowedFunctionNames": "a"}}), "not a list"),
        (body(toolConfig={"functionCallingConfig": {"allowedFunctionNames": [1]}}), "not a tool name"),
        ({}, "missing"),
        ({"contents": None}, "missing"),
        ({"contents": "hi"}, "not an object"),
        ({"generateContentRequest": body()}, "cannot judge"),
    ],
)
def test_what_leaves_room_for_a_second_reading_is_refused(asked: dict[str, Any], why: str) -> None:
    assert why in refused(asked)


@pytest.mark.parametrize("name", ["", None, 5, "a\nb", "x" * 257])
def test_a_function_without_a_settled_name_is_refused(name: object) -> None:
    refused(body(tools=[{"functionDeclarations": [{"name": name}]}]))


def test_one_object_in_place_of_a_list_is_a_list_of_one() -> None:
    asked = {
        "contents": {"parts": {"fileData": {"fileUri": "files/a"}}},
        "tools": {"function_declarations": {"name": "a"}},
    }
    facts = read(asked)
    assert (facts.tools, facts.provider_state) == (("a",), ("file_uri",))


def test_meta_tools_are_noted_as_such() -> None:
    assert read(body(tools=[{"functionDeclarations": [{"name": "exec"}, {"name": "ls"}]}])).any_tools == ("exec",)


def test_an_allowed_function_name_counts_as_a_tool_though_it_is_not_declared() -> None:
    config = {"functionCallingConfig": {"mode": "AUTO", "allowedFunctionNames": ["a", "b"]}}
    facts = read(body(toolConfig=config))
    assert (facts.tools, facts.tool_choice) == (("a", "b"), None)


def test_both_forms_of_a_count_are_judged() -> None:
    inner = body({"fileData": {"fileUri": "https://a.example/"}}, tools=[{"urlContext": {}}], model=f"models/{MODEL}")
    asked = {"contents": [{"parts": [{"fileData": {"fileUri": "files/a"}}]}], "generateContentRequest": inner}
    facts = read(asked, kind=CallKind.COUNT)
    assert (facts.kind, facts.model, facts.tools) == (CallKind.COUNT, MODEL, ("url_context",))
    assert (facts.provider_state, facts.remote_urls) == (("file_uri",), ("file_uri",))
    assert read(body(), kind=CallKind.COUNT).tools == ()
    no_counts: tuple[Any, ...] = ({}, {"generateContentRequest": {}}, {"generateContentRequest": "x"}, body(tools=[]))
    for bad in no_counts:
        refused(bad, kind=CallKind.COUNT)


KEYS = st.sampled_from(
    [
        *("contents", "parts", "tools", "functionDeclarations", "function_declarations", "name", "toolConfig", "model"),
        *(
            "tool_config",
            "functionCallingConfig",
            "mode",
            "allowedFunctionNames",
            "generationConfig",
            "maxOutputTokens",
        ),
        *("fileData", "fileUri", "file_uri", "mcpServers", "streamableHttpTransport", "url", "googleSearch", "text"),
        *("functionResponse", "cachedContent", "generateContentRequest", "systemInstruction", "fileSearch"),
    ]
)
VALUES = st.sampled_from(["x", "", "files/a", "https://a.example", "ANY", None, True, 0, 1.5, -1, 2**60])
TREES = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=14
)


@given(tree=st.dictionaries(KEYS, TREES, max_size=6), real=st.booleans(), kind=st.sampled_from(CallKind))
def test_only_our_errors_escape_from_a_request(tree: dict[str, Any], real: bool, kind: CallKind) -> None:
    try:
        facts = read({**body(), **tree} if real else tree, kind=kind)
    except ClawproxyError as err:
        reason = err.reason
    else:
        reason = "INVALID_REQUEST" if all(isinstance(t, str) and t for t in facts.tools) else "a tool without a name"
    assert reason in REFUSED


def test_without_the_check_of_both_spellings_the_second_one_would_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guard is for: the provider may take either of the two, and only one was judged."""
    asked = body(tools=[{"functionDeclarations": [{"name": "Bash"}], "function_declarations": [{"name": "ls"}]}])
    refused(asked)

    def careless(self: Messages, message: str, value: Any, where: str) -> Any:
        fields = self._fields[message]
        return {fields[k][0]: self._read_field(fields[k][1], v, where) for k, v in value.items() if k in fields}

    monkeypatch.setattr(Messages, "read", careless)
    assert "Bash" not in read(asked).tools


# -- the SDK -------------------------------------------------------------------------------------------------------


def _sdk_body(**config: Any) -> dict[str, Any]:
    """What google-genai writes for a call; nothing is sent."""
    genai = pytest.importorskip("google.genai")
    models = pytest.importorskip("google.genai.models")
    types = genai.types
    client = genai.Client(api_key="k")._api_client
    contents = [types.Content(role="user", parts=[types.Part.from_text(text="hi")])]
    parameters: Any = types._GenerateContentParameters(
        model=MODEL, contents=contents, config=types.GenerateContentConfig(**config)
    )
    written = models._GenerateContentParameters_to_mldev(client, parameters)
    written.pop("_url")
    plain: dict[str, Any] = json.loads(json.dumps(genai._common.convert_to_dict(written)))
    return plain


def test_what_the_sdk_writes_is_read() -> None:
    types = pytest.importorskip("google.genai").types
    facts = read(
        _sdk_body(
            tools=[
                types.Tool(function_declarations=[types.FunctionDeclaration(name="a", parameters_json_schema={})]),
                types.Tool(google_search=types.GoogleSearch(), code_execution=types.ToolCodeExecution()),
                types.Tool(url_context=types.UrlContext()),
            ],
            tool_config=types.ToolConfig(
                function_calling_config=types.FunctionCallingConfig(mode="ANY", allowed_function_names=["a"])
            ),
            system_instruction="be brief",
            max_output_tokens=7,
            temperature=0.1,
            thinking_config=types.ThinkingConfig(include_thoughts=True),
            safety_settings=[types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_NONE")],
            response_mime_type="application/json",
            response_schema={"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
        )
    )
    assert set(facts.tools) == {"a", "google_search", "code_execution", "url_context"}
    assert (facts.tool_choice, facts.max_output_tokens) == ("a", 7)


def test_every_part_and_tool_of_the_sdk_is_known_or_is_refused_on_purpose() -> None:
    types = pytest.importorskip("google.genai").types
    not_taken = {"retrieval", "parallelAiSearch", "exaAiSearch"}
    places: tuple[tuple[Any, Callable[[Any], dict[str, Any]]], ...] = (
        (types.Part, body),
        (types.Tool, lambda tool: body(tools=[tool])),
    )
    for kind, place in places:
        keys = {field.alias or name for name, field in kind.model_fields.items()}
        assert len(keys) > 9
        for key in keys:
            why = ""
            try:
                read(place({key: None}))
            except ClawproxyError as err:
                why = str(err)
            assert ("cannot judge" in why) == (key in not_taken), key


# -- answers -------------------------------------------------------------------------------------------------------


def chunk(*parts: Any, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": index}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "gemini-9-pro-001", **more}


CHUNKS: list[dict[str, Any]] = [
    chunk({"text": 'say "finishReason": "STOP"}]\\ \u00e9 {['}, usageMetadata={"promptTokenCount": 20}),
    chunk({"thought": True, "text": "hm"}, usageMetadata={"promptTokenCount": 20, "thoughtsTokenCount": 3}),
    chunk({"functionCall": {"name": "read", "args": {"finishReason": "STOP", "error": 1}}, "thoughtSignature": "eA=="}),
    chunk({"functionCall": {"name": "read", "args": {}}}, {"executableCode": {"code": "1"}}),
    chunk(
        {"text": "done"},
        finish="STOP",
        usageMetadata={
            "promptTokenCount": 20,
            "toolUsePromptTokenCount": 11,
            "cachedContentTokenCount": 8,
            "candidatesTokenCount": 4,
            "thoughtsTokenCount": 3,
        },
    ),
]
CALLS = ("read", "read", "code_execution")
SSE = b"".join(b"data: " + orjson.dumps(c) + b"\r\n\r\n" for c in CHUNKS)
ARRAY = b"[" + b",\r\n".join(orjson.dumps(c, option=orjson.OPT_INDENT_2) for c in CHUNKS) + b"\n]\n"


def tap_of(framing: Framing, **more: Any) -> StreamTap:
    return StreamTap(FLOW, Gemini().new_reader(), framing, b"", 0, lambda: 0, **more)


def heard(tap: StreamTap) -> tuple[object, ...]:
    r = tap._reader
    return (
        *(r.tokens_input, r.tokens_output, r.tokens_cached, r.tokens_reasoning, r.usage_known),
        *(r.model, r.tool_calls, r.ended, r.failed, r.unread),
    )


WHOLE = (31, 7, 8, 3, True, "gemini-9-pro-001", CALLS, True, False, False)


@pytest.mark.parametrize(("stream", "framing"), [(SSE, SseFraming), (ARRAY, JsonArrayFraming)])
def test_the_last_chunk_waits_and_all_before_it_passes(stream: bytes, framing: type[Framing]) -> None:
    tap = tap_of(framing())
    left, held = play(tap, [stream])
    assert left + held == stream
    assert b"done" in held
    assert b"code_execution" not in held
    assert b"executableCode" in left
    assert heard(tap) == WHOLE


def test_every_place_to_split_an_array_gives_the_same() -> None:
    expected = play(tap_of(JsonArrayFraming()), [ARRAY])
    for cut in range(len(ARRAY) + 1):
        tap = tap_of(JsonArrayFraming())
        assert play(tap, [ARRAY[:cut], ARRAY[cut:]]) == expected
        assert heard(tap) == WHOLE
    tap = tap_of(JsonArrayFraming())
    assert play(tap, [ARRAY[n : n + 1] for n in range(len(ARRAY))]) == expected
    assert heard(tap) == WHOLE


ELEMENTS = st.lists(
    st.dictionaries(
        st.sampled_from(["a", "error", "candidates", '"', "\\", "{"]),
        st.text(alphabet='ab"\\{}[],\u00e9', max_size=6) | st.just([]) | st.just([{"finishReason": "STOP"}]),
        max_size=3,
    ),
    max_size=6,
)


@given(elements=ELEMENTS, cuts=st.lists(st.integers(0, 10**6), max_size=20), indent=st.sampled_from([None, 1]))
def test_splits_make_no_difference_for_any_array(elements: Any, cuts: list[int], indent: int | None) -> None:
    stream = json.dumps(elements, ensure_ascii=False, indent=indent).encode()
    whole, pieces = tap_of(JsonArrayFraming()), tap_of(JsonArrayFraming())
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    expected = play(whole, [stream])
    assert b"".join(expected) == stream
    assert play(pieces, [stream[a:b] for a, b in itertools.pairwise(places)]) == expected
    assert heard(pieces) == heard(whole)


@given(elements=ELEMENTS)
def test_the_elements_are_those_that_a_parser_finds(elements: Any) -> None:
    buffer, framing, found = bytearray(json.dumps(elements).encode()), JsonArrayFraming(), []
    at = framing.begin(buffer, 0)
    while (end := framing.end(buffer, at, 0)) >= 0:
        found.append(json.loads(buffer[at:end]))
        at = framing.begin(buffer, end)
    assert found == elements
    assert at == len(buffer)


def test_each_byte_of_an_array_is_scanned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    framing, buffer, seen = JsonArrayFraming(), bytearray(b"{"), []
    framing.end(buffer, 0, 0)
    for _ in range(50):
        buffer += b'"' + b"x" * 100 + b'\\"",'
        framing.end(buffer, 0, len(buffer))
        seen.append(len(buffer) - framing._scanned)
    assert set(seen) == {0}


@pytest.mark.parametrize("stream", [b"<html>", b'"x"', b"[1]", b"[{},x]", b"\xef\xbb\xbf[{}]", b"null", b"}"])
def test_bytes_that_are_no_array_of_objects_cut_the_stream(stream: bytes) -> None:
    for chunks in ([stream], [stream[n : n + 1] for n in range(len(stream))]):
        with pytest.raises(ClawproxyError, match="not a JSON array"):
            play(tap_of(JsonArrayFraming()), chunks)


def test_an_element_above_the_cap_cuts_the_stream() -> None:
    for chunks in ([b'[{"a":"' + b"x" * 200], [b'[{"a":"', b"x" * 60, b"x" * 60]):
        with pytest.raises(ClawproxyError, match="too large"):
            play(tap_of(JsonArrayFraming(), cap_bytes=100), chunks)
    assert play(tap_of(JsonArrayFraming(), cap_bytes=100), [b"[" + b'{"a":1},' * 99]) == (b"[" + b'{"a":1},' * 99, b"")


def test_an_answer_has_ended_when_each_candidate_has() -> None:
    reader = Gemini().new_reader()

    def tell(*told: dict[str, Any]) -> list[bool]:
        return [reader.on_event("", orjson.dumps(t)) for t in told]

    first, second = chunk({"text": "a"}), chunk({"text": "b"}, index=1)
    assert tell(first, second, chunk(finish="STOP"), chunk({"text": "c"}, index=1)) == [False] * 4
    assert not reader.ended
    assert tell(chunk(finish="MAX_TOKENS", index=1), chunk(usageMetadata={"promptTokenCount": 1})) == [True, True]
    assert (reader.ended, reader.failed, reader.tokens_input) == (True, False, 1)


@pytest.mark.parametrize("reason", [None, "", "FINISH_REASON_UNSPECIFIED", 5])
def test_a_finish_reason_that_says_nothing_is_no_end(reason: Any) -> None:
    reader = Gemini().new_reader()
    told = chunk({"text": "x"})
    told["candidates"][0]["finishReason"] = reason
    assert not reader.on_event("", orjson.dumps(told))
    assert not reader.ended


def test_a_blocked_prompt_is_an_end_and_an_error_is_a_failure() -> None:
    blocked, failed = Gemini().new_reader(), Gemini().new_reader()
    assert blocked.on_event("", b'{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3}}')
    assert (blocked.ended, blocked.failed, blocked.tokens_input) == (True, False, 3)
    assert failed.on_event("", b'{"error":{"code":503,"message":"later","status":"UNAVAILABLE"}}')
    assert (failed.ended, failed.failed) == (True, True)


def test_an_error_in_an_array_is_read() -> None:
    reader = Gemini().new_reader()
    reader.read_json(b'[{"error":{"code":400,"message":"m"}}]')
    assert (reader.ended, reader.failed, reader.unread) == (True, True, False)


def test_a_whole_answer_is_read_with_the_tools_that_the_provider_ran() -> None:
    reader = Gemini().new_reader()
    told = CHUNKS[-1] | {"candidates": [{**CHUNKS[2]["candidates"][0]}]}
    told["candidates"][0] |= {
        "groundingMetadata": {"webSearchQueries": ["q"]},
        "urlContextMetadata": {"urlMetadata": [{"retrievedUrl": "https://a.example"}]},
    }
    told["candidates"][0]["content"]["parts"].append({"toolCall": {"toolType": "GOOGLE_MAPS"}})
    reader.read_json(orjson.dumps(told))
    assert reader.tool_calls == ("read", "google_maps", "google_search", "url_context")
    assert (reader.tokens_input, reader.tokens_output, reader.ended) == (31, 7, True)


def test_candidates_without_end_stay_bounded() -> None:
    reader = Gemini().new_reader()
    for index in range(400):
        reader.on_event("", orjson.dumps(chunk({"functionCall": {"name": "x"}}, index=index)))
    assert len(reader._finished) == 256  # type: ignore[attr-defined]
    assert reader.unread


def test_which_framing_an_answer_has() -> None:
    form = Gemini()
    assert isinstance(form.framing("text/event-stream", stream=True), SseFraming)
    assert isinstance(form.framing("application/json", stream=True), JsonArrayFraming)
    assert form.framing("application/json", stream=False) is None
    assert form.framing("text/html", stream=True) is None


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gemini", "models_list"])
def test_the_sdk_shows_our_words(name: str) -> None:
    errors = pytest.importorskip("google.genai.errors")
    refusal = RefusalText(403, "no: rule X", "POLICY_TOOL_DENIED", "decide", "X", "fix it", "r1", None, "job")
    said = errors.ClientError(403, FORMATS[name].refusal_body(refusal))
    assert said.message == "no: rule X"
    assert said.code == 403
    assert said.status in ("PERMISSION_DENIED", "POLICY_TOOL_DENIED")
    assert said.details["error"]["clawproxy"]["reason"] == "POLICY_TOOL_DENIED"


# -- lists of models -----------------------------------------------------------------------------------------------


def test_a_list_of_models_has_no_body_and_no_model() -> None:
    form = FORMATS["models_list"]
    facts = form.read_request(WireRequest({}, "openai", "models", CallKind.LIST))
    assert (facts.kind, facts.model, facts.tools) == (CallKind.LIST, None, ())
    with pytest.raises(ClawproxyError):
        form.read_request(WireRequest({"model": "x"}, "openai", "models", CallKind.LIST))
    reader = form.new_reader()
    reader.read_json(b'{"object":"list","data":[{"id":"a"}]}')
    assert (reader.ended, reader.usage_known, reader.model) == (True, False, None)
    assert form.framing("text/event-stream", stream=False) is None
