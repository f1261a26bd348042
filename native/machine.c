/* KVM's calls for one machine, in the order that its API document gives (Documentation/virt/kvm/api.rst). */
#include "machine.h"

#if defined(VPROBE_X86)

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* --- single steps ------------------------------------------------------------------------------------ */

int kvm_open(struct failure *failure) {
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm == -1) {
        strcpy(failure->path, "/dev/kvm");
        return fail(failure, "open");
    }
    if (ioctl(kvm, KVM_GET_API_VERSION, 0) == KVM_API_VERSION)
        return kvm;
    close(kvm);
    return fail_with(failure, "KVM_GET_API_VERSION", ENOTSUP);
}

/* KVM_CREATE_VM gives up with EINTR when a signal is pending while it sets up. */
int kvm_create_vm(int kvm, struct failure *failure) {
    int vm;
    do
        vm = ioctl(kvm, KVM_CREATE_VM, 0);
    while (vm == -1 && errno == EINTR);
    return vm == -1 ? fail(failure, "KVM_CREATE_VM") : vm;
}

int kvm_create_vcpu(int vm, struct failure *failure) {
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    return vcpu == -1 ? fail(failure, "KVM_CREATE_VCPU") : vcpu;
}

/* Three pages that VT-x without unrestricted-guest mode needs to emulate real mode, through which every vCPU
 * passes at its reset; below 4 GiB, in no memory slot. The other backends take the calls and do nothing. */
static int set_vtx_pages(int vm, struct failure *failure) {
    uint64_t identity_map = 0xfffbc000;
    if (ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) == -1)
        return fail(failure, "KVM_SET_IDENTITY_MAP_ADDR");
    if (ioctl(vm, KVM_SET_TSS_ADDR, identity_map + 0x1000) == -1)
        return fail(failure, "KVM_SET_TSS_ADDR");
    return 0;
}

int kvm_set_memory(int vm, uint32_t slot, uint64_t address, const uint8_t *host, uint64_t bytes,
                   struct failure *failure) {
    struct kvm_userspace_memory_region region = {.slot = slot,
                                                 .guest_phys_addr = address,
                                                 .memory_size = bytes,
                                                 .userspace_addr = (uint64_t)(uintptr_t)host};
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) == -1)
        return fail(failure, "KVM_SET_USER_MEMORY_REGION");
    return 0;
}

/* --- CPUID ------------------------------------------------------------------------------------------- */

/* What KVM can offer, with room for `spare` more entries. KVM says E2BIG until the array is large enough. */
static struct kvm_cpuid2 *supported_cpuid(int kvm, uint32_t spare, struct failure *failure) {
    for (uint32_t entries = 128; entries <= 4096; entries *= 2) {
        struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + (entries + spare) * sizeof cpuid->entries[0]);
        if (cpuid == NULL) {
            fail_with(failure, "calloc", ENOMEM);
            return NULL;
        }
        cpuid->nent = entries;
        if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0)
            return cpuid;
        fail(failure, "KVM_GET_SUPPORTED_CPUID");
        free(cpuid);
        if (failure->number != E2BIG)
            return NULL;
    }
    return NULL;
}

/* Subleaf 0 of a leaf; zeros if KVM does not offer it. */
static struct kvm_cpuid_entry2 offered(const struct kvm_cpuid2 *cpuid, uint32_t leaf) {
    for (uint32_t i = 0; i < cpuid->nent; i++)
        if (cpuid->entries[i].function == leaf && cpuid->entries[i].index == 0)
            return cpuid->entries[i];
    return (struct kvm_cpuid_entry2){.function = leaf};
}

/* x87, SSE and AVX state in XCR0 (Intel SDM vol. 1, 13.3); the guest's own XSETBV would need ring 0. */
static bool enable_wide_registers(int vcpu, const struct kvm_cpuid2 *cpuid) {
    const uint32_t xsave_and_avx = 1u << 26 | 1u << 28, avx2 = 1u << 5;
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = 7}}};
    return (offered(cpuid, 1).ecx & xsave_and_avx) == xsave_and_avx && offered(cpuid, 7).ebx & avx2 &&
           ioctl(vcpu, KVM_SET_XCRS, &xcrs) == 0;
}

