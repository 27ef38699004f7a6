"""A run over bodies: so many, from one seed, through a live gateway; what left is compared with what was judged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from .bodies import Body, make_body
from .rig import Agent, Node, Rig, Tally, compare, running_rig

_AT_ONCE = 8
_PER_GATEWAY = 50_000


async def run_bodies(count: int, seed: int, told: Callable[[Tally], None] = lambda tally: None) -> Tally:
    """Send ``count`` bodies; ``told`` hears of the tally every few seconds."""
    tally, rng, node = Tally(), random.Random(seed), await Node.start()
    try:
        while tally.sent < count:
            async with running_rig() as rig:
                share = min(_PER_GATEWAY, count - tally.sent)
                numbers = iter(range(tally.sent, tally.sent + share))
                lock = asyncio.Lock()
                await asyncio.gather(*(_agent(rig, node, lock, rng, numbers, tally, told) for _ in range(_AT_ONCE)))
    finally:
        await node.stop()
    return tally


async def _agent(
    rig: Rig,
    node: Node,
    lock: asyncio.Lock,
    rng: random.Random,
    numbers: object,
    tally: Tally,
    told: Callable[[Tally], None],
) -> None:
    agent = rig.agent()
    for number in numbers:  # type: ignore[attr-defined]
        await _one(rig, agent, node, lock, make_body(rng), f"fuzz-{number}", tally)
        if tally.sent % 5000 == 0:
            told(tally)
    agent.close()


async def _one(rig: Rig, agent: Agent, node: Node, lock: asyncio.Lock, body: Body, name: str, tally: Tally) -> None:
    head = (
        f"POST {body.target} HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\nuser-agent: {name}\r\n"
        f"x-cst: {rig.token()}\r\ncontent-length: {len(body.raw)}\r\n\r\n"
    )
    status, answer, _ = await agent.send(head.encode() + body.raw)
    tally.sent += 1
    tally.whole += body.whole
    tally.by_status[status] += 1
    judged, kept = rig.judged.pop(name, None), rig.kept.pop(name, None)
    if kept is None:
        if status == 200:
            tally.disagree(f"{body.format}: answered 200 without a request upstream: {body.raw!r}")
        reason = next((line[20:] for line in answer.split(b"\r\n") if line.startswith(b"x-clawproxy-reason:")), b"?")
        tally.by_reason[reason.strip().decode()] += 1
        return
    tally.forwarded += 1
    tally.whole_forwarded += body.whole
    if judged is None:
        tally.disagree(f"{body.format}: a body left that was never judged: {body.raw!r}")
        return
    path = kept[0].split(b" ", 2)[1].decode("latin-1")
    ours = compare(body.format, judged, path, kept[1], tally)
    if ours is None:
        return
    async with lock:
        theirs = await node.ask({"format": body.format, "path": path}, kept[1])
    tally.compared["node"] += 1
    if not theirs["ok"] or (theirs["digest"], theirs["model"], theirs["stream"], frozenset(theirs["tools"])) != (
        ours.digest,
        ours.model,
        ours.stream,
        ours.tools,
    ):
        tally.disagree(f"{body.format}: node reads {theirs}, policy {ours}: {kept[1]!r}")
