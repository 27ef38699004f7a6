"""The stand-in's formats, signature check, routes and steering, without an SDK where an SDK would hide the bytes."""

from __future__ import annotations

import base64
import hmac
import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from struct import unpack
from typing import Any
from urllib.parse import quote
from zlib import crc32

import httpx2
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from clawproxy.standin import sigv4
from clawproxy.standin.formats import json_answer, read_ask, stream_answer, terminal_events
from clawproxy.standin.formats.event_stream import event, frame
from clawproxy.standin.routes import find_route
from clawproxy.standin.sigv4 import fault_of
from clawproxy.standin.steering import parse_steering

from .standin_process import Provider, running_standin

GEMINI = "/v1beta/models/gemini-2.5-pro"
CONVERSE = "/model/anthropic.claude%3A0/converse"
BODIES: dict[str, Any] = {
    "chat": lambda text: {"messages": [{"role": "user", "content": text}]},
    "responses": lambda text: {"input": text},
    "embeddings": lambda text: {"input": [text]},
    "messages": lambda text: {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
    "count-tokens": lambda text: {"messages": [{"role": "user", "content": text}]},
    "gemini": lambda text: {"contents": [{"parts": [{"text": text}]}]},
    "gemini-array": lambda text: {"contents": [{"role": "user", "parts": [{"text": text}]}]},
    "gemini-count": lambda text: {"contents": [{"role": "user", "parts": [{"text": text}]}]},
    "fal-router": lambda text: {"prompt": text},
    "bedrock-invoke": lambda text: {"messages": [{"role": "user", "content": text}]},
    "bedrock-converse": lambda text: {"messages": [{"role": "user", "content": [{"text": text}]}]},
    "ollama-chat": lambda text: {"messages": [{"role": "user", "content": text}]},
    "ollama-generate": lambda text: {"prompt": text},
    "ollama-embed": lambda text: {"input": text},
    "ollama-show": lambda text: {"model": "m"},
}
STREAMED = (
    "chat",
    "responses",
    "messages",
    "gemini",
    "gemini-array",
    "bedrock-invoke",
    "bedrock-converse",
    "ollama-chat",
    "ollama-generate",
)
WITH_TOOLS = tuple(kind for kind in STREAMED if kind != "ollama-generate")


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_standin(tmp_path_factory.mktemp("standin")) as running:
        yield running


def post(provider: Provider, path: str, body: Any, headers: dict[str, str]) -> httpx2.Response:
    with httpx2.Client(verify=ssl.create_default_context(cafile=provider.ca), trust_env=False) as client:
        return client.post(provider.url + path, json=body, headers=headers)


def chat(provider: Provider, text: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {provider.key('openai')}"}
    return post(provider, "/v1/chat/completions", BODIES["chat"](text), headers)


def asked(kind: str, text: str, **more: Any) -> Any:
    body = BODIES[kind](text) | more
    return read_ask(kind, body, json.dumps(body).encode(), "", "the-credential", model="m")


# -- steering, in every format -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in BODIES if kind != "ollama-show"])
def test_the_words_of_the_prompt_are_read_in_every_format(kind: str) -> None:
    ask = asked(kind, "please events:3 reasoning:5 cached:7 and alt-svc")
    assert (ask.steering.events, ask.steering.reasoning, ask.steering.cached) == (3, 5, 7)
    assert ask.steering.words == {"alt-svc"}


@pytest.mark.parametrize("kind", STREAMED)
def test_every_stream_echoes_and_counts_as_the_whole_answer_does(kind: str) -> None:
    ask = asked(kind, "events:2 echo-credential")
    plain, streamed = json_answer(ask), b"".join(stream_answer(ask))
    assert b"the-credential" in plain
    assert b"the-credential" in (streamed if kind != "bedrock-invoke" else _inner(streamed))
    basic = json_answer(asked(kind, "echo-basic"))
    assert base64.b64encode(b"x:the-credential") in basic


@pytest.mark.parametrize("kind", WITH_TOOLS)
def test_two_tools_are_called_in_every_format(kind: str) -> None:
    ask = asked(kind, "tool:alpha tool:omega two-tools")
    for whole in (json_answer(ask), b"".join(stream_answer(ask))):
        held = _inner(whole) if kind == "bedrock-invoke" and whole[:1] != b"{" else whole
        assert b"alpha" in held
        assert b"omega" in held


@pytest.mark.parametrize("kind", STREAMED)
def test_no_usage_leaves_every_figure_out(kind: str) -> None:
    words = (b"okens", b"Tokens", b"TokenCount", b"eval_count")
    for text, found in (("hello", True), ("hello no-usage", False)):
        ask = asked(kind, text, stream_options={"include_usage": True})
        for whole in (json_answer(ask), b"".join(stream_answer(ask))):
            held = _inner(whole) if kind == "bedrock-invoke" and whole[:1] != b"{" else whole
            assert any(word in held for word in words) is found


@pytest.mark.parametrize("kind", [kind for kind in STREAMED if kind != "bedrock-converse"])
def test_the_answer_names_another_model_when_told(kind: str) -> None:
    ask = asked(kind, "model:other/model-9:free")
    assert b"other/model-9:free" in json_answer(ask)
    whole = b"".join(stream_answer(ask))
    assert b"other/model-9:free" in (_inner(whole) if kind == "bedrock-invoke" else whole)


def _inner(stream: bytes) -> bytes:
    """The payloads inside the chunks of an invoke stream, read by botocore."""
    buffer = EventStreamBuffer()
    buffer.add_data(stream)
    return b"".join(base64.b64decode(json.loads(message.payload)["bytes"]) for message in buffer)


def test_tool_results_end_the_calls_in_every_shape() -> None:
    call: dict[str, Any] = {"functionCall": {"name": "f", "args": {}}}
    gemini = [
        {"role": "user", "parts": [{"text": "tool:f"}]},
        {"role": "model", "parts": [call]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]},
    ]
    converse = [
        {"role": "user", "content": [{"text": "tool:f"}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"text": "x"}]}}]},
    ]
    codex = [{"role": "user", "content": "tool:f"}, {"type": "custom_tool_call_output", "call_id": "c", "output": ""}]
    assert asked("gemini", "", contents=gemini[:1]).tool == "f"
    assert asked("gemini", "", contents=gemini).tool == ""
    assert asked("bedrock-converse", "", messages=converse).tool == ""
    assert asked("responses", "", input=codex).tool == ""


