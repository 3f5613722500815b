/* nest_check.c: is this nest whole? Texts and schedules are hostile; everything that runs or emits a nest relies on what is checked here
 * and asserts the rest. Order: tables (buffers, axes, tiles), expressions (nest_type.c), then one walk over the tree that keeps the
 * enclosing loops and the tiles in sight, and checks the statements (nest_stmt.c) and types the expressions where it meets them. */
#include "ir/nest_check.h"
#include "ir/memory.h"

#include <stdio.h>
#include <string.h>

aq_id aq_check_loop_of(const nest_check *c, aq_id axis) {
    for (int i = c->depth; i-- > 0;)
        if (c->n->stmts.at[c->loop[i]].axis == axis)
            return c->loop[i];
    return 0;
}

int64_t aq_check_step(const nest_check *c, aq_id loop) {
    const aq_stmt *s = &c->n->stmts.at[loop];
    return s->step ? s->step : c->n->axes.at[s->axis].extent.k;
}

int64_t aq_check_part(const nest_check *c, aq_id loop) {
    int warps = c->n->stmts.at[loop].warps;
    return aq_check_step(c, loop) / (warps ? warps : 1);
}

aq_status aq_check_touch(nest_check *c, aq_id buf, int is_store) {
    for (int i = 0; i < c->depth; i++)
        for (int k = 0; k < c->n->stmts.at[c->loop[i]].n_ring; k++)
            if (c->n->stmts.at[c->loop[i]].ring[k] == buf) {
                if (is_store && c->n->bufs.at[buf].role != AQ_BUF_LOCAL)
                    REFUSE(c, "%s is stored where it is loaded in stages: expected only local buffers", c->n->bufs.at[buf].name);
                c->ring_used[i] |= (uint8_t)(1 << k);
            }
    return AQ_OK;
}

/* --- tables ---------------------------------------------------------------------------------------------------------------------- */

static aq_status check_dim(const nest_check *c, const char *name, aq_dim d) {
    if (d.k < 1 || d.k > (int64_t)1 << 40 || (d.sym && d.sym >= c->n->module->syms.n))
        REFUSE(c, "%s: a size of %lld: expected 1 or more, times a symbol of the module", name, (long long)d.k);
    return AQ_OK;
}

static aq_status check_buf(const nest_check *c, const aq_nest_buf *b) {
    const char *name = b->name ? b->name : "buffer";
    if (b->role < AQ_BUF_IN || b->role > AQ_BUF_LOCAL || b->type.dtype <= AQ_DTYPE_NONE || b->type.dtype >= AQ_DTYPE_COUNT ||
        b->type.is_batch)
        REFUSE(c, "%s: role or type is wrong: expected a typed buffer", name);
    if (b->type.rank > AQ_MAX_RANK)
        REFUSE(c, "%s: rank %d: expected at most %d", name, b->type.rank, AQ_MAX_RANK);
    const aq_dtype_info *t = aq_dtype_of(b->type.dtype);
    for (int i = 0; i < b->type.rank; i++) {
        AQ_TRY(check_dim(c, name, b->type.dim[i]));
        if (b->role == AQ_BUF_LOCAL && b->type.dim[i].sym)
            REFUSE(c, "%s: a local buffer has a symbolic size: expected numbers", name);
    }
    if (t->block > 1 && (!b->type.rank || b->type.dim[b->type.rank - 1].sym || b->type.dim[b->type.rank - 1].k % t->block))
        REFUSE(c, "%s: the last axis of %s is ragged: expected a number, a multiple of %d", name, t->name, t->block);
    int needs = b->layout == AQ_LAYOUT_PANEL || b->layout == AQ_LAYOUT_PLANES || b->layout == AQ_LAYOUT_WIDE ? 2 : b->layout == AQ_LAYOUT_ROWS ? b->type.rank : 3;
    if (b->layout < 0 || b->layout >= AQ_LAYOUT_COUNT || b->type.rank != needs || (b->layout != AQ_LAYOUT_ROWS && t->kind == AQ_KIND_ACT) ||
        (needs == 3 && b->layout != AQ_LAYOUT_ROWS && t->block > 1))
        REFUSE(c, "%s: layout %s does not hold rank %d of %s", name, b->layout < AQ_LAYOUT_COUNT ? aq_layout_name(b->layout) : "?",
               b->type.rank, t->name);
    if (b->layout == AQ_LAYOUT_PLANES && (b->type.dim[0].sym || (b->type.dtype != AQ_Q4_0 && b->type.dtype != AQ_Q4_1 && b->type.dtype != AQ_Q8_0)))
        REFUSE(c, "%s: planes of %s: expected q4_0, q4_1 or q8_0 of a size in numbers", name, t->name);
    if (b->layout == AQ_LAYOUT_WIDE && (b->role != AQ_BUF_LOCAL || t->kind != AQ_KIND_WEIGHT))
        REFUSE(c, "%s: wide blocks: expected a local buffer of a weight block type", name);
    if (b->layout == AQ_LAYOUT_PANEL && b->type.dim[1].sym)
        REFUSE(c, "%s: a panel's row has a symbolic size: expected a number", name);
    return AQ_OK;
}

