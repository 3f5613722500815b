/* sample.c: inputs from a seed. Each thing draws from a stream of its own (seed + hash of its name), so two modules that declare the same
 * things get the same numbers whatever else they hold. Batches: B sequences, some with a past, tokens and pages shuffled as a server would. */
#include "codegen/ref/sample.h"

#include "codegen/ref/map.h"
#include "ir/random.h"

#include <math.h>
#include <string.h>

static aq_random stream(uint64_t seed, const char *name) {
    uint64_t h = 14695981039346656037u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 1099511628211u;
    return aq_random_open(seed * 1000003 + h);
}

/* --- symbols and batches ------------------------------------------------------------------------------------------------------------------ */

enum { MOST_SEQUENCES = 3, MOST_PAST = 90, MOST_TOKENS = 7 };

static int64_t *size_of(const aq_module *m, int64_t *sym, const char *name) {
    aq_id id = aq_sym_find(m, name, strlen(name));
    return id ? &sym[id] : NULL;
}

static int64_t clip(const aq_module *m, aq_id sym, int64_t x) {
    const aq_sym *s = &m->syms.at[sym];
    return x < s->lo ? s->lo : x > s->hi ? s->hi : x;
}

typedef struct sequences {
    int64_t n, past[MOST_SEQUENCES], tokens[MOST_SEQUENCES], pages, most_pages;
} sequences;

static sequences draw_sequences(const aq_module *m, aq_random *r, const int64_t *t, const int64_t *b) {
    sequences s = {.n = b && *b < MOST_SEQUENCES ? *b : 1};
    (void)m;
    int64_t left = t ? *t : 1;
    for (int64_t i = 0; i < s.n; i++) {
        s.tokens[i] = i == s.n - 1 ? left : (int64_t)aq_random_below(r, (uint32_t)left + 1);
        left -= s.tokens[i];
        s.past[i] = aq_random_below(r, 3) ? (int64_t)aq_random_below(r, MOST_PAST) : 0;
        int64_t pages = (s.past[i] + s.tokens[i] + AQ_PAGE - 1) / AQ_PAGE;
        s.pages += pages;
        s.most_pages = pages > s.most_pages ? pages : s.most_pages;
    }
    return s;
}

/* A permutation of 0..n-1: pages as a server hands them out. */
static void shuffle(aq_random *r, int32_t *at, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        at[i] = (int32_t)i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t k = (int64_t)aq_random_below(r, (uint32_t)i + 1);
        int32_t t = at[i];
        at[i] = at[k], at[k] = t;
    }
}

static aq_status fill_batch(const sequences *s, aq_random *r, int64_t tokens, int64_t seqs, int64_t table, int64_t cache_pages, aq_arena *arena, aq_ref_batch *out) {
    int32_t *pos, *slot, *start, *rows, *len, *pages, *page;
    AQ_ALLOC(arena, pos, tokens + 1);
    AQ_ALLOC(arena, slot, tokens + 1);
    AQ_ALLOC(arena, start, seqs + 1);
    AQ_ALLOC(arena, rows, seqs + 1);
    AQ_ALLOC(arena, len, seqs + 1);
    AQ_ALLOC(arena, pages, seqs * table + 1);
    AQ_ALLOC(arena, page, cache_pages + 1);
    shuffle(r, page, cache_pages);
    int64_t next = 0, t = 0;
    for (int64_t b = 0; b < seqs; b++) {
        int64_t count = b < s->n ? s->tokens[b] : 0, past = b < s->n ? s->past[b] : 0;
        start[b] = (int32_t)t, rows[b] = (int32_t)count, len[b] = (int32_t)(past + count);
        for (int64_t i = 0; i * AQ_PAGE < past + count; i++)
            pages[b * table + i] = page[next++];
        for (int64_t i = past; i < past + count; i++, t++) {
            pos[t] = (int32_t)i;
            slot[t] = pages[b * table + i / AQ_PAGE] * AQ_PAGE + (int32_t)(i % AQ_PAGE);
        }
    }
    const int32_t *field[6] = {pos, slot, start, rows, len, pages};
    const int64_t n[6] = {tokens, tokens, seqs, seqs, seqs, seqs * table};
    memcpy(out->field, field, sizeof field);
    memcpy(out->n, n, sizeof n);
    return AQ_OK;
}

