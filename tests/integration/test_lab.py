"""Virtual machines with real AMD-V and with the identities of products: they boot in seconds. VT-x and Xen: make lab."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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
