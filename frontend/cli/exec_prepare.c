/* exec_prepare.c: a text to a module that can run: one graph chosen, open sizes settled (files of --in say theirs), passes run, perhaps one kernel
 * put into a graph of its own, inputs made or read. */
#include "frontend/cli/exec_graph.h"

#include <stdio.h>
#include <string.h>

static const aq_body *body_of(const aq_graph_run *r) { return &r->m.bodies.at[r->body]; }

/* --- the module --------------------------------------------------------------------------------------------------------------------------- */

/* Only the chosen graph stays in the module. */
static aq_status choose_graph(aq_graph_run *r) {
    const char *name = aq_arg_text(r->a, AQ_OPT_EXEC_GRAPH);
    for (uint32_t i = 0; i < r->m.graphs.n; i++)
        if (!name || !strcmp(r->m.bodies.at[r->m.graphs.at[i]].name, name)) {
            r->body = r->m.graphs.at[0] = r->m.graphs.at[i];
            r->m.graphs.n = 1;
            return aq_arena_format(r->arena, &r->what, "graph %s", body_of(r)->name);
        }
    return name ? aq_fail(AQ_USAGE, NULL, "--graph: %.60s: no graph of that name in %s", name, r->f->path)
                : aq_fail(AQ_REFUSED, r->f->path, "no graph in it: expected one to run");
}

static aq_status name_results(aq_graph_run *r) {
    const aq_body *b = body_of(r);
    AQ_ALLOC(r->arena, r->result, b->results.n + 1);
    for (uint32_t i = 0; i < b->results.n; i++) {
        const aq_value *v = &r->m.values.at[b->results.at[i]];
        AQ_TRY(v->state ? aq_arena_format(r->arena, &r->result[i], "$%s", r->m.states.at[v->state - 1].name)
               : v->name ? aq_arena_format(r->arena, &r->result[i], "%%%s", v->name)
                         : aq_arena_format(r->arena, &r->result[i], "%%%u", i));
    }
    return AQ_OK;
}

/* For each thing that may come from a file: its name, type and tensor (NULL while inputs are not made yet). */
typedef aq_status (*visitor)(aq_graph_run *r, const char *file, const aq_type *type, aq_ref_tensor *t);
static aq_status visit_inputs(aq_graph_run *r, visitor visit) {
    const aq_option_value *files = &r->a->at[AQ_OPT_EXEC_IN];
    const aq_body *b = body_of(r);
    uint32_t n = b->params.n + r->m.weights.n + r->m.states.n, k = 0;
    const char **known;
    AQ_ALLOC(r->arena, known, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        int kind = i < b->params.n ? 0 : i < b->params.n + r->m.weights.n ? 1 : 2;
        uint32_t at = i - (kind ? b->params.n : 0) - (kind > 1 ? r->m.weights.n : 0);
        aq_id value = kind == 0 ? b->params.at[at] : kind == 1 ? r->m.weights.at[at].value : r->m.states.at[at].value;
        const aq_value *v = &r->m.values.at[value];
        const char *name = kind == 1 ? r->m.weights.at[at].name : kind == 2 ? r->m.states.at[at].name : v->name, *file;
        if (v->type.is_batch || !name)
            continue;
        AQ_TRY(aq_arena_format(r->arena, &known[k], "%c%s", "%@$"[kind], name));
        file = aq_exec_file_of(files, known[k++]);
        aq_ref_tensor *list = kind == 0 ? r->in.in : kind == 1 ? r->in.weights : r->in.states; /* NULL while only shapes are asked for */
        if (file)
            AQ_TRY(visit(r, file, &v->type, list ? &list[at] : NULL));
    }
    return aq_exec_files_check(files, "--in", known, k);
}

static aq_status bind_shape(aq_graph_run *r, const char *file, const aq_type *type, aq_ref_tensor *t) {
    (void)t;
    return aq_exec_bind_shape(&r->m, file, type);
}

static aq_status read_tensor(aq_graph_run *r, const char *file, const aq_type *type, aq_ref_tensor *t) {
    (void)type;
    return aq_exec_read(file, r->arena, t);
}

static aq_status run_passes(aq_graph_run *r) {
    const char *list = aq_arg_text(r->a, AQ_OPT_PASSES);
    const aq_compile_options co = {.activations = aq_arg_text(r->a, AQ_OPT_ACTIVATIONS)};
    aq_id t = aq_sym_find(&r->m, "T", 1);
    int64_t T = t ? r->m.syms.at[t].lo : 1;
    AQ_TRY(aq_compile_pass_options(&r->target, &co, T, T, &r->options));
    AQ_TRY(aq_verify_module(&r->m));
    if (!list && r->target.is_ref && !aq_arg_given(r->a, AQ_OPT_EXEC_KERNEL))
        return AQ_OK;
    return aq_pipeline_run(&r->m, &r->options, list && !strcmp(list, "none") ? "" : list, NULL, NULL, NULL, NULL, NULL);
}

/* --- one kernel --------------------------------------------------------------------------------------------------------------------------- */

/* The fused node whose region is number `want` among the distinct ones, as --explain numbers them; 0 if there are fewer. */
static aq_status find_kernel(const aq_graph_run *r, int64_t want, aq_id *out) {
    AQ_VEC(const char *) keys = {0};
    *out = 0;
    for (uint32_t i = 0; i < body_of(r)->nodes.n && !*out; i++) {
        const aq_node *n = &r->m.nodes.at[body_of(r)->nodes.at[i]];
        const char *key;
        uint32_t k = 0;
        if (n->op != AQ_OP_fused)
            continue;
        AQ_TRY(aq_region_key(&r->m, n->body, r->arena, &key));
        while (k < keys.n && strcmp(keys.at[k], key))
            k++;
        if (k == keys.n)
            AQ_PUSH(r->arena, &keys, key);
        if ((int64_t)k == want)
            *out = body_of(r)->nodes.at[i];
    }
    return *out ? AQ_OK : aq_fail(AQ_USAGE, NULL, "--kernel %lld: expected 0 to %lld", (long long)want, (long long)keys.n - 1);
}

