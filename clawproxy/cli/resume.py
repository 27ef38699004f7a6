"""``clawproxy resume``: lift a stop."""

from __future__ import annotations

from ..policies.orders import StopOrder
from .orders import (
    AllOption,
    ContractOption,
    JobOption,
    NoToolsFlag,
    ProviderOption,
    ReadOnlyFlag,
    ToolOption,
    choose_mode,
    choose_scope,
    give_order,
)
from .screen import JsonFlag, new_app
from .state import DEFAULT_STATE, StateDir, StateOption

app = new_app("Lift a stop that was given with the same selector.")


@app.command()
def resume(
    all_: AllOption = False,
    job: JobOption = "",
    contract: ContractOption = "",
    provider: ProviderOption = "",
    tool: ToolOption = "",
    no_tools: NoToolsFlag = False,
    read_only_tools: ReadOnlyFlag = False,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Lift the stop of exactly this selector: in every mode, or in the one that is named.

    --all lifts what stop --all gave and leaves the others, which are named. Revocations stay.
    """
    scope, name = choose_scope(all_, job, contract, provider, tool)
    mode = choose_mode(no_tools, read_only_tools)

    def done(lifted: tuple[StopOrder, ...]) -> str:
        if not lifted:
            return "no such stop stands, so nothing was lifted; see: clawproxy stop --list"
        return f"lifted: {', '.join(f'{order.command} (order {order.number})' for order in lifted)}"

    give_order(
        StateDir(state),
        lambda orders, _: orders.without(scope, name, mode),
        as_json=json_,
        done=done,
        say_stops=True,
    )