def test_the_result_of_a_tool_is_said_when_told_in_every_shape() -> None:
    result = "it is 21 degrees"
    shapes: dict[str, list[Any]] = {
        "chat": [{"role": "tool", "tool_call_id": "c", "content": result}],
        "messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"text": result}]}]}],
        "gemini": [{"role": "user", "parts": [{"functionResponse": {"name": "n", "response": {"output": result}}}]}],
        "responses": [{"type": "custom_tool_call_output", "call_id": "c", "output": [{"text": result}]}],
    }
    for kind, after in shapes.items():
        key = {"responses": "input", "gemini": "contents"}.get(kind, "messages")
        prompt = {"role": "user", "parts" if kind == "gemini" else "content": [{"text": "tool:n echo-result"}]}
        before = read_ask(kind, {key: [prompt]}, b"", "", "")
        assert [call.name for call in before.calls] == ["n"]
        for context in ([], [{"role": "user", "content": "<context> of the client's own </context>"}]):
            asked_again = read_ask(kind, {key: [prompt, *after, *context]}, b"", "", "")
            assert (asked_again.calls, asked_again.text) == ([], result), kind


def test_a_tool_that_takes_free_text_gets_it_in_the_shape_for_it() -> None:
    tools = [{"type": "namespace", "name": "functions", "tools": [{"type": "custom", "name": "exec"}]}]
    script = "text(await f({a: 'b c'}))"
    told = f"tool:exec({quote(json.dumps({'input': script}), safe='')})"
    items = [{"type": "additional_tools", "tools": tools}, {"role": "user", "content": told}]
    ask = read_ask("responses", {"input": items}, b"", "", "")
    item = json.loads(json_answer(ask))["output"][0]
    assert (item["type"], item["name"], item["namespace"]) == ("custom_tool_call", "exec", "functions")
    assert item["input"] == script
    stream = b"".join(stream_answer(ask)).decode()
    assert "response.custom_tool_call_input.done" in stream
    assert "function_call_arguments" not in stream


