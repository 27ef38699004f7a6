"""What a request asks for, collected so that the provider cannot read more out of it than was judged here. Pure.

The body comes from the strict parser, so it has one reading as JSON. What is left are readers that take one key for
another (case, compatibility characters, ``toolChoice`` for ``tool_choice``): a key that folds to one of ours without
being it is refused, as are shapes that this module does not know where the policy depends on them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ...policies.facts import CallFacts
from ...policies.names import is_settled
from ...tokens.canonical import MAX_SAFE_INT, JsonObject
from ...tokens.errors import ClawproxyError

_STATE_KEYS = (
    "previous_response_id",
    "conversation",
    "prompt",
    "container",
    "thread",
    "thread_id",
    "assistant_id",
    "preset",
)
_NOT_ALNUM = re.compile(r"[\W_]+")


def refuse(where: str, message: str, got: object = None, expected: str = "") -> NoReturn:
    """Raise INVALID_REQUEST; ``got`` is a type or a number, never text of the request."""
    raise ClawproxyError("INVALID_REQUEST", message, where=where, got=got, expected=expected)


def fold_key(key: str) -> str:
    """What the most careless reader makes of a key: compatibility forms, case, underscores and the like are gone."""
    if not key.isascii():
        key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", key).casefold())
    return _NOT_ALNUM.sub("", key.lower())


class KeyRule:
    """The keys of one kind of object that are read, and those that are common there and mean nothing to the policy."""

    def __init__(self, read: str, common: str = "") -> None:
        self._folded = {fold_key(key): key for key in read.split()}
        self._known = frozenset((*read.split(), *common.split()))

    def check(self, obj: JsonObject, where: str) -> None:
        """Refuse a key of ``obj`` that could be taken for one that is read."""
        for key in obj:
            if key not in self._known and (meant := self._folded.get(fold_key(key))) is not None:
                refuse(where, f"a key reads like {meant!r} without being it", expected=f"{meant!r}, or no such key")


_BODY = KeyRule(
    "model models stream tools functions tool_choice function_call messages input max_tokens max_completion_tokens"
    " max_output_tokens mcp_servers plugins web_search_options search_parameters fallbacks background"
    f" {' '.join(_STATE_KEYS)}"
)
TOOL = KeyRule(
    "type name function custom tools model svg server_label server_url connector_id tunnel_id mcp_server_name url"
    " container container_id environment file_id file_ids skills definition",
    "description parameters input_schema strict cache_control defer_loading format",
)
PART = KeyRule(
    "type role name tools functions tool tool_changes definition model file file_id source content output id"
    " mcp_servers",
    "text tool_use_id input is_error cache_control call_id arguments status signature thinking",
)


class Asked:
    """Collects the facts of one request; ``facts`` closes it."""

    def __init__(self, body: JsonObject) -> None:
        _BODY.check(body, "body")
        self._body = body
        self._tools: dict[str, None] = {}
        self._state: dict[str, None] = {}
        self._forced: str | None = None
        self._model = body.get("model")
        if "model" in body and not (isinstance(self._model, str) and is_settled(self._model)):
            refuse("model", "not a model name", type(self._model).__name__, "1 to 256 printable characters")
        if not isinstance(body.get("stream", False), bool):
            refuse("stream", "neither true nor false", type(body["stream"]).__name__, "true, false or no such key")
        for key in _STATE_KEYS:
            if body.get(key) is not None:
                self.state(key)
        self._other_models()
        self._hosted_tools()

    def objects(self, key: str, *, needed: bool = False) -> list[JsonObject]:
        """The list of objects at ``key`` of the body; empty where it is absent and not ``needed``."""
        if key not in self._body and not needed:
            return []
        return list_of_objects(self._body.get(key), key)

    def tool(self, name: object, where: str) -> None:
        """A tool that the call declares."""
        self._tools[_settled(name, where)] = None

    def force(self, name: object, where: str) -> None:
        """The tool that the model is made to call; ``decide`` refuses one that is not declared."""
        self._forced = _settled(name, where)

    def state(self, name: str) -> None:
        """A member that points at content which the provider holds."""
        self._state[name] = None

    def mcp_server(self, label: object, address: object, where: str) -> None:
        """A server that the provider will call for the model.

        The agent chooses the label freely, so the host (or the connector) is judged as well: ``mcp:<label>`` and
        ``mcp:<host[:port]>``.
        """
        if not (isinstance(label, str) and isinstance(address, str) and label and address):
            refuse(where, "an MCP server without a name or an address", expected="both as strings")
        self.tool(f"mcp:{label}", where)
        if "://" in address:
            try:
                parts = urlsplit(address)
                host, port = parts.hostname, parts.port
            except ValueError:
                host, port = None, None
            if not host or parts.username is not None or parts.password is not None:
                refuse(where, "not the address of an MCP server", expected="https://host/path")
            address = host if port in (None, 443) else f"{host}:{port}"
        self.tool(f"mcp:{address}", where)

    def same_model(self, value: object, where: str) -> None:
        """A place for another model: only the one that is judged may stand there."""
        if value is not None and value != self._model:
            refuse(where, "a second model, which would not be judged", expected="no such key, or the model of the call")

    def _other_models(self) -> None:
        for key in ("models", "fallbacks"):
            listed = self._body.get(key, [])
            if not isinstance(listed, list):
                refuse(key, "not a list", type(listed).__name__, "no such key")
            for item in listed:
                if isinstance(item, dict):
                    PART.check(item, key)
                named = item.get("model") if isinstance(item, dict) else item
                self.same_model(named or "", key)

    def _hosted_tools(self) -> None:
        for key in ("web_search_options", "search_parameters"):
            if self._body.get(key) is not None:
                self.tool("web_search", key)
        for n, plugin in enumerate(self.objects("plugins")):
            TOOL.check(plugin, f"plugins[{n}]")
            plugin_id = plugin.get("id")
            self.tool(f"plugin:{plugin_id}" if isinstance(plugin_id, str) else None, f"plugins[{n}].id")
        for n, server in enumerate(self.objects("mcp_servers")):
            TOOL.check(server, f"mcp_servers[{n}]")
            self.mcp_server(server.get("name"), server.get("url"), f"mcp_servers[{n}]")

    def facts(self, provider: str, route: str, *limits: str) -> CallFacts:
        """The facts; ``limits`` are the keys that bound the output in tokens, of which the largest counts."""
        bounds = []
        for key in limits:
            bound = self._body.get(key)
            if bound is None:
                continue
            if isinstance(bound, bool) or not isinstance(bound, int) or not 0 <= bound <= MAX_SAFE_INT:
                refuse(key, "not a number of tokens", type(bound).__name__, "a whole number")
            bounds.append(bound)
        return CallFacts(
            provider=provider,
            route=route,
            model=self._model,
            stream=self._body.get("stream", False),
            tools=tuple(self._tools),
            tool_choice=self._forced,
            provider_state=tuple(self._state),
            max_output_tokens=max(bounds, default=None),
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


def parts_of(value: Any, where: str) -> Iterator[JsonObject]:
    """Every object in the content of messages or items, checked for folded keys; not what stands in tool arguments."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left.extend(reversed(item))
        elif isinstance(item, dict):
            PART.check(item, where)
            yield item
            left.extend(item[key] for key in ("output", "file", "source", "content", "audio") if key in item)
