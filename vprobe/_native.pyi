"""Typed contract of the C extension: raw reads and tight timed loops. Python decodes.

Built for a machine that is not x86, every function marked (x86) raises NotImplementedError that names the call and the
machine. Failed system calls raise OSError with errno and the call's name. The GIL is released around everything that
takes time. All times are in TSC ticks unless the name says ns.
"""

from types import TracebackType
from typing import Final, Self, final

MACHINE: Final[str]
"""Machine that the extension was compiled for, as in uname -m: "x86_64", "aarch64", …"""

# --- cpuid.c -----------------------------------------------------------------------------------------------------------

def cpuid(cpu: int, leaf: int, subleaf: int = 0, /) -> tuple[int, int, int, int]:
    """EAX, EBX, ECX, EDX of one CPUID leaf on logical CPU `cpu` (x86). The thread's affinity is restored."""

def cpuid_dump(cpu: int, /) -> list[tuple[int, int, int, int, int, int]]:
    """Every (leaf, subleaf, EAX, EBX, ECX, EDX) that logical CPU `cpu` reports, in ascending order (x86).

    Standard leaves up to the maximum, hypervisor leaves (0x40000000-0x4000FF00 by 0x100, only where CPUID.1:ECX[31] is
    set; exact repeats end the scan), extended 0x80000000 and, where they answer, 0x80860000 and 0xC0000000. Subleaves are
    enumerated by each leaf's own rule (Intel SDM vol. 2 CPUID; AMD APM vol. 3 appendix E).
    """

# --- msr.c -------------------------------------------------------------------------------------------------------------

def read_msr(cpu: int, index: int, /) -> int:
    """Value of a model-specific register through /dev/cpu/CPU/msr (x86). OSError carries errno and the device's path."""

# --- clock.c -----------------------------------------------------------------------------------------------------------

def tsc() -> int:
    """The time-stamp counter, read in order with RDTSCP or LFENCE; RDTSC (x86). Elsewhere: CLOCK_MONOTONIC_RAW in ns."""

def monotonic_ns() -> int:
    """CLOCK_MONOTONIC in ns."""

def calibrate_tsc(duration_ns: int = 20_000_000, /) -> float:
    """ns per tick of tsc(), measured against CLOCK_MONOTONIC over `duration_ns`."""

# --- kernels.c ---------------------------------------------------------------------------------------------------------

