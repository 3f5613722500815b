/* lower_reduce.c: sums, maxima and dots: an accumulator, a loop, updates, and the finished value.
 *
 * A reduction stands inside the loops that its subscripts name and no others. Reductions of the same root that stand at the same place and
 * run over the same extent share one loop, so gate and up read the activations once: before a loop is built, the root's cone is searched
 * for company. Only reductions whose operands hold no further reduction may join, since what they need is then certainly there.
 * `late` factors (a norm's 1/rms) are left out of a dot's operand and multiplied in behind it; their own sum joins the dot's loop. */
#include "codegen/lower.h"

#include <string.h>

enum { MAX_GROUP = 8, MAX_FACTORS = 8 };

typedef struct factor { /* of a dot's operand: a value at the subscripts that the operand's own give it */
    aq_id value, index[AQ_MAX_RANK];
} factor;

typedef struct factors {
    factor f[MAX_FACTORS];
    int n;
} factors;

typedef struct sum {
    aq_id value, index[AQ_MAX_RANK], tile;
    const aq_node *n;
} sum;

typedef struct group {
    sum at[MAX_GROUP];
    int n, level;
    aq_dim extent[AQ_MAX_RANK]; /* of the reduced axes */
    int n_extents;
    uint8_t is_dot, is_block;
} group;

static const aq_type *type_of(const aq_lower_state *l, aq_id v) {
    return &l->m->values.at[v].type;
}

/* ---- what a reduction runs over ---- */

typedef struct letters {
    const char *in[2], *out;
    int n[2], n_out;
} letters;

static letters spec_of(const aq_lower_state *l, const aq_node *n) {
    letters s = {0};
    s.in[0] = aq_node_attr(l->m, n, AQ_ATTR_spec)->text;
    s.n[0] = (int)strcspn(s.in[0], ",");
    s.in[1] = s.in[0] + s.n[0] + 1;
    s.n[1] = (int)strcspn(s.in[1], "-");
    s.out = s.in[1] + s.n[1] + 2;
    s.n_out = (int)strlen(s.out);
    return s;
}

/* The letters of a dot that its result lacks, and their extents. */
static int contracted(const aq_lower_state *l, const aq_node *n, char *letter, aq_dim *extent) {
    letters s = spec_of(l, n);
    int count = 0;
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < s.n[i]; k++) {
            char c = s.in[i][k];
            if (memchr(s.out, c, (size_t)s.n_out) || memchr(letter, c, (size_t)count))
                continue;
            letter[count] = c;
            extent[count++] = type_of(l, aq_node_in(l->m, n)[i])->dim[k];
        }
    return count;
}

static void describe(const aq_lower_state *l, const aq_node *n, group *g) {
    char letter[2 * AQ_MAX_RANK];
    const aq_type *x = type_of(l, aq_node_in(l->m, n)[0]);
    g->is_dot = n->op == AQ_OP_dot;
    g->is_block = g->is_dot && aq_dtype_of(x->dtype)->block > 1;
    if (g->is_dot)
        g->n_extents = contracted(l, n, letter, g->extent);
    else {
        g->n_extents = 1;
        g->extent[0] = x->dim[x->rank - 1];
    }
}

/* ---- late factors ---- */

/* Splits operand `v` at `index` into the factors of its products that are late and the rest. */
static aq_status split(aq_lower_state *l, aq_id v, const aq_id *index, factors *rest, factors *late) {
    const aq_node *n = aq_low_node(l, v);
    int has_late = 0;
    for (int i = 0; n && n->op == AQ_OP_mul && !l->value[v].buf && i < 2; i++) {
        const aq_node *m = aq_low_node(l, aq_node_in(l->m, n)[i]);
        has_late |= l->value[aq_node_in(l->m, n)[i]].made == AQ_MADE_LATE || (m && m->op == AQ_OP_mul);
    }
    if (!has_late) {
        factors *to = l->value[v].made == AQ_MADE_LATE ? late : rest;
        if (to->n == MAX_FACTORS)
            return aq_low_refuse(l, v, "too many factors: expected at most %d", MAX_FACTORS);
        to->f[to->n].value = v;
        memcpy(to->f[to->n++].index, index, sizeof to->f->index);
        return AQ_OK;
    }
    for (int i = 0; i < 2; i++) {
        aq_id at[AQ_MAX_RANK] = {0};
        int known;
        AQ_TRY(aq_low_operand_index(l, n, i, index, at, &known));
        AQ_TRY(split(l, aq_node_in(l->m, n)[i], at, rest, late));
    }
    return AQ_OK;
}

