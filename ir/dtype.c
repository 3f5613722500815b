/* dtype.c: the table's look-ups, and the value of every stored bit pattern.
 *
 * A block type is decoded in two steps: its integers are widened to int16 and its scales to f32, then one loop computes
 * q * d + m. So a new block type is one row of block.c, and f32 and f64 cannot disagree. For the types met most the step is one case of
 * open_block, made for a type that is constant in the caller (always_inline), which lets the compiler turn both loops into vectors: about
 * 1 ns a block of 32.
 * Dropped: a table of the 65536 halves (256 KiB, evicts what the caller works on) for four integer instructions. */
#include "ir/dtype.h"

#include "ir/block.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

enum { BLOCK = AQ_GROUP }; /* every block is one group of 32 or, in the types of AQ_SUPER elements, eight */

#define INLINE static inline __attribute__((always_inline))

static const aq_dtype_info rows[AQ_DTYPE_COUNT] = {
    [AQ_DTYPE_NONE] = {"any", 1, 0, AQ_KIND_FLOAT, -1, "", "not bound yet"},
#define DTYPE(ID, name, block, bytes, kind, gguf, safetensors, doc) [AQ_##ID] = {#name, block, bytes, AQ_KIND_##kind, gguf, safetensors, doc},
#include "ir/dtype.def"
#undef DTYPE
};

const aq_dtype_info *aq_dtype_of(aq_dtype t) {
    assert(t >= 0 && t < AQ_DTYPE_COUNT);
    return &rows[t];
}

static int is(const char *row, const char *name, size_t n) { return n > 0 && strlen(row) == n && memcmp(row, name, n) == 0; }

aq_dtype aq_dtype_by_name(const char *name, size_t n) {
    for (int t = 1; t < AQ_DTYPE_COUNT; t++)
        if (is(rows[t].name, name, n))
            return (aq_dtype)t;
    return AQ_DTYPE_NONE;
}

aq_dtype aq_dtype_by_gguf(uint32_t number) {
    for (int t = 1; t < AQ_DTYPE_COUNT; t++)
        if (rows[t].gguf >= 0 && (uint32_t)rows[t].gguf == number)
            return (aq_dtype)t;
    return AQ_DTYPE_NONE;
}

aq_dtype aq_dtype_by_safetensors(const char *name, size_t n) {
    for (int t = 1; t < AQ_DTYPE_COUNT; t++)
        if (is(rows[t].safetensors, name, n))
            return (aq_dtype)t;
    return AQ_DTYPE_NONE;
}

aq_status aq_dtype_bytes(aq_dtype t, uint64_t n, const char *what, size_t *out) {
    const aq_dtype_info *row = aq_dtype_of(t);
    if (n % row->block)
        return aq_fail(AQ_REFUSED, what, "%llu elements of type %s: expected a multiple of its block of %u", (unsigned long long)n, row->name,
                       row->block);
    return aq_size_mul((size_t)(n / row->block), row->bytes, what, out);
}

/* ---- single numbers ---- */

INLINE uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

INLINE float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Shifting a half's exponent and fraction into place is off by a factor 2^112 (the biases, 127 - 15), subnormals included; only
 * the all-ones exponent needs its own bits. No branch, so loops of it vectorise. Needs subnormals not flushed (no DAZ). */
INLINE float half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    float x = float_of((uint32_t)(h & 0x7fff) << 13) * 0x1p112f;
    uint32_t special = (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
    return float_of(bits_of(x) | special | sign);
}

INLINE float brain(uint16_t h) { return float_of((uint32_t)h << 16); }

float aq_f16_to_f32(uint16_t bits) { return half(bits); }
float aq_bf16_to_f32(uint16_t bits) { return brain(bits); }

uint16_t aq_f32_to_f16(float x) {
    uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x1ff)); /* quiet, upper payload kept */
    if (a >= 0x477ff000)                                      /* 65520: half way from the largest half to 2^16 */
        return (uint16_t)(sign | 0x7c00);
    if (a < 0x38800000) { /* below 2^-14: adding 0.5 leaves the half's 2^-24 steps in the last bits, rounded by the adder */
        return (uint16_t)(sign | (bits_of(float_of(a) + 0.5f) - 0x3f000000));
    }
    a += 0xfff + (a >> 13 & 1); /* to nearest, ties to even; a carry runs into the exponent as it should */
    return (uint16_t)(sign | ((a - 0x38000000) >> 13));
}

