/* engine_ref.c: sequences through aq_ref_run: the graph after expand, canon, cse, dce and quant (which on ref only dequantises, exactly).
 * Every feed is one step of T = n tokens; page p of sequence q is page q * P + p of the cache. */
#include "frontend/engine_ref.h"

#include "codegen/ref/ref.h"
#include "ir/layout.h"
#include "ir/memory.h"

#include <inttypes.h>
#include <string.h>

struct aq_engine_ref {
    aq_arena arena, step; /* step: emptied by every feed */
    aq_module m;
    aq_id body;
    int64_t context, sequences, vocabulary;
    int64_t *length; /* of each sequence */
    int threads, module_open;
    aq_ref_tensor *weights, *states;
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
    for (int64_t i = 0; i < t->dim[0]; i++)
        memcpy(copy + (size_t)i * row, (const char *)t->data + (size_t)aq_layout_row_of_halves(i, head_dim) * row, row);
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
    AQ_ALLOC(&r->arena, r->length, r->sequences);
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

static void symbols(const aq_engine_ref *r, int64_t t, int64_t o, int64_t b, int64_t *sym) {
    memset(sym, 0, AQ_SYM_COUNT * sizeof *sym);
    sym[AQ_SYM_T] = t;
    sym[AQ_SYM_O] = o;
    sym[AQ_SYM_B] = b;
    sym[AQ_SYM_S] = r->context * r->sequences;
    sym[AQ_SYM_P] = r->context / AQ_PAGE;
}

aq_status aq_engine_ref_open(const aq_checkpoint *c, const aq_compile_options *o, int64_t context, int64_t sequences, int threads, aq_engine_ref **out) {
    void *p;
    int64_t sym[AQ_SYM_COUNT], rows;
    aq_status status;
    if (context > INT32_MAX - AQ_PAGE || __builtin_mul_overflow(context + AQ_PAGE, sequences, &rows) || rows > INT32_MAX)
        return aq_fail(AQ_REFUSED, NULL, "a context of %" PRId64 " for %" PRId64 " sequences: expected less than 2^31 positions", context, sequences);
    AQ_TRY(aq_mem_alloc(sizeof(aq_engine_ref), &p));
    aq_engine_ref *r = p;
    r->context = (context + AQ_PAGE - 1) / AQ_PAGE * AQ_PAGE;
    r->sequences = sequences;
    r->threads = threads;
    r->vocabulary = c->config.V;
    symbols(r, 1, 1, 1, sym);
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

/* ---- a step ---- */

/* The sequences of a step, each once and with room for its tokens: how many. */
static aq_status check_rows(const aq_engine_ref *r, const int32_t *tokens, const int64_t *seq, int64_t n, int64_t *out_runs) {
    int64_t runs = 0;
    for (int64_t i = 0, first = 0; i < n; i++) {
        int64_t q = seq[i];
        if (tokens[i] < 0 || tokens[i] >= r->vocabulary)
            return aq_fail(AQ_REFUSED, NULL, "token %" PRId64 " is %" PRId32 ": expected 0 to %" PRId64, i, tokens[i], r->vocabulary - 1);
        if (q < 0 || q >= r->sequences)
            return aq_fail(AQ_REFUSED, NULL, "sequence %" PRId64 ": expected 0 to %" PRId64, q, r->sequences - 1);
        if (i == 0 || seq[i - 1] != q) {
            for (int64_t k = 0; k < i; k++)
                if (seq[k] == q)
                    return aq_fail(AQ_REFUSED, NULL, "row %" PRId64 ": the tokens of sequence %" PRId64 " are not together", i, q);
            first = i;
            runs++;
        }
        if (r->length[q] + i - first >= r->context)
            return aq_fail(AQ_REFUSED, NULL, "no room for more than %" PRId64 " tokens behind the %" PRId64 " of sequence %" PRId64 ": the context holds %" PRId64,
                           i - first, r->length[q], q, r->context);
    }
    *out_runs = runs;
    return AQ_OK;
}

static aq_status make_batch(aq_engine_ref *r, const int64_t *seq, int64_t n, int64_t runs, aq_ref_batch *out) {
    int32_t *pos, *slot, *start, *rows, *len, *pages;
    int64_t P = r->context / AQ_PAGE, b = -1;
    AQ_ALLOC(&r->step, pos, n);
    AQ_ALLOC(&r->step, slot, n);
    AQ_ALLOC(&r->step, start, runs);
    AQ_ALLOC(&r->step, rows, runs);
    AQ_ALLOC(&r->step, len, runs);
    AQ_ALLOC(&r->step, pages, runs * P);
    for (int64_t i = 0; i < n; i++) {
        if (i == 0 || seq[i - 1] != seq[i]) {
            start[++b] = (int32_t)i;
            for (int64_t p = 0; p < P; p++)
                pages[b * P + p] = (int32_t)(seq[i] * P + p);
        }
        pos[i] = (int32_t)(r->length[seq[i]] + rows[b]++);
        slot[i] = (int32_t)(seq[i] * r->context + pos[i]);
        len[b] = pos[i] + 1;
    }
    *out = (aq_ref_batch){.field = {pos, slot, start, rows, len, pages}, .n = {n, n, runs, runs, runs, runs * P}};
    return AQ_OK;
}

static aq_status numbers(aq_engine_ref *r, int64_t n, aq_ref_tensor *out) {
    *out = (aq_ref_tensor){.dtype = AQ_I32, .rank = 1, .dim = {n}};
    AQ_ALLOC(&r->step, out->values, n);
    return AQ_OK;
}

aq_status aq_engine_ref_step(aq_engine_ref *r, const int32_t *tokens, const int64_t *seq, const uint8_t *want, int64_t n, const float **out_logits) {
    int64_t sym[AQ_SYM_COUNT], o = 0, runs = 0;
    aq_ref_batch batch;
    aq_ref_tensor in[3] = {0}, out = {0};
    if (n < 1)
        return aq_fail(AQ_REFUSED, NULL, "a step of %" PRId64 " tokens: expected at least one", n);
    AQ_TRY(check_rows(r, tokens, seq, n, &runs));
    aq_arena_close(&r->step);
    AQ_TRY(make_batch(r, seq, n, runs, &batch));
    AQ_TRY(numbers(r, n, &in[0]));
    AQ_TRY(numbers(r, n, &in[2]));
    for (int64_t i = 0; i < n; i++) {
        in[0].values[i] = tokens[i];
        if (want && want[i])
            in[2].values[o++] = (double)i;
    }
    in[2].dim[0] = o ? o : 1; /* none wanted: those of row 0, and nobody looks at them */
    symbols(r, n, in[2].dim[0], runs, sym);
    aq_ref_env env = {.sym = sym, .weights = r->weights, .states = r->states, .batch = &batch, .threads = r->threads};
    AQ_TRY(aq_ref_run(&r->m, r->body, &env, in, &r->step, &out));
    AQ_ALLOC(&r->step, r->logits, in[2].dim[0] * r->vocabulary);
    for (int64_t i = 0; i < o * r->vocabulary; i++)
        r->logits[i] = (float)out.values[i];
    for (int64_t i = 0; i < n; i++)
        r->length[seq[i]]++;
    if (out_logits)
        *out_logits = r->logits;
    return AQ_OK;
}

aq_status aq_engine_ref_feed(aq_engine_ref *r, int64_t seq, const int32_t *tokens, int64_t n, int64_t n_want, const float **out_logits) {
    if (n < 1 || n_want < 0 || n_want > n)
        return aq_fail(AQ_REFUSED, NULL, "logits of %" PRId64 " of %" PRId64 " tokens: expected at most as many as tokens, and those at least one", n_want, n);
    if (seq < 0 || seq >= r->sequences || n > r->context - r->length[seq])
        return aq_fail(AQ_REFUSED, NULL, "no room for %" PRId64 " tokens in sequence %" PRId64 ": the context holds %" PRId64 " of %" PRId64 " sequences", n, seq,
                       r->context, r->sequences);
    aq_arena rows = {0};
    void *block;
    aq_status status;
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&rows, (size_t)n, sizeof(int64_t), &block));
    int64_t *of = block;
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&rows, (size_t)n, 1, &block));
    uint8_t *want = block;
    for (int64_t i = 0; i < n; i++) {
        of[i] = seq;
        want[i] = i >= n - n_want;
    }
    status = aq_engine_ref_step(r, tokens, of, want, n, out_logits);
close:
    aq_arena_close(&rows);
    return status;
}

int64_t aq_engine_ref_length(const aq_engine_ref *r, int64_t seq) { return seq < 0 || seq >= r->sequences ? 0 : r->length[seq]; }

aq_status aq_engine_ref_truncate(aq_engine_ref *r, int64_t seq, int64_t length) {
    if (seq < 0 || seq >= r->sequences || length < 0 || length > r->length[seq])
        return aq_fail(AQ_REFUSED, NULL, "length %" PRId64 " of sequence %" PRId64 ": expected at most what it holds", length, seq);
    r->length[seq] = length;
    return AQ_OK;
}
