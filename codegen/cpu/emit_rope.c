/* emit_rope.c: rotary positions. Pairs (2i, 2i+1) of each group of `dim` elements turn by the angle that ir/rope.h says. The frequencies
 * are a table of f64 in the object, each twice, so that lanes along the pair axis load them side by side; the angle is kept in f64, because
 * an f32 angle of 1e6 is only good to 0.06. */
#include "codegen/cpu/emit.h"

static int same_table(const aq_rope *a, const aq_rope *b) {
    return a->theta == b->theta && a->dim == b->dim && a->low == b->low && a->high == b->high && a->ramp == b->ramp &&
           (!aq_rope_has_band(a) || a->factor == b->factor);
}

/* The global with `dim` frequencies; one for each kind of rope of the module. */
static val table_of(emitter *e, const aq_rope *r) {
    int n = e->n_rope < 8 ? e->n_rope : 8;
    int64_t dim = r->dim;
    for (int i = 0; i < n; i++)
        if (same_table(&e->rope_key[i], r))
            return e->rope_table[i];
    void *p;
    aq_status s = aq_arena_alloc(e->arena, (size_t)dim, sizeof(val), &p);
    if (s != AQ_OK) {
        aq_emit_status(e, s);
        return e->l->GetUndef(e->ptr);
    }
    val *at = p;
    for (int64_t i = 0; i < dim; i++)
        at[i] = e->l->ConstReal(e->f64, aq_rope_frequency(r, i / 2));
    val g = e->l->AddGlobal(e->mod, e->l->ArrayType2(e->f64, (uint64_t)dim), "");
    e->l->SetInitializer(g, e->l->ConstArray2(e->f64, at, (uint64_t)dim));
    e->l->SetGlobalConstant(g, 1);
    e->l->SetLinkage(g, LLVMPrivateLinkage);
    e->l->SetAlignment(g, 64);
    if (e->n_rope < 8) {
        e->rope_key[e->n_rope] = *r;
        e->rope_table[e->n_rope++] = g;
    }
    return g;
}

static val frequency(emitter *e, const aq_rope *r, aq_id axis) {
    const cover *c = &e->cover[axis];
    val table = table_of(e, r);
    e->lanes = c->lanes ? c->lanes : e->lanes;
    ix at = aq_emit_ix_mod(e, aq_emit_axis_index(e, axis), r->dim);
    if (at.vec || (at.coef && at.coef != 1))
        return aq_emit_gather(e, table, at, c->lanes, NULL, 8, e->f64);
    val bytes = e->l->BuildMul(e->b, aq_emit_ix_scalar(e, at), k64(e, 8), "");
    val p = e->l->BuildGEP2(e->b, e->i8, table, &bytes, 1, "");
    return aq_emit_load_at(e, wide(e, e->f64, at.coef ? c->lanes : 0), p, 8);
}

static val swap_pairs(emitter *e, val v) {
    int n = lanes_of(e, v);
    val k[64];
    for (int i = 0; i < n; i++)
        k[i] = k32(e, i ^ 1);
    return e->l->BuildShuffleVector(e->b, v, e->l->GetPoison(e->l->TypeOf(v)), e->l->ConstVector(k, (unsigned)n), "");
}

static val pair_signs(emitter *e, int lanes) {
    val k[64];
    for (int i = 0; i < lanes; i++)
        k[i] = e->l->ConstReal(e->f32, i % 2 ? 1 : -1);
    return e->l->ConstVector(k, (unsigned)lanes);
}

val aq_emit_rope(emitter *e, aq_id id) {
    const aq_expr *x = &e->n->exprs.at[id], *in = &e->n->exprs.at[x->in[0]];
    aq_id axis = in->axes[in->n_axes - 1];
    int along = e->cover[axis].lanes; /* lanes along the pairs */
    val v = aq_emit_eval_f32(e, x->in[0]), partner, sign;
    if (along) {
        v = aq_emit_splat(e, v, along);
        partner = swap_pairs(e, v);
        sign = pair_signs(e, along);
    } else {
        int u = e->at[axis];
        e->at[axis] = u ^ 1;
        partner = aq_emit_eval_f32(e, x->in[0]);
        e->at[axis] = u;
        sign = e->l->ConstReal(e->f32, u % 2 ? 1 : -1);
    }
    aq_rope r = aq_rope_of_expr(e->n, x);
    r.dim = r.dim ? r.dim : e->n->axes.at[axis].extent.k;
    val freq = frequency(e, &r, axis), pos = aq_emit_eval(e, x->in[1]);
    int lanes = lanes_of(e, freq) | lanes_of(e, pos);
    pos = e->l->BuildSIToFP(e->b, pos, wide(e, e->f64, lanes_of(e, pos)), "");
    if (r.factor != 1 && !aq_rope_has_band(&r))
        pos = e->l->BuildFDiv(e->b, pos, aq_emit_splat(e, e->l->ConstReal(e->f64, r.factor), lanes_of(e, pos)), "");
    val angle = e->l->BuildFMul(e->b, aq_emit_splat(e, pos, lanes), aq_emit_splat(e, freq, lanes), "");
    val sine, cosine;
    aq_emit_sincos(e, angle, &sine, &cosine);
    lanes |= lanes_of(e, v) | lanes_of(e, partner);
    sine = e->l->BuildFMul(e->b, aq_emit_splat(e, sine, lanes), aq_emit_splat(e, sign, lanes), "");
    val turned = e->l->BuildFMul(e->b, aq_emit_splat(e, partner, lanes), sine, "");
    v = aq_emit_fma(e, v, cosine, turned);
    return r.gain == 1 ? v : e->l->BuildFMul(e->b, v, aq_emit_const_like(e, v, r.gain), "");
}
