"""A contract in plain words, for whoever has to sign it: what is unusual first, every part of it said. Pure.

What is said comes from the ``Policy``, so from what is judged, and not from how the document is written. ``PARTS`` has
a row for every member of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from ..tokens.canonical import jcs_bytes
from .argument_rules import ArgumentRule, Condition
from .budget_rules import Budgets, Limits
from .data_rules import Action, DataRules
from .egress import EgressEntry, authority_of
from .meta_tools import META_TOOLS
from .policy import DEFAULT_MAX_TTL_S, TIERS, OnDeniedCall, OnDeniedTool, Policy, Shape
from .routers import is_openrouter_router
from .statements import Condition as StatementCondition
from .statements import Statement
from .tools import ToolRule


class Topic(IntEnum):
    """The order in which things are said."""

    UNUSUAL = 0
    REFUSED = 1
    MODELS = 2
    TOOLS = 3
    PEOPLE = 4
    HOSTS = 5
    DATA = 6
    LIMITS = 7
    REST = 8


TITLES = {
    Topic.UNUSUAL: "look at this first",
    Topic.REFUSED: "refused as a whole",
    Topic.MODELS: "models",
    Topic.TOOLS: "tools",
    Topic.PEOPLE: "what a person is asked",
    Topic.HOSTS: "hosts",
    Topic.DATA: "data",
    Topic.LIMITS: "how much and how long",
    Topic.REST: "the contract itself",
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence about one member of the ``Policy``."""

    topic: Topic
    text: str


def explain_policy(policy: Policy) -> list[tuple[str, Sentence]]:
    """Every sentence, with the member of the ``Policy`` that it is about, by topic."""
    said = [(part, sentence) for part, tell in PARTS.items() for sentence in tell(policy)]
    return sorted(said, key=lambda row: row[1].topic)


def _names(names: Iterable[str], none: str = "none") -> str:
    return ", ".join(f'"{name}"' for name in dict.fromkeys(names)) or none


