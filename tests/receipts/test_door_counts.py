"""What a door's rules turned away: one signed event of an isolated job, bounded, and told in words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.containment import Containment, Kind, ProbeOutcome
from clawproxy.receipts.door_counts import KINDS, MAX_COUNT, door_detail, door_lines, in_words, left_out_words
from clawproxy.receipts.report import Fault, Verdict
from clawproxy.receipts.verify_containment import ContainmentSeen
from clawproxy.tokens.errors import ClawproxyError

from .workshop import Workshop

NOTHING = dict.fromkeys(KINDS, 0)


def test_it_is_told_in_words_most_usual_first() -> None:
    assert in_words(door_detail({**NOTHING, "udp": 12, "quic": 3})) == "3 QUIC, 12 UDP"
    assert in_words(door_detail({**NOTHING, "tcp": 1, "other": 2})) == "1 TCP, 2 of other protocols"
    assert in_words(door_detail(NOTHING)) == ""
    assert in_words({"packets": "x"}) == ""


def test_denials_that_a_door_left_out_are_told() -> None:
    detail = door_detail(NOTHING, 37)
    assert left_out_words(detail).startswith("37 more")
    assert left_out_words(door_detail(NOTHING)) == ""
    seen = _seen()
    seen.take_counts(detail, "x")
    assert seen.denials_left_out == 37


def test_only_what_there_is_becomes_a_line() -> None:
    assert door_lines(door_detail(NOTHING)) == []
    assert door_lines(door_detail({**NOTHING, "quic": 3}, 2)) == [
        "refused, not on record: 2 more, faster than a door records them",
        "the door turned away: 3 QUIC (packets)",
    ]
    assert door_lines({"packets": None, "denials_left_out": None}) == []


def test_more_than_a_record_can_hold_is_said_as_the_most() -> None:
    assert door_detail({**NOTHING, "udp": 2**64})["packets"]["udp"] == MAX_COUNT


@pytest.mark.parametrize(
    "packets", [{}, {"udp": 1}, {**NOTHING, "dns": 1}, {**NOTHING, "udp": -1}, {**NOTHING, "udp": True},
                {**NOTHING, "udp": "1"}, {**NOTHING, "udp": 1.0}],
)  # fmt: skip
def test_what_no_door_counts_is_refused(packets: dict[str, Any]) -> None:
    with pytest.raises(ClawproxyError, match="INVALID_REQUEST"):
        door_detail(packets)


def _seen(kind: str = "isolated") -> ContainmentSeen:
    seen = ContainmentSeen("job-1")
    seen.kind = kind
    return seen


def test_the_verifier_takes_it_once_of_an_isolated_job() -> None:
    seen = _seen()
    seen.take_counts(door_detail({**NOTHING, "quic": 3}), "x")
    assert seen.turned_away == {**NOTHING, "quic": 3}
    with pytest.raises(Fault, match="twice"):
        seen.take_counts(door_detail(NOTHING), "x")
    for kind in ("not contained", "not attested"):
        with pytest.raises(Fault, match=f"the job is {kind}"):
            _seen(kind).take_counts(door_detail(NOTHING), "x")


@pytest.mark.parametrize(
    "detail", [{}, {"packets": {}}, {"packets": {**NOTHING, "udp": -1}}, {"packets": {**NOTHING, "dns": 1}},
               {"packets": {**NOTHING, "udp": 2**53}}, {"packets": NOTHING, "more": 1},
               {"packets": NOTHING, "denials_left_out": 0}],
)  # fmt: skip
def test_the_verifier_takes_no_other_shape(detail: dict[str, Any]) -> None:
    with pytest.raises(Fault):
        _seen().take_counts(detail, "x")


ISOLATED = Containment(
    Kind.ISOLATED, "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", (("tcp4-public", ProbeOutcome.BLOCKED),)
)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    shop = Workshop(tmp_path)
    yield shop
    await shop.end()


async def test_it_is_on_record_once_and_verifies(shop: Workshop) -> None:
    shop.create(containment=ISOLATED, presenter="namespace:job-1", way_in="transparent")
    await shop.book.record_door("job-1", {**NOTHING, "udp": 12}, 3)
    for again in (False, True):
        if again:
            await shop.reopen()
        with pytest.raises(ClawproxyError, match="on record already"):
            await shop.book.record_door("job-1", NOTHING)
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.VERIFIED, report.findings
    assert report.facts["turned_away"] == {**NOTHING, "udp": 12}
    assert report.facts["denials_left_out"] == 3


async def test_a_job_without_a_door_has_nothing_counted(shop: Workshop) -> None:
    shop.create()
    with pytest.raises(ClawproxyError, match="the job has no door"):
        await shop.book.record_door("job-1", NOTHING)
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.VERIFIED, report.findings
    assert "turned_away" not in report.facts
