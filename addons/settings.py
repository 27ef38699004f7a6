"""The configuration of a gateway: TOML in, typed and closed. Reads files and environment.

Every key is commented in configs/clawproxy.example.toml. Secrets are references, never values.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
import ssl
import subprocess
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role, public_key_from_did

_MAX_CONFIG_BYTES = 256 * 1024
_MAX_SECRET_BYTES = 16 * 1024
_EXEC_TIMEOUT_S = 10

NO_CREDENTIAL = "none"
"""In place of a reference to a secret: calls go to this provider without one."""

type GroupName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
type Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class GatewaySection(_Section):
    """Who the gateway is and its limits."""

    audience: list[Text] = Field(default=["clawproxy.local"], min_length=1, max_length=16)
    gateway_id: Text = "did:web:clawproxy.local"
    state_dir: Text = ".clawproxy"
    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024)
    max_header_bytes: int = Field(default=64 * 1024, ge=1024, le=1024 * 1024)
    max_headers: int = Field(default=128, ge=16, le=1024)
    max_json_depth: int = Field(default=64, ge=8, le=256)
    max_json_nodes: int = Field(default=100_000, ge=100, le=5_000_000)
    max_connections: int = Field(default=2048, ge=8, le=100_000)
    max_connections_per_peer: int = Field(default=512, ge=1, le=100_000)
    max_connections_per_job: int = Field(default=256, ge=1, le=100_000)
    max_open_calls_per_job: int = Field(default=64, ge=1, le=10_000)
    max_calls_per_minute_per_job: int = Field(default=6000, ge=1, le=10_000_000)
    request_timeout_s: float = Field(default=30.0, gt=0, le=3600)
    handshake_timeout_s: float = Field(default=10.0, gt=0, le=600)
    step_timeout_s: float = Field(default=10.0, gt=0, le=120)
    idle_timeout_s: float = Field(default=900.0, gt=1, le=86_400)
    default_max_output_tokens: int = Field(default=32_768, ge=1, le=10_000_000)
    unread_input_tokens: int = Field(default=200_000, ge=0, le=10_000_000)
    refuse_inside_tunnels: bool = False


class ListenSection(_Section):
    """Where the gateway listens; an empty address switches a listener off."""

    reverse: str = "127.0.0.1:8081"
    regular: str = "127.0.0.1:8080"
    transparent: str = ""
    admin: bool = True
    allow_plain_remote: bool = False


class TrustSection(_Section):
    """Whose signatures count: DIDs, or paths of key files. Empty means the key of that role in the state directory.

    ``approvers`` are lists by the name of their group.
    """

    token_issuers: list[Text] = Field(default=[], max_length=64)
    contract_signers: list[Text] = Field(default=[], max_length=64)
    approvers: dict[GroupName, Annotated[list[Text], Field(max_length=64)]] = Field(default={}, max_length=64)


class ContractsSection(_Section):
    """Directories with signed contracts, relative to the state directory."""

    sources: list[Text] = Field(default=["contracts"], min_length=1, max_length=16)


class ProviderSection(_Section):
    """What this gateway changes of a provider of the catalogue."""

    upstream: Text | None = None
    hosts: list[Text] | None = Field(default=None, max_length=64)
    credential: Text | None = None
    allow_private: bool = False
    region: Text | None = None


class EgressSection(_Section):
    """A credential for calls of tools: where it goes and how it is sent."""

    credential: Text
    hosts: list[Text] = Field(min_length=1, max_length=64)
    header: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")] = "authorization"
    scheme: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{0,32}$")] = "Bearer"


class PriceSection(_Section):
    """The price of models, in micro-dollars (USD) per million tokens."""

    provider: Text
    models: list[Text] = Field(min_length=1, max_length=256)
    input: int = Field(ge=0, le=10**12)
    cached_input: int | None = Field(default=None, ge=0, le=10**12)
    cache_write: int | None = Field(default=None, ge=0, le=10**12)
    output: int = Field(ge=0, le=10**12)
    max_output_tokens: int | None = Field(default=None, ge=1, le=10_000_000)


class PricesSection(_Section):
    """What budgets in money are worked out from: rows before the table's, and a table in place of the packaged one."""

    file: Text | None = None
    rows: list[PriceSection] = Field(default=[], max_length=1024)


