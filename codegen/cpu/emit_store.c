/* emit_store.c: stores to plain types. All elements of a tile are stored from registers, but where an axis has three or more rows the tile
 * goes through the stack and a loop takes row by row: the code of a rotation, of silu or of a scattered column is there once. */
#include "codegen/cpu/emit_block.h"

#include <string.h>

enum { FEW = 2 }; /* rows that are unrolled all the same */

/* f32 or i32 to what the buffer holds, rounded to nearest even; integers saturate. */
static val narrow(emitter *e, aq_dtype t, val v) {
    int lanes = lanes_of(e, v),
        is_float = e->l->GetTypeKind(lanes ? e->l->GetElementType(e->l->TypeOf(v)) : e->l->TypeOf(v)) == LLVMFloatTypeKind;
    if (t == AQ_I8 || t == AQ_I32) {
        if (is_float)
            v = aq_emit_round_int(e, v, t == AQ_I8 ? 127 : 2147483647.0);
        else if (t == AQ_I8) {
            val hi = aq_emit_int_like(e, v, 127), lo = aq_emit_int_like(e, v, -128);
            v = e->l->BuildSelect(e->b, e->l->BuildICmp(e->b, LLVMIntSGT, v, hi, ""), hi, v, "");
            v = e->l->BuildSelect(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, v, lo, ""), lo, v, "");
        }
        return t == AQ_I8 ? e->l->BuildTrunc(e->b, v, wide(e, e->i8, lanes), "") : v;
    }
    v = aq_emit_f32(e, v);
    if (t == AQ_F64)
        return e->l->BuildFPExt(e->b, v, wide(e, e->f64, lanes), "");
    if (t == AQ_F16)
        return e->l->BuildFPTrunc(e->b, v, wide(e, e->f16, lanes), "");
    if (t != AQ_BF16)
        return v;
    val bits = aq_emit_cast_type(e, aq_emit_round_bf16(e, v), e->i32);
    return e->l->BuildTrunc(e->b, e->l->BuildLShr(e->b, bits, aq_emit_int_like(e, bits, 16), ""), wide(e, e->i16, lanes), "");
}

static void scatter(emitter *e, aq_id buf, ix offset, int lanes, val mask, int64_t bytes, val v) {
    val at = aq_emit_ix_vector(e, offset, lanes);
    at = e->l->BuildMul(e->b, at, aq_emit_splat(e, k64(e, bytes), lanes), "");
    for (int i = 0; i < lanes; i++) {
        val k = k64(e, i), o = e->l->BuildExtractElement(e->b, at, k, "");
        block next = NULL;
        if (mask) {
            block here = aq_emit_block(e, "lane");
            next = aq_emit_block(e, "next");
            e->l->BuildCondBr(e->b, e->l->BuildExtractElement(e->b, mask, k, ""), here, next);
            e->l->PositionBuilderAtEnd(e->b, here);
        }
        val p = e->l->BuildGEP2(e->b, e->i8, e->buf[buf], &o, 1, "");
        e->l->SetAlignment(e->l->BuildStore(e->b, e->l->BuildExtractElement(e->b, v, k, ""), p), (unsigned)bytes);
        if (next) {
            e->l->BuildBr(e->b, next);
            e->l->PositionBuilderAtEnd(e->b, next);
        }
    }
}

static void store_one(emitter *e, const aq_stmt *s, aq_id axis) {
    const aq_nest_buf *b = &e->n->bufs.at[s->buf];
    int64_t bytes = aq_dtype_of(b->type.dtype)->bytes;
    int lanes = axis ? e->cover[axis].lanes : 0;
    ix index[AQ_MAX_RANK];
    for (int i = 0; i < s->n_index; i++)
        index[i] = aq_emit_index(e, s->index[i]);
    val v = narrow(e, b->type.dtype, aq_emit_eval(e, s->expr[0]));
    e->lanes = lanes;
    ix offset = aq_emit_offset(e, b, index);
    val mask = aq_emit_mask(e, axis);
    if (!offset.vec && !offset.coef) {
        if (lanes_of(e, v)) /* the same place for all lanes: an axis of one element */
            v = e->l->BuildExtractElement(e->b, v, k64(e, 0), "");
        e->l->SetAlignment(e->l->BuildStore(e->b, v, aq_emit_address(e, s->buf, offset, bytes)), (unsigned)bytes);
        return;
    }
    v = aq_emit_splat(e, v, lanes);
    if (offset.vec || offset.coef != 1) {
        scatter(e, s->buf, offset, lanes, mask, bytes, v);
        return;
    }
    val p = aq_emit_address(e, s->buf, offset, bytes);
    if (!mask) {
        e->l->SetAlignment(e->l->BuildStore(e->b, v, p), (unsigned)bytes);
        return;
    }
    typ types[2] = {e->l->TypeOf(v), e->ptr};
    val args[4] = {v, p, k32(e, bytes), mask};
    aq_emit_intrinsic(e, "llvm.masked.store", types, 2, args, 4);
}

