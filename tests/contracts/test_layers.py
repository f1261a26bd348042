"""The architecture, held by tests: which layer may import which, and that the wheel ships every package."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A layer may import those before it. suites declares workloads and knows nothing above errors.
LAYERS = [
    "errors",
    "states",
    "model",
    "runfile",
    "oracles",
    "_native",
    "suites",
    "probe",
    "environments",
    "measure",
    "analysis",
    "reports",
    "cli",
]
RANK = {name: rank for rank, name in enumerate(LAYERS)} | {"__main__": len(LAYERS), "plugin": len(LAYERS)}
PLACES = {"suites": ROOT / "suites", "reports": ROOT / "reports"}
STANDARD_ONLY = ["vprobe.measure.agent", "vprobe.suites.cpu", "vprobe.suites.exits"]


def modules() -> Iterator[tuple[str, Path]]:
    """(layer, file) of every Python file of the package."""
    for layer, place in PLACES.items():
        yield from ((layer, path) for path in place.rglob("*.py"))
    for path in (ROOT / "vprobe").rglob("*.py"):
        relative = path.relative_to(ROOT / "vprobe")
        if relative.name != "__init__.py" or len(relative.parts) > 1:
            yield relative.parts[0].removesuffix(".py"), path


def imported(path: Path) -> Iterator[str]:
    """Layers of vprobe that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"vprobe.{alias.name}" for alias in node.names] if node.module == "vprobe" else [node.module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "vprobe" and len(parts) > 1 and not parts[1].startswith("__"):
                yield parts[1]


@pytest.mark.parametrize(("layer", "path"), [pytest.param(*one, id=str(one[1].relative_to(ROOT))) for one in modules()])
def test_imports_go_one_way(layer: str, path: Path) -> None:
    """No module imports a layer above its own."""
    for other in imported(path):
        assert RANK[other] <= RANK[layer], f"{layer} imports {other}"


def test_every_package_is_shipped() -> None:
    """setuptools leaves out silently what the list of packages does not name."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    places = {"vprobe": ROOT / "vprobe", "vprobe.suites": ROOT / "suites", "vprobe.reports": ROOT / "reports"}
    found = {
        ".".join([name, *path.parent.relative_to(place).parts])
        for name, place in places.items()
        for path in place.rglob("__init__.py")
    }
    assert listed == found


def test_no_module_has_a_name_that_says_nothing() -> None:
    """utils, helpers and common are where code goes that has no place."""
    assert not [path for _, path in modules() if path.stem in ("utils", "helpers", "common", "misc")]


@pytest.mark.parametrize("module", STANDARD_ONLY)
def test_what_runs_inside_needs_the_standard_library_alone(module: str) -> None:
    """The agent and the workloads load no package that an environment might lack."""
    program = f"import sys, {module}; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    foreign = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"vprobe", "__main__"}
    assert not {
        name for name in foreign if not name.startswith(("__editable", "_distutils", "sitecustomize", "_virtualenv"))
    }
