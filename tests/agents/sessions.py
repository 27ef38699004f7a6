"""One task of one agent on one way in, and what must be true of it afterwards."""

from __future__ import annotations

import os
import re
import secrets
import socketserver
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clawproxy.policies.packaged import Starter, starter_document

from ..clawproxy.command_line import run_cli
from ..clawproxy.standin_process import Provider
from .agents import PROMPT, WORD_FILE, Agent, Start, Way
from .stage import Ended, Evidence, Stage, clawproxy_command

JOB = "task"
_PACKAGES = re.compile(r"registry\.[a-z]+\.[a-z]+")


@dataclass(frozen=True, slots=True)
class Session:
    """A task that was run. ``side`` counts what the agent asked of other hosts, or of its provider beside models, and
    the gateway refused; ``around`` what it asked of others past the gateway, which a base URL does not see."""

    agent: Agent
    way: Way
    work: Path
    word: str
    ended: Ended
    evidence: Evidence
    provider_saw: list[dict[str, Any]]
    side: Counter[str] = field(default_factory=Counter)
    around: Counter[str] = field(default_factory=Counter)

    @property
    def said(self) -> str:
        """The agent's last word."""
        return self.agent.last_word(self.ended.out)

    def faults(self) -> list[str]:
        """What is not as it must be; nothing of a session that is well."""
        ended, evidence = self.ended, self.evidence
        found = []
        if ended.late:
            found.append(f"it hung: ended after {ended.seconds:.0f} s")
        if ended.code:
            found.append(f"exit code {ended.code}: {(ended.err or ended.out)[-600:]}")
        if self.word not in self.said:
            found.append(f"its last word has not what the tool returned: {self.said[:300]!r}")
        if evidence.verdict != "VERIFIED":
            found.append(f"the bundle is {evidence.verdict}: {evidence.findings}")
        if len(evidence.calls) != self.agent.calls:
            found.append(f"{len(evidence.calls)} calls of models, expected {self.agent.calls}")
        if others := sorted({*self.side, *self.around} - self.agent.side):
            found.append(f"side traffic that is not known: {others}")
        if wrong := [line for line in self.provider_saw if line["credential"] != "right" or line["leaks"]]:
            found.append(f"the provider saw another credential, or a leak: {wrong[0]}")
        return found

    def faults_of_refusal(self) -> list[str]:
        """The same for a session under a contract that ``without_its_shell`` made."""
        ended, evidence = self.ended, self.evidence
        told = ended.out + ended.err
        found = []
        if ended.late:
            found.append(f"it hung: ended after {ended.seconds:.0f} s")
        if self.word in told:
            found.append("the tool ran")
        if _DENIED not in told and not ended.code:
            found.append(f"it neither says why nor fails: {told[-600:]}")
        if evidence.verdict != "VERIFIED":
            found.append(f"the bundle is {evidence.verdict}: {evidence.findings}")
        receipts = [receipt["metadata"]["clawproxy"] for receipt in evidence.records.get("receipt", [])]
        outcomes = {one["outcome"] for receipt in receipts for one in receipt.get("called", [])}
        denials = [denial for denial in evidence.denials if denial["reason"] == _DENIED]
        if not denials and "denied" not in outcomes:
            found.append("no refusal is on record")
        if outcomes & {"allowed", "approved"}:
            found.append("a call of a tool was delivered")
        return found


_DENIED = "POLICY_TOOL_DENIED"


def without_its_shell(agent: Agent, how: str) -> dict[str, Any]:
    """What to change in the starter of ``agent`` so that its shell tool is denied. ``how``: the request that declares
    it is refused (``refuse``), or goes out without it, and the answer that calls it all the same ends with an error
    (``strip``) or has a text in place of the call (``text``)."""
    starter = starter_document(Starter(agent.starter))
    return {
        "allowed_tools": [word for word in starter["allowed_tools"] if word != "shell.exec"],
        "denied_tools": [*starter["denied_tools"], "shell.exec"],
        "on_denied_tool": "refuse" if how == "refuse" else "strip",
        "on_denied_call": "refuse" if how == "text" else "error",
    }


def isolation_missing() -> str:
    """Why an agent cannot be isolated on this machine, in one line; nothing where it can."""
    if "--isolate" not in run_cli("run", "--help").out:
        return "clawproxy run has no --isolate"
    return "" if os.geteuid() == 0 else "isolating a job needs root here"


def run_session(
    agent: Agent,
    way: Way,
    programs: Path,
    root: Path,
    provider: Provider,
    *,
    document: dict[str, Any] | None = None,
    options: Sequence[str] = (),
    **changes: Any,
) -> Session:
    """Run the task of ``agent`` under its starter, or under ``document``, with ``changes``; ``root`` is a new folder
    for it. ``options`` are those of ``clawproxy run``."""
    root.mkdir(parents=True)
    stage = Stage(root, provider)
    stage.set_up((document or starter_document(Starter(agent.starter))) | changes)
    stage.work.chmod(0o777)  # an isolated agent is a user that nobody else is
    word = f"clover-{secrets.token_hex(4)}"
    (stage.work / WORD_FILE).write_text(word + "\n")
    seen_before = len(provider.seen())
    run = _by_command if way.by_command else _by_service
    ended, around = run(agent, way, programs, stage, options)
    evidence = stage.evidence(JOB)
    asked = [_side_of(denial) for denial in [*evidence.denials, *stage.refused_early()]]
    side = Counter(host for host in asked if host)
    return Session(agent, way, stage.work, word, ended, evidence, provider.seen()[seen_before:], side, around)


