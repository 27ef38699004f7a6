"""Which hosts were refused, out of denials; and how much of a name that an agent chose gets into records."""

from __future__ import annotations

import pytest
from clawproxy.receipts.side_traffic import refused_hosts, shown_host, split_inside
from clawproxy.tokens.canonical import JsonObject


@pytest.mark.parametrize(
    ("destination", "shown"),
    [
        ("telemetry.example", "telemetry.example"),
        ("Telemetry.Example.", "telemetry.example"),
        ("http-intake.logs.us5.telemetry.example:443", "http-intake.logs.us5.telemetry.example:443"),
        ("169.254.169.254:80", "169.254.169.254:80"),
        ("[fd63::9]:443", "[fd63::9]:443"),
        ("fd63::9", "fd63::9"),
        ("fd63::1:9", "fd63::1:9"),
        ("_dmarc.mail.example", "_dmarc.mail.example"),
        ("c2VjcmV0IHRleHQgaW4gYSBsYWJlbA.t.evil.example:443", "*.evil.example:443"),
        (".".join(["abcdefgh"] * 12) + ".evil.example", "*.evil.example"),
        ("x" * 40 + ".example", "(no host name)"),
        ("a b.example", "(no host name)"),
        ("<b>.example", "(no host name)"),
        ("ex\nample", "(no host name)"),
        ("пример.example", "(no host name)"),
        ("", "(no host name)"),
        (":443", "(no host name)"),
        ("host:port", "(no host name)"),
        ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
    ],
)
def test_a_destination_as_it_may_stand_in_records(destination: str, shown: str) -> None:
    assert shown_host(destination) == shown
    assert shown_host(shown).removeprefix("*.") in (shown, shown.removeprefix("*."), "(no host name)")


def test_hosts_are_counted_whatever_the_port_most_often_first() -> None:
    denials: list[JsonObject] = [
        {"reason": "NAME_NOT_ALLOWED", "destination": "statsig.example"},
        {"reason": "EGRESS_NOT_ALLOWED", "destination": "code.example:443"},
        {"reason": "CONNECTION_REFUSED", "destination": "code.example:22"},
        {"reason": "CONNECTION_REFUSED", "destination": "[fd63::9]:22"},
        {"reason": "POLICY_MODEL_NOT_ALLOWED"},
        {"reason": "X", "destination": None},
    ]
    told = refused_hosts(denials)
    assert [(host.host, host.count) for host in told] == [("code.example", 2), ("statsig.example", 1), ("fd63::9", 1)]
    assert told[0].reasons == ("EGRESS_NOT_ALLOWED", "CONNECTION_REFUSED")


REFUSED = {"reason": "EGRESS_NOT_ALLOWED", "rule": "egress_allowlist", "destination": "code.example:443"}
TUNNEL: JsonObject = {**REFUSED, "method": "CONNECT", "way_in": "regular"}
INSIDE: JsonObject = {**REFUSED, "method": "GET", "way_in": "connect"}


def test_a_refused_tunnel_counts_once_whatever_is_asked_in_it() -> None:
    denials = [TUNNEL, INSIDE, {**INSIDE, "method": "POST"}, TUNNEL]
    own, inside = split_inside(denials)
    assert (own, inside) == ([TUNNEL, TUNNEL], denials[1:3])
    assert [(host.host, host.count) for host in refused_hosts(own)] == [("code.example", 2)]


@pytest.mark.parametrize(
    "denial",
    [
        {**INSIDE, "destination": "other.example:443"},
        {**INSIDE, "rule": "egress_allowlist[0] methods"},
        {**INSIDE, "reason": "DESTINATION_REFUSED"},
        {**INSIDE, "way_in": "regular"},
    ],
    ids=["another host", "a listed host, another rule", "another reason", "in no tunnel"],
)
def test_a_request_that_is_in_no_refused_tunnel_counts_by_itself(denial: JsonObject) -> None:
    assert split_inside([TUNNEL, denial]) == ([TUNNEL, denial], [])
    assert split_inside([INSIDE, TUNNEL]) == ([INSIDE, TUNNEL], [])
