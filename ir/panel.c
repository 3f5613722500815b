/* panel.c: weight blocks in panels of 16 rows: which bytes a row's block becomes (layout.def draws them).
 *
 * The scales stay what the file has, halves and small integers: multiplied out they are exact in f32 only, and would cost 2 bits a weight.
 * Cost: 20 ns a group of a K type, 3 ns of q4_0, q4_1, q8_0, which go a 32-bit word at a time. */
#include "ir/block.h"
#include "ir/layout.h"

#include <string.h>

enum { R = AQ_PANEL_ROWS, HEAD = 320 /* halves and steps before the codes of a block of 256: a multiple of 64, so that the codes are aligned */ };

aq_panel aq_panel_of(aq_dtype t) {
    const aq_block *b = aq_block_of(t);
    int low = b->field[0].bits * 4 * R, high = b->field[1].bits * 4 * R;
    if (b->steps)
        return (aq_panel){.bytes = (uint32_t)(HEAD + AQ_SUPER / AQ_GROUP * (low + high)),
                          .elements = AQ_SUPER,
                          .codes_at = HEAD,
                          .codes_step = (uint16_t)(low + high),
                          .field_at = {0, (uint16_t)low},
                          .d_at = 0,
                          .m_at = b->m_at < 0 ? -1 : 2 * R,
                          .steps_at = 4 * R,
                          .steps_step = b->steps == AQ_STEPS_SIX_MIN ? 2 * R : R};
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
static void put_nibbles(const unsigned char *q, size_t r, unsigned char *to) {
    for (size_t j = 0; j < 2; j++) {
        uint32_t a = word(q + 8 * j), b = word(q + 8 * j + 4);
        uint32_t low = (a & 0x0f0f0f0f) | (b & 0x0f0f0f0f) << 4, high = (a >> 4 & 0x0f0f0f0f) | (b & 0xf0f0f0f0);
        memcpy(to + (j * R + r) * 4, &low, 4);
        memcpy(to + ((j + 2) * R + r) * 4, &high, 4);
    }
}

static void put_field(const aq_field *f, const uint8_t *code, size_t r, unsigned char *to) {
    unsigned per = 8u / f->bits, mask = ((1u << f->bits) - 1) * 0x01010101u;
    uint32_t w[8] = {0};
    for (unsigned n = 0; n < AQ_GROUP / 4; n++)
        w[n / per] |= (word(code + 4 * n) >> f->up & mask) << n % per * f->bits;
    for (unsigned i = 0; i < f->bits; i++)
        memcpy(to + (i * R + r) * 4, &w[i], 4);
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

void aq_panel_put(aq_dtype t, const unsigned char *p, int row, unsigned char *to) {
    const aq_block *b = aq_block_of(t);
    const aq_panel l = aq_panel_of(t);
    size_t r = (size_t)row;
    uint8_t code[AQ_GROUP];
    memcpy(to + l.d_at + 2 * r, p + b->d_at, 2);
    if (l.m_at >= 0)
        memcpy(to + l.m_at + 2 * r, p + b->m_at, 2);
    if (b->steps)
        put_steps(t, &l, p, r, to);
    if (t == AQ_Q4_0 || t == AQ_Q4_1) {
        put_nibbles(p + b->field[0].at, r, to);
        return;
    }
    for (int g = 0; g < (int)l.elements / AQ_GROUP; g++) {
        unsigned char *group = to + l.codes_at + g * l.codes_step;
        aq_block_codes(t, p, g, code);
        put_field(&b->field[0], code, r, group);
        if (b->field[1].bits)
            put_field(&b->field[1], code, r, group + l.field_at[1]);
    }
}

static double half(const unsigned char *p) {
    uint16_t bits;
    memcpy(&bits, p, 2);
    return (double)aq_f16_to_f32(bits);
}

double aq_panel_get(aq_dtype t, const unsigned char *block, int r, int e) {
    const aq_block *b = aq_block_of(t);
    const aq_panel l = aq_panel_of(t);
    const unsigned char *group = block + l.codes_at + e / AQ_GROUP * l.codes_step, *steps;
    int code = 0, n = e % AQ_GROUP / 4;
    for (int i = 0; i < 2; i++) {
        int bits = b->field[i].bits;
        if (bits)
            code |= (int)(word(group + l.field_at[i] + (n * bits / 8 * R + r) * 4) >> (8 * (e % 4) + bits * (n % (8 / bits))) & ((1u << bits) - 1)) << b->field[i].up;
    }
    double d = half(block + l.d_at + 2 * r), m = l.m_at < 0 ? 0 : half(block + l.m_at + 2 * r);
    steps = block + l.steps_at + e / (AQ_GROUP / b->halves) * l.steps_step + r;
    if (b->steps) {
        d *= b->steps == AQ_STEPS_NIBBLES ? *steps & 15 : (signed char)*steps;
        m *= -(double)(b->steps == AQ_STEPS_NIBBLES ? *steps >> 4 : b->steps == AQ_STEPS_SIX_MIN ? steps[R] : 0);
    }
    return (double)(b->is_signed ? (signed char)code : code - b->zero) * d + m;
}
