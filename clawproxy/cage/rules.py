"""The ruleset of a door, rendered from ``configs/door.nft``, and its digest."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from ..policies import door_plan
from ..tokens.digests import b64u_encode
from .plan import LINK_OF_DOOR


def door_rules() -> str:
    """The ruleset as ``nft -f`` reads it: definitions, and the template."""
    defined = {
        "LINK": f'"{LINK_OF_DOOR}"',
        "JOB_V4": door_plan.JOB_V4,
        "JOB_V6": door_plan.JOB_V6,
        "NAMES_V4": f"{door_plan.FIRST_NAME_V4}-{door_plan.LAST_NAME_V4}",
        "NAMES_V6": door_plan.NAMES_V6,
        "TCP_PORT": door_plan.TCP_PORT,
        "DNS_PORT": door_plan.DNS_PORT,
    }
    lines = [f"define {name} = {value}" for name, value in defined.items()]
    return "\n".join(lines) + "\n" + files("clawproxy.configs").joinpath("door.nft").read_text("utf-8")


def rules_hash(rules: str) -> str:
    """The digest that ``job_opened`` signs."""
    return b64u_encode(hashlib.sha256(rules.encode()).digest())
