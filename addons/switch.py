"""Steps that others can be put in place of: a call keeps those that it began with, the next one gets the new."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from .call import Call
from .gate import Steps, Verdict


class Switch:
    """``gate.Steps``. ``current`` is for calls that begin from now on."""

    def __init__(self, current: Steps) -> None:
        self.current = current

    def _of(self, call: Call) -> Steps:
        if call.steps is None:
            call.steps = self.current
        return call.steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self.current, name)

    def tunnel(self, call: Call) -> Verdict | Awaitable[Verdict]:
        return self._of(call).tunnel(call)

    def admit(self, call: Call) -> Verdict:
        return self._of(call).admit(call)

    def collect(self, call: Call) -> Verdict:
        return self._of(call).collect(call)

    def authenticate(self, call: Call) -> Verdict:
        return self._of(call).authenticate(call)

    def pin(self, call: Call) -> Verdict | Awaitable[Verdict]:
        return self._of(call).pin(call)

    def read(self, call: Call) -> Verdict:
        return self._of(call).read(call)

    def decide(self, call: Call) -> Verdict | Awaitable[Verdict]:
        return self._of(call).decide(call)

    def reserve(self, call: Call) -> Verdict:
        return self._of(call).reserve(call)

    def intend(self, call: Call) -> Verdict | Awaitable[Verdict]:
        return self._of(call).intend(call)

    def forward(self, call: Call) -> Verdict:
        return self._of(call).forward(call)

    def observe(self, call: Call) -> None:
        self._of(call).observe(call)

    def attest(self, call: Call) -> Awaitable[None]:
        return self._of(call).attest(call)
