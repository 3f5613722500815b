/* emit_items.c: the number of a work item to the tiles that it covers. The work list of a phase is its trees one after the other; inside a
 * tree the outer loop is the slower. */
#include "codegen/cpu/emit.h"

/* Sets the cover of one tiles loop whose number of this item is `index`; leaves to `skip` where there is nothing to do. */
static void enter_tiles(emitter *e, const aq_stmt *s, val index, block skip) {
    const aq_nest_axis *a = &e->n->axes.at[s->axis];
    int64_t step = s->step ? s->step : a->extent.k;
    val base = e->l->BuildMul(e->b, index, k64(e, step), ""), end = NULL;
    if (a->limit) {
        val hi = aq_emit_axis_end(e, s->axis);
        block inside = aq_emit_block(e, "inside");
        e->l->BuildCondBr(e->b, e->l->BuildICmp(e->b, LLVMIntSLT, base, hi, ""), inside, skip);
        e->l->PositionBuilderAtEnd(e->b, inside);
        end = step > 1 ? hi : NULL;
    } else if (a->extent.sym) {
        end = step > 1 ? aq_emit_dim(e, a->extent) : NULL;
    } else if (a->extent.k % step) {
        int64_t covered = a->extent.k < step ? aq_emit_round_up(a->extent.k, s->lanes) : step;
        end = a->extent.k < step && covered == a->extent.k ? NULL : k64(e, a->extent.k);
        if (a->extent.k < step)
            step = covered;
    }
    int64_t align = s->step ? s->step : (int64_t)1 << 40;
    if (!a->extent.sym && a->extent.k <= step)
        base = k64(e, 0), align = (int64_t)1 << 40;
    val turn = e->l->IsConstant(base) ? NULL : index;
    e->cover[s->axis] = (cover){step, s->lanes, base, end, align, turn, NULL, s->step, (int64_t)1 << 40, 0, e->depth + 1};
}

void aq_emit_tree(emitter *e, aq_id tree, val item) {
    const aq_stmt *loop[AQ_MAX_AXES];
    val index[AQ_MAX_AXES];
    int n = 0;
    aq_id id = tree;
    for (; id && e->n->stmts.at[id].kind == AQ_STMT_TILES; id = e->n->stmts.at[id].first_child)
        loop[n++] = &e->n->stmts.at[id];
    for (int i = n - 1; i >= 0; i--) {
        const aq_nest_axis *a = &e->n->axes.at[loop[i]->axis];
        int64_t step = loop[i]->step ? loop[i]->step : a->extent.k;
        val count = e->l->BuildUDiv(e->b, e->l->BuildAdd(e->b, aq_emit_dim(e, a->extent), k64(e, step - 1), ""), k64(e, step), "");
        index[i] = i ? e->l->BuildURem(e->b, item, count, "") : item;
        if (i)
            item = e->l->BuildUDiv(e->b, item, count, "");
    }
    block skip = aq_emit_block(e, "skip");
    e->depth = 0;
    for (int i = 0; i < n; i++, e->depth++)
        enter_tiles(e, loop[i], index[i], skip);
    if (n)
        aq_emit_list(e, id);
    else { /* a tree of sequential loops: one work item */
        aq_emit_forget(e);
        aq_emit_for(e, &e->n->stmts.at[tree]);
    }
    for (int i = 0; i < n; i++)
        e->cover[loop[i]->axis].step = 0;
    e->l->BuildBr(e->b, skip);
    e->l->PositionBuilderAtEnd(e->b, skip);
}
