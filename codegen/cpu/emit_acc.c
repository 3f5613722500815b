/* emit_acc.c: accumulators of every monoid but attend: where they start, one more element, two partial results, the finished value. Parts
 * are values (registers); along reduced lanes each component has L*U partial results that a halving tree joins when it is read, which is
 * the order that the class "lanesLxU" promises. Order of the values: [part][component][partial]. */
#include "codegen/cpu/emit.h"

#include <math.h>
#include <string.h>

void aq_emit_add_axes(axes_set *s, const uint8_t *axes, int n, const uint8_t *but, int n_but) {
    for (int i = 0; i < n; i++)
        if (!memchr(s->axis, axes[i], (size_t)s->n) && (!n_but || !memchr(but, axes[i], (size_t)n_but)) && s->n < 16)
            s->axis[s->n++] = axes[i];
}

axes_set aq_emit_reduced(const emitter *e, const aq_stmt *s) {
    const aq_tile *t = &e->n->tiles.at[s->tile];
    axes_set all = {{0}, 0}, r = {{0}, 0};
    for (int i = 0; i < s->n_expr; i++)
        aq_emit_add_axes(&all, e->n->exprs.at[s->expr[i]].axes, e->n->exprs.at[s->expr[i]].n_axes, t->axes, t->n_axes);
    for (int i = 0; i < all.n; i++) {
        const cover *c = &e->cover[all.axis[i]];
        if (c->depth >= e->tile[s->tile].depth + 1 || c->step > 1)
            r.axis[r.n++] = all.axis[i];
    }
    return r;
}

int aq_emit_next(emitter *e, const axes_set *s, int first) {
    if (first) {
        for (int i = 0; i < s->n; i++)
            e->at[s->axis[i]] = 0;
        return 1;
    }
    for (int i = s->n; i-- > 0;) {
        if (++e->at[s->axis[i]] < aq_emit_count(e, s->axis[i]))
            return 1;
        e->at[s->axis[i]] = 0;
    }
    return 0;
}

int aq_emit_component(const emitter *e, const aq_tile *t, int n_axes) {
    int64_t at = 0;
    for (int i = 0; i < n_axes; i++)
        at = at * aq_emit_count(e, t->axes[i]) + e->at[t->axes[i]];
    return (int)at;
}

static val *values(emitter *e, int n) {
    void *p = NULL;
    aq_emit_status(e, aq_arena_alloc(e->arena, (size_t)n + 1, sizeof(val), &p));
    return p;
}

/* --- opening --------------------------------------------------------------------------------------------------------------------- */

typedef struct search {
    aq_id tile;
    int lanes[MAX_AXES];
    int64_t step[MAX_AXES];
    int found, L, U; /* of the updates so far */
} search;

static void look_at_update(emitter *e, search *w, const aq_stmt *s) {
    const aq_tile *t = &e->n->tiles.at[s->tile];
    int L = 0, U = 1;
    for (int i = 0; i < s->n_expr; i++) {
        const aq_expr *x = &e->n->exprs.at[s->expr[i]];
        for (int k = 0; k < x->n_axes; k++) {
            aq_id a = x->axes[k];
            if (!memchr(t->axes, (int)a, t->n_axes) && w->lanes[a]) {
                L = w->lanes[a];
                U = (int)(w->step[a] / L);
            }
        }
    }
    if (w->found && (w->L != L || w->U != U))
        aq_emit_refuse(e, t->name, "all its updates along the same lanes");
    w->found = 1;
    w->L = L;
    w->U = U;
}

static void search_updates(emitter *e, search *w, aq_id first) {
    for (aq_id id = first; id; id = e->n->stmts.at[id].next) {
        const aq_stmt *s = &e->n->stmts.at[id];
        if (s->kind == AQ_STMT_UPDATE && s->tile == w->tile)
            look_at_update(e, w, s);
        if (s->kind != AQ_STMT_FOR)
            continue;
        int lanes = w->lanes[s->axis];
        int64_t step = w->step[s->axis];
        w->lanes[s->axis] = s->lanes;
        w->step[s->axis] = s->step ? s->step : e->n->axes.at[s->axis].extent.k;
        search_updates(e, w, s->first_child);
        w->lanes[s->axis] = lanes;
        w->step[s->axis] = step;
    }
}

