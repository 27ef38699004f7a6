"""Check digits and plausibility: what makes a candidate a finding. Pure.

A check is given the candidate as it was located, the whole text and where in it the candidate stands, and returns the
part of it that counts, as offsets into the text, or None. Sources: ISO/IEC 7812 (cards), ISO 13616 (IBAN), and the
published rules of each national number.
"""

from __future__ import annotations

import base64
import binascii
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from functools import lru_cache
from math import log2

Span = tuple[int, int]
Check = Callable[[bytes, int, int], Span | None]
"""(text, start, end) → the part that counts, or None."""

_DIGITS = frozenset(b"0123456789")
_ALNUM = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_NO_DIGITS = bytes(c for c in range(256) if c not in _DIGITS)
_ALNUMS = bytes(sorted(_ALNUM))
_NO_ALNUM = bytes(c for c in range(256) if c not in _ALNUM)
_TEN = bytes(sorted(_DIGITS))
_LOWER = bytes(range(97, 123))
_UPPER = bytes(range(65, 91))
_LETTERS = _LOWER + _UPPER
_IS_LOWER = bytes(c > 96 for c in range(256))
_NEAR_CHARS = 48
_FILLERS = (
    b"xxxx",
    b"****",
    b"....",
    b"0000000",
    b"1234567890abcdef",
    b"placeholder",
    b"changeme",
    b"your",
    b"example",
)


def digits_of(text: bytes) -> bytes:
    """The ASCII digits of ``text``."""
    return text.translate(None, _NO_DIGITS)


def compact(text: bytes) -> bytes:
    """The ASCII letters and digits of ``text``, in capitals."""
    return text.translate(None, _NO_ALNUM).upper()


def entropy(text: bytes) -> float:
    """Shannon entropy in bits per character."""
    size = len(text)
    if not size:
        return 0.0
    count = text.count
    return log2(size) - sum([n * log2(n) for n in map(count, set(text)) if n > 1]) / size


def _is_spread(text: bytes, need: float) -> bool:
    """Whether the entropy is ``need`` bits or more. It is so wherever no character takes too large a part of the text,
    which is the cheaper thing to know."""
    count = text.count
    return len(text) >= 2**need * max(map(count, set(text)), default=1) or entropy(text) >= need


_TWICE = bytes(48 + (d * 2 - 9 if d > 4 else d * 2) for d in range(10))
_DOUBLED = bytes.maketrans(b"0123456789", _TWICE)


def luhn(digits: bytes) -> bool:
    """The check digit of ISO/IEC 7812."""
    return (sum(digits[::-2]) + sum(digits[-2::-2].translate(_DOUBLED)) - 48 * len(digits)) % 10 == 0


def alone(text: bytes, start: int, end: int) -> bool:
    """Whether no letter or digit stands right before or behind."""
    before = text[start - 1] if start else 32
    return before not in _ALNUM and (end >= len(text) or text[end] not in _ALNUM)


def near(text: bytes, start: int, words: tuple[bytes, ...], chars: int = _NEAR_CHARS) -> bool:
    """Whether one of ``words`` (lower case) stands among the ``chars`` before ``start``."""
    return _holds(text[max(0, start - chars) : start].lower(), words)


def _holds(text: bytes, words: Iterable[bytes]) -> bool:
    """Whether one of ``words`` stands in ``text``; ``in`` takes five times as long as ``find``."""
    find = text.find
    for word in words:  # noqa: SIM110 - any() takes twice as long
        if find(word) >= 0:
            return True
    return False


# -- secrets -----------------------------------------------------------------------------------------------------


