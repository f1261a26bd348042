/* The workload kernels. The bytes of this file's section run natively and, copied as they are, in micro-VMs.
 *
 * Rules, held by tests/unit/native/test_kernel_section.py: no reference leaves the section (no call, no
 * global, no constant in .rodata, no jump table). Every kernel runs the same loop twice, first untimed (WARM)
 * and then timed, so that in a guest the warm-up and the measurement share one entry. HIDE keeps the compiler
 * from seeing through a value, which would let it shorten a chain of operations or drop it. */
#include "kernels.h"

#include <stddef.h>
#if defined(VPROBE_SYSCALLS)
#include <asm/errno.h>
#include <asm/unistd.h>
#endif

#define KERNEL     __attribute__((section("vprobe_kernels"), noinline, used, aligned(64)))
#define ALWAYS     static inline __attribute__((always_inline))
#define HIDE(word) __asm__ volatile("" : "+r"(word))
#if defined(__x86_64__)
#define HIDE_DOUBLE(number) __asm__ volatile("" : "+x"(number))
#elif defined(__aarch64__)
#define HIDE_DOUBLE(number) __asm__ volatile("" : "+w"(number))
#else
#define HIDE_DOUBLE(number) __asm__ volatile("" : "+m"(number))
#endif

/* --- time -------------------------------------------------------------------------------------------- */

/* All earlier instructions have executed before the counter is read, and no later one starts before it is:
 * RDTSCP waits for the earlier ones, LFENCE holds back the later ones (Intel SDM vol. 2B, RDTSC and RDTSCP;
 * AMD APM vol. 3, where LFENCE is dispatch-serializing on every kernel that this runs on). */
ALWAYS uint64_t ticks(const struct kernel_block *block) {
#if defined(VPROBE_X86)
    uint32_t low, high;
    if (block->flags & KERNEL_RDTSCP)
        __asm__ volatile("rdtscp\n\tlfence" : "=a"(low), "=d"(high) : : "ecx", "memory");
    else
        __asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
#else
    return block->clock();
#endif
}

/* `for each phase`: the compiler must not know how many there are, or it would make two copies of the loop.
 */
#define FOR_EACH_PHASE(phase) for (uint64_t phase = first_phase(); phase != PHASES; phase++)

ALWAYS uint64_t first_phase(void) {
    uint64_t phase = WARM;
    HIDE(phase);
    return phase;
}

ALWAYS uint64_t begin(struct kernel_block *block, uint64_t phase) {
    uint64_t iterations = block->iterations[phase];
    block->ticks[phase] = ticks(block);
    return iterations;
}

ALWAYS void finish(struct kernel_block *block) {
    block->ticks[PHASES] = ticks(block);
}

/* --- cpu --------------------------------------------------------------------------------------------- */

/* One iteration: twelve dependent operations, four times multiply, add, exclusive or. */
KERNEL uint64_t vprobe_integer_chain(struct kernel_block *block) {
    const uint64_t multiplier = block->multiplier, addend = block->addend, mask = block->mask;
    uint64_t x = block->arguments[0];
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
#define LINK                                                                                                 \
    x *= multiplier;                                                                                         \
    HIDE(x);                                                                                                 \
    x += addend;                                                                                             \
    HIDE(x);                                                                                                 \
    x ^= mask;                                                                                               \
    HIDE(x);
            LINK LINK LINK LINK
#undef LINK
        }
    }
    finish(block);
    return x;
}

/* One iteration: eight dependent double operations, four times multiply, add. The value stays near 2. */
KERNEL uint64_t vprobe_float_chain(struct kernel_block *block) {
    const double ratio = block->float_ratio, addend = block->float_addend;
    double x = addend;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
#define LINK                                                                                                 \
    x *= ratio;                                                                                              \
    HIDE_DOUBLE(x);                                                                                          \
    x += addend;                                                                                             \
    HIDE_DOUBLE(x);
            LINK LINK LINK LINK
#undef LINK
        }
    }
    finish(block);
    return (uint64_t)(int64_t)(x * addend);
}

/* --- memory ------------------------------------------------------------------------------------------ */

/* One iteration: one load, whose address the load before it returned. Goes on where the last call stopped. */
KERNEL uint64_t vprobe_chase(struct kernel_block *block) {
    uintptr_t node = (uintptr_t)block->chase;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
            node = *(const uintptr_t *)node;
            HIDE(node);
        }
    }
    finish(block);
    block->chase = node;
    return node;
}

typedef double pair __attribute__((vector_size(16), may_alias));

/* a[i] = b[i] + scale * c[i] over doubles, as in STREAM. One iteration: one 64-byte line of each array, that
 * is 8 elements, 128 bytes read and 64 written. Goes on where the last call stopped and wraps. */
