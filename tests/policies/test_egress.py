"""Where calls of tools may go: the list as a contract writes it, a target in its one form, the decision."""

from __future__ import annotations

from typing import Any

import pytest
from clawproxy.policies.egress import EgressAllow, EgressFacts, decide_egress, parse_target
from clawproxy.policies.policy import Policy
from clawproxy.tokens.errors import ClawproxyError
from clawproxy.tokens.reasons import Refusal
from hypothesis import given
from hypothesis import strategies as st

from .makers import claw, policy_of


def _policy(*entries: dict[str, Any]) -> Policy:
    return policy_of(claw(egress_allowlist=list(entries)))


def _judge(policy: Policy, url: str, method: str = "GET") -> EgressAllow | Refusal:
    scheme, _, rest = url.partition("://")
    authority, slash, target = rest.partition("/")
    host, _, port = authority.partition(":")
    read = parse_target(slash + target)
    assert not isinstance(read, Refusal), read
    facts = EgressFacts(scheme, host, int(port or (443 if scheme == "https" else 80)), method, *read)
    return decide_egress(facts, policy)


TICKETS = {"host": "tickets.example.com", "methods": ["GET", "POST"], "paths": ["/v1/*", "/health"]}


@pytest.mark.parametrize(
    "url",
    ["https://tickets.example.com/v1/", "https://tickets.example.com/v1/a/b?q=1", "https://tickets.example.com/health"],
)
def test_a_listed_host_method_and_path_is_allowed(url: str) -> None:
    assert isinstance(_judge(_policy(TICKETS), url), EgressAllow)


@pytest.mark.parametrize(
    ("url", "method"),
    [
        ("https://tickets.example.com/v1", "GET"),
        ("https://tickets.example.com/v10/a", "GET"),
        ("https://tickets.example.com/health/x", "GET"),
        ("https://tickets.example.com/v1/a", "DELETE"),
        ("https://tickets.example.com:8443/v1/a", "GET"),
        ("http://tickets.example.com/v1/a", "GET"),
        ("http://tickets.example.com:443/v1/a", "GET"),
        ("https://example.com/v1/a", "GET"),
        ("https://xtickets.example.com/v1/a", "GET"),
        ("https://a.tickets.example.com/v1/a", "GET"),
        ("https://tickets.example.com.evil.test/v1/a", "GET"),
    ],
)
def test_anything_else_is_refused(url: str, method: str) -> None:
    refusal = _judge(_policy(TICKETS), url, method)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.step, refusal.status) == ("EGRESS_NOT_ALLOWED", "decide", 403)
    assert "egress_allowlist" in refusal.rule


def test_get_alone_and_https_are_what_an_entry_allows_that_does_not_say() -> None:
    policy = _policy({"host": "a.example.com", "paths": ["/*"]})
    assert isinstance(_judge(policy, "https://a.example.com/"), EgressAllow)
    assert isinstance(_judge(policy, "https://a.example.com/", "POST"), Refusal)
    assert isinstance(_judge(policy, "http://a.example.com/"), Refusal)


def test_no_list_and_an_empty_list_allow_nothing() -> None:
    for policy in (policy_of(claw()), _policy(), _policy({"host": "a.example.com", "paths": []})):
        assert isinstance(_judge(policy, "https://a.example.com/"), Refusal)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("a.example.com", True),
        ("a.b.example.com", True),
        ("example.com", False),
        ("aexample.com", False),
        ("example.com.evil.test", False),
        (".example.com", False),
        ("A.example.com", False),
        ("a.example.com.", False),
    ],
)
def test_a_pattern_is_for_the_names_below_it_alone(host: str, allowed: bool) -> None:
    policy = _policy({"host": "*.example.com", "paths": ["/*"]})
    assert isinstance(_judge(policy, f"https://{host}/"), EgressAllow) is allowed


def test_an_address_is_reached_only_where_it_is_listed_itself() -> None:
    policy = _policy(
        {"host": "203.0.113.7", "scheme": "http", "paths": ["/*"]}, {"host": "*.example.com", "paths": ["/*"]}
    )
    assert isinstance(_judge(policy, "http://203.0.113.7/"), EgressAllow)
    for other in ("203.0.113.8", "203.0.113.07", "0xcb007107", "3405803783"):
        assert isinstance(_judge(policy, f"http://{other}/"), Refusal)


