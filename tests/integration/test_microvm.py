"""The micro-VM on a real /dev/kvm: the same bytes as on the host, evidence from inside, and a clean end."""

from __future__ import annotations

import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from linearity import assert_linear

from vprobe import _native

pytestmark = [pytest.mark.kvm, pytest.mark.skipif(platform.machine() != "x86_64", reason="the micro-VM is x86")]

KIB, MIB = 1024, 1024 * 1024
NONCE = 0x0123_4567_89AB_CDEF_FEDC_BA98


@pytest.fixture
def vm() -> Iterator[_native.MicroVM]:
    with _native.MicroVM(MIB, nonce=NONCE) as opened:
        yield opened


# --- the same results as on the host ---------------------------------------------------------------------------------


def test_computations_give_the_hosts_results(vm: _native.MicroVM) -> None:
    """What computes without memory computes in the guest what it computes on the host."""
    with _native.KernelHost(0) as host:
        for kernel in ("integer_chain", "integer_throughput", "float_chain", "branches", "vector_sse2"):
            assert vm.run(kernel, 10, 1000, 7)[1] == host.run(kernel, 10, 1000, 7)[1]


def test_wide_vectors_run_or_say_why_not(vm: _native.MicroVM) -> None:
    """With AVX2 enabled in the guest the result is right; without, the refusal names AVX2."""
    try:
        assert vm.run("vector_avx2", 0, 100)[1] == 16
    except ValueError as error:
        assert "AVX2" in str(error)


def test_random_access_gives_the_hosts_result(vm: _native.MicroVM) -> None:
    """The generator ends at the same number, whatever the address of the table."""
    with _native.KernelHost(MIB) as host:
        assert vm.run("random_access", 10, 1000)[1] == host.run("random_access", 10, 1000)[1]


