"""``clawproxy contract``: write contracts, look at them, hash and sign them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from ..policies.contract import (
    ENVELOPE_TYPE,
    Contract,
    Weight,
    check_contract,
    document_in,
    hash_contract,
    open_contract,
    parse_contract,
    sign_contract,
)
from ..policies.contract_schema import contract_schema
from ..policies.packaged import Starter, packaged_catalogue, packaged_prices, packaged_tool_classes, starter_document
from ..receipts.report import printable
from ..tokens.canonical import JsonObject
from ..tokens.envelope import timestamp
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role, load_key
from .contract_diff import diff
from .contract_egress import contract_egress
from .contract_explain import explain
from .contract_files import (
    document_text,
    find_signed,
    is_yaml,
    read_contract_file,
    read_document,
    signed_with_hash,
    store_signed,
    write_new,
)
from .contract_suggest import suggest_contract
from .contract_trial import try_contract
from .screen import JsonFlag, counted, new_app, note, print_json, print_pairs
from .state import DEFAULT_STATE, StateDir, StateOption

app = new_app("Contracts: what a job may do, signed by a reviewer and named by its hash.")

FileArgument = Annotated[
    Path, typer.Argument(help="A contract document (JSON, or .yaml), or its signed envelope; - reads JSON from stdin.")
]


@app.command("new", short_help="write one to begin with, for a kind of agent")
def new(
    starter: Annotated[Starter, typer.Argument(help="What kind of agent it is for.")],
    model: Annotated[
        list[str] | None, typer.Option("--model", metavar="MODEL", help="A model to allow; again for each other.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The policy name.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here instead of stdout.")] = None,
) -> None:
    """Write a contract to begin with, unsigned; read it, change it, then sign it."""
    document = starter_document(starter)
    if model:
        document["allowed_models"] = model
    if name:
        document["policy_name"] = name
    parse_contract(document)
    text = document_text(document, out)
    if out is None:
        print(text, end="")
        return
    write_new(out, text)
    note(f"wrote {out}; read it, then: clawproxy contract sign {out}")


@app.command("check", short_help="can it be read, and does each part of it do something")
def check(
    file: FileArgument,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on problems, too, not only on faults.")] = False,
    json_: JsonFlag = False,
) -> None:
    """Say whether a contract can be read, and what in it would do nothing or refuse every call.

    Ends with 1 for a contract that is malformed (or, with --strict, has problems); notes never fail it.
    """
    try:
        contract = parse_contract(read_document(file))
    except ClawproxyError as err:
        if err.reason == "FILE_UNREADABLE":
            raise
        line = err if err.where.startswith(str(file)) else err.at(str(file))
        if json_:
            print_json({"ok": False, "reason": err.reason, "error": line.one_line(), "notes": []})
        else:
            note(f"clawproxy: {line.one_line()}")
        raise typer.Exit(1) from None
    catalogue = packaged_catalogue()
    notes = check_contract(contract, packaged_tool_classes(), catalogue.names, catalogue.is_provider, packaged_prices())
    problems = sum(n.weight is Weight.PROBLEM for n in notes)
    ok = not (strict and problems)
    if json_:
        shown = [{"weight": n.weight, "where": n.where, "message": n.message, "remedy": n.remedy} for n in notes]
        print_json({"ok": ok, "policy_hash_b64u": contract.policy_hash_b64u, "notes": shown})
    else:
        print(f"{file}: a {contract.policy.shape} contract, hash {contract.policy_hash_b64u}")
        for found in notes:
            print(f"  {found.weight}: {found}")
        milder = "; --strict makes them fail" if problems and ok else ""
        print((counted(problems, "problem") if problems else "no problems") + milder)
    raise typer.Exit(0 if ok else 1)


@app.command("hash", short_help="the hash that tokens pin")
def hash_(file: FileArgument, json_: JsonFlag = False) -> None:
    """Print the hash that tokens pin: sha256 over the canonical document, an inner policy_hash left out."""
    document = read_document(file)
    parse_contract(document)
    value = hash_contract(document)
    if json_:
        print_json({"policy_hash_b64u": value})
    else:
        print(value)


@app.command("sign", short_help="sign it as its reviewer")
def sign(
    file: FileArgument,
    key: Annotated[Path | None, typer.Option("--key", help="A policy key; default keys/policy.pem.")] = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Sign a contract as its reviewer, and put the envelope into the state directory's contracts/."""
    folder = StateDir(state)
    signer = load_key(key or folder.key_file(Role.POLICY), Role.POLICY)
    try:
        envelope = sign_contract(read_document(file), signer, timestamp(time.time_ns() // 1_000_000))
    except ClawproxyError as err:
        raise err if err.where.startswith(str(file)) else err.at(str(file)) from None
    path = store_signed(envelope, folder)
    if json_:
        print_json({"policy_hash_b64u": envelope["payload_hash_b64u"], "file": str(path), "signer_did": signer.did})
    else:
        print(envelope["payload_hash_b64u"])
        note(f"signed by {signer.did}, in {path}")
        if is_yaml(file):
            note(f"the hash is that of the JSON that {file} stands for; comments are not signed")


@app.command("show", short_help="all that it says, and who signed it")
def show(
    contract: Annotated[str, typer.Argument(help="A contract file, the hash of one in contracts/, or a starter.")],
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Show all that a contract says, and who signed it."""
    signer, signed_in = None, None
    try:
        value = _meant(contract, StateDir(state))
        if value.get("envelope_type") != ENVELOPE_TYPE:
            policy_hash = parse_contract(value).policy_hash_b64u
            signed_in, value = signed_with_hash(policy_hash, StateDir(state)) or (None, value)
        if value.get("envelope_type") == ENVELOPE_TYPE:
            signer = str(value.get("signer_did"))
            open_contract(value, {signer})  # raises when the signature does not hold
        read = parse_contract(document_in(value))
    except ClawproxyError as err:
        raise err if err.where.startswith(contract) else err.at(str(signed_in or contract)) from None
    if json_:
        print_json({"policy_hash_b64u": read.policy_hash_b64u, "signer_did": signer, "contract": read.document})
    else:
        print_pairs(_summary(read, f"{signer or 'nobody'}" + (f", in {signed_in}" if signed_in else "")))


@app.command("schema", short_help="the JSON Schema, for editors")
def schema() -> None:
    """Print the JSON Schema of a contract, for editors; contract check says more than a schema can."""
    print_json(contract_schema())


@app.command("test", short_help="put recorded or written decisions to it")
def try_(
    contract: Annotated[Path, typer.Argument(help="A contract document, a draft or signed.")],
    fixtures: Annotated[
        Path, typer.Argument(help="A job directory, a .zip of one, or a file of fixtures (docs/contract.md).")
    ],
    json_: JsonFlag = False,
) -> None:
    """Put recorded or written decisions to a contract, and say which change; ends with 1 if one does.

    Nothing is signed and nothing sent. A decision whose facts are not all on record is said to be so.
    """
    trials = try_contract(contract, fixtures)
    changed = [trial for trial in trials if trial.changed]
    if json_:
        print_json({"changed": len(changed), "decisions": [trial.to_json() for trial in trials]})
    else:
        for trial in trials:
            print(trial.line())
        unknown = sum(trial.now is None for trial in trials)
        lacks = f", {unknown} cannot be recomputed" if unknown else ""
        print(f"{counted(len(trials), 'decision')}, {len(changed)} changed{lacks}")
    raise typer.Exit(1 if changed else 0)


app.command("diff", short_help="what one permits and another does not, proved")(diff)
app.command("explain", short_help="say it in plain words")(explain)
app.command("suggest", short_help="the least contract that covers what jobs did")(suggest_contract)
app.command("egress", short_help="an allow-list for the firewall behind the gateway")(contract_egress)


def _meant(reference: str, folder: StateDir) -> JsonObject:
    path = Path(reference)
    if path.exists() or reference == "-":
        return read_contract_file(path)
    return starter_document(Starter(reference)) if reference in set(Starter) else find_signed(reference, folder)


def _summary(contract: Contract, signer: str) -> list[tuple[str, str]]:
    policy, document = contract.policy, contract.document
    rows = [
        ("name", policy.name),
        ("shape", str(policy.shape)),
        ("hash", contract.policy_hash_b64u),
        ("signed by", signer),
        ("providers", "any of the catalogue" if policy.providers is None else ", ".join(policy.providers) or "none"),
        ("models", "as its statements say" if policy.models is None else ", ".join(policy.models.patterns) or "none"),
        ("token life", f"at most {policy.max_ttl_s} s"),
    ]
    for field in ("allowed_tools", "denied_tools"):
        rows += [(field.replace("_", " "), entry) for entry in _with_wire_names(document, field)]
    if policy.statements is not None:
        rows.append(("statements", str(len(policy.statements))))
    rows += _every_other_field(document)
    rows += [("not enforced", f"{demand.field}: {demand.why}") for demand in policy.demands]
    return rows


_SHOWN_ABOVE = frozenset(
    {
        "policy_name",
        "wpc_version",
        "policy_hash",
        "allowed_providers",
        "allowed_models",
        "allowed_tools",
        "denied_tools",
        "statements",
        "token_constraints",
        "token_requirements",
        "model_routing",
        "evidence_requirements",
    }
)
"""Of these, the last four change nothing but the life of a token, which has a line."""


def _every_other_field(document: JsonObject) -> list[tuple[str, str]]:
    """What else the contract says, member by member as it stands there: whoever signs it should have seen all of it."""
    rows = []
    for name in sorted(set(document) - _SHOWN_ABOVE):
        value = document[name]
        if isinstance(value, dict):
            parts = [f"{key}: {_as_json(member)}" for key, member in value.items()]
        else:
            parts = [_as_json(item) for item in value] if isinstance(value, list) else [_as_json(value)]
        rows += [(name.replace("_", " "), printable(part)) for part in parts or ["none"]]
    return rows


def _as_json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _with_wire_names(document: JsonObject, field: str) -> list[str]:
    classes = document.get("tool_classes", {})
    return [f"{e} ({', '.join(classes[e])})" if e in classes else str(e) for e in document.get(field, ())] or ["none"]
