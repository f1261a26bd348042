"""The two closed sets of words that every layer uses, in a module that loads nothing else.

`vprobe probe` answers in less time than importing the run-file types takes, and the agent has no msgspec: whoever needs
only these words imports them from here.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from enum import StrEnum as StrEnum  # novermin
else:  # agents on other machines
    from enum import Enum

    class StrEnum(str, Enum):  # noqa: UP042 - it is the very class that is missing
        """What Python 3.11 brings: members are strings, also where they are formatted."""

        __str__ = str.__str__
        __format__ = str.__format__


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
