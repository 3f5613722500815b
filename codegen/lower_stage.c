/* lower_stage.c: params that a schedule keeps in local memory, and loads that are under way in stages.
 *
 * `@w in local`: where the loops first ask for elements of @w at axes of the nest, those of the turn are stored into a LOCAL buffer of the
 * work item, and everybody reads there. The buffer has the turn's size; an element lies at its subscripts modulo that, so that its place
 * needs no subtraction and holds for cut turns too. Weights of block types in panels are opened there into wide blocks (layout.def), whole
 * rows of one turn of the rows, before the loops inside of it: what is opened serves all tokens of the work item. `stages N` is a mark on the loop that reads:
 * what it says is in nest.h.
 * Tried and dropped: copying whole rows of plain numbers outside of the loop (a weight's row is longer than a GPU's local memory). */
#include "codegen/lower.h"

static int32_t step_of(const aq_lower_state *l, aq_id axis) {
    for (int i = l->depth; i > 0; i--)
        if (l->level[i].axis == axis)
            return l->level[i].step;
    return 0;
}

static aq_status make_local(aq_lower_state *l, aq_id value, aq_id buf, const aq_id *index, int n, aq_type *type, aq_id *at) {
    *type = l->n->bufs.at[buf].type;
    if (l->n->bufs.at[buf].role != AQ_BUF_IN || aq_dtype_of(type->dtype)->block > 1)
        return aq_low_refuse(l, value, "in local: expected a param of plain numbers");
    for (int i = 0; i < n; i++) {
        const aq_expr *e = &l->n->exprs.at[index[i]];
        type->dim[i] = aq_dim_const(1);
        if (e->kind == AQ_EXPR_CONST) {
            AQ_TRY(aq_low_const(l, 0, &at[i]));
            continue;
        }
        int32_t step = e->kind == AQ_EXPR_AXIS ? step_of(l, e->axis) : 0;
        if (!step)
            return aq_low_refuse(l, value, "in local: it is read at a computed subscript: expected an axis of the nest");
        aq_id k;
        type->dim[i] = aq_dim_const(step);
        AQ_TRY(aq_low_const(l, step, &k));
        if (step == 1) /* must still name the axis: what reads here stands inside its loop */
            AQ_TRY(aq_low_op_attr(l, AQ_OP_imod, (aq_id[]){index[i], k}, 2, NULL, 0, &at[i]));
        else
            AQ_TRY(aq_low_op2(l, AQ_OP_imod, index[i], k, &at[i]));
    }
    return AQ_OK;
}

static aq_status local_buf(aq_lower_state *l, aq_id buf, aq_type type, aq_layout layout, aq_id *out) {
    char name[110] = "%";
    const char *base = l->n->bufs.at[buf].name;
    for (size_t i = 1; base[i] && i < sizeof name - 2; i++)
        name[i] = base[i];
    return aq_low_add_buf(l, name, AQ_BUF_LOCAL, type, layout, out);
}

/* The entry of a copy of `from` made at level `level`, NULL if there is none. */
static const aq_low_staged *staged_at(const aq_lower_state *l, aq_id from, int level) {
    for (uint32_t i = 0; i < l->staged.n; i++)
        if (l->staged.at[i].from == from && l->staged.at[i].uid == l->level[level].uid)
            return &l->staged.at[i];
    return NULL;
}

/* Panels [n, d] opened for a turn of n, all of d. */
static aq_status open_panels(aq_lower_state *l, aq_id value, aq_id buf, const aq_id *index, aq_id from, aq_id *out) {
    const aq_nest_buf b = l->n->bufs.at[buf];
    const aq_expr *n = &l->n->exprs.at[index[0]], *d = &l->n->exprs.at[index[1]];
    int level = aq_low_level_of(l, index, 1), lanes = l->level[level].lanes, step = l->level[level].step;
    if (b.layout != AQ_LAYOUT_PANEL || aq_dtype_of(b.type.dtype)->kind != AQ_KIND_WEIGHT)
        return aq_low_refuse(l, value, "in local: expected a param of plain numbers, or a weight of blocks in panels");
    if (n->kind != AQ_EXPR_AXIS || d->kind != AQ_EXPR_AXIS || l->level[level].axis != n->axis || lanes != AQ_PANEL_ROWS || step % AQ_PANEL_ROWS)
        return aq_low_refuse(l, value, "in local: blocks are opened by whole panels: expected rows along an axis with %d lanes", AQ_PANEL_ROWS);
    const aq_low_staged *there = staged_at(l, from, level);
    if (there) {
        *out = there->to;
        return AQ_OK;
    }
    aq_type type = b.type;
    aq_id at[2] = {0, index[1]}, k, local, axis = d->axis;
    aq_low_aside aside;
    type.dim[0] = aq_dim_const(step);
    AQ_TRY(aq_low_const(l, step, &k));
    AQ_TRY(aq_low_op_attr(l, AQ_OP_imod, (aq_id[]){index[0], k}, 2, NULL, 0, &at[0]));
    AQ_TRY(local_buf(l, buf, type, AQ_LAYOUT_WIDE, &local));
    aq_low_set_aside(l, level, &aside);
    AQ_TRY(aq_low_open(l, AQ_STMT_FOR, axis, 32, 0));
    AQ_TRY(aq_low_store(l, local, at, 2, from));
    AQ_TRY(aq_low_close(l));
    aq_low_put_back(l, level, &aside);
    AQ_TRY(aq_low_load(l, local, at, 2, out));
    AQ_PUSH(l->arena, &l->staged, ((aq_low_staged){.from = from, .to = *out, .buf = buf, .local = local, .uid = l->level[level].uid}));
    return AQ_OK;
}

