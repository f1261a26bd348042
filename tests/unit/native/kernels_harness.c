/* Runs the portable kernels without Python and prints the name of each that agrees with its model. */
#include "kernels.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t read_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

enum { NODES = 16, LINES = 21 };
static _Alignas(4096) uint64_t memory[16 * 512];

static struct kernel_block fresh(uint64_t warm, uint64_t timed) {
    return (struct kernel_block){.iterations = {warm, timed},
                                 .memory = (uint64_t)(uintptr_t)memory,
                                 .page_bytes = 4096,
                                 .multiplier = 3,
                                 .addend = 5,
                                 .mask = 7,
                                 .float_ratio = 0.5,
                                 .float_addend = 1.0,
                                 .stream_scale = 3.0,
                                 .clock = read_clock};
}

static void report(const char *name, int agrees, const struct kernel_block *block) {
    if (agrees && block->ticks[TIMED] >= block->ticks[WARM] && block->ticks[PHASES] >= block->ticks[TIMED])
        puts(name);
}

static void computing(void) {
    struct kernel_block block = fresh(2, 3);
    uint64_t x = block.arguments[0] = 11;
    for (int i = 0; i < 4 * 5; i++)
        x = (x * 3 + 5) ^ 7;
    report("chain", vprobe_integer_chain(&block) == x, &block);
    block = fresh(0, 100);
    report("float", vprobe_float_chain(&block) == 2, &block);
}

static void remembering(void) {
    struct kernel_block block = fresh(3, 4);
    for (uint64_t i = 0; i < NODES; i++)
        memory[i] = (uint64_t)(uintptr_t)&memory[(i + 5) % NODES];
    block.chase = (uint64_t)(uintptr_t)memory;
    report("chase", vprobe_chase(&block) == (uint64_t)(uintptr_t)&memory[35 % NODES], &block);

    double *numbers = (double *)memory;
    for (int i = 0; i < LINES * 24; i++)
        numbers[i] = 1.0;
    block = fresh(1, 1);
    block.stream_lines = LINES;
    vprobe_triad(&block);
    report("triad", numbers[0] == 4.0 && numbers[15] == 4.0 && numbers[16] == 1.0, &block);

    memset(memory, 0, sizeof memory);
    block = fresh(1, 2);
    vprobe_touch(&block);
    report("touch", memory[512] == 2 && memory[1024] == 1 && memory[1536] == 0, &block);
}

static void calling(void) {
    struct kernel_block block = fresh(1, 2);
    report("getpid", vprobe_getpid(&block) == (uint64_t)getpid(), &block);
    int ends[2];
    if (pipe(ends) == -1)
        exit(1);
    block = fresh(1, 2);
    block.arguments[0] = (uint64_t)ends[1];
    block.arguments[1] = (uint64_t)ends[0];
    report("pipe", vprobe_pipe_round_trip(&block) == 'v' && block.error == 0, &block);
    block = fresh(1, 2);
    fflush(stdout);
    report("fork", vprobe_fork_wait(&block) > 1 && block.error == 0, &block);
}

int main(void) {
    computing();
    remembering();
    calling();
    return 0;
}
