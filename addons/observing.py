"""Observe mode: what the contract refuses goes on all the same, and the call remembers what would have refused it.

Only in a job that was opened so, which is signed with its opening; nothing that an agent sends turns it on. What is not
about the contract stays refused (``policies.observe``), and so does whatever data boundaries deny: a trial must not
leak.
"""

from __future__ import annotations

import logging

from ..policies.call_rules import CallAllowed, CallAsks, ToolCall
from ..policies.observe import (
    call_could_be_allowed,
    destination_could_be_listed,
    egress_could_be_listed,
    is_waived,
    tool_could_be_called,
)
from ..receipts.calls import WouldRefuse
from ..receipts.job import Job
from ..tokens.errors import ClawproxyError
from ..tokens.reasons import Refusal
from .call import Call

log = logging.getLogger("clawproxy.observing")


def is_observed(call: Call) -> bool:
    """Whether the call's job was opened to observe."""
    return call.job is not None and call.job.observe


def let_through(call: Call, refusal: Refusal) -> bool:
    """Whether the call goes on in spite of ``refusal``, which is then on its record."""
    if not is_observed(call) or not is_waived(refusal):
        return False
    would = WouldRefuse(refusal.reason, refusal.rule)
    if would not in call.would_refuse:
        call.would_refuse += (would,)
    return True


def let_through_model_call(call: Call, refusal: Refusal) -> bool:
    """The same for the decision about a model call."""
    if not is_observed(call) or call.facts is None or call.grant is None:
        return False
    return call_could_be_allowed(call.facts, call.grant) and let_through(call, refusal)


async def let_through_tunnel(call: Call, scheme: str, host: str, refusal: Refusal) -> bool:
    """The same for a tunnel to a host that the contract does not list; the calls in it are judged one by one. The host
    is on record once this returns, whether a call comes or not."""
    if call.job is None or not destination_could_be_listed(scheme, host) or not let_through(call, refusal):
        return False
    noted = call.job.observe_host(call.would_refuse[-1], host, call.flow.request.port)
    if noted is not None:
        await noted
    return True


def notice_name(job: Job, name: str) -> None:
    """A name was looked up that the contract does not list; nobody waits for its record."""
    try:
        noted = job.observe_host(WouldRefuse("NAME_NOT_ALLOWED", "names of the contract"), name, None)
    except ClawproxyError as err:
        log.warning("job %s: a name that it looked up could not be recorded: %s", job.job_id, err)
        return
    if noted is not None:
        noted.add_done_callback(lambda done: done.cancelled() or done.exception())


def let_through_effect(call: Call, refusal: Refusal) -> bool:
    """The same for the decision about a call of a tool to another host."""
    if not is_observed(call) or call.egress is None:
        return False
    return egress_could_be_listed(call.egress.facts) and let_through(call, refusal)


def observed_verdict(
    call: Call, asked: ToolCall, verdict: CallAllowed | CallAsks | Refusal
) -> tuple[CallAllowed | CallAsks | Refusal, WouldRefuse | None]:
    """The verdict on a call of a tool in an answer, as it counts in the call's job, and what it would have been."""
    if not is_observed(call) or isinstance(verdict, CallAllowed):
        return verdict, None
    if isinstance(verdict, CallAsks):
        return CallAllowed(verdict.rule), WouldRefuse("APPROVAL_REQUIRED", verdict.rule)
    if call.facts is None or call.grant is None or not is_waived(verdict):
        return verdict, None
    if not tool_could_be_called(asked, call.facts, call.grant):
        return verdict, None
    return CallAllowed(verdict.rule), WouldRefuse(verdict.reason, verdict.rule)
