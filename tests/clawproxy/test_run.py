"""``clawproxy run``: an agent with nothing but its environment works through the gateway, and holds no key."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawproxy.cli import run
from clawproxy.cli.agent_environment import agent_environment, starter_for

from .command_line import one_line, run_cli, spawn_cli
from .standin_process import Provider, running_standin

AGENT = """
import os, sys, json, anthropic, openai
one = openai.OpenAI(max_retries=0)
two = anthropic.Anthropic(max_retries=0)
far = openai.OpenAI(max_retries=0, base_url="https://api.openai.com/v1")
say = [{"role": "user", "content": "hello"}]
one.chat.completions.create(model="gpt-4o-mini", messages=say)
list(far.chat.completions.create(model="gpt-4o-mini", messages=say, stream=True))
two.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=say)
try:
    one.chat.completions.create(model="gpt-99", messages=say)
except openai.PermissionDeniedError as err:
    print(err.response.headers["x-clawproxy-reason"])
print(json.dumps(dict(os.environ)))
sys.exit(7)
"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_standin(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture
def state(tmp_path: Path, provider: Provider) -> Path:
    """A state directory whose gateway speaks to the stand-in; no keys, no contract yet."""
    return provider.make_state(tmp_path / "state", "openai", "anthropic")


@pytest.mark.slow
def test_an_sdk_program_runs_sealed_and_verified_and_its_exit_code_is_passed_on(
    state: Path, provider: Provider
) -> None:
    seen_before = len(provider.seen())
    done = spawn_cli("run", "--job", "j", "--", sys.executable, "-c", AGENT, state=state)
    assert done.code == 7, done.err
    assert "not contained" in done.err
    assert "VERIFIED" in done.err
    command = next(line for line in done.err.splitlines() if "explain" in line).partition("clawproxy explain ")[2]
    told = run_cli("explain", command.split()[0], state=state).out
    assert "reason: POLICY_MODEL_NOT_ALLOWED" in told
    reason, env_line = done.out.splitlines()
    assert reason == "POLICY_MODEL_NOT_ALLOWED"
    seen = provider.seen()[seen_before:]
    assert [line["credential"] for line in seen] == ["right"] * 3
    assert not any(line["leaks"] for line in seen)
    env = json.loads(env_line)
    assert env["OPENAI_API_KEY"].startswith("cph_")
    assert provider.key("openai") not in env_line
    shown = json.loads(run_cli("job", "show", "j", "--json", state=state).out)
    assert shown["state"] == "sealed"
    assert (shown["records"]["receipt"], shown["records"]["denial"]) == (3, 1)


def test_refusals_before_the_first_call_are_in_the_bundle_and_those_without_the_handle_in_the_summary_too(
    state: Path,
) -> None:
    asks = (
        "import os, urllib.request as u\n"
        "for key in (os.environ['OPENAI_API_KEY'], 'none'):\n"
        "    head = {'Authorization': 'Bearer ' + key}\n"
        "    try: u.urlopen(u.Request(os.environ['OPENAI_BASE_URL'] + '/files', headers=head))\n"
        "    except OSError: pass"
    )
    done = spawn_cli("run", "--", sys.executable, "-c", asks, state=state)
    assert done.code == 0, done.err
    assert "VERIFIED" in done.err
    assert "1 denial" in done.err
    assert "  refused: ROUTE_NOT_FOUND 1\n" in done.err
    assert "refused before the job was known, so in the gateway's journal alone: ROUTE_NOT_FOUND 1" in done.err
    command = next(line for line in done.err.splitlines() if "explain" in line).partition("clawproxy explain ")[2]
    told = run_cli("explain", command.split()[0], state=state).out
    assert "step: admit" in told
    assert "reason: ROUTE_NOT_FOUND" in told


def test_a_command_that_is_not_there_opens_no_job(state: Path) -> None:
    done = spawn_cli("run", "--", "no-such-command-anywhere", state=state)
    assert done.code == 127
    assert not list((state / "jobs").glob("[!.]*"))


def test_a_contract_that_is_none_is_told_with_the_starters_that_there_are(state: Path) -> None:
    told = run_cli("run", "--contract", "nope", "--", "true", state=state).err
    assert "neither a file, nor a hash, nor a starter (got nope, expected one of these starters: " in told
    assert "sdk" in told


