"""``contract suggest``: the least contract that covers what was seen. Pure.

It begins with a contract that allows nothing, or with one that is given, and adds what a call needs and the contract
does not allow yet: nothing is added that no call needed. What restricts (data rules, approvals, denials, rules on
arguments) is kept from the contract that the jobs were under; a denial, or a rule on arguments, that they went against
is left out where no contract was given, and said to be. Whatever stays refused is ``uncovered``, with the reason.

Limits: arguments of tools are on record as digests, so no rule on them is made; budgets are worked out from what was
used, and another run may use more.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from ..tokens.canonical import JsonObject
from ..tokens.errors import ClawproxyError, word_or
from ..tokens.reasons import Refusal
from .argument_rules import NO_ARGUMENT_RULES
from .budget_rules import NAMES
from .call_rules import decide_call
from .contract import hashed_view, parse_contract
from .decide import decide
from .egress import (
    MAX_ENTRIES,
    EgressFacts,
    authority_of,
    decide_destination,
    decide_egress,
    default_port,
    has_escaped_slash,
    lies_below,
    parse_target,
)
from .facts import PROVIDER_FEATURES, CallFacts
from .names import matches
from .observe import can_be_named, destination_could_be_listed
from .policy import Policy, Shape
from .practice import Practice, Seen, SeenEffect, SeenTool, elements
from .tool_classes import ToolClasses

KEPT = (
    "approvals",
    "data_boundaries",
    "data_classes_allowed",
    "data_classes_denied",
    "tool_data_access",
    "tool_data_classes",
    "elevated",
    "on_denied_call",
    "on_denied_tool",
    "denied_tools",
    "tool_arguments",
)
"""Fields of the jobs' contract that restrict, and stand in a suggestion as they are."""
MAX_LIST = 256
_MAX_OWN_WORDS = 192
_MAX_PATH_CHARS = 1024
_MAX_TTL_MINUTES = 1440
_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8})\Z", re.ASCII)
_DENIAL = re.compile(r'denied_tools\["([^"]*)"\]')
_WORD_LISTS = ("allowed_tools", "denied_tools", "read_only_tools")
_WORD_MAPS = ("tool_classes", "tool_arguments", "tool_data_classes", "tool_data_access")


class Paths(StrEnum):
    """How paths of calls of tools are written down."""

    EXACT = "exact"
    FOLDER = "folder"
    """``/v2/tickets/7`` becomes ``/v2/tickets/*``."""
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: a name, head-room for budgets (1.5 is half as much again), and what may be generalised."""

    name: str = "suggested"
    headroom: float = 1.5
    paths: Paths = Paths.EXACT
    globs: bool = False


@dataclass(slots=True)
class Suggestion:
    """A contract, with what there is to say about it: ``comments`` by the place in the document (keys and indices),
    ``added`` to the contract that was given, ``dropped`` of the restrictions of the jobs' contract, ``uncovered``, and
    ``about``, the lines at its head."""

    document: JsonObject
    comments: dict[tuple[str | int, ...], str] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    uncovered: list[str] = field(default_factory=list)
    about: list[str] = field(default_factory=list)


def suggest(practice: Practice, wish: Wish, tool_classes: ToolClasses, given: JsonObject | None = None) -> Suggestion:
    """The least contract, or ``given`` with what it lacks. Raises ``ClawproxyError`` (WPC_INVALID) where ``given`` is
    of another shape, or the result is no contract (too large, say)."""
    if given is not None:
        return _Builder(practice, wish, tool_classes, _checked(given), is_given=True).build()
    base = _restrictions(practice)
    while True:
        builder = _Builder(practice, wish, tool_classes, base, is_given=False)
        suggestion = builder.build()
        if not builder.broken:
            return suggestion
        base = builder.without_broken()


def _checked(given: JsonObject) -> JsonObject:
    if parse_contract(given).policy.shape is not Shape.CLAW:
        raise ClawproxyError("WPC_INVALID", "not of the Claw shape, which a suggestion has", expected="policy_name")
    return hashed_view(copy.deepcopy(given))


def _restrictions(practice: Practice) -> JsonObject:
    """What the jobs' contracts restrict, if they agree in that, with the classes of the words in it."""
    claw = [doc for doc in practice.contracts.values() if "policy_name" in doc]
    kept = [{name: doc[name] for name in KEPT if name in doc} for doc in claw]
    if any(each != kept[0] for each in kept):
        raise ClawproxyError(
            "WPC_INVALID",
            "the jobs were under contracts that restrict different things (data, approvals, denials, arguments)",
            remedy="give the one to start from with --from, or suggest from the bundles of one contract at a time",
        )
    base: JsonObject = copy.deepcopy(kept[0]) if kept else {}
    per_contract = [doc.get("budgets", {}).get("per_contract") for doc in claw]
    if per_contract and per_contract[0] is not None and all(each == per_contract[0] for each in per_contract):
        base["budgets"] = {"per_contract": per_contract[0]}
    words = set(_words_in(base))
    classes = {word: names for doc in claw for word, names in doc.get("tool_classes", {}).items() if word in words}
    return {**base, **({"tool_classes": classes} if classes else {})}


