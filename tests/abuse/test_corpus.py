"""The corpus (tests/abuse/*.json) against a gateway: every case on every transport and format that it is for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..clawproxy.standin_process import running_standin
from .__main__ import main
from .cases import CorpusError, load_corpus, parse_case
from .runner import executions, running_runner
from .table import print_table

CASES = load_corpus()


@pytest.mark.slow
async def test_every_case_is_refused_recorded_and_reaches_no_provider(tmp_path: Path) -> None:
    only = os.environ.get("ABUSE_ONLY", "")
    chosen = [e for e in executions(CASES) if only in e.name]
    with running_standin(tmp_path) as provider:
        async with running_runner(tmp_path, provider) as runner:
            results = [await runner.execute(execution) for execution in chosen]
    print_table(results)
    red = [f"{r.execution.name}: {r.red}" for r in results if r.red and not r.execution.case.xfail_why]
    assert not red, "\n".join([f"{len(red)} of {len(results)}", *red[:200]])


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(CASES) >= 1700
    assert len(executions(CASES)) >= 12_000


@pytest.mark.parametrize("over", [{"tittle": "x"}, {"transports": ["carrier-pigeon"]}, {"id": "X"}, {"expect": {}}])
def test_a_case_with_a_misspelt_key_is_not_passed_over(over: dict[str, object]) -> None:
    good = {
        "id": "a1-good", "class": "A1", "title": "t", "source": "own", "transports": ["reverse"],
        "send": {}, "expect": {"reasons": ["X"]},
    }  # fmt: skip
    parse_case(good, "here")
    with pytest.raises(CorpusError):
        parse_case({**good, **over}, "here")


def test_a_word_that_no_case_has_is_told_instead_of_an_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no-such-word"]) == 2
    assert "no case has this word" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "--export" in capsys.readouterr().out
