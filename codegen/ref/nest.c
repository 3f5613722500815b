/* nest.c: runs a nest one element at a time in f64: the meaning of nest.h's words, against which emitted kernels are tested.
 *
 * Every axis has the range [lo, hi) that its innermost loop covers now and the element `at` that is looked at. A statement steps through
 * all elements of its axes; an expression is evaluated for the element at hand by recursion. Tiles keep the values of the elements that
 * were covered when they were declared. Nothing past a cut is ever touched, every subscript is checked, and what a kernel must not rely
 * on is made hostile: work items run in random order, scratch and local memory hold NaN until written.
 * Cost: about 50 ns an expression and element. Arithmetic of expressions is in nest_expr.c. */
#include "codegen/ref/nest.h"

#include "ir/block.h"
#include "ir/memory.h"
#include "ir/random.h"

#include <math.h>
#include <string.h>

/* ---- stepping through elements ---- */

/* Puts every axis at its first element; 0 if there is none. */
static int first(aq_ref_nest *r, const uint8_t *axes, int n) {
    for (int i = 0; i < n; i++) {
        r->at[axes[i]] = r->lo[axes[i]];
        if (r->lo[axes[i]] >= r->hi[axes[i]])
            return 0;
    }
    return 1;
}

static int next(aq_ref_nest *r, const uint8_t *axes, int n) {
    for (int i = n; i-- > 0;) {
        if (++r->at[axes[i]] < r->hi[axes[i]])
            return 1;
        r->at[axes[i]] = r->lo[axes[i]];
    }
    return 0;
}

/* axes[0..n) and those of e that are not among them; returns the new count. */
static int join(const aq_expr *e, uint8_t *axes, int n) {
    for (int i = 0; i < e->n_axes; i++)
        if (!memchr(axes, e->axes[i], (size_t)n))
            axes[n++] = e->axes[i];
    return n;
}

/* ---- tiles ---- */

static aq_status declare(aq_ref_nest *r, aq_id id, int parts) {
    const aq_tile *t = &r->n->tiles.at[id];
    aq_ref_tile *v = &r->tile[id];
    size_t count = 1;
    for (int i = 0; i < t->n_axes; i++) {
        v->lo[i] = r->lo[t->axes[i]];
        v->count[i] = r->hi[t->axes[i]] - v->lo[i];
        AQ_TRY(aq_size_mul(count, (size_t)v->count[i], "a tile", &count));
    }
    v->elements = count;
    if (count * (size_t)parts > v->room) {
        v->room = count * (size_t)parts;
        AQ_ALLOC(&r->arena, v->value, v->room);
    }
    return AQ_OK;
}

static aq_status run_acc(aq_ref_nest *r, const aq_stmt *s) {
    const aq_tile *t = &r->n->tiles.at[s->tile];
    int parts = aq_monoid_of(t->monoid)->parts;
    AQ_TRY(declare(r, s->tile, parts));
    aq_ref_tile *v = &r->tile[s->tile];
    for (size_t i = 0; i < v->elements * (size_t)parts; i++)
        v->value[i] = i < v->elements && t->monoid != AQ_MONOID_sum ? -INFINITY : 0;
    return AQ_OK;
}

static aq_status run_let(aq_ref_nest *r, const aq_stmt *s) {
    const aq_tile *t = &r->n->tiles.at[s->tile];
    AQ_TRY(declare(r, s->tile, 1));
    aq_ref_tile *v = &r->tile[s->tile];
    if (first(r, t->axes, t->n_axes))
        do
            v->value[aq_ref_tile_index(r, s->tile, 0)] = aq_ref_nest_eval(r, s->expr[0]);
        while (next(r, t->axes, t->n_axes));
    return r->status;
}

/* m, l and a factor for what was there: the online log-sum-exp of a score, or of another part (m2, l2). */
static void rescale(double *m, double *l, double m2, double l2, double *old, double *new) {
    double top = fmax(*m, m2);
    *old = *m == -INFINITY ? 0 : exp(*m - top);
    *new = m2 == -INFINITY ? 0 : exp(m2 - top);
    *m = top;
    *l = *l * *old + l2 * *new;
}

