/* random.c: Philox4x32-10 and the few distributions we need. */
#define _GNU_SOURCE
#include "ir/random.h"
#include "ir/clock.h"
#include <math.h>
#include <sys/random.h>

void aq_random_block(uint64_t key, uint64_t counter, uint32_t out[4]) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t x0 = (uint32_t)counter, x1 = (uint32_t)(counter >> 32), x2 = 0, x3 = 0;
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * x0, b = (uint64_t)0xCD9E8D57u * x2;
        uint32_t y0 = (uint32_t)(b >> 32) ^ x1 ^ k0, y2 = (uint32_t)(a >> 32) ^ x3 ^ k1;
        x1 = (uint32_t)b;
        x3 = (uint32_t)a;
        x0 = y0;
        x2 = y2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = x0, out[1] = x1, out[2] = x2, out[3] = x3;
}

/* Positions side by side in vectors: the round's multiplications have no other parallelism. */
enum { LANES = 8 };

static void eight_blocks(uint64_t key, uint64_t counter, uint32_t *out) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32), x0[LANES], x1[LANES], x2[LANES] = {0}, x3[LANES] = {0};
    for (int i = 0; i < LANES; i++) {
        x0[i] = (uint32_t)(counter + (uint64_t)i);
        x1[i] = (uint32_t)((counter + (uint64_t)i) >> 32);
    }
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < LANES; i++) {
            uint64_t a = (uint64_t)0xD2511F53u * x0[i], b = (uint64_t)0xCD9E8D57u * x2[i];
            x0[i] = (uint32_t)(b >> 32) ^ x1[i] ^ k0;
            x2[i] = (uint32_t)(a >> 32) ^ x3[i] ^ k1;
            x1[i] = (uint32_t)b;
            x3[i] = (uint32_t)a;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < LANES; i++)
        out[4 * i] = x0[i], out[4 * i + 1] = x1[i], out[4 * i + 2] = x2[i], out[4 * i + 3] = x3[i];
}

void aq_random_fill(uint64_t key, uint64_t counter, uint64_t n, uint32_t *out) {
    uint64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        eight_blocks(key, counter + i, out + 4 * i);
    for (; i < n; i++)
        aq_random_block(key, counter + i, out + 4 * i);
}

aq_random aq_random_open(uint64_t seed) { return (aq_random){.key = seed}; }

uint32_t aq_random_u32(aq_random *r) {
    if (r->left == 0) {
        aq_random_block(r->key, r->counter++, r->word);
        r->left = 4;
    }
    return r->word[--r->left];
}

uint32_t aq_random_below(aq_random *r, uint32_t bound) {
    uint32_t reject = (0u - bound) % bound; /* 2^32 mod bound */
    for (;;) {
        uint32_t x = aq_random_u32(r);
        if (x >= reject)
            return x % bound;
    }
}

double aq_random_unit(aq_random *r) {
    uint64_t hi = aq_random_u32(r), lo = aq_random_u32(r);
    return (double)((hi << 21) ^ (lo >> 11)) * 0x1p-53;
}

double aq_random_normal(aq_random *r) {
    double u = 1.0 - aq_random_unit(r), v = aq_random_unit(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

uint64_t aq_random_system_seed(void) {
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        seed = (uint64_t)aq_clock_ns();
    return seed;
}
