/* compile_kernels.c: one kernel for equal regions. Regions are compared by a canonical text of their bodies (numbers instead of names, so the
 * thirty layers of a model give five kernels); each is scheduled, lowered and checked once. */
#include "frontend/compile.h"

#include <string.h>

typedef struct numbering {
    const aq_module *m;
    const aq_body *b;
    uint32_t at; /* node of the body that is being written */
    aq_text text;
} numbering;

static aq_status add_type(numbering *k, const aq_type *t) {
    if (t->is_batch)
        return aq_text_add(&k->text, "batch");
    AQ_TRY(aq_text_add(&k->text, "%s[", aq_dtype_of(t->dtype)->name));
    for (int i = 0; i < t->rank; i++)
        AQ_TRY(aq_text_add(&k->text, "%lld*%u,", (long long)t->dim[i].k, t->dim[i].sym));
    return aq_text_add(&k->text, "]");
}

/* p3: the third param; 5.0: the first result of the fifth node; #x: a number. */
static aq_status add_value(numbering *k, aq_id v) {
    const aq_value *x = &k->m->values.at[v];
    if (x->kind == AQ_VALUE_CONST)
        return aq_text_add(&k->text, "#%.17g", x->number);
    for (uint32_t i = 0; i < k->b->params.n; i++)
        if (k->b->params.at[i] == v)
            return aq_text_add(&k->text, "p%u", i);
    for (uint32_t i = k->at; i-- > 0;) /* most often the one just before */
        if (k->b->nodes.at[i] == x->node)
            return aq_text_add(&k->text, "%u.%u", i, x->index);
    return aq_fail(AQ_FAILED, k->m->file, "a region reads a value that is neither a param nor made in it: this is a fault of a pass");
}

static aq_status add_node(numbering *k, const aq_node *n) {
    AQ_TRY(aq_text_add(&k->text, "%s(", aq_op_of(n->op)->name));
    for (int i = 0; i < n->n_in; i++) {
        AQ_TRY(add_value(k, aq_node_in(k->m, n)[i]));
        AQ_TRY(aq_text_add(&k->text, ","));
    }
    for (int i = 0; i < n->n_attr; i++) {
        const aq_attr *a = &k->m->attrs.at[n->attr + i];
        AQ_TRY(aq_text_add(&k->text, ")%d=%.17g%s", (int)a->key, a->num, a->text ? a->text : ""));
        for (int d = 0; d < a->n_dims; d++)
            AQ_TRY(aq_text_add(&k->text, ":%lld*%u", (long long)a->dim[d].k, a->dim[d].sym));
    }
    AQ_TRY(aq_text_add(&k->text, ")->"));
    return add_type(k, &k->m->values.at[n->out].type);
}

/* The layout of a param matters to the kernel and belongs to weights and states, which live outside: `outside` are the values given. */
static aq_status add_param(numbering *k, aq_id param, aq_id outside) {
    const aq_value *v = &k->m->values.at[outside];
    AQ_TRY(add_type(k, &k->m->values.at[param].type));
    if (v->kind == AQ_VALUE_WEIGHT)
        return aq_text_add(&k->text, "@%d;", (int)k->m->weights.at[v->index].layout);
    if (v->state)
        return aq_text_add(&k->text, "$%d;", (int)k->m->states.at[v->state - 1].layout);
    return aq_text_add(&k->text, ";");
}

static aq_status region_key(const aq_module *m, aq_id body, const aq_id *outside, aq_arena *arena, const char **out) {
    numbering k = {.m = m, .b = &m->bodies.at[body], .text = {.arena = arena}};
    for (uint32_t i = 0; i < k.b->params.n; i++)
        AQ_TRY(add_param(&k, k.b->params.at[i], outside ? outside[i] : k.b->params.at[i]));
    for (k.at = 0; k.at < k.b->nodes.n; k.at++)
        AQ_TRY(add_node(&k, &m->nodes.at[k.b->nodes.at[k.at]]));
    if (k.b->by_nest)
        AQ_TRY(aq_text_add(&k.text, "by %s", k.b->by_nest));
    if (k.b->schedule) { /* of the text: a layer whose region says how has a kernel of its own */
        AQ_TRY(aq_text_add(&k.text, " schedule %s ", k.b->schedule->target));
        AQ_TRY(aq_print_schedule(k.b->schedule, &k.text));
    }
    for (uint32_t i = 0; i < k.b->results.n; i++) {
        AQ_TRY(aq_text_add(&k.text, "^"));
        AQ_TRY(add_value(&k, k.b->results.at[i]));
    }
    return aq_text_end(&k.text, out);
}

aq_status aq_region_key(const aq_module *m, aq_id body, aq_arena *arena, const char **out) { return region_key(m, body, NULL, arena, out); }

