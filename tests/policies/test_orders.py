from __future__ import annotations

from typing import Any

import pytest
from clawproxy.policies.orders import MAX_STOPS, Mode, Orders, Revoked, Scope, parse_orders
from clawproxy.tokens.errors import ClawproxyError

AT = "2026-01-01T00:00:00.000Z"
HASH = "A" * 43


def some() -> Orders:
    orders, _ = Orders().with_stop(Scope.JOB, "job-1", Mode.STOP, "why", AT)
    orders, _ = orders.with_stop(Scope.JOB, "job-1", Mode.NO_TOOLS, "", AT)
    orders, _ = orders.with_revocation(Revoked.JTI, "id-1", "", AT)
    return orders


def test_orders_read_back_are_the_same() -> None:
    assert parse_orders(some().to_json()) == some()
    assert parse_orders(Orders().to_json()) == Orders()


def test_each_change_takes_the_next_number_and_a_repetition_takes_none() -> None:
    orders = some()
    assert [order.number for order in orders.stops] == [1, 2]
    assert orders.last_number == 3
    again, order = orders.with_stop(Scope.JOB, "job-1", Mode.STOP, "another reason", AT)
    assert again is orders
    assert order.number == 1
    same, revocation = orders.with_revocation(Revoked.JTI, "id-1", "", AT)
    assert same is orders
    assert revocation.number == 3


def test_a_resume_lifts_its_selector_alone_in_every_mode_or_in_one() -> None:
    orders = some()
    assert orders.without(Scope.ALL, "", None) == (orders, ())
    left, lifted = orders.without(Scope.JOB, "job-1", None)
    assert [order.number for order in lifted] == [1, 2]
    assert left.stops == ()
    assert left.last_number == 4
    assert left.revocations == orders.revocations
    left, lifted = orders.without(Scope.JOB, "job-1", Mode.NO_TOOLS)
    assert [order.number for order in left.stops] == [1]


@pytest.mark.parametrize(
    ("scope", "name", "mode"),
    [
        (Scope.ALL, "x", Mode.STOP),
        (Scope.JOB, "", Mode.STOP),
        (Scope.JOB, "../x", Mode.STOP),
        (Scope.CONTRACT, "short", Mode.STOP),
        (Scope.PROVIDER, "Open AI", Mode.STOP),
        (Scope.TOOL, "", Mode.STOP),
        (Scope.TOOL, "a\nb", Mode.STOP),
        (Scope.TOOL, "model_call_via_clawproxy", Mode.STOP),
        (Scope.TOOL, "Bash", Mode.NO_TOOLS),
        (Scope.PROVIDER, "openai", Mode.READ_ONLY_TOOLS),
    ],
)
def test_a_selector_that_can_stop_nothing_is_an_error(scope: Scope, name: str, mode: Mode) -> None:
    with pytest.raises(ClawproxyError):
        Orders().with_stop(scope, name, mode, "", AT)


@pytest.mark.parametrize("reason", ["x" * 201, "two\nlines", "\x1b[2J"])
def test_a_reason_is_one_printable_line(reason: str) -> None:
    with pytest.raises(ClawproxyError):
        Orders().with_stop(Scope.ALL, "", Mode.STOP, reason, AT)


def test_revocations_of_single_tokens_go_when_the_tokens_have_expired_and_no_others_do() -> None:
    orders = Orders()
    for kind, name in ((Revoked.TOKEN, "a" * 64), (Revoked.JTI, "i"), (Revoked.JOB, "j"), (Revoked.CONTRACT, HASH)):
        orders, _ = orders.with_revocation(kind, name, "", AT)
    assert orders.without_expired(AT) is orders
    later = orders.without_expired("2026-01-03T00:00:00.000Z")
    assert [str(r.kind) for r in later.revocations] == ["job", "contract"]
    assert later.last_number == orders.last_number


def test_there_are_only_so_many_stops() -> None:
    orders = Orders()
    for n in range(MAX_STOPS):
        orders, _ = orders.with_stop(Scope.JOB, f"job-{n}", Mode.STOP, "", AT)
    with pytest.raises(ClawproxyError):
        orders.with_stop(Scope.JOB, "one-more", Mode.STOP, "", AT)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda o: o.update(more=1),
        lambda o: o.pop("stops"),
        lambda o: o.update(orders_version="2"),
        lambda o: o.update(last_number=1),
        lambda o: o.update(last_number=True),
        lambda o: o["stops"][0].update(number=2),
        lambda o: o["stops"][0].update(scope="everything"),
        lambda o: o["stops"][0].update(mode="pause"),
        lambda o: o["stops"][0].update(name=7),
        lambda o: o["stops"][0].update(given_at="today"),
        lambda o: o["stops"][0].pop("reason"),
        lambda o: o["revocations"][0].update(kind="agent"),
        lambda o: o.update(revocations={}),
    ],
)
def test_what_is_not_whole_orders_is_refused(spoil: Any) -> None:
    document = some().to_json()
    spoil(document)
    with pytest.raises(ClawproxyError) as caught:
        parse_orders(document)
    assert caught.value.reason == "ORDER_INVALID"
