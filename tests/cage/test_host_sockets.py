"""Every Unix socket of the host is found, whatever its name is, so that it is masked."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clawproxy.cage.host import read_host_sockets, whole_lines

from .rig import needs_root, python_caged

HEAD = "Num       RefCount Protocol Flags    Type St Inode Path\n"
ROW = "0000000000000000: 00000002 00000000 00010000 0001 01 {} {}"

NAMES = ("plain", "two\nlines", "\nfirst", "last\n", "re\rturn", "a b", "three\n\nlines", "über")


def test_a_line_end_in_a_name_belongs_to_the_name() -> None:
    rows = [ROW.format(number, f"/run/{name}") for number, name in enumerate(NAMES)]
    assert whole_lines(HEAD + "\n".join(rows) + "\n") == rows
    assert whole_lines(HEAD) == [""]


@pytest.fixture
def shared() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/lib") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_the_kernels_own_list_is_read_whole(shared: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two, socket.socket() as _:
        one.bind(f"{shared}/two\nlines")
        two.bind(f"\0{shared}\nabstract")
        found = read_host_sockets()
    assert (f"{shared}/two\nlines", socket.SOCK_STREAM) in found.paths
    assert (f"{shared}\nabstract", socket.SOCK_STREAM) in found.abstract


@needs_root
@pytest.mark.parametrize("name", NAMES)
def test_a_socket_in_a_shared_folder_is_not_to_be_connected_to_whatever_its_name(shared: Path, name: str) -> None:
    path = f"{shared}/{name}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        Path(path).chmod(0o777)
        server.listen()
        code = f"import socket; s = socket.socket(socket.AF_UNIX); print(s.connect_ex({path!r}))"
        assert python_caged(code, cwd=str(shared)).out.strip() not in ("0", "")
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
