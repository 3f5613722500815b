/* nest_stmt.c: the statements of a nest, each checked where it stands: are its expressions in sight and of the right axes, does its
 * monoid take them, are blocks whole, is no element stored twice. Called by the walk in nest_check.c. */
#include "ir/nest_check.h"

#include <string.h>

/* The loop takes its whole axis in one turn. */
static int is_whole_axis(const nest_check *c, aq_id loop) {
    aq_dim extent = c->n->axes.at[c->n->stmts.at[loop].axis].extent;
    return !extent.sym && aq_check_step(c, loop) >= extent.k;
}

static aq_status check_covered(const nest_check *c, const aq_tile *t, aq_id tile) {
    for (int k = 0; k < t->n_axes; k++)
        if (aq_check_loop_of(c, t->axes[k]) != c->cover[tile][k])
            REFUSE(c, "%s is used inside a loop over axis %s that its declaration is outside of: expected the same elements", t->name,
                   c->n->axes.at[t->axes[k]].name);
    return AQ_OK;
}

/* Numbers of a tile over these axes here that one warp has, vectors and fragments counting once; lanes axes at most one unless `two` allows for attend. */
static aq_status check_size(const nest_check *c, const char *name, const uint8_t *axes, int n, int max_lanes) {
    int64_t count = 1;
    int lanes = 0, warps = 1;
    for (int k = 0; k < n; k++) {
        aq_id loop = aq_check_loop_of(c, axes[k]);
        if (!loop)
            REFUSE(c, "%s: axis %s is used outside of any loop over it", name, c->n->axes.at[axes[k]].name);
        const aq_stmt *s = &c->n->stmts.at[loop];
        lanes += s->lanes > 0;
        warps *= s->warps ? s->warps : 1;
        if (warps > 32)
            REFUSE(c, "%s: its axes are cut for more than 32 warps: expected at most 32 a work item", name);
        count *= aq_check_part(c, loop) / (s->lanes ? s->lanes : s->mma ? s->mma : 1);
        if (count > MAX_TILE_ELEMENTS)
            REFUSE(c, "%s: more than %d values or vectors at a time: expected smaller steps", name, MAX_TILE_ELEMENTS);
    }
    if (lanes > max_lanes)
        REFUSE(c, "%s has two axes with lanes: expected one", name);
    return AQ_OK;
}

/* `root`: the statement's own expression, where dot and quantize may stand. `wide` allows two lanes axes (a value of attend). */
static aq_status check_place(nest_check *c, aq_id id, aq_id parent, int wide) {
    if (c->stamp[id] == c->now && parent && aq_dtype_of(c->n->exprs.at[id].dtype)->block == 1)
        return AQ_OK;
    c->stamp[id] = c->now;
    const aq_expr *e = &c->n->exprs.at[id], *p = parent ? &c->n->exprs.at[parent] : NULL;
    AQ_TRY(check_size(c, e->kind == AQ_EXPR_LOAD ? c->n->bufs.at[e->buf].name : "an expression", e->axes, e->n_axes, wide ? 2 : 1));
    if (e->kind == AQ_EXPR_LOAD)
        AQ_TRY(aq_check_touch(c, e->buf, 0));
    if (p && e->kind == AQ_EXPR_OP && (e->op == AQ_OP_dot || e->op == AQ_OP_quantize))
        REFUSE(c, "%s stands inside another expression: expected at its root", aq_op_of(e->op)->name);
    if (aq_dtype_of(e->dtype)->block > 1 && e->kind == AQ_EXPR_LOAD && (p || !c->opens_blocks) &&
        !(p && p->kind == AQ_EXPR_OP && (p->op == AQ_OP_dot || p->op == AQ_OP_cast)))
        REFUSE(c, "%s holds blocks: expected to be read by cast or dot", c->n->bufs.at[e->buf].name);
    if (e->kind == AQ_EXPR_TILE || e->kind == AQ_EXPR_PART) {
        if (!c->visible[e->tile])
            REFUSE(c, "%s is not in sight here", c->n->tiles.at[e->tile].name);
        AQ_TRY(check_covered(c, &c->n->tiles.at[e->tile], e->tile));
    }
    if (e->kind == AQ_EXPR_OP && e->op == AQ_OP_rope) {
        const aq_expr *x = &c->n->exprs.at[e->in[0]];
        aq_id axis = x->axes[x->n_axes - 1];
        for (int i = 0; i < c->depth; i++)
            if (c->n->stmts.at[c->loop[i]].axis == axis && aq_check_part(c, c->loop[i]) % 2)
                REFUSE(c, "rope: axis %s is taken in odd steps: expected whole pairs", c->n->axes.at[axis].name);
    }
    for (int i = 0; i < e->n_in; i++)
        AQ_TRY(check_place(c, e->in[i], id, wide));
    return AQ_OK;
}

