"""KernelHost: the kernels natively, each against a model of what it does."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import operator
import os
import platform
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from linearity import assert_linear

from vprobe import _native

KIB, MIB = 1024, 1024 * 1024
X86 = platform.machine() == "x86_64"
HOST_ONLY = [
    "getpid",
    "getppid",
    "clock_gettime",
    "clock_call",
    "read",
    "stat",
    "signal",
    "pipe_round_trip",
    "futex_round_trip",
    "fork_wait",
    "thread_create",
    "map_unmap",
    "map_touch_unmap",
    "protect",
]
GUEST_ONLY = ["out", "in", "mmio", "hypercall", "rdmsr", "wrmsr", "self_ipi", "halt"]


@pytest.fixture
def host() -> Iterator[_native.KernelHost]:
    with _native.KernelHost(MIB) as opened:
        yield opened


def word_at(address: int) -> int:
    return ctypes.c_uint64.from_address(address).value


# --- what the kernels compute ----------------------------------------------------------------------------------------


def test_the_section_holds_the_kernels_of_the_suites() -> None:
    """The names that the suites rely on are there, each once."""
    names = _native.kernels()
    assert {"integer_chain", "float_chain", "chase", "triad", "touch", *HOST_ONLY} <= set(names)
    assert len(names) == len(set(names))
    assert not X86 or {"cpuid", *GUEST_ONLY} <= set(names)


@given(warm=st.integers(0, 50), timed=st.integers(0, 50), start=st.integers(0, 2**64 - 1))
def test_integer_chain_computes_its_chain(warm: int, timed: int, start: int) -> None:
    """The result equals the same twelve operations an iteration done by Python: none was left out."""
    x = start
    for _ in range(4 * (warm + timed)):
        x = ((x * 6364136223846793005 + 1442695040888963407) % 2**64) ^ 0x5851F42D4C957F2D
    with _native.KernelHost(0) as host:
        assert host.run("integer_chain", warm, timed, start)[1] == x


def test_float_chain_settles_at_two(host: _native.KernelHost) -> None:
    """x / 2 + 1 from 1 on tends to 2: truncated 1 after one iteration, 2 when it has settled."""
    assert host.run("float_chain", 0, 1)[1] == 1
    assert host.run("float_chain", 0, 1000)[1] == 2


@given(iterations=st.integers(0, 100), start=st.integers(0, 2**64 - 8))
def test_integer_throughput_computes_all_eight(iterations: int, start: int) -> None:
    """The result is the exclusive or of eight values, each added to and masked once an iteration."""
    values = [start + i for i in range(8)]
    for _ in range(iterations):
        values = [(x + 1442695040888963407) % 2**64 ^ 0x5851F42D4C957F2D for x in values]
    with _native.KernelHost(0) as host:
        assert host.run("integer_throughput", 0, iterations, start)[1] == functools.reduce(operator.xor, values)


@given(bits=st.integers(0, 2**64 - 1), parts=st.lists(st.integers(0, 50), min_size=1, max_size=4))
def test_branches_follow_the_generator(bits: int, parts: list[int]) -> None:
    """Branches are taken as often as the generator sets one of the bits, and calls continue it."""
    x = 88172645463325252
    with _native.KernelHost(0) as host:
        for part in parts:
            taken = 0
            for _ in range(part):
                x ^= x << 13 & 2**64 - 1
                x ^= x >> 7
                x ^= x << 17 & 2**64 - 1
                taken += bool(x & bits)
            assert host.run("branches", 0, part, bits)[1] == taken


def test_unpredictable_branches_cost_more(host: _native.KernelHost) -> None:
    """A branch at random takes longer than one that never or always goes the same way."""
    best = {bits: min(host.run("branches", 10_000, 20_000, bits)[0] for _ in range(20)) for bits in (0, 1, 2**64 - 1)}
    assert best[1] > 1.3 * max(best[0], best[2**64 - 1])


@pytest.mark.parametrize("kernel", ["vector_sse2", "vector_avx2"])
def test_vectors_settle_at_two(kernel: str, host: _native.KernelHost) -> None:
    """Eight registers of x / 2 + 1 add up to 8 at first (truncated 12 after one iteration) and to 16 when settled."""
    if kernel == "vector_avx2" and "avx2" not in Path("/proc/cpuinfo").read_text():
        with pytest.raises(ValueError, match=r"AVX2|no kernel"):
            host.run(kernel, 0, 1)
        return
    assert [host.run(kernel, 0, iterations)[1] for iterations in (0, 1, 100)] == [8, 12, 16]


@given(
    nodes=st.integers(2, 300),
    stride=st.sampled_from([8, 64, 72, 4096]),
    offset=st.sampled_from([0, 8, 64, 4096]),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_chase_is_one_cycle_over_all_nodes(nodes: int, stride: int, offset: int, seed: int) -> None:
    """From the first node on every node is met once before the first comes again; position is kept between calls."""
    with _native.KernelHost(offset + nodes * stride) as host:
        first = host.memory_address + offset
        host.build_chase(offset, nodes * stride, stride, seed)
        met = [host.run("chase", 0, 1)[1] for _ in range(nodes)]
        assert sorted(met) == [first + i * stride for i in range(nodes)]
        assert met[-1] == first


def test_a_chase_is_random_and_repeats_by_its_seed(host: _native.KernelHost) -> None:
    """The same seed lays the same cycle, another seed another, and neighbours are seldom neighbours in it."""

    def path(seed: int) -> list[int]:
        host.build_chase(0, 64 * KIB, 64, seed)
        return [host.run("chase", 0, 1)[1] for _ in range(1024)]

    assert path(1) == path(1)
    assert path(1) != path(2)
    steps = [b - a for a, b in zip(path(3), path(3)[1:], strict=False)]
    assert sum(abs(step) == 64 for step in steps) < 20


def test_warm_iterations_move_the_chase_too(host: _native.KernelHost) -> None:
    """3 warm and 4 timed loads end where 7 loads end."""
    host.build_chase(0, 64 * KIB, 64, 5)
    after_seven = [host.run("chase", 0, 1)[1] for _ in range(7)][-1]
    host.build_chase(0, 64 * KIB, 64, 5)
    assert host.run("chase", 3, 4)[1] == after_seven


def doubles(host: _native.KernelHost) -> Any:
    return (ctypes.c_double * (host.memory_bytes // 8)).from_address(host.memory_address)


def test_triad_writes_line_after_line_and_wraps() -> None:
    """Each iteration writes 1 + 3 * 1 into eight elements of a; calls continue each other; the end wraps to the start."""
    with _native.KernelHost(3 * 21 * 64) as host:  # the least that it takes: 21 lines each
        host.run("triad", 0, 2)
        values = doubles(host)
        assert list(values[:24]) == [4.0] * 16 + [1.0] * 8
        host.run("triad", 1, 2)
        assert list(values[:48]) == [4.0] * 40 + [1.0] * 8
        host.run("triad", 0, 16)
        assert list(values[: 21 * 8]) == [4.0] * 21 * 8
        values[:8] = [0.0] * 8
        values[21 * 8] = 5.0  # b[0]
        host.run("triad", 0, 1)
        assert list(values[:8]) == [8.0] + [4.0] * 7


def test_the_loops_of_stream_share_their_arrays() -> None:
    """copy c = a, scale b = 3 c, add c = a + b, over one line each, after a triad: positions go on and values follow."""
    with _native.KernelHost(3 * 21 * 64) as host:
        host.run("triad", 0, 21)  # a = 4, b = c = 1
        values = doubles(host)
        line = {"a": 0, "b": 21 * 8, "c": 42 * 8}

        def after(kernel: str, array: str) -> list[float]:
            host.run(kernel, 0, 21)
            return sorted(set(values[line[array] : line[array] + 21 * 8]))

        assert after("copy", "c") == [4.0]
        assert after("scale", "b") == [12.0]
        assert after("add", "c") == [16.0]
        assert after("triad", "a") == [60.0]
        assert host.run("copy", 0, 5)[1] == 5 * 64
        assert host.run("add", 0, 5)[1] == 10 * 64


@pytest.mark.parametrize(("memory", "words"), [(8, 1), (4096, 512), (5000, 512), (8192, 1024)])
def test_random_access_updates_its_table(memory: int, words: int) -> None:
    """After 1000 updates, in two calls, the table holds what a model's does; its size is a power of two."""
    random, table = 88172645463325252, [0] * words
    for _ in range(1000):
        random = (random << 1 & 2**64 - 1) ^ (7 if random >> 63 else 0)
        table[random & words - 1] ^= random
    with _native.KernelHost(memory) as host:
        host.run("random_access", 100, 200)
        assert host.run("random_access", 300, 400)[1] == random
        assert [word_at(host.memory_address + 8 * i) for i in range(words)] == table


