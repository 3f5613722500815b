/* emit_dot_lanes.c: dots of blocks in shapes that the fast form does not take (weights as stored, odd tiles): each lane's 32 integers are
 * put in order, multiplied as vectors and summed, and the lane's number is updated. Same sums, same bits, perhaps a tenth of the speed. */
#include "codegen/cpu/emit_dot.h"

static val shuffled(emitter *e, val a, val b, const int *order, int n) {
    val k[64];
    for (int i = 0; i < n; i++)
        k[i] = k32(e, order[i]);
    return e->l->BuildShuffleVector(e->b, a, b ? b : e->l->GetPoison(e->l->TypeOf(a)), e->l->ConstVector(k, (unsigned)n), "");
}

/* The 32 integers of a group of a weight in order. */
static val row_weights(emitter *e, const side *w, const block_place *p, val k) {
    int order[32];
    val half[2];
    for (int h = 0; h < 2; h++)
        half[h] = aq_emit_row_codes(e, &w->form, p, e->l->BuildAdd(e->b, k, k64(e, 16 * h), ""), 16);
    for (int i = 0; i < 32; i++)
        order[i] = i;
    return shuffled(e, half[0], half[1], order, 32);
}

static val row_acts(emitter *e, const side *a, val group) {
    val p = aq_emit_step_address(e, group, 8);
    if (a->dtype == AQ_A8)
        return e->l->BuildSExt(e->b, aq_emit_load_at(e, wide(e, e->i8, 32), p, 1), wide(e, e->i16, 32), "");
    int order[32];
    for (int i = 0; i < 32; i++)
        order[i] = (i & ~3) | (i & 1) << 1 | (i >> 1 & 1);
    return shuffled(e, aq_emit_load_at(e, wide(e, e->i16, 32), p, 2), NULL, order, 32);
}

static val one_lane(emitter *e, const dots *d, const block_place *w, const block_place *a, val acc) {
    val k = aq_emit_ix_scalar(e, w->k), x = row_weights(e, &d->w, w, k), y = e->l->BuildSExt(e->b, row_acts(e, &d->a, a->group), wide(e, e->i32, 32), "");
    val product = e->l->BuildMul(e->b, x, y, ""), da = aq_emit_load_at(e, e->f32, a->group, 4);
    int halves = d->w.form.halves, by_halves = aq_block_sums_halves(d->w.form.rule);
    val whole = NULL, dw = NULL, m[2];
    for (int h = 0; h < halves; h++) {
        val of = halves == 1 ? product : aq_emit_half_of(e, product, h);
        typ t = e->l->TypeOf(of);
        val sum = aq_emit_intrinsic(e, "llvm.vector.reduce.add", &t, 1, &of, 1);
        val j = e->l->BuildAdd(e->b, e->l->BuildLShr(e->b, k, k64(e, halves == 1 ? 5 : 4), ""), k64(e, h), "");
        block_scale s = aq_emit_block_scale(e, &d->w.form, w, j, 0);
        dw = s.d;
        m[h] = s.m;
        whole = aq_emit_half_taken(e, whole, sum, s.step, by_halves);
    }
    acc = aq_emit_fma(e, aq_emit_f32(e, whole), e->l->BuildFMul(e->b, dw, da, ""), acc);
    for (int h = 0; h < halves && m[h]; h++) {
        val total = halves == 1 ? aq_emit_load_at(e, e->f32, aq_emit_step_address(e, a->group, 4), 4)
                                : e->l->BuildFMul(e->b, da, aq_emit_f32(e, aq_emit_half_sum(e, d->a.dtype, a->group, h)), "");
        acc = aq_emit_fma(e, m[h], total, acc);
    }
    return acc;
}

static block_place place_lane(emitter *e, const side *s, int lane, int lanes, val mask) {
    const aq_expr *x = &e->n->exprs.at[s->load];
    ix index[AQ_MAX_RANK];
    for (int i = 0; i < x->n_in; i++) {
        index[i] = aq_emit_index(e, x->in[i]);
        if (!index[i].vec && !index[i].coef)
            continue;
        val all = aq_emit_ix_vector(e, index[i], lanes), first = e->l->BuildExtractElement(e->b, all, k64(e, 0), "");
        val one = e->l->BuildExtractElement(e->b, all, k64(e, lane), "");
        if (mask)
            one = e->l->BuildSelect(e->b, e->l->BuildExtractElement(e->b, mask, k64(e, lane), ""), one, first, "");
        index[i] = aq_emit_ix_value(one, 1, 1);
    }
    return aq_emit_block_place(e, s->buf, index);
}

void aq_emit_slow_block(emitter *e, dots *d, val yes) {
    axes_set set = {{0}, 0};
    aq_emit_add_axes(&set, d->t->axes, d->t->n_axes, NULL, 0);
    aq_id axis = aq_emit_lane_axis(e, d->t->axes, d->t->n_axes);
    int lanes = axis ? e->cover[axis].lanes : 0;
    for (int more = aq_emit_next(e, &set, 1); more; more = aq_emit_next(e, &set, 0)) {
        val *acc = &d->state->at[aq_emit_component(e, d->t, d->t->n_axes)], r = *acc, mask = aq_emit_mask(e, axis);
        e->lanes = lanes;
        for (int lane = 0; lane < (lanes ? lanes : 1); lane++) {
            block_place w = place_lane(e, &d->w, lane, lanes, mask), a = place_lane(e, &d->a, lane, lanes, mask);
            val old = lanes ? e->l->BuildExtractElement(e->b, r, k64(e, lane), "") : r, new = one_lane(e, d, &w, &a, old);
            r = lanes ? e->l->BuildInsertElement(e->b, r, new, k64(e, lane), "") : new;
        }
        *acc = yes ? e->l->BuildSelect(e->b, yes, r, *acc, "") : r;
    }
}
