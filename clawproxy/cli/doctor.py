"""``clawproxy doctor``: what is set up, what is missing, and what to do about it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..policies.approval_rules import ActionApproval, ApprovalRules, JobApproval
from ..policies.contract import open_contract
from ..policies.packaged import packaged_file
from ..receipts.order_book import OrderBook
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role
from .contract_files import signed_files
from .screen import JsonFlag, new_app, print_json
from .state import DEFAULT_STATE, GATEWAY_ROLES, ConfigOption, StateDir, StateOption, keys_command, set_credential

if TYPE_CHECKING:
    from ..addons.settings import Settings

app = new_app("What is set up, what is missing, and what to do about it.")
app.info.no_args_is_help = False

_MIN_FREE_BYTES = 256 * 1024 * 1024
_SLOW_SYNC_MS = 20
_EARLIEST_CLOCK_S = 1_735_689_600
_SYNCS = 5


@dataclass(frozen=True, slots=True)
class Symptom:
    """One thing that was looked at."""

    state: Literal["ok", "warn", "fail"]
    what: str
    found: str
    remedy: str = ""


@app.command()
def doctor(
    example_config: Annotated[
        bool, typer.Option("--example-config", help="Print a configuration with every key and its comment, instead.")
    ] = False,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Look at this machine and the state directory; changes nothing. Ends with 1 when the gateway would not start."""
    if example_config:
        sys.stdout.write(packaged_file("clawproxy.example.toml").decode())
        return
    found = list(examine(StateDir(state), config))
    if json_:
        print_json([asdict(symptom) for symptom in found])
    else:
        width = max(len(symptom.what) for symptom in found)
        for symptom in found:
            # paths, names and hashes are for copying: one line each, which the terminal wraps
            print(f"{symptom.state:<4}  {symptom.what:<{width}}  {symptom.found}")
            if symptom.remedy:
                print(f"{'':<{width + 6}}  → {symptom.remedy}")
    raise typer.Exit(int(any(symptom.state == "fail" for symptom in found)))


def examine(folder: StateDir, config: Path | None) -> Iterator[Symptom]:
    """Every check, in the order in which a person would repair things."""
    from ..addons.settings import load_settings

    yield from _machine()
    settings: Settings | None = None
    try:
        settings = load_settings(config, folder.root)
    except ClawproxyError as err:
        yield Symptom("fail", "configuration", err.one_line())
    else:
        yield Symptom("ok", "configuration", str(config or (folder.config if folder.config.exists() else "defaults")))
        folder = StateDir(settings.state_dir)
    yield from _state(folder)
    if folder.root.is_dir():
        yield from _keys(folder)
        yield from _disk(folder.root)
        yield from _orders(folder)
    if settings is None:
        return
    yield from _contracts(folder, settings)
    yield from _providers(settings, set_credential(config, folder.root))
    yield from _egress(settings)
    yield _ca(folder.root)
    yield from _listeners(folder, settings)


def _machine() -> Iterator[Symptom]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Symptom("ok", "python", version)
    try:
        found = importlib.metadata.version("mitmproxy")
    except importlib.metadata.PackageNotFoundError:
        yield Symptom("fail", "mitmproxy", "not installed", "install clawproxy again")
    else:
        yield _engine(found)
    if time.time() < _EARLIEST_CLOCK_S:
        yield Symptom("fail", "clock", time.strftime("%Y-%m-%d"), "set the clock: tokens and receipts depend on it")


def _engine(version: str) -> Symptom:
    from ..addons import http_stream
    from ..addons.engine_checks import check_engine

    http_stream.install()  # what is checked is mitmproxy with our seam in it
    try:
        check_engine()
    except ClawproxyError as err:
        return Symptom("fail", "mitmproxy", f"{version}: {err.message}", err.remedy)
    finally:
        http_stream.uninstall()
    return Symptom("ok", "mitmproxy", f"{version}, as this clawproxy knows it")


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
            yield _failed("stops", err)
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


def _contracts(folder: StateDir, settings: Settings) -> Iterator[Symptom]:
    from ..addons.settings import signer_dids

    try:
        signers = signer_dids(settings.trust.contract_signers, Role.POLICY, folder.root)
        signer_dids(settings.trust.token_issuers, Role.TOKEN, folder.root)
    except ClawproxyError as err:
        yield Symptom("fail", "trust", err.one_line())
        return
    if not signers:
        remedy = f"{keys_command(folder.root, Role.POLICY)}, or set trust.contract_signers"
        yield Symptom("fail", "trust", "no contract signer", remedy)
    envelopes = signed_files(folder)
    if not envelopes:
        yield Symptom(
            "warn",
            "contracts",
            f"none in {folder.contracts}",
            "clawproxy contract new sdk, then clawproxy contract sign",
        )
    for path, envelope in envelopes:
        try:
            contract = open_contract(envelope, signers)
        except ClawproxyError as err:
            yield Symptom(
                "warn", "contract", f"{path.name}: {err.message} [{err.reason}]", "sign it with a trusted key"
            )
            continue
        if contract.policy.demands:
            what = ", ".join(demand.field for demand in contract.policy.demands)
            yield Symptom(
                "warn", "contract", f"{contract.policy.name}: cannot be enforced: {what}", "see: contract check"
            )
        else:
            yield Symptom("ok", "contract", f"{contract.policy.name}, {contract.policy_hash_b64u}")
            yield from _approvers(contract.policy.name, contract.policy.approvals, settings)


