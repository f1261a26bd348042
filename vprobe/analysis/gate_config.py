"""The gate's settings: [tool.vprobe.gate] of vprobe.toml or pyproject.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from vprobe.analysis.comparable import check_across
from vprobe.analysis.gate import ALPHA, Policy
from vprobe.errors import InvalidFileError, UsageError
from vprobe.model import GateVerdict

FILES = ("vprobe.toml", "pyproject.toml")
"""Where settings are looked for, in this order, in the current directory."""

TABLE = "[tool.vprobe.gate]"
MAXIMUM_BYTES = 1 << 20


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """The table as it is written."""

    rules: list[str] = []
    across: list[str] = []
    baseline: str | None = None
    confirm: bool = False
    alpha: float = ALPHA
    inconclusive: GateVerdict = GateVerdict.INCONCLUSIVE
    missing: GateVerdict = GateVerdict.INCOMPARABLE


@dataclass(frozen=True)
class GateConfig:
    """Settings of a gate. `baseline` is relative to the file that names it."""

    rules: tuple[str, ...] = ()
    across: frozenset[str] = frozenset()
    baseline: Path | None = None
    confirm: bool = False
    policy: Policy = field(default_factory=Policy)


def find_config(directory: Path) -> GateConfig:
    """The settings of the first file of FILES that has the table; the defaults where none has."""
    for name in FILES:
        path = directory / name
        if path.is_file():
            found = read_config(path)
            if found is not None:
                return found
    return GateConfig()


def load_config(path: Path) -> GateConfig:
    """The settings of a file that was named. InvalidFileError where it does not hold the table."""
    found = read_config(path)
    if found is None:
        raise InvalidFileError(f"{path} has no table {TABLE}", "put the rules there, or give --rule")
    return found


def read_config(path: Path) -> GateConfig | None:
    """The settings of a file, None where it has no such table. InvalidFileError for one that is broken."""
    try:
        with path.open("rb") as file:
            text = file.read(MAXIMUM_BYTES).decode()
        document: Any = tomllib.loads(text)
    except OSError as error:
        raise InvalidFileError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidFileError(f"{path} is not TOML: {error}") from None
    for key in ("tool", "vprobe", "gate"):
        document = document.get(key) if isinstance(document, dict) else None
    if document is None:
        return None
    try:
        table = msgspec.convert(document, _Table)
    except msgspec.ValidationError as error:
        raise InvalidFileError(f"{path}: {TABLE}: {error}", "it takes " + ", ".join(_Table.__struct_fields__)) from None
    return _checked(table, path)


def _checked(table: _Table, path: Path) -> GateConfig:
    if not 0 < table.alpha <= 0.5:
        raise InvalidFileError(f"{path}: {TABLE}: alpha is {table.alpha:g}", "it is a chance, for example 0.05")
    try:
        check_across(table.across)
    except UsageError as error:
        raise InvalidFileError(f"{path}: {TABLE}: {error.message}", error.hint) from None
    return GateConfig(
        rules=tuple(table.rules),
        across=frozenset(table.across),
        baseline=None if table.baseline is None else path.parent / table.baseline,
        confirm=table.confirm,
        policy=Policy(table.inconclusive, table.missing, table.alpha),
    )
