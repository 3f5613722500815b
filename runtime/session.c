/* session.c: open, feed, step. A session is four blocks and a team (memory.c); a step fills the arrays of the batch and walks the plan.
 *
 * The symbols of a step: T = its tokens, O = its wanted rows, B = the sequences that are in it (row b of the arrays is the b-th of them, so
 * rows[b] is never 0), S and P fixed. A step with O = 0 runs as any other: the phases over O have no items. Nothing changes unless the
 * whole step is done: a refused or interrupted step leaves every length as it was. */
#include "ir/memory.h"
#include "runtime/internal.h"

#include <inttypes.h>
#include <string.h>

/* ---- open and close ---- */

/* The values that kernels take from us: names and shapes must be those that a step fills. */
static aq_status bind_input(aq_rt_session *s, uint32_t i) {
    const aq_plan *p = &s->plan->tables;
    const aq_plan_input *x = &p->io[s->plan->step->first_input + i];
    const char *name = p->strings + x->name;
    if (x->field) {
        s->input[i] = s->kv.field[x->field - 1];
        return AQ_OK;
    }
    uint32_t sym = strcmp(name, "tok") == 0 ? AQ_SYM_T : strcmp(name, "want") == 0 ? AQ_SYM_O : AQ_SYM_NONE;
    if (!sym)
        return aq_fail(AQ_REFUSED, s->plan->name, "input %s of the graph step: expected tok, want or an array of the batch", name);
    if (x->dtype != AQ_I32 || x->rank != 1 || x->dim[0].k != 1 || x->dim[0].sym != sym)
        return aq_fail(AQ_REFUSED, s->plan->name, "input %s of the graph step: expected i32[%c]", name, sym == AQ_SYM_T ? 'T' : 'O');
    s->input[i] = sym == AQ_SYM_T ? s->tok : s->want;
    return AQ_OK;
}

static aq_status bind_values(aq_rt_session *s) {
    const aq_plan *p = &s->plan->tables;
    const aq_plan_graph *g = s->plan->step;
    for (uint32_t i = 0; i < g->n_inputs; i++)
        AQ_TRY(bind_input(s, i));
    const aq_plan_input *x = &p->io[g->first_output];
    if (g->n_outputs < 1 || x->dtype != AQ_F32 || x->rank != 2 || x->dim[0].sym != AQ_SYM_O || x->dim[0].k != 1 || x->dim[1].sym ||
        x->dim[1].k != p->model->V)
        return aq_fail(AQ_REFUSED, s->plan->name, "the first output of the graph step: expected logits f32[O,%" PRId64 "]", p->model->V);
    if (aq_rt_weights_plan(s->weights) != p->hash)
        return aq_fail(AQ_REFUSED, s->plan->name, "the weights were bound for another plan");
    return AQ_OK;
}

static aq_status map_block(uint64_t size, void **out) { return size ? aq_mem_map(size, out) : AQ_OK; }

/* The block of tables begins with the session itself. */
static aq_status open_session(const aq_rt_plan *p, const aq_rt_weights *w, const aq_rt_limits *limits, aq_rt_session **at) {
    aq_rt_session draft = {0};
    aq_carver tables = {0};
    void *block;
    AQ_TRY(aq_rt_session_lay_out(&draft, p, limits, &tables));
    AQ_TRY(aq_mem_alloc(tables.used, &block));
    aq_rt_session *s = *at = block;
    s->memory = draft.memory; /* what close needs, should the next line fail */
    AQ_TRY(map_block(draft.memory.cache, &s->cache));
    AQ_TRY(map_block(draft.memory.activations, &s->activations));
    AQ_TRY(map_block(draft.memory.local, &s->local));
    AQ_TRY(aq_team_open(limits->threads, &s->team));
    tables = (aq_carver){.base = block};
    AQ_TRY(aq_rt_session_lay_out(s, p, limits, &tables));
    s->weights = w;
    AQ_TRY(bind_values(s));
    aq_kv_clear(&s->kv);
    aq_rt_exec_resolve(s);
    return AQ_OK;
}

