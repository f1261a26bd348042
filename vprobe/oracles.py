"""Agreement with oracles: how far a workload's figure lies from that of a program which vprobe did not write.

`make oracles` measures it and writes one file, schema vprobe.oracles/1; `vprobe report --oracles FILE` shows it.
"""

from __future__ import annotations

from math import log, log1p
from pathlib import Path
from typing import Literal

import msgspec

from vprobe.errors import InvalidFileError
from vprobe.model import Record
from vprobe.runfile import write_whole

SCHEMA = "vprobe.oracles/1"
MAXIMUM_BYTES = 16 << 20


class Agreement(Record, frozen=True):
    """One workload against one oracle, measured in pairs, interleaved in one session on one CPU.

    `ratio`, ours over the oracle's, with the 90 % interval over pairs; None where it was not measured, and `reason` says why.
    `bound`: what still counts as agreement, as a share: 0.03 allows 1/1.03 to 1.03; 1.0 allows a factor of 2.
    `ours`, `theirs`: medians in `unit`.
    """

    workload: str
    oracle: str
    bound: float
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    unit: str = ""
    ours: float | None = None
    theirs: float | None = None
    reason: str = ""

    @property
    def agrees(self) -> bool | None:
        """Whether the whole interval lies within the bound; None where it was not measured."""
        if self.low is None or self.high is None or self.low <= 0 or self.high <= 0:
            return None
        limit = log1p(self.bound) + 1e-12
        return -limit <= log(self.low) and log(self.high) <= limit


class OracleReport(Record, frozen=True):
    """The table of agreements: schema vprobe.oracles/1. `created`: RFC 3339, UTC."""

    created: str
    vprobe_version: str
    cpu: str
    kernel: str
    rows: tuple[Agreement, ...]
    schema: Literal["vprobe.oracles/1"] = "vprobe.oracles/1"


def load(path: Path) -> OracleReport:
    """Read a file of agreements. InvalidFileError says in one line what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise InvalidFileError(
            f"{path} cannot be read: {error.strerror}", "name a file that make oracles wrote"
        ) from None
    if len(data) > MAXIMUM_BYTES:
        raise InvalidFileError(f"{path} holds more than {MAXIMUM_BYTES >> 20} MiB", "that is more than vprobe writes")
    try:
        return msgspec.json.decode(data, type=OracleReport)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        said = str(error).encode("unicode_escape").decode()[:200]
        raise InvalidFileError(f"{path} is not a table of oracles: {said}", "write it with make oracles") from None


def save(report: OracleReport, path: Path) -> None:
    """Write the file, whole or not at all. OSError as it comes."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
