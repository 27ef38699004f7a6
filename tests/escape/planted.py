"""What a cage or a fence could leave, left on purpose: ``python -m tests.escape.planted`` in a machine of its own.

The control of ``rounds``: for each thing ``clawproxy host check`` must end with 1 and name it, ``host check --repair``
must clear it away, and the next one must find nothing. Prints one line of JSON: by thing, what was seen from outside,
the three exit codes, what was found and what was repaired, what is left.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clawproxy.cage.rules import door_rules

from .rounds import FENCES, check, children, look, prepare, processes, start_job

_CGROUP = Path("/sys/fs/cgroup/pids/clawproxy-cage-0123456789abcdef")
_STARTS_S = 60.0


def _shell(script: str, text: str = "") -> None:
    subprocess.run(["bash", "-euc", script], check=True, input=text, text=True)


def _network() -> None:
    """A door's network that somebody gave a name: with its link and its rules."""
    _shell(
        "ip netns add left; ip -n left link add door0 type veth peer name eth0; "
        "ip -n left address add 198.18.0.1/30 dev door0"
    )
    _shell("nsenter --net=/run/netns/left nft -f -", door_rules())


def _job_network() -> None:
    """A job's, likewise."""
    _shell(
        "ip netns add left; ip -n left link add eth0 type veth peer name x; "
        "ip -n left address add 198.18.0.2/30 dev eth0"
    )


def _link() -> None:
    _shell("ip link add door0 type veth peer name left1")


def _door_rules() -> None:
    _shell("nft -f -", door_rules())


def _fence_rules() -> None:
    _shell("nft add table inet clawproxy_fence_left")


def _fence_changed() -> None:
    _shell("nft insert rule inet clawproxy_fence_standing judge accept")


def _fence_gone() -> None:
    _shell("nft delete table inet clawproxy_fence_standing")


def _fence_files() -> None:
    (FENCES / "left.nft").write_text("table inet clawproxy_fence_left {}\n")
    (FENCES / ".left.json.01234567").write_text("{")


def _cgroup() -> None:
    _CGROUP.mkdir()


def _stopped_warden() -> None:
    """A whole cage: its warden was stopped, so that it does not notice that its ``run`` is gone."""
    job = start_job(random.Random(2), 0)
    end = time.monotonic() + _STARTS_S
    while not job.parts(0)["agent"] and time.monotonic() < end:
        time.sleep(0.02)
    [warden] = job.parts(0)["warden"]
    os.kill(warden, signal.SIGSTOP)
    job.process.kill()
    job.process.wait()
    assert children(warden, processes()), "the job is still there"


PLANTS: dict[str, Callable[[], None]] = {
    "a network of a door, with its link and rules": _network,
    "a network of a job": _job_network,
    "a link": _link,
    "rules of a door": _door_rules,
    "rules of a fence": _fence_rules,
    "a rule in a fence": _fence_changed,
    "a fence without rules": _fence_gone,
    "files of a fence": _fence_files,
    "a cgroup": _cgroup,
    "a whole cage, its warden stopped": _stopped_warden,
}


def faults(told: Mapping[str, Any]) -> list[str]:
    """What went other than it must."""
    found = []
    for name, row in told.items():
        if not row["there"]:
            found.append(f"{name}: was not seen from outside")
        if row["codes"] != [1, 0, 0] or not row["found"] or not row["repaired"] or row["again"] or row["left"]:
            found.append(f"{name}: exit codes {row['codes']}, found {row['found']}, left {row['left']}")
    return found


def main() -> None:
    """Plant each, and see it found and cleared away."""
    prepare()
    _shell("ip netns add left; ip netns delete left")  # the first name changes how /run/netns is mounted
    before, told = look(0), {}
    for name, plant in PLANTS.items():
        plant()
        there = look(0).beside(before)
        found, first, second = check(), check("--repair"), check("--repair")
        told[name] = {
            "there": there,
            "codes": [found.code, first.code, second.code],
            "found": found.failing,
            "repaired": first.repaired,
            "again": second.repaired,
            "left": look(0).beside(before),
        }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