@pytest.mark.parametrize("kernel", ["matrix_sse2", "matrix_avx2"])
@pytest.mark.parametrize("side", [1, 2])
def test_matrices_are_multiplied(kernel: str, side: int) -> None:
    """After all products of blocks, in calls of uneven length, c is a * b as numpy has it; the next round adds it again."""
    elements = side * 64
    with _native.KernelHost(3 * elements * elements * 8) as host:
        try:
            host.run(kernel, 0, 0)
        except ValueError as error:
            pytest.skip(str(error))
        a, b, c = (
            np.frombuffer(
                (ctypes.c_double * elements**2).from_address(host.memory_address + i * elements**2 * 8)
            ).reshape(elements, elements)
            for i in range(3)
        )
        source = np.random.default_rng(1)
        a[:], b[:] = source.random((2, elements, elements))
        assert host.run(kernel, 1, 0)[1] == 1 % side**3
        host.run(kernel, 0, side**3 - 1)
        assert np.allclose(c, a @ b, rtol=1e-12)
        host.run(kernel, 0, side**3)
        assert np.allclose(c, 2 * (a @ b), rtol=1e-12)


def test_peek_reads_a_word_of_each_page(host: _native.KernelHost) -> None:
    """The exclusive or of the first words of the pages from the offset on, each of which is read once."""
    for page in range(8):
        ctypes.c_uint64.from_address(host.memory_address + page * 4096).value = 1 << page
    assert host.run("peek", 1, 3)[1] == 0b1111
    assert host.run("peek", 0, 4, 4 * 4096)[1] == 0b11110000
    with pytest.raises(ValueError, match="leave the memory"):
        host.run("peek", 0, 257)


