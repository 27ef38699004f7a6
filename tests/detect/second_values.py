"""Invented values with right check digits, for the second labelled set; each call takes the next draw of one seed."""

import base64
import json
import random
import zlib
from collections.abc import Mapping, Sequence

DIGITS = "0123456789"
UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LOWER = UPPER.lower()
HEX = "0123456789abcdef"
ALNUM = DIGITS + UPPER + LOWER
URLSAFE = ALNUM + "-_"
BASE32 = UPPER + "234567"

_draws = random.Random(20261123)


def start_again() -> None:
    """Go back to the first draw, so that the same rows come out of each run."""
    _draws.seed(20261123)


def below(bound: int) -> int:
    """A number from 0 to bound - 1; random() alone is promised to stay the same between versions of Python."""
    return int(_draws.random() * bound)


def pick(alphabet: str, length: int) -> str:
    """`length` letters of the alphabet."""
    return "".join(alphabet[below(len(alphabet))] for _ in range(length))


def digits(length: int) -> str:
    """`length` decimal digits, the first not zero."""
    return pick("123456789", 1) + pick(DIGITS, length - 1)


def grouped(text: str, sizes: Sequence[int], gap: str) -> str:
    """The text cut into groups of the sizes, the gap between them."""
    out, at = [], 0
    for size in sizes:
        out.append(text[at : at + size])
        at += size
    return gap.join([*out, text[at:]] if at < len(text) else out)


def fours(text: str, gap: str = " ") -> str:
    """The text in groups of four."""
    return gap.join(text[at : at + 4] for at in range(0, len(text), 4))


def off(value: str) -> str:
    """The value with its last decimal digit one higher: a wrong check digit under every rule used here."""
    at = max(index for index, letter in enumerate(value) if letter.isdigit())
    return value[:at] + str((int(value[at]) + 1) % 10) + value[at + 1 :]


def random_bytes(length: int) -> bytes:
    """`length` drawn bytes."""
    return bytes(below(256) for _ in range(length))


def b64(length: int) -> str:
    """Standard base64 of `length` drawn bytes."""
    return base64.b64encode(random_bytes(length)).decode()


def uuid() -> str:
    """A random (version 4) UUID."""
    return "-".join([pick(HEX, 8), pick(HEX, 4), "4" + pick(HEX, 3), pick("89ab", 1) + pick(HEX, 3), pick(HEX, 12)])


def pem(label: str, length: int, head: bytes = b"\x30\x82") -> str:
    """A PEM block of drawn bytes."""
    body = base64.b64encode(head + random_bytes(length)).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----"


def jwt(header: Mapping[str, object], claims: Mapping[str, object], signature: int = 32) -> str:
    """A compact JWS with a drawn signature (RFC 7515)."""
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in (header, claims)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in [*parts, random_bytes(signature)])


