"""Features that a request switches on by name: known families in any version, nothing else."""

from __future__ import annotations

import pytest
from clawproxy.addons.wire.betas import check_beta_header, check_betas
from clawproxy.tokens.errors import ClawproxyError


@pytest.mark.parametrize(
    "value",
    [
        None,
        "claude-code-20250219",
        "claude-code-20250219,interleaved-thinking-2025-05-14, context-1m-2025-08-07",
        "thinking-display-updates-2026-08-18",
    ],
)
def test_known_features_pass(value: str | None) -> None:
    check_beta_header(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        "files-api-2025-04-14",
        "server-side-fallback-2026-07-01",
        "skills-2025-10-02",
        "message-batches-2024-09-24",
        "claude-code",
        "claude-code-2025",
        "Claude-Code-20250219",
        "claude-code-20250219;files-api-2025-04-14",
        "claude-code-20250219\tfiles-api-2025-04-14",
        ",".join(["claude-code-20250219"] * 33),
        "x" * 5000,
    ],
)
def test_what_is_not_known_is_refused(value: str) -> None:
    with pytest.raises(ClawproxyError) as caught:
        check_beta_header(value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("names", ["claude-code-20250219", {"a": 1}, [1], [None], [["claude-code-20250219"]]])
def test_a_body_says_it_as_a_list_of_names(names: object) -> None:
    with pytest.raises(ClawproxyError):
        check_betas(names, "anthropic_beta")
