"""Run files: reading one that may be broken or hostile, and writing one that is never half there."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterator
from math import isfinite
from pathlib import Path

import msgspec

from vprobe.errors import InvalidFileError
from vprobe.model import Run, Samples, Visit

SCHEMA = "vprobe.run/1"
MAXIMUM_BYTES = 256 << 20
MAXIMUM_VALUES = 24_000_000
"""Bounds of what is read. 2,000 visits of 100 rounds in 10 arms are 75 MB and 8 million values; decoded, a value takes 32
bytes, so that the bound on values is the one that bounds memory."""

MAXIMUM_LOOKS = 3
"""Looks of an adaptive run: each has its share of alpha."""

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20


class _Header(msgspec.Struct):
    """What tells a run file from any other JSON document."""

    schema: str = ""


def load(path: Path) -> Run:
    """Read a run file, plain or gzip (told by its content, not by its name), and check that it holds together.

    InvalidFileError says in one line what is wrong: unreadable, not JSON, truncated, another or a newer schema, too
    large, or contents that contradict each other (see defect()).
    """
    data = _read(path)
    if data.count(b",") > MAXIMUM_VALUES:
        raise InvalidFileError(f"{path} holds more than {MAXIMUM_VALUES:,} values", "that is more than vprobe writes")
    run = _decode(data, path)
    problem = defect(run)
    if problem:
        raise InvalidFileError(f"{path} contradicts itself: {problem}", "write it again with vprobe bench")
    return run


def save(run: Run, path: Path) -> None:
    """Write a run file, gzip where the name ends in .gz: whole and on disk, or not at all. OSError as it comes.

    ValueError for a run that load() would refuse, which is a defect of the caller.
    """
    problem = defect(run)
    if problem:
        raise ValueError(f"not a sound run: {problem}")
    data = msgspec.json.encode(run) + b"\n"
    if path.name.endswith(".gz"):
        data = gzip.compress(data, compresslevel=6, mtime=0)  # without the time, equal runs make equal files
    write_whole(path, data)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader at any time, and a crash at any time, finds the old one or the new one. OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Make a rename in the directory last."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    """The file's bytes, decompressed, never more than MAXIMUM_BYTES of them."""
    try:
        with path.open("rb") as file:
            data = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise InvalidFileError(
            f"{path} cannot be read: {error.strerror}", "name a file that vprobe bench wrote"
        ) from None
    if data.startswith(_GZIP_MAGIC):
        data = _decompress(data, path)
    if len(data) > MAXIMUM_BYTES:
        raise InvalidFileError(f"{path} holds more than {MAXIMUM_BYTES >> 20} MiB", "that is more than vprobe writes")
    return data


def _decompress(data: bytes, path: Path) -> bytes:
    decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    parts, size = [], 0
    try:
        while size <= MAXIMUM_BYTES and data and not decoder.eof:
            parts.append(decoder.decompress(data, _CHUNK_BYTES))
            data = decoder.unconsumed_tail
            size += len(parts[-1])
    except zlib.error:
        raise InvalidFileError(f"{path} is damaged: its gzip data do not decompress") from None
    if size <= MAXIMUM_BYTES and not decoder.eof:
        raise InvalidFileError(f"{path} is truncated: its gzip data end early", "copy it again")
    return b"".join(parts)