def test_a_machine_begins_anew_in_its_memory() -> None:
    """Another kernel gets the same machine with less memory of it, all there again, at the same address; not with more."""
    with _native.MicroVM(4 * MIB) as vm:
        place = vm.memory_address
        vm.run("touch", 0, 1024)
        vm.discard(0, 4 * MIB)
        vm.reuse(MIB)
        vm.build_chase(0, MIB, 64, 1)
        met = {vm.run("chase", 0, 1)[1] for _ in range(MIB // 64)}
        assert met == {place + 64 * node for node in range(MIB // 64)}
        vm.reuse(4 * MIB)
        assert vm.run("triad", 10, 1000)[0] > 0
        with pytest.raises(ValueError, match="more than the"):
            vm.reuse(8 * MIB)


def test_guest_memory_is_mapped_from_the_start() -> None:
    """The first pass over the memory costs what the second does: no block pays for faults of nested paging."""
    first, later, faulting = [], [], []
    for _ in range(5):  # the least of five: other work on the machine only adds to a time
        with _native.MicroVM(16 * MIB) as vm:
            passes = [vm.run("triad", 0, 16 * MIB // 192 - 64)[0] for _ in range(3)]
            vm.discard(0, 16 * MIB)
            vm.run("triad", 0, 1)
            faulting.append(vm.run("triad", 0, 16 * MIB // 192 - 64)[0])
        first.append(passes[0])
        later += passes[1:]
    assert min(first) < 3 * min(later)
    assert min(faulting) > 3 * min(later)


@pytest.mark.parametrize("page_bytes", [4096, 2 * MIB])
@pytest.mark.parametrize("size", [16 * KIB, 3 * MIB])
def test_a_chase_walks_the_hosts_cycle(size: int, page_bytes: int) -> None:
    """With either page size the guest meets the same nodes, at guest addresses, through every page of its memory."""
    with _native.MicroVM(size, page_bytes) as guest, _native.KernelHost(size, page_bytes) as host:
        for place in (guest, host):
            place.build_chase(0, size, 64, 42)
        assert guest.memory_address != host.memory_address
        for loads in (1, 2, 100, size // 64 - 103):
            offsets = [place.run("chase", 0, loads)[1] - place.memory_address for place in (guest, host)]
            assert offsets[0] == offsets[1]
        assert guest.run("chase", 0, 0)[1] == guest.run("chase", 0, size // 64)[1] == guest.memory_address


def test_memory_of_several_directories_is_mapped() -> None:
    """The first and the last page of more than a GiB of guest memory are reached (page tables span directories)."""
    size = 1100 * MIB
    if os.sysconf("SC_AVPHYS_PAGES") * 4096 < 2 * size:
        pytest.skip("needs 2 GiB of free memory")
    with _native.MicroVM(size, 2 * MIB) as vm:
        vm.build_chase(0, size, size // 2 - 64, 1)
        assert vm.run("chase", 0, 1)[1] == vm.memory_address + size // 2 - 64
        assert vm.run("touch", 0, size // vm.page_bytes)[1] == vm.memory_address + size


def test_triad_and_touch_write_guest_memory(vm: _native.MicroVM) -> None:
    """Both run over guest memory; a discarded page comes back on touch, and a chase over it is refused."""
    assert vm.run("triad", 10, 100)[0] > 0
    vm.discard(0, MIB)
    assert vm.run("touch", 56, 200)[1] == vm.memory_address + MIB
    with pytest.raises(ValueError, match="no cycle"):
        vm.run("chase", 0, 1)


# --- at ring 0, where kvm_pvm emulates, slowly and rightly ----------------------------------------------------------


def test_ring_0_reads_and_writes_registers() -> None:
    """The guest is at ring 0 by its own evidence; IA32_APIC_BASE shows an x2APIC that is enabled on the boot processor."""
    with _native.MicroVM(0, nonce=NONCE, ring=0) as vm:
        seen = vm.evidence()
        assert seen["ring"] == 0 and seen["nonce"] == NONCE
        assert vm.run("rdmsr", 1, 2)[1] & 0xFFF == 0xD00
        before = vm.run("wrmsr", 0, 1)[1]
        assert vm.run("wrmsr", 1, 2)[1] == before


def test_interrupts_arrive_at_ring_0() -> None:
    """Each iteration takes one interrupt, from itself or from the timer that wakes it; computing goes on as before."""
    with _native.MicroVM(0, ring=0) as vm:
        assert vm.run("self_ipi", 1, 3)[1] == 4
        ticks, interrupts = vm.run("halt", 0, 3, 200_000)
        assert interrupts == 7
        assert ticks * _native.calibrate_tsc() > 3 * 200_000
        with _native.KernelHost(0) as host:
            assert vm.run("integer_chain", 1, 5, 7)[1] == host.run("integer_chain", 1, 5, 7)[1]


def test_ring_0_is_asked_for_by_name(vm: _native.MicroVM) -> None:
    """At ring 3 these kernels would fault: refused; there is no ring 1."""
    for kernel in ("rdmsr", "wrmsr", "self_ipi", "halt"):
        with pytest.raises(ValueError, match="ring 0"):
            vm.run(kernel, 0, 1)
    with pytest.raises(ValueError, match="0 or 3"):
        _native.MicroVM(0, ring=1)


def test_hypercall_is_refused_at_ring_3(vm: _native.MicroVM) -> None:
    """KVM answers a hypercall of ring 3 with -KVM_EPERM: the call did exit, and the right instruction was chosen."""
    assert vm.run("hypercall", 1, 3)[1] == 2**64 - 1


def test_cpuid_answers(vm: _native.MicroVM) -> None:
    """The guest's highest leaf is one that x86 CPUs have."""
    assert 1 <= vm.run("cpuid", 0, 1)[1] <= 0xFF


@pytest.mark.parametrize(
    ("kernel", "exits"), [("out", 13), ("in", 13), ("mmio", 13), ("integer_chain", 0), ("cpuid", 0)]
)
def test_exits_are_counted(kernel: str, exits: int, vm: _native.MicroVM) -> None:
    """Port and MMIO accesses exit to user space once each, everything else never; and the kernel's end once."""
    before = vm.exits
    vm.run(kernel, 3, 10)
    assert vm.exits - before == exits + 1


# --- evidence --------------------------------------------------------------------------------------------------------


def test_evidence_is_of_this_guest(vm: _native.MicroVM) -> None:
    """Guest code sees ring 3, its own addresses, the CPU's signature, and the nonce of this machine alone."""
    seen = vm.evidence()
    assert seen["ring"] == 3
    assert seen["nonce"] == NONCE
    assert seen["cpuid_signature"] == _native.cpuid(min(os.sched_getaffinity(0)), 1)[0]
    assert str(seen["cpuid_vendor"]).isprintable()
    assert 0x8000 <= int(seen["rip"]) < 0x40000
    with _native.MicroVM(0, nonce=2**96 - 1) as other:
        assert other.evidence()["nonce"] == 2**96 - 1
        assert vm.evidence()["nonce"] == NONCE


def test_kernels_go_on_after_evidence(vm: _native.MicroVM) -> None:
    """evidence(), which visits ring 0, leaves ring 3 and the position in a chase as they were."""
    vm.build_chase(0, 16 * KIB, 64, 1)
    vm.run("chase", 0, 100)
    for _ in range(3):
        assert vm.evidence()["ring"] == 3
    assert vm.run("chase", 0, 156)[1] == vm.memory_address


def test_the_default_nonce_is_zero() -> None:
    """Without a nonce none is claimed."""
    with _native.MicroVM(0) as vm:
        assert vm.evidence()["nonce"] == 0


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["getpid", "clock_gettime", "read", "pipe_round_trip", "fork_wait"])
def test_system_calls_do_not_run_in_the_guest(kernel: str, vm: _native.MicroVM) -> None:
    """There is no kernel in the guest to call: ValueError."""
    with pytest.raises(ValueError, match="KernelHost"):
        vm.run(kernel, 0, 1)


@pytest.mark.parametrize("nonce", [-1, 2**96, "0", 1.0])
def test_nonces_that_do_not_fit(nonce: Any) -> None:
    """A nonce is an integer of 96 bits."""
    with pytest.raises(ValueError, match="nonce"):
        _native.MicroVM(0, nonce=nonce)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [((), TypeError), ((0, 4096, 0, 3, 0), TypeError), ((-1,), ValueError), ((0, 1), ValueError), ((2**60,), OSError)],
)
def test_machines_that_cannot_be(arguments: tuple[Any, ...], kind: type[Exception]) -> None:
    """Wrong arguments are refused before KVM is asked, and nothing stays open."""
    before = descriptors()
    with pytest.raises(kind):
        _native.MicroVM(*arguments)
    assert descriptors() == before


def test_use_after_close(vm: _native.MicroVM) -> None:
    """Every method of a closed machine raises ValueError; closing again does nothing."""
    vm.close()
    vm.close()
    for call in (lambda: vm.run("out", 0, 1), vm.evidence, lambda: vm.discard(0, 4096)):
        with pytest.raises(ValueError, match="closed"):
            call()


@pytest.mark.root
def test_kvm_that_does_not_open_is_an_os_error(tmp_path: Path) -> None:
    """Without /dev/kvm: errno ENOENT and the path; not permitted: EACCES. Each in a private mount namespace."""
    code = (
        "from vprobe import _native\n"
        "for make in (lambda: _native.MicroVM(0), lambda: _native.time_microvm('create_vm', 1)):\n"
        "    try: make()\n"
        "    except OSError as error: print(error.errno, error.filename)\n"
    )
    empty = f'mount -t tmpfs none /dev && exec {sys.executable} -c "{code}"'
    run = subprocess.run(["unshare", "-m", "sh", "-c", empty], capture_output=True, text=True, timeout=30, check=True)
    assert run.stdout.splitlines() == ["2 /dev/kvm"] * 2


def test_a_guest_that_goes_wrong_is_a_runtime_error(vm: _native.MicroVM) -> None:
    """A page fault in the guest (here a chase to an unmapped address) ends as shutdown, with registers, and is final for
    that run only."""
    vm.build_chase(0, 4096, 8, 1)
    corrupt(vm, 0x5000_0000_0000)
    with pytest.raises(RuntimeError, match=r"KVM_RUN: .*\(shutdown\), rip 0x[0-9a-f]+"):
        vm.run("chase", 0, 10_000)


def corrupt(vm: _native.MicroVM, pointer: int) -> None:
    """Writes a pointer over all nodes, from outside, where the host has the guest's memory mapped."""
    candidates = [line for line in Path("/proc/self/maps").read_text().splitlines() if " rw-p 00000000 00:00 0" in line]
    node = next(
        start
        for line in candidates
        for start in [int(line.split("-")[0], 16)]
        if start % (2 * MIB) == 0 and is_cycle(start, vm.memory_address)
    )
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(node)
        memory.write(pointer.to_bytes(8, "little") * 512)


def is_cycle(start: int, guest_address: int) -> bool:
    with Path("/proc/self/mem").open("rb", buffering=0) as memory:
        memory.seek(start)
        words = memory.read(4096)
    return {int.from_bytes(words[i : i + 8], "little") for i in range(0, 4096, 8)} == set(
        range(guest_address, guest_address + 4096, 8)
    )


# --- signals and threads ---------------------------------------------------------------------------------------------


class Alarm(Exception):
    """Raised by the test's signal handler."""


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    def ring(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kernel", ["integer_chain", "out", "cpuid"])
def test_a_run_is_interrupted_by_a_signal(kernel: str, alarm: Callable[[float], None], vm: _native.MicroVM) -> None:
    """A handler that raises ends a run that would take years, at once; the machine then works as before."""
    start = time.monotonic()
    alarm(0.2)
    with pytest.raises(Alarm):
        vm.run(kernel, 0, 2**62)
    assert time.monotonic() - start < 2
    with _native.KernelHost(0) as host:
        assert vm.run("integer_chain", 5, 50, 3)[1] == host.run("integer_chain", 5, 50, 3)[1]
    assert vm.evidence()["nonce"] == NONCE


def test_a_signal_without_consequence_does_not_end_a_run(vm: _native.MicroVM) -> None:
    """A handler that returns lets the run go on to its right result."""
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        result = vm.run("integer_chain", 0, 60_000_000, 1)[1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with _native.KernelHost(0) as host:
        assert result == host.run("integer_chain", 0, 60_000_000, 1)[1]
    assert len(rung) >= 2


def test_a_running_guest_holds_no_gil(vm: _native.MicroVM) -> None:
    """Python code of another thread goes on while a guest runs."""
    thread = threading.Thread(target=vm.run, args=("integer_chain", 0, 50_000_000))
    thread.start()
    count = 0
    while thread.is_alive():
        time.sleep(0.001)
        count += 1
    assert count > 10


def test_machines_of_two_threads(vm: _native.MicroVM) -> None:
    """Two machines run at the same time in two threads, each to its right result."""
    results: dict[int, int] = {}
    with _native.MicroVM(0) as other, _native.KernelHost(0) as host:
        places = [(vm, 1), (other, 2)]
        threads = [
            threading.Thread(target=lambda p=p, a=a: results.update({a: p.run("integer_chain", 0, 5_000_000, a)[1]}))
            for p, a in places
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {a: host.run("integer_chain", 0, 5_000_000, a)[1] for _, a in places}


def test_the_second_thread_is_refused(vm: _native.MicroVM) -> None:
    """One vCPU, one thread: the other gets ValueError."""
    thread = threading.Thread(target=vm.run, args=("integer_chain", 0, 50_000_000))
    thread.start()
    time.sleep(0.05)
    with pytest.raises(ValueError, match="another thread"):
        vm.run("integer_chain", 0, 1)
    thread.join()


def test_a_forked_child_is_refused(vm: _native.MicroVM) -> None:
    """A virtual machine belongs to its process: a child that runs it gets ValueError, and may close it; the parent goes on."""
    pid = os.fork()
    if pid == 0:
        try:
            vm.run("integer_chain", 0, 1)
        except ValueError:
            vm.close()
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert vm.evidence()["nonce"] == NONCE


# --- nothing is left -------------------------------------------------------------------------------------------------


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def mappings() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())


def cycle(count: int) -> None:
    for _ in range(count):
        with _native.MicroVM(4096) as vm:
            vm.run("integer_chain", 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("machines", [1_000, pytest.param(10_000, marks=pytest.mark.validation)])
def test_many_machines_leave_nothing(machines: int) -> None:
    """So many machines made, run and destroyed: no descriptor and no mapping more than after the first few."""
    cycle(20)
    before = descriptors(), mappings()
    cycle(machines)
    assert descriptors() == before[0]
    assert abs(mappings() - before[1]) <= 2  # the allocator's own arenas


@pytest.mark.parametrize("operation", ["create_vm", "create_vcpu", "memory_slot", "first_instruction", "destroy"])
def test_timing_leaves_nothing_and_takes_the_time_it_says(operation: str) -> None:
    """The sum of the timed parts is positive, below the whole call's time, and nothing stays open."""
    before = descriptors()
    start = time.monotonic_ns()
    total = _native.time_microvm(operation, 20)
    elapsed = time.monotonic_ns() - start
    assert 0 < total < elapsed
    assert descriptors() == before


@pytest.mark.parametrize(
    "arguments", [("create", 1), ("create_vm", 0), ("create_vm", -1), ("create_vm\0", 1), ("create_vm", 2**64)]
)
def test_operations_that_cannot_be_timed(arguments: tuple[str, int]) -> None:
    """Unknown operations and counts without sense are refused."""
    with pytest.raises(ValueError, match=r"no operation|repetitions"):
        _native.time_microvm(*arguments)


@pytest.mark.parametrize("arguments", [(), ("create_vm",), (1, 1), ("create_vm", "1")])
def test_timing_with_wrong_types(arguments: tuple[Any, ...]) -> None:
    """Missing and ill-typed arguments raise TypeError."""
    with pytest.raises(TypeError):
        _native.time_microvm(*arguments)


# --- the figures -----------------------------------------------------------------------------------------------------


@pytest.fixture
def one_cpu() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("kernel", ["integer_chain", "float_chain", "chase"])
def test_ring_3_runs_at_full_speed(kernel: str) -> None:
    """Alternating with the host, a chain and an L1 chase take the same time in the guest: median of ratios within 2 %."""
    with _native.MicroVM(16 * KIB) as guest, _native.KernelHost(16 * KIB) as host:
        guest.evidence()  # its visit to ring 0 must leave no trace
        for place in (guest, host):
            place.build_chase(0, 16 * KIB, 64, 1)
        ratios = [guest.run(kernel, 2000, 50_000)[0] / host.run(kernel, 2000, 50_000)[0] for _ in range(200)]
    assert statistics.median(ratios) == pytest.approx(1, abs=0.02)


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("kernel", ["out", "in", "mmio", "cpuid", "hypercall", "integer_chain", "chase"])
def test_time_is_linear_in_iterations(kernel: str, vm: _native.MicroVM) -> None:
    """Over ten multiples of the iterations the best times lie on a line: r² above 0.999."""
    vm.build_chase(0, 16 * KIB, 64, 1)
    assert_linear(lambda count: vm.run(kernel, 10, count)[0], 5_000 if kernel in ("integer_chain", "chase") else 10)


def test_exits_have_a_plausible_price(vm: _native.MicroVM) -> None:
    """An exit to user space costs between 0.3 and 500 us, and more than a hundred links of the integer chain."""
    ns_per_tick = _native.calibrate_tsc()
    out_ns = min(vm.run("out", 20, 200)[0] for _ in range(10)) / 200 * ns_per_tick
    chain_ns = min(vm.run("integer_chain", 100, 10_000)[0] for _ in range(10)) / 10_000 * ns_per_tick
    assert 300 < out_ns < 500_000
    assert out_ns > 20 * chain_ns