block aq_emit_guard(emitter *e, const axes_set *set) {
    val inside = aq_emit_inside(e, set->axis, set->n);
    if (!inside)
        return NULL;
    block here = aq_emit_block(e, "store"), next = aq_emit_block(e, "next");
    e->l->BuildCondBr(e->b, inside, here, next);
    e->l->PositionBuilderAtEnd(e->b, here);
    aq_emit_forget(e);
    return next;
}

void aq_emit_unguard(emitter *e, block next) {
    if (!next)
        return;
    e->l->BuildBr(e->b, next);
    e->l->PositionBuilderAtEnd(e->b, next);
    aq_emit_forget(e);
}

static void store_all(emitter *e, const aq_stmt *s, axes_set set) {
    aq_id axis = aq_emit_lane_axis(e, set.axis, set.n);
    for (int more = aq_emit_next(e, &set, 1); more && e->status == AQ_OK; more = aq_emit_next(e, &set, 0)) {
        block next = aq_emit_guard(e, &set);
        store_one(e, s, axis);
        aq_emit_unguard(e, next);
    }
}

/* --- row by row ------------------------------------------------------------------------------------------------------------------- */

val aq_emit_rolled(emitter *e, aq_id tile, int part) {
    for (int k = 0; k < e->n_rolled; k++) {
        const rolled *r = &e->rolled[k];
        if (r->tile != tile || r->part != part)
            continue;
        const aq_tile *t = &e->n->tiles.at[tile];
        int64_t bytes = 4 * (r->lanes ? r->lanes : 1), at = 0, along = 0;
        for (int i = 0; i < t->n_axes; i++) {
            at += t->axes[i] == r->axis ? 0 : e->at[t->axes[i]] * r->stride[i];
            along += t->axes[i] == r->axis ? r->stride[i] : 0;
        }
        val o = e->l->BuildMul(e->b, r->i, k64(e, along * bytes), "");
        return aq_emit_load_at(e, r->type, aq_emit_step_address(e, e->l->BuildGEP2(e->b, e->i8, r->memory, &o, 1, ""), at * bytes), 4);
    }
    return NULL;
}

/* Puts a tile that varies along `axis` into memory, once. */
static void spill(emitter *e, aq_id tile, int part, aq_id axis) {
    const aq_tile *t = &e->n->tiles.at[tile];
    int n_axes = t->is_acc && t->monoid == AQ_MONOID_attend && (part == 0 || part == 1) ? t->n_axes - 1 : t->n_axes;
    for (int k = 0; k < e->n_rolled; k++)
        if (e->rolled[k].tile == tile && e->rolled[k].part == part)
            return;
    if (!memchr(t->axes, (int)axis, (size_t)n_axes))
        return;
    if (e->n_rolled == 16) {
        aq_emit_refuse(e, "a store that reads more than 16 tiles", "fewer");
        return;
    }
    rolled r = {.tile = tile, .axis = axis, .part = part};
    int64_t n = 1;
    for (int i = n_axes; i-- > 0;) {
        r.stride[i] = n;
        n *= aq_emit_count(e, t->axes[i]);
    }
    axes_set set = {{0}, 0};
    for (int i = 0; i < n_axes; i++)
        set.axis[set.n++] = t->axes[i];
    int64_t at = 0;
    for (int more = aq_emit_next(e, &set, 1); more; more = aq_emit_next(e, &set, 0)) {
        val v = aq_emit_tile_read(e, tile, part);
        if (!r.memory) {
            r.type = e->l->TypeOf(v);
            r.lanes = lanes_of(e, v);
            r.memory = aq_emit_alloca(e, r.type, n);
        }
        int64_t bytes = 4 * (r.lanes ? r.lanes : 1);
        e->l->SetAlignment(e->l->BuildStore(e->b, aq_emit_splat(e, v, r.lanes), aq_emit_step_address(e, r.memory, bytes * at++)), 4);
    }
    e->rolled[e->n_rolled++] = r;
}

