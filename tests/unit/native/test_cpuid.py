"""CPUID: the live CPU, and the enumeration of subleaves on CPUs that a test makes up."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprobe import _native

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="CPUID is x86")

ROOT = Path(__file__).parents[3]
MAX_ANSWERS = 2048
Registers = tuple[int, int, int, int]
Row = tuple[int, int, int, int, int, int]
Cpu = Callable[[int, int], Registers]
NOTHING: Registers = (0, 0, 0, 0)

# --- the live CPU ----------------------------------------------------------------------------------------------------


def some_cpu() -> int:
    return min(os.sched_getaffinity(0))


def test_one_leaf_agrees_with_the_kernel() -> None:
    """Leaf 0 spells the vendor that /proc/cpuinfo names."""
    _, b, c, d = _native.cpuid(some_cpu(), 0)
    vendor = b"".join(word.to_bytes(4, "little") for word in (b, d, c)).decode()
    assert f"vendor_id\t: {vendor}\n" in Path("/proc/cpuinfo").read_text()


def test_the_dump_holds_what_single_reads_return() -> None:
    """Every row of the dump equals a read of that leaf and subleaf alone, but for what changes by itself."""
    cpu = some_cpu()
    changing = {0xD, 0x8000001E}  # XSAVE sizes follow XCR0; kept out although they seldom move
    for leaf, subleaf, *registers in _native.cpuid_dump(cpu):
        if leaf not in changing:
            assert list(_native.cpuid(cpu, leaf, subleaf)) == registers, hex(leaf)


def test_the_dump_is_in_order_and_has_no_repeats() -> None:
    """Rows ascend by leaf and subleaf, each once."""
    keys = [row[:2] for row in _native.cpuid_dump(some_cpu())]
    assert keys == sorted(set(keys))


@pytest.mark.skipif(shutil.which("cpuid") is None, reason="needs Todd Allen's cpuid")
def test_the_dump_agrees_with_the_cpuid_tool() -> None:
    """Every leaf that the cpuid tool prints is in the dump with the same registers, unless it is out of range or empty."""
    cpu = some_cpu()
    command = ["taskset", "-c", str(cpu), "cpuid", "-1", "-r"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    number = "0x([0-9a-f]+)"
    line = re.compile(rf"\s+{number} {number}: eax={number} ebx={number} ecx={number} edx={number}")
    theirs = {(int(m[1], 16), int(m[2], 16)): tuple(int(m[i], 16) for i in (3, 4, 5, 6)) for m in line.finditer(text)}
    ours = {row[:2]: row[2:] for row in _native.cpuid_dump(cpu)}
    assert len(ours.keys() & theirs.keys()) > 20
    assert {key: ours[key] for key in ours.keys() & theirs.keys()} == {key: theirs[key] for key in ours.keys() & theirs}
    bases = {0x40000000: ours.get((0x40000000, 0), NOTHING)[0], 0x80000000: ours[0x80000000, 0][0], 0: ours[0, 0][0]}
    for (leaf, subleaf), registers in theirs.items() - ours.items():
        in_range = leaf <= bases.get(leaf & 0xF0000000, 0)
        assert not in_range or not any(registers), (hex(leaf), subleaf)


@pytest.mark.parametrize("read", [lambda cpu: _native.cpuid(cpu, 0), _native.cpuid_dump])
def test_affinity_is_restored(read: Callable[[int], object]) -> None:
    """The thread may run where it could before, after success on any CPU and after a failure."""
    before = os.sched_getaffinity(0)
    for cpu in sorted(before):
        read(cpu)
        assert os.sched_getaffinity(0) == before
    os.sched_setaffinity(0, {min(before)})
    try:
        read(min(before))
        with pytest.raises(OSError, match="sched_setaffinity"):
            read(100_000)
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)


def test_a_leaf_is_read_on_the_cpu_that_was_asked_for() -> None:
    """The initial APIC id (leaf 1 EBX 31-24) differs between any two CPUs."""
    cpus = sorted(os.sched_getaffinity(0))[:256]
    ids = {_native.cpuid(cpu, 1)[1] >> 24 for cpu in cpus}
    assert len(ids) == len(cpus)


def test_a_cpu_that_is_not_there_is_an_os_error() -> None:
    """The error carries errno and the name of the call."""
    with pytest.raises(OSError, match="sched_setaffinity: Invalid argument") as caught:
        _native.cpuid_dump(100_000)
    assert caught.value.errno == 22


@pytest.mark.parametrize("arguments", [(), (0,), (0, 0, 0, 0), ("0", 0), (0, 1.5), (None, 0)])
def test_wrong_types_are_type_errors(arguments: tuple[object, ...]) -> None:
    """Missing, surplus and ill-typed arguments raise TypeError."""
    with pytest.raises(TypeError):
        _native.cpuid(*arguments)  # type: ignore[call-arg,arg-type]


@pytest.mark.parametrize("arguments", [(-1, 0), (2**32, 0), (0, -1), (0, 2**32), (0, 0, -1), (0, 0, 2**64)])
def test_values_out_of_range_are_value_errors(arguments: tuple[int, ...]) -> None:
    """CPU, leaf and subleaf outside their ranges raise ValueError; no number is cut off silently."""
    with pytest.raises(ValueError, match=r"cpu|leaf|subleaf"):
        _native.cpuid(*arguments)


def test_dumps_of_threads_do_not_disturb_one_another() -> None:
    """Threads that dump different CPUs at the same time get the same rows as one alone."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    alone = {cpu: _native.cpuid_dump(cpu) for cpu in cpus}
    different: list[int] = []

    def compare(cpu: int) -> None:
        different.extend(cpu for _ in range(20) if _native.cpuid_dump(cpu) != alone[cpu])

    threads = [threading.Thread(target=compare, args=(cpu,)) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert different == []


# --- CPUs of the tests' own ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> ctypes.PyDLL:
    """native/cpuid.c with its CPUID instruction replaced by a function."""
    library = tmp_path_factory.mktemp("cpuid") / "harness.so"
    sources = [Path(__file__).with_name("cpuid_harness.c"), ROOT / "native/errors.c", ROOT / "native/affinity.c"]
    includes = [f"-I{sysconfig.get_path('include')}", f"-I{ROOT / 'native'}"]
    command = ["cc", "-O1", "-g", "-shared", "-fPIC", "-std=gnu11", *includes, *map(str, sources), "-o", str(library)]
    subprocess.run(command, check=True, timeout=60)
    return ctypes.PyDLL(str(library))


def dump(harness: ctypes.PyDLL, cpu: Cpu) -> tuple[list[Row], list[tuple[int, int]]]:
    """The rows of a dump of `cpu`, and every (leaf, subleaf) that was executed."""
    asked: list[tuple[int, int]] = []

    @ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32))
    def answer(leaf: int, subleaf: int, registers: ctypes.Array[ctypes.c_uint32]) -> None:
        asked.append((leaf, subleaf))
        for index, value in enumerate(cpu(leaf, subleaf)):
            registers[index] = value

    rows = ((ctypes.c_uint32 * 6) * MAX_ANSWERS)()
    count = harness.harness_dump(answer, rows)
    return [tuple(row) for row in rows[:count]], asked


