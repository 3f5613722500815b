/* plan_check.c: looks at every record of a plan before anybody follows an index. One function a table; each message names TABLE[i].FIELD.
 *
 * Time is linear in the file: a record's lists are bounded (MAX_ARGS ...), and the steps and buffers of the variants lie one after the
 * other, so that a small file cannot make us look at the same records a million times. Sizes are bounded so that nobody who multiplies
 * an accepted k with an accepted dimension overflows before aq_size_eval sees it. */
#include "ir/plan_file.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { MAX_ARGS = 256, MAX_PHASES = 64, MAX_GRIDS = 64 };
#define MAX_K ((int64_t)1 << 46) /* more bytes or elements than any machine holds */
#define MAX_LOCAL ((uint64_t)1 << 32)

typedef struct checker {
    const char *file;
    const aq_plan *p;
    const char *table;
    uint32_t i;
} checker;

static aq_status refuse(const checker *c, const char *field, int64_t value, const char *wanted) {
    return aq_fail(AQ_REFUSED, c->file, "%s[%u].%s: is %" PRId64 ": expected %s", c->table, c->i, field, value, wanted);
}
#define DEMAND(ok, field, value, wanted)                                                                                                    \
    do {                                                                                                                                    \
        if (!(ok))                                                                                                                          \
            return refuse(c, field, (int64_t)(value), wanted);                                                                              \
    } while (0)

static aq_status string(const checker *c, const char *field, uint32_t s) {
    DEMAND(s < c->p->strings_size, field, s, "the offset of a string");
    return AQ_OK;
}
static aq_status name(const checker *c, const char *field, uint32_t s) {
    AQ_TRY(string(c, field, s));
    DEMAND(c->p->strings[s], field, s, "the offset of a name that is not empty");
    return AQ_OK;
}
static aq_status range(const checker *c, const char *field, uint32_t first, uint32_t n, uint32_t all) {
    DEMAND(first <= all && n <= all - first, field, (int64_t)first + n, "a range inside the table it points into");
    return AQ_OK;
}
static aq_status size(const checker *c, const char *field, aq_size s) {
    DEMAND(s.k >= 0 && s.k <= MAX_K, field, s.k, "a count of 0 to 2^46");
    DEMAND(s.sym < AQ_SYM_COUNT && !s.reserved, field, s.sym, "the number of a symbol");
    return AQ_OK;
}
static aq_status dtype(const checker *c, uint32_t t) {
    DEMAND(t > AQ_DTYPE_NONE && t < AQ_DTYPE_COUNT, "dtype", t, "the number of a type");
    return AQ_OK;
}

/* The dims of a value: positive, unused ones zero, whole blocks along the last axis. */
static aq_status dims(const checker *c, uint32_t t, uint32_t rank, const aq_size *dim) {
    AQ_TRY(dtype(c, t));
    DEMAND(rank <= AQ_PLAN_MAX_RANK, "rank", rank, "0 to 4");
    for (uint32_t i = 0; i < AQ_PLAN_MAX_RANK; i++) {
        AQ_TRY(size(c, "dim", dim[i]));
        DEMAND(i < rank ? dim[i].k > 0 : dim[i].k == 0 && dim[i].sym == 0, "dim", dim[i].k, "a positive size for each axis, 0 behind them");
    }
    uint32_t block = aq_dtype_of((aq_dtype)t)->block;
    DEMAND(block == 1 || (rank && dim[rank - 1].k % block == 0), "dim", rank ? dim[rank - 1].k : 0, "whole blocks along the last axis");
    return AQ_OK;
}

/* Bytes of a value as k * symbol: at most one symbolic axis. */
static aq_status bytes_of(const checker *c, uint32_t t, uint32_t rank, const aq_size *dim, aq_size *out) {
    size_t n = 1;
    uint32_t sym = AQ_SYM_NONE;
    for (uint32_t i = 0; i < rank; i++) {
        DEMAND(dim[i].sym == AQ_SYM_NONE || sym == AQ_SYM_NONE, "dim", dim[i].sym, "at most one axis with a symbol");
        sym = dim[i].sym ? dim[i].sym : sym;
        DEMAND(!__builtin_mul_overflow(n, (size_t)dim[i].k, &n) && n <= (size_t)MAX_K, "dim", dim[i].k, "a smaller value");
    }
    size_t bytes;
    AQ_TRY(aq_dtype_bytes((aq_dtype)t, n, c->table, &bytes));
    DEMAND(bytes <= (size_t)MAX_K, "dim", n, "a smaller value");
    *out = (aq_size){.k = (int64_t)bytes, .sym = sym};
    return AQ_OK;
}

