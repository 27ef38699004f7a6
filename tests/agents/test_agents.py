"""Real agents, each under its starter contract: their tasks end well, their bundles verify, and a refusal stops them.

pi runs in every run of the tests, and is installed for it; the others where ``make agents`` has installed them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..clawproxy.standin_process import Provider, running_standin
from .agents import AGENTS, PI, PI_ELSEWHERE, Agent, Way
from .programs import programs_of
from .sessions import isolation_missing, run_session, sessions_folder, without_its_shell

pytestmark = pytest.mark.slow

_OTHERS = [agent for agent in AGENTS if agent.package != "pi"]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_standin(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    with sessions_folder() as root:
        yield root


def _ways(agents: list[Agent]) -> list[Any]:
    return [pytest.param(agent, way, id=f"{agent.name}, {way}") for agent in agents for way in agent.ways]


@pytest.mark.parametrize(("agent", "way"), _ways([PI, *_OTHERS]))
def test_a_task_with_a_tool_ends_well_and_its_bundle_verifies(
    agent: Agent, way: Way, provider: Provider, folder: Path
) -> None:
    if way is Way.ISOLATED and (missing := isolation_missing()):
        pytest.skip(missing)
    session = run_session(agent, way, programs_of(agent), folder / "session", provider)
    assert session.faults() == []


@pytest.mark.parametrize("agent", PI_ELSEWHERE, ids=lambda agent: agent.name)
def test_pi_speaks_every_format_through_the_gateway(agent: Agent, provider: Provider, folder: Path) -> None:
    session = run_session(agent, Way.PROXY, programs_of(agent), folder / "session", provider)
    assert session.faults() == []


@pytest.mark.parametrize("agent", [PI, *_OTHERS], ids=lambda agent: agent.name)
@pytest.mark.parametrize("how", ["refuse", "strip", "text"])
def test_without_its_shell_an_agent_is_told_and_ends(agent: Agent, how: str, provider: Provider, folder: Path) -> None:
    changes = without_its_shell(agent, how)
    session = run_session(agent, agent.ways[0], programs_of(agent), folder / "session", provider, **changes)
    assert session.faults_of_refusal() == []
