/* lower_reduce.c: sums, maxima and dots: an accumulator, a loop, updates, and the finished value.
 *
 * A reduction stands inside the loops that its subscripts name and no others. Reductions of the same root that stand at the same place and
 * run over the same extent share one loop, so gate and up read the activations once: before a loop is built, the root's cone is searched
 * for company. Only reductions whose operands hold no further reduction may join, since what they need is then certainly there.
 * `late` factors (a norm's 1/rms) are left out of a dot's operand and multiplied in behind it; their own sum joins the dot's loop. */
#include "codegen/lower_reduce.h"

#include <string.h>

static const aq_type *type_of(const aq_lower_state *l, aq_id v) {
    return &l->m->values.at[v].type;
}

/* ---- loops ---- */

/* Opens the loops over reduced axis i. Lanes only on the innermost one, and only where no accumulator has lanes itself. */
static aq_status open_axis(aq_lower_state *l, const aq_low_group *g, int i, aq_id axis, uint32_t mask) {
    const aq_axis_plan *p = aq_low_plan(l, 0, g->is_dot ? 'd' : 'r');
    aq_dim extent = g->extent[i];
    int lanes_fit = i == g->n_extents - 1 && !g->is_block && !aq_low_has_lanes(l, mask);
    int32_t usual = g->is_block ? 32 : lanes_fit ? 16 : 4, step[3] = {usual, 0, 0};
    int lanes = lanes_fit || (g->is_block && p && p->vec >= 32) ? (p ? p->lanes : 16) : 0, n = 1, vec = p && p->vec ? p->vec : 1;
    aq_axis_plan plan = {.axis = "d", .lanes = (int16_t)lanes, .vec = p ? p->vec : 0};
    if (p && p->step[0])
        for (n = 0; n < 3 && p->step[n]; n++) {
            plan.role[n] = p->role[n];
            step[n] = p->lanes && !lanes && !g->is_block && (n == 2 || !p->step[n + 1])
                          ? (p->step[n] / p->lanes ? p->step[n] / p->lanes : 1)
                          : p->step[n];
        }
    for (int k = 0; k < n; k++) {
        int last = k == n - 1, unit = last && lanes ? lanes * vec : g->is_block ? 32 : 1;
        if (!extent.sym && step[k] > extent.k) { /* no more than there is, in whole vectors, a power of two of them */
            int64_t want = (extent.k + unit - 1) / unit, parts = 1;
            while (parts < want)
                parts *= 2;
            step[k] = (int32_t)((lanes && last ? parts : want) * unit);
        }
        plan.step[k] = step[k];
    }
    aq_low_steps steps;
    AQ_TRY(aq_low_steps_of(l, &plan, &steps));
    for (int k = 0; k < steps.n; k++)
        AQ_TRY(aq_low_open_step(l, AQ_STMT_FOR, axis, &steps, k));
    return AQ_OK;
}

/* An update takes one element for each element of its expression's axes: an expression that is the same along a reduced axis must still
 * be counted once an element. */
static aq_status depend(aq_lower_state *l, aq_id *e, aq_id axis) {
    aq_id zero, x;
    AQ_TRY(aq_low_const(l, 0, &zero));
    AQ_TRY(aq_low_op2(l, AQ_OP_mul, axis, zero, &x));
    return aq_low_op2(l, AQ_OP_add, *e, x, e);
}

