/* compile_plan.c: from modules and kernels to the tables of a plan. Weights, states, inputs and outputs are those of the first variant (all
 * variants come from the same text); each variant brings its steps and its buffers. Buffers of a variant: the values between its kernels and
 * the scratch of every kernel, which lives for its one step. Symbols of the module have the plan's numbers (T O B S P in this order): the
 * kernels index by them. */
#include "frontend/compile.h"

#include "ir/nest.h"

#include <string.h>

struct aq_plan_builder {
    aq_arena *arena;
    AQ_VEC(char) strings;
    AQ_VEC(uint32_t) offsets; /* of the strings, for finding one again */
    AQ_VEC(aq_plan_weight) weights;
    AQ_VEC(aq_plan_state) states;
    AQ_VEC(aq_plan_input) io;
    AQ_VEC(aq_plan_buffer) buffers;
    AQ_VEC(aq_plan_step) steps;
    AQ_VEC(aq_plan_phase) phases;
    AQ_VEC(aq_plan_grid) grids;
    AQ_VEC(aq_plan_arg) args;
    AQ_VEC(aq_plan_variant) variants;
    aq_plan_graph graph;
    aq_plan_model model;
    aq_plan_sym syms[AQ_SYM_COUNT];
    aq_text manifest;
    const char *target, *options;
};

static const char *const sym_names[AQ_SYM_COUNT] = {"", "T", "O", "B", "S", "P"};

static const struct {
    const char *name;
    int n_dims;
    uint32_t sym[2];
} fields[] = {
#define FIELD(name, n, d0, d1, doc) {#name, n, {AQ_SYM_##d0, AQ_SYM_##d1}},
#include "ir/batch.def"
#undef FIELD
};
enum { FIELDS = sizeof fields / sizeof *fields };

static aq_status string_of(aq_plan_builder *b, const char *s, uint32_t *out) {
    s = s ? s : "";
    for (uint32_t i = 0; i < b->offsets.n; i++)
        if (!strcmp(b->strings.at + b->offsets.at[i], s)) {
            *out = b->offsets.at[i];
            return AQ_OK;
        }
    *out = b->strings.n;
    AQ_PUSH(b->arena, &b->offsets, b->strings.n);
    for (size_t i = 0; i <= strlen(s); i++)
        AQ_PUSH(b->arena, &b->strings, s[i]);
    return AQ_OK;
}

static aq_size size_of(aq_dim d) { return (aq_size){.k = d.k, .sym = d.sym}; }

static aq_status check_syms(const aq_module *m) {
    for (aq_id i = 1; i < AQ_SYM_COUNT; i++)
        if (i >= m->syms.n || strcmp(m->syms.at[i].name, sym_names[i]))
            return aq_fail(AQ_REFUSED, m->file, "symbol %u is %s: expected T, O, B, S, P in this order", i, i < m->syms.n ? m->syms.at[i].name : "absent");
    if (m->syms.n > AQ_SYM_COUNT)
        return aq_fail(AQ_REFUSED, m->file, "symbol %s: expected only T, O, B, S, P", m->syms.at[AQ_SYM_COUNT].name);
    return AQ_OK;
}

/* --- what all variants share --------------------------------------------------------------------------------------------------------- */

static aq_status add_weight(aq_plan_builder *b, const aq_module *m, const aq_weight *w) {
    const aq_type *t = &m->values.at[w->value].type;
    aq_plan_weight r = {.dtype = t->dtype, .layout = w->layout, .rank = t->rank, .head_dim = w->rotate_half ? w->head_dim : 0};
    size_t bytes;
    AQ_TRY(string_of(b, w->name, &r.name));
    for (int i = 0; i < t->rank; i++)
        r.dim[i] = t->dim[i].k;
    AQ_TRY(aq_layout_bytes(w->layout, t->dtype, r.dim, t->rank, w->name, &bytes));
    r.bytes = bytes;
    for (uint32_t i = 0; w->alias && i < m->weights.n; i++)
        if (!strcmp(m->weights.at[i].name, w->alias))
            r.alias = i + 1;
    AQ_PUSH(b->arena, &b->weights, r);
    return AQ_OK;
}

static aq_status add_state(aq_plan_builder *b, const aq_module *m, const aq_state *s) {
    const aq_type *t = &m->values.at[s->value].type;
    aq_plan_state r = {.dtype = t->dtype, .layout = s->layout, .rank = t->rank};
    AQ_TRY(string_of(b, s->name, &r.name));
    for (int i = 0; i < t->rank; i++)
        r.dim[i] = size_of(t->dim[i]);
    AQ_PUSH(b->arena, &b->states, r);
    return AQ_OK;
}

