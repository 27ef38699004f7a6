"""``clawproxy job attach``: with a running gateway and without, what is told, and what verify and show make of it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock
from urllib.parse import quote

import pytest
from clawproxy.addons.ca import ensure_ca
from clawproxy.tokens.digests import sha256_b64u

from clawproxy.cli import job_attach
from clawproxy.cli.kept_secrets import KeptSecrets

from ..gateway.bed import running_bed
from .command_line import Done, one_line, run_cli
from .standin_process import running_standin


def _base64(key: str) -> str:
    return base64.b64encode(f"user:{key}".encode()).decode()


def _quoted(key: str) -> str:
    return quote(key, safe="")


CONTENT = b"2 passed\n"
DIGEST = sha256_b64u(CONTENT)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    root = tmp_path / "state"
    run_cli("keys", "new", "receipt", "token", "policy", state=root)
    document = run_cli("contract", "new", "sdk").out
    contract = run_cli("contract", "sign", "-", state=root, stdin=document).out.strip()
    assert run_cli("job", "open", "--contract", contract, "--job", "j", state=root).code == 0
    run_cli("keys", "trust", "-o", root / "trust.json", state=root)
    return root


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.txt"
    path.write_bytes(CONTENT)
    return path


def test_without_a_gateway_the_file_goes_into_the_bundle_and_verify_and_show_name_it(state: Path, report: Path) -> None:
    done = run_cli("job", "attach", report, "--kind", "test_report", "--job", "j", "--note", "nightly", state=state)
    assert (done.code, done.out.strip()) == (0, DIGEST), done.err
    assert "stored as it is" in done.err
    alone = run_cli("job", "attach", report, "--kind", "log", "--job", "j", "--digest-only", "--json", state=state)
    assert json.loads(alone.out)["stored"] is False
    assert (state / "jobs" / "j" / "attachments" / DIGEST).read_bytes() == CONTENT
    assert run_cli("job", "seal", "j", state=state).code == 0
    shown = run_cli("job", "show", "j", state=state).out
    assert "test_report report.txt (9 bytes): nightly" in shown
    assert "the digest alone" in shown
    assert json.loads(run_cli("job", "show", "j", "--json", state=state).out)["other_evidence"]
    verified = run_cli("verify", state / "jobs" / "j", "--trust", state / "trust.json", state=state)
    assert verified.code == 0, verified.out
    assert "attached test_report report.txt" in run_cli("job", "tail", "j", state=state).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--kind", "Not A Word", "--job", "j"), "expected a word"),
        (("--kind", "log", "--job", "j", "--note", "two\nlines"), "one line"),
        (("--kind", "log", "--job", "nobody"), "no such job"),
        (("--kind", "log", "--job", "../x"), "not a job id"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_left_behind(
    state: Path, report: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert said in one_line(run_cli("job", "attach", report, *arguments, state=state))
    assert not (state / "jobs" / "j" / "attachments").exists()
    assert [path.name for path in (state / "jobs" / ".staging").glob("*attachment*")] == []


def test_a_sealed_job_takes_nothing_more(state: Path, report: Path) -> None:
    run_cli("job", "seal", "j", state=state)
    done = run_cli("job", "attach", report, "--kind", "log", "--job", "j", state=state)
    assert "JOB_SEALED" in one_line(done)
    link = report.with_name("link")
    link.symlink_to(report)
    assert "symlink" in one_line(run_cli("job", "attach", link, "--kind", "log", "--job", "j", state=state))


KEY = "sk-ant-api03-Zq8wXjKv7RmT2yPdLs/9aB=%"


@pytest.fixture
def configured(state: Path) -> Path:
    """The same, with credentials: two that can be read here, two that cannot, one that says there is none."""
    (state / "anthropic.key").write_text(KEY + "\n")
    sections = {
        "providers.anthropic": f"file:{state}/anthropic.key",
        "egress.tickets": f"file:{state}/anthropic.key",
        "providers.openai": "env:NOT_SET_HERE",
        "providers.openrouter": f"exec:touch {state}/ran",
        "providers.ollama": "none",
    }
    hosts = {"egress.tickets": 'hosts = ["tickets.example"]'}
    (state / "clawproxy.toml").write_text(
        "".join(f'[{name}]\ncredential = "{told}"\n{hosts.get(name, "")}\n' for name, told in sections.items())
    )
    return state


@pytest.mark.parametrize("form", [str, json.dumps, lambda key: key.replace("/", "\\/"), _base64, _quoted])
def test_a_file_with_a_credential_of_the_gateway_is_not_taken_in_any_form(
    configured: Path, report: Path, form: Callable[[str], str]
) -> None:
    report.write_bytes(b"\0" * 100_000 + f"authorization: {form(KEY)}\n".encode() + b"\xff" * 100_000)
    done = run_cli("job", "attach", report, "--kind", "log", "--job", "j", state=configured)
    line = one_line(done)
    assert "providers.anthropic.credential" in line
    assert KEY not in done.err + done.out
    assert not (configured / "jobs" / "j" / "attachments").exists()
    assert list((configured / "jobs" / ".staging").iterdir()) == []
    alone = run_cli("job", "attach", report, "--kind", "log", "--job", "j", "--digest-only", state=configured)
    assert alone.code == 0, alone.err


def test_credentials_that_cannot_be_read_here_are_named_and_no_command_is_started(
    configured: Path, report: Path
) -> None:
    done = run_cli("job", "attach", report, "--kind", "log", "--job", "j", state=configured)
    assert done.code == 0, done.err
    assert "cannot read it: providers.openai.credential, providers.openrouter.credential" in done.err
    assert not (configured / "ran").exists()
    told = run_cli(
        "job", "attach", report, "--kind", "log", "--job", "j", "--note", KEY, "--digest-only", state=configured
    )
    assert "a secret of this gateway" in one_line(told)


@pytest.mark.parametrize("name", ["keys/receipt.pem", "keys/jobs/j.pem", "ca/mitmproxy-ca.pem"])
@pytest.mark.parametrize("form", [str, json.dumps])
def test_a_file_with_a_private_key_of_the_gateway_is_not_taken(
    state: Path, report: Path, name: str, form: Callable[[str], str]
) -> None:
    ensure_ca(state / "ca")
    report.write_text(form((state / name).read_text()))
    assert name in one_line(run_cli("job", "attach", report, "--kind", "log", "--job", "j", state=state))
    certificate = state / "ca" / "mitmproxy-ca-cert.pem"
    assert run_cli("job", "attach", certificate, "--kind", "ca", "--job", "j", state=state).code == 0


def test_without_the_look_for_secrets_they_are_in_the_bundle(configured: Path, report: Path) -> None:
    report.write_text(KEY)
    with mock.patch.object(job_attach, "look_for_secrets", return_value=KeptSecrets((), ())):
        assert run_cli("job", "attach", report, "--kind", "log", "--job", "j", state=configured).code == 0
    kept = configured / "jobs" / "j" / "attachments"
    assert [file.read_text() for file in kept.iterdir()] == [KEY]


async def test_a_running_gateway_takes_it_into_the_job_that_it_has_open(tmp_path: Path, report: Path) -> None:
    listen = {"listen": {"reverse": "127.0.0.1:0", "regular": "127.0.0.1:0", "admin": True}}
    state = tmp_path / "state"

    def attach() -> Done:
        return run_cli("job", "attach", report, "--kind", "ticket", "--job", "job-1", state=state)

    with running_standin(tmp_path) as provider:
        async with running_bed(state, provider, sections=listen) as bed:
            await bed.chat()
            done = await asyncio.to_thread(attach)
            assert done.code == 0, done.err
            await bed.chat()
            await bed.gateway.seal("job-1", force=False)
            assert "attached" in [r["event"]["event_type"] for r in bed.records("event")]
            assert (state / "jobs" / "job-1" / "attachments" / DIGEST).read_bytes() == CONTENT
