"""The demo, as a newcomer runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clawproxy import __version__
from clawproxy.cli.demo import _flip_a_byte
from clawproxy.cli.demo_stage import _process

from .command_line import one_line, run_cli, spawn_cli


@pytest.mark.slow
def test_the_demo_tells_the_whole_story_and_its_bundle_verifies_afterwards(tmp_path: Path) -> None:
    done = spawn_cli("demo", "--json", "--dir", tmp_path / "demo")
    told = json.loads(done.out)
    assert [step["step"] for step in told["steps"] if not step["ok"]] == []
    assert done.code == 0
    assert len(told["steps"]) == 16
    bundle, trust = told["bundle"], tmp_path / "demo" / "trust.json"
    assert run_cli("verify", bundle, "--trust", trust).code == 0
    assert run_cli("verify", tmp_path / "demo" / "tampered", "--trust", trust).code == 1
    for step in told["steps"][:12]:
        in_job = step["receipt_id"] in Path(bundle, "receipts.jsonl").read_text()
        assert (run_cli("explain", bundle, step["receipt_id"], "--trust", trust).code == 0) is in_job
    again = spawn_cli("demo", "--dir", tmp_path / "demo")
    assert again.code == 0
    assert "16 of 16 steps" in again.out


@pytest.mark.parametrize("count", [0, 1, 9, 10, 12, 17, 20, 199])
def test_a_flipped_byte_leaves_a_line_of_json_whatever_the_count_was(tmp_path: Path, count: int) -> None:
    journal = tmp_path / "receipts.jsonl"
    journal.write_text(f'{{"seq":0,"rest":"{"x" * 50}"}}\n{{"tokens_input":{count},"tokens_output":5}}\n')
    assert _flip_a_byte(journal) == 2
    told = json.loads(journal.read_text().splitlines()[1])
    assert abs(told["tokens_input"] - count) == 1


def test_modules_in_the_working_directory_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    command = ["-m", "clawproxy.standin", "--dir", str(tmp_path), "--record", str(tmp_path / "r"), "--follow-stdin"]
    with _process(command, tmp_path / "log.txt") as ready:
        assert ready["url"].startswith("https://")
    assert not (tmp_path / "ran").exists()


def test_without_its_agents_packages_it_names_the_file_to_install_and_nothing_unpublished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clawproxy.cli.demo.importlib.util.find_spec", lambda _: None)
    told = one_line(run_cli("demo", "--dir", tmp_path / "demo"))
    assert f"pip install './clawproxy-{__version__}-py3-none-any.whl[demo]'" in told
    assert "'clawproxy[demo]'" not in told
    assert not (tmp_path / "demo").exists()


def test_a_directory_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    done = run_cli("demo", "--dir", tmp_path)
    assert done.code == 2
    assert "not from an earlier demo" in one_line(done)
    assert (tmp_path / "mine.txt").read_text() == "keep"
