"""The state directory: who may read it, its keys, its disk, orders that stand. Reads files."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ...receipts.order_book import OrderBook
from ...tokens.errors import ClawproxyError
from ...tokens.keys import Role
from ..state import GATEWAY_ROLES, StateDir, keys_command
from .symptom import Symptom, failed

_MIN_FREE_BYTES = 256 * 1024 * 1024
_SLOW_SYNC_MS = 20
_SYNCS = 5
_MOST_FILES = 4096


def check_folder(folder: StateDir) -> Iterator[Symptom]:
    """Every check of the directory."""
    yield from _state(folder)
    if folder.root.is_dir():
        yield from _open_to_others(folder)
        yield from _keys(folder)
        yield from _disk(folder.root)
        yield from _orders(folder)


def _state(folder: StateDir) -> Iterator[Symptom]:
    try:
        mode = stat.S_IMODE(folder.root.stat().st_mode)
    except OSError:
        made_with = f"make it with: {keys_command(folder.root, *GATEWAY_ROLES)}"
        yield Symptom("fail", "state directory", f"no {folder.root}", made_with)
        return
    if mode & 0o077:
        yield Symptom("warn", "state directory", f"{folder.root}, mode {mode:o}", f"chmod 700 {folder.root}")
    else:
        yield Symptom("ok", "state directory", str(folder.root))


def _open_to_others(folder: StateDir) -> Iterator[Symptom]:
    """Files in it that somebody else owns, or may read although they are secret."""
    secret = [*folder.keys.rglob("*.pem"), *(folder.root / "ca").glob("mitmproxy-ca.pem"), folder.admin_socket]
    for path in secret[:_MOST_FILES]:
        with contextlib.suppress(OSError):
            found = path.lstat()
            if found.st_mode & 0o077:
                yield Symptom("fail", "permissions", f"{path} is open to others", f"chmod go= {path}")
            elif found.st_uid not in (os.geteuid(), folder.root.stat().st_uid):
                yield Symptom("warn", "permissions", f"{path} is another user's", f"chown it to {os.geteuid()}")


def _keys(folder: StateDir) -> Iterator[Symptom]:
    for role in GATEWAY_ROLES:
        try:
            yield Symptom("ok", f"{role} key", folder.load_key(role).did)
        except ClawproxyError as err:
            # without its own receipt key a gateway cannot start; the other two may live with someone else
            yield Symptom(
                "fail" if role is Role.RECEIPT else "warn", f"{role} key", err.message, _remedy(err, folder, role)
            )


def _orders(folder: StateDir) -> Iterator[Symptom]:
    """What the operator stopped, so that nobody looks for the reason of a refusal elsewhere."""
    with contextlib.suppress(ClawproxyError):
        key = folder.load_key(Role.RECEIPT)  # without one there is nothing to check the file with, which is told above
        try:
            orders = OrderBook(folder.root / "orders", key).load()
        except ClawproxyError as err:
            yield failed("stops", err)
            return
        if orders.stops:
            standing = ", ".join(order.command for order in orders.stops[:8])
            yield Symptom("warn", "stops", f"{len(orders.stops)} stand: {standing}", "see: clawproxy stop --list")


def _remedy(err: ClawproxyError, folder: StateDir, role: Role) -> str:
    return err.remedy.replace(f"clawproxy keys new {role}", keys_command(folder.root, role))


def _disk(root: Path) -> Iterator[Symptom]:
    free_bytes = shutil.disk_usage(root).free
    shown = f"{free_bytes // 2**20} MiB free"
    if free_bytes < _MIN_FREE_BYTES:
        yield Symptom("fail", "disk", shown, "free some: without room for evidence no call goes out")
        return
    try:
        took_ms = _sync_ms(root)
    except OSError as err:
        yield Symptom("fail", "disk", f"cannot write: {(err.strerror or 'error').lower()}", f"make {root} writable")
        return
    slow = took_ms > _SLOW_SYNC_MS
    remedy = "each call waits for two of these; a faster disk helps" if slow else ""
    yield Symptom("warn" if slow else "ok", "disk", f"{shown}, fdatasync {took_ms:.1f} ms", remedy)


def _sync_ms(root: Path) -> float:
    with tempfile.TemporaryFile(dir=root) as file:
        times = []
        for _ in range(_SYNCS):
            file.write(b"x" * 512)
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    return sorted(times)[_SYNCS // 2] * 1000
