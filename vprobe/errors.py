"""The errors that a user may see: each says what failed, what to do next, and how the process exits."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes that scripts rely on."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INCOMPARABLE = 4
    UNAVAILABLE = 5
    BROKEN = 6
    INTERNAL = 70
    INTERRUPTED = 130
    TERMINATED = 143


class VprobeError(Exception):
    """An expected failure.

    `message` is one line that names what failed; `hint` is one line that names the next step, or "".
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[ExitCode] = ExitCode.BROKEN

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(VprobeError):
    """The command line or a configuration file asks for something that does not exist or makes no sense."""

    code = "usage"
    exit_code = ExitCode.USAGE


class InvalidFileError(UsageError):
    """A file that the user named cannot be read as what it should be."""

    code = "invalid-file"


class IncomparableError(VprobeError):
    """Two things were asked to be compared that differ in more than what is being judged."""

    code = "incomparable"
    exit_code = ExitCode.INCOMPARABLE


class UnavailableError(VprobeError):
    """An environment that the user named cannot run here."""

    code = "unavailable"
    exit_code = ExitCode.UNAVAILABLE


class RunError(VprobeError):
    """A run broke: an agent died, a guest hung, a disk filled. What was measured is kept."""

    code = "run-broken"
    exit_code = ExitCode.BROKEN
