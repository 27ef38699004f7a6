"""``clawproxy doctor``: what is set up, what is missing, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...policies.packaged import packaged_file
from ...tokens.errors import ClawproxyError
from ..screen import JsonFlag, new_app, print_json
from ..state import DEFAULT_STATE, ConfigOption, StateDir, StateOption, check_owner, set_credential, state_words
from .clients import check_clients
from .folder import check_folder
from .hints import for_state, with_state, without_introduction
from .isolation import check_isolation
from .listeners import check_listeners_of
from .machine import check_machine
from .providers import check_egress, check_providers
from .reach import check_reach
from .symptom import Symptom, failed
from .trust import check_contracts, check_trust_file

if TYPE_CHECKING:
    from ...addons.settings import Settings

app = new_app("What is set up, what is missing, and what to do about it.")
app.info.no_args_is_help = False


@app.command()
def doctor(
    example_config: Annotated[
        bool, typer.Option("--example-config", help="Print a configuration with every key and its comment, instead.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Do not try whether providers can be reached.")] = False,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Look at this machine and the state directory; changes nothing. Ends with 1 when the gateway would not start."""
    if example_config:
        sys.stdout.write(packaged_file("clawproxy.example.toml").decode())
        return
    words = state_words(state)
    found = [with_state(symptom, words) for symptom in examine(StateDir(state), config, offline=offline)]
    if json_:
        print_json([asdict(symptom) for symptom in found])
    else:
        width = max(len(symptom.what) for symptom in found)
        for symptom in found:
            # paths, names and hashes are for copying: one line each, which the terminal wraps
            print(f"{symptom.state:<4}  {symptom.what:<{width}}  {symptom.found}")
            if symptom.remedy:
                print(f"{'':<{width + 6}}  → {symptom.remedy}")
        print(f"\nnext: {for_state(next_command(found), words)}")
    raise typer.Exit(int(any(symptom.state == "fail" for symptom in found)))


def examine(folder: StateDir, config: Path | None, *, offline: bool = False) -> Iterator[Symptom]:
    """Every check, in the order in which a person would repair things."""
    from ...addons.settings import load_settings

    yield from check_machine()
    settings: Settings | None = None
    try:
        check_owner(folder.root, config)
        settings = load_settings(config, folder.root)
    except ClawproxyError as err:
        yield failed("configuration", err)
    else:
        yield Symptom("ok", "configuration", str(config or (folder.config if folder.config.exists() else "defaults")))
        folder = StateDir(settings.state_dir)
    yield from check_folder(folder)
    if settings is None:
        return
    yield from check_contracts(folder, settings)
    if folder.root.is_dir():
        yield from check_trust_file(folder)
    yield from check_providers(settings, set_credential(config, folder.root))
    yield from check_egress(settings)
    if not offline:
        yield from check_reach(settings)
    yield from check_clients(folder.root)
    yield from check_isolation()
    yield from check_listeners_of(folder, settings)


def next_command(found: list[Symptom]) -> str:
    """What to do first: about a failure, then about a warning; then to run something."""
    for state in ("fail", "warn"):
        for symptom in found:
            if symptom.state == state and (symptom.remedy or state == "fail"):
                if not symptom.remedy:
                    return f"put right what is wrong with the {symptom.what}"
                return without_introduction(symptom.remedy)
    if any(symptom.what == "gateway" for symptom in found):
        return "clawproxy job open --contract F, or clawproxy run -- CMD"
    holds = any(symptom.what == "isolation" and symptom.state == "ok" for symptom in found)
    return f"clawproxy run {'--isolate ' if holds else ''}-- CMD, or clawproxy serve"
