/* plan.c: the two formulas that everything sized by a symbol goes through. */
#include "ir/plan.h"

int64_t aq_size_eval(aq_size s, const int64_t *bound) {
    int64_t r;
    if (s.sym == AQ_SYM_NONE)
        return s.k;
    return __builtin_mul_overflow(s.k, bound[s.sym], &r) ? INT64_MAX : r;
}

int64_t aq_plan_grid_count(const aq_plan_grid *g, const int64_t *bound) {
    int64_t count = 1;
    for (uint32_t i = 0; i < g->n; i++) {
        int64_t extent = aq_size_eval(g->extent[i], bound);
        int64_t turns = extent / g->step[i] + (extent % g->step[i] != 0);
        if (__builtin_mul_overflow(count, turns, &count))
            return INT64_MAX;
    }
    return count;
}
