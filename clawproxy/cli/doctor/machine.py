"""The machine: Python, the engine, the clock."""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Iterator

from ...tokens.errors import ClawproxyError
from .symptom import Symptom

_EARLIEST_CLOCK_S = 1_735_689_600


def check_machine() -> Iterator[Symptom]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Symptom("ok", "python", version)
    try:
        found = importlib.metadata.version("mitmproxy")
    except importlib.metadata.PackageNotFoundError:
        yield Symptom("fail", "mitmproxy", "not installed", "install clawproxy again")
    else:
        yield _engine(found)
    if time.time() < _EARLIEST_CLOCK_S:
        yield Symptom("fail", "clock", time.strftime("%Y-%m-%d"), "set the clock: tokens and receipts depend on it")


def _engine(version: str) -> Symptom:
    from ...addons import http_stream
    from ...addons.engine_checks import check_engine

    http_stream.install()  # what is checked is mitmproxy with our seam in it
    try:
        check_engine()
    except ClawproxyError as err:
        return Symptom("fail", "mitmproxy", f"{version}: {err.message}", err.remedy)
    finally:
        http_stream.uninstall()
    return Symptom("ok", "mitmproxy", f"{version}, as this clawproxy knows it")
