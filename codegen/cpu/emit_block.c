/* emit_block.c: single elements of blocks (dequantise) and new blocks of activations (quantise): the formulas of dtype.def and layout.def.
 *
 * Dequantising has two fast forms, lanes along the 16 rows of a panel and lanes along a block as stored; everything else goes element by
 * element. Quantising gives the same bits as aq_dtype_encode_f32. */
#include "codegen/cpu/emit_block.h"

#include <float.h>

block_form aq_emit_block_form(const aq_nest_buf *b) {
    int panel = b->layout == AQ_LAYOUT_PANEL;
    switch (b->type.dtype) {
    case AQ_Q4_0:
        return panel ? (block_form){288, 0, 256, -1, 1, 8, 4} : (block_form){18, 2, 0, -1, 1, 8, 4};
    case AQ_Q4_1:
        return panel ? (block_form){320, 0, 256, 288, 1, 0, 4} : (block_form){20, 4, 0, 2, 1, 0, 4};
    case AQ_Q8_0:
        return panel ? (block_form){544, 0, 512, -1, 0, 0, 8} : (block_form){34, 2, 0, -1, 0, 0, 8};
    case AQ_A8:
        return (block_form){40, 8, 0, -1, 0, 0, 8};
    default:
        return (block_form){72, 8, 0, -1, 0, 0, 16};
    }
}

int aq_emit_can_read(aq_dtype t) {
    return aq_dtype_of(t)->kind != AQ_KIND_WEIGHT || t == AQ_Q4_0 || t == AQ_Q4_1 || t == AQ_Q8_0;
}

block_place aq_emit_block_place(emitter *e, aq_id buf, const ix *index) {
    const aq_nest_buf *b = &e->n->bufs.at[buf];
    int last = b->type.rank - 1;
    ix row = last ? index[0] : aq_emit_ix_const(0), groups = aq_emit_ix_const(b->type.dim[last].k / 32);
    for (int i = 1; i < last; i++) {
        ix dim = b->type.dim[i].sym ? aq_emit_ix_value(aq_emit_dim(e, b->type.dim[i]), 1, 1) : aq_emit_ix_const(b->type.dim[i].k);
        row = aq_emit_ix_add(e, aq_emit_ix_mul(e, row, dim), index[i]);
    }
    block_place p = {.row = aq_emit_ix_const(0), .k = aq_emit_ix_mod(e, index[last], 32)};
    if (b->layout == AQ_LAYOUT_PANEL) {
        p.row = aq_emit_ix_mod(e, row, AQ_PANEL_ROWS);
        row = aq_emit_ix_div(e, row, AQ_PANEL_ROWS);
    }
    ix at = aq_emit_ix_add(e, aq_emit_ix_mul(e, row, groups), aq_emit_ix_div(e, index[last], 32));
    if (at.vec || at.coef) /* lanes in several blocks: the caller goes lane by lane */
        return p;
    p.group = aq_emit_address(e, buf, at, aq_emit_block_form(b).bytes);
    return p;
}

static val load_half(emitter *e, val group, ix row, int at, int lanes) {
    val p = aq_emit_step_address(e, group, at);
    if (!lanes || row.coef == 0) {
        val o = e->l->BuildMul(e->b, aq_emit_ix_scalar(e, row), k64(e, 2), "");
        p = e->l->BuildGEP2(e->b, e->i8, p, &o, 1, "");
        lanes = 0;
    }
    return e->l->BuildFPExt(e->b, aq_emit_load_at(e, wide(e, e->f16, lanes), p, 2), wide(e, e->f32, lanes), "");
}

static val and64(emitter *e, val a, int64_t k) {
    return e->l->BuildAnd(e->b, a, k64(e, k), "");
}
static val shift64(emitter *e, val a, int by) {
    return e->l->BuildLShr(e->b, a, k64(e, by), "");
}
static val at_bytes(emitter *e, val p, val bytes) {
    return e->l->BuildGEP2(e->b, e->i8, p, &bytes, 1, "");
}

/* (q - zero) * d + m */
static val scaled(emitter *e, const block_form *f, val q, val group, ix row, int lanes) {
    if (f->zero)
        q = e->l->BuildSub(e->b, q, aq_emit_int_like(e, q, f->zero), "");
    q = aq_emit_f32(e, q);
    val d = aq_emit_splat(e, load_half(e, group, row, f->d_at, lanes), lanes_of(e, q));
    if (f->m_at < 0)
        return e->l->BuildFMul(e->b, q, d, "");
    return aq_emit_fma(e, q, d, load_half(e, group, row, f->m_at, lanes));
}

