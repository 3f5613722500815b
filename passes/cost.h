/* cost.h: what the cost model says of one kernel, at one size of the free symbols. */
#ifndef AQ_PASSES_COST_H
#define AQ_PASSES_COST_H

#include "passes/passes.h"

typedef struct aq_cost {
    int64_t T;              /* tokens it was computed for */
    double bytes;           /* read and written by the kernel */
    double bytes_unfused;   /* the same work, one kernel an op */
    double flops;           /* a multiply and an add are two */
    double ns;              /* roofline: max(bytes / bandwidth, flops / peak) + launch */
    uint32_t ops;           /* nodes of the region that compute */
    uint8_t memory_bound;
} aq_cost;

/* Costs one node (fused or not) for these values of the symbols. */
AQ_MUST_USE aq_status aq_cost_node(const aq_module *m, const aq_node *n, const aq_pass_options *o, const int64_t *bound, aq_cost *out);
/* The sizes that --explain and the cost pass use: T = t_hi (at most 512), O = 1, B = 1, S = 1024, P = 16; others their lowest. In `arena`. */
AQ_MUST_USE aq_status aq_cost_sizes(const aq_module *m, const aq_pass_options *o, aq_arena *arena, int64_t **out_bound);

#endif
