"""What the kernel is asked to do: system calls, context switches, processes."""

from __future__ import annotations

import os
import shutil

from . import FULL, QUICK, Block, HostFacts, KernelCall, UnsupportedError, workload


@workload("system.getpid", needs=("kernels", "os"), level=QUICK)
def getpid(facts: HostFacts) -> KernelCall:
    """The null system call, by the SYSCALL instruction itself."""
    del facts
    return KernelCall("getpid")


@workload("system.getppid", needs=("kernels", "os"), level=FULL)
def getppid(facts: HostFacts) -> KernelCall:
    """getppid(2) by the C library's function, as `perf bench syscall basic` has it.

    Beside system.getpid: the function's return, which a mitigation of the kernel may have made hard to predict, and the
    parent's number, which lies with another process.
    """
    del facts
    return KernelCall("getppid")


@workload("system.clock_gettime", needs=("kernels", "os"))
def clock_gettime(facts: HostFacts) -> KernelCall:
    """CLOCK_MONOTONIC by the C library: no system call where the clock source lets the vDSO read it.

    tsc, kvm-clock and hyperv_clocksource_tsc_page do; hpet, acpi_pm, jiffies and xen do not, and then this costs as much as
    system.clock_gettime[syscall]. The run's fingerprint names the clock source.
    """
    del facts
    return KernelCall("clock_gettime")


@workload("system.clock_gettime[syscall]", needs=("kernels", "os"))
def clock_call(facts: HostFacts) -> KernelCall:
    """CLOCK_MONOTONIC by the SYSCALL instruction, past the vDSO."""
    del facts
    return KernelCall("clock_call")


@workload("system.read", needs=("kernels", "os"))
def read(facts: HostFacts) -> KernelCall:
    """read(2) of /dev/null: a system call with a file behind it."""
    del facts
    return KernelCall("read", setup="null")


@workload("system.stat", needs=("kernels", "os"))
def stat(facts: HostFacts) -> KernelCall:
    """stat(2) of /dev/null: a system call that walks a path."""
    del facts
    return KernelCall("stat")


@workload("system.signal", needs=("kernels", "os"))
def signal(facts: HostFacts) -> KernelCall:
    """A signal that a thread sends to itself and catches: tgkill, a frame on the stack, the handler, sigreturn."""
    del facts
    return KernelCall("signal")


@workload("system.pipe_round_trip", needs=("kernels", "os"), level=QUICK)
def pipe_round_trip(facts: HostFacts) -> KernelCall:
    """One byte to another process on the same CPU and back through two pipes: two context switches."""
    del facts
    return KernelCall("pipe_round_trip", setup="echo")


@workload("system.fork_wait", needs=("kernels", "os"), level=QUICK)
def fork_wait(facts: HostFacts) -> KernelCall:
    """Fork a process that exits at once, and wait for it."""
    del facts
    return KernelCall("fork_wait")


@workload("system.futex_round_trip", needs=("kernels", "os"))
def futex_round_trip(facts: HostFacts) -> KernelCall:
    """To another process on the same CPU and back by futexes in shared memory: two context switches."""
    del facts
    return KernelCall("futex_round_trip", setup="futex")


@workload("system.thread_create", needs=("kernels", "os"))
def thread_create(facts: HostFacts) -> KernelCall:
    """clone(2) of a thread that exits at once, and waiting for it as pthread_join does."""
    del facts
    return KernelCall("thread_create")


@workload("system.mmap", needs=("kernels", "os"))
def mmap(facts: HostFacts) -> KernelCall:
    """mmap and munmap of 64 KiB that nobody touches."""
    del facts
    return KernelCall("map_unmap", arguments=(1 << 16,))


@workload("system.page_fault", needs=("kernels", "os"))
def page_fault(facts: HostFacts) -> KernelCall:
    """A load from a page that is not there: a fault that maps the page of zeros, with nothing to allocate or clear."""
    del facts
    size = 32 << 20
    return KernelCall("peek", memory_bytes=size, refresh="discard", maximum_iterations=size // 4096)


@workload("system.fork_exec", kind="python", needs=("python", "os", "commands"))
def fork_exec() -> Block:
    """A process that executes /bin/true (posix_spawn, as a shell or subprocess does it), and waiting for it."""
    program = shutil.which("true", path="/bin:/usr/bin")
    if program is None:
        raise UnsupportedError("there is no /bin/true here")
    spawn, wait, environment = os.posix_spawn, os.waitpid, dict[str, str]()

    def run(iterations: int) -> None:
        for _ in range(iterations):
            _, status = wait(spawn(program, [program], environment), 0)
            if status:
                raise OSError(f"{program} ended with status {status}")

    return run
