"""Judges calls and tools against the stops that stand. In memory, for one event loop; each question is a look-up.

``Stops`` is asked at three places: a call as a whole (``refuse_call``), the tools that it declares
(``refuse_declared``), and a call of a tool, in an answer (``refuse_tool``) or of its own (``refuse_egress``). Denied
words compare as denials of a contract do (``tools``): a word stands for its class and for the wire name that equals it,
without case and spaces.

Limits: a tool that hides behind a meta-tool is that meta-tool here, too. Read-only mode lets GET, HEAD and OPTIONS of
``egress_allowlist`` through, and so what their queries say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..tokens.errors import word_or
from ..tokens.reasons import Refusal
from .orders import Mode, Orders, Scope, StopOrder
from .tools import ToolRules, build_tool_rules

if TYPE_CHECKING:
    from .policy import Policy

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_RULES = 512


@dataclass(frozen=True, slots=True)
class _Index:
    """Stops by what they are about. ``modes`` holds the lesser ones, ``whole`` those of everything."""

    everything: StopOrder | None = None
    whole: Mapping[tuple[Scope, str], StopOrder] = field(default_factory=dict)
    tools: Mapping[str, StopOrder] = field(default_factory=dict)
    modes: Mapping[tuple[Scope, str], tuple[StopOrder, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, stops: Iterable[StopOrder]) -> _Index:
        whole: dict[tuple[Scope, str], StopOrder] = {}
        tools: dict[str, StopOrder] = {}
        modes: dict[tuple[Scope, str], tuple[StopOrder, ...]] = {}
        for order in stops:
            key = (order.scope, order.name)
            if order.mode is not Mode.STOP:
                modes[key] = (*modes.get(key, ()), order)
            elif order.scope is Scope.TOOL:
                tools[order.name] = order
            else:
                whole[key] = order
        return cls(whole.get((Scope.ALL, "")), whole, tools, modes)


class Stops:
    """The stops of one gateway. ``take`` puts others in force, as one step."""

    def __init__(self) -> None:
        self._index = _Index()
        self._any = False
        self._rules: dict[str, ToolRules] = {}

    def take(self, orders: Orders) -> None:
        """In force from here on: these, and no others."""
        self._index = _Index.of(orders.stops)
        self._any = bool(orders.stops)
        self._rules = {}

    def refuse_call(
        self, job_id: str, policy_hash_b64u: str | None, providers: Iterable[str | None] = ()
    ) -> Refusal | None:
        """STOPPED_BY_OPERATOR, if a call of this job, under this contract, to one of these providers is stopped."""
        if not self._any:
            return None
        index = self._index
        order = index.everything or index.whole.get((Scope.JOB, job_id))
        if order is None and policy_hash_b64u is not None:
            order = index.whole.get((Scope.CONTRACT, policy_hash_b64u))
        for provider in providers:
            if order is None and provider is not None:
                order = index.whole.get((Scope.PROVIDER, provider))
        return None if order is None else Refusal("STOPPED_BY_OPERATOR", order.command, order.told)

    def refuse_declared(
        self, policy: Policy, job_id: str, tools: Sequence[str], any_tools: Sequence[str] = ()
    ) -> Refusal | None:
        """TOOLS_STOPPED, if a call may not declare one of these tools now. ``any_tools`` as in ``CallFacts``."""
        if not self._any:
            return None
        for tool in tools:
            refusal = self.refuse_tool(policy, job_id, tool, exact=tool in any_tools)
            if refusal is not None:
                return refusal
        return None

    def refuse_tool(self, policy: Policy, job_id: str, tool: str, *, exact: bool = False) -> Refusal | None:
        """TOOLS_STOPPED, if the tool with this wire name may not be called now. ``exact`` for a meta-tool."""
        if not self._any:
            return None
        for order in self._modes(job_id, policy.policy_hash_b64u):
            if order.mode is Mode.NO_TOOLS or not policy.read_only.covers(tool, exact=exact):
                return _refused(order, tool)
        if self._index.tools:
            rule = self._rules_for(policy).denial(tool)
            if rule is not None:
                return _refused(self._index.tools[rule.entry], tool)
        return None

    def refuse_egress(self, job_id: str, policy_hash_b64u: str | None, method: str) -> Refusal | None:
        """TOOLS_STOPPED, if a call of a tool to its own host may not go out now."""
        if not self._any:
            return None
        for order in self._modes(job_id, policy_hash_b64u):
            if order.mode is Mode.NO_TOOLS or method not in _READING:
                return Refusal("TOOLS_STOPPED", order.command, f"{method} of a tool; {order.told}")
        return None

    def _modes(self, job_id: str, policy_hash_b64u: str | None) -> tuple[StopOrder, ...]:
        modes = self._index.modes
        if not modes:
            return ()
        keys = ((Scope.ALL, ""), (Scope.JOB, job_id), (Scope.CONTRACT, policy_hash_b64u or ""))
        return tuple(order for key in keys for order in modes.get(key, ()))

    def _rules_for(self, policy: Policy) -> ToolRules:
        """The stopped words tied to wire names as this contract ties them."""
        rules = self._rules.get(policy.policy_hash_b64u)
        if rules is None:
            classes: dict[str, list[str]] = {}
            if policy.tools is not None:
                for rule in (*policy.tools.allowed, *policy.tools.denied, *policy.tools.on_approval):
                    if rule.classed and rule.pattern not in classes.setdefault(rule.entry, []):
                        classes[rule.entry].append(rule.pattern)
            tied = {word: tuple(patterns) for word, patterns in classes.items()}
            rules = build_tool_rules(denied=self._index.tools, classes=tied)
            while len(self._rules) >= _MAX_RULES:
                del self._rules[next(iter(self._rules))]
            self._rules[policy.policy_hash_b64u] = rules
        return rules


def _refused(order: StopOrder, tool: str) -> Refusal:
    return Refusal("TOOLS_STOPPED", order.command, f"{word_or('a tool', tool)}; {order.told}")