static aq_status add_io(aq_plan_builder *b, const char *name, const aq_type *t, uint32_t field) {
    aq_plan_input r = {.dtype = t->dtype, .rank = t->rank, .field = field};
    AQ_TRY(string_of(b, name, &r.name));
    for (int i = 0; i < t->rank; i++)
        r.dim[i] = size_of(t->dim[i]);
    AQ_PUSH(b->arena, &b->io, r);
    return AQ_OK;
}

static aq_status add_inputs(aq_plan_builder *b, const aq_module *m, const aq_body *g) {
    for (uint32_t i = 0; i < g->params.n; i++) {
        const aq_value *v = &m->values.at[g->params.at[i]];
        if (!v->type.is_batch) {
            AQ_TRY(add_io(b, v->name, &v->type, 0));
            continue;
        }
        for (uint32_t f = 0; f < FIELDS; f++) {
            aq_type t = {.dtype = AQ_I32, .rank = (uint8_t)fields[f].n_dims};
            for (int d = 0; d < fields[f].n_dims; d++)
                t.dim[d] = (aq_dim){1, fields[f].sym[d]};
            AQ_TRY(add_io(b, fields[f].name, &t, f + 1));
        }
    }
    b->graph.n_inputs = b->io.n;
    b->graph.first_output = b->io.n;
    b->graph.n_outputs = g->results.n;
    for (uint32_t i = 0; i < g->results.n; i++)
        AQ_TRY(add_io(b, i ? "result" : "logits", &m->values.at[g->results.at[i]].type, 0));
    return AQ_OK;
}

static aq_status add_model(aq_plan_builder *b, const aq_config *c) {
    b->model = (aq_plan_model){.D = c->D, .L = c->L, .H = c->H, .HKV = c->HKV, .DH = c->DH, .F = c->F, .V = c->V, .max_length = c->max_length,
                               .bos = c->bos, .eos = c->eos, .pad = c->pad};
    AQ_TRY(string_of(b, c->name, &b->model.name));
    return string_of(b, c->family, &b->model.family);
}

aq_status aq_plan_builder_open(aq_arena *arena, const aq_module *m, const aq_checkpoint *c, const char *target, const char *options, aq_plan_builder **out) {
    aq_plan_builder *b;
    const aq_body *step = aq_graph_find(m, "step");
    AQ_TRY(check_syms(m));
    AQ_ALLOC(arena, b, 1);
    b->arena = b->manifest.arena = arena;
    b->options = options;
    AQ_TRY(aq_arena_string(arena, target, strlen(target), &b->target));
    uint32_t empty;
    AQ_TRY(string_of(b, "", &empty));
    for (uint32_t i = 0; i < AQ_SYM_COUNT; i++) {
        b->syms[i] = (aq_plan_sym){.lo = i ? m->syms.at[i].lo : 0, .hi = i ? m->syms.at[i].hi : 0};
        AQ_TRY(string_of(b, sym_names[i], &b->syms[i].name));
    }
    AQ_TRY(add_model(b, &c->config));
    for (uint32_t i = 0; i < m->weights.n; i++)
        AQ_TRY(add_weight(b, m, &m->weights.at[i]));
    for (uint32_t i = 0; i < m->states.n; i++)
        AQ_TRY(add_state(b, m, &m->states.at[i]));
    AQ_TRY(string_of(b, "step", &b->graph.name));
    AQ_TRY(add_inputs(b, m, step));
    *out = b;
    return AQ_OK;
}

/* --- one variant --------------------------------------------------------------------------------------------------------------------- */

typedef struct filler {
    aq_plan_builder *b;
    const aq_module *m;
    const aq_body *g;
    const aq_kernels *k;
    aq_places places;
    uint32_t *place_of;   /* value -> place + 1 */
    uint32_t first_buffer;
    int64_t t_hi;
} filler;

/* Scratch that grows with T and another symbol takes T's bound, if the variant has a small one. */
static aq_status scratch_unit(const filler *f, const aq_type *type, aq_dim *out) {
    aq_type t = *type;
    int symbols = 0;
    for (int i = 0; i < t.rank; i++)
        symbols += t.dim[i].sym != 0;
    for (int i = 0; i < t.rank && symbols > 1; i++)
        if (t.dim[i].sym == AQ_SYM_T && f->t_hi <= 64) {
            t.dim[i] = (aq_dim){t.dim[i].k * f->t_hi, 0};
            symbols--;
        }
    return aq_buffers_unit(f->m, &t, out);
}

