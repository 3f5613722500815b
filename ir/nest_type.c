/* nest_type.c: the expressions of a nest: are they whole, what type and which axes has each.
 *
 * Types: f32 for numbers, i32 for subscripts, a block type for a load from a buffer of blocks and for `quantize`. An i32 is promoted
 * where an f32 stands beside it; a constant that is a whole number is an i32, so `mul(%a, 2)` and `add(t, 1)` both read as meant. */
#include "ir/nest_check.h"
#include "ir/rope.h"

#include <math.h>
#include <string.h>

const aq_attr *aq_nest_attr(const aq_nest *n, const aq_expr *e, aq_attr_key key) {
    for (int i = 0; i < e->n_attr; i++)
        if (n->attrs.at[e->attr + i].key == key)
            return &n->attrs.at[e->attr + i];
    return NULL;
}

static aq_status bad(const nest_check *c, aq_id id, const char *what, const char *expected) {
    const aq_expr *e = &c->n->exprs.at[id];
    if (e->kind == AQ_EXPR_OP)
        return aq_fail(AQ_REFUSED, c->place, "%s: %s: expected %s", aq_op_of(e->op)->name, what, expected);
    return aq_fail(AQ_REFUSED, c->place, "expression %u: %s: expected %s", id, what, expected);
}

static aq_status check_op(const nest_check *c, aq_id id) {
    const aq_expr *e = &c->n->exprs.at[id];
    if (e->op <= AQ_OP_NONE || e->op >= AQ_OP_COUNT)
        return aq_fail(AQ_REFUSED, c->place, "expression %u: op %d does not exist", id, (int)e->op);
    const aq_op_info *info = aq_op_of(e->op);
    if (!(info->traits & AQ_MAP) && e->op != AQ_OP_dot)
        return bad(c, id, "not an op of nests", "an element-wise op or dot");
    if (e->n_in != info->arity)
        return bad(c, id, "wrong number of inputs", "as many as ops.def says");
    if (e->n_attr && (e->attr == 0 || e->attr >= c->n->attrs.n || e->n_attr > c->n->attrs.n - e->attr))
        return bad(c, id, "attributes out of range", "attributes of this nest");
    return AQ_OK;
}

static aq_status check_one(const nest_check *c, aq_id id, const uint8_t *depth) {
    const aq_nest *n = c->n;
    const aq_expr *e = &n->exprs.at[id];
    if (e->n_in > AQ_MAX_RANK)
        return bad(c, id, "too many inputs", "at most 4");
    for (int i = 0; i < e->n_in; i++) {
        if (e->in[i] == 0 || e->in[i] >= id)
            return bad(c, id, "an input is not an earlier expression", "parts before wholes");
        if (depth[e->in[i]] >= MAX_EXPR_DEPTH)
            return bad(c, id, "nested too deeply", "at most 64 levels");
    }
    switch (e->kind) {
    case AQ_EXPR_CONST:
        return isnan(e->number) ? bad(c, id, "not a number", "a number or inf") : AQ_OK;
    case AQ_EXPR_AXIS:
        return e->axis == 0 || e->axis >= n->axes.n ? bad(c, id, "no such axis", "an axis of the nest") : AQ_OK;
    case AQ_EXPR_DIM:
        return e->dim.sym && e->dim.sym >= n->module->syms.n ? bad(c, id, "no such symbol", "a symbol of the module") : AQ_OK;
    case AQ_EXPR_TILE:
    case AQ_EXPR_PART:
        return e->tile == 0 || e->tile >= n->tiles.n ? bad(c, id, "no such tile", "a let or an accumulator") : AQ_OK;
    case AQ_EXPR_LOAD:
        if (e->buf == 0 || e->buf >= n->bufs.n)
            return bad(c, id, "no such buffer", "a buffer of the nest");
        if (e->n_in != n->bufs.at[e->buf].type.rank)
            return aq_fail(AQ_REFUSED, c->place, "%s: %d subscripts: expected %d", n->bufs.at[e->buf].name, e->n_in,
                           n->bufs.at[e->buf].type.rank);
        return AQ_OK;
    case AQ_EXPR_OP:
        return check_op(c, id);
    }
    return bad(c, id, "unknown kind", "one of aq_expr_kind");
}

aq_status aq_check_exprs(nest_check *c) {
    /* Depths fit the byte because nothing deeper than the limit passes. typed[] is free until typing starts. */
    uint8_t *depth = c->typed;
    for (aq_id id = 1; id < c->n->exprs.n; id++) {
        AQ_TRY(check_one(c, id, depth));
        const aq_expr *e = &c->n->exprs.at[id];
        uint8_t d = 0;
        for (int i = 0; i < e->n_in; i++)
            d = depth[e->in[i]] > d ? depth[e->in[i]] : d;
        depth[id] = (uint8_t)(d + 1);
    }
    memset(c->typed, 0, c->n->exprs.n);
    return AQ_OK;
}

