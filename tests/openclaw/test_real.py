"""The real OpenClaw: it takes what is rendered, its own audit finds nothing critical, and it declares what is allowed.

Runs where ``make openclaw`` has installed one, or ``CLAWPROXY_OPENCLAW`` names one; else it is skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.canonical import JsonObject

from clawproxy.openclaw.audit import Audit, run_audit
from clawproxy.openclaw.own_audit import security_audit
from clawproxy.openclaw.render import Options, as_text
from clawproxy.openclaw.tools import VERSION

from ..agents.install import bin_of
from ..clawproxy.standin_process import running_standin
from ..gateway.bed import Bed, running_bed
from .contracts import CLASSES, FREE, GATEWAY, KEEPER, READER, RUNNER, powers, rendered


def _program() -> str:
    named, installed = os.environ.get("CLAWPROXY_OPENCLAW", ""), bin_of("openclaw")
    return named or (str(installed / "openclaw") if installed is not None else "")


OPENCLAW = _program()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not OPENCLAW, reason="no openclaw here; see: make openclaw"),
]
PLUGGED: JsonObject = {
    **READER,
    "policy_name": "plugged",
    "allowed_tools": ["fs.read", "browser.control", "web.read", "mail"],
    "tool_classes": {**CLASSES, "mail": ["outlook__*"]},
}
GATEWAY_TOKEN = "0123456789abcdef0123456789abcdef"
"""Of OpenClaw's own gateway, which no test starts."""


