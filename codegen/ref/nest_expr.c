/* nest_expr.c: the value of an expression at the element at hand, in f64; only cast rounds. Subscripts are checked at every load: a nest
 * that reads outside of a buffer fails here with the buffer's name, on every machine alike. */
#include "codegen/ref/nest.h"

#include "codegen/ref/map.h"
#include "ir/memory.h"

#include <math.h>
#include <string.h>

size_t aq_ref_tile_index(const aq_ref_nest *r, aq_id id, int without_e) {
    const aq_tile *t = &r->n->tiles.at[id];
    const aq_ref_tile *v = &r->tile[id];
    size_t flat = 0;
    for (int i = 0; i < t->n_axes; i++) {
        int64_t k = without_e && i == t->n_axes - 1 ? 0 : r->at[t->axes[i]] - v->lo[i];
        flat = flat * (size_t)v->count[i] + (size_t)k;
    }
    return flat;
}

aq_status aq_ref_nest_index(aq_ref_nest *r, aq_id buf, const aq_id *ids, int n, int64_t *index, size_t *flat) {
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        double x = aq_ref_nest_eval(r, ids[i]);
        if (!(x >= 0 && x < (double)r->dim[buf][i])) {
            r->status = aq_fail(AQ_CHECK_FAILED, r->n->name, "subscript %d of %s is %.0f: expected 0 to %lld", i, r->n->bufs.at[buf].name,
                                x, (long long)r->dim[buf][i] - 1);
            return r->status;
        }
        index[i] = (int64_t)x;
        at = at * (size_t)r->dim[buf][i] + (size_t)index[i];
    }
    if (flat)
        *flat = at;
    return r->status;
}

static double load(aq_ref_nest *r, const aq_expr *e) {
    const aq_nest_buf *b = &r->n->bufs.at[e->buf];
    int64_t index[AQ_MAX_RANK];
    if (aq_ref_nest_index(r, e->buf, e->in, e->n_in, index, NULL))
        return NAN;
    return aq_layout_get(b->layout, b->type.dtype, r->dim[e->buf], b->type.rank, index, r->buf[e->buf]);
}

/* A tile's value: a let as it is, an accumulator finished. */
static double finished(aq_ref_nest *r, const aq_expr *e) {
    const aq_tile *t = &r->n->tiles.at[e->tile];
    const aq_ref_tile *v = &r->tile[e->tile];
    size_t i = aq_ref_tile_index(r, e->tile, 0), n = v->elements;
    if (!t->is_acc)
        return v->value[i];
    switch (t->monoid) {
    case AQ_MONOID_argmax:
        return v->value[n + i];
    case AQ_MONOID_lse:
        return v->value[i] + log(v->value[n + i]);
    case AQ_MONOID_attend: {
        double l = v->value[n + aq_ref_tile_index(r, e->tile, 1)];
        return l == 0 ? 0 : v->value[2 * n + i] / l;
    }
    default:
        return v->value[i];
    }
}

static double part(aq_ref_nest *r, const aq_expr *e) {
    const aq_tile *t = &r->n->tiles.at[e->tile];
    const aq_ref_tile *v = &r->tile[e->tile];
    return v->value[e->part * v->elements + aq_ref_tile_index(r, e->tile, t->monoid == AQ_MONOID_attend && e->part < 2)];
}

static double attr(const aq_ref_nest *r, const aq_expr *e, aq_attr_key key, double otherwise) {
    const aq_attr *a = aq_nest_attr(r->n, e, key);
    return a ? a->num : otherwise;
}

/* Pairs (2i, 2i+1) of each group of `dim` elements along the last axis of x turn by their angle (ir/rope.h). */
static double rope(aq_ref_nest *r, const aq_expr *e) {
    const aq_expr *x = &r->n->exprs.at[e->in[0]];
    uint8_t axis = x->axes[x->n_axes - 1];
    int64_t at = r->at[axis], whole = aq_dim_eval(r->n->axes.at[axis].extent, r->sym);
    aq_rope turn = aq_rope_of_expr(r->n, e);
    double c, s;
    turn.dim = turn.dim ? turn.dim : whole;
    aq_ref_rope_turn(&turn, at % turn.dim / 2, aq_ref_nest_eval(r, e->in[1]), &c, &s);
    r->at[axis] = at & ~(int64_t)1;
    double even = aq_ref_nest_eval(r, e->in[0]);
    r->at[axis] = at | 1;
    double odd = aq_ref_nest_eval(r, e->in[0]);
    r->at[axis] = at;
    return at & 1 ? even * s + odd * c : even * c - odd * s;
}

