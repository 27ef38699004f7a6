"""One call in twelve steps. Read from top to bottom: each step is a method, and leaves what it found in the ``Call``.

A step returns None to go on, or the ``Refusal`` that ends the call; what it raises ends the call as a fault. Steps 1 to
9 run on the whole request before a byte leaves; 10 and 11 follow the answer; 12, the seal, is ``receipts.seal``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from dataclasses import replace

from ..policies.decide import decide
from ..policies.pin import Pinner
from ..policies.policy import OnDeniedTool, Policy
from ..policies.routes import Catalogue
from ..policies.stops import Stops
from ..receipts.job import Job
from ..receipts.jobs import JobBook
from ..tokens.canonical import JsonObject
from ..tokens.digests import is_sha256_b64u, sha256_b64u
from ..tokens.errors import ClawproxyError
from ..tokens.reasons import Refusal
from ..tokens.verify import Grant, TokenVerifier
from .answer_steps import AnswerSteps
from .approvals import ApprovalDesk
from .budgeting import Budgeting
from .call import Call
from .connections import Connections, Tunnel
from .data_gate import DataGate
from .dial import Resolver
from .ending import Ending, intend, start_of
from .handshake import check_upgrade
from .identity import Leases, collect_token, proxy_password
from .json_body import JsonBounds, parse_body, refusal_of_body
from .live_settings import Live
from .native_bodies import native_match
from .observing import let_through, let_through_model_call
from .rates import Buckets
from .request_head import MAX_HEADERS, read_head
from .rerouting import as_addressed, reroute, rewrite
from .sigv4 import Signer
from .strip import is_about_tools, strip_tools, write
from .tool_gate import CallJudges
from .upstream import rebuild_request
from .wire.betas import check_beta_header
from .wire.format import FORMATS, WireRequest

CALLS_PER_MINUTE = 6000
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_NONCE = re.compile(r"[\x21-\x7e]{1,256}")
_UNTYPED = "application/json"
_STRIPPED_AT_ONCE = 32
"""Declared tools that are judged one by one on the event loop; of more, in a thread."""
_JSON_TYPE = re.compile(r"application/json\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)


class LiveSteps:
    """The steps with everything they need: ``credentials`` by provider name, clocks in Unix milliseconds.

    A provider with one of the ``signers`` has its requests signed; its credential is what goes with the signature.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        connections: Connections,
        leases: Leases,
        verifier: TokenVerifier,
        pinner: Pinner,
        jobs: JobBook,
        ending: Ending,
        credentials: Mapping[str, str],
        signers: Mapping[str, Signer] | None = None,
        resolver: Resolver,
        clock_ms: Callable[[], int],
        max_body_bytes: int,
        max_header_bytes: int,
        max_headers: int = MAX_HEADERS,
        data: DataGate,
        json_bounds: JsonBounds | None = None,
        calls_per_minute: int = CALLS_PER_MINUTE,
        approvals: ApprovalDesk,
        stops: Stops | None = None,
        judges: CallJudges | None = None,
        budgeting: Budgeting | None = None,
    ) -> None:
        self._budgeting = budgeting or Budgeting.unmetered(clock_ms)
        self._catalogue = catalogue
        self._connections = connections
        self._leases = leases
        self._verifier = verifier
        self._pinner = pinner
        self._jobs = jobs
        self._ending = ending
        self._credentials = credentials
        self._signers = signers or {}
        self._resolver = resolver
        self._clock_ms = clock_ms
        self._max_body_bytes = max_body_bytes
        self._max_header_bytes = max_header_bytes
        self._max_headers = max_headers
        self._json_bounds = json_bounds or JsonBounds()
        self.data = data
        self._rates = Buckets(calls_per_minute)
        self._approvals = approvals
        self._stops = stops or Stops()
        self._answers = AnswerSteps(
            ending=ending,
            judges=judges or CallJudges(approvals),
            data=data,
            budgeting=self._budgeting,
            clock_ms=clock_ms,
        )

    def renewed(self, live: Live, verifier: TokenVerifier, resolver: Resolver, *, same_rate: bool) -> LiveSteps:
        """The same steps under another configuration; full buckets stay full where the rate is the same."""
        steps, limits = copy(self), live.settings.gateway
        steps._catalogue, steps._verifier, steps._resolver = live.catalogue, verifier, resolver
        steps._credentials, steps._signers = live.credentials, live.signers
        steps._max_headers = limits.max_headers
        if not same_rate:
            steps._rates = Buckets(limits.max_calls_per_minute_per_job)
        return steps

    # -- 1 admit ---------------------------------------------------------------------------------------------------

    def tunnel(self, call: Call) -> Refusal | None:
        """A CONNECT, which is no call yet: only to a provider's host and port, and not inside another tunnel."""
        request, client = call.flow.request, call.flow.client_conn
        stated = f"{request.host}:{request.port}".encode()  # not [host], nor a port with zeros in front
        known = request.data.authority == stated and self._catalogue.has_host(request.host, request.port)
        if self._connections.tunnel(client) or not known:
            return Refusal("TUNNEL_REFUSED", "provider hosts", "no provider of the catalogue is at this host and port")
        password = proxy_password(request.headers.get("proxy-authorization", ""))
        self._connections.open(client, Tunnel(request.host, request.port, password))
        return None

    def admit(self, call: Call) -> Refusal | None:
        """The head is unambiguous, and way in, host, method and path are one route of the catalogue."""
        headers = read_head(call.flow.request, self._max_header_bytes, self._max_headers)
        if isinstance(headers, Refusal):
            return headers
        call.headers = headers
        request, client = call.flow.request, call.flow.client_conn
        if call.way_in != "regular" and request.data.authority:
            return Refusal("REQUEST_AMBIGUOUS", "request target", "the target names a host of its own")
        if call.way_in == "reverse":
            found = self._catalogue.match_reverse(request.method, request.path)
        elif call.way_in != "regular" and (tunnel := self._connections.tunnel(client)) is not None:
            if not client.tls_established or request.scheme != "https":
                return Refusal("TLS_REQUIRED", "provider hosts", "plain HTTP inside the tunnel")
            names = {tunnel.host, client.sni, _host_of(headers.get("host"), tunnel.port), request.host}
            if len(names) != 1:
                return Refusal("DESTINATION_MISMATCH", "SNI = Host = destination", "the three do not agree")
            found = self._catalogue.match_host(tunnel.host, tunnel.port, request.method, request.path)
        else:
            return Refusal("TLS_REQUIRED", "provider hosts", "plain HTTP to a provider's host")
        if isinstance(found, Refusal):
            return check_upgrade(headers, websocket=False) or found
        call.match = found
        call.format = FORMATS[found.route.format]
        return check_upgrade(headers, websocket=found.route.websocket)

    # -- 2 collect -------------------------------------------------------------------------------------------------

    def collect(self, call: Call) -> Refusal | None:
        """Exactly one token, wherever the client could put it."""
        tunnel = self._connections.tunnel(call.flow.client_conn)
        found = collect_token(call.flow.request.headers.fields, tunnel.credential if tunnel else None)
        if isinstance(found, Refusal):
            return found
        call.token = found
        return None

    # -- 3 authenticate --------------------------------------------------------------------------------------------

    def authenticate(self, call: Call) -> Refusal | None:
        """The token is a trusted issuer's, for this gateway, for now, and not revoked."""
        assert call.token is not None
        now_s = self._clock_ms() // 1000
        token = self._leases.resolve(call.token, now_s)
        if isinstance(token, Refusal):
            return token
        grant = self._verifier.authenticate(token, now_s)
        if isinstance(grant, Refusal):
            return grant
        call.grant, call.by_handle = grant, token is not call.token
        return None

    # -- 4 pin -----------------------------------------------------------------------------------------------------

    def pin(self, call: Call) -> Refusal | Awaitable[Refusal | None] | None:
        """The contract with the pinned hash, signed by a trusted reviewer; and the job, opened under it, and approved
        where the contract wants that.

        First of all the job's limits: whatever else is wrong with a call, it counts for its job.
        """
        assert call.grant is not None
        limited = self._check_connections(call, call.grant) or (self._check_rate(call) if not call.is_message else None)
        limited = limited or self._stopped(call, call.grant)
        if limited is not None:
            call.job = self._jobs.peek(call.grant, call.presenter)  # the denial belongs there, if it is open
            return limited
        if "spend_cap" in call.grant.claims:
            return Refusal("TOKEN_UNENFORCEABLE", "claim spend_cap", "the claim does not say in which unit it is")
        stated = call.headers.get("x-policy-hash")
        if stated is not None and stated != call.grant.policy_hash_b64u:
            return Refusal("POLICY_HASH_MISMATCH", "X-Policy-Hash", "the header names another contract than the token")
        policy = self._pinner.cached(call.grant)
        if isinstance(policy, Refusal):
            return policy
        job = self._jobs.peek(call.grant, call.presenter)
        if policy is None or job is None:
            return self._pin_first(call, call.grant)
        call.policy, call.job = policy, job
        return self._unapproved(call, job, policy)

    def _stopped(self, call: Call, grant: Grant) -> Refusal | None:
        providers = (call.match.provider.name if call.match else None,)
        refusal = self._stops.refuse_call(grant.job_id, grant.policy_hash_b64u, providers)
        if refusal is None and call.egress is not None:
            refusal = self._stops.refuse_egress(grant.job_id, grant.policy_hash_b64u, call.egress.facts.method)
        return refusal

    def _check_connections(self, call: Call, grant: Grant) -> Refusal | None:
        if self._connections.join(call.flow.client_conn, grant.job_id):
            return None
        detail = f"{self._connections.max_per_job} are open"
        return Refusal("TOO_MANY_CONNECTIONS", "gateway.max_connections_per_job", detail)

    def _check_rate(self, call: Call) -> Refusal | None:
        """By the job of a verified token, so that nothing that an agent can vary gives it another bucket."""
        assert call.grant is not None
        wait_s = self._rates.take(call.grant.job_id)
        if not wait_s:
            return None
        detail = f"at most {self._rates.per_minute} a minute; the next in {wait_s:.1f} s"
        return Refusal(
            "RATE_LIMITED", "gateway.max_calls_per_minute_per_job", detail, at=call.step, retry_after_s=wait_s
        )

    async def _pin_first(self, call: Call, grant: Grant) -> Refusal | None:
        """``pin`` where contract or job are not open yet, or the token is new to the job."""
        policy = await self._pinner.pin(grant)
        if isinstance(policy, Refusal):
            return policy
        call.policy = policy
        await self.data.prepare(policy)
        hash_b64u, envelope = policy.policy_hash_b64u, policy.envelope
        # what the gateway mints for a handle is newer each time, under the contract of before: it brings no other
        opened = await self._jobs.job_for(
            grant, hash_b64u, envelope, call.presenter, call.way_in, may_change=not call.by_handle
        )
        if isinstance(opened, Refusal):
            if opened.reason == "PRESENTER_MISMATCH":  # whoever reads the job's evidence should see it
                call.job = self._jobs.opened(grant.job_id)
            return opened
        call.job = opened
        return self._unapproved(call, opened, policy)

    def _unapproved(self, call: Call, job: Job, policy: Policy) -> Refusal | None:
        refusal = self._approvals.job_refusal(job, policy)
        if refusal is None or not let_through(call, refusal):
            return refusal
        self._approvals.forget_waiting(job.job_id)
        return None

    # -- 5 read ----------------------------------------------------------------------------------------------------

    def read(self, call: Call) -> Refusal | None:
        """The body, strictly, and the facts in it: the bytes judged here are the bytes that leave."""
        assert call.match is not None
        headers, body = call.headers, call.flow.request.raw_content or b""
        if headers.get("content-encoding", "identity") != "identity":
            return Refusal("CONTENT_TYPE_REFUSED", "content-encoding", "compressed bodies are not read")
        if call.match.route.method == "GET":
            if body:
                return Refusal("REQUEST_AMBIGUOUS", "body", "a body where the route has none", at="read")
        elif not _JSON_TYPE.fullmatch(headers.get("content-type", _UNTYPED if call.match.route.untyped else "")):
            return Refusal("CONTENT_TYPE_REFUSED", "content-type", "not application/json")
        if len(body) > self._max_body_bytes:
            return Refusal(
                "REQUEST_TOO_LARGE", "gateway.max_body_bytes", f"at most {self._max_body_bytes} bytes are read"
            )
        try:
            document: JsonObject = {}
            if call.match.route.method != "GET":
                document = parse_body(body, self._max_body_bytes, self._json_bounds)
            api = headers.get("x-openai-api")
            match = native_match(call.match, document, api, call.policy)
            match = self._catalogue.choose(call.match, document, api) if match is None else match
            if isinstance(match, Refusal):
                return match
            elsewhere = reroute(self._catalogue, match, document)
            if isinstance(elsewhere, Refusal):
                return elsewhere
            if elsewhere is not None:
                match, body = elsewhere, rewrite(document)
                document = parse_body(body, self._max_body_bytes, self._json_bounds)
            call.match, call.format = match, FORMATS[match.route.format]
            route = match.route
            if "anthropic-beta" in match.provider.forwarded_headers:
                check_beta_header(headers.get("anthropic-beta"))
            call.wire_request = WireRequest(
                document, match.provider.name, route.name, route.kind, match.model, route.stream
            )
            facts = call.format.read_request(call.wire_request)
            call.facts = as_addressed(facts) if elsewhere is not None else facts
            if elsewhere is not None:
                call.flow.request.raw_content = body
        except ClawproxyError as err:
            return refusal_of_body(err)
        call.request_hash_b64u = sha256_b64u(body)
        return None

    def _read_again(self, call: Call, document: JsonObject) -> None:
        """Another body in place of the one that was read: it is judged, hashed and sent. Raises ``ClawproxyError``."""
        assert call.wire_request is not None
        assert call.format is not None
        body = write(document)
        call.wire_request = replace(call.wire_request, body=parse_body(body, self._max_body_bytes, self._json_bounds))
        facts = call.format.read_request(call.wire_request)
        is_elsewhere = call.facts is not None and call.facts.upstream is not None
        call.facts = as_addressed(facts) if is_elsewhere else facts
        call.flow.request.raw_content = body
        call.request_hash_b64u = sha256_b64u(body)

    # -- 6 decide --------------------------------------------------------------------------------------------------

    def decide(self, call: Call) -> Refusal | Awaitable[Refusal | None] | None:
        """Facts, grant and contract, nothing else; then what the contract says of data in the body (``data_gate``)."""
        assert call.facts is not None
        assert call.grant is not None
        assert call.policy is not None
        decision = decide(call.facts, call.grant, call.policy)
        if isinstance(decision, Refusal) and not let_through_model_call(call, decision):
            stripping = call.policy.on_denied_tool is OnDeniedTool.STRIP and is_about_tools(decision)
            # of a message, which has no request of its own, nothing is taken out
            return self._decide_stripped(call, decision) if stripping and call.wire_request is not None else decision
        return self._decide_further(call)

    def _decide_further(self, call: Call) -> Refusal | Awaitable[Refusal | None] | None:
        """Orders to stop, then data."""
        assert call.facts is not None
        assert call.grant is not None
        assert call.policy is not None
        facts, job_id = call.facts, call.grant.job_id
        stopped = self._stops.refuse_call(
            job_id, None, (facts.provider, facts.upstream)
        ) or self._stops.refuse_declared(call.policy, job_id, facts.tools, facts.any_tools)
        if stopped is not None or call.is_message:  # of a message, ``websocket`` has the bytes
            return stopped
        return self.data.judge(call)

    async def _decide_stripped(self, call: Call, refusal: Refusal) -> Refusal | None:
        """The call without the tools that its contract does not allow, judged from the start; ``refusal`` where none
        can be taken out."""
        assert call.facts is not None
        assert call.grant is not None
        assert call.policy is not None
        assert call.wire_request is not None
        assert call.format is not None
        asked = (call.wire_request, call.format, call.facts, call.grant, call.policy)
        few = len(call.facts.tools) <= _STRIPPED_AT_ONCE
        stripped = strip_tools(*asked) if few else await asyncio.to_thread(strip_tools, *asked)
        if stripped is None:
            return refusal
        document, call.stripped = stripped
        self._read_again(call, document)
        decision = decide(call.facts, call.grant, call.policy)
        if isinstance(decision, Refusal):
            return decision
        verdict = self._decide_further(call)
        return verdict if verdict is None or isinstance(verdict, Refusal) else await verdict

    # -- 7 reserve -------------------------------------------------------------------------------------------------

    def reserve(self, call: Call) -> Refusal | None:
        """The nonce, once per job; a harness that keeps its own chain must name its places well; and what the call may
        use of budgets."""
        assert call.job is not None
        if call.is_message and (limited := self._check_rate(call)) is not None:
            return limited
        headers = call.headers
        run_id, event_hash = headers.get("x-run-id"), headers.get("x-event-hash")
        if (run_id is None) != (event_hash is None):
            return Refusal("INVALID_REQUEST", "X-Run-Id, X-Event-Hash", "one came without the other", at="reserve")
        if run_id is not None and not (_RUN_ID.fullmatch(run_id) and is_sha256_b64u(event_hash)):
            return Refusal("INVALID_REQUEST", "X-Run-Id, X-Event-Hash", "not a run id and a SHA-256", at="reserve")
        if run_id is not None and "::" in run_id:
            return Refusal("INVALID_REQUEST", "X-Run-Id", "a run id with :: is this gateway's own", at="reserve")
        nonce = headers.get("x-idempotency-key", call.receipt_id)
        if not _NONCE.fullmatch(nonce):
            return Refusal("INVALID_REQUEST", "X-Idempotency-Key", "not 1 to 256 visible characters", at="reserve")
        refusal = call.job.reserve(nonce)
        if refusal is None:
            call.nonce = nonce  # whoever refuses the call from here on gives it back
            refusal = self._budgeting.reserve(call)
        return refusal

    # -- 8 intend --------------------------------------------------------------------------------------------------

    async def intend(self, call: Call) -> Refusal | None:
        """The intent, durable before anything leaves. Credential and checked addresses must be at hand first."""
        assert call.match is not None
        assert call.job is not None
        credential = self._credentials.get(call.match.provider.name)
        if credential is None:
            return Refusal(
                "CREDENTIAL_MISSING", f"providers.{call.match.provider.name}.credential", "none is configured"
            )
        call.credential = credential
        destination = (call.match.provider.host, call.match.provider.port)
        addresses = self._resolver.known(destination) or await self._resolver.look_up(destination)
        if isinstance(addresses, Refusal):
            return addresses
        call.addresses = addresses
        if call.reservation is not None:
            late = await self._budgeting.commit(call, call.reservation)
            if late is not None:
                return late
        await intend(call, start_of(call))
        return None

    # -- 9 forward -------------------------------------------------------------------------------------------------

    def forward(self, call: Call) -> Refusal | None:
        """The request as the provider gets it: our credential, none of the client's, to the provider's own host."""
        assert call.match is not None
        call.wire_request = None
        rebuild_request(call, call.match, call.credential, self._signers.get(call.match.provider.name))
        return None

    # -- 10 observe, 11 attest: the answer -------------------------------------------------------------------------

    def observe(self, call: Call) -> None:
        self._answers.observe(call)

    def judge_calls(self, call: Call) -> Awaitable[None] | None:
        return self._answers.judge_calls(call)

    async def attest(self, call: Call) -> None:
        await self._answers.attest(call)


def _host_of(host_header: str | None, port: int) -> str | None:
    """The Host field without the port, if that is the port of the tunnel."""
    return host_header.removesuffix(f":{port}") if host_header else None
