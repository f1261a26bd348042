/* The workload kernels: their parameter block and their names. Free of Python and of the C library, since the
 * code in kernels.c runs in guests that have neither. */
#ifndef VPROBE_KERNELS_H
#define VPROBE_KERNELS_H

#include "target.h"

#include <stdbool.h>
#include <stdint.h>

struct timespec;

enum phase { WARM, TIMED, PHASES };

enum kernel_flags {
    KERNEL_RDTSCP = 1, /* the CPU that runs the kernel has RDTSCP */
    KERNEL_VMCALL = 2, /* Intel's hypercall instruction; otherwise AMD's VMMCALL */
    KERNEL_AVX2 = 4,   /* the CPU has AVX2, and its wide registers are enabled */
};

#define MATRIX_TILE 64 /* elements on a side of the blocks that `matrix_sse2` and `matrix_avx2` multiply */

/* Everything that a kernel reads and writes, but for the workload memory. It is the page that host and guest
 * share; guest_entry and guest_interrupt (kernels_exits.c) know the offsets of the first fields. Constants
 * come through it because a constant that the compiler puts into .rodata would lie outside the kernels'
 * section. */
struct kernel_block {
    uint64_t entry;               /* address of the kernel, as its CPU sees it (guest_entry calls it) */
    uint64_t result;              /* what the kernel returned (stored by guest_entry) */
    uint64_t error;               /* errno of a system call that failed within the kernel, or 0 */
    uint64_t flags;               /* enum kernel_flags */
    volatile uint64_t interrupts; /* that the guest's handler has taken */
    uint64_t iterations[PHASES];
    uint64_t ticks[PHASES + 1]; /* begin of each phase, and the end of the last */
    uint64_t memory;            /* address of the workload memory, as the kernel sees it */
    uint64_t page_bytes;
    uint64_t arguments[4];
    uint64_t chase;           /* address of the node that the next load reads */
    uint64_t stream_lines;    /* 64-byte lines of each of the three arrays */
    uint64_t stream_position; /* next line */
    uint64_t matrix_side;     /* MATRIX_TILE * MATRIX_TILE blocks in a row of each of the three matrices */
    uint64_t matrix_position; /* next product of two blocks */
    uint64_t table_mask;      /* number of 64-bit words, a power of two, less one */
    uint64_t random;          /* state of the generators: never 0 */
    uint64_t multiplier, addend, mask;
    double float_ratio, float_addend, stream_scale;
    uint64_t seen[8];                                       /* output of the kernel `evidence`: enum seen */
    uint64_t (*clock)(void);                                /* reads the time where there is no TSC */
    int (*clock_gettime)(int clock, struct timespec *time); /* the C library's, for the kernel of that name */
    volatile uint32_t *shared_word;                         /* with the process of spawn_futex_echo() */
    uint64_t signal_number;                                 /* that a handler catches while `signal` runs */
    const volatile uint64_t *signals_caught;                /* by that handler */
    int (*getppid)(void);                                   /* the C library's */
};

enum seen {
    SEEN_CS,
    SEEN_RIP,
    SEEN_SIGNATURE,
    SEEN_VENDOR_0,
    SEEN_VENDOR_1,
    SEEN_NONCE_0,
    SEEN_NONCE_1,
    SEEN_NONCE_2
};

typedef uint64_t kernel_entry(struct kernel_block *block);

/* KVM exits that guest code asks for; both ports are claimed by no PC device. */
#define WORK_PORT   0x5a0 /* the kernel `out`: resumed at once */
#define FINISH_PORT 0x5a1 /* the kernel has returned */

/* A page of guest addresses, and the guest-physical one behind it, where no memory is: an access is an MMIO
 * exit. */
#define MMIO_ADDRESS  0x3f000
#define MMIO_PHYSICAL 0xd0000000u

/* The CPUID leaf that carries a micro-VM's nonce in EBX, ECX, EDX; in the range that hypervisors own. */
#define NONCE_LEAF 0x4000cafeu

kernel_entry vprobe_integer_chain, vprobe_integer_throughput, vprobe_float_chain, vprobe_branches;
kernel_entry vprobe_vector_sse2, vprobe_vector_avx2, vprobe_matrix_sse2, vprobe_matrix_avx2;
kernel_entry vprobe_chase, vprobe_copy, vprobe_scale, vprobe_add, vprobe_triad, vprobe_touch, vprobe_peek,
    vprobe_atomic, vprobe_random_access, vprobe_gaps;
kernel_entry vprobe_getpid, vprobe_getppid, vprobe_clock_gettime, vprobe_clock_call, vprobe_read, vprobe_stat,
    vprobe_pipe_round_trip, vprobe_futex_round_trip, vprobe_signal, vprobe_fork_wait, vprobe_thread_create,
    vprobe_map_unmap, vprobe_map_touch_unmap, vprobe_protect;
kernel_entry vprobe_out, vprobe_in, vprobe_mmio, vprobe_cpuid, vprobe_hypercall, vprobe_evidence;
kernel_entry vprobe_rdmsr, vprobe_wrmsr, vprobe_self_ipi, vprobe_halt;
void vprobe_guest_entry(void);
void vprobe_guest_interrupt(void);

/* The vector at which a guest at ring 0 takes the interrupts that it asks for. */
#define GUEST_VECTOR 0x21

/* Bounds of the section; the linker defines them. */
extern const uint8_t kernels_begin[] __asm__("__start_vprobe_kernels") __attribute__((visibility("hidden")));
extern const uint8_t kernels_end[] __asm__("__stop_vprobe_kernels") __attribute__((visibility("hidden")));

#endif
