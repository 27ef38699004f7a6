"""The formats against requests of real clients, where ``../shared/samples`` is at hand (recorded, not in this tree)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clawproxy.addons.holds import Hold
from clawproxy.addons.stream_tap import StreamTap
from clawproxy.addons.wire.events import SseFraming
from clawproxy.addons.wire.format import FORMATS, WireRequest

SAMPLES = Path(__file__).parents[2].parent / "shared" / "samples"
FORMAT_OF_PATH = {
    "/chat/completions": "openai_chat",
    "/responses": "openai_responses",
    "/messages": "anthropic_messages",
    "/messages/count_tokens": "anthropic_messages",
    ":generateContent": "gemini",
    ":streamGenerateContent": "gemini",
}


def _matching() -> list[Any]:
    found = []
    for path in sorted(SAMPLES.glob("*.json")):
        sample = json.loads(path.read_text())
        if not isinstance(sample, dict) or not isinstance(sample.get("request_body_truncated"), dict):
            continue
        wanted = next((f for end, f in FORMAT_OF_PATH.items() if sample["path"].partition("?")[0].endswith(end)), None)
        if wanted is not None:
            found.append(pytest.param(wanted, sample, id=path.stem))
    return found


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared samples are not here")
@pytest.mark.parametrize(("name", "sample"), _matching())
def test_the_requests_and_answers_of_real_clients_are_read(name: str, sample: dict[str, Any]) -> None:
    form = FORMATS[name]
    model, stream = sample["model"], bool(sample["stream"])
    if name == "gemini":  # they stand in the path
        model, _, verb = sample["path"].partition("?")[0].rpartition("/")[2].partition(":")
        stream = verb == "streamGenerateContent"
        facts = form.read_request(WireRequest(sample["request_body_truncated"], "p", "r", model=model, stream=stream))
    else:
        facts = form.read_request(WireRequest(sample["request_body_truncated"], "p", "r"))

    assert facts.model == model
    assert facts.stream == stream
    if sample["tool_names"] == ["function_declarations"]:  # the recorder took the key for the name
        assert list(facts.tools) == ["get_weather"]
    elif sample["tool_names"]:
        assert list(facts.tools) == sample["tool_names"]

    body = sample["response_body_from_our_fake"].encode()
    reader = form.new_reader()
    if sample["response_content_type"].startswith("text/event-stream"):
        tap = StreamTap(SimpleNamespace(), reader, SseFraming(), b"", 0, lambda: 0)  # type: ignore[arg-type]
        out = tap.feed(body)
        if isinstance(out, bytes):  # cut short when it was recorded
            out = Hold(SimpleNamespace(), "end", out, tap.close()[1])  # type: ignore[arg-type]
        assert out.now + out.held == body
        if "<+" not in sample["response_body_from_our_fake"]:
            assert reader.ended
    else:
        reader.read_json(body)
        assert reader.ended
    if sample["path"].partition("?")[0].endswith("/count_tokens"):
        return
    told = body.decode()
    if "<+" not in told:
        assert reader.model is not None
        assert bool(
            re.search(r'"type": ?"(tool_use|function_call|custom_tool_call|function)"|"functionCall": ?\{', told)
        ) == bool(reader.tool_calls)
        assert reader.usage_known == bool(re.search(r'"usage(Metadata)?": ?\{', told))
        if reader.usage_known:
            assert (reader.tokens_input, reader.tokens_output) == (123, 17)
