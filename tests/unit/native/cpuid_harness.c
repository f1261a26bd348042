/* native/cpuid.c with the CPU replaced by a function of the test's. */
#include <cpuid.h>
#undef __cpuid_count
#include <stdint.h>

static void (*cpu)(uint32_t leaf, uint32_t subleaf, uint32_t registers[4]);

#define __cpuid_count(leaf, subleaf, a, b, c, d)                                                             \
    do {                                                                                                     \
        uint32_t registers[4];                                                                               \
        cpu(leaf, subleaf, registers);                                                                       \
        a = registers[0], b = registers[1], c = registers[2], d = registers[3];                              \
    } while (0)

#include "../../../native/cpuid.c"

int harness_dump(void (*answering)(uint32_t, uint32_t, uint32_t *), uint32_t rows[MAX_ANSWERS][6]);

__attribute__((visibility("default"))) int harness_dump(void (*answering)(uint32_t, uint32_t, uint32_t *),
                                                        uint32_t rows[MAX_ANSWERS][6]) {
    static struct dump dump;
    dump = (struct dump){.count = 0};
    cpu = answering;
    dump_all(&dump);
    for (int i = 0; i < dump.count; i++) {
        const struct answer *a = &dump.answers[i];
        const uint32_t row[6] = {a->leaf, a->subleaf, a->eax, a->ebx, a->ecx, a->edx};
        for (int column = 0; column < 6; column++)
            rows[i][column] = row[column];
    }
    return dump.count;
}
