"""Each wall of a cage is taken out once, and the leak probe that stands for it says so."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clawproxy.tokens.errors import ClawproxyError

from clawproxy.cage import cage as cage_module
from clawproxy.cage.cage import Probe
from clawproxy.cage.rules import door_rules

from .rig import caged, needs_root

pytestmark = needs_root

NO_MASK = "from clawproxy.cage import view; view.mask = lambda path: None; view.hold_still = list"
NO_FILTER = "from clawproxy.cage import kernel; kernel.install_filter = lambda program: None"
NO_CAPSET = "from clawproxy.cage import kernel; kernel.set_capabilities = lambda *sets: None"
NO_NEW_PRIVS = f"""
{NO_FILTER}
real = kernel.prctl
kernel.prctl = lambda option, *more: 0 if option == kernel.PR_SET_NO_NEW_PRIVS else real(option, *more)
"""
NO_USER = "import os; os.setresuid = os.setresgid = lambda *ids: None"
NO_GROUPS = "import os; os.setgroups([0, 27]); os.setgroups = lambda groups: None"
NO_CLOSE = "import os; os.closerange = lambda low, high: None"
NO_DEVICES = "from clawproxy.cage import view; view._devices = lambda *_: None"
NO_NETWORK = """
import os
real = os.setns
from clawproxy.cage import inside
class Os:
    def __getattr__(self, name): return getattr(os, name)
    def setns(self, fd, kind): pass
inside.os = Os()
"""
NO_IPC = "from clawproxy.cage import inside; import os; inside._NEW = os.CLONE_NEWNS"

GUARDS = [
    (NO_MASK, {"masked-paths", "unix-sockets", "admin-socket"}),
    (NO_FILTER, {"system-call-filter", "socket-families", "user-namespace"}),
    (NO_CAPSET, {"capabilities", "raw4", "raw6", "netlink-change"}),
    (NO_NEW_PRIVS, {"no-new-privileges"}),
    (NO_USER, {"user"}),
    (NO_GROUPS, {"groups"}),
    (NO_CLOSE, {"descriptors"}),
    (NO_DEVICES, {"devices"}),
    (NO_NETWORK, {"interfaces", "tcp6-door"}),
    (NO_IPC, {"namespaces"}),
]


@pytest.fixture
def host() -> Iterator[tuple[str, str]]:
    """A directory and a socket that listens in it, open to everyone: what the host might have."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        Path(folder).chmod(0o755)
        secret = Path(folder) / "state"
        secret.mkdir(mode=0o755)
        (secret / "key").write_text("secret")
        path = f"{folder}/admin.sock"
        listener.bind(path)
        Path(path).chmod(0o777)
        listener.listen()
        yield str(secret), path


_NOT_IN_TIME = {"probes"}


def probed(**plan: Any) -> dict[str, Probe]:
    """What the probes of a cage find; of up to four cages where a busy machine does not let them end in time."""
    for _ in range(4):
        with caged(**plan) as cage:
            found = {probe.name: probe for probe in cage.probe()}
        if set(found) != _NOT_IN_TIME:
            break
    return found


def reached(host: tuple[str, str], **plan: Any) -> set[str]:
    # not a dynamic user: its own /tmp would hide what lies in the host's
    found = probed(user="nobody", masked=(host[0],), admin_socket=host[1], **plan)
    return {name for name, probe in found.items() if probe.outcome == "reached"}


def test_with_all_walls_nothing_is_reached(host: tuple[str, str]) -> None:
    assert reached(host) == set()