def _words_in(document: Mapping[str, Any]) -> Iterator[str]:
    """Every word for tools that stands in a contract."""
    for name in _WORD_LISTS:
        yield from document.get(name, ())
    for name in _WORD_MAPS:
        yield from document.get(name, {})
    approvals = document.get("approvals")
    if isinstance(approvals, list):
        yield from (entry["action"] for entry in approvals)


class _Builder:
    """One contract on its way. ``broken`` are restrictions that the jobs went against."""

    def __init__(
        self, practice: Practice, wish: Wish, tool_classes: ToolClasses, base: JsonObject, *, is_given: bool
    ) -> None:
        self.broken: set[tuple[str, str]] = set()
        self._practice = practice
        self._wish = wish
        self._tool_classes = tool_classes
        self._base = base
        self._is_given = is_given
        self._out = Suggestion(self._skeleton())
        self._policy = self._parsed()

    def _skeleton(self) -> JsonObject:
        if self._is_given:
            return copy.deepcopy(self._base)
        empty: JsonObject = {"policy_name": self._wish.name, "allowed_providers": [], "allowed_models": []}
        return {**empty, "allowed_tools": [], **copy.deepcopy(self._base)}

    def _parsed(self) -> Policy:
        return parse_contract(self._out.document).policy

    def build(self) -> Suggestion:
        out = self._out
        self._add_list("allowed_providers", self._lacking_providers(), 64)
        self._add_list("allowed_models", self._lacking_models(), MAX_LIST)
        self._add_list("allowed_provider_features", self._lacking_features(), 64)
        self._policy = self._parsed()
        self._add_tools(self._lacking_tools())
        self._policy = self._parsed()
        self._add_tools(self._lacking_called())  # what is declared may allow what is called
        self._add_egress()
        self._add_budgets()
        self._add_life()
        self._policy = self._parsed()
        self._tell_rest()
        self._tell_about()
        out.document = _in_order(out.document)
        return out

    # -- lists -------------------------------------------------------------------------------------------------------

    def _add_list(self, field_name: str, lacking: Mapping[str, Seen], most: int) -> None:
        if not lacking:
            return
        listed: list[str] = self._out.document.setdefault(field_name, [])
        for name, seen in lacking.items():
            if len(listed) >= most:
                self._uncovered(f'{field_name} "{name}"', f"the list is full: {most}", seen)
                continue
            listed.append(name)
            self._comment((field_name, len(listed) - 1), seen)
            self._added(f"{field_name}: {name}", seen)

    def _lacking_providers(self) -> dict[str, Seen]:
        allowed = self._policy.providers
        found = elements(self._practice, "providers").items()
        return {} if allowed is None else {name: seen for name, seen in found if name not in allowed}

    def _lacking_models(self) -> dict[str, Seen]:
        lacking: dict[str, Seen] = {}
        for name, seen in elements(self._practice, "models").items():
            if not can_be_named(name):
                self._uncovered(f"allowed_models {word_or('a model', name)}", "no contract can name it exactly", seen)
                continue
            if self._is_model_allowed(name):
                continue
            shown = _DATED.sub("-*", name) if self._wish.globs else name
            lacking.setdefault(shown, Seen()).merge(seen)
        return lacking

    def _is_model_allowed(self, name: str) -> bool:
        """By the contract as it is, in every call that names it."""
        models = self._policy.models
        assert models is not None
        routed = [
            facts for facts in self._practice.calls if name == facts.model and (facts.is_router or facts.upstream)
        ]
        exact = any(facts.is_router for facts in routed)
        if models.lookalike(name) is not None or models.permission(name, exact=exact) is None:
            return False
        return not any(facts.upstream for facts in routed) or name in models.patterns

    def _lacking_features(self) -> dict[str, Seen]:
        lacking = {}
        for name, seen in elements(self._practice, "features").items():
            if name not in PROVIDER_FEATURES:
                self._uncovered(f"allowed_provider_features {name}", "no word of a contract", seen)
            elif name not in self._policy.provider_features:
                lacking[name] = seen
        return lacking

    # -- tools -------------------------------------------------------------------------------------------------------

    def _lacking_tools(self) -> dict[str, Seen]:
        rules, lacking = self._policy.tools, {}
        assert rules is not None
        any_tools = {name for facts in self._practice.calls for name in facts.any_tools}
        for name, seen in elements(self._practice, "tools").items():
            exact = name in any_tools
            if not can_be_named(name):
                self._uncovered(f"allowed_tools {word_or('a tool', name)}", "no contract can name it exactly", seen)
            elif (denial := rules.denial(name)) is not None:
                self._against("denied_tools", denial.entry, f"the tool {name} is denied by {denial}", seen)
            elif rules.lookalike(name) is not None or not (
                rules.permission_to_ask(name, exact=exact) or rules.permission(name, exact=exact)
            ):
                lacking[name] = seen
        return lacking

    def _lacking_called(self) -> dict[str, Seen]:
        """Tools that answers call, and that are not allowed by what was declared."""
        lacking: dict[str, Seen] = {}
        for tool, seen in self._practice.tools.items():
            for name in (tool.name, *tool.inner):
                if not self._is_call_refused(tool, name) or not can_be_named(name):
                    continue
                rules = self._policy.tools
                assert rules is not None
                if rules.denial(name) is None:  # else ``_tell_rest`` says so
                    lacking.setdefault(name, Seen()).merge(seen)
        return dict(sorted(lacking.items()))

    def _is_call_refused(self, tool: SeenTool, name: str) -> bool:
        """Whether ``name``, which the call is about or which it names inside, is not allowed."""
        alone = SeenTool(name, tool.facts).call
        grant = self._practice.grants.get(tool.facts)
        if grant is None:
            return False
        verdict = decide_call(alone, tool.facts, grant, self._policy)
        return isinstance(verdict, Refusal) and verdict.reason == "POLICY_TOOL_NOT_ALLOWED"

    def _add_tools(self, lacking: Mapping[str, Seen]) -> None:
        if not lacking:
            return
        document = self._out.document
        words: list[str] = document.setdefault("allowed_tools", [])
        classes: dict[str, list[str]] = document.setdefault("tool_classes", {})
        for word, names in self._named(lacking).items():
            whole = Seen()
            for name in names:
                if name in lacking:
                    whole.merge(lacking[name])
            if word not in words:
                words.append(word)
            place = ("allowed_tools", words.index(word))
            listed = classes.setdefault(word, [])  # also where the word is the tool's name: so it is meant
            for name in names:
                listed.append(name)
                self._comment(("tool_classes", word, len(listed) - 1), lacking.get(name))
                if name in lacking:
                    self._out.comments["tool_classes", word, len(listed) - 1] += self._called(name)
            if [word] != names:
                self._out.comments[place] = f"{len(listed)} tool{'' if len(listed) == 1 else 's'}, below"
            self._added(f"allowed_tools: {word}" + ("" if [word] == names else f" ({', '.join(names)})"), whole)

    def _called(self, name: str) -> str:
        """How often answers called a tool that was declared, or that a meta-tool named."""
        times = sum(seen.calls for tool, seen in self._practice.tools.items() if name in (tool.name, *tool.inner))
        return "; never called" if not times else f"; called {times} time{'' if times == 1 else 's'}"

    def _named(self, lacking: Mapping[str, Seen]) -> dict[str, list[str]]:
        """Words for tools: those of the ready classes that name them exactly, else the tool's own name."""
        document = self._out.document
        plain = {word for word in document.get("allowed_tools", ()) if word not in document.get("tool_classes", {})}
        taken = set(_words_in(self._base)) | set(lacking) | plain
        by_agent = {
            agent: {name: word for word, names in classes.items() for name in names}
            for agent, classes in self._tool_classes.agents.items()
        }
        agents = sorted(by_agent, key=lambda agent: -len(set(by_agent[agent]) & set(lacking)))
        at_work = [agent for agent in agents if set(by_agent[agent]) & set(lacking)]
        words: dict[str, list[str]] = {}
        own: list[str] = []
        for name in lacking:
            agent = next((agent for agent in agents if name in by_agent[agent]), None)
            word = by_agent[agent][name] if agent is not None else name
            if agent is None:  # a name that fits a pattern of an agent that was seen by exact names too
                fits = ((a, by_agent[a][like]) for a in at_work for like in by_agent[a] if matches(like, name))
                agent, word = next(fits, (None, name))
            if agent is None or word in taken:
                own.append(name)
                continue
            words.setdefault(word, []).append(name)
            if self._wish.globs:
                ready = self._tool_classes.agents[agent][word]
                words[word] += [other for other in ready if other not in words[word] and other not in lacking]
        if len(own) > _MAX_OWN_WORDS:
            chunks = (own[n : n + MAX_LIST] for n in range(0, len(own), MAX_LIST))
            return words | {_free(f"observed.{n + 1}", taken): chunk for n, chunk in enumerate(chunks)}
        # a word of the contract that stands for other tools must not let those in with the tool of its name
        meant = {word for word, names in document.get("tool_classes", {}).items() if word in taken and names != [word]}
        return words | {_free(name, taken) if name in meant else name: [name] for name in own}

    # -- other hosts -------------------------------------------------------------------------------------------------

    def _add_egress(self) -> None:
        """One entry for each set of methods with which paths of a host were called: nothing but what was seen."""
        by_host: dict[tuple[Any, ...], dict[str, dict[str, Seen]]] = {}
        apart = self._told_apart()
        for effect, seen in self._practice.effects.items():
            path = self._path_of(effect, apart)
            where = f"{effect.method} {effect.scheme}://{authority_of(effect.scheme, effect.host, effect.port)}"
            if self._allows_effect(effect):
                continue
            if not destination_could_be_listed(effect.scheme, effect.host):
                self._uncovered(f"egress_allowlist {where}", "no contract can list this host", seen)
            elif path is None:
                what = "its path is on record as a digest, or is longer or stranger than a contract's; see --paths"
                self._uncovered(f"egress_allowlist {where}", what, seen)
            else:
                key = (effect.host, effect.scheme, effect.port, effect.credential or "", effect.client_credentials)
                methods = by_host.setdefault(key, {}).setdefault(path, {})
                methods.setdefault(effect.method, Seen()).merge(seen)
        for key, paths in sorted(by_host.items()):
            by_methods: dict[tuple[str, ...], dict[str, Seen]] = {}
            for path, methods in sorted(paths.items()):
                whole = Seen()
                for seen in methods.values():
                    whole.merge(seen)
                by_methods.setdefault(tuple(sorted(methods)), {})[path] = whole
            for methods_of, seen_paths in sorted(by_methods.items()):
                names = list(seen_paths)
                for n in range(0, len(names), MAX_LIST):
                    self._add_entry(key, methods_of, {name: seen_paths[name] for name in names[n : n + MAX_LIST]})

    def _add_entry(self, key: tuple[Any, ...], methods: tuple[str, ...], paths: Mapping[str, Seen]) -> None:
        host, scheme, port, credential, client_credentials = key
        whole = Seen()
        for seen in paths.values():
            whole.merge(seen)
        listed: list[JsonObject] = self._out.document.setdefault("egress_allowlist", [])
        if len(listed) >= MAX_ENTRIES:
            self._uncovered(f"egress_allowlist {host}", f"the list is full: {MAX_ENTRIES}", whole)
            return
        entry: JsonObject = {"host": host, "methods": list(methods), "paths": list(paths)}
        if scheme != "https":
            entry["scheme"] = scheme
        if port != default_port(scheme):
            entry["port"] = port
        if credential:
            entry["credential"] = credential
        if client_credentials:
            entry["client_credentials"] = True
        listed.append(entry)
        place = ("egress_allowlist", len(listed) - 1)
        self._comment(place, whole)
        for n, seen in enumerate(paths.values()):
            self._comment((*place, "paths", n), seen)
        shown = f"{' '.join(methods)} {scheme}://{authority_of(scheme, host, port)} {', '.join(paths)}"
        self._added(f"egress_allowlist: {shown}", whole)

    def _path_of(self, effect: SeenEffect, apart: Collection[tuple[str, str, int]]) -> str | None:
        path, place = effect.path, (effect.scheme, effect.host, effect.port)
        stated = path is not None and has_escaped_slash(path) and place in apart
        if self._wish.paths is Paths.ANY and not stated:
            return "/*"
        if path is None:
            return None
        folder = path.rpartition("/")[0] + "/*"
        if self._wish.paths is Paths.FOLDER and lies_below(path, folder) and not (stated and folder == "/*"):
            path, plain = folder, folder.removesuffix("*")
        else:
            plain = path
        if "*" in plain or len(path) > _MAX_PATH_CHARS or not isinstance(parse_target(plain), tuple):
            return None
        return path

    def _told_apart(self) -> set[tuple[str, str, int]]:
        """The hosts whose paths credentials tell apart: there "/*" need not stand for a path with an escaped slash."""
        sends: dict[tuple[str, str, int], set[tuple[str | None, bool]]] = {}
        for effect in self._practice.effects:
            known = sends.setdefault((effect.scheme, effect.host, effect.port), set())
            known.add((effect.credential, effect.client_credentials))
        for place, known in sends.items():
            known |= {entry.sends for entry in self._policy.egress if entry.reaches(*place)}
        return {place for place, known in sends.items() if len(known) > 1}

    def _allows_effect(self, effect: SeenEffect) -> bool:
        """Whether the contract as it is allows it, with the same credential."""
        if effect.path is None:
            listed = decide_destination(effect.scheme, effect.host, effect.port, self._policy)
            entries = () if isinstance(listed, Refusal) else listed
            return any("/*" in entry.paths and effect.method in entry.methods for entry in entries)
        facts = EgressFacts(effect.scheme, effect.host, effect.port, effect.method, effect.path)
        verdict = decide_egress(facts, self._policy)
        return not isinstance(verdict, Refusal) and verdict.entry.credential == effect.credential

    # -- how much ----------------------------------------------------------------------------------------------------

    def _add_budgets(self) -> None:
        """What the most demanding job used, with head-room: ``limit = peak + (headroom - 1) x used``, where the peak is
        the most that was used, held and asked for at one moment, since a call must find room for its worst case."""
        limits, told = {}, {}
        for name in NAMES:
            found = [each for use in self._practice.uses if (each := self._limit(name, use)) is not None]
            if found:
                limits[name], told[name] = max(found)
        budgets: JsonObject = self._out.document.get("budgets", {})
        unpriced = sorted({model for use in self._practice.uses for model in use.unpriced})
        if unpriced:
            limits.pop("cost_microusd", None)
            if not self._is_given:
                what = f"no price, or not the list price, for {', '.join(unpriced[:8])}"
                self._out.uncovered.append(f"budgets.cost_microusd: {what}")
        for name, limit in limits.items():
            known = budgets.get(name)
            if self._is_given and (known is None or known >= limit):
                continue
            budgets[name] = limit
            self._out.comments["budgets", name] = told[name]
            if self._is_given:
                self._out.added.append(f"budgets.{name}: {known} becomes {limit} ({told[name]})")
        if budgets:
            self._out.document["budgets"] = budgets

    def _limit(self, name: str, use: Any) -> tuple[int, str] | None:
        headroom = self._wish.headroom
        if name == "wall_time_s":
            minutes = math.ceil(use.wall_time_s * headroom / 60)
            return max(1, minutes) * 60, f"{use.wall_time_s} s used in {use.job}"
        if name == "concurrent_calls":
            return max(
                1, math.ceil(use.concurrent_calls * headroom)
            ), f"{use.concurrent_calls} open at once in {use.job}"
        spent = use.spent.of(name)
        peak = use.peak_total_tokens if name == "total_tokens" else use.peak.of(name)
        if name == "total_tokens":
            return None  # input and output have limits of their own
        limit = _rounded_up(peak + math.ceil((headroom - 1) * spent))
        room = f", and room for what a call may use at most ({peak - spent})" if peak > spent else ""
        return limit, f"{spent} used in {use.job}{room}"

    def _add_life(self) -> None:
        """The longest life of a token that was seen, in whole minutes."""
        document = self._out.document
        if not self._practice.max_ttl_s:
            return
        minutes = min(_MAX_TTL_MINUTES, max(1, -(-self._practice.max_ttl_s // 60)))
        if self._is_given and self._policy.max_ttl_s >= minutes * 60:
            return
        before = self._policy.max_ttl_s // 60
        document["token_constraints"] = {**document.get("token_constraints", {}), "cst_ttl_minutes": minutes}
        if "max_ttl_minutes" in document.get("token_requirements", {}):
            document["token_requirements"]["max_ttl_minutes"] = minutes
        self._out.comments["token_constraints", "cst_ttl_minutes"] = "the longest life of a token that was used"
        if self._is_given:
            self._out.added.append(f"token_constraints.cst_ttl_minutes: {before} becomes {minutes}")

    # -- what is said ------------------------------------------------------------------------------------------------

    def _tell_rest(self) -> None:
        """What stays refused, worked out with the contract as it is now."""
        for facts, seen in self._practice.calls.items():
            verdict = decide(facts, self._practice.grants[facts], self._policy)
            if isinstance(verdict, Refusal):
                self._refused(f"calls of {_shown(facts)}", verdict, seen)
        for tool, seen in self._practice.tools.items():
            grant = self._practice.grants.get(tool.facts)
            again = decide_call(tool.call, tool.facts, grant, self._without_arguments) if grant is not None else None
            if isinstance(again, Refusal):
                self._refused(f"calls of the tool {word_or('a tool', tool.name)}", again, seen)
        for name, seen in self._practice.against_arguments.items():
            for word in self._out.document.get("tool_arguments", {}):
                if any(matches(like, name) for like in self._out.document.get("tool_classes", {}).get(word, (word,))):
                    what = f"the tool {word_or('a tool', name)} was called with arguments that it does not allow"
                    self._against("tool_arguments", word, what, seen)
        called = {effect.host for effect in self._practice.effects}
        told = " ".join(what for _, what in self._practice.refused)
        for (host, port), seen in sorted(self._practice.hosts.items(), key=str):
            if host not in called and host not in told:
                what = f'egress_allowlist host "{host}"'
                why = "its name was looked up" if port is None else f"a tunnel to port {port} was opened"
                self._uncovered(what, f"{why}, and no call came; does the client trust the gateway's CA?", seen)
        for (reason, what), seen in sorted(self._practice.refused.items()):
            self._out.uncovered.append(f"{what}: was refused, {reason} ({seen})")
        for what, seen in sorted(self._practice.incomplete.items()):
            self._out.uncovered.append(f"not whole on record are {what} ({seen})")

    @property
    def _without_arguments(self) -> Policy:
        """As replay has it: of arguments a digest is on record."""
        return replace(self._policy, arguments=NO_ARGUMENT_RULES)

    def _refused(self, what: str, refusal: Refusal, seen: Seen) -> None:
        denial = _DENIAL.search(refusal.rule)
        if denial is not None:
            self._against("denied_tools", denial[1], f"{what}: {refusal.rule}", seen)
        else:
            self._uncovered(what, f"{refusal.reason}: {refusal.rule}", seen)

    def _against(self, field_name: str, word: str, what: str, seen: Seen) -> None:
        if not self._is_given:
            self.broken.add((field_name, word))
        line = f"{what} ({seen})"
        if line not in self._out.uncovered:
            self._out.uncovered.append(line)

    def without_broken(self) -> JsonObject:
        """The restrictions without those that the jobs went against."""
        base = copy.deepcopy(self._base)
        for field_name, word in self.broken:
            if field_name == "denied_tools":
                base[field_name] = [each for each in base.get(field_name, ()) if each != word]
            else:
                base.get(field_name, {}).pop(word, None)
            if not base.get(field_name):
                base.pop(field_name, None)
        words = {word for name, word in _word_places(base)}
        classes = {word: names for word, names in base.get("tool_classes", {}).items() if word in words}
        base.pop("tool_classes", None)
        return {**base, **({"tool_classes": classes} if classes else {})}

    def _tell_about(self) -> None:
        practice, out = self._practice, self._out
        trial = f", {practice.observed} opened to observe" if practice.observed else ""
        out.about.append(f"from {len(practice.jobs)} job{'' if len(practice.jobs) == 1 else 's'}{trial}: "
                         + ", ".join(practice.jobs[:8]))  # fmt: skip
        out.about += [f"route {route}: {seen}" for route, seen in sorted(practice.routes.items())]
        out.about += [f"data {name}: {seen}" for name, seen in sorted(practice.data.items())]
        for name, seen in sorted(practice.unasked.items()):
            out.about.append(f"calls of {word_or('a tool', name)} need an approval, and nobody was asked: {seen}")
        if not self._is_given:
            before = _restrictions(practice)
            for name, word in sorted(set(_word_places(before)) - set(_word_places(self._base))):
                if name in ("denied_tools", "tool_arguments"):
                    out.dropped.append(f'{name} "{word}": the jobs went against it')
            if any("read_only_tools" in document for document in practice.contracts.values()):
                out.dropped.append("read_only_tools: its words may stand for other tools here")
            if any("policy_name" not in document for document in practice.contracts.values()):
                out.dropped.append("whatever contracts of another shape restrict")

    def _uncovered(self, what: str, why: str, seen: Seen) -> None:
        line = f"{what}: {why} ({seen})"
        if line not in self._out.uncovered:
            self._out.uncovered.append(line)

    def _comment(self, place: tuple[str | int, ...], seen: Seen | None) -> None:
        self._out.comments[place] = "of the ready class, not seen" if seen is None else str(seen)

    def _added(self, what: str, seen: Seen) -> None:
        if self._is_given:
            self._out.added.append(f"{what} ({seen})")


def _word_places(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("denied_tools", "tool_arguments", "tool_data_classes", "tool_data_access"):
        for word in document.get(name, ()):
            yield name, word
    approvals = document.get("approvals")
    for entry in approvals if isinstance(approvals, list) else ():
        yield "approvals", entry["action"]


def _free(word: str, taken: Iterable[str]) -> str:
    while word in set(taken):
        word += "."
    return word


def _rounded_up(value: int) -> int:
    """To two digits."""
    step = int(10 ** max(0, len(str(value)) - 2))
    return -(-value // step) * step


def _shown(facts: CallFacts) -> str:
    return f"{facts.provider} {word_or('a model', facts.model or 'no model')}"


_ORDER = (
    "policy_name", "wpc_version", "allowed_providers", "allowed_models", "allowed_tools", "denied_tools",
    "tool_classes", "tool_arguments", "allowed_provider_features", "egress_allowlist", "budgets", "token_constraints",
)  # fmt: skip


def _in_order(document: JsonObject) -> JsonObject:
    first = {name: document[name] for name in _ORDER if name in document}
    return first | {name: value for name, value in document.items() if name not in first}
