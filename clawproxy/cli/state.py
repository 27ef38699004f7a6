"""The state directory, and the files that commands read. Touches the file system.

keys/<role>.pem  keys/jobs/<job>.pem  contracts/  jobs/  gateway/  orders/  ca/  trust.json  clawproxy.toml  admin.sock
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..tokens.canonical import JsonObject, parse_json_object
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role, SigningKey, load_key, save_key

GATEWAY_ROLES = (Role.RECEIPT, Role.TOKEN, Role.POLICY)
"""The keys that a gateway on one machine needs: its own, the issuer's and the reviewer's."""

StateOption = Annotated[
    Path,
    typer.Option("--state", envvar="CLAWPROXY_STATE", show_envvar=True, help="The state directory."),
]
DEFAULT_STATE = Path(".clawproxy")
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The configuration [default: clawproxy.toml in the state directory]."),
]
_MAX_FILE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StateDir:
    """Where things lie below a state directory."""

    root: Path

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def job_keys(self) -> Path:
        return self.keys / "jobs"

    @property
    def contracts(self) -> Path:
        return self.root / "contracts"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def gateway(self) -> Path:
        """The gateway's own journal: refusals before a job was known."""
        return self.root / "gateway"

    @property
    def ca(self) -> Path:
        return self.root / "ca"

    @property
    def trust_file(self) -> Path:
        return self.root / "trust.json"

    @property
    def config(self) -> Path:
        return self.root / "clawproxy.toml"

    @property
    def admin_socket(self) -> Path:
        return self.root / "admin.sock"

    def key_file(self, role: Role, name: str = "") -> Path:
        """``keys/<role>.pem``, or ``keys/<role>.<name>.pem`` for a further key of the role."""
        return self.keys / (f"{role}.{name}.pem" if name else f"{role}.pem")

    def make(self) -> None:
        """Make the directories that are absent, for their owner alone."""
        for folder in (self.root, self.keys, self.job_keys, self.contracts, self.jobs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keep_from_git(self.root)

    def ensure_keys(self) -> list[Role]:
        """Make the gateway keys that are absent; returns their roles."""
        self.make()
        absent = [role for role in GATEWAY_ROLES if not self.key_file(role).exists()]
        for role in absent:
            save_key(SigningKey.generate(role), self.key_file(role))
        return absent

    def load_key(self, role: Role) -> SigningKey:
        """The key of ``role``; raises ``ClawproxyError`` as ``tokens.keys.load_key``."""
        return load_key(self.key_file(role), role)


def check_owner(root: Path, config: Path | None) -> None:
    """Before a gateway is made of them: that state directory and configuration are those of who runs this, or root's.

    A configuration names commands (``exec:``) and files to read. An agent that may write to the working directory, or
    move it away, could leave one there for the next ``sudo clawproxy run``. Raises ``ClawproxyError`` (STATE_OWNER).
    """
    mine = {0, os.geteuid()}
    looked = [root, *((root / "clawproxy.toml",) if config is None else (config,) if os.geteuid() == 0 else ())]
    for path in looked:
        with contextlib.suppress(OSError):  # then it cannot be read either
            for found in (path.lstat(), path.stat()):
                if found.st_uid not in mine or (stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IWOTH):
                    raise ClawproxyError(
                        "STATE_OWNER", "another user can say here what this gateway does", where=str(path),
                        got=f"owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):o}",
                        expected=f"owner {os.geteuid()}",
                        remedy="name a state directory of your own with --state (for root: /root/.clawproxy), or read "
                        "what is in this one, then chown it",
                    )  # fmt: skip


def keep_from_git(folder: Path) -> None:
    """A ``.gitignore`` over everything in ``folder``, unless it has one or is a work tree itself."""
    ignore = folder / ".gitignore"
    if not (folder / ".git").exists():
        with contextlib.suppress(FileExistsError), ignore.open("x") as file:
            file.write("*\n")


def keys_command(root: Path, *roles: Role) -> str:
    """The command that makes keys, as it must be typed for this state directory."""
    return f"clawproxy keys new {' '.join(roles)}" + state_words(root)


def state_words(root: Path) -> str:
    """`` --state ROOT``, or nothing where a command finds this state directory by itself."""
    known = root == Path(os.environ.get("CLAWPROXY_STATE") or DEFAULT_STATE)
    return "" if known else f" --state {shlex.quote(str(root))}"


def set_credential(config: Path | None, root: Path) -> str:
    """What to write where, so that a provider gets calls."""
    return f'in {config or StateDir(root).config}: [providers.openai] credential = "env:OPENAI_API_KEY"'


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 whole, in place of what was there."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def read_file(path: Path, *, max_bytes: int = _MAX_FILE_BYTES) -> bytes:
    """The bytes of a file, ``-`` for standard input; raises ``ClawproxyError`` (FILE_UNREADABLE)."""
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(max_bytes + 1)
        else:
            with path.open("rb") as file:
                content = file.read(max_bytes + 1)
    except OSError as err:
        raise ClawproxyError(
            "FILE_UNREADABLE", f"cannot read: {(err.strerror or 'error').lower()}", where=str(path)
        ) from None
    if len(content) > max_bytes:
        raise ClawproxyError("FILE_UNREADABLE", "too large", where=str(path), expected=f"at most {max_bytes} bytes")
    return content


def read_json_file(path: Path) -> JsonObject:
    """A file that holds one JSON object; errors name the file."""
    try:
        return parse_json_object(read_file(path))
    except ClawproxyError as err:
        raise err if err.where.startswith(str(path)) else err.at(str(path)) from None
