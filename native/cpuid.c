/* CPUID on a given CPU: one leaf, or every leaf and subleaf that the CPU reports.
 *
 * In a guest each CPUID exits to the hypervisor, 10 us and more where hypervisors are nested; so no leaf is
 * executed twice. Every bound that comes from the CPU (a maximum, a bitmap) is cut to what makes sense: a
 * hypervisor may answer anything. */
#include "vprobe_native.h"

#include <stdlib.h>

#if defined(VPROBE_X86)

#include <cpuid.h>

/* --- the dump ---------------------------------------------------------------------------------------- */

struct answer {
    uint32_t leaf, subleaf, eax, ebx, ecx, edx;
};

enum { MAX_ANSWERS = 2048, MAX_SUBLEAVES = 64, MAX_LEAVES = 256 };

struct dump {
    struct answer answers[MAX_ANSWERS];
    int count;
    bool sgx;
};

static struct answer execute(uint32_t leaf, uint32_t subleaf) {
    struct answer a = {.leaf = leaf, .subleaf = subleaf};
    __cpuid_count(leaf, subleaf, a.eax, a.ebx, a.ecx, a.edx);
    return a;
}

static struct answer keep(struct dump *dump, struct answer answer) {
    if (dump->count < MAX_ANSWERS)
        dump->answers[dump->count++] = answer;
    return answer;
}

/* Once the dump is full nothing more is asked; a zero answer ends every list. */
static struct answer ask(struct dump *dump, uint32_t leaf, uint32_t subleaf) {
    if (dump->count == MAX_ANSWERS)
        return (struct answer){.leaf = leaf, .subleaf = subleaf};
    return keep(dump, execute(leaf, subleaf));
}

/* How the subleaves of a leaf are found. `first` is subleaf 0. */
static void up_to_eax(struct dump *dump, struct answer first) {
    for (uint32_t i = 1; i <= first.eax && i < MAX_SUBLEAVES; i++)
        ask(dump, first.leaf, i);
}

static void by_bitmap(struct dump *dump, uint32_t leaf, uint64_t bitmap) {
    for (uint32_t i = 1; i < 64; i++)
        if (bitmap >> i & 1)
            ask(dump, leaf, i);
}

/* Lists that end with an entry of type 0 in the bits of `mask`; the ending entry is kept too. */
static void until_zero_eax(struct dump *dump, struct answer entry, uint32_t mask) {
    for (uint32_t i = entry.subleaf + 1; (entry.eax & mask) != 0 && i < MAX_SUBLEAVES; i++)
        entry = ask(dump, entry.leaf, i);
}

static void until_zero_level(struct dump *dump, struct answer entry) {
    for (uint32_t i = 1; (entry.ecx >> 8 & 0xff) != 0 && i < MAX_SUBLEAVES; i++)
        entry = ask(dump, entry.leaf, i);
}

/* Leaf 0xD: one subleaf for each state component of XCR0 (subleaf 0, EDX:EAX) or IA32_XSS (subleaf 1,
 * EDX:ECX), with gaps (Intel SDM vol. 1, 13.2). */
static void state_components(struct dump *dump, struct answer user) {
    struct answer supervisor = ask(dump, user.leaf, 1);
    uint64_t components = (uint64_t)(user.edx | supervisor.edx) << 32 | user.eax | supervisor.ecx;
    by_bitmap(dump, user.leaf, components & ~(uint64_t)3);
}

/* Leaf 0x12 means something only with SGX; EPC sections from subleaf 2 on (Intel SDM vol. 3D, 34.7.2). */
static void enclave_sections(struct dump *dump, struct answer first) {
    if (!dump->sgx)
        return;
    ask(dump, first.leaf, 1);
    until_zero_eax(dump, ask(dump, first.leaf, 2), 0xf);
}

/* Intel SDM vol. 2A, CPUID; AMD APM vol. 3, appendix E.4. */
static void ask_leaf(struct dump *dump, uint32_t leaf) {
    struct answer first = ask(dump, leaf, 0);
    switch (leaf) {
    case 0x7:
        dump->sgx = first.ebx >> 2 & 1;
        up_to_eax(dump, first);
        break;
    case 0x14:
    case 0x17:
    case 0x18:
    case 0x1d:
    case 0x1e:
    case 0x20:
    case 0x24:
    case 0x29:
        up_to_eax(dump, first);
        break;
    case 0x4:
    case 0x8000001d:
        until_zero_eax(dump, first, 0x1f);
        break;
    case 0x1b:
        until_zero_eax(dump, first, 0xfff);
        break;
    case 0xb:
    case 0x1f:
    case 0x80000026:
        until_zero_level(dump, first);
        break;
    case 0xd:
        state_components(dump, first);
        break;
    case 0x12:
        enclave_sections(dump, first);
        break;
    case 0xf:
    case 0x27:
        by_bitmap(dump, leaf, first.edx);
        break;
    case 0x10:
    case 0x28:
    case 0x80000020:
        by_bitmap(dump, leaf, first.ebx);
        break;
    case 0x23:
        by_bitmap(dump, leaf, first.eax);
        break;
    }
}

static void ask_range(struct dump *dump, uint32_t first, uint32_t last) {
    for (uint32_t leaf = first; leaf <= last && leaf - first < MAX_LEAVES; leaf++)
        ask_leaf(dump, leaf);
}

