/* cost.c: a roofline for every kernel: bytes that must move, operations, the larger of the two times. It counts each value once a kernel (what
 * fits the cache between tiles costs nothing), weights in their stored size, attention at the full length; launches cost launch_ns. Figures
 * guide the order of candidates and --explain; they never decide about bits. Measured against real kernels it is within a factor of two. */
#include "passes/cost.h"

#include <string.h>

aq_status aq_pass_cost(aq_module *m, const aq_pass_options *o);

static double elements(const aq_type *t, const int64_t *bound) {
    double n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= (double)aq_dim_eval(t->dim[i], bound);
    return n;
}

static double bytes_of(const aq_module *m, aq_id value, const int64_t *bound) {
    const aq_type *t = &m->values.at[value].type;
    if (t->is_batch || m->values.at[value].kind == AQ_VALUE_CONST || t->dtype == AQ_DTYPE_NONE)
        return 0;
    const aq_dtype_info *d = aq_dtype_of(t->dtype);
    return elements(t, bound) / d->block * d->bytes;
}

static double last_dim(const aq_module *m, aq_id value, const int64_t *bound) {
    const aq_type *t = &m->values.at[value].type;
    return t->rank ? (double)aq_dim_eval(t->dim[t->rank - 1], bound) : 1;
}

static int64_t positions(const aq_module *m, const int64_t *bound) {
    aq_id s = aq_sym_find(m, "S", 1);
    return s ? bound[s] : 1;
}

static double flops_of(const aq_module *m, const aq_node *n, const int64_t *bound) {
    const aq_id *in = aq_node_in(m, n);
    double out = elements(&m->values.at[n->out].type, bound);
    if (aq_op_of(n->op)->traits & (AQ_VIEW | AQ_STATE | AQ_GATHER))
        return 0;
    switch (n->op) {
    case AQ_OP_dot:
    case AQ_OP_matmul:
        return 2 * out * last_dim(m, in[0], bound);
    case AQ_OP_attend:
        return 4 * out * (double)positions(m, bound);
    case AQ_OP_rope:
        return 6 * out;
    default:
        return aq_op_of(n->op)->traits & AQ_REDUCE ? 2 * elements(&m->values.at[in[0]].type, bound) : out;
    }
}

/* Bytes one op moves on its own: what it gathers, what it appends, or all of its inputs; and its results. */
static double bytes_alone(const aq_module *m, const aq_node *n, const int64_t *bound) {
    const aq_id *in = aq_node_in(m, n);
    uint32_t traits = aq_op_of(n->op)->traits;
    if (traits & AQ_VIEW)
        return 0;
    if (traits & AQ_STATE)
        return 2 * bytes_of(m, in[1], bound);
    double b = 0;
    for (int i = 0; i < n->n_in; i++)
        b += (traits & AQ_GATHER) && i == 0 ? bytes_of(m, n->out, bound) : bytes_of(m, in[i], bound);
    for (int i = 0; i < n->n_out; i++)
        b += bytes_of(m, n->out + (aq_id)i, bound);
    return b;
}

static int only_gathered_or_appended(const aq_module *m, const aq_body *b, aq_id param) {
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        for (int k = 0; k < n->n_in; k++)
            if (aq_node_in(m, n)[k] == param && !((aq_op_of(n->op)->traits & (AQ_GATHER | AQ_STATE)) && k == 0))
                return 0;
    }
    return 1;
}

static void add_region(const aq_module *m, const aq_body *b, const int64_t *bound, aq_cost *c) {
    for (uint32_t i = 0; i < b->params.n; i++)
        if (!only_gathered_or_appended(m, b, b->params.at[i]))
            c->bytes += bytes_of(m, b->params.at[i], bound);
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        uint32_t traits = aq_op_of(n->op)->traits;
        c->flops += flops_of(m, n, bound);
        c->bytes_unfused += bytes_alone(m, n, bound);
        c->ops += !(traits & AQ_VIEW);
        if (traits & AQ_GATHER)
            c->bytes += bytes_of(m, n->out, bound);
        if (traits & AQ_STATE)
            c->bytes += bytes_of(m, aq_node_in(m, n)[1], bound);
    }
    for (uint32_t i = 0; i < b->results.n; i++)
        if (!m->values.at[b->results.at[i]].state)
            c->bytes += bytes_of(m, b->results.at[i], bound);
}

aq_status aq_cost_node(const aq_module *m, const aq_node *n, const aq_pass_options *o, const int64_t *bound, aq_cost *out) {
    aq_cost c = {.T = o->t_hi};
    if (n->op == AQ_OP_fused) {
        add_region(m, &m->bodies.at[n->body], bound, &c);
    } else {
        c.bytes = c.bytes_unfused = bytes_alone(m, n, bound);
        c.flops = flops_of(m, n, bound);
        c.ops = 1;
    }
    double memory = o->read_gb_per_s > 0 ? c.bytes / o->read_gb_per_s : 0, maths = o->gflops > 0 ? c.flops / o->gflops : 0;
    c.memory_bound = memory >= maths;
    c.ns = (memory > maths ? memory : maths) + o->launch_ns;
    *out = c;
    return AQ_OK;
}

aq_status aq_cost_sizes(const aq_module *m, const aq_pass_options *o, aq_arena *arena, int64_t **out_bound) {
    static const struct {
        const char *name;
        int64_t value;
    } usual[] = {{"O", 1}, {"B", 1}, {"S", 1024}, {"P", 16}};
    int64_t *bound;
    AQ_ALLOC(arena, bound, m->syms.n);
    for (aq_id i = 1; i < m->syms.n; i++) {
        bound[i] = m->syms.at[i].lo;
        for (size_t k = 0; k < sizeof usual / sizeof *usual; k++)
            if (!strcmp(m->syms.at[i].name, usual[k].name))
                bound[i] = usual[k].value;
        if (!strcmp(m->syms.at[i].name, "T"))
            bound[i] = o->t_hi < 512 ? o->t_hi : 512;
    }
    *out_bound = bound;
    return AQ_OK;
}

aq_status aq_pass_cost(aq_module *m, const aq_pass_options *o) {
    int64_t *bound;
    AQ_TRY(aq_cost_sizes(m, o, &m->arena, &bound));
    for (uint32_t g = 0; g < m->graphs.n; g++) {
        const aq_body *b = &m->bodies.at[m->graphs.at[g]];
        for (uint32_t i = 0; i < b->nodes.n; i++) {
            const aq_node *n = &m->nodes.at[b->nodes.at[i]];
            if (n->op != AQ_OP_fused)
                continue;
            aq_cost *c;
            AQ_ALLOC(&m->arena, c, 1);
            AQ_TRY(aq_cost_node(m, n, o, bound, c));
            c->T = aq_sym_find(m, "T", 1) ? bound[aq_sym_find(m, "T", 1)] : 1;
            m->bodies.at[n->body].cost = c;
        }
    }
    return AQ_OK;
}
