/* layout.c: the formulas of layout.def. aq_layout_offset and aq_layout_get are the definition; aq_layout_pack_panel is the fast way to
 * the same bytes and is tested against them. Panels of block types: panel.c. */
#include "ir/layout.h"

#include "ir/block.h"

#include <string.h>

static const char *const names[] = {
#define LAYOUT(ID, name, doc) #name,
#include "ir/layout.def"
#undef LAYOUT
};

enum { R = AQ_PANEL_ROWS, G = 32 };

const char *aq_layout_name(aq_layout l) { return names[l]; }

aq_layout aq_layout_by_name(const char *name, size_t n) {
    int i = 0;
    while (i < AQ_LAYOUT_COUNT && (strlen(names[i]) != n || memcmp(names[i], name, n)))
        i++;
    return (aq_layout)i;
}

static int is_block(aq_dtype t) { return aq_dtype_of(t)->block > 1; }
static int is_weight(aq_dtype t) { return aq_dtype_of(t)->kind == AQ_KIND_WEIGHT; }

/* Bytes of a block's f16 numbers, which stand before its codes; 0: PLANES does not offer the type. */
static size_t head_bytes(aq_dtype t) { return t == AQ_Q4_0 || t == AQ_Q8_0 ? 2 : t == AQ_Q4_1 ? 4 : 0; }

static aq_status count(const int64_t *dim, int rank, const char *what, size_t *out) {
    size_t n = 1;
    for (int i = 0; i < rank; i++)
        AQ_TRY(aq_size_mul(n, (size_t)dim[i], what, &n));
    *out = n;
    return AQ_OK;
}

aq_status aq_layout_bytes(aq_layout l, aq_dtype t, const int64_t *dim, int rank, const char *what, size_t *out) {
    int64_t d[4];
    size_t n;
    if (t == AQ_DTYPE_NONE || rank < 0 || rank > 4)
        return aq_fail(AQ_REFUSED, what, "type %s of rank %d has no size", aq_dtype_of(t)->name, rank);
    for (int i = 0; i < rank; i++) {
        if (dim[i] < 0 || dim[i] > PTRDIFF_MAX - AQ_PAGE)
            return aq_fail(AQ_REFUSED, what, "size %lld of axis %d: expected 0 or more", (long long)dim[i], i);
        d[i] = dim[i];
    }
    int block = is_block(t), of_cache = l == AQ_LAYOUT_KV_ROWS || l == AQ_LAYOUT_KV_PANEL;
    if ((l == AQ_LAYOUT_PANEL && (rank != 2 || (block && !is_weight(t)))) || (of_cache && (rank != 3 || block)) ||
        (l == AQ_LAYOUT_PLANES && (rank != 2 || !head_bytes(t))) || (l == AQ_LAYOUT_WIDE && (rank != 2 || !is_weight(t))))
        return aq_fail(AQ_REFUSED, what, "type %s of rank %d has no layout %s", aq_dtype_of(t)->name, rank, names[l]);
    int64_t pad = l == AQ_LAYOUT_PANEL || l == AQ_LAYOUT_WIDE ? R : of_cache ? AQ_PAGE : 1;
    if (rank)
        d[0] = (d[0] + pad - 1) / pad * pad;
    if (block && (rank == 0 || d[rank - 1] % aq_dtype_of(t)->block))
        return aq_fail(AQ_REFUSED, what, "last axis of %s: expected a multiple of %d", aq_dtype_of(t)->name, aq_dtype_of(t)->block);
    AQ_TRY(count(d, rank, what, &n));
    if (l == AQ_LAYOUT_PANEL && block)
        return aq_size_mul(n / (R * aq_panel_of(t).elements), aq_panel_of(t).bytes, what, out);
    if (l == AQ_LAYOUT_WIDE)
        return aq_size_mul(n / (R * G), aq_wide_of(t).bytes, what, out);
    return aq_dtype_bytes(t, n, what, out);
}

static size_t row_major(const int64_t *dim, int rank, const int64_t *index) {
    size_t at = 0;
    for (int i = 0; i < rank; i++)
        at = at * (size_t)dim[i] + (size_t)index[i];
    return at;
}

