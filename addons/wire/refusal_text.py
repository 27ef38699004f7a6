"""What a refusal says, before a provider's error shape is put around it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ...tokens.canonical import JsonObject


@dataclass(frozen=True, slots=True)
class RefusalText:
    """``message`` is one sentence for people; the rest says the same to programs, None where it is not known."""

    status: int
    message: str
    reason: str
    step: str
    rule: str
    remedy: str
    receipt_id: str
    policy_hash_b64u: str | None
    job: str | None

    def marks(self) -> JsonObject:
        """The member ``clawproxy`` that every error body carries inside ``error``."""
        return {
            "reason": self.reason,
            "step": self.step,
            "rule": self.rule,
            "policy_hash_b64u": self.policy_hash_b64u,
            "receipt_id": self.receipt_id,
            "job": self.job,
            "remedy": self.remedy,
        }


_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def openai_error(refusal: RefusalText) -> JsonObject:
    """The error body of the OpenAI APIs; ``code`` is the reason."""
    kind = _OPENAI_TYPES.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "server_error")
    error = {"message": refusal.message, "type": kind, "param": None, "code": refusal.reason}
    return {"error": {**error, "clawproxy": refusal.marks()}}
