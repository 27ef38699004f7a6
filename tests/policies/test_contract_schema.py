"""The JSON Schema of a contract beside the reader of contracts: never stricter, and as strict where it can say so."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import jsonschema_rs
import pytest
from clawproxy.policies.claw_contract import KNOWN_FIELDS
from clawproxy.policies.contract import parse_contract
from clawproxy.policies.contract_schema import contract_schema
from clawproxy.policies.packaged import Starter, packaged_file, starter_document
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.errors import ClawproxyError

from .makers import INVOICE_TRIAGE, REFUND_ASSISTANT, claw
from .small_contracts import contract

SCHEMA = jsonschema_rs.validator_for(contract_schema())
FULL: JsonObject = claw(
    policy_hash="to be filled",
    tool_arguments={
        "ticket.read": {
            "schema": {"type": "object"},
            "when": [
                {"argument": "id", "like": ["T-*"], "not_like": ["*x"], "max_chars": 9, "optional": True},
                {"argument": "n", "one_of": ["a", 1, True], "at_least": 1, "at_most": 2},
            ],
        }
    },
    on_denied_tool="strip",
    on_denied_call="refuse",
    read_only_tools=["search"],
    allowed_provider_features=["state:prompt", "url:image_url.url"],
    data_boundaries={"pii": "mask", "export": "deny"},
    data_classes_allowed=["public"],
    data_classes_denied=["restricted"],
    tool_data_classes={"search": ["public"]},
    tool_data_access={"search": ["public"]},
    egress_allowlist=[
        {"host": "*.a.example", "methods": ["GET"], "paths": ["/v1/*", "/x"], "scheme": "https", "port": 8443},
        {"host": "b.example", "paths": ["/*"], "credential": "one"},
        {"host": "10.0.0.1", "paths": ["/*"], "scheme": "http", "client_credentials": True},
    ],
    budgets={"requests": 5, "cost_microusd": 7, "per_contract": {"total_tokens": 9}},
    elevated=True,
    model_routing={"must_proxy_via": "clawproxy", "receipts_required": True},
    approvals=[{"action": "refund", "required": True, "approver_group": "desk", "deadline_s": 60}],
    token_constraints={"cst_ttl_minutes": 30, "pin_policy_hash": True, "job_bound": True},
    token_requirements={"require_cst": True, "pin_cst_to_policy_hash": True, "max_ttl_minutes": 30},
    evidence_requirements={"require_gateway_receipts": True, "require_proof_bundle": True},
)
ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 99, 3601, 70_000, 10**15 + 1, 1.5, "", " a", "a ", "a\nb", "*", "a*", "v1", "A b"),
    *("x" * 129, "x" * 257, "x" * 1025, [], ["a"], [1], ["a"] * 257, {}, {"a": "b"}, {"a": []}, {"a": ["b"]}),
    *("model_call_via_clawproxy", "deny", "state:x", "/a*b", "a.example", "*.a", "http", "GET", ["GET", "TRACE"]),
)
BEYOND = (
    "not one of allowed_tools",
    "the action stands there twice",
    "not in normal form",
    "not a host",
    "an address has no server name",
    "no request can have this path",
    "not a JSON Schema that can be used",
    "two shapes in one contract",
    "wrong number of entries",  # a list of methods may name one twice
)
"""What no schema can say, or this one leaves to the reader."""


def _fault(document: JsonObject) -> ClawproxyError | None:
    try:
        parse_contract(document)
    except ClawproxyError as err:
        return err
    return None


@pytest.mark.parametrize("document", [*map(starter_document, Starter), REFUND_ASSISTANT, INVOICE_TRIAGE, FULL], ids=str)
def test_every_example_fits(document: JsonObject) -> None:
    assert _fault(document) is None
    SCHEMA.validate(document)


def test_the_full_contract_has_every_field_and_the_schema_says_something_of_each() -> None:
    assert set(FULL) == set(KNOWN_FIELDS)
    properties = contract_schema()["properties"]
    assert list(properties) == list(KNOWN_FIELDS)
    assert all(row["description"].endswith(".") and len(row) > 1 for row in properties.values())


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in inner:
        yield from _places(member, (*place, name))


def _changed(document: JsonObject, place: tuple[Any, ...], change: str, value: Any) -> JsonObject:
    changed = copy.deepcopy(document)
    at: Any = changed
    for name in place[:-1]:
        at = at[name]
    if change == "other":
        at[place[-1]] = value
    elif change == "gone":
        del at[place[-1]]
    elif isinstance(at[place[-1]], dict):
        at[place[-1]]["unknown_member"] = value
    return changed


def test_what_the_reader_refuses_the_schema_refuses_and_nothing_else() -> None:
    told, refused = [], 0
    for place in [place for place in _places(FULL) if place and "schema" not in place[:-1]]:
        tried = [_changed(FULL, place, "other", value) for value in ODD]
        tried += [_changed(FULL, place, "gone", None), _changed(FULL, place, "more", True)]
        for document in tried:
            fault, fits = _fault(document), SCHEMA.is_valid(document)
            refused += fault is not None and not fits
            if fault is None and not fits:
                told.append(f"{place}: the schema alone refuses {document[place[0]]!r:.80}")
            if fault is not None and fits and not fault.message.startswith(BEYOND):
                told.append(f"{place}: the reader alone refuses: {fault}")
    assert not told, "\n".join([str(len(told)), *told[:20]])
    assert refused > 1_000


def test_generated_contracts_fit() -> None:
    random = Random(1)
    for _ in range(500):
        document = contract(random)
        assert "policy_name" not in document or SCHEMA.is_valid(document), document


def test_an_unknown_field_is_refused_at_every_level() -> None:
    for place in [(), *(place for place in _places(FULL) if place)]:
        at: Any = FULL
        for name in place:
            at = at[name]
        if isinstance(at, dict) and place[-1:] != ("schema",) and "tool_" not in str(place[-1:]):
            document = copy.deepcopy(FULL)
            inner: Any = document
            for name in place:
                inner = inner[name]
            inner["Unknown Field"] = "deny"
            assert not SCHEMA.is_valid(document), place


def test_the_file_that_ships_is_the_one_that_is_made() -> None:
    shipped = packaged_file("contract.schema.json")
    assert json.loads(shipped) == contract_schema(), "run: make docs"
    assert (Path(__file__).parents[2] / "configs" / "contract.schema.json").read_bytes() == shipped
