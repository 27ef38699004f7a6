"""From practice to a contract, with real SDKs: observe, suggest, sign, and the same program runs under it; a changed
one is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ..cage.rig import needs_root
from .command_line import run_cli, spawn_cli
from .from_practice import sign, suggest_and_sign
from .standin_process import Provider, running_standin

AGENT = """
import json, os, sys, anthropic, openai
from google import genai
from google.genai import types
model, tool, far = sys.argv[1:4]
say = [{"role": "user", "content": "hello"}]
function = {"type": "function", "function": {"name": tool, "parameters": {"type": "object"}}}
refused = []
def may(call):
    try:
        call()
    except (openai.APIStatusError, anthropic.APIStatusError) as err:
        refused.append(err.response.headers["x-clawproxy-reason"])
    except genai.errors.APIError as err:
        refused.append("google " + str(err.code))
one = openai.OpenAI(max_retries=0)
two = anthropic.Anthropic(max_retries=0)
three = genai.Client()
may(lambda: one.chat.completions.create(model="gpt-4o-mini", messages=say, max_tokens=50))
may(lambda: one.chat.completions.create(model="gpt-4o-mini", messages=[
    {"role": "user", "content": "tool:" + tool}], tools=[function], max_tokens=50))
may(lambda: one.responses.create(model="gpt-4o-mini", input="hello", max_output_tokens=50))
may(lambda: list(one.chat.completions.create(model=model, messages=say, stream=True, max_tokens=50)))
may(lambda: two.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=say,
    tools=[{"name": "Read", "input_schema": {"type": "object"}}]))
may(lambda: three.models.generate_content(model="gemini-2.5-flash", contents="hello",
    config=types.GenerateContentConfig(max_output_tokens=50)))
print(json.dumps(refused))
"""
CONTRACT = {"policy_name": "nothing yet", "allowed_models": ["gpt-4o-mini"], "budgets": {"requests": 2}}
PROGRAM = ("gpt-4.1", "ticket_read", "")


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_standin(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Path:
    root = provider.make_state(tmp_path_factory.mktemp("practice") / "state", "openai", "anthropic", "google")
    run_cli("keys", "new", "receipt", "token", "policy", state=root)
    return root


def run(state: Path, contract: str, job: str, *program: str, observe: bool = False) -> list[str]:
    """What of the program's calls was refused."""
    flags = ["--observe"] if observe else []
    command = [sys.executable, "-c", AGENT, *program]
    done = spawn_cli("run", *flags, "--contract", contract, "--job", job, "--", *command, state=state)
    assert done.code == 0, done.err
    assert "VERIFIED" in done.err
    refused: list[str] = json.loads(done.out)
    return refused


@pytest.fixture(scope="module")
def first(state: Path) -> str:
    """The contract of the observed run ``trial``, by its hash."""
    signed = sign(state, CONTRACT, "first")
    assert run(state, signed, "trial", *PROGRAM, observe=True) == []
    return signed


@pytest.mark.slow
@pytest.mark.usefixtures("first")
def test_what_was_observed_passes_under_the_suggested_contract_and_what_is_new_does_not(state: Path) -> None:
    bundle = str(state / "jobs" / "trial")
    out = state.parent / "suggested.json"
    told = run_cli("contract", "suggest", bundle, "--name", "tickets", "-o", str(out), state=state)
    assert told.code == 0, told.err
    document = json.loads(out.read_text())
    assert document["allowed_providers"] == ["anthropic", "google", "openai"]
    assert document["allowed_models"] == ["claude-haiku-4-5", "gemini-2.5-flash", "gpt-4.1", "gpt-4o-mini"]
    assert document["allowed_tools"] == ["fs.read", "ticket_read"]
    assert document["tool_classes"] == {"fs.read": ["Read"], "ticket_read": ["ticket_read"]}
    assert document["budgets"]["requests"] == 9
    assert run_cli("contract", "check", str(out), "--strict", state=state).code == 0
    trial = run_cli("contract", "test", str(out), bundle, state=state)
    assert (trial.code, "changed" in trial.out.splitlines()[-1]) == (0, True), trial.out

    again, signed = suggest_and_sign(state, "trial", name="tickets")
    assert again == document
    assert run(state, signed, "same", *PROGRAM) == []
    assert run(state, signed, "model", "gpt-4.1-nano", *PROGRAM[1:]) == ["POLICY_MODEL_NOT_ALLOWED"]
    assert run(state, signed, "tool", PROGRAM[0], "mail_send", "") == ["POLICY_TOOL_NOT_ALLOWED"]

    # an enforced bundle may be used as well; what it was refused is told, not covered
    more = run_cli("contract", "suggest", str(state / "jobs" / "tool"), "--from", str(out), "--json", state=state)
    assert more.code == 0, more.err
    added = json.loads(more.out)
    assert added["added"] == []
    assert any("POLICY_TOOL_NOT_ALLOWED" in line for line in added["uncovered"])