static aq_status check_tables(const nest_check *c) {
    const aq_nest *n = c->n;
    if (!n->name || !*n->name || strspn(n->name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.") != strlen(n->name))
        REFUSE(c, "the name is no symbol: expected letters, digits, _ and .");
    if (n->axes.n > MAX_NEST_AXES || n->stmts.n > 4096 || n->exprs.n > 65536 || n->bufs.n > 256)
        REFUSE(c, "too large: expected at most %d axes, 4096 statements, 65536 expressions, 255 buffers", MAX_NEST_AXES - 1);
    for (aq_id i = 1; i < n->bufs.n; i++)
        AQ_TRY(check_buf(c, &n->bufs.at[i]));
    for (aq_id i = 1; i < n->axes.n; i++) {
        AQ_TRY(check_dim(c, n->axes.at[i].name, n->axes.at[i].extent));
        if (n->axes.at[i].extent.k > INT32_MAX || n->axes.at[i].limit >= n->exprs.n)
            REFUSE(c, "axis %s: extent or limit is out of range", n->axes.at[i].name);
    }
    for (aq_id i = 1; i < n->tiles.n; i++) {
        const aq_tile *t = &n->tiles.at[i];
        if (!t->name || t->n_axes > AQ_MAX_TILE_AXES || (t->is_acc && t->monoid >= AQ_MONOID_COUNT))
            REFUSE(c, "tile %u is malformed: expected a name, at most %d axes, a monoid", i, AQ_MAX_TILE_AXES);
        for (int k = 0; t->is_acc && k < t->n_axes; k++)
            if (t->axes[k] == 0 || t->axes[k] >= n->axes.n || memchr(t->axes, t->axes[k], (size_t)k))
                REFUSE(c, "%s: axis %d is no axis of the nest, or named twice", t->name, k);
    }
    return AQ_OK;
}

/* --- the tree -------------------------------------------------------------------------------------------------------------------- */

static aq_status check_limit(nest_check *c, const aq_nest_axis *a) {
    if (!a->limit)
        return AQ_OK;
    AQ_TRY(aq_check_use(c, a->limit, 0));
    const aq_expr *e = &c->n->exprs.at[a->limit];
    if (e->dtype != AQ_I32)
        REFUSE(c, "axis %s: the limit is no integer", a->name);
    for (int k = 0; k < e->n_axes; k++)
        if (c->n->stmts.at[aq_check_loop_of(c, e->axes[k])].lanes)
            REFUSE(c, "axis %s: the limit varies along lanes", a->name);
    for (aq_id x = 1; x <= a->limit; x++)
        if (c->stamp[x] == c->now && (c->n->exprs.at[x].kind == AQ_EXPR_TILE || c->n->exprs.at[x].kind == AQ_EXPR_PART))
            REFUSE(c, "axis %s: the limit reads a tile", a->name);
    return AQ_OK;
}

static int is_power(int x, int least, int most) {
    return x >= least && x <= most && !(x & (x - 1));
}

static aq_status check_marks(const nest_check *c, aq_id id, const char *axis) {
    const aq_stmt *s = &c->n->stmts.at[id];
    int64_t step = aq_check_step(c, id);
    if (s->warps && (!is_power(s->warps, 2, 32) || step % s->warps))
        REFUSE(c, "axis %s: %d warps: expected a power of two up to 32 that divides the step", axis, s->warps);
    for (int i = 0; i < c->depth; i++) {
        const aq_stmt *outer = &c->n->stmts.at[c->loop[i]];
        if (outer->warps && s->warps && outer->axis == s->axis)
            REFUSE(c, "axis %s: warps inside warps of the same axis: expected one mark", axis);
    }
    if (s->vec && (!s->lanes || !is_power(s->vec, 1, 64)))
        REFUSE(c, "axis %s: vec %d: expected a power of two up to 64, behind lanes", axis, s->vec);
    if (s->lanes && (!is_power(s->lanes, 2, 64) || aq_check_part(c, id) % (s->lanes * (s->vec ? s->vec : 1))))
        REFUSE(c, "axis %s: %d lanes: expected a power of two up to 64 that divides the step%s", axis, s->lanes,
               s->vec || s->warps ? " of a warp, vec and all" : "");
    if (s->mma && (s->lanes || (s->mma != 2 && !is_power(s->mma, 8, 64)) || aq_check_part(c, id) % s->mma))
        REFUSE(c, "axis %s: mma %d: expected 2, or 8 to 64, a power of two that divides the step of a warp, without lanes", axis, s->mma);
    if ((s->stages || s->n_ring) && (s->kind != AQ_STMT_FOR || s->stages < 2 || s->stages > 8 || s->n_ring > 4))
        REFUSE(c, "axis %s: stages %d: expected 2 to 8 on a `for`, of at most 4 buffers", axis, s->stages);
    for (int k = 0; k < s->n_ring; k++)
        if (s->ring[k] == 0 || s->ring[k] >= c->n->bufs.n)
            REFUSE(c, "axis %s: stages of buffer %u of %u", axis, s->ring[k], c->n->bufs.n - 1);
    return AQ_OK;
}

static aq_status check_loop(nest_check *c, aq_id id, aq_id parent) {
    const aq_stmt *s = &c->n->stmts.at[id], *p = &c->n->stmts.at[parent];
    if (s->axis == 0 || s->axis >= c->n->axes.n || c->depth == AQ_MAX_LOOPS)
        REFUSE(c, "a loop over axis %u, %d deep: expected an axis of the nest, at most %d deep", s->axis, c->depth, AQ_MAX_LOOPS);
    const aq_nest_axis *a = &c->n->axes.at[s->axis];
    if (s->step < 0 || s->step > 1 << 20 || (s->step == 0 && (a->extent.sym || a->extent.k > 1 << 20)))
        REFUSE(c, "axis %s: a step of %d: expected 1 to 1048576, or 0 where the extent is a number", a->name, s->step);
    AQ_TRY(check_marks(c, id, a->name));
    aq_id outer = aq_check_loop_of(c, s->axis);
    if (outer && aq_check_step(c, id) > aq_check_step(c, outer))
        REFUSE(c, "axis %s: a step of %lld inside one of %lld", a->name, (long long)aq_check_step(c, id),
               (long long)aq_check_step(c, outer));
    if (s->kind == AQ_STMT_TILES) {
        int only = p->kind == AQ_STMT_TILES && p->first_child == id && !s->next;
        if ((p->kind != AQ_STMT_PHASE && !only) || c->depth >= 4 || outer)
            REFUSE(c, "tiles over axis %s: expected at the top of a phase, at most 4 directly nested, one an axis", a->name);
    }
    return outer ? AQ_OK : check_limit(c, a);
}

static aq_status check_list(nest_check *c, aq_id first, aq_id parent);

static aq_status check_stmt(nest_check *c, aq_id id, aq_id parent) {
    const aq_stmt *s = &c->n->stmts.at[id];
    int in_loop = c->depth > 0;
    switch (s->kind) {
    case AQ_STMT_TILES:
    case AQ_STMT_FOR:
        AQ_TRY(check_loop(c, id, parent));
        c->ring_used[c->depth] = 0;
        c->loop[c->depth++] = id;
        AQ_TRY(check_list(c, s->first_child, id));
        c->depth--;
        for (int k = 0; k < s->n_ring; k++)
            if (!(c->ring_used[c->depth] >> k & 1))
                REFUSE(c, "axis %s: stages of %s: the loop neither loads nor stores it", c->n->axes.at[s->axis].name, c->n->bufs.at[s->ring[k]].name);
        return AQ_OK;
    case AQ_STMT_LET:
    case AQ_STMT_ACC:
    case AQ_STMT_UPDATE:
        if (!in_loop || s->tile == 0 || s->tile >= c->n->tiles.n || s->n_expr > 3)
            REFUSE(c, "a statement outside of loops, or on tile %u of %u", s->tile, c->n->tiles.n - 1);
        return s->kind == AQ_STMT_LET ? aq_check_let(c, s) : s->kind == AQ_STMT_ACC ? aq_check_acc(c, s) : aq_check_update(c, s);
    case AQ_STMT_STORE:
        if (!in_loop || s->buf == 0 || s->buf >= c->n->bufs.n || s->n_index > AQ_MAX_RANK)
            REFUSE(c, "a store outside of loops, or to buffer %u of %u", s->buf, c->n->bufs.n - 1);
        return aq_check_store(c, s);
    default:
        REFUSE(c, "a statement of kind %d stands inside a phase", (int)s->kind);
    }
}

static aq_status check_list(nest_check *c, aq_id first, aq_id parent) {
    for (aq_id id = first; id; id = c->n->stmts.at[id].next) {
        if (id >= c->n->stmts.n || c->seen[id])
            REFUSE(c, "statement %u is out of range or reached twice: expected a tree", id);
        c->seen[id] = 1;
        AQ_TRY(check_stmt(c, id, parent));
    }
    for (aq_id id = first; id; id = c->n->stmts.at[id].next)
        if (c->n->stmts.at[id].kind == AQ_STMT_LET || c->n->stmts.at[id].kind == AQ_STMT_ACC)
            c->visible[c->n->stmts.at[id].tile] = 0;
    return AQ_OK;
}

static aq_status check_phases(nest_check *c) {
    if (!c->n->first_phase)
        REFUSE(c, "no phase");
    for (aq_id id = c->n->first_phase; id; id = c->n->stmts.at[id].next) {
        if (id >= c->n->stmts.n || c->seen[id] || c->n->stmts.at[id].kind != AQ_STMT_PHASE || !c->n->stmts.at[id].first_child)
            REFUSE(c, "statement %u at the top: expected phases, each with a loop", id);
        c->seen[id] = 1;
        AQ_TRY(check_list(c, c->n->stmts.at[id].first_child, id));
        int trees = 0;
        for (aq_id t = c->n->stmts.at[id].first_child; t; t = c->n->stmts.at[t].next)
            trees++;
        if (trees > AQ_MAX_TREES)
            REFUSE(c, "%d loop trees in a phase: expected at most %d", trees, AQ_MAX_TREES);
    }
    return AQ_OK;
}

static aq_status check_all(nest_check *c, aq_arena *a) {
    AQ_ALLOC(a, c->typed, c->n->exprs.n + 1);
    AQ_ALLOC(a, c->stamp, c->n->exprs.n + 1);
    AQ_ALLOC(a, c->tile_dtype, c->n->tiles.n + 1);
    AQ_ALLOC(a, c->visible, c->n->tiles.n + 1);
    AQ_ALLOC(a, c->cover, c->n->tiles.n + 1);
    AQ_ALLOC(a, c->declared, c->n->tiles.n + 1);
    AQ_ALLOC(a, c->seen, c->n->stmts.n + 1);
    AQ_TRY(check_tables(c));
    AQ_TRY(aq_check_exprs(c));
    return check_phases(c);
}

aq_status aq_nest_check(aq_nest *n) {
    nest_check c = {.n = n};
    aq_arena scratch = {0};
    snprintf(c.place, sizeof c.place, "nest %.60s", n->name ? n->name : "?");
    aq_status status = check_all(&c, &scratch);
    aq_arena_close(&scratch);
    return status;
}
