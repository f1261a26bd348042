"""The workloads in Python: each does what it says, as often as it is asked to, and leaves nothing behind."""

from __future__ import annotations

import itertools
import lzma
import os
import shutil
import tempfile
import time
import zlib
from pathlib import Path

import pytest
from vprobe.suites import applications, cpu, programs
from vprobe.suites.timers import percentile

from vprobe import suites
from vprobe.measure.plan import PRESETS, unasked


def leave_out(reason: str) -> None:
    """A tool that lacks is a visible skip; in CI, which installs all of them, it is a failure."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def test_generated_text_compresses_as_prose_does() -> None:
    """Between a third and a half of its size remains, by either method; and it is the same every time."""
    text = cpu.generated_text(1 << 16)
    assert text == cpu.generated_text(1 << 16)
    assert 0.2 < len(zlib.compress(text)) / len(text) < 0.5
    assert 0.2 < len(lzma.compress(text)) / len(text) < 0.5


def test_pieces_of_text_go_round_from_any_of_them() -> None:
    """All of the text comes up, piece by piece, before the first comes again; not every process begins with the same."""
    text = cpu.generated_text(cpu.PIECES_BYTES)
    count = len(text) // 4096
    firsts = set()
    for _ in range(8):
        pieces = list(itertools.islice(cpu.pieces_of_text(4096), count + 1))
        first = text.index(pieces[0])
        assert b"".join(pieces) == text[first:] + text[:first] + pieces[0]
        firsts.add(first)
    assert len(firsts) > 1


def test_programs_compute_what_is_known() -> None:
    """Ten ways for five queens, a depth that fits 64 keys, the most frequent word, a sun that is pulled by its planets."""
    assert programs.queens(5)() == 10
    assert programs.queens(6)() == 4
    assert 6 < programs.trees()() <= 64
    assert programs.words("a b a c a b")() == 3
    advance = programs.bodies()
    assert 0 != advance() != advance()


@pytest.mark.parametrize("program", cpu.PROGRAMS)
def test_programs_take_time_by_iterations(program: str) -> None:
    """Four times the iterations take between two and eight times as long: nothing is kept from one to the next."""
    run = cpu.python_program(program)

    def best(iterations: int) -> int:
        found = []
        for _ in range(30):
            before = time.perf_counter_ns()
            run(iterations)
            found.append(time.perf_counter_ns() - before)
        return min(found)

    run(20)
    assert 2 < best(40) / best(10) < 8


def test_transfers_are_committed_and_cleaned_up() -> None:
    """The database holds every transfer, no money is made, and its directory goes away."""
    block = applications.Transactions(tempfile.gettempdir())
    place = Path(block.directory.name)
    block(25)
    assert block.done == 25
    (moved,) = block.database.execute("select count(*) from accounts where balance <> 1000").fetchone()
    assert moved > 10
    assert (place / "accounts.db").exists()
    block.close()
    assert not place.exists()


@pytest.mark.parametrize("operation", ["set", "get"])
def test_redis_answers_and_ends(operation: str) -> None:
    """A block is a time between 1 us and 1 ms a request; the server and its directory are gone afterwards."""
    if not (shutil.which("redis-server") and shutil.which("redis-benchmark")):
        leave_out("redis is not installed")
    block = applications.Redis(operation)
    server, place = block.server, Path(block.directory.name)
    try:
        assert 1_000 < block(1) < 1_000_000
    finally:
        block.close()
    assert server.poll() is not None
    assert not place.exists()


def test_a_program_that_lacks_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no redis-server the reason of the skip says what to install."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(suites.UnsupportedError, match="apt-get install redis-server"):
        applications.Redis("get")


def test_the_generated_source_compiles_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    """The compiler makes an object file, says nothing, and the directory goes away."""
    if shutil.which("cc") is None:
        leave_out("no C compiler")
    block = applications.Compilation(5)
    place = Path(block.directory.name)
    block(1)
    assert (place / "generated.o").stat().st_size > 1000
    block.close()
    assert not place.exists()
    assert capfd.readouterr() == ("", "")


def test_wake_ups_come_with_percentiles() -> None:
    """The median is the value, and no percentile lies below a lower one."""
    value = suites.find("timers.wake_up").make()(1)
    ns, details = value
    assert 0 < ns == details["p50_ns"] <= details["p99_ns"] <= details["max_ns"]


def test_the_99th_percentile_of_a_hundred_is_not_their_maximum() -> None:
    """Nearest rank: 99 of 100 values do not exceed the 99th one, and the median of three is the second."""
    assert percentile(range(1, 101), 99) == 99
    assert [percentile([10, 20, 30], percent) for percent in (1, 50, 99, 100)] == [10, 20, 30, 30]


def test_levels_hold_each_other() -> None:
    """quick measures a part of default, default a part of full, and full all; felter measures what its study did."""
    quick, default, full = ({one.name for one in unasked(PRESETS[name])} for name in ("quick", "default", "full"))
    assert quick < default < full == set(suites.catalog())
    study = {one.name for one in unasked(PRESETS["felter"])}
    assert {"cpu.xz", "cpu.dgemm[sse2]", "memory.triad", "memory.random_access", "applications.redis[get]"} <= study


def test_every_workload_says_what_it_measures() -> None:
    """A doc that begins with a sentence, a unit that is known, and a name in its own suite."""
    for name, workload in suites.catalog().items():
        assert workload.doc.partition("\n\n")[0].strip().endswith("."), name
        assert workload.unit in ("ns", "B/s", "bytes", "sessions", "1/s"), name
        assert name.startswith(workload.suite + ".")
