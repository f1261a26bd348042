"""Machines that are not x86: the extension builds there, runs the portable kernels, and refuses the rest clearly."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = sorted(set((ROOT / "native").glob("*.c")) - {ROOT / "native/guest_init.c"})
"""Of the extension. The init of Linux guests is a program for x86-64 alone, as those guests are."""
INCLUDES = [f"-I{ROOT / 'native'}", f"-I{sysconfig.get_path('include')}"]
CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"

SCRIPT = """
import importlib.machinery, importlib.util, json, os, sys
loader = importlib.machinery.ExtensionFileLoader("_native", sys.argv[1])
native = importlib.util.module_from_spec(importlib.util.spec_from_loader("_native", loader))
loader.exec_module(native)

def refusal(call):
    try:
        call()
    except NotImplementedError as error:
        return str(error)
    return None

host = native.KernelHost(1 << 20)
host.build_chase(0, 4096, 64, 1)
print(json.dumps({
    "machine": native.MACHINE,
    "kernels": native.kernels(),
    "refusals": {
        "cpuid": refusal(lambda: native.cpuid(0, 0)),
        "cpuid_dump": refusal(lambda: native.cpuid_dump(0)),
        "read_msr": refusal(lambda: native.read_msr(0, 0)),
        "time_microvm": refusal(lambda: native.time_microvm("create_vm", 1)),
        "MicroVM": refusal(lambda: native.MicroVM(0)),
        "MicroVM.evidence": refusal(lambda: native.MicroVM.__new__(native.MicroVM).evidence()),
    },
    "chain": host.run("integer_chain", 0, 1, 5),
    "chase": host.run("chase", 0, 64)[1] == host.memory_address,
    "pid": host.run("getpid", 0, 1)[1] == os.getpid(),
    "ns_per_tick": native.calibrate_tsc(),
}))
"""


@pytest.fixture(scope="module")
def elsewhere(build: Callable[..., Any]) -> dict[str, Any]:
    """What the extension does when it is built as for a machine that is not x86."""
    library = build("-DVPROBE_NO_X86").library
    command = [sys.executable, "-c", SCRIPT, str(library)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return result


def test_every_x86_call_names_itself_and_the_machine(elsewhere: dict[str, Any]) -> None:
    """NotImplementedError with the call's name and the machine that the build is for."""
    for call, text in elsewhere["refusals"].items():
        assert text == f"{call}: needs an x86_64 CPU, this build is for {elsewhere['machine']}"


def test_the_portable_kernels_run(elsewhere: dict[str, Any]) -> None:
    """Chains, chases and system calls work; CLOCK_MONOTONIC_RAW is the tick, so a tick is 1 ns within 0.1 %."""
    x = 5
    for _ in range(4):
        x = ((x * 6364136223846793005 + 1442695040888963407) % 2**64) ^ 0x5851F42D4C957F2D
    assert elsewhere["chain"][1] == x
    assert elsewhere["chain"][0] > 0
    assert elsewhere["chase"]
    assert elsewhere["pid"]
    assert elsewhere["ns_per_tick"] == pytest.approx(1, rel=1e-3)


def test_kernels_of_x86_are_not_offered(elsewhere: dict[str, Any]) -> None:
    """kernels() lists what the section holds: no exits, no CPUID, no AVX2."""
    assert set(elsewhere["kernels"]).isdisjoint({"out", "in", "mmio", "cpuid", "hypercall", "vector_avx2"})


@pytest.mark.skipif(shutil.which(CROSS) is None, reason=f"needs {CROSS}")
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_arm64_compiles(source: Path, tmp_path: Path) -> None:
    """Each file compiles for arm64 without a warning."""
    # Debian's Python.h includes a configuration by the target's name, which only this machine's Python has (LP64, too).
    mine = Path(sysconfig.get_path("include")).parent / str(sysconfig.get_config_var("MULTIARCH"))
    version = Path(sysconfig.get_path("include")).name
    stand_in = tmp_path / "aarch64-linux-gnu" / version / "pyconfig.h"
    stand_in.parent.mkdir(parents=True)
    stand_in.write_text(f'#include "{mine / version / "pyconfig.h"}"\n')
    includes = [*INCLUDES, f"-I{tmp_path}"]
    command = [CROSS, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-missing-field-initializers", "-Werror", *includes]
    subprocess.run([*command, "-c", str(source), "-o", "/dev/null"], check=True, timeout=60)


@pytest.mark.skipif(not (shutil.which(CROSS) and shutil.which(EMULATOR)), reason="needs a cross compiler and QEMU")
def test_arm64_kernels_compute_the_same(tmp_path: Path) -> None:
    """kernels.c, built for arm64 and run by QEMU, gives the results of its models."""
    program = tmp_path / "kernels"
    harness = Path(__file__).with_name("kernels_harness.c")
    command = [CROSS, "-std=gnu11", "-O2", "-static", "-Wall", "-Werror", *INCLUDES[:1], str(harness)]
    sources = [str(source) for source in SOURCES if source.name.startswith("kernels")]
    subprocess.run([*command, *sources, "-o", str(program)], check=True, timeout=60)
    run = subprocess.run([EMULATOR, str(program)], check=True, capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == ["chain", "float", "chase", "triad", "touch", "getpid", "pipe", "fork"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="guards x86 code")
def test_x86_instructions_are_guarded() -> None:
    """Every file with x86 assembly or KVM's header has the guard."""
    for source in SOURCES:
        text = source.read_text()
        if re.search(r"\b(cpuid\.h|linux/kvm\.h|rdtscp?|vmcall)\b", text):
            assert "#if defined(VPROBE_X86)" in text, source.name
