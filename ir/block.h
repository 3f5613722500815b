/* block.h: how a weight block type keeps its numbers: one table for decoding, encoding, packing into panels and emitting code.
 * block.c reads it, panel.c packs by it.
 *
 * Every weight block is a run of groups of 32 elements (one group, or the eight of a K type or iq4_xs). Element k has an unsigned code (q8_0: a
 * signed one), put together from one or two bit fields, and stands for (code - zero) * d + m; in types with levels level[code] takes the
 * code's place. d and m belong to a group or to each half of it. Types with `steps` have them as (f16 of the block) * (small integer of the half), exact in f32: 11 bits times at most 8. */
#ifndef AQ_IR_BLOCK_H
#define AQ_IR_BLOCK_H

#include "ir/dtype.h"

enum { AQ_GROUP = 32, AQ_SUPER = 256 /* elements of a block with steps */ };

/* Bits [up, up + bits) of the code of element k lie in byte at + (k >> outer) * stride + k % inner, from bit (k >> div) % mod * mul on. */
typedef struct aq_field {
    uint8_t at, outer, stride, inner, div, mod, mul, bits, up;
} aq_field;

typedef enum aq_steps {
    AQ_STEPS_NONE,    /* f16 d (and m) of the group itself */
    AQ_STEPS_NIBBLES, /* 16 bytes: step of d in the low nibble, of m in the high one */
    AQ_STEPS_SIX,     /* 12 bytes: 16 numbers of 6 bits, less 32 */
    AQ_STEPS_SIX_MIN, /* 12 bytes: 8 steps of d and 8 of m, 6 bits each */
    AQ_STEPS_BYTES,   /* 16 signed bytes */
    AQ_STEPS_EIGHT    /* u16, 4 bytes: 8 numbers of 6 bits, less 32, which scale d itself */
} aq_steps;

typedef struct aq_block {
    uint8_t zero, is_signed;
    uint8_t halves;     /* 1: d and m for a group; 2: for each 16 elements */
    uint8_t steps;      /* aq_steps */
    uint8_t steps_at;   /* byte offsets in the block */
    int16_t d_at, m_at; /* m_at -1: no m. With steps m is MINUS the product */
    aq_field field[2];  /* the second may have no bits */
    const uint8_t *level; /* NULL, or what each of sixteen codes stands for */
} aq_block;

/* For WEIGHT types only. */
const aq_block *aq_block_of(aq_dtype t);

/* Code less zero. */
static inline int aq_block_number(const aq_block *b, uint8_t code) { return b->is_signed ? (int8_t)code : (b->level ? b->level[code] : code) - b->zero; }

/* The sum of q * step * (16-bit integer) over a group may leave 32 bits: 32 * 32 * 128 * 32767. That of a half never does: 2147418112. */
static inline int aq_block_sums_halves(const aq_block *b) { return b->steps == AQ_STEPS_BYTES; }

/* Such steps are part of d, not of the integers: 32 * 127 * 32 * 32767 would leave 32 bits, and for one step a group no sums of halves are needed. */
static inline int aq_block_steps_scale(const aq_block *b) { return b->steps == AQ_STEPS_EIGHT; }

/* The codes of group `group` of the block at p (q8_0: two's complement bytes). */
void aq_block_codes(aq_dtype t, const unsigned char *p, int group, uint8_t code[AQ_GROUP]);
/* p's fields = the codes of the whole block; its other bytes stay, the fields' bytes must be zero before. */
void aq_block_put_codes(aq_dtype t, const uint8_t *code, unsigned char *p);
/* Steps of the halves 0 .. 256 / (32 / halves) - 1 of a block with steps; minus = those of m (0 without). */
void aq_block_steps(aq_dtype t, const unsigned char *p, int8_t *step, uint8_t *minus);
void aq_block_put_steps(aq_dtype t, const int8_t *step, const uint8_t *minus, unsigned char *p);
/* Codes less zero, and d and m of both halves, of one group: element i is q[i] * d[i / 16] + m[i / 16], exact in f64. */
void aq_block_open(aq_dtype t, const unsigned char *p, int group, int16_t q[AQ_GROUP], float d[2], float m[2]);

/* A panel block: 16 rows of one block (layout.def says what lies where). A field of `bits` bits has bits * 64 bytes a group: 32-bit words
 * [bits][16 rows], in which element e of a row is bits [8 * (e % 4) + bits * (e / 4 % (8 / bits)), + bits) of word e / 4 * bits / 8. */
typedef struct aq_panel {
    uint32_t bytes, elements;         /* of the panel block; a row of it has `elements` */
    uint16_t codes_at, codes_step;    /* group g's codes are at codes_at + g * codes_step */
    uint16_t field_at[2];             /* .. and there its fields */
    int16_t d_at, m_at;               /* f16 [16]; m_at -1: none */
    uint16_t steps_at, steps_step;    /* bytes [16] of half-group j at steps_at + j * steps_step; SIX_MIN: those of m 16 behind */
} aq_panel;
aq_panel aq_panel_of(aq_dtype t);
/* The panel at `to` (zero before) = `blocks` blocks of each of `rows` <= 16 rows. */
void aq_panel_put(aq_dtype t, const unsigned char *const *row, int rows, size_t blocks, unsigned char *to);
/* Element e of row r. */
double aq_panel_get(aq_dtype t, const unsigned char *block, int r, int e);

/* A wide block: 32 elements of 16 rows as 16-bit integers q = (code - zero) * step, so that an element is q * d + m (layout.def). */
typedef struct aq_wide {
    uint32_t bytes;
    int16_t d_at, m_at; /* f32 [16]; m_at -1: none; with two halves that have an m, the second 64 behind */
} aq_wide;
aq_wide aq_wide_of(aq_dtype t);
/* Row r of the wide block at `to` = group `group` of row r of the panel block at `panel`. */
void aq_wide_put(aq_dtype t, const unsigned char *panel, int group, int r, unsigned char *to);
double aq_wide_get(aq_dtype t, const unsigned char *block, int r, int e);

/* encode_k.c: the types with steps. n elements, a multiple of 256. */
void aq_block_encode(aq_dtype t, const float *x, size_t n, unsigned char *p);
/* encode_levels.c: the types with levels. n elements, a multiple of the block. */
void aq_block_encode_levels(aq_dtype t, const float *x, size_t n, unsigned char *p);

#endif
