/* What lies in a micro-VM's memory, and the state in which its vCPU starts: 64-bit code at ring 3.
 *
 * Ring 3, since kvm_pvm runs only that at full speed; the same state is valid for VT-x and AMD-V. There is no
 * interrupt table: any exception is a triple fault, which KVM reports as a shutdown. */
#include "machine.h"

#if defined(VPROBE_X86)

#include <string.h>

enum { PAGE = 4096, TABLE_ENTRIES = 512 };
#define HUGE (2ull << 20)
#define GIB  (1ull << 30)

/* --- page tables (Intel SDM vol. 3A, 4.5; AMD APM vol. 2, 5.3) --------------------------------------- */

/* Accessed and dirty are preset, so that the CPU never writes the tables. */
enum { PRESENT = 1, WRITABLE = 2, USER = 4, ACCESSED = 0x20, DIRTY = 0x40, LARGE = 0x80 };
enum { TABLE = PRESENT | WRITABLE | USER | ACCESSED, LEAF = PRESENT | ACCESSED | DIRTY };

static uint64_t divide_up(uint64_t value, uint64_t unit) {
    return (value + unit - 1) / unit;
}

/* Root, directory pointers, the directory and table of the system area; then directories (one for each GiB)
 * and, for small pages, tables (one for each 2 MiB) of the workload memory. */
static uint64_t directories(const struct layout *layout) {
    return divide_up(layout->memory_bytes, GIB);
}

static uint64_t tables(const struct layout *layout) {
    return layout->page_bytes == PAGE ? divide_up(layout->memory_bytes, HUGE) : 0;
}

size_t guest_system_bytes(const struct layout *layout) {
    return GUEST_PAGE_TABLES + (4 + directories(layout) + tables(layout)) * PAGE;
}

static uint64_t *table_at(uint8_t *system, uint64_t address) {
    return (uint64_t *)(system + address);
}

static void map_pages(uint64_t *table, uint64_t from, uint64_t to, uint64_t bits) {
    for (uint64_t page = from / PAGE; page < divide_up(to, PAGE); page++)
        table[page] = page * PAGE | LEAF | bits;
}

/* Links `count` consecutive pages of tables, from `address` on, into the entries from `entry` on. */
static void link_tables(uint64_t *entry, uint64_t address, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        entry[i] = (address + i * PAGE) | TABLE;
}

static uint64_t code_bytes(void) {
    return (uint64_t)(kernels_end - kernels_begin);
}

static void map_system(uint64_t *table) {
    map_pages(table, GUEST_TSS, GUEST_BLOCK, WRITABLE);
    map_pages(table, GUEST_BLOCK, GUEST_STACK_TOP, WRITABLE | USER);
    map_pages(table, GUEST_DESCRIPTORS, GUEST_CODE, WRITABLE);
    map_pages(table, GUEST_CODE, guest_address_of(kernels_begin) + code_bytes(), USER);
    table[MMIO_ADDRESS / PAGE] = MMIO_PHYSICAL | LEAF | WRITABLE | USER;
}

/* Fills consecutive tables as one array: `count` leaves of `size` bytes each. */
static void map_memory(uint64_t *leaves, uint64_t count, uint64_t size, uint64_t bits) {
    for (uint64_t i = 0; i < count; i++)
        leaves[i] = (GUEST_MEMORY + i * size) | LEAF | WRITABLE | USER | bits;
}

static void write_page_tables(uint8_t *system, const struct layout *layout) {
    const uint64_t root = GUEST_PAGE_TABLES, pointers = root + PAGE, directory = pointers + PAGE;
    const uint64_t table = directory + PAGE, memory_directories = table + PAGE;
    const uint64_t memory_tables = memory_directories + directories(layout) * PAGE;
    const uint64_t pages = layout->memory_bytes / layout->page_bytes;

    link_tables(table_at(system, root), pointers, 1);
    link_tables(table_at(system, pointers), directory, 1);
    link_tables(table_at(system, directory), table, 1);
    map_system(table_at(system, table));
    link_tables(table_at(system, pointers) + GUEST_MEMORY / GIB, memory_directories, directories(layout));
    if (layout->page_bytes == PAGE) {
        link_tables(table_at(system, memory_directories), memory_tables, tables(layout));
        map_memory(table_at(system, memory_tables), pages, PAGE, 0);
    } else {
        map_memory(table_at(system, memory_directories), pages, HUGE, LARGE);
    }
}

/* --- the task-state segment (Intel SDM vol. 3A, 8.7 and vol. 1, 19.5.2) ------------------------------ */

enum {
    TSS_HEAD = 104,
    TSS_IST1 = 36,
    TSS_IO_MAP_BASE = 102,
    IO_BITMAP = 65536 / 8,
    TSS_BYTES = TSS_HEAD + IO_BITMAP + 1
};

/* An all-zero bitmap permits every port to ring 3; a byte of ones must follow it. IOPL 3 would be the shorter
 * way, but kvm_pvm does not honour it. */
static void write_tss(uint8_t *tss) {
    const uint64_t interrupt_stack = GUEST_STACK_TOP - PAGE;
    memset(tss, 0, TSS_BYTES);
    memcpy(tss + TSS_IST1, &interrupt_stack, sizeof interrupt_stack);
    tss[TSS_IO_MAP_BASE] = TSS_HEAD;
    tss[TSS_BYTES - 1] = 0xff;
}

