"""What becomes of data: in requests, answers and logs, on the way to hosts, and where labels go. Pure.

Each detector of the known classes is looked at by what both contracts make of it (``data_rules.build_plan``), each tool
by the labels that its results carry, and each pair of tools by whether the one may be called with results of the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from ...tokens.reasons import Refusal
from ..data_rules import Action, DataPlan, DataRules, PathRule, build_plan, call_refusal, label_refusal
from ..detect.classes import DataClasses
from ..policy import Policy
from .power import Power, Proof

_STRICT = {action: n for n, action in enumerate(Action)}
_NONE = DataRules()


def data_powers(
    here: Policy, there: Policy, tools: Sequence[str], classes: DataClasses, *, complete: bool
) -> Iterator[Power]:
    """What ``here`` lets data do that ``there`` does not. ``tools`` are names that show every tool."""
    mine, theirs = here.data or _NONE, there.data or _NONE
    if mine == theirs:
        return
    plans = build_plan(mine, classes), build_plan(theirs, classes)
    yield from _detected(*plans, classes, exports=bool(here.egress))
    yield from _unknown(mine, theirs, classes, exports=bool(here.egress))
    yield from _labelled(mine, theirs, tools, classes)
    if here.egress:
        yield from _exported(mine, theirs, tools)
    yield from _seen_by_tools(*plans, tools, classes)
    yield from _paths(mine.paths, theirs.paths)
    if not complete and (mine.carries, mine.access) != (theirs.carries, theirs.access):
        yield Power("tool_data_access", "data of tools: not every name could be searched", proof=Proof.OPEN)


def _action(plan: DataPlan, detector: str) -> Action:
    judged = plan.by_detector.get(detector)
    return Action.ALLOW if judged is None else judged.action


def _detected(mine: DataPlan, theirs: DataPlan, classes: DataClasses, *, exports: bool) -> Iterator[Power]:
    """By what detectors find: passing on, logs, hosts. One power for each class and change."""
    found: dict[tuple[str, str, str], Power] = {}
    for detector in classes.detectors():
        name = detector.name
        ours, others = _action(mine, name), _action(theirs, name)
        field = theirs.by_detector[name].field if name in theirs.by_detector else "data_boundaries.export"
        shown = theirs.by_detector[name].data_class if name in theirs.by_detector else name
        changes = []
        if _STRICT[ours] > _STRICT[others]:
            changes.append((f"{shown} in requests and answers", str(ours), str(others)))
        if name in theirs.log_detectors - mine.log_detectors:
            changes.append((f"{shown} in logs", "as it is", "redacted"))
        if exports and name in theirs.export_detectors - mine.export_detectors:
            changes.append((f"{shown} in calls of tools to hosts", "let through", "denied"))
        for what, now, then in changes:
            found.setdefault((what, now, then), Power(field, what, here=now, there=then))
    yield from found.values()


def _unknown(mine: DataRules, theirs: DataRules, classes: DataClasses, *, exports: bool) -> Iterator[Power]:
    """Classes that only an operator's own file may know: by what the strictest rule of each contract says."""
    by_name = _spoken(mine) - _spoken(theirs)
    for name in _own_classes(mine, theirs, classes):
        ours, others = _strictest(mine, name), _strictest(theirs, name)
        if _STRICT[ours] > _STRICT[others]:
            yield Power(f"data_boundaries.{name}", f"{name} in conversations", here=str(ours), there=str(others))
        elif exports and theirs.export_denied and name in by_name and ours is Action.ALLOW:
            what = f"{name} in calls of tools to hosts, if it is personal"
            yield Power("data_boundaries.export", what, here="let through", there="denied", proof=Proof.OPEN)


def _own_classes(mine: DataRules, theirs: DataRules, classes: DataClasses) -> list[str]:
    """The names of classes and labels in both contracts that are none that ship, and none that they give themselves."""
    known = classes.labels | mine.labels | theirs.labels
    return sorted(
        {name for rules in (mine, theirs) for _, name in rules.named if not classes.is_detected(name)} - known
    )


def _strictest(rules: DataRules, name: str) -> Action:
    return min((action for _, of, action in rules.actions if of == name), key=_STRICT.__getitem__, default=Action.ALLOW)


def _spoken(rules: DataRules) -> set[str]:
    return {name for _, name, _ in rules.actions}


