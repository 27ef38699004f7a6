"""One audit of a live OpenClaw beside a contract: its configuration, its state, its plugins, and its own audit.

Touches the file system, and starts ``openclaw`` where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..receipts.audits import MAX_LISTED
from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError
from .agent_user import owner_of
from .compare import compare
from .config import LiveConfig, at, read_config, walk, written
from .own_audit import OwnAudit, loaded_plugins, scrubbed, security_audit
from .plugins import judge_plugins
from .render import Options
from .state_files import look_at_state
from .tools import Powers, denied_by
from .wider import Wider, wider


@dataclass(frozen=True, slots=True)
class Audit:
    """``own`` is None where no openclaw is at hand."""

    live: LiveConfig
    policy_hash_b64u: str
    wider: tuple[Wider, ...]
    own: OwnAudit | None

    @property
    def holds(self) -> bool:
        """Whether nothing is wider than the contract, and OpenClaw's own audit, if there is one, finds nothing
        critical."""
        return not self.wider and (self.own is None or self.own.is_clean)

    def to_json(self) -> JsonObject:
        return {
            "holds": self.holds,
            "policy_hash_b64u": self.policy_hash_b64u,
            "config_hash_b64u": self.live.sha256_b64u,
            "agent_version": self.live.version,
            "wider": [item.to_json() for item in self.wider],
            "security_audit": None if self.own is None else self.own.to_json(),
        }

    @property
    def report(self) -> bytes:
        """What is wider, whole: the file that ``report_hash_b64u`` of the event is over."""
        return jcs_bytes(
            {
                "config_hash_b64u": self.live.sha256_b64u,
                "policy_hash_b64u": self.policy_hash_b64u,
                "wider": [item.to_json() for item in self.wider],
            }
        )

    def events(self, label: str | None) -> list[tuple[str, JsonObject]]:
        """The events that a job keeps of it, type and detail (``receipts.audits``)."""
        both = _of_configuration(self.live.version, self.live.sha256_b64u, label)
        rows = [{"field": item.field, "path": item.path, "value": item.value} for item in self.wider]
        compared = {
            "policy_hash_b64u": self.policy_hash_b64u,
            "report_hash_b64u": sha256_b64u(self.report),
            "wider": rows[:MAX_LISTED],
            "wider_total": len(rows),
        }
        events = [("config_compared", {**both, **compared})]
        return events if self.own is None else [*events, _audited(both, self.own)]


def unread(why: str, label: str | None) -> list[tuple[str, JsonObject]]:
    """The events of an audit that could not read the configuration: one that failed."""
    return [_audited(_of_configuration("", None, label), OwnAudit("failed", detail=why))]


def _of_configuration(version: str, config_hash_b64u: str | None, label: str | None) -> JsonObject:
    """What both kinds of event say."""
    return {"agent": "openclaw", "agent_version": version, "config_hash_b64u": config_hash_b64u, "label": label}


def _audited(of_configuration: JsonObject, own: OwnAudit) -> tuple[str, JsonObject]:
    audited: JsonObject = {
        "critical_ids": own.critical_ids[:MAX_LISTED],
        "detail": own.detail,
        "exit_code": own.exit_code,
        "outcome": own.outcome,
        "report_hash_b64u": own.report_hash_b64u,
        "summary": None if own.summary is None else dict(own.summary),
    }
    return "config_audited", {**of_configuration, **audited}


async def run_audit(
    config: Path,
    powers: Powers,
    options: Options,
    environment: Mapping[str, str],
    *,
    program: str = "",
    state_dir: Path | None = None,
) -> Audit:
    """``program`` is the openclaw to ask, empty for none; ``state_dir`` its state, if it is not where the environment
    says. Raises ``ClawproxyError`` (FILE_UNREADABLE, OPENCLAW_CONFIG)
    where the configuration cannot be read."""
    live = read_config(config, environment)
    state = state_dir or _own_state(environment)
    found = compare(live, powers, options)
    found += look_at_state(state, powers, options)
    own = None
    if program:
        names = scrubbed(environment, config, live.references, state_dir)
        try:
            _check_that_asking_starts_nothing(live)
            user = owner_of((config, state))
            own = await security_audit(program, names, user=user)
            denied = denied_by(_texts(at(live.tree, "tools", "deny")))
            found += judge_plugins(await loaded_plugins(program, names, user=user), powers, denied)
        except ClawproxyError as err:
            own = own or OwnAudit("failed", detail=err.message)
            says = "which plugins are enabled is not known"
            found.append(wider("plugins", err.message, "allowed_tools", says, "openclaw plugins list --json"))
    return Audit(live, powers.contract.policy_hash_b64u, tuple(found), own)


def _check_that_asking_starts_nothing(live: LiveConfig) -> None:
    """OpenClaw's audit runs the commands that secrets come from, as whoever asks: not those that an agent wrote there.
    Raises ``ClawproxyError`` (OPENCLAW_FAILED)."""
    for path, value in walk(live.tree):
        if path[-1] == "$include" or (path[-1] == "source" and value == "exec"):
            where = written(path)
            raise ClawproxyError("OPENCLAW_FAILED", f"not asked: it may start a program that {where} names")


def _own_state(environment: Mapping[str, str]) -> Path:
    """Where OpenClaw keeps its state, if nobody says otherwise."""
    return Path(environment.get("OPENCLAW_STATE_DIR") or Path(environment.get("HOME") or "/") / ".openclaw")


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