/* AMD and Hygon have SVM and its VMMCALL; all others that virtualize have VMX and its VMCALL. */
static bool host_has_vmcall(void) {
    uint32_t eax, name[3];
    if (!__get_cpuid(0, &eax, &name[0], &name[2], &name[1]))
        return false;
    return memcmp(name, "AuthenticAMD", 12) != 0 && memcmp(name, "HygonGenuine", 12) != 0;
}

static int set_cpuid(struct machine *machine, int kvm, const uint32_t nonce[3], struct failure *failure) {
    struct kvm_cpuid2 *cpuid = supported_cpuid(kvm, 1, failure);
    if (cpuid == NULL)
        return -1;
    cpuid->entries[cpuid->nent++] = (struct kvm_cpuid_entry2){
        .function = NONCE_LEAF, .eax = NONCE_LEAF, .ebx = nonce[0], .ecx = nonce[1], .edx = nonce[2]};
    int status = ioctl(machine->vcpu, KVM_SET_CPUID2, cpuid);
    if (status == -1)
        fail(failure, "KVM_SET_CPUID2");
    machine->kernel_flags = (offered(cpuid, 0x80000001).edx >> 27 & 1 ? KERNEL_RDTSCP : 0) |
                            (host_has_vmcall() ? KERNEL_VMCALL : 0) |
                            (enable_wide_registers(machine->vcpu, cpuid) ? KERNEL_AVX2 : 0);
    free(cpuid);
    return status;
}

/* --- the whole --------------------------------------------------------------------------------------- */

static int map_system(struct machine *machine, const struct layout *layout, struct failure *failure) {
    if (!guest_code_fits())
        return fail_with(failure, "the kernels' section", E2BIG);
    machine->system_bytes = guest_system_bytes(layout);
    void *system =
        mmap(NULL, machine->system_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (system == MAP_FAILED)
        return fail(failure, "mmap");
    machine->system = system;
    madvise(system, machine->system_bytes, MADV_DONTFORK);
    guest_write(system, layout);
    return 0;
}

static int map_run(struct machine *machine, int kvm, struct failure *failure) {
    int bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (bytes == -1)
        return fail(failure, "KVM_GET_VCPU_MMAP_SIZE");
    void *run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, machine->vcpu, 0);
    if (run == MAP_FAILED)
        return fail(failure, "mmap");
    machine->run = run;
    machine->run_bytes = (size_t)bytes;
    return 0;
}

static int set_system_registers(struct machine *machine, uint8_t ring, struct failure *failure) {
    struct kvm_sregs registers;
    if (ioctl(machine->vcpu, KVM_GET_SREGS, &registers) == -1)
        return fail(failure, "KVM_GET_SREGS");
    guest_set_system_registers(&registers, ring, machine->kernel_flags, machine->privileged);
    if (ioctl(machine->vcpu, KVM_SET_SREGS, &registers) == -1)
        return fail(failure, "KVM_SET_SREGS");
    return 0;
}

int machine_reset(struct machine *machine, struct failure *failure) {
    struct kvm_regs registers;
    if (set_system_registers(machine, machine->privileged ? RING_KERNEL : RING_USER, failure) == -1)
        return -1;
    guest_set_registers(&registers);
    if (ioctl(machine->vcpu, KVM_SET_REGS, &registers) == -1)
        return fail(failure, "KVM_SET_REGS");
    return 0;
}

/* The OUT that the guest stopped at is only complete, and its state only whole, after the next KVM_RUN; with
 * immediate_exit that runs no instruction (api.rst, KVM_EXIT_IO). */
