/* emit_pairs.c: dots of bf16 with bf16, two elements an instruction: what `mma 2` on the reduced axis means on a CPU with AVX512-BF16.
 *
 * vdpbf16ps adds to each of 16 sums the products of a pair of elements, so it does twice the work of a fused multiply-add (Zen 4: 236 against
 * 118 GFLOP/s). It treats denormals as zero and orders the two additions as it likes: the class of the sum is "mma2", not "seq".
 * A panel holds element k of 16 rows and then element k + 1 of them: one load of 64 bytes and one shuffle make 16 pairs, shared by all rows
 * of the other side; there the pair is one spread word of a row. Anything else is made element by element and joined.
 * Tried and dropped: a layout with the pairs side by side, which saves the shuffle of 12 dots and would have to be told to every reader. */
#include "codegen/cpu/emit.h"

#include <string.h>

enum { LANES = 16 };

/* Is this a load whose last subscript is `axis`, and no other knows that axis? */
static int runs_along(const emitter *e, const aq_expr *x, aq_id axis) {
    if (x->kind != AQ_EXPR_LOAD || !x->n_in || e->n->bufs.at[x->buf].type.dtype != AQ_BF16)
        return 0;
    for (int i = 0; i < x->n_in; i++) {
        const aq_expr *s = &e->n->exprs.at[x->in[i]];
        int here = 0;
        for (int k = 0; k < s->n_axes; k++)
            here |= s->axes[k] == axis;
        if (i == x->n_in - 1 ? s->kind != AQ_EXPR_AXIS || s->axis != axis : here)
            return 0;
    }
    return 1;
}

/* 16 pairs (<16 x i32>) of a panel or one (i32) of a row, from memory as it lies; NULL where it does not lie so. */
static val load_pair(emitter *e, const aq_expr *x, aq_id axis, aq_id lane_axis) {
    ix index[AQ_MAX_RANK];
    if (!runs_along(e, x, axis))
        return NULL;
    const aq_nest_buf *b = &e->n->bufs.at[x->buf];
    if (b->layout != (lane_axis ? AQ_LAYOUT_PANEL : AQ_LAYOUT_ROWS))
        return NULL;
    for (int i = 0; i < x->n_in; i++)
        index[i] = aq_emit_index(e, x->in[i]);
    ix offset = aq_emit_offset(e, b, index);
    if (offset.vec || offset.coef != (lane_axis ? 1 : 0) || (lane_axis && aq_emit_ix_align(index[0]) % LANES))
        return NULL;
    val at = aq_emit_address(e, x->buf, offset, 2);
    if (!lane_axis)
        return aq_emit_load_at(e, e->i32, at, 2);
    val two = aq_emit_load_at(e, wide(e, e->i16, 2 * LANES), at, 2), order[2 * LANES];
    for (int i = 0; i < 2 * LANES; i++)
        order[i] = k32(e, i / 2 + i % 2 * LANES);
    val mixed = e->l->BuildShuffleVector(e->b, two, two, e->l->ConstVector(order, 2 * LANES), "");
    return e->l->BuildBitCast(e->b, mixed, wide(e, e->i32, LANES), "");
}

/* The element at `base` of the axis, as bits in the upper half of an i32 or of 16. */
static val bits_at(emitter *e, aq_id id, aq_id axis, val base) {
    e->cover[axis].base = base;
    aq_emit_forget(e);
    return aq_emit_cast_type(e, aq_emit_eval_f32(e, id), e->i32);
}

static val pair_of(emitter *e, aq_id id, aq_id axis, int n) {
    aq_id lane_axis = aq_emit_expr_lanes(e, id);
    cover old = e->cover[axis];
    if (lane_axis)
        e->lanes = LANES;
    val pair = n == 2 ? load_pair(e, &e->n->exprs.at[id], axis, lane_axis) : NULL;
    if (pair)
        return pair;
    val first = bits_at(e, id, axis, old.base);
    pair = e->l->BuildLShr(e->b, first, aq_emit_int_like(e, first, 16), "");
    if (n == 2) {
        cover *c = &e->cover[axis];
        c->first++;
        c->align = 1;
        val second = bits_at(e, id, axis, e->l->BuildAdd(e->b, old.base, k64(e, 1), ""));
        pair = e->l->BuildOr(e->b, pair, second, ""); /* the lower half of a bf16 is zero */
    }
    e->cover[axis] = old;
    aq_emit_forget(e);
    return pair;
}

static val as_bf16(emitter *e, val pair) {
    return e->l->BuildBitCast(e->b, aq_emit_splat(e, pair, LANES), wide(e, e->bf16, 2 * LANES), "");
}

/* Are its values exact in bf16? (Expressions of floats are f32 by type; what is stored as bf16 or cast to it has a lower half of zeros.) */
static int is_bf16(const emitter *e, aq_id id) {
    const aq_expr *x = &e->n->exprs.at[id];
    const aq_attr *to = x->kind == AQ_EXPR_OP && x->op == AQ_OP_cast ? aq_nest_attr(e->n, x, AQ_ATTR_dtype) : NULL;
    return x->kind == AQ_EXPR_LOAD ? e->n->bufs.at[x->buf].type.dtype == AQ_BF16 : to && (aq_dtype)to->num == AQ_BF16;
}

static int is_dot_of_bf16(const emitter *e, const aq_stmt *s) {
    const aq_expr *x = &e->n->exprs.at[s->expr[0]];
    return s->kind == AQ_STMT_UPDATE && e->n->tiles.at[s->tile].monoid == AQ_MONOID_sum && x->kind == AQ_EXPR_OP && x->op == AQ_OP_dot &&
           is_bf16(e, x->in[0]) && is_bf16(e, x->in[1]);
}

static void add_pair(emitter *e, const aq_stmt *s, aq_id axis, int n) {
    const aq_tile *t = &e->n->tiles.at[s->tile];
    const aq_expr *x = &e->n->exprs.at[s->expr[0]];
    aq_id lane_axis = aq_emit_lane_axis(e, t->axes, t->n_axes);
    if (!lane_axis || e->cover[lane_axis].lanes != LANES) {
        aq_emit_refuse(e, t->name, "16 lanes on an axis of the accumulator beside mma 2");
        return;
    }
    axes_set set = {{0}, 0};
    aq_emit_add_axes(&set, t->axes, t->n_axes, NULL, 0);
    for (int more = aq_emit_next(e, &set, 1); more; more = aq_emit_next(e, &set, 0)) {
        val *at = &e->tile[s->tile].at[aq_emit_component(e, t, t->n_axes)];
        val args[3] = {*at, as_bf16(e, pair_of(e, x->in[0], axis, n)), as_bf16(e, pair_of(e, x->in[1], axis, n))};
        *at = aq_emit_intrinsic(e, "llvm.x86.avx512bf16.dpbf16ps.512", NULL, 0, args, 3);
    }
}

int aq_emit_is_pairs(const emitter *e, const aq_stmt *loop) {
    for (aq_id id = loop->first_child; loop->mma == 2 && id; id = e->n->stmts.at[id].next)
        if (!is_dot_of_bf16(e, &e->n->stmts.at[id]))
            return 0;
    return loop->mma == 2 && e->target->has_bf16;
}

void aq_emit_pairs(emitter *e, const aq_stmt *loop, int n) {
    memset(e->at, 0, sizeof e->at);
    for (aq_id id = loop->first_child; id && e->status == AQ_OK; id = e->n->stmts.at[id].next)
        add_pair(e, &e->n->stmts.at[id], loop->axis, n);
}
