"""Calls of tools, to hosts that no provider has: the same twelve steps, for another kind of call.

``EgressSteps`` tells the two kinds apart in ``admit``; a model call goes on in ``steps.LiveSteps``. For a tool's call
the steps differ in what is read (method, path and a body of any type, hashed), what decides (``egress_allowlist``),
and what is attested (a side effect). Way in is the proxy listener alone: CONNECT, which needs the token then and there,
so that nobody learns which hosts exist, or ``http://`` where the contract says so.

Limits: an answer that ends with its connection cannot be told from one that was cut there; its record says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from dataclasses import replace

from mitmproxy import http

from ..policies.addresses import bracketed
from ..policies.door_plan import WAY_IN
from ..policies.egress import EgressAllow, EgressFacts, decide_destination, decide_egress, parse_target
from ..policies.routes import Catalogue
from ..receipts.calls import Outcome
from ..receipts.effects import EffectStart
from ..tokens.digests import sha256_b64u
from ..tokens.reasons import Refusal
from ..tokens.verify import TokenVerifier
from .call import Call
from .connections import Connections, Tunnel
from .dial import Resolver
from .egress_request import Egress, EgressCredential, rebuild_egress
from .ending import Ending, intend
from .framing import is_eof_framed
from .identity import KEY_HEADERS, collect_token, proxy_password
from .live_settings import Live
from .observing import is_observed, let_through_effect, let_through_tunnel
from .plain_tap import PlainTap
from .redaction import redact
from .request_head import MAX_HEADERS, read_head
from .steps import LiveSteps
from .upstream import clean_answer

_TUNNELLED = ("connect", WAY_IN)
_WHOLE_BYTES = 1024 * 1024
"""An answer that says that it is at most this long is held whole; any other passes through a tap."""


class EgressSteps:
    """``gate.Steps`` for both kinds of calls. ``credentials`` are by name, clocks in Unix milliseconds."""

    def __init__(
        self,
        models: LiveSteps,
        *,
        catalogue: Catalogue,
        connections: Connections,
        resolver: Resolver,
        credentials: Mapping[str, EgressCredential],
        ending: Ending,
        clock_ms: Callable[[], int],
        max_body_bytes: int,
        max_header_bytes: int,
        max_headers: int = MAX_HEADERS,
        refuse_inside: bool = False,
    ) -> None:
        self._models = models
        self._catalogue = catalogue
        self._connections = connections
        self._resolver = resolver
        self._public = resolver.without_private()
        """For hosts that no contract lists, in jobs opened to observe."""
        self._credentials = credentials
        self._ending = ending
        self._clock_ms = clock_ms
        self._max_body_bytes = max_body_bytes
        self._max_header_bytes = max_header_bytes
        self._max_headers = max_headers
        self._refuse_inside = refuse_inside

    def renewed(
        self, live: Live, verifier: TokenVerifier, new_resolver: Callable[[], Resolver], *, same_rate: bool
    ) -> EgressSteps:
        """The same steps of both kinds under another configuration."""
        steps = copy(self)
        steps._models = self._models.renewed(live, verifier, new_resolver(), same_rate=same_rate)
        steps._catalogue, steps._credentials, steps._resolver = live.catalogue, live.egress, new_resolver()
        steps._public = steps._resolver.without_private()
        steps._max_headers = live.settings.gateway.max_headers
        return steps

    # -- 1 admit ---------------------------------------------------------------------------------------------------

    def tunnel(self, call: Call) -> Refusal | Awaitable[Refusal | None] | None:
        """A CONNECT. To a host that no provider has only with a token whose contract lists it; nothing is looked up."""
        request, client = call.flow.request, call.flow.client_conn
        is_provider = self._catalogue.is_provider(request.host, request.port)
        if is_provider or self._connections.tunnel(client):
            return self._models.tunnel(call)
        return self._tunnel_elsewhere(call)

    async def _tunnel_elsewhere(self, call: Call) -> Refusal | None:
        request, client = call.flow.request, call.flow.client_conn
        headers = read_head(request, self._max_header_bytes, self._max_headers)
        if isinstance(headers, Refusal):
            return headers
        call.headers = headers
        if "proxy-authorization" not in headers:  # whichever host it is: who has no token learns nothing
            detail = "a tunnel to a host that no provider has needs it as proxy password"
            return Refusal("TOKEN_REQUIRED", "one CST per tunnel", detail)
        if request.data.authority != f"{bracketed(request.host)}:{request.port}".encode():  # a port with zeros in front
            return Refusal("REQUEST_AMBIGUOUS", "CONNECT", "another spelling of host and port")
        models = self._models
        for name, step in (("collect", models.collect), ("authenticate", models.authenticate), ("pin", models.pin)):
            call.step = name
            verdict = step(call)
            if verdict is not None and not isinstance(verdict, Refusal):
                verdict = await verdict
            if verdict is not None:
                return verdict
        call.step = "decide"
        assert call.policy is not None
        listed = decide_destination("https", request.host, request.port, call.policy)
        if isinstance(listed, Refusal) and not await let_through_tunnel(call, "https", request.host, listed):
            if not self._refuse_inside:
                return listed
            # it leads nowhere: each request in it is judged, refused and told why. Clients take that for an answer,
            # and a refused CONNECT for a network that will come back
            await self._ending.record_refusal(call, listed)
        password = proxy_password(headers.get("proxy-authorization", ""))
        self._connections.open(client, Tunnel(request.host, request.port, password))
        return None

    def admit(self, call: Call) -> Refusal | None:
        """Which kind of call; for a tool's: one head, one destination, one target."""
        request, client = call.flow.request, call.flow.client_conn
        tunnel = self._connections.tunnel(client) if call.way_in in _TUNNELLED else None
        if tunnel is not None and not self._catalogue.is_provider(tunnel.host, tunnel.port):
            plain = tunnel.way_in == WAY_IN and not client.tls_established
            scheme, host, port = "http" if plain else "https", tunnel.host, tunnel.port
        elif call.way_in == WAY_IN and tunnel is None and not self._is_providers(_as_stated(request)):
            scheme, (host, port) = "http", _as_stated(request)
        elif (
            call.way_in == "regular"
            and request.scheme == "http"
            and not self._is_providers((request.host, request.port))
        ):
            scheme, host, port = "http", request.host, request.port
        else:
            return self._models.admit(call)
        call.bound_for = (host, port)
        headers = read_head(request, self._max_header_bytes, self._max_headers)
        if isinstance(headers, Refusal):
            return headers
        call.headers = headers
        if "upgrade" in headers:
            return Refusal("PROTOCOL_REFUSED", "HTTP/1.1 requests", "Upgrade is not served")
        if scheme == "https" and (not client.tls_established or request.scheme != "https"):
            return Refusal("TLS_REQUIRED", "calls of tools", "plain HTTP inside the tunnel")
        if request.data.authority:
            return Refusal("REQUEST_AMBIGUOUS", "request target", "the target names a host of its own")
        target = parse_target(request.data.path.decode("latin-1"))
        if isinstance(target, Refusal):
            return target
        facts = EgressFacts(scheme, host, port, request.method, *target)
        with_port = f"{bracketed(host)}:{port}"
        one_server = scheme == "http" or client.sni == request.host == host
        if headers.get("host") not in (facts.authority, with_port) or not one_server:
            return Refusal("DESTINATION_MISMATCH", "SNI = Host = destination", "they do not agree")
        call.egress = Egress(facts)
        return None

    def _is_providers(self, destination: tuple[str, int]) -> bool:
        host, port = destination
        return self._catalogue.is_provider(host.lower().rstrip("."), port)

    # -- 2 to 4 collect, authenticate, pin -------------------------------------------------------------------------

    def collect(self, call: Call) -> Refusal | None:
        """Exactly one token. What stands in place of an API key is the tool's own, so ours is not looked for there."""
        if call.egress is None:
            return self._models.collect(call)
        tunnel = self._connections.tunnel(call.flow.client_conn)
        fields = [
            (name, value)
            for name, value in call.flow.request.headers.fields
            if name.decode("latin-1").lower() not in KEY_HEADERS
        ]
        found = collect_token(fields, tunnel.credential if tunnel else None)
        if isinstance(found, Refusal):
            return found
        call.token = found
        return None

    def authenticate(self, call: Call) -> Refusal | None:
        return self._models.authenticate(call)

    def pin(self, call: Call) -> Refusal | Awaitable[Refusal | None] | None:
        return self._models.pin(call)

    # -- 5 read ----------------------------------------------------------------------------------------------------

    def read(self, call: Call) -> Refusal | None:
        """The body, of any type, as far as the cap: only its digest is kept."""
        if call.egress is None:
            return self._models.read(call)
        body = call.flow.request.raw_content or b""
        if len(body) > self._max_body_bytes:
            detail = f"at most {self._max_body_bytes} bytes are read"
            return Refusal("REQUEST_TOO_LARGE", "gateway.max_body_bytes", detail)
        call.request_hash_b64u = sha256_b64u(body)
        return None

    # -- 6 decide --------------------------------------------------------------------------------------------------

    def decide(self, call: Call) -> Refusal | Awaitable[Refusal | None] | None:
        """Destination, method and path against the contract, nothing else; then what may leave (``data_gate``)."""
        if call.egress is None:
            return self._models.decide(call)
        assert call.policy is not None
        decision = decide_egress(call.egress.facts, call.policy)
        if isinstance(decision, EgressAllow):
            call.egress.entry = decision.entry
        elif not let_through_effect(call, decision):
            return decision
        return self._models.data.judge_export(call, call.egress)

    # -- 7 reserve -------------------------------------------------------------------------------------------------

    def reserve(self, call: Call) -> Refusal | None:
        """A place among the job's open calls; a tool states no nonce, so the receipt id is it."""
        if call.egress is None:
            return self._models.reserve(call)
        assert call.job is not None
        refusal = call.job.reserve(call.receipt_id)
        if refusal is None:
            call.nonce = call.receipt_id
        return refusal

    # -- 8 intend --------------------------------------------------------------------------------------------------

    def intend(self, call: Call) -> Awaitable[Refusal | None]:
        return self._models.intend(call) if call.egress is None else self._intend(call, call.egress)

    async def _intend(self, call: Call, egress: Egress) -> Refusal | None:
        """The intent, durable before anything leaves. Credential and checked addresses must be at hand first."""
        assert call.job is not None
        assert call.policy is not None
        assert egress.entry is not None or call.would_refuse
        destination = (egress.facts.host, egress.facts.port)
        if egress.entry is not None and (name := egress.entry.credential) is not None:
            credential = self._credentials.get(name)
            if credential is None:
                return Refusal("CREDENTIAL_MISSING", f"egress.{name}", f"[egress.{name}] is not configured")
            if egress.facts.host not in credential.hosts:
                return Refusal("CREDENTIAL_MISSING", f"egress.{name}.hosts", "the credential is not for this host")
            egress.credential, call.credential = credential, credential.secret
        # where the contract lists a host for another method or path, its address is as the contract found it
        listed = isinstance(decide_destination(egress.facts.scheme, *destination, call.policy), tuple)
        resolver = self._resolver if listed else self._public
        addresses = resolver.known(destination) or await resolver.look_up(destination)
        if isinstance(addresses, Refusal):
            return addresses
        call.addresses = addresses
        start = effect_start_of(call, egress)
        if is_observed(call):
            facts = egress.facts
            told = f"{facts.scheme}://{facts.authority}{facts.path}"
            if not await self._models.data.holds_secrets(told):
                start = replace(start, path=facts.path, has_query=bool(facts.query))
        await intend(call, start)
        return None

    # -- 9 forward -------------------------------------------------------------------------------------------------

    def forward(self, call: Call) -> Refusal | None:
        """The request as the host gets it."""
        if call.egress is None:
            return self._models.forward(call)
        rebuild_egress(call, call.egress)
        return None

    # -- 10 observe ------------------------------------------------------------------------------------------------

    def observe(self, call: Call) -> None:
        """The answer's head. A redirect passes: where the agent goes next is judged again."""
        egress, response = call.egress, call.flow.response
        if egress is None:
            self._models.observe(call)
            return
        assert response is not None
        encoded = response.headers.get("content-encoding", "identity").lower() != "identity"
        if response.status_code < 200 or (encoded and call.credential):  # an echo could not be found in it
            call.outcome, call.detail = Outcome.UPSTREAM_FAILED, "the answer cannot be read"
            call.flow.kill()  # type: ignore[no-untyped-call]  # mitmproxy leaves it untyped
            return
        egress.answered = True
        marks = {b"x-clawproxy-receipt-id": call.receipt_id.encode(), b"x-clawproxy-job": (call.job_id or "").encode()}
        clean_answer(response, call.credential, marks)
        if is_eof_framed(call.flow.request, response):
            call.detail = "the answer ended with its connection"
        elif _is_short(call.flow.request, response):
            return
        egress.tap = PlainTap(call.credential.encode(), call.started_ms, self._clock_ms)
        response.stream = egress.tap  # type: ignore[assignment]  # the seam reads it (http_stream.py)

    def judge_calls(self, call: Call) -> Awaitable[None] | None:
        return self._models.judge_calls(call)

    # -- 11 attest -------------------------------------------------------------------------------------------------

    async def attest(self, call: Call) -> None:
        """The answer is here up to its last byte: the record, durable; only then does the end leave."""
        if call.egress is None:
            await self._models.attest(call)
            return
        response = call.flow.response
        assert response is not None
        await self._ending.attest(call, call.outcome or Outcome.COMPLETE)
        if call.outcome is not Outcome.COMPLETE:
            return
        if call.egress.tap is None and call.credential:
            body = response.raw_content or b""
            clean = redact(body, call.credential.encode())
            if clean is not body:
                response.content = clean
        call.release = True


