"""What is this machine? Raw sources are read once, decoders are pure, every fact has a state and its evidence.

Importing this package loads nothing else: the decoders are loaded by the first call.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vprobe.probe.report import HostReport

__all__ = ["probe_host"]


def probe_host(*, with_identifiers: bool = False) -> HostReport:
    """Probe the machine that this process runs on. Never raises for what cannot be read: such facts are "unknown".

    `with_identifiers` also reads the SMBIOS serial numbers and UUIDs, for a capture that shall hold them.
    """
    from vprobe.probe.report import decode  # noqa: PLC0415 - loaded when first asked
    from vprobe.probe.sources.live import read_live  # noqa: PLC0415

    return decode(read_live(with_identifiers=with_identifiers))