static aq_status product(aq_lower_state *l, const factors *f, aq_id *out) {
    *out = 0;
    for (int i = 0; i < f->n; i++) {
        aq_id x;
        AQ_TRY(aq_low_at(l, f->f[i].value, f->f[i].index, &x));
        if (*out)
            AQ_TRY(aq_low_op2(l, AQ_OP_mul, *out, x, out));
        else
            *out = x;
    }
    return *out ? AQ_OK : aq_low_const(l, 1, out);
}

static int any_late(const aq_lower_state *l) {
    for (uint32_t i = 0; i < l->b->nodes.n; i++)
        if (l->value[l->m->nodes.at[l->b->nodes.at[i]].out].made == AQ_MADE_LATE)
            return 1;
    return 0;
}

/* Subscripts of operand i of a dot: letters of the result by `index`, the others by `axis`. */
static void dot_index(const aq_lower_state *l, const aq_node *n, int i, const aq_id *index, const char *letter, const aq_id *axis,
                      int n_axes, aq_id *out) {
    letters s = spec_of(l, n);
    memset(out, 0, AQ_MAX_RANK * sizeof *out);
    for (int k = 0; k < s.n[i]; k++) {
        const char *at = memchr(s.out, s.in[i][k], (size_t)s.n_out), *in = memchr(letter, s.in[i][k], (size_t)n_axes);
        out[k] = at ? index[at - s.out] : in ? axis[in - letter] : 0;
    }
}

/* ---- company ---- */

/* No reduction below v that is not there already (kept, or late). */
static int is_pure(aq_lower_state *l, aq_id v) {
    const aq_node *n = aq_low_node(l, v);
    if (!n || l->value[v].buf || l->value[v].made == AQ_MADE_LATE || l->value[v].stamp == l->stamp)
        return 1;
    l->value[v].stamp = l->stamp;
    if (aq_low_is_reduction(n))
        return 0;
    for (int i = 0; i < n->n_in; i++)
        if (!is_pure(l, aq_node_in(l->m, n)[i]))
            return 0;
    return 1;
}

static int operands_are_pure(aq_lower_state *l, const aq_node *n) {
    l->stamp++;
    for (int i = 0; i < n->n_in; i++)
        if (!is_pure(l, aq_node_in(l->m, n)[i]))
            return 0;
    return 1;
}

static void join(aq_lower_state *l, group *g, aq_id v, const aq_node *n, const aq_id *index) {
    group other = {0};
    describe(l, n, &other);
    if (g->n == MAX_GROUP || other.n_extents != g->n_extents || other.is_block != g->is_block || !operands_are_pure(l, n))
        return;
    if (other.is_dot != g->is_dot && l->value[v].made != AQ_MADE_LATE)
        return;
    for (int i = 0; i < g->n_extents; i++)
        if (!aq_dim_same(other.extent[i], g->extent[i]))
            return;
    if (aq_low_level_of(l, index, type_of(l, v)->rank) != g->level)
        return;
    for (int i = 0; i < g->n; i++)
        if (g->at[i].value == v)
            return;
    g->at[g->n].value = v;
    g->at[g->n].n = n;
    memcpy(g->at[g->n++].index, index, sizeof g->at->index);
}

