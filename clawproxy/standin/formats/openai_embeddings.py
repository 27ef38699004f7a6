"""OpenAI embeddings, as numbers or as base64 of them. Pure."""

from __future__ import annotations

import base64
from struct import pack

from .ask import Ask
from .encode import JsonObject

_VECTOR = (0.25, -0.5, 0.75, 0.0)
_MAX_VECTORS = 2048


def answer(ask: Ask) -> JsonObject:
    """A vector for each text (a list of numbers is one text)."""
    texts = ask.body.get("input")
    many = isinstance(texts, list) and not all(isinstance(text, int) for text in texts)
    packed = ask.body.get("encoding_format") == "base64"
    vector = base64.b64encode(pack("<4f", *_VECTOR)).decode() if packed else list(_VECTOR)
    rows = [
        {"object": "embedding", "index": n, "embedding": vector}
        for n in range(min(len(texts), _MAX_VECTORS) if many and isinstance(texts, list) else 1)
    ]
    whole: JsonObject = {"object": "list", "data": rows, "model": ask.named_model}
    if "no-usage" not in ask.steering.words:
        whole["usage"] = {"prompt_tokens": ask.all_input_tokens, "total_tokens": ask.all_input_tokens}
    return whole
