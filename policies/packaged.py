"""The files of configs/ that ship with clawproxy. Reads files (package data)."""

from __future__ import annotations

import importlib.resources
from functools import cache

from ..tokens.canonical import JsonObject, parse_json_object
from ..tokens.errors import ClawproxyError
from .catalogue_file import load_catalogue
from .detect.classes import DataClasses, load_data_classes
from .prices import PriceTable, load_prices
from .routes import Catalogue
from .tool_classes import ToolClasses, load_tool_classes

STARTERS = ("sdk", "claude-code", "codex", "openclaw")
"""Names of the starter contracts, configs/contracts/<name>.json."""


def packaged_file(name: str) -> bytes:
    """A file of configs/ by its path there, such as ``providers.toml``."""
    configs = __package__.rpartition(".")[0] + ".configs"
    return importlib.resources.files(configs).joinpath(*name.split("/")).read_bytes()


def packaged_catalogue() -> Catalogue:
    """configs/providers.toml without overrides."""
    return load_catalogue(packaged_file("providers.toml"))


def packaged_tool_classes() -> ToolClasses:
    """configs/tool_classes.toml."""
    return load_tool_classes(packaged_file("tool_classes.toml"))


def packaged_prices() -> PriceTable:
    """configs/prices.toml."""
    return load_prices(packaged_file("prices.toml"), where="prices.toml")


@cache
def packaged_data_classes() -> DataClasses:
    """configs/data_classes.toml."""
    return load_data_classes(packaged_file("data_classes.toml"))


def starter(name: str) -> JsonObject:
    """An unsigned contract to start from, enforceable in full; raises ``ClawproxyError`` for an unknown name."""
    if name not in STARTERS:
        raise ClawproxyError("WPC_INVALID", "no such starter", got=name, expected=" or ".join(STARTERS))
    return parse_json_object(packaged_file(f"contracts/{name}.json"))
