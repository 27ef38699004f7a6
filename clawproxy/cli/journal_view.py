"""A job's journal for people: one line per record; verifies nothing. Reads the file (``open_journal``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..receipts.door_counts import in_words, left_out_words
from ..tokens.canonical import JsonObject, parse_json_object
from ..tokens.errors import ClawproxyError, clip

_MAX_LINE_BYTES = 16 * 1024 * 1024
SCREEN_CHARS = 160
"""So much of what happened is shown on a terminal."""
WHOLE_CHARS = 64 * 1024
"""So much goes into a file or a pipe, where lines are searched."""


def read_records(file: IO[bytes]) -> Iterator[JsonObject]:
    """The whole records from where ``file`` stands; a line without its end is left for later."""
    while True:
        start = file.tell()
        line = file.readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            file.seek(start)
            return
        try:
            yield parse_json_object(line)
        except ClawproxyError as err:
            raise err.at(f"{file.name}: offset {start}") from None


def open_journal(path: Path) -> IO[bytes]:
    """The journal, opened for reading; raises ``ClawproxyError`` (FILE_UNREADABLE)."""
    try:
        return path.open("rb")
    except OSError as err:
        why = (err.strerror or "error").lower()
        raise ClawproxyError("FILE_UNREADABLE", f"cannot read the journal: {why}", where=str(path)) from None


def payload_of(record: JsonObject) -> JsonObject:
    """The signed payload of a record, or an empty one."""
    payload = record.get("body", {}).get("payload") if isinstance(record.get("body"), dict) else None
    return payload if isinstance(payload, dict) else {}


def record_row(record: JsonObject, limit: int = SCREEN_CHARS) -> tuple[str, str, str, str]:
    """Sequence number, time, type and what happened; every text printable, and clipped to ``limit`` characters."""
    payload, kind = payload_of(record), str(record.get("t"))
    text = _TEXTS.get(kind, _other)(payload)
    return str(record.get("seq")), clip(payload.get("timestamp", "")), kind, clip(text, limit)


def _event(payload: JsonObject) -> str:
    event, detail = payload.get("event"), payload.get("detail")
    if not isinstance(event, dict):
        return ""
    if event.get("event_type") == "approval" and isinstance(detail, dict):
        return f"approval {_approval(detail)}"
    told = _EVENTS.get(str(event.get("event_type")))
    if told is not None and isinstance(detail, dict):
        return f"{event.get('event_type')} {told(detail)}".rstrip()
    return str(event.get("event_type"))


def _job_opened(detail: JsonObject) -> str:
    return "to observe: nothing of the contract is enforced" if detail.get("enforcement") == "observe" else ""


def _stopped(detail: JsonObject) -> str:
    what = f"order {detail.get('number')}: {detail.get('scope')} {detail.get('name')}".rstrip()
    mode = "" if detail.get("mode") == "stop" else f" ({str(detail.get('mode')).replace('_', ' ')})"
    return what + mode + (f": {detail['reason']}" if detail.get("reason") else "")


def _revoked(detail: JsonObject) -> str:
    what = f"order {detail.get('number')}: {detail.get('kind')} {detail.get('name')}"
    return what + (f": {detail['reason']}" if detail.get("reason") else "")


def _resumed(detail: JsonObject) -> str:
    return f"order {detail.get('number')}: lifts order {detail.get('lifts')}"


def _budget_warning(detail: JsonObject) -> str:
    used = f"{detail.get('budget')} {detail.get('used')} of {detail.get('limit')} used"
    return f"{used} (passed {detail.get('percent')} %)"


def attached(detail: JsonObject) -> str:
    """An event ``attached`` in words."""
    where = "" if detail.get("stored") else ", the digest alone"
    note = f": {detail['note']}" if detail.get("note") else ""
    return f"{detail.get('kind')} {detail.get('name')} ({detail.get('size_bytes')} bytes{where}){note}"


def config_compared(detail: JsonObject) -> str:
    """An event ``config_compared`` in words."""
    total = detail.get("wider_total")
    settings = "setting" if total == 1 else "settings"
    found = "within the contract" if total == 0 else f"{total} {settings} wider than the contract"
    return f"{_audit_of(detail)}{found}"


def config_audited(detail: JsonObject) -> str:
    """An event ``config_audited`` in words."""
    summary = detail.get("summary")
    if not isinstance(summary, dict):
        return f"{_audit_of(detail)}failed: {detail.get('detail')}"
    return _audit_of(detail) + ", ".join(f"{summary.get(name)} {name}" for name in ("critical", "warn", "info"))


def _audit_of(detail: JsonObject) -> str:
    label = f" ({detail['label']})" if detail.get("label") else ""
    return f"{detail.get('agent')}{label}: "


def _host_observed(detail: JsonObject) -> str:
    port = detail.get("port")
    what = f"a tunnel to {detail.get('host')}:{port}" if port is not None else f"the name {detail.get('host')}"
    return f"{what}, would be refused: {detail.get('code')}"


def _door_counted(detail: JsonObject) -> str:
    more = left_out_words(detail)
    return f"turned away: {in_words(detail) or 'nothing'}" + (f"; denials: {more}" if more else "")


_EVENTS = {
    "door_counted": _door_counted,
    "host_observed": _host_observed,
    "job_opened": _job_opened,
    "stopped": _stopped,
    "revoked": _revoked,
    "resumed": _resumed,
    "budget_warning": _budget_warning,
    "attached": attached,
    "config_compared": config_compared,
    "config_audited": config_audited,
}
OTHER_EVIDENCE = {"attached": attached, "config_compared": config_compared, "config_audited": config_audited}
"""Events that take other evidence into a job: how each is told."""


def _approval(detail: JsonObject) -> str:
    scope, envelope = detail.get("scope"), detail.get("approval")
    if not isinstance(scope, dict) or not isinstance(envelope, dict) or not isinstance(envelope.get("payload"), dict):
        return ""
    about = (
        f"{scope.get('action')}: {scope.get('tool')}, in {scope.get('call')}" if scope.get("call") else "the whole job"
    )
    return f"{envelope['payload'].get('approval_type')} by {envelope.get('signer_did')}, {about}"


def _intent(payload: JsonObject) -> str:
    start: Any = payload.get("detail")
    start = start if isinstance(start, dict) else {}
    would = _would_refuse(start)
    if "host" in start:
        return f"{start.get('receipt_id')} {start.get('method')} {start.get('scheme')}://{start.get('host')}{would}"
    return f"{start.get('receipt_id')} {start.get('provider')} {start.get('model')}{would}"


def opened_as(record: JsonObject) -> str:
    """``observe``, where the record opens a job so."""
    detail = payload_of(record).get("detail")
    return str(detail.get("enforcement", "")) if isinstance(detail, dict) else ""


def _would_refuse(told: JsonObject) -> str:
    """Of a job that was opened to observe: what would have refused it."""
    listed = told.get("would_refuse")
    codes = [str(each.get("code")) for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return f", would be refused: {', '.join(codes)}" if codes else ""


def ours(payload: JsonObject) -> JsonObject:
    """``metadata.clawproxy`` of a receipt payload, or an empty object."""
    metadata = payload.get("metadata")
    mine = metadata.get("clawproxy") if isinstance(metadata, dict) else None
    return mine if isinstance(mine, dict) else {}


def refused_calls(mine: JsonObject) -> list[tuple[str, str]]:
    """The calls of tools that an answer was refused for, each with its reason code."""
    called = mine.get("called")
    return [
        (str(entry.get("name")), str(entry.get("rule", "")).partition(": ")[0])
        for entry in (called if isinstance(called, list) else ())
        if isinstance(entry, dict) and entry.get("outcome") == "denied"
    ]


def _receipt(payload: JsonObject) -> str:
    mine = ours(payload)
    usage = mine.get("usage", "reported" if mine.get("usage_known") else "none")
    used = f"{payload.get('tokens_input')} in, {payload.get('tokens_output')} out"
    used = {"reported": used, "estimated": f"{used} (estimated)"}.get(str(usage), "no usage")
    if mine.get("model_match") == "other":
        used = f"answered by {mine.get('response_model')}, {used}"
    called = f", calls {', '.join(map(str, mine['tool_calls']))}" if mine.get("tool_calls") else ""
    refused = "".join(f", {reason} for {name}" for name, reason in refused_calls(mine))
    return (
        f"{payload.get('receipt_id')} {payload.get('provider')} {payload.get('model')} "
        f"{mine.get('outcome')} {mine.get('status')}{refused}, {used}, {payload.get('latency_ms')} ms{called}"
    )


def _effect(payload: JsonObject) -> str:
    receipt: Any = payload.get("side_effect")
    receipt = receipt if isinstance(receipt, dict) else {}
    return (
        f"{receipt.get('receipt_id')} {payload.get('method')} {payload.get('scheme')}://{payload.get('host')} "
        f"{payload.get('outcome')} {payload.get('status')}, {payload.get('response_bytes')} bytes, "
        f"{receipt.get('latency_ms')} ms"
    )


def _denial(payload: JsonObject) -> str:
    to = f", to {payload['destination']}" if "destination" in payload else ""
    why = f"{payload.get('reason')} ({payload.get('rule')}){to}"
    return f"{payload.get('receipt_id')} refused at {payload.get('step')}: {why}"


def _recovery(payload: JsonObject) -> str:
    return f"{len(payload.get('open_calls', ()))} calls of unknown outcome, {len(payload.get('torn', ()))} torn tails"


def _summary(payload: JsonObject) -> str:
    counts = [row for row in payload.get("counts", ()) if isinstance(row, dict)]
    return "not recorded one by one: " + ", ".join(f"{row.get('count')} {row.get('reason')}" for row in counts)


def _reload(payload: JsonObject) -> str:
    changed = [row for row in payload.get("changes", ()) if isinstance(row, dict)]
    wider = "allows more than before: " if payload.get("widens") else ""
    return wider + ", ".join(f"{row.get('key')} {row.get('what')}" for row in changed)


def _other(_payload: JsonObject) -> str:
    return ""


_TEXTS = {
    "event": _event,
    "intent": _intent,
    "receipt": _receipt,
    "effect": _effect,
    "denial": _denial,
    "recovery": _recovery,
    "summary": _summary,
    "reload": _reload,
}
