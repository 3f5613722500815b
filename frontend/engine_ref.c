/* engine_ref.c: one sequence through aq_ref_run: the graph after expand, canon, cse, dce and quant (which on ref only dequantises, exactly).
 * Every feed is one step of T = n tokens; page p of the sequence is page p of the cache. */
#include "frontend/engine_ref.h"

#include "codegen/ref/ref.h"
#include "ir/memory.h"

#include <string.h>

struct aq_engine_ref {
    aq_arena arena, step; /* step: emptied by every feed */
    aq_module m;
    aq_id body;
    int64_t context, length, vocabulary;
    int threads, module_open;
    aq_ref_tensor *weights, *states;
    int32_t *pages;
    float *logits;
};

static void dims_of(const aq_type *t, const int64_t *sym, aq_ref_tensor *out) {
    out->dtype = t->dtype;
    out->rank = t->rank;
    for (int i = 0; i < t->rank; i++)
        out->dim[i] = aq_dim_eval(t->dim[i], sym);
}

/* Rotate-half rows are put in interleaved order in a copy: the same recipe as packing, without the panels. */
static aq_status interleave(aq_engine_ref *r, const aq_tensor *t, int64_t head_dim, const void **out) {
    size_t row = t->bytes / (size_t)t->dim[0];
    char *copy;
    void *p;
    AQ_TRY(aq_arena_alloc(&r->arena, t->bytes, 1, &p));
    copy = p;
    for (int64_t i = 0; i < t->dim[0]; i++) {
        int64_t head = i / head_dim, e = i % head_dim;
        int64_t from = head * head_dim + e / 2 + (e % 2) * (head_dim / 2);
        memcpy(copy + (size_t)i * row, (const char *)t->data + (size_t)from * row, row);
    }
    *out = copy;
    return AQ_OK;
}

static aq_status bind_weights(aq_engine_ref *r, const aq_checkpoint *c, const int64_t *sym) {
    AQ_ALLOC(&r->arena, r->weights, r->m.weights.n + 1);
    for (uint32_t i = 0; i < r->m.weights.n; i++) {
        const aq_weight *w = &r->m.weights.at[i];
        const aq_tensor *t = aq_checkpoint_find(c, w->alias ? w->alias : w->name);
        if (!t)
            return aq_fail(AQ_REFUSED, c->path, "no tensor for weight @%s: expected it in the checkpoint", w->name);
        dims_of(&r->m.values.at[w->value].type, sym, &r->weights[i]);
        r->weights[i].blocks = t->data;
        if (t->rotate_half)
            AQ_TRY(interleave(r, t, w->head_dim, &r->weights[i].blocks));
    }
    return AQ_OK;
}

static aq_status open_states(aq_engine_ref *r, const int64_t *sym) {
    AQ_ALLOC(&r->arena, r->states, r->m.states.n + 1);
    for (uint32_t i = 0; i < r->m.states.n; i++) {
        size_t n = 1;
        dims_of(&r->m.values.at[r->m.states.at[i].value].type, sym, &r->states[i]);
        for (int d = 0; d < r->states[i].rank; d++)
            AQ_TRY(aq_size_mul(n, (size_t)r->states[i].dim[d], "cache", &n));
        AQ_ALLOC(&r->arena, r->states[i].values, n);
    }
    int64_t pages = r->context / AQ_PAGE;
    AQ_ALLOC(&r->arena, r->pages, pages);
    for (int64_t p = 0; p < pages; p++)
        r->pages[p] = (int32_t)p;
    return AQ_OK;
}

static aq_status make_module(aq_engine_ref *r, const aq_checkpoint *c, const aq_compile_options *o) {
    aq_target t;
    aq_pass_options po;
    aq_pass_report *reports;
    uint32_t n;
    AQ_TRY(aq_target_parse("ref", &t));
    AQ_TRY(aq_compile_module(c, o, &r->m));
    r->module_open = 1;
    AQ_TRY(aq_compile_pass_options(&t, o, 1, 1 << 20, &po));
    AQ_TRY(aq_pipeline_run(&r->m, &po, "expand,canon,cse,dce,quant", NULL, NULL, NULL, &reports, &n));
    const aq_body *step = aq_graph_find(&r->m, "step");
    if (!step || r->m.syms.n <= AQ_SYM_P)
        return aq_fail(AQ_REFUSED, r->m.file, "no graph named step over T, O, B, S, P: expected one that takes tokens to logits");
    r->body = (aq_id)(step - r->m.bodies.at);
    return AQ_OK;
}