KERNEL uint64_t vprobe_triad(struct kernel_block *block) {
    const uint64_t bytes = block->stream_lines * 64;
    char *const a = (char *)(uintptr_t)block->memory, *const b = a + bytes, *const c = b + bytes;
    const pair scale = {block->stream_scale, block->stream_scale};
    uint64_t at = block->stream_position * 64;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
#define PAIR(offset)                                                                                         \
    *(pair *)(a + at + (offset)) =                                                                           \
        *(const pair *)(b + at + (offset)) + scale * *(const pair *)(c + at + (offset));
            PAIR(0)
            PAIR(16)
            PAIR(32)
            PAIR(48)
#undef PAIR
            at += 64;
            if (at == bytes)
                at = 0;
        }
    }
    finish(block);
    block->stream_position = at / 64;
    return at;
}

/* One iteration: one store into the next page of page_bytes, from memory + a0 on. Keeps no position. */
KERNEL uint64_t vprobe_touch(struct kernel_block *block) {
    const uint64_t stride = block->page_bytes;
    char *page = (char *)(uintptr_t)(block->memory + block->arguments[0]);
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
            *(volatile uint64_t *)page = left;
            page += stride;
        }
    }
    finish(block);
    return (uint64_t)(uintptr_t)page;
}

/* --- system: raw system calls, on the host only ------------------------------------------------------ */

#if defined(VPROBE_SYSCALLS)

#if defined(__x86_64__)
ALWAYS int64_t call4(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    register uint64_t fourth __asm__("r10") = d;
    register uint64_t fifth __asm__("r8") = 0;
    int64_t result = number;
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
    return result;
}
#else
ALWAYS int64_t call4(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    register int64_t name __asm__("x8") = number;
    register uint64_t first __asm__("x0") = a;
    register uint64_t second __asm__("x1") = b;
    register uint64_t third __asm__("x2") = c;
    register uint64_t fourth __asm__("x3") = d;
    register uint64_t fifth __asm__("x4") = 0;
    __asm__ volatile("svc #0"
                     : "+r"(first)
                     : "r"(name), "r"(second), "r"(third), "r"(fourth), "r"(fifth)
                     : "memory");
    return (int64_t)first;
}
#endif

/* One iteration: one getpid, made anew each time. */
KERNEL uint64_t vprobe_getpid(struct kernel_block *block) {
    int64_t pid = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--)
            pid = call4(__NR_getpid, 0, 0, 0, 0);
    }
    finish(block);
    return (uint64_t)pid;
}

ALWAYS uint64_t transfer(int64_t call, uint64_t descriptor, char *byte) {
    int64_t moved = call4(call, descriptor, (uint64_t)(uintptr_t)byte, 1, 0);
    return moved == 1 ? 0 : moved == 0 ? EPIPE : (uint64_t)-moved;
}

/* One iteration: one byte written to descriptor a0, one byte read from descriptor a1. */
KERNEL uint64_t vprobe_pipe_round_trip(struct kernel_block *block) {
    const uint64_t out = block->arguments[0], in = block->arguments[1];
    char byte = 'v';
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0 && block->error == 0; left--) {
            block->error = transfer(__NR_write, out, &byte);
            if (block->error == 0)
                block->error = transfer(__NR_read, in, &byte);
        }
    }
    finish(block);
    return (uint64_t)(unsigned char)byte;
}

#define SIGNAL_CHILD 17 /* SIGCHLD on x86 and arm64 */

/* One iteration: a child is forked, exits at once, and is waited for. */
KERNEL uint64_t vprobe_fork_wait(struct kernel_block *block) {
    int64_t pid = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0 && block->error == 0; left--) {
            pid = call4(__NR_clone, SIGNAL_CHILD, 0, 0, 0);
            if (pid == 0)
                for (;;)
                    call4(__NR_exit, 0, 0, 0, 0);
            int64_t waited = pid;
            if (pid > 0)
                do
                    waited = call4(__NR_wait4, (uint64_t)pid, 0, 0, 0);
                while (waited == -EINTR);
            if (waited < 0)
                block->error = (uint64_t)-waited;
        }
    }
    finish(block);
    return (uint64_t)pid;
}

#endif

/* --- exits: what makes a guest leave to its hypervisor ----------------------------------------------- */

#if defined(VPROBE_X86)

/* One iteration: one byte written to WORK_PORT, an exit to user space. In a micro-VM only. */
KERNEL uint64_t vprobe_out(struct kernel_block *block) {
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--)
            __asm__ volatile("outb %b0, %w1" : : "a"(0), "d"(WORK_PORT) : "memory");
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