/* ---- one function a table ---- */

static aq_status check_model(const checker *c, const aq_plan_model *m) {
    AQ_TRY(string(c, "name", m->name));
    AQ_TRY(string(c, "family", m->family));
    const int64_t figure[] = {m->D, m->L, m->H, m->HKV, m->DH, m->F, m->V, m->max_length};
    static const char *const field[] = {"D", "L", "H", "HKV", "DH", "F", "V", "max_length"};
    for (size_t i = 0; i < sizeof figure / sizeof *figure; i++)
        DEMAND(figure[i] >= 0 && figure[i] <= INT32_MAX, field[i], figure[i], "0 to 2^31-1");
    DEMAND(m->bos >= -1, "bos", m->bos, "a token or -1");
    DEMAND(m->eos >= -1, "eos", m->eos, "a token or -1");
    DEMAND(m->pad >= -1, "pad", m->pad, "a token or -1");
    DEMAND(!m->reserved, "reserved", m->reserved, "0");
    return AQ_OK;
}

static aq_status check_sym(const checker *c, const aq_plan_sym *s) {
    AQ_TRY(string(c, "name", s->name));
    DEMAND(!s->reserved, "reserved", s->reserved, "0");
    DEMAND(s->lo >= 0 && s->hi >= s->lo && s->hi <= MAX_K, "hi", s->hi, "bounds 0 <= lo <= hi <= 2^46");
    return AQ_OK;
}

static aq_status check_weight(const checker *c, const aq_plan_weight *w) {
    AQ_TRY(name(c, "name", w->name));
    AQ_TRY(dtype(c, w->dtype));
    DEMAND(w->layout < AQ_LAYOUT_COUNT && w->layout != AQ_LAYOUT_PLANES && w->layout != AQ_LAYOUT_WIDE, "layout", w->layout, "the number of a layout that a CPU has");
    DEMAND(w->rank >= 1 && w->rank <= AQ_PLAN_MAX_RANK, "rank", w->rank, "1 to 4");
    for (uint32_t i = 0; i < AQ_PLAN_MAX_RANK; i++)
        DEMAND(i < w->rank ? w->dim[i] > 0 && w->dim[i] <= MAX_K : w->dim[i] == 0, "dim", w->dim[i], "a positive size for each axis");
    size_t bytes;
    aq_status status = aq_layout_bytes((aq_layout)w->layout, (aq_dtype)w->dtype, w->dim, (int)w->rank, "weight", &bytes);
    if (status != AQ_OK)
        return aq_fail_prefix(status, c->file);
    DEMAND(w->bytes == bytes, "bytes", w->bytes, "what its layout takes");
    DEMAND(w->head_dim >= 0 && w->head_dim % 2 == 0, "head_dim", w->head_dim, "an even number");
    DEMAND(w->head_dim == 0 || (w->rank == 2 && w->dim[0] % w->head_dim == 0), "head_dim", w->head_dim, "a divisor of a matrix's rows");
    DEMAND(w->alias <= c->p->n_weights && w->alias != c->i + 1, "alias", w->alias, "another weight");
    DEMAND(!w->reserved, "reserved", w->reserved, "0");
    if (!w->alias)
        return AQ_OK;
    const aq_plan_weight *o = &c->p->weights[w->alias - 1];
    DEMAND(o->alias == 0 && o->dtype == w->dtype && o->layout == w->layout && o->bytes == w->bytes && o->head_dim == w->head_dim &&
               memcmp(o->dim, w->dim, sizeof w->dim) == 0,
           "alias", w->alias, "a weight of the same type, shape and layout with its own storage");
    return AQ_OK;
}

static aq_status check_state(const checker *c, const aq_plan_state *s) {
    AQ_TRY(name(c, "name", s->name));
    DEMAND(s->layout < AQ_LAYOUT_COUNT && s->layout != AQ_LAYOUT_WIDE, "layout", s->layout, "the number of a layout");
    DEMAND(s->rank >= 1, "rank", s->rank, "1 to 4");
    AQ_TRY(dims(c, s->dtype, s->rank, s->dim));
    if (s->layout == AQ_LAYOUT_KV_ROWS || s->layout == AQ_LAYOUT_KV_PANEL) {
        DEMAND(s->rank == 3, "rank", s->rank, "3 for a cache");
        DEMAND(s->dim[0].sym == AQ_SYM_S && s->dim[0].k == 1, "dim", s->dim[0].k, "S rows for a cache");
        DEMAND(s->dim[1].sym == AQ_SYM_NONE && s->dim[2].sym == AQ_SYM_NONE, "dim", s->dim[1].k, "numbers behind S");
    }
    return AQ_OK;
}

