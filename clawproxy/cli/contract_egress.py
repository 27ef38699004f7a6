"""``clawproxy contract egress``: allow-lists for the firewall behind a gateway. Looks names up."""

from __future__ import annotations

import re
import socket
import time
from enum import StrEnum
from typing import Annotated

import typer

from ..policies.contract import parse_contract
from ..policies.egress_lists import destinations, network_policy, nft_list, plain_list
from ..tokens.errors import ClawproxyError
from .contract_files import find_signed
from .screen import note
from .state import DEFAULT_STATE, ConfigOption, StateDir, StateOption


class Form(StrEnum):
    """How a list is written."""

    PLAIN = "plain"
    NFT = "nft"
    NETWORK_POLICY = "networkpolicy"


def contract_egress(
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="A signed contract: a file, or its hash.")],
    form: Annotated[Form, typer.Option("--format", help="plain: host:port; the others hold addresses of now.")] = (
        Form.PLAIN
    ),
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Where the gateway must be let out to under a contract: an allow-list for what stands behind it.

    Ends with 1 where a name has no address: the list then holds less than the contract allows.
    """
    from ..addons.provider_settings import configured_catalogue
    from ..addons.settings import load_settings

    settings = load_settings(config, state)
    policy = parse_contract(find_signed(contract, StateDir(settings.state_dir))["payload"]).policy
    found = destinations(policy, configured_catalogue(settings))
    if not found:
        raise ClawproxyError("WPC_INVALID", "the contract lets nothing out", where=contract)
    header = f"contract {policy.policy_hash_b64u}, looked up {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}"
    if form is Form.PLAIN:
        typer.echo(plain_list(found), nl=False)
        return
    lost: list[str] = []

    def look_up(name: str) -> list[str]:
        try:
            rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError:
            lost.append(name)
            return []
        return [str(row[4][0]) for row in rows]

    if form is Form.NFT:
        typer.echo(nft_list(found, look_up, header), nl=False)
    else:
        plain = re.sub(r"[^a-z0-9]+", "-", policy.name.lower()).strip("-")[:40] or "contract"
        typer.echo(network_policy(found, look_up, header, f"clawproxy-out-{plain}"), nl=False)
    if lost:
        note(f"no address now: {', '.join(lost)}")
        raise typer.Exit(1)
