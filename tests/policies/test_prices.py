"""The price table: which price a model has, and what a call costs by it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from clawproxy.policies.packaged import packaged_catalogue, packaged_prices
from clawproxy.policies.prices import Price, load_prices
from clawproxy.tokens.errors import ClawproxyError
from hypothesis import given
from hypothesis import strategies as st

TOML = b"""
as_of = "2030-01-02"
[[rows]]
provider = "openai"
models = ["gpt-x-*", "gpt-y"]
input = 100
output = 200
[[rows]]
provider = "openai"
models = ["gpt-x-mini", "gpt-*-mini"]
input = 1
cached_input = 2
cache_write = 3
output = 4
max_output_tokens = 5
"""


def test_an_exact_name_goes_before_a_pattern_and_of_patterns_the_first() -> None:
    table = load_prices(TOML)
    assert table.as_of == "2030-01-02"
    assert table.price_of("openai", "gpt-x-mini") == Price(1, 2, 3, 4, 5)
    assert table.price_of("openai", "gpt-x-large-mini") == Price(100, 100, 100, 200)
    assert table.price_of("openai", "gpt-z-mini") == Price(1, 2, 3, 4, 5)


@pytest.mark.parametrize("model", ["gpt-y-2", "a-gpt-y", "GPT-y", "gpt-y ", "", "gpt-x", "models/gpt-y"])
def test_a_name_that_no_row_fits_has_no_price(model: str) -> None:
    assert load_prices(TOML).price_of("openai", model) is None


def test_a_price_is_one_providers() -> None:
    assert load_prices(TOML).price_of("azure", "gpt-y") is None


def test_rows_of_the_configuration_go_first() -> None:
    own = [{"provider": "openai", "models": ["gpt-y", "gpt-q*"], "input": 7, "output": 8}]
    table = load_prices(TOML, own)
    assert table.price_of("openai", "gpt-y") == Price(7, 7, 7, 8)
    assert table.price_of("openai", "gpt-q9") == Price(7, 7, 7, 8)


@pytest.mark.parametrize(
    "broken",
    [
        b"rows = []",
        b'as_of = "yesterday"\nrows = []',
        b'as_of = "2030-01-02"\nrows = []\nmore = 1',
        TOML.replace(b"input = 100", b"input = 100.5"),
        TOML.replace(b"input = 100", b"input = -1"),
        TOML.replace(b"output = 200", b""),
        TOML.replace(b"output = 200", b"output = 200\noutptu = 1"),
        TOML.replace(b'models = ["gpt-x-*", "gpt-y"]', b"models = []"),
        b"\xff",
    ],
)
def test_a_table_that_is_not_in_order_is_refused(broken: bytes) -> None:
    with pytest.raises(ClawproxyError) as caught:
        load_prices(broken)
    assert caught.value.reason == "CONFIG_INVALID"
    assert caught.value.where.startswith("prices")


AMOUNT = st.integers(0, 10**7)
PRICE = st.builds(Price, *[st.integers(0, 10**10)] * 4)


@given(PRICE, AMOUNT, AMOUNT, AMOUNT, AMOUNT)
def test_a_cost_is_rounded_up_and_never_above_the_worst_case(
    price: Price, fresh: int, cached: int, cache_write: int, wrote: int
) -> None:
    read = fresh + cached + cache_write
    exact = Fraction(
        fresh * price.input + cached * price.cached_input + cache_write * price.cache_write + wrote * price.output,
        10**6,
    )
    cost = price.cost(read, cached, cache_write, wrote)
    assert exact <= cost < exact + 1
    assert cost <= price.most(read, wrote)


@given(PRICE, PRICE, AMOUNT, AMOUNT)
def test_the_dearest_of_two_prices_covers_both(one: Price, other: Price, read: int, wrote: int) -> None:
    dearest = one.dearest_of(other)
    assert dearest.most(read, wrote) >= max(one.most(read, wrote), other.most(read, wrote))


def test_the_packaged_table_has_the_families_of_the_catalogue() -> None:
    table = packaged_prices()
    names = packaged_catalogue().names
    for provider, model in (
        ("openai", "gpt-4o-mini"),
        ("openai", "text-embedding-3-small"),
        ("anthropic", "claude-sonnet-4-5"),
        ("google", "gemini-2.5-flash"),
        ("google", "models/gemini-2.5-flash"),
        ("openrouter", "anthropic/claude-sonnet-4.5"),
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    ):
        assert provider in names
        price = table.price_of(provider, model)
        assert price is not None, (provider, model)
        assert price.input > 0
        assert price.cached_input <= price.input <= price.cache_write


@pytest.mark.parametrize(("document", "where"), [
    ({"budgets": {"cost_microusd": 5}, "allowed_models": ["gpt-unheard-of"]}, 'allowed_models["gpt-unheard-of"]'),
    ({"budgets": {"per_contract": {"cost_microusd": 5}}, "allowed_models": ["gpt-*"]}, 'allowed_models["gpt-*"]'),
    ({"budgets": {"requests": 0}}, "budgets.requests"),
    ({"budgets": {"requests": 9, "per_contract": {"requests": 5}}}, "budgets.requests"),
])  # fmt: skip
def test_contract_check_tells_what_a_budget_refuses(document: dict[str, Any], where: str) -> None:
    from clawproxy.policies.contract import check_contract, parse_contract
    from clawproxy.policies.packaged import packaged_tool_classes

    contract = parse_contract({"policy_name": "p", "allowed_models": ["gpt-4o-mini"], **document})
    notes = check_contract(contract, packaged_tool_classes(), prices=packaged_prices())
    assert [note.where for note in notes] == [where]