/* What stands for input v of the kernel in a graph of its own: weights and states themselves, a batch and its arrays, or a new param. */
static aq_status stand_in(aq_graph_run *r, aq_id graph, aq_id v, aq_id *batch, aq_id *out) {
    aq_value x = r->m.values.at[v];
    if (x.kind == AQ_VALUE_RESULT && r->m.nodes.at[x.node].op == AQ_OP_field) {
        const aq_node n = r->m.nodes.at[x.node];
        aq_id whole, made;
        AQ_TRY(stand_in(r, graph, aq_node_in(&r->m, &n)[0], batch, &whole));
        AQ_TRY(aq_node_add(&r->m, graph, AQ_OP_field, &whole, 1, r->m.attrs.at + n.attr, n.n_attr, &made));
        *out = r->m.nodes.at[made].out;
        return AQ_OK;
    }
    *out = x.kind == AQ_VALUE_WEIGHT ? v : x.state ? r->m.states.at[x.state - 1].value : x.type.is_batch ? *batch : 0;
    if (*out)
        return AQ_OK;
    x.kind = AQ_VALUE_PARAM;
    x.node = x.index = 0;
    if (!x.name)
        AQ_TRY(aq_arena_format(&r->m.arena, &x.name, "in%u", r->m.bodies.at[graph].params.n));
    AQ_TRY(aq_value_add(&r->m, x, out));
    AQ_PUSH(&r->m.arena, &r->m.bodies.at[graph].params, *out);
    if (x.type.is_batch)
        *batch = *out;
    return AQ_OK;
}

static aq_status isolate(aq_graph_run *r, int64_t number) {
    aq_id node, graph, made, batch = 0, *in;
    AQ_TRY(find_kernel(r, number, &node));
    const aq_node n = r->m.nodes.at[node];
    AQ_TRY(aq_body_add(&r->m, "kernel", 0, &graph));
    AQ_ALLOC(r->arena, in, n.n_in + 1);
    for (int i = 0; i < n.n_in; i++)
        AQ_TRY(stand_in(r, graph, r->m.inputs.at[n.in + (aq_id)i], &batch, &in[i]));
    AQ_TRY(aq_region_add(&r->m, graph, n.body, in, n.n_in, &made));
    for (int i = 0; i < n.n_out; i++) {
        r->m.values.at[r->m.nodes.at[made].out + (aq_id)i].name = r->m.values.at[n.out + (aq_id)i].name;
        AQ_PUSH(&r->m.arena, &r->m.bodies.at[graph].results, r->m.nodes.at[made].out + (aq_id)i);
    }
    aq_body *whole = &r->m.bodies.at[r->body]; /* its region moves to the new graph */
    whole->params.n = whole->nodes.n = whole->results.n = 0;
    r->body = r->m.graphs.at[0] = graph;
    r->m.graphs.n = 1;
    return aq_arena_format(r->arena, &r->what, "kernel %lld", (long long)number);
}

/* Weights that nobody reads are made of one number: a kernel of a large model needs no memory for the rest of it. */
static aq_status drop_unread(aq_graph_run *r) {
    uint8_t *read;
    AQ_ALLOC(r->arena, read, r->m.values.n + 1);
    for (uint32_t i = 0; i < body_of(r)->nodes.n; i++) {
        const aq_node *n = &r->m.nodes.at[body_of(r)->nodes.at[i]];
        for (int k = 0; k < n->n_in; k++)
            read[aq_node_in(&r->m, n)[k]] = 1;
    }
    for (uint32_t i = 0; i < r->m.weights.n; i++)
        if (!read[r->m.weights.at[i].value])
            r->m.values.at[r->m.weights.at[i].value].type = (aq_type){.dtype = AQ_F32};
    for (uint32_t i = 0; i < r->m.states.n; i++)
        if (!read[r->m.states.at[i].value])
            r->m.values.at[r->m.states.at[i].value].type = (aq_type){.dtype = AQ_F32};
    return AQ_OK;
}

/* --- all of it ---------------------------------------------------------------------------------------------------------------------------- */

static aq_status prepare(aq_graph_run *r) {
    AQ_TRY(choose_graph(r));
    AQ_TRY(visit_inputs(r, bind_shape));
    AQ_TRY(aq_exec_default_sizes(r->a, &r->m));
    AQ_TRY(name_results(r));
    AQ_TRY(run_passes(r));
    if (aq_arg_given(r->a, AQ_OPT_EXEC_KERNEL)) {
        AQ_TRY(isolate(r, aq_arg_number(r->a, AQ_OPT_EXEC_KERNEL)));
        AQ_TRY(name_results(r));
        AQ_TRY(drop_unread(r));
        AQ_TRY(aq_verify_module(&r->m));
    }
    int64_t seed = aq_arg_given(r->a, AQ_OPT_SEED) ? aq_arg_number(r->a, AQ_OPT_SEED) : 1;
    AQ_TRY(aq_ref_make_inputs(&r->m, r->body, (uint64_t)seed, r->arena, &r->in));
    AQ_TRY(aq_exec_set_depth(r->a, r->arena, &r->in.batch));
    return visit_inputs(r, read_tensor);
}

aq_status aq_graph_run_prepare(aq_graph_run *r) {
    AQ_TRY(aq_graph_file_module(r->f, 0, r->arena, NULL, &r->m));
    aq_status status = prepare(r);
    if (status != AQ_OK)
        aq_module_close(&r->m);
    return status;
}