/* Visits the root's cone down to reductions; each value once. */
static aq_status search(aq_lower_state *l, group *g, aq_id v, const aq_id *index, uint8_t *seen) {
    const aq_node *n = aq_low_node(l, v);
    aq_id at[AQ_MAX_RANK] = {0}, known_expr;
    int known;
    if (!n || l->value[v].buf || seen[v] || aq_low_remembered(l, v, index, type_of(l, v)->rank, &known_expr))
        return AQ_OK;
    seen[v] = 1;
    if (aq_low_is_reduction(n)) {
        join(l, g, v, n, index);
        if (n->op != AQ_OP_dot || !any_late(l))
            return AQ_OK;
        for (int i = 0; i < 2; i++) { /* contracted letters have no axis yet: late factors do not need one */
            factors rest = {0}, late = {0};
            dot_index(l, n, i, index, "", NULL, 0, at);
            for (int k = 0; k < AQ_MAX_RANK; k++)
                if (!at[k])
                    AQ_TRY(aq_low_const(l, 0, &at[k]));
            AQ_TRY(split(l, aq_node_in(l->m, n)[i], at, &rest, &late));
            for (int k = 0; k < late.n; k++)
                AQ_TRY(search(l, g, late.f[k].value, late.f[k].index, seen));
        }
        return AQ_OK;
    }
    for (int i = 0; i < n->n_in; i++) {
        AQ_TRY(aq_low_operand_index(l, n, i, index, at, &known));
        if (known)
            AQ_TRY(search(l, g, aq_node_in(l->m, n)[i], at, seen));
    }
    return AQ_OK;
}

static aq_status find_company(aq_lower_state *l, group *g) {
    uint8_t *seen;
    if (!operands_are_pure(l, g->at[0].n))
        return AQ_OK;
    AQ_ALLOC(l->arena, seen, l->m->values.n);
    if (g->is_dot && any_late(l)) /* the late factors of the dot itself */
        AQ_TRY(search(l, g, g->at[0].value, g->at[0].index, seen));
    memset(seen, 0, l->m->values.n);
    return search(l, g, l->root, l->root_index, seen);
}

/* ---- loops ---- */

/* Opens the loops over reduced axis i. Lanes only on the innermost one, and only where no accumulator has lanes itself. */
static aq_status open_axis(aq_lower_state *l, const group *g, int i, aq_id axis, uint32_t mask) {
    const aq_axis_plan *p = aq_low_plan(l, 0, g->is_dot ? 'd' : 'r');
    aq_dim extent = g->extent[i];
    int lanes_fit = i == g->n_extents - 1 && !g->is_block && !aq_low_has_lanes(l, mask);
    int32_t usual = g->is_block ? 32 : lanes_fit ? 16 : 4, step[3] = {usual, 0, 0};
    int lanes = lanes_fit ? (p ? p->lanes : 16) : 0, n = 1;
    if (p && p->step[0])
        for (n = 0; n < 3 && p->step[n]; n++)
            step[n] = p->lanes && !lanes && !g->is_block && (n == 2 || !p->step[n + 1])
                          ? (p->step[n] / p->lanes ? p->step[n] / p->lanes : 1)
                          : p->step[n];
    for (int k = 0; k < n; k++) {
        int last = k == n - 1, unit = g->is_block ? 32 : last && lanes ? lanes : 1;
        if (!extent.sym && step[k] > extent.k) { /* no more than there is, in whole vectors, a power of two of them */
            int64_t want = (extent.k + unit - 1) / unit, parts = 1;
            while (parts < want)
                parts *= 2;
            step[k] = (int32_t)((lanes && last ? parts : want) * unit);
        }
        AQ_TRY(aq_low_open(l, AQ_STMT_FOR, axis, step[k], (int16_t)(last ? lanes : 0)));
    }
    return AQ_OK;
}

/* An update takes one element for each element of its expression's axes: an expression that is the same along a reduced axis must still
 * be counted once an element. */
static aq_status depend(aq_lower_state *l, aq_id *e, aq_id axis) {
    aq_id zero, x;
    AQ_TRY(aq_low_const(l, 0, &zero));
    AQ_TRY(aq_low_op2(l, AQ_OP_mul, axis, zero, &x));
    return aq_low_op2(l, AQ_OP_add, *e, x, e);
}

