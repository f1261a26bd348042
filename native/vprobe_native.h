/* What the files of the extension share: the limited API, errors, arguments. No file but kernels.c lacks it.
 */
#ifndef VPROBE_NATIVE_H
#define VPROBE_NATIVE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03090000
#include "target.h"

#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

/* --- errors.c ---------------------------------------------------------------------------------------- */

/* A failed call. Code that runs without the GIL fills it in, its caller raises it. */
struct failure {
    int number;       /* errno */
    const char *call; /* name of the system call or ioctl */
    char path[64];    /* the file concerned, or "" */
};

int fail(struct failure *failure, const char *call); /* records errno; returns -1 */
int fail_with(struct failure *failure, const char *call, int number);
PyObject *raise_failure(const struct failure *failure); /* OSError "CALL: strerror"; returns NULL */
PyObject *raise_not_x86(const char *call);              /* NotImplementedError; returns NULL */

/* Converts a Python integer to uint64_t: ValueError that names the argument if it does not fit. 0 or -1. */
int to_uint64(PyObject *value, const char *name, uint64_t *result);
int to_bounded(PyObject *value, const char *name, uint64_t low, uint64_t high, uint64_t *result);

/* --- the functions of the module --------------------------------------------------------------------- */

PyObject *native_cpuid(PyObject *module, PyObject *args);
PyObject *native_cpuid_dump(PyObject *module, PyObject *args);
PyObject *native_read_msr(PyObject *module, PyObject *args);
PyObject *native_tsc(PyObject *module, PyObject *args);
PyObject *native_monotonic_ns(PyObject *module, PyObject *args);
PyObject *native_calibrate_tsc(PyObject *module, PyObject *args);
PyObject *native_kernels(PyObject *module, PyObject *args);
PyObject *native_kernel_code_hash(PyObject *module, PyObject *args);
PyObject *native_echo(PyObject *module, PyObject *args);
PyObject *native_spawn_echo(PyObject *module, PyObject *args);
PyObject *native_spawn_futex_echo(PyObject *module, PyObject *args);
PyObject *native_wake_up_latencies(PyObject *module, PyObject *args);
PyObject *native_time_microvm(PyObject *module, PyObject *args);

extern PyType_Spec kernel_host_spec;
extern PyType_Spec microvm_spec;

/* --- clock.c ----------------------------------------------------------------------------------------- */

uint64_t clock_ns(void); /* CLOCK_MONOTONIC */
uint64_t clock_ticks(void);

/* --- affinity.c -------------------------------------------------------------------------------------- */

/* Runs `read` on that CPU with the GIL released. The thread's affinity is as before on every way out; 0, or
 * -1 with OSError if the CPU does not exist, is offline or is not permitted. */
int on_cpu(uint64_t cpu, void (*read)(void *context), void *context);

#endif
