/* What it costs to make a virtual machine, step by step. */
#include "machine.h"

#if defined(VPROBE_X86)

#include <errno.h>
#include <unistd.h>

static int time_create_vm(int kvm, uint64_t *ns, struct failure *failure) {
    uint64_t start = clock_ns();
    int vm = kvm_create_vm(kvm, failure);
    *ns += clock_ns() - start;
    if (vm == -1)
        return -1;
    close(vm);
    return 0;
}

static int time_create_vcpu(int kvm, uint64_t *ns, struct failure *failure) {
    int vm = kvm_create_vm(kvm, failure);
    if (vm == -1)
        return -1;
    uint64_t start = clock_ns();
    int vcpu = kvm_create_vcpu(vm, failure);
    *ns += clock_ns() - start;
    if (vcpu != -1)
        close(vcpu);
    close(vm);
    return vcpu == -1 ? -1 : 0;
}

/* A slot added to a VM that has one already. */
static int time_memory_slot(int kvm, uint64_t *ns, struct failure *failure) {
    static _Alignas(4096) uint8_t page[2 * 4096];
    int vm = kvm_create_vm(kvm, failure);
    if (vm == -1)
        return -1;
    int status = kvm_set_memory(vm, 0, 0, page, 4096, failure);
    uint64_t start = clock_ns();
    if (status == 0)
        status = kvm_set_memory(vm, 1, GUEST_MEMORY, page + 4096, 4096, failure);
    *ns += clock_ns() - start;
    close(vm);
    return status;
}

static int create_machine(struct machine *machine, struct failure *failure) {
    static const uint32_t nonce[3] = {0, 0, 0};
    const struct layout layout = {0, 4096, false};
    return machine_create(machine, NULL, &layout, nonce, failure);
}

static int run_first_instruction(struct machine *machine, struct failure *failure) {
    enum outcome outcome;
    do
        outcome = machine_continue(machine, failure);
    while (outcome == INTERRUPTED);
    if (outcome == UNEXPECTED)
        return fail_with(failure, "KVM_RUN (first instruction)", EIO);
    return outcome == FINISHED ? 0 : -1;
}

/* From the first KVM_RUN of a new machine to the exit of its first OUT. */
static int time_first_instruction(int kvm, uint64_t *ns, struct failure *failure) {
    (void)kvm;
    struct machine machine;
    if (create_machine(&machine, failure) == -1)
        return -1;
    uint64_t start = clock_ns();
    int status = run_first_instruction(&machine, failure);
    *ns += clock_ns() - start;
    machine_destroy(&machine);
    return status;
}

/* The end of a machine that has run: its descriptors closed, its memory unmapped. */
static int time_destroy(int kvm, uint64_t *ns, struct failure *failure) {
    (void)kvm;
    struct machine machine;
    if (create_machine(&machine, failure) == -1)
        return -1;
    int status = run_first_instruction(&machine, failure);
    uint64_t start = clock_ns();
    machine_destroy(&machine);
    *ns += clock_ns() - start;
    return status;
}

typedef int timed_step(int kvm, uint64_t *ns, struct failure *failure);

static timed_step *find_step(PyObject *operation) {
    static const struct {
        const char *name;
        timed_step *step;
    } steps[] = {{"create_vm", time_create_vm},
                 {"create_vcpu", time_create_vcpu},
                 {"memory_slot", time_memory_slot},
                 {"first_instruction", time_first_instruction},
                 {"destroy", time_destroy}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (PyUnicode_CompareWithASCIIString(operation, steps[i].name) == 0)
            return steps[i].step;
    return NULL;
}

static PyObject *repeat(timed_step *step, uint64_t repetitions) {
    struct failure failure = {0};
    uint64_t ns = 0;
    int status = 0, kvm = kvm_open(&failure);
    if (kvm == -1)
        return raise_failure(&failure);
    for (uint64_t i = 0; i < repetitions && status == 0; i++) {
        Py_BEGIN_ALLOW_THREADS;
        status = step(kvm, &ns, &failure);
        Py_END_ALLOW_THREADS;
        if (status == -1)
            raise_failure(&failure);
        else
            status = PyErr_CheckSignals();
    }
    close(kvm);
    return status == -1 ? NULL : PyLong_FromUnsignedLongLong(ns);
}

PyObject *native_time_microvm(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *name, *count;
    uint64_t repetitions;
    if (!PyArg_ParseTuple(args, "UO:time_microvm", &name, &count) ||
        to_bounded(count, "repetitions", 1, 1000000, &repetitions) == -1)
        return NULL;
    timed_step *step = find_step(name);
    if (step == NULL)
        return PyErr_Format(PyExc_ValueError, "time_microvm: no operation is named %R", name);
    return repeat(step, repetitions);
}

#else

PyObject *native_time_microvm(PyObject *module, PyObject *args) {
    (void)module, (void)args;
    return raise_not_x86("time_microvm");
}

#endif
