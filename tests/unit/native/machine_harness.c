/* The micro-VM without Python, as one static program for test benches that have nothing else: prints one line
 * for each thing that holds, and exits 0 if all do. */
#include "machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* What errors.c gives in the extension. */
int fail_with(struct failure *failure, const char *call, int number) {
    failure->number = number;
    failure->call = call;
    return -1;
}

int fail(struct failure *failure, const char *call) {
    return fail_with(failure, call, errno);
}

static struct machine machine = NO_MACHINE;
static struct failure failure;
static int failures;

static void report(const char *what, int holds) {
    printf("%s %s\n", holds ? "ok" : "FAILED", what);
    failures += !holds;
}

static struct kernel_block *block(void) {
    return (struct kernel_block *)(machine.system + GUEST_BLOCK);
}

/* Runs one kernel of the guest; UINT64_MAX - 1 if the guest did not come back. */
static uint64_t run(kernel_entry *entry, uint64_t warm, uint64_t timed) {
    enum outcome outcome;
    block()->entry = guest_address_of((const void *)entry);
    block()->iterations[WARM] = warm;
    block()->iterations[TIMED] = timed;
    do
        outcome = machine_continue(&machine, &failure);
    while (outcome == INTERRUPTED);
    if (outcome == FINISHED)
        return block()->result;
    printf("outcome %d exit %u %s errno %d\n", outcome, machine.run->exit_reason, failure.call,
           failure.number);
    return UINT64_MAX - 1;
}

static void check_kernels(void) {
    uint64_t x = block()->arguments[0] = 11;
    block()->multiplier = 3, block()->addend = 5, block()->mask = 7;
    for (int i = 0; i < 4 * 5; i++)
        x = (x * 3 + 5) ^ 7;
    report("integer_chain", run(vprobe_integer_chain, 2, 3) == x);
    block()->float_ratio = 0.5, block()->float_addend = 1.0;
    report("float_chain (SSE)", run(vprobe_float_chain, 0, 100) == 2);
    uint64_t before = machine.exits;
    run(vprobe_out, 2, 5);
    report("out", machine.exits - before == 8);
    run(vprobe_in, 2, 5);
    report("in", machine.exits - before == 16);
    run(vprobe_mmio, 2, 5);
    report("mmio", machine.exits - before == 24);
    report("vector_sse2", run(vprobe_vector_sse2, 0, 100) == 16);
    if (machine.kernel_flags & KERNEL_AVX2)
        report("vector_avx2", run(vprobe_vector_avx2, 0, 100) == 16);
    else
        puts("note: no AVX2");
    report("cpuid", run(vprobe_cpuid, 1, 2) - 1 < 0xff);
    report("hypercall is refused", run(vprobe_hypercall, 1, 2) == UINT64_MAX);
}

static void check_memory(uint8_t *memory, const struct layout *layout) {
    block()->memory = GUEST_MEMORY;
    block()->page_bytes = layout->page_bytes;
    block()->arguments[0] = 0;
    uint64_t pages = layout->memory_bytes / layout->page_bytes, last = (pages - 1) * layout->page_bytes;
    report("touch", run(vprobe_touch, 1, pages - 1) == GUEST_MEMORY + layout->memory_bytes);
    report("touch is seen", *(uint64_t *)(memory + last) == 1);
}

static void check_evidence(void) {
    uint64_t *seen = block()->seen;
    run(vprobe_evidence, 0, 0);
    report("ring 3", (seen[SEEN_CS] & 3) == 3);
    printf("note: a CPUID of ring 3 %s KVM\n", seen[SEEN_NONCE_0] == 0x11 ? "reaches" : "does not reach");
    report("ring 0 is entered", machine_set_ring(&machine, RING_KERNEL, &failure) == 0);
    run(vprobe_evidence, 0, 0);
    report("ring 0", (seen[SEEN_CS] & 3) == 0);
    report("nonce at ring 0",
           seen[SEEN_NONCE_0] == 0x11 && seen[SEEN_NONCE_1] == 0x22 && seen[SEEN_NONCE_2] == 0x33);
    report("ring 3 is entered", machine_set_ring(&machine, RING_USER, &failure) == 0);
    run(vprobe_evidence, 0, 0);
    report("ring 3 again", (seen[SEEN_CS] & 3) == 3);
}

static int check_machine(uint64_t page_bytes) {
    enum { BYTES = 4 << 20 };
    static const uint32_t nonce[3] = {0x11, 0x22, 0x33};
    const struct layout layout = {BYTES, page_bytes};
    uint8_t *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || machine_create(&machine, memory, &layout, nonce, &failure) == -1) {
        printf("%s: %s\n", failure.call, strerror(failure.number));
        return -1;
    }
    block()->flags = machine.kernel_flags;
    enum outcome outcome = machine_continue(&machine, &failure);
    report("first instruction", outcome == FINISHED);
    if (outcome == FINISHED) {
        check_kernels();
        check_memory(memory, &layout);
        check_evidence();
    } else {
        printf("exit %u, hardware reason %llu\n", machine.run->exit_reason,
               (unsigned long long)machine.run->hw.hardware_exit_reason);
    }
    machine_destroy(&machine);
    munmap(memory, BYTES);
    return 0;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (check_machine(4096) == -1 || check_machine(2 << 20) == -1)
        return 2;
    return failures != 0;
}
