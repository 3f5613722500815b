/* layout.h: where an element lies. One formula, used by ref, by the packing code of the runtime and by tests; emitters print the same. */
#ifndef AQ_IR_LAYOUT_H
#define AQ_IR_LAYOUT_H

#include "ir/dtype.h"

typedef enum aq_layout {
#define LAYOUT(ID, name, doc) AQ_LAYOUT_##ID,
#include "ir/layout.def"
#undef LAYOUT
    AQ_LAYOUT_COUNT
} aq_layout;

enum { AQ_PANEL_ROWS = 16, AQ_PAGE = 64 };

const char *aq_layout_name(aq_layout l);
/* AQ_LAYOUT_COUNT if there is none of that name. */
aq_layout aq_layout_by_name(const char *name, size_t n);

/* Bytes of a value of `rank` dims in this layout, panels and pages padded. AQ_REFUSED: overflow, ragged blocks, a rank or type the
 * layout does not offer. */
AQ_MUST_USE aq_status aq_layout_bytes(aq_layout l, aq_dtype t, const int64_t *dim, int rank, const char *what, size_t *out);

/* Byte offset of the element at index[] (plain types), to be used after aq_layout_bytes accepted the value. For block types see
 * aq_layout_get. */
size_t aq_layout_offset(aq_layout l, aq_dtype t, const int64_t *dim, int rank, const int64_t *index);

/* The exact value of one element of any type and layout (slow: tests, ref). */
double aq_layout_get(aq_layout l, aq_dtype t, const int64_t *dim, int rank, const int64_t *index, const void *base);
/* Stores one element of a plain type, rounded to it. */
void aq_layout_set(aq_layout l, aq_dtype t, const int64_t *dim, int rank, const int64_t *index, void *base, double x);

/* The rows of a head of head_dim rows come in two orders: pairs side by side (ours), or all first halves, then all second ones (rotate-half).
 * Row 2i + h of pairs is row h * head_dim/2 + i of halves. Both take a row of the whole matrix; head_dim 0: nothing moves. */
int64_t aq_layout_row_of_halves(int64_t row_of_pairs, int64_t head_dim);
int64_t aq_layout_row_of_pairs(int64_t row_of_halves, int64_t head_dim);

/* dst (aq_layout_bytes of PANEL, zeroed) = rows [first, first + count) of the row-major matrix [n,k] at src; first a multiple of 16.
 * head_dim > 0: source rows are halves; they become pairs. Works for every type PANEL offers; `first`/`count` let workers share a matrix. */
void aq_layout_pack_panel(aq_dtype t, const void *src, int64_t n, int64_t k, int64_t head_dim, int64_t first, int64_t count, void *dst);

/* dst = the blocks of the row-major matrix [n,k] at src as PLANES; rows in the order of src. For types that PLANES offers. */
void aq_layout_pack_planes(aq_dtype t, const void *src, int64_t n, int64_t k, void *dst);

#endif