def _approvers(name: str, wanted: ApprovalRules, settings: Settings) -> Iterator[Symptom]:
    """Groups that a contract wants a yes of, and in which nobody is."""
    from ..addons.approvers import load_approvers

    asked: list[ActionApproval | JobApproval] = [*wanted.actions, *([wanted.job] if wanted.job is not None else [])]
    try:
        approvers = load_approvers(settings, {})
    except ClawproxyError as err:
        yield _failed("approvers", err)
        return
    for group in sorted({rule.group or "" for rule in asked}):
        if not approvers.of(group or None):
            who = f'nobody is in the group "{group}"' if group else "there is no approver"
            yield Symptom(
                "warn",
                "approvers",
                f"{name} wants approvals, and {who}: the answer is no",
                f'[trust] approvers = {{ {group or "GROUP"} = ["did:key:…"] }}, a key of: '
                "clawproxy keys new approval --name NAME; then clawproxy reload",
            )


def _ca(root: Path) -> Symptom:
    from ..addons.ca import CERT_FILE

    path = (root / "ca" / CERT_FILE).absolute()
    if not path.is_file():
        return Symptom("ok", "CA", "not made yet", "clawproxy serve makes it; only clients of the proxy port need it")
    names = "=, ".join(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"))
    return Symptom("ok", "CA", str(path), f"for clients of the proxy port: {names}= this file")


def _providers(settings: Settings, set_one: str) -> Iterator[Symptom]:
    from ..addons.provider_settings import configured_catalogue, provider_credential
    from ..addons.settings import NO_CREDENTIAL, check_ca_file

    if settings.upstream_ca:
        try:
            check_ca_file(Path(settings.upstream_ca))
        except ClawproxyError as err:
            yield _failed("upstream_ca", err, "correct the path, or take the key out")
    if not any(section.credential for section in settings.providers.values()):
        yield Symptom("warn", "providers", "no credential is set", set_one)
    try:
        catalogue = configured_catalogue(settings)
    except ClawproxyError as err:
        yield _failed("providers", err)
        return
    for name, section in settings.providers.items():
        if not section.credential:
            continue
        try:
            provider_credential(settings, catalogue, name)
        except ClawproxyError as err:
            yield _failed(f"provider {name}", err)
        else:
            none = section.credential == NO_CREDENTIAL
            yield Symptom("ok", f"provider {name}", "called without a credential" if none else "credential present")


def _egress(settings: Settings) -> Iterator[Symptom]:
    from ..addons.egress_credentials import egress_credential, private_destinations
    from ..addons.price_settings import configured_prices

    try:
        prices = configured_prices(settings)
    except ClawproxyError as err:
        yield _failed("prices", err)
    else:
        if settings.prices.file or settings.prices.rows:
            yield Symptom("ok", "prices", f"as of {prices.as_of}, and {len(settings.prices.rows)} rows of your own")
    for name, section in settings.egress.items():
        try:
            egress_credential(name, section)
        except ClawproxyError as err:
            yield _failed(f"egress {name}", err)
        else:
            yield Symptom("ok", f"egress {name}", f"credential present, for {', '.join(section.hosts)}")
    try:
        private_destinations(settings.egress_private)
    except ClawproxyError as err:
        yield _failed("egress_private", err)


def _failed(what: str, err: ClawproxyError, remedy: str = "") -> Symptom:
    """What ``clawproxy serve`` would end with."""
    fault = ClawproxyError(err.reason, err.message, where=err.where, got=err.got, expected=err.expected)
    return Symptom("fail", what, fault.one_line(), err.remedy or remedy)


def _listeners(folder: StateDir, settings: Settings) -> Iterator[Symptom]:
    from ..addons.admin import call_admin
    from ..addons.settings import check_listeners, parse_address

    try:
        check_listeners(settings)
    except ClawproxyError as err:
        yield _failed("listen", err)
    try:
        status = asyncio.run(call_admin(folder.admin_socket, "status"))
    except ClawproxyError:
        pass
    else:
        yield Symptom("ok", "gateway", f"running, {status.get('open_calls')} calls open")
        return
    for name in ("reverse", "regular"):
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
