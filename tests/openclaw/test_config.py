"""Reading openclaw.json: JSON5, names, bounds; what cannot be read is an error."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from clawproxy.tokens.errors import ClawproxyError

from clawproxy.openclaw.config import MAX_BYTES, parse_config, read_config, walk, written

from .contracts import let_go_later

TEXT = b"""// of a person
{
  tools: { deny: ['group:web',], /* a list */ },
  gateway: { auth: { token: "${GATEWAY_TOKEN}", note: "$${KEPT} ${UNKNOWN} ${EMPTY}" } },
  env: { vars: { INNER: "inside" } },
  inner: "${INNER}/x",
  meta: { lastTouchedVersion: "2026.9.6" },
}
"""


def test_json5_is_read_and_names_are_put_in_place() -> None:
    live = parse_config(TEXT, {"GATEWAY_TOKEN": "abc", "EMPTY": ""})
    assert live.tree["tools"] == {"deny": ["group:web"]}
    assert live.tree["gateway"]["auth"] == {"token": "abc", "note": "${KEPT} ${UNKNOWN} ${EMPTY}"}
    assert live.tree["inner"] == "inside/x"
    assert live.raw["gateway"]["auth"]["token"] == "${GATEWAY_TOKEN}"
    assert live.references == {"GATEWAY_TOKEN", "KEPT", "UNKNOWN", "EMPTY", "INNER"}
    assert live.version == "2026.9.6"
    assert "abc" not in repr(live.content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"7",
        b"{",
        b"\xff\xfe",
        b'{"a": 1} {"b": 2}',
        b"{a: 1, a: 2,}",
        b"{a: " + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"a": [' + b"1," * 30_000 + b"1]}",
    ],
)
def test_what_cannot_be_read_in_one_way_is_an_error(content: bytes) -> None:
    with pytest.raises(ClawproxyError) as caught:
        parse_config(content, {})
    assert caught.value.reason == "OPENCLAW_CONFIG"


def test_a_large_or_absent_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"{" + b" " * MAX_BYTES + b"}")
    for name in ("large", "absent"):
        with pytest.raises(ClawproxyError):
            read_config(tmp_path / name, {})


def test_every_setting_has_a_path() -> None:
    tree = {"a": {"b": [1, {"c": 2}]}}
    assert [(written(path), value) for path, value in walk(tree) if not isinstance(value, (dict, list))] == [
        ("a.b[0]", 1),
        ("a.b[1].c", 2),
    ]


def test_names_that_stand_for_more_text_than_is_read_are_an_error() -> None:
    content = json.dumps({"env": {"vars": {"A": "B" * 60_000}}, "notes": ["${A}" * 100] * 300}).encode()
    with pytest.raises(ClawproxyError, match="more text than is read"):
        parse_config(content, {})


def test_a_pipe_in_place_of_the_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "openclaw.json"
    os.mkfifo(pipe)
    timer, began_s = let_go_later(pipe), time.monotonic()
    with pytest.raises(ClawproxyError) as caught:
        read_config(pipe, {})
    timer.cancel()
    assert time.monotonic() - began_s < 20
    assert caught.value.reason == "FILE_UNREADABLE"
