/* MicroVM: the kernels in a virtual machine. */
#include "kernel_host.h"
#include "machine.h"

#if defined(VPROBE_X86)

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct microvm {
    struct host host;
    struct machine machine;
    bool astray; /* the guest stopped within a kernel: it must start anew from its entry point */
};

/* --- errors ------------------------------------------------------------------------------------------ */

static const char *exit_name(uint32_t reason) {
    static const char *const names[] = {
        [KVM_EXIT_UNKNOWN] = "unknown",
        [KVM_EXIT_EXCEPTION] = "exception",
        [KVM_EXIT_IO] = "io",
        [KVM_EXIT_HYPERCALL] = "hypercall",
        [KVM_EXIT_DEBUG] = "debug",
        [KVM_EXIT_HLT] = "hlt",
        [KVM_EXIT_MMIO] = "mmio",
        [KVM_EXIT_SHUTDOWN] = "shutdown",
        [KVM_EXIT_FAIL_ENTRY] = "fail entry",
        [KVM_EXIT_INTR] = "interrupted",
        [KVM_EXIT_INTERNAL_ERROR] = "internal error",
    };
    const char *name = reason < sizeof names / sizeof names[0] ? names[reason] : NULL;
    return name == NULL ? "other" : name;
}

static void raise_unexpected(const struct machine *machine) {
    const struct kvm_run *run = machine->run;
    struct kvm_regs regs = {0};
    struct kvm_sregs sregs = {0};
    ioctl(machine->vcpu, KVM_GET_REGS, &regs);
    ioctl(machine->vcpu, KVM_GET_SREGS, &sregs);
    PyErr_Format(
        PyExc_RuntimeError,
        "KVM_RUN: the guest did not finish its kernel: exit %u (%s), rip %p, rsp %p, rax %p, rdi %p, "
        "cr2 %p, cs %x",
        run->exit_reason, exit_name(run->exit_reason), (void *)regs.rip, (void *)regs.rsp, (void *)regs.rax,
        (void *)regs.rdi, (void *)sregs.cr2, sregs.cs.selector);
}

/* --- execution --------------------------------------------------------------------------------------- */

/* Runs the guest to its next FINISH_PORT; Python's signal handlers run when it is interrupted. */
static int run_guest(struct microvm *vm) {
    struct failure failure = {0};
    enum outcome outcome;
    vm->astray = true;
    for (;;) {
        Py_BEGIN_ALLOW_THREADS;
        outcome = machine_continue(&vm->machine, &failure);
        Py_END_ALLOW_THREADS;
        if (outcome != INTERRUPTED)
            break;
        if (PyErr_CheckSignals() == -1)
            return -1;
    }
    if (outcome == FINISHED) {
        vm->astray = false;
        return 0;
    }
    if (outcome == FAILED)
        raise_failure(&failure);
    else
        raise_unexpected(&vm->machine);
    return -1;
}

/* After a Ctrl-C the vCPU stands somewhere in a kernel: back to the entry point, up to its first report. */
static int recover(struct microvm *vm) {
    struct failure failure = {0};
    if (!vm->astray)
        return 0;
    if (machine_reset(&vm->machine, &failure) == -1) {
        raise_failure(&failure);
        return -1;
    }
    return run_guest(vm);
}

static int execute_in_guest(struct host *host, kernel_entry *entry) {
    struct microvm *vm = (struct microvm *)host;
    if (recover(vm) == -1)
        return -1;
    host->block->entry = guest_address_of((const void *)entry);
    return run_guest(vm);
}

/* --- life -------------------------------------------------------------------------------------------- */

/* The host has populated the memory; KVM maps a page when the guest first touches it, which no block should
 * pay. */
static int populate(struct host *host) {
    struct kernel_block *block = host->block;
    memset(block->arguments, 0, sizeof block->arguments);
    block->iterations[WARM] = host->memory.mapped / host->memory.page_bytes;
    block->iterations[TIMED] = 0;
    return execute_in_guest(host, vprobe_touch);
}

static void release_machine(struct host *host, bool inherited) {
    struct microvm *vm = (struct microvm *)host;
    if (inherited)
        vm->machine.system = NULL; /* see host_close */
    machine_destroy(&vm->machine);
}

static int vm_open(struct microvm *vm, uint64_t memory_bytes, uint64_t page_bytes, const uint32_t nonce[3],
                   bool privileged, struct failure *failure) {
    struct host *host = &vm->host;
    if (memory_map(&host->memory, memory_bytes, page_bytes, failure) == -1)
        return -1;
    struct layout layout = {host->memory.mapped, host->memory.page_bytes, privileged};
    if (machine_create(&vm->machine, host->memory.address, &layout, nonce, failure) == -1) {
        memory_unmap(&host->memory);
        return -1;
    }
    host->in_guest = true;
    host->privileged = privileged;
    host->block = (struct kernel_block *)(vm->machine.system + GUEST_BLOCK);
    host->seen_at = GUEST_MEMORY;
    host->execute = execute_in_guest;
    host->populate = populate;
    host->release = release_machine;
    host_fill_block(host);
    host->block->flags = vm->machine.kernel_flags;
    return 0;
}

static int to_nonce(PyObject *object, uint32_t nonce[3]) {
    memset(nonce, 0, 12);
    if (object == NULL)
        return 0;
    PyObject *bytes =
        PyLong_Check(object) ? PyObject_CallMethod(object, "to_bytes", "is", 12, "little") : NULL;
    if (bytes == NULL) {
        PyErr_Clear();
        PyErr_SetString(PyExc_ValueError, "nonce: must be an integer from 0 to 2**96 - 1");
        return -1;
    }
    memcpy(nonce, PyBytes_AsString(bytes), 12);
    Py_DECREF(bytes);
    return 0;
}

