/* exec_cpu.h: a fused graph on this machine, without a plan: every value of the graph has memory of its own. For `exec`. */
#ifndef AQ_FRONTEND_CLI_EXEC_CPU_H
#define AQ_FRONTEND_CLI_EXEC_CPU_H

#include "codegen/ref/sample.h"
#include "frontend/cli/exec_machine.h"
#include "frontend/compile.h"

typedef struct aq_exec_cpu {
    const aq_module *m;
    aq_id body;
    const aq_kernels *kernels;
    const aq_ref_inputs *in;
    aq_arena *arena;
    const aq_nest **nests;
    aq_machine machine;
    aq_launch *launches;   /* kernels->of.n, in order */
    void **at;             /* by value; states by the value of their row */
    AQ_VEC(void *) blocks;
} aq_exec_cpu;

/* The nests of `kernels` by number, in the arena. */
AQ_MUST_USE aq_status aq_exec_nests(const aq_kernels *kernels, aq_arena *arena, const aq_nest ***out);

/* Code, memory filled from `in`, launches. AQ_REFUSED for a view between kernels that moves elements. Close in any case. */
AQ_MUST_USE aq_status aq_exec_cpu_open(const aq_module *m, aq_id body, const aq_kernels *kernels, const aq_ref_inputs *in, const aq_target *t, int threads,
                                       aq_arena *arena, aq_exec_cpu *out);
void aq_exec_cpu_close(aq_exec_cpu *c);

/* All launches in order. run >= 0: each notes its time as launches[i].ns[run]. Nanoseconds of all. */
int64_t aq_exec_cpu_run(aq_exec_cpu *c, int run);

/* The elements of a value of the graph, or of a state's row, after a run. */
AQ_MUST_USE aq_status aq_exec_cpu_read(const aq_exec_cpu *c, aq_id value, const double **out);

#endif
