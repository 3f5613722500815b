/* lower_root.c: the loops around one stored value: its axes by their plans, the value, the store.
 *
 * Axes are called by their place: the last n, the first t (of two or more, or where it is a symbol), those between h and g. Values kept in
 * scratch have plans of their own, pt ph pn, since what suits a dot's output does not suit a norm. The first step of an axis is its tiles,
 * unless the plan says `for` (the first axis has tiles if no other has); inner steps are loops inside the work item. Without a plan: t by
 * 1, n by 16 lanes. */
#include "codegen/lower.h"

#include <string.h>

static const aq_type *type_of(const aq_lower_state *l, aq_id v) {
    return &l->m->values.at[v].type;
}
static int is_one(aq_dim d) {
    return !d.sym && d.k == 1;
}

const aq_axis_plan *aq_low_plan(const aq_lower_state *l, int is_kept, char letter) {
    for (int i = 0; i < l->s->n_axes; i++) {
        const char *name = l->s->axis[i].axis;
        if (is_kept ? name[0] == 'p' && name[1] == letter && !name[2] : name[0] == letter && !name[1])
            return &l->s->axis[i];
    }
    return NULL;
}

static char letter_of(const aq_type *t, int d) {
    if (d == t->rank - 1)
        return t->rank == 1 && t->dim[0].sym ? 't' : 'n';
    return d == 0 ? 't' : d == 1 ? 'h' : 'g';
}

/* What an axis gets that no plan speaks of. A row that is reduced as a whole is one work item; plain maps are cut into pieces. */
static aq_axis_plan usual(char letter, int is_row) {
    if (letter != 'n')
        return (aq_axis_plan){.step = {1}, .role = {AQ_ROLE_TILES}};
    if (is_row)
        return (aq_axis_plan){.step = {64}, .lanes = 16, .role = {AQ_ROLE_FOR}};
    return (aq_axis_plan){.step = {256, 64}, .lanes = 16, .role = {AQ_ROLE_TILES}};
}

/* The plan of one axis with everything filled in. */
static aq_axis_plan settled(aq_lower_state *l, const aq_low_root *r, char letter, aq_dim extent, int is_block) {
    const aq_axis_plan *given = aq_low_plan(l, r->is_kept, letter);
    aq_axis_plan p = usual(letter, aq_low_has_row_sum(l, r->value));
    if (given)
        p = *given;
    if (!p.step[0])
        p.step[0] = p.lanes ? p.lanes : 1;
    if (!p.role[0])
        p.role[0] = AQ_ROLE_TILES;
    if (is_block && p.lanes != 32)
        p.lanes = 16;
    int unit = is_block ? 32 : p.lanes ? p.lanes * (p.vec ? p.vec : 1) : aq_low_has_rope(l, r->value) && letter == 'n' ? 2 : 1; /* what steps are multiples of */
    for (int k = 0; k < 3 && p.step[k]; k++)
        p.step[k] = (p.step[k] + unit - 1) / unit * unit;
    for (int k = 0; k < 3 && p.step[k]; k++)
        if (!extent.sym && p.step[k] > extent.k)
            p.step[k] = (int32_t)((extent.k + unit - 1) / unit * unit);
    while (p.step[1] && p.step[1] >= p.step[0] && p.role[1] != AQ_ROLE_MMA) { /* a loop of one turn, or one warp */
        p.step[1] = p.step[2];
        p.role[1] = p.role[2];
        p.step[2] = 0;
    }
    return p;
}

typedef struct root_axes {
    aq_id axis[AQ_MAX_RANK], index[AQ_MAX_RANK];
    aq_axis_plan plan[AQ_MAX_RANK];
    int n;
} root_axes;

static aq_status find_axes(aq_lower_state *l, const aq_low_root *r, const aq_type *t, root_axes *a) {
    int is_block = aq_dtype_of(t->dtype)->block > 1;
    for (int d = 0; d < t->rank; d++) {
        if (is_one(t->dim[d])) {
            AQ_TRY(aq_low_const(l, 0, &a->index[d]));
            continue;
        }
        char letter = letter_of(t, d);
        AQ_TRY(aq_low_axis(l, letter, t->dim[d], &a->axis[a->n]));
        if (a->n && a->axis[a->n] < a->axis[a->n - 1]) /* in the nest's table they stand in the value's order: rope asks for it */
            AQ_TRY(aq_low_new_axis(l, letter, t->dim[d], 0, &a->axis[a->n]));
        AQ_TRY(aq_low_axis_expr(l, a->axis[a->n], &a->index[d]));
        a->plan[a->n++] = settled(l, r, letter, t->dim[d], is_block && d == t->rank - 1);
    }
    if (a->n)
        return AQ_OK;
    AQ_TRY(aq_low_axis(l, 'n', aq_dim_const(1), &a->axis[0])); /* a single number is one work item */
    a->plan[a->n++] = (aq_axis_plan){.step = {1}, .role = {AQ_ROLE_TILES}};
    return AQ_OK;
}