def kernels() -> tuple[str, ...]:
    """Names of the workload kernels that the section holds. What one iteration of each is, and its arguments:

    integer_chain       twelve dependent operations on 64-bit integers: four times multiply, add, exclusive or. a0: start value
    integer_throughput  sixteen operations on eight independent 64-bit integers: add, exclusive or. a0: start value
    float_chain         eight dependent double operations: four times multiply, add
    branches            one step of a random generator and a branch that is taken if any bit of a0 is set in it: a0 = 1 cannot
                        be predicted, 0 (never) and 2**64 - 1 (always) can. Result: branches taken
    vector_sse2         multiply and add on eight independent registers of two doubles: 32 floating-point operations
    vector_avx2         the same on registers of four doubles: 64 operations. ValueError where AVX2 is not to be had
    matrix_sse2         one product of two blocks of 64 x 64 doubles, added to a block: 524,288 floating-point operations of
                        c += a * b over three square matrices, each a third of the memory (98,304 bytes at least in all); goes
                        on where the last call stopped, and wraps. a and b are ones and c zeros at first. Result: next product
    matrix_avx2         the same with registers of four doubles. ValueError where AVX2 is not to be had
    chase               one load whose address the load before it returned, over the cycle that build_chase() laid last;
                        goes on where the last call stopped. Result: the address reached
    copy, scale, add, triad
                        one 64-byte line (8 doubles) of STREAM's c = a; b = s * c; c = a + b; a = b + s * c. STREAM counts 128
                        bytes for copy and scale, 192 for add and triad. The arrays are each a third of the memory (at least
                        4032 bytes in all); the four go on where the last of them stopped, and wrap
    touch               one 8-byte store into the next page of `page_bytes`, from offset a0 on: warm + timed pages must lie in
                        the memory. A page is fresh after discard(). Keeps no position
    peek                one load from the next page of `page_bytes`, as `touch`. Result: exclusive or of what was read
    atomic              one atomic addition of 1 to the first word of the memory. Result: the word before the last one
    gaps                one read of the counter of the kernels' ticks. Result: timed ticks in gaps of more than a0
    random_access       one update of RandomAccess (HPC Challenge) in a table of 64-bit words, the largest power of two that fits
    getpid              one getpid system call (host only)
    clock_gettime       one clock_gettime(CLOCK_MONOTONIC) of the C library (host only). Result: ns
    clock_call          one clock_gettime(CLOCK_MONOTONIC) past the vDSO (host only). Result: ns
    stat                one stat of /dev/null (host only)
    signal              one SIGUSR1 to this thread, and a handler for as long as the kernel runs (host only). Result: signals
                        caught
    read                one read of one byte from descriptor a0 (host only). Result: 1, or 0 at the end of the file
    pipe_round_trip     one byte written to descriptor a0, one read from descriptor a1 (host only; see spawn_echo)
    futex_round_trip    one way to the other process and back by futex (host only; see spawn_futex_echo)
    thread_create       one thread created that ends at once and is waited for (host only). Result: the last one's id
    map_unmap           a0 bytes mapped and unmapped (host only)
    map_touch_unmap     the same with a store in between (host only)
    protect             the first page of the memory made read-only, writable again, and written to (host only)
    fork_wait           one child forked that exits at once and is waited for (host only)
    out                 one byte written to an I/O port: an exit to user space (micro-VM only)
    in                  one byte read from an I/O port: an exit that brings a value back (micro-VM only)
    mmio                one 4-byte store where no memory is: an exit that KVM decodes (micro-VM only)
    cpuid               one CPUID of leaf 0. Result: the highest leaf
    hypercall           one VMCALL or VMMCALL (micro-VM only). From ring 3 KVM refuses it. Result: -1 (KVM_EPERM) as 64 bits

    rdmsr, wrmsr        one RDMSR of IA32_APIC_BASE, one WRMSR of IA32_TSC_ADJUST (micro-VM at ring 0 only)
    self_ipi            one interrupt that the CPU sends to itself, until its handler has run (micro-VM at ring 0 only). Result:
                        interrupts so far
    halt                one HLT, woken by the local APIC's timer a0 ns after it was set (micro-VM at ring 0 only). Result:
                        interrupts so far

    STREAM, matrices, touch, atomic, protect and random_access write over a cycle: call build_chase() again, or use one host
    for each.
    """

def kernel_code_hash() -> str:
    """SHA-256 of the loaded bytes of the kernels' section, as hex."""

class KernelHost:
    """Runs kernels natively, in this process.

    `memory_bytes` of anonymous memory are mapped for the kernels, in pages of `page_bytes` (4096, or 2 MiB through
    transparent huge pages; `page_bytes` tells what was had: check it).
    """

    def __init__(self, memory_bytes: int, page_bytes: int = 4096) -> None: ...
    memory_bytes: Final[int]
    page_bytes: Final[int]
    memory_address: Final[int]
    """Address of the memory as the kernels see it."""
    def run(
        self, kernel: str, warm: int, timed: int, a0: int = 0, a1: int = 0, a2: int = 0, a3: int = 0, /
    ) -> tuple[int, int]:
        """Run `warm` untimed and then `timed` iterations; (ticks of the timed part, result).

        a0 to a3 are the kernel's own arguments (kernels.c documents each). State such as the position in a chase is kept
        between calls. ValueError for an unknown kernel, one that cannot run here, or arguments that would leave the
        memory; OSError with the kernel's name where a system call in it fails. A MicroVM can be interrupted by a signal
        (Ctrl-C); a kernel on the host only where it makes system calls. One thread at a time (ValueError).
        """
    def build_chase(self, offset: int, length: int, stride: int, seed: int, /) -> None:
        """Lay one random cycle of pointers, one node every `stride` bytes, over memory[offset:offset+length].

        At least two nodes; offset and stride are multiples of 8 bytes. The next `chase` starts at `offset`. The same seed
        gives the same cycle.
        """
    def discard(self, offset: int, length: int, /) -> None:
        """Give whole pages (multiples of `page_bytes`) back to the kernel, so that the next touch faults."""
    def reuse(self, memory_bytes: int, /) -> None:
        """Begin anew, as if just made, with so many bytes of the memory that is mapped; its pages stay where they are.

        Making pages present is dear where page tables are nested. What the memory holds is not defined, and a partner ends.
        ValueError where less is mapped.
        """
    def start_partner(self, kernel: str, cpu: int, /) -> None:
        """A thread on that CPU runs `kernel` in the same memory for as long as each later run() does; it sleeps in between.

        The kernel is one that needs no memory, or `atomic`. ValueError for any other, and in a MicroVM; OSError where the CPU
        is not to be had. The partner ends with the host, or when another one is started.
        """
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

