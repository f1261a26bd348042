"""The kernels' section is whole in itself: its bytes do the same wherever they are copied."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vprobe import _native

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86 disassembly"),
    pytest.mark.skipif(shutil.which("objdump") is None, reason="needs binutils"),
]

SECTION = "vprobe_kernels"
OBJECTS = ("kernels.o", "kernels_system.o", "kernels_exits.o")
CALLERS = {"vprobe_guest_entry", "vprobe_clock_gettime", "vprobe_getppid"}
"""What calls through a pointer of the block: a kernel; the C library's functions, on the host only."""


@dataclass(frozen=True)
class Instruction:
    function: str
    address: int
    mnemonic: str
    operands: str

    @property
    def branch_target(self) -> int | None:
        """Address that a direct jump or call goes to."""
        if not re.match(r"(j\w+|call|loop\w*)$", self.mnemonic.removesuffix("q")):
            return None
        found = re.match(r"([0-9a-f]+)(?: <|$)", self.operands)
        return int(found[1], 16) if found else None

    @property
    def rip_relative_target(self) -> int | None:
        found = re.search(r"\(%rip\)\s*# ([0-9a-f]+)", self.operands)
        return int(found[1], 16) if found else None


def run(*command: str | Path) -> str:
    return subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def disassemble(file: Path) -> list[Instruction]:
    instructions, function = [], ""
    for line in run("objdump", "-d", "--no-show-raw-insn", "-j", SECTION, file).splitlines():
        if head := re.match(r"[0-9a-f]+ <(\w+)>:", line):
            function = head[1]
        elif body := re.match(r"\s+([0-9a-f]+):\s+(?:lock |rep |notrack )*(\S+)\s*(.*)", line):
            instructions.append(Instruction(function, int(body[1], 16), body[2], body[3]))
    return instructions


def relocations(file: Path) -> list[str]:
    """Relocations that the linker or the loader would have to apply inside the section."""
    found, inside = [], False
    for line in run("readelf", "-rW", file).splitlines():
        if line.startswith("Relocation section"):
            inside = f"'.rela{SECTION}'" in line
        elif inside and re.match(r"[0-9a-f]{12,}", line):
            found.append(line)
    return found


def strays(code: list[Instruction]) -> Iterator[Instruction]:
    """Instructions that reach outside the section, or use registers beyond the SSE2 baseline."""
    first, last = code[0].address, code[-1].address
    for instruction in code:
        targets = [instruction.branch_target, instruction.rip_relative_target]
        outside = any(target is not None and not first <= target <= last for target in targets)
        indirect = instruction.mnemonic.startswith(("call", "jmp")) and instruction.operands.startswith("*")
        wide = "%ymm" in instruction.operands or "%zmm" in instruction.operands
        if (
            outside
            or (indirect and instruction.function not in CALLERS)
            or (wide and not instruction.function.endswith("_avx2"))
        ):
            yield instruction


@pytest.fixture(scope="module")
def code(own_build: Any) -> list[Instruction]:
    """The whole section as it is linked."""
    return disassemble(own_build.library)


@pytest.mark.parametrize("name", OBJECTS)
def test_no_relocation_points_out_of_the_section(name: str, own_build: Any) -> None:
    """The compiler put nothing that a kernel needs (constant, table, function) anywhere else."""
    assert relocations(own_build.objects / name) == []


@pytest.mark.parametrize("name", OBJECTS)
def test_every_branch_and_operand_stays_inside(name: str, own_build: Any) -> None:
    """No jump, call or RIP-relative operand leaves its file's part of the section, but for the two calls by pointer."""
    code = disassemble(own_build.objects / name)
    assert len(code) > 100
    assert list(strays(code)) == []
    assert {i.function for i in code if i.mnemonic.startswith("call")} <= CALLERS


def test_every_kernel_lies_in_the_section(code: list[Instruction]) -> None:
    """Each name of kernels() is a function of the section, and nothing else is but what the guest has of its own."""
    functions = {i.function.removeprefix("vprobe_") for i in code}
    assert functions == {*_native.kernels(), "guest_entry", "guest_interrupt", "evidence"}


