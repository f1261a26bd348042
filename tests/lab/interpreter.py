"""This interpreter and this checkout's vprobe as files of a guest that cannot see the host's root.

Only bytecode travels: an emulated processor has better things to do than to compile. The guest runs
`/python/bin/python3 -m vprobe` with the variables in VARIABLES.
"""

from __future__ import annotations

import importlib.util
import marshal
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from .initramfs import Archive

CHECKOUT = Path(__file__).resolve().parents[2]
HOME = "python"
VARIABLES = "PYTHONHOME=/python PYTHONPATH=/python/site PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8"
LEFT_OUT = {
    *("__pycache__", "site-packages", "dist-packages", "test", "tests", "unittest", "ensurepip", "venv", "distutils"),
    *("idlelib", "tkinter", "turtledemo", "pydoc_data", "lib2to3", "curses", "dbm", "wsgiref", "xmlrpc"),
}
SHARED_LEFT_OUT = ("_test", "_tkinter", "_curses", "_dbm", "_gdbm", "_ssl", "_codecs_", "_xx", "xx", "nis")
LIBRARIES = ("click", "msgspec")
"""What `vprobe probe --capture` imports beside the standard library."""


def add_python(archive: Archive) -> None:
    """Interpreter, standard library, vprobe and what it imports."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    standard = Path(sysconfig.get_path("stdlib"))
    archive.program(Path(sys.executable).resolve(), f"{HOME}/bin/python3")
    _modules(archive, standard, f"{HOME}/lib/{version}")
    for module in Path(sysconfig.get_config_var("DESTSHARED") or standard / "lib-dynload").glob("*.so"):
        if not module.name.startswith(SHARED_LEFT_OUT):
            archive.program(module, f"{HOME}/lib/{version}/lib-dynload/{module.name}")
    _modules(archive, CHECKOUT / "vprobe", f"{HOME}/site/vprobe")
    _modules(archive, CHECKOUT / "suites", f"{HOME}/site/vprobe/suites")
    for name in LIBRARIES:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None, name
        _modules(archive, Path(spec.origin).parent, f"{HOME}/site/{name}")


def _modules(archive: Archive, directory: Path, prefix: str) -> None:
    for path in _files(directory):
        name = f"{prefix}/{path.relative_to(directory)}"
        if path.suffix == ".py":
            archive.add(f"{name}c", _bytecode(path))
        elif path.suffix == ".so":
            archive.program(path, name)
        elif path.suffix in {".json", ".toml", ".typed"}:
            archive.copy(path, name)


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.name in LEFT_OUT or path.name.startswith(("config-", "lib-dynload")):
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _bytecode(path: Path) -> bytes:
    """A module's code as a file without its source: PEP 552's header says that nothing is to be checked."""
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)
