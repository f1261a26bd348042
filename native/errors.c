/* The one place that makes Python exceptions out of failed calls and unfit arguments. */
#include "vprobe_native.h"

#include <errno.h>
#include <string.h>

int fail_with(struct failure *failure, const char *call, int number) {
    failure->number = number;
    failure->call = call;
    return -1;
}

int fail(struct failure *failure, const char *call) {
    return fail_with(failure, call, errno);
}

PyObject *raise_failure(const struct failure *failure) {
    PyObject *text = PyUnicode_FromFormat("%s: %s", failure->call, strerror(failure->number));
    if (text == NULL)
        return NULL;
    /* OSError(errno, text[, path]) picks its own subclass by errno: PermissionError, FileNotFoundError ... */
    PyObject *error = failure->path[0]
                          ? PyObject_CallFunction(PyExc_OSError, "iOs", failure->number, text, failure->path)
                          : PyObject_CallFunction(PyExc_OSError, "iO", failure->number, text);
    Py_DECREF(text);
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return NULL;
}

PyObject *raise_not_x86(const char *call) {
    return PyErr_Format(PyExc_NotImplementedError, "%s: needs an x86_64 CPU, this build is for %s", call,
                        VPROBE_MACHINE);
}

int to_bounded(PyObject *value, const char *name, uint64_t low, uint64_t high, uint64_t *result) {
    if (!PyLong_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s: must be an integer", name);
        return -1;
    }
    uint64_t number = PyLong_AsUnsignedLongLong(value);
    bool misfit = number == UINT64_MAX && PyErr_Occurred();
    if (misfit)
        PyErr_Clear();
    if (misfit || number < low || number > high) {
        PyErr_Format(PyExc_ValueError, "%s: must be from %llu to %llu, not %R", name, (unsigned long long)low,
                     (unsigned long long)high, value);
        return -1;
    }
    *result = number;
    return 0;
}

int to_uint64(PyObject *value, const char *name, uint64_t *result) {
    return to_bounded(value, name, 0, UINT64_MAX, result);
}
