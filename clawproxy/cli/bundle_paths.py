"""What a path that a person gave is: a job, a gateway's own journal, a state directory. Looks at names of files."""

from __future__ import annotations

from pathlib import Path

from ..tokens.errors import ClawproxyError
from .gateway_journal import journal_files
from .state import DEFAULT_STATE

# contract.json is not among them: where a contract is being written, one lies in any directory
_OF_A_JOB = ("job.json", "receipts.jsonl", "MANIFEST.json", "SEAL.json")


def is_state_directory(path: Path) -> bool:
    """Whether ``path`` is where jobs lie, and not a job."""
    return not _is_job(path) and ((path / "jobs").is_dir() or (path / "gateway").is_dir())


def _is_job(path: Path) -> bool:
    return any((path / name).exists() for name in _OF_A_JOB)


def check_job_directory(path: Path) -> None:
    """Raise ``ClawproxyError`` (NOT_A_JOB) for a directory that holds no file of a job at all."""
    if not path.exists() and (there := DEFAULT_STATE / "jobs" / path).is_dir():
        raise ClawproxyError(
            "NOT_A_JOB", "a job is named by its directory", where=str(path), remedy=f"it is here: {there}"
        )
    if not path.is_dir() or _is_job(path):
        return
    if journal_files(path):
        remedy = f"of a gateway's own journal, ask: clawproxy explain {path} RECEIPT_ID"
    elif is_state_directory(path):
        remedy = f"give one, such as {path / 'jobs' / 'NAME'}"
    else:
        remedy = "give one, such as .clawproxy/jobs/NAME"
    raise ClawproxyError("NOT_A_JOB", "not a job directory", where=str(path), remedy=remedy)