def _labelled(mine: DataRules, theirs: DataRules, tools: Sequence[str], classes: DataClasses) -> Iterator[Power]:
    """Results of tools that may go to the provider, and labels that the gateway's own file gives."""
    found: dict[str, Power] = {}
    for tool in (*tools, None):
        labels = mine.result_labels(tool), theirs.result_labels(tool)
        refused = label_refusal(theirs, labels[1])
        if label_refusal(mine, labels[0]) is None and refused is not None:
            shown = "a tool that nobody knows" if tool is None else f'"{tool}"'
            what = f"results of tools in requests, such as those of {shown}"
            found.setdefault(refused.rule, Power(refused.rule.partition(" ")[0], what, there=refused.detail))
    for label in sorted(classes.labels | mine.labels | theirs.labels):
        refused = label_refusal(theirs, (label,))
        if label_refusal(mine, (label,)) is None and refused is not None:
            what = f"{label} data in requests"
            found.setdefault(refused.rule, Power(refused.rule.partition(" ")[0], what, there=refused.detail))
    yield from found.values()


def _exported(mine: DataRules, theirs: DataRules, tools: Sequence[str]) -> Iterator[Power]:
    """What carries a label does not leave for a host where ``export`` is denied."""
    lost = [label for label in sorted(theirs.labels) if theirs.export_denied and not mine.export_denied]
    if lost:
        yield Power("data_boundaries.export", f"{', '.join(lost)} data in calls of tools to hosts", there="denied")
    elif theirs.export_denied:
        for tool in tools:
            if theirs.result_labels(tool) and not mine.result_labels(tool):
                what = f'results of "{tool}" in calls of tools to hosts'
                yield Power("tool_data_classes", what, here="no label", there="denied by its label")
                return


def _seen_by_tools(mine: DataPlan, theirs: DataPlan, tools: Sequence[str], classes: DataClasses) -> Iterator[Power]:
    """Calls of a tool in a conversation that holds results of another, or data that a detector finds."""
    if not theirs.rules.access or mine.rules.access == theirs.rules.access == ():
        return
    found: dict[str, Power] = {}
    known = classes.labels | mine.rules.labels | theirs.rules.labels
    labelled: list[tuple[str, frozenset[str], frozenset[str]]] = [
        *((f'results of "{tool}"', mine.rules.result_labels(tool), theirs.rules.result_labels(tool)) for tool in tools),
        ("results of a tool that nobody knows", mine.rules.labels, theirs.rules.labels),
        *((f"{label} data", frozenset({label}), frozenset({label})) for label in sorted(known)),
    ]
    sources = {(ours, others): what for what, ours, others in labelled if label_refusal(mine.rules, ours) is None}
    for detector in classes.detectors():
        found_as = [plan.by_detector.get(detector.name) for plan in (mine, theirs)]
        if found_as[0] is None or found_as[0].action is not Action.DENY:
            ours, others = (frozenset({judged.data_class} if judged else ()) for judged in found_as)
            sources.setdefault((ours, others), f"{detector.name} in it")
    for name in _own_classes(mine.rules, theirs.rules, classes):
        if _strictest(mine.rules, name) is not Action.DENY:
            only_there = name in _spoken(theirs.rules) - _spoken(mine.rules)
            sources.setdefault((frozenset() if only_there else frozenset({name}), frozenset({name})), f"{name} in it")
    for (ours, others), what in sources.items():
        for tool in tools:
            refused = call_refusal(theirs.rules, others, tool)
            if isinstance(refused, Refusal) and call_refusal(mine.rules, ours, tool) is None:
                said = f'calls of "{tool}" in a conversation with {what}'
                found.setdefault(refused.rule, Power("tool_data_access", said, there=refused.detail))
    yield from found.values()


def _paths(mine: tuple[PathRule, ...], theirs: tuple[PathRule, ...]) -> Iterator[Power]:
    """Members that only the other contract takes out of requests. What more is taken out takes nothing away."""
    gone = [rule for rule in theirs if rule not in mine]
    for rule in gone:
        what = f"what stands at {rule.path} in requests"
        yield Power("redaction_rules", what, here="as it is", there=str(rule.action))
    moved = any(
        _touch(first, second) and mine.index(first) > mine.index(second)
        for first, second in itertools.combinations(theirs, 2)
        if not gone
    )
    if moved:
        yield Power("redaction_rules", "what stands at paths that touch, in another order", proof=Proof.OPEN)


def _touch(a: PathRule, b: PathRule) -> bool:
    """Whether one path leads to what the other takes out, so that their order counts."""
    keys = [[step.key for step in rule.steps] for rule in (a, b)]
    return all(x == y for x, y in zip(*keys, strict=False))
