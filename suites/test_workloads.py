"""`pytest --pyargs vprobe.suites --vprobe-env bare,runc,kvm`: every workload in every arm is a pytest-benchmark test.

The fixture is of the plugin vprobe.plugin, which also makes the rows.
"""

from __future__ import annotations

from collections.abc import Callable


def test_workload(vprobe_replay: Callable[[], None]) -> None:
    """A workload in an arm: its samples, as the engine measured them."""
    vprobe_replay()