static aq_status update_dot(aq_lower_state *l, const sum *s, const char *letter, const aq_id *axis, int n_axes) {
    aq_id in[2], at[AQ_MAX_RANK], e;
    for (int i = 0; i < 2; i++) {
        factors rest = {0}, late = {0};
        dot_index(l, s->n, i, s->index, letter, axis, n_axes, at);
        AQ_TRY(split(l, aq_node_in(l->m, s->n)[i], at, &rest, &late));
        if (late.n)
            AQ_TRY(product(l, &rest, &in[i]));
        else
            AQ_TRY(aq_low_at(l, aq_node_in(l->m, s->n)[i], at, &in[i]));
        for (int k = 0; k < late.n; k++)
            if (aq_low_mask_all(l, late.f[k].index, type_of(l, late.f[k].value)->rank) & aq_low_mask_all(l, axis, n_axes))
                return aq_low_refuse(l, late.f[k].value, "it varies along the sum that it should come after: expected a factor of rows");
    }
    for (int k = 0; k < n_axes; k++)
        if (!(aq_low_mask_all(l, in, 2) & aq_low_mask(l, axis[k])))
            AQ_TRY(depend(l, &in[0], axis[k]));
    AQ_TRY(aq_low_op2(l, AQ_OP_dot, in[0], in[1], &e));
    return aq_low_update(l, s->tile, 0, &e, 1);
}

static aq_status update_row(aq_lower_state *l, const sum *s, aq_id axis) {
    const aq_id x = aq_node_in(l->m, s->n)[0];
    aq_id at[AQ_MAX_RANK], e;
    memcpy(at, s->index, sizeof at);
    at[type_of(l, x)->rank - 1] = axis;
    AQ_TRY(aq_low_at(l, x, at, &e));
    if (!(aq_low_mask(l, e) & aq_low_mask(l, axis)))
        AQ_TRY(depend(l, &e, axis));
    if (s->n->op == AQ_OP_rms) {
        if (l->n->exprs.at[e].kind == AQ_EXPR_OP)
            AQ_TRY(aq_low_let(l, "x", e, &e));
        AQ_TRY(aq_low_op2(l, AQ_OP_mul, e, e, &e));
    }
    return aq_low_update(l, s->tile, 0, &e, 1);
}

static aq_monoid monoid_of(aq_op op) {
    switch (op) {
    case AQ_OP_rmax:
        return AQ_MONOID_max;
    case AQ_OP_lse:
        return AQ_MONOID_lse;
    case AQ_OP_argmax:
        return AQ_MONOID_argmax;
    default:
        return AQ_MONOID_sum;
    }
}

/* ---- afterwards ---- */

static aq_status finish_rms(aq_lower_state *l, const sum *s, aq_id *e) {
    const aq_type *x = type_of(l, aq_node_in(l->m, s->n)[0]);
    aq_dim d = x->dim[x->rank - 1];
    aq_id size, eps;
    AQ_TRY(d.sym ? aq_low_dim(l, d, &size) : aq_low_const(l, 1.0 / (double)d.k, &size));
    AQ_TRY(aq_low_op2(l, d.sym ? AQ_OP_div : AQ_OP_mul, *e, size, e));
    AQ_TRY(aq_low_const(l, aq_node_num(l->m, s->n, AQ_ATTR_eps, 0), &eps));
    AQ_TRY(aq_low_op2(l, AQ_OP_add, *e, eps, e));
    AQ_TRY(aq_low_op1(l, AQ_OP_rsqrt, *e, e));
    return aq_low_let(l, "rms", *e, e);
}

static aq_status finish_dot(aq_lower_state *l, const sum *s, aq_id *e) {
    aq_id zero[AQ_MAX_RANK], at[AQ_MAX_RANK], x;
    char letter[2 * AQ_MAX_RANK] = "";
    aq_dim extent[2 * AQ_MAX_RANK];
    int n_axes = contracted(l, s->n, letter, extent);
    for (int k = 0; k < AQ_MAX_RANK; k++)
        AQ_TRY(aq_low_const(l, 0, &zero[k]));
    for (int i = 0; i < 2 && any_late(l); i++) {
        factors rest = {0}, late = {0};
        dot_index(l, s->n, i, s->index, letter, zero, n_axes, at);
        AQ_TRY(split(l, aq_node_in(l->m, s->n)[i], at, &rest, &late));
        if (!late.n)
            continue;
        AQ_TRY(product(l, &late, &x));
        AQ_TRY(aq_low_op2(l, AQ_OP_mul, *e, x, e));
    }
    return AQ_OK;
}