def _many(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


# -- models ------------------------------------------------------------------------------------------------------------


def _providers(policy: Policy) -> Iterator[Sentence]:
    if policy.statements is not None:
        yield Sentence(Topic.MODELS, "Statements say which providers may be asked.")
    elif policy.providers is None:
        yield Sentence(Topic.UNUSUAL, "Any provider of the catalogue may be asked, also one that is added later.")
    elif not policy.providers:
        yield Sentence(Topic.REFUSED, "No provider may be asked.")
    else:
        yield Sentence(Topic.MODELS, f"These providers may be asked: {_names(policy.providers)}.")


def _models(policy: Policy) -> Iterator[Sentence]:
    if policy.models is None:
        return
    patterns = policy.models.patterns
    if not patterns:
        yield Sentence(Topic.REFUSED, "No model may be called.")
        return
    if "*" in patterns:
        yield Sentence(Topic.UNUSUAL, "Any model may be called, at any price that a budget lets through.")
    if routers := [name for name in patterns if "*" not in name and is_openrouter_router(name)]:
        yield Sentence(Topic.UNUSUAL, f"Behind {_names(routers)} the provider chooses the model.")
    exact = [name for name in patterns if "*" not in name]
    fitting = [name for name in patterns if "*" in name]
    case = " Capital and small letters are the same." if policy.models.fold_case else ""
    parts = [f"by name: {_names(exact)}" if exact else "", f"by pattern: {_names(fitting)}" if fitting else ""]
    yield Sentence(Topic.MODELS, f"These models may be called, {'; '.join(part for part in parts if part)}.{case}")


def _model_call_denied(policy: Policy) -> Iterator[Sentence]:
    if policy.model_call_denied:
        yield Sentence(Topic.REFUSED, "The model call itself is denied, so nothing goes out to a model.")


def _minimum_tier(policy: Policy) -> Iterator[Sentence]:
    if policy.minimum_tier != TIERS[0]:
        text = f"Models must show an identity of the tier {policy.minimum_tier}, which no provider here does."
        yield Sentence(Topic.REFUSED, text)


def _provider_features(policy: Policy) -> Iterator[Sentence]:
    kept = sorted(word[6:] for word in policy.provider_features if word.startswith("state:"))
    fetched = sorted(word[4:] for word in policy.provider_features if word.startswith("url:"))
    if kept:
        text = f"Requests may point at content that the provider keeps and nobody here reads: {_names(kept)}."
        yield Sentence(Topic.UNUSUAL, text)
    if fetched:
        text = f"Requests may have the provider fetch content that nobody here reads: {_names(fetched)}."
        yield Sentence(Topic.UNUSUAL, text)
    if not policy.provider_features:
        yield Sentence(Topic.MODELS, "Content that the provider keeps or fetches is refused.")


def _statements(policy: Policy) -> Iterator[Sentence]:
    if policy.statements is None:
        return
    yield Sentence(Topic.MODELS, "A denial wins; what no statement allows is refused.")
    for statement in policy.statements:
        wide = statement.allows and not statement.conditions and {"*", "**"} & set(statement.resources)
        yield Sentence(Topic.UNUSUAL if wide else Topic.MODELS, _statement(statement))


def _statement(statement: Statement) -> str:
    verb = "allows" if statement.allows else "denies"
    where = f" where {' and '.join(map(_statement_condition, statement.conditions))}" if statement.conditions else ""
    actions, resources = _names(statement.actions), _names(statement.resources)
    return f'Statement "{statement.sid}" {verb} {actions} on {resources}{where}.'


def _statement_condition(condition: StatementCondition) -> str:
    return f'{condition.key} {condition.operator} "{condition.expected}"'


# -- tools -------------------------------------------------------------------------------------------------------------


def _tools(policy: Policy) -> Iterator[Sentence]:
    rules = policy.tools
    if rules is None:
        if policy.statements is None:
            yield Sentence(Topic.TOOLS, "No tool may be declared: this shape of contract has no word for tools.")
        return
    denied = {rule.pattern for rule in rules.denied}
    metas = sorted({rule.pattern for rule in rules.allowed if rule.pattern in META_TOOLS} - denied)
    if metas:
        text = f"Through {_names(metas)} other tools are called, and a gateway sees of those only what their names say."
        yield Sentence(Topic.UNUSUAL, text)
    if any(rule.pattern == "*" for rule in rules.allowed):
        yield Sentence(Topic.UNUSUAL, "A pattern allows every tool that is not denied.")
    yield Sentence(Topic.TOOLS, f"These tools may be declared and called: {_words(rules.allowed)}.")
    if rules.denied:
        yield Sentence(Topic.TOOLS, f"These are denied whatever else allows them: {_words(rules.denied)}.")


def _words(rules: Iterable[ToolRule]) -> str:
    """The words of a contract, each with the wire names behind it."""
    found: dict[str, list[str]] = {}
    for rule in rules:
        found.setdefault(rule.entry, []).append(rule.pattern)
    return (
        ", ".join(
            f'"{word}"' if patterns == [word] else f'"{word}" ({_names(patterns)})' for word, patterns in found.items()
        )
        or "none"
    )


def _arguments(policy: Policy) -> Iterator[Sentence]:
    for rule in policy.arguments.rules:
        yield Sentence(Topic.TOOLS, f'"{rule.word}" may be called only where {_asked_of_arguments(rule)}.')


def _asked_of_arguments(rule: ArgumentRule) -> str:
    parts = [_condition(condition) for condition in rule.conditions]
    if rule.schema_text:
        parts.append(f"the arguments fit the schema {rule.schema_text}")
    return " and ".join(parts)


def _condition(condition: Condition) -> str:
    asked = []
    if condition.like is not None:
        asked.append(f"fits {_names(condition.like)}")
    if condition.not_like is not None:
        asked.append(f"fits none of {_names(condition.not_like)}")
    if condition.one_of is not None:
        asked.append(f"is one of {jcs_bytes(list(condition.one_of)).decode()}")
    if condition.at_least is not None:
        asked.append(f"is at least {condition.at_least}")
    if condition.at_most is not None:
        asked.append(f"is at most {condition.at_most}")
    if condition.max_chars is not None:
        asked.append(f"has up to {_many(condition.max_chars, 'character')}")
    absent = " or is absent" if condition.optional else ""
    return f'its argument "{condition.argument}" {" and ".join(asked)}{absent}'


def _on_denied_tool(policy: Policy) -> Iterator[Sentence]:
    if policy.on_denied_tool is OnDeniedTool.STRIP:
        yield Sentence(Topic.TOOLS, "A request with a refused tool goes out without the tool.")
    else:
        yield Sentence(Topic.TOOLS, "A request with a refused tool is refused.")


def _on_denied_call(policy: Policy) -> Iterator[Sentence]:
    if policy.on_denied_call is OnDeniedCall.REFUSE:
        yield Sentence(Topic.TOOLS, "An answer with a refused call goes on, with a text in place of the call.")
    else:
        yield Sentence(Topic.TOOLS, "An answer with a refused call ends there, with an error.")


def _read_only(policy: Policy) -> Iterator[Sentence]:
    words = _names(policy.read_only.words)
    yield Sentence(Topic.TOOLS, f"In read-only mode these tools are left: {words}.")


# -- people ------------------------------------------------------------------------------------------------------------


def _approvals(policy: Policy) -> Iterator[Sentence]:
    rules = policy.approvals
    if rules.job is not None:
        yield Sentence(Topic.PEOPLE, f"Before the first call {_who(rules.job.group)} must approve the job.")
    classes: dict[str, list[ToolRule]] = {}
    for rule in policy.tools.on_approval if policy.tools is not None else ():
        classes.setdefault(rule.entry, []).append(rule)
    for action in rules.actions:
        what = _words(classes.get(action.action, ()))
        text = f"Each call of {what} waits up to {action.deadline_s} s for a yes of {_who(action.group)}."
        yield Sentence(Topic.PEOPLE, text)
    if rules.job is None and not rules.actions:
        yield Sentence(Topic.PEOPLE, "Nobody is asked about anything.")


def _who(group: str | None) -> str:
    return "any trusted approver" if group is None else f'an approver of the group "{group}"'


# -- hosts -------------------------------------------------------------------------------------------------------------


def _egress(policy: Policy) -> Iterator[Sentence]:
    if not policy.egress:
        yield Sentence(Topic.HOSTS, "Tools may reach no host.")
    for entry in policy.egress:
        unusual = entry.client_credentials or entry.scheme == "http" or (entry.host.startswith("*.") and _writes(entry))
        yield Sentence(Topic.UNUSUAL if unusual else Topic.HOSTS, _entry(entry))


def _writes(entry: EgressEntry) -> bool:
    return not set(entry.methods) <= {"GET", "HEAD", "OPTIONS"}


def _entry(entry: EgressEntry) -> str:
    place = f"{entry.scheme}://{authority_of(entry.scheme, entry.host, entry.port)}"
    every = "every path" if "/*" in entry.paths else f"the paths {_names(entry.paths)}"
    text = f"Tools may call {place} with {', '.join(entry.methods)} at {every}"
    if entry.credential is not None:
        text += f', and the gateway adds the credential "{entry.credential}"'
    if entry.client_credentials:
        text += ", and may bring credentials of their own"
    if entry.scheme == "http":
        text += ", in the clear"
    return f"{text}."


# -- data --------------------------------------------------------------------------------------------------------------

_BECOMES: Mapping[Action, str] = {
    Action.DENY: "a request with it is refused",
    Action.REMOVE: "it is taken out",
    Action.MASK: "it is masked",
    Action.HASH: "it is replaced by a hash",
    Action.LOGS: "it goes out, and is kept out of logs",
    Action.ALLOW: "it goes out",
}


def _data(policy: Policy) -> Iterator[Sentence]:
    rules = policy.data
    if rules is None:
        yield Sentence(Topic.DATA, "Nothing is said of data: requests and answers are not looked through.")
        return
    for _, name, action in rules.actions:
        yield Sentence(Topic.DATA, f'Data of the class or label "{name}": {_BECOMES[action]}.')
    for rule in rules.paths:
        yield Sentence(Topic.DATA, f'What stands at "{rule.path}" in a request: {_BECOMES[rule.action]}.')
    yield from _labels(rules)
    denied = "Personal and secret data, and data with a label, does not leave with calls of tools to hosts."
    free = "Calls of tools to hosts are not looked through."
    yield Sentence(Topic.DATA, denied if rules.export_denied else free)


def _labels(rules: DataRules) -> Iterator[Sentence]:
    if rules.allowed is not None:
        yield Sentence(Topic.DATA, f"A conversation may carry only these labels: {_names(sorted(rules.allowed))}.")
    for entry in rules.carries:
        words = _names(sorted(entry.words), "no label")
        yield Sentence(Topic.DATA, f"Results of {_names(entry.names)} carry {words}.")
    for entry in rules.access:
        words = _names(sorted(entry.words), "nothing that has a label or was detected")
        yield Sentence(Topic.DATA, f"{_names(entry.names)} may be called only where the conversation carries {words}.")


# -- limits ------------------------------------------------------------------------------------------------------------

_UNITS = {
    "requests": "calls of models",
    "input_tokens": "tokens read",
    "output_tokens": "tokens written",
    "total_tokens": "tokens read and written",
    "wall_time_s": "seconds since the job was opened",
    "concurrent_calls": "calls at once",
}


def _budgets(policy: Policy) -> Iterator[Sentence]:
    budgets = policy.budgets or Budgets()
    if not budgets.has_money:
        yield Sentence(Topic.UNUSUAL, "No budget bounds the money that is spent.")
    for whose, limits in (("A job", budgets.job), ("All jobs together", budgets.contract)):
        if limits != Limits():
            yield Sentence(Topic.LIMITS, f"{whose} may use up to {', '.join(_limit(*row) for row in limits.items())}.")
    if budgets == Budgets():
        yield Sentence(Topic.LIMITS, "No budget bounds calls, tokens or time.")


def _limit(name: str, limit: int) -> str:
    return f"{limit / 1_000_000:.2f} US dollars" if name == "cost_microusd" else f"{limit} {_UNITS[name]}"


def _max_ttl_s(policy: Policy) -> Iterator[Sentence]:
    minutes = _many(policy.max_ttl_s // 60, "minute")
    yield Sentence(
        Topic.UNUSUAL if policy.max_ttl_s > DEFAULT_MAX_TTL_S else Topic.LIMITS, f"A token lives up to {minutes}."
    )


def _demands(policy: Policy) -> Iterator[Sentence]:
    for demand in policy.demands:
        text = f"It demands {demand.field}, which this version cannot enforce: {demand.why}. So no call goes out."
        yield Sentence(Topic.REFUSED, text)


# -- the contract ------------------------------------------------------------------------------------------------------

_SHAPES = {Shape.CLAW: "a Claw contract", Shape.WPC_V1: "a Work Policy Contract v1", Shape.WPC_V2: "one of v2"}


def _name(policy: Policy) -> Iterator[Sentence]:
    yield Sentence(Topic.REST, f'Its name for people is "{policy.name}".')


def _shape(policy: Policy) -> Iterator[Sentence]:
    yield Sentence(Topic.REST, f"It is {_SHAPES[policy.shape]}.")


def _hash(policy: Policy) -> Iterator[Sentence]:
    yield Sentence(Topic.REST, f"Tokens name it by the hash {policy.policy_hash_b64u}.")


def _nothing(policy: Policy) -> Iterator[Sentence]:
    return iter(())


PARTS: Mapping[str, Callable[[Policy], Iterator[Sentence]]] = {
    "demands": _demands,
    "providers": _providers,
    "models": _models,
    "statements": _statements,
    "model_call_denied": _model_call_denied,
    "minimum_tier": _minimum_tier,
    "provider_features": _provider_features,
    "tools": _tools,
    "arguments": _arguments,
    "on_denied_tool": _on_denied_tool,
    "on_denied_call": _on_denied_call,
    "read_only": _read_only,
    "approvals": _approvals,
    "egress": _egress,
    "data": _data,
    "budgets": _budgets,
    "max_ttl_s": _max_ttl_s,
    "name": _name,
    "shape": _shape,
    "policy_hash_b64u": _hash,
    "envelope": _nothing,  # who signed it is told beside it
}
"""What is said of each member of the ``Policy``."""
