"""A clean body for each wire format, and the changes that a case makes to it, so that one case serves all formats.

To add a format: a row in ``BASES``. Bodies are kept as lists of members, because an attack may have a key twice, or a
key or value that no JSON library would write. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .texts import expand, pack
from .world import HOSTS, MODELS

SOCKETS = ("websocket", "websocket_connect")
EGRESS = ("egress_connect", "egress_http")


class Members(list[list[Any]]):
    """An object as its members: [raw key text, value]."""


class Raw(str):
    """JSON text that is written as it stands."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Base:
    """Where a format is reached, and a body that the gateway lets through. ``turns`` is the member with the
    conversation; ``tools`` writes a declaration, ``force`` a choice; ``bare`` and ``compat`` say which compatibility
    routes it has."""

    provider: str
    host: str
    prefix: str
    path: str
    body: dict[str, Any]
    turns: str
    tools: Callable[[list[str]], dict[str, Any]]
    force: Callable[[str], dict[str, Any]]
    bare: bool = True
    compat: bool = True
    method: str = "POST"
    port: str = "443"
    egress: bool = False
    """A call of a tool, which has no form of its own on the base-URL listener."""
    frame: dict[str, Any] | None = None
    """What a clean message on a WebSocket is; ``last`` is the event that ends its answer."""
    last: str = "response.completed"
    only: tuple[str, ...] = ()
    """The transports that a format has alone."""

    def on(self, transport: str) -> Base:
        """With the body that ``transport`` has."""
        return replace(self, body=self.frame) if transport in SOCKETS and self.frame is not None else self

    def target(self, transport: str) -> str:
        """The target of a request on ``transport``."""
        match transport:
            case "reverse" | "websocket":
                return self.prefix + self.path
            case "egress_http":
                return "http://localhost:{{plain_port}}/plain"
            case "bare":
                return self.path
            case "compat":
                return f"/v1/proxy/{self.provider}"
            case "regular":
                return f"http://{self.host}{self.path}"
            case _:
                return self.path

    def serves(self, transport: str) -> bool:
        if transport in SOCKETS:
            return self.frame is not None
        if transport in EGRESS or self.egress:
            return transport in EGRESS and self.egress
        if self.method == "GET" or (self.only and transport not in self.only):
            return False
        return {"bare": self.bare, "compat": self.compat}.get(transport, True)


def _chat_tools(names: list[str]) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": name, "parameters": {}}} for name in names]}


def _flat_tools(names: list[str]) -> dict[str, Any]:
    return {"tools": [{"type": "function", "name": name, "parameters": {}} for name in names]}


def _gemini_tools(names: list[str]) -> dict[str, Any]:
    return {"tools": [{"functionDeclarations": [{"name": name, "parameters": {}} for name in names]}]}


