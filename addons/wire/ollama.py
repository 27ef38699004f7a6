"""Ollama's own API: chat, generate, embed and show, each a format. Pure.

Request: a missing ``stream`` means true. Tools stand in ``tools[].function.name`` of a chat. Images are base64 in the
request. ``context``, tokens of an earlier answer, is content that cannot be read here, and judged like content that the
provider holds. Ollama reads keys of any case, so keys are closed at every place that it reads.
Answer: one object, or one per line, ended by ``done: true``.

A model whose tag says ``cloud`` runs at ollama.com, to which the server hands the request on: as a router's, its name
must be allowed as it stands.

``ollama_show`` (kind ``count``) tells what a model is: it names one, and nothing is generated.

Limits: a text in ``options`` or ``template`` is not looked into.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ...policies.facts import CallFacts
from ...policies.routers import is_ollama_cloud
from ...tokens.canonical import JsonObject
from .asked import Asked, object_at
from .chat_rewrite import OllamaRewriter
from .events import Framing, NdjsonFraming
from .keys import TOOL, BodyKeys, ClosedKeys, refuse
from .reader import ResponseReader, count, load_object, member, objects, text
from .refusal_text import RefusalText
from .request import WireRequest
from .rewrite import AnswerRewriter

_STATE_KEYS = ("context",)
_COMMON = "format keep_alive logprobs model options stream think top_logprobs"
_CHAT_KEYS = BodyKeys(f"{_COMMON} messages tools")
_GENERATE_KEYS = BodyKeys(f"{_COMMON} context height images prompt raw steps suffix system template width")
_EMBED_KEYS = BodyKeys("dimensions input keep_alive model options prompt truncate")
_SHOW_KEYS = BodyKeys("model verbose")
_MESSAGE = ClosedKeys("content images role thinking tool_call_id tool_calls tool_name")
_TOOL = ClosedKeys("function type")
_CALL = ClosedKeys("function id type")
_CALLED = ClosedKeys("arguments index name")
_OPTIONS = ClosedKeys(
    "embedding_only f16_kv frequency_penalty logits_all low_vram main_gpu min_p mirostat mirostat_eta mirostat_tau"
    " num_batch num_ctx num_gpu num_keep num_predict num_thread numa penalize_newline presence_penalty repeat_last_n"
    " repeat_penalty seed stop temperature tfs_z top_k top_p typical_p use_mlock use_mmap vocab_only"
)


class _Ollama:
    """What the formats share."""

    _keys: BodyKeys
    _streams = True

    def read_request(self, request: WireRequest) -> CallFacts:
        asked = Asked(request, self._keys, state_keys=_STATE_KEYS, streams=self._streams)
        body = request.body
        if asked.model is not None and is_ollama_cloud(asked.model):
            asked.router()
        limit = None
        if body.get("options") is not None:
            options = object_at(body, "options", "body")
            _OPTIONS.check(options, "options")
            limit = _limit(options.get("num_predict"))
        _read_images(asked, body)
        for key in ("prompt", "system", "suffix", "template"):
            if not isinstance(body.get(key), str | None):
                refuse(key, "not a string", type(body[key]).__name__, "a string")
        self._read_more(asked, body)
        return asked.facts(limit=limit)

    def _read_more(self, asked: Asked, body: JsonObject) -> None:
        """What only this format has."""

    def framing(self, content_type: str, *, stream: bool) -> Framing | None:
        return NdjsonFraming() if content_type == "application/x-ndjson" else None

    def new_reader(self) -> ResponseReader:
        return _Reader()

    def new_rewriter(self) -> AnswerRewriter | None:
        return OllamaRewriter(self.refusal_body, self.new_reader)

    def refusal_body(self, refusal: RefusalText) -> JsonObject:
        return {"error": refusal.message, "clawproxy": refusal.marks()}


class OllamaChat(_Ollama):
    """The format ``ollama_chat``."""

    name = "ollama_chat"
    _keys = _CHAT_KEYS

    def _read_more(self, asked: Asked, body: JsonObject) -> None:
        for n, tool in enumerate(asked.objects("tools") if body.get("tools") is not None else []):
            asked.tool(_tool_name(tool, f"tools[{n}]"), f"tools[{n}].function.name")
        for n, message in enumerate(asked.objects("messages", needed=True)):
            where = f"messages[{n}]"
            _MESSAGE.check(message, where)
            if not isinstance(message.get("content"), str | None):
                refuse(f"{where}.content", "not a string", type(message["content"]).__name__, "a string")
            _read_images(asked, message)
            calls = message.get("tool_calls")
            for call in calls if isinstance(calls, list) else []:
                if not isinstance(call, dict):
                    refuse(f"{where}.tool_calls", "not an object", type(call).__name__, "objects with a function")
                _CALL.check(call, f"{where}.tool_calls")
                _CALLED.check(object_at(call, "function", f"{where}.tool_calls"), f"{where}.tool_calls.function")


class OllamaGenerate(_Ollama):
    """The format ``ollama_generate``."""

    name = "ollama_generate"
    _keys = _GENERATE_KEYS


class OllamaEmbed(_Ollama):
    """The format ``ollama_embed``; the older ``/api/embeddings`` has ``prompt`` for ``input``."""

    name = "ollama_embed"
    _keys = _EMBED_KEYS
    _streams = False

    def _read_more(self, asked: Asked, body: JsonObject) -> None:
        given = body.get("input", "")
        if not isinstance(given, str) and not (isinstance(given, list) and all(isinstance(i, str) for i in given)):
            refuse("input", "not texts", type(given).__name__, "a string or strings")


class OllamaShow(_Ollama):
    """The format ``ollama_show``."""

    name = "ollama_show"
    _keys = _SHOW_KEYS
    _streams = False

    def read_request(self, request: WireRequest) -> CallFacts:
        body = request.body
        if "name" in body:  # the older word for model, which Ollama reads where that is not there
            if "model" in body:
                refuse("name", "a second name for the model", expected="model alone")
            request = replace(request, body={"model" if key == "name" else key: body[key] for key in body})
        return super().read_request(request)


def _tool_name(tool: JsonObject, where: str) -> object:
    TOOL.check(tool, where)
    _TOOL.check(tool, where)
    if tool.get("type", "function") != "function":
        refuse(f"{where}.type", "a kind of tool that is not known here", expected="function")
    inner = object_at(tool, "function", where)
    TOOL.check(inner, f"{where}.function")
    if "tools" in inner:
        refuse(where, "tools in a tool", expected="no such key")
    return inner.get("name")


def _read_images(asked: Asked, place: JsonObject) -> None:
    images = place.get("images")
    if images is None:
        return
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        refuse("images", "not a list of strings", type(images).__name__, "images in base64")
    for image in images:
        if ":" in image[:64]:
            asked.url(image, "images")  # base64 has no colon


def _limit(bound: Any) -> int | None:
    """``num_predict``: negative numbers mean no bound."""
    if bound is None:
        return None
    if isinstance(bound, bool) or not isinstance(bound, int):
        refuse("options.num_predict", "not a number of tokens", type(bound).__name__, "a whole number")
    return bound if bound >= 0 else None


class _Reader(ResponseReader):
    _markers = rb'"done"\s{0,4}:\s{0,4}t|"tool_calls"|"error"|\\u00[4-7]'
    markers = re.compile(_markers + rb'|"model"')
    _markers_after_model = re.compile(_markers)

    def __init__(self) -> None:
        super().__init__()
        self._seen = 0

    def on_event(self, event: str, data: bytes) -> bool:
        if not self.markers.search(data):
            return False
        told = load_object(data)
        if told is None:
            self.unread = True
            return False
        self._read_answer(told)
        if self.model is not None:
            self.markers = self._markers_after_model
        if told.get("error"):
            self.ended = self.failed = True
        if told.get("done") is True:
            self.ended = True
        return self.ended

    def _read_answer(self, answer: JsonObject) -> None:
        self._read_model(answer.get("model"))
        read, wrote = count(answer.get("prompt_eval_count")), count(answer.get("eval_count"))
        if read is not None or wrote is not None:
            self.usage_known = True
            self.tokens_input = self.tokens_input if read is None else read
            self.tokens_output = self.tokens_output if wrote is None else wrote
        calls = member(answer, "message").get("tool_calls")
        found = objects(calls)
        if calls and not (isinstance(calls, list) and len(found) == len(calls)):
            self.unread = True
        for call in found:
            function = member(call, "function")
            self._whole(self._seen, text(function.get("name")), function.get("arguments"))  # each is told once, whole
            self._seen += 1
