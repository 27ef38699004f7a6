"""The test's machine: the worst host. It forwards, hides everything behind its address, and is next to the internet.

Namespaces of its own for network, mounts, processes, names and IPC; nothing of the real machine's is changed. As root.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from . import internet as net
from . import neighbours
from .host_init import CGROUPS

ROOT = Path(__file__).resolve().parents[2]
STATE = neighbours.STATE
PYTHON = "/opt/python/bin/python3"
CODE_FILE = "/srv/code.py"
CONTROL_UID = 64_242
AGENT = "agent"
"""The user of that number: the control runs as the same user as the isolated job."""
_LINKS = f"""
echo 0 > /proc/sys/net/ipv6/conf/up0/accept_dad
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
ip address add {net.HOST4}/24 dev up0
ip address add {net.HOST6}/64 dev up0 nodad
ip link set up0 up
ip neigh add {net.ADDRESS4} lladdr {net.LINK} dev up0 nud permanent
ip neigh add {net.ADDRESS6} lladdr {net.LINK} dev up0 nud permanent
ip route add default via {net.ADDRESS4}
ip -6 route add default via {net.ADDRESS6}
ip link add lan0 type veth peer name lan1
ip link set lan1 up
ip address add 10.20.0.1/24 dev lan0
ip address add fd20::1/64 dev lan0 nodad
ip link set lan0 up
for f in all default up0 lan0; do
  echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter
  echo 1 > /proc/sys/net/ipv4/conf/$f/route_localnet
  echo 1 > /proc/sys/net/ipv4/conf/$f/accept_source_route
  echo 1 > /proc/sys/net/ipv4/conf/$f/proxy_arp
