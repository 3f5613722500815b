/* emit_index.c: subscripts. Almost every subscript is affine in the vector's lane: the address of the first lane is a number, the others
 * follow at a fixed distance, and constants become displacements of the instructions. So expressions of integers are evaluated into ix
 * (var + c + coef * lane) as long as that is what they are, dividing by a page or panel size included, which is where knowing that a loop
 * begins at a multiple of something pays. Anything else becomes a vector of integers, and the load a gather. */
#include "codegen/cpu/emit.h"

#include <string.h>

static int64_t common(int64_t a, int64_t b) {
    a = a < 0 ? -a : a;
    b = b < 0 ? -b : b;
    while (b) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

enum { VERY = 1 << 20 }; /* the alignment of 0 */

aq_id aq_emit_lane_axis(const emitter *e, const uint8_t *axes, int n) {
    for (int i = 0; i < n; i++)
        if (e->cover[axes[i]].lanes)
            return axes[i];
    return 0;
}
aq_id aq_emit_expr_lanes(const emitter *e, aq_id expr) {
    return aq_emit_lane_axis(e, e->n->exprs.at[expr].axes, e->n->exprs.at[expr].n_axes);
}

ix aq_emit_ix_const(int64_t c) {
    return (ix){.c = c, .align = VERY, .nonneg = c >= 0};
}
ix aq_emit_ix_value(val var, int64_t align, int nonneg) {
    return (ix){.var = var, .align = align, .nonneg = nonneg};
}
int64_t aq_emit_ix_align(ix a) {
    return a.vec ? 1 : common(common(a.align, a.c), a.turn ? a.stride : 0);
}
static int is_const(ix a) {
    return !a.var && !a.turn && !a.vec && !a.coef;
}

static val plus(emitter *e, val a, val b) {
    return !a ? b : !b ? a : e->l->BuildAdd(e->b, a, b, "");
}

/* turn * stride folded into var. */
static ix settle(emitter *e, ix a) {
    if (!a.turn)
        return a;
    a.align = common(a.align, a.stride);
    a.var = plus(e, a.var, a.stride == 1 ? a.turn : e->l->BuildMul(e->b, a.turn, k64(e, a.stride), ""));
    a.turn = NULL;
    return a;
}

val aq_emit_ix_scalar(emitter *e, ix a) {
    a = settle(e, a);
    if (!a.var)
        return k64(e, a.c);
    return a.c ? e->l->BuildAdd(e->b, a.var, k64(e, a.c), "") : a.var;
}

val aq_emit_ix_vector(emitter *e, ix a, int lanes) {
    if (a.vec)
        return a.vec;
    val v = aq_emit_splat(e, aq_emit_ix_scalar(e, a), lanes);
    if (!a.coef)
        return v;
    val numbers = aq_emit_lane_numbers(e, e->i64, lanes);
    if (a.coef != 1)
        numbers = e->l->BuildMul(e->b, numbers, aq_emit_splat(e, k64(e, a.coef), lanes), "");
    return e->l->BuildAdd(e->b, v, numbers, "");
}

static ix from_vector(val v) {
    return (ix){.vec = v, .align = 1};
}

typedef val (*binary)(LLVMBuilderRef, val, val, const char *);

static ix by_vector(emitter *e, binary f, ix a, ix b) {
    int lanes = a.vec ? lanes_of(e, a.vec) : b.vec ? lanes_of(e, b.vec) : 0;
    return from_vector(f(e->b, aq_emit_ix_vector(e, a, lanes), aq_emit_ix_vector(e, b, lanes), ""));
}

ix aq_emit_ix_add(emitter *e, ix a, ix b) {
    if (a.vec || b.vec)
        return by_vector(e, e->l->BuildAdd, a, b);
    if (a.turn && b.turn && a.turn != b.turn) /* what belongs to the outer loop becomes var; either order is right */
        a = settle(e, a);
    ix r = {.c = a.c + b.c, .coef = a.coef + b.coef, .align = common(a.align, b.align), .nonneg = a.nonneg && b.nonneg};
    r.turn = a.turn ? a.turn : b.turn;
    r.stride = (a.turn ? a.stride : 0) + (b.turn ? b.stride : 0);
    r.var = plus(e, a.var, b.var);
    return r;
}

static ix times_const(emitter *e, ix a, int64_t k) {
    if (a.vec)
        return from_vector(e->l->BuildMul(e->b, a.vec, aq_emit_splat(e, k64(e, k), lanes_of(e, a.vec)), ""));
    if (k == 0)
        return aq_emit_ix_const(0);
    ix r = {.c = a.c * k, .coef = a.coef * k, .align = a.align > VERY ? a.align : a.align * (k < 0 ? -k : k), .nonneg = a.nonneg && k >= 0};
    if (r.align > (int64_t)1 << 40)
        r.align = common(r.align, (int64_t)1 << 40);
    r.var = !a.var || k == 1 ? a.var : e->l->BuildMul(e->b, a.var, k64(e, k), "");
    r.turn = a.turn;
    r.stride = a.stride * k;
    return r;
}

ix aq_emit_ix_mul(emitter *e, ix a, ix b) {
    if (is_const(a))
        return times_const(e, b, a.c);
    if (is_const(b))
        return times_const(e, a, b.c);
    if (a.vec || b.vec)
        return by_vector(e, e->l->BuildMul, a, b);
    if (a.coef || b.coef) { /* a lane distance that is no constant */
        a.vec = aq_emit_ix_vector(e, a, e->lanes);
        return by_vector(e, e->l->BuildMul, a, b);
    }
    val p = e->l->BuildMul(e->b, aq_emit_ix_scalar(e, a), aq_emit_ix_scalar(e, b), "");
    return aq_emit_ix_value(p, aq_emit_ix_align(a) * aq_emit_ix_align(b) > VERY ? VERY : aq_emit_ix_align(a) * aq_emit_ix_align(b),
                            a.nonneg && b.nonneg);
}

/* floor(a / m) or the rest, of numbers or vectors of i64. */
static val floor_div(emitter *e, val a, val m, int nonneg, int want_rest) {
    if (nonneg)
        return want_rest ? e->l->BuildURem(e->b, a, m, "") : e->l->BuildUDiv(e->b, a, m, "");
    val zero = e->l->ConstNull(e->l->TypeOf(a)), q = e->l->BuildSDiv(e->b, a, m, ""), rest = e->l->BuildSRem(e->b, a, m, "");
    val below = e->l->BuildICmp(e->b, LLVMIntSLT, rest, zero, "");
    if (want_rest)
        return e->l->BuildAdd(e->b, rest, e->l->BuildSelect(e->b, below, m, zero, ""), "");
    return e->l->BuildAdd(e->b, q, e->l->BuildSExt(e->b, below, e->l->TypeOf(a), ""), "");
}

/* One for both: a = m * (a / m) + a % m. */
static ix divide(emitter *e, ix a, int64_t m, int lanes, int want_rest) {
    if (is_const(a)) {
        int64_t rest = (a.c % m + m) % m;
        return aq_emit_ix_const(want_rest ? rest : (a.c - rest) / m);
    }
    if (a.vec)
        return from_vector(floor_div(e, a.vec, aq_emit_splat(e, k64(e, m), lanes_of(e, a.vec)), 0, want_rest));
    /* var is a multiple of `grain`, which divides m: var + c and all lanes lie in the same group of m as var, if they reach less far. */
    if (a.turn && a.stride % m == 0 && a.nonneg) { /* turn * stride / m is exact */
        ix rest = a;
        rest.turn = NULL;
        rest = divide(e, rest, m, lanes, want_rest);
        if (!want_rest && !rest.vec) {
            rest.turn = a.turn;
            rest.stride = a.stride / m;
        }
        if (!rest.vec)
            return rest;
    }
    a = settle(e, a);
    int64_t grain = common(a.align, m), reach = a.coef * (lanes ? lanes - 1 : 0);
    if (a.c >= 0 && a.coef >= 0 && (grain == m ? a.c % m : a.c) + reach < grain) {
        if (want_rest && grain == m)
            return (ix){.c = a.c % m, .coef = a.coef, .align = VERY, .nonneg = 1};
        ix r = {.c = want_rest ? a.c : a.c / m,
                .coef = want_rest ? a.coef : 0,
                .align = want_rest ? grain : a.align / m,
                .nonneg = a.nonneg || want_rest};
        r.align = r.align ? r.align : 1;
        r.var = a.var ? floor_div(e, a.var, k64(e, m), a.nonneg, want_rest) : NULL;
        return r;
    }
    int whole = a.coef == 0 || (a.coef == 1 && lanes && m % lanes == 0 && aq_emit_ix_align(a) % lanes == 0);
    if (whole) { /* all lanes in the same group of m */
        val s = aq_emit_ix_scalar(e, a);
        ix r = aq_emit_ix_value(floor_div(e, s, k64(e, m), a.nonneg, want_rest), 1, a.nonneg || want_rest);
        if (want_rest) {
            r.align = common(aq_emit_ix_align(a), m);
            r.coef = a.coef;
        }
        return r;
    }
    a.vec = aq_emit_ix_vector(e, a, lanes);
    return divide(e, a, m, lanes, want_rest);
}

ix aq_emit_ix_div(emitter *e, ix a, int64_t m) {
    return divide(e, a, m, e->lanes, 0);
}
ix aq_emit_ix_mod(emitter *e, ix a, int64_t m) {
    return divide(e, a, m, e->lanes, 1);
}

/* --- expressions ----------------------------------------------------------------------------------------------------------------- */

/* The index along an axis. Past a cut it stays on the last element inside (numbers) or at the last vector's start (lanes), so that no
 * address leaves its buffer. */
ix aq_emit_axis_index(emitter *e, aq_id axis) {
    const cover *c = &e->cover[axis];
    int64_t u = e->at[axis];
    if (c->turn && (!c->end || u == 0)) {
        ix r = {.var = c->lo,
                .turn = c->turn,
                .stride = c->stride,
                .c = c->first + (c->lanes ? u * c->lanes : u),
                .coef = c->lanes ? 1 : 0,
                .align = c->lo_align,
                .nonneg = 1};
        if (!c->lo || (e->l->IsConstant(c->lo) && !e->l->ConstIntGetZExtValue(c->lo)))
            r.var = NULL, r.align = VERY;
        return r;
    }
    ix r = {.var = c->base, .c = c->lanes ? u * c->lanes : u, .coef = c->lanes ? 1 : 0, .align = c->align, .nonneg = 1};
    if (e->l->IsConstant(c->base))
        r = (ix){.c = (int64_t)e->l->ConstIntGetZExtValue(c->base) + r.c, .coef = r.coef, .align = VERY, .nonneg = 1};
    if (!c->end || u == 0)
        return r;
    val last = e->l->BuildSub(e->b, c->end, k64(e, 1), "");
    if (c->lanes)
        last = e->l->BuildAnd(e->b, last, k64(e, -(int64_t)c->lanes), "");
    val at = aq_emit_ix_scalar(e, r);
    at = e->l->BuildSelect(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, at, last, ""), at, last, "");
    return (ix){.var = at, .coef = r.coef, .align = c->lanes ? common(c->align, c->lanes) : 1, .nonneg = 1};
}