def test_the_first_entry_that_takes_host_method_and_path_counts() -> None:
    policy = _policy(
        {"host": "a.example.com", "paths": ["/one"]},
        {"host": "*.example.com", "methods": ["POST"], "paths": ["/*"], "credential": "crm"},
        {"host": "a.example.com", "paths": ["/*"], "client_credentials": True},
    )
    found = _judge(policy, "https://a.example.com/two")
    assert isinstance(found, EgressAllow)
    assert (found.entry.index, found.entry.client_credentials, found.entry.credential) == (2, True, None)


@pytest.mark.parametrize(
    ("paths", "path", "allowed"),
    [
        (["/*"], "/@types%2fnode", True),
        (["/*"], "/v1/a%2Fb", True),
        (["/v1/*"], "/v1/a%2Fb", False),
        (["/v1/*", "/v1/a/*"], "/v1/a%2fb", False),
        (["/v1/*"], "/v1/a%2Fb/c", False),
        (["/v1/a%2Fb"], "/v1/a%2Fb", True),
        (["/v1/a%2Fb"], "/v1/a%2fb", False),
        (["/v1/a%2Fb"], "/v1/a/b", False),
        (["/v1/a/b"], "/v1/a%2Fb", False),
        (["/v1/a%2Fb/*"], "/v1/a%2Fb/c", True),
        (["/v1/a%2Fb/*"], "/v1/a%2Fb/c%2Fd", False),
        (["/v1/a%2Fb/*"], "/v1/a/b/c", False),
    ],
)
def test_an_escaped_slash_passes_where_a_path_states_it_or_all_may(paths: list[str], path: str, allowed: bool) -> None:
    policy = _policy({"host": "a.example.com", "paths": paths})
    assert isinstance(_judge(policy, f"https://a.example.com{path}"), EgressAllow) is allowed


@pytest.mark.parametrize(
    ("first", "path", "credential"),
    [
        ({"paths": ["/user/*"]}, "/user%2Fx", None),
        ({"paths": ["/user/x"]}, "/user%2fx", None),
        ({"paths": ["/a/user/*"]}, "/a%2Fuser/x", None),
        ({"paths": ["/user/*"], "credential": "other"}, "/user%2Fx", None),
        ({"paths": ["/user/*"], "client_credentials": True}, "/user%2Fx", None),
        ({"paths": ["/user/*"], "credential": "crm"}, "/user%2Fx", "crm"),
        ({"paths": ["/user/*"], "methods": ["POST"]}, "/user%2Fx", "crm"),
        ({"paths": ["/user/*"]}, "/other%2Fx", None),
        ({"paths": ["/user%2Fx"]}, "/user%2fx", None),
        ({"paths": ["/user%2Fx/*"]}, "/user%2fx/y", None),
        ({"paths": ["/user%2fx"], "credential": "crm"}, "/user%2Fx", "crm"),
    ],
)
def test_an_escaped_slash_is_stated_at_a_host_whose_paths_have_different_credentials(
    first: dict[str, Any], path: str, credential: str | None
) -> None:
    host = {"host": "a.example.com"}
    every = {**host, "paths": ["/*"], "credential": "crm"}
    found = _judge(_policy({**host, **first}, every), f"https://a.example.com{path}")
    assert (found.entry.credential if isinstance(found, EgressAllow) else None) == credential
    stating = _judge(_policy({**host, **first}, {**every, "paths": ["/*", path]}), f"https://a.example.com{path}")
    assert isinstance(stating, EgressAllow)
    assert stating.entry.credential == "crm"


