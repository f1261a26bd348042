/* KernelHost's memory as Python handles it: lay a chase, give pages back. */
#include "kernel_host.h"

int check_range(uint64_t offset, uint64_t length, uint64_t end) {
    if (offset <= end && length <= end - offset)
        return 0;
    PyErr_Format(PyExc_ValueError, "%llu bytes at %llu leave the memory of %llu bytes",
                 (unsigned long long)length, (unsigned long long)offset, (unsigned long long)end);
    return -1;
}

static int check_chase(const struct host *host, uint64_t offset, uint64_t length, uint64_t stride) {
    if (check_range(offset, length, host->memory.bytes) == -1)
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

PyObject *host_build_chase(PyObject *self, PyObject *args) {
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
    if (check_range(offset, length, host->memory.mapped) == -1)
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

static int reuse(struct host *host, uint64_t bytes) {
    bool enough;
    Py_BEGIN_ALLOW_THREADS;
    partner_free(host->partner, false);
    host->partner = NULL;
    enough = memory_reuse(&host->memory, bytes);
    Py_END_ALLOW_THREADS;
    if (!enough) {
        PyErr_Format(PyExc_ValueError, "reuse: %llu bytes are more than the %llu that are there",
                     (unsigned long long)bytes, (unsigned long long)host->memory.reserved);
        return -1;
    }
    host_fill_block(host);
    return host->populate == NULL ? 0 : host->populate(host);
}

PyObject *host_reuse(PyObject *self, PyObject *args) {
    struct host *host = (struct host *)self;
    PyObject *object;
    uint64_t bytes;
    if (!PyArg_ParseTuple(args, "O:reuse", &object) ||
        to_bounded(object, "memory_bytes", 0, INT64_MAX / 2, &bytes) == -1 || host_enter(host) == -1)
        return NULL;
    int status = reuse(host, bytes);
    host_leave(host);
    if (status == -1)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *host_discard(PyObject *self, PyObject *args) {
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