def is_varied(token: bytes) -> bool:
    """Whether a token looks made by chance, and not by a person who fills a gap (``xxxx``, ``YOUR_KEY``)."""
    if _holds(token.lower(), _FILLERS):
        return False
    return len(set(token)) >= min(8, 2 + len(token) // 4) and _is_spread(token, 2.5)


def varied(text: bytes, start: int, end: int) -> Span | None:
    """A token that is no placeholder."""
    return (start, end) if is_varied(text[start:end]) else None


def varied_alone(text: bytes, start: int, end: int) -> Span | None:
    """The same, not in the middle of a word."""
    before = text[start - 1] if start else 32
    return varied(text, start, end) if before not in _ALNUM and before not in b"_-" else None


def mixed(text: bytes, start: int, end: int) -> Span | None:
    """A token that is no placeholder and has both letters and digits."""
    token = text[start:end]
    no_digits = token.translate(None, _TEN)
    has_letter = len(no_digits.translate(None, _LETTERS)) < len(no_digits)
    by_chance = (len(no_digits) < len(token) and has_letter) or is_random(token)
    return varied_alone(text, start, end) if by_chance else None


_NO_VALUE = (
    b"${",
    b"{{",
    b"<",
    b"$(",
    b"%(",
    b"process.env",
    b"os.environ",
    b"getenv",
    b"secrets.",
    b"env.",
    b"vault:",
)
_PLAIN_WORDS = (b"example", b"placeholder", b"changeme", b"redacted", b"your", b"none", b"null", b"true", b"false")


def assigned(text: bytes, start: int, end: int) -> Span | None:
    """What stands behind a keyword: a value that a person did not make up as a word, and that is no expression."""
    while end > start and text[end - 1] in b".)]}`\\?!*":
        end -= 1
    value = text[start:end]
    low = value.lower()
    if len(value) < 8 or low.startswith(_NO_VALUE) or _holds(low, _PLAIN_WORDS):
        return None
    if value[0] in b"/$@[" or _holds(value, (b"(", b"://")):
        return None
    size = len(value)
    no_digits = value.translate(None, _TEN)
    no_lower = no_digits.translate(None, _LOWER)
    marks = len(no_lower.translate(None, _UPPER))
    digits, lower, upper = size - len(no_digits), len(no_digits) - len(no_lower), len(no_lower) - marks
    letters = lower + upper
    kinds = (digits > 0) + (upper > 0) + (lower > 0) + (marks > 0)
    if letters == 0 or kinds < 2 or (digits == 0 and (len(value) < 16 or kinds < 3)):
        return None
    if digits <= 1 and marks == 0 and len(value) < 12:
        return None
    if (
        digits == 0
        and value.replace(b"_", b"").replace(b"-", b"").replace(b".", b"").isalpha()
        and not is_random(value)
    ):
        return None
    if _are_words(value):
        return None
    need = 2.5 if len(value) < 12 else 2.9 if len(value) < 20 else 3.1
    return (start, end) if is_varied(value) and _is_spread(value, need) else None


def _are_words(value: bytes) -> bool:
    """Whether it is words and versions with marks between them: ``billing-db-credentials-v2``."""
    parts = value.replace(b"_", b"-").replace(b".", b"-").replace(b"/", b"-").split(b"-")
    return len(parts) > 1 and all(
        (part.isalpha() and (part.islower() or part.istitle()))
        or part.isdigit()
        or (part[:1] in b"vV" and part[1:].isdigit())
        for part in parts
    )


def is_random(value: bytes) -> bool:
    """Whether letters change case as chance would have it, not as words in camelCase do."""
    lower = value.translate(_IS_LOWER)
    return (lower.count(b"\0\1") + lower.count(b"\1\0")) * 3 >= len(value)


def pem_key(text: bytes, start: int, end: int) -> Span | None:
    """A private key with a body, not the mere mention of its first line."""
    body = text[start:end]
    at = body.find(b"KEY")
    return (start, end) if len(body) - at - 8 - len(body[at + 8 :].translate(None, _ALNUMS)) >= 40 else None


def jwt(text: bytes, start: int, end: int) -> Span | None:
    """A token in three parts or five whose first says how it is signed or encrypted."""
    head = text[start:end].split(b".", 1)[0]
    try:
        decoded = base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4))
    except (binascii.Error, ValueError):
        return None
    return (start, end) if _holds(decoded, (b'"alg"', b'"enc"')) else None


def url_password(text: bytes, start: int, end: int) -> Span | None:
    """The password in an address, unless it is a placeholder."""
    value = text[start:end]
    low = value.lower()
    if (
        low.startswith(_NO_VALUE)
        or low.strip(b"*x") == b""
        or low in (b"password", b"pass", b"pwd", b"user", b"secret")
    ):
        return None
    return start, end


# -- cards and accounts ------------------------------------------------------------------------------------------

_RUN = re.compile(rb"[0-9]+")
_GROUPS = frozenset(
    {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 1), (6, 13), (4, 4, 5), (8, 8), (4, 4, 4, 3)}
)


def is_card(digits: bytes) -> bool:
    """Whether issuer range and length belong together, and the check digit is right."""
    return _issuer_fits(digits) and luhn(digits)


