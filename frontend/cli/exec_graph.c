/* exec_graph.c: `exec` of a graph or of one kernel of it. ref interprets it; else its regions become code. --check ref interprets the same module,
 * after the same passes, on the same inputs: what quant rounds is rounded on both sides, so the tolerance is tight. */
#include "frontend/cli/exec_graph.h"

#include "codegen/cpu/cpu.h"
#include "passes/cost.h"

#include <string.h>

static const aq_body *body_of(const aq_graph_run *r) { return &r->m.bodies.at[r->body]; }

/* --- running ------------------------------------------------------------------------------------------------------------------------------ */

static aq_status on_ref(const aq_graph_run *r, aq_ref_tensor *results) {
    int threads = (int)aq_arg_number(r->a, AQ_OPT_THREADS);
    aq_ref_env env = {.sym = r->in.sym, .weights = r->in.weights, .states = r->in.states, .batch = &r->in.batch, .threads = threads ? threads : aq_team_processors()};
    return aq_ref_run(&r->m, r->body, &env, r->in.in, r->arena, results);
}

static aq_status values_of(aq_graph_run *r, const aq_ref_tensor *t, const double **out) {
    int64_t n = aq_exec_count(t->dim, t->rank);
    double *x;
    *out = t->values;
    if (t->values)
        return AQ_OK;
    AQ_ALLOC(r->arena, x, n + 1);
    aq_dtype_decode_f64(t->dtype, t->blocks, 0, (size_t)n, x);
    *out = x;
    return AQ_OK;
}

static int is_changed(const aq_graph_run *r, uint32_t state) {
    for (uint32_t i = 0; i < body_of(r)->nodes.n; i++) {
        const aq_node *n = &r->m.nodes.at[body_of(r)->nodes.at[i]];
        for (int k = 0; k < n->n_out; k++)
            if (r->m.values.at[n->out + (aq_id)k].state == state + 1)
                return 1;
    }
    return 0;
}

static aq_status add_output(aq_graph_run *r, const char *name, aq_id value, const double *got, aq_exec_report *report) {
    const aq_type *t = &r->m.values.at[value].type;
    aq_exec_output o = {.name = name, .dtype = t->dtype, .rank = t->rank, .got = got};
    for (int i = 0; i < t->rank; i++)
        o.dim[i] = aq_dim_eval(t->dim[i], r->in.sym);
    AQ_PUSH(r->arena, &report->outputs, o);
    return AQ_OK;
}

/* Results, then the states that the graph changes. cpu NULL: `results` are ref's; else what the machine left. */
static aq_status gather(aq_graph_run *r, const aq_exec_cpu *cpu, const aq_ref_tensor *results, aq_exec_report *report) {
    const aq_body *b = body_of(r);
    for (uint32_t i = 0; i < b->results.n; i++) {
        const double *got;
        if (r->m.values.at[b->results.at[i]].state)
            continue;
        AQ_TRY(cpu ? aq_exec_cpu_read(cpu, b->results.at[i], &got) : values_of(r, &results[i], &got));
        AQ_TRY(add_output(r, r->result[i], b->results.at[i], got, report));
    }
    for (uint32_t i = 0; i < r->m.states.n; i++) {
        const double *got;
        const char *name;
        if (!is_changed(r, i))
            continue;
        AQ_TRY(cpu ? aq_exec_cpu_read(cpu, r->m.states.at[i].value, &got) : values_of(r, &r->in.states[i], &got));
        AQ_TRY(aq_arena_format(r->arena, &name, "$%s", r->m.states.at[i].name));
        AQ_TRY(add_output(r, name, r->m.states.at[i].value, got, report));
    }
    return AQ_OK;
}

static aq_status compare(aq_graph_run *r, aq_exec_report *report) {
    aq_exec_report want = {0};
    aq_ref_tensor *results;
    AQ_ALLOC(r->arena, results, body_of(r)->results.n + 1);
    AQ_TRY(on_ref(r, results));
    AQ_TRY(gather(r, NULL, results, &want));
    report->compared = 1;
    for (uint32_t i = 0; i < report->outputs.n; i++) {
        aq_exec_output *o = &report->outputs.at[i];
        o->want = want.outputs.at[i].got;
        o->distance = aq_exec_distance(o->got, o->want, aq_exec_count(o->dim, o->rank));
    }
    return AQ_OK;
}

/* --- time --------------------------------------------------------------------------------------------------------------------------------- */

static aq_status add_time(aq_graph_run *r, aq_exec_cpu *cpu, uint32_t kernel, uint32_t runs, aq_exec_report *report) {
    const aq_kernel_made *k = &r->kernels.made.at[kernel];
    aq_exec_time t = {.name = k->name, .ops = ""};
    int64_t *sum;
    AQ_ALLOC(r->arena, sum, runs + 1);
    for (uint32_t i = 0; i < r->kernels.of.n; i++) {
        const aq_node *n = &r->m.nodes.at[r->kernels.of.at[i].node];
        aq_cost c;
        if (r->kernels.of.at[i].kernel != kernel)
            continue;
        AQ_TRY(aq_cost_node(&r->m, n, &r->options, r->in.sym, &c));
        t.uses++;
        t.bytes += c.bytes;
        t.flops += c.flops;
        for (uint32_t j = 0; j < r->m.bodies.at[n->body].nodes.n; j++)
            t.integer_dots |= r->m.nodes.at[r->m.bodies.at[n->body].nodes.at[j]].op == AQ_OP_quantize;
        for (uint32_t j = 0; j < runs; j++)
            sum[j] += cpu->launches[i].ns[j];
    }
    t.ns = aq_exec_median(sum, runs);
    AQ_PUSH(r->arena, &report->times, t);
    return AQ_OK;
}

