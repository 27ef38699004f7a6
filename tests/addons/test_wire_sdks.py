"""The formats against the request types of the installed SDKs: a new version may know keys and types that we do not."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import pytest
import typing_extensions as te
from clawproxy.addons.wire.format import FORMATS, WireRequest
from clawproxy.tokens.errors import ClawproxyError

from .payloads import anthropic, chat, responses

openai_chat = pytest.importorskip("openai.types.chat.completion_create_params")
openai_responses = pytest.importorskip("openai.types.responses.response_create_params")
openai_items = pytest.importorskip("openai.types.responses.response_input_param")
anthropic_beta = pytest.importorskip("anthropic.types.beta")
anthropic_body = pytest.importorskip("anthropic.types.beta.message_create_params")

NOT_TAKEN = {
    # another model, who pays
    *("fallbacks", "fallback_credit_token", "billing_policy"),
    # sent as headers by the SDK
    *("betas", "user_profile_id", "workspace_id"),
}


def _why(name: str, body: dict[str, Any]) -> str:
    try:
        FORMATS[name].read_request(WireRequest(body, "p", "r"))
    except ClawproxyError as err:
        return err.message
    return ""


def _types(union: Any) -> set[str]:
    """The values that ``type`` can have in the members of a union of typed dictionaries."""
    if te.is_typeddict(union):
        return _words(te.get_type_hints(union).get("type"))
    return {kind for member in get_args(union) for kind in _types(member)}


def _words(hint: Any) -> set[str]:
    if get_origin(hint) in (Literal, te.Literal):
        return set(get_args(hint))
    return {word for member in get_args(hint) for word in _words(member)}


@pytest.mark.parametrize(
    ("name", "body", "hints"),
    [
        ("openai_chat", chat(), openai_chat.CompletionCreateParamsNonStreaming),
        ("openai_responses", responses(), openai_responses.ResponseCreateParamsNonStreaming),
        ("anthropic_messages", anthropic(), anthropic_body.MessageCreateParamsNonStreaming),
    ],
)
def test_every_key_of_the_sdk_is_known_or_is_refused_on_purpose(name: str, body: dict[str, Any], hints: Any) -> None:
    keys = set(te.get_type_hints(hints))
    assert "model" in keys
    for key in keys - NOT_TAKEN - set(body):
        assert "cannot judge" not in _why(name, {**body, key: None}), key
    for key in keys & NOT_TAKEN:
        assert _why(name, {**body, key: None}), key


def test_every_item_and_block_of_the_sdks_is_known() -> None:
    items = _types(openai_items.ResponseInputItemParam)
    assert {"message", "function_call_output"} <= items
    for kind in items:
        assert "cannot judge" not in _why("openai_responses", responses(input=[{"type": kind}])), kind
    blocks = _types(anthropic_beta.BetaContentBlockParam)
    assert {"text", "tool_use"} <= blocks
    for kind in blocks:
        said = anthropic(messages=[{"role": "user", "content": [{"type": kind}]}])
        assert "cannot judge" not in _why("anthropic_messages", said), kind
