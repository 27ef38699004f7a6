"""Another contract for a running job: who brings it, what is on record, and what a verifier says where it is spoilt."""

from __future__ import annotations

import errno
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from clawproxy.policies.contract import sign_contract
from clawproxy.receipts.contract_files import MAX_CONTRACT_CHANGES
from clawproxy.receipts.job import Job
from clawproxy.receipts.journal import JournalError
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.canonical import JsonObject, jcs_bytes
from clawproxy.tokens.digests import sha256_b64u
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.grant import Grant
from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.reasons import Refusal

from .faulty_disk import FaultyDisk
from .forge import POLICY_KEY as FORGE_POLICY_KEY
from .forge import START_MS as FORGE_START_MS
from .forge import Forge
from .forge import trust as forge_trust
from .workshop import (
    CONTRACT,
    POLICY_HASH,
    POLICY_KEY,
    PRESENTER,
    START_MS,
    Workshop,
    call,
    make_end,
    make_grant,
    make_start,
    trust,
)

NOW_S = START_MS // 1000


def tightened(name: str = "tightened", **over: Any) -> JsonObject:
    """The workshop's contract with fewer models, signed."""
    document = {**CONTRACT["payload"], "policy_name": name, "allowed_models": ["gpt-5-mini"], **over}
    return sign_contract({k: v for k, v in document.items() if k != "policy_hash"}, POLICY_KEY, CONTRACT["issued_at"])


TIGHT = tightened()
TIGHT_HASH: str = TIGHT["payload_hash_b64u"]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    shop = Workshop(tmp_path)
    yield shop
    await shop.end()


def later(grant: Grant, policy_hash: str = TIGHT_HASH, after_s: int = 10, **over: Any) -> Grant:
    return make_grant(
        grant.job_id,
        grant.sub,
        jti=f"{policy_hash} {after_s}",
        iat=NOW_S + after_s,
        policy_hash_b64u=policy_hash,
        **over,
    )


async def ask(shop: Workshop, grant: Grant, envelope: JsonObject = TIGHT, **over: Any) -> Job | Refusal:
    return await shop.book.job_for(grant, envelope["payload_hash_b64u"], envelope, PRESENTER, "reverse", **over)


async def changed(shop: Workshop, grant: Grant) -> tuple[Job, Grant]:
    """The job after one call under its first contract and one under the tighter."""
    job = await shop.job(grant)
    await call(job, grant)
    tight = later(grant)
    assert await ask(shop, tight) is job
    await call(job, tight)
    return job, tight


async def test_a_later_token_brings_a_running_job_under_another_contract_and_all_of_it_verifies(shop: Workshop) -> None:
    grant = shop.create()
    job, _ = await changed(shop, grant)
    assert job.policy_hash_b64u == TIGHT_HASH
    event = next(r for r in shop.records() if "policy_hash_b64u" in r["body"]["payload"].get("detail", {})
                 and r["t"] == "event")["body"]["payload"]  # fmt: skip
    assert event["event"]["event_type"] == "authority_changed"
    told = event["detail"]
    assert (told["previous_policy_hash_b64u"], told["policy_hash_b64u"]) == (POLICY_HASH, TIGHT_HASH)
    assert told["token"]["policy_hash_b64u"] == TIGHT_HASH
    kept = shop.jobs_dir / "job-1" / "contracts" / f"{TIGHT_HASH}.json"
    assert kept.read_bytes() == jcs_bytes(TIGHT)
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.VERIFIED, report.findings
    assert (report.facts["policy_hash_b64u"], report.facts["policy_hash_b64u_last"]) == (POLICY_HASH, TIGHT_HASH)
    manifest = json.loads((shop.jobs_dir / "job-1" / "MANIFEST.json").read_bytes())
    assert f"contracts/{TIGHT_HASH}.json" in [entry["path"] for entry in manifest["entries"]]
    for number, expected in (("", POLICY_HASH), (".0002", TIGHT_HASH)):
        bundle = json.loads((shop.jobs_dir / "job-1" / f"proof_bundle{number}.json").read_bytes())["payload"]
        assert bundle["metadata"]["clawproxy"]["policy_hash_b64u"] == expected
        assert {r["payload"]["binding"]["policy_hash"] for r in bundle["receipts"]} == {expected}


