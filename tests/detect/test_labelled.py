"""The labelled rows are what their generator makes, and their numbers pass or fail the check digits as labelled."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from . import checkdigits as c
from . import number_rows
from .forms import FORMS
from .make_labelled import CLASSES, rendered, rows

FILE = Path(__file__).parent / "labelled.jsonl"


def _bare(text: str) -> str:
    return re.sub(r"[\s-]", "", text)


def test_the_file_is_what_the_generator_makes() -> None:
    assert FILE.read_text(encoding="utf-8") == rendered(), (
        "run: python -m tests.detect.make_labelled > tests/detect/labelled.jsonl"
    )


def test_rows_are_enough_in_every_class_form_and_side() -> None:
    made = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    assert len(made) >= 600
    assert len({row["id"] for row in made}) == len({row["text"] for row in made}) == len(made)
    per_class = Counter(row["class"] for row in made)
    assert set(per_class) == set(CLASSES)
    assert all(n >= (180 if name == "secrets" else 60) for name, n in per_class.items())
    seen = {(row["class"], row["form"], row["positive"]) for row in made}
    assert len(seen) == len(CLASSES) * len(FORMS) * 2
    assert 0.5 < sum(row["positive"] for row in made) / len(made) < 0.6


def test_plain_rows_are_as_many_as_half_of_them() -> None:
    plain = sum(row["form"] == "plain" for row in rows())
    assert 0.45 < plain / len(rows()) < 0.55


def test_cards_pass_luhn_and_those_that_should_not_fail_it() -> None:
    assert all(c.luhn_ok(_bare(s.value)) for s in number_rows.cards(Random(7)))
    failing = [s for s in number_rows.no_cards(Random(7)) if s.kind == "fails_luhn"]
    assert failing
    assert not any(c.luhn_ok(_bare(s.value)) for s in failing)


def test_ibans_pass_mod_97_and_those_that_should_not_fail_it() -> None:
    assert all(c.iban_ok(_bare(s.value)) for s in number_rows.ibans(Random(7)))
    failing = [s for s in number_rows.no_ibans(Random(7)) if s.kind == "wrong_check_digits"]
    assert failing
    assert not any(c.iban_ok(_bare(s.value)) for s in failing)


def test_national_numbers_with_check_digits_pass_them_and_near_misses_pass_none() -> None:
    unchecked = {"us_ssn", "gb_nino", "in_pan"}
    for s in number_rows.national(Random(7)):
        assert s.kind in unchecked or c.some_nation_takes(s.value), s
    failing = [s for s in number_rows.no_national(Random(7)) if s.kind.startswith("wrong_")]
    assert failing
    assert not any(c.some_nation_takes(s.value) for s in failing)


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (c.luhn_ok, "79927398713"),  # the number of Luhn's article in encyclopedias
        (c.iban_ok, "GB82WEST12345698765432"),  # of the registry of IBAN
        (c.verhoeff_ok, "2363"),
        (c.nl_ok, "111222333"),
    ],
)
def test_the_check_digits_agree_with_published_numbers(check: object, good: str) -> None:
    assert callable(check)
    assert check(good)
    assert not check(good[:-1] + str((int(good[-1]) + 1) % 10))


def test_check_marks_agree_with_published_numbers() -> None:
    assert c.de_digit("8609574271") == "9"
    assert c.es_letter(12345678) == "Z"
    assert c.it_letter("RSSMRA85T10A562") == "S"
    assert c.fr_key("2550814168025") == "38"
    assert c.pl_digit("4405140135") == "9"
    assert c.pt_digit("12345678") == "9"
    assert c.fi_mark("131052308") == "T"
    assert c.br_digits("111444777") == "35"
    assert c.ean_digit("978030640615") == "7"
    assert c.isbn10_mark("030640615") == "2"
    assert c.tr_digits("100000001") == "46"
    assert c.cn_mark("11010519491231002") == "X"
    assert c.sg_letter("S", "0000001") == "I"
    assert c.ean_digit("756921707698") == "5"
    assert c.au_ok("123456782")
    assert c.be_key("850730033", False) == "28"
    assert c.ie_letter("1234567") == "T"
