/* sampling.h: the options of sampling as a sampler. */
#ifndef AQ_FRONTEND_CLI_SAMPLING_H
#define AQ_FRONTEND_CLI_SAMPLING_H

#include "frontend/cli/options.h"
#include "runtime/aquila_rt.h"

/* --temperature --top-k --top-p --sampling --seed; the seed from AQ_SEED, else drawn from the system (and told with -v). With --sampling aquila2
 * what is not given is that function's: 0.9, 15, 1.0, seed 123. */
AQ_MUST_USE aq_status aq_sampling_of(const aq_args *args, aq_rt_sampling *out);
/* That as a sampler. Close with aq_rt_sampler_close. */
AQ_MUST_USE aq_status aq_sampler_of(const aq_args *args, int64_t vocab, aq_rt_sampler **out);
/* -n, or the number that goes with the sampling: 128, aquila2 200. */
int64_t aq_max_new_of(const aq_args *args);

#endif