# --- system.c ----------------------------------------------------------------------------------------------------------

def echo(descriptor: int, /) -> None:
    """Give back what comes from a socket, up to 64 bytes at a time, until the other side has closed; signals do not end it."""

def spawn_echo() -> tuple[int, int, int]:
    """A child process that echoes single bytes: (pid, descriptor to write to, descriptor to read from).

    Arguments a0 and a1 of the kernel `pipe_round_trip`. The child ends when the write end is closed, or with its parent;
    the caller waits for it (os.waitpid) and closes the descriptors.
    """

def spawn_futex_echo() -> int:
    """A child process that sets the word to 0 that the kernel `futex_round_trip` sets to 1: its pid.

    One at a time. It ends with its parent; before that the caller ends it by SIGKILL and waits for it.
    """

# --- timers.c ----------------------------------------------------------------------------------------------------------

def wake_up_latencies(period_ns: int, count: int, /) -> list[int]:
    """Sleep `count` times (1 to 100,000) to absolute times `period_ns` (1000 to 10**9) apart: ns from each until awake."""

# --- microvm.c ---------------------------------------------------------------------------------------------------------

@final
class MicroVM(KernelHost):
    """A virtual machine of one vCPU in long mode on /dev/kvm, running the very same kernel bytes (x86).

    At ring 3, where every kernel runs at full speed on every backend; or at ring 0, with KVM's interrupt controller, for
    kernels that fault elsewhere. kvm_pvm emulates ring 0, instruction by instruction.

    OSError with errno where /dev/kvm does not open or KVM refuses; RuntimeError with KVM's exit reason and the guest's
    registers where the guest does something unexpected. `nonce` (0 to 2**96-1) is planted in a CPUID leaf of the guest
    for evidence().
    """

    def __init__(self, memory_bytes: int, page_bytes: int = 4096, nonce: int = 0, ring: int = 3) -> None: ...
    def evidence(self) -> dict[str, int | str]:
        """What guest code saw: "ring" (CPL at which kernels run), "cpuid_signature" (leaf 1 EAX), "cpuid_vendor" (leaf 0),
        "nonce", "rip"; and "cr3_host": the root of the guest's page tables, as the host reads it from the vCPU.

        All but cr3_host is read by guest code, never by the host. The nonce is read at ring 0: under kvm_pvm a CPUID of
        ring 3 is answered by the hypervisor below and does not reach KVM.
        """
    exits: int
    """KVM exits to user space so far."""

def time_microvm(operation: str, repetitions: int, /) -> int:
    """Total ns of `repetitions` (1 to 1,000,000) of one operation (x86):

    create_vm          KVM_CREATE_VM
    create_vcpu        KVM_CREATE_VCPU in a fresh VM
    memory_slot        KVM_SET_USER_MEMORY_REGION: a second slot of one page
    first_instruction  from the first KVM_RUN of a fresh machine to the exit of its first instruction
    destroy            the end of a machine that has run: vCPU and VM closed, its own memory unmapped

    Only the operation named is timed, not the set-up before it or the destruction after it.
    """