/* Lanes = the 16 rows of the panel. */
static val panel_lanes(emitter *e, const block_form *f, const block_place *p) {
    val k = aq_emit_ix_scalar(e, p->k);
    val word = f->nibbles ? shift64(e, k, 3) : shift64(e, k, 2);
    val q = aq_emit_load_at(e, wide(e, e->i32, 16),
                            at_bytes(e, aq_emit_step_address(e, p->group, f->q_at), e->l->BuildShl(e->b, word, k64(e, 6), "")), 4);
    val by = e->l->BuildShl(e->b, and64(e, k, 3), k64(e, 3), "");
    if (f->nibbles) {
        by = e->l->BuildAdd(e->b, by, and64(e, k, 4), "");
        q = e->l->BuildLShr(e->b, q, aq_emit_splat(e, e->l->BuildTrunc(e->b, by, e->i32, ""), 16), "");
        q = e->l->BuildAnd(e->b, q, aq_emit_int_like(e, q, 15), "");
    } else { /* the byte to the top, then down with its sign */
        val up = e->l->BuildSub(e->b, k64(e, 24), by, "");
        q = e->l->BuildShl(e->b, q, aq_emit_splat(e, e->l->BuildTrunc(e->b, up, e->i32, ""), 16), "");
        q = e->l->BuildAShr(e->b, q, aq_emit_int_like(e, q, 24), "");
    }
    return scaled(e, f, q, p->group, p->row, 16);
}

/* Lanes = consecutive elements of a stored block. */
static val row_lanes(emitter *e, const block_form *f, const block_place *p, int lanes) {
    val k = aq_emit_ix_scalar(e, p->k), start = aq_emit_step_address(e, p->group, f->q_at), q;
    if (!f->nibbles) {
        q = aq_emit_load_at(e, wide(e, e->i8, lanes), at_bytes(e, start, k), 1);
        q = e->l->BuildSExt(e->b, q, wide(e, e->i32, lanes), "");
    } else {
        q = aq_emit_load_at(e, wide(e, e->i8, lanes), at_bytes(e, start, and64(e, k, 15)), 1);
        q = e->l->BuildZExt(e->b, q, wide(e, e->i32, lanes), "");
        val by = e->l->BuildTrunc(e->b, shift64(e, and64(e, k, 16), 2), e->i32, "");
        q = e->l->BuildAnd(e->b, e->l->BuildLShr(e->b, q, aq_emit_splat(e, by, lanes), ""), aq_emit_int_like(e, q, 15), "");
    }
    return scaled(e, f, q, p->group, p->row, lanes);
}

/* Lanes = consecutive elements of one row of a panel: four bytes of the row in every 64. */
static val panel_row_lanes(emitter *e, const block_form *f, const block_place *p, int lanes) {
    val k = aq_emit_ix_scalar(e, p->k), row = e->l->BuildMul(e->b, aq_emit_ix_scalar(e, p->row), k64(e, 4), "");
    int n = lanes / (f->nibbles ? 8 : 4), order[64];
    val word = e->l->BuildShl(e->b, shift64(e, k, f->nibbles ? 3 : 2), k64(e, 6), "");
    val start = at_bytes(e, at_bytes(e, aq_emit_step_address(e, p->group, f->q_at), row), word), q = e->l->GetUndef(wide(e, e->i32, n));
    for (int j = 0; j < n; j++)
        q = e->l->BuildInsertElement(e->b, q, aq_emit_load_at(e, e->i32, aq_emit_step_address(e, start, 64 * j), 4), k64(e, j), "");
    q = e->l->BuildBitCast(e->b, q, wide(e, e->i8, 4 * n), "");
    if (!f->nibbles)
        return scaled(e, f, e->l->BuildSExt(e->b, q, wide(e, e->i32, lanes), ""), p->group, p->row, 0);
    val low = aq_emit_splat(e, e->l->ConstInt(e->i8, 15, 0), 4 * n), four = aq_emit_splat(e, e->l->ConstInt(e->i8, 4, 0), 4 * n), k_of[64];
    for (int i = 0; i < lanes; i++) {
        order[i] = (i % 8 >= 4 ? 4 * n : 0) + i / 8 * 4 + i % 4;
        k_of[i] = k32(e, order[i]);
    }
    q = e->l->BuildShuffleVector(e->b, e->l->BuildAnd(e->b, q, low, ""), e->l->BuildLShr(e->b, q, four, ""),
                                 e->l->ConstVector(k_of, (unsigned)lanes), "");
    return scaled(e, f, e->l->BuildZExt(e->b, q, wide(e, e->i32, lanes), ""), p->group, p->row, 0);
}

