"""What the rules of a job's door turned away, counted by kind: the detail of the job event ``door_counted``. Pure.

No program listens to what is counted here: connections to addresses that are no name's, and all that is neither TCP nor
a question for a name. The kernel counts packets, so what a program tries again counts again. It is the word of who made
the cage, as the containment is. What comes past the rules and is refused then is a denial. A door records so many of
those a second; how many more there were stands beside the packets, so that noise hides no refusal without a trace.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError

EVENT = "door_counted"
KINDS = ("tcp", "quic", "udp", "icmp", "other")
"""In the order in which the rules ask: QUIC is UDP to port 443, and UDP is the rest of that."""
MAX_COUNT = 2**53 - 1
_SHOWN = {"tcp": "TCP", "quic": "QUIC", "udp": "UDP", "icmp": "ICMP", "other": "of other protocols"}


def door_detail(packets: Mapping[str, object], left_out: int = 0) -> JsonObject:
    """The detail of such an event, with the number of denials that were ``left_out`` where there are any; raises
    ``ClawproxyError`` (INVALID_REQUEST). More than can be said is said as the most."""
    if packets.keys() != set(KINDS) or not all(type(count) is int and count >= 0 for count in packets.values()):
        raise ClawproxyError(
            "INVALID_REQUEST", "not what a door counts", where="packets", expected=f"numbers of {', '.join(KINDS)}"
        )
    told: JsonObject = {kind: min(count, MAX_COUNT) for kind, count in packets.items() if isinstance(count, int)}
    return {"packets": told, **({"denials_left_out": min(left_out, MAX_COUNT)} if left_out else {})}


def left_out_words(detail: JsonObject) -> str:
    """For people; empty where each denial is on record."""
    count = detail.get("denials_left_out")
    return f"{count} more, faster than a door records them" if count else ""


def in_words(detail: JsonObject) -> str:
    """For people; empty where nothing was turned away."""
    packets = detail.get("packets")
    if not isinstance(packets, Mapping):
        return ""
    return ", ".join(f"{packets[kind]} {_SHOWN[kind]}" for kind in KINDS if packets.get(kind))


def door_lines(detail: JsonObject) -> list[str]:
    """What a person reads of it beside other lines: none where nothing was turned away or left out."""
    away, left_out = in_words(detail), left_out_words(detail)
    lines = [f"refused, not on record: {left_out}"] if left_out else []
    return [*lines, f"the door turned away: {away} (packets)"] if away else lines
