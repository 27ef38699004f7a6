"""Data boundaries (part of steps 6 and 10): what a call carries is looked for, judged, and redacted before it leaves.

The request that was decided is read once more, its labels are worked out, the detectors of its contract look through
all its strings, and what is to be redacted is taken out: then the body is written anew, the facts read from it must be
the same, and what is written is what is hashed and sent. Large bodies are looked through in a thread, within a budget
that is kept outside of the engine too; over it, or whatever fails, the call is refused (DATA_SCAN_FAILED).

What is found is counted in ``Call.data``, never told.

Limits: docs/data-boundaries.md.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ..policies.call_rules import ToolCall, called_names
from ..policies.data_rules import Action, DataPlan, build_plan, call_refusal, label_refusal
from ..policies.detect.classes import DataClasses, load_data_classes
from ..policies.detect.engine import Finding, Scan, ScanError, Scanner, scanner_for
from ..policies.detect.leaves import Leaves
from ..policies.detect.redact import redact_document, redact_paths
from ..policies.facts import CallFacts
from ..policies.packaged import packaged_data_classes
from ..policies.policy import Policy
from ..receipts.calls import DataSeen, Outcome
from ..tokens.canonical import MAX_BODY_NODES, JsonObject
from ..tokens.digests import sha256_b64u
from ..tokens.errors import ClawproxyError
from ..tokens.reasons import Refusal
from .call import Call
from .data_marks import JobMarks, Marks, texts_of
from .export_texts import chosen_host, decoded_parts
from .json_body import JsonBounds, parse_body
from .log_redaction import LogRedaction
from .rerouting import as_addressed
from .tool_results import is_compacted, tool_results
from .wire.request import WireRequest

if TYPE_CHECKING:
    from .egress_request import Egress
    from .wire.events import Framing

INLINE_BYTES = 8 * 1024
"""A body up to this size is looked through on the event loop: it takes about a millisecond."""
_THREADS = 2
_REDACTED = frozenset({Action.REMOVE, Action.MASK, Action.HASH})
_ARCHIVES = (
    b"\x1f\x8b\x08",
    b"PK\x03\x04",
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"BZh9",
    b"Rar!\x1a",
)
_CREDENTIAL_FIELDS = frozenset({"authorization", "cookie"})
_NOT_SENT_FIELDS = frozenset({"host", "proxy-authorization"})


@dataclass(frozen=True, slots=True)
class Screened:
    """A body that was looked through: what it carries, and, where something was redacted, the body as it leaves."""

    seen: DataSeen
    body: bytes | None = None


class DataGate:
    """Looks through what calls carry. ``budget_s`` bounds one look, ``clock_s`` is monotonic."""

    def __init__(
        self,
        classes: DataClasses,
        *,
        budget_s: float,
        max_body_bytes: int,
        json_bounds: JsonBounds | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        make_scanner: Callable[[DataClasses], Scanner] = lambda classes: scanner_for(tuple(classes.detectors())),
    ) -> None:
        self._classes = classes
        self._budget_s = budget_s
        self._max_body_bytes = max_body_bytes
        self._json_bounds = json_bounds or JsonBounds()
        self._clock_s = clock_s
        self._make_scanner = make_scanner
        self._scanner: Scanner | None = None
        self._building = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, "clawproxy-data")
        self._plans: dict[str, DataPlan] = {}
        self.marks = Marks()
        self._in_logs: frozenset[str] = frozenset()
        self._log_redaction = LogRedaction(lambda text: self._cleaned(text, self._in_logs))

    def close(self) -> None:
        """No more looks."""
        self._log_redaction.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def plan_of(self, policy: Policy | None) -> DataPlan | None:
        """The plan of a contract, None for one without rules on data."""
        if policy is None or policy.data is None:
            return None
        plan = self._plans.get(policy.policy_hash_b64u)
        if plan is None:
            if len(self._plans) >= 512:
                self._plans.clear()
            plan = self._plans[policy.policy_hash_b64u] = build_plan(policy.data, self._classes)
        return plan

    # -- requests --------------------------------------------------------------------------------------------------

    def judge(self, call: Call) -> Refusal | Awaitable[Refusal | None] | None:
        """May the call carry what it carries: for a decided call with its whole body. A redacted body is in the flow
        from then on."""
        plan = self.plan_of(call.policy)
        if plan is None:
            return None
        body = call.flow.request.raw_content or b""
        return self._judge_body(call, plan, body, self._into_flow)

    def judge_message(
        self, call: Call, data: bytes, rewritten: Callable[[bytes], None]
    ) -> Refusal | Awaitable[Refusal | None] | None:
        """The same for a message of a socket; ``rewritten`` is told the redacted one."""
        plan = self.plan_of(call.policy)
        return None if plan is None else self._judge_body(call, plan, data, lambda _, body: rewritten(body))

    @staticmethod
    def _into_flow(call: Call, body: bytes) -> None:
        call.flow.request.raw_content = body
        call.request_hash_b64u = sha256_b64u(body)

    def _judge_body(
        self, call: Call, plan: DataPlan, body: bytes, write: Callable[[Call, bytes], None]
    ) -> Refusal | Awaitable[Refusal | None] | None:
        assert call.grant is not None
        marks = self.marks.of(call.grant.job_id)
        if call.job is not None:
            marks.recall(*call.job.data_carried)
        beside = _recorded(call)

        def look() -> Screened | Refusal:
            return self._screen(body, plan, marks, call.facts, beside, sticky=call.is_message)

        def settle(told: Screened | Refusal) -> Refusal | None:
            if isinstance(told, Refusal):
                return told
            if told.body is not None:
                fault = self._fault_of_facts(call, told.body)
                if fault is not None:
                    return fault
                write(call, told.body)
            call.data = told.seen
            marks.leave(told.seen)
            return None

        if len(body) <= INLINE_BYTES and self._scanner is not None:
            return settle(_told(look))
        return self._later(look, settle)

    async def _later[T](
        self, look: Callable[[], T | Refusal], settle: Callable[[T | Refusal], Refusal | None]
    ) -> Refusal | None:
        return settle(await self._in_thread(look))

    async def _in_thread[T](self, look: Callable[[], T | Refusal]) -> T | Refusal:
        """``look`` in a thread of ours, for twice its budget at most: the engine's own limit comes first."""
        loop = asyncio.get_running_loop()
        if self._scanner is None:  # once; compiling the detectors takes longer than looking
            await loop.run_in_executor(self._threads, self._ready)
        try:
            async with asyncio.timeout(2 * self._budget_s):
                return await loop.run_in_executor(self._threads, _told, look)
        except TimeoutError:
            return _failed("the time for looking through it is over")

    def _ready(self) -> Scanner:
        with self._building:
            if self._scanner is None:
                self._scanner = self._make_scanner(self._classes)
            return self._scanner

    def _late(self) -> Callable[[], bool]:
        end = self._clock_s() + self._budget_s
        return lambda: self._clock_s() > end

    def _screen(
        self,
        body: bytes,
        plan: DataPlan,
        marks: JobMarks,
        facts: CallFacts | None,
        beside: dict[str, str],
        *,
        sticky: bool,
    ) -> Screened | Refusal:
        late, sticky_texts = self._late(), facts is None or sticky
        document: JsonObject = parse_body(body, self._max_body_bytes, self._json_bounds) if body else {}
        labels = self._labels(document, plan, marks, facts, sticky=sticky)
        labels |= marks.labels_in(beside.values())
        refusal = label_refusal(plan.rules, labels)
        if refusal is not None:
            return refusal
        redacted = redact_paths(document, plan.rules.paths, marks.key) if body else Counter[str]()
        for finding in self._scan(beside, plan, late).findings:
            judged = plan.by_detector[finding.detector]
            if judged.action is not Action.ALLOW:
                return _denied(judged.field, judged.data_class, "a name or a header field of the request holds")
        scanned = self._scan(document, plan, late)
        for finding in scanned.findings:
            judged = plan.by_detector[finding.detector]
            if judged.action is Action.DENY:
                return _denied(judged.field, judged.data_class, "the request holds")
            # what a session read from a message stays read: only texts may change
            texts = all(scanned.leaves[leaf].joins for leaf, _, _ in finding.pieces)
            if sticky_texts and judged.action in _REDACTED and not texts:
                return _denied(judged.field, judged.data_class, "a name in the message holds")
        counts = redact_document(scanned, _to_redact(plan), marks.key)
        found = Counter(plan.by_detector[finding.detector].data_class for finding in scanned.findings)
        seen = DataSeen(
            labels=tuple(sorted(labels)),
            found=tuple(sorted(found.items())),
            redacted=tuple(sorted(counts.items())),
            paths=tuple(sorted(redacted.items())),
        )
        if not counts and not redacted:
            return Screened(seen)
        return Screened(seen, _written(document))

    def _scan(self, value: Any, plan: DataPlan, late: Callable[[], bool]) -> Scan:
        if not plan.by_detector:
            return Scan(Leaves(None), ())
        return self._ready().scan(value, plan.by_detector.keys(), late)

    @staticmethod
    def _labels(
        document: Any, plan: DataPlan, marks: JobMarks, facts: CallFacts | None, *, sticky: bool
    ) -> frozenset[str]:
        rules = plan.rules
        if not rules.carries:
            return frozenset()
        labels = marks.labels_in(texts_of(document))
        for result in tool_results(document):
            carried = rules.result_labels(result.tool).union(*map(rules.result_labels, result.also))
            marks.keep(texts_of(result.value), carried)
            labels |= carried
        # what the provider runs itself gives its results to the model, and nothing passes here before
        run = frozenset[str]().union(*map(rules.result_labels, facts.provider_tools if facts is not None else ()))
        marks.keep((), run)
        sticky = sticky or (facts is not None and bool(facts.provider_state)) or is_compacted(document)
        return labels | run | marks.seen if sticky else labels | run

    def _fault_of_facts(self, call: Call, body: bytes) -> Refusal | None:
        """What was judged before must stand in the redacted body as well."""
        if call.facts is None or call.is_message:
            return None  # of a message only texts are redacted (``_screen``)
        assert call.format is not None
        assert call.match is not None
        match, route = call.match, call.match.route
        try:
            document = parse_body(body, self._max_body_bytes, self._json_bounds)
            facts = call.format.read_request(
                WireRequest(document, match.provider.name, route.name, route.kind, match.model, route.stream)
            )
        except ClawproxyError:
            return Refusal("DATA_CLASS_DENIED", "facts of the call", "without what is to be redacted it is no request")
        if (as_addressed(facts) if call.facts.upstream is not None else facts) != call.facts:
            return Refusal("DATA_CLASS_DENIED", "facts of the call", "what is to be redacted decides what the call is")
        return None

    # -- logs and records ------------------------------------------------------------------------------------------

    async def prepare(self, policy: Policy) -> None:
        """Before the first call under a contract: have the detectors ready, and keep the logs free of its data."""
        plan = self.plan_of(policy)
        if plan is None:
            return
        if self._scanner is None:  # once; compiling the detectors takes longer than looking
            await asyncio.get_running_loop().run_in_executor(self._threads, self._ready)
        if plan.log_detectors - self._in_logs:
            self._in_logs |= plan.log_detectors
            self._log_redaction.start()

    async def holds_secrets(self, text: str) -> bool:
        """Whether the detectors of secrets find something in ``text``, whatever a contract says; also where they could
        not look."""
        detectors = self._classes.behind("secrets")

        def look() -> bool | Refusal:
            return bool(self._ready().scan([text], detectors, self._late()).findings)

        return await self._in_thread(look) is not False

    def clean(self, call: Call, text: str) -> str:
        """``text`` as it may stand in records and errors of a call."""
        plan = self.plan_of(call.policy)
        return text if plan is None or not plan.log_detectors else self._cleaned(text, plan.log_detectors)

    def _cleaned(self, text: str, detectors: frozenset[str]) -> str:
        if self._scanner is None:
            return "[not looked through]"
        try:
            scanned = self._scanner.scan([text], detectors, self._late())
        except Exception:  # whatever it is: what was not looked through is not shown
            return "[not looked through]"
        holder = scanned.leaves[0].holder if scanned.findings else [text]
        names = {name: cls for cls, named in self._classes.detectors_of.items() for name in named}
        redact_document(scanned, lambda finding: (names[finding.detector], Action.MASK), b"")
        cleaned: str = holder[0]
        return cleaned

    # -- answers ---------------------------------------------------------------------------------------------------

    async def answer(self, call: Call, body: bytes) -> bytes | Refusal:
        """A whole answer as the agent may get it. What is no JSON is looked through as one text."""
        plan = self.plan_of(call.policy)
        if plan is None or not plan.enforced:
            return body
        assert call.grant is not None
        key, ready = self.marks.of(call.grant.job_id).key, plan

        def look() -> bytes | Refusal:
            try:
                document: Any = {"answer": orjson.loads(body)}
            except orjson.JSONDecodeError:
                document = {"answer": body.decode("utf-8", "replace")}
            scanned = self._ready().scan(document, ready.enforced, self._late())
            for finding in scanned.findings:
                judged = ready.by_detector[finding.detector]
                if judged.action is Action.DENY or isinstance(document["answer"], str):
                    return _denied(judged.field, judged.data_class, "the answer holds")
            counts = redact_document(scanned, _to_redact(ready), key)
            return _written(document["answer"]) if counts else body

        return await self._in_thread(look)

    def screened(self, call: Call, framing: Framing) -> Framing:
        """``framing``, looking through events where the contract asks for it."""
        watch = self.watch(call)
        return framing if watch is None else ScreenedFraming(framing, watch, call)

    def watch(self, call: Call) -> AnswerWatch | None:
        """Looks through the events of a streamed answer; None where nobody asks for it."""
        plan = self.plan_of(call.policy)
        if plan is None or not plan.enforced:
            return None
        return AnswerWatch(call, plan, self._ready(), self._late)

    # -- calls of tools --------------------------------------------------------------------------------------------

    def judge_call(self, call: Call, tool: ToolCall) -> Refusal | None:
        """May an answer call the tool, seeing what its conversation carries; and the tools that it names inside."""
        assert call.policy is not None
        if call.policy.data is None:
            return None
        carried = {*call.data.labels, *(name for name, _ in call.data.found)}
        if call.grant is not None and (call.is_message or (call.facts is not None and call.facts.provider_state)):
            carried |= self.marks.of(call.grant.job_id).classes  # what was said before is not said again
        for name in (*called_names(tool.name, call.declared_tools), *tool.inner):
            refusal = call_refusal(call.policy.data, carried, name)
            if refusal is not None:
                return replace(refusal, at="observe")
        return None

    def judge_export(self, call: Call, egress: Egress) -> Refusal | Awaitable[Refusal | None] | None:
        """May a call of a tool carry what it carries to a host that is no provider."""
        plan = self.plan_of(call.policy)
        if plan is None or not plan.rules.export_denied:
            return None
        assert call.grant is not None
        marks = self.marks.of(call.grant.job_id)
        body = call.flow.request.raw_content or b""
        entry, hidden = egress.entry, _CREDENTIAL_FIELDS | _NOT_SENT_FIELDS
        chosen = chosen_host(egress.facts.host, entry.host if entry is not None else None)
        beside = {"nonce": call.headers.get("x-idempotency-key", ""), "host": chosen}
        every: dict[str, list[str]] = {}  # a field may come again, and each of them leaves
        for name, value in call.flow.request.headers.fields:
            every.setdefault(name.decode("ascii").lower(), []).append(value.decode("ascii"))
        fields = {name: values for name, values in every.items() if name not in hidden}
        own_credentials = entry is not None and entry.client_credentials
        credentials = {name: every[name] for name in _CREDENTIAL_FIELDS & every.keys() if own_credentials}
        encoding = call.headers.get("content-encoding", "identity").lower()

        def look() -> Screened | Refusal:
            if encoding != "identity" or any(mark in body for mark in _ARCHIVES):
                return _not_exported("an archive, or a compressed body, which cannot be looked through")
            value = {"url": egress.facts.target, "fields": fields, "body": _readable(body), **beside}
            texts = [
                *texts_of(value),
                *(part for each in credentials.values() for told in each for part in (told, told.partition(" ")[2])),
            ]
            labels = marks.labels_in([*texts, *decoded_parts(texts)])
            if labels:
                return _not_exported(f"it carries {', '.join(sorted(labels))} data")
            late = self._late()
            findings = self._ready().scan(value, plan.export_detectors, late).findings
            # a credential is a secret, and may name whose it is; a card number it is not
            regulated = plan.export_detectors & self._classes.behind("regulated_pii")
            findings += self._ready().scan(credentials, regulated, late).findings if credentials else ()
            if findings:
                names = {scanned_class(finding, plan, self._classes) for finding in findings}
                return _not_exported(f"it carries {', '.join(sorted(names))}")
            return Screened(DataSeen())

        def settle(told: Screened | Refusal) -> Refusal | None:
            return told if isinstance(told, Refusal) else None

        return self._later(look, settle)


