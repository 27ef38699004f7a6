"""Keys, tokens and files for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from clawproxy.tokens.keys import Role, SigningKey
from clawproxy.tokens.mint import mint
from clawproxy.tokens.revocation import Revocations
from clawproxy.tokens.verify import TokenVerifier

ISSUER = SigningKey.from_seed(Role.TOKEN, bytes([0x61]) * 32)
OTHER_ISSUER = SigningKey.from_seed(Role.TOKEN, bytes([0x62]) * 32)
AUDIENCE = "gateway.test"
CONTRACT_HASH = "p" * 42 + "A"
NOW_S = 1_900_000_000
_VECTORS = Path(__file__).parents[1] / "vectors" / "tokens"
_SHARED = Path(__file__).parents[2].parent / "shared" / "vectors" / "kat"


def vectors(name: str) -> Any:
    return json.loads((_VECTORS / name).read_text())


def shared_vectors(name: str) -> Any:
    """A file of known answers that lies beside the work tree on some machines."""
    path = _SHARED / name
    if not path.exists():
        pytest.skip(f"{name} of the shared known answers is not here")
    return json.loads(path.read_text())


def make_token(key: SigningKey = ISSUER, **over: Any) -> str:
    given: dict[str, Any] = {
        "sub": "did:key:zAda",
        "aud": AUDIENCE,
        "scope": ["clawproxy:call"],
        "job_id": "job-1",
        "policy_hash_b64u": CONTRACT_HASH,
        "now_s": NOW_S,
    }
    return mint(key=key, **(given | over))


def make_verifier(revocations: Revocations | None = None, **over: Any) -> TokenVerifier:
    return TokenVerifier([ISSUER.did], frozenset({AUDIENCE}), revocations or Revocations(), **over)