def test_without_a_credential_it_says_which_variable_to_set(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    command = [sys.executable, "-m", "clawproxy", "run", "--state", str(tmp_path / "s"), "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 2
    assert "OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_contract_whose_providers_have_no_credential_is_told_before_the_agent_starts(
    tmp_path: Path, provider: Provider
) -> None:
    root = provider.make_state(tmp_path / "state", "openai")
    done = spawn_cli("run", "--contract", "claude-code", "--", "true", state=root)
    assert done.code == 0, done.err
    assert "allows anthropic alone, and the gateway has no credential there" in done.err
    assert "no credential there" not in spawn_cli("run", "--contract", "sdk", "--", "true", state=root).err


def test_a_signal_is_passed_on_and_the_job_is_sealed(state: Path) -> None:
    command = [sys.executable, "-m", "clawproxy", "run", "--state", str(state), "--job", "j", "--"]
    command += ["sh", "-c", "echo up; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert "VERIFIED" in rest


async def test_a_signal_that_comes_while_the_agent_is_started_is_the_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    real, before = asyncio.create_subprocess_exec, signal.signal(signal.SIGTERM, signal.SIG_IGN)

    async def started(*command: str, env: dict[str, str]) -> asyncio.subprocess.Process:
        process = await real(*command, env=env)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.1)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
    try:
        assert await run._run_agent(["sleep", "30"], dict(os.environ)) == 128 + signal.SIGTERM
    finally:
        for number in (*run._FORWARDED, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_it_uses_the_gateway_that_runs_already(state: Path) -> None:
    run_cli("keys", "new", "receipt", "token", "policy", state=state)
    serve = [sys.executable, "-m", "clawproxy", "serve", "--json", "--state", str(state)]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        reverse = json.loads(gateway.stdout.readline())["reverse"]
        show = "import os; print(os.environ['OPENAI_BASE_URL'])"
        done = spawn_cli("run", "--", sys.executable, "-c", show, state=state)
        assert done.code == 0, done.err
        assert done.out.strip() == f"{reverse}/openai/v1"
        second = spawn_cli("serve", state=state)
        assert second.code == 2
        assert "[GATEWAY_RUNNING]" in one_line(second)
        assert len(list((state / "gateway").iterdir())) == 1  # the second wrote nothing
        gateway.terminate()
        assert gateway.wait(60) == 0


ADDRESSES = {"reverse": "http://127.0.0.1:1", "regular": "http://127.0.0.1:2"}


def environment(
    base: dict[str, str],
    program: str = "python",
    dropped: tuple[str, ...] = (),
    served: tuple[str, ...] = (),
    **addresses: str,
) -> dict[str, str]:
    return agent_environment(
        base,
        program=program,
        **ADDRESSES | addresses,
        handle="cph_x",
        job_id="j",
        ca_file="/ca",
        bundle_file="/all",
        served=served,
        dropped=dropped,
    )


def test_the_environment_drops_every_provider_credential_and_proxy_by_pass() -> None:
    base = {
        "OPENAI_API_KEY": "sk-1",
        "GEMINI_API_KEY": "g",
        "MY_KEY": "sk-2",
        "ALL_PROXY": "socks5://x",
        "PATH": "/bin",
    }
    env = environment(base | {"NO_PROXY": "*", "https_proxy": "http://elsewhere"}, dropped=("MY_KEY",))
    assert "sk-1" not in env.values()
    assert {"GEMINI_API_KEY", "MY_KEY", "ALL_PROXY"}.isdisjoint(env)
    assert env["NO_PROXY"] == env["no_proxy"] == "127.0.0.1,localhost,::1"
    assert env["HTTPS_PROXY"] == env["https_proxy"] == "http://job:cph_x@127.0.0.1:2"
    assert env["PATH"] == "/bin"


def test_the_environment_names_the_ca_for_each_kind_of_client() -> None:
    env = environment({})
    bundles = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "GIT_SSL_CAINFO")
    assert {env[name] for name in bundles} == {"/all"}
    assert {env[name] for name in ("NODE_EXTRA_CA_CERTS", "CODEX_CA_CERTIFICATE")} == {"/ca"}


def test_a_callers_own_certificates_are_not_what_other_clients_find() -> None:
    own = ("PIP_CERT", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "CARGO_HTTP_CAINFO", "npm_config_cafile", "SSL_CERT_FILE")
    env = environment(dict.fromkeys((*own, "SSL_CERT_DIR", "GIT_SSL_CAPATH"), "/etc/own.pem"))
    assert {env[name] for name in own} == {"/all"}
    assert "/etc/own.pem" not in env.values()
    assert "PIP_CERT" not in environment({})


ADDRESS_NAMES = {
    "OPENAI_BASE_URL": "/openai/v1",
    "ANTHROPIC_BASE_URL": "/anthropic",
    "GOOGLE_GEMINI_BASE_URL": "/google",
    "GEMINI_API_BASE": "/google/v1beta",
    "OPENROUTER_API_BASE": "/openrouter/api/v1",
    "AZURE_OPENAI_ENDPOINT": "/azure",
    "AZURE_API_BASE": "/azure",
    "OLLAMA_HOST": "/ollama",
    "OLLAMA_API_BASE": "/ollama",
    "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "/bedrock",
    "AWS_BEDROCK_RUNTIME_ENDPOINT": "/bedrock",
}
KEY_NAMES = [
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "OPENROUTER_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "AZURE_API_KEY",
    "OLLAMA_API_KEY",
    "FAL_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
]
SERVED = ("openai", "google", "openrouter", "azure", "ollama", "fal", "bedrock", "vllm")


def test_the_environment_names_every_served_provider_by_address_and_by_handle() -> None:
    env = environment({}, served=SERVED)
    assert {name: env[name] for name in ADDRESS_NAMES} == {
        name: ADDRESSES["reverse"] + path for name, path in ADDRESS_NAMES.items()
    }
    assert {env[name] for name in KEY_NAMES} == {"cph_x"}
    by_proxy = environment({}, served=SERVED, reverse="")
    assert set(ADDRESS_NAMES) & set(by_proxy) == {"GEMINI_API_BASE"}
    assert by_proxy["GEMINI_API_BASE"] == "https://generativelanguage.googleapis.com/v1beta"
    assert {by_proxy[name] for name in KEY_NAMES} == {"cph_x"}


def test_the_environment_does_not_name_a_provider_that_the_gateway_has_no_credential_for() -> None:
    env = environment({"OLLAMA_API_KEY": "o", "OPENROUTER_API_BASE": "https://elsewhere", "AWS_ACCESS_KEY_ID": "own"})
    assert {"GEMINI_API_KEY", "OLLAMA_HOST", "OLLAMA_API_KEY", "OPENROUTER_API_BASE", "FAL_KEY"}.isdisjoint(env)
    assert env["AWS_ACCESS_KEY_ID"] == "own"  # of other services, where the gateway has no Bedrock


def test_an_aws_session_of_the_agents_own_does_not_go_with_the_handle() -> None:
    own = {
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_SESSION_TOKEN": "t",
        "AWS_REGION": "eu-west-1",
    }
    env = environment(own, served=("bedrock",))
    assert (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]) == ("cph_x", "cph_x")
    assert "AWS_SESSION_TOKEN" not in env
    assert env["AWS_REGION"] == "eu-west-1"