async def test_the_token_of_before_is_refused_from_then_on_also_after_a_restart(shop: Workshop) -> None:
    grant = shop.create()
    _, tight = await changed(shop, grant)
    unseen = later(grant, POLICY_HASH, 9)
    same_second = later(grant, POLICY_HASH, 10)
    for _ in range(2):
        assert shop.book.peek(grant, PRESENTER) is None
        for old in (grant, unseen, same_second):
            found = await ask(shop, old, CONTRACT)
            assert isinstance(found, Refusal)
            assert found.reason == "POLICY_HASH_MISMATCH"
        await shop.reopen()
        again = await ask(shop, tight)
        assert isinstance(again, Job)
        assert again.policy_hash_b64u == TIGHT_HASH
        await call(again, tight)


async def test_only_a_token_issued_later_still_brings_the_first_contract_back(shop: Workshop) -> None:
    grant = shop.create()
    job, tight = await changed(shop, grant)
    back = later(grant, POLICY_HASH, 11)
    assert await ask(shop, back, CONTRACT) is job
    await call(job, back)
    assert isinstance(await ask(shop, tight), Refusal)
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.VERIFIED, report.findings


async def test_before_there_is_a_token_only_one_issued_after_the_opening_brings_another(shop: Workshop) -> None:
    grant = shop.create()
    for after_s in (-5, 0):
        assert isinstance(await ask(shop, later(grant, after_s=after_s)), Refusal)
    assert isinstance(await ask(shop, later(grant, after_s=1)), Job)


async def test_what_the_gateway_mints_for_a_handle_brings_no_other_contract(shop: Workshop) -> None:
    grant = shop.create()
    await changed(shop, grant)
    renewed = later(grant, POLICY_HASH, 60)
    found = await ask(shop, renewed, CONTRACT, may_change=False)
    assert isinstance(found, Refusal)
    assert found.reason == "POLICY_HASH_MISMATCH"
    assert isinstance(await ask(shop, renewed, CONTRACT), Job)  # it is what may_change forbids, and nothing else


async def test_another_agent_or_presenter_or_contract_than_the_tokens_changes_nothing(shop: Workshop) -> None:
    grant = shop.create()
    job = await shop.job(grant)
    other_agent = make_grant("job-1", iat=NOW_S + 10, policy_hash_b64u=TIGHT_HASH)
    tight = later(grant)
    answers = [
        await ask(shop, other_agent),
        await shop.book.job_for(tight, TIGHT_HASH, TIGHT, "uid:0", "reverse"),
        await shop.book.job_for(later(grant, POLICY_HASH), TIGHT_HASH, TIGHT, PRESENTER, "reverse"),
    ]
    assert [found.reason for found in answers if isinstance(found, Refusal)] == [
        "POLICY_HASH_MISMATCH", "PRESENTER_MISMATCH", "POLICY_HASH_MISMATCH"
    ]  # fmt: skip
    assert job.policy_hash_b64u == POLICY_HASH
    assert not (shop.jobs_dir / "job-1" / "contracts").exists()


async def test_a_call_that_is_open_goes_on_and_one_that_was_only_judged_does_not_leave(shop: Workshop) -> None:
    grant = shop.create()
    job = await shop.job(grant)
    streaming = await job.intend(make_start(grant))
    judged = make_start(grant)
    tight = later(grant)
    assert await ask(shop, tight) is job
    with pytest.raises(ClawproxyError) as caught:
        await job.intend(judged)
    assert caught.value.reason == "POLICY_HASH_MISMATCH"
    await call(job, tight)
    receipt = await job.attest(streaming, make_end())
    assert receipt["payload"]["binding"]["policy_hash"] == POLICY_HASH
    await shop.book.seal("job-1")
    report = shop.verdict()
    assert report.verdict is Verdict.VERIFIED, report.findings


async def test_changes_are_bounded(shop: Workshop) -> None:
    grant = shop.create()
    job = await shop.job(grant)
    for n in range(1, MAX_CONTRACT_CHANGES + 1):
        policy_hash, envelope = (TIGHT_HASH, TIGHT) if n % 2 else (POLICY_HASH, CONTRACT)
        assert await ask(shop, later(grant, policy_hash, n), envelope) is job
    found = await ask(shop, later(grant, TIGHT_HASH, 1000))
    assert isinstance(found, Refusal)
    assert found.reason == "JOB_FULL"


