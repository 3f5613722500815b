/* emit_block.c: single elements of blocks (dequantise) and new blocks of activations (quantise): the formulas of dtype.def and layout.def.
 *
 * Dequantising has two fast forms, lanes along the 16 rows of a panel and lanes along a block as stored; everything else goes element by
 * element. Quantising gives the same bits as aq_dtype_encode_f32. */
#include "codegen/cpu/emit_block.h"

#include <float.h>

static val and64(emitter *e, val a, int64_t k) {
    return e->l->BuildAnd(e->b, a, k64(e, k), "");
}
static val shift64(emitter *e, val a, int by) {
    return e->l->BuildLShr(e->b, a, k64(e, by), "");
}
static val at_bytes(emitter *e, val p, val bytes) {
    return e->l->BuildGEP2(e->b, e->i8, p, &bytes, 1, "");
}

/* q * step * d + m for elements from k on */
static val scaled(emitter *e, const block_form *f, const block_place *p, val q, val k, int rows) {
    val j = shift64(e, k, f->halves == 2 ? 4 : 5);
    block_scale s = aq_emit_block_scale(e, f, p, j, rows);
    int lanes = lanes_of(e, q);
    if (s.step)
        q = e->l->BuildMul(e->b, q, aq_emit_splat(e, s.step, lanes), "");
    q = aq_emit_f32(e, q);
    val d = aq_emit_splat(e, s.d, lanes);
    return s.m ? aq_emit_fma(e, q, d, aq_emit_splat(e, s.m, lanes)) : e->l->BuildFMul(e->b, q, d, "");
}

/* Element k of an activation's block. */
static val act_element(emitter *e, aq_dtype t, val group, val k) {
    val start = aq_emit_step_address(e, group, 8), q;
    if (t == AQ_A16) {
        val swapped = e->l->BuildOr(e->b, e->l->BuildShl(e->b, and64(e, k, 1), k64(e, 1), ""), and64(e, shift64(e, k, 1), 1), "");
        val at = e->l->BuildShl(e->b, e->l->BuildOr(e->b, and64(e, k, 28), swapped, ""), k64(e, 1), "");
        q = aq_emit_load_at(e, e->i16, at_bytes(e, start, at), 2);
    } else
        q = aq_emit_load_at(e, e->i8, at_bytes(e, start, k), 1);
    q = aq_emit_f32(e, e->l->BuildSExt(e->b, q, e->i32, ""));
    return e->l->BuildFMul(e->b, q, aq_emit_load_at(e, e->f32, group, 4), "");
}

/* Element p->k of row p->row, or `lanes` of them from there on. */
static val row_elements(emitter *e, const aq_nest_buf *b, const block_form *f, const block_place *p, int lanes) {
    val k = aq_emit_ix_scalar(e, p->k);
    if (!f->rule)
        return act_element(e, b->type.dtype, p->group, k);
    return scaled(e, f, p, aq_emit_row_codes(e, f, p, k, lanes), k, 0);
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
        r = e->l->BuildInsertElement(e->b, r, row_elements(e, b, &f, &p, 0), k64(e, lane), "");
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
        return row_elements(e, b, &f, &p, 0);
    }
    ix n = index[0], k = index[last];
    int k_plain = !k.vec && !k.coef, n_rows = last && !n.vec && n.coef == 1 && aq_emit_ix_align(n) % 16 == 0;
    if (weight && b->layout == AQ_LAYOUT_PANEL && lanes == 16 && k_plain && n_rows) {
        block_place p = aq_emit_block_place(e, x->buf, index);
        if (p.group)
            return scaled(e, &f, &p, aq_emit_panel_codes(e, &f, &p, aq_emit_ix_scalar(e, p.k)), aq_emit_ix_scalar(e, p.k), 16);
    }
    int others = 0;
    for (int i = 0; i < last; i++)
        others |= index[i].vec || index[i].coef;
    int fits = b->layout == AQ_LAYOUT_ROWS ? lanes <= 16 : b->layout == AQ_LAYOUT_PANEL && (lanes == 8 || lanes == 16);
    if (weight && fits && !others && !k.vec && k.coef == 1 && aq_emit_ix_align(k) % lanes == 0) {
        block_place p = aq_emit_block_place(e, x->buf, index);
        if (p.group)
            return row_elements(e, b, &f, &p, lanes);
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
