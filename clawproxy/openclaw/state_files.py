"""What lies beside openclaw.json and counts more than it, or beside it: the state directory. Touches the file system.

``agents/<id>/agent/models.json`` has addresses of providers that win over the configuration's; ``.env`` has keys that
OpenClaw takes into its environment; the state database has what people allowed for good (exec approvals). Only read.

Limits: stored logins of providers are not looked at; with ``models.mode: replace`` nothing refers to them.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..tokens.errors import ClawproxyError
from .compare import VARIABLES, is_below
from .config import at, parse_config, read_regular
from .render import Options
from .tools import Powers
from .wider import Wider, wider

MAX_AGENTS = 256
_MAX_BYTES = 1024 * 1024
_DATABASE = "state/openclaw.sqlite"
_DATABASE_S = 2.0
_MAX_ROWS = 16


def look_at_state(folder: Path, powers: Powers, options: Options) -> Iterator[Wider]:
    """What in the state directory allows more than the contract; what cannot be read is said as well."""
    yield from _model_files(folder, options)
    yield from _dotenv(folder / ".env")
    yield from _approvals(folder / _DATABASE, powers)


def _model_files(folder: Path, options: Options) -> Iterator[Wider]:
    for n, path in enumerate(sorted(folder.glob("agents/*/agent/models.json"))):
        where = str(path.relative_to(folder))
        if n >= MAX_AGENTS:
            yield wider((where,), None, "allowed_providers", "more agents than are looked at", "look at them by hand")
            return
        try:
            providers = at(parse_config(_read(path), {}).tree, "providers")
        except (ClawproxyError, OSError):
            yield wider((where,), "?", "allowed_providers", "it cannot be read", "remove it, or make it readable")
            continue
        for name, provider in providers.items() if isinstance(providers, dict) else ():
            url = at(provider, "baseUrl")
            if url and not is_below(str(url), options.gateway) and not options.isolated:
                says = "it wins over openclaw.json, and goes around the gateway"
                yield wider(
                    (where, str(name), "baseUrl"), url, "allowed_providers", says, "take the provider out of it"
                )


def _dotenv(path: Path) -> Iterator[Wider]:
    try:
        content = _read(path)
        lines = content.decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return
    except OSError:
        yield wider((".env",), "?", "model_routing", "it cannot be read", "make it readable")
        return
    if len(content) > _MAX_BYTES:
        yield wider((".env",), "?", "model_routing", "more than is read", "make it shorter")
    for line in lines:
        name, found, _ = line.removeprefix("export ").replace(":", "=", 1).partition("=")  # dotenv takes a colon too
        if found and (name.strip().upper().endswith(VARIABLES) or name.strip().upper().startswith(VARIABLES)):
            says = "a key or an address of the agent's own, beside the gateway"
            yield wider((".env", name.strip()[:64]), "(a text)", "model_routing", says, "take it out")


def _approvals(path: Path, powers: Powers) -> Iterator[Wider]:
    """Standing permissions to run commands, where the contract wants each one approved, or none run."""
    if not path.is_file() or powers.exec_mode == "full":
        return
    where = f"{_DATABASE}#exec_approvals"
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2)
        ) as database:
            _bound(database)
            rows = database.execute(f"SELECT raw_json FROM exec_approvals_config LIMIT {_MAX_ROWS + 1}").fetchall()
        if len(rows) > _MAX_ROWS or any(len(str(row[0])) > _MAX_BYTES for row in rows):
            raise ValueError
        documents = [json.loads(row[0]) for row in rows]
    except (sqlite3.Error, ValueError, TypeError, RecursionError, OSError):
        yield wider(
            (where,), "?", "approvals", "it cannot be read", "make it readable, or look: openclaw approvals get"
        )
        return
    scopes: list[tuple[str, Any]] = []
    for told in documents:  # OpenClaw has one; whichever of several it takes, nothing hides behind another
        scopes.append(("defaults", at(told, "defaults")))
        agents = at(told, "agents")
        scopes += (
            [(f"agents.{name}", scope) for name, scope in list(agents.items())[:MAX_AGENTS]]
            if isinstance(agents, dict)
            else []
        )
    for name, scope in scopes:
        if at(scope, "autoAllowSkills") is True:
            says = "commands of skills run without being asked for"
            yield wider(
                (where, name, "autoAllowSkills"), True, "approvals", says, "openclaw approvals, and set it to false"
            )
        listed = at(scope, "allowlist")
        if isinstance(listed, list) and listed:
            says = f"{len(listed)} commands were allowed for good, and OpenClaw asks nobody about them"
            yield wider((where, name, "allowlist"), None, "approvals", says, "openclaw approvals allowlist remove")


def _bound(database: sqlite3.Connection) -> None:
    """The agent made it, schema and all: a view in place of the table takes no more time and room than a table."""
    end = time.monotonic() + _DATABASE_S
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * _MAX_BYTES)
    database.set_progress_handler(lambda: time.monotonic() > end, 1000)
    database.execute("PRAGMA trusted_schema = OFF")


def _read(path: Path) -> bytes:
    return read_regular(path, _MAX_BYTES)
