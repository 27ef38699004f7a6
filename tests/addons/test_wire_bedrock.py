"""Bedrock: Anthropic's body without a model, Converse's blocks, and binary event streams however they are split."""

from __future__ import annotations

import base64
import itertools
import struct
import zlib
from typing import Any

import orjson
import pytest
from clawproxy.addons.stream_tap import StreamTap
from clawproxy.addons.wire import bedrock_converse
from clawproxy.addons.wire.events import AwsEventFraming
from clawproxy.addons.wire.format import FORMATS, WireRequest
from clawproxy.policies.facts import CallFacts
from clawproxy.tokens.errors import ClawproxyError
from hypothesis import given
from hypothesis import strategies as st

from . import payloads as p
from .taps import play

MODEL = "us.anthropic.claude-x-1-v1:0"
VERSION = "bedrock-2023-05-31"
TOOL_SPEC = {"toolSpec": {"name": "look", "inputSchema": {"json": {"properties": {"tools": {}, "model": {}}}}}}


def invoke(at: str | None = MODEL, **more: Any) -> CallFacts:
    body = {key: value for key, value in p.anthropic(**more).items() if key != "model" or "model" in more}
    body = {"anthropic_version": VERSION, **body}
    return FORMATS["bedrock_anthropic"].read_request(WireRequest(body, "bedrock", "r", model=at, stream=True))


def converse(*blocks: Any, at: str = MODEL, **more: Any) -> CallFacts:
    body = {"messages": [{"role": "user", "content": list(blocks) or [{"text": "hi"}]}], **more}
    return FORMATS["bedrock_converse"].read_request(WireRequest(body, "bedrock", "r", model=at, stream=False))


def refused(read: Any, *given: Any, **more: Any) -> str:
    with pytest.raises(ClawproxyError) as caught:
        read(*given, **more)
    assert caught.value.reason in ("INVALID_REQUEST", "REQUEST_AMBIGUOUS")
    return str(caught.value)


# -- invoke --------------------------------------------------------------------------------------------------------


def test_the_path_names_model_and_stream() -> None:
    facts = invoke(tools=[p.anthropic_tool("Bash")], anthropic_beta=["claude-code-20250219"], max_tokens=9)
    assert (facts.model, facts.stream, facts.tools, facts.max_output_tokens) == (MODEL, True, ("Bash",), 9)
    for key, value in (("model", MODEL), ("model", "other"), ("stream", True), ("stream", False), ("Model", "x")):
        refused(invoke, **{key: value})


def test_only_anthropics_models_have_this_body() -> None:
    for model in (
        "anthropic.claude-x-v1:0",
        "eu.anthropic.claude-x",
        "arn:aws:bedrock:eu-west-1:1:inference-profile/x",
    ):
        assert invoke(model).model == model
    for other in (
        "amazon.nova-pro-v1:0",
        "meta.llama3",
        "us.amazon.anthropic.x",
        "anthropic",
        "xanthropic.claude",
        None,
    ):
        refused(invoke, other)


def test_features_are_names_as_in_the_header() -> None:
    betas: Any
    for betas in ("a", [5], ["files-api-2025-04-14"], ["claude-code"], ["claude-code-20250219"] * 65, {}):
        refused(invoke, anthropic_beta=betas)
    for version in (None, 5, "", "a b", "x" * 65):
        refused(invoke, anthropic_version=version)


def test_what_anthropic_judges_is_judged_here() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}}
    assert invoke(messages=[{"role": "user", "content": [image]}]).remote_urls == ("source.url",)
    assert invoke(mcp_servers=[{"name": "a", "url": "https://m.example/mcp"}]).tools == ("mcp:a", "mcp:m.example")
    refused(invoke, messages=[{"role": "user", "content": [{"type": "new_block"}]}])


