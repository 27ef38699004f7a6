"""``clawproxy keys``: make signing keys, list them, and write the trust file that an auditor needs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from ..tokens.canonical import jcs_bytes
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role, SigningKey, load_key, save_key
from ..tokens.trust import TrustedKey, build_trust
from .screen import JsonFlag, counted, new_app, note, print_json, print_table
from .state import DEFAULT_STATE, GATEWAY_ROLES, ConfigOption, StateDir, StateOption, keys_command

app = new_app("Signing keys: one role per key, private parts in the state directory, mode 0600.")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
NameOption = Annotated[str, typer.Option("--name", help="A name, for a further key of the role.")]


@app.command("new", short_help="make keys")
def new(
    roles: Annotated[list[Role], typer.Argument(help="What the key may sign; several make one key each.")],
    name: NameOption = "",
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Make keys. A key is never overwritten."""
    if name and not _NAME.fullmatch(name):
        raise ClawproxyError("USAGE", "not a name for a key", got=name, expected="letters, digits, - and _")
    folder = StateDir(state)
    folder.make()
    made = []
    for role in roles:
        key, path = SigningKey.generate(role), folder.key_file(role, name)
        save_key(key, path)
        made.append({"role": str(role), "did": key.did, "file": str(path)})
    if json_:
        print_json(made)
    for row in () if json_ else made:
        print(f"{row['role']}  {row['did']}  {row['file']}")


@app.command("list", short_help="the local keys: role, public name, file")
def list_(state: StateOption = DEFAULT_STATE, json_: JsonFlag = False) -> None:
    """List the local keys: role, public name, file. Private parts are never shown."""
    rows = []
    for path in _key_files(StateDir(state)):
        role = _role_in_name(path)
        try:
            row = {"role": str(role), "did": load_key(path, role).did, "file": str(path), "problem": ""}
        except ClawproxyError as err:
            row = {"role": str(role), "did": "", "file": str(path), "problem": err.message}
        rows.append(row)
    if json_:
        print_json(rows)
    elif rows:
        print_table(
            ("role", "did", "file"), [(r["role"], r["did"] or r["problem"], r["file"]) for r in rows], whole=("did",)
        )
    else:
        note(f"no keys in {state}; make some with: {keys_command(state, *GATEWAY_ROLES)}")


@app.command("trust", short_help="write the trust file, for whoever verifies")
def trust(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here instead of stdout.")] = None,
    name: Annotated[str, typer.Option("--name", help="What people call this gateway.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Write the trust file of the local keys and of the configured approvers: public names, roles and the approvers'
    groups, to hand to whoever verifies bundles."""
    approvers = _approvers(config, state)
    keys = []
    for path in _key_files(StateDir(state)):
        role = _role_in_name(path)
        if role is Role.JOB:  # a job's key is named by the job's own signed record
            continue
        key = TrustedKey(load_key(path, role).did, role, name or path.stem)
        if role is not Role.APPROVAL or key.did in approvers:
            keys.append(key)
    keys += approvers.values()
    if not keys:
        raise ClawproxyError(
            "TRUST_EMPTY",
            "no keys here",
            where=str(state),
            remedy=f"make some with: {keys_command(state, *GATEWAY_ROLES)}",
        )
    built = build_trust(keys)
    document = jcs_bytes(built.document())
    if out is None:
        print(document.decode())
    else:
        _write_trust(out, document + b"\n", over=force)
        note(f"wrote {counted(len(built.keys), 'key')} to {out}")


def _approvers(config: Path | None, state: Path) -> dict[str, TrustedKey]:
    """Those whom the gateway trusts as approvers, by DID, with their groups."""
    from ..addons.approvers import load_approvers
    from ..addons.settings import load_settings

    return {key.did: key for key in load_approvers(load_settings(config, state), {}).trusted_keys()}


def _write_trust(out: Path, content: bytes, *, over: bool) -> None:
    try:
        # not through a link: as root that would write over whatever it leads to
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC | os.O_NOFOLLOW if over else os.O_EXCL)
        with os.fdopen(os.open(out, flags, 0o666), "wb") as file:
            file.write(content)
    except FileExistsError:
        raise ClawproxyError(
            "FILE_EXISTS",
            "a file is already there, and it may name other keys",
            where=str(out),
            remedy="write it elsewhere, or over it with --force",
        ) from None


def _key_files(folder: StateDir) -> list[Path]:
    return sorted(path for path in folder.keys.glob("*.pem") if path.stem.split(".")[0] in set(Role)) + sorted(
        folder.job_keys.glob("*.pem")
    )


def _role_in_name(path: Path) -> Role:
    return Role.JOB if path.parent.name == "jobs" else Role(path.stem.split(".")[0])
