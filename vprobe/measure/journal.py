"""The journal of a run: a header line, then one line per finished visit, each on disk before the next one is written."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from vprobe.errors import IncomparableError, InvalidFileError, RunError, UsageError
from vprobe.model import EnvironmentRecord, Run, Skipped, Visit
from vprobe.runfile import save

MAX_JOURNAL_BYTES = 1 << 30


class Header(msgspec.Struct, frozen=True):
    """First line. `plan` must be the same for a run to be gone on with."""

    journal: int
    plan: str
    run: Run


class Line(Visit, frozen=True, kw_only=True):
    """A finished visit, with the arms that turned out to be unable to take part in it.

    The first line also holds what the environments' first sessions saw.
    """

    skipped: tuple[Skipped, ...] = ()
    environments: tuple[EnvironmentRecord, ...] = ()


class Journal:
    """RUN.json.part while a run goes on; RUN.json when it is complete."""

    def __init__(self, output: Path, header: Header, lines: tuple[Line, ...] = ()) -> None:
        self.output = output
        self.part = part_of(output)
        self.run = header.run
        self.lines = list(lines)
        self._header = header
        self._file: int | None = None
        self._disk = ThreadPoolExecutor(1)
        self._on_disk: Future[None] = Future()

    @classmethod
    def create(cls, output: Path, plan: str, run: Run) -> Journal:
        """A new journal; an unfinished one of an earlier run is kept aside, so that nothing is lost."""
        part = part_of(output)
        journal = cls(output, Header(1, plan, run))
        try:
            if part.exists():
                part.rename(part.with_name(part.name + ".old"))
            journal._open()
            journal._append(msgspec.json.encode(journal._header))
        except OSError as error:
            raise UsageError(f"{output} cannot be written: {error.strerror}", "name another file with -o") from None
        return journal

    @classmethod
    def resume(cls, output: Path, plan: str, run: Run) -> Journal:
        """The journal of the interrupted run of the same plan on the same machine.

        Raises UsageError where there is none or its plan is another, IncomparableError where the machine has changed.
        """
        part = part_of(output)
        header, lines, length = _read(part)
        if header.plan != plan:
            raise UsageError(f"{part} is of another command", "give the same options, or run without --resume")
        if header.run.fingerprint != run.fingerprint:
            raise IncomparableError(f"the machine has changed since {part} was begun", "run without --resume")
        journal = cls(output, header, lines)
        os.truncate(part, length)  # a line that was being written when the run was killed
        journal._open()
        return journal

    def finished(self, boot: int) -> set[str]:
        """Workloads whose visit in that boot is on disk."""
        return {line.workload for line in self.lines if line.boot == boot}

    def append(self, line: Line) -> None:
        """Write a finished visit, which gets to the disk while the next one is made ready."""
        try:
            self._append(msgspec.json.encode(line))
        except OSError as error:
            raise RunError(
                f"{self.part} cannot be written: {error.strerror}", "make room and go on with --resume"
            ) from None
        self.lines.append(line)

    def complete(self, run: Run) -> None:
        """Write the run file and remove the journal."""
        try:
            save(run, self.output)
        except OSError as error:
            raise RunError(
                f"{self.output} cannot be written: {error.strerror}", "make room and go on with --resume"
            ) from None
        self.close()
        self.part.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; the journal stays."""
        self._disk.shutdown()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> None:
        self._file = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._on_disk = self._disk.submit(os.fdatasync, self._file)

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        self._on_disk.result()
        data += b"\n"
        while data:
            data = data[os.write(self._file, data) :]
        self._on_disk = self._disk.submit(os.fdatasync, self._file)


def part_of(output: Path) -> Path:
    """Where the journal of a run file lies."""
    return output.with_name(output.name + ".part")


def seed_of(output: Path) -> int:
    """The seed of the unfinished run of that name: resuming it repeats its orders. Errors as Journal.resume()."""
    header, _, _ = _read(part_of(output))
    return header.run.seed


def _read(part: Path) -> tuple[Header, tuple[Line, ...], int]:
    """Header, finished visits, and the length in bytes of what is whole."""
    try:
        if part.stat().st_size > MAX_JOURNAL_BYTES:
            raise InvalidFileError(f"{part} is larger than a journal can be")
        data = part.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"there is no unfinished run {part}", "run without --resume") from None
    except OSError as error:
        raise UsageError(f"{part} cannot be read: {error.strerror}") from None
    whole = data[: data.rfind(b"\n") + 1]
    first, *rest = whole.splitlines() or [b""]
    try:
        header = msgspec.json.decode(first, type=Header)
        decoder = msgspec.json.Decoder(Line)
        lines = tuple(decoder.decode(line) for line in rest)
    except msgspec.MsgspecError as error:
        raise InvalidFileError(f"{part} is not a journal of vprobe: {error}", "run without --resume") from None
    return header, lines, len(whole)
