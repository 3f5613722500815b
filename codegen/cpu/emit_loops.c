/* emit_loops.c: inside a work item: sequential loops, lists of statements.
 *
 * A loop that sums over a range that is no multiple of its step gets its body twice: whole turns without any mask, then one with cuts; any
 * other loop has one body that allows for the cut. Accumulators that live across a loop are phis, so the code generator sees plain
 * registers. A loop that holds only updates may take smaller turns than its step: the order of a sum without lanes does not depend on them,
 * and the code stays small. */
#include "codegen/cpu/emit.h"

#include <string.h>

enum { MAX_UNROLLED = 160 }; /* updates of numbers or vectors in one body */

val aq_emit_dim(emitter *e, aq_dim d) {
    if (!d.sym)
        return k64(e, d.k);
    if (!e->sym[d.sym]) {
        aq_emit_refuse(e, e->n->module->syms.at[d.sym].name, "sizes in the symbols T O B S P only");
        return k64(e, 1);
    }
    return d.k == 1 ? e->sym[d.sym] : e->l->BuildMul(e->b, e->sym[d.sym], k64(e, d.k), "");
}

int64_t aq_emit_count(const emitter *e, aq_id axis) {
    const cover *c = &e->cover[axis];
    return c->lanes ? c->step / c->lanes : c->step;
}

static val least(emitter *e, val a, val b) {
    return e->l->BuildSelect(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, a, b, ""), a, b, "");
}
static val largest(emitter *e, val a, val b) {
    return e->l->BuildSelect(e->b, e->l->BuildICmp(e->b, LLVMIntSGT, a, b, ""), a, b, "");
}

/* Where the whole axis ends now. */
val aq_emit_axis_end(emitter *e, aq_id axis) {
    const aq_nest_axis *a = &e->n->axes.at[axis];
    val end = aq_emit_dim(e, a->extent);
    if (!a->limit)
        return end;
    aq_emit_forget(e);
    const aq_expr *x = &e->n->exprs.at[a->limit];
    axes_set set = {{0}, 0};
    aq_emit_add_axes(&set, x->axes, x->n_axes, NULL, 0);
    val limit = NULL;
    for (int more = aq_emit_next(e, &set, 1); more; more = aq_emit_next(e, &set, 0)) {
        val v = aq_emit_ix_scalar(e, aq_emit_index(e, a->limit));
        limit = limit ? largest(e, limit, v) : v;
    }
    return least(e, end, limit);
}

/* --- accumulators across blocks -------------------------------------------------------------------------------------------------- */

typedef struct carried {
    aq_id *tile; /* room for all of the nest */
    int n;
    int64_t values;
} carried;

static void collect(const emitter *e, aq_id first, carried *out) {
    for (aq_id id = first; id; id = e->n->stmts.at[id].next) {
        const aq_stmt *s = &e->n->stmts.at[id];
        collect(e, s->first_child, out);
        if (s->kind != AQ_STMT_UPDATE || !e->tile[s->tile].live)
            continue;
        int known = 0;
        for (int i = 0; i < out->n; i++)
            known |= out->tile[i] == s->tile;
        if (!known) {
            out->tile[out->n++] = s->tile;
            out->values += e->tile[s->tile].n_values;
        }
    }
}

static carried carried_by(emitter *e, const aq_stmt *loop) {
    carried c = {.n = 0};
    void *p = NULL;
    aq_emit_status(e, aq_arena_alloc(e->arena, e->n->tiles.n, sizeof *c.tile, &p));
    c.tile = p;
    if (p)
        collect(e, loop->first_child, &c);
    return c;
}

static val *list(emitter *e, int64_t n) {
    void *p = NULL;
    aq_emit_status(e, aq_arena_alloc(e->arena, (size_t)n + 1, sizeof(val), &p));
    return p;
}

static void save(emitter *e, const carried *c, val *to) {
    for (int i = 0; to && i < c->n; i++) {
        memcpy(to, e->tile[c->tile[i]].at, sizeof *to * (size_t)e->tile[c->tile[i]].n_values);
        to += e->tile[c->tile[i]].n_values;
    }
}

