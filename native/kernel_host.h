/* KernelHost and what it is made of: workload memory, a parameter block, and a way to execute a kernel. */
#ifndef VPROBE_KERNEL_HOST_H
#define VPROBE_KERNEL_HOST_H

#include "kernels.h"
#include "vprobe_native.h"

#include <sys/types.h>

enum { SMALL_PAGE = 4096, HUGE_PAGE = 2 << 20 };

/* --- memory.c ---------------------------------------------------------------------------------------- */

struct memory {
    uint8_t *address;    /* aligned to HUGE_PAGE; NULL if there is none */
    uint64_t bytes;      /* as asked for */
    uint64_t mapped;     /* rounded up to pages */
    uint64_t reserved;   /* of the mapping, which may be more: see memory_reuse() */
    uint64_t page_bytes; /* what was had */
};

int memory_map(struct memory *memory, uint64_t bytes, uint64_t page_bytes, struct failure *failure);
bool memory_reuse(struct memory *memory, uint64_t bytes); /* false: there is not so much */
void memory_unmap(struct memory *memory);
int memory_discard(const struct memory *memory, uint64_t offset, uint64_t length, struct failure *failure);
int memory_lay_cycle(const struct memory *memory, uint64_t offset, uint64_t length, uint64_t stride,
                     uint64_t seed, uint64_t seen_at, struct failure *failure);

/* --- kernel_table.c ---------------------------------------------------------------------------------- */

enum place { ANYWHERE, HOST_ONLY, GUEST_ONLY };

/* What a kernel needs: something in the memory, or of the CPU. */
enum need {
    NOTHING,
    CYCLE,
    ARRAYS,
    PAGES,
    TABLE,
    WORD,
    PAGE_OF_ITS_OWN,
    PEER,
    HANDLER,
    MATRICES,
    WIDE_REGISTERS,
    WIDE_MATRICES,
    PRIVILEGE,
};

struct kernel {
    const char *name;
    kernel_entry *entry;
    enum place place;
    enum need need;
};

const struct kernel *find_kernel(PyObject *name); /* or NULL */
uint64_t cpu_flags(void);                         /* enum kernel_flags of the CPU that this process runs on */

/* --- kernel_host.c ----------------------------------------------------------------------------------- */

/* What the memory holds: a cycle is destroyed by the kernels that write, and to read a stale one would be to
 * follow pointers to nowhere. */
enum content { BLANK, CYCLE_LAID, ARRAYS_FILLED, MATRICES_FILLED };

struct partner; /* partner.c */

struct host {
    PyObject_HEAD struct memory memory;
    struct kernel_block *block; /* NULL: closed, or never opened */
    uint64_t seen_at;           /* address of the memory as the kernels see it */
    enum content content;
    uint64_t cycle_offset, cycle_length;
    pid_t owner; /* process that opened it: a forked child has neither the memory nor the virtual machine */
    struct partner *partner; /* or NULL */
    bool busy;               /* a thread is at work on it with the GIL released */
    bool in_guest;
    bool privileged; /* the guest is at ring 0, and has an interrupt controller */
    int (*execute)(struct host *host, kernel_entry *entry); /* 0, or -1 with an exception */
    int (*populate)(
        struct host *host); /* has what runs the kernels map all memory; NULL: it is this process */
    void (*release)(struct host *host, bool inherited); /* frees block and what belongs to it */
};

int host_parse(PyObject *args, PyObject *keywords, bool in_guest, uint64_t *memory_bytes,
               uint64_t *page_bytes, PyObject **nonce, uint64_t *ring);
int host_check_unused(struct host *host);
int host_enter(struct host *host); /* 0, or -1 with ValueError: closed or busy */
void host_leave(struct host *host);
void host_fill_block(struct host *host);
void host_close(struct host *host);

/* --- system.c ---------------------------------------------------------------------------------------- */

volatile uint32_t *shared_futex_word(void); /* NULL before the first spawn_futex_echo() */

/* --- partner.c --------------------------------------------------------------------------------------- */

/* All of them take NULL for nobody. */
void partner_begin(struct partner *partner); /* returns when the partner is at work */
void partner_end(struct partner *partner);   /* returns when it is not */
bool partner_writes(const struct partner *partner);
void partner_free(struct partner *partner, bool inherited);

/* --- run.c, host_memory.c, partner.c: methods of KernelHost
 * ----------------------------------------------------- */

int check_range(uint64_t offset, uint64_t length, uint64_t end); /* 0, or -1 with ValueError */
PyObject *host_run(PyObject *self, PyObject *args);
PyObject *host_build_chase(PyObject *self, PyObject *args);
PyObject *host_discard(PyObject *self, PyObject *args);
PyObject *host_reuse(PyObject *self, PyObject *args);
PyObject *host_start_partner(PyObject *self, PyObject *args);

#endif