static aq_status make_sizes(const aq_module *m, uint64_t seed, aq_arena *arena, aq_ref_inputs *out) {
    aq_random r = stream(seed, "sizes");
    AQ_ALLOC(arena, out->sym, m->syms.n);
    int64_t *t = size_of(m, out->sym, "T"), *b = size_of(m, out->sym, "B"), *s = size_of(m, out->sym, "S"), *p = size_of(m, out->sym, "P");
    for (aq_id i = 1; i < m->syms.n; i++)
        out->sym[i] = clip(m, i, 1 + (int64_t)aq_random_below(&r, MOST_TOKENS));
    if (b)
        *b = clip(m, (aq_id)(b - out->sym), 1 + (int64_t)aq_random_below(&r, MOST_SEQUENCES));
    sequences q = draw_sequences(m, &r, t, b);
    if (p)
        *p = clip(m, (aq_id)(p - out->sym), q.most_pages + 1);
    if (s)
        *s = clip(m, (aq_id)(s - out->sym), (q.pages + 1) * AQ_PAGE);
    int64_t cache_pages = s ? *s / AQ_PAGE : q.pages + 1;
    if (cache_pages < q.pages || (p && *p < q.most_pages))
        return aq_fail(AQ_REFUSED, m->file, "bounds of S and P hold no toy batch: expected S up to %lld, P up to %lld", (long long)(q.pages + 1) * AQ_PAGE,
                       (long long)q.most_pages);
    return fill_batch(&q, &r, t ? *t : 1, b ? *b : 1, p ? *p : q.most_pages + 1, cache_pages, arena, &out->batch);
}

/* --- tensors ------------------------------------------------------------------------------------------------------------------------------ */

static aq_status tensor_of(const aq_type *type, const int64_t *sym, aq_ref_tensor *t, int64_t *out_n) {
    size_t n = 1;
    *t = (aq_ref_tensor){.dtype = type->dtype == AQ_DTYPE_NONE ? AQ_F32 : type->dtype, .rank = type->rank};
    for (int i = 0; i < type->rank; i++) {
        t->dim[i] = aq_dim_eval(type->dim[i], sym);
        AQ_TRY(aq_size_mul(n, (size_t)t->dim[i], "a made-up tensor", &n));
    }
    *out_n = (int64_t)n;
    return aq_size_mul(n, 16, "a made-up tensor", &n);
}

static aq_status make_weight(const aq_module *m, const aq_weight *w, const int64_t *sym, uint64_t seed, aq_arena *arena, aq_ref_tensor *t) {
    int64_t n;
    float *x;
    unsigned char *bytes;
    size_t size;
    AQ_TRY(tensor_of(&m->values.at[w->value].type, sym, t, &n));
    aq_random r = stream(seed, w->alias ? w->alias : w->name);
    double scale = t->rank > 1 ? 1 / sqrt((double)t->dim[t->rank - 1]) : 0.1, shift = t->rank > 1 ? 0 : 1;
    AQ_ALLOC(arena, x, n + 1);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(shift + scale * aq_random_normal(&r));
    AQ_TRY(aq_dtype_bytes(t->dtype, (uint64_t)n, w->name, &size));
    AQ_ALLOC(arena, bytes, size + 1);
    aq_dtype_encode_f32(t->dtype, x, (size_t)n, bytes);
    t->blocks = bytes;
    return AQ_OK;
}

static aq_status make_values(const aq_type *type, const int64_t *sym, aq_random r, uint32_t below, aq_arena *arena, aq_ref_tensor *t) {
    int64_t n;
    AQ_TRY(tensor_of(type, sym, t, &n));
    AQ_ALLOC(arena, t->values, n + 1);
    for (int64_t i = 0; i < n; i++)
        t->values[i] = aq_dtype_of(t->dtype)->kind == AQ_KIND_INT ? (double)aq_random_below(&r, below) : aq_ref_round(t->dtype, aq_random_normal(&r));
    return AQ_OK;
}

