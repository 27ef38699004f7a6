"""What tokens cost: a table of list prices by provider and model, dated (configs/prices.toml). Pure.

Prices are whole micro-dollars (USD) per million tokens; costs are whole micro-dollars, rounded up. A model is found by
its exact name first, then by the first row whose pattern fits it whole; no other name is tried, so that a model that
is called otherwise has no price. Rows of the configuration go before those of the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from .fields import PROVIDER_NAME, Fields
from .names import matches
from .tool_classes import parse_toml

PER_TOKENS = 1_000_000
MAX_PRICE = 10**12
_DATE = re.compile(r"20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])", re.ASCII)
_MAX_ROWS = 4096
_ROW = ("provider", "models", "input", "cached_input", "cache_write", "output", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class Price:
    """Of one model. ``max_output_tokens`` is the most that one answer has, None where that is not known."""

    input: int
    cached_input: int
    cache_write: int
    output: int
    max_output_tokens: int | None = None

    def cost(self, read: int, cached: int, cache_write: int, wrote: int) -> int:
        """Of a call; ``cached`` and ``cache_write`` are parts of the tokens ``read``."""
        fresh = read - cached - cache_write
        total = fresh * self.input + cached * self.cached_input + cache_write * self.cache_write + wrote * self.output
        return -(-total // PER_TOKENS)

    def most(self, read: int, wrote: int) -> int:
        """What a call costs at most, whatever part of the input is cached."""
        dearest = max(self.input, self.cached_input, self.cache_write)
        return -(-(read * dearest + wrote * self.output) // PER_TOKENS)

    def dearest_of(self, other: Price) -> Price:
        """The higher of each: for a call that either model may answer."""
        caps = (self.max_output_tokens, other.max_output_tokens)
        return Price(
            max(self.input, other.input),
            max(self.cached_input, other.cached_input),
            max(self.cache_write, other.cache_write),
            max(self.output, other.output),
            None if None in caps else max(cap for cap in caps if cap is not None),
        )

    def to_json(self) -> JsonObject:
        """The prices alone."""
        return {
            "cache_write": self.cache_write,
            "cached_input": self.cached_input,
            "input": self.input,
            "output": self.output,
        }

    @staticmethod
    def from_json(told: JsonObject) -> Price:
        return Price(told["input"], told["cached_input"], told["cache_write"], told["output"])


@dataclass(frozen=True, slots=True)
class PriceRow:
    """One price, and whose it is."""

    provider: str
    models: tuple[str, ...]
    price: Price


class PriceTable:
    """``as_of`` is the day of the table, YYYY-MM-DD."""

    def __init__(self, as_of: str, rows: Iterable[PriceRow], before: Iterable[PriceRow] = ()) -> None:
        self.as_of = as_of
        self._exact: dict[tuple[str, str], Price] = {}
        self._patterns: list[tuple[str, str, Price]] = []
        for row in (*before, *rows):
            for model in row.models:
                if "*" in model:
                    self._patterns.append((row.provider, model, row.price))
                else:
                    self._exact.setdefault((row.provider, model), row.price)

    def price_of(self, provider: str, model: str) -> Price | None:
        """None where the table has no price for ``model`` at ``provider``."""
        exact = self._exact.get((provider, model))
        if exact is not None:
            return exact
        return next((price for of, like, price in self._patterns if of == provider and matches(like, model)), None)

    def models_of(self, provider: str) -> list[str]:
        """The exact names that the table has for ``provider``, in its order."""
        return [model for of, model in self._exact if of == provider]

    def knows(self, model: str, providers: Iterable[str] | None = None) -> bool:
        """Whether a provider (of ``providers``, or any) has a price for ``model``, or has ``model`` as a pattern."""
        among = None if providers is None else set(providers)
        of_it = {of for of, name in self._exact if name == model}
        of_it |= {of for of, like, _ in self._patterns if matches(like, model)}
        return bool(of_it if among is None else of_it & among)


def load_prices(toml: bytes, before: Iterable[Mapping[str, object]] = (), *, where: str = "prices") -> PriceTable:
    """A table from TOML; ``before`` are rows of the configuration. Raises ``ClawproxyError`` (CONFIG_INVALID)."""
    try:
        table = parse_toml(toml)
        for name in table.names("key", max_items=16):
            if name not in ("as_of", "rows"):
                table.refuse(name, "unknown field", expected="as_of and rows")
        table.need("as_of", "rows")
        as_of = table.text("as_of", like=_DATE) or ""
        rows = [_row(row) for row in table.objects("rows", _ROW, max_items=_MAX_ROWS) or ()]
    except ClawproxyError as err:
        raise err.at(where) from None
    own = Fields({"rows": list(before)}, ("rows",), where="prices", reason="CONFIG_INVALID")
    return PriceTable(as_of, rows, [_row(row) for row in own.objects("rows", _ROW, max_items=_MAX_ROWS) or ()])


def _row(fields: Fields) -> PriceRow:
    fields.need("provider", "models", "input", "output")
    read = fields.integer("input", most=MAX_PRICE) or 0
    cached, cache_write = (fields.integer(name, most=MAX_PRICE) for name in ("cached_input", "cache_write"))
    return PriceRow(
        fields.text("provider", like=PROVIDER_NAME) or "",
        fields.texts("models", min_items=1) or (),
        Price(
            read,
            read if cached is None else cached,
            read if cache_write is None else cache_write,
            fields.integer("output", most=MAX_PRICE) or 0,
            fields.integer("max_output_tokens", least=1),
        ),
    )
