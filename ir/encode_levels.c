/* encode_levels.c: rounds rows to the block types whose codes choose among uneven levels (iq4_nl, iq4_xs).
 *
 * A scale decides all codes of its 32 elements: the levels nearest to x / d; and codes decide the scale of least squared error. Some scales that
 * put the farthest number near either end of the levels are tried, each followed by its best scale; the best of them goes a few rounds more.
 * Steps (iq4_xs): the farthest scale is at -32 of the half, the others at the step about theirs that has the least error.
 * The error is the plain squared one, as in encode_k.c; llama.cpp weighs it by x * x where it has no importance matrix. Tried here, iq4_nl, SmolLM2,
 * 1020 tokens: log-probabilities off those of f32 by (rms) 0.590 plain, 0.618 weighed by |x|, 0.655 by x * x, llama-quantize's file 0.673; their mean
 * (perplexity) says the opposite, -0.161, -0.149, -0.114, -0.119: to be decided on more text.
 *
 * Root mean square error (tests/oracle/blocks.py --errors) beside llama.cpp, reference quantiser and llama-quantize:
 *          iq4_nl                   iq4_xs
 * normal   0.0733 (0.0786, 0.0761)  0.0740 (0.0767)
 * SmolLM2  0.0711 (0.0855, 0.0832)  0.0721 (0.0840)     attn_q of the first layer
 * Cost: 27 to 33 ns an element, llama-quantize 180 (AVX2 clones; no multiply-add is fused, so every clone gives the same bits). */
#include "ir/block.h"
#include "ir/lanes.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

enum { LEVELS = 16, STEP_LOW = -32, STEP_HIGH = 31 };

/* The levels, and between each and the next what a number must exceed to be nearer to the next. */
typedef struct ladder {
    float level[LEVELS], middle[LEVELS];
} ladder;

INLINE void ladder_of(const aq_block *b, ladder *out) {
    for (int i = 0; i < LEVELS; i++)
        out->level[i] = (float)(b->level[i] - b->zero);
    for (int i = 0; i + 1 < LEVELS; i++)
        out->middle[i] = (out->level[i] + out->level[i + 1]) / 2;
}

/* The level nearest to each number. */
INLINE void nearest_lanes(const ladder *l, lanes *v) {
    lanes near = {0};
    near += l->level[0];
    for (int i = 0; i + 1 < LEVELS; i++) {
        const lanes up = (lanes){0} + (l->level[i + 1] - l->level[i]);
        near += (lanes)((bits)(*v > l->middle[i]) & (bits)up);
    }
    *v = near;
}

