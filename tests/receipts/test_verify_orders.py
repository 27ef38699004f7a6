from __future__ import annotations

from typing import Any

import pytest
from clawproxy.receipts.report import Fault
from clawproxy.receipts.verify_orders import OrdersSeen

EARLIER = "C" * 42 + "A"
"""The contract that the job was under before."""
HASH = "A" * 43
AT = "2026-01-01T00:00:00.000Z"
CALL = {"policy_hash_b64u": HASH, "token_hash_hex": "a" * 64, "provider": "openai", "tools": []}
EFFECT = {"policy_hash_b64u": HASH, "token_hash_hex": "a" * 64, "method": "POST"}


def seen() -> OrdersSeen:
    return OrdersSeen({"job_id": "job-1", "policy_hash_b64u": HASH}, {HASH, EARLIER})


def stopped(scope: str = "all", name: str = "", mode: str = "stop", **over: Any) -> dict[str, Any]:
    return {"number": 1, "scope": scope, "name": name, "mode": mode, "reason": "", "given_at": AT, **over}


def revoked(kind: str, name: str, **over: Any) -> dict[str, Any]:
    return {"number": 1, "kind": kind, "name": name, "reason": "", "given_at": AT, **over}


@pytest.mark.parametrize(
    ("order", "call", "is_effect", "hit"),
    [
        (stopped(), CALL, False, True),
        (stopped("job", "job-1"), CALL, False, True),
        (stopped("contract", HASH), EFFECT, True, True),
        (stopped("provider", "openai"), CALL, False, True),
        (stopped("provider", "anthropic"), CALL, False, False),
        (stopped("provider", "fal"), {**CALL, "upstream": "fal"}, False, True),
        (stopped("tool", "Bash"), CALL, False, False),
        (stopped("tool", "Bash"), {**CALL, "tools": ["Read", "Bash"]}, False, True),
        (stopped(mode="no_tools"), CALL, False, False),
        (stopped(mode="no_tools"), {**CALL, "tools": ["Read"]}, False, True),
        (stopped(mode="no_tools"), EFFECT, True, True),
        (stopped(mode="read_only_tools"), EFFECT, True, True),
        (stopped(mode="read_only_tools"), {**EFFECT, "method": "GET"}, True, False),
        (revoked("token", "a" * 64), CALL, False, True),
        (revoked("token", "b" * 64), CALL, False, False),
        (revoked("jti", "id-1"), CALL, False, True),
        (revoked("jti", "id-2"), CALL, False, False),
        (revoked("job", "job-1"), CALL, False, True),
        (revoked("contract", HASH), CALL, False, True),
        (stopped("contract", EARLIER), CALL, False, False),
        (stopped("contract", EARLIER, "no_tools"), {**CALL, "tools": ["Read"]}, False, False),
        (revoked("contract", EARLIER), CALL, False, False),
    ],
)
def test_a_call_that_an_order_on_record_forbids_fails(
    order: dict[str, Any], call: dict[str, Any], is_effect: bool, hit: bool
) -> None:
    orders = seen()
    orders.check_intent(call, {"jti": "id-1"}, "x", is_effect=is_effect)
    orders.take("stopped" if "scope" in order else "revoked", order, "x")
    if not hit:
        orders.check_intent(call, {"jti": "id-1"}, "x", is_effect=is_effect)
        return
    with pytest.raises(Fault) as caught:
        orders.check_intent(call, {"jti": "id-1"}, "x", is_effect=is_effect)
    assert caught.value.reason == "CALL_WHILE_STOPPED"


def test_what_was_resumed_may_go_out_again_and_a_revocation_is_never_resumed() -> None:
    orders = seen()
    orders.take("stopped", stopped(), "x")
    orders.take("resumed", {"lifts": 1, "number": 2}, "x")
    orders.check_intent(CALL, {}, "x", is_effect=False)
    orders.take("revoked", revoked("job", "job-1", number=3), "x")
    for lifts in (1, 3, 9):
        with pytest.raises(Fault) as caught:
            orders.take("resumed", {"lifts": lifts, "number": 4}, "x")
        assert caught.value.reason == "EVENT_OUT_OF_PLACE"


@pytest.mark.parametrize(
    ("event_type", "detail"),
    [
        ("stopped", stopped("job", "job-2")),
        ("stopped", stopped("contract", "B" * 42 + "A")),
        ("stopped", stopped("tool", "Bash", "no_tools")),
        ("stopped", stopped("all", "x")),
        ("stopped", stopped("everything")),
        ("stopped", stopped(["all"])),  # type: ignore[arg-type]
        ("stopped", stopped(more=1)),
        ("stopped", stopped(number=0)),
        ("stopped", {"by": "somebody"}),
        ("revoked", revoked("token", "short")),
        ("revoked", revoked("agent", "x")),
        ("revoked", revoked("job", "job-2")),
        ("resumed", {"lifts": 1}),
    ],
)
def test_an_order_of_another_shape_or_another_job_fails(event_type: str, detail: dict[str, Any]) -> None:
    with pytest.raises(Fault) as caught:
        seen().take(event_type, detail, "x")
    assert caught.value.rule == "J75"


def test_an_order_is_on_record_once() -> None:
    orders = seen()
    orders.take("stopped", stopped(), "x")
    with pytest.raises(Fault):
        orders.take("revoked", revoked("job", "job-1"), "x")