static const struct {
    const char *name;
    uint32_t rank, sym[2];
} fields[] = {
#define FIELD(name, n, dim0, dim1, doc) {#name, n, {AQ_SYM_##dim0, AQ_SYM_##dim1}},
#include "ir/batch.def"
#undef FIELD
};

static aq_status check_io(const checker *c, const aq_plan_input *x) {
    AQ_TRY(name(c, "name", x->name));
    AQ_TRY(dims(c, x->dtype, x->rank, x->dim));
    DEMAND(x->field <= sizeof fields / sizeof *fields, "field", x->field, "a row of batch.def");
    if (!x->field)
        return AQ_OK;
    DEMAND(x->dtype == AQ_I32, "dtype", x->dtype, "i32 for an array of the batch");
    DEMAND(x->rank == fields[x->field - 1].rank, "rank", x->rank, "that of batch.def");
    for (uint32_t i = 0; i < x->rank; i++)
        DEMAND(x->dim[i].k == 1 && x->dim[i].sym == fields[x->field - 1].sym[i], "dim", x->dim[i].k, "those of batch.def");
    return AQ_OK;
}

static aq_status check_grid(const checker *c, const aq_plan_grid *g) {
    DEMAND(g->n <= 4, "n", g->n, "at most 4 loops");
    DEMAND(!g->reserved, "reserved", g->reserved, "0");
    for (uint32_t i = 0; i < 4; i++) {
        AQ_TRY(size(c, "extent", g->extent[i]));
        DEMAND(i < g->n ? g->step[i] > 0 : g->step[i] == 0 && g->extent[i].k == 0, "step", g->step[i], "a positive step for each loop");
    }
    return AQ_OK;
}

static aq_status check_phase(const checker *c, const aq_plan_phase *f) {
    AQ_TRY(name(c, "symbol", f->symbol));
    AQ_TRY(range(c, "n_grids", f->first_grid, f->n_grids, c->p->n_grids));
    DEMAND(f->n_grids >= 1 && f->n_grids <= MAX_GRIDS, "n_grids", f->n_grids, "1 to 64");
    DEMAND(f->ragged <= 1, "ragged", f->ragged, "0 or 1");
    return AQ_OK;
}

static aq_status check_step(const checker *c, const aq_plan_step *s) {
    DEMAND(s->kind >= AQ_STEP_LAUNCH && s->kind <= AQ_STEP_FILL, "kind", s->kind, "launch, copy or fill");
    AQ_TRY(name(c, "name", s->name));
    AQ_TRY(string(c, "schedule", s->schedule));
    AQ_TRY(string(c, "sum_class", s->sum_class));
    AQ_TRY(string(c, "provenance", s->provenance));
    DEMAND(s->device == 0, "device", s->device, "0: plans for several devices are not known yet");
    DEMAND(s->queue == 0, "queue", s->queue, "0: plans with several queues are not known yet");
    AQ_TRY(range(c, "n_args", s->first_arg, s->n_args, c->p->n_args));
    AQ_TRY(range(c, "n_phases", s->first_phase, s->n_phases, c->p->n_phases));
    uint32_t least = s->kind == AQ_STEP_COPY ? 2 : s->kind == AQ_STEP_FILL ? 1 : 0;
    uint32_t most = s->kind == AQ_STEP_LAUNCH ? MAX_ARGS : least;
    DEMAND(s->n_args >= least && s->n_args <= most, "n_args", s->n_args, "copy: 2 (from, to); fill: 1; launch: at most 256");
    DEMAND(s->kind == AQ_STEP_LAUNCH ? s->n_phases >= 1 && s->n_phases <= MAX_PHASES : s->n_phases == 0, "n_phases", s->n_phases,
           "1 to 64 for a launch, else 0");
    DEMAND(s->local_bytes <= MAX_LOCAL, "local_bytes", s->local_bytes, "at most 4 GiB a worker");
    DEMAND(s->layer >= -1, "layer", s->layer, "a layer or -1");
    DEMAND(isfinite(s->expected_ns_per_token) && s->expected_ns_per_token >= 0, "expected_ns_per_token", 0, "a time");
    return AQ_OK;
}