@pytest.mark.parametrize("read", [invoke, converse])
def test_arns_say_what_stands_behind_them(read: Any) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:"
    facts = read(at=f"{arn}inference-profile/{MODEL}")
    assert (facts.model, facts.is_router) == (f"{arn}inference-profile/{MODEL}", False)
    assert read(at=f"{arn}default-prompt-router/anthropic.claude:1").is_router
    assert read(at=f"{arn}prompt/ABC:1").provider_state == ("prompt",)
    for other in (f"{arn}guardrail/x", "arn:aws:s3:::bucket", "ARN:aws:bedrock:x", f"{arn}inference-profile/"):
        refused(read, at=other)


# -- converse ------------------------------------------------------------------------------------------------------


def test_tools_of_converse_are_read() -> None:
    config = {"tools": [TOOL_SPEC, {"systemTool": {"name": "nova_grounding"}}, {"cachePoint": {"type": "default"}}]}
    facts = converse(toolConfig={**config, "toolChoice": {"tool": {"name": "look"}}})
    assert (facts.tools, facts.tool_choice) == (("look", "nova_grounding"), "look")
    choice: Any
    for choice in ({"auto": {}}, {"any": {}}):
        assert converse(toolConfig={**config, "toolChoice": choice}).tool_choice is None
    bad: Any
    for bad in (
        {"tools": [{"toolSpec": {"name": "a"}, "systemTool": {"name": "b"}}]},
        {"tools": [{"toolSpec": {"name": "a", "Name": "b"}}]},
        {"tools": [{"newTool": {"name": "a"}}]},
        {"tools": [{"toolSpec": {}}]},
        {"tools": [{}]},
        {"tools": {}},
        {"Tools": []},
        {"tools": [], "toolChoice": {"tool": {"name": "a"}, "auto": {}}},
        {"tools": [], "toolChoice": {"all": {}}},
        [],
    ):
        refused(converse, toolConfig=bad)


def test_blocks_hold_one_known_thing() -> None:
    history = [
        {"toolUse": {"toolUseId": "t", "name": "look", "input": {"s3Location": {}, "tools": []}}},
        {"toolResult": {"toolUseId": "t", "status": "success", "content": [{"json": {"tools": 1}}, {"text": "x"}]}},
        {"reasoningContent": {"reasoningText": {"text": "x", "signature": "s"}}},
        {"image": {"format": "png", "source": {"bytes": "aGk="}}},
        {"document": {"format": "txt", "name": "d", "source": {"content": [{"text": "x"}]}}},
        {"guardContent": {"text": {"text": "x"}}},
        {"cachePoint": {"type": "default"}},
    ]
    facts = converse(*history, system=[{"text": "be kind"}, {"cachePoint": {"type": "default"}}])
    assert (facts.tools, facts.remote_urls, facts.provider_state) == ((), (), ())
    block: Any
    for block in (
        {"text": "a", "image": {}},
        {},
        {"text": 5},
        {"Text": "a"},
        {"newBlock": {}},
        {"json": {}},
        {"image": {"format": "png", "source": {"url": "https://a.example"}}},
        {"image": {"format": "png", "source": {"bytes": "aGk=", "s3Location": {"uri": "s3://b/k"}}}},
        {"image": {"format": "png", "url": "x", "source": {"bytes": ""}}},
        {"toolResult": {"content": [{"toolUse": {}}]}},
        {"toolResult": {"content": [{"text": "x", "json": {}}]}},
        "text",
    ):
        refused(converse, block)
    refused(converse, system=[{"image": {}}])
    refused(converse, system="be kind")


@pytest.mark.parametrize("kind", ["image", "document", "video", "audio"])
def test_what_lies_in_a_bucket_is_a_url(kind: str) -> None:
    block = {kind: {"format": "x", "source": {"s3Location": {"uri": "s3://bucket/key", "bucketOwner": "1"}}}}
    assert converse(block).remote_urls == ("s3_location",)
    if kind != "audio":
        assert converse({"toolResult": {"toolUseId": "t", "content": [block]}}).remote_urls == ("s3_location",)


def test_a_tool_that_comes_or_goes_is_a_tool() -> None:
    assert converse({"toolAddition": {"tool": {"type": "tool", "name": "late"}}}).tools == ("late",)
    assert converse({"toolAddition": {"tool": {"type": "mcp", "serverName": "s"}}}).tools == ("mcp:s",)
    refused(converse, {"toolAddition": {"tool": {"definition": {"name": "late"}}}})