def scripted(answers: dict[tuple[int, int], Registers], elsewhere: Registers = NOTHING) -> Cpu:
    return lambda leaf, subleaf: answers.get((leaf, subleaf), elsewhere)


def subleaves(harness: ctypes.PyDLL, leaf: int, answers: dict[int, Registers], **more: Registers) -> list[int]:
    """Subleaves that a dump holds of one leaf, on a CPU that has hardly anything else."""
    top = max(leaf & 0xFFFF, 7)
    cpu = {(leaf, subleaf): registers for subleaf, registers in answers.items()}
    cpu[leaf & 0xF0000000, 0] = ((leaf & 0xF0000000) + top, 1, 1, 1)
    cpu[0, 0] = cpu.get((0, 0), (7, 1, 1, 1))
    cpu.update({(int(name[1:], 16), 0): registers for name, registers in more.items()})
    rows, _ = dump(harness, scripted(cpu))
    return [row[1] for row in rows if row[0] == leaf]


def up_to(maximum: int) -> dict[int, Registers]:
    return {0: (maximum, 0, 0, 0)}


@pytest.mark.parametrize("leaf", [0x7, 0x14, 0x17, 0x18, 0x1D, 0x1E, 0x20, 0x24])
def test_subleaves_up_to_a_maximum(leaf: int, harness: ctypes.PyDLL) -> None:
    """EAX of subleaf 0 is the highest subleaf."""
    assert subleaves(harness, leaf, up_to(3)) == [0, 1, 2, 3]
    assert subleaves(harness, leaf, up_to(0)) == [0]


