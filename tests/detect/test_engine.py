"""The engine: where a finding stands in the document, whatever it was hidden in; bounds; classes of data."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from clawproxy.policies.data_rules import Action
from clawproxy.policies.detect.classes import load_data_classes
from clawproxy.policies.detect.detectors import DETECTORS
from clawproxy.policies.detect.engine import ScanError, Scanner
from clawproxy.policies.detect.redact import redact_document
from clawproxy.policies.packaged import packaged_data_classes
from clawproxy.tokens.errors import ClawproxyError
from hypothesis import given, settings
from hypothesis import strategies as st

from ..cpu import ROUNDS, least_cpu_s

ALL = frozenset(DETECTORS)
CARD = "4111 1111 1111 1111"
KEY = "AKIAQ3EGRWVLB7TXNZ2K"


@pytest.fixture(scope="module", params=[True, False], ids=["hyperscan", "without"])
def scanner(request: pytest.FixtureRequest) -> Scanner:
    return Scanner(DETECTORS.values(), fast=request.param)


def found(scanner: Scanner, document: Any, wanted: frozenset[str] = ALL) -> list[tuple[str, list[str]]]:
    scan = scanner.scan(document, wanted)
    return [(one.detector, [scan.leaves[n].text[a:b] for n, a, b in one.pieces]) for one in scan.findings]


def cleaned(scanner: Scanner, document: Any) -> Any:
    redact_document(scanner.scan(document, ALL), lambda one: (one.detector, Action.MASK), b"k")
    return document


def test_the_span_is_that_of_the_text_as_it_stands(scanner: Scanner) -> None:
    assert found(scanner, {"a": f"x {CARD}, y"}) == [("payment_card", [CARD])]
    assert found(scanner, {"a": "x 4111\u200b\u00a01111 １１１１ 1111 y"}) == [
        ("payment_card", ["4111\u200b\u00a01111 １１１１ 1111"])
    ]
    assert found(scanner, {"a": 4111111111111111}) == [("payment_card", ["4111111111111111"])]
    assert found(scanner, {CARD: 1}) == [("payment_card", [CARD])]


def test_escapes_percent_and_base64_are_undone_once(scanner: Scanner) -> None:
    assert found(scanner, ['{"n":"\\u0034111111111111111"}']) == [("payment_card", ["\\u0034111111111111111"])]
    assert found(scanner, ["n=4111%201111%201111%201111&m"]) == [("payment_card", ["4111%201111%201111%201111"])]
    once = base64.b64encode(f"key {KEY} end".encode()).decode()
    [(name, [piece])] = found(scanner, [f"data {once} end"])
    assert (name, piece) == ("aws_access_key", once.rstrip("="))
    for junk in ("x", "xy", "xyz"):  # in front of it, so that it begins elsewhere
        assert [one for one, _ in found(scanner, [f"{junk}{once}"])] == ["aws_access_key"]
    lines = "\n".join(once[n : n + 10] for n in range(0, len(once), 10))
    assert [one for one, _ in found(scanner, [lines])] == ["aws_access_key"]
    assert found(scanner, [base64.b64encode(once.encode()).decode()]) == []


def test_what_is_split_over_neighbours_is_found_and_taken_out_of_both(scanner: Scanner) -> None:
    document = {"parts": [{"type": "text", "text": f"key {KEY[:9]}"}, {"type": "text", "text": f"{KEY[9:]} end"}]}
    assert found(scanner, document) == [("aws_access_key", [KEY[:9], KEY[9:]])]
    assert [part["text"] for part in cleaned(scanner, document)["parts"]] == ["key [redacted:aws_access_key]", " end"]
    assert found(scanner, {"rows": [{"n": "41111111"}, {"n": "11111111"}]}) == [], "columns of numbers are no card"


def test_a_key_of_an_object_is_renamed_and_a_number_becomes_a_text(scanner: Scanner) -> None:
    assert cleaned(scanner, {CARD: 4111111111111111, "b": 1}) == {
        "[redacted:payment_card]": "[redacted:payment_card]", "b": 1,
    }  # fmt: skip


def test_many_keys_that_become_the_same_one_are_renamed_in_time(scanner: Scanner) -> None:
    documents = [{f"a{n}@example.org": n for n in range(6000)} for _ in range(ROUNDS)]
    document, scans = documents[0], iter([scanner.scan(one, ["email"]) for one in documents])

    def redacted() -> None:
        redact_document(next(scans), lambda one: (one.detector, Action.MASK), b"k")

    assert least_cpu_s(redacted, below_s=1) < 1
    assert len(document) == 6000
    assert list(document)[:3] == ["[redacted:email]", "[redacted:email]#2", "[redacted:email]#3"]


def test_a_finding_is_told_once_however_often_the_text_is_rendered(scanner: Scanner) -> None:
    text = "one a@analytical.org\\n two b@analytical.org %41 three"
    assert [name for name, _ in found(scanner, [text])] == ["email", "email"]


def test_the_deadline_ends_a_look(scanner: Scanner) -> None:
    with pytest.raises(ScanError):
        scanner.scan(["text"], ALL, lambda: True)
    late = iter([False] * 3 + [True] * 1000)
    with pytest.raises(ScanError):
        scanner.scan(["a@b.org " * 1000], ALL, lambda: next(late))


def test_too_many_findings_end_a_look(scanner: Scanner) -> None:
    with pytest.raises(ScanError):
        scanner.scan(["a@bc.de " * 21_000], ALL)


@pytest.mark.parametrize("bait", ["41 ", "1.1.1.1 ", "password ab12ab12 ", "%41", "\\n", "a@bc.de "])
def test_what_is_made_to_take_long_ends_by_its_work_and_not_by_the_clock(scanner: Scanner, bait: str) -> None:
    with pytest.raises(ScanError, match="takes more than it may"):
        scanner.scan([bait * (400_000 // len(bait))], ALL, lambda: False)


def test_a_long_list_of_numbers_and_many_addresses_are_within_the_work(scanner: Scanner) -> None:
    assert found(scanner, {"input": list(range(1000, 30_000))}) == []
    assert len(found(scanner, [f"row {n}: somebody.{n}@analytical.org, open\n" for n in range(3000)])) == 3000


def test_what_stands_in_the_middle_of_a_binary_in_base64_is_found(scanner: Scanner) -> None:
    noise = random.Random(3).randbytes
    for junk in range(4):
        text = base64.b64encode(noise(30_000 + junk) + f"\nthe key is {KEY} \n".encode() + noise(30_000)).decode()
        assert ("aws_access_key", [text.rstrip("=")]) in found(scanner, [f"{'.' * junk}{text}"])
    words = base64.b64encode(f"Größenmaß für Prüfgerät, Schlüssel: password: xK9!pq2Wz7, {CARD}".encode()).decode()
    assert {name for name, _ in found(scanner, [words])} >= {"assigned_secret", "payment_card"}
    two = [base64.b64encode(text.encode()).decode() for text in (f"first {KEY} end", "nothing here at all")]
    assert found(scanner, [" ".join(two)]) == [("aws_access_key", [two[0].rstrip("=")])]


def test_what_looks_like_an_address_within_a_binary_in_base64_is_none(scanner: Scanner) -> None:
    """Signatures of reasoning are sent in base64: one in 1,600 of them has such bytes somewhere."""
    for before, behind in ((b"\xc3\x28", b"\x99"), (b"\x07", b"\x02"), (b"\xff", b"\xe2\x82(")):
        raw = b"\x91" * 30 + before + b"b+%@xQ.de" + behind + b"\x91" * 30
        assert found(scanner, [base64.b64encode(raw).decode()]) == []
    random_bytes = random.Random(2221).randbytes(2500)
    assert found(scanner, [base64.b64encode(random_bytes).decode()]) == []
    for text in ("Größe: b@xq.de — für Ägypten", "b@xq.de", "ü b@xq.de ü"):
        assert [name for name, _ in found(scanner, [base64.b64encode(f"an die {text}".encode()).decode()])] == ["email"]


def test_base64_in_a_part_of_a_path_or_a_name_is_found(scanner: Scanner) -> None:
    for mail in ("b@xq.de", "ada@example.org", "ada.lovelace@example.org"):
        once = base64.urlsafe_b64encode(f"{mail}, an".encode()).decode().rstrip("=")
        for text in (f"https://h.example/v1/{once}", f"/v12/{once}/more", f"/{once}/of", f"file-{once}_v123.txt"):
            assert "email" in [name for name, _ in found(scanner, [text])], text


def test_a_time_in_milliseconds_is_no_number_of_a_person(scanner: Scanner) -> None:
    # South African numbers have a date, a 0 or 1, an 8 or 9, and a Luhn digit
    times = [str(n) for n in range(1_801_010_000_000, 1_801_010_020_000)]
    assert found(scanner, {"at": " ".join(times)}, frozenset({"za_id"})) == []
    assert found(scanner, "born 7903014883084") == [("za_id", ["7903014883084"])]


def test_of_long_neighbours_the_ends_are_joined(scanner: Scanner) -> None:
    prose = "some words of no meaning, " * 200
    one, other = f"{prose}key {KEY[:9]}", f"{KEY[9:]} end {prose}"
    assert found(scanner, [one, other]) == [("aws_access_key", [KEY[:9], KEY[9:]])]
    body = base64.b64encode(random.Random(5).randbytes(1200)).decode()
    lines = "\n".join(body[n : n + 64] for n in range(0, len(body), 64))
    parts = [
        f"{prose}\n-----BEGIN RSA PRIVATE KEY-----\n{lines[:700]}",
        f"{lines[700:]}\n-----END RSA PRIVATE KEY-----\n{prose}",
    ]
    spans = [piece for name, pieces in found(scanner, parts) if name == "private_key" for piece in pieces]
    assert any(piece.endswith(lines[:700]) for piece in spans)
    assert any(piece.startswith(lines[700:]) for piece in spans)
    assert "private_key" in {
        name for name, _ in found(scanner, [f"{prose}\n-----BEGIN RSA PRIV", f"ATE KEY-----\n{lines}{prose}"])
    }


@pytest.mark.parametrize(
    "text",
    [
        "AKIAXXXXXXXXXXXXXXXX", "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "sk-your-key-goes-here-0000000000",
        "password = os.environ['DB']", "password: ${SECRET_PASSWORD_1}", "4111 1111 1111 1112",
        "DE88370400440532013000",
        "000-12-3456", "666-12-3456", "image@2x.png", "1.2.3.4.5", "version 10.2.3.4", "127.0.0.1",
        "std::vector::iterator",
        "be95d24d-82a1-454c-8554-7d9d0b9e8d4d", "ee990845-0af5-48d2-a101-3eefd733230a",
        "ba8822ba-e20c-4a4a-8adf-f918c41a66d9", "2b0b8c12-ad91-4f32-8702-66c44155d7ef",
        "a5632a15-c231-45d9-be18-5630e149a837",
        "12:30:45", "2026-11-22 12:30:45", "-----BEGIN PUBLIC KEY-----\\nabc", "0.4111111111111111",
    ],
)  # fmt: skip
def test_near_misses_are_let_alone(scanner: Scanner, text: str) -> None:
    assert found(scanner, [text]) == []


def test_both_engines_find_the_same() -> None:
    one, other = Scanner(DETECTORS.values(), fast=True), Scanner(DETECTORS.values(), fast=False)
    dice = random.Random(7)
    seeds = [
        CARD,
        KEY,
        "a@b.org",
        "+49 170 1234567",
        "password: xK9!pq2Wz",
        "10.1.2.3",
        "\u200b",
        "%20",
        "\\n",
        "eyJ",
        "４",
    ]
    for _ in range(150):
        document = {"m": ["".join(dice.choices([*seeds, " ", "x", "\n", '"'], k=12)) for _ in range(3)]}
        assert found(one, document) == found(other, json.loads(json.dumps(document)))


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.text(max_size=40) | st.integers() | st.floats(allow_nan=False) | st.none() | st.booleans(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    )
)
def test_any_document_can_be_looked_through_and_redacted(document: Any) -> None:  # fmt: skip
    cleaned(_FAST, [document])


_FAST = Scanner(DETECTORS.values())


# -- classes -----------------------------------------------------------------------------------------------------


def test_every_detector_that_ships_stands_behind_a_class() -> None:
    classes = packaged_data_classes()
    assert {detector.name for detector in classes.detectors()} == set(DETECTORS)
    assert classes.behind("pii") >= classes.behind("regulated_pii") | classes.behind("contact_pii")
    assert not classes.behind("pii") & classes.behind("secrets")


def test_own_patterns_and_dictionaries_are_detectors() -> None:
    own = b"""
