"""``clawproxy ca``: the certificate that clients of the proxy port and of doors trust. Reads the state directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..policies.contract import parse_contract
from ..policies.reachable import reachable_names
from .ca_bundle import system_certificates
from .contract_files import find_signed
from .screen import JsonFlag, new_app, note, print_json, print_pairs
from .state import DEFAULT_STATE, ConfigOption, StateDir, StateOption

if TYPE_CHECKING:
    from cryptography import x509

app = new_app("The gateway's own certificate authority: what clients of the proxy port must trust.")

_VARIABLES = {
    "NODE_EXTRA_CA_CERTS": "Node, Bun (Claude Code, opencode, pi, gemini-cli, OpenClaw); takes it --alone",
    "CODEX_CA_CERTIFICATE": "Codex; takes it --alone",
    "SSL_CERT_FILE": "Python SDKs (httpx, aiohttp, urllib, litellm), Claude Code, Codex",
    "REQUESTS_CA_BUNDLE": "requests, google-genai, boto3",
    "AWS_CA_BUNDLE": "boto3, the AWS CLI",
    "CURL_CA_BUNDLE": "curl, requests",
    "GIT_SSL_CAINFO": "git",
}


@app.command(short_help="where it lies, and which client reads which variable")
def show(state: StateOption = DEFAULT_STATE, json_: JsonFlag = False) -> None:
    """The CA: where it lies, its fingerprint, how long it holds, and which client reads which variable."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    from ..addons.ca import CA_FILE, ensure_ca

    path = ensure_ca(StateDir(state).root / "ca").absolute()
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    facts = {
        "certificate": str(path),
        "subject": certificate.subject.rfc4514_string(),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(":"),
        "not_after": certificate.not_valid_after_utc.isoformat(timespec="seconds"),
        "names": _names(certificate),
        "key": f"{path.with_name(CA_FILE)}, which never leaves this host",
    }
    if json_:
        print_json({**facts, "variables": _VARIABLES})
        return
    print_pairs(facts.items())
    print()
    print_pairs(_VARIABLES.items())


@app.command(short_help="what a client trusts: the system's certificates and it")
def bundle(
    contract: Annotated[
        str, typer.Option("--contract", help="Trust it only for the names that this contract reaches: a file or hash.")
    ] = "",
    alone: Annotated[bool, typer.Option("--alone", help="Without the system's certificates.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file; default: stdout.")] = None,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """What a client's variable should name: the system's certificates and the CA, in PEM.

    With --contract the CA is constrained to the contract's names (RFC 5280 section 4.2.1.10): a stolen key could then
    stand in for no other host towards this client.
    """
    from ..addons.ca import constrained_anchor, ensure_ca
    from ..addons.provider_settings import configured_catalogue
    from ..addons.settings import load_settings

    settings = load_settings(config, state)
    folder = StateDir(settings.state_dir)
    path = ensure_ca(folder.root / "ca")
    anchor = path.read_bytes()
    if contract:
        policy = parse_contract(find_signed(contract, folder)["payload"]).policy
        names = reachable_names(policy, configured_catalogue(settings))
        anchor = constrained_anchor(path.parent, names)
        note(f"trusted for {', '.join(sorted(names))} only")
    pem = anchor if alone else system_certificates() + b"\n" + anchor
    if out is None:
        typer.echo(pem.decode("ascii"), nl=False)
        return
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    note(f"wrote {out}")


def _names(certificate: x509.Certificate) -> str:
    from ..addons.ca import names_of

    return ", ".join(names_of(certificate)) or "any; clawproxy ca bundle --contract F makes one for a contract's alone"
