"""Data boundaries end to end: what is denied, what is redacted on its way, labels, exports, failing looks."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from clawproxy.addons import data_gate
from clawproxy.addons.call import Call
from clawproxy.policies.detect.engine import Scanner
from clawproxy.receipts.report import Verdict
from clawproxy.receipts.verify import verify_path
from clawproxy.tokens.digests import b64u_encode

from ..clawproxy.standin_process import Provider
from .bed import CONTRACT, Bed, chat_body, running_bed
from .raw_client import Answer
from .test_budgets import restart
from .test_egress import _basic
from .test_the_checks_can_fail import Without
from .test_websocket import create, opened, until
from .tool_server import tool_server

CARD = "4111 1111 1111 1111"
MAIL = "ada.lovelace@analytical-engines.org"
LABELS: dict[str, Any] = {"tool_data_classes": {"ticket.read": ["confidential"]}}
SECRET_LINE = "The merger with Northwind closes on the fourteenth of March."


def _contract(**fields: Any) -> dict[str, Any]:
    return {**CONTRACT, **fields}


def _boundaries(**words: str) -> dict[str, Any]:
    return _contract(data_boundaries=words)


def _digest(body: bytes) -> str:
    return b64u_encode(hashlib.sha256(body).digest())


def _code(answer: Any) -> str:
    found: str = json.loads(answer.body)["error"]["code"]
    return found


HIDDEN = {
    "plain": f"pay with {CARD} please",
    "zero width": "pay with 4111\u200b1111\u200b1111\u200b1111 please",
    "full width": "pay with ４１１１１１１１１１１１１１１１ please",
    "arabic digits": "pay with ٤١١١١١١١١١١١١١١١ please",
    "base64": base64.b64encode(f"pay with {CARD} please".encode()).decode(),
    "percent": "q=pay%20with%204111%201111%201111%201111",
    "escapes in a string": '{"n": "\\u0034111111111111111"}',
}


@pytest.mark.parametrize("text", HIDDEN.values(), ids=HIDDEN.keys())
async def test_a_denied_class_is_refused_however_it_is_written(tmp_path: Path, provider: Provider, text: str) -> None:
    async with running_bed(tmp_path / "s", provider, contract=_boundaries(payment_cards="deny")) as bed:
        before = len(provider.seen())
        answer = await bed.chat(text)
        assert (answer.status, _code(answer)) == (403, "DATA_CLASS_DENIED")
        assert len(provider.seen()) == before
        [denial] = bed.records("denial")
        assert denial["rule"] == 'data_boundaries.payment_cards "payment_cards"'
        assert "41111111" not in json.dumps(bed.lines())
        assert (await bed.chat("4111 1111 1111 1112 is no card")).status == 200


async def test_a_class_that_is_split_over_messages_is_refused(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=_boundaries(payment_cards="deny")) as bed:
        parts = [{"role": "user", "content": "pay with 4111 1111"}, {"role": "user", "content": " 1111 1111 please"}]
        body = json.dumps({"model": "gpt-4o-mini", "messages": parts}).encode()
        assert _code(await bed.post("/openai/v1/chat/completions", body)) == "DATA_CLASS_DENIED"


async def test_base64_inside_base64_is_the_documented_limit(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=_boundaries(payment_cards="deny")) as bed:
        twice = base64.b64encode(base64.b64encode(CARD.encode() * 2)).decode()
        assert (await bed.chat(twice)).status == 200


@pytest.mark.parametrize(
    ("word", "left"),
    [("redact", "[redacted:email]"), ("mask", "[redacted:email]"), ("remove", ""), ("hash", "[redacted:email:")],
)
async def test_what_is_redacted_is_what_is_sent_and_hashed(
    tmp_path: Path, provider: Provider, word: str, left: str
) -> None:
    async with running_bed(tmp_path / "s", provider, contract=_boundaries(email=word)) as bed:
        answer = await bed.chat(f"write to {MAIL} today")
        assert answer.status == 200
        seen = provider.seen()[-1]
        [receipt] = bed.records("receipt")
        assert receipt["request_hash_b64u"] == seen["body_sha256_b64u"] != _digest(chat_body(f"write to {MAIL} today"))
        assert receipt["metadata"]["clawproxy"]["request_bytes"] == seen["body_bytes"]
        told = receipt["metadata"]["clawproxy"]["data"]
        assert told["redacted"] == [{"count": 1, "of": "email"}]
        assert MAIL not in json.dumps(bed.lines())
        if word != "hash":
            expected = json.dumps(json.loads(chat_body(f"write to {left} today")), separators=(",", ":")).encode()
            assert seen["body_sha256_b64u"] == _digest(expected)
        report = verify_path(bed.state / "jobs" / "job-1", bed.trust())
        assert (report.verdict, report.reason) == (Verdict.INCOMPLETE, "NOT_SEALED")


async def test_an_untouched_body_leaves_as_it_came(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=_boundaries(email="redact")) as bed:
        body = b'{ "model": "gpt-4o-mini",\n "messages": [{"role":"user","content":"nothing here"}] }'
        assert (await bed.post("/openai/v1/chat/completions", body)).status == 200
        assert provider.seen()[-1]["body_sha256_b64u"] == _digest(body)


async def test_what_names_the_call_is_never_redacted_but_refused(tmp_path: Path, provider: Provider) -> None:
    contract = {**_boundaries(email="redact"), "allowed_models": ["*"]}
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        answer = await bed.chat("hello", model=MAIL)
        assert _code(answer) == "DATA_CLASS_DENIED"
        assert MAIL not in json.dumps(bed.lines())


async def test_what_goes_on_in_a_header_field_is_looked_through(tmp_path: Path, provider: Provider) -> None:
    contract = _contract(data_boundaries={"payment_cards": "deny"}, data_classes_denied=["confidential"], **LABELS)
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        target, body = "/openai/v1/chat/completions", chat_body("hello")
        assert _code(await bed.post(target, _turn())) == "DATA_CLASS_DENIED"  # now the line is known
        assert (await bed.post(target, body, bed.headers() | {"user-agent": "OpenAI/Python 1.50.2"})).status == 200
        before = len(provider.seen())
        for told in (f"agent {CARD}", SECRET_LINE):
            assert _code(await bed.post(target, body, bed.headers() | {"user-agent": told})) == "DATA_CLASS_DENIED"
        assert len(provider.seen()) == before


def _turn(*more: dict[str, Any]) -> bytes:
    call = {"id": "c1", "type": "function", "function": {"name": "ticket_read", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "read the ticket"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": SECRET_LINE},
        *more,
    ]
    return json.dumps({"model": "gpt-4o-mini", "messages": messages}).encode()


async def test_a_label_is_denied_and_follows_the_text_into_a_later_call(tmp_path: Path, provider: Provider) -> None:
    contract = _contract(data_classes_denied=["confidential"], **LABELS)
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        assert (await bed.chat(SECRET_LINE)).status == 200, "nobody has seen it under a label yet"
        assert _code(await bed.post("/openai/v1/chat/completions", _turn())) == "DATA_CLASS_DENIED"
        again = await bed.chat(f"Note: {SECRET_LINE.upper()}\nThanks")
        assert _code(again) == "DATA_CLASS_DENIED", "the same line, without the tool's result around it"
        assert (await bed.chat("something else")).status == 200


async def test_labels_of_an_allowed_conversation_are_on_its_receipt(tmp_path: Path, provider: Provider) -> None:
    contract = _contract(data_classes_allowed=["internal", "confidential"], **LABELS)
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        assert (await bed.post("/openai/v1/chat/completions", _turn())).status == 200
        [receipt] = bed.records("receipt")
        assert receipt["metadata"]["clawproxy"]["data"]["labels"] == ["confidential"]


async def test_a_label_outside_of_the_allowed_ones_is_denied(tmp_path: Path, provider: Provider) -> None:
    contract = _contract(data_classes_allowed=["internal"], **LABELS)
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        assert _code(await bed.post("/openai/v1/chat/completions", _turn())) == "DATA_CLASS_DENIED"


SEARCHED: dict[str, Any] = {
    "allowed_tools": ["web.search", "mail_send"],
    "tool_classes": {"web.search": ["web_search"]},
    "tool_data_classes": {"web.search": ["internal"]},
    "tool_data_access": {"mail_send": ["public"]},
    "allowed_provider_features": ["state:previous_response_id"],
}
MAIL_SEND = {"type": "function", "name": "mail_send", "parameters": {}}


async def _responses(bed: Bed, **body: Any) -> Answer:
    return await bed.post("/openai/v1/responses", json.dumps({"model": "gpt-4o-mini", **body}).encode())


async def test_what_a_tool_of_the_provider_found_is_not_seen_by_a_tool_that_may_not_see_it(
    tmp_path: Path, provider: Provider
) -> None:
    """Neither in the same answer, nor in one that goes on from it at the provider."""

    async def ask(bed: Bed, *tools: dict[str, Any], **more: Any) -> Answer:
        return await _responses(bed, input="tool:mail_send", tools=[MAIL_SEND, *tools], **more)

    async with running_bed(tmp_path / "s", provider, contract=_contract(**SEARCHED)) as bed:
        first = await ask(bed)
        assert first.status == 200, "nothing with a label was seen yet"
        assert _code(await ask(bed, {"type": "web_search"})) == "DATA_CLASS_DENIED"
        assert bed.records("intent")[-1]["detail"]["data"]["labels"] == ["internal"]
        later = await ask(bed, previous_response_id=json.loads(first.body)["id"])
        assert _code(later) == "DATA_CLASS_DENIED"
        assert (await ask(bed)).status == 200


async def test_what_a_job_has_seen_is_known_after_a_restart_where_the_provider_keeps_the_conversation(
    tmp_path: Path, provider: Provider
) -> None:
    contract = _contract(**{**SEARCHED, "data_boundaries": {"email": "redact_in_logs"}})
    searching: dict[str, Any] = {"input": "search", "tools": [{"type": "web_search"}]}
    writing: dict[str, Any] = {"input": f"write to {MAIL}", "tools": []}
    for n, first in enumerate((searching, writing)):
        async with running_bed(tmp_path / f"s{n}", provider, contract=contract) as bed:
            kept = json.loads((await _responses(bed, **first)).body)["id"]
            await restart(bed)
            later = await _responses(bed, input="tool:mail_send", tools=[MAIL_SEND], previous_response_id=kept)
            assert _code(later) == "DATA_CLASS_DENIED"


async def test_a_conversation_that_its_provider_condensed_carries_what_the_job_has_seen(
    tmp_path: Path, provider: Provider
) -> None:
    contract = _contract(**SEARCHED)
    condensed = [{"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"}]
    said = {"role": "user", "content": "tool:mail_send"}
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        body: dict[str, Any] = {"tools": [MAIL_SEND], "store": False, "input": [*condensed, said]}
        assert (await _responses(bed, **body)).status == 200
        assert (await _responses(bed, input="search", tools=[{"type": "web_search"}])).status == 200
        assert _code(await _responses(bed, **body)) == "DATA_CLASS_DENIED"


async def test_a_tool_of_the_provider_whose_label_is_denied_may_not_be_declared(
    tmp_path: Path, provider: Provider
) -> None:
    contract = _contract(**{**SEARCHED, "data_classes_denied": ["internal"]})
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        before = len(provider.seen())
        assert _code(await _responses(bed, input="hi", tools=[{"type": "web_search"}])) == "DATA_CLASS_DENIED"
        assert len(provider.seen()) == before


async def test_a_result_whose_tool_cannot_be_told_carries_all_labels(tmp_path: Path, provider: Provider) -> None:
    contract = _contract(data_classes_denied=["confidential"], **LABELS)
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        body = json.loads(_turn())
        body["messages"][2]["tool_call_id"] = "unknown"
        answer = await bed.post("/openai/v1/chat/completions", json.dumps(body).encode())
        assert _code(answer) == "DATA_CLASS_DENIED"


async def test_a_contract_that_names_an_unknown_class_is_refused(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider, contract=_boundaries(fingerprints="deny")) as bed:
        assert _code(await bed.chat()) == "WPC_UNENFORCEABLE"


class _Failing(Scanner):
    def scan(self, *args: Any, **more: Any) -> Any:
        raise ZeroDivisionError


class _Slow(Scanner):
    def scan(self, document: Any, wanted: Any, late: Any = lambda: False) -> Any:
        while not late():
            pass
        return super().scan(document, wanted, late)


@pytest.mark.parametrize("kind", [_Failing, _Slow])
async def test_a_look_that_fails_or_takes_too_long_refuses(
    tmp_path: Path, provider: Provider, kind: type[Scanner]
) -> None:
    sections = {"data": {"scan_budget_ms": 50}}
    async with running_bed(tmp_path / "s", provider, contract=_boundaries(email="redact"), sections=sections) as bed:
        bed.gateway.data._make_scanner = lambda classes: kind(classes.detectors())
        before = len(provider.seen())
        for text in ("hello", "hello " * 4000):
            assert _code(await bed.chat(text)) == "DATA_SCAN_FAILED"
        assert len(provider.seen()) == before


async def test_without_the_look_a_denied_class_reaches_the_provider(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_gate.DataGate, "judge", lambda self, call: None)
    async with running_bed(tmp_path / "s", provider, contract=_boundaries(payment_cards="deny")) as bed:
        assert (await bed.chat(CARD)).status == 200


# -- answers -----------------------------------------------------------------------------------------------------


async def _answered(bed: Bed, *, stream: bool) -> Any:
    return await bed.chat("model:10.20.30.40", stream=stream)


@pytest.mark.parametrize(("word", "shown"), [("deny", None), ("redact", "[redacted:ip_addresses]")])
async def test_a_class_in_a_whole_answer_is_denied_or_redacted(
    tmp_path: Path, provider: Provider, word: str, shown: str | None
) -> None:
    contract = _boundaries(ip_addresses=word)
    async with running_bed(tmp_path / "s", provider, contract=contract, wrap_steps=_blind_to_requests) as bed:
        answer = await _answered(bed, stream=False)
        assert b"4111111111111111" not in answer.body
        if shown is None:
            assert (answer.status, _code(answer)) == (403, "DATA_CLASS_DENIED")
            assert bed.records("receipt")[0]["metadata"]["clawproxy"]["outcome"] == "stopped"
        else:
            assert json.loads(answer.body)["model"] == shown
        assert "10.20.30.40" not in json.dumps(bed.records("receipt"))


@pytest.mark.parametrize("word", ["deny", "mask"])
async def test_a_class_in_a_stream_cuts_it(tmp_path: Path, provider: Provider, word: str) -> None:
    contract = _boundaries(ip_addresses=word)
    async with running_bed(tmp_path / "s", provider, contract=contract, wrap_steps=_blind_to_requests) as bed:
        answer = await _answered(bed, stream=True)
        assert b"4111111111111111" not in answer.body
        assert not answer.complete or answer.status != 200
        await bed.settled()
        [receipt] = bed.records("receipt")
        assert receipt["metadata"]["clawproxy"]["outcome"] == "stopped"
        assert receipt["metadata"]["clawproxy"]["detail"].startswith("DATA_CLASS_DENIED")


def _blind_to_requests(real: Any) -> Any:
    """The steps, without the look at requests: so that a word to the stand-in can ask for data in its answer."""

    def decide(call: Call) -> Any:
        judge, real._models.data.judge = real._models.data.judge, lambda _: None
        try:
            return real.decide(call)
        finally:
            real._models.data.judge = judge

    return Without(real, decide=decide)


# -- sockets -----------------------------------------------------------------------------------------------------


async def test_a_message_of_a_socket_is_denied_or_redacted(tmp_path: Path, provider: Provider) -> None:
    contract = _boundaries(payment_cards="deny", email="mask")
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed, opened(bed) as socket:
        await socket.send(create(f"write to {MAIL}"))
        assert (await until(socket, "response.completed"))[-1]["type"] == "response.completed"
        receipt = bed.records("receipt")[-1]
        sent = json.dumps(json.loads(create("write to [redacted:email]")), separators=(",", ":")).encode()
        assert receipt["request_hash_b64u"] == _digest(sent)
        await socket.send(create(CARD))
        last = (await until(socket, "response.completed"))[-1]
        assert last["error"]["code"] == "DATA_CLASS_DENIED"


async def test_what_was_said_before_on_a_socket_decides_which_tool_may_see_it(
    tmp_path: Path, provider: Provider
) -> None:
    access = {"allowed_tools": ["wiki_search"], "tool_data_access": {"wiki_search": ["internal"]}}
    contract = {**_boundaries(email="redact_in_logs"), **access}
    tools = [{"type": "function", "name": "wiki_search", "parameters": {}}]
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed, opened(bed) as socket:
        await socket.send(create("tool:wiki_search", tools=tools))
        assert (await until(socket, "response.completed"))[-1]["type"] == "response.completed"
        await socket.send(create(f"write to {MAIL}"))
        assert (await until(socket, "response.completed"))[-1]["type"] == "response.completed"
        await socket.send(create("tool:wiki_search", tools=tools))
        assert (await until(socket, "response.completed"))[-1]["error"]["code"] == "DATA_CLASS_DENIED"


# -- exports -----------------------------------------------------------------------------------------------------


async def _export(bed: Bed, port: int, target: str, body: bytes, **fields: str) -> Any:
    client = await bed.client("regular")
    auth = _basic(bed.token())
    await client.send(
        f"CONNECT localhost:{port} HTTP/1.1\r\nhost: localhost:{port}\r\nproxy-authorization: {auth}\r\n\r\n".encode()
    )
    assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    await client.start_tls(ssl.create_default_context(cafile=bed.gateway.ca_file), "localhost")
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return await client.request("POST", target, {"host": f"localhost:{port}", **named}, body)


EXPORTS: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "labelled text in the body": ("/v1/a", json.dumps({"note": SECRET_LINE}).encode(), {}),
    "labelled text in an upload": ("/v1/a", b"--x\r\n\r\n" + SECRET_LINE.encode() + b"\r\n--x--", {}),
    "a detected class in the body": ("/v1/a", MAIL.encode(), {}),
    "a detected class in the path": (f"/v1/{MAIL}", b"x", {}),
    "a detected class in the query": ("/v1/a?card=4111111111111111", b"x", {}),
    "a detected class in a field": ("/v1/a", b"x", {"x_note": MAIL}),
    "a compressed body": ("/v1/a", b"\x1f\x8b\x08\x00abc", {"content_encoding": "gzip"}),
    "an archive": ("/v1/a", b"PK\x03\x04abc", {}),
    "two-byte text": ("/v1/a", MAIL.encode("utf-16"), {}),
    "labelled text in the query": (f"/v1/a?n=1&q={quote(SECRET_LINE)}", b"x", {}),
    "labelled text in the path": (f"/v1/{SECRET_LINE.replace(' ', '-')}", b"x", {}),
    "labelled text in a form": ("/v1/a", f"n=1&q={quote_plus(SECRET_LINE)}".encode(), {}),
    "labelled text in a field": ("/v1/a", b"x", {"x_note": f"a=1; b={quote(SECRET_LINE)}"}),
    "labelled two-byte text": ("/v1/a", SECRET_LINE.encode("utf-16"), {}),
    "labelled text in a cookie": ("/v1/a", b"x", {"cookie": f"a=1; b={quote(SECRET_LINE)}"}),
    "a card in a cookie": ("/v1/a", b"x", {"cookie": "a=1; b=4111111111111111"}),
    "a detected class behind a key that comes again": (
        "/v1/a",
        json.dumps({"n": MAIL})[:-1].encode() + b', "n": "x"}',
        {},
    ),
    "labelled text behind a key that comes again": ("/v1/a", f'[{{"n": "{SECRET_LINE}", "n": 1}}]'.encode(), {}),
    "labelled text behind a key that comes again, in a large body": (
        "/v1/a",
        f'[{{"n":"{SECRET_LINE}","n":1}}{",1" * 100_001}]'.encode(),
        {},
    ),
    "a detected class in a field that comes again": ("/v1/a", b"x", {"x_note": MAIL, "X_Note": "x"}),
    "labelled text in a cookie that comes again": (
        "/v1/a",
        b"x",
        {"cookie": quote(SECRET_LINE), "Cookie": "a=1"},
    ),
    "a card in a cookie that comes again": ("/v1/a", b"x", {"cookie": "b=4111111111111111", "Cookie": "a=1"}),
    "an address in JSON with half a letter, deep down": (
        "/v1/a",
        f'["\\ud83d", {"[" * 90}"{MAIL}"{"]" * 91}'.encode(),
        {},
    ),
    "an address in JSON too deep to read": ("/v1/a", b"[" * 99_999 + f'"{MAIL}"'.encode() + b"]" * 99_999, {}),
    "a detected class in base64 in the path": (f"/v1/{base64.b64encode(MAIL.encode()).decode()}", b"x", {}),
    "labelled text as a credential": ("/v1/a", b"x", {"authorization": f"Bearer {quote(SECRET_LINE)}"}),
}


@pytest.mark.parametrize("name", EXPORTS)
async def test_marked_data_is_not_exported(tmp_path: Path, provider: Provider, name: str) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with tool_server(Path(provider.ca).parent) as tool:
        listed = [{"host": "localhost", "port": tool.port, "methods": ["POST"], "paths": ["/v1/*"]}]
        listed[0] |= {"client_credentials": True}
        contract = _contract(data_boundaries={"export": "deny"}, egress_allowlist=listed, **LABELS)
        sections = {"egress_private": [f"localhost:{tool.port}"]}
        async with running_bed(tmp_path / "s", provider, contract=contract, sections=sections, resolve=resolve) as bed:
            assert (await bed.post("/openai/v1/chat/completions", _turn())).status == 200
            own = {"authorization": "Bearer tok_9fK2mQ7xLr4TzW8sVb1N", "cookie": "sid=8aXb2LqPz81mNbYcRw7Hs91"}
            assert (await _export(bed, tool.port, "/v1/a", b"nothing to see", **own)).status == 200
            target, body, fields = EXPORTS[name]
            answer = await _export(bed, tool.port, target, body, **fields)
            assert (answer.status, _code(answer)) == (403, "DATA_EXPORT_DENIED")
            assert len(tool.requests) == 1


# -- logs --------------------------------------------------------------------------------------------------------


async def test_logs_denials_and_receipts_are_free_of_what_is_redacted_there(
    tmp_path: Path, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    contract = {**_boundaries(pii="redact_in_logs"), "allowed_models": ["gpt-4o-mini"]}
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        assert (await bed.chat(f"my address is {MAIL}")).status == 200
        denied = [
            await bed.chat("x", model=MAIL),
            await bed.chat("x", tools=[{"type": "function", "function": {"name": MAIL, "parameters": {}}}]),
            await bed.post("/openai/v1/chat/completions", f'{{"{MAIL}": 1}}'.encode()),
            await bed.post("/openai/v1/chat/completions", chat_body(), bed.headers(x_idempotency_key=MAIL)),
            await bed.post("/openai/v1/chat/completions", f'{{"model": "gpt-4o-mini", "x": "{MAIL}'.encode()),
        ]
        assert [answer.status >= 400 for answer in denied] == [True] * 5
        await bed.chat(f"model:{MAIL}")
        await bed.chat("tool:4111111111111111")  # the answer calls a tool of this name
        logging.getLogger("clawproxy.test").error("a fault about %s", MAIL)
        try:
            raise ValueError(MAIL)
        except ValueError:
            logging.getLogger("elsewhere").exception("a trace")
    written = b"".join(path.read_bytes() for path in (tmp_path / "s").rglob("*.jsonl"))
    assert MAIL.encode() not in written
    assert b"4111111111111111" not in written
    assert MAIL not in caplog.text
    assert "[redacted:email]" in caplog.text
    assert not [answer for answer in denied if MAIL.encode() in answer.body]


async def test_without_the_redaction_of_logs_an_address_stands_there(
    tmp_path: Path, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_bed(tmp_path / "s", provider):
        logging.getLogger("clawproxy.test").error("a fault about %s", MAIL)
    assert MAIL in caplog.text


# -- the reference's rules ---------------------------------------------------------------------------------------


async def test_rules_of_wpc_v1_are_carried_out_or_the_call_is_refused(tmp_path: Path, provider: Provider) -> None:
    contract = {
        "policy_version": "1",
        "policy_id": "v1",
        "issuer_did": "did:web:reviewer.example",
        "allowed_providers": ["openai"],
        "allowed_models": ["gpt-4o-mini"],
        "redaction_rules": [{"path": "$.user", "action": "mask"}],
    }
    async with running_bed(tmp_path / "s", provider, contract=contract) as bed:
        assert (await bed.chat(user="ada")).status == 200
        expected = json.dumps({**json.loads(chat_body()), "user": "[REDACTED]"}, separators=(",", ":")).encode()
        assert provider.seen()[-1]["body_sha256_b64u"] == _digest(expected)
        assert bed.records("receipt")[0]["metadata"]["clawproxy"]["data"]["paths"] == [{"count": 1, "of": "mask"}]
        assert _code(await bed.chat()) == "DATA_SCAN_FAILED"