def test_atomic_counts(host: _native.KernelHost) -> None:
    """Every iteration adds one to the first word; the result is the word before the last addition."""
    ctypes.c_uint64.from_address(host.memory_address).value = 1000
    assert host.run("atomic", 3, 7)[1] == 1009
    assert word_at(host.memory_address) == 1010


def test_gaps_sees_no_more_than_was_lost(host: _native.KernelHost) -> None:
    """With a threshold of 0 every tick between two reads counts; with one that nothing reaches none does."""
    ticks, lost = host.run("gaps", 10, 1000, 0)
    assert 0.8 * ticks < lost <= ticks
    assert host.run("gaps", 10, 1000, 2**62)[1] == 0


def test_clock_gettime_reads_the_clock(host: _native.KernelHost) -> None:
    """The result is CLOCK_MONOTONIC in ns."""
    before = time.monotonic_ns()
    assert before <= host.run("clock_gettime", 3, 5)[1] <= time.monotonic_ns()


def test_read_reads_a_byte_an_iteration(host: _native.KernelHost) -> None:
    """Seven iterations take seven bytes of a pipe; the end of a file is no error; a closed descriptor is EBADF."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"0123456789")
    assert host.run("read", 3, 4, read_end)[1] == 1
    assert os.read(read_end, 100) == b"789"
    os.close(write_end)
    assert host.run("read", 3, 4, read_end)[1] == 0
    os.close(read_end)
    with pytest.raises(OSError, match="read: Bad file descriptor"):
        host.run("read", 0, 4, read_end)


def test_triad_starts_anew_after_the_memory_was_used(host: _native.KernelHost) -> None:
    """Pointers of a chase are never read as (denormal) numbers: b and c are 1 again."""
    host.build_chase(0, MIB, 64, 1)
    host.run("triad", 0, 10)
    assert set(doubles(host)[: 30 * 8]) == {1.0, 4.0}


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


def test_touch_faults_once_for_each_fresh_page(host: _native.KernelHost) -> None:
    """After discard() a store into each of 200 pages faults 200 times; without it, not at all."""
    host.run("touch", 0, 200)
    before = faults()
    host.run("touch", 0, 200)
    again = faults()
    host.discard(0, MIB)
    emptied = faults()
    host.run("touch", 50, 150)
    assert again - before < 5
    assert 200 <= faults() - emptied < 210
    assert [word_at(host.memory_address + page * 4096) != 0 for page in (0, 49, 50, 199, 200)] == [True] * 4 + [False]


def test_touch_starts_at_its_offset(host: _native.KernelHost) -> None:
    """a0 is the offset of the first store."""
    host.run("touch", 0, 2, 8192)
    assert [word_at(host.memory_address + page * 4096) for page in range(5)] == [0, 0, 2, 1, 0]


def test_ids_are_ours(host: _native.KernelHost) -> None:
    """The system calls are really made: their results are the ids of this process and of its parent."""
    assert host.run("getpid", 1, 3)[1] == os.getpid()
    assert host.run("getppid", 1, 3)[1] == os.getppid()


def test_a_system_call_for_the_time_tells_the_time(host: _native.KernelHost) -> None:
    """The result lies between two readings of the same clock."""
    before = _native.monotonic_ns()
    assert before <= host.run("clock_call", 1, 3)[1] <= _native.monotonic_ns()


def test_stat_sees_the_file(host: _native.KernelHost) -> None:
    """The first word of the answer is the device that /dev/null lies on."""
    assert host.run("stat", 1, 3)[1] == Path("/dev/null").stat().st_dev


def test_signals_are_caught_and_the_handler_is_restored(host: _native.KernelHost) -> None:
    """Each iteration's signal arrives; afterwards the process's own handler is there again."""
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        assert host.run("signal", 5, 20)[1] == 25
        assert seen == []
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_threads_are_created_and_gone(host: _native.KernelHost) -> None:
    """Each iteration's thread had an id of its own, and none is left."""
    before = set(Path("/proc/self/task").iterdir())
    first = host.run("thread_create", 0, 1)[1]
    last = host.run("thread_create", 5, 20)[1]
    assert os.getpid() != first != last != os.getpid()
    assert set(Path("/proc/self/task").iterdir()) == before


