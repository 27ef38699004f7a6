"""One attempt: its row in the table, what it is told, and what it hands back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Control(StrEnum):
    """Where an attempt must succeed, to be worth something: an ordinary place of the test's own, without isolation."""

    USER = "user"
    """A plain user of the host."""
    ROOT = "root"
    """Root of the host."""
    NO_ROUTE = "no route"
    """Root in a namespace behind the host that forwards, with a link and no default route."""
    FILTERED = "filtered"
    """Root in the same, with a route, whose own firewall drops everything."""
    ONE_SOURCE = "one source"
    """Root in the same, with a route; the host passes on what comes from another address alone."""
    MASKED = "masked"
    """Root of the host, where an empty file system lies over the secrets."""
    INHERITED = "inherited"
    """A plain user who was started with descriptors of the host's left open."""
    TERMINAL = "terminal"
    """A plain user on somebody's terminal."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What the agent knows of the world outside. Assume it knows everything but the secrets."""

    public4: str
    public6: str
    allowed: str
    """A name that the contract allows (GET of /open/*), and its real addresses."""
    allowed4: str
    allowed6: str
    forbidden: str
    """A name that it does not allow, at ``public4`` and ``public6``."""
    host4: tuple[str, ...]
    """Addresses of the machine."""
    host6: tuple[str, ...]
    service_port: int
    """Something listens there on every address of the machine, TCP and UDP."""
    loopback_port: int
    """The same on the loopback addresses alone."""
    other4: str
    """Another job."""
    other6: str
    other_port: int
    state_dir: str
    state_secret: str
    """A file below the state directory that holds a secret."""
    state_handle: str
    """Its file handle in hex, as name_to_handle_at gives it, and its type."""
    state_handle_type: int
    admin_socket: str
    sockets: tuple[str, ...]
    """Paths of Unix sockets of the host on which something listens."""
    late_sockets: tuple[str, ...]
    """The same, of services that start anew all the time."""
    abstract: str
    """The name of one in the abstract space."""
    victim_pid: int
    """A process of the host that runs as the same user: it holds secrets and writes down signals."""
    host_init: int
    shm_key: int
    queue: str
    keyring: str
    """The description of a key of the same user's, outside."""
    code_file: str
    """A file that stands for the gateway's code: root's, readable by all."""
    netns_name: str
    """The name of the host's network namespace below /run/netns."""
    netns_handle: str
    """The file handle of the host's network namespace in hex, where the kernel gives one."""
    vsock_port: int


def targets_from(document: dict[str, Any]) -> Targets:
    """What the plan says of the world; lists become tuples."""
    names = {field.name for field in fields(Targets)}
    known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items() if k in names}
    return Targets(**known)


@dataclass(frozen=True, slots=True)
class Try:
    """What one attempt is given: a mark that no other attempt has, and where to."""

    nonce: str
    """16 lower-case hexadecimal digits."""
    to: Targets

    @property
    def mark(self) -> bytes:
        return self.nonce.encode()


type Act = Callable[[Try], str | None]
"""Does it. What it returns is kept: secrets are looked for in it, and, where a row says so, anything at all counts."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of the table."""

    name: str
    group: str
    about: str
    act: Act
    control: Control
    as_root: bool
    """Tried again as root in the job's network namespace."""
    alone: bool
    """Changes the namespace it runs in, so that it gets a cage of its own."""
    told: bool
    """Nothing can arrive anywhere: the attempt has succeeded when it returns a text (the kernel let it)."""


ATTEMPTS: dict[str, Attempt] = {}


def attempt(
    name: str,
    about: str,
    *,
    control: Control = Control.USER,
    as_root: bool = True,
    alone: bool = False,
    told: bool = False,
) -> Callable[[Act], Act]:
    """Put a function into the table, under a name of its own."""

    def put(act: Act) -> Act:
        assert name not in ATTEMPTS, name
        group = act.__module__.rsplit(".", 1)[-1].replace("_", " ")
        ATTEMPTS[name] = Attempt(name, group, about, act, control, as_root, alone, told)
        return act

    return put


def try_all(steps: Iterable[Callable[[], object]]) -> list[str]:
    """Do one after the other, whatever becomes of each; returns the errors."""
    errors: list[str] = []
    for step in steps:
        try:
            step()
        except (OSError, ValueError, EOFError) as err:
            errors.append(f"{type(err).__name__}: {err}")
    return errors


def must_one(steps: Iterable[Callable[[], object]]) -> str:
    """The same; an error when none went well."""
    known = list(steps)
    errors = try_all(known)
    if len(errors) == len(known):
        raise OSError("; ".join(dict.fromkeys(errors))[:300])
    return ""


def within(seconds: float) -> Iterator[float]:
    """What is left of a time, until nothing is."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        yield left