void aq_emit_acc_open(emitter *e, const aq_stmt *s, aq_id siblings) {
    const aq_tile *t = &e->n->tiles.at[s->tile];
    tile_state *state = &e->tile[s->tile];
    if (t->monoid == AQ_MONOID_attend) {
        aq_emit_attend_open(e, s);
        return;
    }
    search w = {.tile = s->tile, .L = 0, .U = 1};
    for (aq_id a = 1; a < e->n->axes.n; a++) {
        w.lanes[a] = e->cover[a].step ? e->cover[a].lanes : 0;
        w.step[a] = e->cover[a].step;
    }
    search_updates(e, &w, siblings);
    int n = 1, parts = aq_monoid_of(t->monoid)->parts;
    for (int i = 0; i < t->n_axes; i++)
        n *= (int)aq_emit_count(e, t->axes[i]);
    aq_id own = aq_emit_lane_axis(e, t->axes, t->n_axes);
    int lanes = own ? e->cover[own].lanes : w.L;
    *state = (tile_state){
        .components = n, .partials = w.L ? w.U : 1, .lanes = w.L, .n_values = parts * n * (w.L ? w.U : 1), .live = 1, .depth = e->depth};
    state->at = values(e, state->n_values);
    for (int i = 0; state->at && i < state->n_values; i++) {
        int part = i / (n * state->partials);
        double zero = t->monoid == AQ_MONOID_sum || part > 0 ? 0 : -INFINITY;
        val z = t->monoid == AQ_MONOID_argmax && part == 1 ? k32(e, 0) : e->l->ConstReal(e->f32, zero);
        state->at[i] = aq_emit_splat(e, z, lanes);
    }
}

/* --- monoids on the parts of one component --------------------------------------------------------------------------------------- */

static val greater(emitter *e, val a, val b) {
    return e->l->BuildFCmp(e->b, LLVMRealOGT, a, b, "");
}

/* l e^(m - m") with m" = 0 in the place of -inf, where every term is 0. */
static val shifted(emitter *e, val m, val top) {
    val inf = aq_emit_const_like(e, top, -INFINITY), zero = aq_emit_const_like(e, top, 0);
    val safe = e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, LLVMRealOEQ, top, inf, ""), zero, top, "");
    return aq_emit_exp(e, e->l->BuildFSub(e->b, m, safe, ""));
}

/* out = a joined with b, parts of the monoid. */
static void merge(emitter *e, aq_monoid monoid, const val *a, const val *b, val *out) {
    if (monoid == AQ_MONOID_sum) {
        out[0] = e->l->BuildFAdd(e->b, a[0], b[0], "");
        return;
    }
    val more = greater(e, b[0], a[0]);
    if (monoid == AQ_MONOID_argmax) {
        val equal = e->l->BuildFCmp(e->b, LLVMRealOEQ, b[0], a[0], ""), before = e->l->BuildICmp(e->b, LLVMIntSLT, b[1], a[1], "");
        more = e->l->BuildOr(e->b, more, e->l->BuildAnd(e->b, equal, before, ""), "");
        out[1] = e->l->BuildSelect(e->b, more, b[1], a[1], "");
    }
    val top = e->l->BuildSelect(e->b, more, b[0], a[0], "");
    if (monoid == AQ_MONOID_lse) {
        val l = e->l->BuildFMul(e->b, a[1], shifted(e, a[0], top), "");
        out[1] = e->l->BuildFAdd(e->b, l, e->l->BuildFMul(e->b, b[1], shifted(e, b[0], top), ""), "");
    }
    out[0] = top;
}

