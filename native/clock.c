/* Reads of the clocks: the time-stamp counter, CLOCK_MONOTONIC, and one in terms of the other. */
#include "vprobe_native.h"

#include <errno.h>
#include <time.h>

static uint64_t read_clock(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_ns(void) {
    return read_clock(CLOCK_MONOTONIC);
}

/* LFENCE; RDTSC; LFENCE is in order on every CPU and asks no CPUID first (Intel SDM vol. 2B, RDTSC). */
uint64_t clock_ticks(void) {
#if defined(VPROBE_X86)
    uint32_t low, high;
    __asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
#else
    return read_clock(CLOCK_MONOTONIC_RAW);
#endif
}

PyObject *native_tsc(PyObject *module, PyObject *args) {
    (void)module, (void)args;
    return PyLong_FromUnsignedLongLong(clock_ticks());
}

PyObject *native_monotonic_ns(PyObject *module, PyObject *args) {
    (void)module, (void)args;
    return PyLong_FromUnsignedLongLong(clock_ns());
}

struct instant {
    uint64_t ns, ticks;
};

/* Both clocks at one time: of several brackets of a CLOCK_MONOTONIC read by two reads of the counter, the
 * narrowest. */
static struct instant both_clocks(void) {
    struct instant best = {0, 0};
    uint64_t narrowest = UINT64_MAX;
    for (int attempt = 0; attempt < 32; attempt++) {
        uint64_t before = clock_ticks(), ns = clock_ns(), width = clock_ticks() - before;
        if (width < narrowest) {
            narrowest = width;
            best = (struct instant){ns, before + width / 2};
        }
    }
    return best;
}

static void sleep_ns(uint64_t duration) {
    struct timespec left = {(time_t)(duration / 1000000000u), (long)(duration % 1000000000u)};
    while (nanosleep(&left, &left) == -1 && errno == EINTR)
        ;
}

PyObject *native_calibrate_tsc(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *argument = NULL;
    uint64_t duration = 20000000;
    if (!PyArg_ParseTuple(args, "|O:calibrate_tsc", &argument))
        return NULL;
    /* Below a microsecond the brackets decide the result; a minute is longer than anybody waits. */
    if (argument != NULL && to_bounded(argument, "duration_ns", 1000, 60000000000u, &duration) == -1)
        return NULL;
    struct instant start, end;
    Py_BEGIN_ALLOW_THREADS;
    start = both_clocks();
    sleep_ns(duration);
    end = both_clocks();
    Py_END_ALLOW_THREADS;
    return PyFloat_FromDouble((double)(end.ns - start.ns) / (double)(end.ticks - start.ticks));
}
