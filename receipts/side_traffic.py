"""What else an agent wanted to reach: hosts that were refused, out of the denials of a job. Pure.

A host is what an agent chose, so it is shown only where it is one plain name or address of usual length; of any other
the end alone is kept, because labels can carry text that has no place in records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..policies.addresses import bracketed, host_fault, is_literal
from ..tokens.canonical import JsonObject

_LONGEST_LABEL = 24
_LONGEST_NAME = 80
_NO_NAME = "(no host name)"


@dataclass(frozen=True, slots=True)
class RefusedHost:
    """A host, how often it was refused, and for which reasons."""

    host: str
    count: int
    reasons: tuple[str, ...]


def shown_host(destination: str) -> str:
    """``host``, or ``host:port``, as it may stand in records and on screens."""
    if is_literal(destination):
        return destination
    host, colon, port = destination.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5):
        host, port = destination, ""
    host = host.removeprefix("[").removesuffix("]").lower().rstrip(".")
    tail = f":{port}" if port else ""
    if is_literal(host):
        return bracketed(host) + tail if tail else host
    labels = host.split(".")
    if host_fault(host.replace("_", "x")) is not None:
        return _NO_NAME
    if len(host) <= _LONGEST_NAME and all(len(label) <= _LONGEST_LABEL for label in labels):
        return host + tail
    kept = [label for label in labels[-2:] if len(label) <= _LONGEST_LABEL]
    return f"*.{'.'.join(kept)}{tail}" if len(kept) == 2 else _NO_NAME


def split_inside(denials: Iterable[JsonObject]) -> tuple[list[JsonObject], list[JsonObject]]:
    """The payloads of a job's denials, in their order: each refusal once, and the requests in refused tunnels.

    With ``refuse_inside_tunnels`` a refused CONNECT has a denial, and then each request that the agent sends in it has
    one, for the same reason: the agent was refused one tunnel, and told of it so often.
    """
    tunnels: set[tuple[object, ...]] = set()
    own: list[JsonObject] = []
    inside: list[JsonObject] = []
    for denial in denials:
        refused = tuple(denial.get(name) for name in ("destination", "reason", "rule"))
        if denial.get("method") == "CONNECT":
            tunnels.add(refused)
        is_inside = denial.get("way_in") == "connect" and denial.get("method") != "CONNECT" and refused in tunnels
        (inside if is_inside else own).append(denial)
    return own, inside


def refused_hosts(own: Iterable[JsonObject]) -> tuple[RefusedHost, ...]:
    """The hosts that the payloads of denials name, most often refused first. ``own`` is each refusal once, as
    ``split_inside`` has them. Of lookups and connections through a door several of one kind within a moment are one
    denial, so counts are at least so many.
    """
    counts: Counter[str] = Counter()
    reasons: dict[str, dict[str, None]] = {}
    for denial in own:
        destination = denial.get("destination")
        if not isinstance(destination, str):
            continue
        host = _without_port(shown_host(destination))
        counts[host] += 1
        reasons.setdefault(host, {})[str(denial.get("reason"))] = None
    return tuple(RefusedHost(host, count, tuple(reasons[host])) for host, count in counts.most_common())


def _without_port(shown: str) -> str:
    host, colon, port = shown.rpartition(":")
    return host.removeprefix("[").removesuffix("]") if colon and port.isdigit() and not is_literal(shown) else shown