/* The finished value of parts. */
static val finish(emitter *e, aq_monoid monoid, const val *p) {
    if (monoid == AQ_MONOID_argmax)
        return p[1];
    if (monoid != AQ_MONOID_lse)
        return p[0];
    val none = e->l->BuildFCmp(e->b, LLVMRealOEQ, p[0], aq_emit_const_like(e, p[0], -INFINITY), "");
    return e->l->BuildSelect(e->b, none, p[0], e->l->BuildFAdd(e->b, p[0], aq_emit_log(e, p[1]), ""), "");
}

static void tree(emitter *e, aq_monoid monoid, int parts, const tile_state *state, int component, val *out) {
    val p[2][64];
    int n = state->partials;
    if (n > 64) {
        aq_emit_refuse(e, "more than 64 vectors of partial sums", "smaller steps");
        n = 1;
    }
    for (int i = 0; i < parts; i++)
        for (int u = 0; u < n; u++)
            p[i][u] = state->at[(i * state->components + component) * state->partials + u];
    for (n /= 2; n >= 1; n /= 2)
        for (int u = 0; u < n; u++) {
            val a[2] = {p[0][u], p[1][u]}, b[2] = {p[0][u + n], p[1][u + n]}, r[2];
            merge(e, monoid, a, b, r);
            for (int i = 0; i < parts; i++)
                p[i][u] = r[i];
        }
    for (int lanes = state->lanes; lanes > 1; lanes /= 2) {
        val a[2], b[2], r[2];
        for (int i = 0; i < parts; i++) {
            a[i] = aq_emit_half_of(e, p[i][0], 0);
            b[i] = aq_emit_half_of(e, p[i][0], 1);
        }
        merge(e, monoid, a, b, r);
        for (int i = 0; i < parts; i++)
            p[i][0] = r[i];
    }
    for (int i = 0; i < parts; i++)
        out[i] = p[i][0];
}

val aq_emit_tile_read(emitter *e, aq_id tile, int part) {
    const aq_tile *t = &e->n->tiles.at[tile];
    const tile_state *state = &e->tile[tile];
    val in_memory = aq_emit_rolled(e, tile, part);
    if (in_memory)
        return in_memory;
    if (!t->is_acc)
        return state->at[aq_emit_component(e, t, t->n_axes)];
    if (t->monoid == AQ_MONOID_attend)
        return aq_emit_attend_read(e, tile, part);
    int component = aq_emit_component(e, t, t->n_axes), parts = aq_monoid_of(t->monoid)->parts;
    val p[2];
    tree(e, t->monoid, parts, state, component, p);
    return part < 0 ? finish(e, t->monoid, p) : p[part];
}

/* --- updates --------------------------------------------------------------------------------------------------------------------- */

static val keep_where(emitter *e, val yes, val old, val new) {
    if (!yes)
        return new;
    return e->l->BuildSelect(e->b, lanes_of(e, new) ? aq_emit_splat(e, yes, lanes_of(e, new)) : yes, new, old, "");
}

static val step_sum(emitter *e, aq_id id, val acc) {
    const aq_expr *x = &e->n->exprs.at[id];
    int lanes = lanes_of(e, acc);
    if (x->kind == AQ_EXPR_OP && (x->op == AQ_OP_dot || x->op == AQ_OP_mul) && x->dtype == AQ_F32)
        return aq_emit_fma(e, aq_emit_eval_wide(e, x->in[0], lanes), aq_emit_eval_wide(e, x->in[1], lanes), acc);
    return e->l->BuildFAdd(e->b, acc, aq_emit_eval_wide(e, id, lanes), "");
}