DEFECTS = {
    "constant": "KERNEL double bad(double x) { return x * 1.2345; }",
    "switch": "KERNEL int bad(int x) { switch (x) { case 0: return 7; case 1: return 3; case 2: return 99; "
    "case 3: return 12; case 4: return 1000; case 5: return 5; default: return 0; } }",
    "zero fill": "KERNEL void bad(char *p, unsigned long n) { for (unsigned long i = 0; i < n; i++) p[i] = 0; }",
    "global": "extern int elsewhere; KERNEL int bad(void) { return elsewhere; }",
    "wide": "KERNEL void bad(double *p) { for (int i = 0; i < 4096; i++) p[i] += p[i + 4096]; }",
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_checks_see_a_kernel_that_reaches_out(defect: str, tmp_path: Path) -> None:
    """Built without the kernels' flags, each of the known ways out of the section is found by the checks above."""
    source = tmp_path / "bad.c"
    attributes = f'__attribute__((section("{SECTION}"), noinline, used))'
    source.write_text(f"#define KERNEL {attributes}\n{DEFECTS[defect]}\n")
    run("gcc", "-O3", "-mavx2", "-fPIC", "-fcf-protection=none", "-c", source, "-o", tmp_path / "bad.o")
    assert relocations(tmp_path / "bad.o") or list(strays(disassemble(tmp_path / "bad.o")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags", ["-O0", "-O3 -march=native -fstack-protector-all", "-O2 -flto", "-fsanitize=undefined"]
)
def test_flags_of_the_environment_do_not_reach_the_kernels(
    flags: str, build: Callable[..., Any], own_build: Any
) -> None:
    """Whatever CFLAGS a packager sets, the kernels' bytes are the same."""
    objects = build(*flags.split()).objects
    for name in OBJECTS:
        assert code_of(objects / name) == code_of(own_build.objects / name)


def code_of(file: Path) -> bytes:
    copy = file.with_suffix(".section")
    run("objcopy", "-O", "binary", "-j", SECTION, "--set-section-flags", f"{SECTION}=alloc", file, copy)
    return copy.read_bytes()


def test_the_hash_is_of_the_loaded_bytes() -> None:
    """kernel_code_hash() equals the hash of the section in the library that is loaded."""
    library = Path(_native.__file__ or "")
    dump = run("objdump", "-s", "-j", SECTION, library).splitlines()
    rows = [line[1:].split(" ", 1)[1] for line in dump if re.match(r" [0-9a-f]+ ", line)]
    code = b"".join(bytes.fromhex(row[:35].replace(" ", "")) for row in rows)
    assert len(code) > 500
    assert _native.kernel_code_hash() == hashlib.sha256(code).hexdigest()


def loop_of(code: list[Instruction], function: str) -> list[Instruction]:
    """Instructions of the timed loop: the longest backward jump of the function that spans no read of the time."""
    body = [i for i in code if i.function == function]
    loops = [
        [i for i in body if last.branch_target <= i.address <= last.address]
        for last in body
        if last.branch_target is not None and body[0].address <= last.branch_target < last.address
    ]
    timeless = [loop for loop in loops if not any(i.mnemonic.startswith("rdtsc") for i in loop)]
    return max(timeless, key=len)


LOOPS = {
    "integer_chain": {"imul": 4, "add": 4, "xor": 4},
    "integer_throughput": {"add": 8, "xor": 8},
    "float_chain": {"mulsd": 4, "addsd": 4},
    "vector_sse2": {"mulpd": 8, "addpd": 8},
    "vector_avx2": {"vmulpd": 8, "vaddpd": 8},
    "matrix_sse2": {"mulpd": 8, "addpd": 16},
    "matrix_avx2": {"vmulpd": 8, "vaddpd": 16},
    "copy": {"mulpd": 0, "addpd": 0},
    "scale": {"mulpd": 4, "addpd": 0},
    "add": {"mulpd": 0, "addpd": 4},
    "triad": {"mulpd": 4, "addpd": 4},
    "getpid": {"syscall": 1},
    "getppid": {"call": 1},
    "clock_gettime": {"call": 1},
    "clock_call": {"syscall": 1, "call": 0},
    "read": {"syscall": 1},
    "stat": {"syscall": 1},
    "signal": {"syscall": 1},
    "futex_round_trip": {"syscall": 2},
    "fork_wait": {"syscall": 2},
    "thread_create": {"syscall": 3},
    "map_unmap": {"syscall": 2},
    "map_touch_unmap": {"syscall": 2},
    "protect": {"syscall": 2},
    "pipe_round_trip": {"syscall": 2},
    "out": {"out": 1},
    "in": {"in": 1},
    "cpuid": {"cpuid": 1},
    "rdmsr": {"rdmsr": 1},
    "wrmsr": {"wrmsr": 1},
    "self_ipi": {"wrmsr": 1},
    "halt": {"wrmsr": 1, "hlt": 1, "sti": 1},
}


@pytest.mark.parametrize("kernel", LOOPS)
def test_each_loop_holds_its_operation(kernel: str, code: list[Instruction]) -> None:
    """The timed loop holds, as often as documented, the operation that the kernel is named for."""
    loop = loop_of(code, f"vprobe_{kernel}")
    count = Counter(i.mnemonic for i in loop)
    assert {name: count[name] for name in LOOPS[kernel]} == LOOPS[kernel]


def test_the_chase_is_one_dependent_load(code: list[Instruction]) -> None:
    """One iteration of the chase is one load, into the register that holds its address, and the loop's count."""
    load, *count = loop_of(code, "vprobe_chase")
    assert re.fullmatch(r"\((%r\w+)\),\1", load.operands)
    assert [i.mnemonic for i in count] in (["sub", "jne"], ["dec", "jne"])


STORE = re.compile(r",0?x?[0-9a-f]*\(%r\w+(,%r\w+,\d)?\)$")


@pytest.mark.parametrize(
    ("kernel", "stores"),
    [
        ("touch", 1),
        ("peek", 0),
        ("mmio", 1),
        ("random_access", 1),
        ("copy", 4),
        ("scale", 4),
        ("add", 4),
        ("triad", 4),
    ],
)
def test_stores_are_as_many_as_documented(kernel: str, stores: int, code: list[Instruction]) -> None:
    """One iteration stores to one page, one device, one word, or the four pairs of a line."""
    loop = [i for i in loop_of(code, f"vprobe_{kernel}") if not i.mnemonic.startswith(("cmp", "test"))]
    assert [bool(STORE.search(i.operands)) for i in loop].count(True) == stores


def test_the_addition_is_atomic(own_build: Any) -> None:
    """The loop of `atomic` is one locked exchange and add, whose result is used."""
    text = run("objdump", "-d", "--no-show-raw-insn", "-j", SECTION, own_build.objects / "kernels.o")
    body = text.partition("<vprobe_atomic>:")[2].partition("\n\n")[0]
    assert body.count("lock xadd") == 1


def test_each_iteration_of_gaps_reads_the_time(code: list[Instruction]) -> None:
    """A backward jump of `gaps` spans reads of the counter: RDTSCP, or RDTSC where that is not to be had."""
    body = [i for i in code if i.function == "vprobe_gaps"]
    loops = [
        [i.mnemonic for i in body if last.branch_target <= i.address <= last.address]
        for last in body
        if last.branch_target is not None and body[0].address <= last.branch_target < last.address
    ]
    assert any("rdtscp" in loop and "rdtsc" in loop and len(loop) < 40 for loop in loops)


def test_the_branch_is_a_branch(code: list[Instruction]) -> None:
    """The loop of `branches` has a conditional jump beside its own, and no conditional move or set."""
    mnemonics = [i.mnemonic for i in loop_of(code, "vprobe_branches")]
    assert sum(m.startswith("j") and m != "jmp" for m in mnemonics) >= 2
    assert not any(m.startswith(("cmov", "set", "adc", "sbb")) for m in mnemonics)


def test_hypercalls_of_both_vendors_are_there(code: list[Instruction]) -> None:
    """The hypercall kernel holds VMCALL and VMMCALL once each; a flag of the block chooses."""
    mnemonics = [i.mnemonic for i in code if i.function == "vprobe_hypercall"]
    assert mnemonics.count("vmcall") == 1
    assert mnemonics.count("vmmcall") == 1
