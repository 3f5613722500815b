/* dce.c: drops what nobody reads. Alive are results, whatever makes the next version of a state (the module keeps it), and what these read.
 * Params of regions that have become unused go with their inputs. Backwards over each body, regions before the graphs that hold them. */
#include "passes/passes.h"

aq_status aq_pass_dce(aq_module *m, const aq_pass_options *o);

static int makes_state(const aq_module *m, const aq_node *n) {
    for (int i = 0; i < n->n_out; i++)
        if (m->values.at[n->out + (aq_id)i].state)
            return 1;
    return 0;
}

static int is_alive(const aq_module *m, const aq_node *n, const uint8_t *alive, int is_region) {
    int needed = !is_region && makes_state(m, n);
    for (int i = 0; i < n->n_out; i++)
        needed |= alive[n->out + (aq_id)i];
    return needed;
}

static void drop_nodes(aq_module *m, aq_body *b, uint8_t *alive) {
    for (uint32_t i = 0; i < b->results.n; i++)
        alive[b->results.at[i]] = 1;
    uint32_t kept = b->nodes.n;
    for (uint32_t i = b->nodes.n; i-- > 0;) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        if (!is_alive(m, n, alive, b->is_region))
            continue;
        for (int k = 0; k < n->n_in; k++)
            alive[aq_node_in(m, n)[k]] = 1;
        b->nodes.at[--kept] = b->nodes.at[i];
    }
    for (uint32_t i = kept; i < b->nodes.n; i++)
        b->nodes.at[i - kept] = b->nodes.at[i];
    b->nodes.n -= kept;
}

static void drop_params(aq_module *m, aq_node *n, const uint8_t *alive) {
    aq_body *r = &m->bodies.at[n->body];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->params.n; i++)
        if (alive[r->params.at[i]]) {
            r->params.at[kept] = r->params.at[i];
            m->inputs.at[n->in + kept++] = m->inputs.at[n->in + i];
        }
    r->params.n = kept;
    n->n_in = (uint8_t)kept;
}

aq_status aq_pass_dce(aq_module *m, const aq_pass_options *o) {
    (void)o;
    aq_arena scratch = {0};
    void *alive;
    AQ_TRY(aq_arena_alloc(&scratch, m->values.n, 1, &alive));
    for (aq_id b = 1; b < m->bodies.n; b++)
        if (m->bodies.at[b].is_region)
            drop_nodes(m, &m->bodies.at[b], alive);
    for (uint32_t g = 0; g < m->graphs.n; g++) {
        const aq_body *b = &m->bodies.at[m->graphs.at[g]];
        for (uint32_t i = 0; i < b->nodes.n; i++)
            if (m->nodes.at[b->nodes.at[i]].op == AQ_OP_fused)
                drop_params(m, &m->nodes.at[b->nodes.at[i]], alive);
        drop_nodes(m, &m->bodies.at[m->graphs.at[g]], alive);
    }
    aq_arena_close(&scratch);
    return AQ_OK;
}
