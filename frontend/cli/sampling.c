/* sampling.c: see sampling.h. */
#include "frontend/cli/sampling.h"

#include "frontend/cli/common.h"
#include "frontend/cli/switches.h"
#include "frontend/cli/values.h"
#include "ir/random.h"

#include <inttypes.h>

static aq_status find_seed(const aq_args *a, uint64_t *out) {
    const char *text = aq_switch(AQ_SWITCH_AQ_SEED);
    if (aq_arg_given(a, AQ_OPT_SEED)) {
        *out = (uint64_t)aq_arg_number(a, AQ_OPT_SEED);
    } else if (text) {
        aq_arena arena = {0};
        aq_option_value value = {0};
        AQ_TRY(aq_value_set(&arena, aq_option_of(AQ_OPT_SEED), text, &value));
        *out = (uint64_t)value.number;
    } else {
        *out = aq_random_system_seed() & 0x1fffffffffffff;
        aq_say(a, 1, "seed %" PRIu64, *out);
    }
    return AQ_OK;
}

aq_status aq_sampler_of(const aq_args *a, int64_t vocab, aq_rt_sampler **out) {
    aq_rt_sampling how = {.temperature = a->at[AQ_OPT_TEMPERATURE].real,
                          .top_p = a->at[AQ_OPT_TOP_P].real,
                          .top_k = aq_arg_number(a, AQ_OPT_TOP_K),
                          .order = (int)aq_arg_number(a, AQ_OPT_SAMPLING)};
    if (how.temperature > 0)
        AQ_TRY(find_seed(a, &how.seed));
    return aq_rt_sampler_open(&how, vocab, out);
}
