/* emit_expr.c: expressions at one coordinate (e->at) of the unrolled axes: a number, or a vector where an axis with lanes is among theirs.
 * What was built once in a statement is found again by expression and coordinate, so a row that six columns use is loaded once. */
#include "codegen/cpu/emit.h"

#include <math.h>
#include <string.h>

/* --- small values ---------------------------------------------------------------------------------------------------------------- */

val aq_emit_splat(emitter *e, val v, int lanes) {
    if (!lanes || lanes_of(e, v))
        return v;
    if (e->l->IsConstant(v)) {
        val all[64];
        for (int i = 0; i < lanes; i++)
            all[i] = v;
        return e->l->ConstVector(all, (unsigned)lanes);
    }
    typ t = wide(e, e->l->TypeOf(v), lanes);
    val one = e->l->BuildInsertElement(e->b, e->l->GetPoison(t), v, k64(e, 0), "");
    return e->l->BuildShuffleVector(e->b, one, e->l->GetPoison(t), e->l->ConstNull(wide(e, e->i32, lanes)), "");
}

static typ element_of(emitter *e, val v) {
    return lanes_of(e, v) ? e->l->GetElementType(e->l->TypeOf(v)) : e->l->TypeOf(v);
}
static int is_float(emitter *e, val v) {
    return e->l->GetTypeKind(element_of(e, v)) != LLVMIntegerTypeKind;
}

val aq_emit_const_like(emitter *e, val like, double x) {
    val k = is_float(e, like) ? e->l->ConstReal(element_of(e, like), x) : e->l->ConstInt(element_of(e, like), (unsigned long long)(int64_t)x, 1);
    return aq_emit_splat(e, k, lanes_of(e, like));
}
val aq_emit_int_like(emitter *e, val like, int64_t x) {
    return aq_emit_splat(e, k32(e, x), lanes_of(e, like));
}

val aq_emit_lane_numbers(emitter *e, typ t, int lanes) {
    val all[64];
    for (int i = 0; i < lanes; i++)
        all[i] = e->l->ConstInt(t, (unsigned long long)i, 0);
    return e->l->ConstVector(all, (unsigned)lanes);
}

val aq_emit_half_of(emitter *e, val v, int upper) {
    int n = lanes_of(e, v) / 2;
    val k[64];
    if (n == 1)
        return e->l->BuildExtractElement(e->b, v, k64(e, upper), "");
    for (int i = 0; i < n; i++)
        k[i] = k32(e, i + (upper ? n : 0));
    return e->l->BuildShuffleVector(e->b, v, e->l->GetPoison(e->l->TypeOf(v)), e->l->ConstVector(k, (unsigned)n), "");
}

val aq_emit_f32(emitter *e, val v) {
    return is_float(e, v) ? v : e->l->BuildSIToFP(e->b, v, wide(e, e->f32, lanes_of(e, v)), "");
}

val aq_emit_cast_type(emitter *e, val v, typ element) {
    return e->l->BuildBitCast(e->b, v, wide(e, element, lanes_of(e, v)), "");
}

val aq_emit_fma(emitter *e, val a, val b, val c) {
    int lanes = lanes_of(e, a) | lanes_of(e, b) | lanes_of(e, c);
    val args[3] = {aq_emit_splat(e, a, lanes), aq_emit_splat(e, b, lanes), aq_emit_splat(e, c, lanes)};
    typ t = wide(e, e->f32, lanes);
    return aq_emit_intrinsic(e, "llvm.fma", &t, 1, args, 3);
}

/* --- rounding -------------------------------------------------------------------------------------------------------------------- */

/* By integers on every level: the instruction of AVX512-BF16 flushes small numbers, and the bits must not depend on the level. */
val aq_emit_round_bf16(emitter *e, val x) {
    val bits = aq_emit_cast_type(e, x, e->i32);
    val low = e->l->BuildAnd(e->b, e->l->BuildLShr(e->b, bits, aq_emit_int_like(e, bits, 16), ""), aq_emit_int_like(e, bits, 1), "");
    val up = e->l->BuildAdd(e->b, e->l->BuildAdd(e->b, bits, aq_emit_int_like(e, bits, 0x7fff), ""), low, "");
    val quiet = e->l->BuildOr(e->b, bits, aq_emit_int_like(e, bits, 0x400000), "");
    val r = e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, LLVMRealUNO, x, x, ""), quiet, up, "");
    r = e->l->BuildAnd(e->b, r, aq_emit_int_like(e, bits, (int32_t)0xffff0000), "");
    return aq_emit_cast_type(e, r, e->f32);
}

val aq_emit_round_int(emitter *e, val x, double limit) {
    typ t = e->l->TypeOf(x);
    int lanes = lanes_of(e, x);
    val r = aq_emit_intrinsic(e, "llvm.roundeven", &t, 1, &x, 1);
    typ types[2] = {wide(e, e->i32, lanes), t};
    val n = aq_emit_intrinsic(e, "llvm.fptosi.sat", types, 2, &r, 1); /* NaN gives 0 */
    if (limit > 1e9)
        return n;
    val hi = aq_emit_int_like(e, n, (int64_t)limit), lo = aq_emit_int_like(e, n, -(int64_t)limit - 1);
    n = e->l->BuildSelect(e->b, e->l->BuildICmp(e->b, LLVMIntSGT, n, hi, ""), hi, n, "");
    return e->l->BuildSelect(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, n, lo, ""), lo, n, "");
}

