/* fuse_cut.c: turns groups of nodes into regions. A group's nodes move into a new body in their old order; what they read from outside
 * becomes params (each value once, named as outside), what others read of them becomes results. The `fused` node stands where all its inputs
 * are ready: groups are emitted in topological order, the group of the earliest node first. Views of the same bytes alone
 * make no kernel and stay nodes. */
#include "passes/fuse.h"

typedef struct cut {
    aq_groups *g;
    uint32_t root;
    aq_id region;
    AQ_VEC(aq_id) outer; /* values given to the region, by param */
} cut;

static const aq_node *node_at(const aq_groups *g, uint32_t at) { return &g->m->nodes.at[g->m->bodies.at[g->body].nodes.at[at]]; }

static aq_status param_of(cut *c, aq_id v, aq_id *out) {
    aq_module *m = c->g->m;
    for (uint32_t i = 0; i < c->outer.n; i++)
        if (c->outer.at[i] == v) {
            *out = m->bodies.at[c->region].params.at[i];
            return AQ_OK;
        }
    aq_value p = m->values.at[v];
    p.kind = AQ_VALUE_PARAM;
    p.node = p.index = 0;
    AQ_TRY(aq_value_add(m, p, out));
    AQ_PUSH(&m->arena, &m->bodies.at[c->region].params, *out);
    AQ_PUSH(&c->g->scratch, &c->outer, v);
    return AQ_OK;
}

static int read_outside(cut *c, aq_id v) {
    aq_groups *g = c->g;
    if (g->is_result[v])
        return 1;
    for (uint32_t u = 0; u < g->n_uses[v]; u++)
        if (aq_groups_root(g, g->uses[g->first_use[v] + u]) != c->root)
            return 1;
    return 0;
}

/* A version of a state that nobody reads later is a result all the same: the append must happen. */
static int is_newest(const aq_groups *g, aq_id v) { return g->m->values.at[v].state && !g->n_uses[v]; }

static aq_status move_node(cut *c, uint32_t at) {
    aq_module *m = c->g->m;
    const aq_node n = *node_at(c->g, at);
    for (int i = 0; i < n.n_in; i++) {
        aq_id v = m->inputs.at[n.in + i];
        uint32_t d = v < c->g->m->values.n ? c->g->def[v] : 0;
        if (m->values.at[v].kind == AQ_VALUE_CONST || (d && aq_groups_root(c->g, d - 1) == c->root))
            continue;
        AQ_TRY(param_of(c, v, &m->inputs.at[n.in + i]));
    }
    AQ_PUSH(&m->arena, &m->bodies.at[c->region].nodes, m->bodies.at[c->g->body].nodes.at[at]);
    for (int k = 0; k < n.n_out; k++)
        if (read_outside(c, n.out + (aq_id)k) || is_newest(c->g, n.out + (aq_id)k))
            AQ_PUSH(&m->arena, &m->bodies.at[c->region].results, n.out + (aq_id)k);
    return AQ_OK;
}

/* The new results stand outside for the values inside: replace[] says so for the nodes that come later. */
static aq_status cut_group(aq_groups *g, uint32_t root, aq_id *replace, uint32_t n_replace, aq_id *out_node) {
    cut c = {.g = g, .root = root};
    aq_module *m = g->m;
    AQ_TRY(aq_body_add(m, NULL, 1, &c.region));
    int32_t layer = -1;
    for (uint32_t i = root + 1; i; i = g->next[i - 1]) {
        AQ_TRY(move_node(&c, i - 1));
        if (node_at(g, i - 1)->layer > layer)
            layer = node_at(g, i - 1)->layer;
    }
    AQ_VEC(aq_id) in = {0};
    for (uint32_t i = 0; i < c.outer.n; i++)
        AQ_PUSH(&g->scratch, &in, c.outer.at[i] < n_replace && replace[c.outer.at[i]] ? replace[c.outer.at[i]] : c.outer.at[i]);
    AQ_TRY(aq_region_add(m, 0, c.region, in.at, (int)in.n, out_node));
    aq_node *f = &m->nodes.at[*out_node];
    f->layer = layer;
    const aq_body *b = &m->bodies.at[c.region];
    for (uint32_t i = 0; i < b->results.n; i++) {
        aq_value *outside = &m->values.at[f->out + i];
        outside->name = m->values.at[b->results.at[i]].name;
        outside->origin = m->values.at[b->results.at[i]].origin;
        if (b->results.at[i] < n_replace)
            replace[b->results.at[i]] = f->out + i;
    }
    return AQ_OK;
}