aq_status aq_low_load_param(aq_lower_state *l, aq_id value, aq_id buf, const aq_id *index, int n, aq_id *out) {
    const aq_value_plan *p = aq_low_value_plan(l->m, l->b, l->s, value);
    aq_id at[AQ_MAX_RANK] = {0}, local, from;
    aq_type type;
    AQ_TRY(aq_low_load(l, buf, index, n, &from));
    *out = from;
    if (!p || p->kept != AQ_KEPT_LOCAL)
        return AQ_OK;
    if (n == 2 && aq_dtype_of(l->n->bufs.at[buf].type.dtype)->block > 1)
        return open_panels(l, value, buf, index, from, out);
    int level = aq_low_level_of(l, index, n);
    const aq_low_staged *there = staged_at(l, from, level);
    if (there) { /* the same elements of the same turn */
        *out = there->to;
        return AQ_OK;
    }
    AQ_TRY(make_local(l, value, buf, index, n, &type, at));
    AQ_TRY(local_buf(l, buf, type, AQ_LAYOUT_ROWS, &local));
    aq_stmt s = {.kind = AQ_STMT_STORE, .buf = local, .n_index = (uint8_t)n, .n_expr = 1, .expr = {from}};
    for (int i = 0; i < n; i++)
        s.index[i] = at[i];
    AQ_TRY(aq_low_stmt(l, level, s));
    AQ_TRY(aq_low_load(l, local, at, n, out));
    aq_low_staged entry = {.from = from, .to = *out, .buf = buf, .local = local, .uid = l->level[level].uid};
    AQ_PUSH(l->arena, &l->staged, entry);
    return AQ_OK;
}

/* ---- stages ---- */

static int loads(const aq_lower_state *l, aq_id expr, aq_id buf, aq_id axis) {
    const aq_expr *e = &l->n->exprs.at[expr];
    if (e->kind == AQ_EXPR_LOAD && e->buf == buf && aq_low_mask(l, expr) >> axis & 1)
        return 1;
    for (int i = 0; i < e->n_in; i++)
        if (loads(l, e->in[i], buf, axis))
            return 1;
    return 0;
}

static aq_status mark(aq_lower_state *l, aq_id value, aq_id loop, aq_id buf, int stages) {
    aq_stmt *s = &l->n->stmts.at[loop];
    for (int i = 0; i < s->n_ring; i++)
        if (s->ring[i] == buf)
            return AQ_OK;
    if (s->n_ring == 4 || (s->stages && s->stages != stages))
        return aq_low_refuse(l, value, "stages: a loop has one number of stages, of at most 4 values");
    s->stages = (uint8_t)stages;
    s->ring[s->n_ring++] = buf;
    return AQ_OK;
}

/* Marks the innermost `for` around every load of buf that varies with it. */
static aq_status visit(aq_lower_state *l, aq_id first, aq_id loop, aq_id value, aq_id buf, int stages, int *found) {
    for (aq_id id = first; id; id = l->n->stmts.at[id].next) {
        const aq_stmt s = l->n->stmts.at[id];
        AQ_TRY(visit(l, s.first_child, s.kind == AQ_STMT_FOR ? id : loop, value, buf, stages, found));
        for (int i = 0; loop && i < s.n_expr; i++) {
            if (!loads(l, s.expr[i], buf, l->n->stmts.at[loop].axis))
                continue;
            aq_id ring = s.kind == AQ_STMT_STORE && l->n->bufs.at[s.buf].role == AQ_BUF_LOCAL ? s.buf : buf;
            *found = 1;
            AQ_TRY(mark(l, value, loop, ring, stages));
        }
    }
    return AQ_OK;
}

aq_status aq_low_mark_stages(aq_lower_state *l) {
    for (uint32_t p = 0; p < l->b->params.n; p++) {
        aq_id value = l->b->params.at[p], buf = l->value[value].buf;
        const aq_value_plan *plan = aq_low_value_plan(l->m, l->b, l->s, value);
        int found = 0;
        if (!plan || !plan->stages)
            continue;
        AQ_TRY(buf ? visit(l, l->n->first_phase, 0, value, buf, plan->stages, &found) : AQ_OK);
        if (!found)
            return aq_low_refuse(l, value, "stages: no `for` loop reads it turn by turn");
    }
    return AQ_OK;
}
