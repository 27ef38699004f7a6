"""The list of what can be explained: each call and refusal once, with the kind that its explanation has."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts import call_list
from clawproxy.receipts.call_list import CallList, list_calls
from clawproxy.receipts.calls import CalledOutcome, JudgedCall, Outcome, WouldRefuse
from clawproxy.receipts.explain import explain
from clawproxy.receipts.report import Finding, Verdict
from clawproxy.receipts.verify import load_bundle
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.trust import Trust

from .forge import Forge, numbered_receipt_id, plain_job, trust
from .test_effects import effect, effect_end, effect_start
from .workshop import Workshop, call, make_denied, make_end, make_start
from .workshop import trust as workshop_trust

ARGUMENTS = sha256_b64u(b"{}")


def listed(forge: Forge) -> CallList:
    return list_calls(forge.files(), trust())


def told(forge: Forge) -> list[tuple[str, str, str]]:
    return [(call.what, call.kind, call.outcome) for call in listed(forge).calls]


def test_calls_and_refusals_are_listed_in_the_order_in_which_they_left_or_were_refused() -> None:
    forge = Forge()
    forge.open()
    first = forge.intend(0)
    forge.deny(1000)
    second = forge.intend(1)
    forge.attest(second)
    forge.attest(first)
    forge.end()
    found = listed(forge)
    assert found.report.verdict is Verdict.VERIFIED
    assert [call.receipt_id for call in found.calls] == [numbered_receipt_id(n) for n in (0, 1000, 1)]
    assert [call.outcome for call in found.calls] == [
        "complete 200",
        "refused: POLICY_MODEL_NOT_ALLOWED",
        "complete 200",
    ]
    assert found.calls[1].what == "openai o1"


async def _of_every_kind(root: Path, *, observe: bool) -> dict[str, bytes]:
    shop = Workshop(root)
    grant = shop.create(observe=observe)
    job = await shop.job(grant)
    await call(job, grant)
    await effect(job, grant)
    if observe:
        would = (WouldRefuse("POLICY_MODEL_NOT_ALLOWED", "allowed_models"),)
        await call(job, grant, would_refuse=would)
        await job.attest(
            await job.intend(
                effect_start(grant, would_refuse=(WouldRefuse("EGRESS_NOT_ALLOWED", "egress_allowlist"),))
            ),
            effect_end(),
        )
    else:
        called = JudgedCall("shell", ARGUMENTS, CalledOutcome.DENIED, "POLICY_TOOL_DENIED: denied_tools")
        end = make_end(outcome=Outcome.CALL_REFUSED, tool_calls=("shell",), called=(called,))
        await job.attest(await job.intend(make_start(grant)), end)
        await job.deny(make_denied())
    await job.intend(make_start(grant))
    await job.intend(effect_start(grant))
    await shop.book.seal("job-1", force=True)
    await shop.end()
    return load_bundle(shop.jobs_dir / "job-1").files


@pytest.mark.parametrize(
    ("observe", "kinds"),
    [
        (False, ["allowed", "allowed", "answer_refused", "refused", "unknown", "unknown"]),
        (True, ["allowed", "allowed", "observed", "observed", "unknown", "unknown"]),
    ],
)
def test_each_is_of_the_kind_that_its_explanation_has(tmp_path: Path, observe: bool, kinds: list[str]) -> None:
    files = asyncio.run(_of_every_kind(tmp_path, observe=observe))
    found = list_calls(files, workshop_trust())
    assert [each.kind for each in found.calls] == kinds
    assert [explain(files, each.receipt_id, workshop_trust()).kind for each in found.calls] == kinds
    assert found.calls[1].what == "POST https://tickets.example.com:443"
    within = explain(files, found.calls[0].receipt_id, workshop_trust())
    for lines in (found.lines(), within.lines()):
        assert any("opened to observe" in line for line in lines) is observe
    if observe:
        assert found.calls[2].outcome == "complete 200, would have been refused: POLICY_MODEL_NOT_ALLOWED"
    else:
        assert found.calls[2].outcome.endswith(", a call of a tool in its answer was refused: POLICY_TOOL_DENIED")


def test_a_call_without_an_end_is_never_called_done() -> None:
    forge = Forge()
    forge.open()
    forge.intend(0)
    forge.recover([numbered_receipt_id(0)])
    forge.end()
    assert told(forge) == [("openai gpt-5-mini", "unknown", "unknown: no record answers it")]


def test_of_a_refusal_without_a_provider_method_and_destination_are_named() -> None:
    forge = Forge()
    forge.open()
    forge.deny(
        0, method="CONNECT", provider=None, model=None, destination="code.example:443", reason="EGRESS_NOT_ALLOWED"
    )
    forge.end()
    assert told(forge) == [("CONNECT code.example:443", "refused", "refused: EGRESS_NOT_ALLOWED")]


def test_a_call_without_a_model_is_named_by_its_route_and_one_without_a_route_by_what_did_not_match() -> None:
    forge = Forge()
    forge.open()
    forge.attest(forge.intend(0, model="unknown", route="models"))
    nothing: dict[str, Any] = {"method": "GET", "provider": None, "model": None, "route": None, "facts": None}
    forge.deny(1, **nothing, reason="ROUTE_NOT_FOUND", rule="routes of openai", step="route")
    forge.deny(2, **nothing, reason="TOKEN_REQUIRED", rule="bearer", step="authorize")
    forge.deny(3, method="GET", model=None, route="models", facts=None)
    forge.end()
    found = [call.what for call in listed(forge).calls]
    assert found == ["openai models", "GET (routes of openai)", "GET", "openai models"]


def test_only_the_last_are_listed_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_list, "MAX_LISTED", 3)
    forge = plain_job(calls=4, denials=0)
    found = listed(forge)
    assert [call.receipt_id for call in found.calls] == [numbered_receipt_id(n) for n in (1, 2, 3)]
    assert found.left_out == 1
    assert found.lines()[1].startswith("1 earlier ones are not listed")
    assert len(found.lines()) == 5


def test_a_job_without_calls_says_so() -> None:
    assert listed(plain_job(calls=0, denials=0)).lines() == ["bundle: VERIFIED, OK", "no call, and no refusal"]


def test_the_lines_are_printable_and_hold_the_same_facts_as_the_json() -> None:
    forge = Forge()
    forge.open()
    forge.deny(0, model="o1\nINJECTED: line \x1b[31m \u202e" + "x" * 200)
    forge.end()
    found = listed(forge)
    assert all(line.isprintable() and len(line) < 400 for line in found.lines())
    assert len(found.lines()) == 2
    assert found.to_json()["calls"][0]["receipt_id"] in found.lines()[1]
    json.dumps(found.to_json())


# -- bundles that do not hold ------------------------------------------------------------------------------------------


def test_a_bundle_that_is_changed_anywhere_is_listed_as_failed_or_not_at_all() -> None:
    forge = plain_job(calls=3, denials=1)
    files = forge.files()
    whole = [call.receipt_id for call in list_calls(files, trust()).calls]
    lines = files["receipts.jsonl"].splitlines(keepends=True)
    changed = [b"".join(lines[:n] + lines[n + 1 :]) for n in range(len(lines))]
    changed += [b"".join([*lines[:n], lines[n].replace(b'"', b"'", 1), *lines[n + 1 :]]) for n in range(len(lines))]
    for journal in changed:
        try:
            found = list_calls({**files, "receipts.jsonl": journal}, trust())
        except ClawproxyError as err:
            assert err.reason in ("HASH_MISMATCH", "MALFORMED_ENVELOPE", "RECORD_OUT_OF_PLACE")  # noqa: PT017
            continue
        assert found.report.verdict is Verdict.FAILED
        assert found.lines()[0].startswith("bundle: FAILED, ")
        assert [call.receipt_id for call in found.calls] == whole[: len(found.calls)]


def test_the_list_of_a_damaged_bundle_says_from_where_on_nothing_can_be_relied_on() -> None:
    files = plain_job(calls=2, denials=0).files()
    lines = files["receipts.jsonl"].splitlines(keepends=True)
    for n in range(1, len(lines)):
        changed = lines[n].replace(b'"timestamp":"20', b'"timestamp":"21', 1)
        assert changed != lines[n]
        journal = b"".join([*lines[:n], changed, *lines[n + 1 :]])
        found = list_calls({**files, "receipts.jsonl": journal}, trust())
        assert found.damaged_from == n
        assert found.lines()[1 : 1 + len(found.calls)] == [call.line() for call in found.calls]
        assert found.lines()[-1].startswith(f"nothing from record {n} on (receipts.jsonl:{n + 1}) can be relied on")
        assert "no call, and no refusal" not in found.lines()


def test_the_list_of_a_bundle_that_fails_elsewhere_says_that_it_may_not_be_all() -> None:
    files = plain_job(calls=1, denials=0).files()
    lines = files["receipts.jsonl"].splitlines(keepends=True)
    found = list_calls({**files, "receipts.jsonl": b"".join(lines[:-1])}, trust())
    assert (found.report.verdict, found.damaged_from) == (Verdict.FAILED, None)
    assert found.lines()[-1].startswith("the bundle is not as it should be")


def test_what_the_reader_refused_makes_the_list_that_of_a_failed_bundle() -> None:
    refused = [Finding("B01", "BUNDLE_NAME_REFUSED", "../evil", "a path that leads elsewhere")]
    report = list_calls(plain_job().files(), trust(), refused).report
    assert (report.verdict, report.reason) == (Verdict.FAILED, "BUNDLE_NAME_REFUSED")


def test_without_a_trust_file_the_list_is_that_of_an_incomplete_bundle() -> None:
    assert list_calls(plain_job().files(), Trust()).report.verdict is Verdict.INCOMPLETE
