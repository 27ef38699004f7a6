"""What ``stop``, ``resume`` and ``token revoke`` share: giving an order, and telling what became of it.

An order goes to the file in the state directory and to every gateway that runs on it, with or without one running.
Ends with 1 where a gateway did not confirm, or the order is not durable: then it may not be in force everywhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..policies.contract import hash_contract
from ..policies.orders import Mode, Orders, Scope, StopOrder, stop_json
from ..receipts.order_book import OrderBook
from ..tokens.canonical import JsonObject
from ..tokens.digests import is_sha256_b64u
from ..tokens.errors import ClawproxyError, clip
from ..tokens.keys import Role
from .contract_files import read_document
from .order_doubts import Doubt
from .screen import counted, note, print_json
from .state import StateDir

_MOST_STOPS = 8
"""So many of those that stand are named after a resume."""
AllOption = Annotated[bool, typer.Option("--all", help="Everything.")]
JobOption = Annotated[str, typer.Option("--job", metavar="JOB", help="One job.")]
ContractOption = Annotated[str, typer.Option("--contract", metavar="HASH", help="A contract, by hash or file.")]
ProviderOption = Annotated[str, typer.Option("--provider", metavar="NAME", help="Calls to one provider.")]
ToolOption = Annotated[str, typer.Option("--tool", metavar="NAME", help="A tool: wire name, or a word of contracts.")]
NoToolsFlag = Annotated[bool, typer.Option("--no-tools", help="Only tools: agents stay online without any.")]
ReadOnlyFlag = Annotated[
    bool, typer.Option("--read-only-tools", help="Only tools that their contract does not list in read_only_tools.")
]
ReasonOption = Annotated[
    str,
    typer.Option(
        "--reason",
        metavar="TEXT",
        help="One line, up to 200 characters; the evidence gets it, and agents that are stopped.",
    ),
]


def choose_scope(all_: bool, job: str, contract: str, provider: str, tool: str) -> tuple[Scope, str]:
    """The one selector that was given; raises ``ClawproxyError`` (USAGE) for none or several."""
    given = [
        (scope, name)
        for scope, name in (
            (Scope.JOB, job),
            (Scope.CONTRACT, contract_hash(contract) if contract else ""),
            (Scope.PROVIDER, provider),
            (Scope.TOOL, tool),
        )
        if name
    ]
    if all_ + len(given) != 1:
        raise ClawproxyError("USAGE", "name one thing", expected="--all, --job, --contract, --provider or --tool")
    if provider:
        _check_provider(provider)
    return (Scope.ALL, "") if all_ else given[0]


def choose_mode(no_tools: bool, read_only_tools: bool) -> Mode | None:
    """The mode that was given, None without one."""
    if no_tools and read_only_tools:
        raise ClawproxyError("USAGE", "one mode at a time", expected="--no-tools or --read-only-tools")
    return Mode.NO_TOOLS if no_tools else Mode.READ_ONLY_TOOLS if read_only_tools else None


def contract_hash(text: str) -> str:
    """A contract's hash, from itself or from a file with the contract."""
    return text if is_sha256_b64u(text) else hash_contract(read_document(Path(text)))


def _check_provider(name: str) -> None:
    """A typing error at three in the morning must not look like success."""
    from ..policies.catalogue_file import load_catalogue
    from ..policies.packaged import packaged_file

    names = load_catalogue(packaged_file("providers.toml"), {}, {}).names
    if name not in names:
        raise ClawproxyError("USAGE", "no such provider", where="--provider", got=name, expected=", ".join(names))


def give_order[T](
    folder: StateDir,
    change: Callable[[Orders, str], tuple[Orders, T]],
    *,
    as_json: bool,
    done: Callable[[T], str],
    say_stops: bool = False,
    doubt: Doubt = str,
) -> None:
    """Give an order and say what became of it; ends the command. With ``say_stops`` also which stops stand then.

    What ``doubt`` has to say of the name comes last, where it is seen.
    """
    from ..addons.order_desk import give

    if not folder.root.is_dir():
        raise ClawproxyError("STATE_NOT_FOUND", "no state directory here", where=str(folder.root))
    book = _book(folder)
    given, made = asyncio.run(give(book, change, time.time_ns() // 1_000_000))
    halted = sum(int(answer.get("halted", 0)) for answer in given.answers)
    noted = sorted({job for answer in given.answers for job in answer.get("noted", ())})
    not_noted = sorted({job for answer in given.answers for job in answer.get("not_noted", ())})
    well = given.fault is None and not given.unconfirmed
    if as_json:
        told: JsonObject = {
            "ok": well,
            "done": done(made),
            "number": given.orders.last_number,
            "gateways": len(given.answers),
            "halted": halted,
            "noted": noted,
            "not_noted": not_noted,
            "unconfirmed": list(given.unconfirmed),
            "fault": given.fault.one_line() if given.fault else None,
        }
        if say_stops:
            told["stops"] = [stop_json(order) for order in given.orders.stops]
        print_json(told)
    else:
        print(done(made))
        where = f"in force at {counted(len(given.answers), 'gateway')}" if given.answers else "no gateway runs here"
        note(f"{where}; {counted(halted, 'call')} cut; on record in {counted(len(noted), 'open job')}")
        if say_stops:
            _note_stops(given.orders.stops)
        if not_noted:
            note(f"in force, but these jobs could not record it: {', '.join(not_noted)}")
        for fault in given.unconfirmed:
            note(f"NOT CONFIRMED by a running gateway: {fault}; give it again, or end that process")
        if given.fault is not None:
            note(f"NOT DURABLE, it ends with the gateways that run now: {given.fault.one_line()}")
    if doubtful := doubt():
        note(doubtful)
    raise typer.Exit(0 if well else 1)


def _note_stops(stops: Sequence[StopOrder]) -> None:
    """Which stops stand, the last given first; the names of tools are anybody's, and clipped."""
    if not stops:
        note("no stop stands any more")
        return
    told = [f"{clip(order.command, 100)} (order {order.number})" for order in reversed(stops[-_MOST_STOPS:])]
    more = len(stops) - len(told)
    told += [f"{more} more: clawproxy stop --list"] if more else []
    note(f"still in force: {', '.join(told)}")


def standing_orders(folder: StateDir) -> Orders:
    """What stands, as the file says; raises ``ClawproxyError``, also where no receipt key is."""
    return _book(folder).load()


def _book(folder: StateDir) -> OrderBook:
    return OrderBook(folder.root / "orders", folder.load_key(Role.RECEIPT))


def list_orders(folder: StateDir, *, as_json: bool) -> None:
    """Print what stands."""
    orders = standing_orders(folder)
    if as_json:
        print_json(orders.to_json())
        return
    for order in orders.stops:
        print(_row(order))
    for revocation in orders.revocations:
        told = f": {clip(revocation.reason, 200)}" if revocation.reason else ""
        print(f"{revocation.number}  {revocation.given_at}  revoked {revocation.kind} {revocation.name}{told}")
    if not orders.stops and not orders.revocations:
        note("nothing is stopped, nothing is revoked")


def _row(order: StopOrder) -> str:
    told = f": {clip(order.reason, 200)}" if order.reason else ""
    return f"{order.number}  {order.given_at}  {order.command}{told}"