def test_a_refusal_does_not_tell_the_path() -> None:
    refusal = _judge(_policy(TICKETS), "https://tickets.example.com/bot-secret-token/x")
    assert isinstance(refusal, Refusal)
    assert "secret" not in refusal.rule + refusal.detail


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"host": "a.example.com"}, "paths"),
        ({"paths": ["/*"]}, "host"),
        ({"host": "A.example.com", "paths": []}, "host"),
        ({"host": "a.example.com.", "paths": []}, "host"),
        ({"host": "*", "paths": []}, "host"),
        ({"host": "*.com", "paths": []}, "host"),
        ({"host": "a.*.com", "paths": []}, "host"),
        ({"host": "a.example.com:443", "paths": []}, "host"),
        ({"host": "10.0.0.1", "paths": []}, "host"),
        ({"host": "127.1", "scheme": "http", "paths": []}, "host"),
        ({"host": "a.example.com", "paths": ["v1"]}, "paths[0]"),
        ({"host": "a.example.com", "paths": ["*"]}, "paths[0]"),
        ({"host": "a.example.com", "paths": ["/v1*"]}, "paths[0]"),
        ({"host": "a.example.com", "paths": ["/a/../b"]}, "paths[0]"),
        ({"host": "a.example.com", "paths": ["/a?b=c"]}, "paths[0]"),
        ({"host": "a.example.com", "paths": ["/%2e/*"]}, "paths[0]"),
        ({"host": "a.example.com", "paths": [], "methods": []}, "methods"),
        ({"host": "a.example.com", "paths": [], "methods": ["get"]}, "methods[0]"),
        ({"host": "a.example.com", "paths": [], "methods": ["CONNECT"]}, "methods[0]"),
        ({"host": "a.example.com", "paths": [], "scheme": "ftp"}, "scheme"),
        ({"host": "a.example.com", "paths": [], "port": 0}, "port"),
        ({"host": "a.example.com", "paths": [], "scheme": "http", "credential": "crm"}, "credential"),
        ({"host": "a.example.com", "paths": [], "credential": "crm", "client_credentials": True}, "client_credentials"),
        ({"host": "a.example.com", "paths": [], "ports": [1]}, ""),
    ],
)
def test_an_entry_that_could_be_read_in_two_ways_is_no_contract(entry: dict[str, Any], where: str) -> None:
    with pytest.raises(ClawproxyError) as caught:
        _policy(entry)
    assert caught.value.reason == "WPC_INVALID"
    assert caught.value.where == f"egress_allowlist[0]{'.' if where else ''}{where}"


@pytest.mark.parametrize(
    "target",
    [
        "",
        "*",
        "v1",
        "//",
        "//a",
        "/a//b",
        "/.",
        "/..",
        "/a/../b",
        "/a/./b",
        "/a\\b",
        "/a;b",
        "/a b",
        "/a\x00",
        "/é",
        "/a#b",
        "/%",
        "/%2",
        "/%zz",
        "/%2F",
        "/%2f",
        "/a%2F",
        "/a%2F/b",
        "/a/%2Fb",
        "/a%2F%2fb",
        "/a%2F..%2Fb",
        "/a%2f.",
        "/..%2fb",
        "/%2E%2E%2Fb",
        "/a%252fb",
        "/v1/..%3Fx",
        "/v1/..%23/x",
        "/v1/a%2F.%3F",
        "/a%5Cb",
        "/%5C",
        "/%5c",
        "/%00",
        "/%0A",
        "/%2e%2e/",
        "/%2E%2E/",
        "/%41",
        "/%3B",
        "/%25",
        "/%252F",
        "/%c3%a9",
        "/%C3",
        "/%C0%AF",
        "/%EF%BC%8F",
        "/%EF%BC%8E%EF%BC%8E/",
        "/a?b#c",
        "/a?b c",
        "/a?%",
        "/a?%0",
        "/a?%00",
        "/a?b\\c",
        "/a?<x>",
        "/" + "a" * 9000,
    ],
)
def test_a_target_with_two_readings_is_refused(target: str) -> None:
    read = parse_target(target)
    assert isinstance(read, Refusal)
    assert read.reason == "REQUEST_AMBIGUOUS"


@pytest.mark.parametrize(
    ("target", "read"),
    [
        ("/", ("/", "")),
        ("/a/", ("/a/", "")),
        ("/a...b/.well-known/~x", ("/a...b/.well-known/~x", "")),
        ("/a%20b/%C3%A9", ("/a%20b/%C3%A9", "")),
        ("/@types%2fnode", ("/@types%2fnode", "")),
        ("/a/b%2Fc%20d/e/", ("/a/b%2Fc%20d/e/", "")),
        ("/users/a@b.c/x,y=z:1", ("/users/a@b.c/x,y=z:1", "")),
        ("/a?q=%2Fx%2e&r[]=1&s=a/b?c;d", ("/a", "q=%2Fx%2e&r[]=1&s=a/b?c;d")),
    ],
)
def test_a_target_with_one_reading_passes_as_it_is(target: str, read: tuple[str, str]) -> None:
    assert parse_target(target) == read


@given(st.text(alphabet="/.%2FfEe5Cc;\\a?", max_size=24))
def test_what_passes_has_no_way_up_however_often_it_is_decoded(tail: str) -> None:
    from urllib.parse import unquote

    read = parse_target("/" + tail)
    if not isinstance(read, Refusal):
        once = unquote(read[0])
        assert once == unquote(once)
        assert not {"..", "."} & set(once.replace("\\", "/").replace(";", "/").split("/"))
        assert "//" not in once
