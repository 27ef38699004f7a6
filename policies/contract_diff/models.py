"""The calls of models on which two contracts are asked: every provider and name that they could tell apart. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from ..facts import CallFacts, CallKind
from ..fields import PROVIDER_NAME
from ..model_match import is_bare
from ..names import is_settled
from ..packaged import packaged_catalogue
from ..policy import Policy
from ..routers import OPENROUTER_PATTERNS, PROVIDERS, is_router
from .names import Effort, Names, Watch, names_that_fit
from .other_names import LATEST, Undressed, dresses
from .patterns import Machine, Reader, State, View, merged
from .readers import (
    ask_for_numbers,
    condition_readers,
    conditions,
    model_readers,
    resource_readers,
    resources,
    started,
)

_UPSTREAM = "openrouter/"
_FROM, _TO = "openai", "fal"
"""A model ``openrouter/NAME`` of the first provider goes to the second, on the compatibility forms."""
_TOLD_APART = ("openrouter", "fal")
"""Where it is known of every name whether it is a router's."""
_KNOWN = (
    *("gpt-4o", "gpt-4o-mini", "gpt-5", "o3", "claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-1"),
    *("gemini-2.5-pro", "gemini-2.5-flash", "llama3.2", "mistral-large-latest"),
)
"""Names that a reader knows, to show in place of made ones where they fit the same patterns."""


class Models:
    """The calls for these contracts together. ``complete`` is false where some may be missing."""

    def __init__(self, policies: Sequence[Policy], effort: Effort) -> None:
        self._effort = effort
        by_statements = [policy for policy in policies if policy.models is None]
        named = [reader for policy in policies if policy.models is not None for reader in model_readers(policy.models)]
        named += condition_readers(by_statements, "Model:Name")
        self._by_name = [Machine(reader) for reader in merged(named)]
        self._routers = Machine(Reader.of(View.LOWER, OPENROUTER_PATTERNS))
        self._by_resource = [Machine(reader) for reader in resource_readers(by_statements)]
        self._names_matter = any(not s.allows for policy in by_statements for s in policy.statements or ())
        spoken = [*resources(policies), *(condition.expected for condition in conditions(policies, "Model:Name"))]
        spoken += [entry for policy in policies if policy.models is not None for entry in policy.models.patterns]
        self._spoken = spoken
        self._found: dict[tuple[State, ...], Names] = {}
        self.complete = not ask_for_numbers(policies, "Model:Name", "Model:Provider")
        self.calls = tuple(self._calls(policies))

    def _watched(self, provider: str, lead: str) -> list[tuple[Machine, State]]:
        """How the contracts read the name of a model of ``provider`` that begins with ``lead``."""
        behind = f"{provider}/{lead}"
        watched = [(machine, machine.read(machine.start, lead)) for machine in self._by_name]
        return [*watched, *((machine, machine.read(machine.start, behind)) for machine in self._by_resource)]

    def _calls(self, policies: Sequence[Policy]) -> Iterator[CallFacts]:
        providers = _providers(policies, self._effort)
        self.complete &= providers.complete
        for provider in providers.names:
            yield from (
                CallFacts(provider, "", None, stream=False, kind=kind) for kind in (CallKind.LIST, CallKind.CONNECT)
            )
            literal = {name.removeprefix(f"{provider}/") for name in self._spoken}
            for model in self._names_at(provider):
                chosen = is_router(provider, model)
                yield CallFacts(provider, "", model, stream=False, is_router=chosen)
                if chosen and provider not in _TOLD_APART and model not in literal:  # others like it may be none
                    yield CallFacts(provider, "", model, stream=False)
        watched = [*self._watched(_FROM, _UPSTREAM), *self._watched(_TO, ""), (self._routers, self._routers.start)]
        passed_on = names_that_fit(watched, lead=_UPSTREAM, effort=self._effort)
        self.complete &= passed_on.complete
        for model in passed_on.names:
            there, chosen = model.removeprefix(_UPSTREAM), is_router(_TO, model.removeprefix(_UPSTREAM))
            yield CallFacts(_FROM, "", model, stream=False, upstream=_TO, upstream_model=there, is_router=chosen)

    def _names_at(self, provider: str) -> tuple[str, ...]:
        watched = self._watched(provider, "")
        if provider in _TOLD_APART:
            watched.append((self._routers, self._routers.start))
        key = tuple(state for _, state in watched)
        if key not in self._found:
            self._found[key] = self._dressed(provider, names_that_fit(watched, known=_KNOWN, effort=self._effort))
            self.complete &= self._found[key].complete
        return self._found[key].names

    def _dressed(self, provider: str, models: Names) -> Names:
        """``models``, and where denials look at other names of a model, names that have some."""
        if not self._names_matter:
            return models
        found, complete = dict.fromkeys(models.names), models.complete
        leads: dict[str, list[tuple[Machine, State]]] = {}
        seen: set[Hashable] = set()
        for dress in dresses(self._spoken):
            stages = [leads.setdefault(lead, []) or self._watched(provider, lead) for lead in dress.leads()]
            leads |= dict(zip(dress.leads(), stages, strict=True))
            if not any(state for machine, state in stages[0] if machine.view is not View.FOLDED):
                continue  # nothing that allows such a name is left
            states = {(n, state) for stage in stages for n, (_, state) in enumerate(stage)}
            key = (dress.mark, tuple(state for _, state in stages[0]), frozenset(states))
            if key in seen:
                continue
            seen.add(key)
            tails = tuple(dict.fromkeys((dress.mark, "", LATEST)))
            watched: list[tuple[Watch, State]] = [
                (Undressed(stages[0][n][0], tails), state) for n, state in sorted(states, key=lambda row: row[0])
            ]
            names = names_that_fit(watched, lead=dress.front, counts=_Bare(len(dress.front)), effort=self._effort)
            complete &= names.complete
            found |= {name + dress.mark: None for name in names.names if is_settled(name + dress.mark)}
        return Names(tuple(found), complete and "arn:" not in " ".join(self._spoken).lower())


class _Bare:
    """Whether a name, but for the front that was put there, has nothing around it."""

    def __init__(self, front_chars: int) -> None:
        self._front_chars = front_chars

    def __call__(self, name: str) -> bool:
        return is_bare(name[self._front_chars :])


class _Behind:
    """What a machine would be in behind ``text``: two providers are one where it is the same."""

    def __init__(self, machine: Machine, text: str) -> None:
        self.view, self.read, self.told_apart = machine.view, machine.read, machine.told_apart
        self._machine, self._text = machine, text

    def accepted(self, state: State) -> Hashable:
        return self._machine.read(state, self._text)


def _providers(policies: Sequence[Policy], effort: Effort) -> Names:
    listed = [name for policy in policies for name in policy.providers or ()]
    watched: list[tuple[Watch, State]] = [*started([Reader.of(View.EXACT, [*listed, *PROVIDERS])])]
    watched += [(_Behind(machine, "/"), state) for machine, state in started(resource_readers(policies))]
    watched += started(condition_readers(policies, "Model:Provider"))
    catalogue = packaged_catalogue().names
    return names_that_fit(watched, known=catalogue, takes=_is_provider, effort=effort)


def _is_provider(name: str) -> bool:
    return PROVIDER_NAME.fullmatch(name) is not None
