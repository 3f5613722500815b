/* retype.c: a maker over each matrix: decode a row, encode it. Cost: about 1 ns an element to q8_0 or bf16, 2 ns to q4_0, once a model (what
 * is packed from it is kept in the cache). Dropped: the whole model converted in memory when opened, twice its size at the largest moment. */
#include "frontend/retype.h"

#include "frontend/import/made.h"
#include "ir/memory.h"

#include <stdio.h>

typedef struct retyped {
    aq_tensor_maker maker;
    aq_tensor from;
    aq_dtype to;
} retyped;

static aq_status make_rows(const aq_tensor_maker *maker, int64_t first, int64_t count, void *out) {
    const retyped *m = (const retyped *)maker;
    size_t k = m->from.rank == 2 ? (size_t)m->from.dim[1] : 1, old = aq_tensor_row_bytes(&m->from), now = k / aq_dtype_of(m->to)->block * aq_dtype_of(m->to)->bytes;
    void *p;
    AQ_TRY(aq_mem_alloc(k * sizeof(float) + old, &p));
    float *row = p;
    void *stored = row + k;
    aq_status status = AQ_OK;
    for (int64_t i = 0; i < count && status == AQ_OK; i++) {
        const void *from = (const char *)m->from.data + (size_t)(first + i) * old;
        if (m->from.maker) {
            status = aq_tensor_read(&m->from, first + i, 1, stored);
            from = stored;
        }
        if (status == AQ_OK) {
            aq_dtype_decode_f32(m->from.dtype, from, 0, k, row);
            aq_dtype_encode_f32(m->to, row, k, (char *)out + (size_t)i * now);
        }
    }
    aq_mem_free(p);
    aq_tensor_forget(&m->from, first, count);
    return status;
}

/* " (q4_0, q4_1, ... take multiples of 32)": the types of weights with the largest blocks that fit rows of k; " (f32, ... take any)" if none do. */
static void types_for(int64_t k, char *out, size_t room) {
    int fits = 1;
    for (int i = 1; i < AQ_DTYPE_COUNT; i++) {
        const aq_dtype_info *t = aq_dtype_of((aq_dtype)i);
        if (t->kind == AQ_KIND_WEIGHT && k % t->block == 0 && t->block > fits)
            fits = t->block;
    }
    size_t n = 0;
    for (int i = 1; i < AQ_DTYPE_COUNT && n < room; i++) {
        const aq_dtype_info *t = aq_dtype_of((aq_dtype)i);
        if (t->block == fits && t->kind == (fits > 1 ? AQ_KIND_WEIGHT : AQ_KIND_FLOAT))
            n += (size_t)snprintf(out + n, room - n, "%s%s", n ? ", " : " (", t->name);
    }
    if (n < room)
        snprintf(out + n, room - n, fits > 1 ? " take multiples of %d)" : " take any)", fits);
}

aq_status aq_tensor_fits(const aq_checkpoint *c, const aq_tensor *t, aq_dtype to) {
    char others[160];
    int block = aq_dtype_of(to)->block;
    if (t->dim[1] % block == 0)
        return AQ_OK;
    types_for(t->dim[1], others, sizeof others);
    return aq_fail(AQ_REFUSED, c->path, "tensor %s: rows of %lld elements cannot be %s: expected a multiple of %d%s", t->file_name, (long long)t->dim[1],
                   aq_dtype_of(to)->name, block, others);
}

static aq_status retype(aq_checkpoint *c, aq_dtype to, aq_tensor *t) {
    retyped *m;
    AQ_TRY(aq_tensor_fits(c, t, to));
    AQ_ALLOC(&c->arena, m, 1);
    *m = (retyped){.maker.rows = make_rows, .from = *t, .to = to};
    aq_tensor_content(c, t, m->maker.content);
    return aq_tensor_become(t, to, AQ_MADE_RETYPED, &m->maker);
}

/* The graph computes in f32, so f64 is never left. */
static aq_dtype goal(const aq_tensor *t, aq_dtype to) {
    if (t->rank == 2 && to != AQ_DTYPE_NONE)
        return to;
    return t->dtype == AQ_F64 ? AQ_F32 : t->dtype;
}

aq_status aq_checkpoint_retype(aq_checkpoint *c, aq_dtype to) {
    aq_tensor *now;
    AQ_ALLOC(&c->arena, now, c->n_tensors + 1);
    for (uint32_t i = 0; i < c->n_tensors; i++) {
        now[i] = c->tensors[i];
        if (goal(&now[i], to) != now[i].dtype)
            AQ_TRY(retype(c, goal(&now[i], to), &now[i]));
    }
    c->tensors = now;
    return AQ_OK;
}