class AnswerWatch:
    """Looks through a stream while it passes: each event by itself, and the text that adjacent events give together.

    What was passed on cannot be taken back, so whatever is denied or redacted in answers cuts a stream.
    """

    TAIL_CHARS = 512

    def __init__(self, call: Call, plan: DataPlan, scanner: Scanner, late: Callable[[], Callable[[], bool]]) -> None:
        self._call = call
        self._plan = plan
        self._scanner = scanner
        self._late = late
        self._tails: dict[tuple[Any, ...], str] = {}

    def event(self, data: bytes) -> Refusal | None:
        """The next event; why the stream is cut."""
        try:
            document: Any = orjson.loads(data)
        except orjson.JSONDecodeError:
            document = data.decode("utf-8", "replace")
        joined: list[str] = []
        for path, text in _texts_by_path(document):
            tail = self._tails.get(path, "")
            if tail:
                joined.append(tail + text)
            self._tails[path] = (tail + text)[-self.TAIL_CHARS :]
        if len(self._tails) > 4096:
            return _failed("too many places with text in the stream")
        try:
            scanned = self._scanner.scan([document, joined], self._plan.enforced, self._late())
        except ScanError as err:
            return _failed(err.message)
        for finding in scanned.findings:
            judged = self._plan.by_detector[finding.detector]
            return _denied(judged.field, judged.data_class, "the answer holds")
        return None


