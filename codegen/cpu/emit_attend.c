/* emit_attend.c: softmax-weighted sums by the running maximum (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018),
 * one update for all positions that a turn covers: scores along lanes into a buffer on the stack; row by row (a loop, so that twelve rows
 * are no twelve copies of the code) their maximum and weights; one rescale of what was there; then o[e] += p[s] v[s,e] position by position
 * with lanes along e, p spread from the buffer.
 *
 * m and l of all rows are arrays on the stack; o is values [row][E vectors] where it fits the registers, else on the stack as well and
 * worked on in columns. A row is one element of the accumulator's axes but e. */
#include "codegen/cpu/emit.h"

#include <math.h>
#include <string.h>

/* Vectors of o in hand at a time. */
static int budget(const emitter *e, int lanes) {
    return e->target->has_avx512 || lanes < 16 ? 24 : 6;
}

typedef struct shape {
    const aq_tile *t;
    tile_state *state;
    aq_id e_axis;
    int C, E, lanes;
    axes_set outer; /* the axes of m and l */
} shape;

static shape shape_of(emitter *e, aq_id tile) {
    const aq_tile *t = &e->n->tiles.at[tile];
    shape s = {.t = t, .state = &e->tile[tile], .e_axis = t->axes[t->n_axes - 1], .C = 1};
    aq_emit_add_axes(&s.outer, t->axes, t->n_axes - 1, NULL, 0);
    for (int i = 0; i < t->n_axes - 1; i++)
        s.C *= (int)aq_emit_count(e, t->axes[i]);
    s.E = (int)aq_emit_count(e, s.e_axis);
    s.lanes = e->cover[s.e_axis].lanes;
    return s;
}

static val o_address(emitter *e, const shape *s, int component) {
    return aq_emit_step_address(e, s->state->memory, (int64_t)component * 4 * (s->lanes ? s->lanes : 1));
}
static val get_o(emitter *e, const shape *s, int component) {
    if (!s->state->memory)
        return s->state->at[component];
    return aq_emit_load_at(e, wide(e, e->f32, s->lanes), o_address(e, s, component), 4 * (s->lanes ? s->lanes : 1));
}
static void set_o(emitter *e, const shape *s, int component, val v) {
    if (!s->state->memory)
        s->state->at[component] = v;
    else
        e->l->BuildStore(e->b, v, o_address(e, s, component));
}

/* Arrays of one number a row: m, l, and what a turn leaves for the end of its rows. */
enum { M, L, SCALE, SUM, ARRAYS };
static int room(int rows) {
    return (rows + 15) / 16 * 16;
}
static val array_at(emitter *e, const shape *s, int which, int row) {
    return aq_emit_step_address(e, s->state->rows, 4 * (which * room(s->C) + row));
}
static val get(emitter *e, const shape *s, int which, int row) {
    return aq_emit_load_at(e, e->f32, array_at(e, s, which, row), 4);
}
static void put(emitter *e, const shape *s, int which, int row, val v) {
    e->l->SetAlignment(e->l->BuildStore(e->b, v, array_at(e, s, which, row)), 4);
}

void aq_emit_attend_open(emitter *e, const aq_stmt *st) {
    shape s = shape_of(e, st->tile);
    int in_registers = s.C * s.E <= budget(e, s.lanes), n = in_registers ? s.C * s.E : 0;
    *s.state = (tile_state){.components = s.C * s.E, .partials = 1, .n_values = n, .live = 1, .depth = e->depth};
    void *p = NULL;
    aq_emit_status(e, aq_arena_alloc(e->arena, (size_t)n + 1, sizeof(val), &p));
    s.state->at = p;
    if (!p)
        return;
    val zero = e->l->ConstReal(e->f32, 0), none = aq_emit_splat(e, e->l->ConstReal(e->f32, -INFINITY), 16);
    s.state->rows = aq_emit_alloca(e, e->f32, ARRAYS * room(s.C));
    for (int row = 0; row < s.C; row += 16) {
        e->l->SetAlignment(e->l->BuildStore(e->b, none, array_at(e, &s, M, row)), 4);
        e->l->SetAlignment(e->l->BuildStore(e->b, aq_emit_splat(e, zero, 16), array_at(e, &s, L, row)), 4);
    }
    if (!in_registers)
        s.state->memory = aq_emit_alloca(e, wide(e, e->f32, s.lanes), s.C * s.E);
    for (int i = 0; i < s.C * s.E; i++)
        set_o(e, &s, i, aq_emit_splat(e, zero, s.lanes));
}

