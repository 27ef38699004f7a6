"""Fences in force: what a fenced user sends comes to the gateway or is refused, and others are left alone."""

from __future__ import annotations

import json

import pytest
from clawproxy.tokens.errors import ClawproxyError

from clawproxy.fence.installed import Places, fences
from clawproxy.fence.plan import Fence, fence_rules, parse_fence

from .conftest import PLACES, UID, V4, V6, Host

FENCE = {"name": "agent", "kind": "user", "around": "4242", "port": 8082, "open_ports": [8081], "dns_port": None}
REFUSED = ("ConnectionRefusedError", "PermissionError", "OSError")
LISTENERS = ("tcp,127.0.0.1,8082", "tcp,::1,8082", "tcp,127.0.0.1,8081", "tcp,127.0.0.1,9999")


def installed(host: Host, *more: str) -> None:
    done = host.clawproxy("install", "--user", str(UID), "--name", "agent", "--open", "8081", *more)
    assert done.returncode == 0, done.stderr


def test_a_fenced_user_reaches_the_gateway_and_nobody_else(host: Host) -> None:
    places = [f"{kind},{address},{port}" for kind, port in PLACES for address in (V4, V6)]
    assert {host.ask(place) for place in places} == {"outside"}  # without the fence all of it gets out
    installed(host)
    with host.answering("gateway", *LISTENERS):
        for place in places:
            web = place.startswith("tcp") and place.endswith((",80", ",443"))
            assert (place, host.ask(place)) in [
                (place, said)
                for said in (["gateway"] if web else ["ConnectionRefusedError", "PermissionError", "OSError"])
            ]
        assert host.ask("tcp,127.0.0.1,8081") == "gateway"
        assert host.ask("tcp,127.0.0.1,9999") == "ConnectionRefusedError"  # another service of the host
        assert host.ask("tcp,198.51.100.2,9999") == "ConnectionRefusedError"
    assert host.ask(f"tcp,{V4},443") == "ConnectionRefusedError"  # no gateway, no way


def test_other_users_are_left_alone(host: Host) -> None:
    installed(host)
    for uid in (None, UID + 1):
        assert host.ask(f"tcp,{V4},443", uid) == "outside"
        assert host.ask(f"udp,{V6},53", uid) == "outside"


def test_ids_that_a_user_may_take_in_a_user_namespace_are_fenced_with_it(host: Host) -> None:
    lent = host.etc / "subuid"
    lent.write_text(f"other:5000:10\n{UID}:100000:65536\n{UID}:165536:10\nbroken\n{UID}:x:y\n")
    assert host.ask(f"tcp,{V4},22", 100_001) == "outside"
    installed(host)
    for uid in (UID, 100_000, 165_545):
        assert host.ask(f"tcp,{V4},22", uid) in REFUSED, uid
    for uid in (5001, 99_999, 165_546):
        assert host.ask(f"tcp,{V4},22", uid) == "outside"
    assert host.clawproxy("check").returncode == 0
    lent.write_text(f"{UID}:300000:65536\n")
    done = host.clawproxy("check")
    assert done.returncode == 1
    assert "lends the user other ids" in done.stdout


BEFORE = f"""
import os, socket, sys
os.setresuid({UID}, {UID}, {UID})
sock = socket.socket()
sock.connect(('{V4}', 4243))
sock.settimeout(10)
print('open', flush=True)
sys.stdin.readline()
try:
    sock.sendall(b'late')
    sock.recv(64)
    print('answered')
except OSError as err:
    print(type(err).__name__)
"""
PATIENT = """
import socket
with socket.create_server(('0.0.0.0', 4243)) as server:
    print('ready', flush=True)
    client = server.accept()[0]
    client.recv(9)
    client.sendall(b'x')
"""


def test_a_connection_from_before_the_fence_carries_nothing_any_more(host: Host) -> None:
    assert host.outside is not None
    outside = host.outside

    def talk(*, fenced: bool) -> str:
        with outside.started(PATIENT) as patient:
            assert patient.stdout.readline() == "ready\n"
            with host.started(BEFORE) as before:
                assert before.stdout.readline() == "open\n"
                if fenced:
                    installed(host)
                before.stdin.write("\n")
                before.stdin.flush()
                return before.stdout.readline().strip()

    assert talk(fenced=False) == "answered"
    assert talk(fenced=True) != "answered"


