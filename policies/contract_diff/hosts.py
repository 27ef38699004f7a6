"""Calls of tools to hosts: destinations, methods, paths, and whose credential goes along. Pure.

An entry knows exact hosts and names below one, exact paths and what lies below one. So it is enough to ask about each
host and path that an entry names, and about one fresh name below each.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Collection, Iterable, Iterator

from ...tokens.reasons import Refusal
from ..egress import (
    METHODS,
    EgressAllow,
    EgressEntry,
    EgressFacts,
    authority_of,
    decide_destination,
    decide_egress,
    destination_fault,
    parse_target,
)
from ..policy import Policy
from .power import Power, Proof, a_fixture, decided


def host_powers(here: Policy, there: Policy) -> Iterator[Power]:
    """What ``here`` lets tools reach that ``there`` does not, or with more of a credential."""
    if here.egress == there.egress:
        return
    entries = (*here.egress, *there.egress)
    found: dict[tuple[str, str], Power] = {}
    for scheme, port in dict.fromkeys((entry.scheme, entry.port) for entry in here.egress):
        for host in _hosts(entries):
            tunnel = decide_destination(scheme, host, port, here)
            if isinstance(tunnel, Refusal):
                continue
            place = f"{scheme}://{authority_of(scheme, host, port)}"
            if isinstance(decide_destination(scheme, host, port, there), Refusal):
                what = f"connections to {place}"
                found.setdefault((tunnel[0].rule, "host"), Power("egress_allowlist", what, tunnel[0].rule))
            near = [entry for entry in entries if entry.reaches(scheme, host, port)]
            for path in _paths(near):
                for method in METHODS:
                    for key, power in _call(EgressFacts(scheme, host, port, method, path), here, there):
                        found.setdefault(key, power)
    called = {rule for rule, kind in found if kind == "call"}
    yield from (power for (rule, kind), power in found.items() if kind != "host" or rule not in called)


def _call(facts: EgressFacts, here: Policy, there: Policy) -> Iterator[tuple[tuple[str, str], Power]]:
    allowed, other = decide_egress(facts, here), decide_egress(facts, there)
    if not isinstance(allowed, EgressAllow):
        return
    rule, what = allowed.entry.rule, f"{facts.method} {facts.url}"
    if isinstance(other, Refusal):
        power = Power("egress_allowlist", what, rule)
        yield (rule, "call"), next(decided(power, a_fixture(None, egress=facts), here, there))
        return
    mine, theirs = _credential(allowed.entry), _credential(other.entry)
    if mine and mine != theirs:
        what = f"{what} with {mine}"
        yield (rule, mine), Power("egress_allowlist", what, rule, mine, theirs or "no credential", Proof.COMPARED)


def _credential(entry: EgressEntry) -> str:
    if entry.client_credentials:
        return "the client's own credentials"
    return f'the credential "{entry.credential}"' if entry.credential else ""


def _hosts(entries: Iterable[EgressEntry]) -> list[str]:
    """Each host that an entry names, and a name that only the patterns above it cover."""
    hosts: dict[str, None] = {}
    for entry in entries:
        if entry.host.startswith("*."):
            hosts[entry.host[2:]] = None
    bases = list(hosts)
    hosts |= dict.fromkeys(entry.host for entry in entries if not entry.host.startswith("*."))
    for base in bases:
        taken = {host.removesuffix(f".{base}") for host in hosts}
        # below a base that is nearly as long as a name may be, there are short names alone
        labels = itertools.chain((_free("host", taken),), map("".join, _short_labels()))
        below = (f"{label}.{base}" for label in labels if label not in taken)
        hosts |= dict.fromkeys(itertools.islice((host for host in below if destination_fault(host) is None), 1))
    return [host for host in hosts if destination_fault(host) is None]


def _short_labels() -> Iterator[tuple[str, ...]]:
    """More of up to two characters than a contract has entries, but for those of one."""
    letters = string.ascii_lowercase + string.digits
    return itertools.chain(itertools.product(letters), itertools.product(letters, letters))


def _free(name: str, taken: Collection[str]) -> str:
    """``name``, with a number behind it where it is taken."""
    return next(one for n in range(len(taken) + 1) if (one := f"{name}{n or ''}") not in taken)


def _paths(entries: Iterable[EgressEntry]) -> list[str]:
    """Each path that an entry names, one below each that only it and those above it cover, and one with an escaped
    slash that none states: it passes below ``/*`` alone, and only where no entry has another credential."""
    stated = list(dict.fromkeys(path for entry in entries for path in entry.paths))
    paths = dict.fromkeys(path for path in stated if not path.endswith("/*"))
    for path in stated:
        if path.endswith("/*"):
            above = path.removesuffix("*")
            paths[_free(f"{above}x", paths)] = None
            paths[above] = None
    paths[_free("/x%2Fx", paths)] = None
    return [path for path in paths if not isinstance(parse_target(path), Refusal)]
