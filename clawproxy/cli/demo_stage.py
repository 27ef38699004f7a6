"""What the demo plays on: the provider stand-in and a gateway, each its own process, and a state directory of its own.

Starts processes, writes files, reads the clock.
"""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..policies.contract import sign_contract
from ..policies.packaged import Starter, starter_document
from ..receipts.create import CreatedJob, create_job
from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.envelope import timestamp
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role
from ..tokens.mint import mint
from ..tokens.trust import TrustedKey, build_trust
from .contract_files import store_signed
from .state import GATEWAY_ROLES, StateDir, keep_from_git

AUDIENCE = "clawproxy.demo"
GATEWAY_ID = "did:web:clawproxy.demo"
MODELS = ("gpt-4o-mini", "claude-haiku-4-5")
JOB = "demo"
_MARK = ".clawproxy-demo"
_READY_S = 30
_STOP_S = 15


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that is set up before the first call."""

    state: StateDir
    record: Path
    reverse: str
    regular: str
    ca_file: Path
    policy_hash: str
    other_policy_hash: str
    job: CreatedJob

    def token(self, *, policy_hash: str = "", age_s: int = 0) -> str:
        """A token for the demo's job; ``age_s`` seconds old (it lives for 600)."""
        return mint(
            key=self.state.load_key(Role.TOKEN),
            sub=self.job.job_did,
            aud=[AUDIENCE],
            scope=["clawproxy:call"],
            job_id=self.job.job_id,
            policy_hash_b64u=policy_hash or self.policy_hash,
            now_s=now_ms() // 1000 - age_s,
        )


def clear_directory(root: Path) -> None:
    """An empty directory for the demo; one that holds anything else than an earlier demo is refused."""
    if root.exists() and any(root.iterdir()):
        if not (root / _MARK).exists():
            raise ClawproxyError(
                "USAGE", "not empty, and not from an earlier demo", where=str(root), remedy="choose another --dir"
            )
        shutil.rmtree(root)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    (root / _MARK).touch()
    keep_from_git(root)


@contextmanager
def set_up(root: Path) -> Iterator[Stage]:
    """Start the stand-in, make keys, sign contracts, open the job, start the gateway; all ended with the context."""
    provider_dir, record = root / "provider", root / "provider" / "record.jsonl"
    provider_dir.mkdir()
    folder = StateDir(root / "state")
    folder.ensure_keys()
    command = ["-m", "clawproxy.standin", "--dir", str(provider_dir), "--record", str(record), "--follow-stdin"]
    with _process(command, provider_dir / "log.txt") as provider:
        _write_config(folder, provider)
        policy_hash, envelope = _sign(folder, "demo")
        other_hash, _ = _sign(folder, "another-job-altogether")
        job = create_job(
            folder.jobs,
            folder.job_keys,
            receipt_key=folder.load_key(Role.RECEIPT),
            gateway_id=GATEWAY_ID,
            policy_hash_b64u=policy_hash,
            contract_envelope=envelope,
            now_ms=now_ms(),
            job_id=JOB,
            token_template={"aud": [AUDIENCE], "scope": ["clawproxy:call"]},
        )
        serve = ["-m", "clawproxy", "serve", "--json", "--state", str(folder.root)]
        with _process(serve, root / "gateway.log") as gateway:
            yield Stage(
                state=folder,
                record=record,
                reverse=gateway["reverse"],
                regular=gateway["regular"],
                ca_file=Path(gateway["ca"]),
                policy_hash=policy_hash,
                other_policy_hash=other_hash,
                job=job,
            )


def write_trust(state: StateDir, target: Path) -> None:
    """The trust file that an auditor of the demo would hold."""
    keys = [TrustedKey(state.load_key(role).did, role, f"demo {role}") for role in GATEWAY_ROLES]
    target.write_bytes(jcs_bytes(build_trust(keys).document()) + b"\n")


def _sign(folder: StateDir, name: str) -> tuple[str, JsonObject]:
    document = starter_document(Starter.SDK) | {"policy_name": name, "allowed_models": list(MODELS)}
    envelope = sign_contract(document, folder.load_key(Role.POLICY), timestamp(now_ms()))
    store_signed(envelope, folder)
    return str(envelope["payload_hash_b64u"]), envelope


def _write_config(folder: StateDir, provider: dict[str, str]) -> None:
    lines = ["# written by: clawproxy demo", f"upstream_ca = {json.dumps(provider['ca'])}"]
    lines += ["[gateway]", f'audience = ["{AUDIENCE}"]', f'gateway_id = "{GATEWAY_ID}"']
    lines += ["[listen]", 'reverse = "127.0.0.1:0"', 'regular = "127.0.0.1:0"']
    for name in ("openai", "anthropic"):
        credential = provider["credentials"][name]  # type: ignore[index]  # an object inside the ready line
        lines += [f"[providers.{name}]", f"upstream = {json.dumps(provider['url'])}"]
        lines += [f"credential = {json.dumps('file:' + credential)}"]
    folder.config.write_text("\n".join(lines) + "\n")


@contextmanager
def _process(arguments: list[str], log: Path) -> Iterator[dict[str, str]]:
    """Run this Python with ``arguments``; yields the JSON line that it prints when ready."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", *arguments],  # not with modules out of the working directory
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        yield _ready_line(process.stdout, arguments[1], log)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _ready_line(stdout: IO[str], name: str, log: Path) -> dict[str, str]:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
    line = ""
    with contextlib.suppress(queue.Empty):
        line = lines.get(timeout=_READY_S)
    if not line:
        last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise ClawproxyError("DEMO_FAILED", "a process of the demo did not start", where=name, got=last)
    ready: dict[str, str] = json.loads(line)
    return ready