def test_names_are_answered_where_a_port_is_given_for_it(host: Host) -> None:
    installed(host, "--dns", "8053")
    with host.answering("names", "udp,127.0.0.1,8053", "tcp,127.0.0.1,8053"):
        assert host.ask(f"udp,{V4},53") == "names"
        assert host.ask(f"tcp,{V4},53") == "names"
        assert host.ask(f"udp,{V4},443") != "outside"


def test_install_is_idempotent_and_remove_leaves_nothing(host: Host) -> None:
    before = host.run("nft", "list", "ruleset").stdout
    installed(host)
    once = host.run("nft", "list", "ruleset").stdout
    installed(host)
    assert host.run("nft", "list", "ruleset").stdout == once != before
    places = Places(host.etc / "clawproxy" / "fences", host.etc / "systemd" / "system")
    assert [fence.name for fence in fences(places)] == ["agent"]
    assert places.wanted("agent").resolve() == places.units / "clawproxy-fence@.service"
    assert host.clawproxy("remove", "agent").returncode == 0
    assert host.clawproxy("remove", "agent").returncode == 0
    assert host.run("nft", "list", "ruleset").stdout == before
    assert not list(places.fences.iterdir())
    assert not places.wanted("agent").exists()


@pytest.mark.parametrize(
    ("damage", "standing"),
    [
        ("delete table inet clawproxy_fence_agent", "missing"),
        ("flush chain inet clawproxy_fence_agent turn_away", "changed"),
        ("insert rule inet clawproxy_fence_agent judge accept", "changed"),
        ("add table inet clawproxy_fence_other", "stray"),
    ],
)
def test_check_sees_what_was_changed_and_repair_puts_it_right(host: Host, damage: str, standing: str) -> None:
    installed(host)
    assert host.clawproxy("check").returncode == 0
    assert host.run("nft", *damage.split()).returncode == 0
    done = host.clawproxy("check", "--json")
    assert done.returncode == 1
    assert standing in done.stdout
    assert host.clawproxy("check", "--repair").returncode == 0
    assert host.clawproxy("check").returncode == 0
    assert host.ask(f"tcp,{V4},22") == "ConnectionRefusedError"


def test_check_tries_the_ways_out_as_the_user(host: Host) -> None:
    installed(host)
    found = {row["found"] for row in json.loads(host.clawproxy("check", "--json").stdout)["found"]}
    assert "16 attempts, none let go" in found
    # a rule of somebody else's, before ours, that the comparison of our own table cannot see
    assert host.run("nft", "add table inet theirs").returncode == 0
    chain = "add chain inet theirs early { type nat hook output priority -150 ; }"
    assert host.run("nft", chain).returncode == 0
    assert host.run("nft", "add rule inet theirs early meta l4proto tcp th dport 22 redirect to :8082").returncode == 0
    with host.answering("theirs", "tcp,127.0.0.1,8082", "tcp,::1,8082"):
        done = host.clawproxy("check", "--json")
    assert done.returncode == 1
    assert "let go: ssh IPv4" in done.stdout


def test_a_fence_around_an_interface_takes_in_what_comes_by_it(host: Host) -> None:
    done = host.clawproxy("install", "--interface", "up0", "--name", "bridge", "--open", "8081")
    assert done.returncode == 0, done.stderr
    rules = host.run("nft", "list", "ruleset").stdout
    assert 'iifname "up0" reject' in rules
    assert 'iifname "up0" fib saddr . iif oif 0 drop' in rules


@pytest.mark.parametrize(
    "change",
    [
        {"around": "0"},
        {"around": "-1"},
        {"around": "1; accept"},
        {"kind": "cgroup", "around": "../x"},
        {"kind": "cgroup", "around": 'a" accept #'},
        {"kind": "interface", "around": "lo"},
        {"kind": "interface", "around": 'x" accept'},
        {"kind": "planet"},
        {"name": "a b"},
        {"name": "x}"},
        {"port": 0},
        {"port": "8082"},
        {"open_ports": []},
        {"open_ports": [70_000]},
        {"dns_port": -1},
        {"more": 1},
    ],
)
def test_what_would_make_wrong_rules_is_no_fence(change: dict[str, object]) -> None:
    assert isinstance(parse_fence(FENCE), Fence)
    with pytest.raises(ClawproxyError, match=r"not a|nothing that"):
        parse_fence({**FENCE, **change})


def test_a_cgroup_is_matched_at_its_own_level() -> None:
    rules = fence_rules(parse_fence({**FENCE, "kind": "cgroup", "around": "agents.slice/claude.service"}))
    assert 'socket cgroupv2 level 2 "agents.slice/claude.service" jump judge' in rules
