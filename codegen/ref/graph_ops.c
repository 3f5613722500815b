/* graph_ops.c: maps, casts, reductions, gathers and views of the reference, each by the plainest loop. */
#include "codegen/ref/exec.h"

#include "codegen/ref/map.h"
#include "ir/memory.h"

#include <math.h>
#include <string.h>

/* --- maps ------------------------------------------------------------------------------------------------------------------------------- */

/* Broadcasting: how far an input moves for one step along each axis of the output (0 where it has size 1). */
static void steps_of(const aq_ref_tensor *in, const aq_ref_tensor *out, int64_t *step) {
    int64_t run = 1;
    for (int i = 0; i < out->rank; i++)
        step[i] = 0;
    for (int i = in->rank; i-- > 0;) {
        step[out->rank - in->rank + i] = in->dim[i] == 1 ? 0 : run;
        run *= in->dim[i];
    }
}

static void map_rows(aq_ref_map f, const double *const *p, int64_t (*step)[AQ_MAX_RANK], int n, aq_ref_val *out) {
    const aq_ref_tensor *t = &out->t;
    int64_t last = t->rank ? t->dim[t->rank - 1] : 1, rows = last ? aq_ref_count(t) / last : 0;
    for (int64_t row = 0; row < rows; row++) {
        int64_t at[3] = {0, 0, 0}, s[3] = {0, 0, 0}, rest = row;
        for (int i = t->rank - 2; i >= 0; i--) {
            for (int k = 0; k < n; k++)
                at[k] += rest % t->dim[i] * step[k][i];
            rest /= t->dim[i];
        }
        for (int k = 0; k < n && t->rank; k++)
            s[k] = step[k][t->rank - 1];
        double *to = t->values + row * last;
        for (int64_t i = 0; i < last; i++)
            to[i] = f(p[0][at[0] + i * s[0]], p[1][at[1] + i * s[1]], p[2][at[2] + i * s[2]]);
    }
}

static aq_status map(aq_ref_exec *x, const aq_node *n) {
    aq_ref_val *out;
    double *scratch[3] = {NULL, NULL, NULL};
    static const double nothing = 0;
    const double *p[3] = {&nothing, &nothing, &nothing};
    int64_t step[3][AQ_MAX_RANK] = {{0}};
    aq_status status;
    AQ_TRY_GOTO(status, close, aq_ref_result(x, n, &out));
    for (int i = 0; i < n->n_in; i++) {
        AQ_TRY_GOTO(status, close, aq_ref_doubles(aq_ref_in(x, n, i), &scratch[i], &p[i]));
        steps_of(&aq_ref_in(x, n, i)->t, &out->t, step[i]);
    }
    map_rows(aq_ref_map_of(n->op), p, step, n->n_in, out);
close:
    for (int i = 0; i < 3; i++)
        aq_mem_free(scratch[i]);
    return status;
}

#define BY_MAP(op)                                                                                                                         \
    aq_status aq_ref_op_##op(aq_ref_exec *x, const aq_node *n) { return map(x, n); }
BY_MAP(add)
BY_MAP(sub)
BY_MAP(mul)
BY_MAP(div)
BY_MAP(maximum)
BY_MAP(minimum)
BY_MAP(neg)
BY_MAP(exp)
BY_MAP(log)
BY_MAP(sqrt)
BY_MAP(rsqrt)
BY_MAP(sigmoid)
BY_MAP(silu)
BY_MAP(tanh)
BY_MAP(le)
BY_MAP(select)
BY_MAP(idiv)
BY_MAP(imod)

/* From a block type the values are not made yet: dots read them row by row. */
aq_status aq_ref_op_cast(aq_ref_exec *x, const aq_node *n) {
    aq_ref_val *in = aq_ref_in(x, n, 0), *out;
    if (!in->t.values && in->stored == in->t.dtype && aq_dtype_of(in->stored)->block > 1)
        return aq_ref_share(x, n, in, &out);
    AQ_TRY(aq_ref_result(x, n, &out));
    int64_t count = aq_ref_count(&out->t);
    aq_ref_load(in, 0, count, out->t.values);
    for (int64_t i = 0; i < count; i++)
        out->t.values[i] = aq_ref_round(out->t.dtype, out->t.values[i]);
    return AQ_OK;
}

