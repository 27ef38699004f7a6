"""What a request asks for, collected so that the provider cannot read more out of it than was judged here. Pure.

The body comes from the strict parser, so it has one reading as JSON. What is left are readers that take one key for
another (case, compatibility characters, ``toolChoice`` for ``tool_choice``): a key that folds to one of ours without
being it is refused, as are shapes that this module does not know where the policy depends on them.
"""

from __future__ import annotations

import re
from typing import Any

from ...policies.facts import CallFacts
from ...policies.meta_tools import META_TOOLS
from ...policies.names import is_settled
from ...tokens.canonical import MAX_SAFE_INT, JsonObject
from .extent import read_choices, surcharges
from .keys import HOLDS_TOOLS, TOOL, BodyKeys, refuse
from .request import WireRequest

_STATE_KEYS = ("previous_response_id", "conversation", "prompt", "container", "thread")

# read by the format, or free for the client to fill and not for the provider to act on
_READ_ELSEWHERE = frozenset(
    {
        "tools",
        "functions",
        "tool_choice",
        "function_call",
        "messages",
        "input",
        "system",
        "mcp_servers",
        "prediction",
        "metadata",
        "client_metadata",
        "logit_bias",
        # Ollama: a schema
        "format",
        # Bedrock
        "toolConfig",
    }
)
# an address that every reader of URLs takes apart alike: a plain host, and after it nothing that some read as its end
_MCP_URL = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?(?:[/?#][!-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_MCP_CONNECTOR = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class Asked:
    """Collects the facts of one request; ``facts`` closes it."""

    def __init__(
        self,
        request: WireRequest,
        keys: BodyKeys,
        *,
        state_keys: tuple[str, ...] = _STATE_KEYS,
        streams: bool = False,
    ) -> None:
        """``state_keys`` point at content that the provider holds; ``streams`` is what a missing ``stream`` means."""
        body = request.body
        keys.check(body, "body")
        self._request = request
        self._body = body
        self._tools: dict[str, None] = {}
        self._state: dict[str, None] = {}
        self._urls: dict[str, None] = {}
        self._forced: str | None = None
        self._any_tools: dict[str, None] = {}
        self._provider_tools: dict[str, None] = {}
        self._fallbacks: dict[str, None] = {}
        self._is_router = False
        self._model = body.get("model", request.model)
        if request.model is not None:
            self.same_model_as_path(request.model)
        if "model" in body and not (isinstance(self._model, str) and is_settled(self._model)):
            refuse("model", "not a model name", type(self._model).__name__, "1 to 256 printable characters")
        if not isinstance(body.get("stream", False), bool):
            refuse("stream", "neither true nor false", type(body["stream"]).__name__, "true, false or no such key")
        self._stream = body.get("stream", streams) if request.stream is None else request.stream
        if body.get("stream", self._stream) != self._stream:
            refuse("stream", "the body says otherwise than the path", expected="no such key")
        for key in state_keys:
            if body.get(key) is not None:
                self.state(key)
        self._hosted_tools()
        self._options()

    def objects(self, key: str, *, needed: bool = False) -> list[JsonObject]:
        """The list of objects at ``key`` of the body; empty where it is absent and not ``needed``."""
        if key not in self._body and not needed:
            return []
        return list_of_objects(self._body.get(key), key)

    def tool(self, name: object, where: str) -> None:
        """A tool that the call declares."""
        settled = _settled(name, where)
        self._tools[settled] = None
        if settled in META_TOOLS:
            self._any_tools[settled] = None

    def provider_tool(self, name: object, where: str) -> None:
        """A tool that the call declares and the provider runs: no call of it passes here before it is made."""
        self.tool(name, where)
        self._provider_tools[_settled(name, where)] = None

    def force(self, name: object, where: str) -> None:
        """The tool that the model is made to call; ``decide`` refuses one that is not declared."""
        self._forced = _settled(name, where)

    def state(self, name: str) -> None:
        """A member that points at content which the provider holds."""
        self._state[name] = None

    def url(self, value: object, name: str) -> None:
        """The content at the member ``name``: in the request as a ``data:`` URL, or fetched by the provider."""
        if not isinstance(value, str):
            refuse(name, f"{name!r} is no URL", type(value).__name__, "a data: URL")
        if value[:5].lower() != "data:":
            self._urls[name] = None

    @property
    def model(self) -> str | None:
        """The model of the call, where it names one."""
        return self._model

    def fallback(self, name: object, where: str) -> None:
        """A model that the provider may use in place of the one that is named."""
        if not (isinstance(name, str) and is_settled(name)):
            refuse(where, "not a model name", type(name).__name__, "1 to 256 printable characters")
        if name != self._model:
            self._fallbacks[name] = None

    def router(self) -> None:
        """The model is a name behind which the provider chooses one."""
        self._is_router = True

    def mcp_server(self, label: object, address: object, where: str) -> None:
        """A server that the provider will call for the model.

        The agent chooses the label freely, so the host (or the connector) is judged as well: ``mcp:<label>`` and
        ``mcp:<host[:port]>``.
        """
        if not (isinstance(label, str) and isinstance(address, str) and label and address):
            refuse(where, "an MCP server without a name or an address", expected="both as strings")
        self.provider_tool(f"mcp:{label}", where)
        if not _MCP_CONNECTOR.fullmatch(address):
            found = _MCP_URL.fullmatch(address)
            if not found:
                refuse(where, "not the address of an MCP server", expected="https://host/path, or a connector")
            scheme, host, port = found[1].lower(), found[2].lower(), found[3] or ""
            port = port or ("443" if scheme == "https" else "80")
            address = host if port == "443" else f"{host}:{port}"
        self.provider_tool(f"mcp:{address}", where)

    def same_model(self, value: object, where: str) -> None:
        """A place for another model: only the one that is judged may stand there."""
        if value is not None and value != self._model:
            refuse(where, "a second model, which would not be judged", expected="no such key, or the model of the call")

    def same_model_as_path(self, model: str) -> None:
        """The path names the model; a body that names another is two calls in one."""
        if self._body.get("model", model) != model:
            refuse("model", "the body names another model than the path", expected="no such key, or the same model")

    def _hosted_tools(self) -> None:
        if self._body.get("web_search_options") is not None:
            self.provider_tool("web_search", "web_search_options")
        for n, server in enumerate(self.objects("mcp_servers")):
            TOOL.check(server, f"mcp_servers[{n}]")
            self.mcp_server(server.get("name"), server.get("url"), f"mcp_servers[{n}]")

    def _options(self) -> None:
        """What is neither conversation nor tools: no option holds a tool or another model."""
        left = [(value, key) for key, value in self._body.items() if key not in _READ_ELSEWHERE]
        while left:
            value, where = left.pop()
            if isinstance(value, list):
                left.extend((inner, where) for inner in value)
            elif isinstance(value, dict):
                HOLDS_TOOLS.check(value, where)
                for key, inner in value.items():
                    if key in HOLDS_TOOLS.read:
                        refuse(where, f"{key!r} in an option", expected="no such key")
                    if key == "model" and where != "moderation":
                        self.same_model(inner, where)
                    if key not in ("schema", "grammar", "variables"):
                        left.append((inner, where))

    def facts(self, *limits: str, limit: int | None = None, choices: object = 1) -> CallFacts:
        """The facts; ``limits`` are the keys that bound the output in tokens, of which the largest counts, and
        ``limit`` one that was read elsewhere. ``choices`` is how many answers the body asks for."""
        bounds = [] if limit is None else [limit]
        for key in limits:
            bound = self._body.get(key)
            if bound is None:
                continue
            if isinstance(bound, bool) or not isinstance(bound, int) or not 0 <= bound <= MAX_SAFE_INT:
                refuse(key, "not a number of tokens", type(bound).__name__, "a whole number")
            bounds.append(bound)
        return CallFacts(
            provider=self._request.provider,
            route=self._request.route,
            model=self._model,
            stream=self._stream,
            tools=tuple(self._tools),
            tool_choice=self._forced,
            provider_state=tuple(self._state),
            max_output_tokens=max(bounds, default=None),
            remote_urls=tuple(self._urls),
            kind=self._request.kind,
            any_tools=tuple(self._any_tools),
            provider_tools=tuple(self._provider_tools),
            fallback_models=tuple(self._fallbacks),
            is_router=self._is_router,
            choices=read_choices(choices),
            surcharges=surcharges(self._body),
        )


def _settled(name: object, where: str) -> str:
    if not (isinstance(name, str) and is_settled(name)):
        refuse(where, "not a tool name", type(name).__name__, "1 to 256 printable characters")
    return name


def list_of_objects(value: Any, where: str) -> list[JsonObject]:
    """``value``, which must be a list of objects."""
    if not isinstance(value, list):
        refuse(where, "not a list", type(value).__name__, "a list of objects")
    for item in value:
        if not isinstance(item, dict):
            refuse(where, "not an object in the list", type(item).__name__, "a list of objects")
    return value


def object_at(obj: JsonObject, key: str, where: str) -> JsonObject:
    """The object that must stand at ``key``."""
    value = obj.get(key)
    if not isinstance(value, dict):
        refuse(f"{where}.{key}", "not an object", type(value).__name__, "an object")
    return value
