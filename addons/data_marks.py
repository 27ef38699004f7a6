"""What a job has seen under a label: digests of pieces of text, so that the label is found again where they come back.

A piece is a value, a line or a sentence of at least 32 letters and digits. Kept are keyed digests, not text, and a
bounded number of them; a job that has seen more carries all its labels from then on. Lives in memory: after a restart
it is known which labels a job has seen (``recall``), and a text's own as soon as the tool's result is sent again.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from ..policies.detect.leaves import Leaves
from ..receipts.calls import DataSeen
from ..tokens.errors import ClawproxyError

MIN_PIECE_CHARS = 32
MAX_PIECES = 100_000
MAX_JOBS = 4096
_KEPT = str.maketrans("", "", " \t\r\n\"'`*_#>|\\-.,;:!?()[]{}")


class JobMarks:
    """The labels of one job, and its key."""

    def __init__(self) -> None:
        self.key = secrets.token_bytes(32)
        self.seen: frozenset[str] = frozenset()
        """Every label that anything in this job carried."""
        self.classes: frozenset[str] = frozenset()
        """Every class of data that was found in a call of this job, and left with it."""
        self.full = False
        self._pieces: dict[bytes, frozenset[str]] = {}
        self._lock = threading.Lock()

    def keep(self, texts: Iterable[str], labels: frozenset[str]) -> None:
        """Texts that carry ``labels``."""
        if not labels:
            return
        with self._lock:
            self.seen |= labels
            for piece in self._digests(texts):
                if len(self._pieces) >= MAX_PIECES and piece not in self._pieces:
                    self.full = True
                    return
                self._pieces[piece] = self._pieces.get(piece, frozenset()) | labels

    def recall(self, labels: frozenset[str], classes: frozenset[str]) -> None:
        """What calls of this job carried, by its journal: of a job that began in another process nothing else tells."""
        with self._lock:
            self.seen |= labels
            self.classes |= classes

    def leave(self, seen: DataSeen) -> None:
        """A call that may leave carries this: what was redacted stays here."""
        redacted = {name for name, _ in seen.redacted}
        self.classes |= {name for name, _ in seen.found if name not in redacted}

    def labels_in(self, texts: Iterable[str]) -> frozenset[str]:
        """The labels of what stands in ``texts`` and was kept."""
        if self.full:
            return self.seen
        if not self._pieces:
            return frozenset()
        found: frozenset[str] = frozenset()
        for piece in self._digests(texts):
            if piece in self._pieces:
                found |= self._pieces[piece]
        return found

    def _digests(self, texts: Iterable[str]) -> Iterator[bytes]:
        for text in texts:
            for piece in _pieces(text):
                yield hashlib.blake2b(piece.encode("utf-8", "surrogatepass"), digest_size=12, key=self.key).digest()


def _pieces(text: str) -> Iterator[str]:
    if len(text) < MIN_PIECE_CHARS:
        return
    # as written and with the escapes of JSON inside a string undone
    forms = [text] if "\\" not in text else [text, text.replace("\\n", "\n").replace('\\"', '"').replace("\\t", " ")]
    told = set()
    for form in forms:
        for line in (form, *form.splitlines()):
            for piece in (line, *line.replace(": ", ". ").replace("; ", ". ").split(". ")):
                plain = piece.translate(_KEPT).casefold()
                if len(plain) >= MIN_PIECE_CHARS and plain not in told:
                    told.add(plain)
                    yield plain


class Marks:
    """The marks of all jobs that this process knows."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, JobMarks] = OrderedDict()

    def of(self, job_id: str) -> JobMarks:
        """Those of one job; raises ``ClawproxyError`` (DATA_SCAN_FAILED) where there is no room for another."""
        marks = self._jobs.get(job_id)
        if marks is None:
            if len(self._jobs) >= MAX_JOBS:
                unmarked = next((name for name, one in self._jobs.items() if not one.seen), None)
                if unmarked is None:
                    raise ClawproxyError("DATA_SCAN_FAILED", "too many jobs carry labels", expected=f"{MAX_JOBS}")
                del self._jobs[unmarked]
            marks = self._jobs[job_id] = JobMarks()
        return marks

    def forget(self, job_id: str) -> None:
        """The job is sealed."""
        self._jobs.pop(job_id, None)


def texts_of(value: object) -> list[str]:
    """All strings in a JSON value."""
    return [leaf.text for leaf in Leaves(value)]
