"""The gateway of ``clawproxy run``: the one that runs on the state directory, or one for the time of a command."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..receipts.containment import NOT_CONTAINED, Containment
from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from .own_book import ask
from .screen import note
from .state import StateDir

if TYPE_CHECKING:
    from ..addons.door_sockets import DoorSockets
    from ..addons.gateway import Gateway
    from ..addons.settings import Settings

_KEY_VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "google": "GEMINI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
    "fal": "FAL_KEY",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """The job that is wanted."""

    policy_hash: str
    job_id: str | None
    ttl_s: int
    observe: bool
    needs_approval: bool = False
    """Of the whole job, before its first call."""

    def say_opened(self, job: str, contained: str) -> None:
        """What a person must know of a job that has begun."""
        if self.needs_approval and not self.observe:
            note(f"its calls are refused until it is approved: clawproxy approve grant --job {job} --key FILE")
        note(f"job {job} is open; {contained}")


class OpenDoor(Protocol):
    """A job's way in, until it is closed."""

    async def close(self) -> None: ...

    async def wait_closed(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What a job needs of a gateway."""

    addresses: dict[str, str]
    ca_file: Path
    gateway: Gateway | None
    socket: Path
    served: tuple[str, ...]
    """The providers that it has a credential for."""

    async def lease(self, asked: Asked, containment: Containment = NOT_CONTAINED) -> tuple[str, str]:
        """Open a job; returns its id and its handle."""
        from ..addons.admin import call_admin

        if self.gateway is not None:
            lease = await self.gateway.lease(
                asked.policy_hash, asked.job_id, asked.ttl_s, containment, observe=asked.observe
            )
            return lease.job_id, lease.handle
        more: JsonObject = {"observe": True} if asked.observe else {}
        if containment != NOT_CONTAINED:
            more["containment"] = containment.to_json()
        answer = await call_admin(
            self.socket, "lease", policy_hash=asked.policy_hash, job_id=asked.job_id, ttl_s=asked.ttl_s, **more
        )
        return str(answer["job_id"]), str(answer["handle"])

    async def open_door(self, job_id: str, handle: str, sockets: DoorSockets) -> OpenDoor:
        """Let an isolated job in by its door. The sockets are the gateway's from here on."""
        from ..addons.door_sockets import open_remote_door

        if self.gateway is not None:
            return await self.gateway.open_door(job_id, handle, sockets)
        return await open_remote_door(self.socket, job_id, handle, sockets)

    async def count_door(self, job_id: str, packets: Mapping[str, int]) -> None:
        """Record what the rules of a job's door turned away. Raises ``ClawproxyError``."""
        from ..addons.admin import call_admin

        if self.gateway is not None:
            await self.gateway.count_door(job_id, packets)
        else:
            await call_admin(self.socket, "door_counted", job_id=job_id, packets=dict(packets))

    async def seal(self, job_id: str) -> JsonObject:
        from ..addons.admin import call_admin

        if self.gateway is not None:
            return await self.gateway.seal(job_id)
        return await call_admin(self.socket, "seal", job_id=job_id)


async def open_desk(settings: Settings, folder: StateDir, *, approvable: bool) -> Desk:
    """The gateway that runs, or one of our own. With ``approvable`` only one that an approver can reach will do."""
    from ..addons.gateway import Gateway

    status = await ask(folder, "status")
    if status is not None:
        return Desk(status["addresses"], Path(status["ca"]), None, folder.admin_socket, _served(settings))
    if approvable:
        raise ClawproxyError(
            "GATEWAY_NOT_RUNNING",
            "the contract wants approvals, and an approver cannot reach a gateway that lives in this command",
            where=str(folder.admin_socket),
            remedy="start one first: clawproxy serve",
        )
    own = _private_settings(settings)
    gateway = Gateway(own)
    await gateway.start()
    return Desk(gateway.addresses, gateway.ca_file, gateway, folder.admin_socket, _served(own))


def own_secrets(settings: Settings) -> list[str]:
    """The environment variables that hold the gateway's credentials."""
    references = credential_references(settings)
    return [reference.removeprefix("env:") for reference in references if reference.startswith("env:")]


def credential_references(settings: Settings) -> list[str]:
    """Where the gateway's credentials are: ``env:NAME``, ``file:PATH``."""
    providers = [section.credential or "" for section in settings.providers.values()]
    return providers + [section.credential for section in settings.egress.values()]


def _served(settings: Settings) -> tuple[str, ...]:
    return tuple(name for name, section in settings.providers.items() if section.credential)


def _private_settings(settings: Settings) -> Settings:
    """Settings for a gateway that serves one command: free loopback ports, credentials from the environment."""
    from ..addons.settings import Settings

    document: dict[str, Any] = settings.model_dump()
    document["listen"] |= {"reverse": "127.0.0.1:0", "regular": "127.0.0.1:0", "admin": False}
    document["gateway"]["refuse_inside_tunnels"] = True
    for provider, variable in _KEY_VARIABLES.items():
        section = document["providers"].setdefault(provider, {})
        if not section.get("credential") and os.environ.get(variable):
            section["credential"] = f"env:{variable}"
    if not any(section.get("credential") for section in document["providers"].values()):
        raise ClawproxyError(
            "CREDENTIAL_MISSING",
            "the gateway has no provider credential to inject",
            remedy=f"set one of {', '.join(_KEY_VARIABLES.values())} for clawproxy (the agent does not get it), "
            "or providers.NAME.credential in clawproxy.toml",
        )
    return Settings.model_validate(document)
