/* The kernels that compute and that use memory. They run anywhere. */
#include "kernel_code.h"

/* --- cpu --------------------------------------------------------------------------------------------- */

/* One iteration: twelve dependent operations, four times multiply, add, exclusive or. */
KERNEL uint64_t vprobe_integer_chain(struct kernel_block *block) {
    const uint64_t multiplier = block->multiplier, addend = block->addend, mask = block->mask;
    uint64_t x = block->arguments[0];
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
#define LINK                                                                                                 \
    x *= multiplier;                                                                                         \
    HIDE(x);                                                                                                 \
    x += addend;                                                                                             \
    HIDE(x);                                                                                                 \
    x ^= mask;                                                                                               \
    HIDE(x);
            LINK LINK LINK LINK
#undef LINK
        }
    }
    finish(block);
    return x;
}

/* One iteration: sixteen operations on eight independent 64-bit integers: add and exclusive or for each. */
KERNEL uint64_t vprobe_integer_throughput(struct kernel_block *block) {
    const uint64_t addend = block->addend, mask = block->mask;
    uint64_t a = block->arguments[0], b = a + 1, c = a + 2, d = a + 3, e = a + 4, f = a + 5, g = a + 6,
             h = a + 7;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
#define ADD(x)                                                                                               \
    x += addend;                                                                                             \
    HIDE(x)
#define XOR(x)                                                                                               \
    x ^= mask;                                                                                               \
    HIDE(x)
            ADD(a);
            ADD(b);
            ADD(c);
            ADD(d);
            ADD(e);
            ADD(f);
            ADD(g);
            ADD(h);
            XOR(a);
            XOR(b);
            XOR(c);
            XOR(d);
            XOR(e);
            XOR(f);
            XOR(g);
            XOR(h);
#undef ADD
#undef XOR
        }
    }
    finish(block);
    return a ^ b ^ c ^ d ^ e ^ f ^ g ^ h;
}

/* xorshift64 (Marsaglia 2003): every bit is about as often set as not, with no short period. */
ALWAYS uint64_t next_random(uint64_t x) {
    x ^= x << 13;
    x ^= x >> 7;
    return x ^ x << 17;
}

/* One iteration: a step of a random generator and a branch that is taken if any bit of a0 is set in it. a0 =
 * 1 cannot be predicted, a0 = 0 (never taken) and a0 = 2^64 - 1 (always) can. The generator goes on between
 * calls, so that no predictor learns it. Result: how often the branch was taken. */
KERNEL uint64_t vprobe_branches(struct kernel_block *block) {
    const uint64_t bits = block->arguments[0];
    uint64_t random = block->random, taken = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
            random = next_random(random);
            if (random & bits) {
                taken++;
                HIDE(taken); /* keeps it a branch, rather than a conditional move */
            }
        }
    }
    finish(block);
    block->random = random;
    return taken;
}

/* One iteration: eight dependent double operations, four times multiply, add. The value stays near 2. */
KERNEL uint64_t vprobe_float_chain(struct kernel_block *block) {
    const double ratio = block->float_ratio, addend = block->float_addend;
    double x = addend;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
#define LINK                                                                                                 \
    x *= ratio;                                                                                              \
    HIDE_DOUBLE(x);                                                                                          \
    x += addend;                                                                                             \
    HIDE_DOUBLE(x);
            LINK LINK LINK LINK
#undef LINK
        }
    }
    finish(block);
    return (uint64_t)(int64_t)(x * addend);
}

typedef double pair __attribute__((vector_size(16), may_alias));

/* One iteration: multiply and add on eight independent registers, each of as many doubles as it holds: 16
 * operations a double lane. The values stay near 2. */
#define VECTOR_KERNEL(wide)                                                                                  \
    wide a = addend, b = a, c = a, d = a, e = a, f = a, g = a, h = a;                                        \
    FOR_EACH_PHASE(phase) {                                                                                  \
        for (uint64_t left = begin(block, phase); left != 0; left--) {                                       \
            STEP(a);                                                                                         \
            STEP(b);                                                                                         \
            STEP(c);                                                                                         \
            STEP(d);                                                                                         \
            STEP(e);                                                                                         \
            STEP(f);                                                                                         \
            STEP(g);                                                                                         \
            STEP(h);                                                                                         \
        }                                                                                                    \
    }                                                                                                        \
    finish(block);                                                                                           \
    a += b + c + d + e + f + g + h;                                                                          \
    return (uint64_t)(int64_t)a[0]
#define STEP(x)                                                                                              \
    x *= ratio;                                                                                              \
    HIDE_DOUBLE(x);                                                                                          \
    x += addend;                                                                                             \
    HIDE_DOUBLE(x)

