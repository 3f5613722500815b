/* emit_dot.c: dots of a weight block type with quantised activations: for each group of 32 the exact integer dot product (of a K type, its
 * integers times their steps), then acc = fma(float(idot), d_w * d_a, acc), and for a type with an offset acc = fma(m_w, s_a, acc): nest.h.
 *
 * The fast form has lanes along the 16 rows of a panel: one 64-byte load holds four bytes of each row; shifts and masks make pairs of
 * 16-bit (or quads of 8-bit) integers that meet the spread word of the activations in vpdpwssd (vpdpbusd). Each weight is unpacked once for
 * all rows of the tile; from wide blocks in local memory (emit_wide.c), once for all tiles of a work item. What a type takes off its quants
 * (8 of q4_0; 128 where signed bytes go through the unsigned operand) is put back by starting the integer sum at -zero * (sum of the
 * activation's integers), which is s / d, exactly. Steps multiply a half's sum of panels and the integers of wide blocks: the same number.
 * Any other shape goes lane by lane (emit_dot_lanes.c). */
#include "codegen/cpu/emit_dot.h"

#include <float.h>
#include <string.h>

int aq_emit_is_block_dot(const emitter *e, aq_id expr) {
    const aq_expr *x = &e->n->exprs.at[expr];
    return x->kind == AQ_EXPR_OP && x->op == AQ_OP_dot && aq_dtype_of(e->n->exprs.at[x->in[0]].dtype)->block > 1;
}

/* Sum of the integers of an activation block. d is 0 or normal (emit_block.c), so the quotient is right to 1/8. */
static val sum_of_block(emitter *e, val group) {
    val d = aq_emit_load_at(e, e->f32, group, 4), s = aq_emit_load_at(e, e->f32, aq_emit_step_address(e, group, 4), 4);
    val least = e->l->ConstReal(e->f32, FLT_MIN);
    d = e->l->BuildSelect(e->b, e->l->BuildFCmp(e->b, LLVMRealOGT, d, least, ""), d, least, "");
    val four = e->l->BuildInsertElement(e->b, e->l->ConstNull(wide(e, e->f32, 4)), e->l->BuildFDiv(e->b, s, d, ""), k64(e, 0), "");
    return aq_emit_intrinsic(e, "llvm.x86.sse.cvtss2si", NULL, 0, &four, 1); /* to nearest */
}

val aq_emit_half_sum(emitter *e, aq_dtype t, val group, int half) {
    int size = t == AQ_A16 ? 2 : 1;
    val v = aq_emit_load_at(e, wide(e, size == 2 ? e->i16 : e->i8, 16), aq_emit_step_address(e, group, 8 + 16 * size * half), size);
    v = e->l->BuildSExt(e->b, v, wide(e, e->i32, 16), "");
    typ type = e->l->TypeOf(v);
    return aq_emit_intrinsic(e, "llvm.vector.reduce.add", &type, 1, &v, 1);
}

/* --- the fast form --------------------------------------------------------------------------------------------------------------- */

/* The halves of a group that have steps of their own are done one after the other: [first, end) are the quads of half h. Where the steps are
 * in the integers already, the group is one part unless its sum could leave 32 bits. */
typedef struct part {
    int h, halves, first, end;
} part;

/* Sum of the integers of activation `i` over the part (i32), made once. */
static val act_sum(emitter *e, dots *d, const part *part, int i) {
    if (!d->isum[i])
        d->isum[i] = part->halves == 1 ? sum_of_block(e, d->a.place[i].group) : aq_emit_half_sum(e, d->a.dtype, d->a.place[i].group, part->h);
    return d->isum[i];
}

static int n_parts(const side *w) {
    return w->form.is_wide && !aq_block_sums_halves(w->form.rule) ? 1 : w->form.halves;
}

static val shuffled(emitter *e, val v, int flip, int first) {
    val k[16];
    for (int i = 0; i < 16; i++)
        k[i] = k32(e, flip ? i ^ flip : first);
    return e->l->BuildShuffleVector(e->b, v, e->l->GetPoison(e->l->TypeOf(v)), e->l->ConstVector(k, 16), "");
}

