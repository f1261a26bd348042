"""What all tests share: which of them can run here. A test that cannot is skipped with its reason; in CI a missing engine,
which a package would bring, is a failure."""

from __future__ import annotations

import functools
import os
import shutil
import signal

import pytest
from hypothesis import HealthCheck, settings

from vprobe.environments import guest_kernel, guest_package
from vprobe.errors import VprobeError

# Wall-clock limits of single examples fail on a machine that others use, too.
settings.register_profile("vprobe", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vprobe")

# A shell starts what runs in its background with SIGINT ignored, and all that the tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

IN_CI = os.environ.get("CI") == "true"


def _no_kvm() -> str | None:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/kvm does not open: {error.strerror}"
    return None


@functools.cache
def _no_guest_kernel() -> str | None:
    """In CI the kernel is fetched, as a user would do it; elsewhere that is the user's to decide."""
    if guest_kernel.find() is not None:
        return None
    if not IN_CI:
        return "there is no kernel for guests: vprobe guest prepare --yes"
    try:
        guest_package.prepare(guest_package.offer())
    except VprobeError as error:
        return str(error)
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or in CI fail, what cannot run here."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs to be root")
    if item.get_closest_marker("kvm") and (reason := _no_kvm()):
        pytest.skip(reason)
    for marker in item.iter_markers("engine"):
        for name in marker.args:
            if shutil.which(name) is None:
                reason = f"{name} is not installed"
                pytest.fail(reason) if IN_CI else pytest.skip(reason)
    if item.get_closest_marker("guest") and (reason := _no_guest_kernel()):
        pytest.fail(reason) if IN_CI else pytest.skip(reason)
