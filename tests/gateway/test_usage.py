"""Receipts of real calls: whose figures their tokens are, and whether the model was the one asked for."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import ending
from clawproxy.addons.usage import TokenCounts
from clawproxy.receipts import payloads
from clawproxy.receipts.calls import Usage
from clawproxy.receipts.explain import explain
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path

from ..clawproxy.standin_process import Provider
from .bed import Bed, running_bed

WITH_USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


async def receipt_of(bed: Bed, text: str, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The receipt of one more chat call, and our members of it."""
    await bed.chat(text, **more)
    await bed.settled()
    receipt = bed.records("receipt")[-1]
    return receipt, receipt["metadata"]["clawproxy"]


@pytest.mark.parametrize("more", [{}, WITH_USAGE], ids=["whole", "streamed"])
async def test_the_providers_figures_and_their_parts_are_in_the_receipt(
    tmp_path: Path, provider: Provider, more: dict[str, Any]
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        receipt, ours = await receipt_of(bed, "events:20 cached:1 reasoning:3", **more)
        assert (ours["usage"], ours["tokens_cached"], ours["tokens_reasoning"]) == ("reported", 1, 3)
        assert receipt["tokens_input"] > 0
        assert receipt["tokens_output"] > 3
        assert (ours["response_model"], ours["model_match"]) == ("gpt-4o-mini", "same")


@pytest.mark.parametrize("text", ["events:40", "events:40 no-terminal", "events:40 die-mid-stream"])
async def test_the_tokens_of_a_stream_without_usage_are_marked_as_estimated(
    tmp_path: Path, provider: Provider, text: str
) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        receipt, ours = await receipt_of(bed, text, stream=True)
        assert ours["usage"] == "estimated"
        assert receipt["tokens_input"] == -(-ours["request_bytes"] // 4)
        assert 0 < receipt["tokens_output"] < ours["response_bytes"] / 10  # of the text, not of the frames


async def test_a_call_that_the_provider_never_answered_used_nothing(tmp_path: Path, provider: Provider) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{taken.getsockname()[1]}"
        nowhere = Provider(url, provider.ca, provider.record, provider.key_files, 0)
        async with running_bed(tmp_path / "s", nowhere) as bed:
            receipt, ours = await receipt_of(bed, "hello")
            assert (ours["usage"], receipt["tokens_input"], receipt["tokens_output"]) == ("none", 0, 0)
            assert (ours["response_model"], ours["model_match"]) == (None, "unknown")


async def test_a_call_that_the_provider_refuses_used_nothing(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        receipt, ours = await receipt_of(bed, "status:429")
        assert (ours["status"], ours["usage"], receipt["tokens_input"]) == (429, "none", 0)


async def test_another_model_than_the_one_asked_for_is_recorded_and_told(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        _, snapshot = await receipt_of(bed, "model:gpt-4o-mini-2024-07-18")
        receipt, other = await receipt_of(bed, "model:gpt-3.5-turbo", **WITH_USAGE)
        assert (snapshot["model_match"], other["model_match"]) == ("snapshot", "other")
        assert (receipt["model"], other["response_model"]) == ("gpt-4o-mini", "gpt-3.5-turbo")
        directory = Path((await bed.gateway.seal("job-1"))["directory"])
        report = verify_path(directory, bed.trust())
        assert report.verdict is Verdict.VERIFIED
        assert report.facts["model_match"] == {"other": 1, "snapshot": 1}
        assert report.facts["usage"] == {"reported": 2}
        told = explain(load_directory(directory).files, receipt["receipt_id"], bed.trust()).outcome
        assert (told["model_match"], told["usage"]) == ("other", "reported")


async def test_without_the_estimate_a_stream_without_usage_looks_free(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "count_tokens", lambda *_args, **_more: TokenCounts(Usage.REPORTED))
    async with running_bed(tmp_path / "s", provider) as bed:
        receipt, ours = await receipt_of(bed, "events:40", stream=True)
        assert (ours["usage"], receipt["tokens_output"]) == ("reported", 0)


async def test_without_the_comparison_another_model_looks_like_the_one_asked_for(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "model_match", lambda *_names: "same")
    async with running_bed(tmp_path / "s", provider) as bed:
        _, ours = await receipt_of(bed, "model:gpt-3.5-turbo")
        assert (ours["response_model"], ours["model_match"]) == ("gpt-3.5-turbo", "same")
