/* infer_rules.c: the shape rules that need more than an axes string: contractions, rope, caches, views, regions. See infer.c. */
#include "ir/infer.h"
#include "ir/rope.h"

#include <math.h>
#include <string.h>

static int is_number(aq_dim d, int64_t at_least) { return !d.sym && d.k >= at_least; }

/* --- dot: the letters of {spec} ----------------------------------------------------------------------------------------------------- */

/* One side of an einsum: letters a..z, each once, at most AQ_MAX_RANK; returns how many, -1 if it is not that. */
static int letters(const char **p, char stop, char *out) {
    int n = 0;
    while (**p >= 'a' && **p <= 'z' && n < AQ_MAX_RANK) {
        if (n && memchr(out, **p, (size_t)n))
            return -1;
        out[n++] = *(*p)++;
    }
    if (**p != stop)
        return -1;
    return n;
}

aq_status aq_rule_spec(aq_rule *c, aq_type *out) {
    const aq_attr *a = aq_rule_attr(c, AQ_ATTR_spec);
    const char *p = a && a->text ? a->text : "";
    const aq_value *x = aq_rule_in(c, 0), *y = aq_rule_in(c, 1);
    char side[3][AQ_MAX_RANK];
    int n[3];
    if ((n[0] = letters(&p, ',', side[0])) < 0 || (p++, n[1] = letters(&p, '-', side[1])) < 0 || (p++, *p++ != '>') ||
        (n[2] = letters(&p, 0, side[2])) < 0)
        return aq_fail_node(c->m, c->n, "attribute spec is \"%.40s\": expected letters as \"tk,nk->tn\"", a && a->text ? a->text : "");
    if (x->type.is_batch || y->type.is_batch || n[0] != x->type.rank || n[1] != y->type.rank)
        return aq_rule_refuse(c, "one letter of spec an axis");
    aq_dim dim[26] = {{0, 0}};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < n[i]; k++) {
            aq_dim *d = &dim[side[i][k] - 'a'], here = aq_rule_in(c, i)->type.dim[k];
            if (d->k && !aq_dim_same(*d, here))
                return aq_rule_refuse(c, "equal sizes where spec has equal letters");
            *d = here;
        }
    aq_type t = {.dtype = x->type.dtype == AQ_F64 || y->type.dtype == AQ_F64 ? AQ_F64 : AQ_F32, .rank = (uint8_t)n[2]};
    for (int k = 0; k < n[2]; k++) {
        t.dim[k] = dim[side[2][k] - 'a'];
        if (!t.dim[k].k)
            return aq_fail_node(c->m, c->n, "letter %c of the result: expected it on the left of -> too", side[2][k]);
    }
    if (!aq_is_float(x) || !aq_is_float(y)) {
        aq_dtype_kind kx = aq_dtype_of(x->type.dtype)->kind, ky = aq_dtype_of(y->type.dtype)->kind;
        int fits = (kx == AQ_KIND_ACT && ky == AQ_KIND_WEIGHT) || (kx == AQ_KIND_WEIGHT && ky == AQ_KIND_ACT);
        char last = n[0] ? side[0][n[0] - 1] : 0;
        if (!fits || !n[1] || side[1][n[1] - 1] != last || memchr(side[2], last, (size_t)n[2]))
            return aq_rule_refuse(c, "floats, or weight blocks against activation blocks, both reduced over their last axis");
    }
    *out = t;
    return AQ_OK;
}

/* --- positions and caches ------------------------------------------------------------------------------------------------------------ */

aq_status aq_rule_rope(aq_rule *c, aq_type *out) {
    const aq_type *x = &aq_rule_in(c, 0)->type, *pos = &aq_rule_in(c, 1)->type;
    int64_t dim;
    static const aq_attr_key keys[] = {AQ_ATTR_theta, AQ_ATTR_factor, AQ_ATTR_low, AQ_ATTR_high, AQ_ATTR_ramp, AQ_ATTR_gain};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        (void)aq_rule_attr(c, keys[i]);
    aq_rope r = aq_rope_of_node(c->m, c->n);
    const char *expected = aq_rope_wrong(&r);
    if (expected)
        return aq_fail_node(c->m, c->n, "an attribute is out of range: expected %s", expected);
    AQ_TRY(aq_rule_int(c, AQ_ATTR_dim, 0, 0, INT32_MAX, &dim));
    if (!aq_is_float(aq_rule_in(c, 0)) || x->rank < 2 || pos->is_batch || pos->dtype != AQ_I32 || pos->rank != 1 || !aq_dim_same(x->dim[0], pos->dim[0]))
        return aq_rule_refuse(c, "floats [t, ..., e] and i32 positions [t]");
    aq_dim e = x->dim[x->rank - 1];
    dim = dim ? dim : e.k;
    if (!is_number(e, 2) || dim % 2 || e.k % dim)
        return aq_rule_refuse(c, "a last axis that is a multiple of {dim}, which is even");
    *out = *x;
    out->dtype = x->dtype == AQ_F64 ? AQ_F64 : AQ_F32;
    return AQ_OK;
}

