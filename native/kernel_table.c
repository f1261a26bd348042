/* Which kernels there are, where each may run and what it needs; and the identity of their code. */
#include "kernel_host.h"

#if defined(VPROBE_X86)
#include <cpuid.h>
#endif

static const struct kernel table[] = {
    {"integer_chain", vprobe_integer_chain, ANYWHERE, NOTHING},
    {"integer_throughput", vprobe_integer_throughput, ANYWHERE, NOTHING},
    {"float_chain", vprobe_float_chain, ANYWHERE, NOTHING},
    {"branches", vprobe_branches, ANYWHERE, NOTHING},
    {"vector_sse2", vprobe_vector_sse2, ANYWHERE, NOTHING},
    {"matrix_sse2", vprobe_matrix_sse2, ANYWHERE, MATRICES},
    {"chase", vprobe_chase, ANYWHERE, CYCLE},
    {"copy", vprobe_copy, ANYWHERE, ARRAYS},
    {"scale", vprobe_scale, ANYWHERE, ARRAYS},
    {"add", vprobe_add, ANYWHERE, ARRAYS},
    {"triad", vprobe_triad, ANYWHERE, ARRAYS},
    {"touch", vprobe_touch, ANYWHERE, PAGES},
    {"peek", vprobe_peek, ANYWHERE, PAGES},
    {"atomic", vprobe_atomic, ANYWHERE, WORD},
    {"gaps", vprobe_gaps, ANYWHERE, NOTHING},
    {"random_access", vprobe_random_access, ANYWHERE, TABLE},
#if defined(VPROBE_SYSCALLS)
    {"getpid", vprobe_getpid, HOST_ONLY, NOTHING},
    {"getppid", vprobe_getppid, HOST_ONLY, NOTHING},
    {"clock_gettime", vprobe_clock_gettime, HOST_ONLY, NOTHING},
    {"clock_call", vprobe_clock_call, HOST_ONLY, NOTHING},
    {"read", vprobe_read, HOST_ONLY, NOTHING},
    {"stat", vprobe_stat, HOST_ONLY, NOTHING},
    {"pipe_round_trip", vprobe_pipe_round_trip, HOST_ONLY, NOTHING},
    {"futex_round_trip", vprobe_futex_round_trip, HOST_ONLY, PEER},
    {"signal", vprobe_signal, HOST_ONLY, HANDLER},
    {"fork_wait", vprobe_fork_wait, HOST_ONLY, NOTHING},
    {"thread_create", vprobe_thread_create, HOST_ONLY, NOTHING},
    {"map_unmap", vprobe_map_unmap, HOST_ONLY, NOTHING},
    {"map_touch_unmap", vprobe_map_touch_unmap, HOST_ONLY, NOTHING},
    {"protect", vprobe_protect, HOST_ONLY, PAGE_OF_ITS_OWN},
#endif
#if defined(VPROBE_X86)
    {"vector_avx2", vprobe_vector_avx2, ANYWHERE, WIDE_REGISTERS},
    {"matrix_avx2", vprobe_matrix_avx2, ANYWHERE, WIDE_MATRICES},
    {"out", vprobe_out, GUEST_ONLY, NOTHING},
    {"in", vprobe_in, GUEST_ONLY, NOTHING},
    {"mmio", vprobe_mmio, GUEST_ONLY, NOTHING},
    {"cpuid", vprobe_cpuid, ANYWHERE, NOTHING},
    {"hypercall", vprobe_hypercall, GUEST_ONLY, NOTHING},
    {"rdmsr", vprobe_rdmsr, GUEST_ONLY, PRIVILEGE},
    {"wrmsr", vprobe_wrmsr, GUEST_ONLY, PRIVILEGE},
    {"self_ipi", vprobe_self_ipi, GUEST_ONLY, PRIVILEGE},
    {"halt", vprobe_halt, GUEST_ONLY, PRIVILEGE},
#endif
};

enum { KERNELS = sizeof table / sizeof table[0] };

const struct kernel *find_kernel(PyObject *name) {
    for (int i = 0; i < KERNELS; i++)
        if (PyUnicode_CompareWithASCIIString(name, table[i].name) == 0)
            return &table[i];
    return NULL;
}

uint64_t cpu_flags(void) {
    uint64_t flags = 0;
#if defined(VPROBE_X86)
    uint32_t eax, ebx, ecx, edx;
    if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) && (edx >> 27 & 1))
        flags |= KERNEL_RDTSCP;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) /* looks at XCR0, too */
        flags |= KERNEL_AVX2;
#endif
    return flags;
}

PyObject *native_kernels(PyObject *module, PyObject *args) {
    (void)module, (void)args;
    PyObject *names = PyTuple_New(KERNELS);
    for (int i = 0; names != NULL && i < KERNELS; i++) {
        PyObject *name = PyUnicode_FromString(table[i].name);
        if (name == NULL || PyTuple_SetItem(names, i, name) == -1)
            Py_CLEAR(names);
    }
    return names;
}

PyObject *native_kernel_code_hash(PyObject *module, PyObject *args) {
    (void)module, (void)args;
    PyObject *hashlib = PyImport_ImportModule("hashlib");
    if (hashlib == NULL)
        return NULL;
    Py_ssize_t size = kernels_end - kernels_begin;
    PyObject *hash = PyObject_CallMethod(hashlib, "sha256", "y#", (const char *)kernels_begin, size);
    Py_DECREF(hashlib);
    if (hash == NULL)
        return NULL;
    PyObject *text = PyObject_CallMethod(hash, "hexdigest", NULL);
    Py_DECREF(hash);
    return text;
}
