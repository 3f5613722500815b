/* explain_print.c: the tables of --explain, for people and as JSON. */
#include "frontend/cli/explain.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Bytes in at most eight characters. */
static const char *bytes_text(double x, char *room, size_t n) {
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    while (x >= 1024 && u < 4)
        x /= 1024, u++;
    snprintf(room, n, u ? "%.1f %s" : "%.0f %s", x, unit[u]);
    return room;
}

static const char *per_layer(const aq_explain_graph *g, const aq_explain_kernel *k, char *room, size_t n) {
    if (!k->uses_in_layers || !g->n_layers)
        snprintf(room, n, "-");
    else if (k->uses_in_layers % g->n_layers)
        snprintf(room, n, "%.2f", (double)k->uses_in_layers / g->n_layers);
    else
        snprintf(room, n, "%" PRIu32, k->uses_in_layers / g->n_layers);
    return room;
}

static void print_cost(const aq_cost *c, int of_one) {
    char moved[24], alone[24], saved[24];
    printf(" %10s %11s %11s %9.3f %11.1f", bytes_text(c->bytes, moved, sizeof moved), bytes_text(c->bytes_unfused, alone, sizeof alone),
           bytes_text(c->bytes_unfused - c->bytes > 0 ? c->bytes_unfused - c->bytes : 0, saved, sizeof saved), c->flops / 1e9, c->ns / 1e3);
    printf("%s\n", !of_one ? "" : c->memory_bound ? "  memory" : "  arithmetic");
}

static void print_kernels(const aq_explain_graph *g) {
    printf("%6s %5s %7s %5s %10s %11s %11s %9s %11s  %s\n", "kernel", "uses", "a layer", "ops", "moved", "one an op", "saved", "GFLOP", "time us", "bound by");
    for (uint32_t i = 0; i < g->kernels.n; i++) {
        const aq_explain_kernel *k = &g->kernels.at[i];
        char layer[16];
        printf("%6" PRIu32 " %5" PRIu32 " %7s %5" PRIu32, i, k->uses, per_layer(g, k, layer, sizeof layer), k->cost.ops);
        print_cost(&k->cost, 1);
        printf("       %s -> %s\n", k->ops, k->first);
    }
    printf("%6s %5" PRIu32 " %7s %5" PRIu32, "total", g->n_kernels_run, "", g->total.ops);
    print_cost(&g->total, 0);
}

static void print_edges(const aq_explain_graph *g) {
    for (int fused = 1; fused >= 0; fused--) {
        printf("%s\n", fused ? "edges inside a kernel:" : "edges between kernels:");
        for (uint32_t i = 0; i < g->edges.n; i++) {
            const aq_explain_edge *e = &g->edges.at[i];
            if (e->fused == fused)
                printf("  %5" PRIu32 " x %s -> %s (%s): %s\n", e->count, e->maker, e->reader, e->value, e->why);
        }
    }
}

static void print_summary(const aq_explain *e, const aq_explain_graph *g) {
    uint32_t outside = g->n_kernels_run - g->n_in_layers;
    if (g->n_layers)
        printf("%s: %g kernels a layer, %" PRIu32 " layers, %" PRIu32 " outside them; ", g->name, (double)g->n_in_layers / g->n_layers, g->n_layers, outside);
    else
        printf("%s: ", g->name);
    char moved[24], alone[24];
    printf("%" PRIu32 " launches of %" PRIu32 " kernels; %s moved where one kernel an op moves %s; at best %.3f ms a step", g->n_kernels_run, g->kernels.n,
           bytes_text(g->total.bytes, moved, sizeof moved), bytes_text(g->total.bytes_unfused, alone, sizeof alone), g->total.ns / 1e6);
    if (e->options->t_hi > 0)
        printf(", %.0f tokens/s", (double)e->options->t_hi * 1e9 / g->total.ns);
    printf("\n");
}