static aq_status update_dot(aq_lower_state *l, const aq_low_sum *s, const char *letter, const aq_id *axis, int n_axes) {
    aq_id in[2], at[AQ_MAX_RANK], e;
    for (int i = 0; i < 2; i++) {
        aq_low_factors rest = {0}, late = {0};
        aq_low_dot_index(l, s->n, i, s->index, letter, axis, n_axes, at);
        AQ_TRY(aq_low_split_factors(l, aq_node_in(l->m, s->n)[i], at, &rest, &late));
        if (late.n)
            AQ_TRY(aq_low_product(l, &rest, &in[i]));
        else
            AQ_TRY(aq_low_at(l, aq_node_in(l->m, s->n)[i], at, &in[i]));
        for (int k = 0; k < late.n; k++)
            if (aq_low_mask_all(l, late.f[k].index, type_of(l, late.f[k].value)->rank) & aq_low_mask_all(l, axis, n_axes))
                return aq_low_refuse(l, late.f[k].value, "it varies along the sum that it should come after: expected a factor of rows");
    }
    for (int k = 0; k < n_axes; k++)
        if (!(aq_low_mask_all(l, in, 2) & aq_low_mask(l, axis[k])))
            AQ_TRY(depend(l, &in[0], axis[k]));
    AQ_TRY(aq_low_op2(l, AQ_OP_dot, in[0], in[1], &e));
    return aq_low_update(l, s->tile, 0, &e, 1);
}

static aq_status update_row(aq_lower_state *l, const aq_low_sum *s, aq_id axis) {
    const aq_id x = aq_node_in(l->m, s->n)[0];
    aq_id at[AQ_MAX_RANK], e;
    memcpy(at, s->index, sizeof at);
    at[type_of(l, x)->rank - 1] = axis;
    AQ_TRY(aq_low_at(l, x, at, &e));
    if (!(aq_low_mask(l, e) & aq_low_mask(l, axis)))
        AQ_TRY(depend(l, &e, axis));
    if (s->n->op == AQ_OP_rms) {
        if (l->n->exprs.at[e].kind == AQ_EXPR_OP)
            AQ_TRY(aq_low_let(l, "x", e, &e));
        AQ_TRY(aq_low_op2(l, AQ_OP_mul, e, e, &e));
    }
    return aq_low_update(l, s->tile, 0, &e, 1);
}

static aq_monoid monoid_of(aq_op op) {
    switch (op) {
    case AQ_OP_rmax:
        return AQ_MONOID_max;
    case AQ_OP_lse:
        return AQ_MONOID_lse;
    case AQ_OP_argmax:
        return AQ_MONOID_argmax;
    default:
        return AQ_MONOID_sum;
    }
}

/* ---- afterwards ---- */

static aq_status finish_rms(aq_lower_state *l, const aq_low_sum *s, aq_id *e) {
    const aq_type *x = type_of(l, aq_node_in(l->m, s->n)[0]);
    aq_dim d = x->dim[x->rank - 1];
    aq_id size, eps;
    AQ_TRY(d.sym ? aq_low_dim(l, d, &size) : aq_low_const(l, 1.0 / (double)d.k, &size));
    AQ_TRY(aq_low_op2(l, d.sym ? AQ_OP_div : AQ_OP_mul, *e, size, e));
    AQ_TRY(aq_low_const(l, aq_node_num(l->m, s->n, AQ_ATTR_eps, 0), &eps));
    AQ_TRY(aq_low_op2(l, AQ_OP_add, *e, eps, e));
    AQ_TRY(aq_low_op1(l, AQ_OP_rsqrt, *e, e));
    return aq_low_let(l, "rms", *e, e);
}

static aq_status finish_dot(aq_lower_state *l, const aq_low_sum *s, aq_id *e) {
    aq_id zero[2 * AQ_MAX_RANK], at[AQ_MAX_RANK], x;
    char letter[2 * AQ_MAX_RANK] = "";
    aq_dim extent[2 * AQ_MAX_RANK];
    int n_axes = aq_low_contracted(l, s->n, letter, extent);
    for (int k = 0; k < 2 * AQ_MAX_RANK; k++)
        AQ_TRY(aq_low_const(l, 0, &zero[k]));
    for (int i = 0; i < 2 && aq_low_any_late(l); i++) {
        aq_low_factors rest = {0}, late = {0};
        aq_low_dot_index(l, s->n, i, s->index, letter, zero, n_axes, at);
        AQ_TRY(aq_low_split_factors(l, aq_node_in(l->m, s->n)[i], at, &rest, &late));
        if (!late.n)
            continue;
        AQ_TRY(aq_low_product(l, &late, &x));
        AQ_TRY(aq_low_op2(l, AQ_OP_mul, *e, x, e));
    }
    return AQ_OK;
}

