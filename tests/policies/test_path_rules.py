"""WPC v1's redaction rules, and that they fail closed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from clawproxy.policies.detect.redact import redact_paths
from clawproxy.tokens.errors import ClawproxyError

from .makers import policy_of, wpc_v1

BODY: dict[str, Any] = {
    "user": "ada",
    "metadata": {"ticket": "7", "trace": [1, 2]},
    "messages": [{"role": "user", "name": "ada", "content": "a"}, {"role": "user", "content": "b"}],
}


def redacted(*rules: tuple[str, str], key: bytes = b"k") -> dict[str, Any]:
    document = copy.deepcopy(BODY)
    data = policy_of(wpc_v1(redaction_rules=[{"path": path, "action": action} for path, action in rules])).data
    assert data is not None
    redact_paths(document, data.paths, key)
    return document


def test_remove_mask_and_hash_do_what_they_say() -> None:
    assert "user" not in redacted(("$.user", "remove"))
    assert redacted(("metadata.ticket", "mask"))["metadata"]["ticket"] == "[REDACTED]"
    masked = redacted(("messages[*].content", "mask"))["messages"]
    assert [message["content"] for message in masked] == ["[REDACTED]", "[REDACTED]"]
    assert [sorted(message) for message in redacted(("messages[*].name", "remove"))["messages"]] == [
        ["content", "role"]
    ] * 2
    assert redacted(("metadata.trace[*]", "remove"))["metadata"]["trace"] == []
    assert redacted(("metadata.trace[*]", "remove"), ("metadata.trace[*]", "remove"))["metadata"]["trace"] == []


def test_a_hash_is_a_digest_with_the_jobs_key_and_no_placeholder() -> None:
    one, again, other = (redacted(("user", "hash"), key=key)["user"] for key in (b"k", b"k", b"j"))
    assert one == again != other
    assert one.startswith("[HASH:")
    assert len(one) == len("[HASH:]") + 32


@pytest.mark.parametrize(
    "path", ["nothing", "user.name", "messages.content", "user[*]", "messages[*].nothing", "metadata[*].a"]
)
def test_a_rule_that_meets_nothing_or_something_else_refuses(path: str) -> None:
    with pytest.raises(ClawproxyError) as caught:
        redacted((path, "remove"))
    assert caught.value.reason == "DATA_SCAN_FAILED"
