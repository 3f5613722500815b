/* canon.c: one form for what can be written in several, so that fuse and cse see equal things equal. All rules are exact on ref.
 *   views outward   rope (heads m)            heads (rope m {dim})          so that a linear layer's rows meet rope before they are split
 *                   silu (heads m)            heads (silu m)                any map of one input; of two where both are the same view
 *   cancel          merge (heads m)           m                             and the reverse; transpose of transpose; reshape of reshape;
 *                                                                           views that change nothing, a cast of a cast
 *   numbers         mul 2, x                  mul x, 2                      right of ops that commute
 *                   mul x, 1   sub x, 0   div x, 1   neg (neg x)    x
 *                   mul x, -1                 neg x
 *                   div x, 4                  mul x, 0.25                   powers of two only
 *                   neg (mul x, 3)            mul x, -3
 *                   add x, (neg y)            sub x, y                      and sub x, (neg y): add
 *                   add 1, 2                  3
 * add x, 0 stays: -0 + 0 is +0. mul of mul stays: the product of two numbers rounds.
 * Rounds of one walk over the body until nothing changes, at most 16. */
#include "passes/passes.h"
#include "passes/rebuild.h"

#include <math.h>
#include <string.h>

aq_status aq_pass_canon(aq_module *m, const aq_pass_options *o);

typedef struct canon {
    aq_rebuild r;
    aq_id node;  /* being looked at */
    int changed;
} canon;

static aq_id input(const canon *c, const aq_node *n, int i) { return aq_rebuild_value(&c->r, aq_node_in(c->r.m, n)[i]); }

/* The node that makes v in this body, if it is an `op` (0: any); NULL otherwise. */
static const aq_node *maker(const canon *c, aq_id v, aq_op op) {
    const aq_value *x = &c->r.m->values.at[v];
    if (x->kind != AQ_VALUE_RESULT)
        return NULL;
    const aq_node *n = &c->r.m->nodes.at[x->node];
    return !op || n->op == op ? n : NULL;
}

static int is_number(const canon *c, aq_id v, double *out) {
    const aq_value *x = &c->r.m->values.at[v];
    *out = x->number;
    return x->kind == AQ_VALUE_CONST;
}

/* The old result is `v` from now on (not where a region would yield what was given to it). */
static aq_status becomes(canon *c, aq_id v) {
    aq_module *m = c->r.m;
    aq_id old = m->nodes.at[c->node].out;
    aq_value *x = &m->values.at[v];
    const aq_body *b = &m->bodies.at[c->r.body];
    for (uint32_t i = 0; b->is_region && x->kind != AQ_VALUE_RESULT && i < b->results.n; i++)
        if (aq_rebuild_value(&c->r, b->results.at[i]) == old)
            return aq_rebuild_keep(&c->r, c->node); /* what a region yields is made in it */
    if (x->kind == AQ_VALUE_RESULT && !x->name)
        x->name = m->values.at[old].name;
    c->changed = 1;
    return aq_rebuild_replace(&c->r, old, v);
}

/* The old result is made by a new node from now on; it takes the name over. */
static aq_status becomes_node(canon *c, aq_op op, const aq_id *in, int n_in, const aq_attr *attr, int n_attr) {
    aq_module *m = c->r.m;
    aq_id out, old = m->nodes.at[c->node].out;
    AQ_TRY(aq_rebuild_add(&c->r, op, in, n_in, attr, n_attr, c->node, &out));
    m->values.at[out].origin = m->values.at[old].origin;
    return becomes(c, out);
}

static int same_type_as_result(const canon *c, const aq_node *n, aq_id v) {
    return aq_type_same(&c->r.m->values.at[v].type, &c->r.m->values.at[n->out].type);
}

/* --- views ------------------------------------------------------------------------------------------------------------------------------- */

static int is_regrouping(aq_op op) { return op == AQ_OP_heads || op == AQ_OP_merge || op == AQ_OP_reshape; }

static int copy_attrs(const canon *c, const aq_node *n, aq_attr *to) {
    memcpy(to, c->r.m->attrs.at + n->attr, n->n_attr * sizeof *to);
    return n->n_attr;
}