def _side_of(denial: dict[str, Any]) -> str:
    """The host that a refused request was for, where it was no call of a model; nothing else is told of one."""
    if denial["reason"] == "ROUTE_NOT_FOUND":
        return host_of(denial)
    # a request in a tunnel that leads nowhere has a record of its own; the tunnel's counts
    if denial["method"] not in ("CONNECT", "DNS") or denial["reason"] not in _ELSEWHERE:
        return ""
    return host_of(denial)


def host_of(denial: dict[str, Any]) -> str:
    """The host that a refused request was for, as the table names it; nothing where none is on record."""
    if denial["reason"] == "ROUTE_NOT_FOUND":
        return _PROVIDER_HOSTS.get(denial["rule"].removeprefix("routes of "), "")
    return shown_host(str(denial.get("destination") or "").partition(":")[0])


_ELSEWHERE = ("EGRESS_NOT_ALLOWED", "NAME_NOT_ALLOWED")


def shown_host(host: str) -> str:
    """A host as the table names it: the machine's own registry of packages is no name for a file of the project."""
    if host.endswith(".arpa"):
        return "names of addresses"
    return "the npm registry" if _PACKAGES.fullmatch(host) else host


_PROVIDER_HOSTS = {
    "anthropic": "api.anthropic.com",
    "openai": "api.openai.com",
    "google": "generativelanguage.googleapis.com",
    "openrouter": "openrouter.ai",
}


def _by_command(
    agent: Agent, way: Way, programs: Path, stage: Stage, more: Sequence[str]
) -> tuple[Ended, Counter[str]]:
    start = agent.start(way)
    _write(stage, start, {})
    arguments = [_filled(part, {"home": str(stage.home)}).replace(PROMPT, agent.task(way)) for part in start.arguments]
    options = [*more, "--isolate"] if way is Way.ISOLATED else [*more]
    options += ["--state", str(stage.state), "--contract", str(stage.root / "contract.json"), "--job", JOB]
    command = clawproxy_command("run", *options, "--", *arguments)
    return stage.run(command, stage.environment(programs, start.env), agent.timeout_s), Counter()


def _by_service(
    agent: Agent, way: Way, programs: Path, stage: Stage, _options: Sequence[str]
) -> tuple[Ended, Counter[str]]:
    start = agent.start(way)
    with stage.serving() as ready, other_hosts() as others:
        stage.cli("job", "open", "--contract", stage.root / "contract.json", "--job", JOB)
        token = stage.cli("token", "mint", "--job", JOB, "--ttl", "30m").strip()
        places = {
            "base": ready["reverse"],
            "proxy": ready["regular"].replace("://", f"://job:{token}@", 1),
            "ca": ready["ca"],
            "token": token,
            "home": str(stage.home),
        }
        _write(stage, start, places)
        env = {name: _filled(value, places) for name, value in start.env.items()}
        if way is Way.BASE_URL:
            # what does not use the base URL would leave here; it is counted, and refused
            env |= {"HTTPS_PROXY": others.url, "https_proxy": others.url, "NO_PROXY": "127.0.0.1,localhost"}
        arguments = [_filled(part, places).replace(PROMPT, agent.task(way)) for part in start.arguments]
        ended = stage.run(arguments, stage.environment(programs, env), agent.timeout_s)
        stage.cli("job", "seal", JOB)
    return ended, others.asked


def _write(stage: Stage, start: Start, places: dict[str, str]) -> None:
    for folder, files in ((stage.home, start.files), (stage.work, start.project)):
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_filled(text, places))


def _filled(text: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        text = text.replace("{" + name + "}", value)
    return text


# -- what would leave beside the gateway ---------------------------------------------------------------------------


class _Refuser(socketserver.ThreadingTCPServer):
    """A proxy that lets nothing through and counts the hosts that it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Refusal)
        self.asked: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Refusal(socketserver.StreamRequestHandler):
    timeout = 10

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, _Refuser)
        words = self.rfile.readline(4096).split()
        if len(words) < 2:
            return
        while self.rfile.readline(4096).strip():
            pass
        host = words[1].decode("latin-1").rpartition("/")[2].partition(":")[0]
        server.asked[shown_host(host)] += 1
        self.wfile.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


@contextmanager
def sessions_folder() -> Iterator[Path]:
    """A folder for sessions that every user may enter, gone with the context."""
    with tempfile.TemporaryDirectory(prefix="agents-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def other_hosts() -> Iterator[_Refuser]:
    """A ``_Refuser`` that serves as long as the context."""
    with _Refuser() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
