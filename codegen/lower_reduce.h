/* lower_reduce.h: what lower_reduce.c (loops, updates) and lower_company.c (which reductions share a loop, late factors) share. */
#ifndef AQ_CODEGEN_LOWER_REDUCE_H
#define AQ_CODEGEN_LOWER_REDUCE_H

#include "codegen/lower.h"

enum { AQ_LOW_MAX_GROUP = 8, AQ_LOW_MAX_FACTORS = 8 };

typedef struct aq_low_factor { /* of a dot's operand: a value at the subscripts that the operand's own give it */
    aq_id value, index[AQ_MAX_RANK];
} aq_low_factor;

typedef struct aq_low_factors {
    aq_low_factor f[AQ_LOW_MAX_FACTORS];
    int n;
} aq_low_factors;

typedef struct aq_low_sum {
    aq_id value, index[AQ_MAX_RANK], tile;
    const aq_node *n;
} aq_low_sum;

typedef struct aq_low_group {
    aq_low_sum at[AQ_LOW_MAX_GROUP];
    int n, level;
    aq_dim extent[2 * AQ_MAX_RANK]; /* of the reduced axes */
    int n_extents;
    uint8_t is_dot, is_block;
} aq_low_group;

/* The letters of a dot that its result lacks, and their extents; returns how many. */
int aq_low_contracted(const aq_lower_state *l, const aq_node *n, char *letter, aq_dim *extent);
/* What the reduction n runs over, into g. */
void aq_low_describe(const aq_lower_state *l, const aq_node *n, aq_low_group *g);
/* Subscripts of operand i of a dot: letters of the result by `index`, the others by `axis`. */
void aq_low_dot_index(const aq_lower_state *l, const aq_node *n, int i, const aq_id *index, const char *letter, const aq_id *axis,
                      int n_axes, aq_id *out);
/* Splits operand `v` at `index` into the factors of its products that are late and the rest. */
AQ_MUST_USE aq_status aq_low_split_factors(aq_lower_state *l, aq_id v, const aq_id *index, aq_low_factors *rest, aq_low_factors *late);
AQ_MUST_USE aq_status aq_low_product(aq_lower_state *l, const aq_low_factors *f, aq_id *out);
int aq_low_any_late(const aq_lower_state *l);
/* Reductions of the root that can share the loop of g->at[0] join g. */
AQ_MUST_USE aq_status aq_low_find_company(aq_lower_state *l, aq_low_group *g);

#endif
