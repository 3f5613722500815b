/* emit_mem.c: addresses and loads of plain types in every layout: the formulas of ir/layout.h on subscripts that know their lanes.
 *
 * A load whose lanes lie side by side is one vector load, masked at a cut unless the layout pads there; one without lanes is a scalar
 * that its reader spreads; the rest are gathers by single loads. Nothing is loaded from outside a buffer. */
#include "codegen/cpu/emit.h"

#include <string.h>

val aq_emit_step_address(emitter *e, val address, int64_t bytes) {
    if (!bytes)
        return address;
    val at = k64(e, bytes);
    return e->l->BuildGEP2(e->b, e->i8, address, &at, 1, "");
}

val aq_emit_load_at(emitter *e, typ t, val address, int align) {
    val v = e->l->BuildLoad2(e->b, t, address, "");
    e->l->SetAlignment(v, (unsigned)align);
    return v;
}

/* Elements from the start of the buffer (block types: elements of the row-major matrix; see emit_block.c). */
ix aq_emit_offset(emitter *e, const aq_nest_buf *b, const ix *index) {
    ix inner[AQ_MAX_RANK];
    for (int i = 1; i < b->type.rank; i++)
        inner[i] = b->type.dim[i].sym ? aq_emit_ix_value(aq_emit_dim(e, b->type.dim[i]), 1, 1) : aq_emit_ix_const(b->type.dim[i].k);
    if (b->layout == AQ_LAYOUT_PANEL) {
        ix panel = aq_emit_ix_div(e, index[0], AQ_PANEL_ROWS), row = aq_emit_ix_mod(e, index[0], AQ_PANEL_ROWS);
        ix at = aq_emit_ix_add(e, aq_emit_ix_mul(e, panel, inner[1]), index[1]);
        return aq_emit_ix_add(e, aq_emit_ix_mul(e, at, aq_emit_ix_const(AQ_PANEL_ROWS)), row);
    }
    if (b->layout == AQ_LAYOUT_ROWS) {
        ix at = b->type.rank ? index[0] : aq_emit_ix_const(0);
        for (int i = 1; i < b->type.rank; i++)
            at = aq_emit_ix_add(e, aq_emit_ix_mul(e, at, inner[i]), index[i]);
        return at;
    }
    ix page = aq_emit_ix_div(e, index[0], AQ_PAGE), p = aq_emit_ix_mod(e, index[0], AQ_PAGE);
    ix head = aq_emit_ix_add(e, aq_emit_ix_mul(e, page, inner[1]), index[1]);
    ix start = aq_emit_ix_mul(e, head, aq_emit_ix_mul(e, inner[2], aq_emit_ix_const(AQ_PAGE)));
    if (b->layout == AQ_LAYOUT_KV_ROWS)
        return aq_emit_ix_add(e, start, aq_emit_ix_add(e, aq_emit_ix_mul(e, p, inner[2]), index[2]));
    ix group = aq_emit_ix_div(e, p, AQ_PANEL_ROWS), row = aq_emit_ix_mod(e, p, AQ_PANEL_ROWS);
    ix at = aq_emit_ix_add(e, aq_emit_ix_mul(e, group, inner[2]), index[2]);
    return aq_emit_ix_add(e, aq_emit_ix_add(e, start, aq_emit_ix_mul(e, at, aq_emit_ix_const(AQ_PANEL_ROWS))), row);
}

val aq_emit_address(emitter *e, aq_id buf, ix offset, int64_t bytes) {
    val p = e->buf[buf];
    if (offset.var) {
        val at = e->l->BuildMul(e->b, offset.var, k64(e, bytes), "");
        p = e->l->BuildGEP2(e->b, e->i8, p, &at, 1, "");
    }
    if (offset.turn) { /* last: the rest is the same in every turn */
        val at = e->l->BuildMul(e->b, offset.turn, k64(e, offset.stride * bytes), "");
        p = e->l->BuildGEP2(e->b, e->i8, p, &at, 1, "");
    }
    return aq_emit_step_address(e, p, offset.c * bytes);
}

/* i1 of each lane: inside the cut of its axis. NULL where all are. */
val aq_emit_mask(emitter *e, aq_id axis) {
    const cover *c = &e->cover[axis];
    if (!axis || !c->end)
        return NULL;
    val first = e->l->BuildAdd(e->b, c->base, k64(e, (int64_t)e->at[axis] * c->lanes), "");
    val left = e->l->BuildTrunc(e->b, e->l->BuildSub(e->b, c->end, first, ""), e->i32, "");
    val numbers = aq_emit_lane_numbers(e, e->i32, c->lanes);
    return e->l->BuildICmp(e->b, LLVMIntSLT, numbers, aq_emit_splat(e, left, c->lanes), "");
}

static typ stored_type(emitter *e, aq_dtype t) {
    switch (t) {
    case AQ_F64:
        return e->f64;
    case AQ_F32:
        return e->f32;
    case AQ_F16:
        return e->f16;
    case AQ_BF16:
        return e->i16;
    case AQ_I8:
        return e->i8;
    default:
        return e->i32;
    }
}

