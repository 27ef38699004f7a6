"""The one table of refusals: code, step, HTTP status, meaning, remedy. docs/reason-codes.md is generated from it.

Codes that the reference gateway has keep its names and statuses (protocol.md D.4, C.6); where its status would make an
SDK retry a final decision, ours is 403 (docs/protocol.md D.4).
"""

from __future__ import annotations

from dataclasses import dataclass

STEPS = (
    "admit",
    "collect",
    "authenticate",
    "pin",
    "read",
    "decide",
    "reserve",
    "intend",
    "forward",
    "observe",
    "attest",
    "seal",
)
"""One call in twelve steps (docs/architecture.md): the same names in code, logs, docs and tests."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A row of the table."""

    code: str
    step: str
    status: int
    meaning: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that does not go out: a value, not an exception.

    ``rule`` names what refused it (a contract field and entry, a claim, a limit); ``detail`` is for people and holds no
    secret and no prompt text.
    """

    reason: str
    rule: str
    detail: str = ""
    at: str = ""
    """The step where it left, if that is not the one of the table (faults and time-outs)."""
    retry_after_s: float = 0.0
    """When the same call may pass, if that is known."""

    @property
    def step(self) -> str:
        return self.at or REASONS[self.reason].step

    @property
    def status(self) -> int:
        return REASONS[self.reason].status

    @property
    def remedy(self) -> str:
        return REASONS[self.reason].remedy


_ROWS = (
    # admit
    Reason("ROUTE_NOT_FOUND", "admit", 404, "no provider route has this host, method and path", "use a route of configs/providers.toml; every other path on a provider is closed"),
    Reason("UNKNOWN_PROVIDER", "admit", 400, "the path names a provider that the catalogue does not have", "use a provider of configs/providers.toml"),
    Reason("DESTINATION_MISMATCH", "admit", 403, "server name (SNI), Host header and destination do not agree", "send all three for the same provider host"),
    Reason("TLS_REQUIRED", "admit", 403, "the call came for a provider host over plain HTTP", "use https:// for the provider, or the gateway's base URL"),
    Reason("TUNNEL_REFUSED", "admit", 403, "a tunnel was asked for to a host or port that no provider has", "connect only to hosts of the catalogue, port 443"),
    Reason("CONNECTION_REFUSED", "admit", 403, "an isolated job made a connection to an address or port that its contract opens to no name", "list the host and port in egress_allowlist, or leave it refused"),
    Reason("NAME_NOT_ALLOWED", "admit", 403, "an isolated job looked up a name that its contract does not allow", "list the host in egress_allowlist, or leave it refused"),
    Reason("PROTOCOL_REFUSED", "admit", 403, "not a plain HTTP request, or not a plain WebSocket on a route of one", "use HTTP/1.1 requests without Upgrade and Trailer; text messages and no extension on the sockets of configs/providers.toml"),
    Reason("REQUEST_INCOMPLETE", "admit", 400, "the client left before its request was whole", "send the request again"),
    Reason("REQUEST_AMBIGUOUS", "admit", 400, "the request could be read in two ways", "send each header once, a path without encoding tricks, and JSON with one reading"),
    Reason("REQUEST_TIMEOUT", "admit", 408, "the request was not whole in time", "send it faster, or raise gateway.request_timeout_s"),
    # collect
    Reason("TOKEN_REQUIRED", "collect", 401, "the call carries no CST", "send the token as X-CST, as proxy password, or in place of the API key"),
    Reason("TOKEN_AMBIGUOUS", "collect", 401, "the call carries two different tokens", "send one token"),
    # authenticate
    Reason("TOKEN_MALFORMED", "authenticate", 401, "the CST is not a compact JWS as clawscope writes it", "mint a token with: clawproxy token mint"),
    Reason("TOKEN_UNSUPPORTED_ALG", "authenticate", 401, "the CST is not signed with EdDSA", "mint a token with: clawproxy token mint"),
    Reason("TOKEN_UNKNOWN_KID", "authenticate", 401, "the CST names an issuer key that this gateway does not trust", "add the issuer's DID to trust.token_issuers, or mint with a trusted key"),
    Reason("TOKEN_SIGNATURE_INVALID", "authenticate", 401, "the CST's signature is not the issuer's", "mint a token with a trusted issuer key"),
    Reason("TOKEN_INVALID_CLAIMS", "authenticate", 401, "a claim of the CST is missing, unknown or malformed", "mint a token with: clawproxy token mint"),
    Reason("TOKEN_BAD_AUDIENCE", "authenticate", 403, "the CST is for another gateway", "mint it with this gateway's audience"),
    Reason("TOKEN_NOT_YET_VALID", "authenticate", 401, "the CST was issued in the future", "correct the clock of the issuer or of this host"),
    Reason("TOKEN_EXPIRED", "authenticate", 401, "the CST has expired", "mint a new token for the job, or use clawproxy run, which renews it"),
    Reason("TOKEN_JOB_REQUIRED", "authenticate", 401, "the CST names no job (mission_id)", "mint it with --job"),
    Reason("TOKEN_SCOPE_HASH_REQUIRED", "authenticate", 401, "the CST has no token_scope_hash_b64u", "mint a token with: clawproxy token mint"),
    Reason("TOKEN_SCOPE_HASH_MISMATCH", "authenticate", 401, "the CST's scope hash is not that of its claims", "mint a token with: clawproxy token mint"),
    Reason("TOKEN_REVOKED", "authenticate", 403, "the CST, its job or its contract was revoked", "ask who revoked it, and for a token (or a job, a contract) that was not"),
    Reason("HANDLE_UNKNOWN", "authenticate", 401, "the job handle is not known to this gateway, or its job has ended", "start the job again with: clawproxy run"),
    Reason("PRESENTER_MISMATCH", "authenticate", 403, "the job is bound to another presenter", "use the token only where its job was opened; after a move: clawproxy job rebind"),
    # pin
    Reason("POLICY_REQUIRED", "pin", 403, "the CST is not pinned to a contract", "mint it with the hash of a signed contract"),
    Reason("POLICY_HASH_MISMATCH", "pin", 403, "token, header and job do not name the same contract", "mint a token for the contract of this job, or open a new job"),
    Reason("WPC_NOT_FOUND", "pin", 403, "no source has the contract that the CST is pinned to", "put the signed contract into a directory of contracts.sources"),
    Reason("WPC_REGISTRY_FETCH_FAILED", "pin", 503, "a contract source could not be read", "repair the source; until then nothing goes out"),
    Reason("WPC_ENVELOPE_INVALID", "pin", 403, "the contract's envelope is malformed or its hash is wrong", "sign the contract again with: clawproxy contract sign"),
    Reason("WPC_SIGNER_NOT_ALLOWED", "pin", 403, "the contract is signed by someone this gateway does not trust", "add the signer's DID to trust.contract_signers, or have a trusted reviewer sign"),
    Reason("WPC_SIGNATURE_INVALID", "pin", 403, "the contract's signature is not the signer's", "sign the contract again with: clawproxy contract sign"),
    Reason("WPC_INVALID", "pin", 403, "the contract does not say what a contract may say", "see: clawproxy contract check"),
    Reason("WPC_UNENFORCEABLE", "pin", 403, "the contract demands something that this gateway cannot enforce yet", "take the field out and sign again, or use a version that enforces it"),
    Reason("TOKEN_UNENFORCEABLE", "pin", 403, "the CST sets a limit that this gateway cannot enforce yet", "mint it without that limit"),
    Reason("TOKEN_TTL_TOO_LONG", "pin", 403, "the CST lives longer than its contract allows", "mint it with a shorter --ttl"),
    Reason("STOPPED_BY_OPERATOR", "pin", 403, "the operator stopped this job, contract or provider, or everything", "ask who stopped it; clawproxy resume lifts it, with the words of the stop: clawproxy resume --all, or --job, --contract, --provider"),
    Reason("RATE_LIMITED", "pin", 429, "the job makes calls faster than it may", "wait as long as Retry-After says, or raise gateway.max_calls_per_minute_per_job"),
    Reason("TOO_MANY_CONNECTIONS", "pin", 429, "the job has too many client connections open", "close those that are idle, or raise gateway.max_connections_per_job"),
    Reason("APPROVAL_REQUIRED", "pin", 403, "the job needs an approval, and none is in force", "have an approver run: clawproxy approve grant --job JOB --key FILE; then repeat the call"),
    # read
    Reason("REQUEST_TOO_LARGE", "read", 413, "the request is larger than the gateway inspects", "send less, or raise the limit that the rule names"),
    Reason("INVALID_REQUEST", "read", 400, "the body cannot be read as this route demands", "send one JSON object as the provider documents it"),
    Reason("CONTENT_TYPE_REFUSED", "read", 415, "the content type or encoding is not one that the gateway reads", "send application/json without content-encoding"),
    # decide
    Reason("TOKEN_INSUFFICIENT_SCOPE", "decide", 403, "the CST's scope does not cover this provider", "mint it with clawproxy:call or clawproxy:call:<provider>"),
    Reason("POLICY_PROVIDER_NOT_ALLOWED", "decide", 403, "the contract does not allow this provider", "use an allowed provider, or have the contract changed and signed"),
    Reason("POLICY_MODEL_REQUIRED", "decide", 403, "the call names no model", "name a model that the contract allows"),
    Reason("POLICY_MODEL_NOT_ALLOWED", "decide", 403, "the contract does not allow this model", "use an allowed model, or have the contract changed and signed"),
    Reason("POLICY_MODEL_IDENTITY_TIER_TOO_LOW", "decide", 403, "the contract wants a stronger model identity than a closed provider gives", "have the contract changed and signed"),
    Reason("POLICY_TOOL_DENIED", "decide", 403, "the call declares a tool that the contract denies, or the answer calls one", "remove the tool from the request; where the answer calls it, ask for something else"),
    Reason("POLICY_TOOL_NOT_ALLOWED", "decide", 403, "the call declares a tool that the contract does not allow, or the answer calls one", "remove the tool or ask for something else, or have it added to allowed_tools and tool_classes"),
    Reason("TOOLS_STOPPED", "decide", 403, "the operator stopped this tool, or all tools that may change something", "go on without tools, or ask who stopped them; clawproxy resume lifts it, with the words of the stop that the rule names"),
    Reason("POLICY_STATE_NOT_READABLE", "decide", 403, "the call builds on content held by the provider, which the gateway cannot read", "send the whole conversation in the request, or have \"state:<member>\" added to allowed_provider_features and the contract signed"),
    Reason("POLICY_REMOTE_URL", "decide", 403, "the call makes the provider fetch a URL, which the contract does not allow", "send the content itself, as data, or have \"url:<member>\" added to allowed_provider_features and the contract signed"),
    Reason("EGRESS_NOT_ALLOWED", "decide", 403, "the contract's egress_allowlist does not list this host, method or path", "have the destination added to egress_allowlist and the contract signed"),
    Reason("POLICY_STATEMENT_DENIED", "decide", 403, "no statement of the contract allows this, or one denies it", "have the contract changed and signed"),
    Reason("DATA_CLASS_DENIED", "decide", 403, "the call or its answer carries data of a class that the contract does not allow", "take the data out, or have the contract's data rules changed and signed"),
    Reason("DATA_SCAN_FAILED", "decide", 403, "the data rules of the contract could not be carried out, so nothing went out", "send less, or raise data.scan_budget_ms; the detail says what stood in the way"),
    Reason("DATA_EXPORT_DENIED", "decide", 403, "the call of a tool would carry marked data to a host that is no provider", "take the data out, or have data_boundaries.export changed and the contract signed"),
    # reserve
    Reason("IDEMPOTENCY_KEY_IN_USE", "reserve", 403, "this job has used the idempotency key before", "send a new X-Idempotency-Key for each call"),
    Reason("BUDGET_EXCEEDED", "reserve", 403, "the call may use more than is left of a budget of the contract", "of tokens or money ask for less (a smaller maximum of output, a shorter request) or wait for open calls to give back what they do not use; else have the budget raised and the contract signed"),
    Reason("BUDGET_UNPRICED", "reserve", 403, "the contract has a budget in money, and what this call costs is not known", "use a model with a price at its list price, or add the price to [prices] of the configuration"),
    Reason("JOB_SEALED", "reserve", 403, "the job is sealed: its evidence is closed", "open a new job"),
    Reason("JOB_FULL", "reserve", 403, "the job's evidence is as large as a verifier reads", "open a new job"),
    Reason("TOO_MANY_CALLS", "reserve", 429, "the job has too many calls open at once", "wait for calls to end, or have budgets.concurrent_calls raised where the rule names it"),
    # intend
    Reason("EVIDENCE_UNAVAILABLE", "intend", 503, "the intent could not be made durable, so nothing went out", "free the disk or repair it, then restart the gateway"),
    Reason("JOB_DAMAGED", "intend", 503, "the job's journal does not verify", "look at it with: clawproxy verify, and open a new job"),
    Reason("DESTINATION_REFUSED", "intend", 403, "the host's name resolves to an address that is not public", "correct the name's DNS; for a host of your own network set providers.<name>.allow_private, or egress_private for a tool's"),
    # forward
    Reason("CREDENTIAL_MISSING", "intend", 503, "the gateway has no credential for this provider or tool", "set providers.<name>.credential; for a tool, the [egress.NAME] that the rule names, with the tool's host in hosts"),
    Reason("UPSTREAM_UNREACHABLE", "forward", 502, "no connection to the provider or the tool's host, so nothing left", "check the network, upstream_ca, and providers.<name>.upstream or the tool's host in the rule, then repeat the call"),
    # observe
    Reason("POLICY_TOOL_ARGUMENTS", "observe", 403, "the answer calls a tool with arguments that the contract does not allow", "ask for something else, or have tool_arguments changed and the contract signed"),
    Reason("UPSTREAM_FAILED", "observe", 502, "the provider's answer broke off or cannot be read", "repeat the call; the receipt says how far it came"),
    Reason("UPSTREAM_REDIRECT", "observe", 502, "the provider answered with a redirect, which is not followed", "set providers.<name>.upstream to where the provider really is"),
    Reason("APPROVAL_DENIED", "observe", 403, "the answer calls a tool that needs an approval, and it was not given", "ask for something else, or ask the approver why; where nobody could be asked: clawproxy doctor"),
    Reason("APPROVAL_TIMEOUT", "observe", 403, "the answer calls a tool that needs an approval, and nobody answered in time", "have an approver at hand, and repeat the call; they see it with: clawproxy approve list"),
    # any step
    Reason("GATEWAY_FAULT", "admit", 500, "a step failed inside the gateway, so nothing went out", "see the gateway's log under the receipt id"),
    Reason("GATEWAY_TIMEOUT", "admit", 503, "a step took longer than its time-out, so nothing went out", "see the gateway's log under the receipt id"),
    Reason("GATEWAY_BUSY", "admit", 503, "the gateway reads as many large requests as it can hold", "retry in a moment"),
    Reason("GATEWAY_STOPPING", "admit", 503, "the gateway is stopping", "retry after it is back"),
)  # fmt: skip

REASONS: dict[str, Reason] = {row.code: row for row in _ROWS}