def _texts_by_path(value: Any) -> list[tuple[tuple[Any, ...], str]]:
    """The strings of an event with the keys that lead there, and the numbers that say whose they are."""
    found: list[tuple[tuple[Any, ...], str]] = []
    left: list[tuple[tuple[Any, ...], Any]] = [((), value)]
    while left:
        path, item = left.pop()
        if isinstance(item, dict):
            marks = tuple(
                item[name] for name in ("index", "output_index", "content_index") if isinstance(item.get(name), int)
            )
            left.extend(((*path, *marks, key), inner) for key, inner in item.items())
        elif isinstance(item, list):
            left.extend(((*path, n), inner) for n, inner in enumerate(item))
        elif isinstance(item, str) and item:
            found.append((path, item))
    return found


# -- words -------------------------------------------------------------------------------------------------------


def _told[T](look: Callable[[], T | Refusal]) -> T | Refusal:
    """What ``look`` says; whatever it raises is a refusal, and tells nothing of what was looked at."""
    try:
        return look()
    except ClawproxyError as err:
        where = f" ({err.where})" if err.where else ""
        return _failed(f"{err.message}{where}")
    except Exception as err:
        return _failed(type(err).__name__)


def _failed(why: str) -> Refusal:
    return Refusal("DATA_SCAN_FAILED", "data boundaries", why)