def test_claude_code_gets_an_auth_token_and_others_an_api_key() -> None:
    assert "ANTHROPIC_API_KEY" not in environment({}, "claude")
    assert environment({}, "claude")["ANTHROPIC_AUTH_TOKEN"] == "cph_x"
    assert "ANTHROPIC_AUTH_TOKEN" not in environment({}, "agent.py")
    assert environment({}, "claude", reverse="")["ANTHROPIC_API_KEY"] == "cph_x"


def test_claude_code_is_told_to_leave_out_the_tool_that_publishes_unless_somebody_says_otherwise() -> None:
    name = "CLAUDE_CODE_DISABLE_ARTIFACT"
    assert environment({}, "claude")[name] == "1"
    assert environment({name: "0"}, "claude")[name] == "0"
    assert name not in environment({}, "agent.py")


def test_gemini_cli_goes_by_proxy_where_there_is_one_and_opencode_gets_an_address_with_the_version() -> None:
    assert "GOOGLE_GEMINI_BASE_URL" not in environment({}, "gemini", served=SERVED)
    assert "GOOGLE_GEMINI_BASE_URL" in environment({}, "gemini", served=SERVED, regular="")
    assert environment({}, "opencode")["ANTHROPIC_BASE_URL"] == ADDRESSES["reverse"] + "/anthropic/v1"
    assert "ANTHROPIC_BASE_URL" not in environment({}, "opencode", reverse="")


def test_each_agent_has_its_starter() -> None:
    assert [starter_for(p) for p in ("claude", "codex", "gemini", "opencode", "python")] == [
        "claude-code",
        "codex",
        "gemini-cli",
        "opencode",
        "sdk",
    ]


@pytest.mark.slow
def test_an_observed_run_lets_the_contract_refuse_nothing_and_says_so_three_times(
    state: Path, provider: Provider
) -> None:
    done = spawn_cli("run", "--observe", "--job", "j", "--", sys.executable, "-c", AGENT, state=state)
    assert done.code == 7, done.err
    assert "observe: nothing of the contract is enforced" in done.err
    assert "VERIFIED" in done.err
    assert "warning: OBSERVED" in done.err
    assert len(done.out.splitlines()) == 1  # no model was refused
    told = run_cli("job", "tail", "j", "-n", "0", state=state).out
    assert "would be refused: POLICY_MODEL_NOT_ALLOWED" in told
    assert json.loads(run_cli("job", "show", "j", "--json", state=state).out)["enforcement"] == "observe"
