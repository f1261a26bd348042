/* How late a sleeper wakes: a periodic sleep to absolute times, as cyclictest (rt-tests) does it. */
#include "vprobe_native.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_WAKE_UPS = 100000 };
#define NS_PER_S 1000000000u

static struct timespec at_ns(uint64_t ns) {
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

/* Each period begins where the one before ended by the clock, not where its sleeper woke. A period that was
 * slept through whole is not caught up with: the next one begins after now. */
static int sleep_periods(uint64_t period_ns, uint64_t count, uint64_t *late_ns, struct failure *failure) {
    uint64_t due = clock_ns() + period_ns;
    for (uint64_t i = 0; i < count; i++) {
        struct timespec until = at_ns(due);
        int number = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        if (number != 0)
            return fail_with(failure, "clock_nanosleep", number);
        uint64_t now = clock_ns();
        late_ns[i] = now - due;
        do
            due += period_ns;
        while (due <= now);
    }
    return 0;
}

static PyObject *to_list(const uint64_t *numbers, uint64_t count) {
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (uint64_t i = 0; list != NULL && i < count; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(numbers[i]);
        if (number == NULL || PyList_SetItem(list, (Py_ssize_t)i, number) == -1)
            Py_CLEAR(list);
    }
    return list;
}

PyObject *native_wake_up_latencies(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *period, *number, *result = NULL;
    uint64_t period_ns, count;
    struct failure failure = {0};
    int status;
    if (!PyArg_ParseTuple(args, "OO:wake_up_latencies", &period, &number) ||
        to_bounded(period, "period_ns", 1000, NS_PER_S, &period_ns) == -1 ||
        to_bounded(number, "count", 1, MOST_WAKE_UPS, &count) == -1)
        return NULL;
    uint64_t *late_ns = malloc(count * sizeof *late_ns);
    if (late_ns == NULL)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS;
    status = sleep_periods(period_ns, count, late_ns, &failure);
    Py_END_ALLOW_THREADS;
    if (status == 0)
        result = to_list(late_ns, count);
    else if (failure.number != EINTR || PyErr_CheckSignals() == 0)
        raise_failure(&failure);
    free(late_ns);
    return result;
}
