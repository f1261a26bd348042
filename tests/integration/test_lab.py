"""Virtual machines with real AMD-V and with the identities of products: they boot in seconds. VT-x and Xen: make lab."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import IN_CI
from lab.bench import Bench, perform
from lab.benches import load
from lab.guest import distribution_kernel
from lab.packages import LabError

from vprobe.environments.guest_kernel import Kernel

pytestmark = [pytest.mark.engine("qemu-system-x86_64"), pytest.mark.engine("apt-get"), pytest.mark.slow]


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    """The distribution's, in the cache."""
    try:
        return distribution_kernel()
    except LabError as error:
        pytest.fail(str(error)) if IN_CI else pytest.skip(str(error))


def test_machines_with_amd_v_and_with_products_identities(kernel: Kernel) -> None:
    """The probe answers every question as the bench expects, and as it did when its record was made."""
    benches: list[Bench] = [bench for benches in load().values() for bench in benches if bench.in_ci]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda bench: perform(bench, kernel, with_tools=False), benches))
    assert {result.bench.name: result.problems for result in results if result.problems} == {}
    assert len(results) > 10


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_machine_ends_with_its_bench(kernel: Kernel, how: signal.Signals) -> None:
    """The emulator is gone a moment after the command that runs it, however that was ended."""
    command = [sys.executable, "-m", "lab", "identity-openstack"]
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(Path.home()),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bench:
        emulator = wait_for(lambda: emulators_of(bench.pid), 60)
        bench.send_signal(how)
        bench.wait(20)
    wait_for(lambda: not any(Path("/proc", pid).exists() for pid in emulator), 10)


def emulators_of(pid: int) -> list[str]:
    """QEMU's processes among the children of a process."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # others come and go
            if Path("/proc", child, "comm").read_text().startswith("qemu"):
                found.append(child)
    return found


def wait_for(condition: Callable[[], Any], limit_s: float) -> Any:
    """What the condition gives once it holds. AssertionError where that takes too long."""
    end = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found