/* d * (sum of the integers) of each half: pairs are added first, both halves at once. */
static void act_halves(emitter *e, dots *d, int i, val da, val *out) {
    val group = d->a.place[i].group, v = aq_emit_step_address(e, group, 8), one[32];
    if (!e->target->has_avx512) {
        for (int h = 0; h < 2; h++)
            out[h] = e->l->BuildFMul(e->b, da, aq_emit_splat(e, aq_emit_f32(e, aq_emit_half_sum(e, d->a.dtype, group, h)), 16), "");
        return;
    }
    if (d->a.dtype == AQ_A16)
        v = aq_emit_load_at(e, wide(e, e->i16, 32), v, 2);
    else
        v = e->l->BuildSExt(e->b, aq_emit_load_at(e, wide(e, e->i8, 32), v, 1), wide(e, e->i16, 32), "");
    for (int k = 0; k < 32; k++)
        one[k] = e->l->ConstInt(e->i16, 1, 0);
    val args[2] = {v, e->l->ConstVector(one, 32)};
    v = aq_emit_intrinsic(e, "llvm.x86.avx512.pmaddw.d.512", NULL, 0, args, 2);
    for (int flip = 1; flip < 8; flip *= 2) /* within the eight lanes of a half */
        v = e->l->BuildAdd(e->b, v, shuffled(e, v, flip, 0), "");
    v = e->l->BuildFMul(e->b, da, aq_emit_f32(e, v), "");
    for (int h = 0; h < 2; h++)
        out[h] = shuffled(e, v, 0, 8 * h);
}

/* Number of half h among those of the block that have steps. */
static val scale_number(emitter *e, const side *w, int h) {
    val g = e->l->BuildLShr(e->b, aq_emit_ix_scalar(e, w->place[0].k), k64(e, 5), "");
    if (w->form.halves == 1)
        return g;
    return e->l->BuildAdd(e->b, e->l->BuildShl(e->b, g, k64(e, 1), ""), k64(e, h), "");
}

val aq_emit_half_taken(emitter *e, val whole, val sum, val step, int by_halves) {
    if (step)
        sum = e->l->BuildMul(e->b, sum, step, "");
    if (by_halves)
        sum = aq_emit_f32(e, sum);
    return !whole ? sum : by_halves ? e->l->BuildFAdd(e->b, whole, sum, "") : e->l->BuildAdd(e->b, whole, sum, "");
}

/* The chains of a part are through. */
static void take_part(emitter *e, dots *d, const part *part) {
    val step[MAX_SIDES], j = scale_number(e, &d->w, part->h);
    for (int i = 0; i < d->w.n; i++)
        step[i] = d->w.form.rule->steps ? aq_emit_block_scale(e, &d->w.form, &d->w.place[i], j, 16).step : NULL;
    for (int c = 0; c < d->components; c++) {
        val sum = d->sum[c][0];
        for (int i = 1; i < d->parts; i++)
            sum = e->l->BuildAdd(e->b, sum, d->sum[c][i], "");
        d->whole[c] = aq_emit_half_taken(e, part->h ? d->whole[c] : NULL, sum, step[d->w_of[c]], aq_block_sums_halves(d->w.form.rule));
    }
}

/* What an activation has for a group: d, and where the weights have an m, d * (sum of the integers) of each half of theirs. */
typedef struct act_scale {
    val d, s[2];
} act_scale;

static act_scale act_scale_of(emitter *e, dots *d, int i, int has_m) {
    val group = d->a.place[i].group;
    act_scale r = {.d = aq_emit_splat(e, aq_emit_load_at(e, e->f32, group, 4), 16)};
    if (has_m && d->w.form.halves == 2)
        act_halves(e, d, i, r.d, r.s);
    else if (has_m)
        r.s[0] = aq_emit_splat(e, aq_emit_load_at(e, e->f32, aq_emit_step_address(e, group, 4), 4), 16);
    return r;
}

/* acc + whole * (d_w * d_a), and for each half with an m: + m * s_a. Activations one after the other: they would not all fit in registers. */
static void scale_and_add(emitter *e, dots *d, val yes) {
    int halves = d->w.form.halves;
    block_scale w[MAX_SIDES][2];
    act_scale act[MAX_SIDES] = {{NULL, {NULL}}};
    for (int i = 0; i < d->w.n; i++)
        for (int h = 0; h < halves; h++)
            w[i][h] = aq_emit_block_scale(e, &d->w.form, &d->w.place[i], scale_number(e, &d->w, h), 16);
    for (int c = 0; c < d->components; c++) {
        int at = d->w_of[c];
        act_scale *a = &act[d->a_of[c]];
        if (!a->d)
            *a = act_scale_of(e, d, d->a_of[c], w[0][0].m != NULL);
        val old = d->state->at[c], r = aq_emit_fma(e, aq_emit_f32(e, d->whole[c]), e->l->BuildFMul(e->b, w[at][0].d, a->d, ""), old);
        for (int h = 0; h < halves && w[at][h].m; h++)
            r = aq_emit_fma(e, w[at][h].m, a->s[h], r);
        d->state->at[c] = yes ? e->l->BuildSelect(e->b, yes, r, old, "") : r;
    }
}

