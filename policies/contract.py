"""Contracts: the accepted shapes in, one ``Policy`` out; hashed, signed, opened. Pure.

The hash of a contract is ``sha256_b64u(JCS(document))`` with an inner ``policy_hash`` left out (protocol.md C.1), so
what is signed is what the reviewer read. An inner ``policy_hash`` must agree; a placeholder is one that is no
43-character digest, and ``sign_contract`` fills it. In a signed contract a placeholder is refused: the signature
would not cover it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import orjson

from ..tokens.canonical import JsonObject, jcs_bytes, parse_json_object
from ..tokens.digests import is_sha256_b64u, sha256_b64u
from ..tokens.envelope import build_envelope, check_envelope_shape, check_envelope_signature
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role, SigningKey
from .addresses import address_fault, is_literal
from .budget_rules import budget_surprises
from .claw_contract import read_claw
from .data_demands import class_demands
from .detect.classes import DataClasses
from .egress import EgressEntry
from .facts import PROVIDER_FEATURES
from .policy import TIERS, Policy, Shape
from .prices import PriceTable
from .tool_classes import ToolClasses
from .tools import MODEL_CALL
from .wpc_v1 import read_wpc_v1
from .wpc_v2 import read_wpc_v2

ENVELOPE_TYPE = "work_policy_contract"
MAX_CONTRACT_BYTES = 65_536
"""Size of a contract's JSON; the reference registry takes no larger one (protocol.md C.6)."""

