/* graph.c: runs a graph as ref.h says: nodes in order, values in f64, memory freed after the last use, so a model's run holds a few
 * activations and the weights as they are stored. The ops are in graph_ops.c, graph_dot.c and graph_attend.c: one function each, reached by a
 * table made from ops.def.
 *
 * State versions share one memory. Where an old version is still to be read after `append`, the old one gets a copy first, so a graph means
 * the same in any legal order. */
#include "codegen/ref/exec.h"

#include "codegen/ref/map.h"
#include "ir/memory.h"

#include <string.h>

int64_t aq_ref_count(const aq_ref_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

aq_ref_val *aq_ref_in(aq_ref_exec *x, const aq_node *n, int i) { return &x->val[aq_node_in(x->m, n)[i]]; }

/* --- memory ------------------------------------------------------------------------------------------------------------------------------ */

void aq_ref_drop(aq_ref_val *v) {
    if (v->owner && --v->owner->users == 0) {
        aq_mem_free(v->owner->mem);
        aq_mem_free(v->owner);
    }
    memset(v, 0, sizeof *v);
}

static aq_status dims_of(const aq_ref_exec *x, const aq_type *type, aq_ref_tensor *t) {
    size_t count = 1;
    t->dtype = type->dtype;
    t->rank = type->rank;
    for (int i = 0; i < type->rank; i++) {
        t->dim[i] = aq_dim_eval(type->dim[i], x->env->sym);
        if (t->dim[i] < 0)
            return aq_fail(AQ_REFUSED, x->m->file, "a symbol is %lld: expected 0 or more", (long long)t->dim[i]);
        AQ_TRY(aq_size_mul(count, (size_t)t->dim[i], "a value", &count));
    }
    return aq_size_mul(count, sizeof(double), "a value", &count);
}

aq_status aq_ref_own(aq_ref_val *v) {
    size_t bytes = (size_t)aq_ref_count(&v->t) * sizeof(double);
    int block = aq_dtype_of(v->t.dtype)->block > 1;
    void *owner, *mem;
    if (block)
        AQ_TRY(aq_dtype_bytes(v->t.dtype, (uint64_t)aq_ref_count(&v->t), "a value", &bytes));
    AQ_TRY(aq_mem_alloc(sizeof(aq_ref_buffer), &owner));
    aq_status status = aq_mem_alloc(bytes, &mem);
    if (status != AQ_OK) {
        aq_mem_free(owner);
        return status;
    }
    v->owner = owner;
    *v->owner = (aq_ref_buffer){1, mem};
    v->t.values = block ? NULL : mem;
    v->t.blocks = block ? mem : NULL;
    v->stored = v->t.dtype;
    return AQ_OK;
}

aq_status aq_ref_result(aq_ref_exec *x, const aq_node *n, aq_ref_val **out) {
    aq_ref_val *v = &x->val[n->out];
    AQ_TRY(dims_of(x, &x->m->values.at[n->out].type, &v->t));
    AQ_TRY(aq_ref_own(v));
    *out = v;
    return AQ_OK;
}

aq_status aq_ref_share(aq_ref_exec *x, const aq_node *n, aq_ref_val *of, aq_ref_val **out) {
    aq_ref_val *v = &x->val[n->out];
    aq_ref_tensor t = {0};
    AQ_TRY(dims_of(x, &x->m->values.at[n->out].type, &t));
    t.values = of->t.values;
    t.blocks = of->t.blocks;
    *v = (aq_ref_val){t, of->stored, of->owner};
    if (v->owner)
        v->owner->users++;
    *out = v;
    return AQ_OK;
}

void aq_ref_load(const aq_ref_val *v, int64_t first, int64_t n, double *dst) {
    if (v->t.values) {
        memcpy(dst, v->t.values + first, (size_t)n * sizeof *dst);
        return;
    }
    int64_t block = aq_dtype_of(v->stored)->block;
    if (first % block || n % block) { /* single elements of blocks: slow and rare */
        double whole[256]; /* the largest block */
        for (int64_t i = 0; i < n; i++) {
            aq_dtype_decode_f64(v->stored, v->t.blocks, (size_t)((first + i) / block * block), (size_t)block, whole);
            dst[i] = whole[(first + i) % block];
        }
    } else {
        aq_dtype_decode_f64(v->stored, v->t.blocks, (size_t)first, (size_t)n, dst);
    }
    if (v->t.dtype == AQ_F32 && v->stored != AQ_F32) /* every weight of a block type passes here */
        for (int64_t i = 0; i < n; i++)
            dst[i] = (double)(float)dst[i];
    else if (v->t.dtype != v->stored)
        for (int64_t i = 0; i < n; i++)
            dst[i] = aq_ref_round(v->t.dtype, dst[i]);
}

aq_status aq_ref_doubles(const aq_ref_val *v, double **scratch, const double **out) {
    *scratch = NULL;
    *out = v->t.values;
    if (v->t.values)
        return AQ_OK;
    void *p;
    int64_t n = aq_ref_count(&v->t);
    AQ_TRY(aq_mem_alloc((size_t)n * sizeof(double), &p));
    aq_ref_load(v, 0, n, p);
    *out = *scratch = p;
    return AQ_OK;
}

/* --- running --------------------------------------------------------------------------------------------------------------------------- */

static aq_status (*const rules[])(aq_ref_exec *, const aq_node *) = {
    NULL,
#define OP(id, axes, infer, grad, traits, doc) aq_ref_op_##id,
#include "ir/ops.def"
#undef OP
};

static void use(aq_ref_exec *x, aq_id v) {
    if (--x->left[v] == 0)
        aq_ref_drop(&x->val[v]);
}

/* Weights and states enter as borrowed values; numbers as one double; each is dropped and entered again as uses come and go. */
static aq_status enter(aq_ref_exec *x, aq_id v) {
    const aq_value *value = &x->m->values.at[v];
    aq_ref_val *to = &x->val[v];
    const aq_ref_tensor *from = value->kind == AQ_VALUE_WEIGHT ? &x->env->weights[value->index] : &x->env->states[value->index];
    if (to->t.values || to->t.blocks)
        return AQ_OK;
    if (value->kind == AQ_VALUE_CONST) {
        to->t = (aq_ref_tensor){.dtype = AQ_F32};
        AQ_TRY(aq_ref_own(to));
        *to->t.values = value->number;
        return AQ_OK;
    }
    if (value->kind != AQ_VALUE_WEIGHT && value->kind != AQ_VALUE_STATE)
        return AQ_OK;
    AQ_TRY(dims_of(x, &value->type, &to->t));
    for (int i = 0; i < to->t.rank; i++)
        if (from->rank != to->t.rank || from->dim[i] != to->t.dim[i])
            return aq_fail(AQ_REFUSED, x->m->file, "%s: axis %d is %lld: expected %lld", value->name, i, (long long)from->dim[i], (long long)to->t.dim[i]);
    *to = (aq_ref_val){*from, from->dtype, NULL};
    if (!from->values && !from->blocks)
        return aq_fail(AQ_REFUSED, x->m->file, "%s has no data: expected values or stored bytes", value->name);
    return AQ_OK;
}

static aq_status run_body(aq_ref_exec *x, const aq_body *b) {
    const aq_module *m = x->m;
    for (uint32_t i = 0; i < b->nodes.n; i++)
        for (int k = 0; k < m->nodes.at[b->nodes.at[i]].n_in; k++)
            x->left[aq_node_in(m, &m->nodes.at[b->nodes.at[i]])[k]]++;
    for (uint32_t i = 0; i < b->results.n; i++)
        x->left[b->results.at[i]]++;
    for (uint32_t i = 0; i < b->params.n; i++)
        if (!x->left[b->params.at[i]])
            aq_ref_drop(&x->val[b->params.at[i]]);
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &m->nodes.at[b->nodes.at[i]];
        for (int k = 0; k < n->n_in; k++)
            AQ_TRY(enter(x, aq_node_in(m, n)[k]));
        AQ_TRY(rules[n->op](x, n));
        for (int k = 0; k < n->n_in; k++)
            use(x, aq_node_in(m, n)[k]);
        for (int k = 0; k < n->n_out; k++)
            if (!x->left[n->out + (aq_id)k])
                aq_ref_drop(&x->val[n->out + (aq_id)k]);
    }
    for (uint32_t i = 0; i < b->results.n; i++)
        AQ_TRY(enter(x, b->results.at[i]));
    return AQ_OK;
}

