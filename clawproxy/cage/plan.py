"""What a cage will be, decided before anything is made. Pure.

Numbers of the network: ``policies.door_plan``.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from ..policies import door_plan

LINK_OF_DOOR = "door0"
LINK_OF_JOB = "eth0"
COUNTERS = "turned_"
"""How the names of the counters in the door's rules begin; the rest is a kind of ``receipts.door_counts``."""
RUN_DIR = "/run/clawproxy"
"""Inside: what the job is given to read, and its home where it has none of its own."""


@dataclass(frozen=True, slots=True)
class JobUser:
    """Who the agent is on the host. ``dynamic`` users have no entry there, and nothing of their own."""

    uid: int
    gid: int
    name: str
    home: str
    dynamic: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What all of a job may use together where a cgroup holds it, else each process (memory) or its user (pids)."""

    memory_bytes: int | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class CagePlan:
    """Everything the warden needs to know. It goes there as JSON.

    ``masked`` are paths (directories or files) that the job must not see, ``frozen`` directories that it must not
    change, ``files`` what it finds in ``RUN_DIR`` (name, text); ``visible`` stay to be seen when /tmp is private, as
    ``cwd`` does.
    ``rootless`` makes the whole in a user namespace. ``root_inside`` runs the command with uid 0 and all capabilities
    in a user namespace of its own that owns the job's network: for tests that attack the door.
    """

    user: JobUser
    cwd: str
    rootless: bool
    rules: str
    masked: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    admin_socket: str = ""
    visible: tuple[str, ...] = ()
    private_tmp: bool = False
    root_inside: bool = False
    nested: bool = False
    limits: Limits = field(default=Limits())

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> CagePlan:
        plain = json.loads(text)
        plain |= {name: tuple(plain[name]) for name in ("masked", "frozen", "visible")}
        plain["files"] = tuple((name, content) for name, content in plain["files"])
        plain |= {"user": JobUser(**plain["user"]), "limits": Limits(**plain["limits"])}
        return cls(**plain)


def resolv_conf() -> str:
    """Names are asked of the door, which any other address would be, too."""
    return f"nameserver {door_plan.DOOR_V4}\nnameserver {door_plan.DOOR_V6}\noptions timeout:2 attempts:2\n"


def hosts_file(hostname: str) -> str:
    """Names that the job has by itself; nothing of the host's own list."""
    return f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {hostname}\n"


def own_nsswitch(text: str) -> str:
    """The host's nsswitch.conf with names of hosts from the files and the door alone."""
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("hosts:")]
    return "\n".join([*kept, "hosts: files dns"]) + "\n"
