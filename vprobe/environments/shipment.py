"""The agent as one zipapp, for places that do not show the host's files: everything that it imports, and the native extension.

Reproducible: equal files make equal bytes. `python3 FILE OPTIONS` runs the agent; over SSH it is read from the connection
into a memory file and never touches the other machine's disk (vprobe.measure.remote).
"""

from __future__ import annotations

import functools
import io
import zipfile
from pathlib import Path

import vprobe

MODULES = (
    *("vprobe", "vprobe.errors", "vprobe.states"),
    *("vprobe.environments", "vprobe.environments.sessions", "vprobe.environments.supervisor"),
    *("vprobe.measure", "vprobe.measure.agent", "vprobe.measure.evidence", "vprobe.measure.remote"),
    "vprobe.measure.zipped",
)
PACKAGES = ("vprobe.probe", "vprobe.suites")
"""With all that is below them, tables included."""
AT_HOME = ("vprobe/probe/sources/capture.py",)
"""What needs more than the standard library stays here."""
NATIVE = "vprobe/_native.so"
"""The extension's name in the zipapp. It is built for the stable ABI of Python 3.9 and does without recent C libraries."""
MAIN = "from vprobe.measure.zipped import main\nmain()\n"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can hold."""


def _file(module: str) -> Path:
    """Where a module of this installation is: also where a package is mapped to a directory elsewhere (editable)."""
    if module.startswith("vprobe.suites"):
        from vprobe import suites  # noqa: PLC0415 - importing a workload declaration costs the start of the command

        return Path(suites.__file__).parent
    place = Path(vprobe.__file__).parent.joinpath(*module.split(".")[1:])
    return place if place.is_dir() else place.with_suffix(".py")


def contents() -> dict[str, Path]:
    """Name in the zipapp -> file, in order."""
    found = {}
    for module in MODULES:
        place, name = _file(module), module.replace(".", "/")
        found[f"{name}/__init__.py" if place.is_dir() else f"{name}.py"] = (
            place / "__init__.py" if place.is_dir() else place
        )
    for package in PACKAGES:
        place, name = _file(package), package.replace(".", "/")
        for path in (path for suffix in ("py", "json") for path in place.rglob(f"*.{suffix}")):
            found[f"{name}/{path.relative_to(place)}"] = path
    native = next(Path(vprobe.__file__).parent.glob("_native*.so"), None)
    if native is not None:
        found[NATIVE] = native
    return {name: found[name] for name in sorted(found) if name not in AT_HOME}


@functools.cache
def zipapp() -> bytes:
    """The zipapp's bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py", EPOCH), MAIN)
        for name, path in contents().items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()
