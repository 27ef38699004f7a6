"""What a fence is around, and its rules. Pure, but for the templates."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from importlib.resources import files
from string import Template
from typing import Literal

from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from .subordinate import Range, joined

TABLE_PREFIX = "clawproxy_fence_"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}", re.ASCII)
_CGROUP = re.compile(r"[A-Za-z0-9@._-]{1,128}(?:/[A-Za-z0-9@._-]{1,128}){0,15}", re.ASCII)
_MAX_UID = 2**32 - 2

type Kind = Literal["user", "cgroup", "interface"]


@dataclass(frozen=True, slots=True)
class Fence:
    """``around`` is a uid, the path of a cgroup (version 2) below its root, or the name of an interface.

    ``port`` is the transparent listener's, ``open_ports`` those of the gateway's other listeners. ``dns_port`` is where
    names are answered on this host; without it no name is: port 53 is refused like any other. ``subordinate`` are first
    and last of the ids that a user may take besides its own (``subordinate.ranges_of``).
    """

    name: str
    kind: Kind
    around: str
    port: int
    open_ports: tuple[int, ...]
    dns_port: int | None = None
    subordinate: tuple[Range, ...] = ()

    @property
    def table(self) -> str:
        """The name of its table in nftables, which is its own alone."""
        return TABLE_PREFIX + self.name

    def to_json(self) -> JsonObject:
        plain = {**asdict(self), "open_ports": list(self.open_ports)}
        return plain | {"subordinate": [list(each) for each in self.subordinate]}


def parse_fence(document: JsonObject) -> Fence:
    """A fence as it was written down; raises ``ClawproxyError`` (FENCE_INVALID) for one that would make wrong rules."""
    try:
        below = tuple((first, last) for first, last in document.get("subordinate", ()))
        fence = Fence(**{**document, "open_ports": tuple(document["open_ports"]), "subordinate": below})
    except (KeyError, TypeError, ValueError):
        raise _invalid("not a fence", "fence", "", "name, kind, around, port, open_ports") from None
    ports = (fence.port, *fence.open_ports, *(() if fence.dns_port is None else (fence.dns_port,)))
    if not all(isinstance(port, int) and 1 <= port <= 65_535 for port in ports) or not fence.open_ports:
        raise _invalid("not a port", "ports", str(ports), "1 to 65535")
    if not _NAME.fullmatch(str(fence.name)):
        raise _invalid("not a name for a fence", "--name", str(fence.name), _NAME.pattern)
    around = str(fence.around)
    if fence.kind == "user":
        fits = around.isascii() and around.isdigit() and 0 < int(around) <= _MAX_UID
    elif fence.kind == "cgroup":
        fits = bool(_CGROUP.fullmatch(around)) and not {".", ".."} & set(around.split("/"))
    else:
        fits = fence.kind == "interface" and bool(_INTERFACE.fullmatch(around)) and around != "lo"
    fits = fits and (fence.kind == "user" or not below)
    if not fits or not all(type(n) is int and 0 < n <= _MAX_UID for each in below for n in each):
        expected = "a user but root, a cgroup below /sys/fs/cgroup, or an interface but lo"
        raise _invalid("nothing that a fence can be around", str(fence.kind), around, expected)
    return fence


def fence_rules(fence: Fence) -> str:
    """The ruleset as ``nft -f`` reads it: it replaces the fence of this name as one step, if there is one."""
    who = {
        "user": f"meta skuid {_uids(fence)}",
        "cgroup": f'socket cgroupv2 level {fence.around.count("/") + 1} "{fence.around}"',
        "interface": f'iifname "{fence.around}"',
    }[fence.kind]
    indent, redirect, accept = " " * 8, "", ""
    if fence.dns_port is not None:
        redirect = f"{indent}{who} meta l4proto {{ tcp, udp }} th dport 53 redirect to :{fence.dns_port}\n"
        accept = f"{indent}ct status dnat meta l4proto {{ tcp, udp }} th dport {fence.dns_port} accept\n"
    template = files("clawproxy.configs") / ("fence_interface.nft" if fence.kind == "interface" else "fence_own.nft")
    rules = Template(template.read_text("utf-8")).substitute(
        table=fence.table,
        who=who,
        port=fence.port,
        open=", ".join(map(str, sorted(set(fence.open_ports)))),
        dns_redirect=redirect,
        dns_accept=accept,
    )
    # a table that is named first exists, so that taking it away cannot fail
    return f"table inet {fence.table}\ndelete table inet {fence.table}\n{rules}"


def _uids(fence: Fence) -> str:
    if not fence.subordinate:
        return fence.around
    own = int(fence.around)
    ranges = joined([(own, own), *fence.subordinate])
    return "{ " + ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges) + " }"


def _invalid(message: str, where: str, got: str, expected: str) -> ClawproxyError:
    return ClawproxyError("FENCE_INVALID", message, where=where, got=got, expected=expected)
