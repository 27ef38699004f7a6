"""The shape checker: closed objects, paths, dates, and that nothing but a verdict comes out of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from clawproxy.receipts.job_shapes import PAYLOADS, RECORD, SEAL
from clawproxy.receipts.wire_schema import (
    Anything,
    Choice,
    Flag,
    ListOf,
    Nullable,
    Number,
    Obj,
    Shape,
    Text,
    parse_date_time_ms,
)
from clawproxy.receipts.wire_shapes import EXPORT_BUNDLE, PROOF_BUNDLE_ENVELOPE, TOOL_RECEIPT
from hypothesis import given
from hypothesis import strategies as st

_SHAPE = Obj(
    required={"name": Text(max=3), "size": Number(0, 9, whole=True)},
    optional={"tags": ListOf(Text(among=("a", "b")), max=2), "note": Nullable(Flag()), "inner": Obj(open=True)},
    also=re.compile("x_[a-z]+"),
)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "ada", "size": 9},
        {"name": "a", "size": 1.0, "tags": ["a", "b"], "note": None, "inner": {"any": 1}, "x_more": []},
    ],
)
def test_what_fits_has_no_fault(value: Any) -> None:
    assert _SHAPE.fault(value) is None


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([], ""),
        ({"name": "ada"}, "size"),
        ({"name": "", "size": 1}, "name"),
        ({"name": "adam", "size": 1}, "name"),
        ({"name": 1, "size": 1}, "name"),
        ({"name": "a", "size": 1.5}, "size"),
        ({"name": "a", "size": 10}, "size"),
        ({"name": "a", "size": -1}, "size"),
        ({"name": "a", "size": True}, "size"),
        ({"name": "a", "size": float("inf")}, "size"),
        ({"name": "a", "size": float("nan")}, "size"),
        ({"name": "a", "size": 1, "tags": {}}, "tags"),
        ({"name": "a", "size": 1, "tags": ["a", "c"]}, "tags[1]"),
        ({"name": "a", "size": 1, "tags": ["a", "a", "a"]}, "tags"),
        ({"name": "a", "size": 1, "note": 0}, "note"),
        ({"name": "a", "size": 1, "more": 0}, "more"),
        ({"name": "a", "size": 1, "x_": 0}, "x_"),
    ],
)
def test_what_does_not_fit_is_told_with_its_path(value: Any, path: str) -> None:
    misfit = _SHAPE.fault(value)
    assert misfit is not None
    assert misfit.path == path
    assert misfit.reason == "SCHEMA_VALIDATION_FAILED"


def test_paths_go_through_objects_and_arrays() -> None:
    shape = Obj(required={"a": ListOf(ListOf(Obj(required={"b": Text()})))})
    misfit = shape.fault({"a": [[], [{"b": "x"}, {"b": ""}]]})
    assert misfit is not None
    assert misfit.path == "a[1][1].b"


def test_a_choice_is_told_when_it_is_none_of_its_forms() -> None:
    shape = Choice(lambda item: Obj(required={"v": Anything()}) if "v" in item else None, "a thing with v")
    assert shape.fault({"v": 1}) is None
    misfit = shape.fault({})
    assert misfit is not None
    assert "a thing with v" in misfit.detail
    assert shape.fault(7) is not None


def test_members_are_counted_and_others_have_their_shape() -> None:
    shape = Obj(others=Flag(), max_members=2)
    assert shape.fault({"a": True, "b": False}) is None
    assert shape.fault({"a": 1}) is not None
    assert shape.fault({"a": True, "b": False, "c": True}) is not None


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from([_SHAPE, PROOF_BUNDLE_ENVELOPE, EXPORT_BUNDLE, TOOL_RECEIPT, RECORD, SEAL, *PAYLOADS.values()]),
    _anything,
)
def test_any_value_gets_an_answer(shape: Shape, value: Any) -> None:
    misfit = shape.fault(value)
    assert misfit is None or (misfit.detail and misfit.detail.isprintable())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2030-03-17T17:46:40.123Z", 1_900_000_000_123),
        ("2030-03-17t17:46:40.123456789z", 1_900_000_000_123),
        ("2030-03-17 19:46:40.1+02:00", 1_900_000_000_100),
        ("2030-03-17T12:46:40-0500", 1_900_000_000_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_a_date_time_is_read(text: str, expected: int) -> None:
    assert parse_date_time_ms(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2030-03-17",
        "2030-03-17T17:46:40",
        "2030-03-17T17:46Z",
        "2023-02-29T00:00:00Z",
        "2030-13-01T00:00:00Z",
        "2030-03-17T24:00:00Z",
        "2030-03-17T17:46:40+24:00",
        "2030-03-17T17:46:40Z ",
        "٢٠٣٠-03-17T17:46:40Z",
        "0000-01-01T00:00:00Z",
        "",
        None,
        7,
    ],
)
def test_what_is_no_date_time_is_none(text: Any) -> None:
    assert parse_date_time_ms(text) is None


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1)))
def test_a_date_time_survives_its_text(moment: datetime) -> None:
    text = moment.replace(tzinfo=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    parsed = parse_date_time_ms(text)
    assert parsed is not None
    assert abs(parsed - moment.replace(tzinfo=UTC).timestamp() * 1000) < 1.5


@given(st.text(max_size=80))
def test_any_text_is_a_date_time_or_not(text: str) -> None:
    parse_date_time_ms(text)
