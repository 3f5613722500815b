/* lower_value.c: a value of the region at given subscripts, as an expression of the loops that are open.
 *
 * Maps ask their operands at the same subscripts (0 along broadcast axes), views at transformed ones, gathers at a loaded one; kept values
 * and params are loads. A map that is used more than once, or that depends on fewer loops than are open, becomes a `let` at the outermost
 * place it can stand at, so nothing is computed twice and nothing inside a loop that could be outside. */
#include "codegen/lower.h"
#include "ir/rope.h"

#include <stdio.h>
#include <string.h>

static const aq_type *type_of(const aq_lower_state *l, aq_id v) {
    return &l->m->values.at[v].type;
}
static int is_one(aq_dim d) {
    return !d.sym && d.k == 1;
}

/* ---- subscripts through views ---- */

/* Row-major number of the element over dims [from, rank). */
static aq_status flatten(aq_lower_state *l, const aq_type *t, int from, const aq_id *index, aq_id *out) {
    aq_id at = index[from], size;
    for (int i = from + 1; i < t->rank; i++) {
        if (is_one(t->dim[i]))
            continue;
        AQ_TRY(aq_low_dim(l, t->dim[i], &size));
        int zero = l->n->exprs.at[at].kind == AQ_EXPR_CONST && l->n->exprs.at[at].number == 0;
        if (zero) {
            at = index[i];
            continue;
        }
        AQ_TRY(aq_low_op2(l, AQ_OP_mul, at, size, &at));
        AQ_TRY(aq_low_op2(l, AQ_OP_add, at, index[i], &at));
    }
    *out = at;
    return AQ_OK;
}

/* Subscripts of the same element of the same bytes seen as another shape. Leading equal dims pass through. */
aq_status aq_low_reindex(aq_lower_state *l, const aq_type *from, const aq_id *index, const aq_type *to, aq_id *out) {
    int same = 0;
    while (same < from->rank && same < to->rank && aq_dim_same(from->dim[same], to->dim[same])) {
        out[same] = index[same];
        same++;
    }
    aq_id at, size;
    if (same == from->rank || same == to->rank) { /* what is left are axes of one */
        for (int i = same; i < to->rank; i++)
            AQ_TRY(aq_low_const(l, 0, &out[i]));
        return AQ_OK;
    }
    AQ_TRY(flatten(l, from, same, index, &at));
    for (int i = to->rank - 1; i > same; i--) {
        AQ_TRY(aq_low_dim(l, to->dim[i], &size));
        AQ_TRY(aq_low_op2(l, AQ_OP_imod, at, size, &out[i]));
        AQ_TRY(aq_low_op2(l, AQ_OP_idiv, at, size, &at));
    }
    out[same] = at;
    return AQ_OK;
}

aq_status aq_low_operand_index(aq_lower_state *l, const aq_node *n, int i, const aq_id *index, aq_id *out, int *known) {
    const aq_type *to = type_of(l, aq_node_in(l->m, n)[i]), *from = type_of(l, n->out);
    aq_id k;
    *known = 1;
    switch (n->op) {
    case AQ_OP_heads:
    case AQ_OP_merge:
    case AQ_OP_reshape:
        return aq_low_reindex(l, from, index, to, out);
    case AQ_OP_slice:
        memcpy(out, index, to->rank * sizeof *index);
        AQ_TRY(aq_low_const(l, aq_node_num(l->m, n, AQ_ATTR_begin, 0), &k));
        return l->n->exprs.at[k].number == 0 ? AQ_OK : aq_low_op2(l, AQ_OP_add, index[to->rank - 1], k, &out[to->rank - 1]);
    case AQ_OP_transpose: {
        const aq_attr *perm = aq_node_attr(l->m, n, AQ_ATTR_perm);
        for (int d = 0; d < to->rank; d++)
            out[perm->dim[d].k] = index[d];
        return AQ_OK;
    }
    case AQ_OP_rope:
        memcpy(out, index, to->rank * sizeof *index);
        return AQ_OK;
    default:
        break;
    }
    *known = (aq_op_of(n->op)->traits & AQ_MAP) != 0;
    for (int d = 0; *known && d < to->rank; d++) {
        out[d] = index[from->rank - to->rank + d];
        if (is_one(to->dim[d]))
            AQ_TRY(aq_low_const(l, 0, &out[d]));
    }
    return AQ_OK;
}

