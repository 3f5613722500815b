/* expand.c: composite ops become what their row of ops.def says, so that fuse sees every piece:
 *   rmsnorm x, g   mul (mul x, (rms x {eps})), g
 *   softmax x      exp (sub x, (lse x))
 * matmul stays: what it becomes depends on the weight's type, so quant opens it. Grade exact: ref computes the same steps. */
#include "passes/passes.h"
#include "passes/rebuild.h"

aq_status aq_pass_expand(aq_module *m, const aq_pass_options *o);

/* The last new value takes the name and origin of the old result. */
static aq_status finish(aq_rebuild *r, aq_id node, aq_id value) {
    aq_id old = r->m->nodes.at[node].out;
    r->m->values.at[value].name = r->m->values.at[old].name;
    r->m->values.at[value].origin = r->m->values.at[old].origin;
    return aq_rebuild_replace(r, old, value);
}

static aq_status rmsnorm(aq_rebuild *r, aq_id node) {
    const aq_node *n = &r->m->nodes.at[node];
    const aq_attr *eps = aq_node_attr(r->m, n, AQ_ATTR_eps);
    aq_attr a = *eps;
    aq_id x = aq_rebuild_value(r, aq_node_in(r->m, n)[0]), g = aq_rebuild_value(r, aq_node_in(r->m, n)[1]), in[2] = {x, 0};
    AQ_TRY(aq_rebuild_add(r, AQ_OP_rms, in, 1, &a, 1, node, &in[1]));
    AQ_TRY(aq_rebuild_add(r, AQ_OP_mul, in, 2, NULL, 0, node, &in[0]));
    in[1] = g;
    AQ_TRY(aq_rebuild_add(r, AQ_OP_mul, in, 2, NULL, 0, node, &x));
    return finish(r, node, x);
}

static aq_status softmax(aq_rebuild *r, aq_id node) {
    aq_id in[2] = {aq_rebuild_value(r, *aq_node_in(r->m, &r->m->nodes.at[node])), 0}, out;
    AQ_TRY(aq_rebuild_add(r, AQ_OP_lse, in, 1, NULL, 0, node, &in[1]));
    AQ_TRY(aq_rebuild_add(r, AQ_OP_sub, in, 2, NULL, 0, node, &in[0]));
    AQ_TRY(aq_rebuild_add(r, AQ_OP_exp, in, 1, NULL, 0, node, &out));
    return finish(r, node, out);
}

static aq_status expand_body(aq_rebuild *r) {
    for (uint32_t i = 0; i < r->m->bodies.at[r->body].nodes.n; i++) {
        aq_id node = r->m->bodies.at[r->body].nodes.at[i];
        switch (r->m->nodes.at[node].op) {
        case AQ_OP_rmsnorm: AQ_TRY(rmsnorm(r, node)); break;
        case AQ_OP_softmax: AQ_TRY(softmax(r, node)); break;
        default: AQ_TRY(aq_rebuild_keep(r, node)); break;
        }
    }
    return aq_rebuild_finish(r);
}

aq_status aq_pass_expand(aq_module *m, const aq_pass_options *o) {
    (void)o;
    for (aq_id b = 1; b < m->bodies.n; b++) {
        aq_rebuild r = aq_rebuild_open(m, b);
        aq_status status = expand_body(&r);
        aq_rebuild_close(&r);
        AQ_TRY(status);
    }
    return AQ_OK;
}