def test_options_are_closed() -> None:
    facts = converse(
        inferenceConfig={"maxTokens": 9, "topP": 1},
        additionalModelRequestFields={
            "thinking": {"type": "enabled"},
            "top_k": 5,
            "anthropic_beta": ["context-1m-2025-08-07"],
        },
        guardrailConfig={"guardrailIdentifier": "g", "guardrailVersion": "1"},
        performanceConfig={"latency": "standard"},
        requestMetadata={"a": "b"},
    )
    assert facts.max_output_tokens == 9
    more: Any
    for more in (
        {"inferenceConfig": {"maxTokens": "9"}},
        {"inferenceConfig": {"model": "x"}},
        {"additionalModelRequestFields": {"tools": [{"name": "a"}]}},
        {"additionalModelRequestFields": {"thinking": {"tools": []}}},
        {"additionalModelRequestFields": {"inferenceConfig": {"maxTokens": 5}}},
        {"additionalModelRequestFields": {"anthropic_beta": "a"}},
        {"additionalModelRequestFields": {"mcp_servers": []}},
        {"additionalModelRequestFields": {"messages": []}},
        {"modelId": "x"},
        {"model": "x"},
        {"stream": True},
        {"Messages": []},
    ):
        refused(converse, **more)
    assert converse(promptVariables={"a": {"text": "x"}}).provider_state == ("prompt_variables",)


def test_every_member_of_the_service_model_is_known() -> None:
    session = pytest.importorskip("botocore.session")
    shape = session.get_session().get_service_model("bedrock-runtime").operation_model("Converse").input_shape
    bedrock_converse._KEYS.check(dict.fromkeys(set(shape.members) - {"modelId"}), "body")
    blocks = shape.members["messages"].member.members["content"].member
    assert set(blocks.members) == bedrock_converse._MESSAGE_BLOCKS
    assert set(shape.members["system"].member.members) == bedrock_converse._SYSTEM_BLOCKS
    assert set(blocks.members["toolResult"].members["content"].member.members) == bedrock_converse._RESULT_BLOCKS
    for name, inner in blocks.members.items():
        keys = bedrock_converse._BLOCKS[name]
        if keys is not None:
            keys.check(dict.fromkeys(inner.members), name)
    for name in ("image", "document", "video", "audio"):
        assert set(blocks.members[name].members["source"].members) <= bedrock_converse._SOURCES


# -- event streams -------------------------------------------------------------------------------------------------


def frame(payload: dict[str, Any] | bytes, **headers: str) -> bytes:
    told = {"event-type": "chunk", "content-type": "application/json", "message-type": "event"}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = b"".join(
        struct.pack("B", len(name) + 1)
        + b":"
        + name.encode()
        + b"\x07"
        + struct.pack(">H", len(value))
        + value.encode()
        for name, value in told.items()
    )
    data = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    start = struct.pack(">II", 16 + len(head) + len(data), len(head))
    whole = start + struct.pack(">I", zlib.crc32(start)) + head + data
    return whole + struct.pack(">I", zlib.crc32(whole))


def events_of(sse: bytes) -> list[bytes]:
    return [
        line.removeprefix(b"data: ") for line in sse.splitlines() if line.startswith(b"data: ") and line != b"data: "
    ]


INVOKE = [frame({"bytes": base64.b64encode(event).decode(), "p": "abc"}) for event in events_of(p.ANTHROPIC_STREAM)]
CONVERSE = [
    frame({"role": "assistant"}, event_type="messageStart"),
    frame({"contentBlockIndex": 0, "delta": {"text": '"messageStop"'}}, event_type="contentBlockDelta"),
    frame(
        {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t", "name": "look"}}},
        event_type="contentBlockStart",
    ),
    frame({"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{}"}}}, event_type="contentBlockDelta"),
    frame({"stopReason": "tool_use"}, event_type="messageStop"),
    frame(
        {"usage": {"inputTokens": 20, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 1, "outputTokens": 7}},
        event_type="metadata",
    ),
]
STREAMS = {"bedrock_anthropic": INVOKE, "bedrock_converse": CONVERSE}


