"""One provider stand-in for the tests of the corpus."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..clawproxy.standin_process import Provider, running_standin


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_standin(tmp_path_factory.mktemp("standin")) as running:
        yield running
