/* attend.c: attention as loops. A work item is a sequence b, some of its tokens t, a kv head (or a part of its query heads) g; its rows are
 * tokens x query heads, so keys and values are read once for all of them; positions come in blocks of lanes:
 *   tiles b, t, g:  for j, e (whole):  acc o attend
 *     for s:  acc p;  for f: p += dot(q, k[row(s)]);  o attend= select(s <= pos, p * scale, -inf), v[row(s)]
 *     store o
 * A token sees the positions below min(len, pos + 1), so that is where s ends; the mask cuts what single rows of the tile may not see.
 * Few tokens leave most workers idle, so with `split N` positions are cut into pieces of N that are work items c of their own: their parts
 * m, l, o go to scratch, and a second phase merges them (Dao et al., "Flash-Decoding", 2023). N is a multiple of the page, so that
 * the number of pieces is at most P, which sizes the scratch. With an axis `c N` the pieces are a loop inside the item that merges each as it
 * ends: for the sum of a row the same order as `split N`, so that many tokens and few tokens give it the same bits.
 * With `t N 1` sequences that have one token in the step (decoding beside prompts) have work items of one token, beside those of N.
 * Schedule: t, j (query heads an item; all of the group if left out), s with lanes, f (unrolled), e lanes, split, c. */
#include "codegen/lower.h"

#include <string.h>

static const aq_type *type_of(const aq_lower_state *l, aq_id v) {
    return &l->m->values.at[v].type;
}

aq_id aq_low_attend_of(const aq_lower_state *l) {
    for (uint32_t i = 0; i < l->b->nodes.n; i++)
        if (l->m->nodes.at[l->b->nodes.at[i]].op == AQ_OP_attend)
            return l->m->nodes.at[l->b->nodes.at[i]].out;
    return 0;
}

/* Only maps and views with the same bytes between v and the attend; anything without a reduction beside. */
static int is_map_of(aq_lower_state *l, aq_id v, aq_id a, int is_top) {
    const aq_node *n = aq_low_node(l, v);
    if (v == a || !n || !aq_low_has_attend(l, v))
        return 1;
    int fits = aq_low_is_flat_view(n) || ((aq_op_of(n->op)->traits & AQ_MAP) && n->op != AQ_OP_rope && (n->op != AQ_OP_quantize || is_top));
    for (int i = 0; fits && i < n->n_in; i++)
        fits = is_map_of(l, aq_node_in(l->m, n)[i], a, 0) &&
               (aq_low_has_attend(l, aq_node_in(l->m, n)[i]) || !l->value[aq_node_in(l->m, n)[i]].heavy);
    return fits;
}

int aq_low_attend_fits(aq_lower_state *l, const aq_low_root *r) {
    aq_id a = aq_low_attend_of(l);
    const aq_type *t = type_of(l, r->value), *whole = type_of(l, a);
    int64_t width = whole->dim[1].k * whole->dim[2].k;
    int same = t->rank == 3 && aq_dim_same(t->dim[0], whole->dim[0]) && aq_dim_same(t->dim[1], whole->dim[1]) &&
               aq_dim_same(t->dim[2], whole->dim[2]);
    int flat = t->rank == 2 && aq_dim_same(t->dim[0], whole->dim[0]) && !t->dim[1].sym && t->dim[1].k == width;
    if (aq_dtype_of(t->dtype)->block > 1 && whole->dim[2].k % aq_dtype_of(t->dtype)->block)
        return 0; /* blocks would cross heads */
    return !r->append && (same || flat) && is_map_of(l, r->value, a, 1);
}

/* ---- the pieces ---- */

typedef struct attention {
    aq_id value, q, k, v, batch;
    int64_t heads, kv_heads, group, rows; /* query heads; kv heads; query heads a kv head; query heads an item */
    int64_t e, split; /* positions of a piece; 0: all in one */
    int in_turn;      /* pieces are a loop of the item, not items */
    enum { ALL, SINGLE, SEVERAL } which; /* the sequences of this tree, by their tokens in the step */
    int causal;
    double scale;
    aq_id field[6];                  /* buffers by row of batch.def */
    aq_id m, l, o;                   /* scratch of a split */
    aq_id b, t, g, j, c, s, ax_e, f; /* axes */
    aq_id at_b, at_t, at_g, at_j, at_c, at_s, at_e, at_f, token, head;
} attention;