/* A region: its body with the params standing for the inputs. */
aq_status aq_ref_op_fused(aq_ref_exec *x, const aq_node *n) {
    const aq_body *r = &x->m->bodies.at[n->body];
    for (uint32_t i = 0; i < r->params.n; i++) {
        aq_id in = aq_node_in(x->m, n)[i];
        aq_ref_val *p = &x->val[r->params.at[i]];
        *p = x->val[in];
        if (p->owner)
            p->owner->users++;
        for (uint32_t k = 0; x->m->values.at[in].state && k < r->results.n; k++)
            if (x->m->values.at[r->results.at[k]].state == x->m->values.at[in].state)
                AQ_TRY(aq_ref_keep_old(x, in));
    }
    AQ_TRY(run_body(x, r));
    for (uint32_t i = 0; i < r->results.n; i++) {
        aq_ref_val *from = &x->val[r->results.at[i]], *to = &x->val[n->out + i];
        *to = *from;
        if (to->owner)
            to->owner->users++;
    }
    for (uint32_t i = 0; i < r->results.n; i++)
        use(x, r->results.at[i]);
    return AQ_OK;
}

static aq_status take_params(aq_ref_exec *x, const aq_body *b, const aq_ref_tensor *in) {
    for (uint32_t i = 0; i < b->params.n; i++) {
        const aq_value *v = &x->m->values.at[b->params.at[i]];
        aq_ref_val *to = &x->val[b->params.at[i]];
        if (v->type.is_batch)
            continue;
        AQ_TRY(dims_of(x, &v->type, &to->t));
        for (int k = 0; k < to->t.rank; k++)
            if (in[i].rank != to->t.rank || in[i].dim[k] != to->t.dim[k])
                return aq_fail(AQ_REFUSED, x->m->file, "input %s: axis %d is %lld: expected %lld", v->name ? v->name : "", k, (long long)in[i].dim[k],
                               (long long)to->t.dim[k]);
        if (in[i].dtype != v->type.dtype)
            return aq_fail(AQ_REFUSED, x->m->file, "input %s is %s: expected %s", v->name ? v->name : "", aq_dtype_of(in[i].dtype)->name,
                           aq_dtype_of(v->type.dtype)->name);
        *to = (aq_ref_val){in[i], in[i].dtype, NULL};
    }
    return AQ_OK;
}