/* An integer input that picks rows stays below the rows there are. */
static uint32_t rows_picked_by(const aq_module *m, const aq_body *b, aq_id param, const int64_t *sym) {
    int64_t below = 16;
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        for (int k = 0; n->op == AQ_OP_fused && k < n->n_in; k++)
            if (aq_node_in(m, n)[k] == param) {
                int64_t inner = rows_picked_by(m, &m->bodies.at[n->body], m->bodies.at[n->body].params.at[k], sym);
                below = inner < below ? inner : below;
            }
        if (n->op == AQ_OP_rows && aq_node_in(m, n)[1] == param) {
            int64_t rows = aq_dim_eval(m->values.at[aq_node_in(m, n)[0]].type.dim[0], sym);
            below = rows < below ? rows : below;
        }
    }
    return below > 0 ? (uint32_t)below : 1;
}

aq_status aq_ref_make_inputs(const aq_module *m, aq_id body, uint64_t seed, aq_arena *arena, aq_ref_inputs *out) {
    const aq_body *b = &m->bodies.at[body];
    AQ_TRY(make_sizes(m, seed, arena, out));
    AQ_ALLOC(arena, out->weights, m->weights.n + 1);
    AQ_ALLOC(arena, out->states, m->states.n + 1);
    AQ_ALLOC(arena, out->in, b->params.n + 1);
    for (uint32_t i = 0; i < m->weights.n; i++)
        AQ_TRY(make_weight(m, &m->weights.at[i], out->sym, seed, arena, &out->weights[i]));
    for (uint32_t i = 0; i < m->states.n; i++)
        AQ_TRY(make_values(&m->values.at[m->states.at[i].value].type, out->sym, stream(seed, m->states.at[i].name), 16, arena, &out->states[i]));
    for (uint32_t i = 0; i < b->params.n; i++) {
        const aq_value *v = &m->values.at[b->params.at[i]];
        const char *name;
        AQ_TRY(aq_arena_format(arena, &name, "input %u", i));
        if (!v->type.is_batch)
            AQ_TRY(make_values(&v->type, out->sym, stream(seed, name), rows_picked_by(m, b, b->params.at[i], out->sym), arena, &out->in[i]));
    }
    return AQ_OK;
}

aq_status aq_ref_sample(const aq_module *m, uint32_t graph, uint64_t seed, aq_arena *arena, aq_samples *out) {
    aq_id body = m->graphs.at[graph];
    const aq_body *b = &m->bodies.at[body];
    aq_ref_inputs in;
    aq_ref_tensor *results;
    AQ_ALLOC(arena, results, b->results.n + 1);
    AQ_TRY(aq_ref_make_inputs(m, body, seed, arena, &in));
    aq_ref_env env = {.sym = in.sym, .weights = in.weights, .states = in.states, .batch = &in.batch, .threads = 1};
    AQ_TRY(aq_ref_run(m, body, &env, in.in, arena, results));
    out->n = b->results.n + m->states.n;
    AQ_ALLOC(arena, out->at, out->n + 1);
    for (uint32_t i = 0; i < out->n; i++) {
        const aq_ref_tensor *t = i < b->results.n ? &results[i] : &in.states[i - b->results.n];
        aq_sample *s = &out->at[i];
        s->n = 1;
        for (int k = 0; k < t->rank; k++)
            s->n *= t->dim[k];
        s->values = t->values;
        s->is_int = aq_dtype_of(t->dtype)->kind == AQ_KIND_INT;
        if (!t->values) { /* activation blocks: their values */
            double *x;
            AQ_ALLOC(arena, x, s->n + 1);
            aq_dtype_decode_f64(t->dtype, t->blocks, 0, (size_t)s->n, x);
            s->values = x;
        }
        AQ_TRY(i < b->results.n ? aq_arena_format(arena, &s->name, "%u", i) : aq_arena_format(arena, &s->name, "$%s", m->states.at[i - b->results.n].name));
    }
    return AQ_OK;
}