static aq_status bufs_of(aq_lower_state *l, attention *a) {
    for (int i = 0; aq_batch_field_of(i); i++)
        a->field[i] = aq_low_field_buf(l, a->batch, aq_batch_field_of(i)->name);
    return AQ_OK;
}

static aq_id field(const attention *a, const char *name) {
    return a->field[aq_batch_field_by_name(name, strlen(name))];
}

/* An axis with a limit is never shared with others. */
static aq_status axis(aq_lower_state *l, char letter, aq_dim extent, aq_id limit, aq_id *out, aq_id *at) {
    for (aq_id i = 1; i < l->n->axes.n; i++)
        if (l->letter.at[i] == letter && limit && l->n->axes.at[i].limit == limit && aq_dim_same(l->n->axes.at[i].extent, extent)) {
            *out = i; /* the second phase of a split */
            return aq_low_axis_expr(l, i, at);
        }
    AQ_TRY(limit ? aq_low_new_axis(l, letter, extent, limit, out) : aq_low_axis(l, letter, extent, out));
    return aq_low_axis_expr(l, *out, at);
}

static aq_status op2c(aq_lower_state *l, aq_op op, aq_id x, double c, aq_id *out) {
    aq_id k;
    AQ_TRY(aq_low_const(l, c, &k));
    return aq_low_op2(l, op, x, k, out);
}

static int32_t step_of(const aq_lower_state *l, char letter, int32_t otherwise, int lanes_otherwise, int16_t *lanes) {
    const aq_axis_plan *p = aq_low_plan(l, 0, letter);
    *lanes = (int16_t)(p ? p->lanes : lanes_otherwise);
    return p && p->step[0] ? p->step[0] : otherwise;
}

/* The positions that a token sees: min(len, pos + 1). */
static aq_status seen(aq_lower_state *l, const attention *a, aq_id *out) {
    aq_id pos;
    AQ_TRY(aq_low_load(l, field(a, "len"), &a->at_b, 1, out));
    if (!a->causal)
        return AQ_OK;
    AQ_TRY(aq_low_load(l, field(a, "pos"), &a->token, 1, &pos));
    AQ_TRY(op2c(l, AQ_OP_add, pos, 1, &pos));
    return aq_low_op2(l, AQ_OP_minimum, *out, pos, out);
}

/* The tokens n of a sequence, or none, for this tree: n * min(n - 1, 1), and min(n, 2 - n), which is 1 for 1 and never more than 0 else. */
static aq_status of_which(aq_lower_state *l, const attention *a, aq_id *limit) {
    aq_id n = *limit, k;
    if (a->which == SEVERAL) {
        AQ_TRY(op2c(l, AQ_OP_sub, n, 1, &k));
        AQ_TRY(op2c(l, AQ_OP_minimum, k, 1, &k));
        return aq_low_op2(l, AQ_OP_mul, n, k, limit);
    }
    AQ_TRY(aq_low_const(l, 2, &k));
    AQ_TRY(aq_low_op2(l, AQ_OP_sub, k, n, &k));
    return aq_low_op2(l, AQ_OP_minimum, n, k, limit);
}

