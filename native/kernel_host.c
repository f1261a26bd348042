/* KernelHost: runs kernels natively, in this process. MicroVM (microvm.c) builds on it. */
#include "kernel_host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* --- life -------------------------------------------------------------------------------------------- */

int host_parse(PyObject *args, PyObject *keywords, bool in_guest, uint64_t *memory_bytes,
               uint64_t *page_bytes, PyObject **nonce, uint64_t *ring) {
    static char *names[] = {"memory_bytes", "page_bytes", "nonce", "ring", NULL};
    static char *host_names[] = {"memory_bytes", "page_bytes", NULL};
    PyObject *memory_object, *page_object = NULL, *ring_object = NULL;
    int parsed = in_guest ? PyArg_ParseTupleAndKeywords(args, keywords, "O|OOO:MicroVM", names,
                                                        &memory_object, &page_object, nonce, &ring_object)
                          : PyArg_ParseTupleAndKeywords(args, keywords, "O|O:KernelHost", host_names,
                                                        &memory_object, &page_object);
    *page_bytes = SMALL_PAGE;
    if (!parsed || to_bounded(memory_object, "memory_bytes", 0, INT64_MAX / 2, memory_bytes) == -1 ||
        (page_object != NULL && to_uint64(page_object, "page_bytes", page_bytes) == -1))
        return -1;
    if (ring_object != NULL && (to_uint64(ring_object, "ring", ring) == -1 || (*ring != 0 && *ring != 3))) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "ring: must be 0 or 3");
        return -1;
    }
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

/* In a forked child the memory never was (MADV_DONTFORK): something else may lie at its address by now. */
void host_close(struct host *host) {
    bool inherited = host->block != NULL && host->owner != getpid();
    partner_free(host->partner, inherited);
    host->partner = NULL;
    if (host->block != NULL)
        host->release(host, inherited);
    host->block = NULL;
    if (inherited)
        host->memory.address = NULL;
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
    block->random = 88172645463325252u; /* Marsaglia's own start */
    block->clock = clock_ticks;
    block->clock_gettime = clock_gettime;
    block->getppid = getppid;
    host->owner = getpid();
    host->content = BLANK;
}

static void release_block(struct host *host, bool inherited) {
    (void)inherited; /* the heap was copied */
    free(host->block);
}

static int execute_here(struct host *host, kernel_entry *entry) {
    Py_BEGIN_ALLOW_THREADS;
    partner_begin(host->partner);
    host->block->result = entry(host->block);
    partner_end(host->partner);
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
    host->populate = NULL;
    host->release = release_block;
    host_fill_block(host);
    block->flags = cpu_flags();
    return 0;
}

static int host_init(PyObject *self, PyObject *args, PyObject *keywords) {
    struct host *host = (struct host *)self;
    uint64_t memory_bytes, page_bytes;
    struct failure failure = {0};
    int status;
    if (host_parse(args, keywords, false, &memory_bytes, &page_bytes, NULL, NULL) == -1 ||
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

/* --- entering and leaving ---------------------------------------------------------------------------- */

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

/* --- the type ---------------------------------------------------------------------------------------- */

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
    {"reuse", host_reuse, METH_VARARGS, "reuse(memory_bytes)"},
    {"start_partner", host_start_partner, METH_VARARGS, "start_partner(kernel, cpu)"},
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
