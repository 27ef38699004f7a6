"""Each guard taken out, in the test's own process: a case of the corpus that is named here goes red.

The product has no such switch. Red is a byte at the provider, an answer, or another reason than the case demands.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from clawproxy.addons import dial, egress_request, egress_steps, gate, http1_guards, request_head, steps, websocket
from clawproxy.addons.connections import Tunnel
from clawproxy.addons.identity import proxy_password
from clawproxy.addons.wire import asked, bedrock_anthropic, gemini, keys, parts, proto_json
from clawproxy.policies import contract, decide, pin, routes
from clawproxy.policies.egress import EgressAllow
from clawproxy.tokens import canonical, claims, revocation, verify
from clawproxy.tokens.reasons import Refusal
from mitmproxy.net.http import validate
from mitmproxy.proxy.layers import http as http_layer

from ..clawproxy.standin_process import Provider
from .cases import load_corpus
from .forged import STRANGER
from .runner import Execution, Runner, running_runner

CASES = {case.id: case for case in load_corpus()}

type TakeOut = Callable[[Runner, pytest.MonkeyPatch], None]


class _Everyone:
    """Holds whatever it is asked for."""

    def __contains__(self, _item: object) -> bool:
        return True

    def isdisjoint(self, _other: object) -> bool:
        return False

    def get(self, _key: object) -> str:
        return STRANGER.did


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    return None


def _without(module: Any, name: str, instead: Any = _nothing) -> TakeOut:
    """Replace ``name`` of a module or class."""
    return lambda _runner, patch: patch.setattr(module, name, instead)


def _before_admit(change: Callable[[Runner, Any], None]) -> TakeOut:
    """Have the request changed before step 1, so that what it checks holds."""

    def take_out(runner: Runner, patch: pytest.MonkeyPatch) -> None:
        running: Any = runner.bed.gateway.gate

        def admit(call: Any, real: Any = dict(running._before_egress)["admit"]) -> Any:
            change(runner, call)
            return real(call)

        order = tuple((name, admit if name == "admit" else step) for name, step in running._before_egress)
        patch.setattr(running, "_before_egress", order)

    return take_out


def _tunnel_of(runner: Runner, call: Any) -> Any:
    gateway: Any = runner.bed.gateway
    return gateway._connections.tunnel(call.flow.client_conn)


def _believe_sni(runner: Runner, call: Any) -> None:
    call.flow.client_conn.sni = _tunnel_of(runner, call).host


def _believe_host(runner: Runner, call: Any) -> None:
    name = _tunnel_of(runner, call).host
    call.flow.request.headers["host"] = name
    call.flow.request.data.host = name


def _take_plain(_runner: Runner, call: Any) -> None:
    call.way_in = "reverse"
    call.flow.request.data.authority = b""


def _drop_coding(_runner: Runner, call: Any) -> None:
    call.flow.request.headers.pop("content-encoding", None)


def _open_any(self: Any, call: Any) -> None:
    request = call.flow.request
    password = proxy_password(request.headers.get("proxy-authorization", ""))
    self._connections.open(call.flow.client_conn, Tunnel(request.host, request.port, password))


def _open_known(self: Any, call: Any) -> Any:
    request = call.flow.request
    if not self._catalogue.has_host(request.host, request.port):
        return Refusal("TUNNEL_REFUSED", "provider hosts")
    return _open_any(self, call)


def _lenient_head(request: Any, *_caps: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items(multi=True)}


def _boundless_head(_runner: Runner, patch: pytest.MonkeyPatch) -> None:
    real = request_head.read_head
    patch.setattr(steps, "read_head", lambda request, *caps: real(request, *(10**9 for _ in caps)))


def _lenient_path(path: str) -> tuple[str, str]:
    bare, _, query = path.partition("?")
    return posixpath.normpath(unquote(bare)), query


def _any_method(_runner: Runner, patch: pytest.MonkeyPatch) -> None:
    real = routes._matched

    def matched(provider: Any, route: Any, _method: str, query: str, **more: Any) -> Any:
        return real(provider, route, route.method, query, **more)

    patch.setattr(routes, "_matched", matched)


def _first_token(fields: Any, _credential: Any) -> str:
    return next(str(value, "ascii") for name, value in fields if name.lower() == b"x-cst")


def _of_gateway(part: str, attribute: str, instead: Any) -> TakeOut:
    return lambda runner, patch: patch.setattr(getattr(runner.bed.gateway, part), attribute, instead)


def _all(*take_outs: TakeOut) -> TakeOut:
    """What several layers hold: all of them."""

    def take_out(runner: Runner, patch: pytest.MonkeyPatch) -> None:
        for one in take_outs:
            one(runner, patch)

    return take_out


def _any_target(target: str) -> tuple[str, str]:
    path, _, query = target.partition("?")
    return path, query


def _first_entry(_facts: Any, policy: Any) -> EgressAllow:
    return EgressAllow(policy.policy_hash_b64u, policy.egress[0])


NO_HELLO = _without(gate, "hello_fault")
ANYTHING = re.compile(r"(?s).*")
GUARDS: list[tuple[str, TakeOut, str]] = [
    # what is taken out, how, and the case that goes red, with its transport and format where these are not the usual
    ("strict JSON", _without(steps, "parse_body", lambda raw, *_: json.loads(raw)), "c22-content-twice"),
    ("keys once", _without(canonical, "_DECODER", json.JSONDecoder()), "c22-role-twice connect openai_responses"),
    ("finite numbers", _without(canonical, "_DECODER", json.JSONDecoder()), "c24-nan"),
    ("safe integers", _without(canonical, "_DECODER", json.JSONDecoder()), "c24-beyond-safe"),
    ("bounds of JSON", _without(canonical, "_check_bounds"), "c24-depth-70 bare openai_chat"),
    (
        "whole surrogate pairs",
        _without(canonical, "_check_surrogates"),
        "c24-high-surrogate reverse anthropic_messages",
    ),
    (
        "nothing behind the document",
        _without(canonical, "_skip_space", lambda text, at: len(text) if at else 0),
        "c24-trailing-garbage compat openai_chat",
    ),
    ("the strict head", _without(steps, "read_head", _lenient_head), "b19-twice-accept"),
    (
        "fields that occur once",
        _without(request_head, "_SINGLE_HEADERS", frozenset()),
        "b19-twice-accept connect openai_chat",
    ),
    ("the bound of fields", _boundless_head, "b21-many-fields"),
    ("methods in capitals", _without(request_head, "_METHOD", re.compile(rb".*")), "b19-method-lower"),
    ("folded keys", _without(keys, "fold_key", lambda key: key), "c23-turn-role"),
    ("closed sets of keys", _without(keys.ClosedKeys, "check"), "c29-key-engine"),
    ("the content type", _without(steps, "_JSON_TYPE", ANYTHING), "c25-text-plain connect anthropic_messages"),
    ("the content coding", _before_admit(_drop_coding), "c26-clean-body-labelled"),
    ("plain paths", _without(routes, "split_target", _lenient_path), "b17-dot"),
    ("known queries", _without(routes.Route, "takes", lambda _route, _pair: True), "b17-query-unknown"),
    ("the route's method", _any_method, "b19-method-put"),
    ("SNI", _all(NO_HELLO, _before_admit(_believe_sni)), "a1-sni-evil connect openai_chat"),
    ("Host", _before_admit(_believe_host), "a2-host-evil connect openai_chat"),
    ("Host of later requests", _before_admit(_believe_host), "a2-second-request-host-evil connect openai_chat"),
    ("TLS for provider hosts", _before_admit(_take_plain), "a3-plain-provider regular openai_chat"),
    (
        "tunnels to known hosts",
        _all(NO_HELLO, _without(egress_steps.EgressSteps, "tunnel", _open_any)),
        "a6-evil connect openai_chat",
    ),
    (
        "hosts of the catalogue",
        _all(
            NO_HELLO,
            _without(routes.Catalogue, "has_host", lambda *_: True),
            _without(routes.Catalogue, "is_provider", lambda *_: True),
        ),
        "a7-metadata connect openai_chat",
    ),
    (
        "one spelling of an authority",
        _without(steps.LiveSteps, "tunnel", _open_known),
        "a5-brackets connect openai_chat",
    ),
    ("no upgrades", _without(steps, "check_upgrade"), "b16-upgrade-h2c-no-connection"),
    ("the signature of a token", _without(verify, "verify_signature", lambda *_: True), "e40-mangled-flip-signature"),
    ("the issuer of a token", _of_gateway("_verifier", "_issuers", _Everyone()), "e40-stranger"),
    ("the audience", _of_gateway("_verifier", "_audiences", _Everyone()), "e40-claim-aud-other connect openai_chat"),
    ("the time of a token", _without(verify.TokenVerifier, "judge"), "e40-time-expired"),
    ("revocation", _without(revocation.Revocations, "check"), "e40-revoked-jti"),
    (
        "the scope hash",
        _without(claims, "token_scope_hash", lambda told: told["token_scope_hash_b64u"]),
        "e40-scope-hash-other",
    ),
    ("how long a token may live", _without(pin, "_judge", lambda policy, _grant: policy), "e40-time-ttl-long"),
    ("one token", _without(steps, "collect_token", _first_token), "b19-two-tokens"),
    ("the reviewer", _of_gateway("_pinner", "_signers", _Everyone()), "e41-signed-by-stranger"),
    ("the reviewer's signature", _without(contract, "check_envelope_signature"), "e41-signature-of-another"),
    ("links within the directory", _without(os.path, "commonpath", lambda paths: paths[0]), "e41-link-out"),
    ("models", _without(decide, "_model", lambda *_: "any"), "c29-other"),
    ("providers", _without(decide, "_provider", lambda *_: "any"), "e41-other-provider"),
    ("tools", _without(decide, "_tools", lambda *_: ()), "c33-denied connect anthropic_messages"),
    ("the choice of a tool", _without(asked.Asked, "force"), "c33-choice-undeclared"),
    ("state at the provider", _without(asked.Asked, "state"), "c30-previous-response-id reverse openai_responses"),
    ("URLs that the provider fetches", _without(asked.Asked, "url"), "c31-image-https"),
    ("MCP servers", _without(asked.Asked, "mcp_server"), "c31-mcp-servers reverse anthropic_messages"),
    (
        "one reading of an MCP address",
        _without(asked, "_MCP_URL", re.compile(r"(https?)://([^/?#:]+)(?::([0-9]+))?.*")),
        "c31-responses-mcp-backslash reverse openai_responses",
    ),
    ("URLs in files", _without(parts, "_note_fetched"), "c31-chat-file-url-behind-spaces"),
    ("tools as options", _without(asked.Asked, "_hosted_tools"), "c31-web-search-options"),
    ("options without tools", _without(asked.Asked, "_options"), "c33-tools-in-reasoning"),
    ("types of parts", _without(parts, "refuse_type"), "c30-unknown-part"),
    (
        "one transfer coding",
        _without(validate, "parse_transfer_encoding", http1_guards._STOCK_TRANSFER_ENCODING),
        "b15-te-gzip-chunked",
    ),
    ("the lines of a request", _without(http1_guards, "request_fault"), "b15-line-two-spaces"),
    ("mitmproxy's check of headers", _without(http_layer, "validate_headers"), "b15-length-and-chunked"),
    ("tools that call any tool", _without(asked, "META_TOOLS", frozenset()), "c33-meta-tool-tool-call"),
    ("what the provider holds", _without(decide, "_features"), "c30-gemini-cached-content reverse gemini"),
    (
        "one spelling of a field",
        _without(proto_json, "_ambiguous"),
        "c22-gemini-two-spellings-of-tool-config reverse gemini",
    ),
    ("the model of a Gemini path", _without(gemini, "_same_model"), "c29-gemini-body-model connect gemini"),
    ("the model of a path", _without(asked.Asked, "same_model_as_path"), "c29-azure-body-model reverse azure_chat"),
    ("features by name", _without(bedrock_anthropic, "check_betas"), "c32-bedrock-beta reverse bedrock_anthropic"),
    ("fallbacks", _without(asked.Asked, "fallback"), "c29-openrouter-models compat openrouter_chat"),
    ("files of Ollama's server", _without(asked.Asked, "url"), "c31-ollama-image-file connect ollama_chat"),
    (
        "the handshake of a socket",
        _without(steps, "check_upgrade"),
        "d38-handshake-version-8 websocket openai_responses",
    ),
    (
        "the judge of messages",
        _without(websocket.Socket, "take", lambda _self, data, **_more: data),
        "d38-denied-after-clean websocket openai_responses",
    ),
    (
        "the judge of realtime messages",
        _without(websocket.Socket, "take", lambda _self, data, **_more: data),
        "d38-realtime-session-tools websocket_connect openai_realtime",
    ),
    ("the decision of a socket", _without(decide, "_tools", lambda *_: ()), "c33-denied websocket openai_responses"),
    (
        "the tunnels of tools",
        _without(egress_steps, "decide_destination", lambda *_: ()),
        "eg1-unlisted egress_connect tool_call",
    ),
    ("paths of tools", _without(egress_steps, "parse_target", _any_target), "eg4-path-dots egress_connect tool_call"),
    (
        "the egress decision",
        _without(egress_steps, "decide_egress", _first_entry),
        "eg4-path-other egress_connect tool_call",
    ),
    (
        "the egress decision, plain",
        _without(egress_steps, "decide_egress", _first_entry),
        "eg5-crm-plain egress_http tool_call",
    ),
    ("addresses", _without(dial, "address_fault"), "eg2-resolves-loopback egress_connect tool_call"),
    (
        "the client's credentials",
        _without(egress_request, "_CREDENTIALS", frozenset()),
        "eg5-own-dropped egress_connect tool_call",
    ),
    (
        "our tokens in any header",
        _without(egress_request, "holds_our_token", lambda _value: False),
        "eg5-token-dropped egress_connect tool_call",
    ),
    ("names of runs", _without(steps, "_RUN_ID", ANYTHING), "b19-run-id-path"),
    ("names of calls", _without(steps, "_NONCE", ANYTHING), "b19-idempotency-space"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("take_out", "case"), [row[1:] for row in GUARDS], ids=[f"{row[0]}: {row[2]}" for row in GUARDS]
)
async def test_without_its_guard_a_case_goes_red(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch, take_out: TakeOut, case: str
) -> None:
    name, transport, wire = [*case.split(), "reverse", "openai_chat"][:3]
    execution = Execution(CASES[name], transport, wire)
    async with running_runner(tmp_path, provider) as runner:
        assert not (await runner.execute(execution)).red, "red with its guard in place"
        with monkeypatch.context() as patch:
            take_out(runner, patch)
            result = await runner.execute(execution)
        print(f"{execution.name}: {result.red}")
        assert result.red, f"{case} stays green without its guard"


def test_there_are_enough_guards() -> None:
    assert len({row[0] for row in GUARDS}) >= 70
