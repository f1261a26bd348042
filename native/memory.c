/* The memory that kernels work on: pages of a known size, all present, aligned for huge pages. */
#include "kernel_host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static uint64_t round_up(uint64_t value, uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

/* Maps one HUGE_PAGE more than needed and gives the ends back, so that what stays is aligned. */
static uint8_t *map_aligned(uint64_t bytes) {
    uint64_t reserved = bytes + HUGE_PAGE;
    uint8_t *start = mmap(NULL, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    uint8_t *aligned = (uint8_t *)round_up((uintptr_t)start, HUGE_PAGE);
    uint8_t *end = start + reserved;
    if (aligned > start)
        munmap(start, (size_t)(aligned - start));
    if (end > aligned + bytes)
        munmap(aligned + bytes, (size_t)(end - aligned - bytes));
    return aligned;
}

/* Makes every page present by writing, so that no page is the shared zero page and none faults later. */
static void populate(uint8_t *address, uint64_t bytes) {
    if (madvise(address, bytes, MADV_POPULATE_WRITE) == 0) /* Linux 5.14 */
        return;
    for (uint64_t at = 0; at < bytes; at += SMALL_PAGE)
        *(volatile uint8_t *)(address + at) = 0;
}

/* Sum of AnonHugePages over the mappings in the range. madvise(MADV_HUGEPAGE) is a wish: THP may be off, or
 * no free block left; only smaps tells what came of it. Without /proc: none, which is the careful answer. */
static uint64_t huge_bytes(const uint8_t *address, uint64_t bytes) {
    FILE *smaps = fopen("/proc/self/smaps", "re");
    if (smaps == NULL)
        return 0;
    char line[512];
    uint64_t huge = 0;
    bool inside = false;
    while (fgets(line, sizeof line, smaps) != NULL) {
        unsigned long long low, high, kib;
        if (sscanf(line, "%llx-%llx ", &low, &high) == 2)
            inside = low >= (uintptr_t)address && high <= (uintptr_t)address + bytes;
        else if (inside && sscanf(line, "AnonHugePages: %llu kB", &kib) == 1)
            huge += kib * 1024;
    }
    fclose(smaps);
    return huge;
}

static int check_size(uint64_t bytes, struct failure *failure) {
    uint64_t physical = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    /* All of it is populated: more than the machine has would end in the out-of-memory killer. */
    return bytes <= physical ? 0 : fail_with(failure, "mmap", ENOMEM);
}

static void make_present(struct memory *memory) {
    populate(memory->address, memory->mapped);
    if (memory->page_bytes == HUGE_PAGE && huge_bytes(memory->address, memory->mapped) < memory->mapped)
        memory->page_bytes = SMALL_PAGE;
}

int memory_map(struct memory *memory, uint64_t bytes, uint64_t page_bytes, struct failure *failure) {
    *memory = (struct memory){.bytes = bytes, .page_bytes = page_bytes};
    if (bytes == 0)
        return 0;
    if (check_size(bytes, failure) == -1)
        return -1;
    memory->mapped = memory->reserved = round_up(bytes, page_bytes);
    memory->address = map_aligned(memory->mapped);
    if (memory->address == NULL)
        return fail(failure, "mmap");
    madvise(memory->address, memory->mapped, page_bytes == HUGE_PAGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    /* A fork would write-protect every page, and its cost would depend on the memory's size. */
    madvise(memory->address, memory->mapped, MADV_DONTFORK);
    make_present(memory);
    return 0;
}

/* Pages that were discarded come back, the others stay as they are. */
bool memory_reuse(struct memory *memory, uint64_t bytes) {
    if (bytes > memory->reserved)
        return false;
    memory->bytes = bytes;
    memory->mapped = round_up(bytes, memory->page_bytes);
    if (bytes != 0)
        make_present(memory);
    return true;
}

void memory_unmap(struct memory *memory) {
    if (memory->address != NULL)
        munmap(memory->address, memory->reserved);
    memory->address = NULL;
}

int memory_discard(const struct memory *memory, uint64_t offset, uint64_t length, struct failure *failure) {
    if (length != 0 && madvise(memory->address + offset, length, MADV_DONTNEED) == -1)
        return fail(failure, "madvise");
    return 0;
}

/* splitmix64 (Steele, Lea, Flood 2014): every seed gives a full-period sequence. */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Sattolo's algorithm (1986): a permutation that is one cycle, each with the same probability but for the
 * bias of the multiplication (Lemire 2019), below count / 2^32: it costs a third of what a division does. */
static void make_cycle(uint32_t *next, uint32_t count, uint64_t seed) {
    for (uint32_t i = 0; i < count; i++)
        next[i] = i;
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t j = (uint32_t)((next_random(&seed) >> 32) * i >> 32), swapped = next[i];
        next[i] = next[j];
        next[j] = swapped;
    }
}

int memory_lay_cycle(const struct memory *memory, uint64_t offset, uint64_t length, uint64_t stride,
                     uint64_t seed, uint64_t seen_at, struct failure *failure) {
    uint64_t count = length / stride;
    uint32_t *next = count <= UINT32_MAX ? malloc(count * sizeof *next) : NULL;
    if (next == NULL)
        return fail_with(failure, "build_chase", ENOMEM);
    make_cycle(next, (uint32_t)count, seed);
    for (uint64_t i = 0; i < count; i++) {
        uintptr_t target = (uintptr_t)(seen_at + offset + next[i] * stride);
        memcpy(memory->address + offset + i * stride, &target, sizeof target);
    }
    free(next);
    return 0;
}