/* The element's number in the layout, plain types. */
static size_t element(aq_layout l, const int64_t *dim, int rank, const int64_t *index) {
    size_t k, p, h, e;
    switch (l) {
    case AQ_LAYOUT_PANEL:
        k = (size_t)dim[1];
        return ((size_t)(index[0] / R) * k + (size_t)index[1]) * R + (size_t)(index[0] % R);
    case AQ_LAYOUT_KV_ROWS:
    case AQ_LAYOUT_KV_PANEL:
        p = (size_t)(index[0] % AQ_PAGE), h = (size_t)index[1], e = (size_t)dim[2];
        k = ((size_t)(index[0] / AQ_PAGE) * (size_t)dim[1] + h) * AQ_PAGE * e; /* the page of this head */
        return l == AQ_LAYOUT_KV_ROWS ? k + p * e + (size_t)index[2] : k + (p / R * e + (size_t)index[2]) * R + p % R;
    default: return row_major(dim, rank, index);
    }
}

size_t aq_layout_offset(aq_layout l, aq_dtype t, const int64_t *dim, int rank, const int64_t *index) {
    return element(l, dim, rank, index) * aq_dtype_of(t)->bytes;
}

double aq_layout_get(aq_layout l, aq_dtype t, const int64_t *dim, int rank, const int64_t *index, const void *base) {
    const unsigned char *bytes = base;
    double x[G];
    if (!is_block(t)) {
        aq_dtype_decode_f64(t, bytes + aq_layout_offset(l, t, dim, rank, index), 0, 1, x);
        return *x;
    }
    if (l == AQ_LAYOUT_PANEL) {
        aq_panel p = aq_panel_of(t);
        size_t n = (size_t)index[0], k = (size_t)index[1], blocks = (size_t)dim[1] / p.elements;
        return aq_panel_get(t, bytes + (n / R * blocks + k / p.elements) * p.bytes, (int)(n % R), (int)(k % p.elements));
    }
    if (l == AQ_LAYOUT_WIDE) {
        size_t n = (size_t)index[0], k = (size_t)index[1], groups = (size_t)dim[1] / G;
        return aq_wide_get(t, bytes + (n / R * groups + k / G) * aq_wide_of(t).bytes, (int)(n % R), (int)(k % G));
    }
    size_t at = row_major(dim, rank, index);
    if (l == AQ_LAYOUT_PLANES) { /* the block as a file has it */
        unsigned char one[40];
        size_t head = head_bytes(t), codes = aq_dtype_of(t)->bytes - head, blocks = (size_t)dim[0] * (size_t)dim[1] / G;
        for (size_t h = 0; h < head; h += 2)
            memcpy(one + h, bytes + blocks * (codes + h) + at / G * 2, 2);
        memcpy(one + head, bytes + at / G * codes, codes);
        aq_dtype_decode_f64(t, one, 0, G, x);
        return x[at % G];
    }
    size_t block = aq_dtype_of(t)->block;
    if (block == G) {
        aq_dtype_decode_f64(t, base, at / G * G, G, x);
        return x[at % G];
    }
    int16_t q[G];
    float d[2], m[2];
    aq_block_open(t, bytes + at / block * aq_dtype_of(t)->bytes, (int)(at % block / G), q, d, m);
    return (double)q[at % G] * (double)d[at % G / 16] + (double)m[at % G / 16];
}

void aq_layout_set(aq_layout l, aq_dtype t, const int64_t *dim, int rank, const int64_t *index, void *base, double x) {
    unsigned char *to = (unsigned char *)base + aq_layout_offset(l, t, dim, rank, index);
    if (t == AQ_F64) {
        memcpy(to, &x, sizeof x);
        return;
    }
    if (t == AQ_I32 || t == AQ_I8) { /* through no f32: integers beyond 2^24 stay exact */
        double lo = t == AQ_I32 ? INT32_MIN : INT8_MIN, hi = t == AQ_I32 ? INT32_MAX : INT8_MAX;
        int32_t i = (int32_t)__builtin_nearbyint(x < lo ? lo : x > hi ? hi : x == x ? x : 0);
        int8_t i8 = (int8_t)i;
        if (t == AQ_I32)
            memcpy(to, &i, sizeof i);
        else
            memcpy(to, &i8, sizeof i8);
        return;
    }
    float f = (float)x;
    aq_dtype_encode_f32(t, &f, 1, to);
}

