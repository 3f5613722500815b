/* panel.c: weight blocks in panels of 16 rows: which bytes a row's block becomes (layout.def draws them).
 *
 * The scales stay what the file has, halves and small integers: multiplied out they are exact in f32 only, and would cost 2 bits a weight.
 * Cost: 30 to 40 ns a group of a K type, 5 ns of nibbles (q4_0, q4_1, iq4_nl) and q8_0, which go a 32-bit word at a time. */
#include "ir/block.h"
#include "ir/layout.h"

#include <assert.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { R = AQ_PANEL_ROWS };

aq_panel aq_panel_of(aq_dtype t) {
    const aq_block *b = aq_block_of(t);
    int low = b->field[0].bits * 4 * R, high = b->field[1].bits * 4 * R;
    int step = b->steps == AQ_STEPS_SIX_MIN ? 2 * R : R, head = 4 * R + AQ_SUPER / AQ_GROUP * b->halves * step; /* a multiple of 64: the codes are aligned */
    if (b->steps)
        return (aq_panel){.bytes = (uint32_t)(head + AQ_SUPER / AQ_GROUP * (low + high)),
                          .elements = AQ_SUPER,
                          .codes_at = (uint16_t)head,
                          .codes_step = (uint16_t)(low + high),
                          .field_at = {0, (uint16_t)low},
                          .d_at = 0,
                          .m_at = b->m_at < 0 ? -1 : 2 * R,
                          .steps_at = 4 * R,
                          .steps_step = (uint16_t)step};
    int has_m = b->m_at >= 0;
    return (aq_panel){.bytes = (uint32_t)(low + high + (has_m ? 4 : 2) * R),
                      .elements = AQ_GROUP,
                      .field_at = {0, (uint16_t)low},
                      .d_at = (int16_t)(low + high),
                      .m_at = (int16_t)(has_m ? low + high + 2 * R : -1)};
}

static uint32_t word(const unsigned char *p) {
    uint32_t w;
    memcpy(&w, p, 4);
    return w;
}

/* q4: bytes 0..15 of a block hold elements i (low) and i + 16 (high); the panel wants 8j+b and 8j+4+b. */
INLINE void put_nibbles(const unsigned char *q, size_t r, unsigned char *to) {
    for (size_t j = 0; j < 2; j++) {
        uint32_t a = word(q + 8 * j), b = word(q + 8 * j + 4);
        uint32_t low = (a & 0x0f0f0f0f) | (b & 0x0f0f0f0f) << 4, high = (a >> 4 & 0x0f0f0f0f) | (b & 0xf0f0f0f0);
        memcpy(to + (j * R + r) * 4, &low, 4);
        memcpy(to + ((j + 2) * R + r) * 4, &high, 4);
    }
}

INLINE void put_field(int bits, int up, const uint8_t *code, size_t r, unsigned char *to) {
    int per = 8 / bits;
    uint32_t w[8] = {0}, mask = ((1u << bits) - 1) * 0x01010101u;
    for (int n = 0; n < AQ_GROUP / 4; n++)
        w[n / per] |= (word(code + 4 * n) >> up & mask) << n % per * bits;
    for (int i = 0; i < bits; i++)
        memcpy(to + ((size_t)i * R + r) * 4, &w[i], 4);
}

/* The fields of one group; the second holds the bits above the first's. */
INLINE void put_fields(int low, int high, const uint8_t *code, size_t r, unsigned char *to) {
    put_field(low, 0, code, r, to);
    if (high)
        put_field(high, low, code, r, to + low * 4 * R);
}

static void put_codes(const aq_block *b, const uint8_t *code, size_t r, unsigned char *to) {
    switch (b->field[0].bits << 4 | b->field[1].bits) { /* constants inside */
    case 0x80: put_fields(8, 0, code, r, to); break;
    case 0x40: put_fields(4, 0, code, r, to); break;
    case 0x41: put_fields(4, 1, code, r, to); break;
    case 0x42: put_fields(4, 2, code, r, to); break;
    case 0x20: put_fields(2, 0, code, r, to); break;
    case 0x21: put_fields(2, 1, code, r, to); break;
    default: assert(!"fields that panels have no case for");
    }
}

static void put_steps(aq_dtype t, const aq_panel *l, const unsigned char *p, size_t r, unsigned char *to) {
    const aq_block *b = aq_block_of(t);
    int8_t step[16];
    uint8_t minus[16];
    aq_block_steps(t, p, step, minus);
    for (int j = 0; j < AQ_SUPER / AQ_GROUP * b->halves; j++) {
        unsigned char *at = to + l->steps_at + j * l->steps_step + r;
        *at = (unsigned char)(b->steps == AQ_STEPS_NIBBLES ? step[j] | minus[j] << 4 : step[j]);
        if (b->steps == AQ_STEPS_SIX_MIN)
            at[R] = minus[j];
    }
}

