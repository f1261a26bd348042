"""Builds of the extension for the tests: as setup.py makes it, and as a machine that is not x86 gets it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Build:
    """A build apart from the one in use: its object files and its library."""

    objects: Path
    library: Path


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Build]:
    """Compiles the extension with setup.py's own flags, after the given CFLAGS."""

    def compile_extension(*flags: str) -> Build:
        folder = tmp_path_factory.mktemp("build")
        subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", f"--build-temp={folder}", f"--build-lib={folder}"],
            cwd=ROOT,
            env={**os.environ, "CFLAGS": " ".join(flags)},
            check=True,
            capture_output=True,
            timeout=120,
        )
        return Build(objects=folder / "native", library=folder / "vprobe" / "_native.abi3.so")

    return compile_extension


@pytest.fixture(scope="session")
def own_build(build: Callable[..., Build]) -> Build:
    return build()
