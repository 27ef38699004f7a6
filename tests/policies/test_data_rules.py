"""What contracts say of data, and what the rules come to."""

from __future__ import annotations

from typing import Any

import pytest
from clawproxy.policies.contract import check_contract, parse_contract
from clawproxy.policies.data_rules import Action, DataRules, build_plan, call_refusal, label_refusal
from clawproxy.policies.packaged import packaged_data_classes, packaged_tool_classes
from clawproxy.tokens.errors import ClawproxyError

from .makers import claw

CLASSES = packaged_data_classes()


def rules(**fields: Any) -> DataRules:
    found = parse_contract(claw(**fields)).policy.data
    assert found is not None
    return found


def test_the_strictest_rule_that_speaks_of_a_detector_holds() -> None:
    plan = build_plan(rules(data_boundaries={"pii": "hash", "email": "allow", "phone": "remove"}), CLASSES)
    assert plan.by_detector["email"].action is Action.HASH
    assert plan.by_detector["phone_national"].action is Action.REMOVE
    denied = build_plan(rules(data_boundaries={"pii": "mask"}, data_classes_denied=["regulated_pii"]), CLASSES)
    assert denied.by_detector["iban"].action is Action.DENY
    assert denied.by_detector["email"].action is Action.MASK
    assert "aws_access_key" not in denied.by_detector


def test_what_is_forbidden_has_no_place_in_logs_either() -> None:
    plan = build_plan(rules(data_boundaries={"email": "deny", "phone": "redact_in_logs", "secrets": "allow"}), CLASSES)
    assert plan.log_detectors == CLASSES.behind("email") | CLASSES.behind("phone")
    assert plan.enforced == CLASSES.behind("email")


def test_export_looks_for_secrets_and_what_is_personal_unless_it_is_allowed() -> None:
    plan = build_plan(rules(data_boundaries={"export": "deny", "ip_addresses": "allow"}), CLASSES)
    assert plan.export_detectors == (CLASSES.behind("secrets") | CLASSES.behind("pii")) - CLASSES.behind("ip_addresses")
    assert build_plan(rules(data_boundaries={"email": "deny"}), CLASSES).export_detectors == frozenset()


def test_labels_are_denied_by_name_and_by_an_allow_list_without_them() -> None:
    assert label_refusal(rules(data_classes_denied=["confidential"]), ["confidential"]) is not None
    assert label_refusal(rules(data_boundaries={"internal": "deny"}), ["internal"]) is not None
    listed = rules(data_classes_allowed=["internal"])
    assert label_refusal(listed, ["internal"]) is None
    assert label_refusal(listed, ["confidential", "internal"]) is not None
    assert label_refusal(rules(data_classes_allowed=[]), []) is None


def test_a_result_carries_the_labels_of_its_tool_and_all_labels_if_nobody_knows_whose_it_is() -> None:
    data = rules(tool_data_classes={"ticket.read": ["confidential"], "search": ["public"]})
    assert data.result_labels("get_ticket") == {"confidential"}
    assert data.result_labels("MCP__tickets__list") == {"confidential"}, "denials and labels compare folded names"
    assert data.result_labels("other") == frozenset()
    assert data.result_labels(None) == {"confidential", "public"}


def test_a_tool_may_be_called_only_where_it_may_see_everything() -> None:
    data = rules(tool_data_access={"shell.exec": ["public"]})
    assert call_refusal(data, ["public"], "Bash") is None
    assert call_refusal(data, [], "Bash") is None
    refusal = call_refusal(data, ["public", "internal"], "bash")
    assert refusal is not None
    assert refusal.rule == 'tool_data_access["shell.exec"]'
    assert call_refusal(data, ["internal"], "search") is None
    assert call_refusal(None, ["internal"], "search") is None


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"data_boundaries": {"pii": "hide"}}, "data_boundaries.pii"),
        ({"data_boundaries": {"export": "mask"}}, "data_boundaries.export"),
        ({"data_boundaries": {"E-Mail": "mask"}}, "data_boundaries.E-Mail"),
        ({"data_classes_denied": ["a b"]}, "data_classes_denied[0]"),
        ({"tool_data_classes": {"x*": ["internal"]}}, "tool_data_classes.x*"),
        ({"tool_data_access": {"x": "internal"}}, "tool_data_access.x"),
    ],
)
def test_rules_that_cannot_be_read_are_refused(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(ClawproxyError) as caught:
        parse_contract(claw(**fields))
    assert (caught.value.reason, caught.value.where) == ("WPC_INVALID", where)


def test_an_unknown_class_is_a_problem_for_the_reviewer_and_a_named_label_is_none() -> None:
    contract = parse_contract(
        claw(
            data_boundaries={"moods": "deny"},
            data_classes_denied=["northwind"],
            tool_data_classes={"search": ["northwind"]},
        )
    )
    places = [note.where for note in check_contract(contract, packaged_tool_classes())]
    assert 'data_boundaries.moods["moods"]' in places
    assert not [place for place in places if "northwind" in place]