val aq_emit_attend_read(emitter *e, aq_id tile, int part) {
    shape s = shape_of(e, tile);
    int row = aq_emit_component(e, s.t, s.t->n_axes - 1);
    if (part == 0 || part == 1)
        return get(e, &s, part == 0 ? M : L, row);
    val o = get_o(e, &s, row * s.E + e->at[s.e_axis]);
    if (part == 2)
        return o;
    val l = get(e, &s, L, row), zero = e->l->ConstReal(e->f32, 0);
    val none = e->l->BuildFCmp(e->b, LLVMRealOEQ, l, zero, "");
    val r = e->l->BuildFDiv(e->b, o, aq_emit_splat(e, l, s.lanes), "");
    return e->l->BuildSelect(e->b, none, aq_emit_splat(e, zero, s.lanes), r, "");
}

static val larger(emitter *e, val a, val b) {
    return e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, LLVMRealOGT, b, a, ""), b, a, "");
}
static val plus(emitter *e, val a, val b) {
    return e->l->BuildFAdd(e->b, a, b, "");
}

/* Halving tree over n values, then over the lanes. */
static val fold(emitter *e, val *v, int n, val (*join)(emitter *, val, val)) {
    while (n > 1) {
        int half = (n + 1) / 2;
        for (int i = 0; i + half < n; i++)
            v[i] = join(e, v[i], v[i + half]);
        n = half;
    }
    val r = v[0];
    while (lanes_of(e, r))
        r = join(e, aq_emit_half_of(e, r, 0), aq_emit_half_of(e, r, 1));
    return r;
}

static val safe_top(emitter *e, val top) {
    val none = e->l->BuildFCmp(e->b, LLVMRealOEQ, top, e->l->ConstReal(e->f32, -INFINITY), "");
    return e->l->BuildSelect(e->b, none, e->l->ConstReal(e->f32, 0), top, "");
}

/* The scores of all rows into `to`, [row][positions of a turn]; past the cut -inf. */
static void score(emitter *e, const aq_stmt *st, const shape *s, aq_id axis, val to) {
    const cover *c = &e->cover[axis];
    int n = (int)aq_emit_count(e, axis), row = 0;
    int64_t bytes = 4 * (c->lanes ? c->lanes : 1);
    val inf = aq_emit_splat(e, e->l->ConstReal(e->f32, -INFINITY), c->lanes);
    uint8_t a = (uint8_t)axis;
    for (int more = aq_emit_next(e, &s->outer, 1); more; more = aq_emit_next(e, &s->outer, 0), row++)
        for (int u = 0; u < n; u++) {
            e->at[axis] = u;
            val yes = c->lanes ? aq_emit_mask(e, axis) : aq_emit_inside(e, &a, 1), v = aq_emit_eval_wide(e, st->expr[0], c->lanes);
            if (yes)
                v = e->l->BuildSelect(e->b, yes, v, inf, "");
            e->l->SetAlignment(e->l->BuildStore(e->b, v, aq_emit_step_address(e, to, 4 * row * c->step + u * bytes)), 4);
        }
}

/* One row: scores to weights in place, the new m, what is left of the old one, the sum of the weights. `at`: byte offset of the row. */
static void weigh(emitter *e, const shape *s, aq_id axis, val row, val at) {
    const cover *c = &e->cover[axis];
    int n = (int)aq_emit_count(e, axis);
    int64_t bytes = 4 * (c->lanes ? c->lanes : 1);
    val v[64], copy[64], four = e->l->BuildMul(e->b, row, k64(e, 4), ""), cell[ARRAYS];
    for (int i = 0; i < ARRAYS; i++)
        cell[i] = e->l->BuildGEP2(e->b, e->i8, array_at(e, s, i, 0), &four, 1, "");
    for (int u = 0; u < n; u++)
        copy[u] = v[u] = aq_emit_load_at(e, wide(e, e->f32, c->lanes), aq_emit_step_address(e, at, u * bytes), 4);
    val old = aq_emit_load_at(e, e->f32, cell[M], 4), top = larger(e, old, fold(e, copy, n, larger)), safe = safe_top(e, top);
    for (int u = 0; u < n; u++) {
        v[u] = aq_emit_exp(e, e->l->BuildFSub(e->b, v[u], aq_emit_splat(e, safe, c->lanes), ""));
        e->l->SetAlignment(e->l->BuildStore(e->b, v[u], aq_emit_step_address(e, at, u * bytes)), 4);
    }
    val out[ARRAYS] = {top, NULL, e->l->BuildFSub(e->b, old, safe, ""), fold(e, v, n, plus)};
    for (int i = 0; i < ARRAYS; i++)
        if (out[i])
            e->l->SetAlignment(e->l->BuildStore(e->b, out[i], cell[i]), 4);
}

