/* The kernels that make system calls, raw ones, on the host only. */
#include "kernel_code.h"

#if defined(VPROBE_SYSCALLS)

#include <asm/errno.h>
#include <asm/unistd.h>

#if defined(__x86_64__)
ALWAYS int64_t call6(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
    register uint64_t fourth __asm__("r10") = d;
    register uint64_t fifth __asm__("r8") = e;
    register uint64_t sixth __asm__("r9") = f;
    int64_t result = number;
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    return result;
}
#else
ALWAYS int64_t call6(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
    register int64_t name __asm__("x8") = number;
    register uint64_t first __asm__("x0") = a;
    register uint64_t second __asm__("x1") = b;
    register uint64_t third __asm__("x2") = c;
    register uint64_t fourth __asm__("x3") = d;
    register uint64_t fifth __asm__("x4") = e;
    register uint64_t sixth __asm__("x5") = f;
    __asm__ volatile("svc #0"
                     : "+r"(first)
                     : "r"(name), "r"(second), "r"(third), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "memory");
    return (int64_t)first;
}
#endif

ALWAYS int64_t call4(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    return call6(number, a, b, c, d, 0, 0);
}

ALWAYS uint64_t error_of(int64_t result) {
    return result < 0 ? (uint64_t)-result : 0;
}

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

/* One iteration: one getppid of the C library. */
KERNEL uint64_t vprobe_getppid(struct kernel_block *block) {
    int64_t pid = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--)
            pid = block->getppid();
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

/* One iteration: one clock_gettime that is a system call, whatever the vDSO could do. */
KERNEL uint64_t vprobe_clock_call(struct kernel_block *block) {
    enum { MONOTONIC = 1 };
    int64_t time[2] = {0, 0}; /* struct timespec */
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--)
            call4(__NR_clock_gettime, MONOTONIC, (uint64_t)(uintptr_t)time, 0, 0);
    }
    finish(block);
    return (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
}

/* One iteration: one stat of /dev/null by its path. Result: the first word of the answer, its st_dev. */
KERNEL uint64_t vprobe_stat(struct kernel_block *block) {
    enum { AT_WORKING_DIRECTORY = -100 };
    uint64_t name = 0x6c756e2f7665642fu; /* "/dev/nul" and then "l"; a string would lie in .rodata */
    HIDE(name);
    uint64_t path[2] = {name, 'l'};
    uint64_t status[32]; /* struct stat is 128 or 144 bytes */
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0 && block->error == 0; left--)
            block->error = error_of(call4(__NR_newfstatat, (uint64_t)AT_WORKING_DIRECTORY,
                                          (uint64_t)(uintptr_t)path, (uint64_t)(uintptr_t)status, 0));
    }
    finish(block);
    return status[0];
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

enum { FUTEX_WAIT_CALL = 0, FUTEX_WAKE_CALL = 1 }; /* linux/futex.h */

/* One iteration: the word that is shared with another process is set to 1 and its waiter woken; then this
 * side waits until the other has set it to 0. */
KERNEL uint64_t vprobe_futex_round_trip(struct kernel_block *block) {
    volatile uint32_t *const word = block->shared_word;
    const uint64_t address = (uint64_t)(uintptr_t)word;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0 && block->error == 0; left--) {
            __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
            block->error = error_of(call4(__NR_futex, address, FUTEX_WAKE_CALL, 1, 0));
            while (block->error == 0 && __atomic_load_n(word, __ATOMIC_SEQ_CST) == 1) {
                uint64_t error = error_of(call4(__NR_futex, address, FUTEX_WAIT_CALL, 1, 0));
                block->error = error == EAGAIN ? 0 : error; /* EAGAIN: it was 0 already */
            }
        }
    }
    finish(block);
    return *word;
}

/* One iteration: one signal sent to this very thread, which a handler catches. Result: signals caught so far.
 */
KERNEL uint64_t vprobe_signal(struct kernel_block *block) {
    const uint64_t process = (uint64_t)call4(__NR_getpid, 0, 0, 0, 0);
    const uint64_t thread = (uint64_t)call4(__NR_gettid, 0, 0, 0, 0);
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0 && block->error == 0; left--)
            block->error = error_of(call4(__NR_tgkill, process, thread, block->signal_number, 0));
    }
    finish(block);
    return *block->signals_caught;
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

/* A thread that ends at once: it runs no instruction but those between its start and exit(2), and those use
 * no stack, so that it may have its parent's. */
