"""OpenRouter's chat completions: OpenAI's, and what chooses models, providers and plugins. Pure.

Request: ``models`` are fallbacks; ``route`` only beside them; ``provider`` by a closed list of preferences, none of
which names a model; ``plugins`` by their id (``web`` is the tool ``web_search``); tools of the type ``openrouter:…``;
names of models that ask for more (``openrouter_models``). ``preset`` is content that OpenRouter holds.

``openrouter_responses`` is the responses API as OpenRouter serves it, with OpenAI's keys and OpenRouter's models.

Limits: what an answer cost is not read. A call without ``model`` has none, also where ``models`` names some.
"""

from __future__ import annotations

import re
from typing import Any

from ...tokens.canonical import JsonObject
from .asked import Asked, list_of_objects
from .keys import TOOL, BodyKeys, ClosedKeys, refuse
from .openai_chat import CHAT_MARKERS, ChatReader, OpenAIChat
from .openai_responses import OpenAIResponses
from .openrouter_models import WEB_SEARCH, read_fallbacks, read_model
from .reader import ResponseReader

_KEYS = BodyKeys(
    "frequency_penalty include_reasoning logit_bias logprobs max_completion_tokens max_tokens messages metadata min_p"
    " modalities model models parallel_tool_calls plugins prediction presence_penalty preset prompt_cache_key provider"
    " reasoning reasoning_effort repetition_penalty response_format route seed service_tier stop store stream"
    " stream_options structured_outputs temperature tool_choice tools top_a top_k top_logprobs top_p transforms usage"
    " user verbosity web_search_options"
)
_PREFERENCES = ClosedKeys(
    "allow_fallbacks data_collection enforce_distillable_text ignore max_price only order preferred_max_latency"
    " preferred_min_throughput quantizations require_parameters sort zdr"
)
_USAGE = ClosedKeys("include")
_PLUGINS = {
    # id: its keys, and the tool that it is
    "web": (
        ClosedKeys("enabled engine exclude_domains id include_domains max_results max_total_results search_prompt"),
        WEB_SEARCH,
    ),
    "file-parser": (ClosedKeys("enabled id pdf"), "file_parser"),
    "response-healing": (ClosedKeys("enabled id"), None),
}
_SIGNED = rb'|signature"(?!: ?(?:null|""))|reasoning\.encrypted"'
_SERVER_TOOLS = frozenset({"openrouter:web_search", "openrouter:web_fetch", "openrouter:datetime"})
_SERVER_TOOL = ClosedKeys("parameters type")
_PARAMETERS = ClosedKeys(
    "allowed_domains engine excluded_domains max_content_tokens max_results max_total_results max_uses"
    " search_context_size timezone user_location"
)


class OpenRouterChat(OpenAIChat):
    """The format ``openrouter_chat``."""

    name = "openrouter_chat"
    _keys = _KEYS

    def new_reader(self) -> ResponseReader:
        return _Reader()

    def _read_routing(self, asked: Asked, body: JsonObject) -> None:
        read_model(asked, asked.model)
        models = body.get("models")
        if models is not None:
            read_fallbacks(asked, models)
        route = body.get("route")
        if route is not None and (route != "fallback" or not models):
            refuse("route", "a route that is not judged", expected="fallback, beside a list of models")
        if body.get("preset") is not None:
            asked.state("preset")
        _read_preferences(body.get("provider"))
        for n, plugin in enumerate(asked.objects("plugins")):
            _read_plugin(asked, plugin, f"plugins[{n}]")
        if any(change != "middle-out" for change in _texts(body.get("transforms"), "transforms")):
            refuse("transforms", "a transform that is not known here", expected="middle-out")
        if (usage := body.get("usage")) is not None:
            _USAGE.check(_object(usage, "usage"), "usage")

    def _read_hosted_tool(self, asked: Asked, tool: JsonObject, where: str) -> bool:
        kind = tool.get("type")
        if not isinstance(kind, str) or kind not in _SERVER_TOOLS:
            return False
        TOOL.check(tool, where)
        _SERVER_TOOL.check(tool, where)
        _PARAMETERS.check(_object(tool.get("parameters", {}), f"{where}.parameters"), f"{where}.parameters")
        asked.provider_tool(kind, where)
        asked.provider_tool(kind.partition(":")[2], where)
        return True


class _Reader(ChatReader):
    """Beside what the API tells, signed thoughts (``reasoning_details``)."""

    markers = re.compile(CHAT_MARKERS % (_SIGNED + rb'|model"'))
    _markers_after_model = re.compile(CHAT_MARKERS % _SIGNED)


class OpenRouterResponses(OpenAIResponses):
    """The format ``openrouter_responses``."""

    name = "openrouter_responses"

    def _read_routing(self, asked: Asked, body: JsonObject) -> None:
        read_model(asked, asked.model)


def _read_preferences(provider: Any) -> None:
    """Which of its providers OpenRouter asks: any of them runs the model that is judged."""
    if provider is None:
        return
    _PREFERENCES.check(_object(provider, "provider"), "provider")
    for key in ("order", "only", "ignore", "quantizations"):
        _texts(provider.get(key), f"provider.{key}")
    for key in ("data_collection", "sort"):
        if not isinstance(provider.get(key), str | None):
            refuse(f"provider.{key}", "not a word", type(provider[key]).__name__, "a string")


def _read_plugin(asked: Asked, plugin: JsonObject, where: str) -> None:
    kind = plugin.get("id")
    if not isinstance(kind, str) or kind not in _PLUGINS:
        refuse(f"{where}.id", "a plugin that is not known here", expected=", ".join(_PLUGINS))
    keys, tool = _PLUGINS[kind]
    keys.check(plugin, where)
    if tool is not None:
        asked.provider_tool(tool, where)


def _object(value: Any, where: str) -> JsonObject:
    return list_of_objects([value], where)[0]


def _texts(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        refuse(where, "not a list of words", type(value).__name__, "a list of strings")
    return value
