/* internal.h: what the files of the runtime share: the opened plan, the bound weights, the session and its layout in memory.
 *
 *   plan.c load, check, resolve functions    weights.c, cache_file.c bind, pack    memory.c how large, and where everything lies
 *   kv.c pages and the arrays of a batch     session.c open, feed, step            exec.c walk the steps */
#ifndef AQ_RUNTIME_INTERNAL_H
#define AQ_RUNTIME_INTERNAL_H

#include "ir/file.h"
#include "ir/plan.h"
#include "runtime/aquila_rt.h"
#include "runtime/cpu/elf_load.h"
#include "runtime/kv.h"
#include "runtime/team.h"

struct aq_rt_plan {
    aq_plan tables;
    aq_file file;     /* empty if the caller owns the bytes */
    aq_elf *code;
    aq_kernel *kernel; /* one a phase of the plan */
    const aq_plan_graph *step; /* the graph that sessions run; NULL: none of that name */
    char *name;       /* for messages */
};

/* As aq_rt_plan_from_memory, with the functions from `lookup` instead of the plan's object, and any target: tests run kernels written in C
 * under the sanitizers this way. */
typedef aq_kernel (*aq_rt_lookup)(void *user, const char *symbol);
AQ_MUST_USE aq_status aq_rt_plan_from_functions(const char *name, const void *bytes, size_t size, aq_rt_lookup lookup, void *user, aq_rt_plan **out);

/* A block of memory being divided: with base NULL it only counts, so that the same walk says how much and where. Parts are aligned to 64. */
typedef struct aq_carver {
    unsigned char *base;
    size_t used;
    int overflow;
} aq_carver;
void *aq_carve(aq_carver *c, int64_t count, int64_t size);

/* A plan's step, ready to run. */
typedef struct aq_rt_exec {
    const aq_plan_step *step;
    void **arg;
    int64_t *count;  /* items of each phase for the symbols of `sym`; of a copy or fill: bytes */
} aq_rt_exec;

typedef struct aq_rt_variant {
    const aq_plan_variant *plan;
    aq_rt_exec *steps;
    int64_t bound[AQ_SYM_COUNT];  /* what its buffers are sized by */
    int64_t counted[AQ_SYM_COUNT]; /* the symbols that the counts were made for; [0] = 0: not yet */
} aq_rt_variant;

typedef struct aq_rt_clocked { /* of one step of the plan, since the last feed or step began */
    int64_t ns;
    uint32_t count, reserved;
} aq_rt_clocked;

struct aq_rt_session {
    const aq_rt_plan *plan;
    const aq_rt_weights *weights;
    aq_rt_limits limits;
    aq_rt_memory memory;
    int64_t bound[AQ_SYM_COUNT];
    int64_t sym[AQ_SYM_COUNT]; /* of the step that runs */
    /* the blocks; sizes in `memory`, team in `team_bytes` of tables */
    void *cache, *activations, *local;
    aq_team *team;
    size_t local_stride;
    /* parts of them */
    aq_rt_variant *variants; /* those a batch of limits.batch can meet */
    uint32_t n_variants;
    aq_kv kv;
    int32_t *tok, *want;
    void **input, **output, **state; /* by index in the graph, of the plan */
    aq_run *runs;                    /* one a sequence of a step */
    aq_rt_clocked *clocked;          /* one a step of the plan */
    int tracing;
    const aq_rt_variant *now;
    int stopped;           /* the run that just ended stopped early */
    atomic_int interrupted;
};

/* memory.c: fills in plan, limits, bounds, sizes and, where the blocks (s->cache, s->activations, s->local, tables->base) are not NULL, every
 * pointer of the session. AQ_REFUSED names the limit that the plan does not offer. */
AQ_MUST_USE aq_status aq_rt_session_lay_out(aq_rt_session *s, const aq_rt_plan *p, const aq_rt_limits *limits, aq_carver *tables);
/* Bytes of a variant's buffers for these bounds; the arena of symbol i starts at start[i]. */
AQ_MUST_USE aq_status aq_rt_arenas(const aq_plan_variant *v, const int64_t *bound, size_t *start, size_t *out);

/* exec.c: resolves the arguments of every variant, once; runs the variant of the symbols in s->sym. AQ_INTERRUPTED: stopped between two
 * phases. */
void aq_rt_exec_resolve(aq_rt_session *s);
AQ_MUST_USE aq_status aq_rt_exec_run(aq_rt_session *s);

/* weights.c: where weight i of the plan lies. */
void *aq_rt_weight_at(const aq_rt_weights *w, uint32_t i);
/* The hash of the plan that the binding was made for. */
uint64_t aq_rt_weights_plan(const aq_rt_weights *w);

#endif