/* ---- loads ---- */

static aq_status load(aq_lower_state *l, aq_id value, const aq_id *index, aq_id *out) {
    const aq_low_value *info = &l->value[value];
    const aq_type *held = type_of(l, info->shape_of);
    aq_id held_index[AQ_MAX_RANK];
    if (!info->buf)
        return aq_low_refuse(l, value, "it cannot be read inside of the region: expected a param");
    memcpy(held_index, index, sizeof held_index);
    if (info->shape_of != value)
        AQ_TRY(aq_low_reindex(l, type_of(l, value), index, held, held_index));
    if (l->n->bufs.at[info->buf].role == AQ_BUF_STATE)
        for (uint32_t i = 0; i < l->roots.n; i++)
            if (l->roots.at[i].buf == info->buf)
                return aq_low_refuse(l, value, "the region reads a state and appends to it: expected two regions");
    return aq_low_load_param(l, value, info->buf, held_index, held->rank, out);
}

/* ---- ops ---- */

static aq_status let_of(aq_lower_state *l, aq_id value, aq_id expr, aq_id *out) {
    char name[96];
    return aq_low_let(l, aq_low_value_name(l->m, l->b, value, name, sizeof name), expr, out);
}

static aq_status operand(aq_lower_state *l, const aq_node *n, int i, const aq_id *index, aq_id *out) {
    aq_id at[AQ_MAX_RANK];
    int known;
    AQ_TRY(aq_low_operand_index(l, n, i, index, at, &known));
    return aq_low_at(l, aq_node_in(l->m, n)[i], at, out);
}

static aq_status map(aq_lower_state *l, const aq_node *n, const aq_id *index, aq_id *out) {
    aq_id in[AQ_MAX_IN];
    for (int i = 0; i < n->n_in; i++)
        AQ_TRY(operand(l, n, i, index, &in[i]));
    const aq_attr *dtype = n->op == AQ_OP_cast ? aq_node_attr(l->m, n, AQ_ATTR_dtype) : NULL;
    return aq_low_op_attr(l, n->op, in, n->n_in, dtype, dtype != NULL, out);
}

/* The pairs of rope lie along an axis of the nest: the last subscript must be that axis itself, and the last of the operand's. */
static aq_status rope(aq_lower_state *l, aq_id value, const aq_node *n, const aq_id *index, aq_id *out) {
    const aq_type *t = type_of(l, n->out);
    const aq_expr *last = &l->n->exprs.at[index[t->rank - 1]];
    aq_id axis = last->axis, in[2];
    if (last->kind != AQ_EXPR_AXIS) {
        l->force = value;
        return aq_low_refuse(l, value, "rope through a view: expected it to be kept");
    }
    AQ_TRY(aq_low_at(l, aq_node_in(l->m, n)[0], index, &in[0]));
    AQ_TRY(aq_low_at(l, aq_node_in(l->m, n)[1], index, &in[1]));
    uint32_t mask = aq_low_mask(l, in[0]);
    if (!(mask >> axis & 1) || mask >> axis > 1) {
        l->force = l->value[value].made == AQ_MADE_PHASE ? aq_node_in(l->m, n)[0] : value; /* in a root of its own its axes are in order */
        return aq_low_refuse(l, value, "rope of a value that varies along later axes: expected it to be kept");
    }
    aq_rope r = aq_rope_of_node(l->m, n);
    aq_attr attr[7] = {{.key = AQ_ATTR_dim, .num = (double)(r.dim > 0 ? r.dim : t->dim[t->rank - 1].k)},
                       {.key = AQ_ATTR_theta, .num = r.theta},
                       {.key = AQ_ATTR_factor, .num = r.factor}};
    int n_attr = 3;
    static const aq_attr_key further[] = {AQ_ATTR_low, AQ_ATTR_high, AQ_ATTR_ramp, AQ_ATTR_gain};
    for (size_t i = 0; i < 4; i++)
        if (aq_node_attr(l->m, n, further[i]))
            attr[n_attr++] = (aq_attr){.key = further[i], .num = aq_node_num(l->m, n, further[i], 0)};
    if (l->n->exprs.at[in[0]].kind == AQ_EXPR_OP) /* each element is read twice */
        AQ_TRY(let_of(l, aq_node_in(l->m, n)[0], in[0], &in[0]));
    return aq_low_op_attr(l, AQ_OP_rope, in, 2, attr, n_attr, out);
}