done
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range
nft -f - <<'R'
table inet worst {{
  chain out {{
    type nat hook postrouting priority 100
    oifname "up0" ip6 daddr ff00::/8 accept
    oifname "up0" masquerade
  }}
}}
R
mount -t tmpfs -o mode=755 tmpfs /srv
mkdir -p {STATE}
touch {CODE_FILE}
echo "{AGENT}:x:{CONTROL_UID}:{CONTROL_UID}::/home/{AGENT}:/bin/sh" >> /etc/passwd
echo "{AGENT}:x:{CONTROL_UID}:" >> /etc/group
mkdir -p /home/{AGENT}
chown {CONTROL_UID}:{CONTROL_UID} /home/{AGENT}
"""


def can_run() -> str:
    """Why a machine cannot be made here, or nothing."""
    if str(ROOT).startswith(("/tmp/", "/srv/")):
        return "the test's machine has a /tmp and a /srv of its own: clone elsewhere"
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in ("ip", "nft", "nsenter", "mount", "pivot_root") if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True, check=False
    )
    return done.stderr.strip()


@dataclass
class Machine:
    """A running one."""

    folder: Path
    """Seen in the machine as /shared."""
    init: int
    """Its process 1, as the real machine counts."""
    secrets: dict[str, str]
    victim_pid: int = 0
    """A process of a plain user's outside, as the machine counts."""

    @property
    def key_name(self) -> str:
        """Of the victim's key: keyrings belong to a user, whatever namespaces it is in."""
        return self.folder.name

    @property
    def internet_notes(self) -> Path:
        return self.folder / "internet.jsonl"

    @property
    def host_notes(self) -> Path:
        return self.folder / "host.jsonl"

    def enter(self, command: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        """Start a command in the machine, as its root."""
        return subprocess.Popen(["nsenter", "-t", str(self.init), "-a", "--", *command], **more)

    def run(self, command: Sequence[str], **more: Any) -> subprocess.CompletedProcess[bytes]:
        """The same, to its end."""
        return subprocess.run(
            ["nsenter", "-t", str(self.init), "-a", "--", *command], check=False, capture_output=True, **more
        )

    def shell(self, script: str) -> str:
        """A script of bash in the machine, which must not fail; returns what it says."""
        done = self.run(["bash", "-euc", script])
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        return done.stdout.decode()

    def python(self, module: str, *args: str) -> list[str]:
        """The command that runs a module of ours there."""
        return ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", module, *args]

    def targets(self, victim: int, *, state: str = STATE) -> dict[str, Any]:
        """What an attempt is told (``inside.attempt.Targets``)."""
        handle = self.handle_of(f"{state}/secret.txt")
        return {
            "public4": net.PUBLIC4, "public6": net.PUBLIC6,
            "allowed": net.ALLOWED, "allowed4": net.ALLOWED4, "allowed6": net.ALLOWED6, "forbidden": net.FORBIDDEN,
            "host4": [net.HOST4, "10.20.0.1"], "host6": [net.HOST6, "fd20::1"],
            "service_port": neighbours.SERVICE_PORT, "loopback_port": neighbours.LOOPBACK_PORT,
            "other4": neighbours.OTHER4, "other6": neighbours.OTHER6, "other_port": neighbours.OTHER_PORT,
            "state_dir": state, "state_secret": f"{state}/secret.txt",
            "state_handle": handle[1], "state_handle_type": handle[0],
            "admin_socket": neighbours.ADMIN,
            "sockets": list(neighbours.SOCKETS), "late_sockets": list(neighbours.LATE),
            "abstract": neighbours.ABSTRACT,
            "victim_pid": victim, "host_init": 1,
            "shm_key": neighbours.SHM_KEY, "queue": neighbours.QUEUE, "keyring": self.key_name,
            "code_file": CODE_FILE, "netns_name": "escape-host",
            "netns_handle": self.handle_of("/proc/1/ns/net")[1], "vsock_port": 700_000,
        }  # fmt: skip

    def handle_of(self, path: str) -> tuple[int, str]:
        """The file handle of a file in the machine: its type, and itself in hex; nothing where there is none."""
        script = (
            "import ctypes,struct,sys\n"
            "b=ctypes.create_string_buffer(struct.pack('=Ii',120,0)+bytes(120));m=ctypes.c_int()\n"
            "r=ctypes.CDLL(None).syscall(303,-100,sys.argv[1].encode(),b,ctypes.byref(m),0x400)\n"
            "n,t=struct.unpack_from('=Ii',b.raw);print(t,b.raw[8:8+n].hex() if r==0 else '')\n"
        )
        done = self.run([PYTHON, "-c", script, path])
        kind, _, text = done.stdout.decode().strip().partition(" ")
        return int(kind), text

    def victim(self, uid: int) -> tuple[subprocess.Popen[bytes], int]:
        """A process of ``uid``'s outside, with secrets; returns it and its number in the machine."""
        notes = "/shared/host.jsonl"
        process = self.enter(
            ["env", f"ESCAPE_ENVIRON={self.secrets['environ']}", "setpriv", f"--reuid={uid}", f"--regid={uid}",
             "--clear-groups", PYTHON, "-I", "/opt/escape/tests/escape/victim.py", notes,
             self.secrets["memory"], self.key_name, self.secrets["key"], net.PUBLIC4],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout
        return process, int(process.stdout.readline())

    def evidence(self) -> str:
        """All that has arrived anywhere outside, as one text to search in."""
        texts = [path.read_text() for path in (self.internet_notes, self.host_notes)]
        texts.append(
            self.shell(
                f"cat {CODE_FILE}; ls /etc/cron.d /var/spool/cron/crontabs /etc/profile.d /etc/systemd/system; "
                "ls -a /root; hostname; ip -o link"
            )
        )
        return "\n".join(texts)


def expect(process: subprocess.Popen[bytes], word: str) -> None:
    """Wait for a line of a process."""
    assert process.stdout
    line = process.stdout.readline().decode().strip()
    if line != word:
        raise RuntimeError(f"expected {word!r}, got {line!r}")


@contextlib.contextmanager
def a_machine(*, inhabited: bool = True, restless: bool = True) -> Iterator[Machine]:
    """A machine and its internet, for as long as the block lasts; ``inhabited`` by neighbours and a victim.

    ``restless`` neighbours have services that start anew all the time: then the product may refuse to begin.
    """
    folder = Path(tempfile.mkdtemp(prefix="clawproxy-escape-"))
    folder.chmod(0o755)
    known = {name: f"SECRET-{secrets.token_hex(12)}" for name in _SECRETS}
    (folder / "secrets.json").write_text(json.dumps(known))
    certificates(folder)
    for name in ("internet.jsonl", "host.jsonl"):
        (folder / name).touch(0o622)
        (folder / name).chmod(0o622)
    children: list[subprocess.Popen[bytes]] = []

    def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        children.append(child)
        return child

    try:
        world = start(
            [sys.executable, "-m", "tests.escape.internet", str(folder / "internet.jsonl"), str(folder / "server.pem")]
        )
        expect(world, "unshared")
        holder = start([sys.executable, "-m", "tests.escape.host_init", str(folder)])
        assert holder.stdout
        machine = Machine(folder, int(holder.stdout.readline()), known)
        expect(holder, "up")
        subprocess.run(
            ["nsenter", f"--net=/proc/{machine.init}/ns/net", "ip", "link", "add", "up0", "address",
             net.HOST_LINK, "type", "veth", "peer", "name", "inet0", "address", net.LINK, "netns", str(world.pid)],
            check=True,
        )  # fmt: skip
        machine.shell(_LINKS)
        machine.shell(f"umask 022; echo {known['state']} > {STATE}/secret.txt")
        assert world.stdin
        world.stdin.write(b"go\n")
        world.stdin.flush()
        expect(world, "ready")
        if inhabited:
            around = machine.enter(
                machine.python(
                    "tests.escape.neighbours", "/shared/host.jsonl", "/shared/secrets.json", str(int(restless))
                ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
            )
            children.append(around)
            expect(around, "ready")
            victim, machine.victim_pid = machine.victim(CONTROL_UID)
            children.append(victim)
        yield machine
    finally:
        for child in reversed(children):
            child.kill()
            child.wait()
        _remove_cgroups(folder.name)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_cgroups(name: str) -> None:
    """Those that the machine's first process made; the kernel takes a moment until they are empty."""
    for place in CGROUPS:
        top = Path(f"/sys/fs/cgroup/{place}/{name}")
        for _ in range(50):
            for path in (*top.glob("*/"), top):
                with contextlib.suppress(OSError):
                    path.rmdir()
            if not top.exists():
                break
            time.sleep(0.02)


_SECRETS = ("state", "environ", "memory", "key", "shm", "dev_shm")


def certificates(folder: Path) -> None:
    """An authority of the test's own (ca.pem), and one certificate for every name of the internet (server.pem)."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "escape test authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the fake internet")])

    def build(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
        )

    authority = (
        build(issuer, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = [net.ALLOWED, net.FORBIDDEN, "api.openai.com", "api.anthropic.com", "dns.google", "cloudflare-dns.com"]
    server = (
        build(subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(authority.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + server.public_bytes(pem))
