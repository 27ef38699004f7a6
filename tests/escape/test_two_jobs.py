"""Two isolated jobs at once, under two contracts: they never mix."""

from __future__ import annotations

import json

import pytest

from .machine import ROOT, a_machine, can_run

_REASON = can_run()
pytestmark = pytest.mark.skipif(bool(_REASON), reason=_REASON or "runs")

_ROUNDS = 3


def test_two_jobs_at_once_have_their_own_calls_on_record_and_nothing_of_each_other() -> None:
    with a_machine() as machine:
        done = machine.run(machine.python("tests.escape.two_jobs", str(_ROUNDS)), cwd=ROOT)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        told = json.loads(done.stdout)
    assert told["gateway"] == {}, "refusals that belong to no job"
    hashes = set()
    for name, model in (("one", "gpt-4o-mini"), ("two", "gpt-4o")):
        job = told[name]
        assert job["tried"] == {
            "own model: 200": _ROUNDS,
            "own model, own handle: 200": _ROUNDS,
            "other's model: 403": _ROUNDS,
            "own model, other's handle: 401": _ROUNDS,
            "other's model, other's handle: 401": _ROUNDS,
            "own host: 200": _ROUNDS,
            "other's path: 403": _ROUNDS,
            "other's path, other's handle: 401": _ROUNDS,
        }
        assert job["met"] == [name], "a listener of the other job's answered"
        assert job["verdict"] == "VERIFIED"
        assert len(job["records"]) == 3 * _ROUNDS
        assert {record["job_id"] for record in job["records"]} == {name}
        assert {record["detail"]["presenter"] for record in job["records"]} == {f"namespace:{name}"}
        assert {record["detail"].get("model") for record in job["records"]} <= {model, None}
        hashes |= {record["detail"]["policy_hash_b64u"] for record in job["records"]}
        assert sum(job["reasons"].values()) == 5 * _ROUNDS
    assert len(hashes) == 2