static aq_status check_buffer(const checker *c, const aq_plan_buffer *b) {
    AQ_TRY(name(c, "name", b->name));
    DEMAND(!b->reserved, "reserved", b->reserved, "0");
    AQ_TRY(dims(c, b->dtype, b->rank, b->dim));
    AQ_TRY(size(c, "bytes", b->bytes));
    DEMAND(b->bytes.k % AQ_PLAN_ALIGN == 0, "bytes", b->bytes.k, "a multiple of 64");
    DEMAND(b->offset >= 0 && b->offset <= MAX_K && b->offset % AQ_PLAN_ALIGN == 0, "offset", b->offset, "a multiple of 64, at most 2^46");
    aq_size need;
    AQ_TRY(bytes_of(c, b->dtype, b->rank, b->dim, &need));
    DEMAND(b->bytes.sym == need.sym && b->bytes.k >= need.k, "bytes", b->bytes.k, "at least what its dims take, of the same symbol");
    return AQ_OK;
}

/* The bytes that a copy or fill moves. */
static aq_status moved(const checker *c, const aq_plan_graph *g, const aq_plan_arg *a, aq_size *out) {
    const aq_plan_input *x;
    DEMAND(a->kind == AQ_ARG_BUFFER || a->kind == AQ_ARG_INPUT || a->kind == AQ_ARG_OUTPUT, "first_arg", a->kind, "a buffer, input or output to copy or fill");
    if (a->kind == AQ_ARG_BUFFER) {
        *out = c->p->buffers[a->index].bytes;
        return AQ_OK;
    }
    x = &c->p->io[(a->kind == AQ_ARG_INPUT ? g->first_input : g->first_output) + a->index];
    return bytes_of(c, x->dtype, x->rank, x->dim, out);
}

/* The arguments of one step of a variant: each inside what this variant can see. */
static aq_status check_args(const checker *c, const aq_plan_graph *g, const aq_plan_variant *v, const aq_plan_step *s) {
    const aq_plan *p = c->p;
    for (uint32_t i = 0; i < s->n_args; i++) {
        const aq_plan_arg *a = &p->args[s->first_arg + i];
        switch (a->kind) {
        case AQ_ARG_BUFFER:
            DEMAND(a->index >= v->first_buffer && a->index - v->first_buffer < v->n_buffers, "first_arg", a->index, "a buffer of the step's variant");
            break;
        case AQ_ARG_WEIGHT: DEMAND(a->index < p->n_weights, "first_arg", a->index, "a weight"); break;
        case AQ_ARG_STATE: DEMAND(a->index < p->n_states, "first_arg", a->index, "a state"); break;
        case AQ_ARG_INPUT: DEMAND(a->index < g->n_inputs, "first_arg", a->index, "an input of the graph"); break;
        case AQ_ARG_OUTPUT: DEMAND(a->index < g->n_outputs, "first_arg", a->index, "an output of the graph"); break;
        default: return refuse(c, "first_arg", a->kind, "the kind of an argument");
        }
    }
    if (s->kind == AQ_STEP_LAUNCH)
        return AQ_OK;
    aq_size from, to;
    const aq_plan_arg *a = &p->args[s->first_arg];
    AQ_TRY(moved(c, g, a, &from));
    AQ_TRY(moved(c, g, &a[s->n_args - 1], &to));
    DEMAND(from.k == to.k && from.sym == to.sym, "first_arg", from.k, "two values of the same size to copy");
    DEMAND(a[s->n_args - 1].kind != AQ_ARG_INPUT, "first_arg", a->kind, "a buffer or output to write to");
    return AQ_OK;
}

