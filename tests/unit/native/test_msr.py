"""Model-specific registers: mostly that what cannot be read says why."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from vprobe import _native

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="MSRs are x86")


def test_a_device_that_is_not_there_is_named() -> None:
    """OSError with errno ENOENT (or ENXIO) and the device's path."""
    with pytest.raises(OSError, match="open: ") as caught:
        _native.read_msr(99_999, 0x10)
    assert caught.value.filename == "/dev/cpu/99999/msr"
    assert caught.value.errno in (2, 6)


@pytest.mark.root
@pytest.mark.skipif(not Path("/dev/cpu/0/msr").exists(), reason="no msr driver")
def test_the_time_stamp_counter_is_read() -> None:
    """MSR 0x10 is the counter that tsc() reads."""
    assert 0 < _native.read_msr(0, 0x10) < 2**64


@pytest.mark.parametrize("arguments", [(-1, 0), (2**31, 0), (0, -1), (0, 2**32)])
def test_values_out_of_range_are_value_errors(arguments: tuple[int, int]) -> None:
    """CPU and index outside their ranges are refused before any device is opened."""
    with pytest.raises(ValueError, match=r"cpu|index"):
        _native.read_msr(*arguments)


@pytest.mark.parametrize("arguments", [(), (0,), ("0", 0), (0, 1.0)])
def test_wrong_types_are_type_errors(arguments: tuple[object, ...]) -> None:
    """Missing and ill-typed arguments raise TypeError."""
    with pytest.raises(TypeError):
        _native.read_msr(*arguments)  # type: ignore[call-arg,arg-type]