/* Ranges of other vendors and the extended one answer their own base with a maximum in the same range; on a
 * CPU without the range the base returns zeros or the values of the highest basic leaf. */
static void ask_extended(struct dump *dump, uint32_t base) {
    struct answer first = execute(base, 0);
    if (first.eax < base || first.eax - base > 0xffff)
        return;
    keep(dump, first);
    ask_range(dump, base + 1, first.eax);
}

static bool same_registers(struct answer a, struct answer b) {
    return a.eax == b.eax && a.ebx == b.ebx && a.ecx == b.ecx && a.edx == b.edx;
}

static bool is_xen(struct answer a) {
    return a.ebx == 0x566e6558 && a.ecx == 0x65584d4d && a.edx == 0x4d4d566e; /* XenVMMXenVMM */
}

/* The leaves of one hypervisor. EAX of the base is the maximum, or 0 for base + 1 (old KVM: KVM's cpuid.rst).
 * Xen's third leaf, the time, has three subleaves (xen/include/public/arch-x86/cpuid.h). */
static void ask_hypervisor(struct dump *dump, struct answer base) {
    uint32_t last = base.eax == 0 ? base.leaf + 1 : base.eax;
    if (last < base.leaf || last - base.leaf >= MAX_LEAVES)
        return;
    for (uint32_t leaf = base.leaf + 1; leaf <= last; leaf++) {
        ask(dump, leaf, 0);
        for (uint32_t i = 1; is_xen(base) && leaf == base.leaf + 3 && i < 3; i++)
            ask(dump, leaf, i);
    }
}

/* Hypervisors may be stacked, each at its own multiple of 0x100. An answer that repeats the one before it
 * comes from something that answers every leaf alike, or from nobody. */
static void scan_hypervisors(struct dump *dump) {
    struct answer previous = {0};
    for (uint32_t base = 0x40000000; base <= 0x4000ff00; base += 0x100) {
        struct answer answer = execute(base, 0);
        if (base != 0x40000000 && same_registers(answer, previous))
            return;
        if (answer.eax | answer.ebx | answer.ecx | answer.edx) {
            keep(dump, answer);
            ask_hypervisor(dump, answer);
        }
        previous = answer;
    }
}

static void dump_all(struct dump *dump) {
    struct answer first = ask(dump, 0, 0);
    bool hypervisor = false;
    if (first.eax >= 1)
        hypervisor = ask(dump, 1, 0).ecx >> 31;
    ask_range(dump, 2, first.eax);
    if (hypervisor)
        scan_hypervisors(dump);
    ask_extended(dump, 0x80000000);
    ask_extended(dump, 0x80860000); /* Transmeta */
    ask_extended(dump, 0xc0000000); /* Centaur, Zhaoxin */
}

/* --- Python ------------------------------------------------------------------------------------------ */

static void read_one(void *context) {
    struct answer *a = context;
    *a = execute(a->leaf, a->subleaf);
}

static void read_all(void *context) {
    dump_all(context);
}

enum { MAX_CPU = 1 << 20 };

static PyObject *list_of(const struct dump *dump) {
    PyObject *list = PyList_New(dump->count);
    for (int i = 0; list != NULL && i < dump->count; i++) {
        const struct answer *a = &dump->answers[i];
        PyObject *row = Py_BuildValue("(IIIIII)", a->leaf, a->subleaf, a->eax, a->ebx, a->ecx, a->edx);
        if (row == NULL || PyList_SetItem(list, i, row) == -1)
            Py_CLEAR(list);
    }
    return list;
}

PyObject *native_cpuid(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *objects[3] = {NULL, NULL, NULL};
    uint64_t cpu, leaf, subleaf = 0;
    if (!PyArg_ParseTuple(args, "OO|O:cpuid", &objects[0], &objects[1], &objects[2]) ||
        to_bounded(objects[0], "cpu", 0, MAX_CPU, &cpu) == -1 ||
        to_bounded(objects[1], "leaf", 0, UINT32_MAX, &leaf) == -1 ||
        (objects[2] != NULL && to_bounded(objects[2], "subleaf", 0, UINT32_MAX, &subleaf) == -1))
        return NULL;
    struct answer a = {.leaf = (uint32_t)leaf, .subleaf = (uint32_t)subleaf};
    if (on_cpu(cpu, read_one, &a) == -1)
        return NULL;
    return Py_BuildValue("(IIII)", a.eax, a.ebx, a.ecx, a.edx);
}

PyObject *native_cpuid_dump(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *object, *list = NULL;
    uint64_t cpu;
    if (!PyArg_ParseTuple(args, "O:cpuid_dump", &object) || to_bounded(object, "cpu", 0, MAX_CPU, &cpu) == -1)
        return NULL;
    struct dump *dump = calloc(1, sizeof *dump);
    if (dump == NULL)
        return PyErr_NoMemory();
    if (on_cpu(cpu, read_all, dump) == 0)
        list = list_of(dump);
    free(dump);
    return list;
}

#else

PyObject *native_cpuid(PyObject *module, PyObject *args) {
    (void)module, (void)args;
    return raise_not_x86("cpuid");
}

PyObject *native_cpuid_dump(PyObject *module, PyObject *args) {
    (void)module, (void)args;
    return raise_not_x86("cpuid_dump");
}

#endif
