/* rebuild.c: see rebuild.h. */
#include "passes/rebuild.h"

aq_rebuild aq_rebuild_open(aq_module *m, aq_id body) { return (aq_rebuild){.m = m, .body = body}; }

void aq_rebuild_close(aq_rebuild *r) { aq_arena_close(&r->scratch); }

aq_id aq_rebuild_value(const aq_rebuild *r, aq_id v) {
    while (v < r->map.n && r->map.at[v])
        v = r->map.at[v];
    return v;
}

aq_status aq_rebuild_replace(aq_rebuild *r, aq_id from, aq_id to) {
    while (r->map.n <= from)
        AQ_PUSH(&r->scratch, &r->map, 0);
    r->map.at[from] = to;
    return AQ_OK;
}

static void read_inputs_through_map(aq_rebuild *r, const aq_node *n) {
    for (int i = 0; i < n->n_in; i++)
        r->m->inputs.at[n->in + i] = aq_rebuild_value(r, r->m->inputs.at[n->in + i]);
}

aq_status aq_rebuild_keep(aq_rebuild *r, aq_id node) {
    read_inputs_through_map(r, &r->m->nodes.at[node]);
    if (r->m->nodes.at[node].op == AQ_OP_fused)
        aq_region_tidy(r->m, node);
    AQ_PUSH(&r->m->arena, &r->nodes, node);
    return AQ_OK;
}

aq_status aq_rebuild_add(aq_rebuild *r, aq_op op, const aq_id *in, int n_in, const aq_attr *attr, int n_attr, aq_id like, aq_id *out_value) {
    aq_id node;
    AQ_TRY(aq_node_add(r->m, 0, op, in, n_in, attr, n_attr, &node));
    if (like) {
        r->m->nodes.at[node].layer = r->m->nodes.at[like].layer;
        r->m->nodes.at[node].line = r->m->nodes.at[like].line;
        r->m->nodes.at[node].column = r->m->nodes.at[like].column;
    }
    AQ_PUSH(&r->m->arena, &r->nodes, node);
    *out_value = r->m->nodes.at[node].out;
    return AQ_OK;
}

aq_status aq_rebuild_finish(aq_rebuild *r) {
    aq_body *b = &r->m->bodies.at[r->body];
    for (uint32_t i = 0; i < b->results.n; i++)
        b->results.at[i] = aq_rebuild_value(r, b->results.at[i]);
    b->nodes.at = r->nodes.at;
    b->nodes.n = r->nodes.n;
    b->nodes.room = r->nodes.room;
    return AQ_OK;
}
