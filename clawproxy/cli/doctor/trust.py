"""Whom the gateway trusts, its contracts, and the file by which auditors trust it. Reads files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ...policies.approval_rules import ActionApproval, ApprovalRules, JobApproval
from ...policies.contract import open_contract
from ...tokens.errors import ClawproxyError
from ...tokens.keys import Role
from ...tokens.trust import load_trust
from ..contract_files import signed_files
from ..state import StateDir, keys_command
from .symptom import Symptom, failed

if TYPE_CHECKING:
    from ...addons.approvers import Approvers
    from ...addons.settings import Settings


def check_contracts(folder: StateDir, settings: Settings) -> Iterator[Symptom]:
    from ...addons.approvers import load_approvers
    from ...addons.settings import signer_dids

    try:
        signers = signer_dids(settings.trust.contract_signers, Role.POLICY, folder.root)
        signer_dids(settings.trust.token_issuers, Role.TOKEN, folder.root)
    except ClawproxyError as err:
        yield failed("trust", err)
        return
    if not signers:
        remedy = f"{keys_command(folder.root, Role.POLICY)}, or set trust.contract_signers"
        yield Symptom("fail", "trust", "no contract signer", remedy)
    approvers: Approvers | None = None
    try:
        approvers = load_approvers(settings, {})
    except ClawproxyError as err:
        yield failed("approvers", err)
    envelopes = signed_files(folder)
    if not envelopes:
        yield Symptom(
            "warn",
            "contracts",
            f"none in {folder.contracts}",
            "clawproxy contract new sdk, then clawproxy contract sign",
        )
    for path, envelope in envelopes:
        try:
            contract = open_contract(envelope, signers)
        except ClawproxyError as err:
            yield Symptom(
                "warn", "contract", f"{path.name}: {err.message} [{err.reason}]", "sign it with a trusted key"
            )
            continue
        if contract.policy.demands:
            what = ", ".join(demand.field for demand in contract.policy.demands)
            yield Symptom(
                "warn",
                "contract",
                f"{contract.policy.name}: cannot be enforced: {what}",
                "see: clawproxy contract check",
            )
        else:
            yield Symptom("ok", "contract", f"{contract.policy.name}, {contract.policy_hash_b64u}")
            if approvers is not None:
                yield from _approvers(contract.policy.name, contract.policy.approvals, approvers)


def _approvers(name: str, wanted: ApprovalRules, approvers: Approvers) -> Iterator[Symptom]:
    """Groups that a contract wants a yes of, and in which nobody is."""
    asked: list[ActionApproval | JobApproval] = [*wanted.actions, *([wanted.job] if wanted.job is not None else [])]
    for group in sorted({rule.group or "" for rule in asked}):
        if not approvers.of(group or None):
            who = f'nobody is in the group "{group}"' if group else "there is no approver"
            yield Symptom(
                "warn",
                "approvers",
                f"{name} wants approvals, and {who}: the answer is no",
                f'[trust] approvers = {{ {group or "GROUP"} = ["did:key:…"] }}, a key of: '
                "clawproxy keys new approval --name NAME; then clawproxy reload",
            )


def check_trust_file(folder: StateDir) -> Iterator[Symptom]:
    """What an auditor is given: it must name the keys of now. In the state directory, or in the working directory."""
    path = _trust_file(folder)
    remedy = f"clawproxy keys trust -o {shlex.quote(str(path))} --force, and hand it to auditors on a way of its own"
    if not path.exists():
        found = f"none of this gateway's, here or in {folder.root}; an auditor needs one"
        yield Symptom("ok", "trust file", found, f"clawproxy keys trust -o {shlex.quote(str(path))}")
        return
    try:
        trust = load_trust(path)
        receipt = folder.load_key(Role.RECEIPT).did
    except ClawproxyError as err:
        yield Symptom("warn", "trust file", err.one_line(), remedy)
        return
    if receipt in trust.signers(Role.RECEIPT):
        yield Symptom("ok", "trust file", str(path))
    else:
        yield Symptom("warn", "trust file", f"{path} does not name the receipt key of now", remedy)


def _trust_file(folder: StateDir) -> Path:
    """The one in the state directory, else the one in the working directory, unless that is somebody else's."""
    here = Path(folder.trust_file.name)
    if folder.trust_file.exists() or not here.exists():
        return folder.trust_file
    try:
        ours = folder.load_key(Role.RECEIPT).did in load_trust(here).signers(Role.RECEIPT)
    except ClawproxyError:
        ours = False
    # one beside the state directory is told of even if it is an old one; elsewhere it is more likely another gateway's
    beside = folder.root.absolute().parent == Path.cwd()
    return here if ours or beside else folder.trust_file
