"""``clawproxy token``: mint scoped tokens for a job, and look at one without trusting it."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Annotated

import typer

from ..addons.settings import Settings, load_settings, signer_dids
from ..policies.contract import document_in, parse_contract
from ..policies.orders import Orders, Revoked
from ..receipts.job_facts import JobFacts, parse_job_facts
from ..receipts.job_paths import JobPaths
from ..tokens.canonical import JsonObject
from ..tokens.claims import is_job_id
from ..tokens.errors import ClawproxyError
from ..tokens.keys import Role, load_key
from ..tokens.mint import DEFAULT_TTL_S, mint
from ..tokens.reasons import Refusal
from ..tokens.revocation import Revocations
from ..tokens.verify import TokenVerifier, UnverifiedToken, parse_token, token_hash
from .contract_files import find_signed
from .orders import standing_orders
from .screen import JsonFlag, new_app, note, print_json, print_pairs
from .state import DEFAULT_STATE, ConfigOption, StateDir, StateOption, read_file, write_private
from .token_revoke import revoke

app = new_app("Scoped tokens (CST): one token, one job, one contract, one audience.")

_DURATION = re.compile(r"([0-9]{1,6})(s|m|h|)", re.ASCII)
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_duration_s(text: str) -> int:
    """``600``, ``600s``, ``30m`` or ``1h`` in seconds; raises ``ClawproxyError`` (USAGE)."""
    found = _DURATION.fullmatch(text)
    if not found:
        raise ClawproxyError("USAGE", "not a duration", where="--ttl", got=text, expected="such as 600, 30m or 1h")
    return int(found[1]) * _UNIT_S[found[2]]


@app.command("mint", short_help="print a new token for a job")
def mint_(
    job: Annotated[str, typer.Option("--job", help="The job that the token is for.")],
    ttl: Annotated[str, typer.Option("--ttl", help="Its life: 600, 30m, 1h (at most what the contract allows).")] = str(
        DEFAULT_TTL_S
    ),
    aud: Annotated[
        list[str] | None,
        typer.Option(
            "--aud", metavar="AUDIENCE", help="The gateway it is for [default: as the configuration names it]."
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="clawproxy:call (default), or clawproxy:call:PROVIDER."),
    ] = None,
    contract: Annotated[
        str,
        typer.Option(
            "--contract", help="A signed contract, file or hash [default: the job's]; another brings the job under it."
        ),
    ] = "",
    sub: Annotated[str, typer.Option("--sub", help="For a job that is not opened here: the agent's DID.")] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write here (mode 0600) instead of stdout, over a token that is there."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there even if it is no token.")] = False,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Print a new token on stdout. Whoever holds it can call in the name of the job until it expires."""
    if out is not None and not force:
        _check_replaceable(out)
    settings = load_settings(config, state)
    folder = StateDir(settings.state_dir)
    agent_did, signed = _job_binding(folder, job, contract, sub)
    now_s, life_s = int(time.time()), parse_duration_s(ttl)
    _check_life(life_s, signed)
    policy_hash = str(signed["payload_hash_b64u"])
    _check_not_revoked(folder, job, policy_hash)
    token = mint(
        key=load_key(folder.key_file(Role.TOKEN), Role.TOKEN),
        sub=agent_did,
        aud=aud or settings.gateway.audience[:1],
        scope=scope or ["clawproxy:call"],
        job_id=job,
        policy_hash_b64u=policy_hash,
        now_s=now_s,
        ttl_s=life_s,
    )
    if out is not None:
        write_private(out, token.encode() + b"\n")
        note(f"wrote {out}, which others cannot read; it expires in {life_s} s")
    if json_:
        bound = {"job": job, "policy_hash_b64u": policy_hash, "sub": agent_did}
        shown = {"token": token} if out is None else {"file": str(out)}
        print_json({**shown, "token_hash": token_hash(token), "exp": now_s + life_s, **bound})
    elif out is None:
        print(token)


def _check_replaceable(out: Path) -> None:
    """That a token may take the place of what is there: nothing, an empty file, or the token before."""
    if not os.path.lexists(out):
        return
    if out.is_file():
        text = read_file(out).decode("latin-1").strip()
        if not text or isinstance(parse_token(text), UnverifiedToken):
            return
    raise ClawproxyError(
        "FILE_EXISTS",
        "something is already there, and it is no token",
        where=str(out),
        remedy="write it elsewhere, or over it with --force",
    )


def _check_life(life_s: int, signed: JsonObject) -> None:
    longest_s = parse_contract(document_in(signed)).policy.max_ttl_s
    if life_s > longest_s:
        raise ClawproxyError(
            "TOKEN_TTL_TOO_LONG",
            "the contract does not allow so long a life",
            where="--ttl",
            got=f"{life_s} s",
            expected=f"at most {longest_s} s",
        )


