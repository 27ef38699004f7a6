"""Check digits of cards, bank accounts and national numbers, from their public descriptions, for the labelled rows.

It is written apart from the detectors, so that a slip in one of the two shows as a disagreement.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

B62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
B36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def luhn_digit(body: str) -> str:
    """The digit that makes `body` pass Luhn (ISO/IEC 7812-1)."""
    total = 0
    for i, c in enumerate(reversed(body)):
        d = int(c) * (2 if i % 2 == 0 else 1)
        total += d - 9 if d > 9 else d
    return str(-total % 10)


def luhn_ok(digits: str) -> bool:
    return luhn_digit(digits[:-1]) == digits[-1]


def weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(d) * w for d, w in zip(digits, weights, strict=True))


def iban_digits(country: str, bban: str) -> str:
    """The two check digits of an IBAN (ISO 13616, mod 97)."""
    return f"{98 - _mod97(bban + country + '00'):02d}"


def iban_ok(iban: str) -> bool:
    return _mod97(iban[4:] + iban[:4]) == 1


def _mod97(text: str) -> int:
    return int("".join(str(B36.index(c)) for c in text)) % 97


def crc_base62(text: str) -> str:
    """CRC-32 in six base 62 digits, the tail of tokens of GitHub and npm."""
    n, out = zlib.crc32(text.encode()), ""
    while n:
        n, r = divmod(n, 62)
        out = B62[r] + out
    return out.rjust(6, "0")


def de_digit(body: str) -> str:
    """ISO 7064 mod 11,10 over ten digits (Steuer-Identifikationsnummer)."""
    p = 10
    for c in body:
        p = (((int(c) + p) % 10 or 10) * 2) % 11
    return str((11 - p) % 10)


def es_letter(number: int) -> str:
    return "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23]


_CF_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def it_letter(body: str) -> str:
    """The last letter of a codice fiscale, from its fifteen characters."""

    def at(c: str) -> int:
        return int(c) if c.isdigit() else ord(c) - 65

    return chr(65 + sum(_CF_ODD[at(c)] if i % 2 == 0 else at(c) for i, c in enumerate(body)) % 26)


def fr_key(body: str) -> str:
    return f"{97 - int(body) % 97:02d}"


def nl_ok(bsn: str) -> bool:
    return bsn != "000000000" and weighted(bsn, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def pl_digit(body: str) -> str:
    return str(-weighted(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10)


def pt_digit(body: str) -> str:
    r = weighted(body, (9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return str(0 if r < 2 else 11 - r)


def be_key(body: str, after_1999: bool) -> str:
    return f"{97 - int(('2' if after_1999 else '') + body) % 97:02d}"


def fi_mark(body: str) -> str:
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(body) % 31]


def no_digits(body: str) -> str | None:
    k1 = -weighted(body, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
    if k1 == 10:
        return None
    k2 = -weighted(body + str(k1), (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return None if k2 == 10 else f"{k1}{k2}"


def dk_ok(cpr: str) -> bool:
    return weighted(cpr, (4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def ean_digit(body: str) -> str:
    """The last digit of EAN-13: ISBN-13 and the Swiss AHV number."""
    return str(-weighted(body, (1, 3) * 6) % 10)


def isbn10_mark(body: str) -> str:
    r = -weighted(body, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return "X" if r == 10 else str(r)


def at_digit(serial: str, birth: str) -> str | None:
    r = weighted(serial + birth, (3, 7, 9, 5, 8, 4, 2, 1, 6)) % 11
    return None if r == 10 else str(r)


def br_digits(body: str) -> str:
    out = body
    for n in (10, 11):
        r = -weighted(out, tuple(range(n, 1, -1))) % 11
        out += "0" if r == 10 else str(r)
    return out[9:]


_D5 = [[(i + j) % 5 if j < 5 else (i + j - 5) % 5 + 5 for j in range(10)] for i in range(5)]
_D5 += [[(i - j) % 5 + 5 if j < 5 else (i - j) % 5 for j in range(10)] for i in range(5, 10)]
_STEP = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def verhoeff_ok(digits: str) -> bool:
    c = 0
    for i, d in enumerate(reversed(digits)):
        n = int(d)
        for _ in range(i % 8):
            n = _STEP[n]
        c = _D5[c][n]
    return c == 0


def verhoeff_digit(body: str) -> str:
    return next(d for d in "0123456789" if verhoeff_ok(body + d))


def au_ok(tfn: str) -> bool:
    return weighted(tfn, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def tr_digits(body: str) -> str:
    d = [int(c) for c in body]
    tenth = (sum(d[0::2]) * 7 - sum(d[1::2])) % 10
    return f"{tenth}{(sum(d) + tenth) % 10}"


def ro_digit(body: str) -> str:
    r = weighted(body, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return "1" if r == 10 else str(r)


def cn_mark(body: str) -> str:
    return "10X98765432"[weighted(body, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)) % 11]


def kr_digit(body: str) -> str:
    return str((11 - weighted(body, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10)


def jp_digit(body: str) -> str:
    r = weighted(body, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return "0" if r < 2 else str(11 - r)


def ie_letter(body: str) -> str:
    return "WABCDEFGHIJKLMNOPQRSTUV"[weighted(body, (8, 7, 6, 5, 4, 3, 2)) % 23]


def sg_letter(prefix: str, body: str) -> str:
    r = (weighted(body, (2, 7, 6, 5, 4, 3, 2)) + (4 if prefix in "TG" else 0)) % 11
    return ("JZIHGFEDCBA" if prefix in "ST" else "XWUTRQPNMLK")[r]


def _al(pattern: str, check: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text) is not None and check(text)


_VALID: tuple[Callable[[str], bool], ...] = (
    _al(r"[1-9]\d{10}", lambda t: de_digit(t[:10]) == t[10]),
    _al(r"\d{8}[A-Z]", lambda t: es_letter(int(t[:8])) == t[8]),
    _al(r"[XYZ]\d{7}[A-Z]", lambda t: es_letter(int(str("XYZ".index(t[0])) + t[1:8])) == t[8]),
    _al(r"[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z]", lambda t: it_letter(t[:15]) == t[15]),
    _al(r"[12]\d{14}", lambda t: fr_key(t[:13]) == t[13:]),
    _al(r"\d{9}", nl_ok),
    _al(r"\d{11}", lambda t: pl_digit(t[:10]) == t[10]),
    _al(r"[1-3]\d{8}", lambda t: pt_digit(t[:8]) == t[8]),
    _al(r"\d{11}", lambda t: t[9:] in (be_key(t[:9], False), be_key(t[:9], True))),
    _al(r"\d{10}", luhn_ok),
    _al(r"\d{11}", lambda t: no_digits(t[:9]) == t[9:]),
    _al(r"\d{10}", dk_ok),
    _al(r"756\d{10}", lambda t: ean_digit(t[:12]) == t[12]),
    _al(r"\d{10}", lambda t: at_digit(t[:3], t[4:]) == t[3]),
    _al(r"\d{11}", lambda t: br_digits(t[:9]) == t[9:]),
    _al(r"[2-9]\d{11}", verhoeff_ok),
    _al(r"\d{9}", luhn_ok),
    _al(r"\d{9}", au_ok),
    _al(r"[1-9]\d{10}", lambda t: tr_digits(t[:9]) == t[9:]),
    _al(r"[1-9]\d{12}", lambda t: ro_digit(t[:12]) == t[12]),
    _al(r"\d{13}", luhn_ok),
    _al(r"\d{13}", lambda t: kr_digit(t[:12]) == t[12]),
    _al(r"\d{12}", lambda t: jp_digit(t[:11]) == t[11]),
    _al(r"\d{10}", lambda t: int(t) % 11 == 0),
    _al(r"\d{17}[\dX]", lambda t: cn_mark(t[:17]) == t[17]),
    _al(r"\d{7}[A-W]A?", lambda t: ie_letter(t[:7]) == t[7]),
    _al(r"[STFG]\d{7}[A-Z]", lambda t: sg_letter(t[0], t[1:8]) == t[8]),
    _al(r"\d{6}[-+A]\d{3}[0-9A-Y]", lambda t: fi_mark(t[:6] + t[7:10]) == t[10]),
)


def some_nation_takes(text: str) -> bool:
    """Whether the text, bare of blanks and marks, passes the check digits of one national number known here."""
    bare = re.sub(r"[\s./-]", "", text)
    return any(ok(bare) or ok(text) for ok in _VALID)