def _denied(field: str, name: str, what: str) -> Refusal:
    return Refusal("DATA_CLASS_DENIED", f'{field} "{name}"', f"{what} {name}")


def _not_exported(why: str) -> Refusal:
    return Refusal("DATA_EXPORT_DENIED", "data_boundaries.export", why)


def _to_redact(plan: DataPlan) -> Callable[[Finding], tuple[str, Action] | None]:
    def judged(finding: Finding) -> tuple[str, Action] | None:
        verdict = plan.by_detector[finding.detector]
        if verdict.action in _REDACTED:
            return verdict.data_class, verdict.action
        return None

    return judged


def _recorded(call: Call) -> dict[str, str]:
    """What a client chose that stands in records, where data that has no place in logs has none either, and the header
    fields that go on to the provider."""
    facts = call.facts
    named = (
        {}
        if facts is None
        else {"model": facts.model or "", "names": "\n".join((*facts.tools, *facts.fallback_models))}
    )
    forwarded = call.match.provider.forwarded_headers if call.match is not None else ()
    fields: dict[str, str] = {
        name: value
        for name, value in call.headers.items()
        if name in ("x-idempotency-key", "x-run-id") or name in forwarded
    }
    return {**named, **fields}


def scanned_class(finding: Finding, plan: DataPlan, classes: DataClasses) -> str:
    """What a finding is called where the contract may not speak of it."""
    judged = plan.by_detector.get(finding.detector)
    if judged is not None:
        return judged.data_class
    return min((len(names), name) for name, names in classes.detectors_of.items() if finding.detector in names)[1]


