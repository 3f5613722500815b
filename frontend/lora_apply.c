/* lora_apply.c: adapters into weights, or beside them (lora.h). Merging costs 2 r operations an element, once: what is packed from it is
 * kept in the cache under the name of weights, adapter and scale. */
#include "frontend/import/internal.h"
#include "frontend/import/made.h"
#include "frontend/lora.h"
#include "frontend/retype.h"
#include "ir/layout.h"
#include "ir/memory.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <stdlib.h>
#include <string.h>

typedef struct merged {
    aq_tensor_maker maker;
    aq_tensor from;
    const aq_lora *lora; /* n of them, those of this matrix */
    uint32_t n;
    aq_dtype to;
    int64_t head_dim; /* of wq and wk: rows of B may lie in another order than those of `from` */
} merged;

typedef struct scaled {
    aq_tensor_maker maker;
    aq_tensor from;
    double scale;
} scaled;

/* ---- names of what is made ---- */

static void chain(uint64_t content[2], const void *what, size_t n) {
    XXH128_hash_t h = XXH3_128bits_withSeed(what, n, content[0]);
    content[0] = h.low64;
    content[1] = h.high64 ^ content[1] << 1 ^ content[1] >> 63;
}

static void chain_tensor(const aq_checkpoint *c, uint64_t content[2], const aq_tensor *t) {
    uint64_t of[2];
    aq_tensor_content(c, t, of);
    chain(content, of, sizeof of);
}

/* ---- merging ---- */

/* Row i of the weight, in the order in which `from` has its rows, is this row of B. */
static int64_t row_of_b(const merged *m, const aq_lora *l, int64_t i) {
    if (m->from.rotate_half == l->b.rotate_half)
        return i;
    return l->b.rotate_half ? aq_layout_row_of_halves(i, m->head_dim) : aq_layout_row_of_pairs(i, m->head_dim);
}

static void add_low_rank(const merged *m, const aq_lora *l, const float *a, float *coefficient, int64_t i, float *row) {
    size_t k = (size_t)l->a.dim[1];
    const char *b = (const char *)l->b.data + (size_t)row_of_b(m, l, i) * aq_tensor_row_bytes(&l->b);
    aq_dtype_decode_f32(l->b.dtype, b, 0, (size_t)l->b.dim[1], coefficient);
    for (int64_t j = 0; j < l->a.dim[0]; j++) {
        float s = (float)(coefficient[j] * l->scale);
        const float *from = a + (size_t)j * k;
        for (size_t e = 0; e < k; e++)
            row[e] += s * from[e];
    }
}

static aq_status make_merged(const aq_tensor_maker *maker, int64_t first, int64_t count, void *out) {
    const merged *m = (const merged *)maker;
    size_t k = (size_t)m->from.dim[1], old = aq_tensor_row_bytes(&m->from), now = k / aq_dtype_of(m->to)->block * aq_dtype_of(m->to)->bytes, ranks = 0, most = 0;
    void *p;
    for (uint32_t i = 0; i < m->n; i++) {
        ranks += (size_t)m->lora[i].a.dim[0];
        most = (size_t)m->lora[i].a.dim[0] > most ? (size_t)m->lora[i].a.dim[0] : most;
    }
    AQ_TRY(aq_mem_alloc(((ranks + 1) * k + most) * sizeof(float) + old, &p));
    float *row = p, *coefficient = row + k, *a = coefficient + most;
    void *stored = a + ranks * k;
    for (size_t i = 0, at = 0; i < m->n; at += (size_t)m->lora[i++].a.dim[0] * k)
        aq_dtype_decode_f32(m->lora[i].a.dtype, m->lora[i].a.data, 0, (size_t)m->lora[i].a.dim[0] * k, a + at);
    aq_status status = AQ_OK;
    for (int64_t i = 0; i < count && status == AQ_OK; i++) {
        status = aq_tensor_read(&m->from, first + i, 1, stored);
        if (status != AQ_OK)
            break;
        aq_dtype_decode_f32(m->from.dtype, stored, 0, k, row);
        for (size_t j = 0, at = 0; j < m->n; at += (size_t)m->lora[j++].a.dim[0] * k)
            add_low_rank(m, &m->lora[j], a + at, coefficient, first + i, row);
        aq_dtype_encode_f32(m->to, row, k, (char *)out + (size_t)i * now);
    }
    aq_mem_free(p);
    aq_tensor_forget(&m->from, first, count);
    return status;
}

static aq_status merge_one(aq_checkpoint *c, aq_tensor *t, const aq_lora *lora, uint32_t n, aq_dtype to) {
    merged *m;
    if (to == AQ_DTYPE_NONE)
        to = aq_dtype_of(t->dtype)->kind == AQ_KIND_FLOAT ? t->dtype : AQ_BF16;
    AQ_TRY(aq_tensor_fits(c, t, to));
    AQ_ALLOC(&c->arena, m, 1);
    *m = (merged){.maker.rows = make_merged, .from = *t, .lora = lora, .n = n, .to = to};
    if (!strncmp(t->name, "wq.", 3) || !strncmp(t->name, "wk.", 3))
        m->head_dim = c->config.DH;
    aq_tensor_content(c, t, m->maker.content);
    for (uint32_t i = 0; i < n; i++) {
        chain_tensor(c, m->maker.content, &lora[i].a);
        chain_tensor(c, m->maker.content, &lora[i].b);
        chain(m->maker.content, &lora[i].scale, sizeof lora[i].scale);
    }
    return aq_tensor_become(t, to, AQ_MADE_MERGED, &m->maker);
}

static int by_house(const void *a, const void *b) { return strcmp(((const aq_lora *)a)->house, ((const aq_lora *)b)->house); }

