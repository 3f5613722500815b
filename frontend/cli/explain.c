/* explain.c: kernels counted and costed, edges folded. Printing is in explain_print.c. Kernels are compared by the text of their regions, so
 * thirty layers give five rows; edges by (maker, reader, fused, why), in the order in which fuse met them. Linear in the nodes but for the
 * comparison with the distinct ones found so far. */
#include "frontend/cli/explain.h"

#include "frontend/compile.h"

#include <inttypes.h>
#include <string.h>

/* --- kernels ------------------------------------------------------------------------------------------------------------------------------ */

/* "rms, 2 mul, 3 dot": in the order of their first; views compute nothing and are left out. */
static aq_status list_ops(const aq_module *m, const aq_body *b, aq_arena *arena, const char **out) {
    aq_text t = {.arena = arena};
    uint32_t count[AQ_OP_COUNT] = {0};
    for (uint32_t i = 0; i < b->nodes.n; i++)
        count[m->nodes.at[b->nodes.at[i]].op]++;
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        aq_op op = m->nodes.at[b->nodes.at[i]].op;
        if (!count[op] || (aq_op_of(op)->traits & AQ_VIEW))
            continue;
        if (t.chars.n)
            AQ_TRY(aq_text_add(&t, ", "));
        if (count[op] > 1)
            AQ_TRY(aq_text_add(&t, "%" PRIu32 " ", count[op]));
        AQ_TRY(aq_text_add(&t, "%s", aq_op_of(op)->name));
        count[op] = 0;
    }
    return aq_text_end(&t, out);
}

static aq_status list_results(const aq_module *m, const aq_node *n, aq_arena *arena, const char **out) {
    aq_text t = {.arena = arena};
    for (int i = 0; i < n->n_out; i++) {
        const aq_value *v = &m->values.at[n->out + (aq_id)i];
        const char *name = v->name, *sigil = "%";
        if (v->state)
            name = m->states.at[v->state - 1].name, sigil = "$";
        AQ_TRY(name ? aq_text_add(&t, "%s%s%s", i ? ", " : "", sigil, name) : aq_text_add(&t, "%s%%%" PRIu32, i ? ", " : "", n->out + (aq_id)i));
    }
    return aq_text_end(&t, out);
}

static void add_cost(aq_cost *to, const aq_cost *c) {
    to->bytes += c->bytes;
    to->bytes_unfused += c->bytes_unfused;
    to->flops += c->flops;
    to->ns += c->ns;
    to->ops += c->ops;
}

static aq_status add_kernel(const aq_explain *e, const aq_node *n, const int64_t *bound, aq_arena *arena, aq_explain_graph *g) {
    aq_explain_kernel k = {.uses = 1, .uses_in_layers = n->layer >= 0};
    AQ_TRY(aq_cost_node(e->m, n, e->options, bound, &k.cost));
    AQ_TRY(aq_region_key(e->m, n->body, arena, &k.key));
    add_cost(&g->total, &k.cost);
    g->n_kernels_run++;
    g->n_in_layers += k.uses_in_layers;
    g->n_layers = (uint32_t)(n->layer + 1) > g->n_layers ? (uint32_t)(n->layer + 1) : g->n_layers;
    for (uint32_t i = 0; i < g->kernels.n; i++) {
        aq_explain_kernel *old = &g->kernels.at[i];
        if (strcmp(old->key, k.key))
            continue;
        old->uses++;
        old->uses_in_layers += k.uses_in_layers;
        return AQ_OK;
    }
    AQ_TRY(list_ops(e->m, &e->m->bodies.at[n->body], arena, &k.ops));
    AQ_TRY(list_results(e->m, n, arena, &k.first));
    AQ_PUSH(arena, &g->kernels, k);
    return AQ_OK;
}

/* --- edges -------------------------------------------------------------------------------------------------------------------------------- */

static const char *maker_name(const aq_module *m, const aq_value *v) {
    switch (v->kind) {
    case AQ_VALUE_RESULT: return aq_op_of(m->nodes.at[v->node].op)->name;
    case AQ_VALUE_WEIGHT: return "weight";
    case AQ_VALUE_STATE: return "state";
    default: return "input";
    }
}