async def test_a_contract_without_its_event_is_taken_away_when_the_job_is_opened_or_sealed(shop: Workshop) -> None:
    grant = shop.create()
    await call(await shop.job(grant), grant)
    folder = shop.jobs_dir / "job-1" / "contracts"
    await shop.book.close()
    folder.mkdir()
    (folder / f"{TIGHT_HASH}.json").write_bytes(jcs_bytes(TIGHT))
    report = shop.verdict()
    assert (report.verdict, [f.reason for f in report.findings]) == (
        Verdict.INCOMPLETE,
        ["FILE_UNLISTED", "NOT_SEALED"],
    )
    await shop.reopen()
    await shop.job(grant)
    assert list(folder.iterdir()) == []
    (folder / f"{TIGHT_HASH}.json").write_bytes(jcs_bytes(TIGHT))
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.VERIFIED


async def test_a_disk_that_does_not_take_the_contract_leaves_the_job_under_the_one_it_had(tmp_path: Path) -> None:
    disk = FaultyDisk()
    shop = Workshop(tmp_path, disk)
    grant = shop.create()
    job = await shop.job(grant)
    disk.fail = lambda operation, path: errno.ENOSPC if "contract.json" in path.name and operation == "create" else None
    found = await ask(shop, later(grant))
    assert isinstance(found, Refusal)
    assert found.reason == "EVIDENCE_UNAVAILABLE"
    assert job.policy_hash_b64u == POLICY_HASH
    disk.fail = lambda operation, path: None
    await call(job, grant)
    assert await ask(shop, later(grant)) is job
    await shop.book.seal("job-1")
    assert shop.verdict().verdict is Verdict.VERIFIED
    await shop.end()


@pytest.mark.parametrize("spoil", ["missing", "another", "stray"])
async def test_a_job_whose_contracts_are_not_as_they_were_is_damaged(shop: Workshop, spoil: str) -> None:
    grant = shop.create()
    _, tight = await changed(shop, grant)
    await shop.book.close()
    kept = shop.jobs_dir / "job-1" / "contracts" / f"{TIGHT_HASH}.json"
    if spoil == "missing":
        kept.unlink()
    elif spoil == "another":
        kept.write_bytes(jcs_bytes(CONTRACT))
    else:
        kept.with_name("notes.txt").write_bytes(b"x")
    await shop.reopen()
    found = await ask(shop, tight)
    assert isinstance(found, Refusal)
    assert found.reason == "JOB_DAMAGED"


async def test_an_approval_of_the_job_under_the_contract_of_before_is_not_recorded(shop: Workshop) -> None:
    grant = shop.create()
    job, _ = await changed(shop, grant)
    detail = {"scope": {"call": None, "policy_hash_b64u": POLICY_HASH}}
    with pytest.raises(ClawproxyError) as caught:
        await job.note("approval", detail)
    assert not isinstance(caught.value, JournalError)
    assert caught.value.reason == "APPROVAL_INVALID"


async def test_an_auditor_gives_every_contract_that_the_job_was_under(shop: Workshop) -> None:
    grant = shop.create()
    await changed(shop, grant)
    await shop.book.seal("job-1")
    files = load_directory(shop.jobs_dir / "job-1").files
    first, second = jcs_bytes(CONTRACT), jcs_bytes(TIGHT)
    assert verify_job(files, trust(), [first, second]).verdict is Verdict.VERIFIED
    for given in (first, second, [first], [jcs_bytes(tightened("third")), first]):
        report = verify_job(files, trust(), given)
        assert (report.verdict, report.reason) == (Verdict.FAILED, "POLICY_HASH_MISMATCH")


async def test_a_contract_of_a_reviewer_that_nobody_trusts_fails(shop: Workshop) -> None:
    grant = shop.create()
    stranger = sign_contract(TIGHT["payload"], SigningKey.from_seed(Role.POLICY, b"s" * 32), CONTRACT["issued_at"])
    await shop.job(grant)
    await ask(shop, later(grant), stranger)
    report = shop.verdict()
    assert (report.verdict, report.reason) == (Verdict.FAILED, "CLAIM_NOT_FOUND")


# -- forged ------------------------------------------------------------------------------------------------------------


