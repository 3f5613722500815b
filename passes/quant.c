/* quant.c: opens every `matmul` into the dot that the target runs, with the casts it needs; gives the cache states their type.
 *
 *   weight FLOAT                      dot x, w                     (the dot widens w exactly)
 *   weight block type, activations    dot (quantize x {a16}), w    (a16: error about 2e-5, grade `round`; a8: `approx`, only when named)
 *   weight block type, f32 / ref      dot x, (cast w {f32})
 *   activations bf16 (not on ref)     the same with (cast x {bf16}) for x (error 2e-3, `approx`: for comparing with what other machines compute)
 *
 * One quantize serves all matmuls of the same x. Order: after canon and cse, before fuse, so that regions hold what they compute. */
#include "passes/passes.h"
#include "passes/rebuild.h"

aq_status aq_pass_quant(aq_module *m, const aq_pass_options *o);

typedef struct quantised { /* x -> its quantize, per body */
    aq_id x, q;
} quantised;

typedef struct quant {
    aq_rebuild r;
    const aq_pass_options *o;
    AQ_VEC(quantised) made;
} quant;

static aq_attr dtype_attr(aq_dtype t) { return (aq_attr){.key = AQ_ATTR_dtype, .num = (double)t}; }

static aq_status quantised_of(quant *q, aq_id x, aq_id like, aq_id *out) {
    for (uint32_t i = 0; i < q->made.n; i++)
        if (q->made.at[i].x == x) {
            *out = q->made.at[i].q;
            return AQ_OK;
        }
    aq_attr a = dtype_attr(q->o->activations);
    AQ_TRY(aq_rebuild_add(&q->r, q->o->activations == AQ_BF16 ? AQ_OP_cast : AQ_OP_quantize, &x, 1, &a, 1, like, out));
    AQ_PUSH(&q->r.scratch, &q->made, (quantised){x, *out});
    return AQ_OK;
}

static aq_status open_matmul(quant *q, aq_id node) {
    aq_module *m = q->r.m;
    aq_id x = aq_rebuild_value(&q->r, aq_node_in(m, &m->nodes.at[node])[0]);
    aq_id w = aq_rebuild_value(&q->r, aq_node_in(m, &m->nodes.at[node])[1]);
    aq_id old = m->nodes.at[node].out;
    aq_dtype t = m->values.at[w].type.dtype;
    if (t == AQ_DTYPE_NONE)
        return aq_fail(AQ_REFUSED, m->file, "weight %s has no type yet: bind a checkpoint or name a --weights-type", m->values.at[w].name);
    int bf16 = q->o->activations == AQ_BF16 && !q->o->is_ref;
    if (bf16)
        AQ_TRY(quantised_of(q, x, node, &x));
    if (aq_dtype_of(t)->kind == AQ_KIND_WEIGHT) {
        int by_blocks = !q->o->is_ref && !bf16 && q->o->activations != AQ_F32;
        aq_attr a = dtype_attr(AQ_F32);
        if (by_blocks)
            AQ_TRY(quantised_of(q, x, node, &x));
        else
            AQ_TRY(aq_rebuild_add(&q->r, AQ_OP_cast, &w, 1, &a, 1, node, &w));
    }
    static const char *const specs[] = {"k,nk->n", "k,nk->n", "tk,nk->tn", "thk,nk->thn", "tshk,nk->tshn"}; /* by rank of x */
    aq_attr spec = {.key = AQ_ATTR_spec, .text = specs[m->values.at[x].type.rank]};
    aq_id out, in[2] = {x, w};
    AQ_TRY(aq_rebuild_add(&q->r, AQ_OP_dot, in, 2, &spec, 1, node, &out));
    m->values.at[out].name = m->values.at[old].name;
    m->values.at[out].origin = m->values.at[old].origin;
    return aq_rebuild_replace(&q->r, old, out);
}

/* What is appended takes the state's type. */
static aq_status cast_append(quant *q, aq_id node) {
    aq_module *m = q->r.m;
    aq_id x = aq_rebuild_value(&q->r, aq_node_in(m, &m->nodes.at[node])[1]);
    if (m->values.at[x].type.dtype != q->o->kv) {
        aq_attr a = dtype_attr(q->o->kv);
        AQ_TRY(aq_rebuild_add(&q->r, AQ_OP_cast, &x, 1, &a, 1, node, &x));
        m->inputs.at[m->nodes.at[node].in + 1] = x;
    }
    return aq_rebuild_keep(&q->r, node);
}

static aq_status quant_body(aq_module *m, aq_id body, const aq_pass_options *o) {
    quant q = {.r = aq_rebuild_open(m, body), .o = o};
    aq_status status = AQ_OK;
    uint32_t n = m->bodies.at[body].nodes.n;
    const aq_id *nodes = m->bodies.at[body].nodes.at;
    for (uint32_t i = 0; i < n && status == AQ_OK; i++) {
        aq_op op = m->nodes.at[nodes[i]].op;
        status = op == AQ_OP_matmul ? open_matmul(&q, nodes[i]) : op == AQ_OP_append ? cast_append(&q, nodes[i]) : aq_rebuild_keep(&q.r, nodes[i]);
    }
    if (status == AQ_OK)
        status = aq_rebuild_finish(&q.r);
    aq_rebuild_close(&q.r);
    return status;
}

aq_status aq_pass_quant(aq_module *m, const aq_pass_options *o) {
    /* States first, all their versions with them, and the views of them that a text may have. */
    for (uint32_t v = 1; v < m->values.n; v++)
        if (m->values.at[v].kind == AQ_VALUE_STATE || m->values.at[v].state)
            m->values.at[v].type.dtype = o->kv;
    AQ_TRY(aq_infer_refresh(m));
    for (uint32_t g = 0; g < m->graphs.n; g++)
        AQ_TRY(quant_body(m, m->graphs.at[g], o));
    return AQ_OK;
}
