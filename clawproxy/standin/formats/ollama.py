"""Ollama chat, generate, embed and show. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .ask import Ask
from .encode import CREATED, JsonObject, line


def _base(ask: Ask) -> JsonObject:
    return {"model": ask.named_model, "created_at": CREATED}


def _end(ask: Ask) -> JsonObject:
    end: JsonObject = {"done": True, "done_reason": "stop", "total_duration": 7_000_000, "load_duration": 1_000}
    if "no-usage" not in ask.steering.words:
        counts = {"prompt_eval_count": ask.all_input_tokens, "eval_count": ask.all_output_tokens}
        end |= counts | {"prompt_eval_duration": 1_000, "eval_duration": 1_000}
    return end


def _calls(ask: Ask) -> list[JsonObject]:
    return [
        {
            "id": f"call_{call.ident}",
            "function": {"index": index, "name": call.name, "arguments": call.arguments},
        }
        for index, call in enumerate(ask.calls)
    ]


def chat(ask: Ask) -> JsonObject:
    """The whole answer of /api/chat."""
    message: JsonObject = {"role": "assistant", "content": ask.text if ask.speaks else ""}
    if ask.calls:
        message["tool_calls"] = _calls(ask)
    return _base(ask) | {"message": message} | _end(ask)


def chat_lines(ask: Ask) -> Iterator[bytes]:
    """The answer of /api/chat in lines; calls are whole, in a line of their own."""
    empty: JsonObject = {"role": "assistant", "content": ""}
    deltas = [empty | {"content": piece} for piece in ask.pieces] if ask.speaks else []
    if ask.calls:
        deltas.append(empty | {"tool_calls": _calls(ask)})
    for delta in deltas:
        yield line(_base(ask) | {"message": delta, "done": False})
    yield line(_base(ask) | {"message": empty} | _end(ask))


def generate(ask: Ask) -> JsonObject:
    """The whole answer of /api/generate."""
    return _base(ask) | {"response": ask.text} | _end(ask)


def generate_lines(ask: Ask) -> Iterator[bytes]:
    """The answer of /api/generate in lines."""
    for piece in ask.pieces:
        yield line(_base(ask) | {"response": piece, "done": False})
    yield line(_base(ask) | {"response": ""} | _end(ask))


def embed(ask: Ask) -> JsonObject:
    """The answer of /api/embed: a vector for each text."""
    texts = ask.body.get("input")
    vectors = [[0.25, -0.5, 0.75]] * (min(len(texts), 2048) if isinstance(texts, list) else 1)
    whole: JsonObject = {"model": ask.named_model, "embeddings": vectors, "total_duration": 7_000, "load_duration": 1}
    return whole if "no-usage" in ask.steering.words else whole | {"prompt_eval_count": ask.all_input_tokens}


def show(ask: Ask) -> JsonObject:
    """The answer of /api/show."""
    details = {"parent_model": "", "format": "gguf", "family": "stand-in", "families": ["stand-in"]}
    details |= {"parameter_size": "1B", "quantization_level": "Q4_0"}
    known = {"general.architecture": "standin", "standin.context_length": 8192}
    return {"modelfile": "", "parameters": "", "template": "", "details": details} | {
        "model_info": known,
        "capabilities": ["completion", "tools"],
        "modified_at": CREATED,
    }