def forged(spoil: Callable[[Forge], None] = lambda forge: None) -> dict[str, bytes]:
    """A job that a gateway might have made: call, change, call; records 3 and 4 begin the second segment."""
    forge = Forge()
    document = {**forge.document, "policy_name": "forged-tighter"}
    envelope = sign_contract(document, FORGE_POLICY_KEY, forge.contract["issued_at"])
    before, after = forge.policy_hash, str(envelope["payload_hash_b64u"])
    forge.torn[f"contracts/{after}.json"] = jcs_bytes(envelope)
    forge.open()
    forge.attest(forge.intend(0))
    forge.roll()
    forge.claims |= {"policy_hash_b64u": after, "iat": FORGE_START_MS // 1000 + 1, "jti": "token-2"}
    change = {"policy_hash_b64u": after, "previous_policy_hash_b64u": before}
    forge.event("authority_changed", {**forge.authority(), **change})
    forge.policy_hash = after
    forge.attest(forge.intend(1))
    forge.end()
    forge.facts_over["policy_hash_b64u"] = before

    def name_contract(number: int, payload: dict[str, Any]) -> None:
        payload["metadata"]["clawproxy"]["policy_hash_b64u"] = before if number == 1 else after

    forge.meddle["bundle"] = name_contract
    spoil(forge)
    return forge.files()


def _detail(forge: Forge, n: int = 4) -> dict[str, Any]:
    detail: dict[str, Any] = forge.records[n]["payload"]["detail"]
    return detail


def _file(forge: Forge) -> str:
    return next(name for name in forge.torn if name.startswith("contracts/"))


def _swapped(forge: Forge) -> None:
    forge.torn[_file(forge)] = jcs_bytes(forge.contract)


def _missing(forge: Forge) -> None:
    del forge.torn[_file(forge)]


def _extra(forge: Forge) -> None:
    extra = sign_contract({**forge.document, "policy_name": "extra"}, FORGE_POLICY_KEY, forge.contract["issued_at"])
    forge.torn[f"contracts/{extra['payload_hash_b64u']}.json"] = jcs_bytes(extra)


def _first_again(forge: Forge) -> None:
    forge.torn[f"contracts/{forge.contract['payload_hash_b64u']}.json"] = jcs_bytes(forge.contract)


def _stray(forge: Forge) -> None:
    forge.torn["contracts/notes.json"] = b"{}"


def _without_hashes(forge: Forge) -> None:
    for name in ("policy_hash_b64u", "previous_policy_hash_b64u"):
        del _detail(forge)[name]


def _without_before(forge: Forge) -> None:
    del _detail(forge)["previous_policy_hash_b64u"]


def _another_before(forge: Forge) -> None:
    _detail(forge)["previous_policy_hash_b64u"] = _detail(forge)["policy_hash_b64u"]


def _issued_no_later(forge: Forge) -> None:
    forge.claims["iat"] = FORGE_START_MS // 1000
    _detail(forge)["token"] = forge.token()
    token = forge.token()
    _detail(forge, 5).update({k: token[k] for k in ("token_hash_hex", "token_scope_hash_b64u")})


def _token_of_the_first(forge: Forge) -> None:
    forge.claims["policy_hash_b64u"] = _detail(forge)["previous_policy_hash_b64u"]
    _detail(forge)["token"] = forge.token()


def _intent_under_the_first(forge: Forge) -> None:
    _detail(forge, 5)["policy_hash_b64u"] = _detail(forge)["previous_policy_hash_b64u"]


def _intent_with_the_first_token(forge: Forge) -> None:
    _detail(forge, 5).update({k: _detail(forge, 1)[k] for k in ("token_hash_hex", "token_scope_hash_b64u")})


def _receipt_under_the_first(forge: Forge) -> None:
    forge.records[6]["payload"]["binding"]["policy_hash"] = _detail(forge)["previous_policy_hash_b64u"]


def _in_the_middle_of_a_segment(forge: Forge) -> None:
    forge.records[4], forge.records[3] = forge.records[3], forge.records[4]
    for n in (3, 4):
        forge.records[n]["payload"]["timestamp"] = forge.records[2]["payload"]["timestamp"]
    forge.records[3]["segment"] = 1


def _bundle_under_the_first(forge: Forge) -> None:
    del forge.meddle["bundle"]


def _on_the_opening(forge: Forge) -> None:
    _detail(forge, 0).update({k: _detail(forge)[k] for k in ("policy_hash_b64u", "previous_policy_hash_b64u")})


def test_a_forged_job_that_is_not_spoilt_verifies() -> None:
    report = verify_job(forged(), forge_trust())
    assert report.verdict is Verdict.VERIFIED, report.findings
    assert report.counts["segments"] == 2


@pytest.mark.parametrize(
    ("spoil", "rule", "reason"),
    [
        (_swapped, "J05", "POLICY_HASH_MISMATCH"),
        (_missing, "J34", "FILE_MISSING"),
        (_extra, "J34", "FILE_UNLISTED"),
        (_first_again, "J05", "POLICY_HASH_MISMATCH"),
        (_stray, "J01", "FILE_UNLISTED"),
        (_without_hashes, "J34", "EVIDENCE_MISMATCH"),
        (_without_before, "J34", "SCHEMA_VALIDATION_FAILED"),
        (_another_before, "J34", "EVIDENCE_MISMATCH"),
        (_issued_no_later, "J34", "EVIDENCE_MISMATCH"),
        (_token_of_the_first, "J34", "EVIDENCE_MISMATCH"),
        (_intent_under_the_first, "J35", "EVIDENCE_MISMATCH"),
        (_intent_with_the_first_token, "J35", "EVIDENCE_MISMATCH"),
        (_receipt_under_the_first, "J38", "RECEIPT_BINDING_MISMATCH"),
        (_in_the_middle_of_a_segment, "J34", "EVENT_OUT_OF_PLACE"),
        (_bundle_under_the_first, "J53", "EVIDENCE_MISMATCH"),
        (_on_the_opening, "J34", "SCHEMA_VALIDATION_FAILED"),
    ],
)
def test_a_spoilt_change_of_contract_fails(spoil: Callable[[Forge], None], rule: str, reason: str) -> None:
    report = verify_job(forged(spoil), forge_trust())
    first = report.findings[0]
    assert (report.verdict, first.rule, first.reason) == (Verdict.FAILED, rule, reason), report.findings


def test_each_call_is_decided_again_under_the_contract_that_was_in_force() -> None:
    """The model that only the second contract takes away is right before the change, and wrong after it."""

    def only_mini(forge: Forge, *, wide: str) -> None:
        document = {**forge.document, "policy_name": "forged-tighter", "allowed_models": ["gpt-5-mini"]}
        envelope = sign_contract(document, FORGE_POLICY_KEY, forge.contract["issued_at"])
        before, after = _detail(forge)["previous_policy_hash_b64u"], str(envelope["payload_hash_b64u"])
        forge.torn = {f"contracts/{after}.json": jcs_bytes(envelope)}
        forge.claims["policy_hash_b64u"] = after
        _detail(forge).update({"policy_hash_b64u": after, "token": forge.token()})
        _detail(forge, 5).update({k: forge.token()[k] for k in ("token_hash_hex", "token_scope_hash_b64u")})
        _detail(forge, 5)["policy_hash_b64u"] = forge.records[6]["payload"]["binding"]["policy_hash"] = after
        token = forge.token()["token_scope_hash_b64u"]
        forge.records[6]["payload"]["binding"]["token_scope_hash_b64u"] = token

        def name_contract(number: int, payload: dict[str, Any]) -> None:
            payload["metadata"]["clawproxy"]["policy_hash_b64u"] = before if number == 1 else after

        forge.meddle["bundle"] = name_contract
        for intent in {"before": (1,), "after": (5,), "never": ()}[wide]:
            receipt = forge.records[intent + 1]["payload"]
            _detail(forge, intent)["model"] = receipt["model"] = "gpt-5"
            identity = receipt["metadata"]["model_identity"]
            identity["model"] = {"name": "gpt-5", "provider": "openai"}
            receipt["metadata"]["model_identity_hash_b64u"] = sha256_b64u(jcs_bytes(identity))

    for wide, verdict, reason in (
        ("never", Verdict.VERIFIED, "OK"),
        ("before", Verdict.VERIFIED, "OK"),
        ("after", Verdict.FAILED, "CONTRACT_EXCEEDED"),
    ):
        report = verify_job(forged(lambda forge, wide=wide: only_mini(forge, wide=wide)), forge_trust())  # type: ignore[misc]
        assert (report.verdict, report.reason) == (verdict, reason), (wide, report.findings)