static aq_status check_variant(checker *c, const aq_plan_graph *g, const aq_plan_variant *v) {
    const aq_plan *p = c->p;
    AQ_TRY(range(c, "n_steps", v->first_step, v->n_steps, p->n_steps));
    AQ_TRY(range(c, "n_buffers", v->first_buffer, v->n_buffers, p->n_buffers));
    DEMAND(v->n_steps > 0, "n_steps", v->n_steps, "at least one step");
    for (int i = 0; i < AQ_SYM_COUNT; i++)
        DEMAND(v->arena[i] >= 0 && v->arena[i] <= MAX_K && v->arena[i] % AQ_PLAN_ALIGN == 0, "arena", v->arena[i], "a multiple of 64, at most 2^46");
    checker part = {.file = c->file, .p = p, .table = "buffers"};
    for (uint32_t i = 0; i < v->n_buffers; i++) {
        const aq_plan_buffer *b = &p->buffers[part.i = v->first_buffer + i];
        if (b->offset > v->arena[b->bytes.sym] || b->bytes.k > v->arena[b->bytes.sym] - b->offset)
            return refuse(&part, "offset", b->offset, "a place inside the arena of its variant");
        if (b->first_step > b->last_step || b->last_step >= v->n_steps)
            return refuse(&part, "last_step", b->last_step, "a life within the steps of its variant");
    }
    part.table = "steps";
    for (uint32_t i = 0; i < v->n_steps; i++) {
        part.i = v->first_step + i;
        AQ_TRY(check_args(&part, g, v, &p->steps[part.i]));
    }
    return AQ_OK;
}

static aq_status check_graph(checker *c, const aq_plan_graph *g, uint32_t *next_variant, uint32_t *next_step, uint32_t *next_buffer) {
    const aq_plan *p = c->p;
    AQ_TRY(name(c, "name", g->name));
    AQ_TRY(range(c, "n_inputs", g->first_input, g->n_inputs, p->n_io));
    AQ_TRY(range(c, "n_outputs", g->first_output, g->n_outputs, p->n_io));
    AQ_TRY(range(c, "n_variants", g->first_variant, g->n_variants, p->n_variants));
    DEMAND(g->n_variants > 0, "n_variants", g->n_variants, "at least one variant");
    DEMAND(g->first_variant == *next_variant, "first_variant", g->first_variant, "the variants of the graphs one after the other");
    DEMAND(!g->reserved, "reserved", g->reserved, "0");
    *next_variant += g->n_variants;
    int64_t next = 1;
    checker part = {.file = c->file, .p = p, .table = "variants"};
    for (uint32_t i = 0; i < g->n_variants; i++) {
        const aq_plan_variant *v = &p->variants[part.i = g->first_variant + i];
        if (v->t_lo != next || v->t_hi < v->t_lo || v->t_hi == INT64_MAX)
            return refuse(&part, "t_lo", v->t_lo, "ranges of T that follow each other from 1 on");
        if (v->first_step != *next_step || v->first_buffer != *next_buffer)
            return refuse(&part, "first_step", v->first_step, "the steps and buffers of the variants one after the other");
        AQ_TRY(check_variant(&part, g, v));
        *next_step += v->n_steps;
        *next_buffer += v->n_buffers;
        next = v->t_hi + 1;
    }
    DEMAND(next > p->syms[AQ_SYM_T].hi, "n_variants", next - 1, "variants for every T up to the symbol's bound");
    return AQ_OK;
}

aq_status aq_plan_check(const char *file, const aq_plan *p) {
    if (p->code_size == 0)
        return aq_fail(AQ_REFUSED, file, "code: is empty");
#define EACH(name_, n_, check)                                                                                                              \
    for (uint32_t i = 0; i < (n_); i++)                                                                                                     \
        AQ_TRY(check(&(checker){.file = file, .p = p, .table = #name_, .i = i}, &p->name_[i]));
    EACH(model, 1, check_model)
    EACH(syms, AQ_SYM_COUNT, check_sym)
    EACH(weights, p->n_weights, check_weight)
    EACH(states, p->n_states, check_state)
    EACH(io, p->n_io, check_io)
    EACH(grids, p->n_grids, check_grid)
    EACH(phases, p->n_phases, check_phase)
    EACH(steps, p->n_steps, check_step)
    EACH(buffers, p->n_buffers, check_buffer)
    uint32_t variant = 0, step = 0, buffer = 0;
    if (p->n_graphs == 0)
        return aq_fail(AQ_REFUSED, file, "graphs: is empty");
    for (uint32_t i = 0; i < p->n_graphs; i++)
        AQ_TRY(check_graph(&(checker){.file = file, .p = p, .table = "graphs", .i = i}, &p->graphs[i], &variant, &step, &buffer));
    if (variant != p->n_variants || step != p->n_steps || buffer != p->n_buffers)
        return aq_fail(AQ_REFUSED, file, "variants: %u of %u, steps: %u of %u, buffers: %u of %u belong to a graph: expected all", variant,
                       p->n_variants, step, p->n_steps, buffer, p->n_buffers);
    return AQ_OK;
}