@pytest.mark.parametrize(
    ("leaf", "entry"), [(0x4, (0x21, 0, 0, 0)), (0x8000001D, (0x43, 0, 0, 0)), (0x1B, (1, 0, 0, 0))]
)
def test_lists_end_with_a_type_of_zero(leaf: int, entry: Registers, harness: ctypes.PyDLL) -> None:
    """Caches and PCONFIG targets are listed until the type field of EAX is 0; the ending entry is kept."""
    assert subleaves(harness, leaf, {0: entry, 1: entry, 2: entry}) == [0, 1, 2, 3]
    assert subleaves(harness, leaf, {0: (0x20 if leaf != 0x1B else 0x1000, 1, 1, 1)}) == [0]


@pytest.mark.parametrize("leaf", [0xB, 0x1F, 0x80000026])
def test_topology_ends_with_a_level_of_type_zero(leaf: int, harness: ctypes.PyDLL) -> None:
    """Levels are listed until ECX 15-8 is 0."""
    levels = {0: (1, 2, 0x100, 0), 1: (4, 8, 0x201, 0)}
    assert subleaves(harness, leaf, levels) == [0, 1, 2]


@pytest.mark.parametrize(("leaf", "register"), [(0xF, 3), (0x10, 1), (0x80000020, 1), (0x23, 0)])
def test_subleaves_named_by_a_bitmap(leaf: int, register: int, harness: ctypes.PyDLL) -> None:
    """Each set bit from bit 1 on names a subleaf, gaps included."""
    registers = [0, 0, 0, 0]
    registers[register] = 0b10_1011
    assert subleaves(harness, leaf, {0: (*registers,)}) == [0, 1, 3, 5]  # type: ignore[dict-item]


def test_state_components_come_from_both_masks_and_have_gaps(harness: ctypes.PyDLL) -> None:
    """Leaf 0xD: a subleaf for each bit of XCR0 or IA32_XSS from 2 on, up to bit 62; zeros in between end nothing."""
    answers: dict[int, Registers] = {0: (0b10_0111, 0, 0, 1 << 30), 1: (0xF, 0, 1 << 8 | 1 << 11, 0)}
    assert subleaves(harness, 0xD, answers) == [0, 1, 2, 5, 8, 11, 62]


def test_enclave_sections_need_sgx(harness: ctypes.PyDLL) -> None:
    """Leaf 0x12: subleaves only where leaf 7 reports SGX; EPC sections until the type is 0."""
    sections: dict[int, Registers] = {2: (0x1001, 0, 0, 0), 3: (0x2001, 0, 0, 0)}
    assert subleaves(harness, 0x12, sections) == [0]
    assert subleaves(harness, 0x12, sections, x7=(0, 1 << 2, 0, 0)) == [0, 1, 2, 3, 4]


HYPERVISOR = {(0, 0): (1, 1, 1, 1), (1, 0): (0, 0, 1 << 31, 0)}
XEN = (0x566E6558, 0x65584D4D, 0x4D4D566E)


