/* passes.h: graph to graph. Rows in passes.def; the pipeline checks needs, runs, re-infers, verifies, counts, times and dumps. */
#ifndef AQ_PASSES_H
#define AQ_PASSES_H

#include "ir/graph.h"

/* What a pass may know besides the module: what the user asked for and what the target can do. codegen/ owns targets; passes see figures. */
typedef struct aq_pass_options {
    const char *target;                 /* for messages */
    uint8_t is_ref;                     /* ref: exact, no activation quantisation, f32 states */
    aq_dtype activations;               /* against WEIGHT blocks: AQ_A16 (default), AQ_A8, or AQ_F32 (weights are cast instead); AQ_BF16: rounded, against any weight */
    aq_dtype kv;                        /* dtype of cache states: AQ_F16 on cpu, AQ_F32 on ref */
    uint8_t panels;                     /* the target reads weights in panels (else as stored) */
    int64_t t_lo, t_hi;                 /* the range of T this graph will run for: fuse and cost decide by it */
    double read_gb_per_s, gflops, launch_ns; /* of the whole machine, for cost */
} aq_pass_options;

typedef enum aq_grade { AQ_EXACT, AQ_ROUND, AQ_APPROX } aq_grade;

typedef struct aq_pass {
    const char *name, *doc;
    const char *needs, *gives; /* words: expanded canonical quantised fused costed laid_out ordered placed */
    aq_grade grade;
    aq_status (*run)(aq_module *m, const aq_pass_options *o);
} aq_pass;
const aq_pass *aq_pass_at(int i);          /* NULL past the end */
const aq_pass *aq_pass_by_name(const char *name, size_t n);

typedef struct aq_pass_report {
    const char *name;
    uint32_t nodes_before, nodes_after;
    int64_t ns;
} aq_pass_report;

/* Runs `list` ("a,b,c"; NULL = the default pipeline of passes.def) on m. print_after: NULL or a pass name or "all": dump(user, pass, m) is
 * called then. reports: arena array of one row a pass. */
AQ_MUST_USE aq_status aq_pipeline_run(aq_module *m, const aq_pass_options *o, const char *list, const char *print_after,
                                      aq_status (*dump)(void *user, const char *pass, const aq_module *m), void *user, aq_pass_report **reports, uint32_t *n_reports);

/* Helpers of all passes (rewrite.c). */
/* Replaces uses of value `from` by `to` in body `b` (inputs of its nodes, its results). */
void aq_replace_uses(aq_module *m, aq_body *b, aq_id from, aq_id to);

/* order, buffers: where values live (used by the plan builder). */
typedef struct aq_place {
    aq_id value;
    uint8_t kind;              /* 0 arena; others are graph inputs, results, weights, states: no place needed */
    aq_dim bytes;              /* k * sym, k a multiple of 64 */
    int64_t offset;            /* a unit of its symbol */
    uint32_t first, last;      /* positions in the body's node list */
} aq_place;
typedef struct aq_places {
    aq_place *at;
    uint32_t n;
    struct { aq_id sym; int64_t bytes; } arena[8]; /* bytes a unit of each symbol that occurs */
    uint32_t n_arenas;
} aq_places;
/* The values of `body` with their lives, not placed yet; room for n_extra more (scratch of kernels) is left behind them. */
AQ_MUST_USE aq_status aq_buffers_lives(const aq_module *m, aq_id body, uint32_t n_extra, aq_arena *arena, aq_places *out);
/* Gives every place its offset. */
AQ_MUST_USE aq_status aq_buffers_pack(const aq_module *m, aq_arena *arena, aq_places *places);
/* Bytes of a value a unit of its one symbol, a multiple of 64. AQ_REFUSED if it grows with two. */
AQ_MUST_USE aq_status aq_buffers_unit(const aq_module *m, const aq_type *t, aq_dim *out);
/* The value whose storage v is: views are followed to what they view. */
aq_id aq_buffers_viewed(const aq_module *m, aq_id v);

#endif