ALWAYS int64_t clone_thread(uint32_t *id) {
    /* CLONE_VM, _FS, _FILES, _SIGHAND, _THREAD, _SYSVSEM, _PARENT_SETTID, _CHILD_CLEARTID (linux/sched.h) */
    const uint64_t flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x100000 | 0x200000;
#if defined(__x86_64__)
    register uint64_t fourth __asm__("r10") = (uint64_t)(uintptr_t)id;
    register uint64_t fifth __asm__("r8") = 0;
    int64_t result = __NR_clone;
    __asm__ volatile("syscall\n\t"
                     "test %%eax, %%eax\n\t"
                     "jnz 1f\n\t"
                     "xor %%edi, %%edi\n\t"
                     "mov %[exit], %%eax\n\t"
                     "syscall\n"
                     "1:"
                     : "+a"(result)
                     : "D"(flags), "S"(0), "d"(id), "r"(fourth), "r"(fifth), [exit] "i"(__NR_exit)
                     : "rcx", "r11", "memory", "cc");
    return result;
#else
    register int64_t name __asm__("x8") = __NR_clone;
    register uint64_t first __asm__("x0") = flags;
    register uint64_t second __asm__("x1") = 0;
    register uint64_t third __asm__("x2") = (uint64_t)(uintptr_t)id;
    register uint64_t fourth __asm__("x3") = 0;
    register uint64_t fifth __asm__("x4") = (uint64_t)(uintptr_t)id;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x8, %[exit]\n\t"
                     "svc #0\n"
                     "1:"
                     : "+r"(first), "+r"(name)
                     : "r"(second), "r"(third), "r"(fourth), "r"(fifth), [exit] "i"(__NR_exit)
                     : "memory", "cc");
    return (int64_t)first;
#endif
}

/* One iteration: a thread is created, ends at once, and is waited for. Result: the last one's id. */
KERNEL uint64_t vprobe_thread_create(struct kernel_block *block) {
    uint32_t id = 0;
    int64_t thread = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0 && block->error == 0; left--) {
            thread = clone_thread(&id);
            block->error = error_of(thread);
            /* The kernel writes 0 there and wakes when the thread is gone, as pthread_join waits for. */
            for (uint32_t seen; block->error == 0 && (seen = __atomic_load_n(&id, __ATOMIC_SEQ_CST)) != 0;)
                call4(__NR_futex, (uint64_t)(uintptr_t)&id, FUTEX_WAIT_CALL, seen, 0);
        }
    }
    finish(block);
    return (uint64_t)thread;
}

enum { READ_ONLY = 1, READ_AND_WRITE = 3, PRIVATE_ANONYMOUS = 0x22 }; /* PROT_*, MAP_* */

ALWAYS int64_t map(uint64_t bytes) {
    return call6(__NR_mmap, 0, bytes, READ_AND_WRITE, PRIVATE_ANONYMOUS, (uint64_t)-1, 0);
}

/* Maps and unmaps a0 bytes, with a store into the first word in between where `touch`. */
ALWAYS uint64_t map_and_unmap(struct kernel_block *block, bool touch) {
    const uint64_t bytes = block->arguments[0];
    int64_t address = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0 && block->error == 0; left--) {
            address = map(bytes);
            block->error = address < 0 && address > -4096 ? (uint64_t)-address : 0;
            if (block->error == 0 && touch)
                *(volatile uint64_t *)(uintptr_t)address = left;
            if (block->error == 0)
                block->error = error_of(call4(__NR_munmap, (uint64_t)address, bytes, 0, 0));
        }
    }
    finish(block);
    return (uint64_t)address;
}

/* One iteration: a0 bytes of anonymous memory are mapped and unmapped, untouched. Result: their last address.
 */
KERNEL uint64_t vprobe_map_unmap(struct kernel_block *block) {
    return map_and_unmap(block, false);
}

/* One iteration: the same with a store into the first page, so that a translation is there to be shot down.
 */
KERNEL uint64_t vprobe_map_touch_unmap(struct kernel_block *block) {
    return map_and_unmap(block, true);
}

/* One iteration: the first page of the memory is made read-only and writable again, and written to. */
KERNEL uint64_t vprobe_protect(struct kernel_block *block) {
    volatile uint64_t *const word = (volatile uint64_t *)(uintptr_t)block->memory;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0 && block->error == 0; left--) {
            block->error = error_of(call4(__NR_mprotect, block->memory, block->page_bytes, READ_ONLY, 0));
            if (block->error == 0)
                block->error =
                    error_of(call4(__NR_mprotect, block->memory, block->page_bytes, READ_AND_WRITE, 0));
            if (block->error == 0)
                *word = left;
        }
    }
    finish(block);
    return *word;
}

#endif