/* Is d the number of a batch's tokens? */
static int is_tokens(const aq_rule *c, aq_dim d) { return d.sym && d.k == 1 && d.sym == aq_sym_find(c->m, "T", 1); }

aq_status aq_rule_append(aq_rule *c, aq_type *out) {
    const aq_value *s = aq_rule_in(c, 0), *x = aq_rule_in(c, 1);
    int fits = s->state && x->type.rank == s->type.rank && s->type.rank > 0 && aq_is_float(x) && aq_rule_in(c, 2)->type.is_batch &&
               is_tokens(c, x->type.dim[0]);
    for (int i = 1; fits && i < s->type.rank; i++)
        fits = aq_dim_same(s->type.dim[i], x->type.dim[i]);
    if (!fits)
        return aq_rule_refuse(c, "a state [S, ...], floats [T, ...] with equal other axes, and a batch");
    *out = s->type;
    return AQ_OK;
}

aq_status aq_rule_attend(aq_rule *c, aq_type *out) {
    const aq_type *q = &aq_rule_in(c, 0)->type, *k = &aq_rule_in(c, 1)->type, *v = &aq_rule_in(c, 2)->type;
    AQ_TRY(aq_rule_num(c, AQ_ATTR_scale, NAN, 0, 1e6, NULL));
    (void)aq_rule_attr(c, AQ_ATTR_causal);
    for (int i = 0; i < 3; i++)
        if (!aq_is_float(aq_rule_in(c, i)) || aq_rule_in(c, i)->type.rank != 3)
            return aq_rule_refuse(c, "q [T, H, E], k and v [S, HKV, E] and a batch");
    if (!aq_rule_in(c, 3)->type.is_batch || !is_tokens(c, q->dim[0]) || !aq_dim_same(q->dim[2], k->dim[2]) ||
        !aq_dim_same(k->dim[0], v->dim[0]) || !aq_dim_same(k->dim[1], v->dim[1]))
        return aq_rule_refuse(c, "q [T, H, E], k and v [S, HKV, E] and a batch");
    if (!is_number(q->dim[1], 1) || !is_number(k->dim[1], 1) || !is_number(v->dim[2], 1) || q->dim[1].k % k->dim[1].k)
        return aq_rule_refuse(c, "a number of heads that the kv heads divide");
    *out = (aq_type){.dtype = q->dtype == AQ_F64 ? AQ_F64 : AQ_F32, .rank = 3, .dim = {q->dim[0], q->dim[1], v->dim[2]}};
    return AQ_OK;
}

/* --- views --------------------------------------------------------------------------------------------------------------------------- */

static aq_status plain_of_rank(aq_rule *c, int rank, const char *expected, const aq_type **out) {
    const aq_type *t = &aq_rule_in(c, 0)->type;
    if (t->is_batch || aq_dtype_of(t->dtype)->block > 1 || (rank ? t->rank != rank : !t->rank))
        return aq_rule_refuse(c, expected);
    *out = t;
    return AQ_OK;
}

aq_status aq_rule_heads(aq_rule *c, aq_type *out) {
    const aq_type *x = NULL;
    int64_t heads;
    AQ_TRY(aq_rule_int(c, AQ_ATTR_heads, NAN, 1, INT32_MAX, &heads));
    AQ_TRY(plain_of_rank(c, 2, "a plain [T, n*e]", &x));
    if (!is_number(x->dim[1], 1) || x->dim[1].k % heads)
        return aq_rule_refuse(c, "a last axis that {heads} divides");
    *out = (aq_type){.dtype = x->dtype, .rank = 3, .dim = {x->dim[0], aq_dim_const(heads), aq_dim_const(x->dim[1].k / heads)}};
    return AQ_OK;
}

aq_status aq_rule_merge(aq_rule *c, aq_type *out) {
    const aq_type *x = NULL;
    AQ_TRY(plain_of_rank(c, 3, "a plain [T, n, e]", &x));
    int64_t k;
    if (!is_number(x->dim[1], 1) || !is_number(x->dim[2], 1) || __builtin_mul_overflow(x->dim[1].k, x->dim[2].k, &k))
        return aq_rule_refuse(c, "numbers n and e");
    *out = (aq_type){.dtype = x->dtype, .rank = 2, .dim = {x->dim[0], aq_dim_const(k)}};
    return AQ_OK;
}

aq_status aq_rule_slice(aq_rule *c, aq_type *out) {
    const aq_type *x = NULL;
    int64_t begin, end;
    AQ_TRY(aq_rule_int(c, AQ_ATTR_begin, NAN, 0, INT64_C(1) << 48, &begin));
    AQ_TRY(aq_rule_int(c, AQ_ATTR_end, NAN, 1, INT64_C(1) << 48, &end));
    AQ_TRY(plain_of_rank(c, 0, "a plain value of rank 1 or more", &x));
    if (begin >= end || !is_number(x->dim[x->rank - 1], end))
        return aq_rule_refuse(c, "0 <= {begin} < {end} <= the last axis");
    *out = *x;
    out->dim[x->rank - 1] = aq_dim_const(end - begin);
    return AQ_OK;
}

