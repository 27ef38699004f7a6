"""Touches files: the contracts that a running job came under after its first, ``contracts/<hash>.json`` of its own.

A file lies there, whole and durable, before the ``authority_changed`` event that names it. So a crash in between leaves
a file that no event names, which nobody was judged by: it is taken away when the job is opened again or sealed.
"""

from __future__ import annotations

import re

from ..tokens.canonical import JsonObject, jcs_bytes, parse_json_object
from ..tokens.errors import ClawproxyError
from .disk import Disk, place_file, read_whole
from .job_paths import JobPaths

MAX_CONTRACT_BYTES = 1024 * 1024
MAX_CONTRACT_CHANGES = 64
"""How often one job may come under another contract; each begins a segment."""
_NAME = re.compile(r"([A-Za-z0-9_-]{43})\.json", re.ASCII)


def place_contract(disk: Disk, paths: JobPaths, policy_hash_b64u: str, envelope: JsonObject) -> None:
    """Keep a signed contract beside the first; durable on return. Raises ``ClawproxyError`` or ``OSError``."""
    content = jcs_bytes(envelope)
    if envelope.get("payload_hash_b64u") != policy_hash_b64u or len(content) > MAX_CONTRACT_BYTES:
        raise ClawproxyError(
            "POLICY_HASH_MISMATCH",
            "the contract is not the one that the token names, or too large",
            got=envelope.get("payload_hash_b64u"),
            expected=policy_hash_b64u,
        )
    if not disk.is_dir(paths.contracts):
        disk.mkdir(paths.contracts)
        disk.fsync_dir(paths.directory)
    target = paths.contract_of(policy_hash_b64u)
    if disk.size(target) is None:
        place_file(disk, paths.staged("contract.json"), target, content)


def settle_contracts(disk: Disk, paths: JobPaths, named: set[str]) -> None:
    """That each contract that an event names is there, and no other file; what a crash left unnamed is taken away.

    ``named`` is without the job's first contract. Raises ``ClawproxyError`` (JOB_DAMAGED) or ``OSError``.
    """
    there = contract_names(disk, paths)
    for policy_hash in sorted(named):
        path = paths.contract_of(policy_hash)
        if policy_hash not in there:
            raise ClawproxyError("JOB_DAMAGED", "a file of the job is missing", where=str(path))
        envelope = parse_json_object(read_whole(disk, path, MAX_CONTRACT_BYTES))
        if envelope.get("payload_hash_b64u") != policy_hash:
            raise ClawproxyError("JOB_DAMAGED", "a contract of the job is another", where=str(path))
    for policy_hash in sorted(there - named):
        disk.unlink(paths.contract_of(policy_hash))
        disk.fsync_dir(paths.contracts)


def contract_names(disk: Disk, paths: JobPaths) -> set[str]:
    """The hashes of the contracts in ``contracts/``; raises ``ClawproxyError`` (JOB_DAMAGED) for any other file."""
    found = set()
    for name in disk.names(paths.contracts):
        match = _NAME.fullmatch(name)
        if match is None or disk.size(paths.contracts / name) is None:
            raise stray_file(paths, f"contracts/{name}")
        found.add(match[1])
    return found


def stray_file(paths: JobPaths, name: str) -> ClawproxyError:
    """A file that is not of a job. It may not stay, since a verifier refuses a bundle that has it."""
    return ClawproxyError(
        "JOB_DAMAGED",
        "the job's directory holds a file that is not the gateway's",
        where=str(paths.directory),
        got=name,
        remedy="move it out of the directory; a gateway that refused the job for it must be restarted",
    )
