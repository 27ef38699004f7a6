"""The Claw contract as a JSON Schema (2020-12), for editors and other tools. Pure.

Made from the bounds and words of the readers themselves. It says less than they do: not what is NFKC, not which words
belong together, not what a schema of ``tool_arguments`` may be. ``contract check`` decides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..tokens.canonical import MAX_SAFE_INT
from .approval_rules import MAX_DEADLINE_S, MIN_DEADLINE_S
from .argument_rules import CONDITION_FIELDS, MAX_CONDITIONS, MAX_WORDS
from .budget_rules import MAX_LIMIT, NAMES, PER_CONTRACT
from .claw_contract import FEATURE, KNOWN_FIELDS, MAX_TTL_MINUTES
from .data_rules import ACTION_WORDS, EXPORT
from .detect.classes import CLASS_NAME
from .egress import ENTRY_FIELDS, MAX_ENTRIES, METHODS, SCHEMES
from .facts import PROVIDER_FEATURES
from .fields import PROVIDER_NAME
from .policy import OnDeniedCall, OnDeniedTool
from .tools import MODEL_CALL

type Schema = dict[str, Any]

_PRINTED = r"^[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$"
_WORD = r"^[^*\s\x00-\x1f\x7f](?:[^*\x00-\x1f\x7f]*[^*\s\x00-\x1f\x7f])?$"


def _text(max_chars: int = 128, **more: Any) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": max_chars, "pattern": _PRINTED} | more


def _like(pattern: str, max_chars: int = 256) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": max_chars, "pattern": f"^(?:{pattern})$"}


def _list(items: Schema, most: int = 256, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "maxItems": most} | ({"minItems": least} if least else {})


def _integer(least: int = 0, most: int = MAX_SAFE_INT) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _object(properties: Mapping[str, Schema], required: Collection[str] = ()) -> Schema:
    needed: Schema = {"required": list(required)} if required else {}
    return {"type": "object", "properties": dict(properties), "additionalProperties": False} | needed


def _map(values: Schema, most: int, names: Schema | None = None) -> Schema:
    named = names or _text(pattern=_WORD)
    return {"type": "object", "propertyNames": named, "additionalProperties": values, "maxProperties": most}


_FLAG: Schema = {"type": "boolean"}
_WORDS = _list(_text(256, pattern=_WORD))
_CLASS = _like(CLASS_NAME.pattern)
_LIMITS = {name: _integer(0, MAX_LIMIT) for name in NAMES}


def contract_schema() -> Schema:
    """The schema of a Claw contract as a document, signed or not."""
    properties = {name: _FIELDS[name] | {"description": _SAID[name]} for name in KNOWN_FIELDS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Claw contract",
        "description": "What a job may do. clawproxy contract check says what a schema cannot.",
        **_object(properties, ["policy_name"]),
    }


def _approvals() -> Schema:
    group = _text()
    deadline = _integer(MIN_DEADLINE_S, MAX_DEADLINE_S)
    action = {"action": _text(pattern=_WORD), "required": _FLAG, "approver_group": group, "deadline_s": deadline}
    whole = _object({"required": _FLAG, "approver_group": group})
    return {"oneOf": [whole, _list(_object(action, ["action"]))]}


def _egress() -> Schema:
    host = {"anyOf": [_like(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", 255), _like(r"[0-9a-f:.]+", 255)]}
    members: dict[str, Schema] = {
        "host": host,
        "methods": _list({"enum": list(METHODS)}, len(METHODS), 1),
        "paths": _list({"type": "string", "minLength": 1, "maxLength": 1024, "pattern": r"^/[^*?#]*(?:/\*)?$|^/\*$"}),
        "scheme": {"enum": list(SCHEMES)},
        "port": _integer(1, 65_535),
        "credential": _like(PROVIDER_NAME.pattern, 128),
        "client_credentials": _FLAG,
    }
    entry = _object({name: members[name] for name in ENTRY_FIELDS}, ["host", "paths"])
    apart: list[Schema] = [
        {"not": {"required": ["credential", "scheme"], "properties": {"scheme": {"const": "http"}}}},
        {
            "not": {
                "required": ["credential", "client_credentials"],
                "properties": {"client_credentials": {"const": True}},
            }
        },
    ]
    return _list(entry | {"allOf": apart}, MAX_ENTRIES)


def _arguments() -> Schema:
    scalar = {"anyOf": [{"type": "string", "maxLength": 1024}, {"type": "integer"}, _FLAG]}
    members: dict[str, Schema] = {
        "argument": _text(256),
        "optional": _FLAG,
        "like": _list(_text(256), least=1),
        "not_like": _list(_text(256), least=1),
        "one_of": _list(scalar, least=1),
        "at_least": _integer(-MAX_SAFE_INT),
        "at_most": _integer(-MAX_SAFE_INT),
        "max_chars": _integer(),
    }
    asks: list[Schema] = [{"required": [name]} for name in CONDITION_FIELDS[2:]]
    condition = _object({name: members[name] for name in CONDITION_FIELDS}, ["argument"]) | {"anyOf": asks}
    rule = _object({"schema": {"type": "object"}, "when": _list(condition, MAX_CONDITIONS, 1)})
    return _map(rule | {"minProperties": 1}, MAX_WORDS)


def _boundaries() -> Schema:
    names: Schema = {"maxLength": 128, "pattern": f"^(?:{CLASS_NAME.pattern})$"}
    return _map({"enum": sorted(ACTION_WORDS)}, 64, names) | {"properties": {EXPORT: {"enum": ["allow", "deny"]}}}


_FIELDS: dict[str, Schema] = {
    "wpc_version": {"enum": ["v1"]},
    "policy_name": _text(),
    "policy_hash": _text(256),
    "allowed_providers": _list(_like(PROVIDER_NAME.pattern), 64),
    "allowed_models": _list(_text(256)),
    "allowed_tools": _WORDS,
    "denied_tools": _WORDS,
    "tool_classes": _map(
        _list(_text(256), least=1), 256, {"maxLength": 128, "pattern": _WORD, "not": {"const": MODEL_CALL}}
    ),
    "tool_arguments": _arguments(),
    "on_denied_tool": {"enum": sorted(OnDeniedTool)},
    "on_denied_call": {"enum": sorted(OnDeniedCall)},
    "read_only_tools": _WORDS,
    "allowed_provider_features": _list(
        {"anyOf": [{"enum": sorted(PROVIDER_FEATURES)}, _like(FEATURE.pattern, 140)]}, 64
    ),
    "data_boundaries": _boundaries(),
    "data_classes_allowed": _list(_CLASS),
    "data_classes_denied": _list(_CLASS),
    "tool_data_classes": _map(_list(_CLASS, 64), 256),
    "tool_data_access": _map(_list(_CLASS, 64), 256),
    "egress_allowlist": _egress(),
    "budgets": _object({**_LIMITS, PER_CONTRACT: _object(_LIMITS)}),
    "elevated": _FLAG,
    "model_routing": _object({"must_proxy_via": {"enum": ["clawproxy"]}, "receipts_required": _FLAG}),
    "approvals": _approvals(),
    "token_constraints": _object(
        {"cst_ttl_minutes": _integer(1, MAX_TTL_MINUTES), "pin_policy_hash": _FLAG, "job_bound": _FLAG}
    ),
    "token_requirements": _object(
        {"require_cst": _FLAG, "pin_cst_to_policy_hash": _FLAG, "max_ttl_minutes": _integer(1, MAX_TTL_MINUTES)}
    ),
    "evidence_requirements": _object({"require_gateway_receipts": _FLAG, "require_proof_bundle": _FLAG}),
}
_SAID = {
    "wpc_version": "The version of this shape.",
    "policy_name": "The name for people; the contract's own name is its hash.",
    "policy_hash": "The right hash once the contract is signed; contract sign fills a placeholder.",
    "allowed_providers": "Where allowed models may be asked for; absent, at any provider of the catalogue.",
    "allowed_models": "Names as requests write them; * stands for any run of characters. Absent, none.",
    "allowed_tools": "Words for the tools that may be declared and called, tied to wire names by tool_classes.",
    "denied_tools": "Words for tools that are denied; a denial wins.",
    "tool_classes": "Ties a word to wire names, or to patterns with *.",
    "tool_arguments": "By word: what its tools may be called with.",
    "on_denied_tool": "A request with a refused tool is refused, or goes out without it.",
    "on_denied_call": "An answer with a refused call ends there, or goes on with a text in place of the call.",
    "read_only_tools": "Words of allowed_tools that read-only mode leaves.",
    "allowed_provider_features": "Content that the provider keeps (state:…) or fetches (url:…); nobody here reads it.",
    "data_boundaries": "By class or label: what becomes of the data.",
    "data_classes_allowed": "The only labels that a conversation may carry.",
    "data_classes_denied": "Classes and labels that no request may carry.",
    "tool_data_classes": "By word: the labels that results of its tools carry.",
    "tool_data_access": "By word: the only labels that its tools may see.",
    "egress_allowlist": "Where calls of tools may go.",
    "budgets": "How much a job may use, or all jobs of the contract together (per_contract).",
    "elevated": "false demands that no tool runs elevated, which this version cannot enforce.",
    "model_routing": "Always so.",
    "approvals": "Who must say yes: to the whole job (an object), or to single calls (a list).",
    "token_constraints": "The longest life of a token.",
    "token_requirements": "The longest life of a token; the shorter one holds.",
    "evidence_requirements": "Always so.",
}
