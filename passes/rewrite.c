/* rewrite.c: small helpers of all passes. */
#include "passes/passes.h"

void aq_replace_uses(aq_module *m, aq_body *b, aq_id from, aq_id to) {
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        for (int k = 0; k < n->n_in; k++)
            if (m->inputs.at[n->in + (aq_id)k] == from)
                m->inputs.at[n->in + (aq_id)k] = to;
    }
    for (uint32_t i = 0; i < b->results.n; i++)
        if (b->results.at[i] == from)
            b->results.at[i] = to;
}
