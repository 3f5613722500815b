/* exec_graph.h: between the two halves of `exec` of a graph: making the module ready (exec_prepare.c) and running it (exec_graph.c). */
#ifndef AQ_FRONTEND_CLI_EXEC_GRAPH_H
#define AQ_FRONTEND_CLI_EXEC_GRAPH_H

#include "frontend/cli/exec.h"
#include "frontend/cli/exec_cpu.h"

typedef struct aq_graph_run {
    const aq_graph_file *f;
    const aq_args *a;
    aq_arena *arena;
    aq_target target;
    aq_pass_options options;
    aq_module m;         /* one graph, after the passes */
    aq_id body;          /* it */
    aq_ref_inputs in;
    aq_kernels kernels;
    const char *what;    /* "graph step", "kernel 3" */
    const char **result; /* names of the results, with sigil */
} aq_graph_run;

/* r->f, a, arena and target are set: module, body, options, inputs, names. The module is open only on success. */
AQ_MUST_USE aq_status aq_graph_run_prepare(aq_graph_run *r);

#endif