/* What was stored as f32 or i32. */
static val widen(emitter *e, aq_dtype t, val v) {
    int lanes = lanes_of(e, v);
    switch (t) {
    case AQ_F64:
        return e->l->BuildFPTrunc(e->b, v, wide(e, e->f32, lanes), "");
    case AQ_F16:
        return e->l->BuildFPExt(e->b, v, wide(e, e->f32, lanes), "");
    case AQ_BF16:
        v = e->l->BuildZExt(e->b, v, wide(e, e->i32, lanes), "");
        return aq_emit_cast_type(e, e->l->BuildShl(e->b, v, aq_emit_int_like(e, v, 16), ""), e->f32);
    case AQ_I8:
        return e->l->BuildSExt(e->b, v, wide(e, e->i32, lanes), "");
    default:
        return v;
    }
}

static val masked_load(emitter *e, typ vector, val address, int align, val mask) {
    typ types[2] = {vector, e->ptr};
    val args[4] = {address, k32(e, align), mask, e->l->ConstNull(vector)};
    return aq_emit_intrinsic(e, "llvm.masked.load", types, 2, args, 4);
}

/* The padded layouts have whole groups of 16 where lanes run along them from a group's start. */
static int is_padded(const aq_nest_buf *b, ix first, int lanes) {
    return (b->layout == AQ_LAYOUT_PANEL || b->layout == AQ_LAYOUT_KV_PANEL) && lanes <= AQ_PANEL_ROWS && first.coef == 1 &&
           aq_emit_ix_align(first) % lanes == 0;
}

val aq_emit_gather(emitter *e, val base, ix offset, int lanes, val mask, int64_t bytes, typ t) {
    val at = aq_emit_ix_vector(e, offset, lanes), v = e->l->GetUndef(wide(e, t, lanes));
    if (mask) {
        val zero = k64(e, 0), first = aq_emit_splat(e, e->l->BuildExtractElement(e->b, at, zero, ""), lanes);
        at = e->l->BuildSelect(e->b, mask, at, first, "");
    }
    at = e->l->BuildMul(e->b, at, aq_emit_splat(e, k64(e, bytes), lanes), "");
    for (int i = 0; i < lanes; i++) {
        val k = k64(e, i), o = e->l->BuildExtractElement(e->b, at, k, "");
        val p = e->l->BuildGEP2(e->b, e->i8, base, &o, 1, "");
        v = e->l->BuildInsertElement(e->b, v, aq_emit_load_at(e, t, p, (int)bytes), k, "");
    }
    return v;
}

val aq_emit_load(emitter *e, aq_id id) {
    const aq_expr *x = &e->n->exprs.at[id];
    const aq_nest_buf *b = &e->n->bufs.at[x->buf];
    int64_t bytes = aq_dtype_of(b->type.dtype)->bytes;
    typ t = stored_type(e, b->type.dtype);
    aq_id axis = aq_emit_expr_lanes(e, id);
    int lanes = axis ? e->cover[axis].lanes : 0;
    ix index[AQ_MAX_RANK];
    for (int i = 0; i < x->n_in; i++)
        index[i] = aq_emit_index(e, x->in[i]);
    e->lanes = lanes ? lanes : e->lanes;
    ix offset = aq_emit_offset(e, b, index);
    if (!offset.vec && !offset.coef)
        return widen(e, b->type.dtype, aq_emit_load_at(e, t, aq_emit_address(e, x->buf, offset, bytes), (int)bytes));
    if (!lanes)
        return aq_emit_refuse(e, b->name, "a subscript that varies along lanes only");
    val mask = aq_emit_mask(e, axis);
    if (offset.vec || offset.coef != 1)
        return widen(e, b->type.dtype, aq_emit_gather(e, e->buf[x->buf], offset, lanes, mask, bytes, t));
    val p = aq_emit_address(e, x->buf, offset, bytes);
    if (mask && !is_padded(b, index[0], lanes))
        return widen(e, b->type.dtype, masked_load(e, wide(e, t, lanes), p, (int)bytes, mask));
    return widen(e, b->type.dtype, aq_emit_load_at(e, wide(e, t, lanes), p, (int)bytes));
}

val aq_emit_inside(emitter *e, const uint8_t *axes, int n) {
    val yes = NULL;
    for (int i = 0; i < n; i++) {
        const cover *c = &e->cover[axes[i]];
        int u = e->at[axes[i]];
        if (!c->end || u == 0) /* a turn has at least one element */
            continue;
        val at = e->l->BuildAdd(e->b, c->base, k64(e, c->lanes ? (int64_t)u * c->lanes : u), "");
        val in = e->l->BuildICmp(e->b, LLVMIntSLT, at, c->end, "");
        yes = yes ? e->l->BuildAnd(e->b, yes, in, "") : in;
    }
    return yes;
}