/* Room for `more` tensors behind a copy of those that are there. */
static aq_status copy_tensors(aq_checkpoint *c, uint32_t more, aq_tensor **out) {
    AQ_ALLOC(&c->arena, *out, (size_t)c->n_tensors + more + 1);
    memcpy(*out, c->tensors, c->n_tensors * sizeof **out);
    return AQ_OK;
}

static aq_tensor *tensor_of(aq_tensor *tensors, uint32_t n, const char *house) {
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(tensors[i].name, house))
            return &tensors[i];
    return NULL;
}

/* In place: the tensors are the checkpoint's own, and an adapter may replace all of thousands. */
aq_status aq_lora_replace(aq_checkpoint *c, const aq_tensor *now) {
    if (c->config.tied && (!strcmp(now->name, "output") || !strcmp(now->name, "tok_embeddings"))) {
        aq_tensor *all;
        AQ_TRY(copy_tensors(c, 1, &all));
        all[c->n_tensors] = *tensor_of(all, c->n_tensors, "tok_embeddings");
        all[c->n_tensors++].name = "output";
        c->tensors = all;
        c->config.tied = 0;
        aq_import_sort(c);
    }
    *(aq_tensor *)(uintptr_t)aq_checkpoint_find(c, now->name) = *now;
    return AQ_OK;
}

aq_status aq_lora_merge(aq_checkpoint *c, aq_dtype to) {
    aq_tensor *now;
    uint32_t n = c->adapters.n;
    AQ_TRY(copy_tensors(c, 1, &now));
    if (n)
        qsort(c->adapters.at, n, sizeof *c->adapters.at, by_house);
    for (uint32_t i = 0, k; i < n; i += k) {
        const aq_lora *l = &c->adapters.at[i];
        aq_tensor *t = tensor_of(now, c->n_tensors, l->house);
        for (k = 1; i + k < n && !strcmp(c->adapters.at[i + k].house, l->house); k++) {
        }
        if (!t && !strcmp(l->house, "output") && c->config.tied) {
            t = &now[c->n_tensors++];
            *t = *tensor_of(now, c->n_tensors - 1, "tok_embeddings");
            t->name = "output";
            c->config.tied = 0;
        }
        if (!t)
            return aq_fail(AQ_FAILED, c->path, "no tensor %s for its adapter: this is a fault of the reader", l->house);
        AQ_TRY(merge_one(c, t, l, k, to));
    }
    c->tensors = now;
    aq_import_sort(c);
    c->adapters.n = 0;
    c->adapters.at = NULL; /* the makers keep the old array */
    c->adapters.room = 0;
    return AQ_OK;
}

/* ---- dots ---- */

static aq_status make_scaled(const aq_tensor_maker *maker, int64_t first, int64_t count, void *out) {
    const scaled *m = (const scaled *)maker;
    size_t n = (size_t)count * (size_t)m->from.dim[1];
    float *x = out;
    aq_dtype_decode_f32(m->from.dtype, (const char *)m->from.data + (size_t)first * aq_tensor_row_bytes(&m->from), 0, n, x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(x[i] * m->scale);
    return AQ_OK;
}

/* "wq_lora_a.3" of house "wq.3"; of the second adapter of one matrix "wq_lora_a2.3". */
static aq_status name_of(aq_arena *arena, const char *house, char part, uint32_t number, const char **out) {
    const char *dot = strchr(house, '.');
    int n = dot ? (int)(dot - house) : (int)strlen(house);
    if (number < 2)
        return aq_arena_format(arena, out, "%.*s_lora_%c%s", n, house, part, dot ? dot : "");
    return aq_arena_format(arena, out, "%.*s_lora_%c%u%s", n, house, part, number, dot ? dot : "");
}

aq_status aq_lora_dots(aq_checkpoint *c) {
    aq_tensor *now;
    AQ_TRY(copy_tensors(c, 2 * c->adapters.n, &now));
    for (uint32_t i = 0; i < c->adapters.n; i++) {
        const aq_lora *l = &c->adapters.at[i];
        aq_tensor *a = &now[c->n_tensors + 2 * i], *b = a + 1;
        uint32_t number = 1;
        scaled *m;
        for (uint32_t j = 0; j < i; j++)
            number += !strcmp(c->adapters.at[j].house, l->house);
        AQ_ALLOC(&c->arena, m, 1);
        *m = (scaled){.maker.rows = make_scaled, .from = l->b, .scale = l->scale};
        chain_tensor(c, m->maker.content, &l->b);
        chain(m->maker.content, &l->scale, sizeof l->scale);
        *a = l->a;
        *b = l->b;
        b->data = NULL;
        b->maker = &m->maker;
        b->dtype = AQ_F32;
        b->bytes = (size_t)b->dim[0] * (size_t)b->dim[1] * sizeof(float);
        AQ_TRY(name_of(&c->arena, l->house, 'a', number, &a->name));
        AQ_TRY(name_of(&c->arena, l->house, 'b', number, &b->name));
    }
    c->tensors = now;
    c->n_tensors += 2 * c->adapters.n;
    aq_import_sort(c);
    return AQ_OK;
}

int aq_lora_on_blocks(const aq_checkpoint *c) {
    for (uint32_t i = 0; i < c->adapters.n; i++) {
        const char *house = c->adapters.at[i].house;
        const aq_tensor *t = aq_checkpoint_find(c, house);
        if (!t && !strcmp(house, "output"))
            t = aq_checkpoint_find(c, "tok_embeddings");
        if (t && aq_dtype_of(t->dtype)->kind != AQ_KIND_FLOAT)
            return 1;
    }
    return 0;
}
