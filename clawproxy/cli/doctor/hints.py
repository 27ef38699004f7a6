"""Commands in what doctor advises, as they must be typed for the state directory that was looked at. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from .symptom import Symptom

_COMMAND = re.compile(
    r"clawproxy (?:approve list|ca (?:bundle|show)|contract (?:show|sign)|job (?:list|open)|keys (?:list|new|trust)"
    r"|reload|run|serve|stop|token (?:mint|revoke))\b(?![^,;]* --state )"
)
_INTRODUCTION = re.compile(r"(?:make (?:it|one) with|see): ")


def with_state(symptom: Symptom, state: str) -> Symptom:
    """``symptom``, its remedy's commands with ``state`` (` --state S`, or nothing): without, they are about another
    gateway, and one of them writes its trust file."""
    return replace(symptom, remedy=for_state(symptom.remedy, state))


def for_state(text: str, state: str) -> str:
    """The same of a text. A command that names a state directory stays as it is."""
    return _COMMAND.sub(lambda found: found[0] + state, text)


def without_introduction(remedy: str) -> str:
    """``remedy`` without words such as ``see:`` before its command, for where something else introduces it."""
    return _INTRODUCTION.sub("", remedy, count=1) if _INTRODUCTION.match(remedy) else remedy
