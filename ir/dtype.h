/* dtype.h: element types and the exact value of every stored bit pattern. The table is dtype.def. */
#ifndef AQ_IR_DTYPE_H
#define AQ_IR_DTYPE_H

#include "ir/status.h"

typedef enum aq_dtype {
    AQ_DTYPE_NONE = 0, /* not bound yet: a weight in a model text before import */
#define DTYPE(ID, name, block, bytes, kind, gguf, safetensors, doc) AQ_##ID,
#include "ir/dtype.def"
#undef DTYPE
    AQ_DTYPE_COUNT
} aq_dtype;

typedef enum aq_dtype_kind { AQ_KIND_FLOAT, AQ_KIND_INT, AQ_KIND_WEIGHT, AQ_KIND_ACT } aq_dtype_kind;

typedef struct aq_dtype_info {
    const char *name;
    uint16_t block, bytes; /* elements and bytes of one block */
    aq_dtype_kind kind;
    int gguf;
    const char *safetensors;
    const char *doc;
} aq_dtype_info;

/* Total for 0 <= t < AQ_DTYPE_COUNT; the row of AQ_DTYPE_NONE is named "any". */
const aq_dtype_info *aq_dtype_of(aq_dtype t);
aq_dtype aq_dtype_by_name(const char *name, size_t n);   /* AQ_DTYPE_NONE if there is none */
aq_dtype aq_dtype_by_gguf(uint32_t number);              /* AQ_DTYPE_NONE if there is none */
aq_dtype aq_dtype_by_safetensors(const char *name, size_t n);

/* Bytes of n elements; n must be a multiple of the block. AQ_REFUSED on overflow or a ragged count. */
AQ_MUST_USE aq_status aq_dtype_bytes(aq_dtype t, uint64_t n, const char *what, size_t *out);

float aq_f16_to_f32(uint16_t bits);
uint16_t aq_f32_to_f16(float x); /* round to nearest even, overflow to infinity, NaN stays NaN */
float aq_bf16_to_f32(uint16_t bits);
uint16_t aq_f32_to_bf16(float x); /* round to nearest even */

/* dst[0..n) = the exact values of the n elements at src (n a multiple of the block); from `first` (also such a multiple). */
void aq_dtype_decode_f32(aq_dtype t, const void *src, size_t first, size_t n, float *dst);
void aq_dtype_decode_f64(aq_dtype t, const void *src, size_t first, size_t n, double *dst);

/* The inverse where there is one: FLOAT and INT by rounding to nearest even (integers saturate), ACT by the rule in
 * dtype.def, WEIGHT by the files' usual rule (q8_0: d = max|x|/127; q4_0, q5_0: d = signed max/-8, /-16; q4_1, q5_1:
 * d = (max-min)/15, /31; K types and iq4: least squared error, encode_k.c, encode_levels.c). */
void aq_dtype_encode_f32(aq_dtype t, const float *src, size_t n, void *dst);

#endif