/* op (view a) becomes view (op a); for two inputs both are the same view of like-typed values, or one is a number. */
static aq_status map_of_views(canon *c, aq_id id, int *done) {
    aq_module *m = c->r.m;
    const aq_node *n = &m->nodes.at[id];
    const aq_node *view = NULL;
    aq_id in[AQ_MAX_IN], out;
    uint32_t traits = aq_op_of(n->op)->traits;
    if (!(traits & AQ_MAP) || n->op == AQ_OP_rope || n->op == AQ_OP_quantize || n->n_in > 2)
        return AQ_OK;
    for (int i = 0; i < n->n_in; i++) {
        double number;
        aq_id v = input(c, n, i);
        const aq_node *made = maker(c, v, AQ_OP_NONE);
        if (is_number(c, v, &number)) {
            in[i] = v;
            continue;
        }
        if (!made || !is_regrouping(made->op) || (view && (view->op != made->op || !aq_type_same(&m->values.at[view->out].type, &m->values.at[made->out].type))))
            return AQ_OK;
        in[i] = input(c, made, 0);
        if (view && !aq_type_same(&m->values.at[in[i]].type, &m->values.at[input(c, view, 0)].type))
            return AQ_OK;
        view = made;
    }
    if (!view)
        return AQ_OK;
    aq_attr own[AQ_ATTR_COUNT], of_view[AQ_ATTR_COUNT];
    int n_own = copy_attrs(c, n, own), n_view = copy_attrs(c, view, of_view);
    aq_op view_op = view->op, op = n->op;
    AQ_TRY(aq_rebuild_add(&c->r, op, in, n->n_in, own, n_own, c->node, &out));
    *done = 1;
    return becomes_node(c, view_op, &out, 1, of_view, n_view);
}

/* rope (heads m) becomes heads (rope m {dim = elements of a head}). */
static aq_status rope_of_heads(canon *c, aq_id id, int *done) {
    aq_module *m = c->r.m;
    const aq_node *n = &m->nodes.at[id], *heads = maker(c, input(c, n, 0), AQ_OP_heads);
    if (!heads)
        return AQ_OK;
    aq_attr a[AQ_ATTR_COUNT], of_view[AQ_ATTR_COUNT];
    int n_attr = copy_attrs(c, n, a), at = 0, n_view = copy_attrs(c, heads, of_view);
    while (at < n_attr && a[at].key != AQ_ATTR_dim)
        at++;
    if (at == n_attr)
        a[n_attr++] = (aq_attr){.key = AQ_ATTR_dim};
    if (a[at].num == 0)
        a[at].num = (double)m->values.at[heads->out].type.dim[2].k;
    aq_id in[2] = {input(c, heads, 0), input(c, n, 1)}, out;
    AQ_TRY(aq_rebuild_add(&c->r, AQ_OP_rope, in, 2, a, n_attr, c->node, &out));
    *done = 1;
    return becomes_node(c, AQ_OP_heads, &out, 1, of_view, n_view);
}

static aq_status transpose(canon *c, const aq_node *n, int *done) {
    aq_module *m = c->r.m;
    const aq_node *inner = maker(c, input(c, n, 0), AQ_OP_transpose);
    const aq_attr *p = aq_node_attr(m, n, AQ_ATTR_perm);
    aq_attr both = *p;
    int identity = 1;
    if (inner)
        for (int i = 0; i < p->n_dims; i++)
            both.dim[i] = aq_node_attr(m, inner, AQ_ATTR_perm)->dim[p->dim[i].k];
    for (int i = 0; i < both.n_dims; i++)
        identity &= both.dim[i].k == i;
    aq_id from = input(c, inner ? inner : n, 0);
    *done = identity || inner;
    if (identity)
        return becomes(c, from);
    return inner ? becomes_node(c, AQ_OP_transpose, &from, 1, &both, 1) : AQ_OK;
}

static aq_status view(canon *c, aq_id id, int *done) {
    const aq_node *n = &c->r.m->nodes.at[id];
    aq_id x = input(c, n, 0);
    if (n->op == AQ_OP_transpose)
        return transpose(c, n, done);
    /* A cast to the type its operand has still rounds (ref holds f64): only the second of two goes. */
    int nothing = n->op == AQ_OP_reshape || n->op == AQ_OP_slice || (n->op == AQ_OP_cast && maker(c, x, AQ_OP_cast));
    if (nothing && same_type_as_result(c, n, x)) {
        *done = 1;
        return becomes(c, x);
    }
    const aq_node *inner = maker(c, x, AQ_OP_NONE);
    if (!is_regrouping(n->op) || !inner || !is_regrouping(inner->op))
        return AQ_OK;
    aq_id from = input(c, inner, 0);
    if (same_type_as_result(c, n, from)) {
        *done = 1;
        return becomes(c, from);
    }
    if (n->op != AQ_OP_reshape)
        return AQ_OK;
    aq_attr a = *aq_node_attr(c->r.m, n, AQ_ATTR_shape);
    *done = 1;
    return becomes_node(c, AQ_OP_reshape, &from, 1, &a, 1);
}

/* --- numbers ----------------------------------------------------------------------------------------------------------------------------- */

static int fold(aq_op op, double a, double b, double *out) {
    switch (op) {
    case AQ_OP_add: *out = a + b; return 1;
    case AQ_OP_sub: *out = a - b; return 1;
    case AQ_OP_mul: *out = a * b; return 1;
    case AQ_OP_div: *out = a / b; return 1;
    case AQ_OP_neg: *out = -a; return 1;
    default: return 0;
    }
}

static int is_power_of_two(double x) {
    int e;
    return isfinite(x) && fabs(frexp(x, &e)) == 0.5 && e > -1000 && e < 1000;
}