/* weigh() for every row, then l and the scale of the old o for sixteen rows at a time. */
static void weigh_all(emitter *e, const shape *s, aq_id axis, val weights) {
    if (s->C == 1)
        weigh(e, s, axis, k64(e, 0), weights);
    else {
        block pre = e->l->GetInsertBlock(e->b), loop = aq_emit_block(e, "row"), done = aq_emit_block(e, "end");
        e->l->BuildBr(e->b, loop);
        e->l->PositionBuilderAtEnd(e->b, loop);
        val row = e->l->BuildPhi(e->b, e->i64, ""), zero = k64(e, 0);
        val at = e->l->BuildMul(e->b, row, k64(e, 4 * e->cover[axis].step), "");
        weigh(e, s, axis, row, e->l->BuildGEP2(e->b, e->i8, weights, &at, 1, ""));
        val next = e->l->BuildAdd(e->b, row, k64(e, 1), "");
        e->l->AddIncoming(row, &zero, &pre, 1);
        e->l->AddIncoming(row, &next, &loop, 1);
        e->l->BuildCondBr(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, next, k64(e, s->C), ""), loop, done);
        e->l->PositionBuilderAtEnd(e->b, done);
        aq_emit_forget(e);
    }
    for (int row = 0; row < s->C; row += 16) {
        typ t = wide(e, e->f32, 16);
        val scale = aq_emit_exp(e, aq_emit_load_at(e, t, array_at(e, s, SCALE, row), 4));
        val l = aq_emit_fma(e, aq_emit_load_at(e, t, array_at(e, s, L, row), 4), scale, aq_emit_load_at(e, t, array_at(e, s, SUM, row), 4));
        e->l->SetAlignment(e->l->BuildStore(e->b, scale, array_at(e, s, SCALE, row)), 4);
        e->l->SetAlignment(e->l->BuildStore(e->b, l, array_at(e, s, L, row)), 4);
    }
}

typedef struct work {
    const aq_stmt *st;
    shape s;
    aq_id axis;
    val weights;  /* [row][positions of a turn] */
    val o[64];    /* the columns in hand, [row][column] */
    int first, n; /* columns */
    cover turn;   /* what the statement's loop covers */
} work;

/* o += p[s] v[s,e] for `step` positions from `at` (relative to the turn). */
static void accumulate(emitter *e, work *w, val at, int step) {
    cover *c = &e->cover[w->axis];
    *c = (cover){step,         0, e->l->BuildAdd(e->b, w->turn.base, at, ""), NULL, w->turn.align % step ? 1 : step, NULL, NULL, 0, 0, 0,
                 w->turn.depth};
    aq_emit_forget(e);
    for (int k = 0; k < step; k++) {
        val bytes = e->l->BuildMul(e->b, at, k64(e, 4), "");
        int row = 0;
        for (int more = aq_emit_next(e, &w->s.outer, 1); more; more = aq_emit_next(e, &w->s.outer, 0), row++) {
            val p = e->l->BuildGEP2(e->b, e->i8, w->weights, &bytes, 1, "");
            p = aq_emit_load_at(e, e->f32, aq_emit_step_address(e, p, 4 * (row * w->turn.step + k)), 4);
            for (int i = 0; i < w->n; i++) {
                e->at[w->axis] = k;
                e->at[w->s.e_axis] = w->first + i;
                val v = aq_emit_eval_wide(e, w->st->expr[1], w->s.lanes);
                w->o[row * w->n + i] = aq_emit_fma(e, p, v, w->o[row * w->n + i]);
            }
        }
    }
    *c = w->turn;
}

/* for (at = from; at + step <= to; at += step) accumulate; returns where it stopped. */
static val positions(emitter *e, work *w, val from, val to, int step) {
    int n = w->s.C * w->n;
    val before[64], in[64];
    block pre = e->l->GetInsertBlock(e->b), loop = aq_emit_block(e, "value"), done = aq_emit_block(e, "end");
    val some = e->l->BuildICmp(e->b, LLVMIntSLE, e->l->BuildAdd(e->b, from, k64(e, step), ""), to, "");
    e->l->BuildCondBr(e->b, some, loop, done);
    e->l->PositionBuilderAtEnd(e->b, loop);
    val at = e->l->BuildPhi(e->b, e->i64, "");
    e->l->AddIncoming(at, &from, &pre, 1);
    for (int i = 0; i < n; i++) {
        before[i] = w->o[i];
        in[i] = w->o[i] = e->l->BuildPhi(e->b, e->l->TypeOf(before[i]), "");
        e->l->AddIncoming(in[i], &before[i], &pre, 1);
    }
    accumulate(e, w, at, step);
    val next = e->l->BuildAdd(e->b, at, k64(e, step), "");
    block last = e->l->GetInsertBlock(e->b);
    e->l->AddIncoming(at, &next, &last, 1);
    val again = e->l->BuildICmp(e->b, LLVMIntSLE, e->l->BuildAdd(e->b, next, k64(e, step), ""), to, "");
    e->l->BuildCondBr(e->b, again, loop, done);
    e->l->PositionBuilderAtEnd(e->b, done);
    val stop = e->l->BuildPhi(e->b, e->i64, "");
    block both[2] = {pre, last};
    val stops[2] = {from, next};
    e->l->AddIncoming(stop, stops, both, 2);
    for (int i = 0; i < n; i++) {
        e->l->AddIncoming(in[i], &w->o[i], &last, 1);
        val out = e->l->BuildPhi(e->b, e->l->TypeOf(before[i]), ""), two[2] = {before[i], w->o[i]};
        e->l->AddIncoming(out, two, both, 2);
        w->o[i] = out;
    }
    aq_emit_forget(e);
    return stop;
}