aq_status aq_ref_op_quantize(aq_ref_exec *x, const aq_node *n) {
    aq_ref_val *in = aq_ref_in(x, n, 0), *out;
    const aq_dtype_info *info = aq_dtype_of(x->m->values.at[n->out].type.dtype);
    AQ_TRY(aq_ref_result(x, n, &out));
    int64_t count = aq_ref_count(&out->t);
    for (int64_t i = 0; i < count; i += info->block) {
        double d[64];
        float f[64];
        aq_ref_load(in, i, info->block, d);
        for (int k = 0; k < info->block; k++)
            f[k] = (float)d[k];
        aq_dtype_encode_f32(out->t.dtype, f, info->block, (char *)out->owner->mem + i / info->block * info->bytes);
    }
    return AQ_OK;
}

/* --- reductions over the last axis ------------------------------------------------------------------------------------------------------ */

typedef void (*row_rule)(const double *in, int64_t n, const double *g, double eps, double *out);

/* Calls f once a row; wide: the result has the row's length, else one element. g: a second input of the row's length. */
static aq_status by_rows(aq_ref_exec *x, const aq_node *n, row_rule f, int wide) {
    aq_ref_val *out;
    double *scratch[2] = {NULL, NULL};
    const double *in, *g = NULL;
    aq_status status;
    const aq_ref_tensor *t = &aq_ref_in(x, n, 0)->t;
    int64_t last = t->dim[t->rank - 1], rows = last ? aq_ref_count(t) / last : 0;
    double eps = aq_node_num(x->m, n, AQ_ATTR_eps, 0);
    AQ_TRY_GOTO(status, close, aq_ref_result(x, n, &out));
    AQ_TRY_GOTO(status, close, aq_ref_doubles(aq_ref_in(x, n, 0), &scratch[0], &in));
    if (n->n_in > 1)
        AQ_TRY_GOTO(status, close, aq_ref_doubles(aq_ref_in(x, n, 1), &scratch[1], &g));
    for (int64_t r = 0; r < rows; r++)
        f(in + r * last, last, g, eps, out->t.values + (wide ? r * last : r));
close:
    aq_mem_free(scratch[0]);
    aq_mem_free(scratch[1]);
    return status;
}

static double largest(const double *in, int64_t n, int64_t *out_at) {
    double m = -INFINITY;
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++)
        if (in[i] > m)
            m = in[i], at = i;
    if (out_at)
        *out_at = at;
    return m;
}

static double log_sum_exp(const double *in, int64_t n) {
    double m = largest(in, n, NULL), s = 0;
    if (m == -INFINITY)
        return m;
    for (int64_t i = 0; i < n; i++)
        s += exp(in[i] - m);
    return m + log(s);
}

static double row_scale(const double *in, int64_t n, double eps) {
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += in[i] * in[i];
    return 1 / sqrt(s / (double)n + eps);
}

#define ROW_RULE(op, wide, ...)                                                                                                            \
    static void row_##op(const double *in, int64_t n, const double *g, double eps, double *out) {                                          \
        (void)g, (void)eps;                                                                                                                \
        __VA_ARGS__                                                                                                                        \
    }                                                                                                                                      \
    aq_status aq_ref_op_##op(aq_ref_exec *x, const aq_node *n) { return by_rows(x, n, row_##op, wide); }

ROW_RULE(sum, 0, {
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += in[i];
    *out = s;
})
ROW_RULE(rmax, 0, { *out = largest(in, n, NULL); })
ROW_RULE(lse, 0, { *out = log_sum_exp(in, n); })
ROW_RULE(rms, 0, { *out = row_scale(in, n, eps); })
ROW_RULE(argmax, 0, {
    int64_t at;
    (void)largest(in, n, &at);
    *out = (double)at;
})
ROW_RULE(rmsnorm, 1, {
    double s = row_scale(in, n, eps);
    for (int64_t i = 0; i < n; i++)
        out[i] = in[i] * s * g[i];
})
ROW_RULE(softmax, 1, {
    double l = log_sum_exp(in, n);
    for (int64_t i = 0; i < n; i++)
        out[i] = exp(in[i] - l);
})