def test_tools_are_found_in_namespaces_and_input_items() -> None:
    space = {"type": "namespace", "name": "functions", "tools": [{"type": "custom", "name": "exec"}]}
    items = [
        {"type": "additional_tools", "role": "developer", "tools": [space]},
        {"role": "user", "content": "use-a-tool"},
    ]
    assert asked("responses", "", input=items).tool == "exec"


# -- streams as bytes --------------------------------------------------------------------------------------------


def test_a_frame_has_lengths_headers_and_checksums_as_amazon_counts_them() -> None:
    whole = event("chunk", b'{"a":1}')
    total, head, prelude_sum = unpack("!III", whole[:12])
    assert total == len(whole)
    assert prelude_sum == crc32(whole[:8])
    assert unpack("!I", whole[-4:])[0] == crc32(whole[:-4])
    assert whole[12 + head : -4] == b'{"a":1}'
    buffer = EventStreamBuffer()
    buffer.add_data(frame({"a": "b", "name": "ü"}, b"payload"))
    (message,) = list(buffer)
    assert (message.headers, message.payload) == ({"a": "b", "name": "ü"}, b"payload")


def test_gemini_streams_one_array_unless_events_are_asked_for(provider: Provider) -> None:
    headers = {"x-goog-api-key": provider.key("google")}
    array = post(provider, f"{GEMINI}:streamGenerateContent", BODIES["gemini"]("events:3"), headers)
    assert array.headers["content-type"].startswith("application/json")
    assert [len(element["candidates"]) for element in array.json()] == [1, 1, 1]
    events = post(provider, f"{GEMINI}:streamGenerateContent?alt=sse", BODIES["gemini"]("events:3"), headers)
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.text.count("data: ") == 3
    assert "event: " not in events.text
    torn = post(provider, f"{GEMINI}:streamGenerateContent", BODIES["gemini"]("events:3 no-terminal"), headers)
    assert not torn.text.endswith("]")
    assert "finishReason" not in torn.text


def test_a_key_in_the_query_is_no_credential(provider: Provider) -> None:
    path = f"{GEMINI}:generateContent?key={provider.key('google')}"
    assert post(provider, path, BODIES["gemini"]("x"), {}).status_code == 401
    assert provider.seen()[-1]["keys"] == ["google"]


def test_openrouter_streams_have_comments_and_azure_begins_with_filters(provider: Provider) -> None:
    body = BODIES["chat"]("events:2") | {"model": "m", "stream": True}
    headers = {"authorization": f"Bearer {provider.key('openrouter')}"}
    routed = post(provider, "/api/v1/chat/completions", body, headers).text
    assert routed.startswith(": OPENROUTER PROCESSING\n\n")
    assert routed.count(": OPENROUTER PROCESSING") == 2
    path = "/openai/deployments/d/chat/completions?api-version=v"
    azure = post(provider, path, body, {"api-key": provider.key("azure")}).text
    assert "prompt_filter_results" in azure.split("\n\n")[0]


@pytest.mark.parametrize("kind", STREAMED)
def test_the_terminal_events_are_what_tells_the_end(kind: str) -> None:
    ends = (b"[DONE]", b"response.completed", b"message_stop", b"finishReason", b"messageStop", b'"done":true')
    ask = asked(kind, "events:2")
    events = stream_answer(ask)
    if kind == "bedrock-invoke":
        events = [_inner(one) for one in events]
    count = terminal_events(kind)
    assert any(word in b"".join(events[-count:]) for word in ends)
    assert not any(word in b"".join(events[:-count]) for word in ends)


# -- redirects and headers ---------------------------------------------------------------------------------------


def test_redirects_go_where_the_word_says(provider: Provider) -> None:
    home, other, plain = (chat(provider, f"redirect-{word}") for word in ("home", "other", "plain"))
    assert (home.status_code, home.headers["location"]) == (307, "/v1/elsewhere")
    assert (other.status_code, other.headers["location"]) == (302, "https://elsewhere.invalid/v1/chat/completions")
    authority = provider.url.removeprefix("https://")
    assert (plain.status_code, plain.headers["location"]) == (307, f"http://{authority}/v1/chat/completions")


