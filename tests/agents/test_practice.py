"""Contracts from practice: an agent's observed session gives a contract under which the same session passes, and a
changed one does not. Each refusal by its code, and by what it is about."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ..clawproxy.command_line import run_cli
from ..clawproxy.standin_process import Provider, running_standin
from .agents import CLAUDE, OPENCLAW, PI, Way
from .changes import ANSWER, EXIT_CODE, HABITS, NEW_HOST, Habit
from .programs import programs_of
from .sessions import JOB, Session, host_of, isolation_missing, run_session, sessions_folder

pytestmark = pytest.mark.slow

NOTHING: dict[str, Any] = {"allowed_models": [], "allowed_tools": [], "denied_tools": [], "tool_classes": {}}
QUIET = (PI, CLAUDE, OPENCLAW)
"""Agents that ask no host but their provider's. The others would really reach theirs in an observed job, so they are
observed only where nobody can."""
CURL_KNOWS_NO_SUCH_NAME = "6"


@cache
def _reaches_others() -> bool:
    try:
        with socket.create_connection(("chatgpt.com", 443), timeout=3):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_standin(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with sessions_folder() as root:
        yield root


@pytest.fixture(scope="module")
def suggested_for(provider: Provider, folder: Path) -> Callable[[Habit], dict[str, Any]]:
    """The contract that is suggested for an agent, which is observed once: in a job that allows nothing."""
    found: dict[str, dict[str, Any]] = {}

    def suggested(habit: Habit) -> dict[str, Any]:
        name = habit.agent.package
        if name not in found:
            found[name] = observed_and_suggested(habit, folder / name, provider)
        return found[name]

    return suggested


def observed_and_suggested(habit: Habit, root: Path, provider: Provider) -> dict[str, Any]:
    """Observe a session under a contract that allows nothing; the contract that is suggested from its bundle."""
    programs = programs_of(habit.agent)
    session = run_session(
        habit.usual, Way.RUN, programs, root, provider, options=("--observe",), on_denied_tool="refuse", **NOTHING
    )
    assert session.faults() == []
    intents = [intent["detail"] for intent in session.evidence.records["intent"]]
    assert any("would_refuse" in intent for intent in intents)  # a handshake by itself asks for nothing
    out = root / "suggested.json"
    done = run_cli("contract", "suggest", root / "state" / "jobs" / JOB, "-o", out, state=root / "state")
    assert done.code == 0, done.err
    document: dict[str, Any] = json.loads(out.read_bytes())
    return document


@pytest.fixture
def again(
    suggested_for: Callable[[Habit], dict[str, Any]], provider: Provider, tmp_path: Path
) -> Iterator[Callable[..., Session]]:
    """Run an agent of a habit under what was suggested for it."""
    with sessions_folder() as root:

        def run(habit: Habit, agent: Any, way: Way = Way.RUN) -> Session:
            if habit.agent not in QUIET and _reaches_others():
                pytest.skip("an observed agent would reach hosts of others from here")
            programs = programs_of(habit.agent)
            return run_session(agent, way, programs, root / "session", provider, document=suggested_for(habit))

        yield run


def refusals(session: Session) -> set[tuple[str, str]]:
    """What was refused, but for the side traffic of the agent: reasons and rules."""
    found = [denial for denial in session.evidence.denials if host_of(denial) not in session.agent.side]
    return {(denial["reason"], denial["rule"]) for denial in found}


def ended_without_its_word(session: Session) -> None:
    assert not session.ended.late
    assert session.word not in session.ended.out
    assert (session.evidence.verdict, session.evidence.findings) == ("VERIFIED", [])


each_agent = pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.agent.name)


@each_agent
def test_the_same_session_passes_under_what_was_suggested(habit: Habit, again: Callable[..., Session]) -> None:
    session = again(habit, habit.usual)
    assert session.faults() == []
    assert refusals(session) == set()


@each_agent
def test_another_model_is_refused(habit: Habit, again: Callable[..., Session]) -> None:
    session = again(habit, habit.with_another_model)
    ended_without_its_word(session)
    assert refusals(session) == {("POLICY_MODEL_NOT_ALLOWED", f'allowed_models has no entry for "{habit.other_model}"')}


@each_agent
def test_a_new_tool_is_refused(habit: Habit, again: Callable[..., Session]) -> None:
    session = again(habit, habit.with_a_new_tool)
    ended_without_its_word(session)
    assert refusals(session) == {("POLICY_TOOL_NOT_ALLOWED", f'allowed_tools has no entry for "{habit.left_out}"')}


@each_agent
def test_a_call_of_a_new_tool_is_not_delivered(habit: Habit, again: Callable[..., Session]) -> None:
    session = again(habit, habit.called_otherwise)
    ended_without_its_word(session)
    receipts = [receipt["metadata"]["clawproxy"] for receipt in session.evidence.records["receipt"]]
    called = [entry for receipt in receipts for entry in receipt.get("called", ())]
    why = f'POLICY_TOOL_NOT_ALLOWED: allowed_tools has no entry for "{habit.named}"'
    assert {(entry["name"].rpartition(".")[2], entry["outcome"], entry["rule"]) for entry in called} == {
        (habit.calls[0], "denied", why)
    }
    # an agent may ask again, for which the contract has no means; it is not told anything else
    assert {reason for reason, _ in refusals(session)} <= {"BUDGET_EXCEEDED"}


@each_agent
def test_a_new_host_is_refused(habit: Habit, again: Callable[..., Session]) -> None:
    session = again(habit, habit.with_a_new_host)
    assert refusals(session) == {
        ("EGRESS_NOT_ALLOWED", f'egress_allowlist has no entry for "{NEW_HOST}" (https, port 443)')
    }
    assert session.side[NEW_HOST] == 1
    answer = json.loads((session.work / ANSWER).read_bytes())
    assert answer["error"]["code"] == "EGRESS_NOT_ALLOWED"
    assert session.word in session.said  # the rest of the command is as ever
    assert session.evidence.verdict == "VERIFIED"


@each_agent
def test_a_new_host_does_not_exist_for_an_isolated_agent(habit: Habit, again: Callable[..., Session]) -> None:
    if missing := isolation_missing():
        pytest.skip(missing)
    session = again(habit, habit.with_a_new_host, Way.ISOLATED)
    assert refusals(session) == {("NAME_NOT_ALLOWED", "names of the contract")}
    assert session.side[NEW_HOST] >= 1  # curl asks for both kinds of address
    assert (session.work / EXIT_CODE).read_text().strip() == CURL_KNOWS_NO_SUCH_NAME
    assert not (session.work / ANSWER).exists()
    assert session.word in session.said
    assert session.evidence.verdict == "VERIFIED"