/* Starts the integer sums of one dot: at -zero * (sum of the activation's integers) where something is taken off all weights. */
static dot_plan start_sums(emitter *e, dots *d, const part *part, int all_components) {
    dot_plan p = aq_emit_dot_plan(e, &d->w, &d->a);
    d->parts = 1;
    while (d->parts < MAX_PARTS && d->parts * 2 <= part->end - part->first && all_components * d->parts * 2 <= 8)
        d->parts *= 2;
    val start[MAX_SIDES];
    memset(d->isum, 0, sizeof d->isum);
    for (int i = 0; p.zero && i < d->a.n; i++)
        start[i] = aq_emit_splat(e, e->l->BuildMul(e->b, act_sum(e, d, part, i), k32(e, -p.zero), ""), 16);
    for (int c = 0; c < d->components; c++)
        for (int i = 0; i < MAX_PARTS; i++)
            d->sum[c][i] = p.zero && i == 0 ? start[d->a_of[c]] : NULL;
    return p;
}

/* Piece `half` of quad n of all weights of the dot. */
static void add_piece(emitter *e, dots *d, const dot_plan *p, val (*word)[WORDS], int n, int half) {
    val act[MAX_SIDES];
    for (int a = 0; a < d->a.n; a++)
        act[a] = aq_emit_spread_act(e, &d->a, p, a, n, half);
    for (int w = 0; w < d->w.n; w++) {
        val piece = d->w.form.is_wide ? aq_emit_wide_piece(e, &d->w, w, n, half) : aq_emit_piece(e, &d->w, p, word[w], n, half);
        for (int c = 0; c < d->components; c++) {
            if (d->w_of[c] != w)
                continue;
            val *sum = &d->sum[c][n % d->parts];
            *sum = aq_emit_dot_add(e, p, *sum, piece, act[d->a_of[c]]);
        }
    }
}

/* One group of n dots of the same types, quad by quad side by side: an activation that they share is spread once and soon done with. */
static void fast_blocks(emitter *e, dots **d, int n, val yes) {
    int all = 0, halves = n_parts(&d[0]->w);
    for (int k = 0; k < n; k++)
        all += d[k]->components;
    for (int h = 0; h < halves; h++) {
        part part = {h, halves, h * QUADS / 2, halves == 1 ? QUADS : (h + 1) * QUADS / 2};
        dot_plan p = {0};
        val word[MAX_TOGETHER][MAX_SIDES][WORDS];
        for (int k = 0; k < n; k++)
            p = start_sums(e, d[k], &part, all);
        for (int q = part.first; q < part.end; q++) {
            for (int k = 0; k < n; k++)
                for (int i = 0; i < d[k]->w.n; i++)
                    aq_emit_load_words(e, &d[k]->w, i, q, q == part.first, word[k][i]);
            for (int half = 0; half < (p.quads ? 1 : 2); half++)
                for (int k = 0; k < n; k++)
                    add_piece(e, d[k], &p, word[k], q, half);
        }
        for (int k = 0; k < n; k++)
            take_part(e, d[k], &part);
    }
    for (int k = 0; k < n; k++)
        scale_and_add(e, d[k], yes);
}

/* --- the statement --------------------------------------------------------------------------------------------------------------- */

static side side_of(emitter *e, const aq_tile *t, aq_id load) {
    const aq_expr *x = &e->n->exprs.at[load];
    side s = {.load = load, .buf = x->buf, .dtype = x->dtype, .form = aq_emit_block_form(&e->n->bufs.at[x->buf]), .n = 1};
    for (int i = 0; i < t->n_axes; i++)
        for (int k = 0; k < x->n_axes; k++)
            if (x->axes[k] == t->axes[i]) {
                s.axes.axis[s.axes.n++] = t->axes[i];
                s.n *= (int)aq_emit_count(e, t->axes[i]);
            }
    return s;
}

/* Addresses of all blocks of a side; 0 if they do not fit the fast form. `rows`: lanes must be the rows of a panel; else none may vary. */
static int place_side(emitter *e, side *s, int rows) {
    const aq_expr *x = &e->n->exprs.at[s->load];
    if (s->n > MAX_SIDES)
        return 0;
    int at = 0;
    for (int more = aq_emit_next(e, &s->axes, 1); more; more = aq_emit_next(e, &s->axes, 0)) {
        ix index[AQ_MAX_RANK];
        for (int i = 0; i < x->n_in; i++) {
            index[i] = aq_emit_index(e, x->in[i]);
            int is_rows = rows && i == 0 && index[i].coef == 1 && aq_emit_ix_align(index[i]) % AQ_PANEL_ROWS == 0;
            if (index[i].vec || (index[i].coef && !is_rows) || (rows && i == 0 && !is_rows))
                return 0;
        }
        block_place p = aq_emit_block_place(e, s->buf, index);
        if (!p.group)
            return 0;
        if (s->form.is_panel || s->form.is_wide)
            s->codes[at] = aq_emit_codes_address(e, &s->form, &p);
        s->place[at++] = p;
    }
    return 1;
}