INLINE float sum_of(const lanes *v) {
    const lanes a = *v;
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

/* Sums over the levels q nearest to x * inv: of x * q and of q * q. */
INLINE void take_sums(const ladder *l, const float *x, float inv, float *out_xq, float *out_qq) {
    lanes xq = {0}, qq = {0};
    for (int i = 0; i < AQ_GROUP; i += L) {
        const lanes now = *(const lanes *)(const void *)(x + i);
        lanes q = now * inv;
        nearest_lanes(l, &q);
        xq += now * q;
        qq += q * q;
    }
    *out_xq = sum_of(&xq);
    *out_qq = sum_of(&qq);
}

/* Keeps the best scale for the levels that x * inv gives, if its error is less: the error is the sum of x * x less xq * xq / qq. */
INLINE int try_scale(const ladder *l, const float *x, float inv, float *gain, float *d) {
    float xq, qq;
    take_sums(l, x, inv, &xq, &qq);
    if (!(xq * xq > *gain * qq))
        return 0;
    *d = xq / qq;
    *gain = xq * xq / qq;
    return 1;
}

/* The scale of one group, of either sign: the levels reach farther below zero than above. */
INLINE float fit_group(const ladder *l, const float *x) {
    enum { TRIALS = 5, STEP = 8, INSIDE = 2, POLISH = 3 };
    float far = 0, gain = 0, d = 0;
    for (int i = 0; i < AQ_GROUP; i++)
        far = fabsf(x[i]) > fabsf(far) ? x[i] : far;
    if (fabsf(far) < FLT_MIN)
        return 0;
    for (int end = 0; end < LEVELS; end += LEVELS - 1)
        for (int i = -INSIDE; i < TRIALS - INSIDE; i++)
            try_scale(l, x, (l->level[end] + (float)(end ? STEP * i : -STEP * i)) / far, &gain, &d);
    for (int i = 0; i < POLISH && fabsf(d) > FLT_MIN; i++)
        if (!try_scale(l, x, 1 / d, &gain, &d))
            break;
    return d;
}

INLINE void codes_of(const ladder *l, const float *x, float d, uint8_t *code) {
    float inv = fabsf(d) < FLT_MIN ? 0 : 1 / d;
    for (int i = 0; i < AQ_GROUP; i++) {
        int c = 0;
        for (int k = 0; k + 1 < LEVELS; k++)
            c += x[i] * inv > l->middle[k];
        code[i] = (uint8_t)c;
    }
}

/* Squared error of x against the levels that d gives, times d. */
INLINE float error_of(const ladder *l, const float *x, float d) {
    float inv = fabsf(d) < FLT_MIN ? 0 : 1 / d;
    lanes e = {0};
    for (int i = 0; i < AQ_GROUP; i += L) {
        const lanes now = *(const lanes *)(const void *)(x + i);
        lanes q = now * inv;
        nearest_lanes(l, &q);
        q = q * d - now;
        e += q * q;
    }
    return sum_of(&e);
}

/* The step next to `want` whose levels have the least error. */
INLINE int8_t best_step(const ladder *l, const float *x, float want, float d) {
    int s0 = d == 0 ? 0 : (int)rintf(want / d), best = 0;
    float least = FLT_MAX;
    for (int s = s0 - 1; s <= s0 + 1; s++) {
        float e = s < STEP_LOW || s > STEP_HIGH ? FLT_MAX : error_of(l, x, d * (float)s);
        if (e < least) {
            least = e;
            best = s;
        }
    }
    return (int8_t)best;
}

INLINE void encode_block(aq_dtype t, const ladder *l, const float *from, unsigned char *p) {
    const aq_block *b = aq_block_of(t);
    float x[AQ_SUPER], fit[AQ_SUPER / AQ_GROUP], far = 0;
    uint8_t code[AQ_SUPER], none[16] = {0};
    int8_t step[16] = {0};
    int groups = aq_dtype_of(t)->block / AQ_GROUP;
    for (int i = 0; i < groups * AQ_GROUP; i++) { /* no number, and what a half times the levels may not reach */
        x[i] = from[i] == from[i] ? from[i] : 0;
        x[i] = x[i] > 6e6f ? 6e6f : x[i] < -6e6f ? -6e6f : x[i];
    }
    for (int g = 0; g < groups; g++) {
        fit[g] = fit_group(l, x + g * AQ_GROUP);
        far = fabsf(fit[g]) > fabsf(far) ? fit[g] : far;
    }
    uint16_t d16 = aq_f32_to_f16(b->steps ? far / STEP_LOW : far);
    float d = aq_f16_to_f32(d16);
    for (int g = 0; g < groups; g++) {
        step[g] = b->steps ? best_step(l, x + g * AQ_GROUP, fit[g], d) : 1;
        codes_of(l, x + g * AQ_GROUP, d * (float)step[g], code + g * AQ_GROUP);
    }
    memset(p, 0, aq_dtype_of(t)->bytes);
    memcpy(p + b->d_at, &d16, sizeof d16);
    if (b->steps)
        aq_block_put_steps(t, step, none, p);
    aq_block_put_codes(t, code, p);
}

#define ENCODER(name, t)                                                                                                                    \
    FAST_CLONES static void name(const float *x, size_t n, unsigned char *p) {                                                              \
        ladder l;                                                                                                                           \
        ladder_of(aq_block_of(t), &l);                                                                                                      \
        for (size_t i = 0; i < n; i += aq_dtype_of(t)->block, p += aq_dtype_of(t)->bytes)                                                   \
            encode_block(t, &l, x + i, p);                                                                                                  \
    }
ENCODER(encode_iq4_nl, AQ_IQ4_NL)
ENCODER(encode_iq4_xs, AQ_IQ4_XS)

void aq_block_encode_levels(aq_dtype t, const float *x, size_t n, unsigned char *p) {
    assert((t == AQ_IQ4_NL || t == AQ_IQ4_XS) && n % aq_dtype_of(t)->block == 0);
    if (t == AQ_IQ4_NL)
        encode_iq4_nl(x, n, p);
    else
        encode_iq4_xs(x, n, p);
}