static aq_status add_scratch_places(filler *f) {
    for (uint32_t s = 0; s < f->k->of.n; s++) {
        const aq_nest *n = f->k->made.at[f->k->of.at[s].kernel].nest;
        uint32_t at = 0;
        while (at < f->g->nodes.n && f->g->nodes.at[at] != f->k->of.at[s].node)
            at++;
        for (aq_id i = 1; i < n->bufs.n; i++) {
            if (n->bufs.at[i].role != AQ_BUF_SCRATCH)
                continue;
            aq_place *p = &f->places.at[f->places.n++];
            *p = (aq_place){.first = at, .last = at};
            AQ_TRY(scratch_unit(f, &n->bufs.at[i].type, &p->bytes));
        }
    }
    return AQ_OK;
}

static uint32_t count_scratch(const aq_kernels *k) {
    uint32_t n = 0;
    for (uint32_t s = 0; s < k->of.n; s++)
        for (aq_id i = 1; i < k->made.at[k->of.at[s].kernel].nest->bufs.n; i++)
            n += k->made.at[k->of.at[s].kernel].nest->bufs.at[i].role == AQ_BUF_SCRATCH;
    return n;
}

/* Positions in the body count views too; lives are told in steps. */
static uint32_t step_of_position(const filler *f, uint32_t position) {
    uint32_t s = 0;
    for (uint32_t i = 0; i < position && i < f->g->nodes.n; i++)
        s += f->m->nodes.at[f->g->nodes.at[i]].op == AQ_OP_fused;
    return s;
}

static aq_status add_buffers(filler *f) {
    for (uint32_t i = 0; i < f->places.n; i++) {
        const aq_place *p = &f->places.at[i];
        aq_plan_buffer r = {.dtype = AQ_I8, .rank = 1, .bytes = size_of(p->bytes), .offset = p->offset,
                            .first_step = step_of_position(f, p->first), .last_step = step_of_position(f, p->last)};
        r.dim[0] = size_of(p->bytes); /* scratch: bytes */
        AQ_TRY(string_of(f->b, "scratch", &r.name));
        if (p->value) {
            const aq_value *v = &f->m->values.at[p->value];
            r.dtype = v->type.dtype;
            r.rank = v->type.rank;
            AQ_TRY(string_of(f->b, v->name ? v->name : "value", &r.name));
            for (int d = 0; d < v->type.rank; d++)
                r.dim[d] = size_of(v->type.dim[d]);
            f->place_of[p->value] = i + 1;
        }
        AQ_PUSH(f->b->arena, &f->b->buffers, r);
    }
    return AQ_OK;
}

/* Which input of the plan is this param (and field) of the graph? Inputs stand in the order of the params, a batch as its fields. */
static uint32_t input_index(const filler *f, aq_id value, int32_t field) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < f->g->params.n && f->g->params.at[i] != value; i++)
        at += f->m->values.at[f->g->params.at[i]].type.is_batch ? FIELDS : 1;
    return at + (field > 0 ? (uint32_t)field : 0);
}

/* %b.pos given to a region is the batch's array itself. */
static aq_id field_of(const filler *f, aq_id v, int32_t *field) {
    const aq_node *n = f->m->values.at[v].kind == AQ_VALUE_RESULT ? &f->m->nodes.at[f->m->values.at[v].node] : NULL;
    const aq_attr *name = n && n->op == AQ_OP_field ? aq_node_attr(f->m, n, AQ_ATTR_name) : NULL;
    for (int32_t i = 0; name && name->text && i < (int32_t)FIELDS; i++)
        if (!strcmp(fields[i].name, name->text)) {
            *field = i;
            return aq_node_in(f->m, n)[0];
        }
    return v;
}

