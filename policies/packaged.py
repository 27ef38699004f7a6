"""The files of configs/ that ship with clawproxy. Reads files (package data)."""

from __future__ import annotations

import importlib.resources
from enum import StrEnum
from functools import cache

from ..tokens.canonical import JsonObject, parse_json_object
from .catalogue_file import load_catalogue
from .detect.classes import DataClasses, load_data_classes
from .prices import PriceTable, load_prices
from .routes import Catalogue
from .tool_classes import ToolClasses, load_tool_classes


class Starter(StrEnum):
    """The contracts of configs/contracts to begin with."""

    SDK = "sdk"
    CLAUDE_CODE = "claude-code"
    CODEX = "codex"
    OPENCLAW = "openclaw"
    OPENCODE = "opencode"
    PI = "pi"
    GEMINI_CLI = "gemini-cli"


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


def starter_document(starter: Starter) -> JsonObject:
    """The unsigned document of a starter, enforceable in full."""
    return parse_json_object(packaged_file(f"contracts/{starter}.json"))