/* Element k of row r (i64) of the group. */
static val single(emitter *e, const aq_nest_buf *b, const block_form *f, val group, ix row, val k) {
    val start = aq_emit_step_address(e, group, f->q_at), at = k, q;
    int panel = b->layout == AQ_LAYOUT_PANEL;
    if (b->type.dtype == AQ_A16) {
        val swapped = e->l->BuildOr(e->b, e->l->BuildShl(e->b, and64(e, k, 1), k64(e, 1), ""), and64(e, shift64(e, k, 1), 1), "");
        at = e->l->BuildShl(e->b, e->l->BuildOr(e->b, and64(e, k, 28), swapped, ""), k64(e, 1), "");
        q = e->l->BuildSExt(e->b, aq_emit_load_at(e, e->i16, at_bytes(e, start, at), 2), e->i32, "");
    } else {
        if (panel) {
            val word = e->l->BuildShl(e->b, shift64(e, k, f->nibbles ? 3 : 2), k64(e, 6), "");
            val byte = e->l->BuildOr(e->b, e->l->BuildShl(e->b, aq_emit_ix_scalar(e, row), k64(e, 2), ""), and64(e, k, 3), "");
            at = e->l->BuildAdd(e->b, word, byte, "");
        } else if (f->nibbles)
            at = and64(e, k, 15);
        q = aq_emit_load_at(e, e->i8, at_bytes(e, start, at), 1);
        q = f->nibbles ? e->l->BuildZExt(e->b, q, e->i32, "") : e->l->BuildSExt(e->b, q, e->i32, "");
        if (f->nibbles) {
            val by = panel ? and64(e, k, 4) : shift64(e, and64(e, k, 16), 2);
            q = e->l->BuildAnd(e->b, e->l->BuildLShr(e->b, q, e->l->BuildTrunc(e->b, by, e->i32, ""), ""), k32(e, 15), "");
        }
    }
    if (aq_dtype_of(b->type.dtype)->kind == AQ_KIND_WEIGHT)
        return scaled(e, f, q, group, row, 0);
    return e->l->BuildFMul(e->b, aq_emit_f32(e, q), aq_emit_load_at(e, e->f32, group, 4), "");
}

static val lane_by_lane(emitter *e, aq_id buf, const ix *index, int lanes, val mask) {
    const aq_nest_buf *b = &e->n->bufs.at[buf];
    block_form f = aq_emit_block_form(b);
    val all[AQ_MAX_RANK] = {0}, r = e->l->GetUndef(wide(e, e->f32, lanes));
    for (int i = 0; i < b->type.rank; i++)
        if (index[i].vec || index[i].coef) {
            all[i] = aq_emit_ix_vector(e, index[i], lanes);
            if (mask)
                all[i] = e->l->BuildSelect(e->b, mask, all[i],
                                           aq_emit_splat(e, e->l->BuildExtractElement(e->b, all[i], k64(e, 0), ""), lanes), "");
        }
    for (int lane = 0; lane < lanes; lane++) {
        ix one[AQ_MAX_RANK];
        for (int i = 0; i < b->type.rank; i++)
            one[i] = all[i] ? aq_emit_ix_value(e->l->BuildExtractElement(e->b, all[i], k64(e, lane), ""), 1, 1) : index[i];
        block_place p = aq_emit_block_place(e, buf, one);
        r = e->l->BuildInsertElement(e->b, r, single(e, b, &f, p.group, p.row, aq_emit_ix_scalar(e, p.k)), k64(e, lane), "");
    }
    return r;
}