/* "t1.02.rms.3dot.rope.append": number and the ops that tell kernels apart, for people. */
static aq_status kernel_name(const aq_module *m, const aq_body *b, const char *prefix, uint32_t number, aq_arena *arena, const char **out) {
    static const aq_op told[] = {AQ_OP_rows, AQ_OP_rms, AQ_OP_dot, AQ_OP_rope, AQ_OP_append, AQ_OP_silu, AQ_OP_attend, AQ_OP_argmax, AQ_OP_add};
    aq_text t = {.arena = arena};
    AQ_TRY(aq_text_add(&t, "%s.%02u", prefix, number));
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        uint32_t n = 0;
        for (uint32_t k = 0; k < b->nodes.n; k++)
            n += m->nodes.at[b->nodes.at[k]].op == told[i];
        if (n > 1 && told[i] == AQ_OP_dot)
            AQ_TRY(aq_text_add(&t, ".%u%s", n, aq_op_of(told[i])->name));
        else if (n)
            AQ_TRY(aq_text_add(&t, ".%s", aq_op_of(told[i])->name));
    }
    return aq_text_end(&t, out);
}

static aq_status choose_schedule(aq_module *m, const aq_target *t, int64_t t_lo, int64_t t_hi, aq_kernels *ks, aq_arena *arena, aq_kernel_made *k) {
    aq_schedule *edited = NULL, *written = m->bodies.at[k->body].schedule;
    AQ_TRY(aq_edits_schedule(ks->edits, arena, k->name, &edited));
    if (written)
        AQ_TRY(aq_target_takes(t, written->target, m->file));
    k->schedule = edited ? edited : written;
    k->origin = edited ? "edits" : k->schedule ? "model text" : "default";
    return k->schedule ? AQ_OK : aq_schedule_default(m, k->body, t, t_lo, t_hi, &k->schedule);
}

/* A nest of the edits, or the one that the region's text names, in place of what lower made. */
static aq_status choose_nest(aq_module *m, aq_kernels *ks, aq_arena *arena, aq_kernel_made *k) {
    const char *by = m->bodies.at[k->body].by_nest;
    int is_edited;
    AQ_TRY(aq_edits_nest(ks->edits, arena, m, k->name, &k->nest, &is_edited));
    for (uint32_t i = 0; by && !is_edited && i < m->nests.n; i++)
        if (!strcmp(m->nests.at[i]->name, by)) {
            AQ_TRY(aq_nest_stands_for(k->nest, m->nests.at[i], m->file, arena));
            k->nest = m->nests.at[i];
            is_edited = 1;
        }
    if (by && !is_edited)
        return aq_fail(AQ_FAILED, m->file, "the nest @%s of region %s is lost: this is a fault of a pass", by, k->name);
    if (!is_edited)
        return AQ_OK;
    aq_nest *own;
    AQ_ALLOC(arena, own, 1);
    *own = *k->nest;
    own->name = k->name; /* the symbol of its code */
    k->nest = own;
    k->origin = "nest";
    return AQ_OK;
}

/* Params take the layouts of what is given to them, so that lower sees them. */
static aq_status make_kernel(aq_module *m, aq_id body, const aq_target *t, int64_t t_lo, int64_t t_hi, const char *prefix, aq_arena *arena,
                             aq_kernels *ks, const char *key) {
    aq_kernel_made k = {.key = key, .body = body, .origin = "default"};
    AQ_TRY(kernel_name(m, &m->bodies.at[body], prefix, ks->made.n, arena, &k.name));
    AQ_TRY(choose_schedule(m, t, t_lo, t_hi, ks, arena, &k));
    AQ_TRY(aq_lower(m, body, k.schedule, k.name, arena, &k.nest));
    AQ_TRY(choose_nest(m, ks, arena, &k));
    aq_text text = {.arena = arena};
    AQ_TRY(!strcmp(k.origin, "nest") ? aq_text_add(&text, "by nest") : aq_print_schedule(k.schedule, &text));
    AQ_TRY(aq_text_end(&text, &k.schedule_text));
    AQ_TRY(aq_nest_sum_class(k.nest, arena, &k.sum_class));
    m->bodies.at[body].name = k.name;
    AQ_PUSH(arena, &ks->made, k);
    return AQ_OK;
}

aq_status aq_compile_kernels(aq_module *m, aq_id body, const aq_target *t, int64_t t_lo, int64_t t_hi, const char *prefix, aq_arena *arena, aq_kernels *out) {
    const aq_id *nodes = m->bodies.at[body].nodes.at;
    uint32_t n = m->bodies.at[body].nodes.n;
    for (uint32_t i = 0; i < n; i++) {
        const aq_node node = m->nodes.at[nodes[i]];
        if (node.op != AQ_OP_fused) {
            if (!(aq_op_of(node.op)->traits & AQ_VIEW))
                return aq_fail(AQ_REFUSED, m->file, "%s is in no region: expected the pass fuse before code is made", aq_op_of(node.op)->name);
            continue;
        }
        const char *key;
        AQ_TRY(region_key(m, node.body, aq_node_in(m, &node), arena, &key));
        uint32_t k = 0;
        while (k < out->made.n && strcmp(out->made.at[k].key, key))
            k++;
        if (k == out->made.n)
            AQ_TRY(make_kernel(m, node.body, t, t_lo, t_hi, prefix, arena, out, key));
        AQ_PUSH(arena, &out->of, (aq_kernel_of){nodes[i], k});
    }
    return AQ_OK;
}
