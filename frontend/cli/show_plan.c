/* show_plan.c: what a plan holds: target, model, symbols, weights, variants and their steps. */
#include "frontend/cli/show_plan.h"

#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "ir/file.h"
#include "ir/plan.h"

#include <inttypes.h>
#include <string.h>

static const char *text(const aq_plan *p, uint32_t s) {
    return p->strings + s;
}

static uint64_t packed_bytes(const aq_plan *p) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < p->n_weights; i++)
        bytes += p->weights[i].alias ? 0 : p->weights[i].bytes;
    return bytes;
}

static void print_step(const aq_plan *p, const aq_plan_step *s) {
    printf("      %-28s layer %3" PRId32 "  %" PRIu32 " phases, %" PRIu32 " arguments, %7" PRIu64 " local bytes  %s  [%s]\n", text(p, s->name), s->layer,
           s->n_phases, s->n_args, s->local_bytes, text(p, s->sum_class), text(p, s->provenance));
}

static void print_graph(const aq_plan *p, const aq_plan_graph *g, int steps) {
    printf("  graph %s: %" PRIu32 " inputs, %" PRIu32 " outputs\n", text(p, g->name), g->n_inputs, g->n_outputs);
    for (uint32_t v = 0; v < g->n_variants; v++) {
        const aq_plan_variant *x = &p->variants[g->first_variant + v];
        printf("    T %" PRId64 "..%" PRId64 ": %" PRIu32 " steps, %" PRIu32 " buffers, arena", x->t_lo, x->t_hi, x->n_steps, x->n_buffers);
        for (int s = 0, first = 1; s < AQ_SYM_COUNT; s++) {
            if (!x->arena[s])
                continue;
            printf("%s %" PRId64 "%s%s", first ? "" : " +", x->arena[s], s ? " " : "", s ? text(p, p->syms[s].name) : "");
            first = 0;
        }
        printf(" bytes\n");
        for (uint32_t i = 0; steps && i < x->n_steps; i++)
            print_step(p, &p->steps[x->first_step + i]);
    }
}

static void print(const aq_args *a, const aq_plan *p, const char *path) {
    const aq_plan_model *m = p->model;
    int verbose = aq_arg_given(a, AQ_OPT_VERBOSE);
    const char *types = verbose ? NULL : strstr(p->options, " types="); /* of every tensor: --tensors lists them one a line */
    int options = types ? (int)(types - p->options) : (int)strlen(p->options);
    (void)aq_output_text(path, strlen(path));
    printf("\n  plan for %s, hash %016" PRIx64 ", %zu bytes (%zu of code)\n", p->target, p->hash, p->size, p->code_size);
    printf("  model %s, family %s: dim %" PRId64 ", layers %" PRId64 ", vocab %" PRId64 "\n  options %.*s\n", text(p, m->name), text(p, m->family), m->D, m->L,
           m->V, options, p->options);
    printf("  %" PRIu32 " weights, %.1f MiB; %" PRIu32 " states\n", p->n_weights, (double)packed_bytes(p) / 0x1p20, p->n_states);
    for (uint32_t i = 0; i < p->n_graphs; i++)
        print_graph(p, &p->graphs[i], verbose);
    for (uint32_t i = 0; aq_arg_given(a, AQ_OPT_TENSORS) && i < p->n_weights; i++) {
        const aq_plan_weight *w = &p->weights[i];
        printf("%-16s %-6s %-6s %12" PRIu64 "%s%s\n", text(p, w->name), aq_dtype_of((aq_dtype)w->dtype)->name, aq_layout_name((aq_layout)w->layout),
               w->bytes, w->alias ? "  is " : "", w->alias ? text(p, p->weights[w->alias - 1].name) : "");
    }
    if (verbose)
        printf("%s\n", p->manifest);
}

static cJSON *variant_json(const aq_plan *p, const aq_plan_variant *x) {
    cJSON *o = cJSON_CreateObject(), *steps;
    aq_json_set_int(o, "t_lo", x->t_lo);
    aq_json_set_int(o, "t_hi", x->t_hi);
    aq_json_set_int(o, "buffers", x->n_buffers);
    steps = cJSON_AddArrayToObject(o, "steps");
    for (uint32_t i = 0; i < x->n_steps; i++) {
        const aq_plan_step *s = &p->steps[x->first_step + i];
        cJSON *one = cJSON_CreateObject();
        aq_json_set_string(one, "kernel", text(p, s->name));
        aq_json_set_int(one, "layer", s->layer);
        aq_json_set_int(one, "phases", s->n_phases);
        aq_json_set_int(one, "local_bytes", (int64_t)s->local_bytes);
        aq_json_set_string(one, "schedule", text(p, s->schedule));
        aq_json_set_string(one, "sum_class", text(p, s->sum_class));
        aq_json_set_string(one, "provenance", text(p, s->provenance));
        cJSON_AddItemToArray(steps, one);
    }
    return o;
}

static aq_status print_json(const aq_plan *p, const char *path) {
    char hash[17];
    cJSON *o = cJSON_CreateObject(), *graphs;
    snprintf(hash, sizeof hash, "%016" PRIx64, p->hash);
    aq_json_set_string(o, "path", path);
    aq_json_set_string(o, "target", p->target);
    aq_json_set_string(o, "hash", hash);
    aq_json_set_string(o, "options", p->options);
    aq_json_set_string(o, "model", text(p, p->model->name));
    aq_json_set_string(o, "manifest", p->manifest);
    aq_json_set_int(o, "bytes", (int64_t)p->size);
    aq_json_set_int(o, "code_bytes", (int64_t)p->code_size);
    aq_json_set_int(o, "weights", p->n_weights);
    aq_json_set_int(o, "weights_bytes", (int64_t)packed_bytes(p));
    graphs = cJSON_AddArrayToObject(o, "graphs");
    for (uint32_t i = 0; i < p->n_graphs; i++) {
        const aq_plan_graph *g = &p->graphs[i];
        cJSON *one = cJSON_CreateObject(), *variants;
        aq_json_set_string(one, "name", text(p, g->name));
        variants = cJSON_AddArrayToObject(one, "variants");
        for (uint32_t v = 0; v < g->n_variants; v++)
            cJSON_AddItemToArray(variants, variant_json(p, &p->variants[g->first_variant + v]));
        cJSON_AddItemToArray(graphs, one);
    }
    return aq_json_print(o);
}

aq_status aq_plan_show(const aq_args *a, const char *path) {
    aq_file file;
    aq_plan p;
    AQ_TRY(aq_file_map(path, &file));
    aq_status status = aq_plan_open(path, file.bytes, file.size, &p);
    if (status == AQ_OK && aq_arg_given(a, AQ_OPT_JSON))
        status = print_json(&p, path);
    else if (status == AQ_OK)
        print(a, &p, path);
    aq_file_unmap(&file);
    return status;
}