/* --- descriptors for interrupts at ring 0 (Intel SDM vol. 3A, 3.4.5 and 6.14.1) ----------------------- */

enum { CODE_SELECTOR = 0x18, DATA_SELECTOR = 0x20, TSS_SELECTOR = 0x28, GDT_BYTES = 0x28, IDT_VECTORS = 64 };

/* An interrupt loads CS from the GDT, and IRET loads CS and SS; all other segments keep what KVM set. The
 * handler has a stack of its own, since the kernels use the red zone below theirs. */
static void write_descriptors(uint8_t *system) {
    const uint64_t code = 0x00af9b000000ffff, data = 0x00cf93000000ffff;
    const uint64_t handler = guest_address_of((const void *)vprobe_guest_interrupt);
    const uint64_t present_interrupt_gate = 0x8e00, stack = 1;
    memcpy(system + GUEST_DESCRIPTORS + CODE_SELECTOR, &code, sizeof code);
    memcpy(system + GUEST_DESCRIPTORS + DATA_SELECTOR, &data, sizeof data);
    const uint64_t gate[2] = {(handler & 0xffff) | CODE_SELECTOR << 16 | stack << 32 |
                                  present_interrupt_gate << 32 | (handler >> 16 & 0xffff) << 48,
                              handler >> 32};
    memcpy(system + GUEST_IDT + GUEST_VECTOR * sizeof gate, gate, sizeof gate);
}
_Static_assert(GUEST_BLOCK + offsetof(struct kernel_block, interrupts) == 0x4020,
               "guest_interrupt has it as a number");

uint64_t guest_address_of(const void *code) {
    return GUEST_CODE + (uintptr_t)kernels_begin % PAGE + (uint64_t)((const uint8_t *)code - kernels_begin);
}

bool guest_code_fits(void) {
    return guest_address_of(kernels_begin) + code_bytes() <= MMIO_ADDRESS;
}

void guest_write(uint8_t *system, const struct layout *layout) {
    write_tss(system + GUEST_TSS);
    write_descriptors(system);
    memcpy(system + guest_address_of(kernels_begin), kernels_begin, code_bytes());
    write_page_tables(system, layout);
}

/* --- registers (Intel SDM vol. 3C, 27.3.1 says what VT-x demands of them) ---------------------------- */

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool code, uint8_t ring) {
    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = selector | ring,
                                .type = type,
                                .present = 1,
                                .dpl = ring,
                                .db = !code,
                                .s = 1,
                                .l = code,
                                .g = 1};
}

/* CR0: PE, MP, ET, NE (VT-x insists), WP, PG. CR4: PAE, OSFXSR and OSXMMEXCPT for SSE, OSXSAVE for
 * AVX. EFER: LME, LMA. */
static void set_control_registers(struct kvm_sregs *registers, uint64_t kernel_flags) {
    registers->cr0 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1u << 31;
    registers->cr3 = GUEST_PAGE_TABLES;
    registers->cr4 = 1 << 5 | 1 << 9 | 1 << 10 | (kernel_flags & KERNEL_AVX2 ? 1 << 18 : 0);
    registers->efer = 1 << 8 | 1 << 10;
}

/* VT-x enters only with a TSS marked busy (Intel SDM vol. 3C, 27.3.1.2); SVM hides that bit (svm_get_segment
 * in KVM), and an emulated SVM refuses ring 3's OUT with it. */
void guest_set_system_registers(struct kvm_sregs *registers, uint8_t ring, uint64_t kernel_flags,
                                bool x2apic) {
    enum { CODE = 11, DATA = 3, TSS = 9, BUSY_TSS = 11, LDT = 2 }; /* segments are marked accessed */
    struct kvm_segment data = flat_segment(DATA_SELECTOR, DATA, false, ring);
    registers->cs = flat_segment(CODE_SELECTOR, CODE, true, ring);
    registers->ss = registers->ds = registers->es = registers->fs = registers->gs = data;
    registers->tr = (struct kvm_segment){.base = GUEST_TSS,
                                         .limit = TSS_BYTES - 1,
                                         .selector = TSS_SELECTOR,
                                         .type = kernel_flags & KERNEL_VMCALL ? BUSY_TSS : TSS,
                                         .present = 1};
    registers->ldt = (struct kvm_segment){.type = LDT, .unusable = 1};
    registers->gdt = registers->idt = (struct kvm_dtable){.base = 0, .limit = 0};
    if (ring == RING_KERNEL) {
        registers->gdt = (struct kvm_dtable){.base = GUEST_DESCRIPTORS, .limit = GDT_BYTES - 1};
        registers->idt = (struct kvm_dtable){.base = GUEST_IDT, .limit = IDT_VECTORS * 16 - 1};
    }
    if (x2apic)
        registers->apic_base |= 1 << 11 | 1 << 10; /* enabled, as x2APIC (Intel SDM vol. 3A, 11.12.1) */
    set_control_registers(registers, kernel_flags);
}

void guest_set_registers(struct kvm_regs *registers) {
    *registers = (struct kvm_regs){.rip = guest_address_of((const void *)vprobe_guest_entry),
                                   .rsp = GUEST_STACK_TOP,
                                   .rbx = GUEST_BLOCK,
                                   .rflags = 2};
}

#endif
