/* Glue only: the method table and the types. vprobe/_native.pyi is the contract. */
#include "vprobe_native.h"

static PyMethodDef functions[] = {
    {"cpuid", native_cpuid, METH_VARARGS, "cpuid(cpu, leaf, subleaf=0) -> (eax, ebx, ecx, edx)"},
    {"cpuid_dump", native_cpuid_dump, METH_VARARGS,
     "cpuid_dump(cpu) -> [(leaf, subleaf, eax, ebx, ecx, edx)]"},
    {"read_msr", native_read_msr, METH_VARARGS, "read_msr(cpu, index) -> value"},
    {"tsc", native_tsc, METH_NOARGS, "The time-stamp counter."},
    {"monotonic_ns", native_monotonic_ns, METH_NOARGS, "CLOCK_MONOTONIC in ns."},
    {"calibrate_tsc", native_calibrate_tsc, METH_VARARGS,
     "calibrate_tsc(duration_ns=20000000) -> ns per tick"},
    {"kernels", native_kernels, METH_NOARGS, "Names of the workload kernels."},
    {"kernel_code_hash", native_kernel_code_hash, METH_NOARGS, "SHA-256 of the kernels' loaded bytes."},
    {"spawn_futex_echo", native_spawn_futex_echo, METH_NOARGS, "spawn_futex_echo() -> pid"},
    {"wake_up_latencies", native_wake_up_latencies, METH_VARARGS,
     "wake_up_latencies(period_ns, count) -> [ns]"},
    {"echo", native_echo, METH_VARARGS, "echo(descriptor): give back what comes until the other side closes"},
    {"spawn_echo", native_spawn_echo, METH_NOARGS, "spawn_echo() -> (pid, write to, read from)"},
    {"time_microvm", native_time_microvm, METH_VARARGS, "time_microvm(operation, repetitions) -> ns"},
    {NULL, NULL, 0, NULL},
};

/* PyModule_AddObjectRef is not in the limited API of Python 3.9, which agents on other machines may have. */
static int add_object(PyObject *module, const char *name, PyObject *object) {
    Py_INCREF(object);
    int status = PyModule_AddObject(module, name, object);
    if (status == -1)
        Py_DECREF(object);
    return status;
}

static int add_types(PyObject *module) {
    PyObject *host = PyType_FromModuleAndSpec(module, &kernel_host_spec, NULL);
    if (host == NULL)
        return -1;
    PyObject *microvm = PyType_FromModuleAndSpec(module, &microvm_spec, host);
    int status = microvm == NULL ? -1 : add_object(module, "KernelHost", host);
    if (status == 0)
        status = add_object(module, "MicroVM", microvm);
    Py_XDECREF(microvm);
    Py_DECREF(host);
    return status;
}

static int fill_module(PyObject *module) {
    return PyModule_AddStringConstant(module, "MACHINE", VPROBE_MACHINE) == -1 ? -1 : add_types(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fill_module},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,  .m_name = "_native", .m_doc = "Raw reads and tight timed loops. Python decodes.",
    .m_methods = functions, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void) {
    return PyModuleDef_Init(&definition);
}
