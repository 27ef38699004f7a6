"""Observed jobs whose calls have long or many names: what is not whole on record is never evidence against the job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clawproxy.receipts.report import Verdict

from ..clawproxy.standin_process import Provider
from .bed import CONTRACT, running_bed
from .test_observe import chat, observed, sealed

LONG = "mcp__" + "x" * 200
BOUND = {
    **CONTRACT,
    "allowed_tools": ["mail.send", "pay", "code", *(f"t{n}" for n in range(20))],
    "approvals": [{"action": "pay"}],
    "tool_arguments": {"mail.send": {"when": [{"argument": "to", "like": ["*@example.com"]}]}},
    "tool_classes": {
        **CONTRACT["tool_classes"],
        "mail.send": ["mcp__*_send"],
        "pay": ["mcp__*_pay"],
        "code": ["exec", LONG],
    },
}
ORDER = {"code": "tools.mcp__a_send; tools.not_allowed".replace(" ", "")}
INNER = {"code": f"tools.{LONG}"}
MANY = {"code": ";".join(f"tools.t{n}" for n in range(20)) + ";tools.not_allowed"}


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        (f"{LONG}_send", "use-a-tool", "POLICY_TOOL_ARGUMENTS"),
        (f"{LONG}_pay", "use-a-tool", "APPROVAL_REQUIRED"),
        ("exec", f"tool:exec({json.dumps(MANY, separators=(',', ':'))})", "POLICY_TOOL_NOT_ALLOWED"),
        ("exec", f"tool:exec({json.dumps(ORDER, separators=(',', ':'))})", "POLICY_TOOL_ARGUMENTS"),
        ("exec", f"tool:exec({json.dumps(INNER, separators=(',', ':'))})", None),
    ],
)
async def test_a_call_whose_names_are_not_whole_on_record_does_not_fail_an_observed_job(
    tmp_path: Path, provider: Provider, name: str, words: str, code: str | None
) -> None:
    async with running_bed(tmp_path / "s", provider, contract=BOUND) as bed:
        handle = await observed(bed)
        assert (await chat(bed, handle, words, tools=[tool(name)])).status == 200
        [called] = bed.records("receipt", "job-o")[0]["metadata"]["clawproxy"]["called"]
        assert called.get("would_refuse", {}).get("code") == code
        report = await sealed(bed)
        assert report.verdict is not Verdict.FAILED, report.findings
