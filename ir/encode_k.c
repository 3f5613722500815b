/* encode_k.c: rounds rows to the block types whose scales are small integers times one half (q2_k .. q6_k).
 *
 * For each run of 16 or 32 elements: some trial scales, each followed by the scale (and offset) of least squared error for the codes it gave;
 * the best run's scales are rounded to steps of the block's half; then the neighbouring steps are tried with the codes that really result,
 * and the least error wins. The error is the plain squared one: nothing is known here of what the rows will meet.
 *
 * Normal data, root mean square error against llama.cpp's reference quantisers (tests/oracle/blocks.py --errors):
 *          q2_k    q3_k    q4_k    q5_k    q6_k
 * ours     0.2635  0.1435  0.0701  0.0347  0.01722
 * theirs   0.2964  0.1509  0.0713  0.0361  0.01776
 * Cost: 17 to 30 ns an element (AVX2 clones; no multiply-add is fused, so every clone gives the same bits).
 * Not tried: weights from activations. */
#include "ir/block.h"
#include "ir/lanes.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

typedef struct fit {
    float s, m; /* x is about s * q - m */
} fit;

/* What a type asks for. */
typedef struct form {
    int run, lo, hi;       /* elements of a run, range of q */
    int step_lo, step_hi;
    int has_min, min_hi;
} form;

INLINE form form_of(aq_dtype t) {
    switch (t) {
    case AQ_Q2_K: return (form){16, 0, 3, 0, 15, 1, 15};
    case AQ_Q3_K: return (form){16, -4, 3, -32, 31, 0, 0};
    case AQ_Q4_K: return (form){32, 0, 15, 0, 63, 1, 63};
    case AQ_Q5_K: return (form){32, 0, 31, 0, 63, 1, 63};
    default: return (form){16, -32, 31, -128, 127, 0, 0};
    }
}

INLINE float sum_of(const lanes *v) {
    const lanes a = *v;
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}

/* To the nearest integer inside [lo, hi], by the adder: the sum with 1.5 * 2^23 has no room for a fraction. */
#define NO_FRACTION 12582912.0f
INLINE void round_lanes(lanes *v, float lo, float hi) {
    at_least(v, lo);
    at_most(v, hi);
    *v = (*v + NO_FRACTION) - NO_FRACTION;
}
INLINE float nearest(float v, float lo, float hi) {
    v = v < lo ? lo : v;
    v = v > hi ? hi : v;
    return (v + NO_FRACTION) - NO_FRACTION;
}

typedef struct sums {
    float x, q, qq, xq;
} sums;

/* Sums over the codes that x * inv + off gives. */
INLINE void take_sums(const form *f, const float *x, float inv, float off, sums *out) {
    lanes q = {0}, qq = {0}, xq = {0};
    for (int i = 0; i < f->run; i += L) {
        const lanes now = *(const lanes *)(const void *)(x + i);
        lanes c = now * inv + off;
        round_lanes(&c, (float)f->lo, (float)f->hi);
        q += c;
        qq += c * c;
        xq += now * c;
    }
    out->q = sum_of(&q);
    out->qq = sum_of(&qq);
    out->xq = sum_of(&xq);
}

/* Squared error of x against round((x + m) / s) * s - m. */
INLINE float error_of(const form *f, const float *x, fit a) {
    float inv = fabsf(a.s) < FLT_MIN ? 0 : 1 / a.s, off = a.m * inv;
    lanes e = {0};
    for (int i = 0; i < f->run; i += L) {
        const lanes now = *(const lanes *)(const void *)(x + i);
        lanes c = now * inv + off;
        round_lanes(&c, (float)f->lo, (float)f->hi);
        c = c * a.s - a.m - now;
        e += c * c;
    }
    return sum_of(&e);
}

/* Least squares for the codes behind `t`; m at least 0. Returns the squared error less the sum of x*x. */
INLINE float solve(const form *f, const sums *t, fit *out) {
    float n = (float)f->run, det = n * t->qq - t->q * t->q;
    *out = (fit){t->qq > 0 ? t->xq / t->qq : 0, 0};
    if (f->has_min && !(det > 0) && t->x < 0) { /* one code for all */
        *out = (fit){0, -t->x / n};
    } else if (f->has_min && det > 0) {
        float s = (n * t->xq - t->x * t->q) / det, m = (s * t->q - t->x) / n;
        if (m > 0 && s > 0)
            *out = (fit){s, m};
    }
    float s = out->s, m = out->m;
    return s * s * t->qq - 2 * s * t->xq + 2 * m * t->x - 2 * s * m * t->q + n * m * m;
}

