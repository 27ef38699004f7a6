"""What a look may cost: ordinary bodies of 200 KB are judged, what is made to take long ends by its work."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest
import re2
from clawproxy.policies.detect import engine
from clawproxy.policies.detect.detectors import DETECTORS
from clawproxy.policies.detect.engine import ScanError, Scanner
from clawproxy.policies.detect.leaves import Leaves
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ALL = frozenset(DETECTORS)
KEY = "AKIAQ3EGRWVLB7TXNZ2K"


@pytest.fixture(scope="module", params=[True, False], ids=["hyperscan", "without"])
def scanner(request: pytest.FixtureRequest) -> Scanner:
    return Scanner(DETECTORS.values(), fast=request.param)


def _customers() -> str:
    dice = random.Random(2)
    return "\n".join(
        f"{n};customer number {n};{n} some road;somewhere;c.{n}@analytical.org;"
        f"+1 {dice.randint(201, 989)} {dice.randint(201, 989)} {dice.randint(1000, 9999)};active"
        for n in range(2000)
    )


@pytest.mark.parametrize("body", ["ids of tokens", "embeddings", "customers", "one character a value"])
def test_an_ordinary_body_of_200_kb_is_judged_and_not_refused(scanner: Scanner, body: str) -> None:
    dice = random.Random(1)
    document, least = {
        "ids of tokens": ([dice.randint(0, 99_999) for _ in range(33_000)], 0),
        "embeddings": ([[dice.uniform(-1, 1) for _ in range(256)] for _ in range(37)], 0),
        "customers": ([_customers()], 4000),
        "one character a value": (["ab, cde"[n % 7] for n in range(45_000)], 0),
    }[body]
    findings = scanner.scan({"model": "m", "input": document}, ALL).findings
    assert least <= len(findings) <= least + 10


def _in_base64() -> list[str]:
    text = base64.b64encode(f"key {KEY} end, ".encode() * 8000).decode()
    return [text[n : n + 3] for n in range(0, 120_000, 3)]


HOSTILE: dict[str, Any] = {
    "a key without an end before thousands of values": [
        "-----BEGIN RSA PRIVATE KEY-----",
        "abcdef12" * 9,
        *["ab"] * 45_000,
    ],
    "a run of base64 in pieces, full of keys": _in_base64(),
    "keys in pieces of three": [(KEY * 6000)[n : n + 3] for n in range(0, 120_000, 3)],
    "a candidate that fails, again and again": ["AKIAXXXXXXXXXXXXXXXX " * 9500],
    "words that say what is behind them, and nothing is": ["password=ab12ab12 " * 11_000],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_of_200_kb_ends_by_its_work(name: str) -> None:
    looks = 0

    def late() -> bool:
        nonlocal looks
        looks += 1
        return looks > 3000  # far from ever asked so often

    with pytest.raises(ScanError, match="takes more than it may"):
        Scanner(DETECTORS.values(), fast=True).scan(HOSTILE[name], ALL, late)


def test_a_pass_for_a_detector_costs_work_although_it_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = []
    monkeypatch.setattr(engine._Work, "spend", lambda _, units: spent.append(units))
    words = "steuer pesel rijksregister bsn cpf aadhaar pps tfn nif cpr svnr kimlik cnp fnr my number: "
    Scanner(DETECTORS.values(), fast=True).scan([words * 2000], ALL)
    assert sum(spent) >= 10 * len(words * 2000) // 2500


HINTED = [detector for detector in DETECTORS.values() if detector.find and "[^\\s" not in detector.pattern]


@pytest.mark.parametrize("detector", HINTED, ids=lambda detector: detector.name)
def test_what_hyperscan_looks_for_is_in_every_match(detector: Any) -> None:
    options = re2.Options()
    options.dot_nl = True
    find = re2.compile(detector.find.encode(), options)

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.from_regex(detector.pattern, alphabet=st.characters(codec="ascii")))
    def holds(text: str) -> None:
        assert find.search(text.encode()) is not None

    holds()


@given(
    st.recursive(
        st.text(max_size=3) | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False),
        lambda inner: (
            st.lists(inner, max_size=12)
            | st.lists(st.text(max_size=2), min_size=8, max_size=12)
            | st.lists(st.integers(), min_size=8, max_size=12)
            | st.dictionaries(st.sampled_from(["text", "id", "n", "é"]), inner, max_size=4)
        ),
    )
)
def test_every_leaf_knows_where_it_stands(document: Any) -> None:
    def told(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [one for key, inner in value.items() for one in (key, *told(inner))]
        if isinstance(value, list):
            return [one for inner in value for one in told(inner)]
        return [] if value is None or isinstance(value, bool) else [value if isinstance(value, str) else repr(value)]

    leaves = Leaves([document])
    assert [leaf.text for leaf in leaves] == told([document])
    for n, (leaf, start) in enumerate(zip(leaves, leaves.starts, strict=True)):
        there = leaf.key if leaf.is_key else leaf.holder[leaf.key]
        assert (there if isinstance(there, str) else repr(there)) == leaf.text
        assert leaves.text[start : start + len(leaf.text)] == leaf.text
        if leaf.text:
            assert leaves.pieces(start, start + len(leaf.text)) == [(n, 0, len(leaf.text))]
    assert leaves.joining() == [n for n, leaf in enumerate(leaves) if leaf.joins]
