/* lower_build.c: the bricks of a nest: expressions (equal ones once, so that equal subscripts are equal ids), open loops, statements.
 *
 * Subscripts are simplified as they are built, because views pile up divisions that cancel: (h*E + e) / E is h when e is known to be
 * below E. Only identities that hold for whole numbers >= 0 are used, and only on expressions that are subscripts (idiv, imod, and sums
 * and products with whole constants). */
#include "codegen/lower.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Equal parts are one, but whoever walks or prints an expression meets them again: a view of a view of a view doubles what it is made of. */
enum { MOST_PARTS = 4096 };

static int same_attrs(const aq_nest *n, const aq_expr *a, const aq_expr *b) {
    if (a->n_attr != b->n_attr)
        return 0;
    for (int i = 0; i < a->n_attr; i++) {
        const aq_attr *x = &n->attrs.at[a->attr + (aq_id)i], *y = &n->attrs.at[b->attr + (aq_id)i];
        if (x->key != y->key || x->num != y->num)
            return 0;
    }
    return 1;
}

static int same(const aq_nest *n, const aq_expr *a, const aq_expr *b) {
    return a->kind == b->kind && a->op == b->op && a->n_in == b->n_in && a->part == b->part && !memcmp(a->in, b->in, sizeof a->in) &&
           a->axis == b->axis && a->buf == b->buf && a->tile == b->tile && aq_dim_same(a->dim, b->dim) &&
           !memcmp(&a->number, &b->number, sizeof a->number) && same_attrs(n, a, b);
}

aq_status aq_low_expr(aq_lower_state *l, aq_expr e, aq_id *out) {
    for (aq_id i = 1; i < l->n->exprs.n; i++)
        if (same(l->n, &l->n->exprs.at[i], &e)) {
            *out = i;
            return AQ_OK;
        }
    uint32_t parts = 1;
    for (int i = 0; i < e.n_in; i++)
        parts += l->parts.at[e.in[i]];
    if (parts > MOST_PARTS)
        return aq_low_refuse(l, 0, "an expression of more than %d parts: expected fewer views of views in one region", MOST_PARTS);
    AQ_PUSH(l->arena, &l->n->exprs, e);
    AQ_PUSH(l->arena, &l->parts, parts);
    *out = l->n->exprs.n - 1;
    return AQ_OK;
}

aq_status aq_low_const(aq_lower_state *l, double x, aq_id *out) {
    return aq_low_expr(l, (aq_expr){.kind = AQ_EXPR_CONST, .number = x}, out);
}

aq_status aq_low_dim(aq_lower_state *l, aq_dim d, aq_id *out) {
    return d.sym ? aq_low_expr(l, (aq_expr){.kind = AQ_EXPR_DIM, .dim = d}, out) : aq_low_const(l, (double)d.k, out);
}

aq_status aq_low_axis_expr(aq_lower_state *l, aq_id axis, aq_id *out) {
    return aq_low_expr(l, (aq_expr){.kind = AQ_EXPR_AXIS, .axis = axis}, out);
}

aq_status aq_low_op_attr(aq_lower_state *l, aq_op op, const aq_id *in, int n_in, const aq_attr *attr, int n_attr, aq_id *out) {
    aq_expr e = {.kind = AQ_EXPR_OP, .op = op, .n_in = (uint8_t)n_in, .n_attr = (uint8_t)n_attr, .attr = n_attr ? l->n->attrs.n : 0};
    memcpy(e.in, in, (size_t)n_in * sizeof *in);
    for (int i = 0; i < n_attr; i++)
        AQ_PUSH(l->arena, &l->n->attrs, attr[i]);
    return aq_low_expr(l, e, out);
}

aq_status aq_low_op1(aq_lower_state *l, aq_op op, aq_id a, aq_id *out) {
    return aq_low_op_attr(l, op, &a, 1, NULL, 0, out);
}