uint16_t aq_f32_to_bf16(float x) {
    uint32_t u = bits_of(x);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* ---- decode ---- */

INLINE uint16_t load_u16(const unsigned char *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE float load_f32(const unsigned char *p) {
    float v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The integers and scales of one block: element i is q[i] * d + m, exact in f64. */
INLINE void open_block(aq_dtype t, const unsigned char *p, int16_t q[BLOCK], float *d, float *m) {
    *m = 0;
    switch (t) {
    case AQ_Q4_0:
    case AQ_Q4_1: {
        int offset = t == AQ_Q4_0 ? 8 : 0;
        const unsigned char *codes = p + (t == AQ_Q4_0 ? 2 : 4);
        *d = half(load_u16(p));
        if (t == AQ_Q4_1)
            *m = half(load_u16(p + 2));
        for (int i = 0; i < BLOCK / 2; i++) {
            q[i] = (int16_t)((codes[i] & 15) - offset);
            q[i + BLOCK / 2] = (int16_t)((codes[i] >> 4) - offset);
        }
        return;
    }
    case AQ_Q8_0:
        *d = half(load_u16(p));
        for (int i = 0; i < BLOCK; i++)
            q[i] = (int8_t)p[2 + i];
        return;
    case AQ_A8:
        *d = load_f32(p);
        for (int i = 0; i < BLOCK; i++)
            q[i] = (int8_t)p[8 + i];
        return;
    case AQ_A16: /* stored 0 2 1 3 inside each four */
        *d = load_f32(p);
        for (int i = 0; i < BLOCK; i += 4) {
            q[i] = (int16_t)load_u16(p + 8 + 2 * i);
            q[i + 1] = (int16_t)load_u16(p + 8 + 2 * (i + 2));
            q[i + 2] = (int16_t)load_u16(p + 8 + 2 * (i + 1));
            q[i + 3] = (int16_t)load_u16(p + 8 + 2 * (i + 3));
        }
        return;
    default:
        assert(!"a block type without a decode rule");
    }
}

/* LOOP(T, load): dst[i] = the value at src, for plain types. BLOCKS, GROUPS: the same for block types. */
#define LOOP(T, size, load)                                                                                                                 \
    for (size_t i = 0; i < n; i++)                                                                                                          \
        dst[i] = (T)load(p + i * (size));                                                                                                   \
    return
#define GROUPS(T, t)                                                                                                                        \
    for (size_t b = 0; b < n / BLOCK; b++) {                                                                                                \
        int16_t q[BLOCK];                                                                                                                   \
        float d[2], m[2];                                                                                                                   \
        size_t groups = row->block / BLOCK;                                                                                                 \
        aq_block_open(t, p + b / groups * row->bytes, (int)(b % groups), q, d, m);                                                          \
        for (int i = 0; i < BLOCK; i++)                                                                                                     \
            dst[b * BLOCK + (size_t)i] = (T)q[i] * (T)d[i / 16] + (T)m[i / 16];                                                             \
    }                                                                                                                                       \
    return
#define BLOCKS(T, t)                                                                                                                        \
    for (size_t b = 0; b < n / BLOCK; b++) {                                                                                                \
        int16_t q[BLOCK];                                                                                                                   \
        float d, m;                                                                                                                         \
        open_block(t, p + b * rows[t].bytes, q, &d, &m);                                                                                    \
        for (int i = 0; i < BLOCK; i++)                                                                                                     \
            dst[b * BLOCK + (size_t)i] = (T)q[i] * (T)d + (T)m;                                                                             \
    }                                                                                                                                       \
    return

INLINE double load_f64(const unsigned char *p) {
    double v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE float load_half(const unsigned char *p) { return half(load_u16(p)); }
INLINE float load_brain(const unsigned char *p) { return brain(load_u16(p)); }
INLINE int8_t load_i8(const unsigned char *p) { return (int8_t)*p; }
INLINE int32_t load_i32(const unsigned char *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

#define DECODE(T)                                                                                                                           \
    {                                                                                                                                       \
        const aq_dtype_info *row = aq_dtype_of(t);                                                                                          \
        assert(first % row->block == 0 && n % row->block == 0);                                                                             \
        const unsigned char *p = (const unsigned char *)src + first / row->block * row->bytes;                                              \
        switch (t) {                                                                                                                        \
        case AQ_F64: LOOP(T, 8, load_f64);                                                                                                  \
        case AQ_F32: LOOP(T, 4, load_f32);                                                                                                  \
        case AQ_BF16: LOOP(T, 2, load_brain);                                                                                               \
        case AQ_F16: LOOP(T, 2, load_half);                                                                                                 \
        case AQ_I8: LOOP(T, 1, load_i8);                                                                                                    \
        case AQ_I32: LOOP(T, 4, load_i32);                                                                                                  \
        case AQ_Q4_0: BLOCKS(T, AQ_Q4_0);                                                                                                   \
        case AQ_Q4_1: BLOCKS(T, AQ_Q4_1);                                                                                                   \
        case AQ_Q8_0: BLOCKS(T, AQ_Q8_0);                                                                                                   \
        case AQ_A8: BLOCKS(T, AQ_A8);                                                                                                       \
        case AQ_A16: BLOCKS(T, AQ_A16);                                                                                                     \
        case AQ_Q5_0:                                                                                                                       \
        case AQ_Q5_1:                                                                                                                       \
        case AQ_Q2_K:                                                                                                                       \
        case AQ_Q3_K:                                                                                                                       \
        case AQ_Q4_K:                                                                                                                       \
        case AQ_Q5_K:                                                                                                                       \
        case AQ_Q6_K:                                                                                                                       \
        case AQ_IQ4_NL:                                                                                                                     \
        case AQ_IQ4_XS: GROUPS(T, t);                                                                                                       \
        case AQ_DTYPE_NONE:                                                                                                                 \
        case AQ_DTYPE_COUNT: assert(!"no type to decode");                                                                                  \
        }                                                                                                                                   \
    }

void aq_dtype_decode_f32(aq_dtype t, const void *src, size_t first, size_t n, float *dst) DECODE(float)
void aq_dtype_decode_f64(aq_dtype t, const void *src, size_t first, size_t n, double *dst) DECODE(double)
