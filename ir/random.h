/* random.h: the door to randomness: counter-based, so a run can be replayed from its seed and any draw made out of order.
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). */
#ifndef AQ_IR_RANDOM_H
#define AQ_IR_RANDOM_H
#include <stdint.h>
/* Four 32-bit words of the stream `key` at position `counter`. */
void aq_random_block(uint64_t key, uint64_t counter, uint32_t out[4]);
/* The n blocks from position `counter` on, 4 * n words: the same numbers, several at a time (about 1 ns a word). */
void aq_random_fill(uint64_t key, uint64_t counter, uint64_t n, uint32_t *out);
/* A sequential reader of one stream. */
typedef struct aq_random {
    uint64_t key, counter;
    uint32_t word[4], left;
} aq_random;
aq_random aq_random_open(uint64_t seed);
uint32_t aq_random_u32(aq_random *r);
/* Uniform in [0, bound); bound > 0. Unbiased. */
uint32_t aq_random_below(aq_random *r, uint32_t bound);
/* Uniform in [0, 1), 53 bits. */
double aq_random_unit(aq_random *r);
/* Standard normal (Box-Muller; one value a call, two draws). */
double aq_random_normal(aq_random *r);
/* A seed from the system, for --seed left out: getrandom(2). */
uint64_t aq_random_system_seed(void);
#endif
