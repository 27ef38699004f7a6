"""Rows of the classes `payment_cards`, `iban` and `national_ids`: numbers with check digits, and numbers without."""

# ruff: noqa: E501 (tables: one row, one line)

from __future__ import annotations

from collections.abc import Callable
from random import Random

from . import checkdigits as c
from .forms import Sample, fill
from .secret_shapes import pick, some

DIGITS = "0123456789"
UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NAMES = (
    "Jule Harms",
    "Tomás Vega",
    "Inès Moreau",
    "Piotr Zając",
    "Noor de Wit",
    "Chiara Lodi",
    "Ayşe Kurt",
    "Maren Vik",
    "João Prado",
    "Haruto Ono",
)


def digits(rng: Random, n: int) -> str:
    return some(rng, DIGITS, n)


def grouped(text: str, *sizes: int) -> str:
    out, at = [], 0
    for n in sizes:
        out.append(text[at : at + n])
        at += n
    return " ".join([*out, text[at:]] if text[at:] else out)


# cards: prefix, length
_BRANDS = (
    ("visa", "4", 16), ("mastercard", "5", 16), ("amex", "37", 15), ("visa", "45", 16), ("mastercard_2", "2", 16),
    ("discover", "6011", 16), ("amex", "34", 15), ("jcb", "3541", 16), ("diners", "36", 14), ("unionpay", "6221", 16), ("maestro", "6759", 16), ("discover", "65", 16),
)  # fmt: skip

_CARD_TEXTS = (
    "Please charge my card {v}, exp 09/27, cvc 318.",
    "card_number={v}&exp_month=4&exp_year=2028",
    '{"pan":"{v}","holder":"MAREN VIK","expiry":"11/26"}',
    "Meine Kreditkartennummer ist {v}, gültig bis 03/28.",
    "Mon numéro de carte bancaire : {v} (exp. 12/27)",
    "El número de la tarjeta es {v} y caduca en 08/26.",
    "2025-03-11 09:14:22 ERROR checkout: declined pan={v} code=51",
    "customer;card;amount\nNoor de Wit;{v};19.90\n",
    "Carta di credito n. {v}, intestata a Chiara Lodi",
    "カード番号は {v} です。",
    "the terminal printed {v} on the receipt, is that allowed?",
    "INSERT INTO payments (card, amount) VALUES ('{v}', 4200);",
    "numer karty: {v}",
    "> {v}\nyes that is the card I used last time",
    "cardNumber: {v}\ncardHolder: Tomás Vega\n",
    "Kartnummer {v}, går ut i maj.",
)


def _card(rng: Random, prefix: str, n: int) -> str:
    if prefix == "5":
        prefix += str(rng.randrange(1, 6))
    if prefix == "2":
        prefix = str(rng.randrange(2221, 2720))
    body = prefix + digits(rng, n - 1 - len(prefix))
    return body + c.luhn_digit(body)


def _card_look(rng: Random, number: str) -> str:
    sizes = (4, 6, 5) if len(number) == 15 else (4, 6, 4) if len(number) == 14 else (4, 4, 4, 4)
    match rng.randrange(4):
        case 0:
            return grouped(number, *sizes)
        case 1:
            return grouped(number, *sizes).replace(" ", "-")
        case _:
            return number


def cards(rng: Random) -> list[Sample]:
    out = []
    for i in range(50):
        kind, prefix, n = _BRANDS[i % 12 if i < 24 else i % 7]
        out.append(fill(kind, _CARD_TEXTS[(i * 7) % 16], _card_look(rng, _card(rng, prefix, n))))
    return out


def _broken(rng: Random, number: str) -> str:
    wrong = str((int(number[-1]) + rng.randrange(1, 10)) % 10)
    return number[:-1] + wrong


def _luhn(prefix: str, n: int) -> Callable[[Random], str]:
    """Passes Luhn, but is no card: a number of another kind with the same check digit."""
    return lambda rng: _card(rng, prefix, n) if prefix not in ("5", "2") else ""


def _no_luhn(prefix: str, n: int) -> Callable[[Random], str]:
    return lambda rng: _broken(rng, (lambda b: b + c.luhn_digit(b))(prefix + digits(rng, n - 1 - len(prefix))))