KERNEL uint64_t vprobe_vector_sse2(struct kernel_block *block) {
    const pair ratio = {block->float_ratio, block->float_ratio},
               addend = {block->float_addend, block->float_addend};
    VECTOR_KERNEL(pair);
}

#if defined(__x86_64__)
typedef double quad __attribute__((vector_size(32), may_alias));

KERNEL __attribute__((target("avx2"))) uint64_t vprobe_vector_avx2(struct kernel_block *block) {
    const double r = block->float_ratio, s = block->float_addend;
    const quad ratio = {r, r, r, r}, addend = {s, s, s, s};
    VECTOR_KERNEL(quad);
}
#endif
#undef STEP

/* Blocked matrix product: c += a * b, row by row, over three square matrices of `side` * 64 elements a row.
 * One iteration: one 64 * 64 block of c gains the product of a block of a and a block of b, 2 * 64^3
 * operations. Goes on where the last call stopped, and wraps. Four rows by two registers of c are held at a
 * time. */
enum { TILE = MATRIX_TILE };

#define MATRIX_KERNEL(wide)                                                                                  \
    enum { LANES = sizeof(wide) / sizeof(double) };                                                          \
    const uint64_t side = block->matrix_side, row = side * TILE, elements = row * row;                       \
    double *const first = (double *)(uintptr_t)block->memory;                                                \
    uint64_t at = block->matrix_position;                                                                    \
    FOR_EACH_PHASE(phase) {                                                                                  \
        for (uint64_t left = begin(block, phase); left != 0; left--) {                                       \
            const uint64_t i = at / (side * side), j = at / side % side, k = at % side;                      \
            const double *a = first + i * TILE * row + k * TILE;                                             \
            const double *const b = first + elements + k * TILE * row + j * TILE;                            \
            double *c = first + 2 * elements + i * TILE * row + j * TILE;                                    \
            for (uint64_t rows = TILE / 4; rows != 0; rows--, a += 4 * row, c += 4 * row)                    \
                for (uint64_t column = 0; column != TILE; column += 2 * LANES) {                             \
                    wide c00 = {0}, c01 = {0}, c10 = {0}, c11 = {0};                                         \
                    wide c20 = {0}, c21 = {0}, c30 = {0}, c31 = {0};                                         \
                    const double *right = b + column, *left_row = a;                                         \
                    for (uint64_t inner = TILE; inner != 0; inner--, right += row, left_row++) {             \
                        const wide b0 = LOAD(wide, right), b1 = LOAD(wide, right + LANES);                   \
                        c00 += left_row[0] * b0;                                                             \
                        c01 += left_row[0] * b1;                                                             \
                        c10 += left_row[row] * b0;                                                           \
                        c11 += left_row[row] * b1;                                                           \
                        c20 += left_row[2 * row] * b0;                                                       \
                        c21 += left_row[2 * row] * b1;                                                       \
                        c30 += left_row[3 * row] * b0;                                                       \
                        c31 += left_row[3 * row] * b1;                                                       \
                    }                                                                                        \
                    double *const sum = c + column;                                                          \
                    LOAD(wide, sum) += c00;                                                                  \
                    LOAD(wide, sum + LANES) += c01;                                                          \
                    LOAD(wide, sum + row) += c10;                                                            \
                    LOAD(wide, sum + row + LANES) += c11;                                                    \
                    LOAD(wide, sum + 2 * row) += c20;                                                        \
                    LOAD(wide, sum + 2 * row + LANES) += c21;                                                \
                    LOAD(wide, sum + 3 * row) += c30;                                                        \
                    LOAD(wide, sum + 3 * row + LANES) += c31;                                                \
                }                                                                                            \
            if (++at == side * side * side)                                                                  \
                at = 0;                                                                                      \
        }                                                                                                    \
    }                                                                                                        \
    finish(block);                                                                                           \
    block->matrix_position = at;                                                                             \
    return at
#define LOAD(wide, address) (*(wide *)(address))

KERNEL uint64_t vprobe_matrix_sse2(struct kernel_block *block) {
    MATRIX_KERNEL(pair);
}

#if defined(__x86_64__)
KERNEL __attribute__((target("avx2"))) uint64_t vprobe_matrix_avx2(struct kernel_block *block) {
    MATRIX_KERNEL(quad);
}
#endif
#undef LOAD

/* --- memory ------------------------------------------------------------------------------------------ */

/* One iteration: one load, whose address the load before it returned. Goes on where the last call stopped. */
KERNEL uint64_t vprobe_chase(struct kernel_block *block) {
    uintptr_t node = (uintptr_t)block->chase;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
            node = *(const uintptr_t *)node;
            HIDE(node);
        }
    }
    finish(block);
    block->chase = node;
    return node;
}

/* The loops of STREAM over doubles (McCalpin): copy c = a, scale b = s * c, add c = a + b, triad a = b + s *
 * c. */
