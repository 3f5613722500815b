/* block.c: reads and writes the fields of weight blocks by the table of block.h. The functions are made once a type (always_inline with a
 * constant row), so that a run of 16 codes is one load, a shift by a constant and a mask: about 15 ns a group of a K type.
 *
 * The layouts are those of GGUF files; where a table cannot say them (the 6-bit steps) the bits are named beside the code. */
#include "ir/block.h"

#include <assert.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* iq4_nl, iq4_xs: -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113, 128 more so that they are bytes without a sign. */
static const uint8_t uneven[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

static const aq_block blocks[AQ_DTYPE_COUNT] = {
    /*            zero signed halves steps              steps_at d_at m_at   at outer stride inner div mod mul bits up; levels */
    [AQ_Q4_0] = {8, 0, 1, AQ_STEPS_NONE, 0, 0, -1, {{2, 5, 0, 16, 4, 2, 4, 4, 0}, {0}}, NULL},
    [AQ_Q4_1] = {0, 0, 1, AQ_STEPS_NONE, 0, 0, 2, {{4, 5, 0, 16, 4, 2, 4, 4, 0}, {0}}, NULL},
    [AQ_Q5_0] = {16, 0, 1, AQ_STEPS_NONE, 0, 0, -1, {{6, 5, 0, 16, 4, 2, 4, 4, 0}, {2, 3, 1, 1, 0, 8, 1, 1, 4}}, NULL},
    [AQ_Q5_1] = {0, 0, 1, AQ_STEPS_NONE, 0, 0, 2, {{8, 5, 0, 16, 4, 2, 4, 4, 0}, {4, 3, 1, 1, 0, 8, 1, 1, 4}}, NULL},
    [AQ_Q8_0] = {0, 1, 1, AQ_STEPS_NONE, 0, 0, -1, {{2, 5, 0, 32, 5, 1, 0, 8, 0}, {0}}, NULL},
    [AQ_Q2_K] = {0, 0, 2, AQ_STEPS_NIBBLES, 0, 80, 82, {{16, 7, 32, 32, 5, 4, 2, 2, 0}, {0}}, NULL},
    [AQ_Q3_K] = {4, 0, 2, AQ_STEPS_SIX, 96, 108, -1, {{32, 7, 32, 32, 5, 4, 2, 2, 0}, {0, 8, 0, 32, 5, 8, 1, 1, 2}}, NULL},
    [AQ_Q4_K] = {0, 0, 1, AQ_STEPS_SIX_MIN, 4, 0, 2, {{16, 6, 32, 32, 5, 2, 4, 4, 0}, {0}}, NULL},
    [AQ_Q5_K] = {0, 0, 1, AQ_STEPS_SIX_MIN, 4, 0, 2, {{48, 6, 32, 32, 5, 2, 4, 4, 0}, {16, 8, 0, 32, 5, 8, 1, 1, 4}}, NULL},
    [AQ_Q6_K] = {32, 0, 2, AQ_STEPS_BYTES, 192, 208, -1, {{0, 7, 64, 64, 6, 2, 4, 4, 0}, {128, 7, 32, 32, 5, 4, 2, 2, 4}}, NULL},
    [AQ_IQ4_NL] = {128, 0, 1, AQ_STEPS_NONE, 0, 0, -1, {{2, 5, 0, 16, 4, 2, 4, 4, 0}, {0}}, uneven},
    [AQ_IQ4_XS] = {128, 0, 1, AQ_STEPS_EIGHT, 2, 0, -1, {{8, 5, 16, 16, 4, 2, 4, 4, 0}, {0}}, uneven},
};

const aq_block *aq_block_of(aq_dtype t) {
    assert(aq_dtype_of(t)->kind == AQ_KIND_WEIGHT);
    return &blocks[t];
}

/* CALL(f, t, ..): f with t as a constant. */
#define CALL(f, t, ...)                                                                                                                     \
    switch (t) {                                                                                                                            \
    case AQ_Q4_0: f(AQ_Q4_0, __VA_ARGS__); break;                                                                                           \
    case AQ_Q4_1: f(AQ_Q4_1, __VA_ARGS__); break;                                                                                           \
    case AQ_Q5_0: f(AQ_Q5_0, __VA_ARGS__); break;                                                                                           \
    case AQ_Q5_1: f(AQ_Q5_1, __VA_ARGS__); break;                                                                                           \
    case AQ_Q8_0: f(AQ_Q8_0, __VA_ARGS__); break;                                                                                           \
    case AQ_Q2_K: f(AQ_Q2_K, __VA_ARGS__); break;                                                                                           \
    case AQ_Q3_K: f(AQ_Q3_K, __VA_ARGS__); break;                                                                                           \
    case AQ_Q4_K: f(AQ_Q4_K, __VA_ARGS__); break;                                                                                           \
    case AQ_Q5_K: f(AQ_Q5_K, __VA_ARGS__); break;                                                                                           \
    case AQ_Q6_K: f(AQ_Q6_K, __VA_ARGS__); break;                                                                                           \
    case AQ_IQ4_NL: f(AQ_IQ4_NL, __VA_ARGS__); break;                                                                                       \
    case AQ_IQ4_XS: f(AQ_IQ4_XS, __VA_ARGS__); break;                                                                                       \
    default: assert(!"a weight block type without a rule");                                                                                 \
    }

/* ---- codes ---- */

/* Bit i of `bits` as byte i. */
INLINE uint64_t bytes_of_bits(unsigned bits) {
    return ((bits * 0x0101010101010101u & 0x8040201008040201u) + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
}

/* 16 elements from k on (a multiple of 16), eight bytes at a time: consecutive bytes with one shift, or 16 bits side by side. */
INLINE void field_codes(const aq_field *f, const unsigned char *p, int k, uint8_t *code) {
    const unsigned char *from = p + f->at + (k >> f->outer) * f->stride + (k & (f->inner - 1));
    int shift = (k >> f->div & (f->mod - 1)) * f->mul;
    uint64_t mask = ((1u << f->bits) - 1) * 0x0101010101010101u, w[2], old[2];
    memcpy(w, from, f->inner == 1 ? 2 : sizeof w);
    memcpy(old, code, sizeof old);
    for (int i = 0; i < 2; i++)
        old[i] |= (f->inner == 1 ? bytes_of_bits(from[i]) : w[i] >> shift & mask) << f->up;
    memcpy(code, old, sizeof old);
}

INLINE void codes(aq_dtype t, const unsigned char *p, int group, uint8_t *code) {
    const aq_block *b = &blocks[t];
    memset(code, 0, AQ_GROUP);
    for (int h = 0; h < 2; h++) {
        field_codes(&b->field[0], p, group * AQ_GROUP + 16 * h, code + 16 * h);
        if (b->field[1].bits)
            field_codes(&b->field[1], p, group * AQ_GROUP + 16 * h, code + 16 * h);
    }
}

void aq_block_codes(aq_dtype t, const unsigned char *p, int group, uint8_t code[AQ_GROUP]) { CALL(codes, t, p, group, code) }

/* The inverse of field_codes, by its places: bit i of byte i gathered, or eight bytes with one shift. */
INLINE void put_field(const aq_field *f, const uint8_t *code, int k, unsigned char *p) {
    unsigned char *to = p + f->at + (k >> f->outer) * f->stride + (k & (f->inner - 1));
    int shift = (k >> f->div & (f->mod - 1)) * f->mul;
    uint64_t mask = ((1u << f->bits) - 1) * 0x0101010101010101u, w[2], old[2];
    memcpy(w, code + k, sizeof w);
    if (f->inner == 1) {
        for (int i = 0; i < 2; i++)
            to[i] = (unsigned char)(to[i] | (w[i] >> f->up & mask) * 0x0102040810204080u >> 56);
        return;
    }
    memcpy(old, to, sizeof old);
    for (int i = 0; i < 2; i++)
        old[i] |= (w[i] >> f->up & mask) << shift;
    memcpy(to, old, sizeof old);
}

INLINE void put_codes(aq_dtype t, const uint8_t *code, unsigned char *p) {
    int n = blocks[t].steps ? AQ_SUPER : AQ_GROUP;
    for (int i = 0; i < 2; i++)
        for (int k = 0; blocks[t].field[i].bits && k < n; k += 16)
            put_field(&blocks[t].field[i], code, k, p);
}

void aq_block_put_codes(aq_dtype t, const uint8_t *code, unsigned char *p) { CALL(put_codes, t, code, p) }

/* ---- steps ---- */

/* q3_k: byte j of 12: steps j (low nibble) and j + 8 (high nibble) without their upper 2 bits; those of step j in byte 8 + j % 4 from bit
 * 2 * (j / 4) on. q4_k, q5_k: bytes 0..3 step of d, 4..7 step of m of groups 0..3, 6 bits; bytes 8..11 the lower 4 bits of groups 4..7, d
 * in the low nibble; their upper 2 bits are the upper 2 bits of bytes 0..7. iq4_xs: the upper 2 bits of step j are bits 2j of bytes 0..1, the lower 4
 * the low (j even) or high nibble of byte 2 + j / 2. */
INLINE void steps(aq_dtype t, const unsigned char *p, int8_t *step, uint8_t *minus) {
    p += blocks[t].steps_at;
    switch (blocks[t].steps) {
    case AQ_STEPS_NIBBLES:
        for (int j = 0; j < 16; j++) {
            step[j] = (int8_t)(p[j] & 15);
            minus[j] = p[j] >> 4;
        }
        return;
    case AQ_STEPS_SIX:
        for (int j = 0; j < 16; j++) {
            step[j] = (int8_t)(((p[j & 7] >> 4 * (j >> 3) & 15) | (p[8 + j % 4] >> 2 * (j / 4) & 3) << 4) - 32);
            minus[j] = 0;
        }
        return;
    case AQ_STEPS_SIX_MIN:
        for (int j = 0; j < 4; j++) {
            step[j] = p[j] & 63;
            minus[j] = p[j + 4] & 63;
            step[j + 4] = (int8_t)((p[j + 8] & 15) | p[j] >> 6 << 4);
            minus[j + 4] = (uint8_t)(p[j + 8] >> 4 | p[j + 4] >> 6 << 4);
        }
        return;
    case AQ_STEPS_BYTES:
        memcpy(step, p, 16);
        memset(minus, 0, 16);
        return;
    case AQ_STEPS_EIGHT:
        for (int j = 0; j < 8; j++) {
            step[j] = (int8_t)(((p[2 + j / 2] >> 4 * (j % 2) & 15) | (p[j / 4] >> 2 * (j % 4) & 3) << 4) - 32);
            minus[j] = 0;
        }
        return;
    default: return;
    }
}

void aq_block_steps(aq_dtype t, const unsigned char *p, int8_t *step, uint8_t *minus) { steps(t, p, step, minus); }

void aq_block_put_steps(aq_dtype t, const int8_t *step, const uint8_t *minus, unsigned char *p) {
    p += blocks[t].steps_at;
    switch (blocks[t].steps) {
    case AQ_STEPS_NIBBLES:
        for (int j = 0; j < 16; j++)
            p[j] = (unsigned char)(step[j] | minus[j] << 4);
        return;
    case AQ_STEPS_SIX:
        memset(p, 0, 12);
        for (int j = 0; j < 16; j++) {
            int s = step[j] + 32;
            p[j & 7] = (unsigned char)(p[j & 7] | (s & 15) << 4 * (j >> 3));
            p[8 + j % 4] = (unsigned char)(p[8 + j % 4] | s >> 4 << 2 * (j / 4));
        }
        return;
    case AQ_STEPS_SIX_MIN:
        for (int j = 0; j < 4; j++) {
            p[j] = (unsigned char)(step[j] | step[j + 4] >> 4 << 6);
            p[j + 4] = (unsigned char)(minus[j] | minus[j + 4] >> 4 << 6);
            p[j + 8] = (unsigned char)((step[j + 4] & 15) | (minus[j + 4] & 15) << 4);
        }
        return;
    case AQ_STEPS_BYTES: memcpy(p, step, 16); return;
    case AQ_STEPS_EIGHT:
        memset(p, 0, 6);
        for (int j = 0; j < 8; j++) {
            int s = step[j] + 32;
            p[2 + j / 2] = (unsigned char)(p[2 + j / 2] | (s & 15) << 4 * (j % 2));
            p[j / 4] = (unsigned char)(p[j / 4] | s >> 4 << 2 * (j % 4));
        }
        return;
    default: return;
    }
}

/* ---- values ---- */

INLINE float half_at(const unsigned char *p) {
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    return aq_f16_to_f32(bits);
}

INLINE void open_group(aq_dtype t, const unsigned char *p, int group, int16_t *q, float *d, float *m) {
    const aq_block *b = &blocks[t];
    uint8_t code[AQ_GROUP], minus[16];
    int8_t step[16];
    codes(t, p, group, code);
    for (int i = 0; i < AQ_GROUP; i++)
        q[i] = (int16_t)aq_block_number(b, code[i]);
    float d0 = half_at(p + b->d_at), m0 = b->m_at < 0 ? 0 : half_at(p + b->m_at);
    if (b->steps)
        steps(t, p, step, minus);
    for (int h = 0; h < 2; h++) {
        int j = b->halves == 2 ? 2 * group + h : group;
        d[h] = b->steps ? d0 * (float)step[j] : d0;
        m[h] = !b->steps ? m0 : b->m_at < 0 ? 0 : -(m0 * (float)minus[j]);
    }
}

void aq_block_open(aq_dtype t, const unsigned char *p, int group, int16_t q[AQ_GROUP], float d[2], float m[2]) {
    CALL(open_group, t, p, group, q, d, m)
}
