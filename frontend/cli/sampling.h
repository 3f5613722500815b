/* sampling.h: the options of sampling as a sampler. */
#ifndef AQ_FRONTEND_CLI_SAMPLING_H
#define AQ_FRONTEND_CLI_SAMPLING_H

#include "frontend/cli/options.h"
#include "runtime/aquila_rt.h"

/* --temperature --top-k --top-p --sampling --seed; the seed from AQ_SEED, else drawn from the system (and told with -v). Close with
 * aq_rt_sampler_close. */
AQ_MUST_USE aq_status aq_sampler_of(const aq_args *args, int64_t vocab, aq_rt_sampler **out);

#endif
