/* lower_stage.c: params that a schedule keeps in local memory, and loads that are under way in stages.
 *
 * `@w in local`: where the loops first ask for elements of @w at axes of the nest, those of the turn are stored into a LOCAL buffer of the
 * work item, and everybody reads there. The buffer has the turn's size; an element lies at its subscripts modulo that, so that its place
 * needs no subtraction and holds for cut turns too. `stages N` is a mark on the loop that reads: what it says is in nest.h.
 * Tried and dropped: copying whole rows outside of the loop (a weight's row is longer than local memory). */
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

aq_status aq_low_load_param(aq_lower_state *l, aq_id value, aq_id buf, const aq_id *index, int n, aq_id *out) {
    const aq_value_plan *p = aq_low_value_plan(l->m, l->b, l->s, value);
    aq_id at[AQ_MAX_RANK] = {0}, local, from;
    aq_type type;
    char name[110] = "";
    AQ_TRY(aq_low_load(l, buf, index, n, &from));
    *out = from;
    if (!p || p->kept != AQ_KEPT_LOCAL)
        return AQ_OK;
    int level = aq_low_level_of(l, index, n);
    for (uint32_t i = 0; i < l->staged.n; i++) /* the same elements of the same turn */
        if (l->staged.at[i].from == from && l->staged.at[i].uid == l->level[level].uid) {
            *out = l->staged.at[i].to;
            return AQ_OK;
        }
    AQ_TRY(make_local(l, value, buf, index, n, &type, at));
    const char *base = l->n->bufs.at[buf].name;
    name[0] = '%';
    for (size_t i = 1; base[i] && i < sizeof name - 2; i++)
        name[i] = base[i];
    AQ_TRY(aq_low_add_buf(l, name, AQ_BUF_LOCAL, type, AQ_LAYOUT_ROWS, &local));
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