static aq_status finish(aq_lower_state *l, const group *g, aq_id *out) {
    for (int dots = 0; dots < 2; dots++) /* late factors first, then the dots that want them */
        for (int i = 0; i < g->n; i++) {
            const sum *s = &g->at[i];
            aq_id e;
            if ((s->n->op == AQ_OP_dot) != dots)
                continue;
            AQ_TRY(aq_low_tile_expr(l, s->tile, -1, &e));
            if (s->n->op == AQ_OP_rms)
                AQ_TRY(finish_rms(l, s, &e));
            if (dots)
                AQ_TRY(finish_dot(l, s, &e));
            AQ_TRY(aq_low_remember(l, s->value, s->index, type_of(l, s->value)->rank, e));
            if (i == 0)
                *out = e;
        }
    return AQ_OK;
}

/* A dot that sums over nothing is a product. */
static aq_status outer(aq_lower_state *l, const sum *s, aq_id *out) {
    aq_id in[2], at[AQ_MAX_RANK];
    for (int i = 0; i < 2; i++) {
        dot_index(l, s->n, i, s->index, "", NULL, 0, at);
        AQ_TRY(aq_low_at(l, aq_node_in(l->m, s->n)[i], at, &in[i]));
    }
    return aq_low_op2(l, AQ_OP_mul, in[0], in[1], out);
}

aq_status aq_low_reduce(aq_lower_state *l, aq_id value, const aq_id *index, aq_id *out) {
    group g = {.n = 1};
    char letter[2 * AQ_MAX_RANK] = "", name[96];
    aq_id axis[AQ_MAX_RANK], axis_expr[AQ_MAX_RANK];
    aq_dim extent[2 * AQ_MAX_RANK];
    uint32_t mask = 0;
    aq_low_aside aside;
    int rank = type_of(l, value)->rank;
    g.at[0].value = value;
    g.at[0].n = aq_low_node(l, value);
    memcpy(g.at[0].index, index, (size_t)rank * sizeof *index);
    describe(l, g.at[0].n, &g);
    if (!g.n_extents)
        return outer(l, &g.at[0], out);
    g.level = aq_low_level_of(l, index, rank);
    AQ_TRY(find_company(l, &g));
    aq_low_set_aside(l, g.level, &aside);
    for (int i = 0; i < g.n; i++) {
        uint32_t own = aq_low_mask_all(l, g.at[i].index, type_of(l, g.at[i].value)->rank);
        aq_low_value_name(l->m, l->b, g.at[i].value, name, sizeof name);
        AQ_TRY(aq_low_acc(l, name, monoid_of(g.at[i].n->op), own, g.level, &g.at[i].tile));
        mask |= own;
    }
    int depth = l->depth;
    for (int i = 0; i < g.n_extents; i++) {
        AQ_TRY(aq_low_axis(l, g.is_dot ? 'd' : 'r', g.extent[i], &axis[i]));
        AQ_TRY(aq_low_axis_expr(l, axis[i], &axis_expr[i]));
        AQ_TRY(open_axis(l, &g, i, axis[i], mask));
    }
    for (int i = 0; i < g.n; i++) {
        memset(letter, 0, sizeof letter);
        if (g.at[i].n->op == AQ_OP_dot) {
            contracted(l, g.at[i].n, letter, extent);
            AQ_TRY(update_dot(l, &g.at[i], letter, axis_expr, g.n_extents));
        } else
            AQ_TRY(update_row(l, &g.at[i], axis_expr[0]));
    }
    while (l->depth > depth)
        AQ_TRY(aq_low_close(l));
    aq_low_put_back(l, g.level, &aside);
    return finish(l, &g, out);
}
