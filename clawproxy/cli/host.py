"""``clawproxy host``: fences around agents that live on this host. Root's command: writes below /etc, runs nft."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..fence import installed, leaks, leftovers
from ..fence.installed import Places
from ..fence.listening import listens
from ..fence.plan import fence_rules, parse_fence
from ..fence.subordinate import ranges_of
from ..tokens.errors import ClawproxyError
from .screen import JsonFlag, new_app, note, print_json

app = new_app("Agents that live on this host: let all they send come to the gateway, or be refused.")

NameOption = Annotated[str, typer.Option("--name", help="The fence's name; default: from what it is around.")]
RootOption = Annotated[Path, typer.Option("--etc", hidden=True, help="Another /etc, for trials.")]
_ETC = Path("/etc")


@app.command(short_help="fence a user, a cgroup or an interface")
def install(
    user: Annotated[str, typer.Option("--user", help="All processes of this user.")] = "",
    cgroup: Annotated[str, typer.Option("--cgroup", help="All processes in this cgroup, below /sys/fs/cgroup.")] = "",
    interface: Annotated[str, typer.Option("--interface", help="All that comes in by this interface.")] = "",
    port: Annotated[int, typer.Option("--port", help="The port of listen.transparent.")] = 8082,
    open_port: Annotated[
        list[int] | None,
        typer.Option(
            "--open", metavar="PORT", help="The gateway's other listeners; again for each [default: 8081 8080]."
        ),
    ] = None,
    dns_port: Annotated[
        int | None, typer.Option("--dns", help="Where names are answered on this host; default: port 53 is refused.")
    ] = None,
    name: NameOption = "",
    print_: Annotated[bool, typer.Option("--print", help="Print the rules, change nothing.")] = False,
    etc: RootOption = _ETC,
) -> None:
    """Fence a user, a cgroup or an interface: web traffic comes to the transparent listener, the rest is refused.

    The same again changes nothing; another one of the same name replaces it as one step. It is loaded again at boot.
    """
    given = [(kind, value) for kind, value in (("user", user), ("cgroup", cgroup), ("interface", interface)) if value]
    if len(given) != 1:
        raise ClawproxyError("FENCE_INVALID", "give one of --user, --cgroup and --interface", where="host install")
    kind, around = given[0]
    fence = parse_fence(
        {
            "name": name or _name_for(kind, around),
            "kind": kind,
            "around": str(_uid(around)) if kind == "user" else around,
            "port": port,
            "open_ports": open_port or [8081, 8080],
            "dns_port": dns_port,
            "subordinate": ranges_of(_uid(around), etc / "subuid") if kind == "user" else (),
        }
    )
    if print_:
        typer.echo(fence_rules(fence), nl=False)
        _warn_without_listener(port)
        return
    _as_root()
    places = _places(etc)
    installed.install(fence, places)
    note(f"fence {fence.name}: in force{', and at every boot' if places.boots() else ''}; try it: clawproxy host check")
    if not places.boots():
        note(f"no systemd here: load {places.fences}/{fence.name}.nft at boot yourself")
    _warn_without_listener(port)


def _warn_without_listener(port: int) -> None:
    if not listens(port):
        note(
            f"nothing listens on port {port} yet, and until then no web traffic from inside the fence is answered: "
            f'set [listen] transparent = "127.0.0.1:{port}" in clawproxy.toml, and restart the gateway'
        )


@app.command(short_help="take a fence away")
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="The fence.")], etc: RootOption = _ETC) -> None:
    """Take a fence away, now and for the next boot."""
    _as_root()
    installed.remove(name, _places(etc))
    note(f"fence {name}: gone")


@app.command(short_help="does each fence hold, and did cages leave anything")
def check(
    repair: Annotated[bool, typer.Option("--repair", help="Load fences again, clear away what cages left.")] = False,
    json_: JsonFlag = False,
    etc: RootOption = _ETC,
) -> None:
    """Whether each fence is in force and lets nothing through, and whether cages left anything. Ends with 1 if not."""
    _as_root()
    places = _places(etc)
    done = [*installed.repair(places), *leftovers.clear()] if repair else []
    rows = list(_rows(places))
    if json_:
        print_json({"repaired": done, "found": [{"state": s, "what": w, "found": f} for s, w, f in rows]})
    else:
        for line in done:
            note(line)
        for state, what, found in rows:
            print(f"{state:<4}  {what}: {found}")
    raise typer.Exit(int(any(state == "fail" for state, _, _ in rows)))


def _rows(places: Places) -> Iterator[tuple[str, str, str]]:
    known = {fence.name: fence for fence in installed.fences(places)}
    lent = places.fences.parents[1] / "subuid"
    for name, standing in sorted(installed.standing(places).items()):
        remedy = "" if standing == "in force" else "; clawproxy host check --repair"
        yield ("ok" if standing == "in force" else "fail", f"fence {name}", standing + remedy)
        fence = known.get(name)
        if fence is not None and fence.kind == "user" and standing == "in force":
            if ranges_of(int(fence.around), lent) != fence.subordinate:
                yield "fail", f"fence {name}", f"{lent} lends the user other ids than before; clawproxy host install"
            outcomes = leaks.attempts_of(int(fence.around), dns=fence.dns_port is not None)
            let_go = leaks.leaks(outcomes)
            found = f"let go: {', '.join(let_go)}" if let_go else f"{len(outcomes)} attempts, none let go"
            yield ("fail" if let_go or not outcomes else "ok", f"fence {name}", found)
    if not known:
        yield ("ok", "fences", "none are installed")
    if stray := installed.stray_files(places):
        yield "fail", "fences", f"{len(stray)} files belong to none, such as {stray[0]}; clawproxy host check --repair"
    left = leftovers.find_leftovers()
    if left:
        yield "fail", "cages", f"{left.in_words()}; clawproxy host check --repair"
    else:
        yield "ok", "cages", "nothing is left of any"


def _places(etc: Path) -> Places:
    return Places(etc / "clawproxy" / "fences", etc / "systemd" / "system")


def _as_root() -> None:
    if os.geteuid() != 0:
        raise ClawproxyError("FENCE_FAILED", "only root can change or read a host's rules", remedy="run it with sudo")


def _uid(user: str) -> int:
    try:
        return int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ClawproxyError("FENCE_INVALID", "no such user", where="--user", got=user) from None


def _name_for(kind: str, around: str) -> str:
    plain = "".join(char if char.isascii() and char.isalnum() else "_" for char in around.lower())
    return f"{kind}_{plain}"[:32]
