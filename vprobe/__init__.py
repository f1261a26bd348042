"""vprobe: what can this machine virtualize, and what does each layer cost?

Importing the package loads nothing else, because the agent that runs inside environments must start in 0.1 s.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take longer than the rest of this module
__version__ = "0.1.0"

if TYPE_CHECKING:
    from typing import Any

    from vprobe.probe import probe_host as probe_host

__all__ = ["__version__", "probe_host"]


def __getattr__(name: str) -> Any:
    if name == "probe_host":
        from vprobe.probe import probe_host  # noqa: PLC0415 - loaded only when asked for

        return probe_host
    raise AttributeError(f"module 'vprobe' has no attribute {name!r}")