class House:
    """A home directory for OpenClaw, with nothing in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / ".openclaw"
        self.config = self.state / "openclaw.json"
        self.workspace = root / "work"
        self.state.mkdir(mode=0o700)
        self.workspace.mkdir()

    def write(self, config: Any) -> None:
        self.config.write_text(as_text(config))
        self.config.chmod(0o600)

    def environment(self, token: str = "none") -> dict[str, str]:
        path = f"{Path(OPENCLAW).parent}:{os.environ['PATH']}"
        names = {"CLAW_TOKEN": token, "OPENCLAW_GATEWAY_TOKEN": GATEWAY_TOKEN, "DO_NOT_TRACK": "1"}
        return {"PATH": path, "HOME": str(self.root), **names}

    async def openclaw(self, *arguments: str, token: str = "none") -> tuple[int, Any]:
        process = await asyncio.create_subprocess_exec(
            OPENCLAW,
            *arguments,
            env=self.environment(token),
            cwd=self.workspace,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 180)
        assert process.returncode is not None
        return process.returncode, json.loads(out) if out.startswith(b"{") else out

    async def audit(self, document: JsonObject, options: Options) -> Audit:
        return await run_audit(self.config, powers(document), options, self.environment(), program=OPENCLAW)


@pytest.fixture
def house(tmp_path: Path) -> House:
    (tmp_path / "home").mkdir()
    return House(tmp_path / "home")


async def test_it_is_the_version_that_this_was_made_for(house: House) -> None:
    _, said = await house.openclaw("--version")
    assert VERSION.encode() in said


@pytest.mark.parametrize(
    ("document", "options"),
    [
        (READER, Options(GATEWAY)),
        (RUNNER, Options(GATEWAY)),
        (RUNNER, Options(GATEWAY, isolated=True)),
        (KEEPER, Options(GATEWAY, sandbox=False)),
        (FREE, Options(GATEWAY)),
        (PLUGGED, Options(GATEWAY)),
    ],
    ids=["reader", "runner", "isolated", "no-sandbox", "free", "plugged"],
)
async def test_it_takes_what_is_rendered_and_finds_nothing_critical(
    house: House, document: JsonObject, options: Options
) -> None:
    house.write(rendered(document, options))
    code, said = await house.openclaw("config", "validate", "--json")
    assert (code, said["valid"], said["warnings"]) == (0, True, [])
    found = await house.audit(document, options)
    assert found.own is not None
    assert (found.own.outcome, found.own.summary and found.own.summary["critical"]) == ("done", 0), found.own
    assert found.wider == (), [item.line() for item in found.wider]


async def test_an_insecure_configuration_is_told_by_both(house: House) -> None:
    config = rendered(READER)
    config["gateway"] |= {"bind": "lan", "auth": {"mode": "none"}, "controlUi": {"allowedOrigins": ["*"]}}
    config["tools"]["elevated"] = {"enabled": True, "allowFrom": {"telegram": ["*"]}}
    config["channels"] = {"telegram": {"botToken": "123:abc", "dmPolicy": "open", "allowFrom": ["*"]}}
    house.write(config)
    found = await house.audit(READER, Options(GATEWAY))
    assert found.own is not None
    assert (found.own.outcome, found.own.exit_code) == ("done", 0)
    assert "gateway.bind_no_auth" in found.own.critical_ids
    assert not found.holds
    assert {"gateway.bind", "tools.elevated.allowFrom.telegram", "channels.telegram.dmPolicy"} <= {
        item.path for item in found.wider
    }


async def test_an_invalid_configuration_is_an_audit_that_failed(house: House) -> None:
    house.write({"tools": {"fs": {"workspaceOnly": "perhaps"}}})
    own = await security_audit(OPENCLAW, house.environment() | {"OPENCLAW_CONFIG_PATH": str(house.config)})
    assert (own.outcome, own.summary) == ("failed", None)


async def test_asking_it_runs_nothing_of_who_wrote_its_files_and_gives_them_no_secret(house: House) -> None:
    ran = house.root / "ran"
    (house.root / "x.cjs").write_text(f"require('fs').appendFileSync({str(ran)!r}, process.env.SECRET + ' ')\n")
    (house.state / ".env").write_text(f"NODE_OPTIONS=--require={house.root}/x.cjs\n")
    config = rendered(READER)
    config["agents"]["defaults"]["workspace"] = "${SECRET}"
    house.write(config)
    environment = {**house.environment(), "SECRET": "hunter2"}
    found = await run_audit(house.config, powers(READER), Options(GATEWAY), environment, program=OPENCLAW)
    assert (found.own and found.own.outcome, ran.exists()) == ("done", False)
    assert ".env.NODE_OPTIONS" in {item.path for item in found.wider}
    # without what holds it back, it happens
    await security_audit(OPENCLAW, environment | {"OPENCLAW_CONFIG_PATH": str(house.config)})
    assert "hunter2" in ran.read_text()


RUNS: Mapping[str, tuple[str, str]] = {
    "anthropic": ("claude-sonnet-5-5", "messages"),
    "openai": ("gpt-4o-mini", "responses"),
    "google": ("gemini-2.5-flash", "v1beta_stream_generate_content"),
}


@pytest.mark.parametrize("provider_name", RUNS)
async def test_it_asks_through_the_gateway_and_declares_no_tool_but_those_of_the_contract(
    tmp_path: Path, house: House, provider_name: str
) -> None:
    model, route = RUNS[provider_name]
    document = {**KEEPER, "allowed_providers": [provider_name], "allowed_models": [model]}
    with running_standin(tmp_path) as standin:
        keys = {"upstream": standin.url, "credential": f"file:{standin.key_files[provider_name]}"}
        sections = {"providers": {provider_name: keys}}
        async with running_bed(tmp_path / "s", standin, contract=document, sections=sections) as bed:
            options = Options(bed.gateway.addresses["reverse"], sandbox=False, workspace=str(house.workspace))
            house.write(rendered(document, options))
            code, said = await house.openclaw("agent", "exec", "say hello", "--json", token=bed.token())
            assert (code, said["ok"], said["model"]) == (0, True, model)
            for event, detail in (await house.audit(document, options)).events("after"):
                await bed.gateway.jobs.record_audit("job-1", event, detail)
            await bed.gateway.seal("job-1", force=False)
            _check(bed, document, model, route)


def _check(bed: Bed, document: JsonObject, model: str, route: str) -> None:
    intents = [record["detail"] for record in bed.records("intent")]
    assert {(detail["model"], detail["route"]) for detail in intents} == {(model, route)}
    declared = {tool for detail in intents for tool in detail["tools"]}
    assert declared
    assert declared <= set(powers(document).tools)
    assert bed.records("denial") == []
    assert bed.refusals() == []
    report = verify_job(load_directory(bed.state / "jobs" / "job-1").files, bed.trust())
    assert report.verdict is Verdict.VERIFIED, report.findings
    assert report.facts["attached"] == {"config_audited": 1, "config_compared": 1}
