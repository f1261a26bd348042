"""The two closed sets of words that every layer uses, in a module that loads nothing else.

`vprobe probe` answers in less time than importing the run-file types takes, and the agent has no msgspec: whoever needs
only these words imports them from here.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What is known of a feature. Never a bare yes or no: what was not read is not absent."""

    PRESENT = "present"
    ABSENT = "absent"
    HIDDEN = "hidden"  # a hypervisor masks it, or may do so
    DISABLED = "disabled"  # firmware or kernel turned it off
    UNKNOWN = "unknown"  # could not be read


class VirtClass(StrEnum):
    """The class of virtualization of an environment or of a detected layer."""

    NONE = "none"
    OS_LEVEL = "os-level"
    USER_SPACE_KERNEL = "user-space-kernel"
    FULL_HARDWARE = "full-hardware"
    FULL_SOFTWARE = "full-software"
    PARAVIRTUAL = "paravirtual"
    EMULATION = "emulation"
