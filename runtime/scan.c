/* scan.c: passes over all logits, written once on vectors of 8 and compiled for three widths; which one runs is found at run time.
 *
 * No fused multiply-add and fixed lanes (element i goes to lane i mod 8, then a tree): the three give the same bits. exp is our own: libm's
 * scalar one took ten times as long as the rest of sampling together.
 * Dropped: a radix select for the k-th largest (no faster than the heap: almost every logit fails at its threshold, 32 at a look). */
#include "runtime/scan.h"

#include "runtime/cpu/features.h"

#include <math.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8, LOOK = 4 * LANES };

typedef float lanes_f32 __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t lanes_i32 __attribute__((vector_size(LANES * 4)));
typedef double lanes_f64 __attribute__((vector_size(LANES * 8)));
typedef int64_t lanes_i64 __attribute__((vector_size(LANES * 8)));

#define AT(x) (*(const lanes_f32 *)(const void *)(x))

INLINE float largest(const float *x, int64_t n) {
    lanes_f32 m[4];
    float max = -INFINITY;
    int64_t i = 0;
    for (int k = 0; k < 4; k++)
        m[k] = (lanes_f32){0} - INFINITY;
    for (; i + LOOK <= n; i += LOOK)
        for (int k = 0; k < 4; k++) {
            lanes_f32 v = AT(x + i + k * LANES);
            lanes_i32 more = v > m[k]; /* false for NaN */
            m[k] = (lanes_f32)((more & (lanes_i32)v) | (~more & (lanes_i32)m[k]));
        }
    for (int k = 0; k < LOOK; k++)
        max = m[k / LANES][k % LANES] > max ? m[k / LANES][k % LANES] : max;
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

INLINE int any(const lanes_i32 *mask) {
    int64_t half[LANES / 2];
    memcpy(half, mask, sizeof half);
    return ((half[0] | half[1]) | (half[2] | half[3])) != 0;
}

/* Is one of LOOK elements >= least? */
INLINE int some(const float *x, float least) {
    lanes_i32 m = (AT(x) >= least) | (AT(x + LANES) >= least) | (AT(x + 2 * LANES) >= least) | (AT(x + 3 * LANES) >= least);
    return any(&m);
}

INLINE int64_t find(const float *x, int64_t n, float value) {
    int64_t i = 0;
    while (i + LOOK <= n && !some(x + i, value)) /* value is the largest: >= is == */
        i += LOOK;
    for (; i < n; i++)
        if (x[i] == value)
            return i;
    return 0;
}

INLINE int64_t gather(const float *x, int64_t n, float least, aq_candidate *out) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        if (i % LOOK == 0 && i + LOOK <= n && !some(x + i, least)) {
            i += LOOK - 1;
            continue;
        }
        if (x[i] >= least)
            out[count++] = (aq_candidate){x[i], (int32_t)i};
    }
    return count;
}

INLINE void sift_down(float *heap, int64_t n, int64_t i) { /* smallest on top */
    float x = heap[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && heap[child + 1] < heap[child];
        if (heap[child] >= x)
            break;
        heap[i] = heap[child];
    }
    heap[i] = x;
}

INLINE float kth_largest(const float *x, int64_t n, int64_t k, float *heap) {
    for (int64_t i = 0; i < k; i++)
        heap[i] = x[i] == x[i] ? x[i] : -INFINITY;
    for (int64_t i = k / 2; i-- > 0;)
        sift_down(heap, k, i);
    for (int64_t i = k; i < n; i++) {
        if (i % LOOK == 0 && i + LOOK <= n && !some(x + i, heap[0])) {
            i += LOOK - 1;
            continue;
        }
        if (x[i] > heap[0]) {
            heap[0] = x[i];
            sift_down(heap, k, 0);
        }
    }
    return heap[0];
}

/* exp of each lane, for x <= 0; below -700 as at -700, NaN too. x = k ln 2 + r, the Taylor polynomial of e^r to r^12 (|r| <= ln 2 / 2: the
 * rest is below 2e-16), k added to the exponent. */
INLINE void exp_lanes(const lanes_f64 *in, lanes_f64 *out) {
    const double magic = 0x1.8p52; /* adding it rounds to an integer, kept in the low bits */
    const lanes_f64 least = (lanes_f64){0} - 700.0;
    lanes_f64 x = *in;
    lanes_i64 above = x > least;
    x = (lanes_f64)((above & (lanes_i64)x) | (~above & (lanes_i64)least));
    lanes_f64 shifted = x * 0x1.71547652b82fep0 + magic;
    lanes_f64 k = shifted - magic;
    lanes_f64 r = x - k * 0x1.62e42fefa38p-1 - k * 0x1.ef35793c7673p-45;
    static const double c[] = {1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1};
    lanes_f64 p = (lanes_f64){0} + 1.0 / 479001600;
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        p = p * r + c[i];
    *out = (lanes_f64)((lanes_i64)p + ((lanes_i64)shifted << 52));
}

INLINE double sum_exp(const float *x, int64_t n, float max, double scale, double *weight) {
    lanes_f64 sum = {0}, e;
    for (int64_t i = 0; i < n; i += LANES) {
        lanes_f32 v;
        int64_t left = n - i < LANES ? n - i : LANES;
        if (left == LANES)
            v = AT(x + i);
        else
            for (int j = 0; j < LANES; j++)
                v[j] = j < left ? x[i + j] : -INFINITY;
        lanes_f64 d = (__builtin_convertvector(v, lanes_f64) - (double)max) * scale;
        exp_lanes(&d, &e);
        sum += e;
        if (weight)
            memcpy(weight + i, &e, (size_t)left * sizeof *weight);
    }
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

/* WIDTH(name, attribute): the passes compiled for one kind of processor. */
#define WIDTH(name, how)                                                                                                                    \
    how static float name##_largest(const float *x, int64_t n) { return largest(x, n); }                                                    \
    how static int64_t name##_find(const float *x, int64_t n, float v) { return find(x, n, v); }                                            \
    how static double name##_sum_exp(const float *x, int64_t n, float max, double s, double *w) { return sum_exp(x, n, max, s, w); }        \
    how static float name##_kth_largest(const float *x, int64_t n, int64_t k, float *heap) { return kth_largest(x, n, k, heap); }           \
    how static int64_t name##_gather(const float *x, int64_t n, float l, aq_candidate *out) { return gather(x, n, l, out); }                \
    static const aq_scan name = {name##_largest, name##_find, name##_sum_exp, name##_kth_largest, name##_gather};
WIDTH(plain, )
WIDTH(avx2, __attribute__((target("avx2"))))
WIDTH(avx512, __attribute__((target("avx512f,avx512dq,avx512vl"))))

const aq_scan *aq_scan_of(int width) {
    switch (width) {
    case 0: return &plain;
    case 1: return aq_rt_cpu_has(AQ_CPU_avx2) ? &avx2 : NULL;
    case 2: return aq_rt_cpu_has(AQ_CPU_avx512f) && aq_rt_cpu_has(AQ_CPU_avx512dq) && aq_rt_cpu_has(AQ_CPU_avx512vl) ? &avx512 : NULL;
    default: return NULL;
    }
}

const aq_scan *aq_scan_here(void) {
    const aq_scan *best = aq_scan_of(2);
    best = best ? best : aq_scan_of(1);
    return best ? best : aq_scan_of(0);
}