static int64_t reduced_index(const aq_ref_nest *r, const aq_tile *t, const uint8_t *axes, int n) {
    for (int i = t->n_axes; i < n; i++)
        return r->at[axes[i]];
    return 0;
}

/* One element into every monoid but attend. x: one value, or (merge) one a part. */
static void take(double *part[3], aq_monoid monoid, const double *x, int merge, int64_t index) {
    double old, new;
    switch (monoid) {
    case AQ_MONOID_sum:
        *part[0] += x[0];
        break;
    case AQ_MONOID_max:
        *part[0] = isnan(x[0]) || x[0] > *part[0] ? x[0] : *part[0];
        break;
    case AQ_MONOID_argmax: {
        double i = merge ? x[1] : (double)index;
        if (x[0] > *part[0] || (merge && x[0] == *part[0] && i < *part[1]))
            *part[0] = x[0], *part[1] = i;
        break;
    }
    default:
        rescale(part[0], part[1], x[0], merge ? x[1] : 1, &old, &new);
    }
}

/* The elements of attend: the last axis of the tile, e, carries o only. */
static void take_attend(aq_ref_nest *r, const aq_stmt *s, const aq_tile *t) {
    aq_ref_tile *v = &r->tile[s->tile];
    uint8_t e = t->axes[t->n_axes - 1];
    double score = aq_ref_nest_eval(r, s->expr[0]), l = s->merge ? aq_ref_nest_eval(r, s->expr[1]) : 1, old, new;
    r->at[e] = r->lo[e];
    size_t i = aq_ref_tile_index(r, s->tile, 1);
    rescale(&v->value[i], &v->value[v->elements + i], score, l, &old, &new);
    for (; r->at[e] < r->hi[e]; r->at[e]++) {
        double *o = &v->value[2 * v->elements + aq_ref_tile_index(r, s->tile, 0)];
        double x = aq_ref_nest_eval(r, s->expr[s->merge ? 2 : 1]);
        *o = *o * old + (new == 0 ? 0 : x *new); /* a part that is empty adds nothing, whatever it holds */
    }
}

static aq_status run_update(aq_ref_nest *r, const aq_stmt *s) {
    const aq_tile *t = &r->n->tiles.at[s->tile];
    aq_ref_tile *v = &r->tile[s->tile];
    uint8_t axes[4 * AQ_MAX_TILE_AXES];
    int attend = t->monoid == AQ_MONOID_attend, n = t->n_axes - attend;
    memcpy(axes, t->axes, (size_t)n);
    for (int i = 0; i < s->n_expr; i++)
        n = join(&r->n->exprs.at[s->expr[i]], axes, n);
    for (int i = 0; attend && i < n; i++)
        if (axes[i] == t->axes[t->n_axes - 1])
            axes[i] = axes[--n];
    if (!first(r, axes, n))
        return AQ_OK;
    do {
        double x[3], *part[3];
        if (attend) {
            take_attend(r, s, t);
            continue;
        }
        size_t i = aq_ref_tile_index(r, s->tile, 0);
        for (int p = 0; p < 3; p++)
            part[p] = &v->value[i + (p < aq_monoid_of(t->monoid)->parts ? (size_t)p * v->elements : 0)];
        for (int k = 0; k < s->n_expr; k++)
            x[k] = aq_ref_nest_eval(r, s->expr[k]);
        take(part, t->monoid, x, s->merge, reduced_index(r, t, axes, n));
    } while (next(r, axes, n) && r->status == AQ_OK);
    return r->status;
}

/* ---- stores ---- */

/* The axis along which the blocks of a store lie: the one in its last subscript. */
static uint8_t block_axis(const aq_ref_nest *r, const aq_stmt *s) {
    const aq_expr *last = &r->n->exprs.at[s->index[s->n_index - 1]];
    return last->n_axes ? last->axes[last->n_axes - 1] : 0;
}