@pytest.mark.parametrize("kernel", ["map_unmap", "map_touch_unmap"])
def test_what_is_mapped_is_unmapped(kernel: str, host: _native.KernelHost) -> None:
    """The last address is in no mapping any more; a length of 0 is EINVAL with the kernel's name."""
    address = host.run(kernel, 2, 5, 1 << 20)[1]
    ranges = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
    assert not any(int(low, 16) <= address < int(high, 16) for low, high in ranges)
    with pytest.raises(OSError, match=f"{kernel}: Invalid argument"):
        host.run(kernel, 0, 1, 0)


def test_protect_leaves_the_page_writable(host: _native.KernelHost) -> None:
    """The page is written to in every iteration, after it was read-only."""
    assert host.run("protect", 2, 5)[1] == 1
    ctypes.c_uint64.from_address(host.memory_address).value = 7


def test_futex_round_trip_needs_somebody_to_answer(host: _native.KernelHost) -> None:
    """The other process sets the word back each time, and is ended by its parent."""
    pid = _native.spawn_futex_echo()
    try:
        assert host.run("futex_round_trip", 10, 50)[1] == 0
    finally:
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[0] == pid


def test_a_partner_works_while_a_kernel_runs_and_only_then(host: _native.KernelHost) -> None:
    """Beside `atomic` the partner adds to the same word during the run; between the runs the word stands still."""
    host.start_partner("atomic", max(os.sched_getaffinity(0)))
    host.run("atomic", 0, 200_000)
    after = word_at(host.memory_address)
    assert after > 200_000
    time.sleep(0.02)
    assert word_at(host.memory_address) == after
    with pytest.raises(ValueError, match="read-only"):
        host.run("protect", 0, 1)


@pytest.mark.parametrize("kernel", ["getpid", "chase", "touch", "nothing", "out"])
def test_a_partner_runs_what_needs_no_memory(kernel: str, host: _native.KernelHost) -> None:
    """Kernels that make system calls, or that could leave the memory, are refused as partners."""
    with pytest.raises(ValueError, match="beside"):
        host.start_partner(kernel, 0)


def test_a_partner_on_a_cpu_that_is_not_there(host: _native.KernelHost) -> None:
    """OSError, and the host works on without it."""
    with pytest.raises(OSError, match="pthread_create"):
        host.start_partner("integer_chain", 1023)
    assert host.run("getpid", 0, 1)[1] == os.getpid()


