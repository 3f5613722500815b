/* layout.c: ONE storage per weight that serves every variant, and the layouts of cache states.
 *
 * A matrix that some dot reads as its `n` operand lies in panels of 16 rows (lanes along rows, no horizontal sums, every T alike) if the target
 * wants panels; everything else stays as stored and is mapped. A tied table follows its dot: `rows` reads panels as well. Keys lie with 16
 * positions interleaved (scores have lanes along positions), values by position. */
#include "passes/passes.h"

#include <string.h>

aq_status aq_pass_layout(aq_module *m, const aq_pass_options *o);

static aq_weight *weight_of(aq_module *m, aq_id value) {
    const aq_value *v = &m->values.at[value];
    return v->kind == AQ_VALUE_WEIGHT ? &m->weights.at[v->index] : NULL;
}

static void want_panel(aq_module *m, aq_id value) {
    aq_weight *w = weight_of(m, value);
    const aq_type *t = &m->values.at[value].type;
    if (!w || t->rank != 2 || t->dim[0].sym || t->dim[1].sym)
        return;
    if (aq_dtype_of(t->dtype)->kind != AQ_KIND_WEIGHT && aq_dtype_of(t->dtype)->kind != AQ_KIND_FLOAT)
        return;
    w->layout = AQ_LAYOUT_PANEL;
    for (uint32_t i = 0; w->alias && i < m->weights.n; i++)
        if (!strcmp(m->weights.at[i].name, w->alias))
            m->weights.at[i].layout = AQ_LAYOUT_PANEL;
}

/* Follows a value into a region's argument list: `outer` maps params of the region to the values outside. */
static aq_id outside(const aq_module *m, const aq_node *region, aq_id v) {
    if (!region)
        return v;
    const aq_body *b = &m->bodies.at[region->body];
    for (uint32_t i = 0; i < b->params.n; i++)
        if (b->params.at[i] == v)
            return aq_node_in(m, region)[i];
    return v;
}

static void mark(aq_module *m, const aq_node *region, aq_id node, const aq_pass_options *o) {
    const aq_node *n = &m->nodes.at[node];
    if (n->op == AQ_OP_fused) {
        for (uint32_t i = 0; i < m->bodies.at[n->body].nodes.n; i++)
            mark(m, n, m->bodies.at[n->body].nodes.at[i], o);
        return;
    }
    if (n->op == AQ_OP_dot && o->panels)
        want_panel(m, outside(m, region, aq_node_in(m, n)[1]));
    if (n->op == AQ_OP_cast && o->panels && aq_dtype_of(m->values.at[aq_node_in(m, n)[0]].type.dtype)->kind == AQ_KIND_WEIGHT)
        want_panel(m, outside(m, region, aq_node_in(m, n)[0]));
    if (n->op == AQ_OP_attend) {
        for (int i = 1; i <= 2; i++) {
            aq_id v = outside(m, region, aq_node_in(m, n)[i]);
            uint32_t s = m->values.at[v].kind == AQ_VALUE_STATE ? m->values.at[v].index + 1 : m->values.at[v].state;
            if (s && !o->is_ref)
                m->states.at[s - 1].layout = i == 1 ? AQ_LAYOUT_KV_PANEL : AQ_LAYOUT_KV_ROWS;
        }
    }
}

aq_status aq_pass_layout(aq_module *m, const aq_pass_options *o) {
    for (uint32_t g = 0; g < m->graphs.n; g++) {
        const aq_body *b = &m->bodies.at[m->graphs.at[g]];
        for (uint32_t i = 0; i < b->nodes.n; i++)
            mark(m, NULL, b->nodes.at[i], o);
    }
    return AQ_OK;
}
