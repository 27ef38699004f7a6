"""Clients that do not trust the CA are told from their hello: lists of cipher suites as the real ones sent them."""

from __future__ import annotations

import pytest
from clawproxy.addons.trust_hint import hint_for

PYTHON = [0x1302, 0x1303, 0x1301, 0xC02C, 0xC030, 0xC02B, *range(0xC000, 0xC00C)]
CURL = [0x1302, 0x1303, 0x1301, 0xC02C, 0xC030, 0x9F, *range(0xC000, 0xC019)]
NODE = [0x1302, 0x1303, 0x1301, 0xC02F, 0xC02B, 0xC030, *range(0xC000, 0xC035)]
GIT = [0x1302, 0x1303, 0x1301, 0x1304, 0xC02C, 0xCCA9, *range(0xC000, 0xC017)]
BUN = [0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, *range(0xC000, 0xC00B)]
RUSTLS = [0x1302, 0x1301, 0x1303, 0xC02C, 0xC02B, 0xCCA9, 0xC030, 0xC02F, 0xCCA8, 0xFF]


@pytest.mark.parametrize(
    ("suites", "variable", "client"),
    [
        (PYTHON, "SSL_CERT_FILE", "Python"),
        (CURL, "CURL_CA_BUNDLE", "curl"),
        (NODE, "NODE_EXTRA_CA_CERTS", "Node"),
        (GIT, "GIT_SSL_CAINFO", "git"),
        (BUN, "NODE_EXTRA_CA_CERTS", "Claude Code"),
        (RUSTLS, "CODEX_CA_CERTIFICATE", "Codex"),
        ([], "REQUESTS_CA_BUNDLE", "a client"),
        ([0xC02C], "REQUESTS_CA_BUNDLE", "a client"),
    ],
    ids=["python", "curl", "node", "git", "bun", "rustls", "nothing", "old"],
)
def test_each_client_is_told_the_variable_that_it_reads(suites: list[int], variable: str, client: str) -> None:
    hint = hint_for(suites)
    assert variable in hint.remedy
    assert client in hint.client