def run(name: str, chunks: list[bytes], secret: bytes = b"") -> tuple[bytes, bytes, StreamTap]:
    form = FORMATS[name]
    framing = form.framing("application/vnd.amazon.eventstream", stream=True)
    assert framing is not None
    tap = StreamTap(None, form.new_reader(), framing, secret, 0, lambda: 1)  # type: ignore[arg-type]
    return (*play(tap, chunks), tap)


def told(tap: StreamTap) -> tuple[object, ...]:
    reader = tap._reader
    usage = reader.tokens_input, reader.tokens_cached, reader.tokens_cache_write, reader.tokens_output
    return (*usage, reader.usage_known, reader.model, reader.tool_calls, reader.ended, reader.failed, tap.digest_b64u)


def test_the_end_of_an_invocation_waits() -> None:
    left, held, tap = run("bedrock_anthropic", [b"".join(INVOKE)])
    assert (left, held) == (b"".join(INVOKE[:-1]), INVOKE[-1])
    reader = tap._reader
    assert (reader.tokens_input, reader.tokens_output, reader.model) == (31, 7, "claude-x-1")
    assert (reader.tool_calls, reader.ended, reader.failed) == (p.ANTHROPIC_CALLS, True, False)


def test_what_follows_message_stop_waits_and_is_read() -> None:
    left, held, tap = run("bedrock_converse", CONVERSE)
    assert (left, held) == (b"".join(CONVERSE[:-2]), b"".join(CONVERSE[-2:]))
    assert told(tap)[:-1] == (31, 10, 1, 7, True, None, ("look",), True, False)


@given(name=st.sampled_from(sorted(STREAMS)), cuts=st.lists(st.integers(0, 10**6), max_size=40))
def test_chunks_make_no_difference(name: str, cuts: list[int]) -> None:
    stream = b"".join(STREAMS[name])
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    left, held, tap = run(name, [stream[a:b] for a, b in itertools.pairwise(places)])
    whole = run(name, [stream])
    assert (left + held, left, told(tap)) == (stream, whole[0], told(whole[2]))


@given(name=st.sampled_from(sorted(STREAMS)), at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_flipped_bit_passes_as_a_message(name: str, at: int, bit: int) -> None:
    stream = bytearray(b"".join(STREAMS[name]))
    stream[at % len(stream)] ^= 1 << bit
    with pytest.raises(ClawproxyError, match="event stream"):
        run(name, [bytes(stream)])


def test_without_the_check_of_the_message_a_forged_tool_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    forged = b"".join(CONVERSE).replace(b'"name":"look"', b'"name":"evil"')
    with pytest.raises(ClawproxyError):
        run("bedrock_converse", [forged])
    monkeypatch.setattr(zlib, "crc32", lambda data: int.from_bytes(_crc_in(bytes(data))))
    assert run("bedrock_converse", [forged])[2]._reader.tool_calls == ("evil",)


def _crc_in(data: bytes) -> bytes:
    """What stands in the forged stream where the CRC of ``data`` belongs."""
    forged = b"".join(CONVERSE).replace(b'"name":"look"', b'"name":"evil"')
    at = forged.index(data) + len(data)
    return forged[at : at + 4]


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 500 Internal",
        b'{"message":"no"}',
        struct.pack(">II", 15, 0),
        struct.pack(">II", 40, 30),
        struct.pack(">II", 2**31, 0),
    ],
)
def test_other_bytes_and_impossible_lengths_cut_the_stream(start: bytes) -> None:
    bad = start if len(start) != 8 else start + struct.pack(">I", zlib.crc32(start))
    with pytest.raises(ClawproxyError):
        run("bedrock_converse", [bad])


