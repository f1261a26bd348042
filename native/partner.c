/* A partner: a thread on another CPU that runs a kernel of its own for as long as a kernel runs here. It
 * shares the host's memory, for `atomic`; between the runs it sleeps, so that it disturbs nobody else's
 * blocks. */
#include "kernel_host.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum command { SLEEP, WORK, END };
enum { BURST = 2000 }; /* iterations between two looks at the command: some microseconds */

struct partner {
    pthread_t thread;
    kernel_entry *entry;
    struct kernel_block *block;
    uint32_t command; /* enum command; a futex */
    bool writes;      /* to the memory */
    uint32_t working; /* whether a burst has begun since the last command */
};

static void tell(struct partner *partner, enum command command) {
    __atomic_store_n(&partner->command, command, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &partner->command, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *work(void *argument) {
    struct partner *partner = argument;
    for (;;) {
        enum command command = __atomic_load_n(&partner->command, __ATOMIC_SEQ_CST);
        if (command == END)
            return NULL;
        __atomic_store_n(&partner->working, command == WORK, __ATOMIC_SEQ_CST);
        if (command == SLEEP)
            syscall(SYS_futex, &partner->command, FUTEX_WAIT_PRIVATE, SLEEP, NULL, NULL, 0);
        else
            partner->block->result = partner->entry(partner->block);
    }
}

static void wait_until(const struct partner *partner, uint32_t working) {
    while (__atomic_load_n(&partner->working, __ATOMIC_SEQ_CST) != working)
        sched_yield(); /* where both CPUs are one, it must be let on */
}

bool partner_writes(const struct partner *partner) {
    return partner != NULL && partner->writes;
}

void partner_begin(struct partner *partner) {
    if (partner == NULL)
        return;
    tell(partner, WORK);
    wait_until(partner, 1);
}

void partner_end(struct partner *partner) {
    if (partner == NULL)
        return;
    tell(partner, SLEEP);
    wait_until(partner, 0);
}

void partner_free(struct partner *partner, bool inherited) {
    if (partner == NULL)
        return;
    if (!inherited) { /* a forked child has no such thread */
        tell(partner, END);
        pthread_join(partner->thread, NULL);
    }
    free(partner->block);
    free(partner);
}

static int start(struct partner *partner, uint64_t cpu) {
    pthread_attr_t attributes;
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    pthread_attr_init(&attributes);
    int number = pthread_attr_setaffinity_np(&attributes, sizeof only, &only);
    if (number == 0)
        number = pthread_create(&partner->thread, &attributes, work, partner);
    pthread_attr_destroy(&attributes);
    return number;
}

static struct partner *partner_new(const struct host *host, const struct kernel *kernel, uint64_t cpu,
                                   struct failure *failure) {
    struct partner *partner = calloc(1, sizeof *partner);
    struct kernel_block *block = aligned_alloc(SMALL_PAGE, SMALL_PAGE);
    int number = ENOMEM;
    if (partner != NULL && block != NULL) {
        memcpy(block, host->block, sizeof *block);
        block->iterations[WARM] = 0;
        block->iterations[TIMED] = BURST;
        partner->block = block;
        partner->entry = kernel->entry;
        partner->writes = kernel->need == WORD;
        number = start(partner, cpu);
    }
    if (number == 0)
        return partner;
    fail_with(failure, "pthread_create", number);
    free(block);
    free(partner);
    return NULL;
}

PyObject *host_start_partner(PyObject *self, PyObject *args) {
    struct host *host = (struct host *)self;
    struct failure failure = {0};
    PyObject *name, *number;
    uint64_t cpu;
    if (!PyArg_ParseTuple(args, "UO:start_partner", &name, &number) ||
        to_bounded(number, "cpu", 0, CPU_SETSIZE - 1, &cpu) == -1)
        return NULL;
    const struct kernel *kernel = find_kernel(name);
    bool fits = kernel != NULL && kernel->place == ANYWHERE &&
                (kernel->need == NOTHING || (kernel->need == WORD && host->memory.bytes >= sizeof(uint64_t)));
    if (!fits || host->in_guest)
        return PyErr_Format(PyExc_ValueError, "start_partner: %R cannot run beside a kernel here", name);
    if (host_enter(host) == -1)
        return NULL;
    partner_free(host->partner, false);
    host->partner = partner_new(host, kernel, cpu, &failure);
    host_leave(host);
    if (host->partner == NULL)
        return raise_failure(&failure);
    Py_RETURN_NONE;
}