def _issuer_fits(digits: bytes) -> bool:
    size = len(digits)
    if not 12 <= size <= 19 or digits[0] not in b"234568" or digits.count(digits[0]) == size:
        return False
    if digits[0] == 52:  # a four
        return size in (13, 16, 19)
    six = int(digits[:6])
    four, three, two = six // 100, six // 1000, six // 10000
    return (
        (51 <= two <= 55 and size == 16)
        or (2221 <= four <= 2720 and size == 16)
        or (two in (34, 37) and size == 15)
        or ((four == 6011 or 644 <= three <= 649 or two == 65) and 16 <= size <= 19)
        or (3528 <= four <= 3589 and 16 <= size <= 19)
        or ((300 <= three <= 305 or two in (36, 38, 39) or four == 3095) and 14 <= size <= 19)
        or (two == 62 and 16 <= size <= 19)
        or (2200 <= four <= 2204 and 16 <= size <= 19)
        or (four in (5018, 5020, 5038, 5893, 6304, 6759, 6761, 6762, 6763) and size >= 12)
        or ((two in (60, 81, 82) or three == 508) and size == 16)
    )


def card(text: bytes, start: int, end: int) -> Span | None:
    """A card number: in one piece, or in groups as people write them. What stands around it is left out."""
    body = text[start:end]
    if not alone(text, start, end) or (start > 1 and text[start - 1] in b".," and text[start - 2] in _DIGITS):
        return None
    if body.isdigit():
        return (start, end) if is_card(body) else None
    groups = _groups(body, start)
    digits = digits_of(body)
    for first, end_at, at, stop in _groupings(tuple([b - a for a, b in groups])):
        if is_card(digits[at:stop]):
            return groups[first][0], groups[end_at - 1][1]
    return None


@lru_cache(maxsize=4096)
def _groupings(sizes: tuple[int, ...]) -> tuple[tuple[int, int, int, int], ...]:
    """Which groups in a row, of groups of these sizes, a card number could stand in: the first of them and the one
    behind the last, and the same in digits."""
    found, at = [], 0
    for first, size in enumerate(sizes):
        total = 0
        for end_at in range(first + 1, len(sizes) + 1):
            total += sizes[end_at - 1]
            if total > 19:
                break
            if total >= 12 and _is_grouped(sizes[first:end_at]):
                found.append((first, end_at, at, at + total))
        at += size
    return tuple(found)


def _groups(body: bytes, start: int) -> list[Span]:
    return [(start + run.start(), start + run.end()) for run in _RUN.finditer(body)]


def _is_grouped(sizes: tuple[int, ...]) -> bool:
    alike = len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0]
    return len(sizes) == 1 or sizes in _GROUPS or (alike and sizes[0] <= 4)