val aq_emit_dequantize(emitter *e, aq_id load) {
    const aq_expr *x = &e->n->exprs.at[load];
    const aq_nest_buf *b = &e->n->bufs.at[x->buf];
    block_form f = aq_emit_block_form(b);
    aq_id axis = aq_emit_expr_lanes(e, load);
    int lanes = axis ? e->cover[axis].lanes : 0, any = 0, weight = aq_dtype_of(b->type.dtype)->kind == AQ_KIND_WEIGHT;
    ix index[AQ_MAX_RANK];
    for (int i = 0; i < x->n_in; i++) {
        index[i] = aq_emit_index(e, x->in[i]);
        any |= index[i].vec || index[i].coef;
    }
    e->lanes = lanes;
    int last = x->n_in - 1;
    if (!any) {
        block_place p = aq_emit_block_place(e, x->buf, index);
        return single(e, b, &f, p.group, p.row, aq_emit_ix_scalar(e, p.k));
    }
    ix n = index[0], k = index[last];
    int k_plain = !k.vec && !k.coef, n_rows = last && !n.vec && n.coef == 1 && aq_emit_ix_align(n) % 16 == 0;
    if (weight && b->layout == AQ_LAYOUT_PANEL && lanes == 16 && k_plain && n_rows) {
        block_place p = aq_emit_block_place(e, x->buf, index);
        if (p.group)
            return panel_lanes(e, &f, &p);
    }
    int others = 0;
    for (int i = 0; i < last; i++)
        others |= index[i].vec || index[i].coef;
    if (weight && b->layout == AQ_LAYOUT_ROWS && lanes <= 16 && !others && !k.vec && k.coef == 1 && aq_emit_ix_align(k) % lanes == 0) {
        block_place p = aq_emit_block_place(e, x->buf, index);
        if (p.group)
            return row_lanes(e, &f, &p, lanes);
    }
    if (weight && b->layout == AQ_LAYOUT_PANEL && (lanes == 8 || lanes == 16) && !others && !k.vec && k.coef == 1 &&
        aq_emit_ix_align(k) % lanes == 0) {
        block_place p = aq_emit_block_place(e, x->buf, index);
        if (p.group)
            return panel_row_lanes(e, &f, &p, lanes);
    }
    return lane_by_lane(e, x->buf, index, lanes, aq_emit_mask(e, axis));
}

/* --- quantise -------------------------------------------------------------------------------------------------------------------- */

static val largest(emitter *e, val lo, val hi) {
    typ t = e->l->TypeOf(lo);
    val v[2] = {aq_emit_intrinsic(e, "llvm.fabs", &t, 1, &lo, 1), aq_emit_intrinsic(e, "llvm.fabs", &t, 1, &hi, 1)};
    val zero = aq_emit_const_like(e, lo, 0); /* NaNs do not count */
    for (int i = 0; i < 2; i++)
        v[i] = e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, LLVMRealOGT, v[i], zero, ""), v[i], zero, "");
    val m = e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, LLVMRealOGT, v[0], v[1], ""), v[0], v[1], "");
    while (lanes_of(e, m)) {
        val a = aq_emit_half_of(e, m, 0), b = aq_emit_half_of(e, m, 1);
        m = e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, LLVMRealOGT, a, b, ""), a, b, "");
    }
    return m;
}

static val quantized(emitter *e, val x, val inv, double limit) {
    val y = e->l->BuildFMul(e->b, x, aq_emit_splat(e, inv, 16), "");
    val hi = aq_emit_const_like(e, y, limit), lo = aq_emit_const_like(e, y, -limit);
    y = e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, LLVMRealOGT, y, hi, ""), hi, y, "");
    y = e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, LLVMRealOLT, y, lo, ""), lo, y, "");
    y = e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, LLVMRealORD, y, y, ""), y, aq_emit_const_like(e, y, 0), "");
    typ t = e->l->TypeOf(y);
    y = aq_emit_intrinsic(e, "llvm.roundeven", &t, 1, &y, 1);
    return e->l->BuildFPToSI(e->b, y, wide(e, e->i32, 16), "");
}

static void store_quants(emitter *e, aq_dtype t, val q, val p) {
    if (t == AQ_A8) {
        e->l->SetAlignment(e->l->BuildStore(e->b, e->l->BuildTrunc(e->b, q, wide(e, e->i8, 16), ""), p), 1);
        return;
    }
    val k[16]; /* 0 2 1 3 inside each four */
    for (int i = 0; i < 16; i++)
        k[i] = k32(e, (i & ~3) | (i & 1) << 1 | (i >> 1 & 1));
    q = e->l->BuildTrunc(e->b, q, wide(e, e->i16, 16), "");
    q = e->l->BuildShuffleVector(e->b, q, e->l->GetPoison(e->l->TypeOf(q)), e->l->ConstVector(k, 16), "");
    e->l->SetAlignment(e->l->BuildStore(e->b, q, p), 2);
}

