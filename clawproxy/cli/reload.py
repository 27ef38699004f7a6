"""``clawproxy reload``: the running gateway reads its configuration again."""

from __future__ import annotations

import asyncio

from ..tokens.canonical import JsonObject
from .screen import JsonFlag, new_app, note, print_json
from .state import DEFAULT_STATE, StateDir, StateOption

app = new_app("Have the running gateway read its configuration, contracts and credentials again.")
app.info.no_args_is_help = False


@app.command()
def reload(state: StateOption = DEFAULT_STATE, json_: JsonFlag = False) -> None:
    """Take over what changed, as one step or not at all; says what allows more than before. The same as SIGHUP.

    Calls under way keep the credential that they began with. Listeners, the audience and the engine's limits hold
    until a restart.
    """
    from ..addons.admin import call_admin

    told: JsonObject = asyncio.run(call_admin(StateDir(state).admin_socket, "reload"))
    if json_:
        print_json(told)
        return
    for change in told["changes"]:
        print(f"{change['key']}: {change['what']}" + ("  (allows more than before)" if change["widens"] else ""))
    if not told["changes"]:
        note("nothing changed")
    if not told["recorded"]:
        note("in force, but the gateway's journal could not record it")
