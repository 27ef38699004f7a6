"""``approvals`` of a contract: both shapes, bounds, and what a reviewer is told about them."""

from __future__ import annotations

from typing import Any

import pytest
from clawproxy.policies.approval_rules import ActionApproval, ApprovalRules, JobApproval
from clawproxy.policies.contract import Weight, check_contract, parse_contract
from clawproxy.policies.packaged import packaged_tool_classes
from clawproxy.tokens.errors import ClawproxyError

from .makers import INVOICE_TRIAGE, REFUND_ASSISTANT, claw, policy_of


def test_both_contracts_of_the_documents_say_what_needs_an_approval() -> None:
    assert policy_of(REFUND_ASSISTANT).approvals == ApprovalRules(job=JobApproval("SupportOps-PIM-Eligible"))
    asked = ActionApproval("send_external_email", None, 300)
    assert policy_of(INVOICE_TRIAGE).approvals == ApprovalRules(actions=(asked,))


@pytest.mark.parametrize(
    ("approvals", "expected"),
    [
        ({}, ApprovalRules(job=JobApproval(None))),
        ({"required": False, "approver_group": "Ops"}, ApprovalRules()),
        ([], ApprovalRules()),
        ([{"action": "mail", "required": False}], ApprovalRules()),
        (
            [{"action": "mail", "approver_group": "Ops", "deadline_s": 5}, {"action": "pay", "deadline_s": 3600}],
            ApprovalRules(actions=(ActionApproval("mail", "Ops", 5), ActionApproval("pay", None, 3600))),
        ),
    ],
)
def test_what_is_asked_for_is_read(approvals: Any, expected: ApprovalRules) -> None:
    rules = policy_of(claw(approvals=approvals)).approvals
    assert rules == expected
    for rule in expected.actions:
        assert rules.of(rule.action) == rule
    assert rules.of("something else") is None


@pytest.mark.parametrize(
    ("approvals", "where"),
    [
        ([{"action": "mail", "deadline_s": 4}], "approvals[0].deadline_s"),
        ([{"action": "mail", "deadline_s": 3601}], "approvals[0].deadline_s"),
        ([{"action": "mail", "deadline_s": 10.5}], "approvals[0].deadline_s"),
        ([{"action": "mail", "group": "Ops"}], "approvals[0]"),
        ([{"action": "m*"}], "approvals[0].action"),
        ([{"action": "mail"}, {"action": "mail"}], "approvals[1].action"),
        ([{"action": "mail", "required": False}, {"action": "Mail"}], "approvals[1].action"),
        ({"required": "yes"}, "approvals.required"),
        ({"deadline_s": 30}, "approvals"),
        ({"approver_group": "x" * 129}, "approvals.approver_group"),
    ],
)
def test_a_field_of_the_wrong_form_is_named(approvals: Any, where: str) -> None:
    with pytest.raises(ClawproxyError) as caught:
        parse_contract(claw(approvals=approvals))
    assert (caught.value.reason, caught.value.where) == ("WPC_INVALID", where)


def test_check_tells_where_the_approvers_come_from_and_what_stands_for_itself() -> None:
    document = claw(
        approvals=[{"action": "shell.exec", "approver_group": "Ops"}, {"action": "mail"}, {"action": "fs.write"}]
    )
    notes = [
        (note.where, str(note), note.weight)
        for note in check_contract(parse_contract(document), packaged_tool_classes())
    ]
    told = [text for where, text, _ in notes if where == 'approvals["shell.exec"]']
    assert any('group "Ops"' in text for text in told)
    assert any("exactly this name" in text for where, text, _ in notes if where == 'approvals["mail"]')
    assert any(where == 'approvals["fs.write"]' and weight is Weight.PROBLEM for where, _, weight in notes)