static aq_status add_axes(const nest_check *c, aq_id id, aq_expr *e, const uint8_t *axes, int n) {
    for (int i = 0; i < n; i++) {
        int at = 0;
        while (at < e->n_axes && e->axes[at] < axes[i])
            at++;
        if (at < e->n_axes && e->axes[at] == axes[i])
            continue;
        if (e->n_axes == AQ_MAX_TILE_AXES)
            return bad(c, id, "too many axes", "at most 8");
        memmove(e->axes + at + 1, e->axes + at, (size_t)(e->n_axes - at));
        e->axes[at] = axes[i];
        e->n_axes++;
    }
    return AQ_OK;
}

/* -0 is no integer: neg and mul would lose its sign. */
static int is_whole(double x) {
    return x == rint(x) && fabs(x) <= INT32_MAX && !(x == 0 && signbit(x));
}

static aq_dtype promoted(aq_dtype a, aq_dtype b) {
    return a == AQ_I32 && b == AQ_I32 ? AQ_I32 : AQ_F32;
}

static aq_status type_dot(const nest_check *c, aq_id id, aq_dtype a, aq_dtype b) {
    aq_dtype_kind ka = aq_dtype_of(a)->kind, kb = aq_dtype_of(b)->kind;
    if ((ka == AQ_KIND_ACT) != (kb == AQ_KIND_WEIGHT) || (ka == AQ_KIND_WEIGHT) != (kb == AQ_KIND_ACT))
        return bad(c, id, "block types do not pair", "a weight type with an activation type, or plain types");
    if (ka == AQ_KIND_ACT || kb == AQ_KIND_ACT)
        for (int i = 0; i < 2; i++)
            if (c->n->exprs.at[c->n->exprs.at[id].in[i]].kind != AQ_EXPR_LOAD)
                return bad(c, id, "blocks that are no load", "blocks straight from buffers");
    return AQ_OK;
}

static aq_status type_rope(nest_check *c, aq_id id) {
    const aq_nest *n = c->n;
    const aq_expr *e = &n->exprs.at[id], *x = &n->exprs.at[e->in[0]], *pos = &n->exprs.at[e->in[1]];
    if (x->n_axes == 0 || pos->dtype != AQ_I32)
        return bad(c, id, "wrong inputs", "a tile and an i32 position");
    uint8_t axis = x->axes[x->n_axes - 1];
    if (memchr(pos->axes, axis, pos->n_axes))
        return bad(c, id, "the position varies along the last axis", "one position for the whole row");
    const aq_attr *dim = aq_nest_attr(n, e, AQ_ATTR_dim);
    double size = dim && dim->num > 0 ? dim->num : n->axes.at[axis].extent.sym ? 0 : (double)n->axes.at[axis].extent.k;
    if (!(size >= 2 && size <= 65536) || size != 2 * floor(size / 2))
        return bad(c, id, "the size of a head is wrong", "an even number up to 65536 in dim");
    aq_rope r = aq_rope_of_expr(n, e);
    const char *expected = aq_nest_attr(n, e, AQ_ATTR_theta) ? aq_rope_wrong(&r) : "theta";
    return expected ? bad(c, id, "an attribute is missing or out of range", expected) : AQ_OK;
}

static aq_status type_op(nest_check *c, aq_id id) {
    aq_expr *e = &c->n->exprs.at[id];
    aq_dtype a = c->n->exprs.at[e->in[0]].dtype, b = e->n_in > 1 ? c->n->exprs.at[e->in[1]].dtype : a;
    const aq_attr *to = aq_nest_attr(c->n, e, AQ_ATTR_dtype);
    if (e->op != AQ_OP_dot && e->op != AQ_OP_cast)
        for (int i = 0; i < e->n_in; i++) {
            aq_dtype t = c->n->exprs.at[e->in[i]].dtype;
            if (t != AQ_F32 && t != AQ_I32)
                return bad(c, id, "reads a block type", "cast or dot");
        }
    e->dtype = AQ_F32;
    switch (e->op) {
    case AQ_OP_add:
    case AQ_OP_sub:
    case AQ_OP_mul:
    case AQ_OP_maximum:
    case AQ_OP_minimum:
    case AQ_OP_le:
        e->dtype = promoted(a, b);
        return AQ_OK;
    case AQ_OP_neg:
        e->dtype = a;
        return AQ_OK;
    case AQ_OP_select:
        e->dtype = promoted(b, c->n->exprs.at[e->in[2]].dtype);
        return AQ_OK;
    case AQ_OP_idiv:
    case AQ_OP_imod:
        e->dtype = AQ_I32;
        return a == AQ_I32 && b == AQ_I32 ? AQ_OK : bad(c, id, "a float", "i32 on both sides");
    case AQ_OP_cast:
        if (!to || to->num < 1 || to->num >= AQ_DTYPE_COUNT || aq_dtype_of((aq_dtype)to->num)->block != 1)
            return bad(c, id, "no such type to cast to", "dtype= a plain type");
        e->dtype = aq_dtype_of((aq_dtype)to->num)->kind == AQ_KIND_INT ? AQ_I32 : AQ_F32;
        return AQ_OK;
    case AQ_OP_quantize:
        if (!to || (to->num != AQ_A8 && to->num != AQ_A16))
            return bad(c, id, "no such type to quantize to", "dtype=a8 or a16");
        e->dtype = (aq_dtype)to->num;
        return AQ_OK;
    case AQ_OP_dot:
        return type_dot(c, id, a, b);
    case AQ_OP_rope:
        return type_rope(c, id);
    default:
        return AQ_OK;
    }
}

