/* encode_levels.c: rounds rows to the block types whose codes choose among uneven levels (iq4_nl).
 *
 * A scale decides all codes of its 32 elements: the levels nearest to x / d; and codes decide the scale of least squared error. Some scales that
 * put the farthest number near either end of the levels are tried, each followed by its best scale; the best of them goes a few rounds more.
 * The error is the plain squared one, as in encode_k.c; llama.cpp weighs it by x * x where it has no importance matrix.
 *
 * Normal data, root mean square error 0.0734, against 0.0787 of llama.cpp's reference quantiser and 0.0761 of llama-quantize
 * Cost: 27 ns an element (AVX2 clones; no multiply-add is fused, so every clone gives the same bits). */
#include "ir/block.h"
#include "ir/lanes.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

enum { LEVELS = 16 };

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

INLINE void encode_block(aq_dtype t, const ladder *l, const float *from, unsigned char *p) {
    float x[AQ_GROUP];
    uint8_t code[AQ_GROUP];
    for (int i = 0; i < AQ_GROUP; i++) { /* no number, and what a half times the levels may not reach */
        x[i] = from[i] == from[i] ? from[i] : 0;
        x[i] = x[i] > 6e6f ? 6e6f : x[i] < -6e6f ? -6e6f : x[i];
    }
    uint16_t d = aq_f32_to_f16(fit_group(l, x));
    codes_of(l, x, aq_f16_to_f32(d), code);
    memset(p, 0, aq_dtype_of(t)->bytes);
    memcpy(p + aq_block_of(t)->d_at, &d, sizeof d);
    aq_block_put_codes(t, code, p);
}

FAST_CLONES static void encode_iq4_nl(const float *x, size_t n, unsigned char *p) {
    ladder l;
    ladder_of(aq_block_of(AQ_IQ4_NL), &l);
    for (size_t i = 0; i < n; i += AQ_GROUP, p += aq_dtype_of(AQ_IQ4_NL)->bytes)
        encode_block(AQ_IQ4_NL, &l, x + i, p);
}

void aq_block_encode_levels(aq_dtype t, const float *x, size_t n, unsigned char *p) {
    assert(t == AQ_IQ4_NL && n % AQ_GROUP == 0);
    encode_iq4_nl(x, n, p);
}
