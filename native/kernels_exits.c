/* The kernels that make a guest leave to its hypervisor; and where a guest starts. */
#include "kernel_code.h"

#if defined(VPROBE_X86)

#include <stddef.h>

/* One iteration: one byte written to WORK_PORT, an exit to user space. In a micro-VM only. */
KERNEL uint64_t vprobe_out(struct kernel_block *block) {
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--)
            __asm__ volatile("outb %b0, %w1" : : "a"(0), "d"(WORK_PORT) : "memory");
    }
    finish(block);
    return 0;
}

/* One iteration: one byte read from WORK_PORT, an exit to user space that brings a value back. In a micro-VM
 * only. */
KERNEL uint64_t vprobe_in(struct kernel_block *block) {
    uint8_t byte = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--)
            __asm__ volatile("inb %w1, %b0" : "=a"(byte) : "d"(WORK_PORT) : "memory");
    }
    finish(block);
    return byte;
}

/* One iteration: one store where no memory is, which KVM decodes and hands to user space. In a micro-VM only.
 */
KERNEL uint64_t vprobe_mmio(struct kernel_block *block) {
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--)
            __asm__ volatile("movl %k0, (%1)" : : "r"(0), "r"((uint64_t)MMIO_ADDRESS) : "memory");
    }
    finish(block);
    return 0;
}

struct registers {
    uint32_t eax, ebx, ecx, edx;
};

ALWAYS struct registers cpuid(uint32_t leaf) {
    struct registers r;
    __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(0));
    return r;
}

/* One iteration: one CPUID of leaf 0, which always exits in a guest (Intel SDM vol. 3C 26.1.2). */
KERNEL uint64_t vprobe_cpuid(struct kernel_block *block) {
    uint32_t maximum = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--)
            maximum = cpuid(0).eax;
    }
    finish(block);
    return maximum;
}

/* One iteration: one hypercall with a number that KVM does not know. From ring 3 it is refused, with
 * -KVM_EPERM. */
KERNEL uint64_t vprobe_hypercall(struct kernel_block *block) {
    const uint64_t vmcall = block->flags & KERNEL_VMCALL;
    int64_t answer = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
            answer = 0xffff;
            if (vmcall)
                __asm__ volatile("vmcall" : "+a"(answer) : : "memory");
            else
                __asm__ volatile("vmmcall" : "+a"(answer) : : "memory");
        }
    }
    finish(block);
    return (uint64_t)answer;
}

/* --- at ring 0 --------------------------------------------------------------------------------------- */

/* Registers of the x2APIC (Intel SDM vol. 3A, table 11-6), and two MSRs that KVM always intercepts. */
enum {
    MSR_TSC_ADJUST = 0x3b,
    MSR_APIC_BASE = 0x1b,
    X2APIC_SPURIOUS = 0x80f,
    X2APIC_TIMER = 0x832,
    X2APIC_TIMER_COUNT = 0x838,
    X2APIC_TIMER_DIVIDE = 0x83e,
    X2APIC_SELF_IPI = 0x83f,
};
enum { SOFTWARE_ENABLED = 0x1ff, DIVIDE_BY_ONE = 0xb };

ALWAYS uint64_t read_msr(uint32_t index) {
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index) : "memory");
    return (uint64_t)high << 32 | low;
}

ALWAYS void write_msr(uint32_t index, uint64_t value) {
    __asm__ volatile("wrmsr" : : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(index) : "memory");
}

/* One iteration: one RDMSR of IA32_APIC_BASE. At ring 0 only. */
KERNEL uint64_t vprobe_rdmsr(struct kernel_block *block) {
    uint64_t value = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--)
            value = read_msr(MSR_APIC_BASE);
    }
    finish(block);
    return value;
}

/* One iteration: one WRMSR of IA32_TSC_ADJUST, with the value that it has. At ring 0 only. */
KERNEL uint64_t vprobe_wrmsr(struct kernel_block *block) {
    const uint64_t value = read_msr(MSR_TSC_ADJUST);
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--)
            write_msr(MSR_TSC_ADJUST, value);
    }
    finish(block);
    return value;
}

/* One iteration: an interrupt that the CPU sends to itself, until its handler has run. At ring 0 only.
 * Result: interrupts taken so far. */