static aq_status finish(aq_lower_state *l, const aq_low_group *g, aq_id *out) {
    for (int dots = 0; dots < 2; dots++) /* late aq_low_factors first, then the dots that want them */
        for (int i = 0; i < g->n; i++) {
            const aq_low_sum *s = &g->at[i];
            aq_id e;
            if ((s->n->op == AQ_OP_dot) != dots)
                continue;
            AQ_TRY(aq_low_tile_expr(l, s->tile, -1, &e));
            if (s->n->op == AQ_OP_rms)
                AQ_TRY(finish_rms(l, s, &e));
            if (dots)
                AQ_TRY(finish_dot(l, s, &e));
            AQ_TRY(aq_low_remember(l, s->value, s->index, type_of(l, s->value)->rank, e));
            if (i == 0)
                *out = e;
        }
    return AQ_OK;
}

/* A dot that sums over nothing is a product. */
static aq_status outer(aq_lower_state *l, const aq_low_sum *s, aq_id *out) {
    aq_id in[2], at[AQ_MAX_RANK];
    for (int i = 0; i < 2; i++) {
        aq_low_dot_index(l, s->n, i, s->index, "", NULL, 0, at);
        AQ_TRY(aq_low_at(l, aq_node_in(l->m, s->n)[i], at, &in[i]));
    }
    return aq_low_op2(l, AQ_OP_mul, in[0], in[1], out);
}

aq_status aq_low_reduce(aq_lower_state *l, aq_id value, const aq_id *index, aq_id *out) {
    aq_low_group g = {.n = 1};
    char letter[2 * AQ_MAX_RANK] = "", name[96];
    aq_id axis[2 * AQ_MAX_RANK], axis_expr[2 * AQ_MAX_RANK];
    aq_dim extent[2 * AQ_MAX_RANK];
    uint32_t mask = 0;
    aq_low_aside aside;
    int rank = type_of(l, value)->rank;
    g.at[0].value = value;
    g.at[0].n = aq_low_node(l, value);
    memcpy(g.at[0].index, index, (size_t)rank * sizeof *index);
    aq_low_describe(l, g.at[0].n, &g);
    if (!g.n_extents)
        return outer(l, &g.at[0], out);
    g.level = aq_low_level_of(l, index, rank);
    AQ_TRY(aq_low_find_company(l, &g));
    aq_low_set_aside(l, g.level, &aside);
    for (int i = 0; i < g.n; i++) {
        uint32_t own = aq_low_mask_all(l, g.at[i].index, type_of(l, g.at[i].value)->rank);
        aq_low_value_name(l->m, l->b, g.at[i].value, name, sizeof name);
        AQ_TRY(aq_low_acc(l, name, monoid_of(g.at[i].n->op), own, g.level, &g.at[i].tile));
        mask |= own;
    }
    int depth = l->depth;
    for (int i = 0; i < g.n_extents; i++) {
        AQ_TRY(aq_low_axis(l, g.is_dot ? 'd' : 'r', g.extent[i], &axis[i]));
        AQ_TRY(aq_low_axis_expr(l, axis[i], &axis_expr[i]));
        AQ_TRY(open_axis(l, &g, i, axis[i], mask));
    }
    for (int i = 0; i < g.n; i++) {
        memset(letter, 0, sizeof letter);
        if (g.at[i].n->op == AQ_OP_dot) {
            aq_low_contracted(l, g.at[i].n, letter, extent);
            AQ_TRY(update_dot(l, &g.at[i], letter, axis_expr, g.n_extents));
        } else
            AQ_TRY(update_row(l, &g.at[i], axis_expr[0]));
    }
    while (l->depth > depth)
        AQ_TRY(aq_low_close(l));
    aq_low_put_back(l, g.level, &aside);
    return finish(l, &g, out);
}