static void store_block(emitter *e, const aq_stmt *s, aq_id axis) {
    const aq_nest_buf *b = &e->n->bufs.at[s->buf];
    ix index[AQ_MAX_RANK];
    for (int i = 0; i < s->n_index; i++)
        index[i] = aq_emit_index(e, s->index[i]);
    index[s->n_index - 1].coef = 0; /* the block's start: its first lane */
    block_place place = aq_emit_block_place(e, s->buf, index);
    if (!place.group) {
        aq_emit_refuse(e, b->name, "blocks whose rows do not vary along lanes");
        return;
    }
    aq_id x = e->n->exprs.at[s->expr[0]].in[0];
    int lanes = e->cover[axis].lanes, u = e->at[axis];
    val lo = aq_emit_eval_wide(e, x, lanes), hi = lo;
    if (lanes == 16) {
        e->at[axis] = u + 1;
        hi = aq_emit_eval_wide(e, x, lanes);
        e->at[axis] = u;
    } else {
        hi = aq_emit_half_of(e, lo, 1);
        lo = aq_emit_half_of(e, lo, 0);
    }
    double limit = b->type.dtype == AQ_A8 ? 127 : 32767;
    val zero = e->l->ConstReal(e->f32, 0), one = e->l->ConstReal(e->f32, 1);
    val d = e->l->BuildFDiv(e->b, largest(e, lo, hi), e->l->ConstReal(e->f32, limit), "");
    val tiny = e->l->BuildFCmp(e->b, LLVMRealOLT, d, e->l->ConstReal(e->f32, FLT_MIN), "");
    val inv = e->l->BuildSelect(e->b, tiny, zero, e->l->BuildFDiv(e->b, one, d, ""), "");
    d = e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, LLVMRealOEQ, inv, zero, ""), zero, d, "");
    val q[2] = {quantized(e, lo, inv, limit), quantized(e, hi, inv, limit)};
    val both = e->l->BuildAdd(e->b, q[0], q[1], "");
    typ t = e->l->TypeOf(both);
    val sum = aq_emit_intrinsic(e, "llvm.vector.reduce.add", &t, 1, &both, 1);
    e->l->SetAlignment(e->l->BuildStore(e->b, d, place.group), 4);
    e->l->SetAlignment(e->l->BuildStore(e->b, e->l->BuildFMul(e->b, d, aq_emit_f32(e, sum), ""), aq_emit_step_address(e, place.group, 4)),
                       4);
    for (int i = 0; i < 2; i++)
        store_quants(e, b->type.dtype, q[i], aq_emit_step_address(e, place.group, 8 + i * (b->type.dtype == AQ_A8 ? 16 : 32)));
}

static aq_id block_axis(const emitter *e, aq_id index) {
    const aq_expr *x = &e->n->exprs.at[index];
    for (int i = 0; i < x->n_axes; i++)
        if (e->cover[x->axes[i]].lanes)
            return x->axes[i];
    return 0;
}

void aq_emit_quantize_store(emitter *e, const aq_stmt *s) {
    aq_id axis = block_axis(e, s->index[s->n_index - 1]);
    axes_set set = {{0}, 0};
    for (int i = 0; i < s->n_index; i++)
        aq_emit_add_axes(&set, e->n->exprs.at[s->index[i]].axes, e->n->exprs.at[s->index[i]].n_axes, NULL, 0);
    aq_emit_add_axes(&set, e->n->exprs.at[s->expr[0]].axes, e->n->exprs.at[s->expr[0]].n_axes, NULL, 0);
    for (int more = aq_emit_next(e, &set, 1); more && e->status == AQ_OK; more = aq_emit_next(e, &set, 0)) {
        if (e->at[axis] * e->cover[axis].lanes % 32)
            continue; /* the second half of a block */
        block next = aq_emit_guard(e, &set);
        store_block(e, s, axis);
        aq_emit_unguard(e, next);
    }
}