/* --- gathers and views ------------------------------------------------------------------------------------------------------------------- */

aq_status aq_ref_op_rows(aq_ref_exec *x, const aq_node *n) {
    aq_ref_val *table = aq_ref_in(x, n, 0), *out;
    const aq_ref_val *index = aq_ref_in(x, n, 1);
    AQ_TRY(aq_ref_result(x, n, &out));
    int64_t v = table->t.dim[0], d = table->t.dim[1], count = index->t.dim[0];
    for (int64_t i = 0; i < count; i++) {
        double at;
        aq_ref_load(index, i, 1, &at);
        aq_ref_load(table, at >= 0 && at < (double)v ? (int64_t)at * d : 0, d, out->t.values + i * d);
    }
    return AQ_OK;
}

static aq_status same_elements(aq_ref_exec *x, const aq_node *n) {
    aq_ref_val *in = aq_ref_in(x, n, 0), *out;
    if (!x->m->values.at[*aq_node_in(x->m, n)].state)
        return aq_ref_share(x, n, in, &out);
    AQ_TRY(aq_ref_result(x, n, &out)); /* the memory of a state may be written by the next append: a view keeps what it saw */
    aq_ref_load(in, 0, aq_ref_count(&out->t), out->t.values);
    return AQ_OK;
}
aq_status aq_ref_op_heads(aq_ref_exec *x, const aq_node *n) { return same_elements(x, n); }
aq_status aq_ref_op_merge(aq_ref_exec *x, const aq_node *n) { return same_elements(x, n); }
aq_status aq_ref_op_reshape(aq_ref_exec *x, const aq_node *n) { return same_elements(x, n); }

aq_status aq_ref_op_slice(aq_ref_exec *x, const aq_node *n) {
    aq_ref_val *in = aq_ref_in(x, n, 0), *out;
    AQ_TRY(aq_ref_result(x, n, &out));
    int64_t from = in->t.dim[in->t.rank - 1], to = out->t.dim[out->t.rank - 1], rows = from ? aq_ref_count(&in->t) / from : 0;
    int64_t begin = (int64_t)aq_node_num(x->m, n, AQ_ATTR_begin, 0);
    for (int64_t r = 0; r < rows; r++)
        aq_ref_load(in, r * from + begin, to, out->t.values + r * to);
    return AQ_OK;
}

aq_status aq_ref_op_transpose(aq_ref_exec *x, const aq_node *n) {
    aq_ref_val *in = aq_ref_in(x, n, 0), *out;
    const aq_attr *perm = aq_node_attr(x->m, n, AQ_ATTR_perm);
    AQ_TRY(aq_ref_result(x, n, &out));
    int64_t step[AQ_MAX_RANK], run = 1, count = aq_ref_count(&out->t);
    for (int i = in->t.rank; i-- > 0; run *= in->t.dim[i])
        step[i] = run;
    for (int64_t e = 0; e < count; e++) {
        int64_t at = 0, rest = e;
        for (int i = out->t.rank; i-- > 0; rest /= out->t.dim[i])
            at += rest % out->t.dim[i] * step[perm->dim[i].k];
        aq_ref_load(in, at, 1, &out->t.values[e]);
    }
    return AQ_OK;
}

aq_status aq_ref_op_field(aq_ref_exec *x, const aq_node *n) {
    const char *name = aq_node_attr(x->m, n, AQ_ATTR_name)->text;
    int f = aq_batch_field_by_name(name, strlen(name));
    const aq_ref_batch *b = x->env->batch;
    aq_ref_val *out;
    AQ_TRY(aq_ref_result(x, n, &out));
    int64_t count = aq_ref_count(&out->t);
    if (!b || !b->field[f] || b->n[f] < count)
        return aq_fail(AQ_REFUSED, x->m->file, "batch array %s has %lld elements: expected %lld", name, b ? (long long)b->n[f] : 0, (long long)count);
    for (int64_t i = 0; i < count; i++)
        out->t.values[i] = b->field[f][i];
    return AQ_OK;
}
