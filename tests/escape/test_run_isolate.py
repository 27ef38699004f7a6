"""``clawproxy run --isolate`` as a person types it, with all attempts that need no place of their own for an agent."""

from __future__ import annotations

import json

import pytest

from .inside.attempt import ATTEMPTS
from .machine import AGENT, ROOT, STATE, a_machine, can_run
from .scenarios import PYTHON, START
from .score import Done, by_itself, judge, make_plan, strangers

_REASON = can_run()
pytestmark = pytest.mark.skipif(bool(_REASON), reason=_REASON or "runs")


@pytest.mark.slow
@pytest.mark.parametrize("user", [AGENT, ""])
def test_nothing_leaves_a_job_that_the_command_isolates(user: str) -> None:
    with a_machine(restless=False) as machine:
        rows = [row for row in ATTEMPTS.values() if not by_itself(row) and row.name != "sockets made later"]
        planned = make_plan(rows, machine.targets(machine.victim_pid))
        command = machine.python("clawproxy", "run", "--isolate", "--state", STATE, "--contract", "sdk")
        done = machine.run(
            ["env", "OPENAI_API_KEY=sk-the-real-one", *command, *(["--user", user] if user else []), "--",
             PYTHON, "-I", START],
            input=(json.dumps(planned) + "\n").encode(), cwd=ROOT,
        )  # fmt: skip
        told = done.stderr.decode()
        assert "ATTEMPTS DONE" in done.stdout.decode(), told[-3000:]
        outcomes = judge(machine, [Done(planned, done.stdout.decode())])
        assert {name: outcome.how for name, outcome in outcomes.items() if outcome.left} == {}
        assert strangers(machine) == {}
        assert b"sk-the-real-one" not in done.stdout
        assert "VERIFIED" in told, told[-3000:]
