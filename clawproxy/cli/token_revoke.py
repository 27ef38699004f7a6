"""``clawproxy token revoke``: tokens by file, hash, id, job or contract; for good."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..policies.orders import Revocation, Revoked
from ..tokens.errors import ClawproxyError
from ..tokens.verify import parse_token, token_hash
from .order_doubts import doubt
from .orders import ReasonOption, contract_hash, give_order
from .screen import JsonFlag
from .state import DEFAULT_STATE, StateDir, StateOption, read_file

_HANDLE = "cph_"


def revoke(
    file: Annotated[Path | None, typer.Argument(help="A file with the token; - reads stdin.")] = None,
    hash_: Annotated[str, typer.Option("--hash", help="The token's hash, as records name it.")] = "",
    jti: Annotated[str, typer.Option("--jti", help="Every token with this id.")] = "",
    job: Annotated[str, typer.Option("--job", help="Every token and handle of a job.")] = "",
    contract: Annotated[str, typer.Option("--contract", help="Every token pinned to a contract: hash or file.")] = "",
    reason: ReasonOption = "",
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Revoke tokens for good, at every gateway of the state directory; their live streams are cut.

    Needs no running gateway. Ends with 1 if a gateway did not confirm it, or it could not be written.
    """
    given = [
        (kind, name)
        for kind, name in (
            (Revoked.TOKEN, _hash_in(file) if file is not None else ""),
            (Revoked.TOKEN, hash_),
            (Revoked.JTI, jti),
            (Revoked.JOB, job),
            (Revoked.CONTRACT, contract_hash(contract) if contract else ""),
        )
        if name
    ]
    if len(given) != 1:
        raise ClawproxyError("USAGE", "name one thing", expected="a token file, --hash, --jti, --job or --contract")
    kind, name = given[0]

    def done(revocation: Revocation) -> str:
        return f"revoked {revocation.kind} {revocation.name} (order {revocation.number})"

    folder = StateDir(state)
    give_order(
        folder,
        lambda orders, now: orders.with_revocation(kind, name, reason, now),
        as_json=json_,
        done=done,
        doubt=doubt(folder, job=job, policy_hash=name if kind is Revoked.CONTRACT else ""),
    )


def _hash_in(file: Path) -> str:
    text = read_file(file, max_bytes=64 * 1024).decode("latin-1").strip()
    if text.startswith(_HANDLE):
        raise ClawproxyError("USAGE", "this is a job's handle, not a token", remedy="revoke the job: --job JOB")
    if not hasattr(parse_token(text), "token_hash_hex"):
        raise ClawproxyError("TOKEN_MALFORMED", "no token in this file", where=str(file))
    return token_hash(text)