static int vm_init(PyObject *self, PyObject *args, PyObject *keywords) {
    struct microvm *vm = (struct microvm *)self;
    uint64_t memory_bytes, page_bytes, ring = RING_USER;
    uint32_t nonce[3];
    PyObject *nonce_object = NULL;
    struct failure failure = {0};
    int status;
    if (host_parse(args, keywords, true, &memory_bytes, &page_bytes, &nonce_object, &ring) == -1 ||
        to_nonce(nonce_object, nonce) == -1 || host_check_unused(&vm->host) == -1)
        return -1;
    vm->host.busy = true;
    Py_BEGIN_ALLOW_THREADS;
    status = vm_open(vm, memory_bytes, page_bytes, nonce, ring == RING_KERNEL, &failure);
    Py_END_ALLOW_THREADS;
    vm->host.busy = false;
    if (status == -1) {
        raise_failure(&failure);
        return -1;
    }
    if (run_guest(vm) == 0 && populate(&vm->host) == 0) /* its first report proves that it runs */
        return 0;
    host_close(&vm->host);
    return -1;
}

/* --- evidence ---------------------------------------------------------------------------------------- */

static PyObject *seen_nonce(const uint64_t *seen) {
    uint32_t words[3] = {(uint32_t)seen[SEEN_NONCE_0], (uint32_t)seen[SEEN_NONCE_1],
                         (uint32_t)seen[SEEN_NONCE_2]};
    return PyObject_CallMethod((PyObject *)&PyLong_Type, "from_bytes", "y#s", (const char *)words,
                               (Py_ssize_t)sizeof words, "little");
}

enum { SEEN = sizeof((struct kernel_block *)0)->seen / sizeof(uint64_t) };

static int look(struct microvm *vm, uint64_t seen[SEEN]) {
    int status = execute_in_guest(&vm->host, vprobe_evidence);
    memcpy(seen, vm->host.block->seen, SEEN * sizeof *seen);
    return status;
}

static int set_ring(struct microvm *vm, uint8_t ring) {
    struct failure failure = {0};
    int status = machine_set_ring(&vm->machine, ring, &failure);
    if (status == -1)
        raise_failure(&failure);
    return status;
}

/* Looks twice: at ring 3, where the kernels run, and at ring 0 for the nonce. Under kvm_pvm a CPUID of ring 3
 * never reaches KVM (the hypervisor below answers it as it answers the host), while one of ring 0 is emulated
 * by KVM. */
static int gather(struct microvm *vm, uint64_t user[SEEN], uint64_t kernel[SEEN]) {
    if (look(vm, user) == -1 || set_ring(vm, RING_KERNEL) == -1)
        return -1;
    int status = look(vm, kernel);
    if (status == 0)
        status = set_ring(vm, vm->host.privileged ? RING_KERNEL : RING_USER);
    if (status == -1)
        vm->astray = true; /* recover() brings it back to ring 3 */
    return status;
}

static PyObject *describe(const uint64_t *seen, const uint64_t *seen_by_kernel, uint64_t cr3) {
    PyObject *nonce = seen_nonce(seen_by_kernel);
    if (nonce == NULL)
        return NULL;
    char vendor[13] = "";
    memcpy(vendor, &seen[SEEN_VENDOR_0], 8);
    memcpy(vendor + 8, &seen[SEEN_VENDOR_1], 4);
    PyObject *text = PyUnicode_DecodeASCII(vendor, (Py_ssize_t)strlen(vendor), "backslashreplace");
    return Py_BuildValue("{sKsKsNsNsKsK}", "ring", seen[SEEN_CS] & 3, "cpuid_signature", seen[SEEN_SIGNATURE],
                         "cpuid_vendor", text, "nonce", nonce, "rip", seen[SEEN_RIP], "cr3_host", cr3);
}

static PyObject *vm_evidence(PyObject *self, PyObject *args) {
    (void)args;
    struct microvm *vm = (struct microvm *)self;
    struct kvm_sregs registers = {0};
    PyObject *result = NULL;
    if (host_enter(&vm->host) == -1)
        return NULL;
    uint64_t user[SEEN], kernel[SEEN];
    if (gather(vm, user, kernel) == 0) {
        ioctl(vm->machine.vcpu, KVM_GET_SREGS, &registers);
        result = describe(user, kernel, registers.cr3);
    }
    host_leave(&vm->host);
    return result;
}

static PyObject *get_exits(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromUnsignedLongLong(((struct microvm *)self)->machine.exits);
}

#else

struct microvm {
    struct host host;
};

static int vm_init(PyObject *self, PyObject *args, PyObject *keywords) {
    (void)self, (void)args, (void)keywords;
    raise_not_x86("MicroVM");
    return -1;
}

static PyObject *vm_evidence(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    return raise_not_x86("MicroVM.evidence");
}

static PyObject *get_exits(PyObject *self, void *closure) {
    (void)self, (void)closure;
    return raise_not_x86("MicroVM.exits");
}

#endif

/* --- the type ---------------------------------------------------------------------------------------- */

static PyGetSetDef properties[] = {
    {"exits", get_exits, NULL, "KVM exits to user space so far.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef methods[] = {
    {"evidence", vm_evidence, METH_NOARGS, "What guest code saw."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A virtual machine of one vCPU on /dev/kvm that runs the kernels."},
    {Py_tp_init, vm_init},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, NULL},
};

PyType_Spec microvm_spec = {
    .name = "vprobe._native.MicroVM",
    .basicsize = sizeof(struct microvm),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};