static int whole(const aq_lower_state *l, aq_id id, int64_t *k) {
    const aq_expr *e = &l->n->exprs.at[id];
    if (e->kind != AQ_EXPR_CONST || e->number != floor(e->number) || fabs(e->number) > 1e15)
        return 0;
    *k = (int64_t)e->number;
    return 1;
}

/* An upper bound of a subscript that is never negative, or -1. */
static int64_t bound(const aq_lower_state *l, aq_id id) {
    const aq_expr *e = &l->n->exprs.at[id];
    int64_t k, b;
    if (whole(l, id, &k))
        return k >= 0 ? k : -1;
    if (e->kind == AQ_EXPR_AXIS)
        return l->n->axes.at[e->axis].extent.sym ? -1 : l->n->axes.at[e->axis].extent.k - 1;
    if (e->kind != AQ_EXPR_OP || e->n_in != 2 || !whole(l, e->in[1], &k) || k < 1 ||
        (b = bound(l, e->in[0])) < (e->op == AQ_OP_imod ? -1 : 0))
        return -1;
    switch (e->op) {
    case AQ_OP_imod:
        return k - 1;
    case AQ_OP_idiv:
        return b / k;
    case AQ_OP_mul:
        return b < INT32_MAX && k < INT32_MAX ? b * k : -1;
    default:
        return -1;
    }
}

/* x = high * m + low with 0 <= low < m? */
static int divides(const aq_lower_state *l, aq_id x, int64_t m, aq_id *high, aq_id *low) {
    const aq_expr *e = &l->n->exprs.at[x];
    int64_t k, b;
    if (e->kind != AQ_EXPR_OP || e->op != AQ_OP_add)
        return 0;
    const aq_expr *h = &l->n->exprs.at[e->in[0]];
    if (h->kind != AQ_EXPR_OP || h->op != AQ_OP_mul || !whole(l, h->in[1], &k) || k != m || (b = bound(l, e->in[1])) < 0 || b >= m)
        return 0;
    *high = h->in[0];
    *low = e->in[1];
    return 1;
}

aq_status aq_low_op2(aq_lower_state *l, aq_op op, aq_id a, aq_id b, aq_id *out) {
    int64_t ka = 0, kb = 0, reach;
    int wa = whole(l, a, &ka), wb = whole(l, b, &kb);
    aq_id high, low;
    *out = a;
    if (op == AQ_OP_idiv || op == AQ_OP_imod) {
        if (wb && kb == 1)
            return op == AQ_OP_idiv ? AQ_OK : aq_low_const(l, 0, out);
        if (wa && wb && ka >= 0)
            return aq_low_const(l, (double)(op == AQ_OP_idiv ? ka / kb : ka % kb), out);
        if (wb && (reach = bound(l, a)) >= 0 && reach < kb)
            return op == AQ_OP_imod ? AQ_OK : aq_low_const(l, 0, out);
        if (wb && divides(l, a, kb, &high, &low)) {
            *out = op == AQ_OP_idiv ? high : low;
            return AQ_OK;
        }
    }
    return aq_low_op_attr(l, op, (aq_id[]){a, b}, 2, NULL, 0, out);
}

aq_status aq_low_load(aq_lower_state *l, aq_id buf, const aq_id *index, int n, aq_id *out) {
    aq_expr e = {.kind = AQ_EXPR_LOAD, .buf = buf, .n_in = (uint8_t)n};
    memcpy(e.in, index, (size_t)n * sizeof *index);
    return aq_low_expr(l, e, out);
}

aq_status aq_low_tile_expr(aq_lower_state *l, aq_id tile, int part, aq_id *out) {
    aq_expr e = {.kind = part < 0 ? AQ_EXPR_TILE : AQ_EXPR_PART, .tile = tile, .part = (uint8_t)(part < 0 ? 0 : part)};
    return aq_low_expr(l, e, out);
}

/* ---- where an expression can stand ---- */