static aq_status type_tile(nest_check *c, aq_id id) {
    aq_expr *e = &c->n->exprs.at[id];
    const aq_tile *t = &c->n->tiles.at[e->tile];
    if (c->tile_dtype[e->tile] == AQ_DTYPE_NONE)
        return aq_fail(AQ_REFUSED, c->place, "%s is read before it is declared", t->name);
    int is_part = e->kind == AQ_EXPR_PART;
    if (is_part && (!t->is_acc || e->part >= aq_monoid_of(t->monoid)->parts))
        return aq_fail(AQ_REFUSED, c->place, "%s has no part %d", t->name, e->part);
    e->dtype = is_part ? (t->monoid == AQ_MONOID_argmax && e->part == 1 ? AQ_I32 : AQ_F32) : c->tile_dtype[e->tile];
    int lacks_e = is_part && t->monoid == AQ_MONOID_attend && e->part < 2;
    return add_axes(c, id, e, t->axes, t->n_axes - lacks_e);
}

static aq_status type_load(nest_check *c, aq_id id) {
    aq_expr *e = &c->n->exprs.at[id];
    const aq_nest_buf *b = &c->n->bufs.at[e->buf];
    for (int i = 0; i < e->n_in; i++)
        if (c->n->exprs.at[e->in[i]].dtype != AQ_I32)
            return aq_fail(AQ_REFUSED, c->place, "%s: subscript %d is no integer: expected i32", b->name, i);
    aq_dtype_kind kind = aq_dtype_of(b->type.dtype)->kind;
    e->dtype = kind == AQ_KIND_FLOAT ? AQ_F32 : kind == AQ_KIND_INT ? AQ_I32 : b->type.dtype;
    return AQ_OK;
}

aq_status aq_check_type(nest_check *c, aq_id id) {
    if (c->typed[id])
        return AQ_OK;
    aq_expr *e = &c->n->exprs.at[id];
    e->n_axes = 0;
    for (int i = 0; i < e->n_in; i++) {
        AQ_TRY(aq_check_type(c, e->in[i]));
        AQ_TRY(add_axes(c, id, e, c->n->exprs.at[e->in[i]].axes, c->n->exprs.at[e->in[i]].n_axes));
    }
    uint8_t axis = (uint8_t)e->axis;
    switch (e->kind) {
    case AQ_EXPR_CONST:
        e->dtype = is_whole(e->number) ? AQ_I32 : AQ_F32;
        break;
    case AQ_EXPR_AXIS:
        e->dtype = AQ_I32;
        AQ_TRY(add_axes(c, id, e, &axis, 1));
        break;
    case AQ_EXPR_DIM:
        e->dtype = AQ_I32;
        break;
    case AQ_EXPR_TILE:
    case AQ_EXPR_PART:
        AQ_TRY(type_tile(c, id));
        break;
    case AQ_EXPR_LOAD:
        AQ_TRY(type_load(c, id));
        break;
    case AQ_EXPR_OP:
        AQ_TRY(type_op(c, id));
        break;
    }
    c->typed[id] = 1;
    return AQ_OK;
}

/* Every start of the loops over `axis` here is a multiple of what all their steps are multiples of. */
static int axis_multiple(const nest_check *c, aq_id axis, int64_t m) {
    for (int i = 0; i < c->depth; i++) {
        const aq_stmt *s = &c->n->stmts.at[c->loop[i]];
        if (s->axis == axis && s->step % m)
            return 0;
    }
    return 1;
}

int aq_check_multiple(const nest_check *c, aq_id id, int64_t m) {
    const aq_expr *e = &c->n->exprs.at[id];
    switch (e->kind) {
    case AQ_EXPR_CONST:
        return e->number == (double)m * rint(e->number / (double)m);
    case AQ_EXPR_DIM:
        return e->dim.k % m == 0;
    case AQ_EXPR_OP:
        if (e->op == AQ_OP_mul)
            return aq_check_multiple(c, e->in[0], m) || aq_check_multiple(c, e->in[1], m);
        if (e->op == AQ_OP_add || e->op == AQ_OP_sub)
            return aq_check_multiple(c, e->in[0], m) && aq_check_multiple(c, e->in[1], m);
        return 0;
    default:
        return 0;
    }
}

int aq_check_block_index(const nest_check *c, aq_id id, aq_id *out_axis) {
    const aq_expr *e = &c->n->exprs.at[id];
    if (e->kind == AQ_EXPR_AXIS && axis_multiple(c, e->axis, 32)) {
        *out_axis = e->axis;
        return 1;
    }
    if (e->kind != AQ_EXPR_OP || e->op != AQ_OP_add)
        return 0;
    return (aq_check_multiple(c, e->in[0], 32) && aq_check_block_index(c, e->in[1], out_axis)) ||
           (aq_check_multiple(c, e->in[1], 32) && aq_check_block_index(c, e->in[0], out_axis));
}