_NO_CARDS: tuple[tuple[str, str, Callable[[Random], str]], ...] = (
    ("order_number", "Your order number is {v}, it ships on Friday.", _no_luhn("40", 16)),
    ("order_number", "Bestellnummer {v} wurde storniert.", _no_luhn("52", 16)),
    ("tracking", "Le colis {v} est en cours de livraison.", _no_luhn("6", 16)),
    ("tracking", "tracking: {v} (arrives 14 March)", _no_luhn("92748", 22)),
    ("imei", "IMEI {v}, model VH-20, dual SIM", _luhn("35", 15)),
    ("imei", "device.imei={v} fw=2.17", _luhn("86", 15)),
    ("iccid", "SIM card ICCID: {v}", _luhn("8949", 19)),
    ("luhn_without_issuer", "invoice reference {v} was paid", _luhn("10", 16)),
    ("luhn_without_issuer", '{"batch":"{v}","state":"done"}', _luhn("00", 16)),
    ("float", "step 1200 loss=0.{v} lr=0.0003", _luhn("4", 16)),
    ("float", '{"lat": 52.{v}, "precise": true}', _luhn("40", 14)),
    ("float", "p = 0.{v}  # from scipy", _luhn("51", 16)),
    ("epoch_nanos", "ts={v} level=info msg=started", lambda r: "17417" + digits(r, 14)),
    ("epoch_micros", '{"created_at_us": {v}, "kind": "view"}', _no_luhn("17417", 16)),
    ("snowflake", "https://chat.varnhall.net/status/{v}", _no_luhn("17", 19)),
    ("snowflake", "guild id {v}, see the audit log", _no_luhn("98", 18)),
    ("hex", "commit {v}a9f merged", lambda r: digits(r, 16) + "bc" + digits(r, 19)),
    (
        "timestamp",
        "backup-{v}.tar.zst",
        lambda r: (
            f"2025{r.randrange(10, 13)}{r.randrange(10, 29)}{r.randrange(10, 24)}{r.randrange(10, 60)}{r.randrange(10, 60)}"
        ),
    ),
    ("isbn", "ISBN {v}, paperback, 312 pages", lambda r: (lambda b: b + c.ean_digit(b))("978" + digits(r, 9))),
    ("gtin", "EAN {v} oat milk 1 l", lambda r: (lambda b: b + c.ean_digit(b))("40" + digits(r, 10))),
    ("masked", "the card on file: {v}", lambda r: "**** **** **** " + digits(r, 4)),
    ("masked", "payé avec la carte {v}", lambda r: "XXXX-XXXX-XXXX-" + digits(r, 4)),
    ("masked", '{"brand":"visa","masked":"{v}"}', lambda r: "4" + digits(r, 5) + "******" + digits(r, 4)),
    (
        "uuid",
        "session {v} expired",
        lambda r: f"{digits(r, 8)}-{digits(r, 4)}-4{digits(r, 3)}-8{digits(r, 3)}-{digits(r, 12)}",
    ),
    ("too_short", "Kundennummer {v}", lambda r: "4" + digits(r, 11)),
    ("big_integer", "factor({v}) takes a while", lambda r: "4" + digits(r, 38)),
    ("array", "[{v}]", lambda r: ", ".join(digits(r, 4) for _ in range(3)) + ", -1, 7"),
)


def no_cards(rng: Random) -> list[Sample]:
    out = []
    for i in range(16):
        _, prefix, n = _BRANDS[i % 9]
        text = (
            _CARD_TEXTS[(i * 3 + 1) % 16]
            if i % 4 == 0
            else pick(
                rng,
                (
                    "test: the form must refuse {v}",
                    "order {v} is on its way",
                    "Vorgang {v} wird geprüft",
                    "ticket #{v}",
                    "номер заказа {v}",
                    "SKU {v} is out of stock",
                    "assert not luhn_ok('{v}')",
                ),
            )
        )
        out.append(fill("fails_luhn", text, _card_look(rng, _broken(rng, _card(rng, prefix, n)))))
    return out + [fill(kind, text, make(rng)) for kind, text, make in _NO_CARDS]


def _mod97(body: str) -> str:
    return f"{98 - int(body + '00') % 97:02d}"