_IBAN_CHARS = {
    code: size
    for size, codes in {
        15: "NO", 16: "BE", 18: "DK FK FO FI GL NL SD", 19: "MK SI", 20: "AT BA EE KZ XK LT LU MN",
        21: "CR HR LV LI CH", 22: "BH BG GE DE IE ME RS GB VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ MD PK RO SA SK ES SE TN VG DZ", 25: "PT ST AO CV GW MZ LY",
        26: "IS TR BI CF CG CM DJ GA GQ", 27: "FR GR IT MR MC SM BF KM TD TG MG",
        28: "AL AZ CY DO GT HN HU LB MA PL SV BY BJ CI ML NE NI SN", 29: "BR EG PS QA UA", 30: "JO KW MU YE",
        31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for code in codes.split()
}  # fmt: skip


_DIGITS_ALONE = "AE AT BA BE CZ DE DK EE ES FI FO GL HR HU IL IS LT ME NO PL PT RS SE SI SK TN XK"
_IBAN_DIGITS = {"AD": 10} | {code: _IBAN_CHARS[code] - 2 for code in _DIGITS_ALONE.split()}
"""How many characters behind the country are digits, where it is known. Of random UUIDs one in six thousand has length
and remainder of an account in a country of hex digits (``be22…``), and nearly none these digits."""

_AS_NUMBER = {c: str(int(chr(c), 36)) for c in b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def iban(text: bytes, start: int, end: int) -> Span | None:
    """An account number: length and digits by country, remainder 1 of 97."""
    country = text[start : start + 2].decode("ascii", "replace").upper()
    size = _IBAN_CHARS.get(country)
    if size is None or (start and text[start - 1] in _ALNUM):
        return None
    body = compact(text[start:end])[:size]
    if not body[2 : 2 + _IBAN_DIGITS.get(country, 2)].isdigit():
        return None
    if len(body) < size or int("".join([_AS_NUMBER[c] for c in body[4:] + body[:4]])) % 97 != 1:
        return None
    at, left = start, size
    while left:
        left -= text[at] in _ALNUM
        at += 1
    return None if at < len(text) and text[at] in _ALNUM else (start, at)


# -- national numbers --------------------------------------------------------------------------------------------


def us_ssn(text: bytes, start: int, end: int) -> Span | None:
    """US social security number, or ITIN, written with hyphens."""
    if text[start:end] in (b"078-05-1120", b"219-09-9999", b"123-45-6789"):  # printed on cards that were for show
        return None
    if text[end : end + 1] == b"-" or (start and text[start - 1] in b"-.+"):
        return None
    return us_ssn_said(text, start, end)


def us_ssn_said(text: bytes, start: int, end: int) -> Span | None:
    """The same in any writing, behind a word that says what it is."""
    digits = digits_of(text[start:end])
    area, group, serial = int(digits[:3]), int(digits[3:5]), int(digits[5:])
    if not alone(text, start, end) or group == 0 or serial == 0 or area in (0, 666):
        return None
    if area >= 900 and not (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99):
        return None
    return start, end


def alone_span(text: bytes, start: int, end: int) -> Span | None:
    """Anything that is no part of a longer word."""
    return (start, end) if alone(text, start, end) else None


_NO_NINO = (b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ")


def uk_nino(text: bytes, start: int, end: int) -> Span | None:
    """UK national insurance number."""
    body = compact(text[start:end])
    return (start, end) if alone(text, start, end) and not body.startswith(_NO_NINO) else None


def de_tax_id(text: bytes, start: int, end: int) -> Span | None:
    """German Steuer-ID: one digit twice or three times among the first ten, ISO 7064 MOD 11,10."""
    digits = digits_of(text[start:end])
    if not _alone_number(text, start, end) or len(digits) != 11 or digits[0] == 48:
        return None
    repeats = sorted(Counter(digits[:10]).values())
    if repeats[-1] not in (2, 3) or repeats[-2] != 1:
        return None
    product = 10
    for code in digits[:10]:
        rest = (code - 48 + product) % 10 or 10
        product = rest * 2 % 11
    return (start, end) if (11 - product) % 10 == digits[10] - 48 else None


def fr_nir(text: bytes, start: int, end: int) -> Span | None:
    """French social security number with its key."""
    body = compact(text[start:end])
    if not _alone_number(text, start, end) or len(body) != 15:
        return None
    number = body[:13].replace(b"2A", b"19", 1).replace(b"2B", b"18", 1) if not body[:13].isdigit() else body[:13]
    return (start, end) if number.isdigit() and 97 - int(number) % 97 == int(body[13:]) else None


def es_dni(text: bytes, start: int, end: int) -> Span | None:
    """Spanish DNI or NIE with its letter."""
    body = compact(text[start:end])
    number = body[:-1].translate(bytes.maketrans(b"XYZ", b"012"))
    right = number.isdigit() and b"TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == body[-1]
    return (start, end) if right and alone(text, start, end) else None


_CF_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def it_codice(text: bytes, start: int, end: int) -> Span | None:
    """Italian codice fiscale with its letter."""
    body = compact(text[start:end])
    if len(body) != 16 or not alone(text, start, end):
        return None
    values = [c - 48 if c < 58 else c - 65 for c in body]
    total = sum(_CF_ODD[value] if n % 2 == 0 else value for n, value in enumerate(values[:15]))
    return (start, end) if total % 26 == values[15] else None


def pl_pesel(text: bytes, start: int, end: int) -> Span | None:
    """Polish PESEL: a birth date and a check digit."""
    body = text[start:end]
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)
    right = sum((c - 48) * w for c, w in zip(body, weights, strict=True)) % 10 == 0
    month = int(body[2:4])
    if not right or not _alone_number(text, start, end) or not 1 <= month % 20 <= 12:
        return None
    century = {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[month // 20]
    if not _is_date(century + int(body[:2]), month % 20, int(body[4:6])):
        return None
    return start, end


def se_person(text: bytes, start: int, end: int) -> Span | None:
    """Swedish personnummer: date, hyphen, four digits with a Luhn digit."""
    digits = digits_of(text[start:end])[-10:]
    day = int(digits[4:6])
    fits = _is_date(2000 + int(digits[:2]), int(digits[2:4]), day - 60 if day > 60 else day)
    return (start, end) if fits and luhn(digits) and _alone_number(text, start, end) else None


def fi_hetu(text: bytes, start: int, end: int) -> Span | None:
    """Finnish henkilötunnus."""
    body = text[start:end].upper()
    if not alone(text, start, end) or not _is_date(2000 + int(body[4:6]), int(body[2:4]), int(body[:2])):
        return None
    number = int(body[:6] + body[7:10])
    return (start, end) if b"0123456789ABCDEFHJKLMNPRSTUVWXY"[number % 31] == body[10] else None


def pt_nif(text: bytes, start: int, end: int) -> Span | None:
    """Portuguese NIF."""
    digits = [c - 48 for c in digits_of(text[start:end])]
    rest = sum(d * (9 - n) for n, d in enumerate(digits[:8])) % 11
    right = digits[8] == (0 if rest < 2 else 11 - rest)
    return (start, end) if right and _alone_number(text, start, end) else None


def dk_cpr(text: bytes, start: int, end: int) -> Span | None:
    """Danish CPR number. Its check digit is no longer kept."""
    digits = digits_of(text[start:end])
    fits = _is_date(2000 + int(digits[4:6]), int(digits[2:4]), int(digits[:2]))
    return (start, end) if fits and _alone_number(text, start, end) else None


def at_svnr(text: bytes, start: int, end: int) -> Span | None:
    """Austrian social insurance number: a check digit and a date."""
    digits = [c - 48 for c in digits_of(text[start:end])]
    weights = (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)
    right = sum(d * w for d, w in zip(digits, weights, strict=True)) % 11 == digits[3]
    day, month = digits[4] * 10 + digits[5], digits[6] * 10 + digits[7]
    right = right and digits[0] > 0 and 1 <= day <= 31 and 1 <= month <= 15
    return (start, end) if right and _alone_number(text, start, end) else None


def tr_tckn(text: bytes, start: int, end: int) -> Span | None:
    """Turkish identity number: two check digits."""
    digits = [c - 48 for c in text[start:end]]
    tenth = (sum(digits[:9:2]) * 7 - sum(digits[1:8:2])) % 10
    right = digits[0] > 0 and digits[9] == tenth and digits[10] == sum(digits[:10]) % 10
    return (start, end) if right and _alone_number(text, start, end) else None


def ro_cnp(text: bytes, start: int, end: int) -> Span | None:
    """Romanian CNP: a date and a check digit."""
    digits = [c - 48 for c in text[start:end]]
    weights = (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)
    rest = sum(d * w for d, w in zip(digits, weights, strict=False)) % 11
    body = text[start:end]
    fits = digits[0] > 0 and _is_date(2000 + int(body[1:3]), int(body[3:5]), int(body[5:7]))
    right = fits and digits[12] == (1 if rest == 10 else rest)
    return (start, end) if right and _alone_number(text, start, end) else None


def cz_birth_number(text: bytes, start: int, end: int) -> Span | None:
    """Czech or Slovak rodné číslo: a date, a slash, divisible by eleven."""
    digits = digits_of(text[start:end])
    month = int(digits[2:4]) % 50
    fits = _is_date(2000 + int(digits[:2]), month - 20 if month > 20 else month, int(digits[4:6]))
    return (start, end) if fits and int(digits) % 11 == 0 and _alone_number(text, start, end) else None


def jp_my_number(text: bytes, start: int, end: int) -> Span | None:
    """Japanese individual number: a check digit."""
    digits = [c - 48 for c in digits_of(text[start:end])]
    weights = (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
    rest = sum(d * w for d, w in zip(digits, weights, strict=False)) % 11
    right = digits[11] == (0 if rest <= 1 else 11 - rest) and len(set(digits)) > 2
    return (start, end) if right and _alone_number(text, start, end) else None


def be_person(text: bytes, start: int, end: int) -> Span | None:
    """Belgian national number: 97 less the remainder, of those born from 2000 on with a 2 in front."""
    digits = digits_of(text[start:end])
    number, key = int(digits[:9]), int(digits[9:])
    right = 97 - number % 97 == key or 97 - (2_000_000_000 + number) % 97 == key
    return (start, end) if right and _alone_number(text, start, end) else None


def nl_bsn(text: bytes, start: int, end: int) -> Span | None:
    """Dutch BSN."""
    digits = digits_of(text[start:end])
    weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
    right = len(digits) == 9 and sum((c - 48) * w for c, w in zip(digits, weights, strict=True)) % 11 == 0
    return (start, end) if right and _alone_number(text, start, end) else None


def ca_sin(text: bytes, start: int, end: int) -> Span | None:
    """Canadian SIN."""
    digits = digits_of(text[start:end])
    right = luhn(digits) and digits[0] not in b"08" and _alone_number(text, start, end)
    return (start, end) if right else None


def br_cpf(text: bytes, start: int, end: int) -> Span | None:
    """Brazilian CPF: two check digits."""
    digits = [c - 48 for c in digits_of(text[start:end])]
    if len(set(digits)) < 2 or not _alone_number(text, start, end):
        return None
    for size in (9, 10):
        rest = sum(d * (size + 1 - n) for n, d in enumerate(digits[:size])) * 10 % 11 % 10
        if rest != digits[size]:
            return None
    return start, end


_VERHOEFF_D = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_P = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def in_aadhaar(text: bytes, start: int, end: int) -> Span | None:
    """Indian Aadhaar number: Verhoeff's check digit."""
    digits = digits_of(text[start:end])
    check = 0
    for n, code in enumerate(reversed(digits)):
        check = int(_VERHOEFF_D[check][int(_VERHOEFF_P[n % 8][code - 48])])
    return (start, end) if check == 0 and _alone_number(text, start, end) else None


def ch_ahv(text: bytes, start: int, end: int) -> Span | None:
    """Swiss AHV number: an EAN-13 that begins with 756."""
    digits = digits_of(text[start:end])
    total = sum((c - 48) * (3 if n % 2 else 1) for n, c in enumerate(digits[:12]))
    right = (10 - total % 10) % 10 == digits[12] - 48
    return (start, end) if right and _alone_number(text, start, end) else None


def cn_resident(text: bytes, start: int, end: int) -> Span | None:
    """Chinese resident number: a birth date, ISO 7064 MOD 11-2."""
    body = text[start:end].upper()
    if not alone(text, start, end) or not _is_date(int(body[6:10]), int(body[10:12]), int(body[12:14])):
        return None
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum((c - 48) * w for c, w in zip(body, weights, strict=False))
    return (start, end) if b"10X98765432"[total % 11] == body[17] else None


def no_person(text: bytes, start: int, end: int) -> Span | None:
    """Norwegian fødselsnummer: a date and two check digits."""
    digits = [c - 48 for c in digits_of(text[start:end])]
    day, month = digits[0] * 10 + digits[1], digits[2] * 10 + digits[3]
    fits = _is_date(2000 + digits[4] * 10 + digits[5], month % 40, day - 40 if day > 40 else day)
    first = sum(d * w for d, w in zip(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1), strict=False)) % 11
    second = sum(d * w for d, w in zip(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1), strict=True)) % 11
    return (start, end) if fits and first == second == 0 and _alone_number(text, start, end) else None


def sg_nric(text: bytes, start: int, end: int) -> Span | None:
    """Singapore NRIC or FIN with its letter."""
    body = text[start:end].upper()
    total = sum((c - 48) * w for c, w in zip(body[1:8], (2, 7, 6, 5, 4, 3, 2), strict=True))
    total += 4 if body[:1] in (b"T", b"G") else 0
    letters = b"JZIHGFEDCBA" if body[:1] in (b"S", b"T") else b"XWUTRQPNMLK"
    return (start, end) if letters[total % 11] == body[8] and alone(text, start, end) else None


def za_person(text: bytes, start: int, end: int) -> Span | None:
    """South African identity number: a date and a Luhn digit. One in 250 times in milliseconds has both, from 2027 on:
    what could be a time of the years 2020 to 2039, whose bearers are children or very old, is none."""
    body = text[start:end]
    if 1_577_836_800_000 <= int(body) < 2_208_988_800_000:
        return None
    fits = _is_date(2000 + int(body[:2]), int(body[2:4]), int(body[4:6])) and body[10:11] in (b"0", b"1")
    return (start, end) if fits and luhn(body) and _alone_number(text, start, end) else None


def kr_person(text: bytes, start: int, end: int) -> Span | None:
    """Korean resident number: a date, a hyphen, a check digit."""
    digits = [c - 48 for c in digits_of(text[start:end])]
    weights = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
    right = (11 - sum(d * w for d, w in zip(digits, weights, strict=False)) % 11) % 10 == digits[12]
    fits = _is_date(2000 + digits[0] * 10 + digits[1], digits[2] * 10 + digits[3], digits[4] * 10 + digits[5])
    return (start, end) if right and fits and _alone_number(text, start, end) else None


def mx_curp(text: bytes, start: int, end: int) -> Span | None:
    """Mexican CURP with its check digit."""
    body = text[start:end].upper()
    order = b"0123456789ABCDEFGHIJKLMN_OPQRSTUVWXYZ"  # Ñ stands between N and O
    total = sum(order.index(c) * (18 - n) for n, c in enumerate(body[:17]))
    return (start, end) if (10 - total % 10) % 10 == body[17] - 48 and alone(text, start, end) else None


def ie_ppsn(text: bytes, start: int, end: int) -> Span | None:
    """Irish PPS number with its letter."""
    body = text[start:end].upper()
    total = sum((c - 48) * w for c, w in zip(body[:7], (8, 7, 6, 5, 4, 3, 2), strict=False))
    if len(body) == 9 and body[8:9] != b"W":
        total += 9 * (body[8] - 64)
    right = b"WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == body[7]
    return (start, end) if right and alone(text, start, end) else None


def au_tfn(text: bytes, start: int, end: int) -> Span | None:
    """Australian tax file number."""
    digits = digits_of(text[start:end])
    right = sum((c - 48) * w for c, w in zip(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10), strict=True)) % 11 == 0
    return (start, end) if right and _alone_number(text, start, end) else None


def passport(text: bytes, start: int, end: int) -> Span | None:
    """What stands right behind the word passport and looks like a number."""
    return (start, end) if sum(c in _DIGITS for c in text[start:end]) >= 6 else None


def _alone_number(text: bytes, start: int, end: int) -> bool:
    """Not inside a word, a longer number, or a decimal."""
    if not alone(text, start, end):
        return False
    before = text[start - 1] if start else 32
    if before in b"_+" or (start > 1 and before in b".-/:" and text[start - 2] in _ALNUM):
        return False
    return not (end + 1 < len(text) and text[end] in b".-/:_" and text[end + 1] in _ALNUM)


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


# -- contact -----------------------------------------------------------------------------------------------------

_FILE_ENDINGS = frozenset(
    b"png jpg jpeg gif svg webp ico js mjs ts jsx tsx css scss html htm json yml yaml toml py rb go rs java md txt "
    b"pdf zip tar gz whl lock map woff local internal invalid localhost service timer socket target mount slice".split()
)


def email(text: bytes, start: int, end: int) -> Span | None:
    """A mail address; ``image@2x.png`` and ``git@host:path`` are none."""
    local, _, host = text[start:end].rpartition(b"@")
    while host and host[-1:] in (b".", b"-"):
        host, end = host[:-1], end - 1
    kept = local.lstrip(b".-'%+_")
    start += len(local) - len(kept)
    ending = host.rpartition(b".")[2].lower()
    if not kept or kept.endswith(b".") or ending in _FILE_ENDINGS or text.find(b"..", start, end) >= 0:
        return None
    if kept == b"git" and text[end : end + 1] == b":":
        return None
    return start, end


_DIGIT_BYTES = tuple(bytes([code]) for code in sorted(_DIGITS))
_PHONE_WORDS = (
    b"\x01",
    b"phone",
    b"tel",
    b"mobile",
    b"cell",
    b"call",
    b"fax",
    b"whatsapp",
    b"sms",
    b"dial",
    b"reach",
    b"handy",
)
_OTHER_NUMBERS = frozenset((
    b"order", b"invoice", b"version", b"isbn", b"serial", b"sku", b"part", b"model", b"ticket", b"case", b"tracking",
    b"account", b"acct", b"build", b"id", b"ref", b"policy", b"po", b"ean", b"upc",
))  # fmt: skip


def phone_plus(text: bytes, start: int, end: int) -> Span | None:
    """A number in international form: 8 to 15 digits behind a plus, or ``00`` behind a word."""
    end = _trim_number(text, start, end)
    digits = digits_of(text[start:end])
    if text[start : start + 2] == b"00":
        if not near(text, start, _PHONE_WORDS) or not _alone_number(text, start, end):
            return None
        digits = digits[2:]
    before = text[start - 1] if start else 32
    if before in _ALNUM or before in b"+=&" or (end < len(text) and text[end] in _ALNUM):
        return None
    if not 8 <= len(digits) <= 15 or len(set(digits)) < 3 or digits[0] == 48:
        return None
    if text[start : start + 2] == b"+ " and text[:start].rstrip()[-1:] in (b")", *_DIGIT_BYTES):  # a sum
        return None
    return start, end


def phone_national(text: bytes, start: int, end: int) -> Span | None:
    """A number as people write it in their own country, in groups."""
    digits = digits_of(text[start:end])
    if len(set(digits)) < 3 or not _alone_number(text, start, end) or text[end : end + 1] == b"%":
        return None
    if near(text, start, _PHONE_WORDS):
        return start, end
    words = text[max(0, start - 14) : start].lower().replace(b"#", b" ").replace(b":", b" ").split()
    return None if words and words[-1] in _OTHER_NUMBERS else (start, end)


def phone_said(text: bytes, start: int, end: int) -> Span | None:
    """Digits right behind a word that says that they are a telephone number."""
    end = _trim_number(text, start, end)
    digits = digits_of(text[start:end])
    if not 7 <= len(digits) <= 15 or len(set(digits)) < 3:
        return None
    return (start, end) if _alone_number(text, start, end) else None


def _trim_number(text: bytes, start: int, end: int) -> int:
    while end > start and text[end - 1] not in _DIGITS:
        end -= 1
    return end


_DOCUMENTATION = (b"192.0.2.", b"198.51.100.", b"203.0.113.")  # RFC 5737
_AMOUNTS = (b"rp", b"eur", b"usd", b"idr", b"brl", b"r$", b"$", b"kr", b"clp", b"cop", b"ars", b"total", b"sum")
_VERSIONS = (
    b"kapitel",
    b"abschnitt",
    b"chapitre",
    b"punkt",
    b"ziffer",
    b"paragraph",
    b"rule",
    b"sec",
    b"version",
    b"release",
    b"firmware",
    b"build",
    b"assembly",
    b"section",
    b"chapter",
    b"clause",
    b"oid",
)


def ipv4(text: bytes, start: int, end: int) -> Span | None:
    """An address of a host: not a version, a loop-back or a mask."""
    body = text[start:end]
    before, behind = text[start - 1 : start], text[end : end + 2]
    if before[:1] in (b".", b"v", b"V", b"-", b"_", b"%") or (before and before[0] in _ALNUM):
        return None
    if behind[:1] and (behind[0] in _ALNUM or behind[:1] in (b"_", b"-")):
        return None
    if behind[:1] == b"." and behind[1:2].isdigit():
        return None
    if any(len(part) > 1 and part[0] == 48 for part in body.split(b".")):
        return None
    if body.startswith((b"127.", b"255.", b"0.", *_DOCUMENTATION)):
        return None
    words = text[max(0, start - 24) : start].lower().replace(b":", b" ").replace(b"=", b" ").split()
    named = bool(words) and (words[-1] in (b"v", b"ver", b"ver.", *_AMOUNTS) or words[-1].endswith(_VERSIONS))
    return None if named else (start, end)


_MAPPED = bytes(10) + b"\xff\xff"
"""What an IPv4 address stands behind in an IPv6 one (RFC 4291, 2.5.5.2)."""


def ipv6(text: bytes, start: int, end: int) -> Span | None:
    """An address of a host that has a digit in it; loop-back and documentation of code (``a::b``) are none."""
    body = text[start:end]
    if body.endswith(b":") and not body.endswith(b"::"):
        body, end = body[:-1], end - 1
    if not alone(text, start, end) or text[end : end + 1] == b":" or len(body.translate(None, _TEN)) == len(body):
        return None
    if start and text[start - 1] in b":._-":
        return None
    if (len(body) < 6 and body.find(b"::") >= 0) or body[:9].lower() == b"2001:db8:":
        return None
    try:
        address = socket.inet_pton(socket.AF_INET6, body.decode())
    except OSError:
        return None
    if address[:15] == bytes(15) and address[15] < 2:  # unspecified, loop-back
        return None
    if address[:12] == _MAPPED and address[12] == 127:
        return None
    groups = [group for group in body.split(b":") if group]
    return (start, end) if len(groups) > 2 or any(len(group) > 2 for group in groups) else None