/* b, t and c with their limits. */
static aq_status sequence_axes(aq_lower_state *l, attention *a) {
    aq_id limit, start;
    AQ_TRY(axis(l, 'b', l->n->bufs.at[field(a, "rows")].type.dim[0], 0, &a->b, &a->at_b));
    AQ_TRY(aq_low_load(l, field(a, "rows"), &a->at_b, 1, &limit));
    if (a->which)
        AQ_TRY(of_which(l, a, &limit));
    AQ_TRY(axis(l, 't', a->which == SINGLE ? aq_dim_const(1) : type_of(l, a->value)->dim[0], limit, &a->t, &a->at_t));
    AQ_TRY(aq_low_load(l, field(a, "start"), &a->at_b, 1, &start));
    AQ_TRY(aq_low_op2(l, AQ_OP_add, start, a->at_t, &a->token));
    if (!a->split)
        return AQ_OK;
    if (a->in_turn)
        AQ_TRY(seen(l, a, &limit));
    else
        AQ_TRY(aq_low_load(l, field(a, "len"), &a->at_b, 1, &limit));
    AQ_TRY(op2c(l, AQ_OP_add, limit, (double)(a->split - 1), &limit));
    AQ_TRY(op2c(l, AQ_OP_idiv, limit, (double)a->split, &limit));
    return axis(l, 'c', l->n->bufs.at[field(a, "pages")].type.dim[1], limit, &a->c, &a->at_c);
}

/* s: within its piece where there are pieces. Ends at min(len, pos + 1). */
static aq_status position_axis(aq_lower_state *l, attention *a) {
    aq_id limit;
    AQ_TRY(seen(l, a, &limit));
    aq_dim extent = l->n->bufs.at[field(a, "pages")].type.dim[1];
    extent.k *= AQ_PAGE;
    if (a->split) {
        aq_id begin;
        AQ_TRY(op2c(l, AQ_OP_mul, a->at_c, (double)a->split, &begin));
        AQ_TRY(aq_low_op2(l, AQ_OP_sub, limit, begin, &limit));
        extent = aq_dim_const(a->split);
    }
    return axis(l, 's', extent, limit, &a->s, &a->at_s);
}

/* The cache row of position s: pages[b, s / PAGE] * PAGE + s % PAGE; and s itself, counted from the start of the sequence. */
static aq_status cache_row(aq_lower_state *l, const attention *a, aq_id *row, aq_id *position) {
    aq_id index[2] = {a->at_b, 0}, in_page;
    *position = a->at_s;
    if (a->split) {
        aq_id begin;
        AQ_TRY(op2c(l, AQ_OP_mul, a->at_c, (double)a->split, &begin));
        AQ_TRY(aq_low_op2(l, AQ_OP_add, begin, a->at_s, position));
    }
    AQ_TRY(op2c(l, AQ_OP_idiv, *position, AQ_PAGE, &index[1]));
    AQ_TRY(op2c(l, AQ_OP_imod, *position, AQ_PAGE, &in_page));
    AQ_TRY(aq_low_load(l, field(a, "pages"), index, 2, row));
    AQ_TRY(op2c(l, AQ_OP_mul, *row, AQ_PAGE, row));
    return aq_low_op2(l, AQ_OP_add, *row, in_page, row);
}

