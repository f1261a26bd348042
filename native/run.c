/* KernelHost.run: checks what a kernel needs, runs it, reads the block. */
#include "kernel_host.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static int prepare_cycle(const struct host *host) {
    if (host->content == CYCLE_LAID)
        return 0;
    PyErr_SetString(PyExc_ValueError, "chase: no cycle is laid, or it was written over; call build_chase");
    return -1;
}

static void fill_arrays(struct host *host, uint64_t lines) {
    double *memory = (double *)host->memory.address;
    for (uint64_t i = 0; i < lines * 3 * 8; i++)
        memory[i] = 1.0;
    host->block->stream_lines = lines;
    host->block->stream_position = 0;
    host->content = ARRAYS_FILLED;
}

/* Three arrays of a third each, cut so that the same element of two arrays never has the same page offset:
 * some CPUs take a load for dependent on an earlier store by its low 12 bits (Intel Optimization Manual, 4K
 * aliasing). */
static int prepare_arrays(struct host *host, const char *name) {
    enum { LINES_PER_PAGE = SMALL_PAGE / 64, STAGGER = LINES_PER_PAGE / 3 };
    uint64_t lines = host->memory.bytes / (3 * 64);
    if (lines < STAGGER) {
        PyErr_Format(PyExc_ValueError, "%s: needs a memory of at least %d bytes", name, 3 * 64 * STAGGER);
        return -1;
    }
    lines -= (lines - STAGGER) % LINES_PER_PAGE;
    if (host->content == ARRAYS_FILLED)
        return 0;
    /* Whatever lies there could be denormal numbers, which cost a hundred times as much. */
    Py_BEGIN_ALLOW_THREADS;
    fill_arrays(host, lines);
    Py_END_ALLOW_THREADS;
    return 0;
}

/* The table of RandomAccess: as many words as fit, a power of two. */
static int prepare_table(struct host *host) {
    uint64_t words = host->memory.bytes / sizeof(uint64_t);
    if (words == 0) {
        PyErr_SetString(PyExc_ValueError, "random_access: needs memory");
        return -1;
    }
    while (words & (words - 1))
        words &= words - 1;
    host->block->table_mask = words - 1;
    host->content = BLANK;
    return 0;
}

/* Three square matrices, each of as many blocks as fit; a and b of ones, c of zeros. */
static int prepare_matrices(struct host *host, const char *name) {
    enum { TILE_BYTES = MATRIX_TILE * MATRIX_TILE * sizeof(double) };
    struct kernel_block *block = host->block;
    uint64_t side = 0;
    while (3 * (side + 1) * (side + 1) * TILE_BYTES <= host->memory.bytes)
        side++;
    if (side == 0) {
        PyErr_Format(PyExc_ValueError, "%s: needs a memory of at least %d bytes", name, 3 * (int)TILE_BYTES);
        return -1;
    }
    if (host->content == MATRICES_FILLED)
        return 0;
    double *memory = (double *)host->memory.address;
    const uint64_t elements = side * side * MATRIX_TILE * MATRIX_TILE;
    for (uint64_t i = 0; i < 3 * elements; i++)
        memory[i] = i < 2 * elements ? 1.0 : 0.0;
    block->matrix_side = side;
    block->matrix_position = 0;
    host->content = MATRICES_FILLED;
    return 0;
}

static int prepare_word(struct host *host, const char *name) {
    if (host->memory.bytes < sizeof(uint64_t)) {
        PyErr_Format(PyExc_ValueError, "%s: needs memory", name);
        return -1;
    }
    host->content = BLANK;
    return 0;
}

static int prepare_peer(struct host *host, const char *name) {
    host->block->shared_word = shared_futex_word();
    if (host->block->shared_word != NULL)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: nobody would answer; call spawn_futex_echo", name);
    return -1;
}

static int prepare_wide_registers(const struct host *host, const struct kernel *kernel) {
    if (host->block->flags & KERNEL_AVX2)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: AVX2 is not to be had %s", kernel->name,
                 host->in_guest ? "in this guest" : "here");
    return -1;
}

static int prepare_pages(struct host *host) {
    const struct kernel_block *block = host->block;
    uint64_t pages, bytes, warm = block->iterations[WARM], timed = block->iterations[TIMED];
    uint64_t offset = block->arguments[0];
    if (__builtin_add_overflow(warm, timed, &pages) ||
        __builtin_mul_overflow(pages, host->memory.page_bytes, &bytes))
        bytes = UINT64_MAX;
    if (check_range(offset, bytes, host->memory.mapped) == -1)
        return -1;
    if (offset % sizeof(uint64_t) != 0) {
        PyErr_SetString(PyExc_ValueError, "touch: a0 must be a multiple of 8");
        return -1;
    }
    if (bytes != 0)
        host->content = BLANK;
    return 0;
}

