/* nest.c: opening a nest and the questions that planners ask of a checked one: phases, grids, the sum class. The check is nest_check.c.
 *
 * All of it is a walk over a tree of some dozens of statements; nothing here is worth a cache. */
#include "ir/nest.h"

#include <string.h>

aq_status aq_nest_open(const aq_module *m, aq_arena *arena, const char *name, aq_nest **out) {
    aq_nest *n;
    AQ_ALLOC(arena, n, 1);
    n->module = m;
    AQ_TRY(aq_arena_string(arena, name, strlen(name), &n->name));
    AQ_PUSH(arena, &n->bufs, (aq_nest_buf){0});
    AQ_PUSH(arena, &n->axes, (aq_nest_axis){0});
    AQ_PUSH(arena, &n->exprs, (aq_expr){0});
    AQ_PUSH(arena, &n->tiles, (aq_tile){0});
    AQ_PUSH(arena, &n->stmts, (aq_stmt){0});
    AQ_PUSH(arena, &n->attrs, (aq_attr){0});
    *out = n;
    return AQ_OK;
}

int aq_nest_phases(const aq_nest *n) {
    int count = 0;
    for (aq_id s = n->first_phase; s; s = n->stmts.at[s].next)
        count++;
    return count;
}

int aq_nest_grids(const aq_nest *n, int phase, aq_grid *out) {
    aq_id p = n->first_phase;
    for (; p && phase > 0; phase--)
        p = n->stmts.at[p].next;
    if (!p)
        return 0;
    int count = 0;
    for (aq_id tree = n->stmts.at[p].first_child; tree && count < AQ_MAX_TREES; tree = n->stmts.at[tree].next) {
        aq_grid *g = &out[count++];
        memset(g, 0, sizeof *g);
        for (aq_id s = tree; s && n->stmts.at[s].kind == AQ_STMT_TILES; s = n->stmts.at[s].first_child) {
            const aq_nest_axis *a = &n->axes.at[n->stmts.at[s].axis];
            g->extent[g->n] = a->extent;
            g->step[g->n++] = n->stmts.at[s].step ? n->stmts.at[s].step : (int32_t)a->extent.k;
        }
    }
    return count;
}

/* The loop over `axis` that encloses the walk's place: the innermost pushed. */
typedef struct walk {
    const aq_nest *n;
    aq_text text;
    aq_id loop[AQ_MAX_LOOPS + 1];
    int depth;
} walk;

static const aq_stmt *loop_of(const walk *w, aq_id axis) {
    for (int i = w->depth; i-- > 0;)
        if (w->n->stmts.at[w->loop[i]].axis == axis)
            return &w->n->stmts.at[w->loop[i]];
    return NULL;
}

static int is_block_dot(const aq_nest *n, aq_id expr) {
    const aq_expr *e = &n->exprs.at[expr];
    if (e->kind != AQ_EXPR_OP || e->op != AQ_OP_dot)
        return 0;
    return aq_dtype_of(n->exprs.at[e->in[0]].dtype)->kind == AQ_KIND_ACT || aq_dtype_of(n->exprs.at[e->in[1]].dtype)->kind == AQ_KIND_ACT;
}

/* The loop over a reduced axis of the update that says most of the order: one with lanes or fragments, else the first; NULL if none is reduced. */
static const aq_stmt *reduced_loop(const walk *w, const aq_stmt *s) {
    const aq_tile *t = &w->n->tiles.at[s->tile];
    const aq_stmt *found = NULL;
    for (int k = 0; k < s->n_expr; k++) {
        const aq_expr *e = &w->n->exprs.at[s->expr[k]];
        for (int i = 0; i < e->n_axes; i++) {
            const aq_stmt *loop = memchr(t->axes, e->axes[i], t->n_axes) ? NULL : loop_of(w, e->axes[i]);
            if (loop && (!found || (!found->lanes && !found->mma && (loop->lanes || loop->mma))))
                found = loop;
        }
    }
    return found;
}

static aq_status add_class(walk *w, const aq_stmt *s) {
    const aq_nest *n = w->n;
    aq_text *t = &w->text;
    if (t->chars.n)
        AQ_TRY(aq_text_add(t, "+"));
    const aq_stmt *loop = reduced_loop(w, s);
    int blocks = is_block_dot(n, s->expr[0]);
    if (blocks)
        AQ_TRY(aq_text_add(t, "blocks"));
    if (loop && loop->mma)
        AQ_TRY(aq_text_add(t, "mma%d", loop->mma));
    else if (loop && loop->lanes && loop->vec > 1)
        AQ_TRY(aq_text_add(t, "%s%dv%d", blocks ? "" : "lanes", loop->lanes, loop->vec));
    else if (loop && loop->lanes && !blocks) {
        int64_t step = (loop->step ? loop->step : n->axes.at[loop->axis].extent.k) / (loop->warps ? loop->warps : 1);
        AQ_TRY(aq_text_add(t, "lanes%dx%d", loop->lanes, (int)(step / loop->lanes)));
    } else if (!blocks)
        AQ_TRY(aq_text_add(t, "seq"));
    return loop && loop->warps ? aq_text_add(t, ".w%d", loop->warps) : AQ_OK;
}

static aq_status visit(walk *w, aq_id first) {
    for (aq_id id = first; id; id = w->n->stmts.at[id].next) {
        const aq_stmt *s = &w->n->stmts.at[id];
        if (s->kind == AQ_STMT_UPDATE)
            AQ_TRY(add_class(w, s));
        int is_loop = s->kind == AQ_STMT_TILES || s->kind == AQ_STMT_FOR;
        if (is_loop && w->depth < AQ_MAX_LOOPS)
            w->loop[w->depth++] = id;
        AQ_TRY(visit(w, s->first_child));
        if (is_loop)
            w->depth--;
    }
    return AQ_OK;
}

aq_status aq_nest_sum_class(const aq_nest *n, aq_arena *arena, const char **out) {
    walk w = {.n = n, .text = {.arena = arena}};
    AQ_TRY(visit(&w, n->first_phase));
    if (!w.text.chars.n)
        AQ_TRY(aq_text_add(&w.text, "none"));
    return aq_text_end(&w.text, out);
}
