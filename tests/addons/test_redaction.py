"""A credential in every form that programs render it in, and ordinary answers left as they are."""

from __future__ import annotations

import base64
import html
import json
import re
from urllib.parse import quote

import pytest
from clawproxy.addons.redaction import REDACTED, Redactor, redact, redactor_for
from hypothesis import given
from hypothesis import strategies as st

KEY = b"sk-proj-a1B2/c3D4+e5F6_g7H8=i9J0kLmNoPqR"
TEXT = KEY.decode()


def _all_json(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in text)


FORMS = {
    "raw": TEXT,
    "percent": quote(TEXT, safe=""),
    "percent, lower case": re.sub("%..", lambda m: m[0].lower(), quote(TEXT, safe="")),
    "percent, every byte": "".join(f"%{ord(c):02X}" for c in TEXT),
    "json, dashes": TEXT.replace("-", "\\u002d"),
    "json, upper case": TEXT.replace("-", "\\u002D").replace("+", "\\u002B"),
    "json, slashes": TEXT.replace("/", "\\/"),
    "json, every byte": _all_json(TEXT),
    "html": "".join(f"&#{ord(c)};" if not c.isalnum() else c for c in TEXT),
    "html, hex": "".join(f"&#x{ord(c):x};" for c in TEXT),
    "html escape": html.escape(TEXT),
    "mixed": "%73k\\u002dproj-" + TEXT[8:],
    "first byte escaped": f"\\u0073{TEXT[1:]}",
    **{
        f"base64 behind {n} bytes": base64.b64encode(b"x" * n + KEY + b"y" * m).decode()
        for n in range(4)
        for m in range(2)
    },
    "basic": base64.b64encode(b"user:" + KEY).decode(),
    "basic, no user": base64.b64encode(b":" + KEY).decode(),
    "bearer": base64.b64encode(b"Bearer " + KEY).decode(),
    "base64url": base64.urlsafe_b64encode(b"user:" + KEY).decode().rstrip("="),
    "base64 in a url": quote(base64.b64encode(b"user:" + KEY).decode(), safe=""),
    "base64 in json": base64.b64encode(b"api:" + KEY).decode().replace("/", "\\/").replace("+", "\\u002b"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_rendered_form_is_found_and_replaced(form: str) -> None:
    data = f'{{"error":"no such key: {form} (in use)"}}'.encode()
    clean = redact(data, KEY)
    assert REDACTED in clean
    assert clean.startswith(b'{"error":"no such key: ')
    assert clean.endswith(b' (in use)"}')
    assert KEY not in clean
    assert len(clean) < 90
    assert redactor_for(KEY).probe(data) is not None


@pytest.mark.parametrize("prefix", range(9))
@pytest.mark.parametrize("suffix", range(3))
@given(key=st.binary(min_size=16, max_size=48).map(lambda raw: base64.urlsafe_b64encode(raw)), data=st.data())
def test_base64_is_found_wherever_the_key_stands_in_it(
    prefix: int, suffix: int, key: bytes, data: st.DataObject
) -> None:
    inside = data.draw(st.binary(min_size=prefix, max_size=prefix)) + key
    inside += data.draw(st.binary(min_size=suffix, max_size=suffix))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert redactor_for(key).found_in(b"x " + encode(inside) + b" y")


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40))
def test_any_printable_key_is_found_raw_and_in_json_and_in_urls(key: str) -> None:
    secret = key.encode()
    for form in (key, json.dumps(key)[1:-1], quote(key, safe=""), _all_json(key)):
        assert Redactor(secret).found_in(f"<{form}>".encode())


@pytest.mark.parametrize(
    "text",
    [
        b'{"content":"a \\u00e9t\\u00e9 100%25 of <a href=\\"x\\"> & &#39;"}',
        b"sk-proj-a1B2",
        KEY[:-1],
        KEY[1:],
        base64.b64encode(KEY[:-4]),
        b"",
    ],
)
def test_what_is_not_the_key_stays_the_same_object(text: bytes) -> None:
    assert redact(text, KEY) is text


def test_an_empty_credential_redacts_nothing() -> None:
    text = b"any text"
    assert redact(text, b"") is text
    assert redactor_for(b"").clean(text) is text
    assert redactor_for(b"").probe(text) is None


def test_a_short_credential_is_not_looked_for_in_base64() -> None:
    assert not Redactor(b"abc").found_in(base64.b64encode(b"abc"))
    assert Redactor(b"abc").found_in(b"xabcx")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_no_form_is_longer_than_is_said(form: str) -> None:
    assert len(form) <= redactor_for(KEY).longest_bytes


def test_ordinary_answers_seldom_match_the_probe() -> None:
    """The probe decides whether a chunk takes the slow path."""
    sentence = "the quick brown fox jumps over lazy dogs QZX 1024 kB JSON k=v a/b #7 50 % [x](y) {}"
    words = sentence.split()
    chunks = [json.dumps({"delta": {"content": f"{a} {b}\n"}}).encode() for a in words for b in words]
    assert sum(redactor_for(KEY).probe(chunk) is not None for chunk in chunks) == 0


@pytest.mark.parametrize("key", ["p&ss<word>with'quotes\"in", "&begins-with-one"])
def test_names_of_html_are_escapes_too(key: str) -> None:
    told = f"<p>no such key: {html.escape(key)}</p><p>{html.escape(key).replace('&#x27;', '&apos;')}</p>"
    assert redact(told.encode(), key.encode()) == b"<p>no such key: %s</p><p>%s</p>" % (REDACTED, REDACTED)
    assert redact(b"a &amp; b &lt;", key.encode()) == b"a &amp; b &lt;"