/* Makes a phi for each carried value, with its value now coming from `from`; the phis become the values. */
static void make_phis(emitter *e, const carried *c, block from, val *phis) {
    for (int i = 0; i < c->n; i++) {
        tile_state *t = &e->tile[c->tile[i]];
        for (int k = 0; k < t->n_values; k++) {
            *phis = e->l->BuildPhi(e->b, e->l->TypeOf(t->at[k]), "");
            e->l->AddIncoming(*phis, &t->at[k], &from, 1);
            t->at[k] = *phis++;
        }
    }
}

static void add_incoming(emitter *e, const carried *c, val *phis, val *values, block from) {
    for (int64_t i = 0; i < c->values; i++)
        e->l->AddIncoming(phis[i], &values[i], &from, 1);
}

/* --- loops ----------------------------------------------------------------------------------------------------------------------- */

typedef struct range {
    val lo, hi;
    int64_t span; /* hi - lo where it is known, else -1 */
    int64_t align;
} range;

static range range_of(emitter *e, aq_id axis) {
    const cover *outer = &e->cover[axis];
    const aq_nest_axis *a = &e->n->axes.at[axis];
    range r = {.align = (int64_t)1 << 40};
    if (!outer->step) {
        r.lo = k64(e, 0);
        r.hi = aq_emit_axis_end(e, axis);
        r.span = a->extent.sym || a->limit ? -1 : a->extent.k;
        return r;
    }
    r.lo = outer->base;
    r.align = outer->align;
    r.hi = e->l->BuildAdd(e->b, outer->base, k64(e, outer->step), "");
    r.span = outer->end ? -1 : outer->step;
    if (outer->end)
        r.hi = least(e, r.hi, outer->end);
    return r;
}

static int64_t common(int64_t a, int64_t b) {
    while (b) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a < 0 ? -a : a;
}

/* rope looks at the other element of its pair: both must be in the same turn. */
static int has_rope(const emitter *e, aq_id expr) {
    const aq_expr *x = &e->n->exprs.at[expr];
    for (int i = 0; i < x->n_in; i++)
        if (has_rope(e, x->in[i]))
            return 1;
    return x->kind == AQ_EXPR_OP && x->op == AQ_OP_rope;
}

static int only_updates(const emitter *e, const aq_stmt *loop) {
    for (aq_id id = loop->first_child; id; id = e->n->stmts.at[id].next) {
        const aq_stmt *s = &e->n->stmts.at[id];
        if (s->kind != AQ_STMT_UPDATE || e->n->tiles.at[s->tile].monoid == AQ_MONOID_attend)
            return 0;
        for (int i = 0; i < s->n_expr; i++)
            if (has_rope(e, s->expr[i]))
                return 0;
    }
    return 1;
}

static int64_t turn_of(const emitter *e, const aq_stmt *loop, int64_t step) {
    if (loop->lanes || !only_updates(e, loop))
        return step;
    int least = loop->mma ? loop->mma : 1;
    int64_t numbers = 0;
    int blocks = 0;
    for (aq_id id = loop->first_child; id; id = e->n->stmts.at[id].next) {
        const aq_stmt *s = &e->n->stmts.at[id];
        numbers += e->tile[s->tile].n_values;
        blocks |= aq_emit_is_block_dot(e, s->expr[0]);
    }
    if (blocks)
        return 32;
    while (numbers * step > MAX_UNROLLED && step % (2 * least) == 0)
        step /= 2;
    return step;
}

static int is_block_dot(const emitter *e, aq_id first) {
    for (aq_id id = first; id; id = e->n->stmts.at[id].next)
        if (aq_emit_is_block_dot(e, e->n->stmts.at[id].expr[0]))
            return 1;
    return 0;
}

/* One turn. Updates alone are built element by element of the reduced axis, so that what two accumulators share is loaded once and soon
 * done with: two matrices times the same rows would spill otherwise. */
