"""What the kernel is asked to do: system calls, context switches, processes."""

from __future__ import annotations

from . import HostFacts, KernelCall, workload


@workload("system.getpid", needs=("kernels", "os"))
def getpid(facts: HostFacts) -> KernelCall:
    """The null system call, by the SYSCALL instruction itself."""
    del facts
    return KernelCall("getpid")


@workload("system.clock_gettime", needs=("kernels", "os"), core=False)
def clock_gettime(facts: HostFacts) -> KernelCall:
    """CLOCK_MONOTONIC by the C library: no system call where the clock source lets the vDSO read it."""
    del facts
    return KernelCall("clock_gettime")


@workload("system.read", needs=("kernels", "os"), core=False)
def read(facts: HostFacts) -> KernelCall:
    """read(2) of /dev/null: a system call with a file behind it."""
    del facts
    return KernelCall("read", setup="null")


@workload("system.pipe_round_trip", needs=("kernels", "os"))
def pipe_round_trip(facts: HostFacts) -> KernelCall:
    """One byte to another process on the same CPU and back through two pipes: two context switches."""
    del facts
    return KernelCall("pipe_round_trip", setup="echo")


@workload("system.fork_wait", needs=("kernels", "os"))
def fork_wait(facts: HostFacts) -> KernelCall:
    """Fork a process that exits at once, and wait for it."""
    del facts
    return KernelCall("fork_wait")
