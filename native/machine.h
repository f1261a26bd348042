/* A virtual machine of one vCPU on /dev/kvm: guest.c writes what lies in its memory, machine.c talks to KVM.
 */
#ifndef VPROBE_MACHINE_H
#define VPROBE_MACHINE_H

#include "kernels.h"
#include "vprobe_native.h"

#if defined(VPROBE_X86)

#include <linux/kvm.h>
#include <stddef.h>

/* --- guest.c: guest-physical memory ------------------------------------------------------------------ */

/* Guest addresses; virtual and physical are the same. The first page stays unmapped, so that a null pointer
 * faults. */
enum {
    GUEST_TSS = 0x1000,         /* task-state segment with its I/O permission bitmap */
    GUEST_BLOCK = 0x4000,       /* the parameter block, shared with the host */
    GUEST_STACK_TOP = 0x7000,   /* two pages of stack below */
    GUEST_DESCRIPTORS = 0x7000, /* GDT, and from GUEST_IDT on the IDT; used at ring 0 only */
    GUEST_IDT = 0x7400,
    GUEST_CODE = 0x8000,         /* the kernels' section, at the page offset that it has on the host */
    GUEST_PAGE_TABLES = 0x40000, /* not mapped for the guest itself */
};
#define GUEST_MEMORY 0x100000000ull /* workload memory: 4 GiB, above every hole of a PC */

struct layout {
    uint64_t memory_bytes, page_bytes; /* of the workload memory; whole pages */
    bool privileged;                   /* ring 0, with KVM's interrupt controller */
};

bool guest_code_fits(void);
size_t guest_system_bytes(const struct layout *layout);
void guest_write(uint8_t *system, const struct layout *layout);
uint64_t guest_address_of(const void *code); /* of something in the kernels' section */
void guest_set_system_registers(struct kvm_sregs *registers, uint8_t ring, uint64_t kernel_flags,
                                bool x2apic);
void guest_set_registers(struct kvm_regs *registers);

/* --- machine.c --------------------------------------------------------------------------------------- */

struct machine {
    int vm, vcpu; /* descriptors, -1: none */
    struct kvm_run *run;
    size_t run_bytes;
    uint8_t *system; /* guest memory from address 0 on */
    size_t system_bytes;
    bool privileged;
    uint64_t kernel_flags; /* enum kernel_flags for this vCPU */
    uint64_t exits;
};

enum ring { RING_KERNEL = 0, RING_USER = 3 };

enum outcome { FINISHED, INTERRUPTED, FAILED, UNEXPECTED };

#define NO_MACHINE ((struct machine){.vm = -1, .vcpu = -1})

/* `memory` is mapped at GUEST_MEMORY and stays the caller's. */
int machine_create(struct machine *machine, uint8_t *memory, const struct layout *layout,
                   const uint32_t nonce[3], struct failure *failure);
void machine_destroy(struct machine *machine);
int machine_reset(struct machine *machine, struct failure *failure); /* to the entry point, at its ring */
int machine_set_ring(struct machine *machine, uint8_t ring, struct failure *failure);

/* Runs the guest until it writes to FINISH_PORT. INTERRUPTED: look for signals, then call again to go on. */
enum outcome machine_continue(struct machine *machine, struct failure *failure);

/* The single steps, for machine_create and for time_microvm. */
int kvm_open(struct failure *failure);
int kvm_create_vm(int kvm, struct failure *failure);
int kvm_create_vcpu(int vm, struct failure *failure);
/* A slot of memory of `bytes`, that is whole pages, at guest-physical `address`; 0 bytes remove the slot. */
int kvm_set_memory(int vm, uint32_t slot, uint64_t address, const uint8_t *host, uint64_t bytes,
                   struct failure *failure);

#endif
#endif
