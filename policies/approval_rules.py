"""Which work needs a person's yes: ``approvals`` of a contract, in both of its shapes. Pure.

As an object it is the whole job that must be approved before its first call; as a list, single calls of tools, each
held until somebody decides. Who may decide is a group of approver keys; without one, any key that the gateway trusts
as an approver's. An action is a word of the contract, tied to tools as every other word is (``tools``).
"""

from __future__ import annotations

from dataclasses import dataclass

from .fields import Fields
from .names import fold

DEFAULT_DEADLINE_S = 300
MIN_DEADLINE_S, MAX_DEADLINE_S = 5, 3600


@dataclass(frozen=True, slots=True)
class JobApproval:
    """The whole job needs an approval. ``group`` None: of any trusted approver."""

    group: str | None


@dataclass(frozen=True, slots=True)
class ActionApproval:
    """Calls of the tools behind ``action`` need one each, within ``deadline_s`` seconds; nobody's answer is a no."""

    action: str
    group: str | None
    deadline_s: int = DEFAULT_DEADLINE_S


@dataclass(frozen=True, slots=True)
class ApprovalRules:
    """The approvals that a contract demands; those with ``required`` false are none."""

    job: JobApproval | None = None
    actions: tuple[ActionApproval, ...] = ()

    def of(self, action: str) -> ActionApproval | None:
        """The rule of an action, as ``ToolRule.entry`` names it."""
        return next((rule for rule in self.actions if rule.action == action), None)


NO_APPROVALS = ApprovalRules()


def read_approvals(fields: Fields) -> ApprovalRules:
    """``approvals`` of a Claw contract; raises ``ClawproxyError`` (WPC_INVALID).

    An action that stands there twice is refused: two groups or deadlines for one call have two readings.
    """
    if not fields.is_list("approvals"):
        whole = fields.object("approvals", ("required", "approver_group"))
        if whole is None:
            return NO_APPROVALS
        group = whole.text("approver_group")
        return NO_APPROVALS if whole.flag("required") is False else ApprovalRules(job=JobApproval(group))
    actions: list[ActionApproval] = []
    seen: set[str] = set()
    for entry in fields.objects("approvals", ("action", "required", "approver_group", "deadline_s")) or ():
        entry.need("action")
        action = entry.text("action") or ""
        if "*" in action:
            entry.refuse(
                "action",
                "a pattern where a word stands",
                got=action,
                expected="a word",
                remedy="give the tools a word of your own, and tie it to the pattern in tool_classes",
            )
        if fold(action) in seen:
            entry.refuse("action", "the action stands there twice", got=action, remedy="keep one of the two")
        seen.add(fold(action))
        deadline_s = entry.integer("deadline_s", least=MIN_DEADLINE_S, most=MAX_DEADLINE_S)
        rule = ActionApproval(action, entry.text("approver_group"), deadline_s or DEFAULT_DEADLINE_S)
        if entry.flag("required") is not False:
            actions.append(rule)
    return ApprovalRules(actions=tuple(actions))