def test_sleepers_wake_late_but_not_early() -> None:
    """As many latencies as asked for, none negative, over at least as many periods of wall time."""
    before = time.monotonic_ns()
    late = _native.wake_up_latencies(200_000, 20)
    assert time.monotonic_ns() - before >= 20 * 200_000
    assert len(late) == 20 and min(late) > 0
    with pytest.raises(ValueError, match="period_ns"):
        _native.wake_up_latencies(999, 1)


def test_pipe_round_trip_moves_bytes(host: _native.KernelHost) -> None:
    """One byte an iteration goes out of a0 and comes in from a1."""
    read_end, write_end = os.pipe()
    try:
        host.run("pipe_round_trip", 2, 5, write_end, read_end)
        os.set_blocking(read_end, False)
        with pytest.raises(BlockingIOError):
            os.read(read_end, 1)
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_failed_system_call_names_the_kernel(host: _native.KernelHost) -> None:
    """A closed descriptor is EBADF, an end without a partner EPIPE; the next run is unaffected."""
    with pytest.raises(OSError, match="pipe_round_trip: Bad file descriptor") as caught:
        host.run("pipe_round_trip", 0, 10, 9999, 9998)
    assert caught.value.errno == 9
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(BrokenPipeError, match="pipe_round_trip"):
        host.run("pipe_round_trip", 0, 10, write_end, write_end)
    os.close(write_end)
    assert host.run("getpid", 0, 1)[1] == os.getpid()


def test_fork_wait_leaves_no_child(host: _native.KernelHost) -> None:
    """Each child is waited for: its id is gone, and this process has no child more than before."""
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    before = children.read_text()
    pid = host.run("fork_wait", 1, 3)[1]
    assert not Path(f"/proc/{pid}").exists()
    assert children.read_text() == before


@pytest.mark.skipif(not X86, reason="CPUID is x86")
def test_cpuid_returns_the_highest_leaf(host: _native.KernelHost) -> None:
    """The kernel's result is EAX of leaf 0."""
    assert host.run("cpuid", 0, 1)[1] == _native.cpuid(min(os.sched_getaffinity(0)), 0)[0]


# --- time ------------------------------------------------------------------------------------------------------------

LINEAR = {
    "integer_chain": 5_000,
    "integer_throughput": 10_000,
    "float_chain": 5_000,
    "branches": 5_000,
    "vector_sse2": 5_000,
    "matrix_sse2": 4,
    "chase": 5_000,
    "copy": 2_000,
    "scale": 2_000,
    "add": 2_000,
    "triad": 2_000,
    "touch": 20,
    "peek": 20,
    "random_access": 5_000,
    "atomic": 5_000,
    "gaps": 2_000,
    "getpid": 100,
    "clock_gettime": 500,
    "clock_call": 100,
    "read": 100,
    "stat": 50,
    "signal": 50,
    "map_unmap": 20,
    "protect": 50,
}
LINEAR_ARGUMENTS = {"branches": [1], "map_unmap": [1 << 16], "gaps": [1 << 40]}


@pytest.mark.parametrize("kernel", LINEAR)
def test_time_is_linear_in_iterations(kernel: str, host: _native.KernelHost) -> None:
    """Over ten multiples of the iterations the best times lie on a line: r² above 0.999."""
    if kernel == "chase":
        host.build_chase(0, 16 * KIB, 64, 1)
    arguments = LINEAR_ARGUMENTS.get(kernel, [])
    warm = 5 if kernel in ("touch", "peek", "matrix_sse2") else 100
    if kernel == "read":
        arguments = [os.open("/dev/null", os.O_RDONLY)]
    fresh = kernel in ("touch", "peek")  # what is linear is the page fault; a page that is there costs next to nothing

    def ticks_of(count: int) -> int:
        if fresh:
            host.discard(0, MIB)
        return host.run(kernel, warm, count, *arguments)[0]

    assert_linear(ticks_of, LINEAR[kernel])


def test_only_the_timed_part_is_timed(host: _native.KernelHost) -> None:
    """A million warm iterations do not count: ticks of ten timed ones stay below a hundredth of theirs."""
    few = min(host.run("integer_chain", 100_000, 10)[0] for _ in range(5))
    many = min(host.run("integer_chain", 10, 100_000)[0] for _ in range(5))
    assert 0 < few < many / 100


def test_ticks_are_those_of_tsc(host: _native.KernelHost) -> None:
    """What the kernel counts lies within what tsc() counts around the call, and fills most of it."""
    start = _native.tsc()
    ticks, _ = host.run("integer_chain", 0, 2_000_000)
    around = _native.tsc() - start
    assert around * 0.5 < ticks <= around


