/* show_kernels.c: the kernels of a plan: a model's thirty layers run the same few. A kernel is made for a model and a target, none is kept in
 * the program, so there is no table of them: the plan says what there is. Rows stand in the order in which a step first runs them. */
#include "frontend/cli/show_kernels.h"

#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/subject.h"
#include "ir/file.h"
#include "ir/plan.h"

#include <inttypes.h>
#include <string.h>

typedef struct kernel {
    const aq_plan_variant *variant;
    const aq_plan_step *step; /* its first */
    uint32_t steps;
} kernel;
typedef AQ_VEC(kernel) kernels;

static aq_status collect(const aq_plan *p, aq_arena *arena, kernels *out) {
    for (uint32_t v = 0; v < p->n_variants; v++) {
        const aq_plan_variant *x = &p->variants[v];
        uint32_t first = out->n;
        for (uint32_t i = 0; i < x->n_steps; i++) {
            const aq_plan_step *s = &p->steps[x->first_step + i];
            uint32_t k = first;
            while (k < out->n && out->at[k].step->name != s->name)
                k++;
            if (k == out->n)
                AQ_PUSH(arena, out, (kernel){x, s, 0});
            out->at[k].steps++;
        }
    }
    return AQ_OK;
}

static void print(const aq_args *a, const aq_plan *p, const kernels *list) {
    const char *s = p->strings;
    printf("%-38s %6s %6s %12s  %-13s %s\n", "kernel", "steps", "phases", "local bytes", "schedule from", "sum");
    for (uint32_t i = 0; i < list->n; i++) {
        const kernel *k = &list->at[i];
        if (!i || k->variant != k[-1].variant)
            printf("steps of %" PRId64 " to %" PRId64 " tokens:\n", k->variant->t_lo, k->variant->t_hi);
        printf("  %-36s %6" PRIu32 " %6" PRIu32 " %12" PRIu64 "  %-13s %s\n", s + k->step->name, k->steps, k->step->n_phases, k->step->local_bytes,
               s + k->step->provenance, s + k->step->sum_class);
        if (aq_arg_given(a, AQ_OPT_VERBOSE))
            printf("    schedule { %s }\n", s + k->step->schedule);
    }
}

static aq_status print_json(const aq_plan *p, const kernels *list) {
    const char *s = p->strings;
    cJSON *document = cJSON_CreateArray();
    for (uint32_t i = 0; i < list->n; i++) {
        const kernel *k = &list->at[i];
        cJSON *one = cJSON_CreateObject();
        aq_json_set_string(one, "kernel", s + k->step->name);
        aq_json_set_int(one, "t_lo", k->variant->t_lo);
        aq_json_set_int(one, "t_hi", k->variant->t_hi);
        aq_json_set_int(one, "steps", k->steps);
        aq_json_set_int(one, "phases", k->step->n_phases);
        aq_json_set_int(one, "local_bytes", (int64_t)k->step->local_bytes);
        aq_json_set_string(one, "sum_class", s + k->step->sum_class);
        aq_json_set_string(one, "schedule", s + k->step->schedule);
        aq_json_set_string(one, "provenance", s + k->step->provenance);
        cJSON_AddItemToArray(document, one);
    }
    return aq_json_print(document);
}

static aq_status show(const aq_args *a, const char *path, const unsigned char *bytes, size_t size) {
    aq_arena arena = {0};
    kernels list = {0};
    aq_plan p;
    aq_status status;
    AQ_TRY_GOTO(status, close, aq_plan_open(path, bytes, size, &p));
    AQ_TRY_GOTO(status, close, collect(&p, &arena, &list));
    if (aq_arg_given(a, AQ_OPT_JSON))
        status = print_json(&p, &list);
    else
        print(a, &p, &list);
close:
    aq_arena_close(&arena);
    return status;
}

static aq_status show_plan(const aq_args *a, const char *path) {
    aq_file file;
    AQ_TRY(aq_file_map(path, &file));
    aq_status status = show(a, path, file.bytes, file.size);
    aq_file_unmap(&file);
    return status;
}

aq_status aq_kernels_show(const aq_args *a, const char *model) {
    const aq_subject_needs needs = {.compile_only = 1, .fresh = 1};
    aq_subject s;
    aq_status status;
    size_t size;
    if (aq_path_ends(model, ".aqp"))
        return show_plan(a, model);
    AQ_TRY_GOTO(status, close, aq_subject_open(a, model, &s));
    AQ_TRY_GOTO(status, close, aq_subject_start(&s, &needs));
    const unsigned char *bytes = aq_engine_plan_bytes(s.engine, &size);
    status = bytes ? show(a, model, bytes, size) : aq_fail(AQ_USAGE, NULL, "show kernels: ref is interpreted: expected a target that code is made for");
close:
    aq_subject_close(&s);
    return status;
}