/* Are all values that the group reads from other groups made by groups already emitted? */
static int ready(aq_groups *g, uint32_t root, const uint8_t *emitted) {
    for (uint32_t at = root + 1; at; at = g->next[at - 1]) {
        const aq_node *n = node_at(g, at - 1);
        for (int i = 0; i < n->n_in; i++) {
            uint32_t d = g->def[aq_node_in(g->m, n)[i]];
            uint32_t r = d ? aq_groups_root(g, d - 1) : root;
            if (r != root && !emitted[r])
                return 0;
        }
    }
    return 1;
}

/* Views of the same bytes need no kernel; slice and transpose between kernels are copies. */
static int costs_nothing(aq_op op) { return op == AQ_OP_heads || op == AQ_OP_merge || op == AQ_OP_reshape || op == AQ_OP_field; }

static aq_status emit_one(aq_groups *g, uint32_t root, aq_id *replace, uint32_t n_replace, aq_id *out) {
    const aq_node *n = node_at(g, root);
    if (g->size[root] > 1 || !costs_nothing(n->op))
        return cut_group(g, root, replace, n_replace, out);
    for (int i = 0; i < n->n_in; i++) {
        aq_id v = aq_node_in(g->m, n)[i];
        if (v < n_replace && replace[v])
            g->m->inputs.at[n->in + i] = replace[v];
    }
    *out = g->m->bodies.at[g->body].nodes.at[root];
    return AQ_OK;
}

/* The lists of members by position. */
static void sort_members(aq_groups *g) {
    for (uint32_t at = 0; at < g->n; at++) {
        uint32_t root = aq_groups_root(g, at);
        g->next[at] = 0;
        if (root != at)
            g->next[g->tail[root]] = at + 1;
        g->tail[root] = at;
    }
}

aq_status aq_fuse_cut(aq_groups *g) {
    uint32_t n_replace = g->m->values.n, left = 0, before;
    aq_id *replace;
    uint8_t *emitted;
    AQ_ALLOC(&g->scratch, replace, n_replace);
    AQ_ALLOC(&g->scratch, emitted, g->n + 1);
    AQ_VEC(aq_id) nodes = {0};
    for (uint32_t at = 0; at < g->n; at++)
        left += aq_groups_root(g, at) == at;
    sort_members(g);
    do {
        before = left;
        for (uint32_t at = 0; at < g->n; at++) {
            if (aq_groups_root(g, at) != at || emitted[at] || !ready(g, at, emitted))
                continue;
            aq_id node;
            AQ_TRY(emit_one(g, at, replace, n_replace, &node));
            AQ_PUSH(&g->m->arena, &nodes, node);
            emitted[at] = 1;
            left--;
        }
    } while (left && left < before);
    if (left)
        return aq_fail(AQ_FAILED, g->m->file, "fuse: kernels wait for each other in a circle: this is a fault of the pass");
    aq_body *b = &g->m->bodies.at[g->body];
    for (uint32_t i = 0; i < b->results.n; i++)
        if (b->results.at[i] < n_replace && replace[b->results.at[i]])
            b->results.at[i] = replace[b->results.at[i]];
    b->nodes.at = nodes.at;
    b->nodes.n = nodes.n;
    b->nodes.room = nodes.room;
    return AQ_OK;
}
