"""OpenAI chat completions, and what OpenRouter and Azure add to them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .ask import Ask
from .encode import CREATED_S, JsonObject, data_event, pieces_of

_DONE = b"data: [DONE]\n\n"
_PROCESSING = b": OPENROUTER PROCESSING\n\n"


def usage(ask: Ask) -> JsonObject:
    """Figures with their details; OpenRouter's with what the call cost."""
    figures: JsonObject = {
        "prompt_tokens": ask.all_input_tokens,
        "completion_tokens": ask.all_output_tokens,
        "total_tokens": ask.total_tokens,
        "prompt_tokens_details": {"cached_tokens": ask.steering.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": ask.steering.reasoning},
    }
    if _by_openrouter(ask):
        prompt, completion = ask.all_input_tokens / 1_000_000, ask.all_output_tokens / 250_000
        details = {
            "upstream_inference_cost": None,
            "upstream_inference_prompt_cost": prompt,
            "upstream_inference_completions_cost": completion,
        }
        figures |= {"cost": prompt + completion, "is_byok": False, "cost_details": details}
    return figures


def _by_openrouter(ask: Ask) -> bool:
    return ask.provider in ("openrouter", "fal")


def _base(ask: Ask, kind: str) -> JsonObject:
    ident = f"gen-{CREATED_S}-{ask.seed}" if _by_openrouter(ask) else f"chatcmpl-{ask.seed}"
    base: JsonObject = {"id": ident, "object": kind, "created": CREATED_S, "model": ask.named_model}
    return base | ({"provider": "Stand-in"} if _by_openrouter(ask) else {"system_fingerprint": "fp_standin"})


def answer(ask: Ask) -> JsonObject:
    """The whole completion."""
    message: JsonObject = {"role": "assistant", "content": ask.text, "refusal": None}
    if ask.calls:
        message |= {
            "content": ask.text if ask.speaks else None,
            "tool_calls": [
                {
                    "id": f"call_{call.ident}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.written},
                }
                for call in ask.calls
            ],
        }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls" if ask.calls else "stop"}
    whole = _base(ask, "chat.completion") | {"choices": [choice]}
    if "no-usage" not in ask.steering.words:
        whole["usage"] = usage(ask)
    return whole


def chunks(ask: Ask) -> Iterator[JsonObject]:
    """The completion in chunks; the last one has the usage, if any was asked for."""
    # OpenRouter tells the usage whether it was asked or not
    with_usage = ask.want_usage or (_by_openrouter(ask) and "no-usage" not in ask.steering.words)
    base = _base(ask, "chat.completion.chunk")
    if ask.want_usage and not _by_openrouter(ask):
        base["usage"] = None

    def chunk(delta: JsonObject, finish: str | None = None) -> JsonObject:
        return base | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    if ask.provider == "azure":
        filtered = {"prompt_index": 0, "content_filter_results": {}}
        empty = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
        yield empty | {"prompt_filter_results": [filtered]}
    if ask.speaks:
        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in ask.pieces:
            yield chunk({"content": piece})
    for index, call in enumerate(ask.calls):
        function = {"name": call.name, "arguments": ""}
        opened = {"index": index, "id": f"call_{call.ident}", "type": "function", "function": function}
        delta: JsonObject = {"tool_calls": [opened]}
        yield chunk({"role": "assistant", "content": None} | delta if index == 0 and not ask.speaks else delta)
        for piece in pieces_of(call.written):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, "tool_calls" if ask.calls else "stop")
    if with_usage:
        yield base | {"choices": [], "usage": usage(ask)}


def events(ask: Ask) -> Iterator[bytes]:
    """The completion as server-sent events; OpenRouter's with comments in between."""
    comments = _by_openrouter(ask)
    if comments:
        yield _PROCESSING
    for n, chunk in enumerate(chunks(ask)):
        yield data_event(chunk)
        if comments and n == 1:
            yield _PROCESSING
    yield _DONE
