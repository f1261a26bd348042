"""What is this machine? Raw sources are read once, decoders are pure, every fact has a state and its evidence.

Importing this package loads nothing else: the decoders are loaded by the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vprobe.probe.report import HostReport

__all__ = ["probe_host"]


def probe_host() -> HostReport:
    """Probe the machine that this process runs on. Never raises for what cannot be read: such facts are "unknown"."""
    from vprobe.probe.report import decode  # noqa: PLC0415 - loaded when first asked
    from vprobe.probe.sources.live import read_live  # noqa: PLC0415

    return decode(read_live())
