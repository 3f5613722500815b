/* exec_cpu.c: see exec_cpu.h. Views between kernels share the memory of what they view, as in a plan; a batch's arrays are read where they are. */
#include "frontend/cli/exec_cpu.h"

#include "frontend/cli/exec_data.h"
#include "ir/clock.h"
#include "ir/memory.h"

#include <string.h>

static aq_status take(aq_exec_cpu *c, aq_layout l, const aq_type *t, const char *what, aq_ref_tensor *shape, void **out) {
    size_t size;
    *shape = (aq_ref_tensor){.dtype = t->dtype, .rank = t->rank};
    for (int i = 0; i < t->rank; i++)
        shape->dim[i] = aq_dim_eval(t->dim[i], c->in->sym);
    AQ_TRY(aq_layout_bytes(l, t->dtype, shape->dim, t->rank, what, &size));
    AQ_PUSH(c->arena, &c->blocks, NULL);
    AQ_TRY(aq_mem_alloc(size + 64, out));
    c->blocks.at[c->blocks.n - 1] = *out;
    return AQ_OK;
}

static aq_status fill(aq_exec_cpu *c, aq_id value, aq_layout l, const aq_ref_tensor *from) {
    const aq_value *v = &c->m->values.at[value];
    aq_ref_tensor shape;
    aq_arena scratch = {0};
    AQ_TRY(take(c, l, &v->type, v->name, &shape, &c->at[value]));
    shape.values = from->values;
    shape.blocks = from->blocks;
    aq_status status = aq_exec_store(&shape, l, &scratch, c->at[value]);
    aq_arena_close(&scratch);
    return status;
}

/* What the body reads of weights, states and inputs; results get memory that is poisoned where a NaN can be. */
static aq_status fill_value(aq_exec_cpu *c, aq_id v) {
    const aq_value *x = &c->m->values.at[v];
    const aq_body *b = &c->m->bodies.at[c->body];
    if (x->state) {
        const aq_state *s = &c->m->states.at[x->state - 1];
        if (!c->at[s->value])
            AQ_TRY(fill(c, s->value, s->layout, &c->in->states[x->state - 1]));
        c->at[v] = c->at[s->value];
        return AQ_OK;
    }
    if (c->at[v] || x->type.is_batch)
        return AQ_OK;
    if (x->kind == AQ_VALUE_WEIGHT)
        return fill(c, v, c->m->weights.at[x->index].layout, &c->in->weights[x->index]);
    for (uint32_t i = 0; x->kind == AQ_VALUE_PARAM && i < b->params.n; i++)
        if (b->params.at[i] == v)
            return fill(c, v, AQ_LAYOUT_ROWS, &c->in->in[i]);
    aq_ref_tensor shape;
    AQ_TRY(take(c, AQ_LAYOUT_ROWS, &x->type, x->name, &shape, &c->at[v]));
    if (aq_dtype_of(x->type.dtype)->kind == AQ_KIND_FLOAT)
        memset(c->at[v], 0xff, (size_t)aq_exec_count(shape.dim, shape.rank) * aq_dtype_of(x->type.dtype)->bytes);
    return AQ_OK;
}

static aq_status check_view(const aq_exec_cpu *c, const aq_node *n) {
    if (n->op == AQ_OP_slice || n->op == AQ_OP_transpose)
        return aq_fail(AQ_REFUSED, c->m->file, "%s stands between two kernels: expected it inside one (elements would have to move)", aq_op_of(n->op)->name);
    return AQ_OK;
}

static aq_status fill_all(aq_exec_cpu *c) {
    const aq_body *b = &c->m->bodies.at[c->body];
    AQ_ALLOC(c->arena, c->at, c->m->values.n + 1);
    for (uint32_t i = 0; i < b->nodes.n; i++) {
        const aq_node *n = &c->m->nodes.at[b->nodes.at[i]];
        if (n->op != AQ_OP_fused) {
            AQ_TRY(check_view(c, n));
            continue;
        }
        for (int k = 0; k < n->n_in; k++)
            if (aq_dtype_of(c->m->values.at[aq_node_in(c->m, n)[k]].type.dtype)->name)
                AQ_TRY(fill_value(c, aq_buffers_viewed(c->m, aq_node_in(c->m, n)[k])));
        for (int k = 0; k < n->n_out; k++)
            AQ_TRY(fill_value(c, n->out + (aq_id)k));
    }
    for (uint32_t i = 0; i < b->results.n; i++)
        AQ_TRY(fill_value(c, aq_buffers_viewed(c->m, b->results.at[i])));
    return AQ_OK;
}

/* --- launches ----------------------------------------------------------------------------------------------------------------------------- */

