"""What may be dialled, and what is a host name: one row for each notation that has fooled somebody."""

from __future__ import annotations

import ipaddress

import pytest
from clawproxy.policies.addresses import address_fault, host_fault
from hypothesis import given
from hypothesis import strategies as st

PUBLIC = ("8.8.8.8", "104.18.0.1", "2606:4700::6812:1", "2001:4860:4860::8888", "64:ff9b::808:808")
CONFIGURABLE = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "10.1.2.3": "private",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.168.1.1": "private",
    "100.64.0.1": "carrier-grade NAT",
    "100.127.255.255": "carrier-grade NAT",
    "198.18.0.1": "benchmark",
    "198.19.255.255": "benchmark",
    "::1": "loopback",
    "fc00::1": "unique local",
    "fd12:3456::1": "unique local",
    "64:ff9b::7f00:1": "NAT64 of loopback",
    "64:ff9b::a00:1": "NAT64 of private",
}
NEVER = {
    "169.254.169.254": "metadata service",
    "169.254.170.2": "metadata service",
    "100.100.100.200": "metadata service",
    "168.63.129.16": "metadata service",
    "fd00:ec2::254": "metadata service",
    "fd00:0ec2:0:0::254": "metadata service",
    "64:ff9b::a9fe:a9fe": "NAT64 of metadata service",
    "169.254.1.1": "link-local",
    "fe80::1": "link-local",
    "fe80::1%eth0": "has a zone",
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "::": "unspecified",
    "224.0.0.1": "multicast",
    "ff02::1": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "192.0.0.8": "reserved",
    "4000::1": "reserved",
    "2001:2::1": "reserved",
    "fec0::1": "site-local",
    "100::1": "discard-only",
    "192.0.2.1": "documentation",
    "198.51.100.7": "documentation",
    "203.0.113.9": "documentation",
    "2001:db8::1": "documentation",
    "::ffff:127.0.0.1": "IPv4-mapped of loopback",
    "::ffff:7f00:1": "IPv4-mapped of loopback",
    "::ffff:a9fe:a9fe": "IPv4-mapped of metadata service",
    "::ffff:8.8.8.8": "IPv4-mapped",
    "::ffff:0:7f00:1": "IPv4-translated of loopback",
    "::127.0.0.1": "IPv4-compatible of loopback",
    "::8.8.8.8": "IPv4-compatible",
    "64:ff9b:1::7f00:1": "local NAT64 of loopback",
    "2002:7f00:1::": "6to4 of loopback",
    "2002:808:808::": "6to4",
    "2001:0:1::80ff:fffe": "Teredo of loopback",
    "1": "not an address",
    "127.1": "not an address",
    "0x7f000001": "not an address",
    "example": "not an address",
    "": "not an address",
}


@pytest.mark.parametrize("ip", PUBLIC)
def test_a_public_address_may_be_dialled(ip: str) -> None:
    assert address_fault(ip) is None


@pytest.mark.parametrize(("ip", "what"), CONFIGURABLE.items())
def test_a_private_address_is_refused_unless_it_is_configured(ip: str, what: str) -> None:
    assert address_fault(ip) == what
    assert address_fault(ip, private=True) is None


@pytest.mark.parametrize(("ip", "what"), NEVER.items())
def test_some_addresses_are_refused_even_where_private_ones_are_configured(ip: str, what: str) -> None:
    assert address_fault(ip) == what
    assert address_fault(ip, private=True) == what


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_no_ipv4_address_that_the_registries_call_special_is_public(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    if address_fault(str(address)) is None:
        assert address.is_global
        assert not address.is_multicast


@given(st.integers(min_value=0, max_value=2**128 - 1))
def test_no_ipv6_address_that_the_registries_call_special_is_public(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    if address_fault(str(address)) is None:
        assert address.is_global
        assert address.ipv4_mapped is None
        assert address.sixtofour is None
        assert address.teredo is None


@pytest.mark.parametrize("host", ["api.openai.com", "a", "a-b.c1.example", "1.example", "xn--bcher-kva.example"])
def test_a_plain_name_has_no_fault(host: str) -> None:
    assert host_fault(host) is None


BAD_HOSTS = {
    "": "empty",
    "127.0.0.1": "an IP address",
    "127.1": "an IP address",
    "2130706433": "an IP address",
    "0177.0.0.1": "an IP address",
    "0x7f000001": "an IP address",
    "0x7f.0.0.1": "an IP address",
    "127.0.0.0x1": "an IP address",
    "0x": "an IP address",
    "1.2.3.4.5": "an IP address",
    "[::1]": "an IP address, a port or an encoding",
    "::1": "an IP address, a port or an encoding",
    "fe80::1%eth0": "an IP address, a port or an encoding",
    "api.openai.com:443": "an IP address, a port or an encoding",
    "api%2eopenai.com": "an IP address, a port or an encoding",
    "api.openai.com.": "ends in a dot",
    "API.openai.com": "not lower case",
    "api\u3002openai.com": "not ASCII",
    "ap\u0456.openai.com": "not ASCII",
    "\uff41pi.openai.com": "not ASCII",
    "api..openai.com": "not a host name",
    ".openai.com": "not a host name",
    "-api.openai.com": "not a host name",
    "api_1.openai.com": "not a host name",
    "evil\x00.openai.com": "not a host name",
    "evil.com\r\n": "not a host name",
    "a@b.com": "not a host name",
    "a\\b.com": "not a host name",
    "a/b.com": "not a host name",
    "a#b.com": "not a host name",
    "a b.com": "not a host name",
    "*.openai.com": "not a host name",
    "a" * 64 + ".com": "not a host name",
    "a." * 127 + "com": "too long",
    "ab--cd.com": "a label in an encoding that stands for another name",
    "xn--pi-8ca.xn--openai-.com": "not a host name",
    "xn--openai-w4a.xn--99999999999.com": "a label in an encoding that stands for another name",
}


@pytest.mark.parametrize(("host", "what"), BAD_HOSTS.items(), ids=range(len(BAD_HOSTS)))
def test_what_is_not_one_plain_name_is_told(host: str, what: str) -> None:
    assert host_fault(host) == what


def test_a_label_that_decodes_to_another_spelling_of_ascii_is_told() -> None:
    wide = "xn--" + "\uff4fpenai".encode("punycode").decode()
    assert host_fault(f"{wide}.com") == "a label in an encoding that stands for another name"


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_told_why_not(host: str) -> None:
    if host_fault(host) is None:
        assert host.isascii()
        assert host == host.lower().strip(".")
        with pytest.raises(ValueError, match="not appear"):
            ipaddress.ip_address(host)
