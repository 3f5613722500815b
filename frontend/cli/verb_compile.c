/* verb_compile.c: `aquila compile MODEL -o F.aqp` and `aquila memory MODEL`: both want a plan and run nothing. */
#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/subject.h"
#include "ir/memory.h"
#include "ir/plan.h"

#include <inttypes.h>
#include <string.h>

static uint64_t sum(const aq_rt_memory *m) {
    return m->total + m->weights_packed + m->weights_mapped + m->plan;
}

/* What a session will take; total 0 where this machine cannot open the plan: it was made for another. */
static aq_rt_memory foretell(const char *path, const unsigned char *bytes, size_t size, const aq_rt_limits *l) {
    aq_rt_memory m = {0};
    aq_rt_plan *plan;
    if (aq_rt_plan_from_memory(path, bytes, size, &plan) != AQ_OK)
        return m;
    if (aq_rt_memory_of(plan, l, &m) != AQ_OK)
        m = (aq_rt_memory){0};
    aq_rt_plan_close(plan);
    return m;
}

static aq_status print_compiled(const aq_args *a, const char *path, const aq_engine *e) {
    const aq_compile_report *r = aq_engine_report(e);
    const aq_rt_limits *l = aq_engine_limits(e);
    size_t size;
    const unsigned char *bytes = aq_engine_plan_bytes(e, &size);
    aq_plan tables;
    AQ_TRY(aq_plan_open(path, bytes, size, &tables));
    const aq_rt_memory m = foretell(path, bytes, size, l);
    if (!aq_arg_given(a, AQ_OPT_JSON)) {
        printf("%s: %zu bytes for %s: %" PRIu32 " kernels, %" PRIu32 " steps, %" PRIu32 " buffers; passes %.1f ms, lowering %.1f ms, machine code %.1f ms\n",
               path, size, r->target, r->kernels, r->steps, tables.n_buffers, (double)r->passes_ns / 1e6, (double)r->lower_ns / 1e6, (double)r->emit_ns / 1e6);
        if (m.total)
            printf("at a context of %" PRId64 " it will take %.1f MiB: weights %.1f, cache %.1f, activations %.1f\n", l->context, (double)sum(&m) / 0x1p20,
                   (double)(m.weights_packed + m.weights_mapped) / 0x1p20, (double)m.cache / 0x1p20, (double)m.activations / 0x1p20);
        return AQ_OK;
    }
    cJSON *o = cJSON_CreateObject();
    aq_json_set_string(o, "path", path);
    aq_json_set_string(o, "target", r->target);
    aq_json_set_int(o, "bytes", (int64_t)size);
    aq_json_set_int(o, "kernels", r->kernels);
    aq_json_set_int(o, "steps", r->steps);
    aq_json_set_int(o, "buffers", tables.n_buffers);
    aq_json_set_int(o, "context", l->context);
    if (m.total)
        aq_json_set_int(o, "memory_bytes", (int64_t)sum(&m));
    cJSON_AddNumberToObject(o, "passes_ms", (double)r->passes_ns / 1e6);
    cJSON_AddNumberToObject(o, "lower_ms", (double)r->lower_ns / 1e6);
    cJSON_AddNumberToObject(o, "emit_ms", (double)r->emit_ns / 1e6);
    return aq_json_print(o);
}

aq_status aq_verb_compile(const aq_args *a) {
    const char *path = aq_arg_text(a, AQ_OPT_OUTPUT), *print = aq_arg_given(a, AQ_OPT_PRINT_KERNELS) ? aq_arg_text(a, AQ_OPT_PRINT_KERNELS) : NULL;
    const aq_subject_needs needs = {.compile_only = 1, .fresh = 1};
    aq_subject s;
    size_t size;
    aq_status status;
    if (!path && !print)
        return aq_fail(AQ_USAGE, NULL, "compile: no output: expected -o FILE.aqp, or --print");
    if (print && (aq_arg_given(a, AQ_OPT_JSON) || (path && !strcmp(path, "-"))))
        return aq_fail(AQ_USAGE, NULL, "compile: --print writes to standard output: expected no --json, no -o -");
    AQ_TRY_GOTO(status, close, aq_subject_open(a, a->operand[0], &s));
    AQ_TRY_GOTO(status, close, aq_subject_start(&s, &needs));
    const unsigned char *bytes = aq_engine_plan_bytes(s.engine, &size);
    if (!bytes)
        AQ_TRY_GOTO(status, close, aq_fail(AQ_USAGE, NULL, "compile: ref is interpreted: expected a target that code is made for"));
    if (path)
        AQ_TRY_GOTO(status, close, aq_output_file(path, bytes, size));
    if (print)
        fputs(!strcmp(print, "nests") ? aq_engine_report(s.engine)->nests : aq_engine_report(s.engine)->schedules, stdout);
    else if (strcmp(path, "-"))
        status = print_compiled(a, path, s.engine);
close:
    aq_subject_close(&s);
    return status;
}

