"""The micro-VM as one static C program: what test benches run that have no Python (emulated VT-x and AMD-V)."""

from __future__ import annotations

import platform
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the micro-VM is x86")


@pytest.fixture(scope="module")
def program(own_build: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("machine") / "harness"
    includes = [f"-I{ROOT / 'native'}", f"-I{sysconfig.get_path('include')}"]
    objects = [
        str(own_build.objects / name)
        for name in ("machine.o", "guest.o", "kernels.o", "kernels_system.o", "kernels_exits.o")
    ]
    source = str(Path(__file__).with_name("machine_harness.c"))
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Werror", "-static", *includes, source, *objects, "-o", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


@pytest.mark.kvm
def test_all_of_it_holds_on_this_kvm(program: Path) -> None:
    """Kernels, memory of both page sizes, ring 3 and ring 0, and the nonce: the program finds nothing wrong."""
    run = subprocess.run([str(program)], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout
    lines = [line for line in run.stdout.splitlines() if not line.startswith("note")]
    assert len(lines) >= 34
    assert all(line.startswith("ok ") for line in lines)


def test_the_machine_needs_no_python(program: Path) -> None:
    """machine.c, guest.c and kernels.c link without the interpreter."""
    symbols = subprocess.run(["nm", str(program)], check=True, capture_output=True, text=True, timeout=30).stdout
    assert " Py" not in symbols