aq_status aq_check_use(nest_check *c, aq_id id, int wide) {
    if (id == 0 || id >= c->n->exprs.n)
        REFUSE(c, "a statement names expression %u of %u", id, c->n->exprs.n - 1);
    AQ_TRY(aq_check_type(c, id));
    c->now++;
    return check_place(c, id, 0, wide);
}

static int is_number(const nest_check *c, aq_id id) {
    return aq_dtype_of(c->n->exprs.at[id].dtype)->block == 1;
}
static int is_dot(const nest_check *c, aq_id id) {
    return c->n->exprs.at[id].kind == AQ_EXPR_OP && c->n->exprs.at[id].op == AQ_OP_dot;
}

static aq_status declare(nest_check *c, const aq_stmt *s, aq_dtype dtype) {
    const aq_tile *t = &c->n->tiles.at[s->tile];
    if (c->tile_dtype[s->tile] != AQ_DTYPE_NONE)
        REFUSE(c, "%s is declared twice", t->name);
    c->tile_dtype[s->tile] = dtype;
    c->visible[s->tile] = 1;
    c->declared[s->tile] = c->depth;
    for (int k = 0; k < t->n_axes; k++)
        c->cover[s->tile][k] = aq_check_loop_of(c, t->axes[k]);
    return check_size(c, t->name, t->axes, t->n_axes, 1);
}

aq_status aq_check_let(nest_check *c, const aq_stmt *s) {
    aq_tile *t = &c->n->tiles.at[s->tile];
    if (s->n_expr != 1 || t->is_acc)
        REFUSE(c, "let %s: expected one expression and no accumulator", t->name);
    AQ_TRY(aq_check_use(c, s->expr[0], 0));
    if (!is_number(c, s->expr[0]) || is_dot(c, s->expr[0]))
        REFUSE(c, "let %s: a dot or blocks: expected numbers", t->name);
    const aq_expr *e = &c->n->exprs.at[s->expr[0]];
    t->n_axes = e->n_axes;
    memcpy(t->axes, e->axes, sizeof t->axes);
    return declare(c, s, e->dtype);
}

aq_status aq_check_acc(nest_check *c, const aq_stmt *s) {
    const aq_tile *t = &c->n->tiles.at[s->tile];
    if (!t->is_acc || (t->monoid == AQ_MONOID_attend && t->n_axes == 0))
        REFUSE(c, "acc %s: expected an accumulator; attend needs an axis", t->name);
    return declare(c, s, t->monoid == AQ_MONOID_argmax ? AQ_I32 : AQ_F32);
}

/* A loop around the declaration that covers one element: its axis is a constant to the accumulator. */
static int is_constant_axis(const nest_check *c, aq_id tile, aq_id axis) {
    aq_id loop = aq_check_loop_of(c, axis);
    int at = c->depth;
    while (at-- > 0 && c->loop[at] != loop) {
    }
    return at < c->declared[tile] && aq_check_step(c, loop) == 1;
}

/* The axes of the update's expressions that the accumulator lacks. */
static int reduced_axes(const nest_check *c, const aq_stmt *s, uint8_t *out) {
    const aq_tile *t = &c->n->tiles.at[s->tile];
    int n = 0;
    for (int i = 0; i < s->n_expr; i++) {
        const aq_expr *e = &c->n->exprs.at[s->expr[i]];
        for (int k = 0; k < e->n_axes; k++)
            if (!memchr(t->axes, e->axes[k], t->n_axes) && !memchr(out, e->axes[k], (size_t)n) && !is_constant_axis(c, s->tile, e->axes[k]))
                out[n++] = e->axes[k];
    }
    return n;
}

/* Lanes lie on a reduced axis: then on none of the accumulator's. */
static aq_status check_own_lanes(const nest_check *c, const aq_tile *t) {
    for (int k = 0; k < t->n_axes; k++)
        if (c->n->stmts.at[aq_check_loop_of(c, t->axes[k])].lanes)
            REFUSE(c, "%s has lanes on an axis of its own and on a reduced one: expected one", t->name);
    return AQ_OK;
}

