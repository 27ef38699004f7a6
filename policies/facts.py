"""What a call asks for, as read from the request that will be sent: the only thing ``decide`` sees of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PROVIDER_FEATURES = frozenset(
    {f"state:{member}" for member in (
        "audio", "cached_content", "container", "context", "continuation_token", "conversation", "file_id",
        "file_search_store_names", "file_uri", "item_reference", "preset", "previous_response_id", "prompt",
        "prompt_variables", "skills", "thread", "uuid", "vector_store_ids",
    )}
    | {f"url:{member}" for member in (
        "file_data", "file_uri", "file_url", "image_url", "image_url.url", "images", "s3_location", "source.url",
    )}
)  # fmt: skip
"""Each ``provider_state`` and ``remote_urls`` that a format of addons/wire states: the words of a contract's
``allowed_provider_features``."""

NO_MODEL = "unknown"
"""What stands in records in place of a model where a call names none."""


class CallKind(StrEnum):
    """What a route does. Only ``LIST`` and ``CONNECT``, which opens a socket, may name no model."""

    GENERATE = "generate"
    EMBED = "embed"
    COUNT = "count"
    LIST = "list"
    CONNECT = "connect"


@dataclass(frozen=True, slots=True)
class CallFacts:
    """Facts of one model call. Names are as they stand on the wire.

    ``tools`` are the declared tools, provider-run ones by their type, namespaced ones as ``namespace.name``, in order
    and without repeats. ``any_tools`` are those of them through which any other tool can be called, whose real tool is
    not known (meta-tools, code that calls tools). ``provider_tools`` are those of them that the provider runs by
    itself, so that no call of them can be held. ``provider_state`` names the members that point at content held by the
    provider (``previous_response_id``, ``conversation``, a stored prompt), which the gateway cannot read.
    ``tool_choice`` is the name of the tool that the call must use, as in ``tools``; a mode (auto, none, required, any)
    is None. ``remote_urls`` names the members that make the provider fetch a URL (never the URL itself); ``data:`` is
    none. ``fallback_models`` are those that the provider may use in place of ``model``; ``is_router`` says that
    ``model`` is a name behind which the provider chooses one. ``upstream`` is the provider that the call goes to in
    place of ``provider``, and ``upstream_model`` the model's name there (``rerouting``). ``choices`` is how many
    answers are asked for, each of which may have ``max_output_tokens``; ``surcharges`` names the members that make the
    call cost more than its list price. ``kept_by_provider`` says that the provider keeps the conversation, so that a
    later call may go on from what the agent never saw.
    """

    provider: str
    route: str
    model: str | None
    stream: bool
    tools: tuple[str, ...] = ()
    tool_choice: str | None = None
    provider_state: tuple[str, ...] = ()
    max_output_tokens: int | None = None
    remote_urls: tuple[str, ...] = ()
    kind: CallKind = CallKind.GENERATE
    any_tools: tuple[str, ...] = ()
    provider_tools: tuple[str, ...] = ()
    fallback_models: tuple[str, ...] = ()
    is_router: bool = False
    upstream: str | None = None
    upstream_model: str | None = None
    choices: int = 1
    surcharges: tuple[str, ...] = ()
    kept_by_provider: bool = False
