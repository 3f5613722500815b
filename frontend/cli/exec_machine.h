/* exec_machine.h: nests as machine code in this process: emitted, loaded, launched and timed, without a plan. For `exec`.
 *
 *   aq_machine_open -> aq_launch_make (one for each nest and set of buffers) -> aq_machine_run -> aq_machine_close */
#ifndef AQ_FRONTEND_CLI_EXEC_MACHINE_H
#define AQ_FRONTEND_CLI_EXEC_MACHINE_H

#include "codegen/codegen.h"
#include "ir/plan.h"
#include "runtime/cpu/elf_load.h"
#include "runtime/team.h"

typedef struct aq_machine {
    const aq_nest *const *nests;
    uint32_t n;
    aq_elf *elf;
    aq_team *team;
    void *local;           /* of all workers */
    uint64_t local_stride;
} aq_machine;

/* One nest on one set of buffers: buf[i] for each buffer that is not LOCAL. */
typedef struct aq_launch {
    uint32_t kernel;
    void **buf;
    aq_kernel *phase;
    int64_t *items;
    int n_phases, ragged;
    int64_t sym[AQ_SYM_COUNT];
    int64_t *ns;           /* a time for each run, if asked for */
} aq_launch;

/* Emits all nests for t (AQ_MISSING where t does not run here) and loads them. threads 0: every processor. Close in any case. */
AQ_MUST_USE aq_status aq_machine_open(const aq_nest *const *nests, uint32_t n, const aq_target *t, int threads, aq_arena *arena, aq_machine *out);
void aq_machine_close(aq_machine *m);

/* bound: values of the module's symbols, by id. The buffers belong to the caller. */
AQ_MUST_USE aq_status aq_launch_make(const aq_machine *m, uint32_t kernel, void **buf, const int64_t *bound, aq_arena *arena, aq_launch *out);
/* All phases of it, by all workers; nanoseconds. */
int64_t aq_machine_run(aq_machine *m, const aq_launch *l);

#endif