static aq_status check_blocks(const nest_check *c, const aq_stmt *s, const aq_expr *dot) {
    const aq_tile *t = &c->n->tiles.at[s->tile];
    aq_id axis[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        const aq_expr *load = &c->n->exprs.at[dot->in[i]];
        if (!aq_check_block_index(c, load->in[load->n_in - 1], &axis[i]))
            REFUSE(c, "%s: the last subscript does not run over whole blocks: expected an axis in steps of 32",
                   c->n->bufs.at[load->buf].name);
        for (int k = 0; k < load->n_in - 1; k++)
            if (memchr(c->n->exprs.at[load->in[k]].axes, (int)axis[i], c->n->exprs.at[load->in[k]].n_axes))
                REFUSE(c, "%s: the axis of the blocks is in two subscripts", c->n->bufs.at[load->buf].name);
    }
    aq_id loop = aq_check_loop_of(c, axis[0]);
    aq_dim extent = c->n->axes.at[axis[0]].extent;
    if (axis[0] != axis[1] || memchr(t->axes, (int)axis[0], t->n_axes))
        REFUSE(c, "%s: dot of blocks: expected both along one reduced axis", t->name);
    const aq_stmt *s_loop = &c->n->stmts.at[loop];
    if ((s_loop->lanes && s_loop->vec % 32) || (s_loop->lanes && !s_loop->vec) || s_loop->mma || aq_check_part(c, loop) % 32 ||
        s_loop->step == 0 || extent.sym || extent.k % 32 || c->n->axes.at[axis[0]].limit)
        REFUSE(c, "%s: dot of blocks: axis %s: expected a number of whole blocks, in steps, without a limit, lanes only with vec of whole blocks",
               t->name, c->n->axes.at[axis[0]].name);
    return s_loop->lanes ? check_own_lanes(c, t) : AQ_OK;
}

/* A reduced axis has fragments: they are of a dot of numbers, whose other two axes have them as well, or of attend; or they are pairs, beside
 * lanes along an axis of the accumulator. */
static aq_status check_fragments(const nest_check *c, const aq_stmt *s, const uint8_t *reduced, int n) {
    const aq_tile *t = &c->n->tiles.at[s->tile];
    int own = 0, here = 0, lanes = 0, pairs = 0;
    for (int i = 0; i < n; i++) {
        int mma = c->n->stmts.at[aq_check_loop_of(c, reduced[i])].mma;
        pairs |= mma == 2;
        here += mma > 0;
    }
    for (int k = 0; k < t->n_axes; k++) {
        const aq_stmt *loop = &c->n->stmts.at[aq_check_loop_of(c, t->axes[k])];
        own += loop->mma > 0;
        lanes |= loop->lanes > 0;
    }
    int fit = own == 2 || (pairs && lanes && own == 0 && t->monoid == AQ_MONOID_sum);
    if (here && (here > 1 || !fit || s->merge || (!is_dot(c, s->expr[0]) && t->monoid != AQ_MONOID_attend)))
        REFUSE(c,
               "%s: mma on a reduced axis: expected one, under a dot of numbers or attend, and mma on two axes of the accumulator, or mma 2 beside "
               "lanes of a dot",
               t->name);
    return AQ_OK;
}

static aq_status check_sum_lanes(const nest_check *c, const aq_stmt *s, const uint8_t *reduced, int n) {
    for (int i = 0; i < n; i++) {
        aq_id loop = aq_check_loop_of(c, reduced[i]);
        int lanes = c->n->stmts.at[loop].lanes;
        int64_t parts = lanes && c->n->stmts.at[loop].vec <= 1 ? aq_check_part(c, loop) / lanes : 1;
        if (parts & (parts - 1))
            REFUSE(c, "%s: %d vectors of partial sums: expected a power of two", c->n->tiles.at[s->tile].name, (int)parts);
        if (lanes)
            AQ_TRY(check_own_lanes(c, &c->n->tiles.at[s->tile]));
    }
    return check_fragments(c, s, reduced, n);
}

