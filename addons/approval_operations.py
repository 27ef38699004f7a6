"""What the admin socket does about approvals: list what is asked, ask about a whole job, take a signed answer.

The socket itself lets nobody approve: who speaks to it must bring the signature of an approver's key.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..policies.pin import Pinner
from ..receipts.jobs import JobBook
from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError
from .admin import Operation
from .approvals import ApprovalDesk


class ApprovalOperations:
    """``approvals``, ``approval_for_job`` and ``approve``."""

    def __init__(self, desk: ApprovalDesk, jobs: JobBook, pinner: Pinner) -> None:
        self._desk = desk
        self._jobs = jobs
        self._pinner = pinner

    @property
    def by_name(self) -> Mapping[str, Operation]:
        return {"approvals": self._list, "approval_for_job": self._ask_about, "approve": self._answer}

    async def _list(self, request: JsonObject) -> JsonObject:
        _only(request, {"op", "approval_id"})
        return self._desk.listed(str(request.get("approval_id", "")))

    async def _ask_about(self, request: JsonObject) -> JsonObject:
        _only(request, {"op", "job_id"})
        job = await self._jobs.job_named(str(request.get("job_id")))
        policy = await self._pinner.policy_of(job.policy_hash_b64u)
        return {"question": self._desk.question_about(job, policy)}

    async def _answer(self, request: JsonObject) -> JsonObject:
        _only(request, {"op", "envelope"})
        return await self._desk.answer(request.get("envelope"))


def _only(request: JsonObject, known: set[str]) -> None:
    unknown = request.keys() - known
    if unknown:
        raise ClawproxyError("INVALID_REQUEST", "unknown argument", got=min(unknown), expected=", ".join(sorted(known)))