/* The longest context, a multiple of the page, that takes at most `bytes`: memory grows with it, so halving finds it. */
static aq_status fit(const aq_engine *e, int64_t longest, int64_t bytes, aq_rt_limits *limits, aq_rt_memory *m) {
    int64_t low = 0, high = (longest + AQ_PAGE - 1) / AQ_PAGE;
    while (low < high) {
        int64_t middle = (low + high + 1) / 2;
        *limits = aq_engine_limits_at(e, middle * AQ_PAGE);
        AQ_TRY(aq_engine_memory(e, limits, m));
        if (sum(m) <= (uint64_t)bytes)
            low = middle;
        else
            high = middle - 1;
    }
    if (!low) {
        *limits = aq_engine_limits_at(e, AQ_PAGE);
        AQ_TRY(aq_engine_memory(e, limits, m));
        return aq_fail(AQ_NO_MEMORY, NULL, "--fit: not even %d positions fit in %.1f MiB: expected %.1f MiB or more, or a smaller --weights-type", AQ_PAGE,
                       (double)bytes / 0x1p20, (double)sum(m) / 0x1p20);
    }
    *limits = aq_engine_limits_at(e, low * AQ_PAGE < longest ? low * AQ_PAGE : longest);
    return aq_engine_memory(e, limits, m);
}

static aq_status print_memory(const aq_args *a, const aq_rt_limits *l, const aq_rt_memory *m) {
    const struct {
        const char *name;
        uint64_t bytes;
    } rows[] = {{"cache", m->cache}, {"activations", m->activations}, {"local", m->local}, {"tables", m->tables}, {"session", m->total},
                {"weights_packed", m->weights_packed}, {"weights_mapped", m->weights_mapped}, {"plan", m->plan}, {"total", sum(m)}};
    if (!aq_arg_given(a, AQ_OPT_JSON)) {
        printf("context %" PRId64 ", sequences %" PRId64 ", tokens a step %" PRId64 ", threads %d\n", l->context, l->sequences, l->batch, l->threads);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            printf("%-15s %16" PRIu64 " bytes\n", rows[i].name, rows[i].bytes);
        printf("free now        %16" PRIu64 " bytes\n", aq_mem_available());
        return AQ_OK;
    }
    cJSON *o = cJSON_CreateObject();
    aq_json_set_int(o, "context", l->context);
    aq_json_set_int(o, "sequences", l->sequences);
    aq_json_set_int(o, "batch", l->batch);
    aq_json_set_int(o, "threads", l->threads);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s_bytes", rows[i].name);
        aq_json_set_int(o, name, (int64_t)rows[i].bytes);
    }
    aq_json_set_int(o, "free_bytes", (int64_t)aq_mem_available());
    return aq_json_print(o);
}

aq_status aq_verb_memory(const aq_args *a) {
    const aq_subject_needs needs = {.compile_only = 1, .sequences = aq_arg_number(a, AQ_OPT_SEQUENCES)};
    aq_subject s;
    aq_rt_memory m;
    aq_status status;
    AQ_TRY_GOTO(status, close, aq_subject_open(a, a->operand[0], &s));
    AQ_TRY_GOTO(status, close, aq_subject_start(&s, &needs));
    int64_t context = aq_arg_number(a, AQ_OPT_CONTEXT), longest = s.checkpoint.config.max_length;
    aq_rt_limits limits = aq_engine_limits_at(s.engine, context ? context : longest);
    if (aq_arg_given(a, AQ_OPT_FIT))
        status = fit(s.engine, longest, aq_arg_number(a, AQ_OPT_FIT), &limits, &m);
    else
        status = aq_engine_memory(s.engine, &limits, &m);
    if (status == AQ_OK)
        status = print_memory(a, &limits, &m);
close:
    aq_subject_close(&s);
    return status;
}
