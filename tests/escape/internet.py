"""The fake internet: a network namespace that is every address there is, answers on every port, and writes all down.

``python -m tests.escape.internet NOTES CERTIFICATE``: makes the namespace, says ``unshared``, waits for a line (by then
the link ``inet0`` is there), says ``ready``. TLS, HTTP, DNS by both transports, SOCKS and plain bytes are told apart by
how they begin, so that all ports are alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from .notes import Notes

ADDRESS4, ADDRESS6 = "192.0.2.1", "2001:db8:ff::1"
HOST4, HOST6 = "192.0.2.2", "2001:db8:ff::2"
LINK, HOST_LINK = "02:00:5e:00:53:01", "02:00:5e:00:53:02"
"""Of the two ends of the link. Each knows the other for good: the table of neighbours is one for all namespaces, and
attempts fill it."""
PUBLIC4, PUBLIC6 = "93.184.215.14", "2606:2800:21f:cb07::1"
ALLOWED4, ALLOWED6 = "151.101.1.55", "2a04:4e42::755"
ALLOWED, FORBIDDEN = "allowed.example.net", "forbidden.example.org"
_TCP_PORT, _UDP_PORT = 9999, 9998
_QUIET_S = 2
_SO_RCVBUFFORCE = 33
_COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()  # fmt: skip
_MOST_THREADS = 400
_RULES = f"""
table inet everything {{
  chain in {{
    type nat hook prerouting priority -100
    iifname "inet0" meta l4proto tcp redirect to :{_TCP_PORT}
    iifname "inet0" meta l4proto udp redirect to :{_UDP_PORT}
  }}
}}
"""
_SETUP = f"""
echo 0 > /proc/sys/net/ipv6/conf/inet0/accept_dad
ip link set lo up
ip address add {ADDRESS4}/24 dev inet0
ip address add {ADDRESS6}/64 dev inet0 nodad
ip link set inet0 up
ip neigh add {HOST4} lladdr {HOST_LINK} dev inet0 nud permanent
ip neigh add {HOST6} lladdr {HOST_LINK} dev inet0 nud permanent
ip route add default via {HOST4}
ip -6 route add default via {HOST6}
ip rule add iif inet0 lookup 100 priority 10
ip -6 rule add iif inet0 lookup 100 priority 10
ip route add local default dev lo table 100
ip -6 route add local default dev lo table 100
echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter
echo 0 > /proc/sys/net/ipv4/conf/inet0/rp_filter
echo 0 > /proc/sys/net/ipv4/conf/default/rp_filter
echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
"""


def dns_name(message: bytes) -> str:
    """The first name that is asked for, or nothing."""
    labels: list[str] = []
    at = 12
    while at < len(message) and 0 < message[at] < 64:
        labels.append(message[at + 1 : at + 1 + message[at]].decode("latin-1"))
        at += 1 + message[at]
    return ".".join(labels) if at < len(message) and message[at] == 0 else ""


def is_dns(message: bytes) -> bool:
    """Does it look like a question?"""
    return len(message) > 16 and message[2] & 0x80 == 0 and message[4:6] == b"\0\x01" and bool(dns_name(message))


def dns_answer(message: bytes) -> bytes:
    """An answer to any question: an A record for A, AAAA for AAAA, a text for the rest."""
    name = dns_name(message)
    end = 12 + sum(len(label) + 1 for label in name.split(".")) + 5
    kind = struct.unpack("!H", message[end - 4 : end - 2])[0]
    four, six = (ALLOWED4, ALLOWED6) if name.lower() == ALLOWED else (PUBLIC4, PUBLIC6)
    value = {1: socket.inet_aton(four), 28: socket.inet_pton(socket.AF_INET6, six)}.get(kind, b"\x02ok")
    kind = kind if kind in (1, 28) else 16
    head = message[:2] + b"\x81\x80\0\x01\0\x01\0\0\0\0"
    return head + message[12:end] + b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(value)) + value


def http_answer(text: bytes) -> bytes:
    """An answer to any request."""
    head = text.split(b"\r\n", 1)[0].decode("latin-1")
    if head.startswith("CONNECT "):
        return b"HTTP/1.1 200 OK\r\n\r\n"
    if "/open/redirect/" in head:
        nonce = head.split("/open/redirect/", 1)[1].split(" ")[0][::-1]
        return f"HTTP/1.1 302 Found\r\nlocation: https://{FORBIDDEN}/{nonce}\r\ncontent-length: 0\r\n\r\n".encode()
    if "/open/alt" in head:
        return b'HTTP/1.1 200 OK\r\nalt-svc: h3=":8443"; ma=60\r\ncontent-length: 2\r\n\r\nok'
    if head.startswith("POST /v1/chat/completions "):
        return (
            f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(_COMPLETION)}\r\n\r\n"
        ).encode() + _COMPLETION
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"


def _is_http(text: bytes) -> bool:
    return b" HTTP/1." in text.split(b"\r\n", 1)[0]


def answer(text: bytes) -> bytes:
    """What a server of the kind that this seems to be for would say first."""
    if _is_http(text):
        return http_answer(text)
    if len(text) > 18 and struct.unpack("!H", text[:2])[0] == len(text) - 2 and is_dns(text[2:]):
        reply = dns_answer(text[2:])
        return struct.pack("!H", len(reply)) + reply
    if text[:3] == b"\x05\x01\x00" and len(text) == 3:
        return b"\x05\x00"
    return b"ok"


class Internet:
    """The servers and the sniffer."""

    def __init__(self, notes: Path, certificate: Path) -> None:
        self.notes = Notes(notes)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate)
        self._tls.set_alpn_protocols(["http/1.1"])
        self._room = threading.Semaphore(_MOST_THREADS)

    def sniff(self) -> None:
        """Every frame that comes in by the link, whatever it is."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as sock:
            sock.bind(("inet0", 3))
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
            while True:
                try:
                    frame, sender = sock.recvfrom(65_536)
                except OSError:  # the link went down; it may come up again
                    time.sleep(0.02)
                    continue
                if sender[2] != socket.PACKET_OUTGOING:
                    self.notes.add("frame", frame, to=destination(frame))

    def udp(self) -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
            sock.bind(("::", _UDP_PORT))
            while True:
                with contextlib.suppress(OSError):
                    text, peer = sock.recvfrom(65_536)
                    self.notes.add("udp", text, name=dns_name(text) if is_dns(text) else "")
                    sock.sendto(dns_answer(text) if is_dns(text) else b"ok", peer)

    def tcp(self) -> None:
        with socket.socket(socket.AF_INET6) as server:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("::", _TCP_PORT))
            server.listen(512)
            while True:
                peer, _ = server.accept()
                self._room.acquire()
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            with peer, contextlib.suppress(OSError, ValueError):
                peer.settimeout(_QUIET_S)
                first = peer.recv(1, socket.MSG_PEEK)
                sock: socket.socket = self._tls.wrap_socket(peer, server_side=True) if first == b"\x16" else peer
                with sock:
                    self._talk(sock, "tls" if first == b"\x16" else "tcp")
        finally:
            self._room.release()

    def _talk(self, sock: socket.socket, by: str) -> None:
        while text := sock.recv(65_536):
            inner = text[2:]
            self.notes.add(by, text, name=dns_name(inner) if is_dns(inner) else "")
            sock.sendall(answer(text))


def destination(frame: bytes) -> str:
    """Where a frame is addressed to: an IP address, or the kind of frame; for people."""
    kind = frame[12:14]
    if kind == b"\x08\0" and len(frame) > 34:
        return socket.inet_ntoa(frame[30:34])
    if kind == b"\x86\xdd" and len(frame) > 54:
        return socket.inet_ntop(socket.AF_INET6, frame[38:54])
    return f"type {kind.hex()}"


def main() -> None:
    """Be the internet until killed."""
    os.unshare(os.CLONE_NEWNET)
    print("unshared", flush=True)
    sys.stdin.readline()
    # a /sys and /proc/sys of this namespace come with the process's own view of /proc
    subprocess.run(["bash", "-euc", _SETUP], check=True)
    subprocess.run(["nft", "-f", "-"], input=_RULES, text=True, check=True)
    internet = Internet(Path(sys.argv[1]), Path(sys.argv[2]))
    for act in (internet.sniff, internet.udp, internet.tcp):
        threading.Thread(target=act, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