static aq_status store_block(aq_ref_nest *r, const aq_stmt *s, uint8_t axis) {
    float x[32];
    size_t flat;
    const aq_expr *e = &r->n->exprs.at[s->expr[0]];
    const aq_dtype_info *type = aq_dtype_of(r->n->bufs.at[s->buf].type.dtype);
    int64_t start = r->at[axis], index[AQ_MAX_RANK];
    if (r->hi[axis] - start < type->block || start % type->block)
        return aq_fail(AQ_CHECK_FAILED, r->n->name, "a store of %s cuts a block at element %lld", r->n->bufs.at[s->buf].name,
                       (long long)start);
    aq_id source = e->kind == AQ_EXPR_OP && e->op == AQ_OP_quantize ? e->in[0] : s->expr[0];
    AQ_TRY(aq_ref_nest_index(r, s->buf, s->index, s->n_index, index, &flat));
    for (int i = 0; i < type->block; i++, r->at[axis]++)
        x[i] = (float)aq_ref_nest_eval(r, source);
    r->at[axis] = start + type->block - 1;
    aq_dtype_encode_f32(r->n->bufs.at[s->buf].type.dtype, x, type->block, (char *)r->buf[s->buf] + flat / type->block * type->bytes);
    return r->status;
}

/* A group of panel blocks into wide ones. */
static aq_status open_blocks(aq_ref_nest *r, const aq_stmt *s, uint8_t axis) {
    const aq_expr *e = &r->n->exprs.at[s->expr[0]];
    aq_dtype t = r->n->bufs.at[s->buf].type.dtype;
    const aq_panel p = aq_panel_of(t);
    int64_t from[AQ_MAX_RANK], to[AQ_MAX_RANK], start = r->at[axis];
    if (r->hi[axis] - start < AQ_GROUP || start % AQ_GROUP)
        return aq_fail(AQ_CHECK_FAILED, r->n->name, "a store of %s cuts a block at element %lld", r->n->bufs.at[s->buf].name, (long long)start);
    AQ_TRY(aq_ref_nest_index(r, e->buf, e->in, e->n_in, from, NULL));
    AQ_TRY(aq_ref_nest_index(r, s->buf, s->index, s->n_index, to, NULL));
    r->at[axis] = start + AQ_GROUP - 1;
    int64_t block = from[0] / AQ_PANEL_ROWS * (r->dim[e->buf][1] / p.elements) + from[1] / p.elements;
    int64_t wide = to[0] / AQ_PANEL_ROWS * (r->dim[s->buf][1] / AQ_GROUP) + to[1] / AQ_GROUP;
    if (from[0] % AQ_PANEL_ROWS != to[0] % AQ_PANEL_ROWS)
        return aq_fail(AQ_CHECK_FAILED, r->n->name, "row %lld of a panel goes to row %lld of %s: expected the same place in 16 rows",
                       (long long)from[0], (long long)to[0], r->n->bufs.at[s->buf].name);
    aq_wide_put(t, (const unsigned char *)r->buf[e->buf] + block * p.bytes, (int)(from[1] % p.elements / AQ_GROUP), (int)(to[0] % AQ_PANEL_ROWS),
                (unsigned char *)r->buf[s->buf] + wide * aq_wide_of(t).bytes);
    return r->status;
}

static aq_status run_store(aq_ref_nest *r, const aq_stmt *s) {
    const aq_nest_buf *b = &r->n->bufs.at[s->buf];
    uint8_t axes[AQ_MAX_TILE_AXES * (AQ_MAX_RANK + 1)], block = 0;
    int n = join(&r->n->exprs.at[s->expr[0]], axes, 0);
    for (int i = 0; i < s->n_index; i++)
        n = join(&r->n->exprs.at[s->index[i]], axes, n);
    if (aq_dtype_of(b->type.dtype)->block > 1) { /* its axis last, so that its elements come one after the other */
        block = block_axis(r, s);
        for (int i = 0; i < n - 1; i++)
            if (axes[i] == block)
                axes[i] = axes[n - 1], axes[n - 1] = block;
    }
    if (!first(r, axes, n))
        return AQ_OK;
    do {
        int64_t index[AQ_MAX_RANK];
        if (block) {
            AQ_TRY(b->layout == AQ_LAYOUT_WIDE ? open_blocks(r, s, block) : store_block(r, s, block));
            continue;
        }
        AQ_TRY(aq_ref_nest_index(r, s->buf, s->index, s->n_index, index, NULL));
        aq_layout_set(b->layout, b->type.dtype, r->dim[s->buf], b->type.rank, index, r->buf[s->buf], aq_ref_nest_eval(r, s->expr[0]));
    } while (next(r, axes, n) && r->status == AQ_OK);
    return r->status;
}

