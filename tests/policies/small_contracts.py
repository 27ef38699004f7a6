"""Pairs of small contracts, seeded: of every shape, often nearly equal, over few names, so that they meet."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

from clawproxy.tokens.canonical import JsonObject

from .makers import statement, wpc_v1, wpc_v2

PROVIDERS = ("openai", "anthropic", "fal")
MODELS = ("a", "ab", "b", "A", "a*", "*b", "*", "a*b", "openrouter/a", "openrouter/*", "auto")
TOOLS = ("a", "ab", "b", "B", "exec", "web_search", "mcp:s")
PATTERNS = (*TOOLS, "a*", "*b", "mcp:*", "mcp:s*", "*")
WORDS = ("a", "ab", "b", "w", "v", "exec", "mcp:s", "web_search")
FEATURES = ("state:prompt", "url:image_url", "state:file_id")
LABELS = ("internal", "confidential")
CLASSES = ("email", "contact_pii", "pii", "secrets")
ACTIONS = ("deny", "remove", "mask", "hash", "redact_in_logs", "allow")
HOSTS = ("a.ex", "*.a.ex", "x.a.ex", "b.ex", "*.x.a.ex")
PATHS = ("/*", "/v", "/v/*", "/v/w", "/v/", "/v%2Fw", "/v%2Fw/*")
RESOURCES = ("openai/a", "openai/*", "*/a", "**", "*", "anthropic/a?", "openai/ab", "o*/b", "a", "b*", "exec", "?b")
DENIED = ("openai/b", "openai/a", "*/ab", "anthropic/*", "b", "a*", "openai/models/a", "openai/us.*")
CONDITIONS = (
    {"StringEquals": {"Model:Provider": "openai"}},
    {"StringLike": {"Model:Name": "a*"}},
    {"StringNotLike": {"Tool:Name": "*b"}},
    {"StringNotEquals": {"Model:Name": "a"}},
    {"StringEquals": {"Agent:DID": "did:key:one"}},
)


def some(random: Random, words: tuple[Any, ...], most: int, least: int = 0) -> list[Any]:
    """From ``least`` to ``most`` of them, without repeats, in any order."""
    return random.sample(words, random.randint(least, min(most, len(words))))


def pair(random: Random) -> tuple[JsonObject, JsonObject]:
    """Two contracts; most of the time the second is the first with one or two things changed, or the other way."""
    before = contract(random)
    if random.random() < 0.2:
        return before, contract(random)
    after = copy.deepcopy(before)
    for _ in range(random.randint(0, 2)):
        change(random, after)
    return (after, before) if random.random() < 0.5 else (before, after)


def contract(random: Random) -> JsonObject:
    shape = random.random()
    if shape < 0.7:
        return _claw(random)
    return _v1(random) if shape < 0.8 else _v2(random)


def change(random: Random, document: JsonObject) -> None:
    """One part made anew, or taken out."""
    if "statements" in document:
        _change_statements(random, document["statements"])
        return
    fresh = _v1(random) if "policy_version" in document else _claw(random, likely=0.6)
    keep = {"policy_name", "policy_version", "policy_id", "issuer_did"}
    name = random.choice(sorted((fresh.keys() | document.keys()) - keep) or ["allowed_models"])
    value = document.get(name)
    if isinstance(value, list) and value and random.random() < 0.5:
        value.remove(random.choice(value))
    elif isinstance(value, list) and random.random() < 0.6 and isinstance(fresh.get(name), list):
        value += [item for item in fresh[name][:1] if item not in value]
    elif name in fresh:
        document[name] = fresh[name]
    else:
        document.pop(name, None)
    _mend(document)


def _mend(document: JsonObject) -> None:
    """Take out what would no longer be read: words that are not allowed any more, an action twice."""
    if "read_only_tools" in document:
        document["read_only_tools"] = [w for w in document["read_only_tools"] if w in document.get("allowed_tools", ())]
    if isinstance(document.get("approvals"), list):
        document["approvals"] = list({entry["action"].lower(): entry for entry in document["approvals"]}.values())


def _claw(random: Random, likely: float = 0.35) -> JsonObject:
    def now(of: float = likely) -> bool:
        return random.random() < of

    out: JsonObject = {"policy_name": "small", "allowed_models": some(random, MODELS, 4, 1)}
    if now(0.7):
        out["allowed_providers"] = some(random, PROVIDERS, 3, 1)
    out["allowed_tools"] = some(random, WORDS, 4)
    if now(0.5):
        out["denied_tools"] = some(random, WORDS, 2)
    if now(0.6):
        out["tool_classes"] = {word: some(random, PATTERNS, 3, 1) for word in some(random, ("w", "v", "a"), 3)}
    if now():
        out["allowed_provider_features"] = some(random, FEATURES, 2)
    if now():
        out["on_denied_tool"] = random.choice(("refuse", "strip"))
    if now():
        out["on_denied_call"] = random.choice(("error", "refuse"))
    if now():
        out["token_constraints"] = {"cst_ttl_minutes": random.choice((5, 30, 60, 120))}
    if now():
        out["read_only_tools"] = some(random, WORDS, 3)
    if now():
        out["approvals"] = _approvals(random)
    if now():
        out["tool_arguments"] = {word: _argument_rule(random) for word in some(random, ("a", "w", "b"), 2, 1)}
    if now():
        out["budgets"] = _limits(random) | ({"per_contract": _limits(random)} if now() else {})
    if now():
        out["egress_allowlist"] = [_entry(random) for _ in range(random.randint(1, 3))]
    _data(random, out, likely)
    if now(0.04):
        out["elevated"] = False
    _mend(out)
    return out


def _approvals(random: Random) -> Any:
    group: JsonObject = {"approver_group": random.choice("xy")} if random.random() < 0.5 else {}
    if random.random() < 0.3:
        return {"required": True, **group}
    more: JsonObject = {"deadline_s": random.choice((10, 60))} if random.random() < 0.5 else {}
    return [{"action": word, **group, **more} for word in some(random, ("a", "w", "v", "b"), 2, 1)]


def _argument_rule(random: Random) -> JsonObject:
    conditions: list[JsonObject] = []
    for _ in range(random.randint(1, 2)):
        condition: JsonObject = {"argument": random.choice("xy")}
        match random.randrange(5):
            case 0:
                condition["like"] = some(random, ("a*", "*b", "ab", "*", "b"), 2, 1)
            case 1:
                condition["not_like"] = some(random, ("a*", "*b", "ab", "b"), 2, 1)
            case 2:
                condition["one_of"] = some(random, ("a", "ab", 1, 2, True), 3, 1)
            case 3:
                condition |= {name: random.randint(0, 3) for name in some(random, ("at_least", "at_most"), 2, 1)}
            case _:
                condition["max_chars"] = random.randint(0, 3)
        if random.random() < 0.4:
            condition["optional"] = True
        conditions.append(condition)
    return {"when": conditions}


def _limits(random: Random) -> JsonObject:
    names = ("requests", "input_tokens", "output_tokens", "total_tokens", "cost_microusd", "concurrent_calls")
    return {name: random.randint(0, 2) for name in some(random, names, 3)}


def _entry(random: Random) -> JsonObject:
    entry: JsonObject = {"host": random.choice(HOSTS), "paths": some(random, PATHS, 2)}
    if random.random() < 0.4:
        entry["methods"] = some(random, ("GET", "POST"), 2, 1)
    if random.random() < 0.2:
        entry["port"] = 8443
    match random.randrange(6):
        case 0:
            entry["credential"] = random.choice(("one", "two"))
        case 1:
            entry["client_credentials"] = True
    return entry


def _data(random: Random, out: JsonObject, likely: float) -> None:
    if random.random() < likely:
        named = some(random, (*CLASSES, *LABELS), 2)
        out["data_boundaries"] = {name: random.choice(ACTIONS) for name in named}
        if random.random() < 0.4:
            out["data_boundaries"]["export"] = random.choice(("deny", "allow"))
    if random.random() < likely:
        out["data_classes_allowed"] = some(random, LABELS, 2)
    if random.random() < likely:
        out["tool_data_classes"] = {word: some(random, LABELS, 2) for word in some(random, ("a", "w", "b"), 2)}
    if random.random() < likely:
        out["tool_data_access"] = {word: some(random, (*LABELS, "email"), 2) for word in some(random, ("a", "v"), 2)}


def _v1(random: Random) -> JsonObject:
    out = wpc_v1(allowed_models=some(random, MODELS, 4, 1), allowed_providers=some(random, PROVIDERS[:2], 2))
    if random.random() < 0.3:
        del out["allowed_providers"]
    if random.random() < 0.2:
        out["minimum_model_identity_tier"] = random.choice(("closed_opaque", "tee_measured"))
    if random.random() < 0.3:
        out["redaction_rules"] = [{"path": p, "action": "mask"} for p in some(random, ("$.user", "$.metadata"), 2)]
    return out


def _v2(random: Random) -> JsonObject:
    return wpc_v2(*(_statement(random, n) for n in range(random.randint(1, 4))))


def _statement(random: Random, number: int) -> JsonObject:
    allows = random.random() < 0.65
    actions = random.choice((["*"], ["model:*"], ["tool:execute"], ["model:invoke", "tool:execute"]))
    resources = some(random, RESOURCES if allows else DENIED, 2, 1)
    more = {"conditions": random.choice(CONDITIONS)} if random.random() < 0.25 else {}
    return statement(f"s{number}", "Allow" if allows else "Deny", actions, resources, **more)


def _change_statements(random: Random, statements: list[JsonObject]) -> None:
    roll = random.random()
    if roll < 0.3 and len(statements) > 1:
        statements.remove(random.choice(statements))
    elif roll < 0.6:
        statements.append(_statement(random, len(statements) + 10))
    else:
        changed = random.choice(statements)
        changed["resources"] = some(random, RESOURCES + DENIED, 2, 1)