void aq_explain_print(const aq_explain *e) {
    printf("target %s: reads %.1f GB/s, computes %.0f GFLOP/s (%s); sizes %s\n", e->options->target, e->options->read_gb_per_s, e->options->gflops, e->measured,
           e->sizes);
    for (uint32_t i = 0; i < e->graphs.n; i++) {
        printf("\ngraph %s\n", e->graphs.at[i].name);
        print_kernels(&e->graphs.at[i]);
        print_edges(&e->graphs.at[i]);
        print_summary(e, &e->graphs.at[i]);
    }
}

/* --- JSON --------------------------------------------------------------------------------------------------------------------------------- */

static void set_cost(cJSON *o, const aq_cost *c) {
    aq_json_set_int(o, "ops", c->ops);
    cJSON_AddNumberToObject(o, "bytes", c->bytes);
    cJSON_AddNumberToObject(o, "bytes_unfused", c->bytes_unfused);
    cJSON_AddNumberToObject(o, "bytes_saved", c->bytes_unfused - c->bytes);
    cJSON_AddNumberToObject(o, "flops", c->flops);
    cJSON_AddNumberToObject(o, "roofline_us", c->ns / 1e3);
}

static cJSON *kernel_json(const aq_explain_graph *g, uint32_t i) {
    const aq_explain_kernel *k = &g->kernels.at[i];
    cJSON *o = cJSON_CreateObject();
    aq_json_set_int(o, "kernel", i);
    aq_json_set_int(o, "uses", k->uses);
    cJSON_AddNumberToObject(o, "uses_per_layer", g->n_layers ? (double)k->uses_in_layers / g->n_layers : 0);
    aq_json_set_string(o, "computes", k->ops);
    aq_json_set_string(o, "yields", k->first);
    set_cost(o, &k->cost);
    aq_json_set_string(o, "bound_by", k->cost.memory_bound ? "memory" : "arithmetic");
    return o;
}

static cJSON *edge_json(const aq_explain_edge *e) {
    cJSON *o = cJSON_CreateObject();
    aq_json_set_string(o, "value", e->value);
    aq_json_set_string(o, "maker", e->maker);
    aq_json_set_string(o, "reader", e->reader);
    cJSON_AddBoolToObject(o, "fused", e->fused);
    aq_json_set_string(o, "why", e->why);
    aq_json_set_int(o, "count", e->count);
    return o;
}

static cJSON *graph_json(const aq_explain_graph *g) {
    cJSON *o = cJSON_CreateObject();
    aq_json_set_string(o, "graph", g->name);
    cJSON *kernels = cJSON_AddArrayToObject(o, "kernels"), *edges = cJSON_AddArrayToObject(o, "edges"), *total = cJSON_AddObjectToObject(o, "total");
    for (uint32_t i = 0; i < g->kernels.n; i++)
        cJSON_AddItemToArray(kernels, kernel_json(g, i));
    for (uint32_t i = 0; i < g->edges.n; i++)
        cJSON_AddItemToArray(edges, edge_json(&g->edges.at[i]));
    set_cost(total, &g->total);
    aq_json_set_int(o, "layers", g->n_layers);
    aq_json_set_int(o, "launches", g->n_kernels_run);
    cJSON_AddNumberToObject(o, "kernels_per_layer", g->n_layers ? (double)g->n_in_layers / g->n_layers : 0);
    aq_json_set_int(o, "kernels_outside_layers", g->n_kernels_run - g->n_in_layers);
    return o;
}

cJSON *aq_explain_json(const aq_explain *e) {
    cJSON *o = cJSON_CreateObject();
    aq_json_set_string(o, "target", e->options->target);
    cJSON_AddNumberToObject(o, "read_gb_per_s", e->options->read_gb_per_s);
    cJSON_AddNumberToObject(o, "gflops", e->options->gflops);
    aq_json_set_string(o, "figures", e->measured);
    aq_json_set_string(o, "sizes", e->sizes);
    cJSON *graphs = cJSON_AddArrayToObject(o, "graphs");
    for (uint32_t i = 0; i < e->graphs.n; i++)
        cJSON_AddItemToArray(graphs, graph_json(&e->graphs.at[i]));
    return o;
}
