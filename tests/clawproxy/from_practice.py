"""From observed jobs to a signed contract, for tests with programs and agents of any kind.

clawproxy run --observe --contract FIRST --job trial -- AGENT …
document, policy_hash = suggest_and_sign(state, "trial")
clawproxy run --contract <policy_hash> --job again -- AGENT …
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .command_line import run_cli


def suggest_and_sign(
    state: Path, *jobs: str, name: str = "suggested", options: tuple[str, ...] = ()
) -> tuple[Any, str]:
    """The suggestion from sealed jobs of a state directory, signed with its policy key: document and hash."""
    bundles = [str(state / "jobs" / job) for job in jobs]
    told = run_cli("contract", "suggest", *bundles, "--name", name, "--json", *options, state=state)
    assert told.code == 0, told.err
    document = json.loads(told.out)["contract"]
    return document, sign(state, document, name)


def sign(state: Path, document: Any, name: str) -> str:
    """Sign a contract into the state directory; returns its hash."""
    file = state.parent / f"{name}.json"
    file.write_text(json.dumps(document))
    signed = run_cli("contract", "sign", str(file), state=state)
    assert signed.code == 0, signed.err
    return signed.out.strip()
