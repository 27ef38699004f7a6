"""The house holds: imports run one way, one folder speaks mitmproxy, and folders = map = links = what a wheel holds."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("tokens", "policies", "receipts", "addons", "cage", "fence", "openclaw", "cli")
"""Lower first; a layer may import those before it. ``configs`` is data and imports nothing."""

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PYPROJECT["tool"]["setuptools"]["packages"]
PACKAGE_DIR: dict[str, str] = PYPROJECT["tool"]["setuptools"]["package-dir"]


def folder_of(package: str) -> Path:
    """Where a package lies: its own entry of the map, or below its parent's."""
    if package in PACKAGE_DIR:
        return ROOT / PACKAGE_DIR[package]
    parent, _, name = package.rpartition(".")
    return folder_of(parent) / name


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted(folder_of(package).glob("*.py")):
            yield f"{package}.{path.stem}".removesuffix(".__init__"), path


def imports(module: str, path: Path) -> Iterator[tuple[str, int]]:
    """What a module imports, as absolute names, with the line; also inside functions and type-checking blocks."""
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            source = (f"{base}.{node.module}" if node.module else base) if node.level else str(node.module)
            yield source, node.lineno
            yield from ((f"{source}.{alias.name}", node.lineno) for alias in node.names)


def layer_of(module: str) -> str | None:
    """The layer of a module of ours; the stand-in and the package itself are none."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "clawproxy" and parts[1] in LAYERS else None


def offences() -> list[str]:
    """Every import against the rules."""
    found = []
    for module, path in modules():
        layer = layer_of(module)
        for name, line in imports(module, path):
            other = layer_of(name)
            place = f"{path.relative_to(ROOT)}:{line}"
            if layer and other and LAYERS.index(other) > LAYERS.index(layer):
                found.append(f"{place}: {layer} imports {other}")
            if name.split(".")[0] == "mitmproxy" and layer != "addons":
                found.append(f"{place}: only addons may import mitmproxy")
            of_ours = name.split(".")[0] == "clawproxy" and not name.startswith("clawproxy.standin")
            if of_ours and module.startswith("clawproxy.standin"):
                found.append(f"{place}: the stand-in is a witness apart, it imports nothing of the gateway")
    return found


def test_imports_run_one_way_and_only_addons_speaks_mitmproxy() -> None:
    assert offences() == []


def test_the_walk_would_see_an_import_against_the_rules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def f():\n    from ..addons.gate import Gate\n    import mitmproxy.http\n")
    monkeypatch.setattr(sys.modules[__name__], "modules", lambda: iter([("clawproxy.tokens.planted", planted)]))
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert offences() == [
        "planted.py:2: tokens imports addons",
        "planted.py:2: tokens imports addons",
        "planted.py:3: only addons may import mitmproxy",
    ]


def test_generic_names_are_imported_relatively_or_under_clawproxy() -> None:
    bare = {"tokens", "policies", "receipts", "addons", "configs"}
    for module, path in modules():
        if path.name == "mitm.py":
            continue
        assert not [name for name, _ in imports(module, path) if name.split(".")[0] in bare], path


def test_modules_in_addons_shadow_nothing_when_mitmdump_puts_the_folder_on_its_path() -> None:
    names = {path.stem for path in (ROOT / "addons").iterdir() if not path.stem.startswith("__")}
    taken = set(sys.stdlib_module_names) | {"mitmproxy", "nacl", "orjson", "pydantic", "rfc8785", "typer", "rich"}
    assert names.isdisjoint(taken)


def test_every_folder_with_modules_is_a_package_of_the_map() -> None:
    tops = ["clawproxy", *(str(folder) for package, folder in PACKAGE_DIR.items() if "." in package)]
    found = {path.parent for top in tops for path in (ROOT / top).rglob("__init__.py")}
    assert found == {folder_of(package) for package in PACKAGES}


def test_links_for_type_checkers_are_the_map() -> None:
    links = {path.name: path.resolve() for path in (ROOT / ".typings" / "clawproxy").iterdir()}
    below = {p.split(".")[1]: folder_of(p).resolve() for p in PACKAGES if p.count(".") == 1}
    files = {path.name: path.resolve() for path in (ROOT / "clawproxy").glob("*.py")}
    assert links == below | files
    assert all(
        path.is_symlink() and not path.readlink().is_absolute() for path in (ROOT / ".typings" / "clawproxy").iterdir()
    )


def test_a_fresh_wheel_holds_exactly_the_modules_and_the_data(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "clawproxy",
        "addons",
        "receipts",
        "policies",
        "tokens",
        "configs",
    ):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tree, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tree / done.stdout.splitlines()[-1]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        f"{package.replace('.', '/')}/{path.name}" for package in PACKAGES for path in folder_of(package).glob("*.py")
    }
    data = {f"clawproxy/configs/{path.relative_to(ROOT / 'configs')}" for path in (ROOT / "configs").rglob("*.*")}
    data = {name for name in data if name.endswith((".toml", ".json", ".nft", ".service")) and "/deploy/" not in name}
    assert held == expected | data


# -- the map in docs/architecture.md -----------------------------------------------------------------------------------

MAPPED = (*LAYERS[:4], *(f"clawproxy/{name}" for name in LAYERS[4:]))
_MODULE = re.compile(r"`([a-z0-9_/]+)`")


def named_in_the_map(page: str, package: str) -> list[str]:
    """The modules in the table below the heading of a package."""
    section = page.partition(f"\n### {package}/\n")[2].partition("\n##")[0]
    return [name for line in section.splitlines() if line.startswith("| ") for name in _MODULE.findall(line)]


@pytest.mark.parametrize("package", MAPPED)
def test_the_map_names_each_module_once(package: str) -> None:
    """A module that is new or gone: put it under its idea in docs/architecture.md, "The map", or take it out."""
    paths = (path for path in (ROOT / package).rglob("*.py") if not path.stem.startswith("__"))
    there = {path.relative_to(ROOT / package).with_suffix("").as_posix() for path in paths}
    named = Counter(named_in_the_map((ROOT / "docs" / "architecture.md").read_text(), package))
    assert len(there) > 5
    assert there - named.keys() == set(), f'not in docs/architecture.md, "The map": {package}'
    assert named.keys() - there == set(), f'gone, but still in docs/architecture.md, "The map": {package}'
    assert [name for name, count in named.items() if count > 1] == []


def test_a_module_that_is_named_twice_or_elsewhere_is_seen() -> None:
    page = "\n### tokens/\n\nStart with `reasons`.\n\n| idea | modules |\n|---|---|\n| a | `keys` `keys` |\n\n"
    page += "### policies/\n| b | `x/y` |\n"
    assert named_in_the_map(page, "tokens") == ["keys", "keys"]
    assert named_in_the_map(page, "policies") == ["x/y"]
