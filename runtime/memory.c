/* memory.c: how much a session takes, and where each part lies: one walk (aq_rt_session_lay_out) that is run over no memory to count and
 * over the blocks to place, so that the two cannot differ. Four blocks:
 *   tables       the session, arguments and counts of every step, inputs, page tables, and the team's block
 *   cache        the states (pages; untouched ones cost no memory of the machine)
 *   activations  the buffers between steps: variants do not run together, so they share; outputs behind them
 *   local        a part for each worker */
#include "ir/memory.h"
#include "runtime/internal.h"

#include <inttypes.h>
#include <string.h>

void *aq_carve(aq_carver *c, int64_t count, int64_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || __builtin_add_overflow(bytes, (size_t)63, &bytes) || bytes > PTRDIFF_MAX - c->used) {
        c->overflow = 1;
        return NULL;
    }
    void *at = c->base ? c->base + c->used : NULL;
    c->used += bytes & ~(size_t)63;
    return at;
}

static aq_status limit(const aq_rt_plan *p, const char *name, int64_t value, uint32_t sym) {
    int64_t hi = sym ? p->tables.syms[sym].hi : INT32_MAX;
    if (value < 1 || value > hi)
        return aq_fail(AQ_REFUSED, p->name, "%s of %" PRId64 ": expected 1 to %" PRId64, name, value, hi);
    return AQ_OK;
}

/* The symbols' bounds from the limits. Rows of the cache are numbered in i32 (batch.def: slot). */
static aq_status bind_symbols(aq_rt_session *s, const aq_rt_plan *p, const aq_rt_limits *l) {
    s->plan = p;
    s->limits = *l;
    if (!p->step)
        return aq_fail(AQ_REFUSED, p->name, "has no graph `step`: expected a plan of a language model");
    AQ_TRY(limit(p, "context", l->context, 0));
    int64_t pages = l->context / AQ_PAGE + (l->context % AQ_PAGE != 0), rows;
    AQ_TRY(limit(p, "sequences", l->sequences, AQ_SYM_B));
    AQ_TRY(limit(p, "batch", l->batch, AQ_SYM_T));
    AQ_TRY(limit(p, "outputs", l->outputs, AQ_SYM_O));
    AQ_TRY(limit(p, "context in pages", pages, AQ_SYM_P));
    if (l->threads < 1 || l->threads > AQ_TEAM_MAX)
        return aq_fail(AQ_REFUSED, p->name, "%d threads: expected 1 to %d", l->threads, AQ_TEAM_MAX);
    if (__builtin_mul_overflow(pages * AQ_PAGE, l->sequences, &rows) || rows > INT32_MAX)
        return aq_fail(AQ_REFUSED, p->name, "context * sequences of %" PRId64 " * %" PRId64 ": expected less than 2^31", l->context, l->sequences);
    AQ_TRY(limit(p, "context * sequences", rows, AQ_SYM_S));
    s->limits.context = pages * AQ_PAGE;
    s->bound[AQ_SYM_NONE] = 1;
    s->bound[AQ_SYM_T] = l->batch;
    s->bound[AQ_SYM_O] = l->outputs;
    s->bound[AQ_SYM_B] = l->sequences;
    s->bound[AQ_SYM_S] = rows;
    s->bound[AQ_SYM_P] = pages;
    return AQ_OK;
}

static void carve_kv(aq_rt_session *s, aq_carver *c) {
    aq_kv *kv = &s->kv;
    kv->sequences = s->limits.sequences;
    kv->per_sequence = s->bound[AQ_SYM_P];
    int64_t pages = kv->sequences * kv->per_sequence;
    kv->length = aq_carve(c, kv->sequences, sizeof *kv->length);
    kv->held = aq_carve(c, kv->sequences, sizeof *kv->held);
    kv->table = aq_carve(c, pages, sizeof *kv->table);
    kv->spare = aq_carve(c, pages, sizeof *kv->spare);
#define DIM_NONE 1
#define DIM_T s->bound[AQ_SYM_T]
#define DIM_B s->bound[AQ_SYM_B]
#define DIM_P s->bound[AQ_SYM_P]
#define FIELD(name, n_dims, dim0, dim1, doc) kv->field[AQ_FIELD_##name] = aq_carve(c, DIM_##dim0 * DIM_##dim1, sizeof(int32_t));
#include "ir/batch.def"
#undef FIELD
}

