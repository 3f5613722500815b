/* rewrite.c: small helpers of all passes. */
#include "passes/passes.h"
#include "passes/rebuild.h"

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

void aq_region_tidy(aq_module *m, aq_id node) {
    aq_node *n = &m->nodes.at[node];
    aq_body *r = &m->bodies.at[n->body];
    aq_id *in = m->inputs.at + n->in;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->params.n; i++) {
        uint32_t twin = 0;
        while (twin < kept && in[twin] != in[i])
            twin++;
        if (m->values.at[in[i]].kind == AQ_VALUE_CONST) {
            aq_replace_uses(m, r, r->params.at[i], in[i]);
        } else if (twin < kept) {
            aq_replace_uses(m, r, r->params.at[i], r->params.at[twin]);
        } else {
            in[kept] = in[i];
            r->params.at[kept++] = r->params.at[i];
        }
    }
    r->params.n = kept;
    n->n_in = (uint8_t)kept;
}
