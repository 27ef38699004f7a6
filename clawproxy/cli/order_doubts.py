"""What an order names and nobody here knows: it holds all the same, but the name may be mistyped. Reads files.

Asked for when the order has been given, so that nothing of this delays or prevents it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ..policies.contract import document_in, parse_contract
from ..policies.names import fold, matches
from ..policies.tools import ToolRules
from ..tokens.errors import ClawproxyError, clip
from .contract_files import signed_files, signed_with_hash
from .state import StateDir, state_words

Doubt = Callable[[], str]
"""One line for the person who gave the order, or nothing."""


def doubt(folder: StateDir, *, job: str = "", policy_hash: str = "", tool: str = "") -> Doubt:
    """What is to be said of the one name that is given; never raises."""

    def told() -> str:
        with suppress(ClawproxyError, OSError):
            return _job(folder, job) if job else _contract(folder, policy_hash) if policy_hash else _tool(folder, tool)
        return ""

    return told if job or policy_hash or tool else str


def _job(folder: StateDir, job: str) -> str:
    if (folder.jobs / job).is_dir():
        return ""
    known = f"those that are: clawproxy job list{state_words(folder.root)}"
    return f"CHECK THE NAME: no job {job} is here, so nothing that runs now is meant by it; {known}"


def _contract(folder: StateDir, policy_hash: str) -> str:
    if signed_with_hash(policy_hash, folder) is not None:
        return ""
    return f"CHECK THE CONTRACT: none in {folder.contracts} has the hash {policy_hash}"


def _tool(folder: StateDir, tool: str) -> str:
    rules = [parse_contract(document_in(envelope)).policy.tools for _, envelope in signed_files(folder)]
    if any(each is None or _speaks_of(each, tool) for each in rules):  # None: statements decide, and may mean any tool
        return ""
    return f"CHECK THE NAME: no contract in {folder.contracts} speaks of a tool {clip(tool, 100)}"


def _speaks_of(rules: ToolRules, tool: str) -> bool:
    name = fold(tool)
    return any(
        fold(rule.entry) == name or matches(fold(rule.pattern), name)
        for rule in (*rules.allowed, *rules.denied, *rules.on_approval)
    )
