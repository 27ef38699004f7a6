"""``clawproxy run``: an agent with nothing but its environment works through the gateway, and holds no key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawproxy.cli.agent_environment import agent_environment, starter_for

from .command_line import run_cli, spawn_cli
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
    root = tmp_path / "state"
    root.mkdir(mode=0o700)
    lines = [
        f"upstream_ca = {json.dumps(provider.ca)}",
        "[listen]",
        'reverse = "127.0.0.1:0"',
        'regular = "127.0.0.1:0"',
    ]
    for name in ("openai", "anthropic"):
        credential = f"file:{provider.key_files[name]}"
        lines += [f"[providers.{name}]", f'upstream = "{provider.url}"', f'credential = "{credential}"']
    (root / "clawproxy.toml").write_text("\n".join(lines))
    return root


@pytest.mark.slow
def test_an_sdk_program_runs_sealed_and_verified_and_its_exit_code_is_passed_on(
    state: Path, provider: Provider
) -> None:
    seen_before = len(provider.seen())
    done = spawn_cli("run", "--job", "j", "--", sys.executable, "-c", AGENT, state=state)
    assert done.code == 7, done.err
    assert "not contained" in done.err
    assert "VERIFIED" in done.err
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


def test_a_command_that_is_not_there_opens_no_job(state: Path) -> None:
    done = spawn_cli("run", "--", "no-such-command-anywhere", state=state)
    assert done.code == 127
    assert not list((state / "jobs").glob("[!.]*"))


def test_without_a_credential_it_says_which_variable_to_set(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.endswith("_KEY")}
    command = [sys.executable, "-m", "clawproxy", "run", "--state", str(tmp_path / "s"), "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 2
    assert "OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_signal_is_passed_on_and_the_job_is_sealed(state: Path) -> None:
    command = [sys.executable, "-m", "clawproxy", "run", "--state", str(state), "--job", "j", "--", "sleep", "60"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "is open" in line:
                break
        time.sleep(0.5)  # until the agent itself runs
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert "VERIFIED" in rest


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
        assert "GATEWAY_RUNNING" in second.err
        gateway.terminate()
        assert gateway.wait(20) == 0


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
    assert [starter_for(p) for p in ("claude", "codex", "openclaw", "python")] == [
        "claude-code",
        "codex",
        "openclaw",
        "sdk",
    ]
