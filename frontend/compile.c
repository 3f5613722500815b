/* compile.c: the pipeline, on one screen: text -> module -> passes -> regions -> schedules -> nests -> object -> plan, once for every range of T.
 * Ranges: one token (decode), a few (several sequences, short tails), some (a turn of a chat), many (prefill): each gets its own schedules, all share
 * weights, states and one object. */
#include "frontend/compile.h"

#include "codegen/cpu/cpu.h"
#include "ir/clock.h"
#include "runtime/team.h"

#include <string.h>

static const struct {
    int64_t lo, hi;
    const char *prefix;
} ranges[] = {{1, 1, "t1"}, {2, 8, "t8"}, {9, 32, "t32"}, {33, 1 << 20, "tn"}};
enum { RANGES = sizeof ranges / sizeof *ranges };

typedef struct variant {
    aq_module module;
    aq_id body;
    aq_kernels kernels;
    int open;
} variant;

static aq_status make_variant(const aq_checkpoint *c, const aq_compile_options *o, const aq_target *t, int i, aq_edits *edits, aq_arena *arena, variant *v,
                              aq_compile_report *r) {
    aq_pass_options po;
    aq_pass_report *reports;
    uint32_t n_reports;
    int64_t start = aq_clock_ns();
    AQ_TRY(aq_compile_module(c, o, &v->module));
    v->open = 1;
    AQ_TRY(aq_compile_pass_options(t, o, ranges[i].lo, ranges[i].hi, &po));
    AQ_TRY(aq_pipeline_run(&v->module, &po, NULL, NULL, NULL, NULL, &reports, &n_reports));
    const aq_body *step = aq_graph_find(&v->module, "step");
    if (!step)
        return aq_fail(AQ_REFUSED, v->module.file, "no graph named step: expected one that takes tokens to logits");
    v->body = (aq_id)(step - v->module.bodies.at);
    r->passes_ns += aq_clock_ns() - start;
    start = aq_clock_ns();
    v->kernels.edits = edits;
    AQ_TRY(aq_compile_kernels(&v->module, v->body, t, ranges[i].lo, ranges[i].hi, ranges[i].prefix, arena, &v->kernels));
    r->lower_ns += aq_clock_ns() - start;
    r->kernels += v->kernels.made.n;
    r->steps += v->kernels.of.n;
    return AQ_OK;
}

static aq_status emit_all(const variant *v, const aq_target *t, int jobs, aq_arena *arena, unsigned char **object, size_t *size, uint64_t **local) {
    uint32_t n = 0;
    const aq_nest **nests;
    for (int i = 0; i < RANGES; i++)
        n += v[i].kernels.made.n;
    AQ_ALLOC(arena, nests, n + 1);
    AQ_ALLOC(arena, *local, n + 1);
    n = 0;
    for (int i = 0; i < RANGES; i++)
        for (uint32_t k = 0; k < v[i].kernels.made.n; k++)
            nests[n++] = v[i].kernels.made.at[k].nest;
    return aq_cpu_emit(nests, n, t, jobs > 0 ? jobs : aq_team_processors(), arena, object, size, *local, NULL);
}

static aq_status build_plan(const aq_checkpoint *c, const char *key, const aq_target *t, const variant *v, const unsigned char *object, size_t size,
                            const uint64_t *local, aq_arena *arena, unsigned char **out_bytes, size_t *out_size) {
    aq_plan_builder *b;
    AQ_TRY(aq_plan_builder_open(arena, &v[0].module, c, t->name, key, &b));
    for (int i = 0; i < RANGES; i++) {
        AQ_TRY(aq_plan_builder_variant(b, &v[i].module, v[i].body, &v[i].kernels, local, ranges[i].lo, ranges[i].hi));
        local += v[i].kernels.made.n;
    }
    return aq_plan_builder_finish(b, object, size, out_bytes, out_size);
}

/* Every kernel's schedule and nest, ready to be edited and given back. */
static aq_status print_kernels(const variant *v, aq_arena *arena, aq_compile_report *r) {
    aq_text schedules = {.arena = arena}, nests = {.arena = arena};
    for (int i = 0; i < RANGES; i++)
        for (uint32_t k = 0; k < v[i].kernels.made.n; k++) {
            const aq_kernel_made *made = &v[i].kernels.made.at[k];
            AQ_TRY(aq_text_add(&schedules, "schedule %s { ", made->name));
            AQ_TRY(aq_print_schedule(made->schedule, &schedules));
            AQ_TRY(aq_text_add(&schedules, " }  # sum %s%s\n", made->sum_class, !strcmp(made->origin, "nest") ? ", by a nest" : ""));
            AQ_TRY(aq_print_nest(made->nest, &nests));
        }
    AQ_TRY(aq_text_end(&schedules, &r->schedules));
    return aq_text_end(&nests, &r->nests);
}

aq_status aq_compile(const aq_checkpoint *c, const aq_compile_options *o, aq_arena *arena, unsigned char **out_bytes, size_t *out_size, aq_compile_report *report) {
    aq_compile_report r = {0};
    variant v[RANGES] = {0};
    aq_target t;
    const char *key;
    unsigned char *object;
    size_t size;
    uint64_t *local;
    int64_t start;
    aq_edits edits = {0};
    AQ_TRY(aq_target_parse(o->target ? o->target : "cpu", &t));
    if (t.is_ref)
        return aq_fail(AQ_USAGE, NULL, "target ref interprets graphs: there is nothing to compile; expected a cpu target");
    AQ_TRY(aq_compile_key(c, o, arena, &key));
    if (o->edits)
        AQ_TRY(aq_edits_open(arena, o->edits_name, o->edits, &edits));
    aq_status status = AQ_OK;
    for (int i = 0; i < RANGES; i++)
        AQ_TRY_GOTO(status, done, make_variant(c, o, &t, i, &edits, arena, &v[i], &r));
    AQ_TRY_GOTO(status, done, aq_edits_all_used(&edits));
    start = aq_clock_ns();
    AQ_TRY_GOTO(status, done, emit_all(v, &t, o->jobs, arena, &object, &size, &local));
    r.emit_ns = aq_clock_ns() - start;
    AQ_TRY_GOTO(status, done, aq_arena_string(arena, t.name, strlen(t.name), &r.target));
    AQ_TRY_GOTO(status, done, print_kernels(v, arena, &r));
    AQ_TRY_GOTO(status, done, build_plan(c, key, &t, v, object, size, local, arena, out_bytes, out_size));
    if (report)
        *report = r;
done:
    for (int i = 0; i < RANGES; i++)
        if (v[i].open)
            aq_module_close(&v[i].module);
    return status;
}