/* Arguments and counts of the variants that a step of 1 .. batch tokens can meet. */
static void carve_variants(aq_rt_session *s, aq_carver *c) {
    const aq_plan *p = &s->plan->tables;
    const aq_plan_variant *all = p->variants + s->plan->step->first_variant;
    s->n_variants = 0;
    while (s->n_variants < s->plan->step->n_variants && all[s->n_variants].t_lo <= s->limits.batch)
        s->n_variants++;
    s->variants = aq_carve(c, s->n_variants, sizeof *s->variants);
    for (uint32_t i = 0; i < s->n_variants; i++) {
        aq_rt_exec *steps = aq_carve(c, all[i].n_steps, sizeof *steps);
        if (c->base) {
            aq_rt_variant *v = &s->variants[i];
            v->plan = &all[i];
            v->steps = steps;
            memcpy(v->bound, s->bound, sizeof v->bound);
            v->bound[AQ_SYM_T] = all[i].t_hi < s->limits.batch ? all[i].t_hi : s->limits.batch;
        }
        for (uint32_t j = 0; j < all[i].n_steps; j++) {
            const aq_plan_step *step = &p->steps[all[i].first_step + j];
            void **arg = aq_carve(c, step->n_args, sizeof *arg);
            int64_t *count = aq_carve(c, step->n_phases ? step->n_phases : 1, sizeof *count);
            if (c->base)
                steps[j] = (aq_rt_exec){.step = step, .arg = arg, .count = count};
        }
    }
}

static void carve_tables(aq_rt_session *s, aq_carver *c) {
    const aq_rt_plan *p = s->plan;
    aq_carve(c, 1, sizeof *s);
    carve_kv(s, c);
    s->tok = aq_carve(c, s->bound[AQ_SYM_T], sizeof *s->tok);
    s->want = aq_carve(c, s->bound[AQ_SYM_O], sizeof *s->want);
    s->runs = aq_carve(c, s->bound[AQ_SYM_B], sizeof *s->runs);
    s->input = aq_carve(c, p->step->n_inputs, sizeof *s->input);
    s->output = aq_carve(c, p->step->n_outputs, sizeof *s->output);
    s->state = aq_carve(c, p->tables.n_states, sizeof *s->state);
    s->clocked = aq_carve(c, p->tables.n_steps, sizeof *s->clocked);
    carve_variants(s, c);
}

static aq_status carve_cache(aq_rt_session *s, aq_carver *c) {
    const aq_plan *p = &s->plan->tables;
    for (uint32_t i = 0; i < p->n_states; i++) {
        const aq_plan_state *x = &p->states[i];
        int64_t dim[AQ_PLAN_MAX_RANK];
        size_t bytes;
        for (uint32_t k = 0; k < AQ_PLAN_MAX_RANK; k++)
            dim[k] = aq_size_eval(x->dim[k], s->bound);
        AQ_TRY(aq_layout_bytes((aq_layout)x->layout, (aq_dtype)x->dtype, dim, (int)x->rank, p->strings + x->name, &bytes));
        void *at = aq_carve(c, (int64_t)bytes, 1);
        if (c->base)
            s->state[i] = at;
    }
    return AQ_OK;
}

aq_status aq_rt_arenas(const aq_plan_variant *v, const int64_t *bound, size_t *start, size_t *out) {
    size_t at = 0;
    for (uint32_t i = 0; i < AQ_SYM_COUNT; i++) {
        size_t bytes;
        start[i] = at;
        AQ_TRY(aq_size_mul((size_t)v->arena[i], (size_t)bound[i], "activations", &bytes));
        AQ_TRY(aq_size_add(at, bytes, "activations", &at));
    }
    *out = at;
    return AQ_OK;
}

