"""Fences as they are written down, loaded, and loaded again at boot. Writes below ``/etc``; runs nft.

fences/NAME.json   what the fence is around        fences/NAME.nft   its rules, for the boot

Where a file of the first kind stands, a fence is wanted: it is the last that ``install`` writes before the rules are
loaded, and the first that ``remove`` takes away. So whenever either is killed, ``repair`` completes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from ..tokens.canonical import jcs_bytes, parse_json_object
from ..tokens.errors import ClawproxyError
from . import nftables
from .plan import TABLE_PREFIX, Fence, fence_rules, parse_fence

_UNIT = "clawproxy-fence@.service"
_MAX_BYTES = 64 * 1024
_DRAFT = re.compile(r"\..+\.[0-9a-f]{8}", re.ASCII)

type Standing = Literal["in force", "missing", "changed", "stray"]


@dataclass(frozen=True, slots=True)
class Places:
    """Where fences are written down, and where systemd looks for units."""

    fences: Path = Path("/etc/clawproxy/fences")
    units: Path = Path("/etc/systemd/system")

    def boots(self) -> bool:
        """Whether systemd is there to load a fence at boot."""
        return self.units.is_dir()

    def wanted(self, name: str) -> Path:
        return self.units / "sysinit.target.wants" / _UNIT.replace("@", f"@{name}")


def install(fence: Fence, places: Places) -> None:
    """Write the fence down, have it loaded at boot, load it now; a fence of this name is replaced as one step.

    Raises ``ClawproxyError`` (FENCE_FAILED): then what was in force before still is.
    """
    rules = fence_rules(fence)
    nftables.load(rules, dry=True)
    places.fences.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _alone(places):
        _install(fence, rules, places)


def _install(fence: Fence, rules: str, places: Places) -> None:
    _write(places.fences / f"{fence.name}.nft", rules.encode())
    if places.boots():
        _write(places.units / _UNIT, (files("clawproxy.configs") / "fence.service").read_bytes())
        wanted = places.wanted(fence.name)
        wanted.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            wanted.symlink_to(f"../{_UNIT}")
    _write(places.fences / f"{fence.name}.json", jcs_bytes(fence.to_json()) + b"\n")
    nftables.load(rules)


def remove(name: str, places: Places) -> None:
    """Take a fence away, now and for the next boot. One that is not there is no error."""
    if not name.isidentifier():
        raise ClawproxyError("FENCE_INVALID", "not a name for a fence", where="--name", got=name)
    with _alone(places):
        (places.fences / f"{name}.json").unlink(missing_ok=True)
        nftables.delete_table(TABLE_PREFIX + name)
        places.wanted(name).unlink(missing_ok=True)
        (places.fences / f"{name}.nft").unlink(missing_ok=True)


def stray_files(places: Places) -> list[Path]:
    """What an ``install`` or ``remove`` that was killed left: drafts, and files of fences that are not wanted."""
    wanted = {path.stem for path in places.fences.glob("*.json")}
    units = places.wanted("").parent
    return sorted(
        [
            *(path for path in places.fences.glob(".*") if _DRAFT.fullmatch(path.name)),
            *(path for path in places.units.glob(f".{_UNIT}.*") if _DRAFT.fullmatch(path.name)),
            *(path for path in places.fences.glob("*.nft") if path.stem not in wanted),
            *(path for path in units.glob(_UNIT.replace("@", "@*")) if path.stem.partition("@")[2] not in wanted),
        ]
    )


def fences(places: Places) -> list[Fence]:
    """Those that are written down. Raises ``ClawproxyError`` (FENCE_INVALID) for a file that is none."""
    found = []
    for path in sorted(places.fences.glob("*.json")):
        with path.open("rb") as file:
            try:
                fence = parse_fence(parse_json_object(file.read(_MAX_BYTES)))
            except ClawproxyError as err:
                raise ClawproxyError(
                    "FENCE_INVALID", err.message, where=str(path), remedy="clawproxy host install writes it anew"
                ) from None
        found.append(fence)
    return found


def standing(places: Places) -> dict[str, Standing]:
    """By name, whether the rules that are loaded are those that were installed; a table that nothing is written down
    of is a stray one."""
    known = {fence.name: fence for fence in fences(places)}
    loaded = {table.removeprefix(TABLE_PREFIX) for table in nftables.tables(TABLE_PREFIX)}
    found: dict[str, Standing] = dict.fromkeys(loaded - known.keys(), "stray")
    for name, fence in known.items():
        if name not in loaded:
            found[name] = "missing"
        else:
            wanted = nftables.as_listed(fence_rules(fence), fence.table)
            found[name] = "in force" if wanted == nftables.listed(fence.table) else "changed"
    return found


def repair(places: Places) -> list[str]:
    """Load what is missing or changed, take away what is stray; what was done, for a person."""
    with _alone(places):
        return _repair(places)


def _repair(places: Places) -> list[str]:
    done = []
    for path in stray_files(places):
        path.unlink(missing_ok=True)
        done.append(f"fences: {path} belonged to none, and was removed")
    known = {fence.name: fence for fence in fences(places)}
    for name, state in standing(places).items():
        if state == "stray":
            nftables.delete_table(TABLE_PREFIX + name)
            done.append(f"fence {name}: rules that nothing is written down of were taken away")
        elif state != "in force":
            _install(known[name], fence_rules(known[name]), places)
            done.append(f"fence {name}: was {state}, loaded again")
    return done


@contextlib.contextmanager
def _alone(places: Places) -> Iterator[None]:
    """One command at a time changes what is written down; whoever is killed lets go."""
    try:
        folder = os.open(places.fences, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:  # none was ever installed
        yield
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a boot may come at any moment."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