/* The loop over positions, inside of which o takes them in. */
static aq_status positions(aq_lower_state *l, attention *a, aq_id o) {
    aq_id row, position, kv, q, k, v, p, score, pos, minus, index[3];
    int16_t lanes, none;
    uint32_t rows = 1u << a->b | 1u << a->t | 1u << a->g | 1u << a->j | (a->split ? 1u << a->c : 0);
    AQ_TRY(position_axis(l, a));
    int32_t step = step_of(l, 's', 16, 16, &lanes);
    AQ_TRY(aq_low_open(l, AQ_STMT_FOR, a->s, step, lanes));
    AQ_TRY(aq_low_mark_open(l, 's'));
    AQ_TRY(cache_row(l, a, &row, &position));
    AQ_TRY(op2c(l, AQ_OP_idiv, a->at_g, (double)(a->group / a->rows), &kv));
    AQ_TRY(aq_low_acc(l, "p", AQ_MONOID_sum, rows | 1u << a->s, l->depth, &p));
    AQ_TRY(axis(l, 'f', aq_dim_const(type_of(l, a->q)->dim[2].k), 0, &a->f, &a->at_f));
    AQ_TRY(aq_low_open(l, AQ_STMT_FOR, a->f, step_of(l, 'f', 4, 0, &none), 0));
    AQ_TRY(aq_low_mark_open(l, 'f'));
    AQ_TRY(aq_low_at(l, a->q, (aq_id[]){a->token, a->head, a->at_f, 0}, &q));
    memcpy(index, (aq_id[]){row, kv, a->at_f}, sizeof index);
    AQ_TRY(aq_low_at(l, a->k, (aq_id[]){index[0], index[1], index[2], 0}, &k));
    AQ_TRY(aq_low_op2(l, AQ_OP_dot, q, k, &score));
    AQ_TRY(aq_low_update(l, p, 0, &score, 1));
    AQ_TRY(aq_low_close(l));
    AQ_TRY(aq_low_tile_expr(l, p, -1, &score));
    AQ_TRY(op2c(l, AQ_OP_mul, score, a->scale, &score));
    if (a->causal) {
        AQ_TRY(aq_low_load(l, field(a, "pos"), &a->token, 1, &pos));
        AQ_TRY(aq_low_op2(l, AQ_OP_le, position, pos, &pos));
        AQ_TRY(aq_low_const(l, -__builtin_inf(), &minus));
        AQ_TRY(aq_low_op_attr(l, AQ_OP_select, (aq_id[]){pos, score, minus}, 3, NULL, 0, &score));
    }
    AQ_TRY(aq_low_at(l, a->v, (aq_id[]){row, kv, a->at_e, 0}, &v));
    AQ_TRY(aq_low_update(l, o, 0, (aq_id[]){score, v}, 2));
    return aq_low_close(l);
}

/* ---- stores ---- */

static aq_status store_roots(aq_lower_state *l, const attention *a, aq_id o, int phase) {
    aq_id at[AQ_MAX_RANK] = {a->token, a->head, a->at_e, 0}, e, flat[AQ_MAX_RANK] = {a->token, 0, 0, 0};
    AQ_TRY(aq_low_tile_expr(l, o, -1, &e));
    AQ_TRY(aq_low_remember(l, a->value, at, 3, e));
    aq_id ones[AQ_MAX_RANK] = {at[0], at[1], at[2], 0}; /* maps ask for 0 along axes of one */
    if (a->heads == 1)
        AQ_TRY(aq_low_const(l, 0, &ones[1]));
    if (a->e == 1)
        AQ_TRY(aq_low_const(l, 0, &ones[2]));
    AQ_TRY(aq_low_remember(l, a->value, ones, 3, e));
    AQ_TRY(op2c(l, AQ_OP_mul, a->head, (double)a->e, &flat[1]));
    AQ_TRY(aq_low_op2(l, AQ_OP_add, flat[1], a->at_e, &flat[1]));
    for (uint32_t i = 0; i < l->roots.n; i++) {
        const aq_low_root *r = &l->roots.at[i];
        if (r->phase != phase || !aq_low_wants_attend(l, r))
            continue;
        const aq_id *index = type_of(l, r->value)->rank == 3 ? at : flat;
        l->root = r->value;
        memcpy(l->root_index, index, sizeof l->root_index);
        AQ_TRY(aq_low_stored(l, r, index, &e));
        AQ_TRY(aq_low_store(l, r->buf, index, type_of(l, r->value)->rank, e));
    }
    return AQ_OK;
}

static aq_status store_parts(aq_lower_state *l, const attention *a, aq_id o) {
    aq_id index[4] = {a->token, a->head, a->at_c, a->at_e}, part;
    const aq_id buf[3] = {a->m, a->l, a->o};
    for (int i = 0; i < 3; i++) {
        AQ_TRY(aq_low_tile_expr(l, o, i, &part));
        AQ_TRY(aq_low_store(l, buf[i], index, i == 2 ? 4 : 3, part));
    }
    return AQ_OK;
}

