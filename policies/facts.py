"""What a call asks for, as read from the request that will be sent: the only thing ``decide`` sees of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallFacts:
    """Facts of one model call. Names are as they stand on the wire.

    ``tools`` are the declared tools, provider-run ones by their type, namespaced ones as ``namespace.name``, in order
    and without repeats. ``provider_state`` names the members that point at content held by the provider
    (``previous_response_id``, ``conversation``, a stored prompt), which the gateway cannot read. ``tool_choice`` is
    the name of the tool that the call must use, as in ``tools``; a mode (auto, none, required, any) is None.
    ``remote_urls`` names the members that make the provider fetch a URL (never the URL itself); ``data:`` is none.
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