static void body(emitter *e, const aq_stmt *s, cover c) {
    cover old = e->cover[s->axis];
    int64_t step = c.step;
    int pairs = aq_emit_is_pairs(e, s), single = !pairs && !s->lanes && !c.end && only_updates(e, s) && !is_block_dot(e, s->first_child);
    c.lanes = s->lanes;
    c.depth = ++e->depth;
    val base = c.base;
    int64_t by = single ? 1 : pairs ? 2 : step;
    if (s->mma && (!pairs || c.end))
        aq_emit_refuse(e, "mma 2", "it on a numbered length of nothing but dots of bf16 with bf16, on a target with bf16");
    for (int64_t u = 0; u < step; u += by) {
        c.step = pairs ? 1 : by;
        c.first = u;
        c.base = u ? e->l->BuildAdd(e->b, base, k64(e, u), "") : base;
        c.align = u ? 1 : c.align;
        e->cover[s->axis] = c;
        if (pairs)
            aq_emit_pairs(e, s, step - u < 2 ? 1 : 2);
        else if (single)
            aq_emit_updates(e, s->first_child);
        else if (s->lanes || !aq_emit_block_dots(e, s->first_child))
            aq_emit_list(e, s->first_child);
    }
    e->depth--;
    e->cover[s->axis] = old;
}

/* Is the axis reduced in the list by anything but attend? Then a cut would cost a mask on every update. */
static int is_summed(const emitter *e, aq_id first, aq_id axis) {
    for (aq_id id = first; id; id = e->n->stmts.at[id].next) {
        const aq_stmt *s = &e->n->stmts.at[id];
        if (is_summed(e, s->first_child, axis))
            return 1;
        if (s->kind != AQ_STMT_UPDATE || e->n->tiles.at[s->tile].monoid == AQ_MONOID_attend)
            continue;
        const aq_tile *t = &e->n->tiles.at[s->tile];
        for (int i = 0; i < s->n_expr; i++)
            if (memchr(e->n->exprs.at[s->expr[i]].axes, (int)axis, e->n->exprs.at[s->expr[i]].n_axes) &&
                !memchr(t->axes, (int)axis, t->n_axes))
                return 1;
    }
    return 0;
}

/* As many whole turns as fit between lo and hi; returns where they end. `runs`: at least one is known to be there. `cut`: the last turn may
 * be cut, and the body is built for that: one copy of it, where a cut costs no more than some clamped rows or one mask a turn. */
static val all_turns(emitter *e, const aq_stmt *s, const range *r, int64_t step, int runs, int cut) {
    carried c = carried_by(e, s);
    val *before = list(e, c.values), *in = list(e, c.values), *after = list(e, c.values), *out = list(e, c.values);
    if (!c.tile || !before || !in || !after || !out)
        return r->lo;
    block pre = e->l->GetInsertBlock(e->b), loop = aq_emit_block(e, "for"), done = aq_emit_block(e, "end");
    save(e, &c, before);
    val zero = k64(e, 0), span = e->l->BuildSub(e->b, r->hi, r->lo, "");
    val turns = e->l->BuildSDiv(e->b, cut ? e->l->BuildAdd(e->b, span, k64(e, step - 1), "") : span, k64(e, step), "");
    if (!runs) /* an empty range may have hi < lo */
        turns = e->l->BuildSelect(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, turns, zero, ""), zero, turns, "");
    val stop = e->l->BuildAdd(e->b, r->lo, e->l->BuildMul(e->b, turns, k64(e, step), ""), "");
    if (runs)
        e->l->BuildBr(e->b, loop);
    else
        e->l->BuildCondBr(e->b, e->l->BuildICmp(e->b, LLVMIntSGT, turns, zero, ""), loop, done);
    e->l->PositionBuilderAtEnd(e->b, loop);
    val turn = e->l->BuildPhi(e->b, e->i64, "");
    make_phis(e, &c, pre, in);
    val base = e->l->BuildAdd(e->b, r->lo, e->l->BuildMul(e->b, turn, k64(e, step), ""), "");
    body(e, s, (cover){step, 0, base, cut ? r->hi : NULL, common(r->align, step), turn, r->lo, step, r->align, 0, 0});
    block last = e->l->GetInsertBlock(e->b);
    val next = e->l->BuildNUWAdd(e->b, turn, k64(e, 1), "");
    e->l->SetNSW(next, 1);
    save(e, &c, after);
    e->l->BuildCondBr(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, next, turns, ""), loop, done);
    val from_values[2] = {zero, next};
    block from[2] = {pre, last};
    e->l->AddIncoming(turn, from_values, from, 2);
    add_incoming(e, &c, in, after, last);
    e->l->PositionBuilderAtEnd(e->b, done);
    make_phis(e, &c, last, out);
    if (!runs)
        add_incoming(e, &c, out, before, pre);
    return stop;
}