class DataSection(_Section):
    """How data is looked for: a file with classes of the operator's own, and how long one look may take."""

    classes: Text | None = None
    scan_budget_ms: int = Field(default=1000, ge=10, le=10_000)


class Settings(_Section):
    """A whole configuration."""

    gateway: GatewaySection = GatewaySection()
    listen: ListenSection = ListenSection()
    trust: TrustSection = TrustSection()
    contracts: ContractsSection = ContractsSection()
    providers: dict[str, ProviderSection] = {}
    egress: dict[str, EgressSection] = {}
    prices: PricesSection = PricesSection()
    data: DataSection = DataSection()
    egress_private: list[Text] = Field(default=[], max_length=64)
    upstream_ca: Text | None = None

    @property
    def state_dir(self) -> Path:
        return Path(self.gateway.state_dir)


def load_settings(path: Path | None, state_dir: Path) -> Settings:
    """Read ``path`` (or ``<state_dir>/clawproxy.toml`` if that is there); raises ``ClawproxyError`` (CONFIG_INVALID).

    ``state_dir`` is used where the file does not set one.
    """
    if path is None:
        default = state_dir / "clawproxy.toml"
        path = default if default.exists() else None
    document: dict[str, Any] = _read_toml(path) if path else {}
    gateway = document.setdefault("gateway", {})
    if isinstance(gateway, dict):
        gateway.setdefault("state_dir", str(state_dir))
    return parse_settings(document, where=str(path) if path else "defaults")


def parse_settings(document: dict[str, Any], *, where: str) -> Settings:
    """``document`` as Settings; the first fault becomes one clear line."""
    try:
        settings = Settings.model_validate(document)
    except ValidationError as err:
        first = err.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        raise ClawproxyError(
            "CONFIG_INVALID",
            "unknown key" if unknown else first["msg"].removeprefix("Value error, ").lower(),
            where=f"{where}: {key}",
            got=None if unknown else type(first["input"]).__name__,
            remedy="every key is in: clawproxy doctor --example-config",
        ) from None
    for name in ("reverse", "regular", "transparent"):
        address = getattr(settings.listen, name)
        if address:
            _check_listen(address, where=f"{where}: listen.{name}", plain_remote=settings.listen.allow_plain_remote)
    return settings


def parse_address(address: str, *, where: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port``, the host an IP address; raises ``ClawproxyError`` (CONFIG_INVALID)."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
        number = int(port)
        if not colon or not 0 <= number <= 65535 or not port.isascii():
            raise ValueError
    except ValueError:
        raise ClawproxyError(
            "CONFIG_INVALID",
            "not a listen address",
            where=where,
            got=address,
            expected="IP:PORT, such as 127.0.0.1:8081",
        ) from None
    return host, number


def _check_listen(address: str, *, where: str, plain_remote: bool) -> None:
    host, _ = parse_address(address, where=where)
    if not ipaddress.ip_address(host).is_loopback and not plain_remote:
        raise ClawproxyError(
            "CONFIG_INVALID",
            "tokens would cross the network on this address",
            where=where,
            got=address,
            expected="a loopback address",
            remedy="bind to 127.0.0.1, or set listen.allow_plain_remote = true if all clients speak https:// to it",
        )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_CONFIG_BYTES + 1)
    except OSError as err:
        raise ClawproxyError(
            "CONFIG_INVALID", f"cannot read the configuration: {(err.strerror or 'error').lower()}", where=str(path)
        ) from None
    if len(raw) > _MAX_CONFIG_BYTES:
        raise ClawproxyError("CONFIG_INVALID", "the configuration is too large", where=str(path))
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as err:
        raise ClawproxyError("CONFIG_INVALID", f"not TOML: {str(err)[:120].lower()}", where=str(path)) from None