enum stream { COPY, SCALE, ADD, TRIAD };

ALWAYS void stream_pair(pair *a, pair *b, pair *c, pair scale, enum stream loop) {
    if (loop == COPY)
        *c = *a;
    else if (loop == SCALE)
        *b = scale * *c;
    else if (loop == ADD)
        *c = *a + *b;
    else
        *a = *b + scale * *c;
}

/* One iteration: one 64-byte line of each array concerned, that is 8 elements. Goes on where the last call
 * stopped, whichever of the four it was, and wraps. */
ALWAYS uint64_t stream(struct kernel_block *block, enum stream loop) {
    const uint64_t lines = block->stream_lines;
    pair *const a = (pair *)(uintptr_t)block->memory, *const b = a + lines * 4, *const c = b + lines * 4;
    const pair scale = {block->stream_scale, block->stream_scale};
    uint64_t at = block->stream_position * 4;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
            stream_pair(a + at, b + at, c + at, scale, loop);
            stream_pair(a + at + 1, b + at + 1, c + at + 1, scale, loop);
            stream_pair(a + at + 2, b + at + 2, c + at + 2, scale, loop);
            stream_pair(a + at + 3, b + at + 3, c + at + 3, scale, loop);
            at += 4;
            if (at == lines * 4)
                at = 0;
        }
    }
    finish(block);
    block->stream_position = at / 4;
    return at * sizeof(pair);
}

KERNEL uint64_t vprobe_copy(struct kernel_block *block) {
    return stream(block, COPY);
}

KERNEL uint64_t vprobe_scale(struct kernel_block *block) {
    return stream(block, SCALE);
}

KERNEL uint64_t vprobe_add(struct kernel_block *block) {
    return stream(block, ADD);
}

KERNEL uint64_t vprobe_triad(struct kernel_block *block) {
    return stream(block, TRIAD);
}

/* One iteration: one store into the next page of page_bytes, from memory + a0 on. Keeps no position. */
KERNEL uint64_t vprobe_touch(struct kernel_block *block) {
    const uint64_t stride = block->page_bytes;
    char *page = (char *)(uintptr_t)(block->memory + block->arguments[0]);
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
            *(volatile uint64_t *)page = left;
            page += stride;
        }
    }
    finish(block);
    return (uint64_t)(uintptr_t)page;
}

/* One iteration: one load from the next page of page_bytes, from memory + a0 on. Keeps no position. Result:
 * the exclusive or of what was read. */
KERNEL uint64_t vprobe_peek(struct kernel_block *block) {
    const uint64_t stride = block->page_bytes;
    const char *page = (const char *)(uintptr_t)(block->memory + block->arguments[0]);
    uint64_t seen = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
            seen ^= *(const volatile uint64_t *)page;
            page += stride;
        }
    }
    finish(block);
    return seen;
}

/* One iteration: one atomic addition of 1 to the first word of the memory that returns what was there. */
KERNEL uint64_t vprobe_atomic(struct kernel_block *block) {
    uint64_t *const word = (uint64_t *)(uintptr_t)block->memory;
    uint64_t before = 0;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
            before = __atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
            HIDE(before);
        }
    }
    finish(block);
    return before;
}

/* --- time -------------------------------------------------------------------------------------------- */

/* One iteration: one read of the counter that the kernels are timed by. Result: of the timed part, the ticks
 * that lie between two reads that are more than a0 ticks apart: time in which this code did not run. */
KERNEL uint64_t vprobe_gaps(struct kernel_block *block) {
    const uint64_t longest = block->arguments[0];
    uint64_t lost = 0;
    FOR_EACH_PHASE(phase) {
        uint64_t iterations = begin(block, phase), last = block->ticks[phase];
        lost = 0;
        for (uint64_t left = iterations; left != 0; left--) {
            uint64_t now = ticks(block), gap = now - last;
            if (gap > longest)
                lost += gap;
            last = now;
        }
    }
    finish(block);
    return lost;
}

/* One iteration: one update of RandomAccess (HPC Challenge): the next number of its shift register,
 * exclusive-ored into the word of the table that its low bits name. The register goes on between calls. */
KERNEL uint64_t vprobe_random_access(struct kernel_block *block) {
    enum { POLYNOMIAL = 7 };
    uint64_t *const table = (uint64_t *)(uintptr_t)block->memory;
    const uint64_t mask = block->table_mask;
    uint64_t random = block->random;
    FOR_EACH_PHASE(phase) {
        for (uint64_t left = begin(block, phase); left != 0; left--) {
            random = random << 1 ^ ((int64_t)random < 0 ? POLYNOMIAL : 0);
            table[random & mask] ^= random;
        }
    }
    finish(block);
    block->random = random;
    return random;
}