/* ---- loops ---- */

static aq_status run_list(aq_ref_nest *r, aq_id first_id);

/* The true extent of an axis now: its limit, the largest where the limit's own axes cover several elements. */
static int64_t extent(aq_ref_nest *r, aq_id axis) {
    const aq_nest_axis *a = &r->n->axes.at[axis];
    int64_t bound = aq_dim_eval(a->extent, r->sym), limit = INT64_MIN;
    if (!a->limit)
        return bound;
    const aq_expr *e = &r->n->exprs.at[a->limit];
    if (!first(r, e->axes, e->n_axes))
        return 0;
    do {
        double x = aq_ref_nest_eval(r, a->limit);
        limit = x > (double)limit ? (int64_t)x : limit;
    } while (next(r, e->axes, e->n_axes));
    return limit < bound ? limit : bound;
}

static aq_status run_for(aq_ref_nest *r, const aq_stmt *s) {
    int64_t lo = 0, hi, lo_before = r->lo[s->axis], hi_before = r->hi[s->axis];
    if (r->depth[s->axis]++)
        lo = lo_before, hi = hi_before;
    else
        hi = extent(r, s->axis);
    int64_t step = s->step ? s->step : hi - lo;
    aq_status status = r->status;
    for (int64_t i = lo; i < hi && status == AQ_OK; i += step) {
        r->lo[s->axis] = i;
        r->hi[s->axis] = i + step < hi ? i + step : hi;
        status = run_list(r, s->first_child);
    }
    r->lo[s->axis] = lo_before;
    r->hi[s->axis] = hi_before;
    r->depth[s->axis]--;
    return status;
}

static aq_status run_list(aq_ref_nest *r, aq_id first_id) {
    for (aq_id id = first_id; id; id = r->n->stmts.at[id].next) {
        const aq_stmt *s = &r->n->stmts.at[id];
        switch (s->kind) {
        case AQ_STMT_FOR:
            AQ_TRY(run_for(r, s));
            break;
        case AQ_STMT_LET:
            AQ_TRY(run_let(r, s));
            break;
        case AQ_STMT_ACC:
            AQ_TRY(run_acc(r, s));
            break;
        case AQ_STMT_UPDATE:
            AQ_TRY(run_update(r, s));
            break;
        case AQ_STMT_STORE:
            AQ_TRY(run_store(r, s));
            break;
        default:
            return aq_fail(AQ_CHECK_FAILED, r->n->name, "statement %u is out of place: expected a checked nest", id);
        }
    }
    return r->status;
}

/* The item of a tree: its tiles loops, outer slowest, each by its step; nothing past a limit. */
static aq_status run_item(aq_ref_nest *r, aq_id tree, int64_t item) {
    aq_id loop[AQ_MAX_LOOPS];
    int64_t turn[AQ_MAX_LOOPS];
    int n = 0;
    for (aq_id s = tree; s && r->n->stmts.at[s].kind == AQ_STMT_TILES && n < AQ_MAX_LOOPS; s = r->n->stmts.at[s].first_child)
        loop[n++] = s;
    for (int i = n; i-- > 0; item /= aq_ref_turns(r, loop[i]))
        turn[i] = item % aq_ref_turns(r, loop[i]);
    aq_status status = AQ_OK;
    int open = 0, empty = 0;
    for (; open < n && !empty; open++) {
        const aq_stmt *s = &r->n->stmts.at[loop[open]];
        int64_t hi = extent(r, s->axis), step = s->step ? s->step : hi, lo = turn[open] * step;
        r->depth[s->axis]++;
        r->lo[s->axis] = lo;
        r->hi[s->axis] = lo + step < hi ? lo + step : hi;
        empty = lo >= hi;
    }
    if (!empty)
        status = run_list(r, r->n->stmts.at[loop[n - 1]].first_child);
    while (open-- > 0)
        r->depth[r->n->stmts.at[loop[open]].axis]--;
    return status == AQ_OK ? r->status : status;
}