aq_status aq_rt_session_open(const aq_rt_plan *p, const aq_rt_weights *w, const aq_rt_limits *limits, aq_rt_session **out) {
    aq_rt_session *s = NULL;
    aq_status status = open_session(p, w, limits, &s);
    if (status != AQ_OK)
        aq_rt_session_close(s);
    else
        *out = s;
    return status;
}

void aq_rt_session_close(aq_rt_session *s) {
    if (!s)
        return;
    aq_team_close(s->team);
    aq_mem_unmap(s->cache, s->memory.cache);
    aq_mem_unmap(s->activations, s->memory.activations);
    aq_mem_unmap(s->local, s->memory.local);
    aq_mem_free(s);
}

uint64_t aq_rt_session_bytes(const aq_rt_session *s) { return s->memory.total; }

/* ---- one step ---- */

static aq_status check_tokens(const aq_rt_session *s, const int32_t *tokens, int64_t n) {
    int64_t vocab = s->plan->tables.model->V;
    for (int64_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= vocab)
            return aq_fail(AQ_REFUSED, NULL, "token %" PRId64 " is %d: expected 0 to %" PRId64, i, tokens[i], vocab - 1);
    return AQ_OK;
}

static aq_status check_room(const aq_rt_session *s, int64_t seq, int64_t n) {
    if (seq < 0 || seq >= s->limits.sequences)
        return aq_fail(AQ_REFUSED, NULL, "sequence %" PRId64 ": expected 0 to %" PRId64, seq, s->limits.sequences - 1);
    if (n > s->limits.context - s->kv.length[seq])
        return aq_fail(AQ_REFUSED, NULL, "no room for %" PRId64 " tokens behind the %" PRId64 " of sequence %" PRId64 ": the context holds %" PRId64, n,
                       s->kv.length[seq], seq, s->limits.context);
    return AQ_OK;
}

/* tok, want and s->runs[0 .. n_runs) are filled in. */
static aq_status run_batch(aq_rt_session *s, int64_t n, int64_t n_want, int64_t n_runs) {
    memcpy(s->sym, s->bound, sizeof s->sym);
    s->sym[AQ_SYM_T] = n;
    s->sym[AQ_SYM_O] = n_want;
    s->sym[AQ_SYM_B] = n_runs;
    aq_kv_fill(&s->kv, s->runs, n_runs);
    aq_status status = aq_rt_exec_run(s);
    if (status == AQ_OK)
        aq_kv_commit(&s->kv, s->runs, n_runs);
    else
        aq_kv_undo(&s->kv, s->runs, n_runs);
    return status;
}

static void begin_trace(aq_rt_session *s) {
    if (s->tracing)
        memset(s->clocked, 0, s->plan->tables.n_steps * sizeof *s->clocked);
}

/* Tokens of the next chunk of `left`: the last one must hold all wanted rows. */
static int64_t chunk_of(const aq_rt_session *s, int64_t left, int64_t n_want) {
    int64_t n = left < s->limits.batch ? left : s->limits.batch;
    return left > n && left - n < n_want ? left - n_want : n;
}

aq_status aq_rt_feed(aq_rt_session *s, int64_t seq, const int32_t *tokens, int64_t n, int64_t n_want, const float **out_logits) {
    int64_t most = s->limits.outputs < s->limits.batch ? s->limits.outputs : s->limits.batch;
    if (n < 0 || n_want < 0 || n_want > n)
        return aq_fail(AQ_REFUSED, NULL, "logits of %" PRId64 " of %" PRId64 " tokens: expected at most as many as tokens", n_want, n);
    if (n_want > most)
        return aq_fail(AQ_REFUSED, NULL, "logits of %" PRId64 " tokens: expected at most %" PRId64 ", the limit of outputs and batch", n_want, most);
    AQ_TRY(check_room(s, seq, n));
    AQ_TRY(check_tokens(s, tokens, n));
    begin_trace(s);
    if (n == 0 && atomic_exchange(&s->interrupted, 0))
        return aq_fail(AQ_INTERRUPTED, NULL, "interrupted");
    for (int64_t at = 0, chunk; at < n; at += chunk) {
        chunk = chunk_of(s, n - at, n_want);
        int64_t rows = at + chunk == n ? n_want : 0;
        memcpy(s->tok, tokens + at, (size_t)chunk * sizeof *tokens);
        for (int64_t i = 0; i < rows; i++)
            s->want[i] = (int32_t)(chunk - rows + i);
        s->runs[0] = (aq_run){.seq = seq, .n = chunk};
        AQ_TRY(run_batch(s, chunk, rows, 1));
    }
    if (out_logits)
        *out_logits = s->output[0];
    return AQ_OK;
}