static double cast(double x, aq_dtype t) {
    unsigned char bytes[8];
    const int64_t one = 1, zero = 0;
    aq_layout_set(AQ_LAYOUT_ROWS, t, &one, 1, &zero, bytes, x);
    return aq_layout_get(AQ_LAYOUT_ROWS, t, &one, 1, &zero, bytes);
}

static double larger(double a, double b) {
    return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
}
static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static double operation(aq_ref_nest *r, const aq_expr *e) {
    if (e->op == AQ_OP_rope)
        return rope(r, e);
    double x[AQ_MAX_IN] = {0};
    for (int i = 0; i < e->n_in; i++)
        x[i] = aq_ref_nest_eval(r, e->in[i]);
    switch (e->op) {
    case AQ_OP_add:
        return x[0] + x[1];
    case AQ_OP_sub:
        return x[0] - x[1];
    case AQ_OP_mul:
    case AQ_OP_dot:
        return x[0] * x[1];
    case AQ_OP_div:
        return x[0] / x[1];
    case AQ_OP_maximum:
        return larger(x[0], x[1]);
    case AQ_OP_minimum:
        return -larger(-x[0], -x[1]);
    case AQ_OP_neg:
        return -x[0];
    case AQ_OP_exp:
        return exp(x[0]);
    case AQ_OP_log:
        return log(x[0]);
    case AQ_OP_sqrt:
        return sqrt(x[0]);
    case AQ_OP_rsqrt:
        return 1 / sqrt(x[0]);
    case AQ_OP_sigmoid:
        return sigmoid(x[0]);
    case AQ_OP_silu:
        return x[0] * sigmoid(x[0]);
    case AQ_OP_tanh:
        return tanh(x[0]);
    case AQ_OP_le:
        return x[0] <= x[1];
    case AQ_OP_select:
        return x[0] != 0 ? x[1] : x[2];
    case AQ_OP_idiv:
        return floor(x[0] / x[1]);
    case AQ_OP_imod:
        return x[0] - x[1] * floor(x[0] / x[1]);
    case AQ_OP_cast:
        return cast(x[0], (aq_dtype)attr(r, e, AQ_ATTR_dtype, AQ_F32));
    default:
        r->status = aq_fail(AQ_CHECK_FAILED, r->n->name, "%s inside an expression: expected a checked nest", aq_op_of(e->op)->name);
        return NAN;
    }
}

double aq_ref_nest_eval(aq_ref_nest *r, aq_id id) {
    const aq_expr *e = &r->n->exprs.at[id];
    switch (e->kind) {
    case AQ_EXPR_CONST:
        return e->number;
    case AQ_EXPR_AXIS:
        return (double)r->at[e->axis];
    case AQ_EXPR_DIM:
        return (double)aq_dim_eval(e->dim, r->sym);
    case AQ_EXPR_TILE:
        return finished(r, e);
    case AQ_EXPR_PART:
        return part(r, e);
    case AQ_EXPR_LOAD:
        return load(r, e);
    case AQ_EXPR_OP:
        return operation(r, e);
    }
    return NAN;
}

aq_status aq_ref_poison(aq_ref_nest *r, aq_buf_role role) {
    for (aq_id i = 1; i < r->n->bufs.n; i++) {
        const aq_nest_buf *b = &r->n->bufs.at[i];
        size_t bytes;
        if (b->role != role)
            continue;
        AQ_TRY(aq_layout_bytes(b->layout, b->type.dtype, r->dim[i], b->type.rank, b->name, &bytes));
        if (!r->buf[i])
            AQ_TRY(aq_arena_alloc(&r->arena, bytes + 1, 1, &r->buf[i]));
        memset(r->buf[i], 0xff, bytes);
    }
    return AQ_OK;
}