def read_secret(reference: str, *, where: str) -> str:
    """The secret behind ``env:NAME``, ``file:PATH``, ``systemd:NAME`` or ``exec:COMMAND``; never part of a message.

    Raises ``ClawproxyError`` (SECRET_UNREADABLE). Blocks (``exec`` up to 10 s): call it at start-up only.
    """
    kind, _, name = reference.partition(":")
    value = ""
    try:
        if kind == "env" and name:
            value = os.environ.get(name, "")
        elif kind == "file" and name:
            value = _read_small(Path(name))
        elif kind == "systemd" and name and "/" not in name and "CREDENTIALS_DIRECTORY" in os.environ:
            value = _read_small(Path(os.environ["CREDENTIALS_DIRECTORY"]) / name)
        elif kind == "exec" and name:
            done = subprocess.run(
                shlex.split(name), capture_output=True, timeout=_EXEC_TIMEOUT_S, check=True, stdin=subprocess.DEVNULL
            )
            value = done.stdout[:_MAX_SECRET_BYTES].decode("utf-8")
        else:
            raise ClawproxyError(
                "CONFIG_INVALID",
                "not a reference to a secret",
                where=where,
                expected="env:NAME, file:PATH, systemd:NAME or exec:COMMAND",
                remedy="keep the value itself out of the configuration",
            )
    except (OSError, UnicodeDecodeError, ValueError, subprocess.SubprocessError):
        value = ""
    value = value.strip()
    if not value or not value.isascii() or not value.isprintable():
        # of a command only its name is told: its arguments may hold a secret
        raise ClawproxyError(
            "SECRET_UNREADABLE",
            "the secret is missing, empty or not one line",
            where=where,
            got=f"exec:{(name.split() or [''])[0]}" if kind == "exec" else reference,
            remedy=f"put the key there, or remove [{where.rpartition('.')[0]}]",
        )
    return value


def check_encrypted(provider: str, scheme: str) -> None:
    """Raise ``ClawproxyError`` (CONFIG_INVALID) where a credential would cross the network in the clear."""
    if scheme != "https":
        raise ClawproxyError(
            "CONFIG_INVALID",
            "a credential never crosses plain HTTP",
            where=f"providers.{provider}",
            got=f"{scheme}:// and a credential",
            expected="an https:// upstream",
            remedy=f'give the upstream TLS, or set providers.{provider}.credential = "{NO_CREDENTIAL}"',
        )


def is_address(host: str) -> bool:
    """Whether ``host`` is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _read_small(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_SECRET_BYTES).decode("utf-8")


def check_ca_file(path: Path) -> None:
    """Raise ``ClawproxyError`` (CONFIG_INVALID) where ``upstream_ca`` holds no certificate: every call would fail."""
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError):
        raise ClawproxyError(
            "CONFIG_INVALID", "no CA certificates can be read", where="upstream_ca", got=path, expected="a PEM file"
        ) from None


def check_listeners(settings: Settings) -> None:
    """Raise ``ClawproxyError`` (CONFIG_INVALID) where no call could come in."""
    if not (settings.listen.reverse or settings.listen.regular or settings.listen.transparent):
        raise ClawproxyError(
            "CONFIG_INVALID",
            "no listener is configured",
            where="listen",
            remedy="set listen.reverse, listen.regular or listen.transparent",
        )


def signer_dids(entries: list[str], role: Role, state_dir: Path) -> frozenset[str]:
    """The DIDs of ``entries``; without any, that of the key file ``keys/<role>.pem`` of the state directory."""
    if not entries:
        local = state_dir / "keys" / f"{role}.pem"
        return frozenset([did_in_key_file(local, role)]) if local.exists() else frozenset()
    return frozenset(_did_of(entry, role, state_dir) for entry in entries)


def _did_of(entry: str, role: Role, state_dir: Path) -> str:
    if entry.startswith("did:"):
        try:
            public_key_from_did(entry)
        except ClawproxyError as err:
            raise err.at(f"[trust], for {role} keys") from None
        return entry
    return did_in_key_file(state_dir / entry, role)


def did_in_key_file(path: Path, role: Role) -> str:
    """The DID and role written in front of a key file; the secret part is not used."""
    try:
        head = _read_small(path)
    except (OSError, UnicodeDecodeError):
        head = ""
    tags = dict(line.split(": ", 1) for line in head.splitlines() if line.startswith("clawproxy-"))
    did = tags.get("clawproxy-did", "")
    if tags.get("clawproxy-role") != role:
        raise ClawproxyError(
            "KEY_ROLE",
            f"no {role} key here",
            where=str(path),
            got=tags.get("clawproxy-role", "nothing readable"),
            expected=str(role),
            remedy=f"make one with: clawproxy keys new {role}",
        )
    public_key_from_did(did)
    return did