val aq_emit_cast(emitter *e, const aq_expr *x) {
    aq_dtype to = (aq_dtype)aq_nest_attr(e->n, x, AQ_ATTR_dtype)->num;
    const aq_expr *from = &e->n->exprs.at[x->in[0]];
    val v = aq_dtype_of(from->dtype)->block > 1 ? aq_emit_dequantize(e, x->in[0]) : aq_emit_eval(e, x->in[0]);
    int lanes = lanes_of(e, v);
    if (to == AQ_I32 || to == AQ_I8) {
        if (!is_float(e, v))
            v = to == AQ_I8 ? aq_emit_f32(e, v) : v;
        return is_float(e, v) ? aq_emit_round_int(e, v, to == AQ_I8 ? 127 : 2147483647.0) : v;
    }
    v = aq_emit_f32(e, v);
    if (to == AQ_BF16)
        return aq_emit_round_bf16(e, v);
    if (to == AQ_F16)
        return e->l->BuildFPExt(e->b, e->l->BuildFPTrunc(e->b, v, wide(e, e->f16, lanes), ""), wide(e, e->f32, lanes), "");
    return v;
}

/* --- ops ------------------------------------------------------------------------------------------------------------------------- */

static val test(emitter *e, aq_id id) {
    const aq_expr *x = &e->n->exprs.at[id];
    if (x->kind == AQ_EXPR_OP && x->op == AQ_OP_le) {
        val a = aq_emit_eval(e, x->in[0]), b = aq_emit_eval(e, x->in[1]);
        int lanes = lanes_of(e, a) | lanes_of(e, b);
        if (is_float(e, a) || is_float(e, b))
            return e->l->BuildFCmp(e->b, LLVMRealOLE, aq_emit_splat(e, aq_emit_f32(e, a), lanes),
                                   aq_emit_splat(e, aq_emit_f32(e, b), lanes), "");
        return e->l->BuildICmp(e->b, LLVMIntSLE, aq_emit_splat(e, a, lanes), aq_emit_splat(e, b, lanes), "");
    }
    val v = aq_emit_eval(e, id), zero = e->l->ConstNull(e->l->TypeOf(v));
    return is_float(e, v) ? e->l->BuildFCmp(e->b, LLVMRealUNE, v, zero, "") : e->l->BuildICmp(e->b, LLVMIntNE, v, zero, "");
}

static val select_op(emitter *e, const aq_expr *x) {
    val c = test(e, x->in[0]), a = aq_emit_eval_f32(e, x->in[1]), b = aq_emit_eval_f32(e, x->in[2]);
    int lanes = lanes_of(e, c) | lanes_of(e, a) | lanes_of(e, b);
    return e->l->BuildSelect(e->b, aq_emit_splat(e, c, lanes), aq_emit_splat(e, a, lanes), aq_emit_splat(e, b, lanes), "");
}

/* NaN in either gives NaN. */
static val extreme(emitter *e, LLVMRealPredicate p, val a, val b) {
    val r = e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, p, a, b, ""), a, b, "");
    return e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, LLVMRealUNO, a, a, ""), a, r, "");
}

static val binary_op(emitter *e, const aq_expr *x) {
    val a = aq_emit_eval_f32(e, x->in[0]), b = aq_emit_eval_f32(e, x->in[1]);
    int lanes = lanes_of(e, a) | lanes_of(e, b);
    a = aq_emit_splat(e, a, lanes);
    b = aq_emit_splat(e, b, lanes);
    switch (x->op) {
    case AQ_OP_add:
        return e->l->BuildFAdd(e->b, a, b, "");
    case AQ_OP_sub:
        return e->l->BuildFSub(e->b, a, b, "");
    case AQ_OP_mul:
        return e->l->BuildFMul(e->b, a, b, "");
    case AQ_OP_div:
        return e->l->BuildFDiv(e->b, a, b, "");
    case AQ_OP_maximum:
        return extreme(e, LLVMRealOGT, a, b);
    default:
        return extreme(e, LLVMRealOLT, a, b);
    }
}