static aq_status carve_activations(aq_rt_session *s, aq_carver *c) {
    const aq_plan *p = &s->plan->tables;
    const aq_plan_graph *g = s->plan->step;
    size_t most = 0, start[AQ_SYM_COUNT];
    for (uint32_t i = 0; i < s->n_variants; i++) {
        const aq_plan_variant *v = &p->variants[g->first_variant + i];
        int64_t bound[AQ_SYM_COUNT];
        size_t bytes;
        memcpy(bound, s->bound, sizeof bound);
        bound[AQ_SYM_T] = v->t_hi < s->limits.batch ? v->t_hi : s->limits.batch;
        AQ_TRY(aq_rt_arenas(v, bound, start, &bytes));
        most = bytes > most ? bytes : most;
    }
    aq_carve(c, (int64_t)most, 1);
    for (uint32_t i = 0; i < g->n_outputs; i++) {
        const aq_plan_input *x = &p->io[g->first_output + i];
        size_t n = 1, bytes;
        for (uint32_t k = 0; k < x->rank; k++)
            AQ_TRY(aq_size_mul(n, (size_t)aq_size_eval(x->dim[k], s->bound), p->strings + x->name, &n));
        AQ_TRY(aq_dtype_bytes((aq_dtype)x->dtype, n, p->strings + x->name, &bytes));
        void *at = aq_carve(c, (int64_t)bytes, 1);
        if (c->base)
            s->output[i] = at;
    }
    return AQ_OK;
}

static void carve_local(aq_rt_session *s, aq_carver *c) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < s->n_variants; i++) {
        const aq_plan_variant *v = &s->plan->tables.variants[s->plan->step->first_variant + i];
        for (uint32_t j = 0; j < v->n_steps; j++) {
            uint64_t bytes = s->plan->tables.steps[v->first_step + j].local_bytes;
            most = bytes > most ? bytes : most;
        }
    }
    s->local_stride = (most + 63) & ~(size_t)63;
    aq_carve(c, s->limits.threads, (int64_t)s->local_stride);
}

aq_status aq_rt_session_lay_out(aq_rt_session *s, const aq_rt_plan *p, const aq_rt_limits *limits, aq_carver *tables) {
    AQ_TRY(bind_symbols(s, p, limits));
    aq_carver cache = {.base = s->cache}, activations = {.base = s->activations}, local = {.base = s->local};
    carve_tables(s, tables);
    AQ_TRY(carve_cache(s, &cache));
    AQ_TRY(carve_activations(s, &activations));
    carve_local(s, &local);
    if (tables->overflow || cache.overflow || activations.overflow || local.overflow)
        return aq_fail(AQ_REFUSED, s->plan->name, "the limits ask for more memory than can be addressed");
    aq_rt_memory *m = &s->memory;
    *m = (aq_rt_memory){.cache = cache.used, .activations = activations.used, .local = local.used, .tables = tables->used};
    AQ_TRY(aq_size_add(m->tables, aq_team_bytes(s->limits.threads), s->plan->name, &m->tables));
    AQ_TRY(aq_size_add(m->cache, m->activations, s->plan->name, &m->total));
    AQ_TRY(aq_size_add(m->total, m->local, s->plan->name, &m->total));
    return aq_size_add(m->total, m->tables, s->plan->name, &m->total);
}

aq_status aq_rt_memory_of(const aq_rt_plan *p, const aq_rt_limits *limits, aq_rt_memory *out) {
    aq_rt_session s = {0};
    aq_carver tables = {0};
    AQ_TRY(aq_rt_session_lay_out(&s, p, limits, &tables));
    s.memory.plan = p->tables.size;
    for (uint32_t i = 0; i < p->tables.n_weights; i++) {
        const aq_plan_weight *w = &p->tables.weights[i];
        if (w->alias)
            continue;
        if (w->layout == AQ_LAYOUT_ROWS && w->head_dim == 0)
            s.memory.weights_mapped += w->bytes;
        else
            s.memory.weights_packed += (w->bytes + 63) & ~(uint64_t)63;
    }
    *out = s.memory;
    return AQ_OK;
}