@pytest.mark.slow
@pytest.mark.usefixtures("first")
def test_as_yaml_it_says_how_often_each_was_needed_and_says_the_same(state: Path) -> None:
    bundle = str(state / "jobs" / "trial")
    text = run_cli("contract", "suggest", bundle, state=state).out
    as_json = json.loads(run_cli("contract", "suggest", bundle, "--json", state=state).out)["contract"]
    assert YAML(typ="safe").load(StringIO(text)) == as_json
    [line] = [line for line in text.splitlines() if '- "gpt-4o-mini"' in line]
    assert "# 3 calls, 2" in line
    assert line.endswith("trial")
    assert text.startswith("# made by clawproxy contract suggest")
    merged = run_cli("contract", "suggest", bundle, "--from", str(state.parent / "first.json"), state=state)
    assert "adds " in merged.err
    assert "allowed_models: gpt-4.1 (1 call" in merged.err
    assert "budgets.requests: 2 becomes 9" in merged.err


@pytest.mark.slow
def test_a_bundle_that_does_not_verify_or_is_not_sealed_is_refused(state: Path, first: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in (state / "jobs" / "trial").iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    journal = copy / "receipts.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"gpt-4.1", b"gpt-4.2"))
    told = run_cli("contract", "suggest", str(copy), state=state)
    assert told.code == 2
    assert "does not verify" in told.err
    assert told.out == ""
    run_cli("job", "open", "--contract", first, "--job", "open", "--observe", state=state)
    told = run_cli("contract", "suggest", str(state / "jobs" / "open"), state=state)
    assert (told.code, "NOT_SEALED" in told.err) == (2, True)
    stranger = run_cli("contract", "suggest", str(state / "jobs" / "trial"), state=tmp_path / "elsewhere")
    assert stranger.code == 2


ISOLATED_AGENT = """
import json, sys, urllib.error, urllib.request
body = json.dumps({"model": sys.argv[1], "max_tokens": 20, "messages": [{"role": "user", "content": "hello"}]})
headers = {"content-type": "application/json", "authorization": "Bearer unused"}
url = "https://api.openai.com/v1/chat/completions"
for request in (urllib.request.Request(url, body.encode(), headers), "https://telemetry.example.com/v1/x"):
    try:
        print(urllib.request.urlopen(request, timeout=60).status)
    except urllib.error.HTTPError as err:
        print(err.code)
    except OSError:
        print("no such name")
"""


@pytest.mark.slow
@needs_root
def test_an_isolated_agent_is_observed_and_then_held_to_what_it_did(state: Path, first: str) -> None:
    def isolated(contract: str, job: str, model: str, *flags: str) -> list[str]:
        command = ["/usr/bin/python3", "-c", ISOLATED_AGENT, model]
        done = spawn_cli("run", "--isolate", *flags, "--contract", contract, "--job", job, "--", *command, state=state)
        assert "VERIFIED" in done.err, done.err
        return done.out.split("\n")[:2]

    # the name of any public host is there, the gateway takes the call, and finds that no such host is in the world
    assert isolated(first, "cage-trial", "gpt-4.1", "--observe") == ["200", "502"]
    told = run_cli("contract", "suggest", str(state / "jobs" / "cage-trial"), state=state)
    assert "telemetry.example.com" in told.err
    _, signed = suggest_and_sign(state, "cage-trial", name="caged")
    assert isolated(signed, "cage-same", "gpt-4.1") == ["200", "no such name"]
    assert isolated(signed, "cage-other", "gpt-4.1-nano") == ["403", "no such name"]
