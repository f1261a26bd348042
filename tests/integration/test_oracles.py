"""A short run of the stable rows of the table of oracles; `make oracles` runs all of it."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oracles import __main__ as command
from oracles.bench import Bench
from oracles.pairs import Pair, Row, agreement
from oracles.table import ROWS

from vprobe import oracles

PAIRS = 30
CPU = max(os.sched_getaffinity(0))
STABLE = [row for row in ROWS if row.stable]


def fixed(*pairs: Pair) -> Callable[[Bench, int], Iterator[Pair]]:
    """The same pairs, as often as is asked for."""

    def repeated(bench: Bench, count: int) -> Iterator[Pair]:
        return iter(pairs * count)

    return repeated


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compares the TSC with the clock")
@pytest.mark.parametrize("row", STABLE, ids=[f"{row.workload}-{row.oracle}" for row in STABLE])
def test_bare_agrees_with_the_oracle(row: Row) -> None:
    """Over 30 interleaved pairs the 90 % interval of ours / theirs lies within the bound of the row."""
    found = command.measure(row, CPU, PAIRS)
    print(command.shown(found, 0))
    assert found.agrees, found.reason


def test_each_row_says_what_it_needs() -> None:
    """A row whose program is missing is kept, unmeasured, with what to install."""
    row = Row("cpu.sha256", "nobody", 0.1, fixed(), programs=("no-such-program",), packages=("x",))
    found = command.measure(row, CPU, 1)
    assert found.agrees is None
    assert "apt-get install x" in found.reason


def test_an_interval_that_leaves_the_bound_disagrees() -> None:
    """Fifteen pairs 20 % apart disagree within 10 % and agree within 25 %."""
    pairs = [Pair(1.2, 1.0, 0.18 + number / 1000) for number in range(15)]
    narrow, wide = (Row("w", "o", bound, fixed()) for bound in (0.10, 0.25))
    assert agreement(narrow, pairs, "ns").agrees is False
    assert agreement(wide, pairs, "ns").agrees is True


def test_the_command_writes_what_the_report_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that disagrees gives exit 1; the file holds it, and vprobe.oracles reads it."""
    output = tmp_path / "oracles.json"
    rows = [Row("cpu.integer_chain", "o", 0.1, fixed(Pair(2.0, 1.0, 0.69)))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "ROWS", rows)
        assert command.main(["-o", str(output), "--pairs", "15"]) == 1
    assert "DISAGREES" in capsys.readouterr().out
    assert json.loads(output.read_text())["schema"] == oracles.SCHEMA
    assert [row.agrees for row in oracles.load(output).rows] == [False]


def test_sigterm_removes_what_was_made(tmp_path: Path) -> None:
    """The compiled programs and the scratch directory lie in the temporary directory, and are gone when it has ended."""
    words = [sys.executable, "-m", "oracles", "-o", tmp_path / "oracles.json", "--row", "memory.chase[64MiB]"]
    variables = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(words, env=variables, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("vprobe-oracles-*/oracle")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