static void attend_step(emitter *e, const aq_stmt *st, shape s, aq_id axis) {
    work w = {.st = st, .s = s, .axis = axis, .turn = e->cover[axis]};
    w.weights = aq_emit_alloca(e, e->f32, s.C * w.turn.step + 16);
    score(e, st, &s, axis, w.weights);
    weigh_all(e, &s, axis, w.weights);
    val n = k64(e, w.turn.step);
    if (w.turn.end) {
        val left = e->l->BuildSub(e->b, w.turn.end, w.turn.base, "");
        n = e->l->BuildSelect(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, left, n, ""), left, n, "");
    }
    int columns = budget(e, s.lanes) / s.C;
    columns = columns < 1 ? 1 : columns > s.E ? s.E : columns;
    for (w.first = 0; w.first < s.E; w.first += columns) {
        w.n = s.E - w.first < columns ? s.E - w.first : columns;
        for (int i = 0; i < s.C * w.n; i++)
            w.o[i] = e->l->BuildFMul(e->b, get_o(e, &s, i / w.n * s.E + w.first + i % w.n),
                                     aq_emit_splat(e, get(e, &s, SCALE, i / w.n), s.lanes), "");
        int many = w.turn.step % 4 == 0 ? 4 : 1;
        val at = positions(e, &w, k64(e, 0), n, many);
        if (many > 1 && w.turn.end)
            positions(e, &w, at, n, 1);
        for (int i = 0; i < s.C * w.n; i++)
            set_o(e, &s, i / w.n * s.E + w.first + i % w.n, w.o[i]);
    }
}

static void attend_merge(emitter *e, const aq_stmt *st, shape s, aq_id axis) {
    uint8_t a = (uint8_t)axis;
    int n = (int)aq_emit_count(e, axis);
    for (int k = 0; k < n; k++) {
        for (int more = aq_emit_next(e, &s.outer, 1); more; more = aq_emit_next(e, &s.outer, 0)) {
            e->at[axis] = k;
            int row = aq_emit_component(e, s.t, s.t->n_axes - 1);
            val m = get(e, &s, M, row), l = get(e, &s, L, row), inside = aq_emit_inside(e, &a, 1);
            val m2 = aq_emit_eval_f32(e, st->expr[0]), l2 = aq_emit_eval_f32(e, st->expr[1]);
            if (inside) {
                m2 = e->l->BuildSelect(e->b, inside, m2, e->l->ConstReal(e->f32, -INFINITY), "");
                l2 = e->l->BuildSelect(e->b, inside, l2, e->l->ConstReal(e->f32, 0), "");
            }
            val top = larger(e, m, m2), safe = safe_top(e, top);
            val f = aq_emit_exp(e, e->l->BuildFSub(e->b, m, safe, "")), f2 = aq_emit_exp(e, e->l->BuildFSub(e->b, m2, safe, ""));
            put(e, &s, M, row, top);
            put(e, &s, L, row, aq_emit_fma(e, l, f, e->l->BuildFMul(e->b, l2, f2, "")));
            for (int i = 0; i < s.E; i++) {
                e->at[s.e_axis] = i;
                val o2 = aq_emit_eval_wide(e, st->expr[2], s.lanes);
                if (inside)
                    o2 = e->l->BuildSelect(e->b, inside, o2, e->l->ConstNull(e->l->TypeOf(o2)), "");
                o2 = e->l->BuildFMul(e->b, o2, aq_emit_splat(e, f2, s.lanes), "");
                set_o(e, &s, row * s.E + i, aq_emit_fma(e, get_o(e, &s, row * s.E + i), f, o2));
            }
        }
    }
}

void aq_emit_attend(emitter *e, const aq_stmt *st) {
    shape s = shape_of(e, st->tile);
    axes_set reduced = aq_emit_reduced(e, st);
    if (s.C > 24 || reduced.n != 1 || aq_emit_count(e, reduced.axis[0]) > 64) {
        aq_emit_refuse(e, s.t->name, "attend over one axis, at most 24 rows and 64 vectors of positions at a time");
        return;
    }
    if (st->merge)
        attend_merge(e, st, s, reduced.axis[0]);
    else
        attend_step(e, st, s, reduced.axis[0]);
}
