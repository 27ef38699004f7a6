"""The gateway that runs, or the ports that one would want. Binds to them for a moment."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...tokens.errors import ClawproxyError
from ..state import StateDir
from .symptom import Symptom, failed

if TYPE_CHECKING:
    from ...addons.settings import Settings


def check_listeners_of(folder: StateDir, settings: Settings) -> Iterator[Symptom]:
    from ...addons.admin import call_admin
    from ...addons.settings import check_listeners, parse_address

    try:
        check_listeners(settings)
    except ClawproxyError as err:
        yield failed("listen", err)
    try:
        status = asyncio.run(call_admin(folder.admin_socket, "status"))
    except ClawproxyError:
        pass
    else:
        yield Symptom("ok", "gateway", f"running, {status.get('open_calls')} calls open")
        return
    for name in ("reverse", "regular", "transparent"):
        address: str = getattr(settings.listen, name)
        if address:
            host, port = parse_address(address, where=f"listen.{name}")
            yield _port(name, host, port)


def _port(name: str, host: str, port: int) -> Symptom:
    address = f"{host}:{port}"
    try:
        _bind(host, port)
    except OSError as err:
        why = (err.strerror or "error").lower()
        return Symptom(
            "fail", f"listener {name}", f"{address}: {why}", "stop what listens there, or change listen." + name
        )
    return Symptom("ok", f"listener {name}", f"{address} is free")


def _bind(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
