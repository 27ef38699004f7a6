"""A directory of signed contracts: found by hash, read again when changed, nothing else trusted or followed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from clawproxy.policies import source as source_module
from clawproxy.policies.source import MAX_ENVELOPE_BYTES, DirectorySource
from clawproxy.tokens.canonical import JsonObject, jcs_bytes
from clawproxy.tokens.errors import ClawproxyError

from .makers import claw, signed

ONE = signed(claw(policy_name="one"))
TWO = signed(claw(policy_name="two"))


def _put(directory: Path, name: str, envelope: JsonObject) -> Path:
    path = directory / name
    path.write_bytes(jcs_bytes(envelope))
    return path


async def _finds(source: DirectorySource, envelope: JsonObject) -> bool:
    found = await source.fetch(envelope["payload_hash_b64u"])
    assert found is None or found == envelope
    return found is not None


async def test_a_contract_is_found_in_any_of_the_directories(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _put(tmp_path / "a", "one.json", ONE)
    _put(tmp_path / "b", "two.json", TWO)
    source = DirectorySource([tmp_path / "a", tmp_path / "b"])
    assert await _finds(source, ONE)
    assert await _finds(source, TWO)
    assert not await _finds(source, signed(claw(policy_name="three")))


async def test_files_that_come_change_and_go_are_noticed(tmp_path: Path) -> None:
    source = DirectorySource([tmp_path])
    assert not await _finds(source, ONE)
    path = _put(tmp_path, "a.json", ONE)
    assert await _finds(source, ONE)
    _put(tmp_path, "a.json", TWO)
    assert not await _finds(source, ONE)
    assert await _finds(source, TWO)
    path.rename(tmp_path / "b.json")
    assert await _finds(source, TWO)
    (tmp_path / "b.json").unlink()
    assert not await _finds(source, TWO)


async def test_a_file_that_changes_again_within_a_tick_of_its_clock_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "_TICK_NS", 3600 * 10**9)
    source = DirectorySource([tmp_path])
    path = _put(tmp_path, "a.json", ONE)
    assert await _finds(source, ONE)
    before = path.stat()
    _put(tmp_path, "a.json", TWO)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_ino) == (before.st_size, before.st_ino)
    assert await _finds(source, TWO)


async def test_what_is_no_signed_contract_is_skipped_with_one_line_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = '{"secret-member":1,"secret-member":2}'
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "twice.json").write_text(secret)
    (tmp_path / "draft.json").write_bytes(jcs_bytes(claw()))
    (tmp_path / "large.json").write_bytes(b" " * (MAX_ENVELOPE_BYTES + 1))
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "note.txt").write_text("not looked at")
    (tmp_path / ".hidden.json").write_text("not looked at")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "dangling.json").symlink_to(tmp_path / "nowhere")
    _put(tmp_path, "one.json", ONE)
    source = DirectorySource([tmp_path])

    def told() -> list[str]:  # what other loggers say of earlier tests comes whenever garbage is collected
        return [record.getMessage() for record in caplog.records if record.name == source_module.log.name]

    with caplog.at_level(logging.WARNING):
        assert await _finds(source, ONE)
    assert len(told()) == 8
    assert all("skipped" in message and "\n" not in message for message in told())
    assert "secret-member" not in caplog.text
    assert any("pipe.json: skipped: not a regular file" in message for message in told())
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert not await _finds(source, TWO)
    assert [m for m in told() if "dangling" not in m] == []


async def test_a_link_is_followed_within_the_directory_only(tmp_path: Path) -> None:
    mounted, outside = tmp_path / "mounted", tmp_path / "outside"
    (mounted / "..data").mkdir(parents=True)
    outside.mkdir()
    _put(mounted / "..data", "one.json", ONE)
    _put(outside, "two.json", TWO)
    (mounted / "one.json").symlink_to("..data/one.json")
    (mounted / "two.json").symlink_to(outside / "two.json")
    source = DirectorySource([mounted])
    assert await _finds(source, ONE)
    assert not await _finds(source, TWO)


async def test_a_linked_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    _put(tmp_path / "real", "one.json", ONE)
    (tmp_path / "link").symlink_to("real")
    assert await _finds(DirectorySource([tmp_path / "link"]), ONE)


async def test_a_miss_with_a_directory_unread_is_a_fault_not_an_absence(tmp_path: Path) -> None:
    _put(tmp_path, "one.json", ONE)
    source = DirectorySource([tmp_path / "missing", tmp_path])
    assert await _finds(source, ONE)
    with pytest.raises(ClawproxyError) as caught:
        await source.fetch(TWO["payload_hash_b64u"])
    assert caught.value.reason == "WPC_REGISTRY_FETCH_FAILED"
    assert "missing" in str(caught.value)


async def test_unchanged_files_are_read_once(tmp_path: Path) -> None:
    path = _put(tmp_path, "one.json", ONE)
    source = DirectorySource([tmp_path])
    assert await _finds(source, ONE)
    os.utime(path, (10**9, 10**9))  # long ago
    assert not await _finds(source, TWO)
    state = path.stat()
    path.write_bytes(b"x" * state.st_size)  # same size and times: taken for the version that was read
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert not await _finds(source, TWO)
    assert await source.fetch(ONE["payload_hash_b64u"]) is None  # what is served is read, and read now
