"""``[prices]`` of the configuration, read: the table that budgets in money are worked out from.

Reads a file, at start-up only; ``clawproxy doctor`` asks for the same.
"""

from __future__ import annotations

from pathlib import Path

from ..policies.packaged import packaged_file
from ..policies.prices import PriceTable, load_prices
from ..tokens.errors import ClawproxyError
from .settings import Settings

_MAX_BYTES = 4 * 1024 * 1024


def configured_prices(settings: Settings) -> PriceTable:
    """The packaged table or that of the configuration, its own rows first. Raises ``ClawproxyError``
    (CONFIG_INVALID)."""
    section = settings.prices
    rows = [row.model_dump(exclude_none=True) for row in section.rows]
    if section.file is None:
        return load_prices(packaged_file("prices.toml"), rows, where="prices.toml")
    try:
        with Path(section.file).open("rb") as file:
            toml = file.read(_MAX_BYTES + 1)
    except OSError as err:
        why = (err.strerror or "error").lower()
        raise ClawproxyError("CONFIG_INVALID", f"cannot read the prices: {why}", where=section.file) from None
    if len(toml) > _MAX_BYTES:
        raise ClawproxyError("CONFIG_INVALID", "the prices are too large", where=section.file)
    return load_prices(toml, rows, where=section.file)