def test_a_running_kernel_holds_no_gil(host: _native.KernelHost) -> None:
    """Python code of another thread goes on while a kernel runs for about half a second."""
    per_iteration = host.run("integer_chain", 1000, 100_000)[0] * _native.calibrate_tsc() / 100_000
    thread = threading.Thread(target=host.run, args=("integer_chain", 0, int(0.5e9 / per_iteration)))
    thread.start()
    count = 0
    while thread.is_alive():
        time.sleep(0.001)
        count += 1
    assert count > 20


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "chases", "integer_chain\0", "évidence", "evidence", "\ud800"])
def test_unknown_kernels_are_value_errors(name: str, host: _native.KernelHost) -> None:
    """A name that is not in kernels() raises ValueError (the micro-VM's own `evidence` is not in it)."""
    with pytest.raises(ValueError, match="no kernel is named"):
        host.run(name, 0, 1)


@pytest.mark.parametrize("kernel", GUEST_ONLY)
def test_kernels_of_guests_do_not_run_here(kernel: str, host: _native.KernelHost) -> None:
    """OUT and VMCALL would fault in a process: ValueError."""
    with pytest.raises(ValueError, match="MicroVM" if X86 else "no kernel"):
        host.run(kernel, 0, 1)


@pytest.mark.parametrize("arguments", [(-1, 1), (0, -1), (2**64, 0), (0, 1, -1), (0, 1, 0, 2**64)])
def test_numbers_that_do_not_fit_are_value_errors(arguments: tuple[int, ...], host: _native.KernelHost) -> None:
    """Iterations and arguments are unsigned 64-bit numbers."""
    with pytest.raises(ValueError, match="must be from 0 to"):
        host.run("integer_chain", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [(), ("getpid",), ("getpid", 1), (b"getpid", 0, 1), ("getpid", 0.0, 1), ("getpid", 0, 1, 0, 0, 0, 0, 0)],
)
def test_wrong_types_are_type_errors(arguments: tuple[Any, ...], host: _native.KernelHost) -> None:
    """Missing, surplus and ill-typed arguments raise TypeError."""
    with pytest.raises(TypeError):
        host.run(*arguments)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((0, MIB + 8, 64, 1), "leave the memory"),
        ((MIB, 64, 8, 1), "leave the memory"),
        ((2**64 - 8, 16, 8, 1), "leave the memory"),
        ((4, 1024, 64, 1), "offset"),
        ((0, 1024, 0, 1), "stride"),
        ((0, 1024, 12, 1), "stride"),
        ((0, 127, 64, 1), "two strides"),
        ((0, 0, 64, 1), "two strides"),
        ((0, 1024, 64, -1), "seed"),
    ],
)
def test_chases_that_cannot_be_laid(arguments: tuple[int, ...], reason: str, host: _native.KernelHost) -> None:
    """A chase outside the memory, off alignment or of fewer than two nodes is refused."""
    with pytest.raises(ValueError, match=reason):
        host.build_chase(*arguments)


def overwrite_by_triad(host: _native.KernelHost) -> None:
    host.run("triad", 0, 1)


def overwrite_by_random_access(host: _native.KernelHost) -> None:
    host.run("random_access", 0, 1)


def overwrite_by_touch(host: _native.KernelHost) -> None:
    host.run("touch", 0, 1)


def overwrite_by_discard(host: _native.KernelHost) -> None:
    host.discard(8192, 4096)


@pytest.mark.parametrize(
    "overwrite", [overwrite_by_triad, overwrite_by_touch, overwrite_by_random_access, overwrite_by_discard]
)
def test_a_chase_needs_an_intact_cycle(
    overwrite: Callable[[_native.KernelHost], None], host: _native.KernelHost
) -> None:
    """Before build_chase(), and after anything wrote over the cycle, a chase is refused rather than crash."""
    with pytest.raises(ValueError, match="no cycle"):
        host.run("chase", 0, 1)
    host.build_chase(0, MIB, 64, 1)
    host.run("chase", 0, 1)
    overwrite(host)
    with pytest.raises(ValueError, match="no cycle"):
        host.run("chase", 0, 1)