static aq_status arg_of(const filler *f, aq_id value, int32_t field, aq_plan_arg *out) {
    aq_id v = field_of(f, aq_buffers_viewed(f->m, value), &field);
    const aq_value *x = &f->m->values.at[v];
    for (uint32_t i = 0; i < f->g->results.n && !x->state; i++)
        if (aq_buffers_viewed(f->m, f->g->results.at[i]) == v && x->kind == AQ_VALUE_RESULT) {
            *out = (aq_plan_arg){AQ_ARG_OUTPUT, i};
            return AQ_OK;
        }
    if (x->kind == AQ_VALUE_WEIGHT)
        *out = (aq_plan_arg){AQ_ARG_WEIGHT, x->index};
    else if (x->state)
        *out = (aq_plan_arg){AQ_ARG_STATE, x->state - 1};
    else if (x->kind == AQ_VALUE_PARAM)
        *out = (aq_plan_arg){AQ_ARG_INPUT, input_index(f, v, field)};
    else if (f->place_of[v])
        *out = (aq_plan_arg){AQ_ARG_BUFFER, f->first_buffer + f->place_of[v] - 1};
    else
        return aq_fail(AQ_FAILED, f->m->file, "a value between kernels has no place: this is a fault of the plan builder");
    return AQ_OK;
}

static aq_status add_args(filler *f, const aq_node *node, const aq_nest *n, uint32_t *next_scratch, aq_plan_step *step) {
    aq_nest_arg *args;
    uint32_t n_args;
    AQ_TRY(aq_lower_args(f->m, node->body, f->b->arena, &args, &n_args));
    step->first_arg = f->b->args.n;
    for (uint32_t i = 0; i < n_args; i++) {
        aq_plan_arg a;
        AQ_TRY(arg_of(f, args[i].is_result ? node->out + args[i].index : aq_node_in(f->m, node)[args[i].index], args[i].field, &a));
        AQ_PUSH(f->b->arena, &f->b->args, a);
    }
    for (aq_id i = 1; i < n->bufs.n; i++)
        if (n->bufs.at[i].role == AQ_BUF_SCRATCH)
            AQ_PUSH(f->b->arena, &f->b->args, (aq_plan_arg){AQ_ARG_BUFFER, (*next_scratch)++});
    step->n_args = f->b->args.n - step->first_arg;
    return AQ_OK;
}

static int has_limit(const aq_nest *n) {
    for (aq_id i = 1; i < n->axes.n; i++)
        if (n->axes.at[i].limit)
            return 1;
    return 0;
}

static aq_status add_phases(filler *f, const aq_nest *n, aq_plan_step *step) {
    step->first_phase = f->b->phases.n;
    for (int p = 0; p < aq_nest_phases(n); p++) {
        aq_grid grids[AQ_MAX_TREES];
        int n_grids = aq_nest_grids(n, p, grids);
        const char *symbol;
        aq_plan_phase r = {.first_grid = f->b->grids.n, .n_grids = (uint32_t)n_grids, .ragged = (uint32_t)has_limit(n)};
        AQ_TRY(aq_arena_format(f->b->arena, &symbol, "%s.p%d", n->name, p));
        AQ_TRY(string_of(f->b, symbol, &r.symbol));
        for (int g = 0; g < n_grids; g++) {
            aq_plan_grid grid = {.n = grids[g].n};
            if (grids[g].n > 4)
                return aq_fail(AQ_REFUSED, n->name, "a grid of %d loops: expected at most 4", grids[g].n);
            for (int d = 0; d < grids[g].n; d++) {
                grid.extent[d] = size_of(grids[g].extent[d]);
                grid.step[d] = grids[g].step[d];
            }
            AQ_PUSH(f->b->arena, &f->b->grids, grid);
        }
        AQ_PUSH(f->b->arena, &f->b->phases, r);
    }
    step->n_phases = f->b->phases.n - step->first_phase;
    return AQ_OK;
}

static aq_status add_step(filler *f, const aq_kernel_of *of, uint64_t local_bytes, uint32_t *next_scratch) {
    const aq_kernel_made *k = &f->k->made.at[of->kernel];
    const aq_node node = f->m->nodes.at[of->node];
    aq_plan_step step = {.kind = AQ_STEP_LAUNCH, .layer = node.layer, .local_bytes = (local_bytes + 63) & ~(uint64_t)63};
    AQ_TRY(string_of(f->b, k->name, &step.name));
    AQ_TRY(string_of(f->b, k->schedule_text, &step.schedule));
    AQ_TRY(string_of(f->b, k->sum_class, &step.sum_class));
    AQ_TRY(string_of(f->b, k->origin, &step.provenance));
    AQ_TRY(add_args(f, &node, k->nest, next_scratch, &step));
    AQ_TRY(add_phases(f, k->nest, &step));
    AQ_PUSH(f->b->arena, &f->b->steps, step);
    return AQ_OK;
}