/* The last turn, if any is left: if (i < hi) body with cuts. */
static void cut_turn(emitter *e, const aq_stmt *s, const range *r, int64_t step, val i) {
    carried c = carried_by(e, s);
    val *before = list(e, c.values), *after = list(e, c.values), *out = list(e, c.values);
    if (!c.tile || !before || !after || !out)
        return;
    block pre = e->l->GetInsertBlock(e->b), cut = aq_emit_block(e, "cut"), done = aq_emit_block(e, "end");
    save(e, &c, before);
    e->l->BuildCondBr(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, i, r->hi, ""), cut, done);
    e->l->PositionBuilderAtEnd(e->b, cut);
    body(e, s, (cover){step, 0, i, r->hi, common(r->align, step), NULL, NULL, 0, 0, 0, 0});
    block last = e->l->GetInsertBlock(e->b);
    save(e, &c, after);
    e->l->BuildBr(e->b, done);
    e->l->PositionBuilderAtEnd(e->b, done);
    make_phis(e, &c, last, out);
    add_incoming(e, &c, out, before, pre);
}

void aq_emit_for(emitter *e, const aq_stmt *s) {
    range r = range_of(e, s->axis);
    int64_t step = s->step ? s->step : e->n->axes.at[s->axis].extent.k;
    step = turn_of(e, s, step);
    if (r.span < 0) {
        int cut = step > 1 && !is_summed(e, s->first_child, s->axis);
        val i = all_turns(e, s, &r, step, 0, cut);
        if (step > 1 && !cut)
            cut_turn(e, s, &r, step, i);
        return;
    }
    int64_t turns = r.span / step, rest = r.span % step;
    if (turns == 1)
        body(e, s, (cover){step, 0, r.lo, NULL, common(r.align, step), NULL, NULL, 0, 0, 0, 0});
    else if (turns > 1)
        all_turns(e, s, &r, step, 1, 0);
    if (!rest)
        return;
    val base = e->l->BuildAdd(e->b, r.lo, k64(e, turns * step), "");
    int ragged = s->lanes && rest % s->lanes;
    int64_t align = common(r.align, turns ? step : (int64_t)1 << 40);
    body(e, s, (cover){aq_emit_round_up(rest, s->lanes), 0, base, ragged ? r.hi : NULL, align, NULL, NULL, 0, 0, 0, 0});
}

static void emit_let(emitter *e, const aq_stmt *s) {
    const aq_tile *t = &e->n->tiles.at[s->tile];
    axes_set set = {{0}, 0};
    aq_emit_add_axes(&set, t->axes, t->n_axes, NULL, 0);
    int64_t n = 1;
    for (int k = 0; k < t->n_axes; k++)
        n *= aq_emit_count(e, t->axes[k]);
    tile_state *state = &e->tile[s->tile];
    *state = (tile_state){.at = list(e, n), .components = (int)n, .partials = 1, .n_values = (int)n, .live = 1, .depth = e->depth};
    int i = 0;
    for (int more = aq_emit_next(e, &set, 1); state->at && more; more = aq_emit_next(e, &set, 0))
        state->at[i++] = aq_emit_eval(e, s->expr[0]);
}

void aq_emit_list(emitter *e, aq_id first) {
    for (aq_id id = first; id && e->status == AQ_OK; id = e->n->stmts.at[id].next) {
        const aq_stmt *s = &e->n->stmts.at[id];
        aq_emit_forget(e);
        memset(e->at, 0, sizeof e->at);
        switch (s->kind) {
        case AQ_STMT_FOR:
            aq_emit_for(e, s);
            break;
        case AQ_STMT_LET:
            emit_let(e, s);
            break;
        case AQ_STMT_ACC:
            aq_emit_acc_open(e, s, s->next);
            break;
        case AQ_STMT_UPDATE:
            aq_emit_update(e, s);
            break;
        case AQ_STMT_STORE:
            aq_emit_store_stmt(e, s);
            break;
        default:
            aq_emit_refuse(e, "tiles inside of other statements", "them at the top of a phase");
            break;
        }
    }
    for (aq_id id = first; id; id = e->n->stmts.at[id].next)
        if (e->n->stmts.at[id].kind == AQ_STMT_LET || e->n->stmts.at[id].kind == AQ_STMT_ACC)
            e->tile[e->n->stmts.at[id].tile].live = 0;
}
