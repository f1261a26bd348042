/* How the kernels are written: their section, their loop, their reads of the time.
 *
 * The bytes of the section run natively and, copied as they are, in micro-VMs. The rule, held by
 * tests/unit/native/test_kernel_section.py: no reference leaves it (no call, no global, no constant in
 * .rodata, no jump table). Every kernel runs the same loop twice, first untimed (WARM) and then timed, so
 * that in a guest the warm-up and the measurement share one entry. HIDE keeps the compiler from seeing
 * through a value, which would let it shorten a chain of operations or drop it. */
#ifndef VPROBE_KERNEL_CODE_H
#define VPROBE_KERNEL_CODE_H

#include "kernels.h"

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
 * AMD APM vol. 3; Linux makes AMD's LFENCE dispatch-serializing). */
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

/* The compiler must not know how many phases there are, or it would make two copies of the loop. */
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

#endif
