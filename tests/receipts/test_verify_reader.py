"""Loading: bounded, and nothing outside the bundle is ever read. Each refusal was seen red without its check."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from clawproxy.receipts.reader import Bounds, load_directory, load_zip
from clawproxy.receipts.report import Report, Verdict
from clawproxy.receipts.verify import verify_path
from clawproxy.tokens.errors import ClawproxyError
from hypothesis import given
from hypothesis import strategies as st

from .forge import plain_job, trust
from .wire_makers import bundle as wire_bundle
from .wire_makers import trust as wire_trust


def write(directory: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def pack(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def refused(report: Report) -> tuple[Verdict, str, str]:
    return report.verdict, report.reason, report.findings[0].rule


# -- directories -----------------------------------------------------------------------------------------------------


def test_a_job_directory_verifies(tmp_path: Path) -> None:
    tail = b"torn"
    forge = plain_job(calls=0, denials=0, torn={"torn/3.0": tail})
    assert verify_path(write(tmp_path, forge.files()), trust()).reason == "TORN_FILE_MISMATCH"  # it was read
    forge = plain_job()
    assert verify_path(write(tmp_path / "whole", forge.files()), trust()).verdict is Verdict.VERIFIED


def test_a_symlink_fails_and_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    job = write(tmp_path / "job", plain_job().files())
    (job / "torn").mkdir()
    (job / "torn" / "1.0").symlink_to(outside)
    report = verify_path(job, trust())
    assert refused(report) == (Verdict.FAILED, "BUNDLE_NAME_REFUSED", "B02")
    assert report.findings[0].path == "torn/1.0"
    assert b"secret" not in load_directory(job).files.values()


def test_a_linked_job_file_fails_though_its_bytes_are_right(tmp_path: Path) -> None:
    job = write(tmp_path / "job", plain_job().files())
    (job / "SEAL.json").rename(tmp_path / "SEAL.json")
    (job / "SEAL.json").symlink_to(tmp_path / "SEAL.json")
    assert verify_path(job, trust()).verdict is Verdict.FAILED


def test_a_linked_torn_directory_is_not_entered(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"1.0": b"secret"})
    job = write(tmp_path / "job", plain_job().files())
    (job / "torn").symlink_to(outside)
    assert refused(verify_path(job, trust())) == (Verdict.FAILED, "BUNDLE_NAME_REFUSED", "B02")


def test_a_fifo_fails_without_waiting(tmp_path: Path) -> None:
    job = write(tmp_path / "job", plain_job().files())
    os.mkfifo(job / "torn.fifo")
    assert refused(verify_path(job, trust())) == (Verdict.FAILED, "BUNDLE_NAME_REFUSED", "B02")


def test_a_directory_that_a_bundle_does_not_have_fails(tmp_path: Path) -> None:
    job = write(tmp_path / "job", {**plain_job().files(), "more/x": b""})
    assert refused(verify_path(job, trust())) == (Verdict.FAILED, "BUNDLE_NAME_REFUSED", "B02")


def test_a_name_that_is_not_plain_fails(tmp_path: Path) -> None:
    job = write(tmp_path / "job", {**plain_job().files(), "jöb.json": b"", "a\nb": b""})
    assert {finding.rule for finding in load_directory(job).findings} == {"B01"}
    assert all(finding.path.isprintable() for finding in load_directory(job).findings)


def test_too_many_files_and_bytes_fail(tmp_path: Path) -> None:
    job = write(tmp_path / "job", plain_job().files())
    few = load_directory(job, Bounds(files=2))
    assert "BUNDLE_TOO_LARGE" in {finding.reason for finding in few.findings}
    loaded = load_directory(job, Bounds(file_bytes=2_000))
    assert {finding.path for finding in loaded.findings} == {"receipts.jsonl", "proof_bundle.json"}
    assert "receipts.jsonl" not in loaded.files
    assert sum(map(len, load_directory(job, Bounds(total_bytes=3_000)).files.values())) <= 3_000


def test_an_unreadable_file_fails(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    job = write(tmp_path / "job", plain_job().files())
    (job / "SEAL.json").chmod(0)
    assert refused(verify_path(job, trust())) == (Verdict.FAILED, "BUNDLE_UNREADABLE", "B05")


def test_nothing_there_is_an_error_and_no_verdict(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path / "nothing.zip", tmp_path / "nothing.json"):
        with pytest.raises(ClawproxyError) as caught:
            verify_path(path, trust())
        assert caught.value.reason == "BUNDLE_UNREADABLE"
        assert str(path) in str(caught.value)


# -- zip -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "job-forged/"])
def test_a_packed_job_verifies_at_the_root_or_under_one_directory(tmp_path: Path, prefix: str) -> None:
    files = {prefix + name: data for name, data in plain_job().files().items()}
    assert verify_path(pack(tmp_path / "job.zip", files), trust()).verdict is Verdict.VERIFIED
    with zipfile.ZipFile(tmp_path / "dirs.zip", "w") as archive:
        if prefix:
            archive.mkdir(prefix)
        archive.mkdir(f"{prefix}torn")
        for name, data in files.items():
            archive.writestr(name, data)
    assert verify_path(tmp_path / "dirs.zip", trust()).verdict is Verdict.VERIFIED


@pytest.mark.parametrize(
    "name",
    ["../escape", "/etc/passwd", "torn/../../x", "a\\b", "C:x", "torn//x", "./x", "more/x", "torn/a/b", "ö", "x" * 300],
)
def test_a_packed_name_that_leads_elsewhere_fails(tmp_path: Path, name: str) -> None:
    report = verify_path(pack(tmp_path / "job.zip", {**plain_job().files(), name: b"x"}), trust())
    assert report.verdict is Verdict.FAILED
    assert "BUNDLE_NAME_REFUSED" in {finding.reason for finding in report.findings}


def test_a_name_packed_twice_fails_in_any_case(tmp_path: Path) -> None:
    for name in ("SEAL.json", "seal.JSON"):
        path = pack(tmp_path / "job.zip", plain_job().files())
        with zipfile.ZipFile(path, "a") as archive:
            again = zipfile.ZipInfo("SEAL.jsoX")
            archive.writestr(again, b"{}")
        path.write_bytes(path.read_bytes().replace(b"SEAL.jsoX", name.encode()))
        assert refused(verify_path(path, trust())) == (Verdict.FAILED, "BUNDLE_NAME_REFUSED", "B01")


def test_a_packed_symlink_fails(tmp_path: Path) -> None:
    path = pack(tmp_path / "job.zip", plain_job().files())
    link = zipfile.ZipInfo("torn/1.0")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert refused(verify_path(path, trust())) == (Verdict.FAILED, "BUNDLE_NAME_REFUSED", "B01")


def test_a_zip_bomb_is_refused_by_its_ratio_before_it_is_unpacked(tmp_path: Path) -> None:
    path = pack(tmp_path / "bomb.zip", {"receipts.jsonl": b"\0" * 40_000_000})
    assert path.stat().st_size < 100_000
    report = verify_path(path, trust())
    assert refused(report) == (Verdict.FAILED, "BUNDLE_TOO_LARGE", "B04")
    assert load_zip(path).files == {}


def test_a_zip_that_lies_about_a_size_is_cut_off(tmp_path: Path) -> None:
    path = pack(tmp_path / "liar.zip", {"receipts.jsonl": b"\0" * 40_000_000})
    raw = bytearray(path.read_bytes())
    central = raw.rindex(b"PK\x01\x02")
    raw[22:26] = raw[central + 24 : central + 28] = struct.pack("<I", 100)  # the uncompressed size, in both places
    path.write_bytes(bytes(raw))
    report = verify_path(path, trust())
    assert report.verdict is Verdict.FAILED
    assert report.findings[0].rule == "B04"
    assert load_zip(path).total_bytes == 0


def test_an_encrypted_entry_fails(tmp_path: Path) -> None:
    path = pack(tmp_path / "job.zip", plain_job().files(), zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    central = raw.index(b"PK\x01\x02")
    raw[central + 8] |= 1
    path.write_bytes(bytes(raw))
    assert verify_path(path, trust()).verdict is Verdict.FAILED


def test_too_many_packed_entries_fail(tmp_path: Path) -> None:
    path = pack(tmp_path / "job.zip", plain_job().files())
    assert [finding.rule for finding in load_zip(path, Bounds(files=3)).findings] == ["B03"]
    assert load_zip(path, Bounds(files=3)).files == {}


def test_what_is_no_zip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"not a zip")
    with pytest.raises(ClawproxyError) as caught:
        verify_path(tmp_path / "x.zip", trust())
    assert caught.value.reason == "BUNDLE_UNREADABLE"


_ZIPPED = io.BytesIO()
with zipfile.ZipFile(_ZIPPED, "w", zipfile.ZIP_DEFLATED) as _archive:
    for _name, _data in plain_job(calls=1).files().items():
        _archive.writestr(_name, _data)


@given(st.data())
def test_a_damaged_zip_gives_a_verdict_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(_ZIPPED.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("zip") / "job.zip"
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw))
    with contextlib.suppress(ClawproxyError):
        # a .zip has bytes of its own (dates, comments) that are no part of the bundle
        report = verify_path(path, trust())
        assert report.verdict in (Verdict.FAILED, Verdict.INCOMPLETE, Verdict.VERIFIED)


# -- single files ----------------------------------------------------------------------------------------------------


def test_a_single_file_conforms(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(wire_bundle()))
    report = verify_path(path, wire_trust())
    assert (report.verdict, report.kind) == (Verdict.CONFORMS, "proof_bundle")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a":1,"a":2}', b"\xff", b'{"a":NaN}', b"[" * 5000])
def test_a_file_that_is_no_strict_json_object_fails_as_unparsed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    report = verify_path(path, wire_trust())
    assert (report.verdict, report.reason, report.exit_code) == (Verdict.FAILED, "PARSE_ERROR", 1)


def test_a_duplicate_key_cannot_hide_a_second_payload(tmp_path: Path) -> None:
    text = json.dumps(wire_bundle())
    path = tmp_path / "x.json"
    path.write_text(text[:-1] + ', "payload": {}}')
    assert verify_path(path, wire_trust()).reason == "PARSE_ERROR"


def test_a_device_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ClawproxyError) as caught:
        verify_path(Path("/dev/null"), wire_trust())
    assert caught.value.reason == "BUNDLE_UNREADABLE"


# -- one .zip, one bundle ----------------------------------------------------------------------------------------------


def _packed(tmp_path: Path, files: dict[str, bytes] | None = None) -> bytes:
    return pack(tmp_path / "made.zip", files or plain_job().files()).read_bytes()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packed_file_is_stored_or_deflated_and_nothing_else(tmp_path: Path, method: int) -> None:
    loaded = load_zip(pack(tmp_path / "job.zip", plain_job().files(), method))
    assert loaded.files == {}
    assert {finding.rule for finding in loaded.findings} == {"B01"}


@pytest.mark.parametrize(
    "bend",
    [
        lambda ours, other: other + ours,
        lambda ours, other: ours + other,
        lambda ours, other: b"#!/bin/sh\n" + ours,
        lambda ours, other: ours + b"x",
        lambda ours, other: ours[:-2] + b"\1\0x",
        lambda ours, other: ours[: ours.index(b"PK\1\2")] + b"gap" + ours[ours.index(b"PK\1\2") :],
    ],
    ids=["another before", "another after", "a script before", "a byte after", "a comment", "a gap"],
)
def test_a_zip_that_holds_anything_besides_one_bundle_fails(
    tmp_path: Path, bend: Callable[[bytes, bytes], bytes]
) -> None:
    path = tmp_path / "job.zip"
    path.write_bytes(bend(_packed(tmp_path), _packed(tmp_path, plain_job(1, 0).files())))
    report = verify_path(path, trust())
    assert (report.verdict, report.reason, report.findings[0].rule) == (Verdict.FAILED, "BUNDLE_UNREADABLE", "B06")


def _first(packed: bytes, *, start: bytes = b"", behind: bytes = b"", extra: bytes = b"", flags: int = 0) -> bytes:
    """``packed``, one file, with this in its own header, then the bytes of it, and ``behind`` them as if they were its.

    Tools that read a .zip from its beginning believe that header and the end of what is packed, not the directory.
    """
    name_bytes, size = struct.unpack_from("<H", packed, 26)[0], struct.unpack_from("<L", packed, 18)[0]
    begins, directory = 30 + name_bytes, packed.index(b"PK\1\2")
    head = bytearray(packed[:30])
    head[: len(start)] = start
    struct.pack_into("<H", head, 6, flags)
    struct.pack_into("<H", head, 28, len(extra))
    listed, end = bytearray(packed[directory:-22]), bytearray(packed[-22:])
    struct.pack_into("<H", listed, 8, flags)
    struct.pack_into("<L", listed, 20, size + len(behind))
    if not flags and behind:
        struct.pack_into("<L", head, 18, size + len(behind))
    members = bytes(head) + packed[30:begins] + extra + packed[begins:directory] + behind
    struct.pack_into("<L", end, 16, len(members))
    return members + bytes(listed) + bytes(end)


_OTHER_NAME = struct.pack("<HHBL", 0x7075, 5 + len("SEAL.json"), 1, zlib.crc32(b"job.json")) + b"SEAL.json"


@pytest.mark.parametrize(
    "bend",
    [
        lambda one: _first(one, flags=8, behind=b"PK\7\10" + one[14:26] + one[: one.index(b"PK\1\2")]),
        lambda one: _first(one, behind=one[: one.index(b"PK\1\2")]),
        lambda one: _first(one, extra=_OTHER_NAME),
        lambda one: _first(one, start=one[:18] + struct.pack("<L", 1)),
        lambda one: _first(one, start=one[:8] + b"\0\0"),
    ],
    ids=["another behind its end", "the same, with its size", "another name", "another size", "another method"],
)
def test_a_member_that_tools_which_read_from_the_beginning_see_otherwise_is_refused(
    tmp_path: Path, bend: Callable[[bytes], bytes]
) -> None:
    one = _packed(tmp_path, {"job.json": b'{"some": "some of the text", "more": "more of the text"}'})
    path = tmp_path / "job.zip"
    path.write_bytes(_first(one))
    assert load_zip(path).files
    path.write_bytes(bend(one))
    loaded = load_zip(path)
    assert (loaded.files, [finding.rule for finding in loaded.findings]) == ({}, ["B06"])


def test_what_only_a_stream_has_behind_a_member_stands_nowhere_else(tmp_path: Path) -> None:
    one = _packed(tmp_path, {"job.json": b"{}"})
    directory = one.index(b"PK\1\2")
    path = tmp_path / "job.zip"
    end = bytearray(one[-22:])
    struct.pack_into("<L", end, 16, directory + 16)
    path.write_bytes(one[:directory] + b"PK\7\10" + bytes(12) + one[directory:-22] + bytes(end))
    assert [finding.rule for finding in load_zip(path).findings] == ["B06"]


def test_a_zip_written_as_a_stream_verifies(tmp_path: Path) -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    packed = Unseekable()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in plain_job().files().items():
            archive.writestr(name, content)
    path = tmp_path / "job.zip"
    path.write_bytes(packed.getvalue())
    assert verify_path(path, trust()).verdict is Verdict.VERIFIED


def test_many_entries_are_refused_by_the_end_record_before_they_are_read(tmp_path: Path) -> None:
    one = _packed(tmp_path, {"a": b""})
    start, end = one.index(b"PK\1\2"), one.index(b"PK\5\6")
    directory = one[start:end] * 60_000
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 60_000, 60_000, len(directory), start, 0)
    path = tmp_path / "many.zip"
    path.write_bytes(one[:start] + directory + last)
    tracemalloc.start()
    loaded = load_zip(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert (loaded.files, [finding.rule for finding in loaded.findings]) == ({}, ["B03"])


def test_a_fifo_that_is_called_a_zip_is_an_error_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    os.mkfifo(path)
    with pytest.raises(ClawproxyError, match="not a regular file"):
        load_zip(path)


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
def test_an_entry_that_lies_beyond_any_file_is_refused(tmp_path: Path, offset: int) -> None:
    one = _packed(tmp_path, {"a": b"x"})
    start, end = one.index(b"PK\1\2"), one.index(b"PK\5\6")
    extra = struct.pack("<HHQ", 1, 8, offset)
    entry = bytearray(one[start:end] + extra)
    entry[42:46], entry[30:32] = b"\xff" * 4, struct.pack("<H", len(extra))
    last = bytearray(one[end:])
    last[12:16] = struct.pack("<L", len(entry))
    path = tmp_path / "far.zip"
    path.write_bytes(one[:start] + entry + last)
    try:
        loaded = load_zip(path)
    except ClawproxyError:
        return
    assert loaded.findings
    assert not loaded.files