static int prepare(struct host *host, const struct kernel *kernel) {
    bool elsewhere = kernel->place == (host->in_guest ? HOST_ONLY : GUEST_ONLY);
    if (elsewhere) {
        PyErr_Format(PyExc_ValueError, "%s: runs %s only", kernel->name,
                     host->in_guest ? "on the host, in a KernelHost," : "in a guest, in a MicroVM,");
        return -1;
    }
    switch (kernel->need) {
    case CYCLE:
        return prepare_cycle(host);
    case ARRAYS:
        return prepare_arrays(host, kernel->name);
    case PAGES:
        return prepare_pages(host);
    case TABLE:
        return prepare_table(host);
    case PAGE_OF_ITS_OWN:
        if (partner_writes(host->partner)) {
            PyErr_Format(PyExc_ValueError, "%s: the partner would write to a page that is read-only",
                         kernel->name);
            return -1;
        }
        return prepare_word(host, kernel->name);
    case WORD:
        return prepare_word(host, kernel->name);
    case PEER:
        return prepare_peer(host, kernel->name);
    case MATRICES:
        return prepare_matrices(host, kernel->name);
    case WIDE_MATRICES:
        return prepare_wide_registers(host, kernel) == -1 ? -1 : prepare_matrices(host, kernel->name);
    case WIDE_REGISTERS:
        return prepare_wide_registers(host, kernel);
    case PRIVILEGE:
        if (host->privileged)
            return 0;
        PyErr_Format(PyExc_ValueError, "%s: runs in a MicroVM at ring 0 only", kernel->name);
        return -1;
    case HANDLER: /* execute() has it installed for as long as the kernel runs */
    case NOTHING:
        break;
    }
    return 0;
}

/* The handler is the process's own again when the kernel has run: Python knows nothing of it. */
static volatile uint64_t signals_caught;

static void catch_signal(int number) {
    (void)number;
    signals_caught++;
}

static int execute(struct host *host, const struct kernel *kernel) {
    struct sigaction ours = {.sa_handler = catch_signal, .sa_flags = SA_RESTART}, before;
    if (kernel->need != HANDLER)
        return host->execute(host, kernel->entry);
    signals_caught = 0;
    host->block->signal_number = SIGUSR1;
    host->block->signals_caught = &signals_caught;
    sigaction(SIGUSR1, &ours, &before);
    int status = host->execute(host, kernel->entry);
    sigaction(SIGUSR1, &before, NULL);
    return status;
}

static int check_result(const struct host *host, const struct kernel *kernel) {
    uint64_t number = host->block->error;
    if (number == 0)
        return 0;
    /* An interrupted system call is most often Ctrl-C. */
    if (number != EINTR || PyErr_CheckSignals() == 0) {
        struct failure failure = {.number = (int)number, .call = kernel->name};
        raise_failure(&failure);
    }
    return -1;
}

static PyObject *run_kernel(struct host *host, const struct kernel *kernel, const uint64_t numbers[6]) {
    struct kernel_block *block = host->block;
    memcpy(block->iterations, numbers, 2 * sizeof *numbers);
    memcpy(block->arguments, numbers + 2, 4 * sizeof *numbers);
    block->error = 0;
    if (prepare(host, kernel) == -1 || execute(host, kernel) == -1 || check_result(host, kernel) == -1)
        return NULL;
    return Py_BuildValue("(KK)", (unsigned long long)(block->ticks[PHASES] - block->ticks[TIMED]),
                         (unsigned long long)block->result);
}

PyObject *host_run(PyObject *self, PyObject *args) {
    static const char *const names[6] = {"warm", "timed", "a0", "a1", "a2", "a3"};
    struct host *host = (struct host *)self;
    PyObject *name, *objects[6] = {NULL};
    uint64_t numbers[6] = {0};
    if (!PyArg_ParseTuple(args, "UOO|OOOO:run", &name, &objects[0], &objects[1], &objects[2], &objects[3],
                          &objects[4], &objects[5]))
        return NULL;
    for (int i = 0; i < 6; i++)
        if (objects[i] != NULL && to_uint64(objects[i], names[i], &numbers[i]) == -1)
            return NULL;
    const struct kernel *kernel = find_kernel(name);
    if (kernel == NULL)
        return PyErr_Format(PyExc_ValueError, "run: no kernel is named %R", name);
    if (host_enter(host) == -1)
        return NULL;
    PyObject *result = run_kernel(host, kernel, numbers);
    host_leave(host);
    return result;
}