/* Tokens to runs of one sequence each. */
static aq_status split_runs(aq_rt_session *s, const int64_t *seq, int64_t n, int64_t *out_runs) {
    int64_t runs = 0;
    for (int64_t i = 0; i < n; i++) {
        if (runs && s->runs[runs - 1].seq == seq[i]) {
            s->runs[runs - 1].n++;
            continue;
        }
        AQ_TRY(check_room(s, seq[i], 1));
        for (int64_t k = 0; k < runs; k++)
            if (s->runs[k].seq == seq[i])
                return aq_fail(AQ_REFUSED, NULL, "row %" PRId64 ": the tokens of sequence %" PRId64 " are not together", i, seq[i]);
        s->runs[runs++] = (aq_run){.seq = seq[i], .first = i, .n = 1};
    }
    for (int64_t k = 0; k < runs; k++)
        AQ_TRY(check_room(s, s->runs[k].seq, s->runs[k].n));
    *out_runs = runs;
    return AQ_OK;
}

aq_status aq_rt_step(aq_rt_session *s, const int32_t *tokens, const int64_t *seq, const uint8_t *want, int64_t n, const float **out_logits) {
    int64_t runs = 0, rows = 0;
    if (n < 1 || n > s->limits.batch)
        return aq_fail(AQ_REFUSED, NULL, "a step of %" PRId64 " tokens: expected 1 to %" PRId64 ", the limit of the batch", n, s->limits.batch);
    AQ_TRY(split_runs(s, seq, n, &runs));
    AQ_TRY(check_tokens(s, tokens, n));
    for (int64_t i = 0; i < n; i++) {
        if (!want || !want[i])
            continue;
        if (rows == s->limits.outputs)
            return aq_fail(AQ_REFUSED, NULL, "logits of more than %" PRId64 " rows: the limit of outputs", rows);
        s->want[rows++] = (int32_t)i;
    }
    memcpy(s->tok, tokens, (size_t)n * sizeof *tokens);
    begin_trace(s);
    AQ_TRY(run_batch(s, n, rows, runs));
    if (out_logits)
        *out_logits = s->output[0];
    return AQ_OK;
}

/* ---- sequences ---- */

int64_t aq_rt_length(const aq_rt_session *s, int64_t seq) { return seq < 0 || seq >= s->limits.sequences ? 0 : s->kv.length[seq]; }

aq_status aq_rt_truncate(aq_rt_session *s, int64_t seq, int64_t length) {
    AQ_TRY(check_room(s, seq, 0));
    if (length < 0 || length > s->kv.length[seq])
        return aq_fail(AQ_REFUSED, NULL, "length %" PRId64 " of sequence %" PRId64 ": expected 0 to %" PRId64, length, seq, s->kv.length[seq]);
    aq_kv_truncate(&s->kv, seq, length);
    return AQ_OK;
}

void aq_rt_interrupt(aq_rt_session *s) { atomic_store(&s->interrupted, 1); }

/* ---- times ---- */

void aq_rt_trace(aq_rt_session *s, int on) {
    s->tracing = on;
    memset(s->clocked, 0, s->plan->tables.n_steps * sizeof *s->clocked);
}

uint32_t aq_rt_trace_rows(const aq_rt_session *s, aq_rt_trace_row *out, uint32_t room) {
    const aq_plan *p = &s->plan->tables;
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_steps && n < room; i++)
        if (s->clocked[i].count)
            out[n++] = (aq_rt_trace_row){p->strings + p->steps[i].name, p->steps[i].layer, s->clocked[i].count, s->clocked[i].ns};
    return n;
}
