"""What left is what was judged, for every reader: a short run of the differential fuzz (``make fuzz`` is the long one).

And the fuzz itself can fail: with the strict parser taken out, its readers disagree.
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from clawproxy.addons import json_body
from clawproxy.addons.wire import keys
from clawproxy.tokens.errors import ClawproxyError

from . import rig
from .run_bodies import run_bodies
from .run_paths import run_paths

SEED = 20261122
pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js, one of the readers, is not here")


async def test_every_reader_finds_in_what_left_what_policy_judged() -> None:
    tally = await run_bodies(6_000, SEED)
    assert tally.disagreements == []
    assert tally.forwarded >= 0.3 * tally.sent
    assert tally.whole_forwarded >= 0.95 * tally.whole
    assert min(tally.compared[reader] for reader in ("json", "orjson", "first of two", "node", "folding")) > 1_000


async def test_every_authority_and_path_that_went_through_has_one_reading() -> None:
    tally = await run_paths(3_000, SEED)
    assert tally.disagreements == []
    assert tally.forwarded >= 0.3 * tally.sent


def _lenient(raw: bytes, **_bounds: int) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        raise ClawproxyError("PARSE_ERROR", "not JSON") from None


async def test_with_a_lenient_parser_the_readers_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body, "parse_json_object", _lenient)
    monkeypatch.setattr(rig, "parse_json_object", _lenient)
    tally = await run_bodies(2_000, SEED)
    assert tally.disagreed_with["first of two"] > 0


async def test_without_closed_keys_a_folding_reader_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys.ClosedKeys, "check", lambda self, obj, where: None)
    tally = await run_bodies(4_000, SEED)
    assert tally.disagreed_with["folding"] > 0