static aq_status check_attend(const nest_check *c, const aq_stmt *s) {
    const aq_tile *t = &c->n->tiles.at[s->tile];
    uint8_t e_axis = t->axes[t->n_axes - 1], reduced[4 * AQ_MAX_TILE_AXES];
    for (int i = 0; i < s->n_expr; i++) {
        int carries_e = s->merge ? i == 2 : i == 1;
        const aq_expr *e = &c->n->exprs.at[s->expr[i]];
        if (!carries_e && memchr(e->axes, e_axis, e->n_axes))
            REFUSE(c, "%s: expression %d runs over axis %s: expected only the value to", t->name, i, c->n->axes.at[e_axis].name);
    }
    if (reduced_axes(c, s, reduced) != 1)
        REFUSE(c, "%s: attend reduces %d axes: expected one", t->name, reduced_axes(c, s, reduced));
    for (int k = 0; k < t->n_axes - 1; k++)
        if (c->n->stmts.at[aq_check_loop_of(c, t->axes[k])].lanes)
            REFUSE(c, "%s has lanes on axis %s: expected on its last axis", t->name, c->n->axes.at[t->axes[k]].name);
    const aq_stmt *loop = &c->n->stmts.at[aq_check_loop_of(c, reduced[0])];
    if (s->merge && (loop->lanes || loop->warps || loop->mma))
        REFUSE(c, "%s merges along lanes, warps or fragments: expected a loop without", t->name);
    return check_fragments(c, s, reduced, 1);
}

aq_status aq_check_update(nest_check *c, const aq_stmt *s) {
    const aq_tile *t = &c->n->tiles.at[s->tile];
    if (!t->is_acc || !c->visible[s->tile])
        REFUSE(c, "%s is updated where it is no accumulator in sight", t->name);
    AQ_TRY(check_covered(c, t, s->tile));
    int is_attend = t->monoid == AQ_MONOID_attend;
    int want = s->merge ? aq_monoid_of(t->monoid)->parts : is_attend ? 2 : 1;
    if (s->n_expr != want)
        REFUSE(c, "%s: an update with %d expressions: expected %d", t->name, s->n_expr, want);
    for (int i = 0; i < s->n_expr; i++) {
        AQ_TRY(aq_check_use(c, s->expr[i], is_attend));
        if (!is_number(c, s->expr[i]) || (is_dot(c, s->expr[i]) && (t->monoid != AQ_MONOID_sum || s->merge)))
            REFUSE(c, "%s: blocks, or a dot outside of a sum", t->name);
        if (t->monoid == AQ_MONOID_argmax && i == 1 && c->n->exprs.at[s->expr[1]].dtype != AQ_I32)
            REFUSE(c, "%s: the index to merge is no i32", t->name);
    }
    if (is_attend)
        return check_attend(c, s);
    uint8_t reduced[4 * AQ_MAX_TILE_AXES];
    int n = reduced_axes(c, s, reduced);
    if (t->monoid == AQ_MONOID_argmax && !s->merge && n != 1)
        REFUSE(c, "%s: argmax reduces %d axes: expected one, whose index it gives", t->name, n);
    const aq_expr *e = &c->n->exprs.at[s->expr[0]];
    if (is_dot(c, s->expr[0]) && !is_number(c, e->in[0]))
        return check_blocks(c, s, e);
    return check_sum_lanes(c, s, reduced, n);
}

static aq_status check_quantized_store(const nest_check *c, const aq_stmt *s, const aq_expr *e) {
    const aq_nest_buf *b = &c->n->bufs.at[s->buf];
    aq_id axis;
    if (e->dtype != b->type.dtype || e->kind != AQ_EXPR_OP || e->op != AQ_OP_quantize)
        REFUSE(c, "%s holds %s: expected the result of quantize to that type", b->name, aq_dtype_of(b->type.dtype)->name);
    if (!aq_check_block_index(c, s->index[s->n_index - 1], &axis))
        REFUSE(c, "%s: the last subscript does not run over whole blocks: expected an axis in steps of 32", b->name);
    const aq_stmt *loop = &c->n->stmts.at[aq_check_loop_of(c, axis)];
    aq_dim extent = c->n->axes.at[axis].extent;
    if (loop->step == 0 || (loop->lanes != 16 && loop->lanes != 32) || loop->vec > 1 || aq_check_part(c, aq_check_loop_of(c, axis)) % 32 ||
        extent.sym || extent.k % 32 || c->n->axes.at[axis].limit)
        REFUSE(c, "%s: quantize along axis %s: expected whole blocks in steps of 32 or more with 16 or 32 lanes", b->name,
               c->n->axes.at[axis].name);
    for (int k = 0; k < s->n_index - 1; k++)
        if (memchr(c->n->exprs.at[s->index[k]].axes, (int)axis, c->n->exprs.at[s->index[k]].n_axes))
            REFUSE(c, "%s: the axis of the blocks is in two subscripts", b->name);
    return AQ_OK;
}

