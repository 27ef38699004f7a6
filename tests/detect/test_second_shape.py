"""The second labelled set has the rows that it says: counts, ids, forms; no detector runs here."""

import json
from collections import Counter
from typing import Any

import pytest

from . import make_second

LEAST = {name: 40 for name in ("payment_cards", "iban", "national_ids", "email", "phone", "ip")} | {"secrets": 90}
FORMS = {"plain", "json_escaped", "base64", "split_fields", "url_encoded"}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in make_second.WHERE.read_text(encoding="utf-8").splitlines()]


def test_every_row_has_the_five_members_and_an_id_of_its_own(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row.keys() == {"id", "text", "class", "positive", "form"}, row["id"]
        assert type(row["positive"]) is bool, row["id"]
        assert isinstance(row["text"], str), row["id"]
        assert row["text"], row["id"]
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["text"] for row in rows}) == len(rows)


def test_each_class_has_enough_rows_of_both_labels(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 350
    counts = Counter(row["class"] for row in rows)
    assert counts.keys() == LEAST.keys()
    for name, least in LEAST.items():
        assert counts[name] >= least, name
        share = sum(row["positive"] for row in rows if row["class"] == name) / counts[name]
        assert 0.4 <= share <= 0.65, name
    assert 0.5 <= sum(row["positive"] for row in rows) / len(rows) <= 0.6


def test_each_class_has_each_form_and_both_labels_have_it(rows: list[dict[str, Any]]) -> None:
    seen = {(row["class"], row["form"], row["positive"]) for row in rows}
    assert seen == {(name, form, label) for name in LEAST for form in FORMS for label in (True, False)}


def test_no_mark_around_a_value_is_left_in_a_text(rows: list[dict[str, Any]]) -> None:
    assert not [row["id"] for row in rows if "⟦" in row["text"] or "⟧" in row["text"]]


def test_the_file_is_what_its_program_writes(rows: list[dict[str, Any]]) -> None:
    assert make_second.WHERE.read_text(encoding="utf-8") == "\n".join(make_second.lines()) + "\n"
