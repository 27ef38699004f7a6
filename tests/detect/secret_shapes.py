"""Invented secrets in the public shapes of their makers. Prefixes are written with a bar in them, which is dropped.

Every part that would be secret is random; no row was ever issued by anyone.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from random import Random

from .checkdigits import B62, crc_base62

HEX = "0123456789abcdef"
LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"
UPPER32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
B64 = B62 + "+/"
URL64 = B62 + "-_"

type Shape = Callable[[Random], str]


def some(rng: Random, alphabet: str, n: int) -> str:
    return "".join(alphabet[rng.randrange(len(alphabet))] for _ in range(n))


def raw(rng: Random, n: int) -> bytes:
    return bytes(rng.randrange(256) for _ in range(n))


def pick[T](rng: Random, of: tuple[T, ...] | list[T]) -> T:
    return of[rng.randrange(len(of))]


def b64(body: bytes) -> str:
    return base64.b64encode(body).decode()


def url64(body: bytes) -> str:
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def like(pattern: str, alphabet: str = B62, n: int = 0, tail: str = "") -> Shape:
    """A prefix (bars dropped), `n` random characters, a tail."""
    return lambda rng: pattern.replace("|", "") + some(rng, alphabet, n) + tail


def with_crc(pattern: str) -> Shape:
    def shape(rng: Random) -> str:
        body = some(rng, B62, 30)
        return pattern.replace("|", "") + body + crc_base62(body)

    return shape


def aws_secret(rng: Random) -> str:
    return some(rng, B64, 40)


def azure_key(rng: Random) -> str:
    return b64(raw(rng, 64))


def openai_old(rng: Random) -> str:
    return "s" + "k-" + some(rng, B62, 20) + "T3Blbk" + "FJ" + some(rng, B62, 20)


def openai_project(rng: Random) -> str:
    return "s" + "k-proj-" + some(rng, URL64, 74) + "T3Blbk" + "FJ" + some(rng, URL64, 74)


def slack_bot(rng: Random) -> str:
    return "xo" + f"xb-{some(rng, '123456789', 12)}-{some(rng, '123456789', 13)}-{some(rng, B62, 24)}"


def slack_user(rng: Random) -> str:
    parts = "-".join(some(rng, "123456789", 12) for _ in range(3))
    return "xo" + f"xp-{parts}-{some(rng, HEX, 32)}"


def slack_hook(rng: Random) -> str:
    ids = f"T{some(rng, UPPER32, 10)}/B{some(rng, UPPER32, 10)}"
    return "https://hooks.sla" + f"ck.com/services/{ids}/{some(rng, B62, 24)}"


def discord_bot(rng: Random) -> str:
    who = url64(str(rng.randrange(10**17, 10**18)).encode())
    return f"{who}.G{some(rng, URL64, 5)}.{some(rng, URL64, 38)}"


def discord_hook(rng: Random) -> str:
    return "https://discord.com/api/web" + f"hooks/{rng.randrange(10**18, 2 * 10**18)}/{some(rng, URL64, 68)}"


def telegram_bot(rng: Random) -> str:
    return f"{rng.randrange(10**9, 8 * 10**9)}:AA{some(rng, 'EFGH', 1)}{some(rng, URL64, 32)}"


def sendgrid(rng: Random) -> str:
    return "S" + f"G.{some(rng, URL64, 22)}.{some(rng, URL64, 43)}"


def github_fine(rng: Random) -> str:
    return "github" + f"_pat_{some(rng, B62, 22)}_{some(rng, B62, 59)}"


def paypal(rng: Random) -> str:
    return "access_token$" + f"production${some(rng, LOWER, 16)}${some(rng, HEX, 32)}"


def pypi(rng: Random) -> str:
    caveat = json.dumps({"version": 1, "permissions": "user"}).encode()
    who = uuid4(rng).encode()
    issuer = base64.b64decode("cHlwaS5vcmc=")
    body = (
        b"\x02\x01\x08" + issuer + b"\x02\x24" + who + b"\x00\x02" + bytes([len(caveat)]) + caveat + b"\x00\x00\x06\x20"
    )
    return "py" + "pi-" + url64(body + raw(rng, 32))


def azure_app(rng: Random) -> str:
    return some(rng, B62, 3) + str(rng.randrange(7, 9)) + "Q~" + some(rng, URL64 + "~.", 34)


def grafana(rng: Random) -> str:
    body = some(rng, B62, 32)
    return "gl" + f"sa_{body}_{zlib.crc32(body.encode()):08x}"


def airtable(rng: Random) -> str:
    return "pa" + f"t{some(rng, B62, 14)}.{some(rng, HEX, 64)}"


def terraform(rng: Random) -> str:
    return f"{some(rng, B62, 14)}.atlas" + f"v1.{some(rng, B62, 67)}"


def facebook(rng: Random) -> str:
    return "EA" + "ACE" + some(rng, B62, 175)


def jwt(rng: Random) -> str:
    """Header and claims that are JSON, and a random signature of the right length."""
    name, n = pick(rng, [("HS256", 32), ("RS256", 256), ("ES256", 64), ("HS512", 64), ("EdDSA", 64)])
    head = {"alg": name, "typ": "JWT"} if rng.random() < 0.6 else {"typ": "JWT", "alg": name, "kid": some(rng, HEX, 16)}
    at = rng.randrange(1_700_000_000, 1_760_000_000)
    claims = {"iss": "https://login.varnhall.net/", "sub": some(rng, LOWER, 12), "iat": at, "exp": at + 86400}
    parts = [json.dumps(p, separators=(",", ":")).encode() for p in (head, claims)] + [raw(rng, n)]
    return ".".join(url64(p) for p in parts)


def _tlv(tag: int, body: bytes) -> bytes:
    n = len(body)
    if n < 128:
        return bytes([tag, n]) + body
    size = n.to_bytes((n.bit_length() + 7) // 8)
    return bytes([tag, 128 + len(size)]) + size + body


def _big(rng: Random, n: int) -> bytes:
    return _tlv(2, b"\x00" + bytes([rng.randrange(128, 256)]) + raw(rng, n - 2) + bytes([rng.randrange(256) | 1]))


def _pem(words: str, body: bytes, headers: str = "") -> str:
    text = b64(body)
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"-----BEG|IN {words}-----\n{headers}{lines}\n-----END {words}-----".replace("|", "")


def _rsa(rng: Random) -> bytes:
    sizes = [64, 64, 32, 32, 32, 32, 32]  # of a 512 bit key, to keep rows short
    n, d, *rest = [_big(rng, k) for k in sizes]
    return _tlv(0x30, _tlv(2, b"\0") + n + _tlv(2, b"\x01\x00\x01") + d + b"".join(rest))


_RSA_OID = bytes.fromhex("300d06092a864886f70d0101010500")
_P256_OID = bytes.fromhex("06082a8648ce3d030107")
_EC_OID = bytes.fromhex("06072a8648ce3d0201")
_ED_OID = bytes.fromhex("06032b6570")


def pem_rsa(rng: Random) -> str:
    return _pem("RSA PRIV" + "ATE KEY", _rsa(rng))


def pem_rsa_locked(rng: Random) -> str:
    lock = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,{some(rng, HEX.upper(), 32)}\n\n"
    return _pem("RSA PRIV" + "ATE KEY", raw(rng, 320), lock)


def pem_pkcs8(rng: Random) -> str:
    return _pem("PRIV" + "ATE KEY", _tlv(0x30, _tlv(2, b"\0") + _RSA_OID + _tlv(4, _rsa(rng))))


def pem_ed25519(rng: Random) -> str:
    body = _tlv(0x30, _tlv(2, b"\0") + _tlv(0x30, _ED_OID) + _tlv(4, _tlv(4, raw(rng, 32))))
    return _pem("PRIV" + "ATE KEY", body)


def pem_ec(rng: Random) -> str:
    point = _tlv(0xA1, _tlv(3, b"\x00\x04" + raw(rng, 64)))
    return _pem(
        "EC PRIV" + "ATE KEY", _tlv(0x30, _tlv(2, b"\1") + _tlv(4, raw(rng, 32)) + _tlv(0xA0, _P256_OID) + point)
    )


def pem_dsa(rng: Random) -> str:
    parts = [_big(rng, k) for k in (128, 20, 128, 128, 20)]
    return _pem("DSA PRIV" + "ATE KEY", _tlv(0x30, _tlv(2, b"\0") + b"".join(parts)))


def _ssh(*parts: bytes) -> bytes:
    return b"".join(len(p).to_bytes(4) + p for p in parts)


def openssh(rng: Random) -> str:
    public = _ssh(b"ssh-ed25519", raw(rng, 32))
    check = raw(rng, 4)
    inner = check + check + public + _ssh(raw(rng, 64), b"deploy@build7")
    inner += bytes(range(1, 1 + -len(inner) % 8))
    body = b"openssh-key-v1\0" + _ssh(b"none", b"none", b"") + (1).to_bytes(4) + _ssh(public, inner)
    text = b64(body)
    lines = "\n".join(text[i : i + 70] for i in range(0, len(text), 70))
    words = "OPENSSH PRIV" + "ATE KEY"
    return f"-----BEGIN {words}-----\n{lines}\n-----END {words}-----"


def pgp(rng: Random) -> str:
    text = _pem("PGP PRIV" + "ATE KEY BLOCK", b"\x94\x58\x04" + raw(rng, 380), "\n")
    return text.replace("\n-----END", f"\n={some(rng, B64, 4)}\n-----END")


def pem_public(rng: Random) -> str:
    body = _tlv(0x30, _tlv(0x30, _EC_OID + _P256_OID) + _tlv(3, b"\x00\x04" + raw(rng, 64)))
    return _pem("PUBLIC KEY", body)


def pem_certificate(rng: Random) -> str:
    return _pem(
        "CERTIFICATE", _tlv(0x30, _tlv(0x30, raw(rng, 300)) + _tlv(0x30, _ED_OID) + _tlv(3, b"\0" + raw(rng, 64)))
    )


def pem_request(rng: Random) -> str:
    return _pem("CERTIFICATE REQUEST", _tlv(0x30, _tlv(0x30, raw(rng, 180)) + _tlv(3, b"\0" + raw(rng, 64))))


def pgp_public(rng: Random) -> str:
    return _pem("PGP PUBLIC KEY BLOCK", b"\x98\x33\x04" + raw(rng, 260), "\n")


def ssh_public(rng: Random) -> str:
    if rng.random() < 0.6:
        return "ssh-ed25519 " + b64(_ssh(b"ssh-ed25519", raw(rng, 32)))
    return "ssh-rsa " + b64(_ssh(b"ssh-rsa", b"\x01\x00\x01", b"\0" + raw(rng, 256)))


def password(rng: Random) -> str:
    """12 to 20 characters of all kinds, as a generator of passwords gives."""
    n = rng.randrange(12, 21)
    body = [some(rng, "abcdefghjkmnpqrstuvwxyz", 1), some(rng, "ABCDEFGHJKLMNPQRSTUVWXYZ", 1), some(rng, "23456789", 2)]
    body += [some(rng, "!*+-_.", 1), some(rng, B62, n - 5)]
    chars = list("".join(body))
    rng.shuffle(chars)
    text = "".join(chars).strip(".!*+-_")
    return text if len(text) >= 12 else password(rng)


def uuid4(rng: Random) -> str:
    h = some(rng, HEX, 32)
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{pick(rng, list('89ab'))}{h[17:20]}-{h[20:]}"


def png(rng: Random) -> str:
    """A real small PNG of noise, base64; deflate blocks stored, so that every zlib gives the same bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4) + name + body + zlib.crc32(name + body).to_bytes(4)

    side = rng.randrange(6, 12)
    rows = b"".join(b"\0" + raw(rng, side * 3) for _ in range(side))
    size = len(rows)
    packed = b"\x78\x01\x01" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little")
    packed += rows + zlib.adler32(rows).to_bytes(4)
    head = side.to_bytes(4) * 2 + b"\x08\x02\0\0\0"
    return b64(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
