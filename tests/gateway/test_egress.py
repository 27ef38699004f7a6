"""Calls of tools to other hosts: judged by the contract, recorded as side effects, with our credential or none."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons import egress_request, egress_steps, plain_tap
from clawproxy.policies.egress import EgressAllow, EgressFacts
from clawproxy.policies.policy import Policy
from clawproxy.receipts.explain import explain
from clawproxy.receipts.reader import load_directory
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.side_traffic import refused_hosts, split_inside
from clawproxy.receipts.verify_job import verify_job
from clawproxy.tokens.digests import b64u_encode

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import CONTRACT, Bed, running_bed
from .raw_client import Answer, RawClient
from .tool_server import ToolServer, tool_server

SECRET = "crm-secret-0123456789"


def _digest(data: bytes) -> str:
    return b64u_encode(hashlib.sha256(data).digest())


def _secret_file(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "crm").write_text(SECRET)
    return folder / "crm"


@contextlib.asynccontextmanager
async def egress_bed(
    tmp_path: Path, provider: Provider, *, private: bool = True, looked_up: list[str] | None = None, **entry: Any
) -> AsyncIterator[tuple[Bed, ToolServer]]:
    """A gateway whose contract lists the tool server: https as ``entry`` says, and /plain over http."""
    secret_file = _secret_file(tmp_path)

    async def resolve(host: str, port: int) -> Sequence[str]:
        if looked_up is not None:
            looked_up.append(host)
        return ["127.0.0.1"]

    async with tool_server(Path(provider.ca).parent) as tool:
        listed = [
            {"host": "localhost", "port": tool.port, "methods": ["GET", "POST", "HEAD"], "paths": ["/v1/*"], **entry},
            {"host": "localhost", "port": tool.plain_port, "scheme": "http", "paths": ["/plain"]},
        ]
        sections: dict[str, Any] = {
            "egress": {"crm": {"credential": f"file:{secret_file}", "hosts": ["localhost"]}},
            "egress_private": [f"localhost:{port}" for port in (tool.port, tool.plain_port)] if private else [],
        }
        async with running_bed(
            tmp_path / "s", provider, contract={**CONTRACT, "egress_allowlist": listed}, sections=sections,
            resolve=resolve,
        ) as bed:  # fmt: skip
            yield bed, tool


def _basic(token: str) -> str:
    return "Basic " + base64.b64encode(f"job:{token}".encode()).decode()


async def _connect(bed: Bed, authority: str, token: str | None) -> tuple[RawClient, Answer]:
    client = await bed.client("regular")
    auth = f"proxy-authorization: {_basic(token)}\r\n" if token else ""
    await client.send(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n{auth}\r\n".encode())
    head = await client.reader.readuntil(b"\r\n\r\n")
    answer = Answer(status=int(head.split(b" ")[1]))
    if answer.status != 200:
        length = next(line[16:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        answer.body = await client.reader.readexactly(int(length))
    return client, answer


async def _inside(
    bed: Bed, tool: ToolServer, *, token: str | None = None, host: str = "localhost", sni: str = ""
) -> RawClient:
    """A client inside CONNECT and TLS to the tool server."""
    client, answer = await _connect(bed, f"{host}:{tool.port}", token or bed.token())
    assert answer.status == 200, answer.body
    await client.start_tls(ssl.create_default_context(cafile=bed.gateway.ca_file), sni or host)
    return client


async def _call(
    bed: Bed, tool: ToolServer, method: str = "GET", target: str = "/v1/a", body: bytes = b"", **headers: str
) -> Answer:
    client = await _inside(bed, tool)
    fields = {"host": f"localhost:{tool.port}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await client.request(method, target, fields, body)


async def test_a_listed_call_passes_and_is_recorded_as_a_side_effect(tmp_path: Path, provider: Provider) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        body = b"\x00\xff any bytes"
        answer = await _call(bed, tool, "POST", "/v1/a%20b?q=1", body, content_type="application/x-thing")
        assert (answer.status, answer.body) == (200, b"hello")
        head, sent = tool.requests[-1]
        assert head.startswith(b"POST /v1/a%20b?q=1 HTTP/1.1\r\n")
        assert sent == body
        assert tool.header("host") == [f"localhost:{tool.port}"]
        assert tool.header("proxy-authorization") == []
        [effect] = bed.records("effect")
        receipt = effect["side_effect"]
        assert (effect["host"], effect["method"], effect["status"], effect["outcome"]) == (
            "localhost", "POST", 200, "complete",
        )  # fmt: skip
        url = f"https://localhost:{tool.port}/v1/a%20b?q=1".encode()
        assert receipt["target_hash_b64u"] == _digest(url)
        assert receipt["request_hash_b64u"] == _digest(body)
        assert receipt["response_hash_b64u"] == _digest(b"hello")
        assert receipt["effect_class"] == "network_egress"
        assert answer.headers["x-clawproxy-receipt-id"] == receipt["receipt_id"]
        assert b"a%20b" not in (bed.state / "jobs" / "job-1" / "receipts.jsonl").read_bytes()


async def test_an_escaped_slash_leaves_as_it_came_where_every_path_may(tmp_path: Path, provider: Provider) -> None:
    async with egress_bed(tmp_path, provider, paths=["/*"]) as (bed, tool):
        assert (await _call(bed, tool, target="/@types%2fnode?x=1")).status == 200
        assert tool.requests[-1][0].startswith(b"GET /@types%2fnode?x=1 HTTP/1.1\r\n")
        assert len(bed.records("effect")) == 1


async def test_plain_http_passes_where_the_contract_says_http(tmp_path: Path, provider: Provider) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        client = await bed.client("regular")
        authority = f"localhost:{tool.plain_port}"
        headers = {"host": authority, "proxy-authorization": _basic(bed.token())}
        answer = await client.request("GET", f"http://{authority}/plain", headers)
        assert (answer.status, answer.body) == (200, b"hello")
        assert tool.requests[-1][0].startswith(b"GET /plain HTTP/1.1\r\n")
        refused = await client.request(
            "GET", f"http://localhost:{tool.port}/v1/a", {**headers, "host": f"localhost:{tool.port}"}
        )
        assert refused.refusal["reason"] == "EGRESS_NOT_ALLOWED"
        assert [e["scheme"] for e in bed.records("effect")] == ["http"]


@pytest.mark.parametrize(
    ("authority", "with_token", "reason"),
    [
        ("localhost:{port}", False, "TOKEN_REQUIRED"),
        ("other.example:443", False, "TOKEN_REQUIRED"),
        ("other.example:443", True, "EGRESS_NOT_ALLOWED"),
        ("localhost:22", True, "EGRESS_NOT_ALLOWED"),
        ("localhost.:{port}", True, "EGRESS_NOT_ALLOWED"),
        ("LOCALHOST:{port}", True, "EGRESS_NOT_ALLOWED"),
        ("127.0.0.1:{port}", True, "EGRESS_NOT_ALLOWED"),
        ("localhost:{plain}", True, "EGRESS_NOT_ALLOWED"),
        ("[fd63::9]:443", True, "EGRESS_NOT_ALLOWED"),
        ("api.openai.com:8443", True, "TUNNEL_REFUSED"),
    ],
)
async def test_a_tunnel_that_the_contract_does_not_list_is_refused_before_any_look_up(
    tmp_path: Path, provider: Provider, authority: str, with_token: bool, reason: str
) -> None:
    looked_up: list[str] = []
    async with egress_bed(tmp_path, provider, looked_up=looked_up) as (bed, tool):
        where = authority.format(port=tool.port, plain=tool.plain_port)
        _, answer = await _connect(bed, where, bed.token() if with_token else None)
        assert (answer.status, answer.refusal["reason"]) == (403 if with_token else 401, reason)
        if not with_token:
            assert "proxy password" in answer.refusal["remedy"]
            assert where.encode() not in answer.body
        denials = [*bed.records("denial"), *bed.refusals()]
        assert [(denial["reason"], denial["destination"]) for denial in denials] == [
            (reason, where.lower().replace(".:", ":"))
        ]
        assert looked_up == []
        assert tool.connections == 0


@pytest.mark.parametrize(
    ("method", "target", "headers", "reason"),
    [
        ("DELETE", "/v1/a", {}, "EGRESS_NOT_ALLOWED"),
        ("GET", "/v2/a", {}, "EGRESS_NOT_ALLOWED"),
        ("GET", "/v1", {}, "EGRESS_NOT_ALLOWED"),
        ("GET", "/v1/../v2", {}, "REQUEST_AMBIGUOUS"),
        ("GET", "/v1/%2e%2e/v2", {}, "REQUEST_AMBIGUOUS"),
        ("GET", "/v1/a%2Fb", {}, "EGRESS_NOT_ALLOWED"),
        ("GET", "/v1/a%2F..%2Fb", {}, "REQUEST_AMBIGUOUS"),
        ("GET", "//v1/a", {}, "REQUEST_AMBIGUOUS"),
        ("GET", "/v1/a;b", {}, "REQUEST_AMBIGUOUS"),
        ("GET", "/v1/a", {"host": "api.openai.com"}, "DESTINATION_MISMATCH"),
        ("GET", "/v1/a", {"host": "localhost"}, "DESTINATION_MISMATCH"),
        ("GET", "/v1/a", {"upgrade": "websocket", "connection": "upgrade"}, "PROTOCOL_REFUSED"),
        ("GET", "/v1/a", {"x-cst": "another"}, "TOKEN_AMBIGUOUS"),
    ],
)
async def test_each_request_in_a_tunnel_is_judged(
    tmp_path: Path, provider: Provider, method: str, target: str, headers: dict[str, str], reason: str
) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        answer = await _call(bed, tool, method, target, body=b"", **headers)
        assert answer.refusal["reason"] == reason
        assert tool.connections == 0
        assert bed.records("intent") == []
        [denial] = [*bed.records("denial"), *bed.refusals()]
        assert (denial["reason"], denial["destination"]) == (reason, f"localhost:{tool.port}")
        assert (await _call(bed, tool)).status == 200


@pytest.mark.parametrize(
    ("target", "fields", "reason"),
    [
        ("/plain;a", {}, "REQUEST_AMBIGUOUS"),
        ("/plain", {"te": "x", "TE": "x"}, "REQUEST_AMBIGUOUS"),
        ("/plain", {"host": "other.example"}, "DESTINATION_MISMATCH"),
    ],
)
async def test_a_plain_request_that_is_refused_by_its_head_is_recorded_with_its_host(
    tmp_path: Path, provider: Provider, target: str, fields: dict[str, str], reason: str
) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        client = await bed.client("regular")
        authority = f"localhost:{tool.plain_port}"
        headers = {"host": authority, "proxy-authorization": _basic(bed.token()), **fields}
        answer = await client.request("GET", f"http://{authority}{target}", headers)
        assert (answer.refusal["reason"], tool.connections) == (reason, 0)
        [denial] = [*bed.records("denial"), *bed.refusals()]
        assert (denial["reason"], denial["destination"]) == (reason, authority)


async def test_a_refused_call_of_a_model_has_a_route_and_no_destination(tmp_path: Path, provider: Provider) -> None:
    async with egress_bed(tmp_path, provider) as (bed, _):
        assert (await bed.chat(model="another")).status == 403
        [denial] = [*bed.records("denial"), *bed.refusals()]
        assert denial["provider"]
        assert "destination" not in denial


async def test_another_sni_than_the_tunnels_host_is_refused(tmp_path: Path, provider: Provider) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await _inside(bed, tool, sni="api.openai.com")
        assert [denial["reason"] for denial in bed.refusals()] == ["DESTINATION_MISMATCH"]
        assert tool.connections == 0


async def test_a_private_address_is_refused_unless_configured(tmp_path: Path, provider: Provider) -> None:
    async with egress_bed(tmp_path, provider, private=False) as (bed, tool):
        answer = await _call(bed, tool)
        assert answer.refusal["reason"] == "DESTINATION_REFUSED"
        assert (tool.connections, bed.records("intent")) == (0, [])


async def test_a_contract_without_a_list_lets_nothing_through(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        _, answer = await _connect(bed, "example.com:443", bed.token())
        assert answer.refusal["reason"] == "EGRESS_NOT_ALLOWED"


async def test_a_tunnel_that_is_refused_inside_leads_nowhere_and_tells_each_request_why(
    tmp_path: Path, provider: Provider
) -> None:
    looked_up: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    async with (
        tool_server(Path(provider.ca).parent) as tool,
        running_bed(tmp_path / "s", provider, resolve=resolve, refuse_inside_tunnels=True) as bed,
    ):
        client = await _inside(bed, tool)
        for method in ("GET", "POST"):
            answer = await client.request(method, "/any", {"host": f"localhost:{tool.port}"}, b"")
            assert (answer.status, answer.refusal["reason"]) == (403, "EGRESS_NOT_ALLOWED")
        denials = bed.records("denial")
        assert [denial["method"] for denial in denials] == ["CONNECT", "GET", "POST"]
        assert {denial["reason"] for denial in denials} == {"EGRESS_NOT_ALLOWED"}
        assert (looked_up, tool.connections, bed.records("intent")) == ([], 0, [])
        # for people it is one refused tunnel, and what came in it
        own, inside = split_inside(denials)
        assert (len(own), len(inside)) == (1, 2)
        assert [(host.host, host.count) for host in refused_hosts(own)] == [("localhost", 1)]
        for authority, token in (("api.openai.com:8443", bed.token()), (f"localhost:{tool.port}", None)):
            _, answer = await _connect(bed, authority, token)
            assert answer.status == (403 if token else 401)


# -- credentials -----------------------------------------------------------------------------------------------------


async def test_the_configured_credential_is_added_and_the_agents_own_dropped(
    tmp_path: Path, provider: Provider
) -> None:
    async with egress_bed(tmp_path, provider, credential="crm") as (bed, tool):
        answer = await _call(
            bed,
            tool,
            authorization="Bearer the-agents-own",
            cookie="a=b",
            x_api_key="k",
            x_policy_hash=bed.policy_hash,
            connection="x-hop",
            x_hop="1",
            x_kept="2",
        )
        assert answer.status == 200
        assert tool.header("authorization") == [f"Bearer {SECRET}"]
        for dropped in ("cookie", "x-api-key", "x-policy-hash", "x-hop", "connection", "x-cst"):
            assert tool.header(dropped) == []
        assert tool.header("x-kept") == ["2"]
        assert bed.records("effect")[0]["credential"] == "crm"
        assert SECRET.encode() not in (bed.state / "jobs" / "job-1" / "receipts.jsonl").read_bytes()


async def test_the_agents_own_credential_passes_only_where_the_entry_says_so(
    tmp_path: Path, provider: Provider
) -> None:
    own = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ0b29sIn0.sig"
    async with egress_bed(tmp_path / "a", provider) as (bed, tool):
        assert (await _call(bed, tool, authorization=own)).status == 200
        assert tool.header("authorization") == []
    async with egress_bed(tmp_path / "b", provider, client_credentials=True) as (bed, tool):
        assert (await _call(bed, tool, authorization=own)).status == 200
        assert tool.header("authorization") == [own]
        for ours in (bed.token(), "cph_handle"):
            assert (await _call(bed, tool, authorization=f"Bearer {ours}", x_note=f"see {ours}")).status == 200
            assert tool.header("authorization") == tool.header("x-note") == []


@pytest.mark.parametrize(("name", "hosts"), [("unknown", ["localhost"]), ("crm", ["elsewhere.example"])])
async def test_a_credential_goes_only_to_hosts_that_contract_and_configuration_both_name(
    tmp_path: Path, provider: Provider, name: str, hosts: list[str]
) -> None:
    (tmp_path / "crm").write_text(SECRET)
    contract = {
        **CONTRACT,
        "egress_allowlist": [{"host": "localhost", "paths": ["/*"], "credential": name, "port": 444}],
    }
    sections = {"egress": {"crm": {"credential": f"file:{tmp_path / 'crm'}", "hosts": hosts}}}
    async with running_bed(tmp_path / "s", provider, contract=contract, sections=sections) as bed:
        client, _ = await _connect(bed, "localhost:444", bed.token())
        await client.start_tls(ssl.create_default_context(cafile=bed.gateway.ca_file), "localhost")
        answer = await client.request("GET", "/", {"host": "localhost:444"})
        assert answer.refusal["reason"] == "CREDENTIAL_MISSING"
        assert bed.records("intent") == []


CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nset-cookie: a=b\r\nx-echo: " + SECRET.encode() + b"\r\n\r\n"
)


def _chunks(*parts: bytes) -> list[bytes]:
    return [*(b"%x\r\n%s\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]


@pytest.mark.parametrize("cut", [1, 5, len(SECRET) - 1])
async def test_an_echoed_credential_does_not_reach_the_agent_wherever_it_is_cut(
    tmp_path: Path, provider: Provider, cut: int
) -> None:
    secret = SECRET.encode()
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\nx%sy" % (len(secret) + 2, secret)
    async with egress_bed(tmp_path, provider, credential="crm") as (bed, tool):
        tool.answers = {"/v1/s": [CHUNKED, *_chunks(b"x" + secret[:cut], secret[cut:] + b"y")], "/v1/w": [whole]}
        for target in ("/v1/s", "/v1/w"):
            answer = await _call(bed, tool, target=target)
            assert answer.complete
            assert answer.body == b"x[redacted by clawproxy]y"
            assert SECRET not in str(answer.headers)
            assert "set-cookie" not in answer.headers
        assert {e["side_effect"]["response_hash_b64u"] for e in bed.records("effect")} == {_digest(b"x%sy" % secret)}


async def test_an_encoded_answer_is_refused_where_an_echo_could_hide_in_it(tmp_path: Path, provider: Provider) -> None:
    encoded = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc"
    async with egress_bed(tmp_path / "a", provider, credential="crm") as (bed, tool):
        tool.answers = {"/v1/a": [encoded]}
        assert b"abc" not in (await _call(bed, tool)).body
        await bed.settled()
        assert [e["outcome"] for e in bed.records("effect")] == ["upstream_failed"]
    async with egress_bed(tmp_path / "b", provider) as (bed, tool):
        tool.answers = {"/v1/a": [encoded]}
        assert (await _call(bed, tool)).body == b"abc"
        assert tool.header("accept-encoding") == ["identity"]


# -- answers -----------------------------------------------------------------------------------------------------------


async def test_a_redirect_passes_and_where_it_leads_is_judged(tmp_path: Path, provider: Provider) -> None:
    moved = b"HTTP/1.1 302 Found\r\nlocation: https://evil.example/\r\ncontent-length: 0\r\n\r\n"
    async with egress_bed(tmp_path, provider) as (bed, tool):
        tool.answers = {"/v1/a": [moved]}
        answer = await _call(bed, tool)
        assert (answer.status, answer.headers["location"]) == (302, "https://evil.example/")
        _, refused = await _connect(bed, "evil.example:443", bed.token())
        assert refused.refusal["reason"] == "EGRESS_NOT_ALLOWED"


async def test_the_last_byte_of_a_stream_waits_for_the_record(tmp_path: Path, provider: Provider) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        tool.answers = {"/v1/a": [CHUNKED, *_chunks(b"first", b"last")[:2], b"WAIT", b"0\r\n\r\n"]}
        task = asyncio.create_task(_call(bed, tool))
        await until(lambda: tool.requests)
        await asyncio.sleep(0.5)
        assert len(tool.requests) == 1
        assert bed.records("effect") == []
        assert len(bed.records("intent")) == 1
        tool.held.set()
        assert (await task).body == b"firstlast"
        assert bed.records("effect")[0]["response_bytes"] == 9


@pytest.mark.parametrize(
    "answer", [[CHUNKED, b"5\r\nfirst\r\n", b"CLOSE"], [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfour", b"CLOSE"]]
)
async def test_an_answer_that_breaks_off_is_cut_and_recorded(
    tmp_path: Path, provider: Provider, answer: list[bytes]
) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        tool.answers = {"/v1/a": answer}
        got = await _call(bed, tool)
        assert not got.complete or got.status == 502
        await bed.settled()
        assert [e["outcome"] for e in bed.records("effect")] == ["upstream_failed"]


async def test_head_and_empty_answers_pass(tmp_path: Path, provider: Provider) -> None:
    async with egress_bed(tmp_path, provider) as (bed, tool):
        tool.answers = {"/v1/n": [b"HTTP/1.1 204 No Content\r\n\r\n"]}
        assert (await _call(bed, tool, target="/v1/n")).status == 204
        client = await _inside(bed, tool)
        tool.answers["/v1/h"] = [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"]
        answer = await client.request("HEAD", "/v1/h", {"host": f"localhost:{tool.port}"})
        assert (answer.status, answer.body) == (200, b"")
        assert len(bed.records("effect")) == 2


async def test_a_host_that_is_not_there_has_its_record(tmp_path: Path, provider: Provider) -> None:
    contract = {**CONTRACT, "egress_allowlist": [{"host": "localhost", "paths": ["/*"], "port": 1}]}
    async with running_bed(
        tmp_path / "s", provider, contract=contract, sections={"egress_private": ["localhost:1"]}
    ) as bed:
        client, _ = await _connect(bed, "localhost:1", bed.token())
        await client.start_tls(ssl.create_default_context(cafile=bed.gateway.ca_file), "localhost")
        answer = await client.request("GET", "/", {"host": "localhost:1"})
        assert (answer.status, answer.refusal["reason"]) == (502, "UPSTREAM_UNREACHABLE")
        await bed.settled()
        assert [e["outcome"] for e in bed.records("effect")] == ["upstream_unreachable"]


# -- evidence ------------------------------------------------------------------------------------------------------


async def test_a_sealed_job_with_side_effects_is_verified_and_explains_them(tmp_path: Path, provider: Provider) -> None:
    async with egress_bed(tmp_path, provider, credential="crm") as (bed, tool):
        lease = await bed.gateway.lease(bed.policy_hash, "job-9")
        fields = {"host": f"localhost:{tool.port}"}
        client = await _inside(bed, tool, token=lease.handle)
        before = await client.request("GET", "/v1/before", fields)
        assert (await bed.chat(token=lease.handle)).status == 200
        after = await client.request("GET", "/v1/after", fields)
        refused = await client.request("GET", "/v2/no", fields)
        assert (before.status, after.status, refused.status) == (200, 200, 403)
        sealed = await bed.gateway.seal("job-9")
        counts: Any = sealed["counts"]
        assert (counts["calls"], counts["receipts"], counts["effects"], counts["denials"]) == (3, 3, 2, 1)

        files = load_directory(Path(str(sealed["directory"]))).files
        report = verify_job(files, bed.trust())
        assert report.verdict is Verdict.VERIFIED, report.findings
        assert report.findings == ()
        bundle = json.loads(files["proof_bundle.json"])["payload"]
        [receipt] = bundle["side_effect_receipts"]
        assert receipt["receipt_id"] == after.headers["x-clawproxy-receipt-id"]
        assert receipt["binding"]["parent_span_id"] == bundle["receipts"][0]["payload"]["binding"]["span_id"]
        told = bundle["metadata"]["clawproxy"]
        assert (told["effects"], told["effects_unanchored"]) == (2, 1)

        story = explain(files, receipt["receipt_id"], bed.trust()).to_json()
        assert (story["kind"], story["decision"]["agrees"], story["outcome"]["status"]) == ("allowed", None, 200)
        assert "the path" in story["decision"]["note"]
        assert story["call"]["host"] == "localhost"
        denied = explain(files, refused.headers["x-clawproxy-receipt-id"], bed.trust()).to_json()
        assert (denied["kind"], denied["decision"]["reason"]) == ("refused", "EGRESS_NOT_ALLOWED")


# -- each guard, taken out: the bad thing happens ----------------------------------------------------------------------


async def test_without_the_canonical_target_a_way_up_would_leave(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_steps, "parse_target", lambda target: (target, ""))
    async with egress_bed(tmp_path, provider) as (bed, tool):
        assert (await _call(bed, tool, target="/v1/%2e%2e/v2")).status == 200
        assert tool.requests[-1][0].startswith(b"GET /v1/%2e%2e/v2 ")


async def test_without_the_decision_another_path_would_leave(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allow_all(facts: EgressFacts, policy: Policy) -> EgressAllow:
        return EgressAllow(policy.policy_hash_b64u, policy.egress[0])

    monkeypatch.setattr(egress_steps, "decide_egress", allow_all)
    async with egress_bed(tmp_path, provider) as (bed, tool):
        assert (await _call(bed, tool, target="/v2/a")).status == 200
        assert len(tool.requests) == 1


async def test_without_the_look_at_tokens_a_handle_would_reach_the_tool(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_request, "holds_our_token", lambda value: False)
    async with egress_bed(tmp_path, provider) as (bed, tool):
        assert (await _call(bed, tool, x_note="cph_handle")).status == 200
        assert tool.header("x-note") == ["cph_handle"]


async def test_without_redaction_an_echoed_credential_would_reach_the_agent(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_tap, "redact", lambda text, secret: text)
    async with egress_bed(tmp_path, provider, credential="crm") as (bed, tool):
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        tool.answers = {"/v1/a": [head, *_chunks(SECRET.encode() + b"." * 4096)]}
        assert SECRET.encode() in (await _call(bed, tool)).body