/* One more element (or a partial result) into the parts p at the coordinate e->at; `index` is the reduced axis of argmax. */
static void step(emitter *e, const aq_stmt *s, aq_id index, const val *p, val *out) {
    aq_monoid monoid = e->n->tiles.at[s->tile].monoid;
    int lanes = lanes_of(e, p[0]);
    val one[2] = {NULL, NULL};
    if (monoid == AQ_MONOID_sum) {
        out[0] = step_sum(e, s->expr[0], p[0]);
        return;
    }
    one[0] = aq_emit_eval_wide(e, s->expr[0], lanes);
    if (s->merge && s->n_expr > 1)
        one[1] =
            monoid == AQ_MONOID_argmax ? aq_emit_splat(e, aq_emit_eval(e, s->expr[1]), lanes) : aq_emit_eval_wide(e, s->expr[1], lanes);
    else if (monoid == AQ_MONOID_lse)
        one[1] = aq_emit_const_like(e, p[1], 1);
    else if (monoid == AQ_MONOID_argmax) {
        ix i = aq_emit_axis_index(e, index);
        val first = e->l->BuildTrunc(e->b, aq_emit_ix_scalar(e, i), e->i32, "");
        one[1] = aq_emit_splat(e, first, lanes);
        if (i.coef)
            one[1] = e->l->BuildAdd(e->b, one[1], aq_emit_lane_numbers(e, e->i32, lanes), "");
    }
    merge(e, monoid, p, one, out);
}

/* What the update of one statement iterates over: reduced axes first, so that each accumulator takes its elements in order. */
typedef struct plan {
    const aq_stmt *s;
    axes_set set;
    int n_reduced;
    aq_id lane_axis; /* reduced */
} plan;

static plan plan_of(emitter *e, const aq_stmt *s) {
    const aq_tile *t = &e->n->tiles.at[s->tile];
    plan p = {.s = s, .set = aq_emit_reduced(e, s)};
    p.n_reduced = p.set.n;
    p.lane_axis = aq_emit_lane_axis(e, p.set.axis, p.set.n);
    aq_emit_add_axes(&p.set, t->axes, t->n_axes, NULL, 0);
    return p;
}

/* The element at e->at into its accumulator. */
static void update_at(emitter *e, const plan *p) {
    const aq_tile *t = &e->n->tiles.at[p->s->tile];
    tile_state *state = &e->tile[p->s->tile];
    int parts = aq_monoid_of(t->monoid)->parts, stride = state->components * state->partials;
    val *at = &state->at[aq_emit_component(e, t, t->n_axes) * state->partials + (p->lane_axis ? e->at[p->lane_axis] % state->partials : 0)];
    val old[2] = {at[0], parts > 1 ? at[stride] : NULL}, new[2];
    step(e, p->s, p->n_reduced ? p->set.axis[0] : 0, old, new);
    val yes = aq_emit_inside(e, p->set.axis, p->n_reduced), mask = p->lane_axis ? aq_emit_mask(e, p->lane_axis) : NULL;
    if (mask)
        yes = yes ? e->l->BuildAnd(e->b, mask, aq_emit_splat(e, yes, lanes_of(e, mask)), "") : mask;
    for (int i = 0; i < parts; i++)
        at[i * stride] = keep_where(e, yes, old[i], new[i]);
}

void aq_emit_update(emitter *e, const aq_stmt *s) {
    if (e->n->tiles.at[s->tile].monoid == AQ_MONOID_attend) {
        aq_emit_attend(e, s);
        return;
    }
    if (aq_emit_is_block_dot(e, s->expr[0])) {
        aq_emit_block_dot(e, s);
        return;
    }
    plan p = plan_of(e, s);
    for (int more = aq_emit_next(e, &p.set, 1); more; more = aq_emit_next(e, &p.set, 0))
        update_at(e, &p);
}

void aq_emit_updates(emitter *e, aq_id first) {
    enum { MANY = 8 };
    plan p[MANY];
    int n = 0, together = 1;
    aq_emit_forget(e);
    memset(e->at, 0, sizeof e->at);
    for (aq_id id = first; id && n < MANY; id = e->n->stmts.at[id].next, n++) {
        p[n] = plan_of(e, &e->n->stmts.at[id]);
        together = together && p[n].set.n == p[0].set.n && !memcmp(p[n].set.axis, p[0].set.axis, sizeof p[n].set.axis);
        together = together && (n < MANY - 1 || !e->n->stmts.at[id].next);
    }
    if (!together) {
        aq_emit_list(e, first);
        return;
    }
    for (int more = aq_emit_next(e, &p[0].set, 1); more; more = aq_emit_next(e, &p[0].set, 0))
        for (int i = 0; i < n; i++)
            update_at(e, &p[i]);
}
