"""``python -m tests.agents [NAME …] [--page FILE]``: install the agents, run every task on every way in, tell.

Names are those of ``install``. With ``--page`` what came of it is written down (docs/agents.md). Ends with 1 where
something is not as it must be; an agent that cannot be installed is told and left out.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

from ..clawproxy.standin_process import Provider, running_standin
from .agents import AGENTS, PI_ELSEWHERE, Agent, Way
from .install import PACKAGES, NotToBeHad, install
from .page import render
from .sessions import Session, isolation_missing, run_session, sessions_folder, without_its_shell


def _tell(label: str, session: Session, faults: list[str]) -> bool:
    side = {**session.side, **{f"{host} (past the gateway)": n for host, n in session.around.items()}}
    seconds, calls, verdict = session.ended.seconds, len(session.evidence.calls), session.evidence.verdict
    print(f"{session.agent.name:20} {label:14} {seconds:6.1f} s  {calls} calls  {verdict}  {side or ''}", flush=True)
    for fault in faults:
        print(f"    {fault}", flush=True)
    return not faults


def _refused(agent: Agent, programs: Path, folder: Path, provider: Provider) -> list[Session]:
    found = []
    for how in ("refuse", "strip", "text"):
        root = folder / f"{agent.name}-{how}".replace(" ", "-")
        changes = without_its_shell(agent, how)
        found.append(run_session(agent, agent.ways[0], programs, root, provider, **changes))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.agents", description="real agents against the stand-in")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PACKAGES)} [default: all]")
    parser.add_argument("--page", type=Path, help="write the results here")
    args = parser.parse_args()
    sessions: list[Session] = []
    refusals: dict[str, list[Session]] = {}
    missing: dict[str, str] = {}
    well = True
    not_isolated = isolation_missing()
    if not_isolated:
        print(f"not isolated: {not_isolated}")
    with sessions_folder() as folder, running_standin(folder / "provider") as provider:
        for agent in AGENTS:
            if args.names and agent.package not in args.names:
                continue
            try:
                programs = install(agent.package)
            except NotToBeHad as err:
                missing[agent.package] = str(err)
                print(f"left out: {err}", flush=True)
                continue
            for way in agent.ways:
                if way is Way.ISOLATED and not_isolated:
                    continue
                root = folder / f"{agent.name}-{way}".replace(" ", "-")
                session = run_session(agent, way, programs, root, provider)
                sessions.append(session)
                well &= _tell(str(way), session, session.faults())
            if agent in PI_ELSEWHERE:
                continue
            refusals[agent.name] = _refused(agent, programs, folder, provider)
            for how, session in zip(("refuse", "strip", "text"), refusals[agent.name], strict=True):
                well &= _tell(how, session, session.faults_of_refusal())
    if args.page:
        where = f"On {platform.system()}, {platform.machine()}, {os.cpu_count()} cores."
        args.page.write_text(render(sessions, refusals, missing, where))
    return 0 if well else 1


if __name__ == "__main__":
    raise SystemExit(main())