_BOUNDS = {"max_bytes": MAX_CONTRACT_BYTES, "max_depth": 16, "max_nodes": 20_000}


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract that was read: the document as it is written, and what it means. Nothing about who signed it."""

    document: JsonObject = field(repr=False)
    policy: Policy
    stated_hash: str | None

    @property
    def policy_hash_b64u(self) -> str:
        return self.policy.policy_hash_b64u

    @property
    def has_placeholder(self) -> bool:
        """Whether the inner ``policy_hash`` still waits for ``sign_contract``."""
        return self.stated_hash is not None and not is_sha256_b64u(self.stated_hash)


def hashed_view(document: JsonObject) -> JsonObject:
    """The part of a contract that its hash covers: all but an inner ``policy_hash``. For ``hashed=`` of
    tokens.envelope.
    """
    return {name: value for name, value in document.items() if name != "policy_hash"}


def hash_contract(document: JsonObject) -> str:
    """The policy hash of a document, 43 base64url characters; raises ``ClawproxyError`` for what JCS cannot express."""
    return sha256_b64u(jcs_bytes(hashed_view(document)))


def parse_contract(source: bytes | JsonObject) -> Contract:
    """Read a contract document of any accepted shape; raises ``ClawproxyError`` (WPC_INVALID) with one clear line.

    ``source`` is JSON text, or an object that came from strict JSON. For a signed contract see ``open_contract`` and
    ``document_in``.
    """
    document = _bounded(source)
    if "envelope_type" in document or "payload" in document:
        raise ClawproxyError("WPC_INVALID", "this is an envelope", expected="the contract itself, which is its payload")
    read = _reader_of(document)
    policy_hash = hash_contract(document)
    policy = read(document, policy_hash)
    stated = document.get("policy_hash")
    if is_sha256_b64u(stated) and stated != policy_hash:
        raise ClawproxyError(
            "WPC_INVALID",
            "the contract states another hash than its own",
            where="policy_hash",
            got=stated,
            expected=policy_hash,
            remedy="take policy_hash out; clawproxy contract sign fills it",
        )
    return Contract(document, policy, stated)


def _bounded(source: bytes | JsonObject) -> JsonObject:
    try:
        # through JSON once more: an object in memory gets the same bounds as a file, and is ours from here on
        data = source if isinstance(source, bytes) else orjson.dumps(source)
        return parse_json_object(data, **_BOUNDS)
    except (orjson.JSONEncodeError, RecursionError):
        raise ClawproxyError("WPC_INVALID", "not a JSON object", expected="strings, numbers, lists, objects") from None
    except ClawproxyError as err:
        raise ClawproxyError("WPC_INVALID", err.message, where=err.where, got=err.got, expected=err.expected) from None


def _reader_of(document: JsonObject) -> Callable[[JsonObject, str], Policy]:
    version = document.get("policy_version")
    if "policy_version" in document and "policy_name" in document:
        raise ClawproxyError(
            "WPC_INVALID", "two shapes in one contract", got="policy_name and policy_version", expected="one of them"
        )
    if version == "1":
        return read_wpc_v1
    if version == "2":
        return read_wpc_v2
    if "policy_version" in document:
        raise ClawproxyError(
            "WPC_INVALID", "unknown version", where="policy_version", got=repr(version), expected='"1" or "2"'
        )
    if "policy_name" not in document:
        expected = "policy_name (Claw contract) or policy_version (WPC)"
        raise ClawproxyError("WPC_INVALID", "not a contract", got="neither name nor version", expected=expected)
    return read_claw


def sign_contract(document: JsonObject, key: SigningKey, issued_at: str) -> JsonObject:
    """The signed envelope of a contract, to be written with ``jcs_bytes``. A contract that cannot be read is not
    signed.

    In the Claw shape a missing or placeholder ``policy_hash`` is filled. ``issued_at`` as
    ``tokens.envelope.timestamp``.
    """
    if key.role is not Role.POLICY:
        raise ClawproxyError("KEY_ROLE", "contracts are signed with a policy key", got=str(key.role), expected="policy")
    contract = parse_contract(document)
    payload = dict(contract.document)
    if contract.policy.shape is Shape.CLAW:
        payload["policy_hash"] = contract.policy_hash_b64u
    return build_envelope(ENVELOPE_TYPE, payload, key, issued_at, hashed=hashed_view(payload))


def document_in(value: JsonObject) -> JsonObject:
    """The contract document of a file that holds either the document or its signed envelope. Checks no signature."""
    payload = value.get("payload")
    return payload if value.get("envelope_type") == ENVELOPE_TYPE and isinstance(payload, dict) else value


def open_contract(envelope: object, signers: Container[str], *, expected_hash: str | None = None) -> Contract:
    """Check a signed contract and read it, in this order; raises ``ClawproxyError`` with a reason of the pin step.

    1. shape and algorithms, and no ``expires_at``, which nothing would sign (WPC_ENVELOPE_INVALID); 2. the signer is
      one of ``signers`` (WPC_SIGNER_NOT_ALLOWED); 3. the hash is the payload's and, if given, ``expected_hash``
      (WPC_ENVELOPE_INVALID); 4. the signature (WPC_SIGNATURE_INVALID); 5. the document (WPC_INVALID), without
      placeholder.
    """
    try:
        shaped = check_envelope_shape(envelope, ENVELOPE_TYPE)
    except ClawproxyError as err:
        raise _renamed(err, "WPC_ENVELOPE_INVALID") from None
    if "expires_at" in shaped:
        raise ClawproxyError("WPC_ENVELOPE_INVALID", "unknown member in an envelope", got="expires_at")
    if shaped["signer_did"] not in signers:
        raise ClawproxyError(
            "WPC_SIGNER_NOT_ALLOWED", "the signer is not trusted", where="signer_did", got=shaped["signer_did"]
        )
    payload: JsonObject = shaped["payload"]
    if expected_hash is not None and shaped["payload_hash_b64u"] != expected_hash:
        raise ClawproxyError(
            "WPC_ENVELOPE_INVALID",
            "this is another contract",
            where="payload_hash_b64u",
            got=shaped["payload_hash_b64u"],
            expected=expected_hash,
        )
    try:
        check_envelope_signature(shaped, hashed=hashed_view(payload))
    except ClawproxyError as err:
        known = err.reason == "SIGNATURE_INVALID"
        raise _renamed(err, "WPC_SIGNATURE_INVALID" if known else "WPC_ENVELOPE_INVALID") from None
    contract = parse_contract(payload)
    if contract.has_placeholder:
        raise ClawproxyError(
            "WPC_ENVELOPE_INVALID",
            "a signed contract holds a placeholder",
            where="payload.policy_hash",
            got=contract.stated_hash,
        )
    return contract


def _renamed(err: ClawproxyError, reason: str) -> ClawproxyError:
    return ClawproxyError(reason, err.message, where=err.where, got=err.got, expected=err.expected)


# -- check -------------------------------------------------------------------------------------------------------


class Weight(StrEnum):
    """How much a note matters: ``problem`` means that calls are refused, or that an entry does nothing."""

    PROBLEM = "problem"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Note:
    """Something a reviewer should know about a contract that is well formed."""

    weight: Weight
    where: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f"; {self.remedy}" if self.remedy else "")


def check_contract(
    contract: Contract,
    tool_classes: ToolClasses,
    providers: Collection[str] | None = None,
    is_provider: Callable[[str, int], bool] = lambda host, port: False,
    prices: PriceTable | None = None,
    data_classes: DataClasses | None = None,
) -> list[Note]:
    """What a well-formed contract does not do, or would not let through; the empty list for one without surprises.

    ``providers`` are the names that the catalogue knows; without them, provider names are not judged. ``is_provider``
    says of a host and port that they are a provider's (``Catalogue.is_provider``). Without ``prices``, models under a
    budget in money are not judged. ``data_classes`` are those of the gateway, by default what ships.
    """
    policy, notes = contract.policy, []
    if contract.has_placeholder:
        notes.append(
            Note(Weight.NOTE, "policy_hash", "a placeholder stands here", "clawproxy contract sign fills in the hash")
        )
    notes += [
        Note(Weight.PROBLEM, demand.field, f"cannot be enforced: {demand.why}", "no call goes out under this contract")
        for demand in policy.demands + class_demands(policy, data_classes)
    ]
    notes += _data_notes(policy)
    notes += _model_notes(policy)
    if providers is not None:
        notes += [
            Note(Weight.PROBLEM, f'allowed_providers["{name}"]', f"no such provider; known: {', '.join(providers)}")
            for name in policy.providers or ()
            if name not in providers
        ]
    notes += [
        Note(
            Weight.PROBLEM, f'allowed_provider_features["{word}"]', "no request has such a member", _features_like(word)
        )
        for word in sorted(policy.provider_features - PROVIDER_FEATURES)
    ]
    notes += _approval_notes(policy)
    notes += [note for entry in policy.egress for note in _egress_notes(entry, is_provider)]
    notes += _budget_notes(policy, prices)
    if policy.shape is Shape.CLAW:
        notes += _tool_notes(contract.document, tool_classes)
    return notes


def _model_notes(policy: Policy) -> list[Note]:
    notes = []
    if policy.models is not None and not policy.models.patterns:
        notes.append(
            Note(Weight.PROBLEM, "allowed_models", "no model may be called", "name the models that may be called")
        )
    if policy.providers == ():
        notes.append(
            Note(Weight.PROBLEM, "allowed_providers", "no provider may be called", "name one, or take the field out")
        )
    if policy.model_call_denied:
        notes.append(Note(Weight.PROBLEM, "denied_tools", f"{MODEL_CALL} is denied, so no model may be called"))
    if policy.minimum_tier != TIERS[0]:
        message = f"no closed provider reaches {policy.minimum_tier}, so no call goes out"
        notes.append(Note(Weight.PROBLEM, "minimum_model_identity_tier", message))
    if policy.statements is not None and not any(s.allows for s in policy.statements):
        notes.append(Note(Weight.PROBLEM, "statements", "no statement allows anything"))
    return notes


def _approval_notes(policy: Policy) -> list[Note]:
    """Who may approve stands in the gateway's configuration, not in the contract."""
    rules = policy.approvals
    asked = [("approvals", rules.job.group)] if rules.job else []
    asked += [(f'approvals["{rule.action}"]', rule.group) for rule in rules.actions]
    return [
        Note(
            Weight.NOTE,
            where,
            f'the gateway\'s trust.approvers must have the group "{group}"; that cannot be checked here'
            if group is not None
            else "any key that the gateway trusts as an approver's may approve",
            "" if group is not None else "name an approver_group, if it should be some of them",
        )
        for where, group in asked
    ]


