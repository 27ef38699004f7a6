"""The forms in which a labelled text is shown: as it is, escaped, encoded, or cut in two neighbouring strings."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from random import Random
from urllib.parse import quote, quote_plus

FORMS = ("plain", "json_escaped", "base64", "split_fields", "url_encoded")


@dataclass(frozen=True, slots=True)
class Sample:
    """A text around a value: what is looked for, or what only looks like it."""

    kind: str
    before: str
    value: str
    after: str

    @property
    def text(self) -> str:
        return self.before + self.value + self.after


def fill(kind: str, template: str, value: str) -> Sample:
    """The template with `value` in the place of its one `{v}`."""
    before, after = template.split("{v}")
    return Sample(kind, before, value, after)


def shown(rng: Random, sample: Sample, form: str) -> str:
    match form:
        case "plain":
            return sample.text
        case "json_escaped":
            return _json_escaped(rng, sample)
        case "base64":
            return _base64(rng, sample)
        case "split_fields":
            return _split(rng, sample)
        case "url_encoded":
            return _url(rng, sample)
    raise ValueError(form)


def _inside(text: str) -> str:
    return json.dumps(text)[1:-1]


def _u_escaped(rng: Random, text: str, share: float) -> str:
    """The text as the inside of a JSON string, `share` of its letters and digits and all its marks as \\uXXXX."""
    out = []
    for c in text:
        if c.isascii() and (rng.random() < share or not (c.isalnum() or c in "\n\r\t")):
            out.append(f"\\u{ord(c):04x}")
        else:
            out.append(_inside(c))
    return "".join(out)


def _json_escaped(rng: Random, s: Sample) -> str:
    match rng.randrange(5):
        case 0:  # some of the value
            body = _inside(s.before) + _u_escaped(rng, s.value, 0.3) + _inside(s.after)
            return f'{{"role":"user","content":"{body}"}}'
        case 1:  # all of the value
            body = _inside(s.before) + _u_escaped(rng, s.value, 1.0) + _inside(s.after)
            return f'{{"id": {rng.randrange(10, 99)}, "note": "{body}", "done": false}}'
        case 2:  # its marks, and slashes as \/
            body = _inside(s.before) + _u_escaped(rng, s.value, 0.0) + _inside(s.after)
            return f'{{"event":"message","body":"{body.replace("/", chr(92) + "/")}"}}'
        case 3:  # JSON inside JSON: every quote escaped twice
            return json.dumps({"name": "save_note", "arguments": json.dumps({"title": "note", "text": s.text})})
        case _:  # the whole text escaped
            return f'[{{"type":"text","text":"{_u_escaped(rng, s.text, 0.6)}"}}]'


def _base64(rng: Random, s: Sample) -> str:
    plain = base64.b64encode(s.text.encode()).decode()
    match rng.randrange(6):
        case 0:
            return plain
        case 1:
            return f"Please decode this and tell me what it says: {plain}"
        case 2:
            return f"data:text/plain;charset=utf-8;base64,{plain}"
        case 3:
            return json.dumps({"filename": "note.txt", "encoding": "base64", "content": plain})
        case 4:
            folded = "\n".join(plain[i : i + 76] for i in range(0, len(plain), 76))
            return f"Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: base64\n\n{folded}\n"
        case _:
            return f"payload={base64.urlsafe_b64encode(s.text.encode()).decode().rstrip('=')}"


def _split(rng: Random, s: Sample) -> str:
    n = len(s.value)
    cut = rng.randrange(max(1, n // 4), max(2, n - n // 4))
    head, tail = s.before + s.value[:cut], s.value[cut:] + s.after
    match rng.randrange(6):
        case 0:
            return json.dumps({"messages": [{"role": "user", "content": head}, {"role": "user", "content": tail}]})
        case 1:
            return json.dumps({"role": "user", "content": [{"type": "text", "text": t} for t in (head, tail)]})
        case 2:
            return json.dumps({"part_1": head, "part_2": tail}, ensure_ascii=False)
        case 3:
            return json.dumps({"tool": "append", "chunks": [head, tail], "final": True})
        case 4:
            return json.dumps([{"index": 0, "delta": {"content": t}} for t in (head, tail)])
        case _:
            return json.dumps({"name": "write_file", "arguments": {"prefix": head, "suffix": tail}}, indent=1)


def _url(rng: Random, s: Sample) -> str:
    whole = quote(s.text, safe="")
    match rng.randrange(5):
        case 0:
            return f"https://notes.tillmark.net/add?text={whole}&lang=en"
        case 1:
            return f"title=memo&body={quote_plus(s.text)}&submit=1"
        case 2:
            return f'"GET /search?q={whole} HTTP/1.1" 200 {rng.randrange(100, 9000)}'
        case 3:  # every byte of the value, needed or not
            value = "".join(f"%{b:02X}" for b in s.value.encode())
            return f"https://hooks.varnhall.net/in?msg={quote(s.before, safe='')}{value}{quote(s.after, safe='')}"
        case _:  # lower case digits
            low = "".join(c if c.isalnum() and c.isascii() else quote(c, safe="").lower() for c in s.text)
            return f"redirect=%2fhome&state={low}"