/* A result that is the storage of one before it, or of an input, has no kernel that writes it: it is copied behind the last one. */
static aq_status add_copies(filler *f) {
    for (uint32_t i = 0; i < f->g->results.n; i++) {
        aq_plan_arg from;
        AQ_TRY(arg_of(f, f->g->results.at[i], 0, &from));
        if (from.kind == AQ_ARG_OUTPUT && from.index == i)
            continue;
        if (from.kind != AQ_ARG_OUTPUT && from.kind != AQ_ARG_INPUT)
            return aq_fail(AQ_REFUSED, f->m->file, "result %u of graph %s is a %s: expected what its ops make", i, f->g->name, from.kind == AQ_ARG_STATE ? "state" : "weight");
        aq_plan_step step = {.kind = AQ_STEP_COPY, .layer = -1, .first_arg = f->b->args.n, .n_args = 2};
        AQ_TRY(string_of(f->b, "copy", &step.name));
        AQ_PUSH(f->b->arena, &f->b->args, from);
        AQ_PUSH(f->b->arena, &f->b->args, ((aq_plan_arg){AQ_ARG_OUTPUT, i}));
        AQ_PUSH(f->b->arena, &f->b->steps, step);
    }
    return AQ_OK;
}

static aq_status fill_manifest(filler *f, const aq_plan_variant *v) {
    aq_text *t = &f->b->manifest;
    AQ_TRY(aq_text_add(t, "variant T %lld..%lld: %u steps, %u kernels\n", (long long)v->t_lo, (long long)v->t_hi, v->n_steps, f->k->made.n));
    for (uint32_t i = 0; i < f->k->made.n; i++)
        AQ_TRY(aq_text_add(t, "  %s  sum %s  %s  schedule %s\n", f->k->made.at[i].name, f->k->made.at[i].sum_class, f->k->made.at[i].origin, f->k->made.at[i].schedule_text));
    return AQ_OK;
}

aq_status aq_plan_builder_variant(aq_plan_builder *b, const aq_module *m, aq_id body, const aq_kernels *k, const uint64_t *local_bytes, int64_t t_lo, int64_t t_hi) {
    filler f = {.b = b, .m = m, .g = &m->bodies.at[body], .k = k, .first_buffer = b->buffers.n, .t_hi = t_hi};
    AQ_TRY(check_syms(m));
    AQ_ALLOC(b->arena, f.place_of, m->values.n);
    AQ_TRY(aq_buffers_lives(m, body, count_scratch(k), b->arena, &f.places));
    uint32_t next_scratch = f.first_buffer + f.places.n;
    AQ_TRY(add_scratch_places(&f));
    AQ_TRY(aq_buffers_pack(m, b->arena, &f.places));
    AQ_TRY(add_buffers(&f));
    aq_plan_variant v = {.t_lo = t_lo, .t_hi = t_hi, .first_step = b->steps.n, .first_buffer = f.first_buffer, .n_buffers = f.places.n};
    for (uint32_t i = 0; i < k->of.n; i++)
        AQ_TRY(add_step(&f, &k->of.at[i], local_bytes[k->of.at[i].kernel], &next_scratch));
    AQ_TRY(add_copies(&f));
    v.n_steps = b->steps.n - v.first_step;
    for (uint32_t i = 0; i < f.places.n_arenas; i++)
        v.arena[f.places.arena[i].sym] = f.places.arena[i].bytes;
    AQ_PUSH(b->arena, &b->variants, v);
    return fill_manifest(&f, &v);
}

aq_status aq_plan_builder_finish(aq_plan_builder *b, const unsigned char *code, size_t code_size, unsigned char **out_bytes, size_t *out_size) {
    aq_plan p = {.strings = b->strings.at, .strings_size = b->strings.n, .target = b->target, .options = b->options, .model = &b->model, .syms = b->syms,
                 .weights = b->weights.at, .n_weights = b->weights.n, .states = b->states.at, .n_states = b->states.n, .graphs = &b->graph, .n_graphs = 1,
                 .variants = b->variants.at, .n_variants = b->variants.n, .io = b->io.at, .n_io = b->io.n, .buffers = b->buffers.at,
                 .n_buffers = b->buffers.n, .steps = b->steps.at, .n_steps = b->steps.n, .phases = b->phases.at, .n_phases = b->phases.n,
                 .grids = b->grids.at, .n_grids = b->grids.n, .args = b->args.at, .n_args = b->args.n, .code = code, .code_size = code_size};
    b->graph.n_variants = b->variants.n;
    AQ_TRY(aq_text_end(&b->manifest, &p.manifest));
    return aq_plan_write(&p, b->arena, out_bytes, out_size);
}
