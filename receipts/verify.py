"""Reads files and the clock: what ``clawproxy verify`` does. The rules are in verify_job and verify_wire."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ..tokens.canonical import parse_json_object
from ..tokens.errors import ClawproxyError
from ..tokens.trust import Trust
from .reader import Loaded, load_directory, load_zip, read_wire_file
from .report import Finding, Findings, Report, build_report
from .verify_job import verify_job
from .verify_wire import verify_wire_file

__all__ = ["load_bundle", "verify_job", "verify_path", "verify_wire_file"]


def verify_path(path: Path, trust: Trust, contract: bytes | Sequence[bytes] | None = None) -> Report:
    """Verify a job directory, a .zip of one, or one signed JSON file.

    ``contract`` is what the auditor expects: one contract, or all that the job came under. Raises ``ClawproxyError``
    (BUNDLE_UNREADABLE, …) when there is nothing to verify at ``path``; whatever is wrong with what is there is in the
    report.
    """
    if path.is_dir() or path.suffix.lower() == ".zip":
        loaded = load_bundle(path)
        return verify_job(loaded.files, trust, contract, loaded.findings)
    try:
        document = parse_json_object(read_wire_file(path))
    except ClawproxyError as err:
        if err.reason != "PARSE_ERROR":
            raise
        unreadable = Findings([Finding("W01", "PARSE_ERROR", err.where or path.name, err.one_line())])
        return build_report("unknown", unreadable)
    return verify_wire_file(document, trust, int(time.time() * 1000))


def load_bundle(path: Path) -> Loaded:
    """The files of a job directory or of a .zip of one, within the bounds of ``reader``."""
    return load_directory(path) if path.is_dir() else load_zip(path)
