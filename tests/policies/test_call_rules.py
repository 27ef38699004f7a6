"""Calls of tools in answers: names as declared ones are judged, arguments by schema and conditions."""

from __future__ import annotations

from typing import Any

import pytest
from clawproxy.policies.call_rules import CallAllowed, CallAsks, ToolCall, decide_call
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.reasons import Refusal

from ..cpu import least_cpu_s
from .makers import a_grant, claw, facts, policy_of, statement, wpc_v1, wpc_v2


def judge(name: str, arguments: Any = None, *, policy: Any = None, **more: Any) -> Any:
    declared = more.pop("declared", ())
    call = ToolCall(name, {} if arguments is None else arguments, **more)
    return decide_call(call, facts(tools=declared), a_grant(), policy_of(policy or claw()))


def reason(told: object) -> str:
    assert isinstance(told, Refusal), told
    return told.reason


def test_an_allowed_name_passes_by_its_rule() -> None:
    told = judge("mcp__tickets__read")
    assert isinstance(told, CallAllowed)
    assert told.rule == 'allowed_tools["ticket.read"] → tool_classes "mcp__tickets__*"'


@pytest.mark.parametrize("name", ["Write", "write", "WRITE ", "mcp__files__delete", "fs.write"])
def test_a_denied_name_is_refused_however_it_is_spelt(name: str) -> None:
    assert reason(judge(name)) == "POLICY_TOOL_DENIED"


@pytest.mark.parametrize("name", ["rm", "", "bash", "Bash\u200b", "x" * 300, "model_call_via_clawproxy"])
def test_a_name_that_the_contract_does_not_allow_is_refused(name: str) -> None:
    assert reason(judge(name)) == "POLICY_TOOL_NOT_ALLOWED"


def test_a_tool_that_can_call_any_other_is_allowed_by_its_exact_name_only() -> None:
    policy = claw(allowed_tools=["meta"], tool_classes={"meta": ["exec*"]})
    assert reason(judge("exec_all", policy=policy, is_meta=True)) == "POLICY_TOOL_NOT_ALLOWED"
    assert isinstance(judge("exec_all", policy=policy), CallAllowed)


def test_what_a_meta_tool_names_inside_is_judged_as_well() -> None:
    policy = claw(allowed_tools=["exec", "ticket.read"], denied_tools=["fs.write"])
    assert isinstance(judge("exec", policy=policy, is_meta=True, inner=("get_ticket",)), CallAllowed)
    assert reason(judge("exec", policy=policy, is_meta=True, inner=("get_ticket", "Write"))) == "POLICY_TOOL_DENIED"
    assert reason(judge("exec", policy=policy, is_meta=True, inner=("other",))) == "POLICY_TOOL_NOT_ALLOWED"


def test_a_tool_with_rules_on_its_arguments_is_not_reached_through_a_meta_tool() -> None:
    policy = claw(
        allowed_tools=["exec", "ticket.read"],
        tool_arguments={"ticket.read": {"when": [{"argument": "id", "at_least": 1}]}},
    )
    assert reason(judge("exec", policy=policy, is_meta=True, inner=("get_ticket",))) == "POLICY_TOOL_ARGUMENTS"


def test_a_meta_tool_whose_arguments_have_no_one_reading_is_refused() -> None:
    policy = policy_of(claw(allowed_tools=["exec"]))
    call = ToolCall("exec", None, is_meta=True)
    assert reason(decide_call(call, facts(), a_grant(), policy)) == "POLICY_TOOL_ARGUMENTS"


def test_an_mcp_tool_is_allowed_through_its_server_and_denied_by_its_own_name() -> None:
    policy = claw(allowed_tools=["mcp:tickets"], denied_tools=["delete"], tool_classes={})
    assert isinstance(judge("mcp:tickets.read", policy=policy), CallAllowed)
    assert reason(judge("mcp:other.read", policy=policy)) == "POLICY_TOOL_NOT_ALLOWED"
    assert reason(judge("mcp:tickets.delete", policy=policy)) == "POLICY_TOOL_DENIED"


@pytest.mark.parametrize("label", ["tickets", "tickets.eu", "a.b.c"])
def test_a_dot_in_the_label_of_an_mcp_server_hides_no_denied_tool(label: str) -> None:
    policy = claw(allowed_tools=["any.server"], denied_tools=["delete"], tool_classes={"any.server": ["mcp:*"]})
    assert isinstance(judge(f"mcp:{label}.read", policy=policy), CallAllowed)
    assert reason(judge(f"mcp:{label}.delete", policy=policy)) == "POLICY_TOOL_DENIED"