static ix from_value(emitter *e, val v) {
    if (e->l->GetTypeKind(e->l->TypeOf(v)) == LLVMFloatTypeKind)
        return aq_emit_ix_const((aq_emit_refuse(e, "a float as a subscript", "i32"), 0));
    int lanes = lanes_of(e, v);
    val w = e->l->BuildSExt(e->b, v, wide(e, e->i64, lanes), "");
    return lanes ? from_vector(w) : aq_emit_ix_value(w, 1, 0);
}

static ix compare(emitter *e, const aq_expr *x, ix a, ix b) {
    int lanes = e->lanes, vector = a.vec || b.vec || a.coef || b.coef;
    val va = vector ? aq_emit_ix_vector(e, a, lanes) : aq_emit_ix_scalar(e, a),
        vb = vector ? aq_emit_ix_vector(e, b, lanes) : aq_emit_ix_scalar(e, b);
    LLVMIntPredicate p = x->op == AQ_OP_maximum ? LLVMIntSGT : x->op == AQ_OP_minimum ? LLVMIntSLT : LLVMIntSLE;
    val yes = e->l->BuildICmp(e->b, p, va, vb, ""), r;
    r = x->op == AQ_OP_le ? e->l->BuildZExt(e->b, yes, e->l->TypeOf(va), "") : e->l->BuildSelect(e->b, yes, va, vb, "");
    return vector ? from_vector(r) : aq_emit_ix_value(r, 1, x->op == AQ_OP_le || (a.nonneg && b.nonneg));
}

