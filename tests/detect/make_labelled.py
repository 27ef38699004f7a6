"""Makes labelled.jsonl: texts with and without sensitive values, to measure detectors it was written without sight of.

`python -m tests.detect.make_labelled > tests/detect/labelled.jsonl`, in the root of the clone. The same seed gives the
same bytes. A row is `{"id", "text", "class", "positive", "form"}`; the id names class, side, kind and number.

What the labels mean, where careful people could differ:
- A label is of the row's class alone: a row of `phone` may well hold a name or an address of another class.
- `split_fields`: the two strings, joined in order (the strings of roles and types between them left aside), give the
  value whole, and neither has it. The other forms give it back after one decoding (JSON within JSON: two).
- Negatives are near misses. Placeholders, masks, references to secrets, public keys, certificates, publishable keys,
  fingerprints and digests are no secrets. A password in a connection string is one, made up by a person or not.
- `ip`: loopback, unspecified, broadcast, netmask and documentation addresses (RFC 5737, RFC 3849) are negatives, for
  they tell of no person. Private addresses (RFC 1918) and well-known resolvers are in no row: both could be argued.
- `email`: no row uses the reserved example domains, nor `git@host:path`, for the same reason.
- `payment_cards`, `iban`, `national_ids`: a number that fails its check digits is a negative even beside the word
  "card", for it can be nobody's. Public test numbers (4242…, DE89 3704…) are in no row.
- Numbers of nations with no check digit (SSN, NINO, PAN) follow the rules of issue; each stands beside its name.
All values are random; each secret was invented here, has the public shape of its kind, and opens nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from random import Random

from . import contact_rows, number_rows, secret_rows
from .forms import Sample, shown

type Maker = Callable[[Random], list[Sample]]

CLASSES: dict[str, tuple[Maker, Maker]] = {
    "secrets": (secret_rows.positives, secret_rows.near_misses),
    "payment_cards": (number_rows.cards, number_rows.no_cards),
    "iban": (number_rows.ibans, number_rows.no_ibans),
    "national_ids": (number_rows.national, number_rows.no_national),
    "email": (contact_rows.emails, contact_rows.no_emails),
    "phone": (contact_rows.phones, contact_rows.no_phones),
    "ip": (contact_rows.ips, contact_rows.no_ips),
}

# of every twenty rows: half as they are, the rest in turn
_TURNS = ["plain"] * 10 + ["json_escaped"] * 3 + ["base64"] * 2 + ["split_fields"] * 3 + ["url_encoded"] * 2


def rows() -> list[dict[str, str | bool]]:
    out: list[dict[str, str | bool]] = []
    for name, makers in CLASSES.items():
        for positive, make in zip((True, False), makers, strict=True):
            rng = Random(f"labelled 1 {name} {positive}")
            turns: list[str] = []
            for n, sample in enumerate(make(rng)):
                if not turns:
                    turns = list(_TURNS)
                    rng.shuffle(turns)
                form = turns.pop()
                if len(sample.value) < 4 and form == "split_fields":
                    form = "json_escaped"
                row_id = f"{name}/{'hit' if positive else 'miss'}/{sample.kind}/{n:03d}"
                text = shown(rng, sample, form)
                out.append({"id": row_id, "text": text, "class": name, "positive": positive, "form": form})
    return out


def rendered() -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows())


if __name__ == "__main__":
    sys.stdout.write(rendered())
