"""What the records of jobs say about what was done, for ``policies.suggest``. Pure; the bundles were verified.

Limits: names that are not whole on record are left out and counted; so are paths of which only a digest is there, and
what an answer called beyond what its receipt lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..policies.budget_rules import METERED, NOTHING, Amounts
from ..policies.contract import parse_contract
from ..policies.egress import EgressFacts
from ..policies.facts import CallFacts, CallKind
from ..policies.policy import Policy
from ..policies.practice import JobUse, Practice, SeenEffect, SeenTool, judged_facts, note
from ..policies.prices import Price, PriceTable
from ..policies.worst_case import Defaults, asks_for_tokens, dearest_price, with_cost, worst_case
from ..tokens.canonical import JsonObject
from ..tokens.digests import sha256_b64u
from .recorded_facts import Recorded, grant_of, is_surely_whole, read_call
from .verify_journal import Entry
from .wire_schema import parse_date_time_ms

_DELIVERED = ("allowed", "approved")
_MAX_REFUSED = 256
"""So many kinds of refusals are told of one by one."""


def read_practice(
    practice: Practice,
    job: Mapping[str, Any],
    entries: Sequence[Entry],
    contracts: Mapping[str, JsonObject],
    prices: PriceTable,
    defaults: Defaults,
) -> None:
    """Add what a job did. ``job`` is job.json, ``contracts`` its contracts by hash."""
    _Reader(practice, job, contracts, prices, defaults).read(entries)


@dataclass(slots=True)
class _Open:
    """A model call without its end so far."""

    detail: Mapping[str, Any]
    facts: CallFacts
    recorded: Recorded
    reserved: Amounts
    price: Price | None


class _Reader:
    def __init__(
        self,
        practice: Practice,
        job: Mapping[str, Any],
        contracts: Mapping[str, JsonObject],
        prices: PriceTable,
        defaults: Defaults,
    ) -> None:
        self._practice = practice
        self._job: str = job["job_id"]
        self._opened_ms: int = job["opened_ms"]
        self._policies: dict[str, Policy] = {name: parse_contract(doc).policy for name, doc in contracts.items()}
        self._prices = prices
        self._defaults = defaults
        self._tokens: dict[str, JsonObject] = {}
        self._open: dict[str, _Open] = {}
        self._held: dict[str, Amounts] = {}
        self._context_tokens = 0
        self._use = JobUse(self._job)
        practice.contracts |= contracts
        practice.jobs.append(self._job)

    def read(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            payload = entry.payload
            match entry.kind:
                case "event":
                    self._take_event(payload)
                case "intent" if payload["event"]["event_type"] == "llm_call":
                    self._take_call(payload["detail"], payload["timestamp"])
                case "intent":
                    self._take_effect(payload["detail"], payload["timestamp"])
                case "receipt":
                    self._take_receipt(payload)
                case "denial":
                    self._take_denial(payload)
                case "recovery":
                    for receipt_id in payload["open_calls"]:
                        self._close(receipt_id, None)
            ended_ms = parse_date_time_ms(payload["timestamp"]) or self._opened_ms
            self._use.wall_time_s = max(self._use.wall_time_s, -(-(ended_ms - self._opened_ms) // 1000))
        self._practice.uses.append(self._use)

    # -- records -----------------------------------------------------------------------------------------------------

    def _take_event(self, payload: JsonObject) -> None:
        detail = payload["detail"]
        self._practice.observed += detail.get("enforcement") == "observe"
        if payload["event"]["event_type"] == "host_observed":
            note(self._practice.hosts, (detail["host"], detail["port"]), payload["timestamp"], self._job)
        token = detail.get("token")
        if isinstance(token, dict) and "token_hash_hex" in token:
            self._tokens[token["token_hash_hex"]] = token
            grant = grant_of(token)
            if grant is not None:
                self._practice.max_ttl_s = max(self._practice.max_ttl_s, grant.exp_s - grant.iat_s)

    def _take_call(self, detail: Mapping[str, Any], at: str) -> None:
        recorded, practice = read_call(detail), self._practice
        facts = judged_facts(recorded.facts)
        grant = grant_of(self._tokens.get(detail["token_hash_hex"], {}))
        note(practice.routes, f"{facts.provider} {detail['route']}", at, self._job)
        if grant is None or (facts.model is None and "model" in recorded.missing):
            note(practice.incomplete, "the model, or the token", at, self._job)
        else:
            note(practice.calls, facts, at, self._job)
            practice.grants[facts] = grant
            if recorded.missing:
                note(practice.incomplete, ", ".join(recorded.missing), at, self._job)
        for name in detail.get("stripped", ()):
            note(practice.refused, ("taken out of the request", f"the tool {name}"), at, self._job)
        seen = detail.get("data", {})
        for name in (*seen.get("labels", ()), *(row["of"] for row in seen.get("found", ()))):
            note(practice.data, name, at, self._job)
        self._reserve(detail, recorded, facts)

    def _take_effect(self, detail: Mapping[str, Any], at: str) -> None:
        policy = self._policies[detail["policy_hash_b64u"]]
        path, entry = detail.get("path"), None
        listed = [
            each
            for each in policy.egress
            if each.reaches(detail["scheme"], detail["host"], detail["port"]) and detail["method"] in each.methods
        ]
        if "would_refuse" not in detail:
            path = path or _exact_path(detail, policy)
            entry = next((each for each in listed if path is None or each.takes_path(path)), None)
        effect = SeenEffect(
            detail["scheme"],
            detail["host"],
            detail["port"],
            detail["method"],
            path,
            detail["credential"],
            entry is not None and entry.client_credentials,
        )
        note(self._practice.effects, effect, at, self._job)

    def _take_receipt(self, payload: JsonObject) -> None:
        ours, at = payload["metadata"]["clawproxy"], payload["timestamp"]
        opened = self._close(payload["receipt_id"], payload)
        if opened is None:
            return
        practice, called = self._practice, ours.get("called", ())
        for item in called:
            name = item["name"]
            if item["outcome"] not in _DELIVERED:
                what = f"the tool {name} in an answer"
                note(practice.refused, (str(item.get("rule", item["outcome"])), what), at, self._job)
            elif is_surely_whole(name):
                note(practice.tools, SeenTool(name, opened.facts, tuple(item.get("inner", ()))), at, self._job)
                code = item.get("would_refuse", {}).get("code")
                if code == "POLICY_TOOL_ARGUMENTS":
                    for each in (name, *item.get("inner", ())):
                        note(practice.against_arguments, each, at, self._job)
                elif code == "APPROVAL_REQUIRED":
                    note(practice.unasked, name, at, self._job)
            else:
                note(practice.incomplete, "the name of a tool that was called", at, self._job)
        if len(called) < ours.get("called_total", 0):
            note(practice.incomplete, "some of the calls of tools in an answer", at, self._job)

    def _take_denial(self, payload: JsonObject) -> None:
        words = [payload["method"], payload["provider"], payload["route"], payload["model"]]
        destination = payload.get("destination")
        what = " ".join(str(word) for word in (*words, destination) if word)
        rule = f"{payload['rule']}" if payload["rule"] else ""
        key = (str(payload["reason"]), f"{what}: {rule}" if rule else what)
        if key in self._practice.refused or len(self._practice.refused) < _MAX_REFUSED:
            note(self._practice.refused, key, payload["timestamp"], self._job)

    # -- what it used ------------------------------------------------------------------------------------------------

    def _reserve(self, detail: Mapping[str, Any], recorded: Recorded, facts: CallFacts) -> None:
        whole = recorded.facts
        price = dearest_price(whole, self._prices)
        if asks_for_tokens(whole) and (price is None or whole.surcharges):
            self._use.unpriced.add(f"{whole.upstream or whole.provider} {whole.upstream_model or whole.model}")
        told = detail.get("budget")
        asked = worst_case(whole, detail["request_bytes"], self._context_tokens, price, self._defaults)
        if told is not None:
            known = Amounts.from_json(told["reserved"])
            asked = replace(known, cost_microusd=0)
        if price is not None and asked.total_tokens:
            asked = with_cost(asked, price)
        use, now = self._use, self._use.spent + sum(self._held.values(), NOTHING) + asked
        use.peak = Amounts(*(max(use.peak.of(name), now.of(name)) for name in METERED if name != "total_tokens"))
        use.peak_total_tokens = max(use.peak_total_tokens, now.total_tokens)
        self._held[detail["receipt_id"]] = asked
        use.concurrent_calls = max(use.concurrent_calls, sum(held.requests > 0 for held in self._held.values()))
        self._open[detail["receipt_id"]] = _Open(detail, facts, recorded, asked, price)

    def _close(self, receipt_id: str, payload: JsonObject | None) -> _Open | None:
        opened = self._open.pop(receipt_id, None)
        if opened is None:
            return None
        self._held.pop(receipt_id, None)
        self._use.spent += opened.reserved if payload is None else self._charged(opened, payload)
        return opened

    def _charged(self, opened: _Open, payload: JsonObject) -> Amounts:
        """As ``budget.settlement_of`` charges a call, whether its contract had budgets or not."""
        ours, reserved, price = payload["metadata"]["clawproxy"], opened.reserved, opened.price
        read, wrote = payload["tokens_input"], payload["tokens_output"]
        cost = price.cost(read, ours.get("tokens_cached", 0), ours.get("tokens_cache_write", 0), wrote) if price else 0
        told = Amounts(reserved.requests, read, wrote, cost)
        if ours["status"] == 101 and opened.recorded.facts.kind is not CallKind.CONNECT:
            self._context_tokens = max(self._context_tokens, told.total_tokens)
        usage, status = ours.get("usage"), ours["status"]
        if usage == "reported":
            return told
        if status is None and ours["outcome"] in ("upstream_unreachable", "fault") and not ours["response_bytes"]:
            return NOTHING
        if usage == "none" and status is not None and not 200 <= status < 300:
            return Amounts(reserved.requests)
        return Amounts(*(max(reserved.of(name), told.of(name)) for name in METERED if name != "total_tokens"))


def _exact_path(detail: Mapping[str, Any], policy: Policy) -> str | None:
    """The exact path of the contract whose digest is on record, without a query."""
    for entry in policy.egress:
        if not entry.reaches(detail["scheme"], detail["host"], detail["port"]):
            continue
        for path in entry.paths:
            facts = EgressFacts(detail["scheme"], detail["host"], detail["port"], detail["method"], path)
            if not path.endswith("/*") and sha256_b64u(facts.url.encode()) == detail["target_hash_b64u"]:
                return path
    return None
