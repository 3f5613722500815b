/* lower_company.c: which reductions share a loop, and which factors of a dot's operand stand behind it. See lower_reduce.c. */
#include "codegen/lower_reduce.h"

#include <string.h>

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
int aq_low_contracted(const aq_lower_state *l, const aq_node *n, char *letter, aq_dim *extent) {
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

void aq_low_describe(const aq_lower_state *l, const aq_node *n, aq_low_group *g) {
    char letter[2 * AQ_MAX_RANK];
    const aq_type *x = type_of(l, aq_node_in(l->m, n)[0]);
    g->is_dot = n->op == AQ_OP_dot;
    g->is_block = g->is_dot && aq_dtype_of(x->dtype)->block > 1;
    if (g->is_dot)
        g->n_extents = aq_low_contracted(l, n, letter, g->extent);
    else {
        g->n_extents = 1;
        g->extent[0] = x->dim[x->rank - 1];
    }
}

/* ---- late factors ---- */

/* Splits operand `v` at `index` into the factors of its products that are late and the rest. */
aq_status aq_low_split_factors(aq_lower_state *l, aq_id v, const aq_id *index, aq_low_factors *rest, aq_low_factors *late) {
    const aq_node *n = aq_low_node(l, v);
    int has_late = 0;
    for (int i = 0; n && n->op == AQ_OP_mul && !l->value[v].buf && i < 2; i++) {
        const aq_node *m = aq_low_node(l, aq_node_in(l->m, n)[i]);
        has_late |= l->value[aq_node_in(l->m, n)[i]].made == AQ_MADE_LATE || (m && m->op == AQ_OP_mul);
    }
    if (!has_late) {
        aq_low_factors *to = l->value[v].made == AQ_MADE_LATE ? late : rest;
        if (to->n == AQ_LOW_MAX_FACTORS)
            return aq_low_refuse(l, v, "too many factors: expected at most %d", AQ_LOW_MAX_FACTORS);
        to->f[to->n].value = v;
        memcpy(to->f[to->n++].index, index, sizeof to->f->index);
        return AQ_OK;
    }
    for (int i = 0; i < 2; i++) {
        aq_id at[AQ_MAX_RANK] = {0};
        int known;
        AQ_TRY(aq_low_operand_index(l, n, i, index, at, &known));
        AQ_TRY(aq_low_split_factors(l, aq_node_in(l->m, n)[i], at, rest, late));
    }
    return AQ_OK;
}

aq_status aq_low_product(aq_lower_state *l, const aq_low_factors *f, aq_id *out) {
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

int aq_low_any_late(const aq_lower_state *l) {
    for (uint32_t i = 0; i < l->b->nodes.n; i++)
        if (l->value[l->m->nodes.at[l->b->nodes.at[i]].out].made == AQ_MADE_LATE)
            return 1;
    return 0;
}

/* Subscripts of operand i of a dot: letters of the result by `index`, the others by `axis`. */
void aq_low_dot_index(const aq_lower_state *l, const aq_node *n, int i, const aq_id *index, const char *letter, const aq_id *axis,
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

static void join(aq_lower_state *l, aq_low_group *g, aq_id v, const aq_node *n, const aq_id *index) {
    aq_low_group other = {0};
    aq_low_describe(l, n, &other);
    if (g->n == AQ_LOW_MAX_GROUP || other.n_extents != g->n_extents || other.is_block != g->is_block || !operands_are_pure(l, n))
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
static aq_status search(aq_lower_state *l, aq_low_group *g, aq_id v, const aq_id *index, uint8_t *seen) {
    const aq_node *n = aq_low_node(l, v);
    aq_id at[AQ_MAX_RANK] = {0}, known_expr;
    int known;
    if (!n || l->value[v].buf || seen[v] || aq_low_remembered(l, v, index, type_of(l, v)->rank, &known_expr))
        return AQ_OK;
    seen[v] = 1;
    if (aq_low_is_reduction(n)) {
        join(l, g, v, n, index);
        if (n->op != AQ_OP_dot || !aq_low_any_late(l))
            return AQ_OK;
        for (int i = 0; i < 2; i++) { /* contracted letters have no axis yet: late factors do not need one */
            aq_low_factors rest = {0}, late = {0};
            aq_low_dot_index(l, n, i, index, "", NULL, 0, at);
            for (int k = 0; k < AQ_MAX_RANK; k++)
                if (!at[k])
                    AQ_TRY(aq_low_const(l, 0, &at[k]));
            AQ_TRY(aq_low_split_factors(l, aq_node_in(l->m, n)[i], at, &rest, &late));
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

aq_status aq_low_find_company(aq_lower_state *l, aq_low_group *g) {
    uint8_t *seen;
    if (!operands_are_pure(l, g->at[0].n))
        return AQ_OK;
    AQ_ALLOC(l->arena, seen, l->m->values.n);
    if (g->is_dot && aq_low_any_late(l)) /* the late factors of the dot itself */
        AQ_TRY(search(l, g, g->at[0].value, g->at[0].index, seen));
    memset(seen, 0, l->m->values.n);
    return search(l, g, l->root, l->root_index, seen);
}
