"""Contracts, grants and facts for the tests: small, whole, and easy to bend."""

from __future__ import annotations

from typing import Any

from clawproxy.policies.contract import parse_contract, sign_contract
from clawproxy.policies.facts import CallFacts
from clawproxy.policies.policy import Policy
from clawproxy.tokens.canonical import JsonObject
from clawproxy.tokens.grant import Grant
from clawproxy.tokens.keys import Role, SigningKey

REVIEWER = SigningKey.from_seed(Role.POLICY, b"reviewer".ljust(32, b"."))
STRANGER = SigningKey.from_seed(Role.POLICY, b"stranger".ljust(32, b"."))
ISSUED_AT = "2026-11-22T12:00:00.000Z"

REFUND_ASSISTANT: JsonObject = {
    "wpc_version": "v1",
    "policy_name": "customer-support-refund-assistant",
    "allowed_tools": ["ticket.read", "ticket.comment", "refund.request"],
    "denied_tools": ["shell.exec", "fs.write", "secrets.export"],
    "data_boundaries": {"pii": "redact_in_logs", "export": "deny"},
    "model_routing": {"must_proxy_via": "clawproxy", "receipts_required": True},
    "approvals": {"required": True, "approver_group": "SupportOps-PIM-Eligible"},
    "token_constraints": {"cst_ttl_minutes": 30, "pin_policy_hash": True, "job_bound": True},
}
"""The first contract of the product's documents, as it stands."""

INVOICE_TRIAGE: JsonObject = {
    "policy_name": "invoice-triage-prod",
    "policy_hash": "b64u:...hash...",
    "allowed_tools": ["read_only_repo", "ticket_comment", "model_call_via_clawproxy"],
    "denied_tools": ["shell_exec", "write_filesystem", "browser_remote_control"],
    "data_classes_allowed": ["internal", "confidential"],
    "data_classes_denied": ["regulated_pii"],
    "approvals": [{"action": "send_external_email", "required": True}],
    "token_requirements": {"require_cst": True, "pin_cst_to_policy_hash": True, "max_ttl_minutes": 30},
    "evidence_requirements": {"require_gateway_receipts": True, "require_proof_bundle": True},
}
"""The second one, with its placeholder hash."""


def claw(**fields: Any) -> JsonObject:
    """A Claw contract that allows two models and three tools; a field given as None is left out."""
    document = {
        "wpc_version": "v1",
        "policy_name": "example",
        "allowed_providers": ["openai", "anthropic"],
        "allowed_models": ["gpt-4o", "claude-*"],
        "allowed_tools": ["ticket.read", "shell.exec", "search"],
        "denied_tools": ["fs.write"],
        "tool_classes": {
            "ticket.read": ["get_ticket", "mcp__tickets__*"],
            "shell.exec": ["Bash"],
            "fs.write": ["Write", "mcp__files__*"],
        },
    } | fields
    return {name: value for name, value in document.items() if value is not None}


def wpc_v1(**fields: Any) -> JsonObject:
    """A WPC v1 that allows one provider and one family of models."""
    document = {
        "policy_version": "1",
        "policy_id": "pol-1",
        "issuer_did": "did:web:reviewer.example",
        "allowed_providers": ["openai"],
        "allowed_models": ["gpt-4o*"],
    } | fields
    return {name: value for name, value in document.items() if value is not None}


def statement(sid: str, effect: str, actions: list[str], resources: list[str], **more: Any) -> JsonObject:
    return {"sid": sid, "effect": effect, "actions": actions, "resources": resources, **more}


def wpc_v2(*statements: JsonObject, **fields: Any) -> JsonObject:
    """A WPC v2 with these statements; without any, one that allows everything."""
    return {
        "policy_version": "2",
        "policy_id": "pol-2",
        "issuer_did": "did:web:reviewer.example",
        "statements": list(statements) or [statement("all", "Allow", ["*"], ["*"])],
    } | fields


def policy_of(document: JsonObject) -> Policy:
    return parse_contract(document).policy


def signed(document: JsonObject, key: SigningKey = REVIEWER) -> JsonObject:
    return sign_contract(document, key, ISSUED_AT)


def a_grant(**fields: Any) -> Grant:
    return Grant(
        **{
            "token_hash_hex": "00" * 32,
            "token_scope_hash_b64u": "A" * 43,
            "sub": "did:key:z6MkAgent",
            "aud": ("gateway.example",),
            "scope": ("clawproxy:call",),
            "job_id": "job-1",
            "jti": "jti-1",
            "iat_s": 1_000_000,
            "exp_s": 1_000_000 + 600,
            "policy_hash_b64u": "A" * 43,
            "issuer_did": "did:key:z6MkIssuer",
            "claims": {},
            **fields,
        }
    )


def facts(**fields: Any) -> CallFacts:
    return CallFacts(
        **{"provider": "openai", "route": "chat_completions", "model": "gpt-4o", "stream": False, **fields}
    )