/* Panels opened into local memory: whole groups of the same element's type. */
static aq_status check_opened_store(const nest_check *c, const aq_stmt *s, const aq_expr *e) {
    const aq_nest_buf *b = &c->n->bufs.at[s->buf], *from = e->kind == AQ_EXPR_LOAD ? &c->n->bufs.at[e->buf] : NULL;
    aq_id to_axis, from_axis;
    if (b->layout != AQ_LAYOUT_WIDE)
        REFUSE(c, "store to %s: weight blocks are only read, or opened into a wide buffer", b->name);
    if (!from || from->layout != AQ_LAYOUT_PANEL || from->type.dtype != b->type.dtype)
        REFUSE(c, "store to %s: expected blocks of %s straight from a panel", b->name, aq_dtype_of(b->type.dtype)->name);
    if (!aq_check_block_index(c, s->index[1], &to_axis) || !aq_check_block_index(c, e->in[1], &from_axis) || to_axis != from_axis ||
        c->n->axes.at[to_axis].extent.sym || c->n->axes.at[to_axis].extent.k % 32 || c->n->axes.at[to_axis].limit)
        REFUSE(c, "store to %s: the last subscripts do not run over whole blocks: expected one axis in steps of 32", b->name);
    if (memchr(c->n->exprs.at[s->index[0]].axes, (int)to_axis, c->n->exprs.at[s->index[0]].n_axes) ||
        memchr(c->n->exprs.at[e->in[0]].axes, (int)to_axis, c->n->exprs.at[e->in[0]].n_axes))
        REFUSE(c, "store to %s: the axis of the blocks is in two subscripts", b->name);
    return AQ_OK;
}

aq_status aq_check_store(nest_check *c, const aq_stmt *s) {
    const aq_nest_buf *b = &c->n->bufs.at[s->buf];
    AQ_TRY(aq_check_touch(c, s->buf, 1));
    if (b->role == AQ_BUF_IN || s->n_expr != 1 || s->n_index != b->type.rank)
        REFUSE(c, "store to %s: expected a writable buffer, one expression, %d subscripts", b->name, b->type.rank);
    uint8_t named[MAX_NEST_AXES] = {0};
    for (int i = 0; i < s->n_index; i++) {
        AQ_TRY(aq_check_use(c, s->index[i], 0));
        const aq_expr *x = &c->n->exprs.at[s->index[i]];
        if (x->dtype != AQ_I32)
            REFUSE(c, "store to %s: subscript %d is no integer", b->name, i);
        for (int k = 0; k < x->n_axes; k++)
            named[x->axes[k]] = 1;
    }
    c->opens_blocks = b->layout == AQ_LAYOUT_WIDE;
    AQ_TRY(aq_check_use(c, s->expr[0], 0));
    c->opens_blocks = 0;
    const aq_expr *e = &c->n->exprs.at[s->expr[0]];
    if (is_dot(c, s->expr[0]))
        REFUSE(c, "store to %s: a dot: expected an accumulator to take it first", b->name);
    for (int k = 0; k < e->n_axes; k++)
        if (!named[e->axes[k]] && aq_check_step(c, aq_check_loop_of(c, e->axes[k])) != 1)
            REFUSE(c, "store to %s: the value varies along axis %s, which no subscript names", b->name, c->n->axes.at[e->axes[k]].name);
    for (int i = 0; i < c->depth; i++) {
        const aq_stmt *loop = &c->n->stmts.at[c->loop[i]];
        int must = b->role == AQ_BUF_OUT || (b->role != AQ_BUF_LOCAL && loop->kind == AQ_STMT_TILES);
        if (must && !named[loop->axis] && !is_whole_axis(c, c->loop[i]))
            REFUSE(c, "store to %s: no subscript names axis %s: elements would be stored more than once", b->name,
                   c->n->axes.at[loop->axis].name);
    }
    uint8_t all[MAX_NEST_AXES];
    int n_all = 0;
    for (aq_id a = 1; a < c->n->axes.n; a++)
        if (named[a])
            all[n_all++] = (uint8_t)a;
    AQ_TRY(check_size(c, b->name, all, n_all, 1));
    if (aq_dtype_of(b->type.dtype)->kind == AQ_KIND_WEIGHT)
        return check_opened_store(c, s, e);
    if (aq_dtype_of(b->type.dtype)->kind == AQ_KIND_ACT || !is_number(c, s->expr[0]))
        return check_quantized_store(c, s, e);
    return AQ_OK;
}
