/* encode.c: rounds f32 to every type but those with steps (encode_k.c) or levels (encode_levels.c). Plain types element by element; a block's range by lanes, then loops
 * that the compiler makes vectors of: at most 2 ns an element of a block type (with AVX2), which is no more than reading it from a disk.
 * No NaN and nothing beyond a type's range reaches a conversion to an integer: what that gives is not defined.
 * Dropped: roundf and llrintf, calls that no loop around them can be made a vector of (6 to 9 ns an element). */
#include "ir/block.h"
#include "ir/lanes.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

enum { BLOCK = AQ_GROUP };

/* To nearest even, NaN to 0, saturated to [low, high]. */
static int64_t saturate(float x, int64_t low, int64_t high) {
    if (!(x == x))
        return 0;
    if (x <= (float)low)
        return low;
    if (x >= (float)high)
        return high;
    return llrintf(x);
}

INLINE void store_u16(unsigned char *p, uint16_t v) { memcpy(p, &v, sizeof v); }
INLINE void store_f32(unsigned char *p, float v) { memcpy(p, &v, sizeof v); }

/* The least and the greatest number of a block, widened from what stands in *lo and *hi. NaN is passed over. */
INLINE void range_of(const float *x, float *lo, float *hi) {
    lanes a = {*lo, *lo, *lo, *lo, *lo, *lo, *lo, *lo}, b = {*hi, *hi, *hi, *hi, *hi, *hi, *hi, *hi};
    for (int i = 0; i < BLOCK; i += L) {
        const lanes now = *(const lanes *)(const void *)(x + i);
        const bits below = (bits)(now < a), above = (bits)(now > b);
        a = (lanes)(((bits)now & below) | ((bits)a & ~below));
        b = (lanes)(((bits)now & above) | ((bits)b & ~above));
    }
    for (int i = 0; i < L; i++) {
        *lo = a[i] < *lo ? a[i] : *lo;
        *hi = b[i] > *hi ? b[i] : *hi;
    }
}

INLINE float largest(const float *x) {
    float lo = 0, hi = 0;
    range_of(x, &lo, &hi);
    return hi >= -lo ? hi : -lo; /* 0 has no sign here */
}

/* A scale below the normal range has no finite inverse: such a block is taken as zeros. */
INLINE float inverse(float d) { return fabsf(d) < FLT_MIN ? 0 : 1 / d; }

/* a8, a16: q = round(x * (1 / d)) to nearest even, d = max|x| / limit. */
static void encode_act(aq_dtype t, const float *x, unsigned char *p) {
    int limit = t == AQ_A8 ? 127 : 32767, sum = 0;
    float d = largest(x) / (float)limit, inv = inverse(d);
    static const int place[4] = {0, 2, 1, 3};
    for (int i = 0; i < BLOCK; i++) {
        int q = (int)saturate(x[i] * inv, -limit, limit);
        sum += q;
        if (t == AQ_A8)
            p[8 + i] = (unsigned char)q;
        else
            store_u16(p + 8 + 2 * (i / 4 * 4 + place[i % 4]), (uint16_t)q);
    }
    store_f32(p, inv == 0 ? 0 : d);
    store_f32(p + 4, inv == 0 ? 0 : d * (float)sum);
}

/* The scale is used unrounded and stored rounded to f16, ties go away from zero: the rules that made the files in circulation. */
INLINE void encode_q8_0(const float *x, unsigned char *p) {
    float d = largest(x) / 127, inv = inverse(d);
    int32_t whole[BLOCK];
    int8_t q[BLOCK]; /* not p, which the compiler would have to think x */
    for (int i = 0; i < BLOCK; i += L) {
        lanes v = *(const lanes *)(const void *)(x + i) * inv;
        v = (lanes)((bits)v & (bits)(v == v));
        at_least(&v, -127);
        at_most(&v, 127);
        v += (lanes)(((bits)v & INT32_MIN) | 0x3effffff); /* the largest below a half: then cutting off is roundf, tried on all these numbers */
        *(bits *)(void *)(whole + i) = __builtin_convertvector(v, bits);
    }
    for (int i = 0; i < BLOCK; i++)
        q[i] = (int8_t)whole[i];
    store_u16(p, aq_f32_to_f16(d));
    memcpy(p + 2, q, sizeof q);
}

INLINE void store_codes(aq_dtype t, float d, float m, const uint8_t q[BLOCK], unsigned char *p) {
    memset(p, 0, aq_dtype_of(t)->bytes);
    store_u16(p + aq_block_of(t)->d_at, aq_f32_to_f16(d));
    if (aq_block_of(t)->m_at >= 0)
        store_u16(p + aq_block_of(t)->m_at, aq_f32_to_f16(m));
    aq_block_put_codes(t, q, p);
}