def _budget_notes(policy: Policy, prices: PriceTable | None) -> Iterator[Note]:
    if policy.budgets is None:
        return

    def has_price(model: str) -> bool:
        return prices is None or prices.knows(model, policy.providers)

    models = policy.models.patterns if policy.models is not None else ()
    for refuses, where, message, remedy in budget_surprises(policy.budgets, has_price, models):
        yield Note(Weight.PROBLEM if refuses else Weight.NOTE, where, message, remedy)


def _data_notes(policy: Policy) -> Iterator[Note]:
    rules = policy.data
    if rules is None:
        return
    allowed = sorted(name for name in rules.allowed or () if name not in rules.labels)
    if rules.allowed is not None and not rules.carries:
        message = "no tool's results have a label, so the list lets everything through that is not denied"
        yield Note(Weight.NOTE, "data_classes_allowed", message, "say in tool_data_classes what tools return")
    elif allowed and rules.carries:
        yield Note(Weight.NOTE, "data_classes_allowed", f"no tool returns {', '.join(allowed)}")
    if rules.export_denied and not policy.egress:
        yield Note(Weight.NOTE, "data_boundaries.export", "no host is in egress_allowlist, so nothing can be exported")


def _features_like(word: str) -> str:
    kind = word.partition(":")[0] + ":"
    return "known: " + ", ".join(sorted(known for known in PROVIDER_FEATURES if known.startswith(kind)))