KERNEL uint64_t vprobe_self_ipi(struct kernel_block *block) {
    write_msr(X2APIC_SPURIOUS, SOFTWARE_ENABLED);
    __asm__ volatile("sti" : : : "memory");
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
            const uint64_t before = block->interrupts;
            write_msr(X2APIC_SELF_IPI, GUEST_VECTOR);
            while (block->interrupts == before)
                __asm__ volatile("pause");
        }
    }
    finish(block);
    __asm__ volatile("cli" : : : "memory");
    return block->interrupts;
}

/* One iteration: the timer is set to a0 ns from now, and the CPU halts until its interrupt has woken it. At
 * ring 0 only. KVM's timer counts in ns (APIC_BUS_FREQUENCY). Result: interrupts taken so far. */
KERNEL uint64_t vprobe_halt(struct kernel_block *block) {
    const uint64_t delay = block->arguments[0] == 0 ? 1 : block->arguments[0];
    write_msr(X2APIC_SPURIOUS, SOFTWARE_ENABLED);
    write_msr(X2APIC_TIMER, GUEST_VECTOR);
    write_msr(X2APIC_TIMER_DIVIDE, DIVIDE_BY_ONE);
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
            const uint64_t before = block->interrupts;
            write_msr(X2APIC_TIMER_COUNT, delay);
            while (block->interrupts == before) /* STI lets no interrupt in before the HLT after it */
                __asm__ volatile("sti\n\thlt\n\tcli" : : : "memory");
        }
    }
    finish(block);
    return block->interrupts;
}

/* What guest code can tell of where it runs: enum seen. */
KERNEL uint64_t vprobe_evidence(struct kernel_block *block) {
    uint64_t *seen = block->seen;
    __asm__ volatile("mov %%cs, %k0" : "=r"(seen[SEEN_CS]));
    __asm__ volatile("lea 0(%%rip), %0" : "=r"(seen[SEEN_RIP]));
    struct registers identity = cpuid(0), nonce = cpuid(NONCE_LEAF);
    seen[SEEN_SIGNATURE] = cpuid(1).eax;
    seen[SEEN_VENDOR_0] = (uint64_t)identity.edx << 32 | identity.ebx;
    seen[SEEN_VENDOR_1] = identity.ecx;
    seen[SEEN_NONCE_0] = nonce.ebx;
    seen[SEEN_NONCE_1] = nonce.ecx;
    seen[SEEN_NONCE_2] = nonce.edx;
    return 0;
}

/* Where a vCPU starts, with the block's address in RBX. It reports at once, then runs one kernel for each
 * entry: the host writes the block, enters the guest, and gets it back at the OUT. */
__asm__(".pushsection vprobe_kernels, \"ax\", @progbits\n"
        ".p2align 6\n"
        ".globl vprobe_guest_entry\n"
        ".hidden vprobe_guest_entry\n"
        ".type vprobe_guest_entry, @function\n"
        "vprobe_guest_entry:\n"
        "1:  movl $0x5a1, %edx\n"
        "    outb %al, (%dx)\n"
        "    movq %rbx, %rdi\n"
        "    callq *(%rbx)\n"
        "    movq %rax, 8(%rbx)\n"
        "    jmp 1b\n"
        ".size vprobe_guest_entry, . - vprobe_guest_entry\n"
        ".popsection\n");

/* What the interrupt table leads to, on a stack of its own: counts, and tells the interrupt controller
 * (register EOI of the x2APIC). Guest addresses, since no register is known to hold anything. */
__asm__(".pushsection vprobe_kernels, \"ax\", @progbits\n"
        ".p2align 6\n"
        ".globl vprobe_guest_interrupt\n"
        ".hidden vprobe_guest_interrupt\n"
        ".type vprobe_guest_interrupt, @function\n"
        "vprobe_guest_interrupt:\n"
        "    pushq %rax\n"
        "    pushq %rcx\n"
        "    pushq %rdx\n"
        "    incq 0x4020\n"
        "    movl $0x80b, %ecx\n"
        "    xorl %eax, %eax\n"
        "    xorl %edx, %edx\n"
        "    wrmsr\n"
        "    popq %rdx\n"
        "    popq %rcx\n"
        "    popq %rax\n"
        "    iretq\n"
        ".size vprobe_guest_interrupt, . - vprobe_guest_interrupt\n"
        ".popsection\n");
_Static_assert(FINISH_PORT == 0x5a1, "guest_entry has it as a number");
_Static_assert(offsetof(struct kernel_block, entry) == 0 && offsetof(struct kernel_block, result) == 8,
               "guest_entry has the offsets as numbers");

#endif