static void put_block(aq_dtype t, const aq_block *b, const aq_panel *layout, const unsigned char *p, size_t r, unsigned char *to) {
    const aq_panel l = *layout;
    uint8_t code[AQ_GROUP];
    memcpy(to + l.d_at + 2 * r, p + b->d_at, 2);
    if (l.m_at >= 0)
        memcpy(to + l.m_at + 2 * r, p + b->m_at, 2);
    if (b->steps)
        put_steps(t, &l, p, r, to);
    if (b->field[0].bits == 8) {
        put_codes(b, p + b->field[0].at, r, to);
        return;
    }
    for (int g = 0; g < (int)l.elements / AQ_GROUP; g++) {
        unsigned char *group = to + l.codes_at + g * l.codes_step;
        if (b->field[0].inner == 16 && !b->field[1].bits) {
            put_nibbles(p + b->field[0].at + g * b->field[0].stride, r, group);
            continue;
        }
        aq_block_codes(t, p, g, code);
        put_codes(b, code, r, group);
    }
}

void aq_panel_put(aq_dtype t, const unsigned char *const *row, int rows, size_t blocks, unsigned char *to) {
    const aq_block *b = aq_block_of(t);
    const aq_panel l = aq_panel_of(t);
    for (size_t g = 0; g < blocks; g++) /* the lines of a panel block stay in L1 over the 16 rows */
        for (int r = 0; r < rows; r++)
            put_block(t, b, &l, row[r] + g * aq_dtype_of(t)->bytes, (size_t)r, to + g * l.bytes);
}

static double half(const unsigned char *p) {
    uint16_t bits;
    memcpy(&bits, p, 2);
    return (double)aq_f16_to_f32(bits);
}

/* Element e of row r: (q * step) * d + m. */
typedef struct opened {
    int q, step;
    double d, m;
} opened;

static opened open_element(aq_dtype t, const unsigned char *block, int r, int e) {
    const aq_block *b = aq_block_of(t);
    const aq_panel l = aq_panel_of(t);
    const unsigned char *group = block + l.codes_at + e / AQ_GROUP * l.codes_step, *steps;
    int code = 0, n = e % AQ_GROUP / 4;
    for (int i = 0; i < 2; i++) {
        int bits = b->field[i].bits;
        if (bits)
            code |= (int)(word(group + l.field_at[i] + (n * bits / 8 * R + r) * 4) >> (8 * (e % 4) + bits * (n % (8 / bits))) & ((1u << bits) - 1)) << b->field[i].up;
    }
    opened o = {aq_block_number(b, (uint8_t)code), 1, half(block + l.d_at + 2 * r), l.m_at < 0 ? 0 : half(block + l.m_at + 2 * r)};
    steps = block + l.steps_at + e / (AQ_GROUP / b->halves) * l.steps_step + r;
    if (b->steps) {
        o.step = b->steps == AQ_STEPS_NIBBLES ? *steps & 15 : (signed char)*steps;
        o.m *= -(double)(b->steps == AQ_STEPS_NIBBLES ? *steps >> 4 : b->steps == AQ_STEPS_SIX_MIN ? steps[R] : 0);
    }
    if (aq_block_steps_scale(b)) {
        o.d *= o.step;
        o.step = 1;
    }
    return o;
}

double aq_panel_get(aq_dtype t, const unsigned char *block, int r, int e) {
    opened o = open_element(t, block, r, e);
    return o.q * o.step * o.d + o.m;
}

/* ---- wide ---- */

aq_wide aq_wide_of(aq_dtype t) {
    const aq_block *b = aq_block_of(t);
    int at = AQ_GROUP * R * 2, m = b->m_at >= 0 ? b->halves : 0;
    return (aq_wide){(uint32_t)(at + 4 * R * (1 + m)), (int16_t)at, (int16_t)(m ? at + 4 * R : -1)};
}

/* The pair of elements b and b + 2 of a quad is one word, as in the words of a16. */
static size_t wide_at(int r, int e) { return (size_t)((e / 4 * 2 + e % 2) * R + r) * 4 + (size_t)(e % 4 / 2) * 2; }

void aq_wide_put(aq_dtype t, const unsigned char *panel, int group, int r, unsigned char *to) {
    const aq_wide l = aq_wide_of(t);
    for (int e = 0; e < AQ_GROUP; e++) {
        opened o = open_element(t, panel, r, group * AQ_GROUP + e);
        int16_t q = (int16_t)(o.q * o.step);
        float d = (float)o.d, m = (float)o.m;
        memcpy(to + wide_at(r, e), &q, 2);
        memcpy(to + l.d_at + 4 * r, &d, 4);
        if (l.m_at >= 0)
            memcpy(to + l.m_at + e / (AQ_GROUP / aq_block_of(t)->halves) * 4 * R + 4 * r, &m, 4);
    }
}

double aq_wide_get(aq_dtype t, const unsigned char *block, int r, int e) {
    const aq_wide l = aq_wide_of(t);
    int16_t q;
    float d, m = 0;
    memcpy(&q, block + wide_at(r, e), 2);
    memcpy(&d, block + l.d_at + 4 * r, 4);
    if (l.m_at >= 0)
        memcpy(&m, block + l.m_at + e / (AQ_GROUP / aq_block_of(t)->halves) * 4 * R + 4 * r, 4);
    return (double)q * (double)d + (double)m;
}
