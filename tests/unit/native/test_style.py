"""The C sources are formatted; the stub and the extension agree."""

from __future__ import annotations

import ast
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vprobe import _native

ROOT = Path(__file__).parents[3]
FORMATTER = shutil.which("clang-format", path=str(Path(sys.executable).parent)) or shutil.which("clang-format")


@pytest.mark.skipif(FORMATTER is None, reason="needs clang-format")
def test_c_sources_are_formatted() -> None:
    """clang-format would change nothing in native/ and in the tests' C files."""
    sources = [*(ROOT / "native").glob("*.[ch]"), *(ROOT / "tests/unit/native").glob("*.c")]
    subprocess.run([str(FORMATTER), "--dry-run", "-Werror", *map(str, sources)], check=True, timeout=60)


def test_every_source_is_built() -> None:
    """setup.py names each C file of native/, and each header as something that the build depends on."""
    setup = (ROOT / "setup.py").read_text()
    for file in (ROOT / "native").iterdir():
        assert f'"{file.stem if file.suffix == ".c" else file.name}"' in setup


def stub() -> ast.Module:
    return ast.parse((ROOT / "vprobe/_native.pyi").read_text())


def test_the_extension_has_what_the_stub_declares() -> None:
    """Functions, types, their methods and attributes: neither side has a public name that the other lacks."""
    functions = {node.name for node in stub().body if isinstance(node, ast.FunctionDef)}
    classes = {node.name: node for node in stub().body if isinstance(node, ast.ClassDef)}
    public = {name for name in dir(_native) if not name.startswith("_")}
    assert public == functions | classes.keys() | {"MACHINE"}
    for name, node in classes.items():
        declared = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        declared |= {
            item.target.id
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        own = {attribute for attribute in vars(getattr(_native, name)) if not attribute.startswith("__")}
        assert own == {attribute for attribute in declared if not attribute.startswith("__")}


def test_the_machine_is_unames() -> None:
    """MACHINE is what uname -m prints on a native build."""
    assert platform.machine() == _native.MACHINE