def _egress_notes(entry: EgressEntry, is_provider: Callable[[str, int], bool]) -> Iterator[Note]:
    if is_provider(entry.host, entry.port):
        message = "a provider's host is never reached this way: every call to it is judged as a model call"
        yield Note(Weight.PROBLEM, entry.rule, message, "take the entry out")
    elif is_literal(entry.host) and (fault := address_fault(entry.host, private=True)):
        yield Note(Weight.PROBLEM, entry.rule, f"this address is never dialled: {fault}", "take the entry out")
    if entry.credential is not None:
        message = f"the gateway's configuration must have [egress.{entry.credential}], for this host"
        yield Note(Weight.NOTE, entry.rule, f"{message}; that cannot be checked here")


def _tool_notes(document: JsonObject, tool_classes: ToolClasses) -> list[Note]:
    notes, own = [], document.get("tool_classes", {})
    spoken: list[str] = []
    for name in ("allowed_tools", "denied_tools"):
        for entry in document.get(name, ()):
            spoken.append(entry)
            if entry == MODEL_CALL or entry in own or tool_classes.is_wire_name(entry):
                continue
            agents = tool_classes.agents_with(entry)
            remedy = (
                f"copy the class of {' or '.join(agents)} from configs/tool_classes.toml into tool_classes"
                if agents
                else "tie it to the tool's wire names in tool_classes"
            )
            message = "stands only for a tool that has exactly this name on the wire"
            notes.append(Note(Weight.PROBLEM, f'{name}["{entry}"]', message, remedy))
    for entry in _actions(document):
        if entry not in own and not tool_classes.is_wire_name(entry) and entry not in document.get("denied_tools", ()):
            message = "stands only for a tool that has exactly this name on the wire"
            notes.append(
                Note(Weight.NOTE, f'approvals["{entry}"]', message, "else tie it to wire names in tool_classes")
            )
    notes += [
        Note(Weight.PROBLEM, f'approvals["{entry}"]', "is denied as well; the denial holds")
        for entry in sorted(set(_actions(document)) & set(document.get("denied_tools", ())))
    ]
    both = set(document.get("allowed_tools", ())) & set(document.get("denied_tools", ()))
    notes += [
        Note(Weight.PROBLEM, f'allowed_tools["{entry}"]', "is denied as well; the denial holds")
        for entry in sorted(both)
    ]
    spoken += _actions(document)
    for entry in own:
        if entry not in spoken:
            notes.append(Note(Weight.NOTE, f'tool_classes["{entry}"]', "no tool list names this class"))
    return notes


def _actions(document: Mapping[str, object]) -> list[str]:
    approvals = document.get("approvals")
    if not isinstance(approvals, list):
        return []
    return [str(entry["action"]) for entry in approvals if entry.get("required") is not False]
