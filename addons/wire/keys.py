"""Which keys a request may have, and how one that may not is told. Pure.

Refused, not interpreted: a key of the body that neither the provider's SDK nor a recorded client knows could mean
anything to the provider, so a call with it does not go out. Errors show a key or a type only if it is one plain word;
the text of a request does not get into the evidence through them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NoReturn

from ...tokens.canonical import JsonObject
from ...tokens.errors import ClawproxyError, word_or

_MAX_KEY_CHARS = 128
_NAME = re.compile(r"[A-Za-z_]+(?:_[0-9]+)?", re.ASCII)
_NOT_ALNUM = re.compile(r"[\W_]+")
_ROUTING = frozenset(
    {
        "api_base",
        "api_key",
        "api_type",
        "api_version",
        "base_url",
        "client",
        "custom_llm_provider",
        "deployment_id",
        "extra_body",
        "extra_headers",
        "extra_query",
        "fallbacks",
        "headers",
        "model_list",
        "models",
        "mock_response",
        "plugins",
        "provider",
        "providers",
        "proxy",
        "route",
        "router",
        "transforms",
        "upstream",
        "user_config",
    }
)
"""Keys by which routers and SDK wrappers choose another destination, model, credential or body."""


def refuse(where: str, message: str, got: object = None, expected: str = "") -> NoReturn:
    """Raise INVALID_REQUEST; ``got`` is a type or a number, and no argument holds text of the request."""
    raise ClawproxyError("INVALID_REQUEST", message, where=where, got=got, expected=expected)


def refuse_lookalike(where: str, meant: str, expected: str) -> NoReturn:
    """Raise REQUEST_AMBIGUOUS: a key that a careless reader takes for ``meant``."""
    raise ClawproxyError(
        "REQUEST_AMBIGUOUS", f"a key reads like {meant!r} without being it", where=where, expected=expected
    )


def named(otherwise: str, value: object) -> str:
    """A key or a type that an agent wrote, if it looks like one: letters, ``_``, a version; else ``otherwise``.

    Narrower than ``word_or``, since what has digits within may well be a secret.
    """
    return word_or(otherwise, value) if isinstance(value, str) and _NAME.fullmatch(value) else otherwise


def refuse_type(where: str, kind: object, what: str) -> NoReturn:
    """Refuse ``what`` (an item, a part) of a type that is not known here."""
    shown = named("not shown here", kind)
    refuse(f"{where}.type", f"{what} whose type, {shown}, the gateway cannot judge", expected="a documented type")


@lru_cache(maxsize=4096)
def fold_key(key: str) -> str:
    """What the most careless reader makes of a key: compatibility forms, case, underscores and the like are gone."""
    if not key.isascii():
        key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", key).casefold())
    return key.lower() if key.isalnum() else _NOT_ALNUM.sub("", key.lower())


class KeyRule:
    """The keys of one kind of object that are read, and those that are common there and mean nothing to the policy."""

    def __init__(self, read: str, common: str = "") -> None:
        self._folded = {fold_key(key): key for key in read.split()}
        self.read = frozenset(read.split())
        self._known = self.read.union(common.split())

    def check(self, obj: JsonObject, where: str) -> None:
        """Refuse a key of ``obj`` that could be taken for one that is read."""
        for key in obj:
            if key not in self._known:
                self._refuse_lookalike(key, where)

    def _refuse_lookalike(self, key: str, where: str) -> None:
        if len(key) > _MAX_KEY_CHARS:
            refuse(where, "a key is too long", len(key), f"at most {_MAX_KEY_CHARS} characters")
        if (meant := self._folded.get(fold_key(key))) is not None:
            refuse_lookalike(where, meant, f"{meant!r}, or no such key")
        if not key.isascii():
            refuse(where, "a key has letters beyond ASCII", expected="the keys that the provider documents")


class ClosedKeys:
    """Every key that an object may have; all others are refused."""

    def __init__(self, known: str) -> None:
        self._known = frozenset(known.split())

    def check(self, obj: JsonObject, where: str) -> None:
        """Refuse a key of ``obj`` that the gateway cannot judge."""
        for key in obj:
            if key not in self._known:
                self._refuse_unknown(key, where)

    def _refuse_unknown(self, key: str, where: str) -> NoReturn:
        refuse(
            where,
            f"{named('a key', key)}: the gateway cannot judge this key",
            expected="the keys that the provider documents: remove it,"
            " or update clawproxy if the provider has added it",
        )


class BodyKeys(ClosedKeys):
    """The keys that the body of one API may have."""

    def _refuse_unknown(self, key: str, where: str) -> NoReturn:
        if key in _ROUTING:
            refuse(where, f"{key!r} would have the call go elsewhere", expected="no such key")
        _READ.check({key: None}, where)
        super()._refuse_unknown(key, where)


_READ = KeyRule(
    "model models stream tools functions tool_choice function_call messages input max_tokens max_completion_tokens"
    " max_output_tokens mcp_servers plugins web_search_options fallbacks background previous_response_id conversation"
    " prompt container thread instructions system"
)
HOLDS_TOOLS = KeyRule("tools functions function_declarations mcp_servers tool tool_changes definition network_policy")
"""Members that could define a tool, or let one of the provider reach a network."""
TOOL = KeyRule(
    "type name function custom tools model svg server_label server_url connector_id tunnel_id mcp_server_name url"
    " container container_id environment file_id file_ids skills definition network_policy image_url input_image_mask",
    "description parameters input_schema strict cache_control defer_loading format",
)
PART = KeyRule(
    "type role name tools functions tool tool_changes definition model file file_id file_data file_url image_url url"
    " source content output audio id mcp_servers",
    "text tool_use_id input is_error cache_control call_id arguments status signature thinking tool_calls tool_call_id"
    " input_audio detail filename media_type data annotations logprobs phase refusal title context citations summary"
    " encrypted_content",
)
