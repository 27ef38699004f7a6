"""OpenRouter: what its keys and its model names ask for beside the model."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from clawproxy.addons.wire.format import FORMATS, WireRequest
from clawproxy.policies.facts import CallFacts
from clawproxy.tokens.errors import ClawproxyError

from .payloads import CHAT_ANSWER, chat, chat_tool, responses

MODEL = "acme/model-1"


def read(name: str = "openrouter_chat", **more: Any) -> CallFacts:
    body = (responses if name == "openrouter_responses" else chat)(**{"model": MODEL, **more})
    return FORMATS[name].read_request(WireRequest(body, "openrouter", "r"))


def refused(name: str = "openrouter_chat", **more: Any) -> str:
    with pytest.raises(ClawproxyError) as caught:
        read(name, **more)
    assert caught.value.reason in ("INVALID_REQUEST", "REQUEST_AMBIGUOUS")
    return str(caught.value)


def test_a_plain_call_asks_for_nothing_else() -> None:
    facts = read(usage={"include": True}, reasoning={"effort": "low"}, tools=[chat_tool("a")])
    assert (facts.model, facts.tools, facts.fallback_models, facts.is_router) == (MODEL, ("a",), (), False)
    assert (facts.provider_state, facts.remote_urls) == ((), ())


def test_models_beside_the_model_are_fallbacks() -> None:
    facts = read(models=[MODEL, "acme/model-2", "other/m", "acme/model-2"], route="fallback")
    assert facts.fallback_models == ("acme/model-2", "other/m")
    models: Any
    for models in ("acme/model-2", {}, [5], [None], ["ｍ"], ["x" * 300], ["openrouter/auto"], [["a"]]):
        refused(models=models)


def test_a_fallback_list_does_not_name_the_model() -> None:
    body = chat(models=[MODEL])
    del body["model"]
    facts = FORMATS["openrouter_chat"].read_request(WireRequest(body, "openrouter", "r"))
    assert (facts.model, facts.fallback_models) == (None, (MODEL,))


def test_a_route_is_taken_only_beside_fallbacks() -> None:
    assert read(route=None).fallback_models == ()
    route: Any
    for route in ("fallback", "sort", "", 5, {}):
        assert "route" in refused(route=route)
    assert "route" in refused(route="other", models=["acme/model-2"])


@pytest.mark.parametrize("name", ["openrouter_chat", "openrouter_responses", "fal_router"])
@pytest.mark.parametrize(
    ("model", "router", "tools", "state"),
    [
        ("openrouter/auto", True, (), ()),
        ("OpenRouter/Auto:online", True, ("web_search",), ()),
        ("openrouter/a-name-not-known-here", True, (), ()),
        ("~acme/model-latest", True, (), ()),
        ("switchpoint/router", True, (), ()),
        ("auto", True, (), ()),
        ("acme/model-1:online", False, ("web_search",), ()),
        ("acme/model-1:free:ONLINE", False, ("web_search",), ()),
        ("acme/model-1:free", False, (), ()),
        ("acme/auto-model", False, (), ()),
        ("@preset/mine", False, (), ("preset",)),
        ("acme/model-1@preset/mine", False, (), ("preset",)),
    ],
)
def test_the_name_of_a_model_is_read(name: str, model: str, router: bool, tools: object, state: object) -> None:
    body: dict[str, Any] = {"model": model, "prompt": "hi"}
    facts = (
        FORMATS[name].read_request(WireRequest(body, "fal", "r")) if name == "fal_router" else read(name, model=model)
    )
    assert (facts.model, facts.is_router, facts.tools, facts.provider_state) == (model, router, tools, state)


def test_a_fallback_can_search_the_web_too() -> None:
    assert read(models=["other/m:online"]).tools == ("web_search",)
    assert read(models=["@preset/x"]).provider_state == ("preset",)


def test_preferences_are_a_closed_list() -> None:
    read(
        provider={"order": ["a", "b"], "only": ["a"], "allow_fallbacks": False, "data_collection": "deny", "zdr": True}
    )
    read(provider={"sort": "price", "max_price": {"prompt": 1}, "quantizations": ["fp8"], "ignore": []})
    provider: Any
    for provider in ("a", [], {"models": ["x"]}, {"Order": []}, {"order": "a"}, {"order": [{}]}, {"sort": {"by": "x"}}):
        refused(provider=provider)
    refused(provider={"max_price": {"model": "other"}})


def test_plugins_are_tools() -> None:
    facts = read(
        plugins=[{"id": "web", "max_results": 3, "engine": "exa"}, {"id": "file-parser", "pdf": {"engine": "x"}}]
    )
    assert facts.tools == ("web_search", "file_parser")
    assert read(plugins=[{"id": "response-healing"}]).tools == ()
    for plugin in ({"id": "auto-router"}, {"id": "web", "model": "x"}, {"id": "WEB"}, {}, "web", {"id": ["web"]}):
        refused(plugins=[plugin])


def test_tools_that_openrouter_runs_are_tools_by_type_and_name() -> None:
    facts = read(tools=[{"type": "openrouter:web_search", "parameters": {"max_results": 2}}, chat_tool("a")])
    assert facts.tools == ("openrouter:web_search", "web_search", "a")
    for tool in (
        {"type": "openrouter:subagent"},
        {"type": "openrouter:web_search", "parameters": {"model": "x"}},
        {"type": "openrouter:web_search", "name": "a"},
        {"type": "openrouter:web_search", "parameters": []},
    ):
        refused(tools=[tool])


def test_other_extras_are_known_or_refused() -> None:
    assert read(preset="mine").provider_state == ("preset",)
    read(transforms=["middle-out"])
    read(transforms=[])
    more: Any
    for more in ({"transforms": ["other"]}, {"transforms": "middle-out"}, {"usage": {"model": 1}}, {"usage": 1}):
        refused(**more)
    for key in ("api_key", "models_", "Models", "debug", "fallbacks", "api_base"):
        unknown: Any = {key: []}
        refused(**unknown)


@pytest.mark.parametrize("name", ["openai_chat", "openai_responses", "openrouter_responses"])
def test_openais_own_formats_stay_closed(name: str) -> None:
    for key in ("models", "provider", "plugins", "route", "transforms", "preset"):
        body = (chat if name == "openai_chat" else responses)(**{key: []})
        with pytest.raises(ClawproxyError):
            FORMATS[name].read_request(WireRequest(body, "openai", "r"))


def test_what_a_call_cost_disturbs_nothing() -> None:
    reader = FORMATS["openrouter_chat"].new_reader()
    answer: Any = CHAT_ANSWER
    usage = {
        **answer["usage"],
        "cost": 0.1,
        "is_byok": False,
        "cost_details": {"upstream_inference_cost": None},
    }
    reader.read_json(orjson.dumps({**answer, "provider": "Acme", "usage": usage}))
    assert (reader.tokens_input, reader.tokens_output, reader.ended) == (31, 7, True)


# -- embeddings ----------------------------------------------------------------------------------------------------


def embed(**body: Any) -> CallFacts:
    return FORMATS["openai_embeddings"].read_request(WireRequest({"model": "e-1", "input": "x", **body}, "openai", "e"))


def test_embeddings_take_texts_and_tokens() -> None:
    given: Any
    for given in ("x", ["x", "y"], [1, 2], [[1], [2, 3]]):
        facts = embed(input=given, encoding_format="base64", dimensions=8, user="u")
        assert (facts.model, facts.stream, facts.tools, facts.max_output_tokens) == ("e-1", False, (), None)
    for given in (None, 5, [], {}, ["x", 1], [1, True], [[1], "x"], [[1.5]], [{"text": "x"}]):
        with pytest.raises(ClawproxyError):
            embed(input=given)
    for key in ("stream", "tools", "messages", "provider", "Input", "prompt"):
        with pytest.raises(ClawproxyError):
            embed(**{key: None})


def test_the_model_in_the_path_of_a_deployment_must_agree() -> None:
    for name, body in (("openai_embeddings", {"input": "x"}), ("openai_chat", chat())):
        form = FORMATS[name]
        body.pop("model", None)
        request = WireRequest(body, "azure", "r", model="my-deployment")
        assert form.read_request(request).model == "my-deployment"
        body["model"] = "my-deployment"
        assert form.read_request(request).model == "my-deployment"
        body["model"] = "other"
        with pytest.raises(ClawproxyError):
            form.read_request(request)


def test_the_usage_of_embeddings_is_read() -> None:
    reader = FORMATS["openai_embeddings"].new_reader()
    usage = {"prompt_tokens": 9, "total_tokens": 9}
    reader.read_json(orjson.dumps({"object": "list", "data": [{"embedding": [0.5]}], "model": "e-1", "usage": usage}))
    assert (reader.tokens_input, reader.tokens_output, reader.model, reader.usage_known) == (9, 0, "e-1", True)
    assert (reader.ended, reader.tool_calls) == (True, ())


@pytest.mark.parametrize(
    "model", ["perplexity/sonar", "Perplexity/sonar-pro", "openai/o3-deep-research", "openai/gpt-4o-search-preview"]
)
def test_a_model_that_always_searches_the_web_is_that_tool(model: str) -> None:
    assert read(model=model).tools == ("web_search",)
    assert read(models=[model]).tools == ("web_search",)
    assert read("openrouter_responses", model=model).tools == ("web_search",)


@pytest.mark.parametrize("model", ["acme/model-1:online ", " openrouter/auto", "acme/model-1: online", "\u00a0~acme/m"])
def test_a_name_that_a_reader_could_trim_is_refused(model: str) -> None:
    refused(model=model)
    refused(models=[model])