static int position(const emitter *e, const side *s) {
    int64_t at = 0;
    for (int i = 0; i < s->axes.n; i++)
        at = at * aq_emit_count(e, s->axes.axis[i]) + e->at[s->axes.axis[i]];
    return (int)at;
}

static int is_fast(emitter *e, dots *d) {
    aq_id axis = aq_emit_lane_axis(e, d->t->axes, d->t->n_axes);
    if (!axis || e->cover[axis].lanes != 16 || (!d->w.form.is_panel && !d->w.form.is_wide) || d->state->n_values > 256)
        return 0;
    e->lanes = 16;
    return place_side(e, &d->w, 1) && place_side(e, &d->a, 0);
}

/* The axis that a subscript of blocks runs along: AXIS plus multiples of 32. */
static aq_id block_axis(const emitter *e, aq_id index) {
    const aq_expr *x = &e->n->exprs.at[index];
    if (x->kind == AQ_EXPR_AXIS)
        return x->axis;
    if (x->kind != AQ_EXPR_OP || x->op != AQ_OP_add)
        return 0;
    aq_id a = block_axis(e, x->in[0]);
    return a ? a : block_axis(e, x->in[1]);
}

static dots *open_dots(emitter *e, const aq_stmt *s) {
    const aq_expr *x = &e->n->exprs.at[s->expr[0]];
    int first_is_act = aq_dtype_of(e->n->exprs.at[x->in[0]].dtype)->kind == AQ_KIND_ACT;
    void *p = NULL;
    aq_emit_status(e, aq_arena_alloc(e->arena, 1, sizeof(dots), &p));
    dots *d = p;
    if (!d)
        return NULL;
    d->t = &e->n->tiles.at[s->tile];
    d->state = &e->tile[s->tile];
    d->components = d->state->n_values;
    d->w = side_of(e, d->t, x->in[first_is_act ? 1 : 0]);
    d->a = side_of(e, d->t, x->in[first_is_act ? 0 : 1]);
    d->reduced = aq_emit_reduced(e, s);
    const aq_expr *load = &e->n->exprs.at[d->w.load];
    d->along = block_axis(e, load->in[load->n_in - 1]);
    return d;
}

/* Which positions of the two sides meet in each component. */
static void pair_sides(emitter *e, dots *d) {
    axes_set own = {{0}, 0};
    aq_emit_add_axes(&own, d->t->axes, d->t->n_axes, NULL, 0);
    for (int more = aq_emit_next(e, &own, 1); more; more = aq_emit_next(e, &own, 0)) {
        int c = aq_emit_component(e, d->t, d->t->n_axes);
        d->w_of[c] = position(e, &d->w);
        d->a_of[c] = position(e, &d->a);
    }
}

void aq_emit_block_dot(emitter *e, const aq_stmt *s) {
    dots *d = open_dots(e, s);
    if (!d)
        return;
    for (int more = aq_emit_next(e, &d->reduced, 1); more && e->status == AQ_OK; more = aq_emit_next(e, &d->reduced, 0)) {
        if (e->at[d->along] % 32) /* one block for 32 elements */
            continue;
        int at[MAX_AXES];
        memcpy(at, e->at, sizeof at);
        val yes = aq_emit_inside(e, d->reduced.axis, d->reduced.n);
        if (is_fast(e, d)) {
            pair_sides(e, d);
            fast_blocks(e, &d, 1, yes);
        } else
            aq_emit_slow_block(e, d, yes);
        for (int i = 0; i < d->reduced.n; i++)
            e->at[d->reduced.axis[i]] = at[d->reduced.axis[i]];
    }
}

int aq_emit_block_dots(emitter *e, aq_id first) {
    dots *d[MAX_TOGETHER];
    int n = 0;
    aq_emit_forget(e);
    memset(e->at, 0, sizeof e->at);
    for (aq_id id = first; id; id = e->n->stmts.at[id].next, n++) {
        const aq_stmt *s = &e->n->stmts.at[id];
        if (n == MAX_TOGETHER || s->kind != AQ_STMT_UPDATE || !aq_emit_is_block_dot(e, s->expr[0]))
            return 0;
        d[n] = open_dots(e, s);
        if (!d[n] || d[n]->reduced.n != 1 || e->cover[d[n]->along].step != 32 || e->cover[d[n]->along].end ||
            d[n]->w.dtype != d[0]->w.dtype || d[n]->w.form.is_wide != d[0]->w.form.is_wide || d[n]->a.dtype != d[0]->a.dtype ||
            d[n]->a.n != d[0]->a.n || !is_fast(e, d[n]))
            return 0;
        e->at[d[n]->along] = 0;
        pair_sides(e, d[n]);
    }
    if (n < 2)
        return 0;
    fast_blocks(e, d, n, NULL);
    return 1;
}