def test_alt_svc_and_cookies_come_when_asked_for(provider: Provider) -> None:
    answer = chat(provider, "alt-svc")
    assert "h3=" in answer.headers["alt-svc"]
    assert answer.headers["set-cookie"]
    assert "alt-svc" not in chat(provider, "hello").headers


# -- routes and the record ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "host", "expected"),
    [
        ("POST", "/v1/chat/completions", "127.0.0.1", ("openai", "chat")),
        ("POST", "/v1/messages", "api.openai.com", ("openai", "")),
        ("POST", "/v1/chat/completions", "openrouter.ai", ("openrouter", "")),
        ("POST", "/api/v1/chat/completions", "openrouter.ai", ("openrouter", "chat")),
        ("POST", "/v1/models/g-1:countTokens", "generativelanguage.googleapis.com", ("google", "gemini-count")),
        ("POST", "/v1beta/models/g-1:batchEmbed", "generativelanguage.googleapis.com", ("google", "")),
        ("POST", "/model/a%2Fb/invoke", "bedrock-runtime.eu-west-1.amazonaws.com", ("bedrock", "bedrock-invoke")),
        ("POST", "/openai/v1/responses", "test.openai.azure.com", ("azure", "responses")),
        ("POST", "/openrouter/router/openai/v1/responses", "fal.run", ("fal", "responses")),
        ("GET", "/api/tags", "localhost", ("ollama", "models")),
        ("DELETE", "/v1/responses", "api.openai.com", ("openai", "")),
    ],
)
def test_the_host_chooses_the_provider_and_the_path_the_kind(
    method: str, path: str, host: str, expected: tuple[str, str]
) -> None:
    route = find_route(method, path, "", host, {})
    assert (route.provider, route.kind) == expected


def test_the_record_tells_target_sni_query_and_foreign_keys(provider: Provider) -> None:
    headers = {"authorization": f"Bearer {provider.key('openai')}", "x-other": provider.key("anthropic")}
    headers |= {"host": "api.openai.com"}
    assert post(provider, "/v1/chat/completions?a=b", BODIES["chat"]("hello"), headers).status_code == 200
    seen = provider.seen()[-1]
    assert (seen["target"], seen["query"], seen["keys"]) == ("api.openai.com", "a=b", ["openai", "anthropic"])
    assert seen["sni"] == ""  # an address is no name
    wrong = {"authorization": f"Bearer {provider.key('anthropic')}"}
    assert post(provider, "/v1/chat/completions", BODIES["chat"]("hello"), wrong).status_code == 401


def test_the_record_tells_the_name_of_the_tls_handshake(provider: Provider) -> None:
    trust = ssl.create_default_context(cafile=provider.ca)
    port = int(provider.url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname="openrouter.ai") as tls,
    ):
        tls.sendall(b"GET /api/v1/models HTTP/1.1\r\nhost: fal.run:443\r\n\r\n")
        assert b" 401 " in tls.recv(64)
    seen = provider.seen()[-1]
    assert (seen["sni"], seen["target"], seen["host"]) == ("openrouter.ai", "fal.run", "fal.run:443")


def test_bedrock_takes_a_bearer_too(provider: Provider) -> None:
    for bearer, status in ((provider.key("bedrock"), 200), (provider.key("bedrock").split(":")[1], 200), ("x", 403)):
        headers = {"authorization": f"Bearer {bearer}"}
        assert post(provider, CONVERSE, BODIES["bedrock-converse"]("hello"), headers).status_code == status


# -- Signature Version 4 -----------------------------------------------------------------------------------------

CREDENTIAL = "AKIAEXAMPLE:a-secret/with+signs"


def signed(path: str = CONVERSE, body: bytes = b"{}", **headers: str) -> tuple[str, list[tuple[str, str]], bytes]:
    """Path, headers and body as botocore signs them."""
    url = f"https://bedrock-runtime.us-east-1.amazonaws.com{path}"
    request = AWSRequest("POST", url, headers={"Content-Type": "application/json"} | headers, data=body)
    access, _, secret = CREDENTIAL.partition(":")
    SigV4Auth(Credentials(access, secret), "bedrock", "us-east-1").add_auth(request)
    sent = [(name.lower(), value) for name, value in request.headers.items()]
    return path, [("host", "bedrock-runtime.us-east-1.amazonaws.com"), *sent], body