INLINE void range_of(const form *f, const float *x, float *min, float *max, sums *t) {
    float lo = 0, hi = 0;
    lanes sum = {0};
    for (int i = 0; i < f->run; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    for (int i = 0; i < f->run; i += L)
        sum += *(const lanes *)(const void *)(x + i);
    *min = lo;
    *max = hi;
    t->x = sum_of(&sum);
}

/* The scale and offset of one run. Trial i of 0 .. 2 * TRIALS puts the outermost number i / TRIALS - 1 codes beyond the range of codes. */
INLINE fit fit_run(const form *f, const float *x) {
    enum { TRIALS = 5, POLISH = 2 };
    float min, max, best = 0;
    sums t;
    fit r = {0, 0}, now;
    range_of(f, x, &min, &max, &t);
    if (max - min < FLT_MIN)
        return r;
    float far = f->has_min ? max - min : -min > max ? min : max; /* of either sign without an offset: it meets the lower end, which is longer */
    float start = f->has_min ? 0 : 1, ends = (float)(f->has_min ? f->hi : f->lo);
    if (f->has_min)
        r.m = -min;
    best = FLT_MAX;
    for (int i = 0; i <= 2 * TRIALS; i++) {
        float reach = ends + (f->has_min ? 1 : -1) * ((float)i / TRIALS - 1), inv = reach / far;
        take_sums(f, x, inv, start == 0 ? -min * inv : 0, &t);
        float e = solve(f, &t, &now);
        if (e < best) {
            best = e;
            r = now;
        }
    }
    for (int i = 0; i < POLISH && fabsf(r.s) > FLT_MIN; i++) {
        take_sums(f, x, 1 / r.s, r.m / r.s, &t);
        float e = solve(f, &t, &now);
        if (!(e < best))
            break;
        best = e;
        r = now;
    }
    return r;
}

INLINE int step_of(float v, float unit, int lo, int hi) {
    return unit == 0 ? 0 : (int)nearest(v / unit, (float)lo, (float)hi);
}

/* The steps about those of `want` whose codes have the least error. */
INLINE void best_steps(const form *f, const float *x, fit want, float d, float dm, int8_t *step, uint8_t *minus) {
    int s0 = step_of(want.s, d, f->step_lo, f->step_hi), m0 = step_of(want.m, dm, 0, f->min_hi);
    float best = FLT_MAX;
    *step = 0;
    *minus = 0;
    for (int s = s0 - 1; s <= s0 + 1; s++)
        for (int m = m0 - f->has_min; m <= m0 + f->has_min; m++) {
            if (s < f->step_lo || s > f->step_hi || m < 0 || m > f->min_hi)
                continue;
            float e = error_of(f, x, (fit){d * (float)s, dm * (float)m});
            if (e < best) {
                best = e;
                *step = (int8_t)s;
                *minus = (uint8_t)m;
            }
        }
}

static void store_half(unsigned char *p, uint16_t h) { memcpy(p, &h, sizeof h); }

INLINE void encode_block(aq_dtype t, const float *from, unsigned char *p) {
    const form form = form_of(t), *f = &form;
    const aq_block *b = aq_block_of(t);
    float x[AQ_SUPER], far = 0, most = 0;
    fit fits[16];
    int8_t step[16] = {0};
    uint8_t minus[16] = {0}, code[AQ_SUPER];
    for (int i = 0; i < AQ_SUPER; i++) { /* no number, and what a half times the steps of q2_k may not reach */
        x[i] = from[i] == from[i] ? from[i] : 0;
        x[i] = x[i] > 4e5f ? 4e5f : x[i] < -4e5f ? -4e5f : x[i];
    }
    for (int j = 0; j < AQ_SUPER / f->run; j++) {
        fits[j] = fit_run(f, x + j * f->run);
        far = fabsf(fits[j].s) > fabsf(far) ? fits[j].s : far;
        most = fits[j].m > most ? fits[j].m : most;
    }
    uint16_t d16 = aq_f32_to_f16(far / (float)(f->has_min ? f->step_hi : f->step_lo)), m16 = aq_f32_to_f16(f->has_min ? most / (float)f->min_hi : 0);
    float d = aq_f16_to_f32(d16), dm = aq_f16_to_f32(m16);
    for (int j = 0; j < AQ_SUPER / f->run; j++) {
        best_steps(f, x + j * f->run, fits[j], d, dm, &step[j], &minus[j]);
        float s = d * (float)step[j], m = dm * (float)minus[j], inv = fabsf(s) < FLT_MIN ? 0 : 1 / s;
        for (int i = j * f->run; i < (j + 1) * f->run; i++)
            code[i] = (uint8_t)((int)nearest(x[i] * inv + m * inv, (float)f->lo, (float)f->hi) + b->zero);
    }
    memset(p, 0, aq_dtype_of(t)->bytes);
    store_half(p + b->d_at, d16);
    if (b->m_at >= 0)
        store_half(p + b->m_at, m16);
    aq_block_put_steps(t, step, minus, p);
    aq_block_put_codes(t, code, p);
}

#define ENCODER(name, type)                                                                                                                 \
    FAST_CLONES static void name(const float *x, unsigned char *p) { encode_block(type, x, p); }
ENCODER(encode_q2_k, AQ_Q2_K)
ENCODER(encode_q3_k, AQ_Q3_K)
ENCODER(encode_q4_k, AQ_Q4_K)
ENCODER(encode_q5_k, AQ_Q5_K)
ENCODER(encode_q6_k, AQ_Q6_K)

void aq_block_encode(aq_dtype t, const float *x, size_t n, unsigned char *p) {
    assert(n % AQ_SUPER == 0);
    for (size_t i = 0; i < n; i += AQ_SUPER, p += aq_dtype_of(t)->bytes)
        switch (t) {
        case AQ_Q2_K: encode_q2_k(x + i, p); break;
        case AQ_Q3_K: encode_q3_k(x + i, p); break;
        case AQ_Q4_K: encode_q4_k(x + i, p); break;
        case AQ_Q5_K: encode_q5_k(x + i, p); break;
        case AQ_Q6_K: encode_q6_k(x + i, p); break;
        default: assert(!"a type with steps without an encoder");
        }
}