/* The number farthest from 0, the first of several. */
INLINE float farthest(const float *x) {
    float lo = 0, hi = 0;
    range_of(x, &lo, &hi);
    if (hi != -lo)
        return hi > -lo ? hi : lo;
    for (int i = 0; i < BLOCK; i++)
        if (fabsf(x[i]) == hi && hi != 0)
            return x[i];
    return 0;
}

/* q4_0, q5_0: zero 8, 16. In f64, where the product is exact: no fused multiply-add can change a code. */
INLINE void encode_signed(aq_dtype t, int zero, const float *x, unsigned char *p) {
    float d = farthest(x) / (float)-zero, inv = inverse(d);
    uint8_t q[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        double v = (double)x[i] * (double)inv + (zero + 0.5);
        v = v > 0 ? v : 0; /* NaN too */
        v = v < 2 * zero - 1 ? v : 2 * zero - 1;
        q[i] = (uint8_t)(int)v;
    }
    store_codes(t, d, 0, q, p);
}

/* q4_1, q5_1: codes up to 15, 31 */
INLINE void encode_offset(aq_dtype t, int most, const float *x, unsigned char *p) {
    float min = INFINITY, max = -INFINITY;
    range_of(x, &min, &max);
    float d = (max - min) / (float)most, inv = inverse(d);
    uint8_t q[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        float v = (x[i] - min) * inv + 0.5f;
        v = v > 0 ? v : 0; /* NaN too */
        v = v < (float)most ? v : (float)most;
        q[i] = (uint8_t)(int)v;
    }
    store_codes(t, d, min, q, p);
}

static void encode_plain(aq_dtype t, float x, unsigned char *p) {
    double wide = x;
    int32_t i32;
    switch (t) {
    case AQ_F64: memcpy(p, &wide, sizeof wide); return;
    case AQ_F32: store_f32(p, x); return;
    case AQ_BF16: store_u16(p, aq_f32_to_bf16(x)); return;
    case AQ_F16: store_u16(p, aq_f32_to_f16(x)); return;
    case AQ_I8: *p = (unsigned char)saturate(x, INT8_MIN, INT8_MAX); return;
    case AQ_I32:
        i32 = (int32_t)saturate(x, INT32_MIN, INT32_MAX);
        memcpy(p, &i32, sizeof i32);
        return;
    default: assert(!"a plain type without an encode rule");
    }
}

/* ENCODER(name, rule of one block) */
#define ENCODER(name, t, ...)                                                                                                               \
    FAST_CLONES static void name(const float *x, size_t n, unsigned char *p) {                                                              \
        for (size_t i = 0; i < n; i += BLOCK, p += aq_dtype_of(t)->bytes, x += BLOCK)                                                       \
            __VA_ARGS__;                                                                                                                    \
    }
ENCODER(rows_q4_0, AQ_Q4_0, encode_signed(AQ_Q4_0, 8, x, p))
ENCODER(rows_q5_0, AQ_Q5_0, encode_signed(AQ_Q5_0, 16, x, p))
ENCODER(rows_q4_1, AQ_Q4_1, encode_offset(AQ_Q4_1, 15, x, p))
ENCODER(rows_q5_1, AQ_Q5_1, encode_offset(AQ_Q5_1, 31, x, p))
ENCODER(rows_q8_0, AQ_Q8_0, encode_q8_0(x, p))

void aq_dtype_encode_f32(aq_dtype t, const float *src, size_t n, void *dst) {
    const aq_dtype_info *row = aq_dtype_of(t);
    assert(n % row->block == 0);
    unsigned char *p = dst;
    if (row->kind == AQ_KIND_WEIGHT && aq_block_of(t)->level) {
        aq_block_encode_levels(t, src, n, p);
        return;
    }
    if (row->block == AQ_SUPER) {
        aq_block_encode(t, src, n, p);
        return;
    }
    switch (t) {
    case AQ_Q4_0: rows_q4_0(src, n, p); return;
    case AQ_Q5_0: rows_q5_0(src, n, p); return;
    case AQ_Q4_1: rows_q4_1(src, n, p); return;
    case AQ_Q5_1: rows_q5_1(src, n, p); return;
    case AQ_Q8_0: rows_q8_0(src, n, p); return;
    default: break;
    }
    for (size_t i = 0; i < n; i += row->block, p += row->bytes)
        if (row->kind == AQ_KIND_ACT)
            encode_act(t, src + i, p);
        else
            encode_plain(t, src[i], p);
}