static aq_status part_buffers(aq_lower_state *l, attention *a, int make) {
    const char *const names[3] = {"%m", "%l", "%o"};
    aq_id *buf[3] = {&a->m, &a->l, &a->o};
    aq_dim pieces = l->n->bufs.at[field(a, "pages")].type.dim[1];
    for (int i = 0; i < 3; i++) {
        aq_type t = {.dtype = AQ_F32,
                     .rank = (uint8_t)(i == 2 ? 4 : 3),
                     .dim = {type_of(l, a->value)->dim[0], aq_dim_const(a->heads), pieces, aq_dim_const(a->e)}};
        if (make)
            AQ_TRY(aq_low_add_buf(l, names[i], AQ_BUF_SCRATCH, t, AQ_LAYOUT_ROWS, buf[i]));
        else
            *buf[i] = l->n->bufs.n - 3 + (aq_id)i; /* made last, by the first part */
    }
    return AQ_OK;
}

/* ---- trees ---- */

/* The elements of o, all of them; the axis must be the nest's newest of the accumulator's, so each tree has its own. */
static aq_status open_e(aq_lower_state *l, attention *a, char letter) {
    int16_t lanes;
    (void)step_of(l, 'e', 0, 16, &lanes);
    AQ_TRY(axis(l, letter, aq_dim_const(a->e), 0, &a->ax_e, &a->at_e));
    int64_t whole = lanes ? (a->e + lanes - 1) / lanes * lanes : a->e;
    AQ_TRY(aq_low_open(l, AQ_STMT_FOR, a->ax_e, (int32_t)whole, lanes));
    return aq_low_mark_open(l, 'e');
}

static aq_status close_tree(aq_lower_state *l) {
    while (l->depth)
        AQ_TRY(aq_low_close(l));
    l->base = 0;
    return AQ_OK;
}

/* Each piece of the positions into its own m, l, o, and those into `whole`. */
static aq_status pieces_in_turn(aq_lower_state *l, attention *a, aq_id whole, uint32_t mask) {
    aq_id o, part[3];
    AQ_TRY(aq_low_open(l, AQ_STMT_FOR, a->c, 1, 0));
    AQ_TRY(aq_low_acc(l, "o", AQ_MONOID_attend, mask, l->depth, &o));
    AQ_TRY(positions(l, a, o));
    for (int i = 0; i < 3; i++)
        AQ_TRY(aq_low_tile_expr(l, o, i, &part[i]));
    AQ_TRY(aq_low_update(l, whole, 1, part, 3));
    return aq_low_close(l);
}

static aq_status main_tree(aq_lower_state *l, attention *a, int phase) {
    aq_id o;
    int16_t none;
    AQ_TRY(sequence_axes(l, a));
    AQ_TRY(axis(l, 'g', aq_dim_const(a->heads / a->rows), 0, &a->g, &a->at_g));
    AQ_TRY(aq_low_open(l, AQ_STMT_TILES, a->b, 1, 0));
    AQ_TRY(aq_low_open(l, AQ_STMT_TILES, a->t, a->which == SINGLE ? 1 : step_of(l, 't', 1, 0, &none), 0));
    AQ_TRY(aq_low_mark_open(l, 't'));
    if (a->split && !a->in_turn) /* outside of g: the heads of a page lie side by side, and the items that hold work stand together in the grid */
        AQ_TRY(aq_low_open(l, AQ_STMT_TILES, a->c, 1, 0));
    AQ_TRY(aq_low_open(l, AQ_STMT_TILES, a->g, 1, 0));
    l->base = l->depth;
    AQ_TRY(axis(l, 'j', aq_dim_const(a->rows), 0, &a->j, &a->at_j));
    AQ_TRY(aq_low_open(l, AQ_STMT_FOR, a->j, (int32_t)a->rows, 0));
    AQ_TRY(aq_low_mark_open(l, 'j'));
    AQ_TRY(op2c(l, AQ_OP_mul, a->at_g, (double)a->rows, &a->head));
    AQ_TRY(aq_low_op2(l, AQ_OP_add, a->head, a->at_j, &a->head));
    AQ_TRY(open_e(l, a, a->which == SINGLE ? 'u' : 'e'));
    uint32_t mask = 1u << a->b | 1u << a->t | 1u << a->g | 1u << a->j | 1u << a->ax_e, piece = a->split ? mask | 1u << a->c : mask;
    AQ_TRY(aq_low_acc(l, "o", AQ_MONOID_attend, a->in_turn ? mask : piece, l->depth, &o));
    AQ_TRY(a->in_turn ? pieces_in_turn(l, a, o, piece) : positions(l, a, o));
    AQ_TRY(a->split && !a->in_turn ? store_parts(l, a, o) : store_roots(l, a, o, phase));
    return close_tree(l);
}

