/* KernelHost: runs kernels natively, in this process. MicroVM (microvm.c) builds on it. */
#include "kernel_host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- life ------------------------------------------------------------------------------------------------
 */

int host_parse(PyObject *args, PyObject *keywords, bool in_guest, uint64_t *memory_bytes,
               uint64_t *page_bytes, PyObject **nonce) {
    static char *names[] = {"memory_bytes", "page_bytes", "nonce", NULL};
    static char *host_names[] = {"memory_bytes", "page_bytes", NULL};
    PyObject *memory_object, *page_object = NULL;
    int parsed = in_guest ? PyArg_ParseTupleAndKeywords(args, keywords, "O|OO:MicroVM", names, &memory_object,
                                                        &page_object, nonce)
                          : PyArg_ParseTupleAndKeywords(args, keywords, "O|O:KernelHost", host_names,
                                                        &memory_object, &page_object);
    *page_bytes = SMALL_PAGE;
    if (!parsed || to_bounded(memory_object, "memory_bytes", 0, INT64_MAX / 2, memory_bytes) == -1 ||
        (page_object != NULL && to_uint64(page_object, "page_bytes", page_bytes) == -1))
        return -1;
    if (*page_bytes != SMALL_PAGE && *page_bytes != HUGE_PAGE) {
        PyErr_Format(PyExc_ValueError, "page_bytes: must be %d or %d", SMALL_PAGE, HUGE_PAGE);
        return -1;
    }
    return 0;
}

/* __init__ called a second time starts anew, but not under a thread that is at work. */
int host_check_unused(struct host *host) {
    if (host->busy) {
        PyErr_SetString(PyExc_ValueError, "in use by another thread");
        return -1;
    }
    host_close(host);
    return 0;
}

void host_close(struct host *host) {
    if (host->block != NULL)
        host->release(host);
    host->block = NULL;
    memory_unmap(&host->memory);
}

/* Constants of the kernels. The multiplier is that of Knuth's MMIX generator: odd, with well-mixed bits. */
void host_fill_block(struct host *host) {
    struct kernel_block *block = host->block;
    block->memory = host->seen_at;
    block->page_bytes = host->memory.page_bytes;
    block->multiplier = 6364136223846793005u;
    block->addend = 1442695040888963407u;
    block->mask = 0x5851f42d4c957f2du;
    block->float_ratio = 0.5;
    block->float_addend = 1.0;
    block->stream_scale = 3.0;
    block->clock = clock_ticks;
    host->owner = getpid();
    host->content = BLANK;
}

static void release_block(struct host *host) {
    free(host->block);
}

static int execute_here(struct host *host, kernel_entry *entry) {
    Py_BEGIN_ALLOW_THREADS;
    host->block->result = entry(host->block);
    Py_END_ALLOW_THREADS;
    return 0;
}

static int host_open(struct host *host, uint64_t memory_bytes, uint64_t page_bytes, struct failure *failure) {
    if (memory_map(&host->memory, memory_bytes, page_bytes, failure) == -1)
        return -1;
    struct kernel_block *block = aligned_alloc(SMALL_PAGE, SMALL_PAGE);
    if (block == NULL) {
        memory_unmap(&host->memory);
        return fail_with(failure, "aligned_alloc", ENOMEM);
    }
    memset(block, 0, SMALL_PAGE);
    host->block = block;
    host->seen_at = (uint64_t)(uintptr_t)host->memory.address;
    host->execute = execute_here;
    host->release = release_block;
    host_fill_block(host);
    block->flags = cpu_has_rdtscp() ? KERNEL_RDTSCP : 0;
    return 0;
}

static int host_init(PyObject *self, PyObject *args, PyObject *keywords) {
    struct host *host = (struct host *)self;
    uint64_t memory_bytes, page_bytes;
    struct failure failure = {0};
    int status;
    if (host_parse(args, keywords, false, &memory_bytes, &page_bytes, NULL) == -1 ||
        host_check_unused(host) == -1)
        return -1;
    host->busy = true; /* populating takes time: no other thread may come in between */
    Py_BEGIN_ALLOW_THREADS;
    status = host_open(host, memory_bytes, page_bytes, &failure);
    Py_END_ALLOW_THREADS;
    host->busy = false;
    if (status == -1)
        raise_failure(&failure);
    return status;
}