def test_a_discard_elsewhere_spares_the_cycle(host: _native.KernelHost) -> None:
    """Pages that the cycle does not lie in may be given back."""
    host.build_chase(0, 8192, 64, 1)
    host.discard(8192, MIB - 8192)
    assert host.run("chase", 0, 128)[1] == host.memory_address


@pytest.mark.parametrize("arguments", [(0, 257), (257, 0), (2**64 - 1, 2), (2**60, 2**60), (0, 256, 8)])
def test_touches_stay_in_the_memory(arguments: tuple[int, ...], host: _native.KernelHost) -> None:
    """More pages than there are, from the start or from an offset, are refused, whatever overflows."""
    with pytest.raises(ValueError, match="leave the memory"):
        host.run("touch", *arguments)


def test_touch_needs_alignment(host: _native.KernelHost) -> None:
    """A store across two pages is not one fresh page."""
    with pytest.raises(ValueError, match="multiple of 8"):
        host.run("touch", 0, 1, 4)


@pytest.mark.parametrize("arguments", [(1, 4096), (0, 100), (0, 2 * MIB), (MIB, 4096), (2**64 - 4096, 8192)])
def test_discards_are_whole_pages_of_the_memory(arguments: tuple[int, int], host: _native.KernelHost) -> None:
    """Only whole pages inside the memory can be given back."""
    with pytest.raises(ValueError, match=r"multiples|leave the memory"):
        host.discard(*arguments)


def test_a_host_without_memory_runs_what_needs_none() -> None:
    """KernelHost(0) computes; what needs memory says so."""
    with _native.KernelHost(0) as host:
        assert host.run("getpid", 0, 1)[1] == os.getpid()
        needs = {
            "chase": "no cycle",
            "copy": "copy: needs a memory of at least 4032 bytes",
            "touch": "leave the memory",
            "random_access": "needs memory",
        }
        for kernel, reason in needs.items():
            with pytest.raises(ValueError, match=reason):
                host.run(kernel, 0, 1)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ((), TypeError),
        (("1",), TypeError),
        ((1, 4096, 0), TypeError),
        ((-1,), ValueError),
        ((1, 8192), ValueError),
        ((1, 0), ValueError),
        ((2**64,), ValueError),
        ((2**62 - 1,), OSError),
    ],
)
def test_memories_that_cannot_be(arguments: tuple[Any, ...], kind: type[Exception]) -> None:
    """Sizes without sense raise ValueError, more than the machine has OSError, before anything is mapped."""
    with pytest.raises(kind):
        _native.KernelHost(*arguments)


# --- life ------------------------------------------------------------------------------------------------------------