static void symbols(const aq_engine_ref *r, int64_t t, int64_t o, int64_t *sym) {
    memset(sym, 0, AQ_SYM_COUNT * sizeof *sym);
    sym[AQ_SYM_T] = t;
    sym[AQ_SYM_O] = o;
    sym[AQ_SYM_B] = 1;
    sym[AQ_SYM_S] = r->context;
    sym[AQ_SYM_P] = r->context / AQ_PAGE;
}

aq_status aq_engine_ref_open(const aq_checkpoint *c, const aq_compile_options *o, int64_t context, int threads, aq_engine_ref **out) {
    void *p;
    int64_t sym[AQ_SYM_COUNT];
    aq_status status;
    AQ_TRY(aq_mem_alloc(sizeof(aq_engine_ref), &p));
    aq_engine_ref *r = p;
    r->context = (context + AQ_PAGE - 1) / AQ_PAGE * AQ_PAGE;
    r->threads = threads;
    r->vocabulary = c->config.V;
    symbols(r, 1, 1, sym);
    AQ_TRY_GOTO(status, failed, make_module(r, c, o));
    AQ_TRY_GOTO(status, failed, bind_weights(r, c, sym));
    AQ_TRY_GOTO(status, failed, open_states(r, sym));
    *out = r;
    return AQ_OK;
failed:
    aq_engine_ref_close(r);
    return status;
}

void aq_engine_ref_close(aq_engine_ref *r) {
    if (!r)
        return;
    if (r->module_open)
        aq_module_close(&r->m);
    aq_arena_close(&r->step);
    aq_arena_close(&r->arena);
    aq_mem_free(r);
}

/* The batch of one sequence whose tokens follow what the cache holds. */
static aq_status make_batch(aq_engine_ref *r, int64_t n, aq_ref_batch *out) {
    int32_t *pos, *one;
    AQ_ALLOC(&r->step, pos, n);
    AQ_ALLOC(&r->step, one, 3);
    for (int64_t i = 0; i < n; i++)
        pos[i] = (int32_t)(r->length + i);
    one[0] = 0;
    one[1] = (int32_t)n;
    one[2] = (int32_t)(r->length + n);
    *out = (aq_ref_batch){.field = {pos, pos, &one[0], &one[1], &one[2], r->pages}, .n = {n, n, 1, 1, 1, r->context / AQ_PAGE}};
    return AQ_OK;
}

static aq_status numbers(aq_engine_ref *r, int64_t n, aq_ref_tensor *out) {
    *out = (aq_ref_tensor){.dtype = AQ_I32, .rank = 1, .dim = {n}};
    AQ_ALLOC(&r->step, out->values, n);
    return AQ_OK;
}

aq_status aq_engine_ref_feed(aq_engine_ref *r, const int32_t *tokens, int64_t n, int64_t n_want, const float **out_logits) {
    int64_t sym[AQ_SYM_COUNT], o = n_want > 0 ? n_want : 1;
    aq_ref_batch batch;
    aq_ref_tensor in[3] = {0}, out = {0};
    if (n < 1 || o > n || n > r->context - r->length)
        return aq_fail(AQ_REFUSED, NULL, "%lld tokens behind %lld: the context holds %lld positions", (long long)n, (long long)r->length, (long long)r->context);
    aq_arena_close(&r->step);
    symbols(r, n, o, sym);
    AQ_TRY(make_batch(r, n, &batch));
    AQ_TRY(numbers(r, n, &in[0]));
    AQ_TRY(numbers(r, o, &in[2]));
    for (int64_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || tokens[i] >= r->vocabulary)
            return aq_fail(AQ_REFUSED, NULL, "token %d: expected 0 to %lld", tokens[i], (long long)r->vocabulary - 1);
        in[0].values[i] = tokens[i];
    }
    for (int64_t i = 0; i < o; i++)
        in[2].values[i] = (double)(n - o + i);
    aq_ref_env env = {.sym = sym, .weights = r->weights, .states = r->states, .batch = &batch, .threads = r->threads};
    AQ_TRY(aq_ref_run(&r->m, r->body, &env, in, &r->step, &out));
    AQ_ALLOC(&r->step, r->logits, o * r->vocabulary);
    for (int64_t i = 0; i < o * r->vocabulary; i++)
        r->logits[i] = (float)out.values[i];
    r->length += n;
    *out_logits = r->logits;
    return AQ_OK;
}

int64_t aq_engine_ref_length(const aq_engine_ref *r) { return r->length; }
void aq_engine_ref_truncate(aq_engine_ref *r, int64_t length) { r->length = length < r->length ? length : r->length; }