@pytest.mark.parametrize(("guard", "expected"), GUARDS, ids=[min(expected) for _, expected in GUARDS])
def test_without_a_wall_its_probe_reaches(
    host: tuple[str, str], guard: str, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"{guard}\nimport sys\nfrom clawproxy.cage.warden import main\nmain(int(sys.argv[1]))"
    monkeypatch.setattr(cage_module, "WARDEN", ("-c", program))
    found = reached(host)
    # in the host's own network nobody may answer in time: probes that are not over end the run as well
    assert expected <= found or (guard == NO_NETWORK and found == _NOT_IN_TIME)


HELD_UP = """
from clawproxy.cage import inside
real, rounds = inside._Init._probe, []
def held_up(init):
    rounds.append(1)
    return [("probes", "reached", "they did not end in time")] if len(rounds) <= TIMES else real(init)
inside._Init._probe = held_up
"""


@pytest.mark.parametrize(("times", "expected"), [(2, set()), (1000, {"probes"})])
def test_a_machine_that_stands_still_for_a_moment_is_probed_again(
    times: int, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"{HELD_UP.replace('TIMES', str(times))}\nimport sys\nfrom clawproxy.cage.warden import main\n"
    monkeypatch.setattr(cage_module, "WARDEN", ("-c", f"{program}main(int(sys.argv[1]))"))
    with caged() as cage:
        assert {probe.name for probe in cage.probe() if probe.outcome == "reached"} == expected


def test_rules_that_let_something_through_are_seen(host: tuple[str, str]) -> None:
    redirect_all = door_rules().replace(
        "ip daddr $NAMES_V4 meta l4proto tcp", "ip daddr 1.0.0.0-223.255.255.255 meta l4proto tcp"
    )
    assert redirect_all != door_rules()
    assert {"tcp4-public", "tcp4-metadata", "tcp4-private"} <= reached(host, rules=redirect_all)


def test_rules_that_refuse_nothing_aloud_are_no_proof(host: tuple[str, str]) -> None:
    silent = (
        door_rules().replace("reject with tcp reset", "drop").replace("reject with icmpx type admin-prohibited", "drop")
    )
    assert {"tcp4-public", "udp4-public", "tcp6-public", "udp6-public"} <= reached(host, rules=silent)


def test_a_door_without_rules_leads_nowhere_all_the_same(host: tuple[str, str]) -> None:
    """It has no other link: what gets in cannot get on. Only the probes cannot tell, and so do not say it is safe."""
    outcomes = probed(user="nobody", rules="")
    assert outcomes["tcp4-public"].seen.endswith("no refusal was seen")
    assert outcomes["tcp4-metadata"].seen.endswith("no refusal was seen")


def test_root_inside_is_what_the_probes_would_not_accept(host: tuple[str, str]) -> None:
    assert {"capabilities", "raw4", "packet", "user"} <= reached(host, root_inside=True)


def test_no_name_is_left_on_the_host() -> None:
    def names() -> set[str]:
        run = {f"/run/netns/{name}" for name in (os.listdir("/run/netns") if os.path.isdir("/run/netns") else [])}
        return run | {name for _, name in socket.if_nameindex()}

    before = names()
    with caged() as cage:
        cage.probe()
        assert names() == before
    assert names() == before


def test_a_kernel_without_ipv6_makes_a_cage_that_speaks_ipv4_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "from clawproxy.cage import namespaces, probes; namespaces.has_v6 = probes.has_v6 = lambda: False"
    program += "\nimport sys\nfrom clawproxy.cage.warden import main\nmain(int(sys.argv[1]))"
    monkeypatch.setattr(cage_module, "WARDEN", ("-c", program))
    with caged() as cage:
        cage.sockets.check()
        assert [sock.family for sock in cage.sockets.tcp] == [socket.AF_INET]
    outcomes = {name: probe.outcome for name, probe in probed().items()}
    assert outcomes["tcp4-public"] == outcomes["dns-udp4-foreign"] == outcomes["names"] == "blocked"
    assert not [name for name in outcomes if name.startswith(("tcp6", "udp6", "dns-udp6", "dns-tcp6"))]


def test_what_the_warden_cannot_do_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for broken, words in (
        ("namespaces._PATH = '/nowhere'", "install iproute2 and nftables"),
        ("view._sysfs = lambda: (_ for _ in ()).throw(OSError(1, 'no', '/sys'))", "/sys"),
        ("namespaces._listen = lambda v6: (_ for _ in ()).throw(OSError(98, 'in use'))", "in use"),
    ):
        program = f"from clawproxy.cage import namespaces, view; {broken}\nimport sys\n"
        program += "from clawproxy.cage.warden import main\nmain(int(sys.argv[1]))"
        monkeypatch.setattr(cage_module, "WARDEN", ("-c", program))
        with pytest.raises(ClawproxyError) as caught, caged():
            pass
        assert caught.value.reason == "ISOLATION_UNAVAILABLE"
        assert words in caught.value.one_line()