static void spill_tiles(emitter *e, aq_id id, aq_id axis) {
    const aq_expr *x = &e->n->exprs.at[id];
    if (x->kind == AQ_EXPR_TILE || x->kind == AQ_EXPR_PART)
        spill(e, x->tile, x->kind == AQ_EXPR_PART ? x->part : -1, axis);
    for (int i = 0; i < x->n_in; i++)
        spill_tiles(e, x->in[i], axis);
}

/* A rotation needs both elements of a pair at once. */
static int turns_along(const emitter *e, aq_id id, aq_id axis) {
    const aq_expr *x = &e->n->exprs.at[id];
    if (x->kind == AQ_EXPR_OP && x->op == AQ_OP_rope) {
        const aq_expr *in = &e->n->exprs.at[x->in[0]];
        if (in->axes[in->n_axes - 1] == axis)
            return 1;
    }
    for (int i = 0; i < x->n_in; i++)
        if (turns_along(e, x->in[i], axis))
            return 1;
    return 0;
}

static aq_id axis_to_roll(const emitter *e, const aq_stmt *s, const axes_set *set) {
    aq_id best = 0;
    for (int i = 0; i < set->n; i++) {
        aq_id a = set->axis[i];
        if (!e->cover[a].lanes && aq_emit_count(e, a) > (best ? aq_emit_count(e, best) : FEW) && !turns_along(e, s->expr[0], a))
            best = a;
    }
    return best;
}

static void store_rows(emitter *e, const aq_stmt *s, axes_set set, aq_id axis) {
    e->n_rolled = 0;
    spill_tiles(e, s->expr[0], axis);
    for (int i = 0; i < s->n_index; i++)
        spill_tiles(e, s->index[i], axis);
    memset(e->at, 0, sizeof e->at);
    cover old = e->cover[axis];
    val rows = k64(e, old.step);
    if (old.end) {
        val left = e->l->BuildSub(e->b, old.end, old.base, "");
        rows = e->l->BuildSelect(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, left, rows, ""), left, rows, "");
    }
    block pre = e->l->GetInsertBlock(e->b), loop = aq_emit_block(e, "row"), done = aq_emit_block(e, "end");
    e->l->BuildBr(e->b, loop);
    e->l->PositionBuilderAtEnd(e->b, loop);
    val i = e->l->BuildPhi(e->b, e->i64, ""), zero = k64(e, 0);
    e->l->AddIncoming(i, &zero, &pre, 1);
    for (int k = 0; k < e->n_rolled; k++)
        e->rolled[k].i = i;
    e->cover[axis] = (cover){1, 0, e->l->BuildAdd(e->b, old.base, i, ""), NULL, 1, i, old.base, 1, old.align, 0, old.depth};
    aq_emit_forget(e);
    store_all(e, s, set);
    val next = e->l->BuildAdd(e->b, i, k64(e, 1), "");
    block last = e->l->GetInsertBlock(e->b);
    e->l->AddIncoming(i, &next, &last, 1);
    e->l->BuildCondBr(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, next, rows, ""), loop, done);
    e->l->PositionBuilderAtEnd(e->b, done);
    e->cover[axis] = old;
    e->n_rolled = 0;
    aq_emit_forget(e);
}

void aq_emit_store_stmt(emitter *e, const aq_stmt *s) {
    if (e->n->bufs.at[s->buf].layout == AQ_LAYOUT_WIDE) {
        aq_emit_open_store(e, s);
        return;
    }
    if (aq_dtype_of(e->n->bufs.at[s->buf].type.dtype)->block > 1) {
        aq_emit_quantize_store(e, s);
        return;
    }
    axes_set set = {{0}, 0};
    for (int i = 0; i < s->n_index; i++)
        aq_emit_add_axes(&set, e->n->exprs.at[s->index[i]].axes, e->n->exprs.at[s->index[i]].n_axes, NULL, 0);
    aq_emit_add_axes(&set, e->n->exprs.at[s->expr[0]].axes, e->n->exprs.at[s->expr[0]].n_axes, NULL, 0);
    aq_id axis = axis_to_roll(e, s, &set);
    if (axis)
        store_rows(e, s, set, axis);
    else
        store_all(e, s, set);
}