int64_t aq_ref_turns(const aq_ref_nest *r, aq_id loop) {
    const aq_stmt *s = &r->n->stmts.at[loop];
    int64_t n = aq_dim_eval(r->n->axes.at[s->axis].extent, r->sym);
    return s->step ? (n + s->step - 1) / s->step : n > 0;
}

/* Runs all items of a phase, in a random order of `random` (NULL: in order). */
static aq_status run_phase(aq_ref_nest *r, aq_id phase, aq_random *random) {
    aq_id tree[AQ_MAX_TREES];
    int64_t count[AQ_MAX_TREES], all = 0, *order = NULL;
    int trees = 0;
    for (aq_id t = r->n->stmts.at[phase].first_child; t && trees < AQ_MAX_TREES; t = r->n->stmts.at[t].next) {
        tree[trees] = t;
        count[trees] = 1;
        for (aq_id s = t; s && r->n->stmts.at[s].kind == AQ_STMT_TILES; s = r->n->stmts.at[s].first_child)
            count[trees] *= aq_ref_turns(r, s);
        all += count[trees++];
    }
    AQ_ALLOC(&r->arena, order, all + 1);
    for (int64_t i = 0; i < all; i++) {
        int64_t j = random && i ? (int64_t)aq_random_below(random, (uint32_t)i + 1) : i;
        order[i] = order[j];
        order[j] = i;
    }
    for (int64_t i = 0; i < all; i++) {
        int64_t item = order[i];
        int t = 0;
        while (item >= count[t])
            item -= count[t++];
        AQ_TRY(aq_ref_poison(r, AQ_BUF_LOCAL));
        AQ_TRY(run_item(r, tree[t], item));
    }
    return AQ_OK;
}

static aq_status run(aq_ref_nest *r, void *const *buf, uint64_t seed) {
    AQ_ALLOC(&r->arena, r->buf, r->n->bufs.n);
    AQ_ALLOC(&r->arena, r->dim, r->n->bufs.n);
    AQ_ALLOC(&r->arena, r->tile, r->n->tiles.n);
    AQ_ALLOC(&r->arena, r->lo, r->n->axes.n);
    AQ_ALLOC(&r->arena, r->hi, r->n->axes.n);
    AQ_ALLOC(&r->arena, r->at, r->n->axes.n);
    AQ_ALLOC(&r->arena, r->depth, r->n->axes.n);
    for (aq_id i = 1, k = 0; i < r->n->bufs.n; i++) {
        const aq_nest_buf *b = &r->n->bufs.at[i];
        for (int d = 0; d < b->type.rank; d++)
            r->dim[i][d] = aq_dim_eval(b->type.dim[d], r->sym);
        if (b->role != AQ_BUF_LOCAL)
            r->buf[i] = buf[k++];
    }
    AQ_TRY(aq_ref_poison(r, AQ_BUF_SCRATCH));
    aq_random random = aq_random_open(seed);
    for (aq_id p = r->n->first_phase; p; p = r->n->stmts.at[p].next)
        AQ_TRY(run_phase(r, p, seed ? &random : NULL));
    return AQ_OK;
}

aq_status aq_ref_run_nest(const aq_nest *n, void *const *buf, const int64_t *sym, uint64_t seed) {
    aq_ref_nest r = {.n = n, .sym = sym};
    aq_status status = run(&r, buf, seed);
    aq_arena_close(&r.arena);
    return status;
}