def _bban(rng: Random, country: str) -> str:
    """An account number of the country, with the national check digits where these are public."""

    def d(n: int) -> str:
        return digits(rng, n)

    match country:
        case "DE":
            return str(rng.randrange(1, 9)) + d(7) + d(10)
        case "GB" | "IE":
            return pick(rng, ("NWBK", "BARC", "LOYD") if country == "GB" else ("AIBK", "BOFI")) + d(14)
        case "FR":
            bank, desk, account = d(5), d(5), d(11)
            return bank + desk + account + f"{97 - (89 * int(bank) + 15 * int(desk) + 3 * int(account)) % 97:02d}"
        case "ES":
            bank, account = d(8), d(10)
            first, second = (11 - c.weighted(t, (1, 2, 4, 8, 5, 10, 9, 7, 3, 6)) % 11 for t in ("00" + bank, account))
            return bank + "".join({10: "1", 11: "0"}.get(k, str(k)) for k in (first, second)) + account
        case "IT":
            body = d(22)
            odd = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)
            return chr(65 + sum(odd[int(x)] if i % 2 == 0 else int(x) for i, x in enumerate(body)) % 26) + body
        case "NL":
            while True:
                account = d(10)
                if account[0] == "0" and account[1] != "0" and c.weighted(account, tuple(range(10, 0, -1))) % 11 == 0:
                    return pick(rng, ("INGB", "RABO", "ABNA")) + account
        case "BE":
            body = d(10)
            return body + f"{int(body) % 97 or 97:02d}"
        case "PT":
            body = d(19)
            return body + _mod97(body)
        case "PL":
            bank = d(7)
            return bank + str(-c.weighted(bank, (3, 9, 7, 1, 3, 9, 7)) % 10) + d(16)
        case "NO":
            while True:
                body = d(10)
                r = -c.weighted(body, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
                if r != 10:
                    return body + str(r)
        case "FI":
            body = pick(rng, ("1", "5", "8")) + d(12)
            return body + c.luhn_digit(body)
        case "CH" | "LU":
            return {"CH": "0", "LU": "00"}[country] + d({"CH": 4, "LU": 1}[country]) + d({"CH": 12, "LU": 13}[country])
        case "AT":
            return d(16)
        case "GR":
            return d(23)
    raise ValueError(country)


_IBAN_COUNTRIES = ("DE", "FR", "GB", "ES", "IT", "NL", "BE", "AT", "CH", "PL", "PT", "IE", "NO", "FI", "LU", "GR")

_IBAN_TEXTS = (
    "Bitte überweisen Sie den Betrag auf {v}, Empfänger Jule Harms.",
    "IBAN: {v}",
    "Mon IBAN est le {v}, merci de faire le virement avant vendredi.",
    "Puedes hacer la transferencia a {v} a nombre de Tomás Vega.",
    "my account is {v}, please send the deposit there",
    '{"creditor":"Noor de Wit","iban":"{v}","amount":"120.00"}',
    "Il mio conto: {v} (Chiara Lodi)",
    "Graag overmaken naar {v} t.n.v. Noor de Wit",
    "2025-03-11 INFO sepa: debit mandate for {v} accepted",
    "<CdtrAcct><Id><IBAN>{v}</IBAN></Id></CdtrAcct>",
    "name,iban\nPiotr Zając,{v}\n",
    "Numer konta: {v}",
    "refund_account={v}",
    "Kontonummer {v}, takk!",
    "UPDATE staff SET iban = '{v}' WHERE id = 88;",
    "口座は {v} です。",
)


def _iban(rng: Random, country: str) -> str:
    bban = _bban(rng, country)
    return country + c.iban_digits(country, bban) + bban


def _iban_look(rng: Random, iban: str) -> str:
    return grouped(iban, *[4] * (len(iban) // 4)) if rng.random() < 0.5 else iban


def ibans(rng: Random) -> list[Sample]:
    out = []
    for i in range(48):
        country = _IBAN_COUNTRIES[i % 16]
        out.append(
            fill(f"iban_{country.lower()}", _IBAN_TEXTS[(i * 5 + i // 16) % 16], _iban_look(rng, _iban(rng, country)))
        )
    return out


def _bad_iban(rng: Random, country: str) -> str:
    good = _iban(rng, country)
    wrong = f"{(int(good[2:4]) - 2 + rng.randrange(1, 96)) % 97 + 2:02d}"
    return good[:2] + wrong + good[4:]


_NO_IBANS: tuple[tuple[str, str, Callable[[Random], str]], ...] = (
    ("vat_id", "USt-IdNr. {v}, Handelsregister Kiel", lambda r: "DE" + digits(r, 9)),
    ("vat_id", "VAT number {v}", lambda r: "GB" + digits(r, 9)),
    ("bic", "BIC {v}", lambda r: pick(r, ("TLMKDE", "VRNHFR")) + some(r, UPPER, 2) + "XXX"),
    ("placeholder", "IBAN: {v}", lambda r: "DE00 0000 0000 0000 0000 00"),
    ("placeholder", "Format: {v}", lambda r: "FRkk BBBB BGGG GGCC CCCC CCCC CKK"),
    ("placeholder", '<input name="iban" placeholder="{v}">', lambda r: "DEXX XXXX XXXX XXXX XXXX XX"),
    ("masked", "paid from {v}", lambda r: "DE** **** **** **** **" + digits(r, 2) + " " + digits(r, 2)),
    ("unknown_country", "reference {v}", lambda r: (lambda b: "QX" + c.iban_digits("QX", b) + b)(digits(r, 18))),
    ("unknown_country", "lot code {v} arrived", lambda r: (lambda b: "ZZ" + c.iban_digits("ZZ", b) + b)(digits(r, 16))),
    ("too_short", "Kunde {v} hat gekündigt", lambda r: (lambda b: "DE" + c.iban_digits("DE", b) + b)(digits(r, 12))),
    (
        "creditor_reference",
        "pay with reference {v}",
        lambda r: (lambda b: "RF" + c.iban_digits("RF", b) + b)(digits(r, 18)),
    ),
    ("isin", "buy 20 of {v}", lambda r: "DE000" + some(r, UPPER, 3) + digits(r, 4)),
    ("tracking", "parcel {v} left Leipzig", lambda r: "RR" + digits(r, 9) + "DE"),
    ("part_number", "spare part {v} fits both models", lambda r: "GB82-" + some(r, UPPER, 4) + "-" + digits(r, 6)),
    ("hash", "sha1 {v}", lambda r: "be71" + some(r, "0123456789abcdef", 36)),
    (
        "uuid",
        "job DE-{v} failed",
        lambda r: some(r, "0123456789abcdef", 8) + "-1f2a-4c3b-9d4e-" + some(r, "0123456789abcdef", 12),
    ),
    ("base32", "otpauth label {v}", lambda r: "FR" + some(r, "234567", 2) + some(r, UPPER, 28)),
    ("account_without_iban", "Kontonummer {v}", lambda r: digits(r, 10)),
)


def no_ibans(rng: Random) -> list[Sample]:
    out = []
    for i in range(22):
        country = _IBAN_COUNTRIES[i % 16]
        text = (
            _IBAN_TEXTS[(i * 3) % 16]
            if i % 2
            else pick(
                rng,
                (
                    "the form must refuse {v}",
                    "Referenz {v}",
                    "réf. dossier {v}",
                    "ticket {v} closed",
                    "assert not iban_ok('{v}')",
                    "serial {v}",
                ),
            )
        )
        out.append(fill("wrong_check_digits", text, _iban_look(rng, _bad_iban(rng, country))))
    return out + [fill(kind, text, make(rng)) for kind, text, make in _NO_IBANS]


# national numbers


def _birth(rng: Random) -> tuple[int, int, int]:
    return rng.randrange(1950, 2000), rng.randrange(1, 13), rng.randrange(1, 29)


def _ymd(rng: Random) -> str:
    y, m, d = _birth(rng)
    return f"{y % 100:02d}{m:02d}{d:02d}"


def _dmy(rng: Random) -> str:
    y, m, d = _birth(rng)
    return f"{d:02d}{m:02d}{y % 100:02d}"


def _until(make: Callable[[], str | None]) -> str:
    while True:
        got = make()
        if got is not None:
            return got


def _us(rng: Random) -> str:
    area = _until(lambda: a if (a := f"{rng.randrange(1, 900):03d}") != "666" else None)
    return f"{area}-{rng.randrange(1, 100):02d}-{rng.randrange(1, 10000):04d}"


def _gb(rng: Random) -> str:
    first = some(rng, "ABCEGHJKLMNOPRSTWXYZ", 1) + some(rng, "ABCEGHJKLMNPRSTWXYZ", 1)
    if first in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ"):
        return _gb(rng)
    body = digits(rng, 6)
    return pick(rng, (f"{first}{body}{{}}", f"{first} {body[:2]} {body[2:4]} {body[4:]} {{}}")).format(
        some(rng, "ABCD", 1)
    )


def _de(rng: Random) -> str:
    """Of the first ten digits one stands twice, and none thrice."""
    order = list(DIGITS)
    rng.shuffle(order)
    body = order[:9]
    body.insert(rng.randrange(0, 10), pick(rng, body))
    text = "".join(body)
    doubled = any(text[i] == text[i + 1] for i in range(9))
    if text[0] == "0" or doubled:
        return _de(rng)
    number = text + c.de_digit(text)
    return f"{number[:2]} {number[2:5]} {number[5:8]} {number[8:]}" if rng.random() < 0.4 else number


def _dni(rng: Random) -> str:
    n = rng.randrange(10**7, 10**8)
    return f"{n}{pick(rng, ('', '-'))}{c.es_letter(n)}"


def _nie(rng: Random) -> str:
    i, body = rng.randrange(3), digits(rng, 7)
    return "XYZ"[i] + body + c.es_letter(int(str(i) + body))


def _cf(rng: Random) -> str:
    y, m, d = _birth(rng)
    names = "".join(some(rng, "BCDFGLMNPRSTVZ", 3) for _ in range(2))
    town = some(rng, "ABCDEFGHIL", 1) + f"{rng.randrange(100, 980)}"
    body = f"{names}{y % 100:02d}{'ABCDEHLMPRST'[m - 1]}{d + pick(rng, (0, 40)):02d}{town}"
    return body + c.it_letter(body)


def _nir(rng: Random) -> str:
    y, m, _ = _birth(rng)
    body = f"{rng.randrange(1, 3)}{y % 100:02d}{m:02d}{rng.randrange(21, 95):02d}{rng.randrange(1, 400):03d}{rng.randrange(1, 600):03d}"
    whole = body + c.fr_key(body)
    return grouped(whole, 1, 2, 2, 2, 3, 3, 2) if rng.random() < 0.5 else whole


def _bsn(rng: Random) -> str:
    return _until(lambda: b if c.nl_ok(b := str(rng.randrange(10**8, 10**9))) else None)


def _pesel(rng: Random) -> str:
    body = _ymd(rng) + digits(rng, 4)
    return body + c.pl_digit(body)


def _nif(rng: Random) -> str:
    body = str(rng.randrange(1, 4)) + digits(rng, 7)
    return body + c.pt_digit(body)


def _be(rng: Random) -> str:
    birth, serial = _ymd(rng), f"{rng.randrange(1, 998):03d}"
    key = c.be_key(birth + serial, False)
    return f"{birth[:2]}.{birth[2:4]}.{birth[4:]}-{serial}.{key}" if rng.random() < 0.6 else birth + serial + key


def _se(rng: Random) -> str:
    y, m, d = _birth(rng)
    body = f"{y % 100:02d}{m:02d}{d:02d}{digits(rng, 3)}"
    tail = f"{body[6:]}{c.luhn_digit(body)}"
    return pick(rng, (f"{body[:6]}-{tail}", f"{y}{m:02d}{d:02d}-{tail}"))


def _fi(rng: Random) -> str:
    birth, serial = _dmy(rng), f"{rng.randrange(2, 900):03d}"
    return f"{birth}-{serial}{c.fi_mark(birth + serial)}"


def _no(rng: Random) -> str:
    def one() -> str | None:
        body = _dmy(rng) + f"{rng.randrange(0, 500):03d}"
        tail = c.no_digits(body)
        return tail and body + tail

    return _until(one)


def _dk(rng: Random) -> str:
    cpr = _until(lambda: n if c.dk_ok(n := _dmy(rng) + str(rng.randrange(0, 4)) + digits(rng, 3)) else None)
    return f"{cpr[:6]}-{cpr[6:]}"


def _ch(rng: Random) -> str:
    body = "756" + digits(rng, 9)
    n = body + c.ean_digit(body)
    return f"{n[:3]}.{n[3:7]}.{n[7:11]}.{n[11:]}"


def _at(rng: Random) -> str:
    def one() -> str | None:
        serial, birth = str(rng.randrange(100, 1000)), _dmy(rng)
        mark = c.at_digit(serial, birth)
        return mark and f"{serial}{mark} {birth}"

    return _until(one)


def _cpf(rng: Random) -> str:
    body = digits(rng, 9)
    n = body + c.br_digits(body)
    return f"{n[:3]}.{n[3:6]}.{n[6:9]}-{n[9:]}" if rng.random() < 0.6 else n


def _aadhaar(rng: Random) -> str:
    body = str(rng.randrange(2, 10)) + digits(rng, 10)
    return grouped(body + c.verhoeff_digit(body), 4, 4, 4)


def _pan(rng: Random) -> str:
    return some(rng, UPPER, 3) + "P" + some(rng, UPPER, 1) + f"{rng.randrange(1, 10000):04d}" + some(rng, UPPER, 1)


def _sin(rng: Random) -> str:
    body = str(rng.randrange(1, 8)) + digits(rng, 7)
    n = body + c.luhn_digit(body)
    return grouped(n, 3, 3, 3) if rng.random() < 0.5 else f"{n[:3]}-{n[3:6]}-{n[6:]}"


def _tfn(rng: Random) -> str:
    return grouped(_until(lambda: b if c.au_ok(b := str(rng.randrange(10**8, 10**9))) else None), 3, 3, 3)


def _tr(rng: Random) -> str:
    body = str(rng.randrange(1, 10)) + digits(rng, 8)
    return body + c.tr_digits(body)


def _cnp(rng: Random) -> str:
    body = f"{rng.randrange(1, 3)}{_ymd(rng)}{rng.randrange(1, 47):02d}{rng.randrange(1, 1000):03d}"
    return body + c.ro_digit(body)


def _cz(rng: Random) -> str:
    n = _until(lambda: b if int(b := _ymd(rng) + digits(rng, 4)) % 11 == 0 else None)
    return f"{n[:6]}/{n[6:]}"


def _cn(rng: Random) -> str:
    y, m, d = _birth(rng)
    body = f"{pick(rng, ('110101', '310104', '440305', '510107'))}{y}{m:02d}{d:02d}{rng.randrange(1, 1000):03d}"
    return body + c.cn_mark(body)


def _kr(rng: Random) -> str:
    body = _ymd(rng) + str(rng.randrange(1, 3)) + digits(rng, 5)
    return f"{body[:6]}-{body[6:]}{c.kr_digit(body)}"


def _jp(rng: Random) -> str:
    body = str(rng.randrange(1, 10)) + digits(rng, 10)
    return grouped(body + c.jp_digit(body), 4, 4, 4)


def _ie(rng: Random) -> str:
    body = digits(rng, 7)
    return body + c.ie_letter(body)


def _sg(rng: Random) -> str:
    body = digits(rng, 7)
    return "S" + body + c.sg_letter("S", body)


def _za(rng: Random) -> str:
    body = _ymd(rng) + digits(rng, 4) + "08"
    return body + c.luhn_digit(body)


# kind, how often, its name, sentences of its country
_NATIONS: tuple[tuple[str, int, str, Callable[[Random], str], tuple[str, ...]], ...] = (
    ("us_ssn", 7, "SSN", _us, ("My social security number is {v}, can you fill in the W-4?", "ssn={v} dob=1984-02-11", "employee ssn: {v}", "SSN {v} was on the form")),
    ("gb_nino", 4, "National Insurance number", _gb, ("My NI number is {v}.", "National Insurance number: {v}", "NINO {v} verified")),
    ("de_steuer_id", 4, "Steuer-ID", _de, ("Meine Steuer-ID lautet {v}.", "Steueridentifikationsnummer: {v}", "IdNr. {v} (Finanzamt Kiel)")),
    ("es_dni", 4, "DNI", _dni, ("Mi DNI es {v}.", "DNI: {v}, domicilio en Sevilla", "el titular, con DNI {v}, firma el contrato")),
    ("es_nie", 2, "NIE", _nie, ("NIE {v}, renovado en mayo", "Mi NIE es {v}")),
    ("it_codice_fiscale", 4, "codice fiscale", _cf, ("Il mio codice fiscale è {v}.", "C.F. {v}", "intestatario {v}, residente a Parma")),
    ("fr_nir", 4, "numéro de sécurité sociale", _nir, ("Mon numéro de sécurité sociale : {v}", "NIR {v} enregistré", "n° sécu {v}")),
    ("nl_bsn", 3, "BSN", _bsn, ("Mijn BSN is {v}.", "burgerservicenummer: {v}")),
    ("pl_pesel", 3, "PESEL", _pesel, ("Mój PESEL to {v}.", "PESEL: {v}")),
    ("pt_nif", 2, "NIF", _nif, ("O meu NIF é {v}.", "contribuinte {v}")),
    ("be_national", 2, "rijksregisternummer", _be, ("Rijksregisternummer: {v}", "numéro national {v}")),
    ("se_personnummer", 2, "personnummer", _se, ("Mitt personnummer är {v}.", "personnr {v}")),
    ("fi_hetu", 2, "henkilötunnus", _fi, ("Henkilötunnukseni on {v}.", "hetu: {v}")),
    ("no_fodselsnummer", 2, "fødselsnummer", _no, ("Fødselsnummeret mitt er {v}.", "fnr {v}")),
    ("dk_cpr", 2, "CPR-nummer", _dk, ("Mit CPR-nummer er {v}.", "cpr: {v}")),
    ("ch_ahv", 2, "AHV-Nummer", _ch, ("AHV-Nr. {v}", "numéro AVS : {v}")),
    ("at_svnr", 1, "SV-Nummer", _at, ("Sozialversicherungsnummer {v}, versichert bei der ÖGK",)),
    ("br_cpf", 3, "CPF", _cpf, ("Meu CPF é {v}.", "CPF: {v}", "cpf={v}&nome=joao")),
    ("in_aadhaar", 2, "Aadhaar", _aadhaar, ("My Aadhaar number is {v}", "आधार संख्या {v}")),
    ("in_pan", 1, "PAN", _pan, ("PAN card {v}, income tax return attached",)),
    ("ca_sin", 2, "SIN", _sin, ("My SIN is {v}", "numéro d'assurance sociale (NAS) {v}")),
    ("au_tfn", 1, "TFN", _tfn, ("Tax file number: {v}",)),
    ("tr_tckn", 1, "TC kimlik no", _tr, ("TC kimlik numaram {v}",)),
    ("ro_cnp", 1, "CNP", _cnp, ("CNP-ul meu este {v}",)),
    ("cz_rodne_cislo", 1, "rodné číslo", _cz, ("Moje rodné číslo je {v}",)),
    ("cn_resident", 2, "身份证号", _cn, ("我的身份证号码是 {v}", "id_card={v}")),
    ("kr_rrn", 1, "주민등록번호", _kr, ("주민등록번호: {v}",)),
    ("jp_my_number", 1, "マイナンバー", _jp, ("マイナンバーは {v} です",)),
    ("ie_pps", 1, "PPS number", _ie, ("My PPS number is {v}",)),
    ("sg_nric", 1, "NRIC", _sg, ("NRIC {v} for the visitor pass",)),
    ("za_id", 1, "ID number", _za, ("South African ID number {v}",)),
)  # fmt: skip

_STRUCTURED = (
    '{"name":"{w}","{l}":"{v}"}',
    "name;{l}\n{w};{v}\n",
    "{w}\n{l}: {v}\n",
    "<person name='{w}'><id type='{l}'>{v}</id></person>",
)


def national(rng: Random) -> list[Sample]:
    out = []
    for kind, often, label, make, texts in _NATIONS:
        for i in range(often):
            text = texts[i % len(texts)]
            if i >= 2 and i % 2 == 1:
                text = pick(rng, _STRUCTURED).replace("{l}", label).replace("{w}", pick(rng, NAMES))
            out.append(fill(kind, text, make(rng)))
    return out


def _wrong(rng: Random, good: str) -> str:
    """The number with its last digit or letter changed, so that no check of any country here passes."""

    def one() -> str | None:
        i = max(i for i, x in enumerate(good) if x.isalnum())
        made = good[:i] + some(rng, DIGITS if good[i].isdigit() else UPPER, 1) + good[i + 1 :]
        return None if made == good or c.some_nation_takes(made) else made

    return _until(one)


_WRONG: tuple[tuple[str, str, Callable[[Random], str]], ...] = (
    ("de_steuer_id", "Prüfziffer falsch: Steuer-ID {v} wurde abgelehnt", _de),
    ("de_steuer_id", "Artikel {v}, 12 Stück", lambda r: _de(r).replace(" ", "")),
    ("es_dni", "el validador debe rechazar el DNI {v}", _dni),
    ("es_dni", "pieza {v} en stock", _dni),
    ("es_nie", "assert not nie_ok('{v}')", _nie),
    ("it_codice_fiscale", "codice fiscale {v} non valido (carattere di controllo)", _cf),
    ("it_codice_fiscale", "assert not cf_ok('{v}')", _cf),
    ("fr_nir", "clé incorrecte pour le NIR {v}", _nir),
    ("fr_nir", "dossier {v}", lambda r: _nir(r).replace(" ", "")),
    ("nl_bsn", "elfproef mislukt voor {v}", _bsn),
    ("nl_bsn", "ordernummer {v}", _bsn),
    ("pl_pesel", "błędny PESEL {v} w teście", _pesel),
    ("pl_pesel", "zamówienie {v}", _pesel),
    ("be_national", "test met ongeldig rijksregisternummer {v}", _be),
    ("se_personnummer", "felaktigt personnummer {v} i testet", _se),
    ("fi_hetu", "virheellinen tunnus {v}", _fi),
    ("no_fodselsnummer", "ugyldig fnr {v}", _no),
    ("ch_ahv", "EAN-Prüfung schlägt fehl: {v}", _ch),
    ("br_cpf", "CPF {v} inválido no teste", _cpf),
    ("br_cpf", "pedido {v}", lambda r: _cpf(r).replace(".", "").replace("-", "")),
    ("in_aadhaar", "verhoeff test, must fail: {v}", _aadhaar),
    ("ca_sin", "batch {v}", _sin),
    ("tr_tckn", "geçersiz kimlik no {v} (test)", _tr),
    ("cn_resident", "校验码错误: {v}", _cn),
    ("za_id", "consignment {v}", _za),
)

_NO_IDS: tuple[tuple[str, str, Callable[[Random], str]], ...] = (
    ("placeholder", "Enter your SSN as {v}", lambda r: "XXX-XX-XXXX"),
    ("placeholder", "ssn: {v}", lambda r: "000-00-0000"),
    ("ssn_never_issued", "the form must refuse {v}", lambda r: f"666-{r.randrange(10, 99)}-{r.randrange(1000, 9999)}"),
    ("ssn_never_issued", "bad area number: {v}", lambda r: f"000-{r.randrange(10, 99)}-{r.randrange(1000, 9999)}"),
    (
        "ssn_never_issued",
        "test data: {v} (group 00)",
        lambda r: f"{r.randrange(100, 665)}-00-{r.randrange(1000, 9999)}",
    ),
    ("masked", "SSN on file: {v}", lambda r: f"***-**-{digits(r, 4)}"),
    ("zip_plus_4", "Albany, NY {v}", lambda r: f"12{digits(r, 3)}-{digits(r, 4)}"),
    ("part_number", "gasket {v}-B is back in stock", lambda r: f"{digits(r, 3)}-{digits(r, 3)}-{digits(r, 3)}"),
    ("placeholder", "e.g. {v} on your payslip", lambda r: "QQ 12 34 56 C"),
    ("nino_never_issued", "the form must refuse {v}", lambda r: "BG" + digits(r, 6) + "A"),
    ("nino_wrong_suffix", "shelf {v}", lambda r: "AB" + digits(r, 6) + some(r, "EFGHJKLM", 1)),
    (
        "timestamp",
        "log-{v}.gz",
        lambda r: _until(
            lambda: (
                t
                if not c.some_nation_takes(
                    t := f"202503{r.randrange(10, 29)}{r.randrange(10, 24)}{r.randrange(10, 60)}"
                )
                else None
            )
        ),
    ),
    (
        "epoch",
        "expires={v}",
        lambda r: _until(lambda: t if not c.some_nation_takes(t := "17417" + digits(r, 5)) else None),
    ),
    (
        "isbn",
        "ISBN-10 {v}, hardcover",
        lambda r: _until(
            lambda: t if not c.some_nation_takes(t := (lambda b: b + c.isbn10_mark(b))("3" + digits(r, 8))) else None
        ),
    ),
    ("isbn", "ISBN {v}", lambda r: (lambda b: f"978-{b[3]}-{b[4:8]}-{b[8:]}-{c.ean_digit(b)}")("9783" + digits(r, 8))),
    (
        "case_number",
        "court file {v}",
        lambda r: f"{r.randrange(1, 20)} O {r.randrange(100, 400)}/{r.randrange(18, 25)}",
    ),
    ("version", "upgrade from {v}", lambda r: f"756.{digits(r, 2)}.{digits(r, 3)}"),
    ("git_sha", "bisect: {v} is bad", lambda r: some(r, "0123456789abcdef", 12)),
    (
        "uuid",
        "trace {v}",
        lambda r: some(r, "0123456789abcdef", 8) + "-4e1c-4c3b-9d4e-" + some(r, "0123456789abcdef", 12),
    ),
    ("constant", "0x{v} is the magic of the header", lambda r: some(r, "0123456789ABCDEF", 8)),
    ("flight", "Flug {v} ab Hamburg, 14:20", lambda r: "LH" + digits(r, 4)),
    ("amount", "le total est de {v} €", lambda r: f"{r.randrange(1, 9)} {digits(r, 3)} {digits(r, 3)},{digits(r, 2)}"),
    ("coordinates", "at {v} in the park", lambda r: f"53.{digits(r, 6)}, 10.{digits(r, 6)}"),
)


def no_national(rng: Random) -> list[Sample]:
    out = [fill(f"wrong_{kind}", text, _wrong(rng, make(rng))) for kind, text, make in _WRONG]
    return out + [fill(kind, text, make(rng)) for kind, text, make in _NO_IDS]