aq_status aq_rule_transpose(aq_rule *c, aq_type *out) {
    const aq_type *x = NULL;
    const aq_attr *a = aq_rule_attr(c, AQ_ATTR_perm);
    AQ_TRY(plain_of_rank(c, 0, "a plain value of rank 1 or more", &x));
    unsigned seen = 0;
    aq_type t = {.dtype = x->dtype, .rank = x->rank};
    for (int i = 0; a && i < a->n_dims && i < x->rank; i++)
        if (is_number(a->dim[i], 0) && a->dim[i].k < x->rank) {
            t.dim[i] = x->dim[a->dim[i].k];
            seen |= 1u << a->dim[i].k;
        }
    if (!a || a->n_dims != x->rank || seen != (1u << x->rank) - 1)
        return aq_rule_refuse(c, "{perm} with every axis once");
    *out = t;
    return AQ_OK;
}

/* Numbers multiply to k, symbols to a multiset: equal for the same count of elements (the only way that holds for every binding). */
static int product(const aq_dim *d, int n, int64_t *k, aq_id *syms) {
    int n_syms = 0;
    *k = 1;
    for (int i = 0; i < n; i++) {
        if (__builtin_mul_overflow(*k, d[i].k, k))
            return -1;
        if (d[i].sym) {
            int at = n_syms++;
            for (; at > 0 && syms[at - 1] > d[i].sym; at--)
                syms[at] = syms[at - 1];
            syms[at] = d[i].sym;
        }
    }
    return n_syms;
}

aq_status aq_rule_reshape(aq_rule *c, aq_type *out) {
    const aq_type *x = NULL;
    const aq_attr *a = aq_rule_attr(c, AQ_ATTR_shape);
    AQ_TRY(plain_of_rank(c, 0, "a plain value of rank 1 or more", &x));
    int64_t before, after;
    aq_id s[2][AQ_MAX_RANK];
    if (!a || !a->n_dims)
        return aq_fail_node(c->m, c->n, "attribute shape is missing: expected {shape=[...]}");
    int n = product(x->dim, x->rank, &before, s[0]);
    if (n < 0 || product(a->dim, a->n_dims, &after, s[1]) != n || before != after || memcmp(s[0], s[1], (size_t)n * sizeof **s))
        return aq_rule_refuse(c, "a {shape} of the same number of elements");
    *out = (aq_type){.dtype = x->dtype, .rank = a->n_dims};
    memcpy(out->dim, a->dim, a->n_dims * sizeof *a->dim);
    return AQ_OK;
}

aq_status aq_rule_field(aq_rule *c, aq_type *out) {
    const aq_attr *a = aq_rule_attr(c, AQ_ATTR_name);
    if (!aq_rule_in(c, 0)->type.is_batch)
        return aq_rule_refuse(c, "a batch");
    const aq_batch_field *f = a && a->text ? aq_batch_field_of(aq_batch_field_by_name(a->text, strlen(a->text))) : NULL;
    if (!f)
        return aq_fail_node(c->m, c->n, "a batch has no array %.40s: expected pos, slot, start, rows, len or pages", a && a->text ? a->text : "");
    *out = (aq_type){.dtype = AQ_I32, .rank = f->rank};
    for (int i = 0; i < f->rank; i++) {
        aq_id sym = aq_sym_find(c->m, f->dim[i], strlen(f->dim[i]));
        if (!sym)
            return aq_fail_node(c->m, c->n, "%s has the size %s: expected a symbol of that name in the module", f->name, f->dim[i]);
        out->dim[i] = (aq_dim){1, sym};
    }
    return AQ_OK;
}

/* --- regions ------------------------------------------------------------------------------------------------------------------------- */

aq_status aq_rule_region(aq_rule *c, aq_type *out) {
    const aq_module *m = c->m;
    const aq_body *r = &m->bodies.at[c->n->body];
    char a[AQ_DESCRIBE], b[AQ_DESCRIBE];
    for (uint32_t i = 0; i < r->params.n && i < c->n->n_in; i++)
        if (!aq_type_same(&m->values.at[r->params.at[i]].type, &aq_rule_in(c, (int)i)->type))
            return aq_fail_node(m, c->n, "%s, the region's %s: expected the same type", aq_describe_value(m, aq_node_in(m, c->n)[i], a, sizeof a),
                                aq_describe_value(m, r->params.at[i], b, sizeof b));
    for (uint32_t i = 0; i < r->results.n && i < c->n->n_out; i++)
        out[i] = m->values.at[r->results.at[i]].type;
    return AQ_OK;
}
