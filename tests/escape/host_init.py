"""The first process of the test's machine: its own root file system over the real one, nothing of which is changed.

``python -m tests.escape.host_init SHARED``: says the outer number of the machine's process 1, which then says ``up``.
Everything that is written in the machine is written to memory; ``SHARED`` is the one folder that both see, as /shared.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

CGROUPS = ("pids", "memory")
_SETUP = """
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir -p /mnt/up /mnt/wk /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/up,workdir=/mnt/wk /mnt/root
cd /mnt/root
mkdir -p shared opt/escape run tmp
ln -sfn "$BASE" opt/python
mount --bind "$SHARED" shared
mount --rbind /dev dev
mount --make-rprivate dev
mount -t tmpfs tmpfs dev/shm
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --make-rprivate sys/fs/cgroup
for c in $CGROUPS; do mount --bind "sys/fs/cgroup/$c/$NAME" "sys/fs/cgroup/$c"; done
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
case "$SOURCE" in /tmp/*) mkdir -p ".$SOURCE"; mount --bind "$SOURCE" ".$SOURCE";; esac
mkdir -p mnt/old
pivot_root . mnt/old
umount -l /mnt/old
cd /
d="$BASE"; while [ "$d" != / ]; do chmod a+x "$d"; d=$(dirname "$d"); done
hostname escape-host
rm -f /etc/resolv.conf
echo nameserver 9.9.9.9 > /etc/resolv.conf
printf '127.0.0.1 localhost escape-host\\n::1 localhost\\n' > /etc/hosts
mkdir -p /opt/escape/tests/escape /run/netns /run/lock /etc/cron.d /var/spool/cron/crontabs /etc/profile.d
cd "$SOURCE/tests/escape"
cp -r inside start.py start_pair.py victim.py /opt/escape/tests/escape/
cd /
touch /opt/escape/tests/__init__.py /opt/escape/tests/escape/__init__.py
chmod -R a+rX /opt/escape
touch /run/netns/escape-host
mount --bind /proc/self/ns/net /run/netns/escape-host
ip link set lo up
"""


def _enter_cgroup(path: str) -> bool:
    """The machine's own part of a hierarchy, where one can be made: what others do there is not seen."""
    try:
        os.mkdir(path)
        with open(f"{path}/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))
    except OSError:
        return False
    return True


def main() -> None:
    """Make the namespaces, fork into them, and be process 1 there."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, signal.SIGKILL)
    name = os.path.basename(sys.argv[1])
    cgroups = [place for place in CGROUPS if _enter_cgroup(f"/sys/fs/cgroup/{place}/{name}")]
    os.unshare(os.CLONE_NEWNS | os.CLONE_NEWNET | os.CLONE_NEWUTS | os.CLONE_NEWIPC | os.CLONE_NEWPID)
    if pid := os.fork():
        print(pid, flush=True)
        os.waitpid(pid, 0)
        return
    libc.prctl(1, signal.SIGKILL)
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    settings = {"NAME": name, "CGROUPS": " ".join(cgroups)}
    settings |= {"SHARED": sys.argv[1], "BASE": os.path.realpath(sys.base_prefix), "SOURCE": source}
    subprocess.run(["bash", "-euc", _SETUP], check=True, env={**os.environ, **settings})
    os.chdir("/")
    print("up", flush=True)
    while True:  # process 1 has orphans
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.05)


if __name__ == "__main__":
    main()