def github(prefix: str) -> str:
    """A GitHub token: 30 drawn letters and six of base 62 CRC32, as GitHub has published."""
    body = pick(ALNUM, 30)
    rest, tail = zlib.crc32(body.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        tail = (DIGITS + UPPER + LOWER)[digit] + tail
    return prefix + body + tail


def weighted(number: str, weights: Sequence[int]) -> int:
    """The sum of digit times weight."""
    return sum(int(digit) * weight for digit, weight in zip(number, weights, strict=True))


def luhn(body: str) -> str:
    """The body and its Luhn digit."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        double = int(digit) * (2 if place % 2 == 0 else 1)
        total += double - 9 if double > 9 else double
    return body + str(-total % 10)


def card(prefix: str, length: int = 16) -> str:
    """A card number of the prefix with its Luhn digit."""
    return luhn(prefix + pick(DIGITS, length - 1 - len(prefix)))


def letters_as_numbers(text: str) -> int:
    """A = 10 … Z = 35, as ISO 13616 and ISO 17442 read them."""
    return int("".join(str(int(letter, 36)) for letter in text))


def iban(country: str, shape: str) -> str:
    """An IBAN; the shape has n for a digit, a for a letter, anything else as it is."""
    bban = "".join(pick(DIGITS, 1) if mark == "n" else pick(UPPER, 1) if mark == "a" else mark for mark in shape)
    return f"{country}{98 - letters_as_numbers(bban + country + '00') % 97:02d}{bban}"


def lei() -> str:
    """A legal entity identifier (ISO 17442), which has the check of an IBAN at its end."""
    body = digits(4) + "00" + pick(DIGITS + UPPER, 12)
    return f"{body}{98 - letters_as_numbers(body + '00') % 97:02d}"


def birth(order: str = "ymd", first: int = 55, last: int = 99) -> str:
    """A day of birth of six digits, the year between first and last."""
    part = {"y": f"{first + below(last - first + 1):02d}", "m": f"{1 + below(12):02d}", "d": f"{1 + below(28):02d}"}
    return "".join(part[letter] for letter in order)


def ssn() -> str:
    """A US social security number that could have been given out."""
    return f"{100 + below(500)}-{10 + below(80)}-{1000 + below(9000)}"


def nino() -> str:
    """A UK national insurance number."""
    return pick("ABCEGHJLM", 1) + pick("ABCEHJLMPRSW", 1) + pick(DIGITS, 6) + pick("ABCD", 1)


def nhs() -> str:
    """An NHS number of England (modulus 11)."""
    while True:
        body = pick("4679", 1) + pick(DIGITS, 8)
        check = -weighted(body, range(10, 1, -1)) % 11
        if check < 10:
            return body + str(check)


def steuer_id() -> str:
    """A German tax identification number: one digit twice, ISO 7064 mod 11, 10."""
    order = sorted(DIGITS, key=lambda _: _draws.random())
    head = order[:9]
    head.insert(4 + below(4), head[1])
    if head[0] == "0":
        head[0] = order[9]
    product = 10
    for digit in head:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return "".join(head) + str((11 - product) % 10)


def rentennummer() -> str:
    """A German pension insurance number."""
    letter = pick(UPPER, 1)
    area, day, serial = pick("1568", 1) + pick("023", 1), birth("dmy"), pick(DIGITS, 2)
    number = f"{area}{day}{UPPER.index(letter) + 1:02d}{serial}"
    products = (int(d) * w for d, w in zip(number, (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1), strict=True))
    return f"{area}{day}{letter}{serial}{sum(p // 10 + p % 10 for p in products) % 10}"


def nir() -> str:
    """A French social security number with its key."""
    body = (
        pick("12", 1) + birth("ym") + pick("123567", 1) + pick("123", 1) + f"{1 + below(300):03d}{1 + below(900):03d}"
    )
    return f"{body}{97 - int(body) % 97:02d}"


def dni(prefix: str = "") -> str:
    """A Spanish DNI, or a NIE when the prefix is X, Y or Z."""
    body = pick(DIGITS, 7) if prefix else digits(8)
    number = str("XYZ".index(prefix)) + body if prefix else body
    return prefix + body + "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]


_ODD = dict(
    zip(
        DIGITS + UPPER,
        (
            *(1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17),
            *(19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        ),
        strict=True,
    )
)


def codice_fiscale(names: str, place: str) -> str:
    """An Italian tax code: six letters of the names, a birth, the place, the check letter."""
    body = f"{names}{birth('y')}{pick('ABCDEHLMPRST', 1)}{1 + below(28):02d}{place}"
    even = {letter: (DIGITS + UPPER).index(letter) - (10 if letter.isalpha() else 0) for letter in DIGITS + UPPER}
    total = sum(_ODD[letter] if at % 2 == 0 else even[letter] for at, letter in enumerate(body))
    return body + UPPER[total % 26]


def bsn() -> str:
    """A Dutch citizen service number (the eleven test)."""
    while True:
        body = pick("12", 1) + pick(DIGITS, 7)
        check = weighted(body, range(9, 1, -1)) % 11
        if check < 10:
            return body + str(check)


def rijksregister(young: bool = False) -> str:
    """A Belgian national number, young: born from 2000 on."""
    body = birth("ymd", 1, 9) if young else birth("ymd")
    body += f"{1 + below(997):03d}"
    return f"{body}{97 - int(('2' if young else '') + body) % 97:02d}"


def pesel() -> str:
    """A Polish PESEL."""
    body = birth("ymd") + pick(DIGITS, 4)
    return body + str(-weighted(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10)


def personnummer() -> str:
    """A Swedish personal number without its hyphen."""
    return luhn(birth("ymd") + f"{1 + below(998):03d}")


def cpr() -> str:
    """A Danish CPR number that holds the old modulus 11."""
    while True:
        body = birth("dmy", 60, 99) + pick("0123", 1) + pick(DIGITS, 2)
        check = -weighted(body, (4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
        if check < 10:
            return body + str(check)


def fodselsnummer() -> str:
    """A Norwegian birth number."""
    while True:
        body = birth("dmy") + pick("1234", 1) + pick(DIGITS, 2)
        one = -weighted(body, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
        if one < 10:
            two = -weighted(body + str(one), (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
            if two < 10:
                return f"{body}{one}{two}"


def hetu(sign: str = "-") -> str:
    """A Finnish personal identity code; the sign A is for births from 2000 on."""
    day = birth("dmy", 1, 9) if sign == "A" else birth("dmy")
    serial = f"{2 + below(890):03d}"
    return f"{day}{sign}{serial}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(day + serial) % 31]}"


def ahv() -> str:
    """A Swiss AHV number (EAN-13), with its points."""
    body = "756" + pick(DIGITS, 9)
    return grouped(body + str(-weighted(body, (1, 3) * 6) % 10), (3, 4, 4, 2), ".")


def ean13(prefix: str) -> str:
    """An EAN-13 or ISBN-13 of the prefix."""
    body = prefix + pick(DIGITS, 12 - len(prefix))
    return body + str(-weighted(body, (1, 3) * 6) % 10)


def cpf() -> str:
    """A Brazilian CPF without points."""
    number = digits(9)
    for size in (9, 10):
        number += str(weighted(number, range(size + 1, 1, -1)) * 10 % 11 % 10)
    return number


def sin() -> str:
    """A Canadian social insurance number."""
    return luhn(pick("124567", 1) + pick(DIGITS, 7))


def tfn() -> str:
    """An Australian tax file number."""
    while True:
        number = digits(9)
        if weighted(number, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0:
            return number


def aadhaar() -> str:
    """An Indian Aadhaar number (Verhoeff)."""
    turn = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]

    def times(a: int, b: int) -> int:
        if a < 5:
            return (a + b) % 5 if b < 5 else (a + b) % 5 + 5
        return (a - b) % 5 + 5 if b < 5 else (a - b) % 5

    body = pick("23456789", 1) + pick(DIGITS, 10)
    for check in range(10):
        total = 0
        for place, digit in enumerate(reversed(body + str(check))):
            value = int(digit)
            for _ in range(place % 8):
                value = turn[value]
            total = times(total, value)
        if total == 0:
            return body + str(check)
    raise AssertionError("verhoeff always has a check digit")
