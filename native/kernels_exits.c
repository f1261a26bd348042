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
_Static_assert(FINISH_PORT == 0x5a1, "guest_entry has it as a number");
_Static_assert(offsetof(struct kernel_block, entry) == 0 && offsetof(struct kernel_block, result) == 8,
               "guest_entry has the offsets as numbers");

#endif