def _converse_tools(names: list[str]) -> dict[str, Any]:
    specs = [{"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}} for name in names]
    return {"toolConfig": {"tools": specs}}


def _anthropic_tools(names: list[str]) -> dict[str, Any]:
    return {"tools": [{"name": name, "input_schema": {"type": "object"}} for name in names]}


BASES: Mapping[str, Base] = {
    "openai_chat": Base(
        provider="openai",
        host="api.openai.com",
        prefix="/openai",
        path="/v1/chat/completions",
        body={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}], "stream": False},
        turns="messages",
        tools=_chat_tools,
        force=lambda name: {"tool_choice": {"type": "function", "function": {"name": name}}},
    ),
    "openai_responses": Base(
        provider="openai",
        host="api.openai.com",
        prefix="/openai",
        path="/v1/responses",
        body={"model": "gpt-4o-mini", "input": [{"role": "user", "content": "hello"}], "stream": False},
        turns="input",
        tools=_flat_tools,
        force=lambda name: {"tool_choice": {"type": "function", "name": name}},
        frame={
            "type": "response.create",
            "model": "gpt-4o-mini",
            "input": [{"role": "user", "content": "hello"}],
            "stream": True,
        },
    ),
    "openai_realtime": Base(
        provider="openai",
        host="api.openai.com",
        prefix="/openai",
        path="/v1/realtime?model=gpt-4o-mini",
        method="GET",
        body={},
        turns="item",
        tools=lambda names: {"response": _flat_tools(names)},
        force=lambda name: {"response": {"tool_choice": {"type": "function", "name": name}}},
        frame={"type": "response.create"},
        last="response.done",
    ),
    "anthropic_messages": Base(
        provider="anthropic",
        host="api.anthropic.com",
        prefix="/anthropic",
        path="/v1/messages",
        body={
            "model": "claude-sonnet-5-5",
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "hello"}],
            "stream": False,
        },
        turns="messages",
        tools=_anthropic_tools,
        force=lambda name: {"tool_choice": {"type": "tool", "name": name}},
    ),
    "gemini": Base(
        provider="google",
        host="generativelanguage.googleapis.com",
        prefix="/google",
        path=f"/v1beta/models/{MODELS['google']}:generateContent",
        body={"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
        turns="contents",
        tools=_gemini_tools,
        force=lambda name: {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}}},
        bare=False,
        compat=False,
    ),
    "bedrock_anthropic": Base(
        provider="bedrock",
        host=HOSTS["bedrock"],
        prefix="/bedrock",
        path=f"/model/{MODELS['bedrock'].replace(':', '%3A')}/invoke",
        body={
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "hello"}],
        },
        turns="messages",
        tools=_anthropic_tools,
        force=lambda name: {"tool_choice": {"type": "tool", "name": name}},
        bare=False,
        compat=False,
    ),
    "bedrock_converse": Base(
        provider="bedrock",
        host=HOSTS["bedrock"],
        prefix="/bedrock",
        path=f"/model/{MODELS['bedrock'].replace(':', '%3A')}/converse",
        body={"messages": [{"role": "user", "content": [{"text": "hello"}]}]},
        turns="messages",
        tools=_converse_tools,
        force=lambda name: {
            "toolConfig": {**_converse_tools(["ticket_read"])["toolConfig"], "toolChoice": {"tool": {"name": name}}}
        },
        bare=False,
        compat=False,
    ),
    "ollama_chat": Base(
        provider="ollama",
        host=HOSTS["ollama"],
        prefix="/ollama",
        path="/api/chat",
        body={"model": MODELS["ollama"], "messages": [{"role": "user", "content": "hello"}], "stream": False},
        turns="messages",
        tools=_chat_tools,
        force=lambda name: {"tool_choice": name},
        bare=False,
        compat=False,
    ),
    "openrouter_chat": Base(
        provider="openrouter",
        host="openrouter.ai",
        prefix="/openrouter",
        path="/api/v1/chat/completions",
        body={"model": MODELS["openrouter"], "messages": [{"role": "user", "content": "hello"}], "stream": False},
        turns="messages",
        tools=_chat_tools,
        force=lambda name: {"tool_choice": {"type": "function", "function": {"name": name}}},
        bare=False,
    ),
    "azure_chat": Base(
        provider="azure",
        host=HOSTS["azure"],
        prefix="/azure",
        path="/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21",
        body={"messages": [{"role": "user", "content": "hello"}], "stream": False},
        turns="messages",
        tools=_chat_tools,
        force=lambda name: {"tool_choice": {"type": "function", "function": {"name": name}}},
        bare=False,
        compat=False,
    ),
    "openai_embeddings": Base(
        provider="openai",
        host="api.openai.com",
        prefix="/openai",
        path="/v1/embeddings",
        body={"model": MODELS["openai"], "input": ["hello"]},
        turns="input",
        tools=_flat_tools,
        force=lambda name: {"tool_choice": {"type": "function", "name": name}},
        compat=False,
    ),
    "fal_rerouted": Base(
        provider="openai",
        host="fal.run",
        prefix="/openai",
        path="/v1/chat/completions",
        body={"model": MODELS["fal"], "messages": [{"role": "user", "content": "hello"}], "stream": False},
        turns="messages",
        tools=_chat_tools,
        force=lambda name: {"tool_choice": {"type": "function", "function": {"name": name}}},
        only=("bare", "compat"),
    ),
    "tool_call": Base(
        provider="",
        host="localhost",
        port="{{tool_port}}",
        prefix="",
        path="/v1/a",
        body={},
        turns="",
        tools=_flat_tools,
        force=lambda name: {},
        method="GET",
        egress=True,
    ),
}
ANY = tuple(name for name, base in BASES.items() if not base.egress and base.method == "POST")
"""What ``["*"]`` stands for."""


def clean_body(base: Base) -> bytes:
    """The base's own body."""
    return json.dumps(base.body).encode()


def build_body(base: Base, changes: list[dict[str, Any]], values: Mapping[str, bytes]) -> bytes:
    """The base's body with ``changes`` made in order: first those of members, then those of bytes."""
    tree = _members(base.body)
    raw: bytes | None = None
    for change in changes:
        if change["op"] in _ON_MEMBERS:
            assert raw is None, "a change of members follows one of bytes"
            _ON_MEMBERS[change["op"]](base, tree, {**change}, values)
        else:
            raw = _ON_BYTES[change["op"]](_write(tree) if raw is None else raw, change, values)
    return _write(tree) if raw is None else raw


