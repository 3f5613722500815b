/* emit_wide.c: panels of weight blocks opened into local memory: pairs of 16-bit integers, code less zero times step, with the scales as f32
 * behind them. Done once for all the rows that a work item has, so that its dots read their operand as it stands.
 *
 * Cost: 6 to 9 instructions a vector of 32 integers (q4_k 7: shift, mask, multiply, store, twice a quad), against one vpdpwssd a row. */
#include "codegen/cpu/emit_dot.h"

static void store_at(emitter *e, val v, val group, int64_t at) {
    e->l->SetAlignment(e->l->BuildStore(e->b, v, aq_emit_step_address(e, group, at)), 4);
}

/* A step of each row as both halves of a word. */
static val step_pairs(emitter *e, val step) {
    val high = e->l->BuildShl(e->b, step, aq_emit_int_like(e, step, 16), ""), low = e->l->BuildAnd(e->b, step, aq_emit_int_like(e, step, 0xffff), "");
    return aq_emit_as_lanes(e, e->l->BuildOr(e->b, high, low, ""), e->i16, 32);
}

static void open_group(emitter *e, const side *w, const block_place *to, const block_form *form) {
    const aq_block *r = w->form.rule;
    dot_plan p = {.take_off = r->zero};
    val word[WORDS] = {0}, g = e->l->BuildLShr(e->b, aq_emit_ix_scalar(e, w->place[0].k), k64(e, 5), ""), step = NULL;
    for (int n = 0; n < QUADS; n++) {
        int h = r->halves == 2 ? n / (QUADS / 2) : 0;
        if (n % (QUADS / r->halves) == 0) {
            val j = r->halves == 1 ? g : e->l->BuildAdd(e->b, e->l->BuildShl(e->b, g, k64(e, 1), ""), k64(e, h), "");
            block_scale s = aq_emit_block_scale(e, &w->form, &w->place[0], j, 16);
            step = s.step ? step_pairs(e, s.step) : NULL;
            if (h == 0)
                store_at(e, s.d, to->group, form->wide.d_at);
            if (s.m)
                store_at(e, s.m, to->group, form->wide.m_at + 64 * h);
        }
        aq_emit_load_words(e, w, 0, n, n == 0, word);
        for (int half = 0; half < 2; half++) {
            val piece = aq_emit_piece(e, w, &p, word, n, half);
            if (step)
                piece = e->l->BuildMul(e->b, aq_emit_as_lanes(e, piece, e->i16, 32), step, "");
            store_at(e, piece, to->group, (2 * n + half) * 64);
        }
    }
}

static int is_rows(ix row) { return !row.vec && row.coef == 1 && aq_emit_ix_align(row) % AQ_PANEL_ROWS == 0; }

static void open_blocks(emitter *e, const aq_stmt *s) {
    const aq_expr *x = &e->n->exprs.at[s->expr[0]];
    side w = {.load = s->expr[0], .buf = x->buf, .dtype = x->dtype, .form = aq_emit_block_form(&e->n->bufs.at[x->buf]), .n = 1};
    block_form form = aq_emit_block_form(&e->n->bufs.at[s->buf]);
    ix from[2] = {aq_emit_index(e, x->in[0]), aq_emit_index(e, x->in[1])}, to[2] = {aq_emit_index(e, s->index[0]), aq_emit_index(e, s->index[1])};
    if (!is_rows(from[0]) || !is_rows(to[0]) || from[1].vec || from[1].coef || to[1].vec || to[1].coef) {
        aq_emit_refuse(e, "blocks opened in another shape", "16 lanes along whole panels of 16 rows");
        return;
    }
    w.place[0] = aq_emit_block_place(e, w.buf, from);
    w.codes[0] = aq_emit_codes_address(e, &w.form, &w.place[0]);
    block_place at = aq_emit_block_place(e, s->buf, to);
    open_group(e, &w, &at, &form);
}

/* Rows past a cut are those of the last vector again (emit_index.c), which does no harm. */
void aq_emit_open_store(emitter *e, const aq_stmt *s) {
    const aq_expr *last = &e->n->exprs.at[s->index[1]], *row = &e->n->exprs.at[s->index[0]];
    aq_id lanes = aq_emit_lane_axis(e, row->axes, row->n_axes), along = last->n_axes ? last->axes[last->n_axes - 1] : 0;
    axes_set set = {{0}, 0};
    if (!lanes || e->cover[lanes].lanes != 16 || e->cover[along].lanes) {
        aq_emit_refuse(e, "blocks opened in another shape", "16 lanes along whole panels of 16 rows");
        return;
    }
    aq_emit_add_axes(&set, row->axes, row->n_axes, NULL, 0);
    aq_emit_add_axes(&set, last->axes, last->n_axes, NULL, 0);
    aq_emit_add_axes(&set, e->n->exprs.at[s->expr[0]].axes, e->n->exprs.at[s->expr[0]].n_axes, NULL, 0);
    for (int more = aq_emit_next(e, &set, 1); more && e->status == AQ_OK; more = aq_emit_next(e, &set, 0)) {
        if (e->at[along] % AQ_GROUP == 0) {
            e->lanes = 16;
            open_blocks(e, s);
        }
    }
}