def fault(path: str, headers: list[tuple[str, str]], body: bytes, *, later_s: float = 0) -> str:
    now_s = datetime.now(UTC).timestamp() + later_s
    return fault_of("POST", path, headers, body, credential=CREDENTIAL, now_s=now_s)


@settings(max_examples=60)
@given(
    model=st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="./\\"), min_size=1),
    query=st.lists(st.tuples(st.sampled_from("abz"), st.sampled_from(["", "1", "%2F", "x-y"])), max_size=3),
    body=st.binary(max_size=40),
    agent=st.text(st.sampled_from("ab \t"), max_size=9),
)
def test_what_botocore_signs_is_right(model: str, query: list[tuple[str, str]], body: bytes, agent: str) -> None:
    path = f"/model/{quote(model, safe='')}/converse"
    path += "?" * bool(query) + "&".join("=".join(pair) for pair in query)
    assert fault(*signed(path, body, **{"x-amzn-thing": f"q{agent}q"})) == ""


def test_an_unencoded_path_is_right_too() -> None:
    assert fault(*signed("/model/anthropic.claude-v2:0/invoke")) == ""


def _changed(headers: list[tuple[str, str]], name: str, value: str) -> list[tuple[str, str]]:
    return [(key, value if key == name else old) for key, old in headers]


def test_every_change_after_signing_is_seen() -> None:
    path, headers, body = signed()
    authorization = dict(headers)["authorization"]
    assert fault(path, headers, body + b" ") == "the signature is of another request"
    assert fault(path.replace("converse", "invoke"), headers, body) == "the signature is of another request"
    assert fault(path.replace("%3A", ":"), headers, body) == "the signature is of another request"
    assert fault(path + "?a=b", headers, body) == "the signature is of another request"
    assert fault(path, _changed(headers, "host", "other"), body) == "the signature is of another request"
    west = _changed(headers, "host", "bedrock-runtime.us-west-2.amazonaws.com")
    assert fault(path, west, body) == "the region of another host"
    assert fault(path, headers, body, later_s=3600) == "x-amz-date is not now"
    assert fault(path, [*headers, ("x-amz-security-token", "t")], body) == "a header that must be signed is not"
    unsigned = _changed(headers, "authorization", authorization.replace("host;", ""))
    assert fault(path, unsigned, body) == "a header that must be signed is not"
    s3 = _changed(headers, "authorization", authorization.replace("/bedrock/", "/s3/"))
    assert fault(path, s3, body) == "another service"
    free = [*headers, ("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]
    assert fault(path, free, body) != ""
    assert fault(path, _changed(headers, "authorization", "Bearer x"), body) != ""


def test_without_the_encoding_of_the_path_the_check_would_refuse_boto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sigv4, "quote", lambda path, safe: path.decode())
    assert fault(*signed()) == "the signature is of another request"


def test_without_its_comparison_the_check_would_take_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmac, "compare_digest", lambda left, right: True)
    path, headers, body = signed()
    assert fault(path, headers, body + b"changed") == ""


# -- steering's own reading --------------------------------------------------------------------------------------


def test_steering_reads_the_new_words() -> None:
    steering = parse_steering("tool:a tool:b two-tools model:x/y:free reasoning:9 redirect-home no-usage")
    assert (steering.tools, steering.tool, steering.model, steering.reasoning) == (("a", "b"), "b", "x/y:free", 9)
    assert steering.words == {"two-tools", "redirect-home", "no-usage"}


KEYS = ["role", "content", "parts", "text", "user", "tools", "function", "name", "toolConfig", "functionDeclarations"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYS, "input", "type"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=100)
@given(kind=st.sampled_from(sorted(BODIES)), value=values, text=st.text(max_size=20))
def test_any_body_has_an_answer_in_every_format(kind: str, value: Any, text: str) -> None:
    names = ("messages", "input", "contents", "prompt", "tools", "toolConfig", "items", "response", "stream_options")
    ask = read_ask(kind, dict.fromkeys(names, value), b"x", text, "secret")
    assert json_answer(ask)
    if kind in STREAMED:
        assert stream_answer(ask)
