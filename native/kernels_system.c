/* The kernels that make system calls, raw ones, on the host only. */
#include "kernel_code.h"

#if defined(VPROBE_SYSCALLS)

#include <asm/errno.h>
#include <asm/unistd.h>

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

/* One iteration: one clock_gettime of the C library, which is no system call where the vDSO reads the clock
 * source. */
KERNEL uint64_t vprobe_clock_gettime(struct kernel_block *block) {
    enum { MONOTONIC = 1 };
    int64_t time[2] = {0, 0}; /* struct timespec */
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--)
            block->clock_gettime(MONOTONIC, (struct timespec *)time);
    }
    finish(block);
    return (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
}

/* One iteration: one read of one byte from descriptor a0; the end of a file is as good as a byte. */
KERNEL uint64_t vprobe_read(struct kernel_block *block) {
    int64_t got = 0;
    char byte = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0 && got >= 0; left--)
            got = call4(__NR_read, block->arguments[0], (uint64_t)(uintptr_t)&byte, 1, 0);
    }
    finish(block);
    block->error = got < 0 ? (uint64_t)-got : 0;
    return (uint64_t)got;
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
