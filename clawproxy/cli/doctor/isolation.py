"""Whether ``clawproxy run --isolate`` can work here: a cage is made, probed and thrown away. Makes namespaces."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator

from ...tokens.errors import ClawproxyError
from .symptom import Symptom

_PROGRAMS = {"ip": "iproute2", "nft": "nftables"}


def check_isolation() -> Iterator[Symptom]:
    """The programs it needs, then the thing itself, with its leak probes."""
    if not sys.platform.startswith("linux"):
        yield Symptom(
            "warn", "isolation", "only Linux has the namespaces for it", "run without --isolate, in a container"
        )
        return
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    missing = [package for name, package in _PROGRAMS.items() if shutil.which(name, path=path) is None]
    if missing:
        yield Symptom("warn", "isolation", f"not installed: {', '.join(missing)}", f"apt install {' '.join(missing)}")
        return
    yield _trial()


def _trial() -> Symptom:
    from ...cage.cage import Cage, make_plan
    from ...cage.users import choose_user

    start = time.perf_counter()
    try:
        chosen = choose_user(None, "/")
        try:
            with open(os.devnull, "r+b") as null, Cage(make_plan(chosen.user, "/"), (null.fileno(),) * 3) as cage:
                probes = cage.probe()
        finally:
            chosen.release()
    except ClawproxyError as err:
        return Symptom("warn", "isolation", err.one_line(), err.remedy or "run it as root, or allow user namespaces")
    took_ms = (time.perf_counter() - start) * 1000
    leaks = sorted(probe.name for probe in probes if probe.outcome == "reached")
    if leaks:
        return Symptom("fail", "isolation", f"a cage leaks: {', '.join(leaks)}", "do not use --isolate here; report it")
    how = "as root" if os.geteuid() == 0 else "with a user namespace"
    return Symptom("ok", "isolation", f"a cage holds {how}: {len(probes)} probes, made in {took_ms:.0f} ms")
