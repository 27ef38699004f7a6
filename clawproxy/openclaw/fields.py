"""Which fields of a Claw contract have settings in OpenClaw, and which the gateway holds alone. Pure.

A field that a contract gets later belongs into one of these: into ``RENDERED`` with what ``render`` makes of it, and a
rule in ``compare`` for each setting that goes beyond it.
"""

from __future__ import annotations

RENDERED = (
    "allowed_providers",
    "allowed_models",
    "allowed_tools",
    "denied_tools",
    "tool_classes",
    "elevated",
    "approvals",
)
"""What a contract says here changes what is rendered. A word that stands for more tools (``tool_classes``) is told of
as ``allowed_tools``."""
CLOSED = ("model_routing", "egress_allowlist", "data_boundaries", "evidence_requirements")
"""Settings that would go around these are closed in every rendering, and named by an audit, whatever they say."""
NOTED = (
    "tool_arguments",
    "budgets",
    "data_boundaries",
    "data_classes_allowed",
    "data_classes_denied",
    "tool_data_classes",
    "tool_data_access",
    "allowed_provider_features",
    "read_only_tools",
)
"""OpenClaw has no setting for what these say; ``render`` says that the gateway holds it."""
SILENT = (
    "wpc_version",
    "policy_name",
    "policy_hash",
    "on_denied_tool",
    "on_denied_call",
    "token_constraints",
    "token_requirements",
)
"""Names of the contract, tokens, and how the gateway answers: nothing that an agent could be set to."""