static void host_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    host_close((struct host *)self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* --- entering and leaving --------------------------------------------------------------------------------
 */

int host_enter(struct host *host) {
    const char *why = NULL;
    if (host->busy)
        why = "in use by another thread";
    else if (host->block == NULL)
        why = "closed";
    else if (host->owner != getpid())
        why = "belongs to the process that opened it, not to a fork";
    if (why != NULL) {
        PyErr_SetString(PyExc_ValueError, why);
        return -1;
    }
    host->busy = true;
    return 0;
}

void host_leave(struct host *host) {
    host->busy = false;
}

static int check_range(const struct host *host, uint64_t offset, uint64_t length, uint64_t end) {
    (void)host;
    if (offset <= end && length <= end - offset)
        return 0;
    PyErr_Format(PyExc_ValueError, "%llu bytes at %llu leave the memory of %llu bytes",
                 (unsigned long long)length, (unsigned long long)offset, (unsigned long long)end);
    return -1;
}

/* --- run -------------------------------------------------------------------------------------------------
 */

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
static int prepare_arrays(struct host *host) {
    enum { LINES_PER_PAGE = SMALL_PAGE / 64, STAGGER = LINES_PER_PAGE / 3 };
    uint64_t lines = host->memory.bytes / (3 * 64);
    if (lines < STAGGER) {
        PyErr_Format(PyExc_ValueError, "triad: needs a memory of at least %d bytes", 3 * 64 * STAGGER);
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

static int prepare_pages(struct host *host) {
    const struct kernel_block *block = host->block;
    uint64_t pages, bytes, warm = block->iterations[WARM], timed = block->iterations[TIMED];
    uint64_t offset = block->arguments[0];
    if (__builtin_add_overflow(warm, timed, &pages) ||
        __builtin_mul_overflow(pages, host->memory.page_bytes, &bytes))
        bytes = UINT64_MAX;
    if (check_range(host, offset, bytes, host->memory.mapped) == -1)
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
        return prepare_arrays(host);
    case PAGES:
        return prepare_pages(host);
    case NOTHING:
        break;
    }
    return 0;
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
    if (prepare(host, kernel) == -1 || host->execute(host, kernel->entry) == -1 ||
        check_result(host, kernel) == -1)
        return NULL;
    return Py_BuildValue("(KK)", (unsigned long long)(block->ticks[PHASES] - block->ticks[TIMED]),
                         (unsigned long long)block->result);
}

static PyObject *host_run(PyObject *self, PyObject *args) {
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
    const char *text = PyUnicode_AsUTF8AndSize(name, NULL);
    const struct kernel *kernel = text == NULL ? NULL : find_kernel(text);
    if (text == NULL)
        return NULL;
    if (kernel == NULL)
        return PyErr_Format(PyExc_ValueError, "run: no kernel is named %R", name);
    if (host_enter(host) == -1)
        return NULL;
    PyObject *result = run_kernel(host, kernel, numbers);
    host_leave(host);
    return result;
}

/* --- memory ----------------------------------------------------------------------------------------------
 */

static int check_chase(const struct host *host, uint64_t offset, uint64_t length, uint64_t stride) {
    if (check_range(host, offset, length, host->memory.bytes) == -1)
        return -1;
    const char *why = NULL;
    if (offset % sizeof(void *) != 0)
        why = "build_chase: offset must be a multiple of the size of a pointer";
    else if (stride < sizeof(void *) || stride % sizeof(void *) != 0)
        why = "build_chase: stride must be a positive multiple of the size of a pointer";
    else if (length / stride < 2)
        why = "build_chase: length must hold at least two strides";
    if (why != NULL)
        PyErr_SetString(PyExc_ValueError, why);
    return why == NULL ? 0 : -1;
}

static int build_chase(struct host *host, uint64_t offset, uint64_t length, uint64_t stride, uint64_t seed) {
    struct failure failure = {0};
    int status;
    if (check_chase(host, offset, length, stride) == -1)
        return -1;
    Py_BEGIN_ALLOW_THREADS;
    status = memory_lay_cycle(&host->memory, offset, length, stride, seed, host->seen_at, &failure);
    Py_END_ALLOW_THREADS;
    if (status == -1) {
        raise_failure(&failure);
        return -1;
    }
    host->content = CYCLE_LAID;
    host->cycle_offset = offset;
    host->cycle_length = length;
    host->block->chase = host->seen_at + offset;
    return 0;
}

static PyObject *host_build_chase(PyObject *self, PyObject *args) {
    struct host *host = (struct host *)self;
    PyObject *objects[4];
    uint64_t offset, length, stride, seed;
    if (!PyArg_ParseTuple(args, "OOOO:build_chase", &objects[0], &objects[1], &objects[2], &objects[3]) ||
        to_uint64(objects[0], "offset", &offset) == -1 || to_uint64(objects[1], "length", &length) == -1 ||
        to_uint64(objects[2], "stride", &stride) == -1 || to_uint64(objects[3], "seed", &seed) == -1 ||
        host_enter(host) == -1)
        return NULL;
    int status = build_chase(host, offset, length, stride, seed);
    host_leave(host);
    if (status == -1)
        return NULL;
    Py_RETURN_NONE;
}

static int discard(struct host *host, uint64_t offset, uint64_t length) {
    struct failure failure = {0};
    int status;
    if (check_range(host, offset, length, host->memory.mapped) == -1)
        return -1;
    if (offset % host->memory.page_bytes != 0 || length % host->memory.page_bytes != 0) {
        PyErr_Format(PyExc_ValueError, "discard: offset and length must be multiples of %d",
                     (int)host->memory.page_bytes);
        return -1;
    }
    bool spares_cycle = host->content == CYCLE_LAID && (offset + length <= host->cycle_offset ||
                                                        host->cycle_offset + host->cycle_length <= offset);
    if (length != 0 && !spares_cycle)
        host->content = BLANK;
    Py_BEGIN_ALLOW_THREADS;
    status = memory_discard(&host->memory, offset, length, &failure);
    Py_END_ALLOW_THREADS;
    if (status == -1)
        raise_failure(&failure);
    return status;
}

static PyObject *host_discard(PyObject *self, PyObject *args) {
    struct host *host = (struct host *)self;
    PyObject *objects[2];
    uint64_t offset, length;
    if (!PyArg_ParseTuple(args, "OO:discard", &objects[0], &objects[1]) ||
        to_uint64(objects[0], "offset", &offset) == -1 || to_uint64(objects[1], "length", &length) == -1 ||
        host_enter(host) == -1)
        return NULL;
    int status = discard(host, offset, length);
    host_leave(host);
    if (status == -1)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *close_method(PyObject *self, PyObject *args) {
    (void)args;
    if (host_check_unused((struct host *)self) == -1)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *enter_method(PyObject *self, PyObject *args) {
    (void)args;
    return Py_NewRef(self);
}

/* --- the type --------------------------------------------------------------------------------------------
 */

static PyObject *get_memory_bytes(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromUnsignedLongLong(((struct host *)self)->memory.bytes);
}

static PyObject *get_page_bytes(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromUnsignedLongLong(((struct host *)self)->memory.page_bytes);
}

static PyObject *get_memory_address(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromUnsignedLongLong(((struct host *)self)->seen_at);
}

static PyGetSetDef properties[] = {
    {"memory_bytes", get_memory_bytes, NULL, "Bytes of workload memory, as asked for.", NULL},
    {"page_bytes", get_page_bytes, NULL, "Size of its pages, as had.", NULL},
    {"memory_address", get_memory_address, NULL, "Its address, as the kernels see it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef methods[] = {
    {"run", host_run, METH_VARARGS, "run(kernel, warm, timed, a0=0, a1=0, a2=0, a3=0) -> (ticks, result)"},
    {"build_chase", host_build_chase, METH_VARARGS, "build_chase(offset, length, stride, seed)"},
    {"discard", host_discard, METH_VARARGS, "discard(offset, length)"},
    {"close", close_method, METH_NOARGS, "Give everything back. Closing twice is fine."},
    {"__enter__", enter_method, METH_NOARGS, NULL},
    {"__exit__", close_method, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Runs kernels natively, in this process."},
    {Py_tp_init, host_init},
    {Py_tp_dealloc, host_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, NULL},
};

PyType_Spec kernel_host_spec = {
    .name = "vprobe._native.KernelHost",
    .basicsize = sizeof(struct host),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};
