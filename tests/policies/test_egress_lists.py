"""Allow-lists for a firewall: what a contract lets out, and nothing else, in the forms that tools read."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest
from clawproxy.policies.catalogue_file import load_catalogue
from clawproxy.policies.contract import parse_contract
from clawproxy.policies.egress_lists import destinations, network_policy, nft_list, plain_list
from clawproxy.policies.packaged import Starter, packaged_file, starter_document
from ruamel.yaml import YAML

ENTRIES = [
    {"host": "api.tickets.example", "methods": ["GET"], "paths": ["/*"], "port": 8443},
    {"host": "*.files.example", "methods": ["GET"], "paths": ["/*"]},
    {"host": "gone.example", "methods": ["GET"], "paths": ["/*"]},
]
ADDRESSES = {
    "api.openai.com": ["192.0.2.10", "2001:db8::10", "192.0.2.10"],
    "api.tickets.example": ["192.0.2.20"],
}


def found() -> Any:
    contract = starter_document(Starter.SDK) | {"allowed_providers": ["openai"], "egress_allowlist": ENTRIES}
    catalogue = load_catalogue(packaged_file("providers.toml"))
    return destinations(parse_contract(contract).policy, catalogue)


def look_up(name: str) -> list[str]:
    return ADDRESSES.get(name, [])


def test_the_plain_list_is_providers_and_hosts_of_tools() -> None:
    lines = ["*.files.example:443", "api.openai.com:443", "api.tickets.example:8443", "gone.example:443"]
    assert plain_list(found()).splitlines() == lines


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("nft") is None, reason="nft wants root and nftables")
def test_nftables_takes_the_sets() -> None:
    text = nft_list(found(), look_up, "made by a test")
    assert "192.0.2.10 . 443, 192.0.2.20 . 8443" in text
    assert "# *.files.example:443: left out" in text
    assert "# gone.example:443: left out" in text
    rule = "chain out { type filter hook output priority 0; policy drop; ip daddr . tcp dport @clawproxy_out4 accept; }"
    table = f"table inet t {{\n{text}\n{rule}\n}}\n"
    done = subprocess.run(
        ["unshare", "--net", "nft", "-f", "-"], input=table, text=True, capture_output=True, check=False
    )
    assert done.stderr == ""


def test_the_network_policy_lets_out_these_addresses_and_dns() -> None:
    document = YAML(typ="safe").load(network_policy(found(), look_up, "made by a test", "clawproxy-out-x"))
    assert document["spec"]["policyTypes"] == ["Egress"]
    blocks = {
        (to["ipBlock"]["cidr"], rule["ports"][0]["port"])
        for rule in document["spec"]["egress"]
        for to in rule["to"]
        if "ipBlock" in to
    }
    assert blocks == {("192.0.2.10/32", 443), ("2001:db8::10/128", 443), ("192.0.2.20/32", 8443)}