def _check_not_revoked(folder: StateDir, job: str, policy_hash: str) -> None:
    for revocation in _orders(folder).revocations:
        if (revocation.kind, revocation.name) in ((Revoked.JOB, job), (Revoked.CONTRACT, policy_hash)):
            another = "job" if revocation.kind is Revoked.JOB else "contract"
            raise ClawproxyError(
                "TOKEN_REVOKED",
                f"this {another} was revoked (order {revocation.number}), so its tokens would be refused",
                where=revocation.name,
                remedy=f"open another{'' if another == 'job' else ' job under another contract'}: clawproxy job open",
            )


def _orders(folder: StateDir) -> Orders:
    """What stands in the state directory; nothing where no receipt key is, as where tokens are minted elsewhere."""
    return standing_orders(folder) if folder.key_file(Role.RECEIPT).exists() else Orders()


def _job_binding(folder: StateDir, job: str, contract: str, sub: str) -> tuple[str, JsonObject]:
    """The agent and the signed contract of a job: from its directory, else as given."""
    facts = read_job_facts(folder, job)
    if facts is None:
        if not (contract and sub):
            raise ClawproxyError(
                "JOB_NOT_FOUND",
                "no such job here",
                got=job,
                remedy="open it with: clawproxy job open --contract FILE --job ID (or give --contract and --sub)",
            )
        return sub, find_signed(contract, folder)
    if JobPaths(folder.jobs, job).seal.exists():
        raise ClawproxyError(
            "JOB_SEALED",
            "the job is sealed, so its tokens would be refused",
            where=job,
            remedy="open a new one: clawproxy job open",
        )
    if sub and sub != facts.agent_did:
        raise ClawproxyError("USAGE", "the job is another agent's", where="--sub", got=sub, expected=facts.agent_did)
    if contract:
        return facts.agent_did, find_signed(contract, folder)
    if JobPaths(folder.jobs, job).contracts.exists():
        raise ClawproxyError(
            "USAGE",
            "the job came under another contract, and a new token may bring it back",
            where=job,
            expected="--contract, to say under which one the token is",
        )
    return facts.agent_did, find_signed(str(JobPaths(folder.jobs, job).contract), folder)


def read_job_facts(folder: StateDir, job: str) -> JobFacts | None:
    """job.json of a local job, or None; raises ``ClawproxyError`` for a malformed id or file."""
    if not is_job_id(job):
        raise ClawproxyError(
            "USAGE", "not a job id", got=job, expected="1 to 128 letters, digits, dots, underscores and hyphens"
        )
    path = JobPaths(folder.jobs, job).facts
    return parse_job_facts(read_file(path)) if path.exists() else None


@app.command("inspect", short_help="its claims, and whether this gateway would take it")
def inspect(
    file: Annotated[Path, typer.Argument(help="A file with a token; - reads stdin.")] = Path("-"),
    aud: Annotated[
        list[str] | None,
        typer.Option("--aud", metavar="AUDIENCE", help="The gateway it should be for [default: as configured]."),
    ] = None,
    config: ConfigOption = None,
    state: StateOption = DEFAULT_STATE,
    json_: JsonFlag = False,
) -> None:
    """Show the claims of a token and whether this gateway's issuers vouch for it now. The token itself is not printed.

    Ends with 1 when it would be refused: expired, say, or revoked.
    """
    text = read_file(file, max_bytes=64 * 1024).decode("latin-1").strip()
    parsed = parse_token(text)
    verdict = parsed if isinstance(parsed, Refusal) else _judge(text, load_settings(config, state), aud)
    claims = parsed.claims if isinstance(parsed, UnverifiedToken) else {}
    if json_:
        print_json(
            {
                "ok": verdict is None,
                "reason": verdict.reason if verdict else None,
                "detail": verdict.detail if verdict else None,
                "token_hash": token_hash(text),
                "claims": claims,
            }
        )
    else:
        print_pairs([("token hash", token_hash(text)), *_claim_rows(claims), ("verdict", _verdict_line(verdict))])
    raise typer.Exit(0 if verdict is None else 1)


def _judge(text: str, settings: Settings, audiences: list[str] | None) -> Refusal | None:
    issuers = signer_dids(settings.trust.token_issuers, Role.TOKEN, settings.state_dir)
    accepted = frozenset(audiences or settings.gateway.audience)
    revocations = Revocations()
    for revocation in _orders(StateDir(settings.state_dir)).revocations:
        revocation.add_to(revocations)
    judged = TokenVerifier(issuers, accepted, revocations).authenticate(text, time.time())
    return judged if isinstance(judged, Refusal) else None


def _verdict_line(refusal: Refusal | None) -> str:
    if refusal is None:
        return "signed by a trusted issuer, valid now"
    return f"{refusal.reason}: {refusal.detail}; {refusal.remedy}"


def _claim_rows(claims: JsonObject) -> list[tuple[str, str]]:
    rows = []
    for name, value in claims.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if name in ("iat", "exp") and isinstance(value, int) and 0 <= value < 2**33:
            shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value))
        rows.append((name, shown if shown.isprintable() else repr(shown)))
    return rows


app.command("revoke", short_help="take tokens back, for good")(revoke)
