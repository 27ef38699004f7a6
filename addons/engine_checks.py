"""Is this the mitmproxy we know? Asked at every start, before a listener opens; reads mitmproxy's source files.

The gateway leans on parts of mitmproxy that it does not promise to keep (``http_stream.py``, ``guard.py``,
``engine_tuning.py``). So each function that matters has a fingerprint (SHA-256 of its syntax tree, comments and
docstrings left out), and the seam is rehearsed. An unknown mitmproxy is refused with the names of what moved.

After an upgrade: read the changed functions, run the tests, then ``python -m clawproxy.addons.engine_checks`` prints
the new ``engine_prints.py``.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import mitmproxy
from mitmproxy import version

from ..tokens.errors import ClawproxyError
from .engine_prints import PRINTS
from .rehearsal import rehearse

_HEX_DIGITS = 16


def check_engine(known: Mapping[str, str] = PRINTS) -> None:
    """Compare all fingerprints and rehearse the seam, which must be installed. Raises ``ClawproxyError``
    (ENGINE_UNKNOWN) naming the functions that moved, or what the rehearsal missed. About 0.2 s."""
    moved = moved_functions(known)
    if moved:
        shown = ", ".join(moved[:5]) + (f" and {len(moved) - 5} more" if len(moved) > 5 else "")
        raise ClawproxyError(
            "ENGINE_UNKNOWN",
            f"this mitmproxy is not one that clawproxy was checked with; changed: {shown}",
            where="mitmproxy",
            got=version.VERSION,
            remedy="install the mitmproxy of requirements.lock",
        )
    rehearse()


def moved_functions(known: Mapping[str, str]) -> list[str]:
    """The names in ``known`` whose function is gone or has another fingerprint."""
    found = take_prints(known)
    return [name for name, print_hex in known.items() if found.get(name) != print_hex]


def take_prints(names: Iterable[str]) -> dict[str, str]:
    """Fingerprints by name, ``file.py:Class.function``; what is not there is left out."""
    found = {name: _print_in_file(*name.split(":", 1)) for name in names}
    return {name: print_hex for name, print_hex in found.items() if print_hex is not None}


@cache
def _print_in_file(path: str, qualname: str) -> str | None:
    node = _functions(path).get(qualname)
    return None if node is None else print_of(node)


def print_of(node: ast.stmt) -> str:
    """The fingerprint of one definition: of what it does, not of how it is written."""
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and ast.get_docstring(inner):
            inner.body = inner.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(node).encode()).hexdigest()[:_HEX_DIGITS]


@cache
def _functions(path: str) -> dict[str, ast.stmt]:
    """All functions and classes of a file of mitmproxy, by qualified name."""
    try:
        module = ast.parse((Path(mitmproxy.__file__).parent / path).read_bytes())
    except (OSError, SyntaxError):
        return {}
    found: dict[str, ast.stmt] = {}
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            found[node.name] = node
            for inner in node.body:
                if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    found[f"{node.name}.{inner.name}"] = inner
                elif isinstance(inner, ast.If):  # `if __debug__:` around a method
                    found |= {f"{node.name}.{x.name}": x for x in inner.body if isinstance(x, ast.FunctionDef)}
    return found


def _render(prints: Mapping[str, str]) -> str:
    rows = "".join(f'    "{name}": "{value}",\n' for name, value in prints.items())
    return (
        '"""Fingerprints of the mitmproxy that clawproxy was checked with, as engine_checks prints them."""\n\n'
        f'VERSION = "{version.VERSION}"\n\nPRINTS: dict[str, str] = {{\n{rows}}}\n'
    )


if __name__ == "__main__":
    sys.stdout.write(_render(take_prints(PRINTS)))