def test_a_tool_of_the_provider_is_allowed_under_the_type_that_the_request_declared() -> None:
    policy = claw(allowed_tools=["web_search_preview"], tool_classes={})
    assert isinstance(judge("web_search", policy=policy, declared=("web_search_preview",)), CallAllowed)
    assert reason(judge("web_search", policy=policy)) == "POLICY_TOOL_NOT_ALLOWED"


def test_an_approval_for_the_declared_type_is_asked_where_the_answer_calls_the_tool_otherwise() -> None:
    policy = claw(
        allowed_tools=["any"],
        tool_classes={"any": ["*"], "desktop": ["computer_use_preview"]},
        approvals=[{"action": "desktop"}],
    )
    asked = judge("computer", policy=policy, declared=("computer_use_preview",))
    assert isinstance(asked, CallAsks)
    assert asked.action == "desktop"
    assert isinstance(judge("computer", policy=policy), CallAllowed), "no request declared it so"


def test_rules_on_the_arguments_of_a_server_hold_where_a_pattern_allows_its_tools() -> None:
    policy = claw(
        allowed_tools=["mcp.any"],
        tool_classes={"mcp.any": ["mcp:*"], "tickets": ["mcp:tickets"]},
        tool_arguments={"tickets": {"when": [{"argument": "id", "like": ["T-*"]}]}},
    )
    assert isinstance(judge("mcp:tickets.read", {"id": "T-1"}, policy=policy), CallAllowed)
    assert reason(judge("mcp:tickets.read", {"id": "x"}, policy=policy)) == "POLICY_TOOL_ARGUMENTS"
    assert isinstance(judge("mcp:wiki.read", {"id": "x"}, policy=policy), CallAllowed)


def test_a_denied_server_is_denied_where_a_pattern_allows_its_tools() -> None:
    policy = claw(allowed_tools=["mcp.any"], denied_tools=["mcp:tickets"], tool_classes={"mcp.any": ["mcp:*"]})
    assert reason(judge("mcp:tickets.read", policy=policy)) == "POLICY_TOOL_DENIED"
    assert isinstance(judge("mcp:wiki.read", policy=policy), CallAllowed)
    by_statement = wpc_v2(
        statement("tools", "Allow", ["tool:execute", "model:invoke"], ["*"]),
        statement("no-tickets", "Deny", ["tool:execute"], ["mcp:tickets"]),
    )
    assert reason(judge("mcp:tickets.read", policy=by_statement)) == "POLICY_STATEMENT_DENIED"
    assert isinstance(judge("mcp:wiki.read", policy=by_statement), CallAllowed)


def test_a_shape_without_a_word_for_tools_refuses_every_call() -> None:
    assert reason(judge("search", policy=wpc_v1())) == "POLICY_TOOL_NOT_ALLOWED"


def test_statements_judge_calls_too() -> None:
    policy = wpc_v2(
        statement("tools", "Allow", ["tool:execute", "model:invoke"], ["*"]),
        statement("no-shell", "Deny", ["tool:execute"], ["Bash"]),
    )
    assert isinstance(judge("search", policy=policy), CallAllowed)
    assert reason(judge("Bash", policy=policy)) == "POLICY_STATEMENT_DENIED"
    assert reason(judge("bash", policy=policy)) == "POLICY_STATEMENT_DENIED"


# -- arguments -----------------------------------------------------------------------------------------------------


def shell(**rules: Any) -> Any:
    return claw(tool_arguments={"shell.exec": rules})