void aq_layout_pack_planes(aq_dtype t, const void *src, int64_t n, int64_t k, void *dst) {
    const unsigned char *from = src;
    unsigned char *to = dst;
    size_t head = head_bytes(t), codes = aq_dtype_of(t)->bytes - head, blocks = (size_t)n * (size_t)k / G;
    for (size_t b = 0; b < blocks; b++, from += head + codes) {
        for (size_t h = 0; h < head; h += 2)
            memcpy(to + blocks * (codes + h) + b * 2, from + h, 2);
        memcpy(to + b * codes, from + head, codes);
    }
}

int64_t aq_layout_row_of_halves(int64_t row, int64_t head_dim) {
    int64_t j = head_dim > 0 ? row % head_dim : 0;
    return row - j + j % 2 * (head_dim / 2) + j / 2;
}

int64_t aq_layout_row_of_pairs(int64_t row, int64_t head_dim) {
    int64_t j = head_dim > 0 ? row % head_dim : 0, half = head_dim / 2;
    return row - j + (j < half ? 2 * j : 2 * (j - half) + 1);
}

/* Files promise no alignment. */
typedef uint8_t u8_any;
typedef uint16_t u16_any __attribute__((aligned(1), may_alias));
typedef uint32_t u32_any __attribute__((aligned(1), may_alias));
typedef uint64_t u64_any __attribute__((aligned(1), may_alias));

/* Plain elements of `rows` <= 16 rows, transposed; 16 columns at a time stay in L1 on both sides. */
#define TRANSPOSE(type)                                                                                                                    \
    static void transpose_##type(const unsigned char *const *row, int rows, size_t k, type *restrict to) {                                 \
        for (size_t c = 0; c < k; c += R) {                                                                                                \
            size_t w = k - c < R ? k - c : R;                                                                                              \
            for (int r = 0; r < rows; r++) {                                                                                               \
                const type *restrict from = (const type *)(const void *)row[r] + c;                                                        \
                for (size_t i = 0; i < w; i++)                                                                                             \
                    to[(c + i) * R + (size_t)r] = from[i];                                                                                 \
            }                                                                                                                              \
        }                                                                                                                                  \
    }
TRANSPOSE(u8_any)
TRANSPOSE(u16_any)
TRANSPOSE(u32_any)
TRANSPOSE(u64_any)

void aq_layout_pack_panel(aq_dtype t, const void *src, int64_t n, int64_t k, int64_t head_dim, int64_t first, int64_t count, void *dst) {
    const aq_dtype_info *info = aq_dtype_of(t);
    size_t row_bytes = (size_t)k / info->block * info->bytes;
    size_t blocks = (size_t)k / info->block, panel_bytes = is_block(t) ? blocks * aq_panel_of(t).bytes : row_bytes * R;
    int64_t end = first + count < n ? first + count : n;
    for (int64_t at = first; at < end; at += R) {
        unsigned char *to = (unsigned char *)dst + (size_t)(at / R) * panel_bytes;
        const unsigned char *row[R];
        int rows = (int)(end - at < R ? end - at : R);
        for (int r = 0; r < rows; r++)
            row[r] = (const unsigned char *)src + (size_t)aq_layout_row_of_halves(at + r, head_dim) * row_bytes;
        if (is_block(t)) {
            aq_panel_put(t, row, rows, blocks, to);
            continue;
        }
        switch (info->bytes) {
        case 1: transpose_u8_any(row, rows, (size_t)k, (void *)to); break;
        case 2: transpose_u16_any(row, rows, (size_t)k, (void *)to); break;
        case 4: transpose_u32_any(row, rows, (size_t)k, (void *)to); break;
        default: transpose_u64_any(row, rows, (size_t)k, (void *)to); break;
        }
    }
}
