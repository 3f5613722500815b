/* exec.h: the parts of `aquila exec`: what a run gave, printed in one way for graphs (exec_graph.c) and nests (exec_nest.c). */
#ifndef AQ_FRONTEND_CLI_EXEC_H
#define AQ_FRONTEND_CLI_EXEC_H

#include "frontend/cli/exec_data.h"
#include "frontend/cli/graph_file.h"
#include "runtime/aquila_rt.h"

typedef struct aq_exec_output {
    const char *name; /* with its sigil */
    aq_dtype dtype;
    int rank;
    int64_t dim[AQ_MAX_RANK];
    const double *got, *want; /* want: NULL unless compared */
    double distance;
} aq_exec_output;

/* One kernel's share of a run. */
typedef struct aq_exec_time {
    const char *name, *ops;
    uint32_t uses;
    double bytes, flops; /* of all uses */
    int integer_dots;    /* their limit is the integer one */
    double ns;           /* median over the runs of the sum over the uses */
} aq_exec_time;

typedef struct aq_exec_report {
    const char *what, *target, *sizes;
    int threads, compared;
    double tolerance;
    AQ_VEC(aq_exec_output) outputs;
    AQ_VEC(aq_exec_time) times;
    aq_rt_peaks peaks;      /* measured if there are times */
    double whole_ns;        /* median of a run, 0 if not timed */
} aq_exec_report;

/* exec_graph.c, exec_nest.c: runs what the file holds as the options say. Everything is in `arena`; *out_text is set instead where --show asks
 * for text and nothing is run. */
AQ_MUST_USE aq_status aq_exec_graph(const aq_graph_file *f, aq_arena *arena, aq_exec_report *out, const char **out_text);
AQ_MUST_USE aq_status aq_exec_nest(const aq_graph_file *f, aq_arena *arena, aq_exec_report *out, const char **out_text);

/* exec_print.c: writes --out files, prints text or JSON. AQ_CHECK_FAILED if a distance is above the tolerance. */
AQ_MUST_USE aq_status aq_exec_report_print(const aq_args *a, const aq_exec_report *r, aq_arena *arena);

/* "T=4 O=2": the symbols of m with these values. */
AQ_MUST_USE aq_status aq_exec_sizes(const aq_module *m, const int64_t *bound, aq_arena *arena, const char **out);
/* The symbols that nobody bound get small values: T=4 O=2 B=1; with --depth N one sequence with N positions behind it, and S, P to hold it. */
AQ_MUST_USE aq_status aq_exec_default_sizes(const aq_args *a, aq_module *m);
/* Rewrites a batch of one sequence so that `depth` positions come before its tokens (pages in order); sizes as aq_exec_default_sizes left them. */
AQ_MUST_USE aq_status aq_exec_set_depth(const aq_args *a, aq_arena *arena, aq_ref_batch *batch);
/* Sum class of times: median of n numbers, which are sorted. */
double aq_exec_median(int64_t *ns, uint32_t n);
const char *aq_exec_target(const aq_args *a);

#endif
