"""stop, resume, token revoke and reload, as an operator types them, with and without a running gateway."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from ..waiting import whole_lines
from .command_line import one_line, run_cli
from .test_cli_serve_doctor import Serving


@pytest.fixture
def state(tmp_path: Path) -> Path:
    root = tmp_path / "state"
    assert run_cli("keys", "new", "receipt", "token", "policy", state=root).code == 0
    (root / "clawproxy.toml").write_text('[listen]\nreverse = "127.0.0.1:0"\nregular = ""\n')
    return root


def standing(state: Path) -> list[tuple[str, str, str]]:
    told = json.loads(run_cli("stop", "--list", "--json", state=state).out)
    return [(order["scope"], order["name"], order["mode"]) for order in told["stops"]]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["stop", "--job", "j-9"], "CHECK THE NAME: no job j-9 is here"),
        (["token", "revoke", "--job", "j-9"], "CHECK THE NAME: no job j-9 is here"),
        (["stop", "--contract", "A" * 43], f"has the hash {'A' * 43}"),
        (["token", "revoke", "--contract", "A" * 43], f"has the hash {'A' * 43}"),
        (["stop", "--tool", "nope"], "speaks of a tool nope"),
    ],
)
def test_an_order_about_what_nobody_here_knows_is_given_and_says_so_last(
    state: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    document = json.loads(run_cli("contract", "new", "sdk", "--model", "m").out)
    (tmp_path / "c.json").write_text(json.dumps(document | {"allowed_tools": ["shell.exec"]}))
    assert run_cli("contract", "sign", tmp_path / "c.json", state=state).code == 0
    done = run_cli(*arguments, state=state)
    assert done.code == 0
    assert "order 1" in done.out
    assert told in done.err.splitlines()[-1]
    assert json.loads(run_cli(*arguments, "--json", state=state).out)["ok"] is True


def test_an_order_about_what_is_known_here_has_no_doubt(state: Path, tmp_path: Path) -> None:
    document = json.loads(run_cli("contract", "new", "sdk", "--model", "m").out)
    classes = {"shell.exec": ["Bash"], "mcp": ["mcp__a__*"]}
    document |= {"allowed_tools": ["shell.exec", "mcp"], "denied_tools": ["web"], "tool_classes": classes}
    (tmp_path / "c.json").write_text(json.dumps(document))
    signed = run_cli("contract", "sign", tmp_path / "c.json", state=state)
    assert signed.code == 0, signed.err
    assert run_cli("job", "open", "--contract", tmp_path / "c.json", "--job", "j", state=state).code == 0
    about = [["--tool", name] for name in ("shell.exec", "Bash", "bash", "mcp__a__list", "web")]
    for selector in (*about, ["--job", "j"], ["--contract", str(tmp_path / "c.json")], ["--all"]):
        done = run_cli("stop", *selector, state=state)
        assert done.code == 0
        assert "CHECK" not in done.err


def test_a_stop_is_given_listed_and_lifted_without_a_gateway(state: Path) -> None:
    done = run_cli("stop", "--job", "job-1", "--reason", "odd", state=state)
    assert done.code == 0
    assert done.out == "stop --job job-1 stands as order 1\n"
    assert "no gateway runs here" in done.err
    assert run_cli("stop", "--job", "job-1", "--no-tools", state=state).code == 0
    assert run_cli("stop", "--all", "--read-only-tools", state=state).code == 0
    assert standing(state) == [("job", "job-1", "stop"), ("job", "job-1", "no_tools"), ("all", "", "read_only_tools")]
    assert ": odd" in run_cli("stop", "--list", state=state).out
    assert run_cli("resume", "--job", "job-1", "--no-tools", state=state).code == 0
    assert run_cli("resume", "--job", "job-1", state=state).code == 0
    assert standing(state) == [("all", "", "read_only_tools")]
    assert "nothing was lifted" in run_cli("resume", "--job", "job-1", state=state).out


def test_a_resume_names_the_stops_that_still_hold(state: Path) -> None:
    for selector in (["--all"], ["--job", "job-1"], ["--tool", "shell.exec"], ["--all", "--no-tools"]):
        assert run_cli("stop", *selector, state=state).code == 0
    done = run_cli("resume", "--all", state=state)
    assert done.out == "lifted: stop --all (order 1), stop --all --no-tools (order 4)\n"
    assert "still in force: stop --tool shell.exec (order 3), stop --job job-1 (order 2)\n" in done.err
    told = json.loads(run_cli("resume", "--all", "--json", state=state).out)
    assert [order["name"] for order in told["stops"]] == ["job-1", "shell.exec"]
    assert "still in force: stop --tool" in run_cli("resume", "--job", "job-1", state=state).err
    assert "no stop stands any more" in run_cli("resume", "--tool", "shell.exec", state=state).err
    assert "still" not in run_cli("stop", "--job", "job-1", state=state).err


def test_of_many_stops_that_still_hold_the_last_given_are_named(state: Path) -> None:
    for n in range(10):
        run_cli("stop", "--job", f"job-{n}", state=state)
    said = run_cli("resume", "--job", "job-0", state=state).err
    assert "still in force: stop --job job-9 (order 10), " in said
    assert "stop --job job-2 (order 3), 1 more: clawproxy stop --list" in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--all", "--job", "x"],
        ["--job", "a", "--provider", "openai"],
        ["--provider", "opanai"],
        ["--contract", "nowhere.json"],
        ["--job", "../x"],
        ["--all", "--no-tools", "--read-only-tools"],
        ["--tool", "Bash", "--no-tools"],
        ["--list", "--all"],
        ["--all", "--reason", "two\nlines"],
    ],
)
def test_what_can_stop_nothing_is_an_error_and_nothing_stands(state: Path, arguments: list[str]) -> None:
    done = run_cli("stop", *arguments, state=state)
    assert done.code == 2
    assert standing(state) == []


def test_inspect_and_mint_know_what_was_revoked(state: Path, tmp_path: Path) -> None:
    run_cli("contract", "new", "sdk", "--model", "m", "-o", tmp_path / "c.json")
    assert run_cli("contract", "sign", tmp_path / "c.json", state=state).code == 0
    for job in ("j", "k"):
        assert run_cli("job", "open", "--contract", tmp_path / "c.json", "--job", job, state=state).code == 0
        assert run_cli("token", "mint", "--job", job, "-o", tmp_path / job, state=state).code == 0
    assert run_cli("token", "revoke", tmp_path / "j", state=state).code == 0
    told = run_cli("token", "inspect", tmp_path / "j", state=state)
    assert (told.code, "TOKEN_REVOKED: this token was revoked" in told.out) == (1, True)
    assert run_cli("token", "inspect", tmp_path / "k", state=state).code == 0
    assert run_cli("token", "mint", "--job", "j", state=state).code == 0
    for what, name, job, said in (
        ("--job", "j", "j", "j: this job was"),
        ("--contract", tmp_path / "c.json", "k", "this contract was"),
    ):
        assert run_cli("token", "revoke", what, name, state=state).code == 0
        refused = run_cli("token", "mint", "--job", job, state=state)
        assert (refused.code, refused.out) == (2, "")
        assert f"{said} revoked (order " in one_line(refused)
        assert "[TOKEN_REVOKED]" in one_line(refused)
    assert run_cli("token", "inspect", tmp_path / "k", state=state).code == 1


def test_tokens_are_revoked_by_file_stdin_hash_and_the_rest_and_never_shown(state: Path, tmp_path: Path) -> None:
    run_cli("contract", "new", "sdk", "--model", "m", "-o", tmp_path / "c.json")
    assert run_cli("contract", "sign", tmp_path / "c.json", state=state).code == 0
    assert run_cli("job", "open", "--contract", tmp_path / "c.json", "--job", "j", state=state).code == 0
    minted = json.loads(run_cli("token", "mint", "--job", "j", "--json", state=state).out)
    (tmp_path / "cst").write_text(minted["token"] + "\n")
    done = run_cli("token", "revoke", tmp_path / "cst", state=state)
    assert done.code == 0
    assert minted["token_hash"] in done.out
    assert minted["token"] not in done.out + done.err
    again = run_cli("token", "revoke", "-", state=state, stdin=minted["token"])
    assert "(order 1)" in again.out
    for selector in (["--jti", "i"], ["--job", "j"], ["--contract", tmp_path / "c.json"], ["--hash", "a" * 64]):
        assert run_cli("token", "revoke", *selector, state=state).code == 0
    told = json.loads(run_cli("stop", "--list", "--json", state=state).out)
    assert [r["kind"] for r in told["revocations"]] == ["token", "jti", "job", "contract", "token"]
    (tmp_path / "handle").write_text("cph_something")
    assert "revoke the job" in one_line(run_cli("token", "revoke", tmp_path / "handle", state=state))
    (tmp_path / "junk").write_text("sk-a-providers-key")
    done = run_cli("token", "revoke", tmp_path / "junk", state=state)
    assert done.code == 2
    assert "sk-a-providers-key" not in done.err


def test_a_running_gateway_confirms_and_reloads_by_command_and_by_signal(state: Path) -> None:
    with Serving(state) as serving:
        told = json.loads(run_cli("stop", "--all", "--json", state=state).out)
        assert told["ok"] is True
        assert told["gateways"] == 1
        config = state / "clawproxy.toml"
        config.write_text(config.read_text() + "[gateway]\nmax_headers = 256\n")
        done = run_cli("reload", state=state)
        assert done.out == "gateway.max_headers: 128 → 256  (allows more than before)\n"
        config.write_text(config.read_text().replace("256", "200"))
        serving.process.send_signal(signal.SIGHUP)
        for _ in range(1200):
            if len(_reloads(state)) == 2:
                break
            time.sleep(0.05)
        assert [r["changes"][0]["what"] for r in _reloads(state)] == ["128 → 256", "256 → 200"]
        assert "gateway.max_headers" in run_cli("job", "tail", "--gateway", "-n", "1", state=state).out
        config.write_text("[gateway]\nnonsense = 1\n")
        assert "unknown key" in one_line(run_cli("reload", state=state))
    assert standing(state) == [("all", "", "stop")]


def _reloads(state: Path) -> list[dict[str, list[dict[str, str]]]]:
    lines = [line for path in (state / "gateway").glob("*.jsonl") for line in whole_lines(path)]
    return [record["body"]["payload"] for record in map(json.loads, lines) if record["t"] == "reload"]


def test_a_reload_without_a_gateway_says_so(state: Path) -> None:
    assert "no gateway answers" in one_line(run_cli("reload", state=state))


def test_doctor_tells_what_stands(state: Path) -> None:
    run_cli("stop", "--provider", "openai", state=state)
    rows = {row["what"]: row for row in json.loads(run_cli("doctor", "--json", state=state).out)}
    assert rows["stops"]["state"] == "warn"
    assert "stop --provider openai" in rows["stops"]["found"]
    run_cli("resume", "--provider", "openai", state=state)
    assert "stops" not in {row["what"] for row in json.loads(run_cli("doctor", "--json", state=state).out)}


@pytest.mark.parametrize("running", [True, False])
def test_a_job_is_bound_anew_with_and_without_a_gateway(state: Path, tmp_path: Path, running: bool) -> None:
    run_cli("contract", "new", "sdk", "--model", "m", "-o", tmp_path / "c.json")
    run_cli("contract", "sign", tmp_path / "c.json", state=state)
    assert run_cli("job", "open", "--contract", tmp_path / "c.json", "--job", "j", state=state).code == 0
    if running:
        with Serving(state):
            done = run_cli("job", "rebind", "j", "--to", "10.0.0.7", state=state)
    else:
        done = run_cli("job", "rebind", "j", "--to", "10.0.0.7", state=state)
    assert done.out == "j is bound to addr:10.0.0.7\n", done.err
    last = json.loads((state / "jobs" / "j" / "receipts.jsonl").read_bytes().splitlines()[-1])
    detail = last["body"]["payload"]["detail"]
    assert (detail["presenter"], detail["presenter_strength"], detail["rebound"]) == (
        "addr:10.0.0.7",
        "source-address",
        True,
    )
    assert "not an address" in one_line(run_cli("job", "rebind", "j", "--to", "a-pod", state=state))
    assert "no such job" in one_line(run_cli("job", "rebind", "nobody", state=state))


def test_damaged_orders_are_told_with_what_to_do(state: Path) -> None:
    run_cli("stop", "--all", state=state)
    path = state / "orders" / "orders.json"
    path.write_bytes(path.read_bytes()[:-1])
    for arguments in (["stop", "--list"], ["stop", "--all"], ["serve"]):
        assert "give every stop and revocation again" in one_line(run_cli(*arguments, state=state))
