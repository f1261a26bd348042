/* A stand-alone measure of two workloads, to hold against vprobe's: it shares no code with the package.
 *
 *   oracle chain ITERATIONS CPU           one iteration: 4 x (multiply, add, exclusive or), each on the last
 * result oracle chase BYTES ITERATIONS CPU     one iteration: one load; nodes of 64 bytes in one random cycle
 *
 * Then, for every line on standard input, one block is timed with CLOCK_MONOTONIC and its ns per iteration
 * printed; the program ends with its input. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { LINE = 64 };

struct node {
    struct node *next;
    char rest[LINE - sizeof(struct node *)];
};

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) == -1)
        die("sched_setaffinity");
}

/* 4 KiB pages, so that both sides have the same reach of the TLB. */
static struct node *make_cycle(size_t bytes) {
    size_t count = bytes / LINE;
    struct node *nodes = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t *order = malloc(count * sizeof *order);
    if (nodes == MAP_FAILED || order == NULL)
        die("memory");
    madvise(nodes, bytes, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    srandom(12345);
    for (size_t i = count - 1; i > 0; i--) { /* Fisher and Yates */
        size_t j = (size_t)random() % (i + 1), swapped = order[i];
        order[i] = order[j];
        order[j] = swapped;
    }
    for (size_t i = 0; i < count; i++)
        nodes[order[i]].next = &nodes[order[(i + 1) % count]];
    free(order);
    return nodes;
}

static uint64_t state = 88172645463325252u;

static void chain(long iterations) {
    uint64_t x = state, factor = 6364136223846793005u, term = 1442695040888963407u,
             mask = 0x5851f42d4c957f2du;
    __asm__ volatile("" : "+r"(factor), "+r"(term), "+r"(mask));
    for (long i = 0; i < iterations; i++)
        for (int link = 0; link < 4; link++) {
            x = x * factor;
            __asm__ volatile("" : "+r"(x));
            x = x + term;
            __asm__ volatile("" : "+r"(x));
            x = x ^ mask;
            __asm__ volatile("" : "+r"(x));
        }
    state = x;
}

static struct node *place;

static void chase(long iterations) {
    struct node *node = place;
    for (long i = 0; i < iterations; i++)
        node = node->next;
    place = node;
}

int main(int count, char **words) {
    int is_chase = count == 5 && strcmp(words[1], "chase") == 0;
    if (!is_chase && !(count == 4 && strcmp(words[1], "chain") == 0)) {
        fputs("usage: oracle chain ITERATIONS CPU | oracle chase BYTES ITERATIONS CPU\n", stderr);
        return 2;
    }
    long iterations = atol(words[count - 2]);
    pin(atoi(words[count - 1]));
    if (is_chase)
        place = make_cycle((size_t)atol(words[2]));
    void (*work)(long) = is_chase ? chase : chain;
    char line[16];
    while (fgets(line, sizeof line, stdin) != NULL) {
        work(iterations / 4); /* warm: the other program ran meanwhile */
        double start = now_ns();
        work(iterations);
        double end = now_ns();
        printf("%.6f\n", (end - start) / (double)iterations);
        fflush(stdout);
    }
    fprintf(stderr, "%llu %p\n", (unsigned long long)state, (void *)place); /* the results are used */
    return 0;
}
