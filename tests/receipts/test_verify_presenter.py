from __future__ import annotations

from typing import Any

import pytest
from clawproxy.receipts.report import Fault
from clawproxy.receipts.verify_presenter import check_presenter

ONE, TWO = "addr:10.0.0.1", "addr:127.0.0.2"


@pytest.mark.parametrize(
    ("event_type", "before", "detail"),
    [
        ("job_opened", None, {"presenter": None}),
        ("job_opened", None, {"presenter": ONE}),  # as recorded before there were strengths
        ("job_opened", None, {"presenter": ONE, "presenter_strength": "source-address"}),
        ("job_opened", None, {"presenter": TWO, "presenter_strength": "loopback-address"}),
        ("authority_changed", ONE, {"presenter": ONE, "presenter_strength": "source-address"}),
        ("authority_changed", ONE, {"presenter": TWO, "presenter_before": ONE, "rebound": True}),
        ("authority_changed", ONE, {"presenter": None, "presenter_before": ONE, "rebound": True}),
        ("authority_changed", None, {"presenter": TWO, "presenter_strength": "loopback-address"}),
    ],
)
def test_what_a_gateway_records_holds(event_type: str, before: str | None, detail: dict[str, Any]) -> None:
    assert check_presenter(event_type, detail, before, "x") == detail["presenter"]


@pytest.mark.parametrize(
    ("event_type", "before", "detail"),
    [
        ("authority_changed", ONE, {"presenter": TWO}),
        ("authority_changed", ONE, {"presenter": None}),
        ("authority_changed", ONE, {"presenter": TWO, "presenter_before": TWO, "rebound": True}),
        ("authority_changed", ONE, {"presenter": TWO, "presenter_before": ONE, "rebound": False}),
        ("authority_changed", ONE, {"presenter": TWO, "presenter_before": ONE}),
        ("job_opened", None, {"presenter": ONE, "presenter_before": None, "rebound": True}),
        ("job_opened", None, {"presenter": TWO, "presenter_strength": "source-address"}),
        ("job_opened", None, {"presenter": ONE, "presenter_strength": "loopback-address"}),
        ("job_opened", None, {"presenter": ONE, "presenter_strength": "mtls"}),
        ("job_opened", None, {"presenter": ONE, "presenter_strength": None}),
        ("job_opened", None, {"presenter": None, "presenter_strength": "source-address"}),
    ],
)
def test_another_presenter_and_a_strength_that_it_has_not_fail(
    event_type: str, before: str | None, detail: dict[str, Any]
) -> None:
    with pytest.raises(Fault) as caught:
        check_presenter(event_type, detail, before, "x")
    assert caught.value.rule == "J34"