def hypervisor_rows(harness: ctypes.PyDLL, answers: dict[tuple[int, int], Registers]) -> list[tuple[int, int]]:
    rows, _ = dump(harness, scripted({**HYPERVISOR, **answers}))
    return [row[:2] for row in rows if row[0] >> 28 == 4]


def test_hypervisor_leaves_are_not_asked_for_without_the_flag(harness: ctypes.PyDLL) -> None:
    """On hardware, where the range means nothing, no leaf of it is executed."""
    _, asked = dump(harness, scripted({(0, 0): (1, 1, 1, 1)}))
    assert not any(leaf >> 28 == 4 for leaf, _ in asked)


def test_stacked_hypervisors_are_all_found(harness: ctypes.PyDLL) -> None:
    """Hyper-V's leaves in front of KVM's: both ranges are dumped to their own maximum."""
    answers = {(0x40000000, 0): (0x40000002, 1, 1, 1), (0x40000100, 0): (0x40000101, 2, 2, 2)}
    expected = [0x40000000, 0x40000001, 0x40000002, 0x40000100, 0x40000101]
    assert hypervisor_rows(harness, answers) == [(leaf, 0) for leaf in expected]


def test_a_maximum_of_zero_means_one_leaf_more(harness: ctypes.PyDLL) -> None:
    """Old KVM reports 0 for 0x40000001."""
    assert hypervisor_rows(harness, {(0x40000000, 0): (0, 5, 5, 5)}) == [(0x40000000, 0), (0x40000001, 0)]


def test_xen_has_three_subleaves_of_time(harness: ctypes.PyDLL) -> None:
    """Xen's base + 3 has subleaves 0 to 2."""
    rows = hypervisor_rows(harness, {(0x40000100, 0): (0x40000104, *XEN), (0x40000000, 0): (0x40000001, 1, 1, 1)})
    assert [row for row in rows if row[0] == 0x40000103] == [(0x40000103, 0), (0x40000103, 1), (0x40000103, 2)]


def test_the_scan_ends_at_an_exact_repeat(harness: ctypes.PyDLL) -> None:
    """A CPU that answers leaves out of range with its highest basic leaf is asked for two such bases, not 256."""
    highest = (7, 8, 9, 10)
    rows, asked = dump(harness, scripted({**HYPERVISOR, (0x40000000, 0): (0x40000000, 1, 1, 1)}, elsewhere=highest))
    assert [leaf for leaf, _ in asked if leaf >> 28 == 4] == [0x40000000, 0x40000100, 0x40000200]
    assert (0x40000100, 0, *highest) in rows


def test_ranges_that_do_not_answer_are_left_out(harness: ctypes.PyDLL) -> None:
    """0x80860000 and 0xC0000000 are dumped only where EAX lies in the range itself."""
    rows, _ = dump(
        harness, scripted({(0, 0): (1, 1, 1, 1), (0xC0000000, 0): (0xC0000001, 0, 0, 0)}, elsewhere=(9, 9, 9, 9))
    )
    assert [row[0] for row in rows if row[0] >= 0x80000000] == [0xC0000000, 0xC0000001]


@given(st.sampled_from([0, 1, 0x1F, 0xFF, 0xFFFF, 0x80000000, 0x8000FFFF, 0xFFFFFFFF]), st.integers(0, 2**32 - 1))
def test_hostile_answers_end(harness: ctypes.PyDLL, ored: int, seed: int) -> None:
    """Whatever a CPU answers, the dump ends, is bounded and ordered, and executes no leaf twice."""

    def cpu(leaf: int, subleaf: int) -> Registers:
        mixed = hash((leaf, subleaf, seed)) & 0xFFFFFFFF
        return mixed | ored, mixed ^ ored, 0xFFFFFFFF, mixed

    rows, asked = dump(harness, cpu)
    keys = [row[:2] for row in rows]
    assert len(rows) <= MAX_ANSWERS
    assert len(asked) <= MAX_ANSWERS + 512
    assert len(asked) == len(set(asked))
    assert keys == sorted(set(keys))
