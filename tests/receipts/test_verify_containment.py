"""J46: what a job says of its containment holds together, or the bundle fails."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from clawproxy.receipts.containment import (
    NOT_ATTESTED,
    NOT_CONTAINED,
    Containment,
    Kind,
    ProbeOutcome,
    read_containment,
)
from clawproxy.receipts.report import Fault
from clawproxy.receipts.verify_containment import ContainmentSeen
from clawproxy.tokens.errors import ClawproxyError

OWN = "namespace:job-1"
FULL = Containment(
    Kind.ISOLATED,
    "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
    (("direct-ipv4", ProbeOutcome.BLOCKED), ("dns-tcp", ProbeOutcome.NOT_TRIED)),
    user_namespace=True,
    limits=(("tasks", 512),),
)


def _opened(**over: Any) -> dict[str, Any]:
    told = FULL.to_json()
    return {"presenter": OWN, **told, "isolation": {**told["isolation"], **over}}


def _take(detail: dict[str, Any], event_type: str = "job_opened") -> ContainmentSeen:
    seen = ContainmentSeen("job-1")
    seen.take(event_type, detail, "x")
    return seen


@pytest.mark.parametrize("containment", [FULL, NOT_ATTESTED, NOT_CONTAINED])
def test_what_a_gateway_records_holds_and_reads_back(containment: Containment) -> None:
    detail = containment.to_json() | {"presenter": OWN if containment is FULL else "addr:127.0.0.1"}
    seen = _take(detail)
    assert seen.kind == containment.kind
    seen.take("authority_changed", {"presenter": detail["presenter"]}, "x")
    assert read_containment(containment.to_json()) == containment


def test_records_of_before_hold() -> None:
    seen = _take({"containment": "not attested", "presenter": "addr:127.0.0.1"})
    seen.take("authority_changed", {"containment": "not attested", "presenter": None}, "x")
    seen.check_intent({"way_in": "reverse"}, "x")
    assert seen.told == "not attested"


def test_files_that_live_elsewhere_are_told_where_there_are_any() -> None:
    containment = dataclasses.replace(FULL, distant_files=("fuse.sshfs", "nfs4"))
    assert read_containment(containment.to_json()) == containment
    assert (
        "files that live elsewhere in sight (fuse.sshfs, nfs4)"
        in _take(_opened(distant_files=["fuse.sshfs", "nfs4"])).told
    )
    assert "distant_files" not in FULL.to_json()["isolation"]  # as in bundles of before
    told = FULL.to_json()
    assert read_containment(told) == FULL
    for wrong in ([], ["nfs4", "fuse"], ["nfs4", "nfs4"], ["a b"], "nfs4", [1]):
        with pytest.raises(Fault):
            _take(_opened(distant_files=wrong))
        if wrong != []:
            with pytest.raises(ClawproxyError):
                read_containment({**told, "isolation": {**told["isolation"], "distant_files": wrong}})


def test_it_is_told_in_one_line() -> None:
    assert _take(_opened()).told == f"isolated: 1 leak probes blocked, 1 not tried, rules {FULL.rules_hash_b64u}"


@pytest.mark.parametrize(
    "detail",
    [
        {**_opened(), "presenter": "addr:10.0.0.1"},
        {**_opened(), "presenter": "namespace:job-2"},
        {**_opened(), "presenter": None},
        {**_opened(), "containment": "not contained"},
        {"containment": "isolated", "presenter": OWN},
        {"containment": "not attested", "presenter": OWN},
        {"containment": "half", "presenter": None},
        {"containment": None, "presenter": None},
        _opened(probes=[]),
        _opened(probes=[{"name": "a", "outcome": "not tried"}]),
        _opened(probes=[{"name": "a", "outcome": "blocked"}, {"name": "b", "outcome": "reached"}]),
        _opened(probes=[{"name": "a", "outcome": "blocked"}] * 2),
        _opened(probes=[{"name": "A b", "outcome": "blocked"}]),
        _opened(probes=[{"name": f"p{n}", "outcome": "blocked"} for n in range(65)]),
        _opened(rules_hash_b64u="abc"),
        _opened(uid_changed=1),
        _opened(way_in="reverse"),
        _opened(more=True),
        _opened(limits=[{"name": "tasks", "value": -1}]),
    ],
)
def test_what_no_gateway_records_fails(detail: dict[str, Any]) -> None:
    with pytest.raises(Fault) as caught:
        _take(detail)
    assert caught.value.rule == "J46"


@pytest.mark.parametrize(
    "later",
    [
        {"presenter": "addr:127.0.0.1"},
        {"presenter": OWN, "containment": "not contained"},
        {"presenter": OWN, **FULL.to_json()},
    ],
)
def test_nothing_that_comes_later_changes_it(later: dict[str, Any]) -> None:
    seen = _take(_opened())
    with pytest.raises(Fault) as caught:
        seen.take("authority_changed", later, "x")
    assert caught.value.rule == "J46"


@pytest.mark.parametrize("way_in", ["reverse", "regular", "connect"])
def test_a_call_of_an_isolated_job_came_by_its_door(way_in: str) -> None:
    seen = _take(_opened())
    seen.check_intent({"way_in": "transparent"}, "x")
    with pytest.raises(Fault) as caught:
        seen.check_intent({"way_in": way_in}, "x")
    assert caught.value.rule == "J46"


@pytest.mark.parametrize(
    "over",
    [
        {"rules_hash_b64u": ""},
        {"probes": ()},
        {"probes": (("a", ProbeOutcome.REACHED),)},
        {"probes": (("a", ProbeOutcome.NOT_TRIED),)},
        {"probes": (("a", ProbeOutcome.BLOCKED), ("a", ProbeOutcome.BLOCKED))},
        {"probes": (("a b", ProbeOutcome.BLOCKED),)},
        {"limits": (("tasks", -1),)},
        {"kind": Kind.NOT_CONTAINED},
    ],
)
def test_no_job_is_opened_with_such_facts(over: dict[str, Any]) -> None:
    facts = {"kind": FULL.kind, "rules_hash_b64u": FULL.rules_hash_b64u, "probes": FULL.probes, **over}
    with pytest.raises(ClawproxyError):
        Containment(**facts)
