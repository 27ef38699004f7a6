"""Work Policy Contract v1 of the reference (protocol.md C.1, C.4). Pure.

Providers *and* models must match. Stricter than the reference in three points: absent or empty ``allowed_models``
allow no model, an empty ``allowed_providers`` allows no provider (absent: any), and since the shape has no word for
tools, a call that declares one is refused.
"""

from __future__ import annotations

import re

from ..tokens.canonical import JsonObject
from .data_rules import DataRules, read_path_rules
from .fields import Fields
from .policy import TIERS, Demand, ModelRules, Policy, Shape

KNOWN_FIELDS = (
    "policy_version",
    "policy_id",
    "issuer_did",
    "allowed_providers",
    "allowed_models",
    "minimum_model_identity_tier",
    "required_audit_packs",
    "redaction_rules",
    "receipt_privacy_mode",
    "egress_allowlist",
    "metadata",
)
DID = re.compile(r"did:[!-~]{1,252}", re.ASCII)
_PROVIDERS = re.compile(r"openai|anthropic|google", re.ASCII)
_B64U = re.compile(r"[A-Za-z0-9_-]{8,128}", re.ASCII)


def read_wpc_v1(document: JsonObject, policy_hash_b64u: str) -> Policy:
    """The policy of a WPC v1; raises ``ClawproxyError`` (WPC_INVALID) for the first field that is wrong.

    - ``allowed_models``: exact, or ``*`` for any run of characters; ASCII case does not count.
    - ``minimum_model_identity_tier``: above ``closed_opaque`` each call is refused at decide.
    - ``redaction_rules``: carried out in the request (``data_rules``); one that meets nothing refuses the call.
    - ``required_audit_packs``, ``egress_allowlist`` with entries, and ``receipt_privacy_mode: encrypted`` become
      demands; ``hash_only`` is what the gateway does. ``metadata`` means nothing.
    """
    fields = Fields(document, KNOWN_FIELDS)
    fields.need("policy_version", "policy_id", "issuer_did")
    fields.text("policy_version", one_of=("1",))
    fields.text("issuer_did", max_chars=256, like=DID)
    fields.object("metadata")
    demands: list[Demand] = []
    if fields.texts("required_audit_packs", max_items=64, max_chars=128, like=_B64U):
        demands.append(Demand("required_audit_packs", "audit packs are not looked at by this gateway"))
    paths = read_path_rules(fields)
    if fields.text("receipt_privacy_mode", one_of=("hash_only", "encrypted")) == "encrypted":
        demands.append(Demand("receipt_privacy_mode", "encrypted contents in receipts are not written yet"))
    if fields.texts("egress_allowlist"):
        demands.append(Demand("egress_allowlist", "egress of tools is not seen by this gateway yet"))
    return Policy(
        policy_hash_b64u=policy_hash_b64u,
        shape=Shape.WPC_V1,
        name=fields.text("policy_id") or "",
        providers=fields.texts("allowed_providers", max_items=16, like=_PROVIDERS),
        models=ModelRules(fields.texts("allowed_models") or (), fold_case=True),
        tools=None,
        minimum_tier=fields.text("minimum_model_identity_tier", one_of=TIERS) or TIERS[0],
        demands=tuple(demands),
        data=DataRules(paths=paths) if paths else None,
    )