def test_use_after_close_is_a_value_error() -> None:
    """Every method of a closed host raises ValueError; closing again does nothing."""
    host = _native.KernelHost(MIB)
    host.close()
    host.close()
    for call in (
        lambda: host.run("getpid", 0, 1),
        lambda: host.build_chase(0, 4096, 64, 1),
        lambda: host.discard(0, 4096),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_a_host_that_was_never_opened_is_closed() -> None:
    """__new__ without __init__ crashes nothing."""
    host = _native.KernelHost.__new__(_native.KernelHost)
    with pytest.raises(ValueError, match="closed"):
        host.run("getpid", 0, 1)
    host.close()


def mapped_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def test_memory_is_given_back_on_every_way() -> None:
    """With-block, close(), losing the last reference, and a second __init__ all unmap the memory."""
    before = mapped_bytes()
    for _ in range(10):
        with _native.KernelHost(8 * MIB):
            pass
        _native.KernelHost(8 * MIB).close()
        _native.KernelHost(8 * MIB)
        host = _native.KernelHost(8 * MIB)
        host.__init__(8 * MIB)  # type: ignore[misc]
        del host
    gc.collect()
    assert mapped_bytes() - before < 8 * MIB


def test_all_of_the_memory_is_present(host: _native.KernelHost) -> None:
    """A chase over freshly made memory takes no page fault."""
    host.build_chase(0, MIB, 4096, 1)
    before = faults()
    host.run("chase", 0, 1000)
    assert faults() - before < 5


def test_the_second_thread_is_refused(host: _native.KernelHost) -> None:
    """While one thread runs a kernel no other may run, change or close the same host."""
    read_end, write_end = os.pipe()
    other_read, other_write = os.pipe()

    def wait_for_a_byte() -> None:
        host.run("pipe_round_trip", 0, 1, other_write, read_end)

    thread = threading.Thread(target=wait_for_a_byte)
    thread.start()
    try:
        os.read(other_read, 1)  # the kernel now waits in its read
        for call in (lambda: host.run("getpid", 0, 1), host.close, lambda: host.discard(0, 4096)):
            with pytest.raises(ValueError, match="another thread"):
                call()
        with pytest.raises(ValueError, match="another thread"):
            host.__init__(0)  # type: ignore[misc]
    finally:
        os.write(write_end, b"x")
        thread.join()
        for descriptor in (read_end, write_end, other_read, other_write):
            os.close(descriptor)


def in_child(check: Callable[[], bool]) -> bool:
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os._exit(0 if check() else 1)
        os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_forked_child_is_refused(host: _native.KernelHost) -> None:
    """A fork does not inherit the memory; its attempt to run raises ValueError instead of a crash."""

    def refused() -> bool:
        try:
            host.run("touch", 0, 1)
        except ValueError as error:
            return "fork" in str(error)
        return False

    assert in_child(refused)
    host.run("touch", 0, 1)


def test_a_forked_child_that_closes_unmaps_nothing_else(host: _native.KernelHost) -> None:
    """What a child has mapped since, at the address of the memory that it did not inherit, survives its close()."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    private_anonymous_fixed_noreplace = 0x02 | 0x20 | 0x100000

    def survives() -> bool:
        address = libc.mmap(host.memory_address, 4096, 3, private_anonymous_fixed_noreplace, -1, 0)
        if address != host.memory_address:
            return False
        ctypes.c_uint64.from_address(address).value = 7
        host.close()
        return word_at(address) == 7

    assert in_child(survives)


def thp_is_offered() -> bool:
    with contextlib.suppress(OSError):
        return "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    return False


def test_page_sizes_are_reported_as_had() -> None:
    """4096 stays 4096; 2 MiB pages are reported only where the kernel gives them, and small memory is rounded up to one."""
    with _native.KernelHost(8 * MIB) as small:
        assert small.page_bytes == 4096
    with _native.KernelHost(16 * KIB, 2 * MIB) as large:
        assert large.memory_bytes == 16 * KIB
        assert large.memory_address % (2 * MIB) == 0
        assert large.page_bytes == 2 * MIB if thp_is_offered() else large.page_bytes in (4096, 2 * MIB)
        assert anonymous_huge(large.memory_address) == (2 * MIB if large.page_bytes == 2 * MIB else 0)


def anonymous_huge(address: int) -> int:
    """AnonHugePages in bytes of the mapping that holds the address."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in (span := line.split(" ", 1)[0]):
            low, high = (int(part, 16) for part in span.split("-"))
            inside = low <= address < high
        elif inside and line.startswith("AnonHugePages:"):
            return int(line.split()[1]) * KIB
    return 0


def test_memory_is_used_again_where_it_lies() -> None:
    """A host that begins anew keeps its address, has what it discarded present again, and lays a cycle of another size."""
    with _native.KernelHost(4 * MIB) as host:
        place = host.memory_address
        host.build_chase(0, 4 * MIB, 64, 1)
        host.discard(0, 4 * MIB)
        host.reuse(MIB)
        assert (host.memory_address, host.memory_bytes, host.page_bytes) == (place, MIB, 4096)
        with pytest.raises(ValueError, match="no cycle"):
            host.run("chase", 0, 1)
        with pytest.raises(ValueError, match="leave the memory"):
            host.build_chase(0, 2 * MIB, 64, 1)
        before = faults()
        host.build_chase(0, MIB, 4096, 1)
        host.run("chase", 0, 1000)
        assert faults() - before < 5
        host.reuse(4 * MIB)
        assert host.run("triad", 0, 100)[0] > 0
        with pytest.raises(ValueError, match="more than the"):
            host.reuse(4 * MIB + 1)


def test_beginning_anew_ends_the_partner() -> None:
    """The thread on the second CPU is not there any more for the next kernel."""
    with _native.KernelHost(4096) as host:
        threads = len(list(Path("/proc/self/task").iterdir()))
        host.start_partner("atomic", max(os.sched_getaffinity(0)))
        assert len(list(Path("/proc/self/task").iterdir())) == threads + 1
        host.reuse(4096)
        assert len(list(Path("/proc/self/task").iterdir())) == threads
