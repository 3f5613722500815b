/* validate.h: does a pass keep what its grade promises? */
#ifndef AQ_PASSES_VALIDATE_H
#define AQ_PASSES_VALIDATE_H

#include "ir/sample.h"
#include "passes/passes.h"

/* Runs `list` (as aq_pipeline_run; NULL = all) on a copy of m pass by pass, and every graph before and after each on made-up inputs of `seed` by
 * `run`. exact: the same numbers bit for bit; round: relative L2 error at most 2e-3; approx: at most 5e-2 (integers are compared under exact
 * only). AQ_CHECK_FAILED names the pass, the graph, the value and both numbers. m is not changed; every weight must have a type. */
AQ_MUST_USE aq_status aq_validate(const aq_module *m, const aq_pass_options *o, const char *list, uint64_t seed, aq_sample_run run);

#endif
