"""The names of a door: what the contract lets be called has an address of its own, and nothing else has one."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from clawproxy.policies.contract import parse_contract
from clawproxy.policies.door_names import DoorNames
from clawproxy.policies.door_plan import DOOR_V4, DOOR_V6, JOB_V4, LINK_V4, LINK_V6, NAMES_V6, is_name_v4
from clawproxy.policies.packaged import packaged_catalogue
from hypothesis import given
from hypothesis import strategies as st

CATALOGUE = packaged_catalogue()
EGRESS = [
    {"host": "api.tickets.example", "paths": ["/*"]},
    {"host": "odd.example", "paths": ["/*"], "port": 8443},
    {"host": "plain.example", "paths": ["/*"], "scheme": "http"},
    {"host": "*.wild.example", "paths": ["/*"]},
    {"host": "192.0.2.7", "paths": ["/*"], "scheme": "http"},
]


def table(*, max_names: int = 4096, observe: bool = False, **over: Any) -> DoorNames:
    contract = {
        "policy_name": "p", "allowed_providers": ["openai"], "allowed_models": ["m"], "egress_allowlist": EGRESS,
        "token_constraints": {"cst_ttl_minutes": 30, "pin_policy_hash": True, "job_bound": True}, **over,
    }  # fmt: skip
    return DoorNames(parse_contract(contract).policy, lambda: CATALOGUE, observe=observe, max_names=max_names)


@pytest.mark.parametrize(
    "name",
    ["api.openai.com", "api.tickets.example", "odd.example", "plain.example", "a.wild.example", "a.b.wild.example"],
)
def test_a_name_that_may_be_called_has_two_addresses_that_say_which_it_is(name: str) -> None:
    names = table()
    found = names.addresses(name)
    assert found is not None
    v4, v6 = found
    assert is_name_v4(v4)
    assert v6 in NAMES_V6
    assert [names.name_at(str(address)) for address in (v4, v6, f"::ffff:{v4}")] == [name] * 3
    assert names.addresses(name) == found


@pytest.mark.parametrize(
    "name",
    [
        "api.anthropic.com",  # of a provider that the contract does not have
        "openai.com",
        "x.api.openai.com",
        "wild.example",
        "awild.example",
        ".wild.example",
        "a..wild.example",
        "*.wild.example",
        "A.wild.example",
        "a.wild.example.",
        "a_b.wild.example",
        "192.0.2.7",
        "7",
        "",
        "localhost",
        "ab--c.wild.example",
    ],
)
def test_any_other_name_has_none(name: str) -> None:
    assert table().addresses(name) is None


@pytest.mark.parametrize(
    "address",
    [
        "198.18.0.1", "198.18.0.2", "198.18.0.255", "198.19.0.0", "198.18.255.255", "127.0.0.1", "169.254.169.254",
        "fd63:6c61:7770:1::", "fd63:6c61:7770:1::ffff", "fd63:6c61:7770::1", "fd63:6c61:7770:1:1::1", "::1",
        "::ffff:169.254.169.254", "api.openai.com", "", "198.18.1.0%eth0x", "fd63:6c61:7770:1:ffff:ffff:ffff:ffff",
    ],
)  # fmt: skip
def test_an_address_that_no_name_has_is_nothing(address: str) -> None:
    names = table(allowed_providers=[], egress_allowlist=[]) if address.startswith("198.18.1.0") else table()
    assert names.name_at(address) is None


def test_written_names_have_theirs_from_the_start_and_the_wildcard_is_bounded() -> None:
    names = table(max_names=6)
    names_of_wildcard = [names.addresses(f"n{n}.wild.example") for n in range(10)]
    assert sum(found is not None for found in names_of_wildcard) == 2
    assert names.addresses("api.openai.com") is not None
    assert names.addresses("n0.wild.example") == names_of_wildcard[0]
    assert names.addresses("n9.wild.example") is None


def test_two_names_never_share_an_address() -> None:
    names = table()
    found = [names.addresses(f"n{n}.wild.example") for n in range(3000)]
    assert len({address for pair in found if pair for address in pair}) == 6000


def test_no_address_of_a_name_is_one_of_the_link() -> None:
    names = table()
    v4, v6 = names.addresses("api.openai.com") or (DOOR_V4, DOOR_V6)
    assert v4 not in LINK_V4
    assert v6 not in LINK_V6
    assert JOB_V4 in LINK_V4


def test_ports_are_those_that_the_contract_lists_and_those_that_can_be_answered() -> None:
    names = table()
    assert [port for port in (22, 53, 80, 443, 8443) if names.takes("odd.example", port)] == [80, 443, 8443]
    assert [port for port in (22, 53, 80, 443, 8443) if names.takes("api.openai.com", port)] == [80, 443]


def test_a_name_of_each_provider_that_the_contract_allows() -> None:
    names = table(allowed_providers=["openai", "anthropic"])
    assert names.addresses("api.anthropic.com") is not None


def test_to_observe_opens_each_name_that_a_contract_could_list() -> None:
    names = table(observe=True)
    assert names.addresses("telemetry.example") is not None
    assert names.takes("telemetry.example", 8443)
    assert names.addresses("gateway.internal") is None
    assert names.addresses("169.254.169.254") is None


@given(st.ip_addresses())
def test_whatever_the_address_it_is_the_name_that_has_it_or_nothing(address: Any) -> None:
    names = table()
    name = names.name_at(str(address))
    if name is not None:
        assert ip_address(str(address)) in (names.addresses(name) or ())