static val unary_op(emitter *e, const aq_expr *x) {
    val a = aq_emit_eval_f32(e, x->in[0]);
    switch (x->op) {
    case AQ_OP_neg:
        return e->l->BuildFNeg(e->b, a, "");
    case AQ_OP_exp:
        return aq_emit_exp(e, a);
    case AQ_OP_log:
        return aq_emit_log(e, a);
    case AQ_OP_sqrt:
        return aq_emit_sqrt(e, a);
    case AQ_OP_rsqrt:
        return e->l->BuildFDiv(e->b, aq_emit_const_like(e, a, 1), aq_emit_sqrt(e, a), "");
    case AQ_OP_sigmoid:
        return aq_emit_sigmoid(e, a);
    case AQ_OP_silu:
        return e->l->BuildFDiv(e->b, a,
                               e->l->BuildFAdd(e->b, aq_emit_const_like(e, a, 1), aq_emit_exp(e, e->l->BuildFNeg(e->b, a, "")), ""), "");
    case AQ_OP_tanh:
        return aq_emit_tanh(e, a);
    default:
        return aq_emit_refuse(e, aq_op_of(x->op)->name, "an op that the CPU emitter knows");
    }
}

static val op_value(emitter *e, aq_id id) {
    const aq_expr *x = &e->n->exprs.at[id];
    switch (x->op) {
    case AQ_OP_add:
    case AQ_OP_sub:
    case AQ_OP_mul:
    case AQ_OP_div:
    case AQ_OP_maximum:
    case AQ_OP_minimum:
        return binary_op(e, x);
    case AQ_OP_le: {
        val t = test(e, id);
        return e->l->BuildUIToFP(e->b, t, wide(e, e->f32, lanes_of(e, t)), "");
    }
    case AQ_OP_select:
        return select_op(e, x);
    case AQ_OP_cast:
        return aq_emit_cast(e, x);
    case AQ_OP_rope:
        return aq_emit_rope(e, id);
    case AQ_OP_dot:
        return aq_emit_refuse(e, "dot", "it at the root of an update");
    default:
        return unary_op(e, x);
    }
}

/* --- evaluation ------------------------------------------------------------------------------------------------------------------ */

static val int_value(emitter *e, aq_id id) {
    const aq_expr *x = &e->n->exprs.at[id];
    if (x->kind == AQ_EXPR_TILE || x->kind == AQ_EXPR_PART)
        return aq_emit_tile_read(e, x->tile, x->kind == AQ_EXPR_PART ? x->part : -1);
    if (x->kind == AQ_EXPR_LOAD)
        return aq_emit_load(e, id);
    ix i = aq_emit_index(e, id);
    if (i.vec)
        return e->l->BuildTrunc(e->b, i.vec, wide(e, e->i32, lanes_of(e, i.vec)), "");
    val s = e->l->BuildTrunc(e->b, aq_emit_ix_scalar(e, i), e->i32, "");
    if (!i.coef)
        return s;
    val numbers = aq_emit_lane_numbers(e, e->i32, e->lanes);
    numbers = e->l->BuildMul(e->b, numbers, aq_emit_splat(e, k32(e, i.coef), e->lanes), "");
    return e->l->BuildAdd(e->b, aq_emit_splat(e, s, e->lanes), numbers, "");
}

static val value_of(emitter *e, aq_id id) {
    const aq_expr *x = &e->n->exprs.at[id];
    if (x->dtype == AQ_I32)
        return int_value(e, id);
    switch (x->kind) {
    case AQ_EXPR_CONST:
        return e->l->ConstReal(e->f32, x->number);
    case AQ_EXPR_TILE:
        return aq_emit_tile_read(e, x->tile, -1);
    case AQ_EXPR_PART:
        return aq_emit_tile_read(e, x->tile, x->part);
    case AQ_EXPR_LOAD:
        return aq_dtype_of(x->dtype)->block > 1 ? aq_emit_refuse(e, "blocks", "cast or dot to read them") : aq_emit_load(e, id);
    default:
        return op_value(e, id);
    }
}

void aq_emit_forget(emitter *e) {
    e->now++;
}

static memo *find(emitter *e, aq_id id) {
    const aq_expr *x = &e->n->exprs.at[id];
    uint64_t key = id;
    for (int i = 0; i < x->n_axes; i++)
        key = key * 0xd6e8feb86659fd93u + (uint64_t)e->at[x->axes[i]]; /* up to eight axes: too many to stand side by side in 64 bits */
    uint32_t h = (uint32_t)((key * 0x9e3779b97f4a7c15u) >> 50);
    for (int i = 0; i < 16; i++) {
        memo *m = &e->memo[(h + (uint32_t)i) % MAX_MEMO];
        if (m->stamp != e->now) {
            *m = (memo){.key = key, .stamp = e->now};
            return m;
        }
        if (m->key == key)
            return m;
    }
    return NULL;
}

val aq_emit_eval(emitter *e, aq_id id) {
    memo *m = find(e, id);
    if (m && m->v)
        return m->v;
    aq_id axis = aq_emit_expr_lanes(e, id);
    if (axis)
        e->lanes = e->cover[axis].lanes;
    uint32_t now = e->now;
    val v = value_of(e, id);
    if (m && now == e->now && e->now == m->stamp)
        m->v = v;
    return v;
}

val aq_emit_eval_f32(emitter *e, aq_id id) {
    return aq_emit_f32(e, aq_emit_eval(e, id));
}
val aq_emit_eval_wide(emitter *e, aq_id id, int lanes) {
    return aq_emit_splat(e, aq_emit_eval_f32(e, id), lanes);
}
