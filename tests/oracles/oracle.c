/* Stand-alone measures of some workloads, to hold against vprobe's: they share no code with the package.
 *
 *   oracle chain ITERATIONS         one iteration: 4 x (multiply, add, exclusive or), each on the last result
 *   oracle chase BYTES ITERATIONS   one iteration: one load; nodes of 64 bytes in one random cycle
 *   oracle copy | scale | add | triad BYTES LINES
 *     STREAM (McCalpin) over three arrays in BYTES; LINES lines of 64 bytes of each a block, which goes on
 *     where the last one stopped
 *   oracle getpid | getppid ITERATIONS
 *                                   one iteration: the system call, by the instruction
 *   oracle getppid-function ITERATIONS
 *                                   one iteration: the C library's function of that name
 *   oracle fork BYTES ITERATIONS    one iteration: fork, exit, wait, with BYTES of private memory touched
 *
 * For every line on standard input one block is timed with CLOCK_MONOTONIC and its ns per iteration printed
 * (STREAM: bytes per second); the program ends with its input. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 64, PAGE = 4096 };

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

/* STREAM, as McCalpin wrote the loops: the compiler may vectorize them, and does. */
static double *stream_a, *stream_b, *stream_c;
static size_t stream_elements, stream_at;
static int stream_bytes_an_element;
enum loop { COPY, SCALE, ADD, TRIAD };

static void stream_set_up(size_t bytes, enum loop loop) {
    /* The arrays lie a third of a page apart, as vprobe's do: STREAM's OFFSET. At the same offset all three
     * streams reach a new page at once, which was 10 % faster on an EPYC and is slower where 4 KiB alias. */
    size_t lines = bytes / 3 / LINE;
    lines -= (lines - PAGE / LINE / 3) % (PAGE / LINE);
    stream_elements = lines * (LINE / sizeof(double));
    stream_a = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stream_a == MAP_FAILED)
        die("memory");
    madvise(stream_a, bytes, MADV_NOHUGEPAGE);
    stream_b = stream_a + stream_elements;
    stream_c = stream_b + stream_elements;
    for (size_t i = 0; i < stream_elements; i++) {
        stream_a[i] = 1.0;
        stream_b[i] = 2.0;
        stream_c[i] = 0.0;
    }
    stream_bytes_an_element = loop == COPY || loop == SCALE ? 16 : 24;
}

static void stream(long lines, enum loop loop) {
    const double scalar = 3.0;
    size_t left = (size_t)lines * (LINE / sizeof(double));
    while (left > 0) {
        size_t count = stream_elements - stream_at < left ? stream_elements - stream_at : left;
        double *restrict a = stream_a + stream_at, *restrict b = stream_b + stream_at,
                         *restrict c = stream_c + stream_at;
        if (loop == COPY)
            for (size_t i = 0; i < count; i++)
                c[i] = a[i];
        else if (loop == SCALE)
            for (size_t i = 0; i < count; i++)
                b[i] = scalar * c[i];
        else if (loop == ADD)
            for (size_t i = 0; i < count; i++)
                c[i] = a[i] + b[i];
        else
            for (size_t i = 0; i < count; i++)
                a[i] = b[i] + scalar * c[i];
        left -= count;
        stream_at = (stream_at + count) % stream_elements;
    }
}

static void copy(long lines) {
    stream(lines, COPY);
}

static void scale(long lines) {
    stream(lines, SCALE);
}

static void add(long lines) {
    stream(lines, ADD);
}

static void triad(long lines) {
    stream(lines, TRIAD);
}

/* The instruction itself: in the C library's function there are a call and a return more. */
static inline long call_by_instruction(long number) {
    long result = number;
    __asm__ volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
    return result;
}

static void getpids(long iterations) {
    for (long i = 0; i < iterations; i++)
        call_by_instruction(SYS_getpid);
}

static void getppids(long iterations) {
    for (long i = 0; i < iterations; i++)
        call_by_instruction(SYS_getppid);
}

static void getppids_by_function(long iterations) {
    for (long i = 0; i < iterations; i++)
        getppid();
}

static void fork_wait(long iterations) {
    for (long i = 0; i < iterations; i++) {
        pid_t child = fork();
        if (child == -1)
            die("fork");
        if (child == 0)
            _exit(0);
        if (waitpid(child, NULL, 0) == -1)
            die("waitpid");
    }
}

static void touch(size_t bytes) {
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die("memory");
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    memset(memory, 1, bytes);
}

static const struct {
    const char *name;
    void (*work)(long);
    int takes_bytes, loop; /* loop: of STREAM, else -1 */
} measures[] = {{"chain", chain, 0, -1},      {"getpid", getpids, 0, -1},
                {"getppid", getppids, 0, -1}, {"getppid-function", getppids_by_function, 0, -1},
                {"chase", chase, 1, -1},      {"fork", fork_wait, 1, -1},
                {"copy", copy, 1, COPY},      {"scale", scale, 1, SCALE},
                {"add", add, 1, ADD},         {"triad", triad, 1, TRIAD}};

int main(int count, char **words) {
    for (size_t i = 0; i < sizeof measures / sizeof *measures; i++) {
        if (count != 3 + measures[i].takes_bytes || strcmp(words[1], measures[i].name) != 0)
            continue;
        long iterations = atol(words[count - 1]);
        size_t bytes = (size_t)atol(words[2]);
        if (measures[i].work == chase)
            place = make_cycle(bytes);
        else if (measures[i].work == fork_wait)
            touch(bytes);
        else if (measures[i].loop >= 0)
            stream_set_up(bytes, (enum loop)measures[i].loop);
        char line[16];
        while (fgets(line, sizeof line, stdin) != NULL) {
            measures[i].work(iterations / 4); /* warm: the other program ran meanwhile */
            double start = now_ns();
            measures[i].work(iterations);
            double ns = now_ns() - start;
            double bytes_an_iteration =
                measures[i].loop >= 0 ? stream_bytes_an_element * (LINE / (double)sizeof(double)) : 0;
            printf("%.6f\n", bytes_an_iteration ? bytes_an_iteration * (double)iterations / ns * 1e9
                                                : ns / (double)iterations);
            fflush(stdout);
        }
        /* the results are used */
        fprintf(stderr, "%llu %p %g\n", (unsigned long long)state, (void *)place,
                stream_a ? stream_a[stream_at] : 0.0);
        return 0;
    }
    fputs("usage: oracle chain|getpid|getppid|getppid-function ITERATIONS | oracle "
          "chase|fork|copy|scale|add|triad BYTES ITERATIONS\n",
          stderr);
    return 2;
}