static void complete_exit(struct machine *machine) {
    machine->run->immediate_exit = 1;
    ioctl(machine->vcpu, KVM_RUN, 0); /* EINTR, as asked for */
    machine->run->immediate_exit = 0;
}

int machine_set_ring(struct machine *machine, uint8_t ring, struct failure *failure) {
    complete_exit(machine);
    return set_system_registers(machine, ring, failure);
}

/* Before the vCPU, which gets its local APIC from it (api.rst, KVM_CREATE_IRQCHIP). */
static int create_irqchip(int vm, struct failure *failure) {
    return ioctl(vm, KVM_CREATE_IRQCHIP, 0) == -1 ? fail(failure, "KVM_CREATE_IRQCHIP") : 0;
}

static int create(struct machine *machine, int kvm, uint8_t *memory, const struct layout *layout,
                  const uint32_t nonce[3], struct failure *failure) {
    if (map_system(machine, layout, failure) == -1)
        return -1;
    machine->vm = kvm_create_vm(kvm, failure);
    machine->privileged = layout->privileged;
    if (machine->vm == -1 || set_vtx_pages(machine->vm, failure) == -1 ||
        (layout->privileged && create_irqchip(machine->vm, failure) == -1) ||
        kvm_set_memory(machine->vm, 0, 0, machine->system, machine->system_bytes, failure) == -1 ||
        (layout->memory_bytes != 0 &&
         kvm_set_memory(machine->vm, 1, GUEST_MEMORY, memory, layout->memory_bytes, failure) == -1))
        return -1;
    machine->vcpu = kvm_create_vcpu(machine->vm, failure);
    if (machine->vcpu == -1 || map_run(machine, kvm, failure) == -1)
        return -1;
    /* CPUID before the registers: KVM judges them by it. */
    if (set_cpuid(machine, kvm, nonce, failure) == -1)
        return -1;
    return machine_reset(machine, failure);
}

int machine_create(struct machine *machine, uint8_t *memory, const struct layout *layout,
                   const uint32_t nonce[3], struct failure *failure) {
    *machine = NO_MACHINE;
    int kvm = kvm_open(failure);
    if (kvm == -1)
        return -1;
    int status = create(machine, kvm, memory, layout, nonce, failure);
    close(kvm);
    if (status == -1)
        machine_destroy(machine);
    return status;
}

void machine_destroy(struct machine *machine) {
    if (machine->run != NULL)
        munmap(machine->run, machine->run_bytes);
    if (machine->vcpu != -1)
        close(machine->vcpu);
    if (machine->vm != -1)
        close(machine->vm);
    if (machine->system != NULL)
        munmap(machine->system, machine->system_bytes);
    *machine = NO_MACHINE;
}

static bool is_port(const struct kvm_run *run, uint16_t port) {
    return run->exit_reason == KVM_EXIT_IO && run->io.port == port;
}

static bool is_mmio(const struct kvm_run *run) {
    return run->exit_reason == KVM_EXIT_MMIO && run->mmio.phys_addr == MMIO_PHYSICAL;
}

/* A signal makes KVM_RUN return EINTR; but one that arrives between two KVM_RUNs does not, so that a guest
 * that exits all the time could miss every one. Hence a pause after so many exits (tens of milliseconds). */
enum { EXITS_AT_A_TIME = 1000 };

enum outcome machine_continue(struct machine *machine, struct failure *failure) {
    const struct kvm_run *run = machine->run;
    for (int left = EXITS_AT_A_TIME; left > 0; left--) {
        if (ioctl(machine->vcpu, KVM_RUN, 0) == -1) {
            if (errno == EINTR)
                return INTERRUPTED;
            fail(failure, "KVM_RUN");
            return FAILED;
        }
        machine->exits++;
        if (is_port(run, FINISH_PORT) && run->io.direction == KVM_EXIT_IO_OUT)
            return FINISHED;
        if (!is_port(run, WORK_PORT) && !is_mmio(run))
            return UNEXPECTED;
    }
    return INTERRUPTED;
}

#endif