static ix choose(emitter *e, const aq_expr *x) {
    ix b = aq_emit_index(e, x->in[1]), c = aq_emit_index(e, x->in[2]);
    val test = aq_emit_eval(e, x->in[0]);
    int lanes = lanes_of(e, test), vector = b.vec || c.vec || b.coef || c.coef || lanes;
    if (vector && !lanes)
        lanes = e->lanes;
    int is_float = e->n->exprs.at[x->in[0]].dtype == AQ_F32;
    val zero = e->l->ConstNull(e->l->TypeOf(test));
    val yes = is_float ? e->l->BuildFCmp(e->b, LLVMRealUNE, test, zero, "") : e->l->BuildICmp(e->b, LLVMIntNE, test, zero, "");
    if (vector) {
        yes = aq_emit_splat(e, yes, lanes);
        return from_vector(e->l->BuildSelect(e->b, yes, aq_emit_ix_vector(e, b, lanes), aq_emit_ix_vector(e, c, lanes), ""));
    }
    return aq_emit_ix_value(e->l->BuildSelect(e->b, yes, aq_emit_ix_scalar(e, b), aq_emit_ix_scalar(e, c), ""), 1, b.nonneg && c.nonneg);
}

static ix op_index(emitter *e, const aq_expr *x) {
    if (x->op == AQ_OP_select)
        return choose(e, x);
    if (x->op == AQ_OP_cast)
        return e->n->exprs.at[x->in[0]].dtype == AQ_I32 && aq_nest_attr(e->n, x, AQ_ATTR_dtype)->num == AQ_I32
                   ? aq_emit_index(e, x->in[0])
                   : from_value(e, aq_emit_cast(e, x));
    ix a = aq_emit_index(e, x->in[0]), b = x->n_in > 1 ? aq_emit_index(e, x->in[1]) : a;
    switch (x->op) {
    case AQ_OP_add:
        return aq_emit_ix_add(e, a, b);
    case AQ_OP_sub:
        return aq_emit_ix_add(e, a, times_const(e, b, -1));
    case AQ_OP_neg:
        return times_const(e, a, -1);
    case AQ_OP_mul:
        return aq_emit_ix_mul(e, a, b);
    case AQ_OP_maximum:
    case AQ_OP_minimum:
    case AQ_OP_le:
        return compare(e, x, a, b);
    case AQ_OP_idiv:
    case AQ_OP_imod:
        if (is_const(b) && b.c > 0)
            return divide(e, a, b.c, e->lanes, x->op == AQ_OP_imod);
        if (a.vec || b.vec || a.coef || b.coef) {
            int lanes = e->lanes;
            return from_vector(floor_div(e, aq_emit_ix_vector(e, a, lanes), aq_emit_ix_vector(e, b, lanes), 0, x->op == AQ_OP_imod));
        }
        return aq_emit_ix_value(floor_div(e, aq_emit_ix_scalar(e, a), aq_emit_ix_scalar(e, b), 0, x->op == AQ_OP_imod), 1,
                                a.nonneg && b.nonneg);
    default:
        return aq_emit_ix_const((aq_emit_refuse(e, aq_op_of(x->op)->name, "no such op on integers"), 0));
    }
}

ix aq_emit_index(emitter *e, aq_id id) {
    const aq_expr *x = &e->n->exprs.at[id];
    aq_id axis = aq_emit_expr_lanes(e, id);
    if (axis)
        e->lanes = e->cover[axis].lanes;
    switch (x->kind) {
    case AQ_EXPR_CONST:
        return aq_emit_ix_const((int64_t)x->number);
    case AQ_EXPR_AXIS:
        return aq_emit_axis_index(e, x->axis);
    case AQ_EXPR_DIM:
        return x->dim.sym ? aq_emit_ix_value(aq_emit_dim(e, x->dim), 1, 1) : aq_emit_ix_const(x->dim.k);
    case AQ_EXPR_TILE:
    case AQ_EXPR_PART:
        return from_value(e, aq_emit_tile_read(e, x->tile, x->kind == AQ_EXPR_PART ? x->part : -1));
    case AQ_EXPR_LOAD:
        return from_value(e, aq_emit_load(e, id));
    default:
        return op_index(e, x);
    }
}