static void *pointer_of(const aq_exec_cpu *c, aq_id value, int32_t field) {
    aq_id v = aq_buffers_viewed(c->m, value);
    const aq_value *x = &c->m->values.at[v];
    const aq_node *n = x->kind == AQ_VALUE_RESULT ? &c->m->nodes.at[x->node] : NULL;
    if (n && n->op == AQ_OP_field) {
        const aq_attr *name = aq_node_attr(c->m, n, AQ_ATTR_name);
        field = name && name->text ? aq_batch_field_by_name(name->text, strlen(name->text)) : -1;
    }
    if (field >= 0)
        return (void *)(uintptr_t)c->in->batch.field[field];
    return c->at[v];
}

static aq_status make_launch(aq_exec_cpu *c, const aq_kernel_of *of, aq_launch *out) {
    const aq_node *node = &c->m->nodes.at[of->node];
    const aq_nest *n = c->nests[of->kernel];
    aq_nest_arg *args;
    uint32_t n_args, k = 0;
    void **buf;
    AQ_TRY(aq_lower_args(c->m, node->body, c->arena, &args, &n_args));
    AQ_ALLOC(c->arena, buf, n->bufs.n + 1);
    for (aq_id i = 1; i < n->bufs.n; i++) {
        aq_ref_tensor shape;
        if (n->bufs.at[i].role == AQ_BUF_LOCAL)
            continue;
        if (k < n_args)
            buf[k] = pointer_of(c, args[k].is_result ? node->out + args[k].index : aq_node_in(c->m, node)[args[k].index], args[k].field);
        else
            AQ_TRY(take(c, n->bufs.at[i].layout, &n->bufs.at[i].type, n->bufs.at[i].name, &shape, &buf[k]));
        if (!buf[k])
            return aq_fail(AQ_FAILED, c->m->file, "%s of kernel %s has no memory: this is a fault of exec", n->bufs.at[i].name, n->name);
        k++;
    }
    return aq_launch_make(&c->machine, of->kernel, buf, c->in->sym, c->arena, out);
}

aq_status aq_exec_nests(const aq_kernels *kernels, aq_arena *arena, const aq_nest ***out) {
    AQ_ALLOC(arena, *out, kernels->made.n + 1);
    for (uint32_t i = 0; i < kernels->made.n; i++)
        (*out)[i] = kernels->made.at[i].nest;
    return AQ_OK;
}

aq_status aq_exec_cpu_open(const aq_module *m, aq_id body, const aq_kernels *kernels, const aq_ref_inputs *in, const aq_target *t, int threads,
                           aq_arena *arena, aq_exec_cpu *out) {
    *out = (aq_exec_cpu){.m = m, .body = body, .kernels = kernels, .in = in, .arena = arena};
    AQ_TRY(aq_exec_nests(kernels, arena, &out->nests));
    AQ_TRY(aq_machine_open(out->nests, kernels->made.n, t, threads, arena, &out->machine));
    AQ_TRY(fill_all(out));
    AQ_ALLOC(arena, out->launches, kernels->of.n + 1);
    for (uint32_t i = 0; i < kernels->of.n; i++)
        AQ_TRY(make_launch(out, &kernels->of.at[i], &out->launches[i]));
    return AQ_OK;
}

void aq_exec_cpu_close(aq_exec_cpu *c) {
    aq_machine_close(&c->machine);
    for (uint32_t i = 0; i < c->blocks.n; i++)
        aq_mem_free(c->blocks.at[i]);
    c->blocks.n = 0;
}

int64_t aq_exec_cpu_run(aq_exec_cpu *c, int run) {
    int64_t start = aq_clock_ns();
    for (uint32_t i = 0; i < c->kernels->of.n; i++) {
        int64_t ns = aq_machine_run(&c->machine, &c->launches[i]);
        if (run >= 0)
            c->launches[i].ns[run] = ns;
    }
    return aq_clock_ns() - start;
}

aq_status aq_exec_cpu_read(const aq_exec_cpu *c, aq_id value, const double **out) {
    const aq_value *x = &c->m->values.at[value];
    aq_id at = aq_buffers_viewed(c->m, value);
    aq_layout l = x->state ? c->m->states.at[x->state - 1].layout : AQ_LAYOUT_ROWS;
    int64_t dim[AQ_MAX_RANK];
    if (x->kind == AQ_VALUE_WEIGHT)
        l = c->m->weights.at[x->index].layout;
    for (int i = 0; i < x->type.rank; i++)
        dim[i] = aq_dim_eval(x->type.dim[i], c->in->sym);
    return aq_exec_load(l, x->type.dtype, dim, x->type.rank, c->at[x->state ? c->m->states.at[x->state - 1].value : at], c->arena, out);
}