uint32_t aq_low_mask(const aq_lower_state *l, aq_id id) {
    const aq_expr *e = &l->n->exprs.at[id];
    uint32_t mask = 0;
    if (e->kind == AQ_EXPR_AXIS)
        return 1u << (e->axis & 31);
    if (e->kind == AQ_EXPR_TILE || e->kind == AQ_EXPR_PART) {
        const aq_tile *t = &l->n->tiles.at[e->tile];
        mask = l->tile_mask.at[e->tile];
        if (e->kind == AQ_EXPR_PART && t->monoid == AQ_MONOID_attend && e->part < 2)
            mask &= ~(1u << t->axes[t->n_axes - 1]);
        return mask;
    }
    for (int i = 0; i < e->n_in; i++)
        mask |= aq_low_mask(l, e->in[i]);
    return mask;
}

uint32_t aq_low_mask_all(const aq_lower_state *l, const aq_id *exprs, int n) {
    uint32_t mask = 0;
    for (int i = 0; i < n; i++)
        mask |= aq_low_mask(l, exprs[i]);
    return mask;
}

static int level_of_one(const aq_lower_state *l, aq_id id) {
    const aq_expr *e = &l->n->exprs.at[id];
    int level = l->base;
    if (e->kind == AQ_EXPR_TILE || e->kind == AQ_EXPR_PART)
        level = l->tile_level.at[e->tile] > level ? l->tile_level.at[e->tile] : level;
    uint32_t mask = e->kind == AQ_EXPR_AXIS || e->kind == AQ_EXPR_TILE || e->kind == AQ_EXPR_PART ? aq_low_mask(l, id) : 0;
    for (int i = l->depth; mask && i > level; i--)
        if (mask >> l->level[i].axis & 1)
            level = i;
    for (int i = 0; i < e->n_in; i++) {
        int k = level_of_one(l, e->in[i]);
        level = k > level ? k : level;
    }
    return level;
}

int aq_low_level_of(const aq_lower_state *l, const aq_id *exprs, int n) {
    int level = l->base;
    for (int i = 0; i < n; i++) {
        int k = level_of_one(l, exprs[i]);
        level = k > level ? k : level;
    }
    return level;
}

int aq_low_has_lanes(const aq_lower_state *l, uint32_t mask) {
    for (int i = l->depth; mask && i > 0; i--)
        if (mask >> l->level[i].axis & 1) {
            if (l->level[i].lanes)
                return 1;
            mask &= ~(1u << l->level[i].axis); /* the innermost loop over it counts */
        }
    return 0;
}

/* ---- axes and loops ---- */

aq_status aq_low_axis(aq_lower_state *l, char letter, aq_dim extent, aq_id *out) {
    for (aq_id i = 1; i < l->n->axes.n; i++) {
        const aq_nest_axis *a = &l->n->axes.at[i];
        int open = 0;
        for (int k = 1; k <= l->depth; k++)
            open |= l->level[k].axis == i;
        if (l->letter.at[i] == letter && !open && aq_dim_same(a->extent, extent) && !a->limit) {
            *out = i;
            return AQ_OK;
        }
    }
    return aq_low_new_axis(l, letter, extent, 0, out);
}

aq_status aq_low_new_axis(aq_lower_state *l, char letter, aq_dim extent, aq_id limit, aq_id *out) {
    aq_nest_axis a = {.extent = extent, .limit = limit};
    int of_letter = 0;
    for (aq_id i = 1; i < l->n->axes.n; i++)
        of_letter += l->letter.at[i] == letter;
    if (of_letter)
        AQ_TRY(aq_arena_format(l->arena, &a.name, "%c%d", letter, of_letter + 1));
    else
        AQ_TRY(aq_arena_string(l->arena, &letter, 1, &a.name));
    if (l->n->axes.n >= 32)
        return aq_low_refuse(l, 0, "it needs more than 31 axes: expected fewer reductions inside each other");
    AQ_PUSH(l->arena, &l->n->axes, a);
    AQ_PUSH(l->arena, &l->letter, letter);
    *out = l->n->axes.n - 1;
    return AQ_OK;
}

