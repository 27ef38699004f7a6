"""Real namespaces, real rules, real programs: what runs in a job's namespace knows of no gateway and needs no token."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from clawproxy.receipts.report import Verdict
from clawproxy.receipts.side_traffic import refused_hosts
from clawproxy.receipts.verify import verify_path

from ..clawproxy.standin_process import Provider
from ..waiting import until
from .bed import Bed, running_bed
from .namespace_rig import caged, needs_namespaces, run_inside

pytestmark = needs_namespaces

SDKS = """
import json, anthropic, openai
client = openai.OpenAI(api_key="unused")
chat = client.chat.completions
messages = [{"role": "user", "content": "hello events:4"}]
plain = chat.create(model="gpt-4o-mini", messages=messages)
chunks = list(chat.create(model="gpt-4o-mini", messages=messages, stream=True))
other = anthropic.Anthropic(api_key="unused")
claude = other.messages.create(model="claude-sonnet-5-5", max_tokens=50, messages=messages)
try:
    chat.create(model="gpt-4o", messages=messages)
except openai.PermissionDeniedError as err:
    refused = err.body["clawproxy"]["reason"]
print(json.dumps([plain.choices[0].message.content != "", len(chunks) > 2, claude.stop_reason, refused]))
"""
FAMILIES = """
import json, socket, ssl
trust = ssl.create_default_context()
found = []
for family in (socket.AF_INET, socket.AF_INET6):
    address = socket.getaddrinfo("api.openai.com", 443, family, socket.SOCK_STREAM)[0][4]
    tls = trust.wrap_socket(socket.create_connection(address[:2], 5), server_hostname="api.openai.com")
    tls.sendall(b"GET /v1/models HTTP/1.1\\r\\nhost: api.openai.com\\r\\nauthorization: Bearer unused\\r\\n\\r\\n")
    found.append([address[0], tls.recv(15).decode()])
print(json.dumps(found))
"""
ATTEMPTS = """
import json, socket, time
found = {}
def attempt(name, host, port, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    began = time.monotonic()
    sock = socket.socket(family, kind)
    sock.settimeout(5)
    try:
        sock.connect((host, port))
        if kind == socket.SOCK_DGRAM:
            sock.send(b"x")
        data = sock.recv(10)
        outcome = "nothing" if not data else "answered"
    except OSError as err:
        outcome = type(err).__name__
    found[name] = (outcome, time.monotonic() - began < 4.5)
attempt("public", "1.1.1.1", 443)
attempt("public6", "2606:4700:4700::1111", 443, socket.AF_INET6)
attempt("metadata", "169.254.169.254", 80)
attempt("door listener", "198.18.0.1", 8082)
attempt("door other", "198.18.0.1", 22)
attempt("unnamed", "198.18.99.9", 443)
attempt("unnamed6", "fd63:6c61:7770:1::9999", 443, socket.AF_INET6)
attempt("quic", socket.gethostbyname("api.openai.com"), 443, kind=socket.SOCK_DGRAM)
attempt("ssh", socket.gethostbyname("api.openai.com"), 22)
for name in ("statsig.example", "api.tickets.example"):
    try:
        socket.getaddrinfo(name, 443)
        found[name] = ("resolved", True)
    except socket.gaierror as err:
        found[name] = (err.errno == socket.EAI_NONAME, True)
print(json.dumps(found))
"""


def _environment(bed: Bed) -> dict[str, str]:
    return {"SSL_CERT_FILE": str(bed.gateway.ca_file)}


async def test_sdks_that_know_of_no_gateway_work_and_the_bundle_verifies(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        async with caged(bed, tmp_path / "cage") as (inside, _):
            told = json.loads((await inside.run(SDKS, **_environment(bed))).splitlines()[-1])
        assert told == [True, True, "end_turn", "POLICY_MODEL_NOT_ALLOWED"]
        await bed.gateway.seal("caged")
        ways = {(i["detail"]["way_in"], i["detail"]["presenter"]) for i in bed.records("intent", "caged")}
        assert ways == {("transparent", "namespace:caged")}
        assert bed.refusals() == []
        report = verify_path(bed.state / "jobs" / "caged", bed.trust())
        assert report.verdict is Verdict.VERIFIED, report
        assert report.facts["containment"].startswith("isolated: 1 leak probes blocked")


async def test_both_families_lead_through_the_door(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, caged(bed, tmp_path / "cage") as (inside, door):
        found = json.loads((await inside.run(FAMILIES, **_environment(bed))).splitlines()[-1])
        assert [address for address, _ in found] == [str(a) for a in door.names.addresses("api.openai.com") or ()]
        assert {status for _, status in found} == {"HTTP/1.1 200 OK"}


async def test_everything_else_is_refused_fast_and_stands_in_the_job(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, caged(bed, tmp_path / "cage") as (inside, _):
        found = json.loads((await inside.run(ATTEMPTS)).splitlines()[-1])
        slow = [name for name, (_, fast) in found.items() if not fast]
        assert slow == []
        assert found.pop("statsig.example")[0] is True
        assert found.pop("api.tickets.example")[0] is True
        assert {outcome for outcome, _ in found.values()} <= {
            "ConnectionRefusedError", "ConnectionResetError", "OSError", "PermissionError", "nothing",
        }, found  # fmt: skip
        wanted = {"198.18.99.9", "fd63:6c61:7770:1::9999", "statsig.example", "api.openai.com"}
        await until(lambda: wanted <= {host.host for host in refused_hosts(bed.records("denial", "caged"))})
        assert bed.refusals() == []


async def test_two_jobs_never_mix(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed:
        async with (
            caged(bed, tmp_path / "one", "one") as (first, _),
            caged(bed, tmp_path / "two", "two") as (second, _),
        ):
            await asyncio.gather(first.run(SDKS, **_environment(bed)), second.run(SDKS, **_environment(bed)))
        for job_id in ("one", "two"):
            intents = [i["detail"] for i in bed.records("intent", job_id)]
            assert [i["presenter"] for i in intents] == [f"namespace:{job_id}"] * 3


async def test_without_the_rules_nothing_is_redirected_and_nothing_gets_in(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, caged(bed, tmp_path / "cage") as (inside, door):
        await asyncio.to_thread(run_inside, inside.door, "nft", "flush", "ruleset")
        script = ATTEMPTS.replace('socket.gethostbyname("api.openai.com")', repr(str(_address(door))))
        found = json.loads((await inside.run(script)).splitlines()[-1])
        assert not [name for name, (outcome, _) in found.items() if outcome in ("answered", "resolved")]
        # the listener, dialled
        await until(lambda: "CONNECTION_REFUSED" in {d["reason"] for d in bed.records("denial", "caged")})


def _address(door: object) -> object:
    found = door.names.addresses("api.openai.com")  # type: ignore[attr-defined]
    return found[0]


async def test_the_namespaces_have_no_link_but_each_other(tmp_path: Path, provider: Provider) -> None:
    async with running_bed(tmp_path / "s", provider) as bed, caged(bed, tmp_path / "cage") as (inside, _):
        for holder in (inside.door, inside.job):
            told = await asyncio.to_thread(run_inside, holder, "ip", "-o", "link")
            assert len(told.splitlines()) == 2, told
