"""``clawproxy stop``: stop calls, or tools alone, at once and until ``clawproxy resume``."""

from __future__ import annotations

from typing import Annotated

import typer

from ..policies.orders import Mode, Scope, StopOrder
from ..tokens.errors import ClawproxyError
from .order_doubts import doubt
from .orders import (
    AllOption,
    ContractOption,
    JobOption,
    NoToolsFlag,
    ProviderOption,
    ReadOnlyFlag,
    ReasonOption,
    ToolOption,
    choose_mode,
    choose_scope,
    give_order,
    list_orders,
)
from .screen import JsonFlag, new_app
from .state import DEFAULT_STATE, StateDir, StateOption

app = new_app("Stop calls at once: everything, a job, a contract, a provider or a tool.")


@app.command()
def stop(
    all_: AllOption = False,
    job: JobOption = "",
    contract: ContractOption = "",
    provider: ProviderOption = "",
    tool: ToolOption = "",
    no_tools: NoToolsFlag = False,
    read_only_tools: ReadOnlyFlag = False,
    reason: ReasonOption = "",
    list_: Annotated[bool, typer.Option("--list", help="Show what stands, and what was revoked.")] = False,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Refuse new calls and cut live streams, at every gateway of the state directory, also after a restart.

    Needs no running gateway. Ends with 1 if a gateway did not confirm it, or it could not be written.
    """
    folder = StateDir(state)
    if list_:
        if all_ or job or contract or provider or tool:
            raise ClawproxyError("USAGE", "--list takes no selector")
        list_orders(folder, as_json=json_)
        return
    scope, name = choose_scope(all_, job, contract, provider, tool)
    mode = choose_mode(no_tools, read_only_tools) or Mode.STOP

    def done(order: StopOrder) -> str:
        return f"{order.command} stands as order {order.number}"

    give_order(
        folder,
        lambda orders, now: orders.with_stop(scope, name, mode, reason, now),
        as_json=json_,
        done=done,
        doubt=doubt(folder, job=job, policy_hash=name if scope is Scope.CONTRACT else "", tool=tool),
    )