static aq_status open_loops(aq_lower_state *l, root_axes *a) {
    int tiled = 0;
    for (int i = 0; i < a->n; i++)
        tiled |= a->plan[i].role[0] != AQ_ROLE_FOR;
    if (!tiled) /* work items come from somewhere */
        a->plan[0].role[0] = AQ_ROLE_TILES;
    for (int pass = 0; pass < 2; pass++) { /* tiles outside of all the others */
        for (int i = 0; i < a->n; i++) {
            aq_low_steps steps;
            AQ_TRY(aq_low_steps_of(l, &a->plan[i], &steps));
            for (int k = 0; k < steps.n; k++) {
                int tiles = k == 0 && a->plan[i].role[0] != AQ_ROLE_FOR;
                if (tiles == !pass)
                    AQ_TRY(aq_low_open_step(l, tiles ? AQ_STMT_TILES : AQ_STMT_FOR, a->axis[i], &steps, k));
            }
        }
        if (!pass)
            l->base = l->depth;
    }
    return AQ_OK;
}

aq_status aq_low_stored(aq_lower_state *l, const aq_low_root *r, const aq_id *index, aq_id *out) {
    aq_id v = r->value;
    const aq_node *n = aq_low_node(l, v);
    int here = r->is_kept || !l->value[v].buf || (n && n->op == AQ_OP_quantize);
    if (!here || !n || (n->op != AQ_OP_cast && n->op != AQ_OP_quantize))
        return here ? aq_low_compute(l, v, index, out) : aq_low_at(l, v, index, out);
    const aq_attr *to = aq_node_attr(l->m, n, AQ_ATTR_dtype);
    aq_id x = aq_node_in(l->m, n)[0];
    if (n->op == AQ_OP_cast && (aq_dtype)to->num != l->n->bufs.at[r->buf].type.dtype)
        return aq_low_compute(l, v, index, out);
    l->root = x;
    AQ_TRY(aq_low_at(l, x, index, out));
    if (n->op == AQ_OP_quantize)
        return aq_low_op_attr(l, AQ_OP_quantize, out, 1, to, 1, out);
    return aq_dtype_of(type_of(l, x)->dtype)->block > 1 ? aq_low_op_attr(l, AQ_OP_cast, out, 1, to, 1, out) : AQ_OK;
}

/* Row slot[t] of the state, and the element that x has there. */
static aq_status append_index(aq_lower_state *l, const aq_low_root *r, aq_id v, const aq_id *index, aq_id *out) {
    const aq_node *n = &l->m->nodes.at[r->append];
    const aq_id *in = aq_node_in(l->m, n);
    aq_id buf = aq_low_field_buf(l, in[2], "slot");
    AQ_TRY(aq_low_reindex(l, type_of(l, v), index, type_of(l, in[1]), out));
    if (!buf)
        return aq_low_refuse(l, in[2], "the batch has no slot");
    return aq_low_load(l, buf, out, 1, &out[0]);
}

aq_status aq_low_root_tree(aq_lower_state *l, const aq_low_root *r) {
    root_axes a = {0};
    aq_id v = r->value, index[AQ_MAX_RANK], expr;
    const aq_type *t = type_of(l, v);
    AQ_TRY(find_axes(l, r, t, &a));
    AQ_TRY(open_loops(l, &a));
    l->root = v;
    memcpy(l->root_index, a.index, sizeof a.index);
    AQ_TRY(aq_low_stored(l, r, a.index, &expr));
    memcpy(index, a.index, sizeof index);
    if (r->append)
        AQ_TRY(append_index(l, r, v, a.index, index));
    AQ_TRY(aq_low_store(l, r->buf, index, l->n->bufs.at[r->buf].type.rank, expr));
    while (l->depth)
        AQ_TRY(aq_low_close(l));
    l->base = 0;
    return AQ_OK;
}
