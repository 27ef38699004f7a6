"""Rows of the classes `email`, `phone` and `ip`."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from random import Random

from .forms import Sample, fill
from .number_rows import digits
from .secret_shapes import HEX, pick, some, uuid4

_FIRST = (
    "jule",
    "tomas",
    "ines",
    "piotr",
    "noor",
    "chiara",
    "ayse",
    "maren",
    "joao",
    "haruto",
    "mei-lin",
    "olu",
    "sean.o'dwyer",
)
_LAST = ("harms", "vega", "moreau", "zajac", "dewit", "lodi", "kurt", "vik", "prado", "ono", "chen", "adeyemi")
_HOSTS = (
    "tillmark.net",
    "varnhall.com",
    "brightfen-oster.de",
    "mail.lodi-brentavo.it",
    "prado-velmor.com.br",
    "kestrelvarn.io",
    "onodera-kvist.co.jp",
    "vik-halvstad.no",
    "uni-haldensk.eu",
    "moreau-tressac.fr",
    "zajac-brzostel.pl",
    "dewit-haverlo.nl",
    "adeyemi-olukan.africa",
    "harbourfen.museum",
    "chen-varnhall.photography",
)

_EMAIL_TEXTS = (
    "You can reach me at {v} until Friday.",
    "From: Maren Vik <{v}>\nSubject: minutes\n\nsee below",
    "Schreiben Sie bitte an {v}, danke.",
    "Mon adresse est {v}.",
    "mi correo es {v}, gracias",
    "2025-03-11 09:14:22 INFO auth: login ok user={v} mfa=totp",
    '{"user":{"email":"{v}","role":"admin"}}',
    "name,email,plan\nNoor de Wit,{v},pro\n",
    '<a href="mailto:{v}?subject=hello">write us</a>',
    "INSERT INTO users (email) VALUES ('{v}');",
    "git log: Author: T. Vega <{v}>",
    "メールは {v} までお願いします。",
    "напишите мне на {v}",
    "cc {v}; she knows the numbers",
    "550 5.1.1 <{v}>: user unknown",
    "scrivimi a {v}!",
    "USER_EMAIL={v}",
    "({v})",
    "Adres e-mail:{v}",
    "请发送到{v}谢谢",
)


def _email(rng: Random) -> str:
    first, last, host = pick(rng, _FIRST), pick(rng, _LAST), pick(rng, _HOSTS)
    match rng.randrange(8):
        case 0:
            return f"{first}+news{rng.randrange(10, 99)}@{host}"
        case 1:
            return f"{first[0]}_{last}{rng.randrange(60, 99)}@{host}"
        case 2:
            return f"{first.title()}.{last.title()}@{host.title()}"
        case 3:
            return f"{last}@staff.{host}"
        case 4:
            return f"{last}-{first}@{host}"
        case _:
            return f"{first}.{last}@{host}"


def emails(rng: Random) -> list[Sample]:
    return [fill("address", _EMAIL_TEXTS[(i * 7) % 20], _email(rng)) for i in range(46)]


_NO_EMAILS = (
    ("no_tld", "ssh {v}", "deploy@|bastion"),
    ("no_tld", "scp a.tar {v}:/srv/", "ops@|build7"),
    ("no_tld", "cron mail goes to {v}", "root@|localhost"),
    ("no_tld", "GRANT ALL ON shop.* TO '{v}';", "app'@|'localhost"),
    ("no_tld", "postgres role {v}", "billing@|db1"),
    ("incomplete", "the form must refuse {v}", "jule.harms@|"),
    ("incomplete", "« {v} » n'est pas une adresse valable", "@moreau-fils|.fr"),
    ("incomplete", "invalid: {v}", "tomas@|.net"),
    ("incomplete", "invalid: {v} (two marks)", "noor@@|dewit..nl"),
    ("incomplete", "ungültig: {v}", "maren vik@ |brightfen de"),
    ("decorator", "{v}\ndef health() -> str:\n    return 'ok'\n", "@app.|route('/health')"),
    ("decorator", "{v}\ndef test_total(a, b): ...\n", "@pytest.mark.|parametrize('a,b', [(1, 2)])"),
    (
        "decorator",
        "class Order {\n  {v}\n  private List<Item> items;\n}",
        '@javax.persistence.|OneToMany(mappedBy = "order")',
    ),
    ("decorator", "x = a {v}", "@ b.|T @ c.inv"),
    ("package", "npm install {v}", "left-align@|1.3.0"),
    ("package", '"dependencies": {"{v}": "^20.1.0"}', "@types/|node"),
    ("package", "import x from 'https://esm.sh/{v}'", "preact@|10.19.2"),
    ("package", "uses: {v}", "actions/checkout@|v4.1.7"),
    ("package", "go install {v}", "golang.org/x/tools/gopls@|v0.15.3"),
    ("package", "pip install {v}", "engine @ git+https://|git.varnhall.net/core/engine.git"),
    ("digest", "docker pull {v}", "nginx@|sha256:1f2e3d4c5b6a79880f1e2d3c4b5a69788f7e6d5c4b3a29181f0e1d2c3b4a5968"),
    ("image_name", '<img src="/img/{v}">', "logo@|2x.png"),
    ("image_name", "icons: {v}", "menu@|3x.webp"),
    ("unit", "systemctl restart {v}", "getty@|tty1.service"),
    ("unit", "systemctl enable --now {v}", "wg-quick@|wg0.service"),
    ("mention", "thanks {v} for the review", "@tomas|vega"),
    ("mention", "@channel deploy at 14:00, {v} is on call", "@jule|.harms"),
    ("price", "price: 3 {v}", "@ 4.50 |EUR"),
    ("css", "{v}{color:red}", "@media screen and (min-width:40em)|"),
    ("css", "{v} { .a { width: 50% } }", "@container |card (min-width: 400px)"),
    ("jsdoc", "/** {v} */", "@param {string} |name.first the given name"),
    ("template", "contact: {v}", "{{ user }}@|{{ domain }}"),
    ("template", "EMAIL={v}", "${USER}@|${HOST}"),
    ("placeholder", "email: {v}", "<name>@|<domain>"),
    ("masked", "code sent to {v}", "j***@|***.net"),
    ("matlab", "f = {v};", "@(x) x.^2 + |sin(x)"),
    ("swift", "{v} var name = ''", "@Published.|Projected"),
    ("sigil", "SELECT {v} FROM t", "@total := @total + |t.amount"),
)


def no_emails(rng: Random) -> list[Sample]:
    return [fill(kind, text, value.replace("|", "")) for kind, text, value in _NO_EMAILS]


# phones


def _form(pattern: str) -> Callable[[Random], str]:
    """`#` is any digit, `N` one from 2 to 9."""
    return lambda rng: "".join(
        digits(rng, 1) if x == "#" else some(rng, "23456789", 1) if x == "N" else x for x in pattern
    )


def _us_number(pattern: str) -> Callable[[Random], str]:
    def make(rng: Random) -> str:
        area = pick(rng, ("212", "305", "312", "415", "503", "617", "702", "718", "808", "919"))
        office = f"{rng.randrange(2, 10)}{rng.randrange(2, 10)}{rng.randrange(0, 10)}"
        return make(rng) if office == "555" else pattern.format(a=area, o=office, s=digits(rng, 4))

    return make


_PHONES: tuple[tuple[str, str, Callable[[Random], str]], ...] = (
    ("us", "Call me at {v} after five.", _us_number("({a}) {o}-{s}")),
    ("us", "phone: {v}", _us_number("{a}-{o}-{s}")),
    ("us", '{"name":"Olu","mobile":"{v}"}', _us_number("+1{a}{o}{s}")),
    ("us", "text {v} when you land", _us_number("+1 {a} {o} {s}")),
    ("us", "Tel. {v} ext. 12", _us_number("+1-{a}-{o}-{s}")),
    ("us", "name,phone\nNoor,{v}\n", _us_number("{a}.{o}.{s}")),
    ("gb", "my mobile is {v}", _form("077## ######")),
    ("gb", "ring the office on {v}", _form("020 7### ####")),
    ("gb", "WhatsApp: {v}", _form("+44 78## ######")),
    ("de", "Ruf mich an: {v}", _form("0171 N######")),
    ("de", "Telefon {v}", _form("+49 30 N#######")),
    ("de", "Handy: {v}, abends ab 18 Uhr", _form("0160/N######")),
    ("de", "Tel.: {v}", _form("+49 (0)89 N######")),
    ("fr", "Mon numéro : {v}", _form("06 ## ## ## ##")),
    ("fr", "appelez le {v}", _form("+33 7 5# ## ## ##")),
    ("fr", "tél. {v}", _form("01.4#.##.##.##")),
    ("es", "llámame al {v}", _form("6## ### ###")),
    ("es", "teléfono {v}", _form("+34 91N ## ## ##")),
    ("it", "cellulare {v}", _form("+39 34# ### ####")),
    ("it", "chiamami al {v}", _form("347 N######")),
    ("nl", "bel me op {v}", _form("06-N#######")),
    ("nl", "tel: {v}", _form("+31 6 N#######")),
    ("be", "gsm {v}", _form("+32 47# ## ## ##")),
    ("at", "erreichbar unter {v}", _form("+43 664 N######")),
    ("ch", "Natel {v}", _form("+41 79 N## ## ##")),
    ("pl", "mój telefon {v}", _form("+48 60# ### ###")),
    ("se", "ring mig på {v}", _form("+46 70 N## ## ##")),
    ("no", "mobil {v}", _form("+47 9## ## ###")),
    ("dk", "mobil: {v}", _form("+45 N# ## ## ##")),
    ("pt", "telemóvel {v}", _form("+351 91# ### ###")),
    ("ie", "mobile {v}", _form("+353 87 N## ####")),
    ("br", "meu WhatsApp é {v}", _form("+55 11 9N###-####")),
    ("br", "telefone (celular): {v}", _form("(21) 9N###-####")),
    ("mx", "mi celular es {v}", _form("+52 55 N### ####")),
    ("in", "my number is {v}", _form("+91 98### #####")),
    ("jp", "電話番号は {v} です", _form("090-N###-####")),
    ("jp", "tel {v}", _form("+81 3-N###-####")),
    ("cn", "我的手机号是 {v}", _form("138N#######")),
    ("kr", "전화번호 {v}", _form("010-N###-####")),
    ("au", "mobile {v}", _form("+61 4N# ### ###")),
    ("tr", "cep: {v}", _form("+90 53# N## ## ##")),
    ("ru", "мой телефон {v}", _form("+7 916 N##-##-##")),
    ("ua", "тел. {v}", _form("+380 67 N## ## ##")),
    ("za", "cell {v}", _form("+27 82 N## ####")),
    ("ng", "call {v}", _form("+234 803 N## ####")),
    ("ae", "mobile: {v}", _form("+971 50 N## ####")),
    ("link", '<a href="tel:{v}">call</a>', _form("+4940N######")),
    ("log", "2025-03-11 INFO sms: sent to {v} parts=1", _form("+336########")),
)


def phones(rng: Random) -> list[Sample]:
    return [fill(kind, text, make(rng)) for kind, text, make in _PHONES]


_NO_PHONES: tuple[tuple[str, str, Callable[[Random], str]], ...] = (
    ("part_number", "part {v} fits the older pump", _form("0###-44-###")),
    ("part_number", "Ersatzteil-Nr. {v}", _form("A 205 8## ## ##")),
    ("part_number", "SKU {v} is out of stock", _form("303-###-####-B")),
    ("part_number", "Artikelnummer {v} passt nicht", _form("49.30.####.##")),
    ("order_number", "order {v} ships tomorrow", _form("114-#######-#######")),
    ("order_number", "commande n° {v}", _form("2025-0######")),
    ("order_number", "pedido {v} entregado", _form("000#######")),
    ("invoice", "Rechnung {v} vom 3. März", _form("RE-2025-0####")),
    ("timestamp", "{v} INFO started", _form("2025-03-11 09:14:22.###")),
    ("timestamp", "backup-{v}.tar", _form("20250311-0914##")),
    ("epoch", "exp={v} iat=0", _form("17417#####")),
    ("epoch", '{"created":{v},"n":2}', _form("17417########")),
    ("version", "driver {v} installed", _form("551.23.##.0")),
    ("version", "build {v}", _form("10.0.22631.3###")),
    ("isbn", "ISBN {v}", _form("978-3-16-######-#")),
    ("issn", "ISSN {v}", _form("0317-84##")),
    ("mac", "eth0 HWaddr {v}", _form("02:42:#c:11:00:0#")),
    ("uuid", "req {v}", uuid4),
    ("ip_port", "listening on {v}", _form("127.0.0.1:80##")),
    ("coordinates", "meet at {v}", _form("53.5#####, 10.0#####")),
    ("coordinates", "bbox={v}", _form("-122.4####,37.7####")),
    ("range", "open from {v}", _form("1990-2024, 08-16 h")),
    ("date", "Termin am {v}", _form("11.03.2025, 14:##")),
    ("dimensions", "box {v} mm", _form("1200 x 800 x 144#")),
    ("amount", "Umsatz {v} EUR", _form("1.2##.###,00")),
    ("amount", "population {v}", _form("83,2##,###")),
    ("sum", "x = {v}", _form("4915#### + 3012####")),
    ("hash", "commit {v} broke it", lambda r: some(r, HEX, 40)),
    ("zip_plus_4", "Albany, NY {v}", _form("12###-####")),
    ("doi", "doi:{v}", _form("10.1016/j.cell.2024.0#.0##")),
    ("arxiv", "arXiv:{v}", _form("2403.1####")),
    ("cve", "fixes {v}", _form("CVE-2024-3####")),
    ("float", "loss={v}", _form("0.69314#######")),
    ("matrix", "[{v}]", _form("49, 30, 12, 3#, 56, 78")),
    ("tracking", "parcel {v} is in Leipzig", _form("1Z999AA1012345####")),
    ("ean", "barcode {v} oat milk", _form("40########## #")),
    ("rfc", "see {v}", _form("RFC 9110 15.5.1#")),
    ("placeholder", "phone: {v}", lambda r: "+49 XXX XXXXXXX"),
    ("placeholder", "format: {v}", lambda r: "(###) ###-####"),
    ("masked", "code sent to {v}", _form("+49 *** *** **##")),
    ("emergency", "dial {v} in an emergency", lambda r: "112"),
)


def no_phones(rng: Random) -> list[Sample]:
    return [fill(kind, text, make(rng)) for kind, text, make in _NO_PHONES]


# addresses of the internet

_OCTETS = (
    5,
    24,
    31,
    46,
    62,
    67,
    73,
    77,
    78,
    79,
    81,
    82,
    84,
    86,
    88,
    91,
    93,
    95,
    109,
    176,
    178,
    185,
    188,
    194,
    212,
    213,
    217,
)


def v4(rng: Random) -> str:
    made = f"{pick(rng, _OCTETS)}.{rng.randrange(1, 255)}.{rng.randrange(1, 255)}.{rng.randrange(1, 255)}"
    return made if ipaddress.ip_address(made).is_global else v4(rng)


def v6(rng: Random) -> str:
    """A global unicast address, at times in full, at times shortened."""
    start = pick(rng, ("2a02", "2a01", "2003", "2600", "2804", "240e", "2a0d"))
    groups = [start, *(some(rng, "123456789abcdef", 1) + some(rng, HEX, 3) for _ in range(7))]
    match rng.randrange(3):
        case 0:
            made = ":".join(groups)
        case 1:
            made = ":".join(groups[:4]) + "::" + some(rng, "123456789abcdef", 1)
        case _:
            made = ":".join(groups[:3]) + "::" + groups[7].upper()
    return made if ipaddress.ip_address(made).is_global else v6(rng)


_IP_TEXTS = (
    '{v} - - [11/Mar/2025:09:14:22 +0000] "GET /cart HTTP/1.1" 200 4012',
    "sshd[812]: Failed password for root from {v} port 51022 ssh2",
    "X-Forwarded-For: {v}",
    "my home IP is {v}, please put it on the allow list",
    '{"event":"login","user_id":8812,"client_ip":"{v}"}',
    "Die Anfrage kam von {v}.",
    "adresse IP du client : {v}",
    "la IP del usuario es {v}",
    "user_id,ip,country\n8812,{v},NO\n",
    "iptables -A INPUT -s {v} -j DROP",
    "Received: from relay (unknown [{v}]) by mx.tillmark.net",
    "remote_addr={v} method=POST path=/login status=401",
    "IPアドレス {v} からアクセスがありました",
    "заблокируй {v}, это бот",
    "ping {v} works from here, from the office it does not",
    "UPDATE sessions SET last_ip = '{v}' WHERE user_id = 8812;",
    "fail2ban: Ban {v}",
    "A visitor ({v}) left a comment.",
)


def ips(rng: Random) -> list[Sample]:
    out = []
    for i in range(46):
        value, kind = (v6(rng), "v6") if i % 4 == 3 else (v4(rng), "v4")
        out.append(fill(kind, _IP_TEXTS[(i * 5) % 18], value))
    out.append(fill("v4_port", "peer {v}:44312 connected", v4(rng)))
    out.append(fill("v6_port", "peer [{v}]:44312 connected", v6(rng)))
    return out


def _quad(rng: Random) -> str:
    return ".".join(str(rng.randrange(1, 30)) for _ in range(4))


def _is(text: str) -> Callable[[Random], str]:
    return lambda rng: text


_NO_IPS: tuple[tuple[str, str, Callable[[Random], str]], ...] = (
    ("version", "upgrade libfoo to version {v} today", _quad),
    ("version", "firmware {v} fixes the fan", _quad),
    ("version", "engine-{v}.tar.gz", _quad),
    ("version", '{"name":"left-align","version":"{v}"}', _quad),
    ("version", "Version={v}, Culture=neutral, PublicKeyToken=null", _is("4.0.0.0")),
    ("version", "Chrome/{v} Safari/537.36", lambda r: f"120.0.{r.randrange(6000, 6999)}.{r.randrange(100, 250)}"),
    ("version", "assembly version {v} was built on Tuesday", _is("1.2.3.4")),
    ("version", "Windows build {v}", lambda r: f"10.0.22631.{r.randrange(3000, 4000)}"),
    ("section", "see section {v} of the manual", lambda r: ".".join(str(r.randrange(1, 9)) for _ in range(4))),
    ("section", "Kapitel {v}: Wartung", lambda r: ".".join(str(r.randrange(1, 9)) for _ in range(4))),
    ("oid", "OID {v}", _is("1.3.6.1.4.1.311.21.20")),
    ("oid", "extension {v} is critical", _is("2.5.29.15.0.1")),
    ("octet_too_big", "invalid address: {v}", lambda r: f"{r.randrange(300, 999)}.{r.randrange(256, 300)}.1.1"),
    (
        "octet_too_big",
        "assert not is_ip('{v}')",
        lambda r: f"81.{r.randrange(256, 999)}.{r.randrange(256, 999)}.{r.randrange(256, 999)}",
    ),
    ("too_many_parts", "metric {v}", lambda r: ".".join(str(r.randrange(1, 99)) for _ in range(6))),
    ("loopback", "listening on {v}:8080", _is("127.0.0.1")),
    ("loopback", "curl http://{v}:9000/health", _is("127.0.0.1")),
    ("loopback", "bind [{v}]:8080", _is("::1")),
    ("unspecified", "uvicorn --host {v} --port 80", _is("0.0.0.0")),
    ("unspecified", "listen [{v}]:443 ssl;", _is("::")),
    ("broadcast", "send to {v}", _is("255.255.255.255")),
    ("netmask", "netmask {v}", _is("255.255.255.0")),
    ("netmask", "ifconfig eth0 netmask {v} up", _is("255.255.240.0")),
    ("documentation", "for example {v}", lambda r: f"192.0.2.{r.randrange(1, 255)}"),
    ("documentation", "set the peer to {v} (an example)", lambda r: f"198.51.100.{r.randrange(1, 255)}"),
    ("documentation", "zum Beispiel {v}", lambda r: f"203.0.113.{r.randrange(1, 255)}"),
    ("documentation", "route add {v} dev eth0", lambda r: f"2001:db8::{r.randrange(1, 99)}"),
    ("mac", "ether {v} txqueuelen 1000", lambda r: ":".join(some(r, HEX, 2) for _ in range(6))),
    ("mac", "DHCPACK to {v} via eth0", lambda r: ":".join(some(r, HEX, 2) for _ in range(6))),
    ("time", "elapsed {v}", lambda r: f"{r.randrange(10, 24)}:{r.randrange(10, 60)}:{r.randrange(10, 60)}"),
    ("time", "at {v} the job ended", lambda r: f"09:14:{r.randrange(10, 60)}.{digits(r, 3)}"),
    ("rust_path", "use {v}::Error;", _is("bed::cafe")),
    ("cpp_scope", "auto x = {v}();", _is("abc::dec::add")),
    ("fingerprint", "MD5:{v}", lambda r: ":".join(some(r, HEX, 2) for _ in range(16))),
    ("amount", "harga Rp {v}", _is("1.234.156.200")),
    ("amount", "Einwohner: {v}", _is("83.237.124")),
    ("date", "Termin am {v}", lambda r: f"{r.randrange(10, 28)}.03.2025 um 14.{r.randrange(10, 60)} Uhr"),
    ("uuid", "id {v}", uuid4),
    ("placeholder", "host: {v}", _is("x.x.x.x")),
    ("masked", "client {v} (anonymised)", lambda r: f"81.xxx.xxx.{r.randrange(1, 255)}"),
)


def no_ips(rng: Random) -> list[Sample]:
    return [fill(kind, text, make(rng)) for kind, text, make in _NO_IPS]