def test_headers_of_every_type_are_passed_over() -> None:
    known = b"".join(
        bytes([1]) + b"h" + bytes([kind]) + value
        for kind, value in (
            *((0, b""), (1, b""), (2, b"x"), (3, b"xx"), (4, b"x" * 4), (5, b"x" * 8), (8, b"x" * 8), (9, b"x" * 16)),
            *((6, b"\x00\x02xx"), (7, b"\x00\x02xx")),
        )
    )
    rest = b"\x0d:message-type\x07\x00\x05event\x0b:event-type\x07\x00\x0bmessageStop"
    event = struct.pack(">III", 16 + len(known + rest), len(known + rest), 0) + known + rest + b"\0" * 4
    assert AwsEventFraming().read(event, first=True) == ("messageStop", b"")
    for broken in (b"\xff", b"\x01h", b"\x01h\x0a", b"\x01h\x07\x00\xff", b"\x01h\x07"):
        cut = struct.pack(">III", 16 + len(broken), len(broken), 0) + broken + b"\0" * 4
        assert AwsEventFraming().read(cut, first=True) == (AwsEventFraming.FAILED, b"")


@pytest.mark.parametrize("name", sorted(STREAMS))
@pytest.mark.parametrize("kind", ["exception", "error"])
def test_an_exception_in_the_stream_is_a_failed_end(name: str, kind: str) -> None:
    fault = frame({"message": "slow down"}, message_type=kind, exception_type="throttlingException")
    left, held, tap = run(name, [STREAMS[name][0] + fault])
    assert (left, held) == (STREAMS[name][0], fault)
    assert (tap._reader.ended, tap._reader.failed) == (True, True)


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_a_stream_that_is_cut_has_no_end(name: str) -> None:
    for stream in (b"".join(STREAMS[name][:2]), b"".join(STREAMS[name][:2])[:-9], b"\x00"):
        left, held, tap = run(name, [stream])
        assert (left + held, tap._reader.ended) == (stream, False)


def test_an_echoed_credential_cuts_a_binary_stream() -> None:
    echo = frame({"contentBlockIndex": 0, "delta": {"text": "it is sk-secret"}}, event_type="contentBlockDelta")
    with pytest.raises(ClawproxyError, match="credential"):
        run("bedrock_converse", [echo], b"sk-secret")


def test_chunks_that_hold_no_event_are_unread() -> None:
    for payload in (b"[]", b"{}", b'{"bytes":5}', b'{"bytes":"***"}', b""):
        tap = run("bedrock_anthropic", [frame(payload)])[2]
        assert (tap._reader.unread, tap._reader.ended) == (True, False)


def test_whole_answers_are_read() -> None:
    reader = FORMATS["bedrock_converse"].new_reader()
    content = [{"text": "x"}, {"toolUse": {"toolUseId": "t", "name": "look", "input": {}}}]
    answer = {
        "output": {"message": {"role": "assistant", "content": content}},
        "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7},
        "trace": {"promptRouter": {"invokedModelId": "m"}},
    }
    reader.read_json(orjson.dumps(answer))
    assert (reader.tokens_input, reader.tokens_output, reader.tool_calls, reader.model) == (5, 2, ("look",), "m")
    reader = FORMATS["bedrock_anthropic"].new_reader()
    reader.read_json(orjson.dumps(p.ANTHROPIC_ANSWER))
    assert (reader.tokens_input, reader.tool_calls) == (31, p.ANTHROPIC_CALLS)


@given(
    data=st.binary(max_size=60), event=st.sampled_from(["chunk", "metadata", "contentBlockStart", "messageStop", "x"])
)
def test_no_bytes_make_a_reader_raise(data: bytes, event: str) -> None:
    for name in STREAMS:
        FORMATS[name].new_reader().on_event(event, data)
        FORMATS[name].new_reader().on_event(event, orjson.dumps({"usage": [1], "start": 5, "bytes": data.hex()}))


def test_an_sdk_decodes_our_frames_as_we_do() -> None:
    eventstream = pytest.importorskip("botocore.eventstream")
    buffer = eventstream.EventStreamBuffer()
    buffer.add_data(b"".join(CONVERSE))
    decoded = [(message.headers[":event-type"], message.payload) for message in buffer]
    framing = AwsEventFraming()
    assert decoded == [framing.read(message, first=False) for message in CONVERSE]