def _members(value: Any) -> Any:
    if isinstance(value, dict):
        return Members([json.dumps(key, ensure_ascii=False), _members(inner)] for key, inner in value.items())
    if isinstance(value, list):
        return [_members(inner) for inner in value]
    return value


def _write(value: Any) -> bytes:
    if isinstance(value, Raw):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, Members):
        parts = [
            key.encode() if inner is None else key.encode() + b":" + _write(inner[0]) for key, inner in _open(value)
        ]
        return b"{" + b",".join(parts) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(_write, value)) + b"]"
    return json.dumps(value, ensure_ascii=False).encode()


class _Whole:
    """Marks member text that holds its value already."""


def _open(value: Members) -> list[tuple[str, list[Any] | None]]:
    return [(key, None if inner is _Whole else [inner]) for key, inner in value]


def _at(base: Base, tree: Any, path: str) -> Any:
    for step in path.replace("$turns", base.turns).split(".") if path else []:
        if isinstance(tree, Members):
            tree = next(inner for key, inner in tree if key == json.dumps(step))
        else:
            tree = tree[int(step)]
    return tree


def _set(base: Base, tree: Any, change: dict[str, Any], _values: Any) -> None:
    holder = _at(base, tree, change.get("in", ""))
    key = json.dumps(change["key"].replace("$turns", base.turns), ensure_ascii=False)
    value = _members(change["value"])
    if isinstance(holder, Members):
        for member in holder:
            if member[0] == key:
                member[1] = value
                return
        holder.append([key, value])
    else:
        holder[int(change["key"])] = value


def _set_all(base: Base, tree: Any, change: dict[str, Any], values: Any) -> None:
    for key, value in change["members"].items():
        _set(base, tree, {"in": change.get("in", ""), "key": key, "value": value}, values)


def _remove(base: Base, tree: Any, change: dict[str, Any], _values: Any) -> None:
    holder = _at(base, tree, change.get("in", ""))
    key = json.dumps(change["key"].replace("$turns", base.turns))
    holder[:] = [member for member in holder if member[0] != key]


def _rename(base: Base, tree: Any, change: dict[str, Any], _values: Any) -> None:
    holder = _at(base, tree, change.get("in", ""))
    key = json.dumps(change["key"].replace("$turns", base.turns))
    for member in holder:
        if member[0] == key:
            member[0] = change["raw"]


def _raw_member(base: Base, tree: Any, change: dict[str, Any], values: Mapping[str, bytes]) -> None:
    holder = _at(base, tree, change.get("in", ""))
    text = change["text"]
    text = text.replace("$turns", base.turns) if isinstance(text, str) else text
    member = [expand(text, values).decode("utf-8", "surrogatepass"), _Whole]
    holder.insert(0 if change.get("at") == "start" else len(holder), member)


def _raw_value(base: Base, tree: Any, change: dict[str, Any], values: Mapping[str, bytes]) -> None:
    holder = _at(base, tree, change.get("in", ""))
    key = json.dumps(change["key"].replace("$turns", base.turns))
    value = Raw(expand(change["text"], values).decode("utf-8", "surrogatepass"))
    if not any(member[0] == key for member in holder):
        holder.append([key, None])
    for member in holder:
        if member[0] == key:
            member[1] = value


def _tools(base: Base, tree: Any, change: dict[str, Any], values: Any) -> None:
    _set_all(base, tree, {"members": base.tools(change["names"])}, values)


def _force(base: Base, tree: Any, change: dict[str, Any], values: Any) -> None:
    _set_all(base, tree, {"members": base.force(change["name"])}, values)


_ON_MEMBERS: Mapping[str, Callable[[Base, Any, dict[str, Any], Mapping[str, bytes]], None]] = {
    "set": _set,
    "set_all": _set_all,
    "remove": _remove,
    "rename": _rename,
    "raw_member": _raw_member,
    "raw_value": _raw_value,
    "tools": _tools,
    "force": _force,
}
_ON_BYTES: Mapping[str, Callable[[bytes, dict[str, Any], Mapping[str, bytes]], bytes]] = {
    "before": lambda raw, change, values: expand(change["bytes"], values) + raw,
    "after": lambda raw, change, values: raw + expand(change["bytes"], values),
    "encode": lambda raw, change, values: raw.decode().encode(change["as"]),
    "whole": lambda raw, change, values: expand(change["bytes"], values),
    "wrap": lambda raw, change, values: expand(change["bytes"], {**values, "body": raw}),
    "compress": lambda raw, change, values: pack(change["with"], raw),
    "cut": lambda raw, change, values: raw[: change["to"]],
}
