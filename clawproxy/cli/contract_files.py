"""Contracts as files: documents, and the signed ones of the state directory. Touches the file system."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..policies.contract import ENVELOPE_TYPE, Contract, document_in, hash_contract, open_contract, parse_contract
from ..policies.contract_text import yaml_text
from ..policies.contract_yaml import SUFFIXES, parse_yaml_object
from ..policies.packaged import Starter, starter_document
from ..tokens.canonical import JsonObject, jcs_bytes
from ..tokens.digests import is_sha256_b64u
from ..tokens.errors import ClawproxyError
from .state import StateDir, read_file, read_json_file


def read_document(path: Path) -> JsonObject:
    """The contract document in a file that holds it, or its signed envelope. No signature is checked."""
    return document_in(read_contract_file(path))


def read_contract_file(path: Path) -> JsonObject:
    """What a file holds, JSON, or YAML where its name says so; errors name the file."""
    if not is_yaml(path):
        return read_json_file(path)
    try:
        return parse_yaml_object(read_file(path))
    except ClawproxyError as err:
        raise err if err.where.startswith(str(path)) else err.at(str(path)) from None


def read_contract(reference: str) -> Contract:
    """The contract in a file, or a starter; errors name it. No signature is checked."""
    path = Path(reference)
    try:
        if reference in set(Starter) and not path.exists():
            return parse_contract(starter_document(Starter(reference)))
        return parse_contract(read_document(path))
    except ClawproxyError as err:
        raise err if err.where.startswith(reference) else err.at(reference) from None


def is_yaml(path: Path) -> bool:
    """Whether the name of a file says that it holds YAML."""
    return path.suffix.lower() in SUFFIXES


def document_text(document: JsonObject, path: Path | None) -> str:
    """A document as it is written into ``path``, or to a screen."""
    if path is not None and is_yaml(path):
        return yaml_text(document, {}, (), ())
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write_new(out: Path, text: str) -> None:
    """Write into a file that is not there yet; raises ``ClawproxyError`` (FILE_EXISTS)."""
    try:
        with out.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise already_there(out) from None


def already_there(out: Path) -> ClawproxyError:
    """What ``-o`` is answered where its file is there: nothing is written over."""
    return ClawproxyError(
        "FILE_EXISTS", "the file exists already", where=str(out), remedy="choose another -o, or move the file away"
    )


def store_signed(envelope: JsonObject, state: StateDir) -> Path:
    """Put a signed contract under its hash into ``contracts/``; whole or not at all."""
    state.make()
    path = state.contracts / f"{envelope['payload_hash_b64u']}.json"
    staged = state.contracts / f".{path.name}.{os.getpid()}"
    staged.write_bytes(jcs_bytes(envelope) + b"\n")
    staged.replace(path)
    return path


def signed_files(state: StateDir) -> list[tuple[Path, JsonObject]]:
    """The signed contracts of ``contracts/``, unchecked, by file name; others are left out."""
    found = []
    for path in sorted(state.contracts.glob("*.json")):
        try:
            value = read_json_file(path)
        except ClawproxyError:
            continue
        if value.get("envelope_type") == ENVELOPE_TYPE:
            found.append((path, value))
    return found


def find_signed(reference: str, state: StateDir) -> JsonObject:
    """The signed contract that ``reference`` means: a file, or the hash of one in ``contracts/``.

    The file of a document that was signed into ``contracts/`` does as well.
    Its own signature is checked; whether the signer is trusted is the gateway's to say. Raises ``ClawproxyError``
    (WPC_NOT_FOUND, WPC_UNSIGNED, or why it does not open).
    """
    envelope = _read_reference(reference, state)
    if envelope.get("envelope_type") != ENVELOPE_TYPE:
        _, envelope = signed_with_hash(hash_contract(envelope), state) or (None, {})
    if not envelope:
        raise ClawproxyError(
            "WPC_UNSIGNED",
            "this contract is not signed",
            where=reference,
            remedy=f"sign it with: clawproxy contract sign {reference}",
        )
    try:
        open_contract(envelope, {str(envelope.get("signer_did"))})
    except ClawproxyError as err:
        raise err.at(reference) from None
    return envelope


def _read_reference(reference: str, state: StateDir) -> JsonObject:
    if is_sha256_b64u(reference) and not Path(reference).exists():
        found = signed_with_hash(reference, state)
        if found is None:
            raise ClawproxyError(
                "WPC_NOT_FOUND",
                "no signed contract with this hash",
                where=str(state.contracts),
                got=reference,
                remedy="sign its file: clawproxy contract sign FILE",
            )
        return found[1]
    if reference in set(Starter) and not Path(reference).exists():
        raise ClawproxyError(
            "WPC_UNSIGNED",
            "a starter is not signed",
            where=reference,
            remedy=f"clawproxy contract new {reference} -o contract.json, read it, "
            "then clawproxy contract sign contract.json",
        )
    return read_contract_file(Path(reference))


def signed_with_hash(policy_hash: str, state: StateDir) -> tuple[Path, JsonObject] | None:
    """The signed contract of ``contracts/`` that states this hash, and its file; unchecked."""
    return next(((path, e) for path, e in signed_files(state) if e.get("payload_hash_b64u") == policy_hash), None)
