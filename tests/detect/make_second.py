"""Write tests/detect/second.jsonl, a labelled set whose author has not seen the detectors or the first set.

Each line: id, text, class, positive, form. Every value is invented; the same bytes come out of each run.
Run from the root of the repository: python -m tests.detect.make_second
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

from . import second_contact_rows as contact
from . import second_number_rows as number
from . import second_secret_rows as secret
from . import second_values as v

WHERE = Path(__file__).with_name("second.jsonl")
SETS: dict[str, Callable[[], list[secret.Row]]] = {
    "secrets": lambda: secret.leaks() + secret.near_misses(),
    "payment_cards": number.cards,
    "iban": number.ibans,
    "national_ids": number.national_ids,
    "email": contact.emails,
    "phone": contact.phones,
    "ip": contact.addresses,
}


def _bare(marked: str) -> str:
    return marked.replace("⟦", "").replace("⟧", "")


def _inside(marked: str, value: Callable[[str], str], around: Callable[[str], str]) -> str:
    out = []
    for piece in marked.split("⟦"):
        inner, end, rest = piece.partition("⟧")
        out.append(value(inner) + around(rest) if end else around(inner))
    return "".join(out)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _units(text: str) -> list[str]:
    raw = text.encode("utf-16-be")
    return [f"\\u{raw[at]:02x}{raw[at + 1]:02x}" for at in range(0, len(raw), 2)]


def _json_escaped(marked: str, turn: int) -> str:
    """A JSON document: the value all \\u escapes, or every third letter so, or a document within a document."""
    if turn % 3 == 0:
        return '{"role":"user","content":"' + _inside(marked, lambda t: "".join(_units(t)), _quoted) + '"}'
    if turn % 3 == 1:

        def third(text: str) -> str:
            return "".join("".join(_units(c)) if at % 3 == 2 else _quoted(c) for at, c in enumerate(text))

        return '{"tool_result":{"output":"' + _inside(marked, third, _quoted) + '"}}'
    arguments = json.dumps({"path": "notes/today.md", "text": _bare(marked)}, ensure_ascii=True)
    return json.dumps({"function": {"name": "write_file", "arguments": arguments}})


def _base64(marked: str, turn: int) -> str:
    """The text in base64: bare, in a field, in a data address, or url-safe without padding."""
    raw = _bare(marked).encode()
    body = base64.b64encode(raw).decode()
    return [
        body,
        json.dumps({"name": "note.txt", "encoding": "base64", "content": body}),
        f"please read data:text/plain;base64,{body}",
        f"/import?blob={base64.urlsafe_b64encode(raw).decode().rstrip('=')}",
    ][turn % 4]


def _split_fields(marked: str, turn: int) -> str:
    """A JSON document with the value over two neighbouring strings."""
    start, end = marked.index("⟦"), marked.index("⟧") - 1
    text, cut = _bare(marked), (start + end) // 2
    one, two = text[:cut], text[cut:]
    shapes: list[object] = [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": one}, {"type": "text", "text": two}]}]},
        {"line_1": one, "line_2": two},
        {"contents": [{"parts": [{"text": one}, {"text": two}]}]},
        {"argv": ["note", one, two]},
    ]
    return json.dumps(shapes[turn % 4], ensure_ascii=False)


def _url_encoded(marked: str, turn: int) -> str:
    """Percent signs: the text in a query, in a form body, or each byte of the value."""
    text = _bare(marked)
    if turn % 3 == 0:
        return "GET /submit?note=" + quote(text, safe="") + " HTTP/1.1"
    if turn % 3 == 1:
        return "kind=note&body=" + quote_plus(text)
    return "/go?to=" + _inside(
        marked, lambda t: "".join(f"%{byte:02X}" for byte in t.encode()), lambda t: quote(t, safe="")
    )


FORMS: dict[str, Callable[[str, int], str]] = {
    "plain": lambda marked, turn: _bare(marked),
    "json_escaped": _json_escaped,
    "base64": _base64,
    "split_fields": _split_fields,
    "url_encoded": _url_encoded,
}


def lines() -> list[str]:
    """The lines of the set, in order."""
    v.start_again()
    turns = dict.fromkeys(FORMS, 0)
    out = []
    for kind, make in SETS.items():
        for at, (positive, form, marked) in enumerate(make(), 1):
            text = FORMS[form](marked, turns[form])
            turns[form] += 1
            row = {"id": f"second-{kind}-{at:03d}", "text": text, "class": kind, "positive": positive, "form": form}
            out.append(json.dumps(row, ensure_ascii=False))
    return out


if __name__ == "__main__":
    WHERE.write_text("\n".join(lines()) + "\n", encoding="utf-8")