static aq_status by_number(canon *c, const aq_node *n, aq_id x, double k, int *done) {
    aq_id in[2] = {x, 0};
    int whole = c->r.m->values.at[n->out].type.dtype == AQ_I32;
    *done = 1;
    if (same_type_as_result(c, n, x) && (((n->op == AQ_OP_mul || n->op == AQ_OP_div) && k == 1) || (n->op == AQ_OP_sub && k == 0 && !signbit(k))))
        return becomes(c, x);
    if (n->op == AQ_OP_mul && k == -1 && same_type_as_result(c, n, x))
        return becomes_node(c, AQ_OP_neg, in, 1, NULL, 0);
    if (n->op == AQ_OP_div && is_power_of_two(k) && !whole) {
        AQ_TRY(aq_const_add(c->r.m, 1 / k, &in[1]));
        return becomes_node(c, AQ_OP_mul, in, 2, NULL, 0);
    }
    *done = 0;
    return AQ_OK;
}

static aq_status two_operands(canon *c, aq_id id, int *done) {
    aq_module *m = c->r.m;
    const aq_node *n = &m->nodes.at[id];
    aq_id in[2] = {input(c, n, 0), input(c, n, 1)};
    aq_op op = n->op;
    double a, b, k;
    int left = is_number(c, in[0], &a), right = is_number(c, in[1], &b);
    if (left && right && fold(op, a, b, &k)) {
        *done = 1;
        AQ_TRY(aq_const_add(m, k, &in[0]));
        return becomes(c, in[0]);
    }
    if (left && !right && (aq_op_of(op)->traits & AQ_COMMUTES)) {
        aq_id swapped[2] = {in[1], in[0]};
        *done = 1;
        return becomes_node(c, op, swapped, 2, NULL, 0);
    }
    if (right)
        return by_number(c, n, in[0], b, done);
    const aq_node *minus = maker(c, in[1], AQ_OP_neg);
    if (minus && (op == AQ_OP_add || op == AQ_OP_sub)) {
        in[1] = input(c, minus, 0);
        *done = 1;
        return becomes_node(c, op == AQ_OP_add ? AQ_OP_sub : AQ_OP_add, in, 2, NULL, 0);
    }
    return AQ_OK;
}

static aq_status negation(canon *c, aq_id id, int *done) {
    const aq_node *n = &c->r.m->nodes.at[id], *made;
    aq_id x = input(c, n, 0), in[2];
    double k;
    *done = 1;
    if (is_number(c, x, &k)) {
        AQ_TRY(aq_const_add(c->r.m, -k, &in[0]));
        return becomes(c, in[0]);
    }
    if ((made = maker(c, x, AQ_OP_neg)) && same_type_as_result(c, n, input(c, made, 0)))
        return becomes(c, input(c, made, 0));
    if ((made = maker(c, x, AQ_OP_mul)) && is_number(c, input(c, made, 1), &k)) {
        in[0] = input(c, made, 0);
        AQ_TRY(aq_const_add(c->r.m, -k, &in[1]));
        return becomes_node(c, AQ_OP_mul, in, 2, NULL, 0);
    }
    *done = 0;
    return AQ_OK;
}

/* --- the walk ---------------------------------------------------------------------------------------------------------------------------- */

static aq_status look_at(canon *c, aq_id id) {
    int done = 0;
    aq_op op = c->r.m->nodes.at[id].op;
    c->node = id;
    if (op == AQ_OP_rope)
        AQ_TRY(rope_of_heads(c, id, &done));
    if (!done && op == AQ_OP_neg)
        AQ_TRY(negation(c, id, &done));
    if (!done && (op == AQ_OP_add || op == AQ_OP_sub || op == AQ_OP_mul || op == AQ_OP_div || op == AQ_OP_maximum || op == AQ_OP_minimum))
        AQ_TRY(two_operands(c, id, &done));
    if (!done && (is_regrouping(op) || op == AQ_OP_transpose || op == AQ_OP_slice || op == AQ_OP_cast))
        AQ_TRY(view(c, id, &done));
    if (!done)
        AQ_TRY(map_of_views(c, id, &done));
    return done ? AQ_OK : aq_rebuild_keep(&c->r, id);
}

static aq_status round_of(canon *c) {
    for (uint32_t i = 0; i < c->r.m->bodies.at[c->r.body].nodes.n; i++)
        AQ_TRY(look_at(c, c->r.m->bodies.at[c->r.body].nodes.at[i]));
    return aq_rebuild_finish(&c->r);
}

aq_status aq_pass_canon(aq_module *m, const aq_pass_options *o) {
    (void)o;
    for (aq_id b = 1; b < m->bodies.n; b++) {
        int changed = 1;
        for (int round = 0; changed && round < 16; round++) {
            canon c = {.r = aq_rebuild_open(m, b)};
            aq_status status = round_of(&c);
            aq_rebuild_close(&c.r);
            AQ_TRY(status);
            changed = c.changed;
        }
    }
    return AQ_OK;
}