static aq_status measure(aq_graph_run *r, aq_exec_cpu *cpu, aq_exec_report *report) {
    uint32_t runs = (uint32_t)aq_arg_number(r->a, AQ_OPT_REPEAT);
    int64_t *whole;
    AQ_TRY(aq_rt_limits_measure(report->threads, 0.1, &report->peaks));
    AQ_ALLOC(r->arena, whole, runs + 1);
    for (uint32_t i = 0; i < r->kernels.of.n; i++)
        AQ_ALLOC(r->arena, cpu->launches[i].ns, runs + 1);
    for (uint32_t i = 0; i < runs; i++)
        whole[i] = aq_exec_cpu_run(cpu, (int)i);
    for (uint32_t k = 0; k < r->kernels.made.n; k++)
        AQ_TRY(add_time(r, cpu, k, runs, report));
    report->whole_ns = aq_exec_median(whole, runs);
    return AQ_OK;
}

/* --- the verb ----------------------------------------------------------------------------------------------------------------------------- */

static aq_status show_assembly(aq_graph_run *r, const char **out) {
    const aq_nest **nests;
    unsigned char *object;
    uint64_t *local;
    size_t size;
    AQ_TRY(aq_exec_nests(&r->kernels, r->arena, &nests));
    AQ_ALLOC(r->arena, local, r->kernels.made.n + 1);
    return aq_cpu_emit(nests, r->kernels.made.n, &r->target, aq_team_processors(), r->arena, &object, &size, local, out);
}

static aq_status show(aq_graph_run *r, const char *what, const char **out) {
    aq_text t = {.arena = r->arena};
    if (!strcmp(what, "asm"))
        return show_assembly(r, out);
    if (!strcmp(what, "ir"))
        AQ_TRY(aq_print_module(&r->m, &t));
    for (uint32_t i = 0; i < r->kernels.made.n && strcmp(what, "ir"); i++) {
        const aq_kernel_made *k = &r->kernels.made.at[i];
        if (strcmp(what, "nest"))
            AQ_TRY(aq_text_add(&t, "%s: schedule %s { %s }\n", k->name, k->schedule->target, k->schedule_text));
        else
            AQ_TRY(aq_print_nest(k->nest, &t));
    }
    return aq_text_end(&t, out);
}

static aq_status run_ref(aq_graph_run *r, aq_exec_report *report) {
    aq_ref_tensor *results;
    if (aq_arg_given(r->a, AQ_OPT_TIME) || aq_arg_given(r->a, AQ_OPT_CHECK))
        return aq_fail(AQ_USAGE, NULL, "--target ref: expected no --time and no --check: it is what others are compared with");
    AQ_ALLOC(r->arena, results, body_of(r)->results.n + 1);
    AQ_TRY(on_ref(r, results));
    return gather(r, NULL, results, report);
}

static aq_status run_cpu(aq_graph_run *r, aq_exec_report *report) {
    aq_exec_cpu cpu;
    aq_status status;
    AQ_TRY_GOTO(status, close, aq_exec_cpu_open(&r->m, r->body, &r->kernels, &r->in, &r->target, report->threads, r->arena, &cpu));
    aq_exec_cpu_run(&cpu, -1);
    AQ_TRY_GOTO(status, close, gather(r, &cpu, NULL, report));
    if (aq_arg_given(r->a, AQ_OPT_TIME))
        AQ_TRY_GOTO(status, close, measure(r, &cpu, report));
    if (aq_arg_given(r->a, AQ_OPT_CHECK))
        status = compare(r, report);
close:
    aq_exec_cpu_close(&cpu);
    return status;
}

static aq_status run(aq_graph_run *r, aq_exec_report *report, const char **out_text) {
    const char *what = aq_arg_text(r->a, AQ_OPT_EXEC_SHOW);
    aq_id t = aq_sym_find(&r->m, "T", 1);
    int64_t T = t ? r->in.sym[t] : 1;
    if (!r->target.is_ref)
        AQ_TRY(aq_compile_kernels(&r->m, r->body, &r->target, T, T, "k", r->arena, &r->kernels));
    else if (what && strcmp(what, "ir"))
        return aq_fail(AQ_USAGE, NULL, "--show %s: ref interprets graphs: expected --show ir, or a cpu target", what);
    if (what)
        return show(r, what, out_text);
    report->what = r->what;
    AQ_TRY(aq_exec_sizes(&r->m, r->in.sym, r->arena, &report->sizes));
    return r->target.is_ref ? run_ref(r, report) : run_cpu(r, report);
}

aq_status aq_exec_graph(const aq_graph_file *f, aq_arena *arena, aq_exec_report *out, const char **out_text) {
    aq_graph_run r = {.f = f, .a = f->args, .arena = arena};
    int64_t threads = aq_arg_number(f->args, AQ_OPT_THREADS);
    AQ_TRY(aq_target_parse(aq_exec_target(f->args), &r.target));
    AQ_TRY(aq_arena_string(arena, r.target.name, strlen(r.target.name), &out->target));
    out->threads = (int)(threads ? threads : aq_team_processors());
    AQ_TRY(aq_graph_run_prepare(&r));
    aq_status status = run(&r, out, out_text);
    aq_module_close(&r.m);
    return status;
}