static aq_status give_results(aq_ref_exec *x, const aq_body *b, aq_arena *arena, aq_ref_tensor *out) {
    for (uint32_t i = 0; i < b->results.n; i++) {
        const aq_ref_val *v = &x->val[b->results.at[i]];
        out[i] = v->t;
        int64_t n = aq_ref_count(&v->t);
        if (!v->t.values && aq_dtype_of(v->t.dtype)->block > 1) {
            size_t bytes;
            unsigned char *p;
            AQ_TRY(aq_dtype_bytes(v->t.dtype, (uint64_t)n, "a result", &bytes));
            AQ_ALLOC(arena, p, bytes + 1);
            memcpy(p, v->t.blocks, bytes);
            out[i].blocks = p;
            continue;
        }
        AQ_ALLOC(arena, out[i].values, n + 1);
        aq_ref_load(v, 0, n, out[i].values);
        out[i].blocks = NULL;
    }
    return AQ_OK;
}

static aq_status run(aq_ref_exec *x, aq_id body, const aq_ref_tensor *in, aq_arena *arena, aq_ref_tensor *out) {
    const aq_body *b = &x->m->bodies.at[body];
    AQ_ALLOC(&x->arena, x->val, x->m->values.n);
    AQ_ALLOC(&x->arena, x->left, x->m->values.n);
    AQ_TRY(take_params(x, b, in));
    AQ_TRY(run_body(x, b));
    return give_results(x, b, arena, out);
}

aq_status aq_ref_run(const aq_module *m, aq_id body, const aq_ref_env *env, const aq_ref_tensor *in, aq_arena *arena, aq_ref_tensor *out) {
    aq_ref_exec x = {.m = m, .env = env};
    aq_status status = run(&x, body, in, arena, out);
    for (aq_id v = 0; x.val && v < m->values.n; v++)
        aq_ref_drop(&x.val[v]);
    aq_arena_close(&x.arena);
    return status;
}
