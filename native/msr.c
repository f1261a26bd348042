/* Model-specific registers, through the msr driver. */
#include "vprobe_native.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#if defined(VPROBE_X86)
static int read_register(uint64_t index, uint64_t *value, struct failure *failure) {
    int device = open(failure->path, O_RDONLY | O_CLOEXEC);
    if (device == -1)
        return fail(failure, "open");
    ssize_t got = pread(device, value, sizeof *value, (off_t)index);
    int number = got == -1 ? errno : EIO;
    close(device);
    return got == sizeof *value ? 0 : fail_with(failure, "pread", number);
}
#endif

PyObject *native_read_msr(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *arguments[2];
    uint64_t cpu, index;
    if (!PyArg_ParseTuple(args, "OO:read_msr", &arguments[0], &arguments[1]) ||
        to_bounded(arguments[0], "cpu", 0, INT32_MAX, &cpu) == -1 ||
        to_bounded(arguments[1], "index", 0, UINT32_MAX, &index) == -1)
        return NULL;
#if defined(VPROBE_X86)
    struct failure failure = {0};
    uint64_t value = 0;
    int status;
    snprintf(failure.path, sizeof failure.path, "/dev/cpu/%u/msr", (unsigned)cpu);
    Py_BEGIN_ALLOW_THREADS;
    status = read_register(index, &value, &failure); /* an interrupt to another CPU */
    Py_END_ALLOW_THREADS;
    return status == -1 ? raise_failure(&failure) : PyLong_FromUnsignedLongLong(value);
#else
    return raise_not_x86("read_msr");
#endif
}