aq_status aq_low_open(aq_lower_state *l, aq_stmt_kind kind, aq_id axis, int32_t step, int16_t lanes) {
    if (l->depth == AQ_MAX_LOOPS)
        return aq_low_refuse(l, 0, "loops are %d deep: expected fewer steps in the schedule", AQ_MAX_LOOPS);
    l->level[++l->depth] = (aq_low_level){.axis = axis, .kind = kind, .step = step, .lanes = lanes, .uid = ++l->next_uid};
    return AQ_OK;
}

aq_status aq_low_steps_of(aq_lower_state *l, const aq_axis_plan *p, aq_low_steps *out) {
    *out = (aq_low_steps){.lanes = p->lanes, .vec = p->vec};
    for (int k = 0; k < 3 && p->step[k]; k++) {
        int role = p->role[k], at = out->n - 1;
        int32_t before = k ? p->step[k - 1] : 0;
        if (role != AQ_ROLE_WARPS && role != AQ_ROLE_MMA) {
            out->step[out->n++] = p->step[k];
            continue;
        }
        if (at < 0 || before % p->step[k] || before / p->step[k] > 32 || p->step[k] > 255)
            return aq_low_refuse(l, 0, "schedule: axis %.8s: warps or mma of %d does not fit a step of %d", p->axis ? p->axis : "?", p->step[k],
                                 before);
        if (role == AQ_ROLE_WARPS)
            out->warps[at] = (uint8_t)(before / p->step[k]);
        else
            out->mma[at] = (uint8_t)p->step[k];
        out->warps[at] = out->warps[at] == 1 ? 0 : out->warps[at];
    }
    return AQ_OK;
}

aq_status aq_low_open_step(aq_lower_state *l, aq_stmt_kind kind, aq_id axis, const aq_low_steps *s, int k) {
    int last = k == s->n - 1;
    AQ_TRY(aq_low_open(l, kind, axis, s->step[k], last ? s->lanes : 0));
    l->level[l->depth].warps = s->warps[k];
    l->level[l->depth].mma = s->mma[k];
    l->level[l->depth].vec = last && s->lanes ? (uint8_t)s->vec : 0;
    return AQ_OK;
}

aq_status aq_low_mark_open(aq_lower_state *l, char letter) {
    const aq_axis_plan *p = aq_low_plan(l, 0, letter);
    aq_low_level *v = &l->level[l->depth];
    aq_low_steps s = {0};
    if (!p)
        return AQ_OK;
    if (p->step[0])
        AQ_TRY(aq_low_steps_of(l, p, &s));
    v->warps = s.warps[0];
    v->mma = s.mma[0];
    v->vec = v->lanes ? (uint8_t)p->vec : 0;
    return AQ_OK;
}

aq_status aq_low_close(aq_lower_state *l) {
    const aq_low_level *v = &l->level[l->depth--];
    return aq_low_stmt(l, l->depth,
                       (aq_stmt){.kind = v->kind,
                                 .axis = v->axis,
                                 .step = v->step,
                                 .lanes = v->lanes,
                                 .vec = v->vec,
                                 .warps = v->warps,
                                 .mma = v->mma,
                                 .first_child = v->first});
}

aq_status aq_low_stmt(aq_lower_state *l, int level, aq_stmt s) {
    AQ_PUSH(l->arena, &l->n->stmts, s);
    aq_id id = l->n->stmts.n - 1;
    aq_low_level *v = &l->level[level];
    *(v->last ? &l->n->stmts.at[v->last].next : &v->first) = id;
    v->last = id;
    return AQ_OK;
}

void aq_low_set_aside(aq_lower_state *l, int level, aq_low_aside *a) {
    memcpy(a->level, l->level, sizeof l->level);
    a->depth = l->depth;
    l->depth = level;
}

void aq_low_put_back(aq_lower_state *l, int level, const aq_low_aside *a) {
    for (int i = level + 1; i <= a->depth; i++)
        l->level[i] = a->level[i];
    l->depth = a->depth;
}

/* ---- tiles and statements ---- */