static int belongs(const aq_module *m, const aq_body *b, aq_id node) {
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        if (b->nodes.at[i] == node)
            return 1;
        for (uint32_t k = 0; n->op == AQ_OP_fused && k < m->bodies.at[n->body].nodes.n; k++)
            if (m->bodies.at[n->body].nodes.at[k] == node)
                return 1;
    }
    return 0;
}

static aq_status add_edge(const aq_module *m, const aq_note *note, aq_arena *arena, aq_explain_graph *g) {
    const aq_value *v = &m->values.at[note->value];
    aq_explain_edge edge = {.maker = maker_name(m, v), .reader = aq_op_of(m->nodes.at[note->reader].op)->name, .why = note->why, .fused = note->fused, .count = 1};
    for (uint32_t i = 0; i < g->edges.n; i++) {
        aq_explain_edge *old = &g->edges.at[i];
        if (old->fused == edge.fused && !strcmp(old->why, edge.why) && !strcmp(old->maker, edge.maker) && !strcmp(old->reader, edge.reader)) {
            old->count++;
            return AQ_OK;
        }
    }
    AQ_TRY(v->name ? aq_arena_format(arena, &edge.value, "%%%s", v->name) : aq_arena_format(arena, &edge.value, "%%%" PRIu32, note->value));
    AQ_PUSH(arena, &g->edges, edge);
    return AQ_OK;
}

/* --- all of it ---------------------------------------------------------------------------------------------------------------------------- */

static aq_status say_sizes(const aq_module *m, const int64_t *bound, aq_arena *arena, const char **out) {
    aq_text t = {.arena = arena};
    for (aq_id i = 1; i < m->syms.n; i++)
        AQ_TRY(aq_text_add(&t, "%s%s=%" PRId64, i > 1 ? " " : "", m->syms.at[i].name, bound[i]));
    return aq_text_end(&t, out);
}

/* Notes hold nodes of all graphs; with several graphs each is asked whose it is. */
static aq_status make_graph(const aq_explain *e, const aq_body *b, const int64_t *bound, aq_arena *arena, aq_explain_graph *g) {
    g->name = b->name;
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &e->m->nodes.at[b->nodes.at[i]];
        if (n->op == AQ_OP_fused)
            AQ_TRY(add_kernel(e, n, bound, arena, g));
        else if (!(aq_op_of(n->op)->traits & AQ_VIEW))
            return aq_fail(AQ_USAGE, NULL, "--explain: %s of graph %s is in no region: expected the pass fuse among --passes", aq_op_of(n->op)->name, b->name);
    }
    for (uint32_t i = 0; i < e->m->notes.n; i++)
        if (e->m->graphs.n == 1 || belongs(e->m, b, e->m->notes.at[i].reader))
            AQ_TRY(add_edge(e->m, &e->m->notes.at[i], arena, g));
    return AQ_OK;
}

aq_status aq_explain_make(const aq_module *m, const aq_pass_options *o, const char *measured, aq_arena *arena, aq_explain *out) {
    aq_explain e = {.m = m, .options = o, .measured = measured};
    int64_t *bound;
    AQ_TRY(aq_cost_sizes(m, o, arena, &bound));
    for (aq_id i = 1; i < m->syms.n; i++) {
        if (!strcmp(m->syms.at[i].name, "T"))
            bound[i] = o->t_hi;
        bound[i] = bound[i] < m->syms.at[i].lo ? m->syms.at[i].lo : bound[i] > m->syms.at[i].hi ? m->syms.at[i].hi : bound[i];
    }
    AQ_TRY(say_sizes(m, bound, arena, &e.sizes));
    for (uint32_t i = 0; i < m->graphs.n; i++) {
        aq_explain_graph g = {0};
        AQ_TRY(make_graph(&e, &m->bodies.at[m->graphs.at[i]], bound, arena, &g));
        AQ_PUSH(arena, &e.graphs, g);
    }
    *out = e;
    return AQ_OK;
}