static aq_status merge_tree(aq_lower_state *l, attention *a, int phase) {
    aq_id o, part[3];
    AQ_TRY(sequence_axes(l, a));
    AQ_TRY(axis(l, 'h', aq_dim_const(a->heads), 0, &a->g, &a->head));
    AQ_TRY(aq_low_open(l, AQ_STMT_TILES, a->b, 1, 0));
    AQ_TRY(aq_low_open(l, AQ_STMT_TILES, a->t, 1, 0));
    AQ_TRY(aq_low_open(l, AQ_STMT_TILES, a->g, 1, 0));
    l->base = l->depth;
    AQ_TRY(open_e(l, a, 'u'));
    AQ_TRY(aq_low_acc(l, "u", AQ_MONOID_attend, 1u << a->b | 1u << a->t | 1u << a->g | 1u << a->ax_e, l->depth, &o));
    AQ_TRY(aq_low_open(l, AQ_STMT_FOR, a->c, 1, 0));
    aq_id index[4] = {a->token, a->head, a->at_c, a->at_e};
    AQ_TRY(aq_low_load(l, a->m, index, 3, &part[0]));
    AQ_TRY(aq_low_load(l, a->l, index, 3, &part[1]));
    AQ_TRY(aq_low_load(l, a->o, index, 4, &part[2]));
    AQ_TRY(aq_low_update(l, o, 1, part, 3));
    AQ_TRY(aq_low_close(l));
    AQ_TRY(store_roots(l, a, o, phase));
    return close_tree(l);
}

aq_status aq_low_attend(aq_lower_state *l, aq_id value, int phase, int part) {
    const aq_node *n = aq_low_node(l, value);
    const aq_id *in = aq_node_in(l->m, n);
    attention a = {.value = value, .q = in[0], .k = in[1], .v = in[2], .batch = in[3], .split = l->s->split};
    const aq_axis_plan *t = aq_low_plan(l, 0, 't'), *j = aq_low_plan(l, 0, 'j'), *c = aq_low_plan(l, 0, 'c');
    a.heads = type_of(l, a.q)->dim[1].k;
    a.kv_heads = type_of(l, a.k)->dim[1].k;
    a.group = a.heads / a.kv_heads;
    a.rows = j && j->step[0] && j->step[0] < a.group ? j->step[0] : a.group;
    a.e = type_of(l, value)->dim[2].k;
    a.causal = aq_node_attr(l->m, n, AQ_ATTR_causal) != NULL;
    a.scale = aq_node_num(l->m, n, AQ_ATTR_scale, 1);
    if (a.group % a.rows)
        return aq_low_refuse(l, value, "j %lld does not divide the group of %lld heads: expected a divisor", (long long)a.rows,
                             (long long)a.group);
    if (!a.split && c) {
        a.split = c->step[0];
        a.in_turn = a.split > 0;
    }
    if (a.split % AQ_PAGE)
        return aq_low_refuse(l, value, "split %lld: expected a multiple of the page of %d", (long long)a.split, AQ_PAGE);
    AQ_TRY(bufs_of(l, &a));
    if (part)
        AQ_TRY(part_buffers(l, &a, part == 1));
    if (!part && t && t->step[0] > 1 && t->step[1] == 1) {
        a.which = SEVERAL;
        AQ_TRY(main_tree(l, &a, phase));
        a.which = SINGLE;
    }
    return part == 2 ? merge_tree(l, &a, phase) : main_tree(l, &a, phase);
}
