"""Rules of other evidence in a job: attachments, audits of the agent's configuration (docs/evidence-format.md). Pure.

J80 ``attached``: closed detail; a file that it says is stored is there with its bytes (ATTACHMENT_MISMATCH), and no
    file is there that no event names (FILE_UNLISTED): before the end that is a gap, since a crash leaves it
J81 ``config_compared``, ``config_audited``: closed detail; what is compared with is the contract in force
    (EVIDENCE_MISMATCH); a summary is there where the audit was done, and not where it failed, and no more is listed
    than was counted (SCHEMA_VALIDATION_FAILED)

Limits: that the file or the report is true is its author's word; an audit is the word of who ran it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..tokens.canonical import JsonObject
from ..tokens.digests import sha256_b64u
from .job_shapes import COUNT, DIGEST
from .report import Fault, Findings
from .wire_envelope import check_shape, join
from .wire_schema import Flag, ListOf, Nullable, Number, Obj, Text

DIRECTORY = "attachments/"
EVENTS = ("attached", "config_compared", "config_audited")
_LINE = Text(min=0, max=500, what="one line of up to 500 characters")
_SHORT = Text(min=0, max=256, what="up to 256 characters")
_WORD = Text(pattern=re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII), what="a word")
_LABEL = Nullable(Text(among=("before", "after")))
_ATTACHED = Obj(
    required={
        "kind": Text(pattern=re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII), what="a kind"),
        "name": Text(max=200),
        "note": _LINE,
        "sha256_b64u": DIGEST,
        "size_bytes": Number(0, 16 * 1024 * 1024, whole=True),
        "stored": Flag(),
    }
)
_WIDER = Obj(required=dict.fromkeys(("field", "path", "value"), _SHORT))
_COMPARED = Obj(
    required={
        "agent": _WORD,
        "agent_version": _SHORT,
        **dict.fromkeys(("config_hash_b64u", "policy_hash_b64u", "report_hash_b64u"), DIGEST),
        "label": _LABEL,
        "wider": ListOf(_WIDER, max=64),
        "wider_total": COUNT,
    }
)
_AUDITED = Obj(
    required={
        "agent": _WORD,
        "agent_version": _SHORT,
        **dict.fromkeys(("config_hash_b64u", "report_hash_b64u"), Nullable(DIGEST)),
        "critical_ids": ListOf(_SHORT, max=64),
        "detail": _SHORT,
        "exit_code": Nullable(Number(-255, 255, whole=True)),
        "label": _LABEL,
        "outcome": Text(among=("done", "failed")),
        "summary": Nullable(Obj(required=dict.fromkeys(("critical", "info", "warn"), COUNT))),
    }
)


@dataclass(slots=True)
class AttachedSeen:
    """The attachments that events name, and how many audits there are."""

    stored: dict[str, int] = field(default_factory=dict)
    """Digest -> size, of those that are in the bundle."""
    counted: dict[str, int] = field(default_factory=dict)
    """By event type."""

    def take(self, event_type: str, detail: JsonObject, policy_hash_b64u: str, path: str) -> None:
        """One more event; ``policy_hash_b64u`` is the contract in force. Raises ``Fault``."""
        self.counted[event_type] = self.counted.get(event_type, 0) + 1
        if event_type == "attached":
            check_shape(_ATTACHED, detail, "J80", path)
            digest, size = detail["sha256_b64u"], detail["size_bytes"]
            if detail["stored"] and self.stored.setdefault(digest, size) != size:
                raise Fault("J80", "ATTACHMENT_MISMATCH", join(path, "size_bytes"), "one digest of two sizes")
            return
        check_shape(_COMPARED if event_type == "config_compared" else _AUDITED, detail, "J81", path)
        if event_type == "config_audited":
            if (detail["summary"] is None) is (detail["outcome"] == "done"):
                raise Fault("J81", "SCHEMA_VALIDATION_FAILED", join(path, "summary"), "not what the outcome says")
            return
        if detail["policy_hash_b64u"] != policy_hash_b64u:
            raise Fault("J81", "EVIDENCE_MISMATCH", join(path, "policy_hash_b64u"), "not the contract in force")
        if len(detail["wider"]) > detail["wider_total"]:
            raise Fault("J81", "SCHEMA_VALIDATION_FAILED", join(path, "wider"), "more is listed than counted")

    def check_end(self, files: Mapping[str, Any], findings: Findings, *, ended: bool) -> None:
        """J80, of the files themselves. Raises ``Fault``."""
        there = {name.removeprefix(DIRECTORY) for name in files if name.startswith(DIRECTORY)}
        for digest, size in sorted(self.stored.items()):
            content = files.get(DIRECTORY + digest)
            if content is None:
                raise Fault("J80", "ATTACHMENT_MISMATCH", DIRECTORY + digest, "an event names it, and it is not there")
            if len(content) != size or sha256_b64u(content) != digest:
                raise Fault("J80", "ATTACHMENT_MISMATCH", DIRECTORY + digest, "not the bytes that the event names")
        for digest in sorted(there - self.stored.keys()):
            if ended:
                raise Fault("J80", "FILE_UNLISTED", DIRECTORY + digest, "no event names this attachment")
            findings.gap("J80", "FILE_UNLISTED", DIRECTORY + digest, "no event names this attachment yet")
