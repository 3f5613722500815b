/* explain.h: `aquila opt --explain`: what fuse made of a module: its kernels with their bytes and roofline, and why each edge is inside one or not. */
#ifndef AQ_FRONTEND_CLI_EXPLAIN_H
#define AQ_FRONTEND_CLI_EXPLAIN_H

#include "frontend/cli/json.h"
#include "passes/cost.h"

/* One distinct kernel of a graph: equal regions (frontend/compile.h, aq_region_key) are one. */
typedef struct aq_explain_kernel {
    const char *key, *ops;          /* ops: what it computes, in order, "rms, 2 mul, 3 dot" */
    const char *first;              /* names of what the first of its uses yields */
    uint32_t uses, uses_in_layers;
    aq_cost cost;                   /* of one use */
} aq_explain_kernel;

/* Equal edges: the op that makes the value, the op that reads it, together or not, and why. */
typedef struct aq_explain_edge {
    const char *value, *maker, *reader, *why; /* value: of the first of them */
    uint32_t count;
    uint8_t fused;
} aq_explain_edge;

typedef struct aq_explain_graph {
    const char *name;
    uint32_t n_kernels_run, n_in_layers, n_layers;
    AQ_VEC(aq_explain_kernel) kernels;
    AQ_VEC(aq_explain_edge) edges;
    aq_cost total;
} aq_explain_graph;

typedef struct aq_explain {
    const aq_module *m;
    const aq_pass_options *options;
    const char *sizes;              /* "T=1 O=1 B=1 S=1024 P=16" */
    const char *measured;           /* how the target's figures were found */
    AQ_VEC(aq_explain_graph) graphs;
} aq_explain;

/* Everything in `arena`; m must have been through fuse. */
AQ_MUST_USE aq_status aq_explain_make(const aq_module *m, const aq_pass_options *o, const char *measured, aq_arena *arena, aq_explain *out);

void aq_explain_print(const aq_explain *e);
/* NULL if out of memory (aq_json_print says so). */
cJSON *aq_explain_json(const aq_explain *e);

#endif
