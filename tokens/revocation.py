"""What was taken back: tokens, token ids, jobs and contracts, in memory.

Judged at every call, also for a token that the verifier remembers.
"""

from __future__ import annotations

import re

from .claims import is_job_id
from .digests import is_sha256_b64u
from .errors import ClawproxyError
from .grant import Grant
from .reasons import Refusal

_TOKEN_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Revocations:
    """Four sets that only grow. One per gateway, used from its event loop."""

    def __init__(self) -> None:
        self._token_hashes: set[str] = set()
        self._jtis: set[str] = set()
        self._jobs: set[str] = set()
        self._contracts: set[str] = set()

    def check(self, grant: Grant) -> Refusal | None:
        """The refusal (TOKEN_REVOKED) if anything that ``grant`` stands on was revoked."""
        if grant.token_hash_hex in self._token_hashes:
            return Refusal("TOKEN_REVOKED", "revoked token", "this token was revoked")
        if grant.jti in self._jtis:
            return Refusal("TOKEN_REVOKED", "revoked jti", "the token's id was revoked")
        if grant.job_id in self._jobs:
            return Refusal("TOKEN_REVOKED", "revoked job", f"job {grant.job_id} was revoked")
        if grant.policy_hash_b64u in self._contracts:
            return Refusal("TOKEN_REVOKED", "revoked contract", f"contract {grant.policy_hash_b64u} was revoked")
        return None

    def revoke_token(self, token_hash_hex: str) -> bool:
        """Revoke one token by its hash (``verify.token_hash``); True if it was not revoked before."""
        if not isinstance(token_hash_hex, str) or not _TOKEN_HASH.fullmatch(token_hash_hex):
            # no `got`: someone may have given the token itself
            raise _not_a("token hash", "64 lowercase hex digits", "see: clawproxy token inspect")
        return self._add(self._token_hashes, token_hash_hex)

    def revoke_jti(self, jti: str) -> bool:
        """Revoke every token with this id; True if it was not revoked before."""
        if not isinstance(jti, str) or not jti:
            raise _not_a("token id", "the jti claim of a token", "see: clawproxy token inspect")
        return self._add(self._jtis, jti)

    def revoke_job(self, job_id: str) -> bool:
        """Revoke every token of a job; True if it was not revoked before."""
        if not is_job_id(job_id):
            raise _not_a("job id", "a job id", "see: clawproxy job list")
        return self._add(self._jobs, job_id)

    def revoke_contract(self, policy_hash_b64u: str) -> bool:
        """Revoke every token pinned to a contract; True if it was not revoked before."""
        if not is_sha256_b64u(policy_hash_b64u):
            raise _not_a("contract hash", "43 base64url characters", "see: clawproxy contract hash")
        return self._add(self._contracts, policy_hash_b64u)

    def _add(self, revoked: set[str], value: str) -> bool:
        if value in revoked:
            return False
        revoked.add(value)
        return True


def _not_a(what: str, expected: str, remedy: str) -> ClawproxyError:
    return ClawproxyError("REVOCATION_INVALID", f"not a {what}", expected=expected, remedy=remedy)
