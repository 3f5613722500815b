/* scan.h: the passes over all logits that sampling needs, in the widest vectors of this processor. The results do not depend on the width.
 * For sample.c only. */
#ifndef AQ_RUNTIME_SCAN_H
#define AQ_RUNTIME_SCAN_H

#include <stdint.h>

typedef struct aq_candidate {
    float logit;
    int32_t id;
} aq_candidate;

typedef struct aq_scan {
    /* The largest of n; -inf if there is none but NaN. */
    float (*largest)(const float *x, int64_t n);
    /* The lowest index of `value`; 0 if there is none. */
    int64_t (*find)(const float *x, int64_t n, float value);
    /* The sum of exp((x - max) * scale), max finite and the largest; each term into weight too unless that is NULL. NaN and what is below
     * exp(-700) count as 1e-304: nothing beside the 1 of the largest. */
    double (*sum_exp)(const float *x, int64_t n, float max, double scale, double *weight);
    /* The k-th largest of n, 1 <= k <= n; NaN is -inf. heap: room for k. */
    float (*kth_largest)(const float *x, int64_t n, int64_t k, float *heap);
    /* All that are >= least, in order of index; how many. */
    int64_t (*gather)(const float *x, int64_t n, float least, aq_candidate *out);
} aq_scan;

/* The widest that this processor has; or by width, 0 to 2, NULL where it lacks it: for tests. */
const aq_scan *aq_scan_here(void);
const aq_scan *aq_scan_of(int width);

#endif
