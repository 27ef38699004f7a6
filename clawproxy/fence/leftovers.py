"""What cages can leave behind, found and cleared away. Reads /proc, removes cgroups, names and links, ends processes.

Namespaces, links and rules of a cage are held by its processes alone (docs/adr/0011), so the kernel clears them away
when everything of it is killed at once, but for an empty cgroup. A warden that was stopped (SIGSTOP) cannot notice that
its ``run`` is gone, and holds all of it; somebody may have named a cage's network; so that is looked for, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from ..cage.alive import is_orphan, orphans
from ..cage.limits import empty_cgroups, sweep
from . import nftables
from .cage_networks import (
    DOOR_TABLE,
    LeftNetwork,
    forget_names,
    has_left_link,
    has_left_rules,
    left_networks,
    remove_left_link,
)

_ENDS_WITHIN_S = 5.0
_LOOKS, _BETWEEN_LOOKS_S = 10, 0.05
"""At what is ending; counted, since a machine that stands still for a second ends nothing meanwhile."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Cgroups of cages that are gone, processes of theirs, networks, and what the host's own network has of one."""

    cgroups: tuple[Path, ...]
    wardens: tuple[int, ...]
    networks: tuple[LeftNetwork, ...] = ()
    link: bool = False
    rules: bool = False

    def __bool__(self) -> bool:
        return bool(self.cgroups or self.wardens or self.networks or self.link or self.rules)

    def in_words(self) -> str:
        """For a person; with what only a person should end."""
        strangers = sorted({pid for network in self.networks for pid in network.processes} - set(self.wardens))
        parts = [
            f"{len(self.cgroups)} empty cgroups" if self.cgroups else "",
            f"{len(self.wardens)} wardens" if self.wardens else "",
            f"{len(self.networks)} networks" if self.networks else "",
            "a link in the host's own network" if self.link else "",
            "rules in the host's own network" if self.rules else "",
        ]
        found = ", ".join(part for part in parts if part)
        return f"{found}, processes {', '.join(map(str, strangers))} in them: end those" if strangers else found


def find_leftovers() -> Leftovers:
    """Those on this host now."""
    return Leftovers(
        tuple(empty_cgroups()), tuple(orphans()), tuple(left_networks()), has_left_link(), has_left_rules()
    )


def clear() -> list[str]:
    """Clear away what is found; what was done, for a person. Processes that are no cage's own are left alone."""
    done = []
    end = time.monotonic() + _ENDS_WITHIN_S
    while (left := orphans()) and time.monotonic() < end:
        done += [f"cage: its process {pid} was ended" for pid in left if _end(pid, end)]
    for network in left_networks():
        done += forget_names(network)
    for _ in range(_LOOKS):
        if not left_networks():
            break
        time.sleep(_BETWEEN_LOOKS_S)  # what was in one may be ending
    if has_left_link() and remove_left_link():
        done.append("cage: its link in the host's own network was removed")
    if has_left_rules():
        nftables.delete_table(DOOR_TABLE)
        done.append("cage: its rules in the host's own network were removed")
    return done + [f"cage: the empty cgroup {path} was removed" for path in _swept(bool(done))]


def _end(pid: int, end: float) -> bool:
    """Kill a process of a cage, and wait until it is gone; not another one that has its number meanwhile."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not is_orphan(pid):
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        while os.path.exists(f"/proc/{pid}") and is_orphan(pid) and time.monotonic() < end:
            time.sleep(0.01)
        return True
    finally:
        os.close(process)


def _swept(waits: bool) -> list[Path]:
    """Empty cgroups; those of processes that were ended just now are not empty at once."""
    removed = sweep()
    for _ in range(_LOOKS if waits else 0):
        time.sleep(_BETWEEN_LOOKS_S)
        removed += sweep()
    return removed
