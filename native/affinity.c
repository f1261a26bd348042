/* Moves the calling thread to one CPU and back. */
#include "vprobe_native.h"

#include <errno.h>
#include <sched.h>

struct affinity {
    cpu_set_t *set;
    size_t bytes;
};

/* The kernel refuses (EINVAL) a mask that is smaller than its own number of CPUs: grow until it fits. */
static int save_affinity(struct affinity *saved, struct failure *failure) {
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
        saved->bytes = CPU_ALLOC_SIZE(cpus);
        saved->set = CPU_ALLOC(cpus);
        if (saved->set == NULL)
            return fail_with(failure, "sched_getaffinity", ENOMEM);
        if (sched_getaffinity(0, saved->bytes, saved->set) == 0)
            return 0;
        CPU_FREE(saved->set);
        saved->set = NULL;
        if (errno != EINVAL)
            break;
    }
    return fail(failure, "sched_getaffinity");
}

static int restore_affinity(struct affinity *saved, struct failure *failure) {
    int status = sched_setaffinity(0, saved->bytes, saved->set);
    if (status == -1)
        fail(failure, "sched_setaffinity (restoring)");
    CPU_FREE(saved->set);
    saved->set = NULL;
    return status;
}

/* EINVAL from the kernel: the CPU does not exist, is offline, or the cpuset does not permit it. */
static int move_to_cpu(uint64_t cpu, struct failure *failure) {
    cpu_set_t *one = CPU_ALLOC(cpu + 1);
    if (one == NULL)
        return fail_with(failure, "sched_setaffinity", ENOMEM);
    size_t bytes = CPU_ALLOC_SIZE(cpu + 1);
    CPU_ZERO_S(bytes, one);
    CPU_SET_S(cpu, bytes, one);
    int status = sched_setaffinity(0, bytes, one);
    if (status == -1)
        fail(failure, "sched_setaffinity");
    CPU_FREE(one);
    return status;
}

int on_cpu(uint64_t cpu, void (*read)(void *), void *context) {
    struct failure failure = {0};
    struct affinity saved = {0};
    int status;
    Py_BEGIN_ALLOW_THREADS;
    status = save_affinity(&saved, &failure);
    if (status == 0) {
        status = move_to_cpu(cpu, &failure);
        if (status == 0)
            read(context);
        if (restore_affinity(&saved, &failure) == -1)
            status = -1;
    }
    Py_END_ALLOW_THREADS;
    if (status == -1)
        raise_failure(&failure);
    return status;
}
