"""The journal: what is on disk is never measured again, what is not whole is not believed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from vprobe.errors import IncomparableError, InvalidFileError, UsageError
from vprobe.measure.journal import Journal, Line, part_of, seed_of
from vprobe.model import Fingerprint, Noise, Run, Samples

RUN = Run(
    created="2026-01-01T00:00:00Z", vprobe_version="0", seed=5, command=("vprobe",), probe={}, fingerprint=Fingerprint(cpu="a"),
    environments=(), arms=(), workloads=(), square=(),
)  # fmt: skip
NOISE = Noise(0.0, 0, 0.0, None, None)


def line(boot: int, workload: str) -> Line:
    """A finished visit."""
    return Line(boot, boot, workload, 1, (0,), NOISE, {"bare": Samples(1, (1.0,))})


def test_a_torn_last_line_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    """A kill in the middle of a write costs that visit and no other."""
    output = tmp_path / "run.json"
    journal = Journal.create(output, "plan", RUN)
    journal.append(line(0, "a"))
    journal.append(line(0, "b"))
    journal.close()
    with part_of(output).open("ab") as file:
        file.write(b'{"boot":1,"work')
    again = Journal.resume(output, "plan", RUN)
    assert again.finished(0) == {"a", "b"} and again.finished(1) == set()
    again.append(line(1, "a"))
    again.close()
    assert [one.workload for one in Journal.resume(output, "plan", RUN).lines] == ["a", "b", "a"]
    assert seed_of(output) == 5


def test_completion_writes_the_run_and_removes_the_journal(tmp_path: Path) -> None:
    """After a run there is one file, and it decodes."""
    output = tmp_path / "run.json"
    journal = Journal.create(output, "plan", RUN)
    journal.complete(RUN)
    assert not part_of(output).exists()
    assert msgspec.json.decode(output.read_bytes(), type=Run) == RUN


def test_resuming_refuses_what_does_not_fit(tmp_path: Path) -> None:
    """Another plan, another machine, no journal, no journal at all: each its own sentence."""
    output = tmp_path / "run.json"
    with pytest.raises(UsageError, match="no unfinished run"):
        Journal.resume(output, "plan", RUN)
    Journal.create(output, "plan", RUN).close()
    with pytest.raises(UsageError, match="of another command"):
        Journal.resume(output, "other", RUN)
    with pytest.raises(IncomparableError, match="machine has changed"):
        Journal.resume(output, "plan", msgspec.structs.replace(RUN, fingerprint=Fingerprint(cpu="b")))
    part_of(output).write_text("{}\n")
    with pytest.raises(InvalidFileError, match="not a journal"):
        Journal.resume(output, "plan", RUN)


def test_an_unfinished_journal_is_kept_aside_by_a_new_run(tmp_path: Path) -> None:
    """Forgetting --resume loses nothing."""
    output = tmp_path / "run.json"
    journal = Journal.create(output, "plan", RUN)
    journal.append(line(0, "a"))
    journal.close()
    Journal.create(output, "plan", RUN).close()
    assert b'"workload":"a"' in (tmp_path / "run.json.part.old").read_bytes()