def _written(document: Any) -> bytes:
    try:
        return orjson.dumps(document)
    except TypeError:
        raise ClawproxyError("DATA_SCAN_FAILED", "a value that cannot be written again") from None


def _readable(body: bytes) -> Any:
    """A body of any type: JSON where it is, else its text; of two-byte encodings without the empty bytes."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        told = orjson.loads(body)
        if body.count(b",") > MAX_BODY_NODES:  # to read it in Python would stop all other threads
            return [told, body.decode("utf-8").split('"')]
        return json.loads(body, object_pairs_hook=_every_pair)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace").replace("\x00", "").lstrip("\ufffd")  # the mark of the byte order


def _every_pair(pairs: list[tuple[str, Any]]) -> Any:
    """An object; where it has a key twice, of which its reader may take either, a list of all that stands in it."""
    told = dict(pairs)
    return told if len(told) == len(pairs) else [*map(list, pairs)]


def configured_classes(path: str | None) -> DataClasses:
    """The classes that ship, and those of the operator's file; raises ``ClawproxyError`` (CONFIG_INVALID)."""
    if path is None:
        return packaged_data_classes()
    try:
        toml = Path(path).read_bytes()
    except OSError as err:
        raise ClawproxyError(
            "CONFIG_INVALID", f"cannot be read: {err.strerror}", where=f"data.classes {path}"
        ) from None
    classes = load_data_classes(toml, packaged_data_classes())
    Scanner(classes.own.values())  # so that a pattern that cannot be used is told at the start
    return classes


class ScreenedFraming:
    """A framing whose events are looked through as they are read; one that may not pass cuts the stream."""

    ends: tuple[bytes, ...] = ()  # no chunk passes unread

    def __init__(self, framing: Framing, watch: AnswerWatch, call: Call) -> None:
        self._framing = framing
        self._watch = watch
        self._call = call
        self.may_redact = framing.may_redact
        self.between, self.close, self.comment = framing.between, framing.close, framing.comment

    def begin(self, buffer: bytearray, start: int) -> int:
        return self._framing.begin(buffer, start)

    def end(self, buffer: bytearray, start: int, searched: int) -> int:
        return self._framing.end(buffer, start, searched)

    def write(self, name: str, data: bytes) -> bytes:
        return self._framing.write(name, data)

    def read(self, event: bytes, *, first: bool) -> tuple[str, bytes] | None:
        told = self._framing.read(event, first=first)
        refusal = self._watch.event(told[1] if told is not None else event)
        if refusal is not None:
            self._call.outcome = self._call.outcome or Outcome.STOPPED
            self._call.detail = self._call.detail or f"{refusal.reason}: {refusal.detail}"
            raise ClawproxyError(refusal.reason, refusal.detail)
        return told