def _decode(data: bytes, path: Path) -> Run:
    try:
        _check_schema(msgspec.json.decode(data, type=_Header).schema, path)
        return msgspec.json.decode(data, type=Run)
    except msgspec.ValidationError as error:
        raise InvalidFileError(f"{path} is not a run of vprobe: {_shown(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(data, path, error) from None


def _shown(error: Exception) -> str:
    """An error's text, which may quote the file, as one bounded line."""
    return str(error).encode("unicode_escape").decode()[:200]


def _not_json(data: bytes, path: Path, error: Exception) -> InvalidFileError:
    text = data.strip()
    if not text:
        return InvalidFileError(f"{path} is empty", "copy it again")
    if text[:15].lower() == b"<!doctype html>":
        return InvalidFileError(f"{path} is a page, not a run", "vprobe report --extract takes the run out of a report")
    if text.startswith(b"{") and not text.endswith(b"}"):
        return InvalidFileError(f"{path} is truncated", "copy it again")
    if path.name.endswith(".part"):
        hint = "vprobe bench --resume completes it"
        return InvalidFileError(f"{path} is the journal of a run that is not complete", hint)
    return InvalidFileError(f"{path} is not JSON: {_shown(error)}", "name a file that vprobe bench wrote")


def _check_schema(schema: str, path: Path) -> None:
    if schema == SCHEMA:
        return
    kind, _, version = schema.partition("/")
    if kind == "vprobe.run" and version.isdecimal() and int(version[:9]) > 1:
        raise InvalidFileError(f"{path} was made by a newer vprobe (schema {kind}/{version[:9]})", "upgrade vprobe")
    said = f"its schema is {schema[:40]!r}, not {SCHEMA!r}" if schema else "it names no schema"
    raise InvalidFileError(f"{path} is not a run of vprobe: {said}", "name a file that vprobe bench wrote")


def defect(run: Run) -> str | None:
    """The first thing in which a run contradicts itself, or None.

    Every name refers to something declared, once; a visit is there once; each list has one entry a round; what is
    measured is finite and not negative.
    """
    return next(_defects(run), None)


def _defects(run: Run) -> Iterator[str]:
    for what, names in (
        ("arm", [arm.name for arm in run.arms]),
        ("environment", [environment.name for environment in run.environments]),
        ("workload", [workload.name for workload in run.workloads]),
    ):
        twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
        yield from (f"{what} {name!r} is declared twice" for name in sorted(twice))
    if run.looks and (
        len(run.looks) > MAXIMUM_LOOKS or list(run.looks) != sorted({look for look in run.looks if look > 0})
    ):
        yield f"looks after {run.looks} boots are not {MAXIMUM_LOOKS} at most, each later than the one before"
    arms, workloads = {arm.name for arm in run.arms}, {workload.name for workload in run.workloads}
    for row in run.square:
        yield from (f"the square names an unknown arm {name!r}" for name in row if name not in arms)
    seen: set[tuple[int, str]] = set()
    for visit in run.visits:
        where = f"boot {visit.boot} of {visit.workload!r}"
        if visit.workload not in workloads:
            yield f"{where}: no such workload"
        if (visit.boot, visit.workload) in seen:
            yield f"{where} is there twice"
        seen.add((visit.boot, visit.workload))
        yield from (f"{where}: {problem}" for problem in _visit_defects(visit, arms, len(run.square)))


def _visit_defects(visit: Visit, arms: set[str], orders: int) -> Iterator[str]:
    if visit.boot < 0:
        yield "a boot has a negative number"
    if visit.rows and not 0 <= min(visit.rows) <= max(visit.rows) < orders:
        yield "a round has an order that the square does not hold"
    for arm, samples in visit.samples.items():
        if arm not in arms:
            yield f"unknown arm {arm!r}"
        yield from (f"arm {arm!r}: {problem}" for problem in _sample_defects(samples, len(visit.rows)))


def _sample_defects(samples: Samples, rounds: int) -> Iterator[str]:
    if samples.iterations < 1:
        yield f"{samples.iterations} iterations"
    # warmup_ns has one entry per run where only the first is warmed (external commands).
    columns = (("values", samples.values), ("inside_ns", samples.inside_ns), ("outside_ns", samples.outside_ns))
    for name, column in columns:
        if column is not None and len(column) != rounds:
            yield f"{name} has {len(column)} entries for {rounds} rounds"
    for name, column in (*columns, ("warmup_ns", samples.warmup_ns)):
        if column and not (min(column) >= 0 and isfinite(sum(column))):
            yield f"{name} holds a value that is negative or not finite"
    for name, column in samples.details.items():
        if len(column) != rounds:
            yield f"details {name!r} has {len(column)} entries for {rounds} rounds"
        if column and not isfinite(sum(column)):
            yield f"details {name!r} holds a value that is not finite"