labels = ["embargoed"]
[patterns.case_number]
pattern = 'CASE-[0-9]{6}'
[dictionaries.code_names]
words = ["bluebird", "project lantern"]
[classes.ours]
detectors = ["case_number", "code_names"]
"""
    classes = load_data_classes(own, packaged_data_classes())
    assert "embargoed" in classes.labels
    for fast in (True, False):
        scanner = Scanner(classes.detectors(), fast=fast)
        text = {"a": "see CASE-123456 about Project  Lantern, not bluebirds"}
        assert [name for name, _ in found(scanner, text, classes.behind("ours"))] == ["case_number", "code_names"]


@pytest.mark.parametrize(
    "toml",
    [
        b"[classes.ours]\ndetectors = ['nothing']", b"[classes.ours]\n", b"[classes.pii]\ndetectors = ['email']",
        b"[patterns.email]\npattern = 'x'", b"[patterns.Bad]\npattern = 'x'", b"labels = ['secrets']", b"other = 1",
        "[patterns.ours]\npattern = 'ä'".encode(),
    ],
)  # fmt: skip
def test_a_file_of_classes_that_is_wrong_is_refused(toml: bytes) -> None:
    with pytest.raises(ClawproxyError) as caught:
        load_data_classes(toml, packaged_data_classes())
    assert caught.value.reason == "CONFIG_INVALID"


def test_a_pattern_that_needs_backtracking_is_refused() -> None:
    own = b"[patterns.ours]\npattern = '(?=a)b'\n[classes.x]\ndetectors = ['ours']"
    with pytest.raises(ClawproxyError) as caught:
        Scanner(load_data_classes(own, packaged_data_classes()).own.values())
    assert caught.value.reason == "CONFIG_INVALID"