/* Row id of the table, or row 0 where id is no row of it: id * (0 <= id) * (id <= v - 1). */
static aq_status rows(aq_lower_state *l, aq_id value, const aq_node *n, const aq_id *index, aq_id *out) {
    const aq_id *in = aq_node_in(l->m, n);
    const aq_type *table = type_of(l, in[0]);
    aq_id id, zero, one, top, low, high, at[AQ_MAX_RANK];
    AQ_TRY(aq_low_at(l, in[1], index, &id));
    AQ_TRY(let_of(l, value, id, &id));
    AQ_TRY(aq_low_const(l, 0, &zero));
    AQ_TRY(aq_low_const(l, 1, &one));
    AQ_TRY(aq_low_dim(l, table->dim[0], &top));
    AQ_TRY(table->dim[0].sym ? aq_low_op2(l, AQ_OP_sub, top, one, &top) : aq_low_const(l, (double)table->dim[0].k - 1, &top));
    AQ_TRY(aq_low_op2(l, AQ_OP_le, zero, id, &low));
    AQ_TRY(aq_low_op2(l, AQ_OP_le, id, top, &high));
    AQ_TRY(aq_low_op2(l, AQ_OP_mul, low, high, &low));
    AQ_TRY(aq_low_op2(l, AQ_OP_mul, id, low, &at[0]));
    AQ_TRY(let_of(l, value, at[0], &at[0]));
    memcpy(at + 1, index + 1, sizeof at - sizeof *at);
    AQ_TRY(aq_low_at(l, in[0], at, out));
    if (aq_dtype_of(table->dtype)->kind != AQ_KIND_WEIGHT)
        return AQ_OK;
    return aq_low_op_attr(l, AQ_OP_cast, out, 1, &(aq_attr){.key = AQ_ATTR_dtype, .num = AQ_F32}, 1, out);
}

static aq_status field(aq_lower_state *l, aq_id value, const aq_node *n, const aq_id *index, aq_id *out) {
    const aq_attr *a = aq_node_attr(l->m, n, AQ_ATTR_name);
    aq_id buf = a && a->text ? aq_low_field_buf(l, aq_node_in(l->m, n)[0], a->text) : 0;
    if (!buf)
        return aq_low_refuse(l, value, "no such array of the batch: expected one of batch.def");
    return aq_low_load(l, buf, index, l->n->bufs.at[buf].type.rank, out);
}

aq_status aq_low_compute(aq_lower_state *l, aq_id value, const aq_id *index, aq_id *out) {
    const aq_value *v = &l->m->values.at[value];
    if (v->kind == AQ_VALUE_CONST)
        return aq_low_const(l, v->number, out);
    const aq_node *n = aq_low_node(l, value);
    if (!n)
        return load(l, value, index, out);
    if (aq_low_remembered(l, value, index, v->type.rank, out))
        return AQ_OK;
    if (aq_low_is_reduction(n))
        AQ_TRY(aq_low_reduce(l, value, index, out));
    else if (n->op == AQ_OP_rope)
        AQ_TRY(rope(l, value, n, index, out));
    else if (n->op == AQ_OP_quantize) {
        l->force = value;
        return aq_low_refuse(l, value, "quantised inside an expression: expected it to be kept");
    } else if (n->op == AQ_OP_rows)
        AQ_TRY(rows(l, value, n, index, out));
    else if (n->op == AQ_OP_field)
        AQ_TRY(field(l, value, n, index, out));
    else if (aq_op_of(n->op)->traits & AQ_VIEW)
        return operand(l, n, 0, index, out);
    else if (aq_op_of(n->op)->traits & AQ_MAP)
        AQ_TRY(map(l, n, index, out));
    else
        return aq_low_refuse(l, value, "%s has no place inside of a region: expected the passes to open it or leave it alone",
                             aq_op_of(n->op)->name);
    if (l->n->exprs.at[*out].kind == AQ_EXPR_OP && (l->value[value].uses > 1 || aq_low_level_of(l, out, 1) < l->depth))
        AQ_TRY(let_of(l, value, *out, out));
    return aq_low_remember(l, value, index, v->type.rank, *out);
}

aq_status aq_low_at(aq_lower_state *l, aq_id value, const aq_id *index, aq_id *out) {
    return l->value[value].buf ? load(l, value, index, out) : aq_low_compute(l, value, index, out);
}
