"""What leaving a guest costs: measured in the micro-VM, where nothing else is in the way."""

from __future__ import annotations

from collections.abc import Callable

from . import QUICK, Block, HostFacts, KernelCall, native_extension, workload


@workload("exits.out", needs=("kernels", "microvm"), level=QUICK)
def out(facts: HostFacts) -> KernelCall:
    """An OUT instruction: exit to KVM, on to user space, and back."""
    del facts
    return KernelCall("out")


@workload("exits.in", needs=("kernels", "microvm"))
def port_in(facts: HostFacts) -> KernelCall:
    """An IN instruction: as OUT, with a value brought back."""
    del facts
    return KernelCall("in")


@workload("exits.mmio", needs=("kernels", "microvm"))
def mmio(facts: HostFacts) -> KernelCall:
    """A store where no memory is: a page fault that KVM decodes and hands to user space."""
    del facts
    return KernelCall("mmio")


@workload("exits.cpuid", needs=("kernels", "microvm"), level=QUICK)
def cpuid(facts: HostFacts) -> KernelCall:
    """A CPUID instruction: exit to the hypervisor that answers it (KVM; under kvm_pvm the one below, for ring 3)."""
    del facts
    return KernelCall("cpuid")


@workload("exits.hypercall", needs=("kernels", "microvm"), level=QUICK)
def hypercall(facts: HostFacts) -> KernelCall:
    """A hypercall from ring 3, which KVM refuses with -KVM_EPERM: exit, decision, return."""
    del facts
    return KernelCall("hypercall")


@workload("exits.rdmsr", needs=("kernels", "microvm"))
def rdmsr(facts: HostFacts) -> KernelCall:
    """RDMSR of IA32_APIC_BASE, at ring 0: a register that KVM answers for."""
    del facts
    return KernelCall("rdmsr", ring=0)


@workload("exits.wrmsr", needs=("kernels", "microvm"))
def wrmsr(facts: HostFacts) -> KernelCall:
    """WRMSR of IA32_TSC_ADJUST, with the value that it has, at ring 0: a register that KVM keeps."""
    del facts
    return KernelCall("wrmsr", ring=0)


@workload("exits.self_ipi", needs=("kernels", "microvm"))
def self_ipi(facts: HostFacts) -> KernelCall:
    """An interrupt that a vCPU sends to itself through KVM's x2APIC, until its handler has returned."""
    del facts
    return KernelCall("self_ipi", ring=0)


HALT_NS = 10_000


@workload("exits.halt", needs=("kernels", "microvm"))
def halt(facts: HostFacts) -> KernelCall:
    """HLT until the timer's interrupt, which was set to 10 us before: those 10 us, the timer, going to sleep and waking.

    KVM may poll for a while before it lets the vCPU's thread sleep (halt_poll_ns of the module kvm).
    """
    del facts
    return KernelCall("halt", ring=0, arguments=(HALT_NS,))


@workload("exits.nested_page_fault", needs=("kernels", "microvm"))
def nested_page_fault(facts: HostFacts) -> KernelCall:
    """A store to a guest page that the host has not backed yet: an exit, in which KVM has the host allocate and clear it."""
    del facts
    size = 32 << 20
    return KernelCall("touch", memory_bytes=size, refresh="discard", maximum_iterations=size // 4096)


def _host_operation(operation: str) -> Block:
    time_microvm: Callable[[str, int], int] = native_extension().time_microvm

    def run(iterations: int) -> int:
        return time_microvm(operation, iterations)

    return run


@workload("exits.create_vm", kind="python", needs=("microvm",), level=QUICK)
def create_vm() -> Block:
    """KVM_CREATE_VM."""
    return _host_operation("create_vm")


@workload("exits.create_vcpu", kind="python", needs=("microvm",), level=QUICK)
def create_vcpu() -> Block:
    """KVM_CREATE_VCPU in a fresh VM."""
    return _host_operation("create_vcpu")


@workload("exits.first_instruction", kind="python", needs=("microvm",), level=QUICK)
def first_instruction() -> Block:
    """From a VM that is set up to the exit of its first instruction."""
    return _host_operation("first_instruction")


@workload("exits.memory_slot", kind="python", needs=("microvm",))
def memory_slot() -> Block:
    """KVM_SET_USER_MEMORY_REGION: a second slot of one page."""
    return _host_operation("memory_slot")


@workload("exits.destroy", kind="python", needs=("microvm",))
def destroy() -> Block:
    """The end of a machine that has run: vCPU and VM closed, its memory unmapped."""
    return _host_operation("destroy")