def _as_stated(request: http.Request) -> tuple[str, int]:
    """Where plain HTTP goes that a rule of the host sent here: by its Host field alone, at the port of the connection.
    What is said of the port must agree (``admit``)."""
    return (request.host_header or "").removesuffix(f":{request.port}"), request.port


def _is_short(request: http.Request, response: http.Response) -> bool:
    """Whether the answer is held whole: it has no body, or says that it is a short one."""
    if request.method == "HEAD" or response.status_code in (204, 304):
        return True
    length = response.headers.get("content-length", "")
    return length.isdigit() and len(length) < 10 and int(length) <= _WHOLE_BYTES


def effect_start_of(call: Call, egress: Egress) -> EffectStart:
    """The start of a decided call, as the intent records it."""
    assert call.grant is not None
    assert call.policy is not None
    assert call.request_hash_b64u is not None
    facts = egress.facts
    return EffectStart(
        receipt_id=call.receipt_id,
        nonce=call.nonce,
        scheme=facts.scheme,
        host=facts.host,
        port=facts.port,
        method=facts.method,
        target_hash_b64u=sha256_b64u(facts.url.encode("ascii")),
        request_hash_b64u=call.request_hash_b64u,
        request_bytes=len(call.flow.request.raw_content or b""),
        credential=egress.credential.name if egress.credential else None,
        token_hash_hex=call.grant.token_hash_hex,
        token_scope_hash_b64u=call.grant.token_scope_hash_b64u,
        policy_hash_b64u=call.policy.policy_hash_b64u,
        presenter=call.presenter,
        way_in=call.way_in,
        started_ms=call.started_ms,
        would_refuse=call.would_refuse,
    )