static int has_tile(const aq_lower_state *l, const char *name) {
    for (aq_id i = 1; i < l->n->tiles.n; i++)
        if (!strcmp(l->n->tiles.at[i].name, name))
            return 1;
    return 0;
}

static aq_status tile(aq_lower_state *l, const char *name, aq_tile t, uint32_t mask, int level, aq_id *out) {
    AQ_TRY(aq_arena_string(l->arena, name, strlen(name), &t.name));
    for (int k = 2; has_tile(l, t.name); k++)
        AQ_TRY(aq_arena_format(l->arena, &t.name, "%s_%d", name, k));
    AQ_PUSH(l->arena, &l->n->tiles, t);
    AQ_PUSH(l->arena, &l->tile_level, level);
    AQ_PUSH(l->arena, &l->tile_mask, mask);
    *out = l->n->tiles.n - 1;
    return AQ_OK;
}

aq_status aq_low_let(aq_lower_state *l, const char *name, aq_id expr, aq_id *out) {
    aq_id id;
    int level = aq_low_level_of(l, &expr, 1);
    AQ_TRY(tile(l, name, (aq_tile){0}, aq_low_mask(l, expr), level, &id));
    AQ_TRY(aq_low_stmt(l, level, (aq_stmt){.kind = AQ_STMT_LET, .tile = id, .n_expr = 1, .expr = {expr}}));
    return aq_low_tile_expr(l, id, -1, out);
}

aq_status aq_low_acc(aq_lower_state *l, const char *name, aq_monoid monoid, uint32_t mask, int level, aq_id *out_tile) {
    aq_tile t = {.is_acc = 1, .monoid = monoid};
    for (aq_id i = 1; i < l->n->axes.n; i++)
        if (mask >> i & 1) {
            if (t.n_axes == AQ_MAX_TILE_AXES)
                return aq_low_refuse(l, 0, "accumulator %s would have more than %d axes", name, AQ_MAX_TILE_AXES);
            t.axes[t.n_axes++] = (uint8_t)i;
        }
    AQ_TRY(tile(l, name, t, mask, level, out_tile));
    return aq_low_stmt(l, level, (aq_stmt){.kind = AQ_STMT_ACC, .tile = *out_tile});
}

aq_status aq_low_update(aq_lower_state *l, aq_id t, int merge, const aq_id *exprs, int n) {
    aq_stmt s = {.kind = AQ_STMT_UPDATE, .tile = t, .merge = (uint8_t)merge, .n_expr = (uint8_t)n};
    memcpy(s.expr, exprs, (size_t)n * sizeof *exprs);
    return aq_low_stmt(l, l->depth, s);
}

aq_status aq_low_store(aq_lower_state *l, aq_id buf, const aq_id *index, int n, aq_id expr) {
    aq_stmt s = {.kind = AQ_STMT_STORE, .buf = buf, .n_index = (uint8_t)n, .n_expr = 1, .expr = {expr}};
    memcpy(s.index, index, (size_t)n * sizeof *index);
    return aq_low_stmt(l, l->depth, s);
}

/* ---- memory of what was built ---- */

int aq_low_remembered(const aq_lower_state *l, aq_id value, const aq_id *index, int rank, aq_id *out) {
    for (uint32_t i = l->memo.n; i-- > 0;) {
        const aq_low_memo *m = &l->memo.at[i];
        if (m->value == value && !memcmp(m->index, index, (size_t)rank * sizeof *index) && m->level <= l->depth &&
            l->level[m->level].uid == m->uid) {
            *out = m->expr;
            return 1;
        }
    }
    return 0;
}

aq_status aq_low_remember(aq_lower_state *l, aq_id value, const aq_id *index, int rank, aq_id expr) {
    aq_low_memo m = {.value = value, .expr = expr, .level = aq_low_level_of(l, &expr, 1)};
    m.uid = l->level[m.level].uid;
    memcpy(m.index, index, (size_t)rank * sizeof *index);
    AQ_PUSH(l->arena, &l->memo, m);
    return AQ_OK;
}