@pytest.mark.parametrize(
    ("condition", "good", "bad"),
    [
        ({"like": ["ls *", "cat *"]}, ["ls -l", "cat x"], ["rm x", "als ", 3, None, ["ls -l"]]),
        ({"not_like": ["*rm *", "*;*"]}, ["ls"], ["rm -rf /", "ls; x", 3, None]),
        ({"one_of": ["a", 3, True]}, ["a", 3, True], ["A", 3.0, 1, "3", False, None]),
        ({"at_least": 1, "at_most": 5}, [1, 5], [0, 6, "3", 2.5, True, None]),
        ({"max_chars": 3}, ["", "abc"], ["abcd", 3, None]),
    ],
)
def test_conditions_hold_or_refuse(condition: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    policy = shell(when=[{"argument": "command", **condition}])
    for value in good:
        assert isinstance(judge("Bash", {"command": value}, policy=policy), CallAllowed), value
    for value in bad:
        assert reason(judge("Bash", {"command": value}, policy=policy)) == "POLICY_TOOL_ARGUMENTS", value


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("other", ["COMMAND", "Command", "ｃommand", "com mand"])
def test_another_spelling_of_an_argument_fails_since_some_readers_take_it_for_the_argument(
    optional: bool, other: str
) -> None:
    policy = shell(when=[{"argument": "command", "like": ["ls*"], "optional": optional}])
    assert isinstance(judge("Bash", {"command": "ls"}, policy=policy), CallAllowed)
    assert isinstance(judge("Bash", {"command": "ls", other: "rm"}, policy=policy), Refusal)
    assert isinstance(judge("Bash", {other: "rm"}, policy=policy), Refusal)


def test_an_argument_that_is_not_there_fails_unless_it_is_optional() -> None:
    condition = {"argument": "command", "like": ["ls*"]}
    assert reason(judge("Bash", {}, policy=shell(when=[condition]))) == "POLICY_TOOL_ARGUMENTS"
    assert isinstance(judge("Bash", {}, policy=shell(when=[{**condition, "optional": True}])), CallAllowed)
    assert reason(judge("Bash", [], policy=shell(when=[condition]))) == "POLICY_TOOL_ARGUMENTS"


def test_a_pointer_reaches_into_arguments() -> None:
    policy = shell(when=[{"argument": "/steps/0/a~1b", "one_of": [1]}])
    assert isinstance(judge("Bash", {"steps": [{"a/b": 1}]}, policy=policy), CallAllowed)
    others: list[Any] = [{"steps": [{"a/b": 2}]}, {"steps": []}, {"steps": {"0": 1}}, {"/steps/0/a~1b": 1}]
    for other in others:
        assert reason(judge("Bash", other, policy=policy)) == "POLICY_TOOL_ARGUMENTS"


def test_a_rule_of_a_word_holds_for_every_spelling_of_its_tools() -> None:
    policy = claw(
        allowed_tools=["any"],
        denied_tools=[],
        tool_classes={"any": ["*"]},
        tool_arguments={"Run": {"when": [{"argument": "x", "one_of": [1]}]}},
    )
    for name in ("Run", "run", "ｒｕｎ"):
        assert isinstance(judge(name, {"x": 2}, policy=policy), Refusal)
    assert isinstance(judge("walk", {"x": 2}, policy=policy), CallAllowed)


def test_a_schema_judges_arguments_and_names_its_place() -> None:
    schema = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string", "pattern": "^T-[0-9]+$"}}}
    policy = claw(tool_arguments={"ticket.read": {"schema": schema}})
    assert isinstance(judge("get_ticket", {"id": "T-1"}, policy=policy), CallAllowed)
    told = judge("get_ticket", {"id": "T-x"}, policy=policy)
    assert reason(told) == "POLICY_TOOL_ARGUMENTS"
    assert told.rule == 'tool_arguments["ticket.read"].schema'
    assert "T-x" not in str(told)


def test_arguments_that_have_no_one_reading_break_every_rule_on_them() -> None:
    call = ToolCall("Bash", None)
    policy = policy_of(shell(when=[{"argument": "command", "like": ["*"], "optional": True}]))
    assert reason(decide_call(call, facts(), a_grant(), policy)) == "POLICY_TOOL_ARGUMENTS"


def test_patterns_of_a_schema_take_linear_time() -> None:
    policy = claw(tool_arguments={"Bash": {"schema": {"properties": {"command": {"pattern": "^(a+)+$"}}}}})

    def refused() -> None:
        told = judge("Bash", {"command": "a" * 50_000 + "!"}, policy=policy)
        assert reason(told) == "POLICY_TOOL_ARGUMENTS"

    assert least_cpu_s(refused, below_s=1) < 1


@pytest.mark.parametrize(
    "rules",
    [
        {"Bash": {}},
        {"Bash": {"when": []}},
        {"Bash": {"when": [{"argument": "x"}]}},
        {"Bash": {"when": [{"like": ["x"]}]}},
        {"Bash": {"when": [{"argument": "x", "like": []}]}},
        {"Bash": {"when": [{"argument": "x", "regex": "x"}]}},
        {"Bash": {"when": [{"argument": "x", "one_of": [[1]]}]}},
        {"Bash": {"schema": {"type": 3}}},
        {"Bash": {"schema": {"$ref": "https://elsewhere.example/schema"}}},
        {"Bash": {"schema": {"properties": {"a": {"pattern": "(?=x)y"}}}}},
        {"mcp__*": {"when": [{"argument": "x", "one_of": [1]}]}},
        {"Bash": []},
    ],
)
def test_rules_that_cannot_be_kept_are_refused_with_the_contract(rules: Any) -> None:
    with pytest.raises(ClawproxyError) as caught:
        policy_of(claw(tool_arguments=rules))
    assert caught.value.reason == "WPC_INVALID"
    assert "tool_arguments" in caught.value.where
