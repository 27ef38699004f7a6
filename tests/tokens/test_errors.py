from __future__ import annotations

from clawproxy.tokens.errors import ClawproxyError, clip, word_or
from hypothesis import given
from hypothesis import strategies as st


def test_an_error_is_one_line_with_place_facts_and_remedy() -> None:
    err = ClawproxyError("SOME_CODE", "it is wrong", where="file.json", got=3, expected="4", remedy="write 4")
    assert str(err) == "file.json: it is wrong (got 3, expected 4); write 4 [SOME_CODE]"
    assert str(ClawproxyError("SOME_CODE", "it is wrong")) == "it is wrong [SOME_CODE]"


def test_a_caller_puts_its_place_in_front() -> None:
    err = ClawproxyError("SOME_CODE", "it is wrong", where="keys[0]", got="x", expected="y", remedy="do z").at(
        "trust.json"
    )
    assert str(err) == "trust.json: keys[0]: it is wrong (got x, expected y); do z [SOME_CODE]"
    assert ClawproxyError("SOME_CODE", "m").at("a").where == "a"


def test_only_a_plain_word_is_shown_of_what_an_agent_wrote() -> None:
    assert word_or("a key", "tools.v2") == '"tools.v2"'
    assert word_or("a key", "x" * 500) == f'"{"x" * 39}…"'
    for value in ("", "two words", "caf\u00e9", "x\n", 5, None):
        assert word_or("a key", value) == "a key"


def test_a_long_value_is_clipped() -> None:
    assert clip("x" * 500) == "x" * 79 + "…"
    assert clip("short") == "short"


@given(st.text(max_size=200))
def test_whatever_the_value_the_error_stays_one_printable_line(value: str) -> None:
    line = str(ClawproxyError("SOME_CODE", "it is wrong", got=value))
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    line.encode("utf-8")
