/* sampling.c: see sampling.h. */
#include "frontend/cli/sampling.h"

#include "frontend/cli/common.h"
#include "frontend/cli/switches.h"
#include "frontend/cli/values.h"
#include "ir/random.h"

#include <inttypes.h>

static int is_aquila2(const aq_args *a) {
    return aq_arg_number(a, AQ_OPT_SAMPLING) == 1;
}

static aq_status find_seed(const aq_args *a, uint64_t *out) {
    const char *text = aq_switch(AQ_SWITCH_AQ_SEED);
    if (aq_arg_given(a, AQ_OPT_SEED)) {
        *out = (uint64_t)aq_arg_number(a, AQ_OPT_SEED);
    } else if (text) {
        aq_arena arena = {0};
        aq_option_value value = {0};
        AQ_TRY(aq_value_set(&arena, aq_option_of(AQ_OPT_SEED), text, &value));
        *out = (uint64_t)value.number;
    } else if (is_aquila2(a)) {
        *out = 123;
    } else {
        *out = aq_random_system_seed() & 0x1fffffffffffff;
        aq_say(a, 1, "seed %" PRIu64, *out);
    }
    return AQ_OK;
}

aq_status aq_sampling_of(const aq_args *a, aq_rt_sampling *out) {
    *out = (aq_rt_sampling){.temperature = a->at[AQ_OPT_TEMPERATURE].real,
                            .top_p = a->at[AQ_OPT_TOP_P].real,
                            .top_k = aq_arg_number(a, AQ_OPT_TOP_K),
                            .order = (int)aq_arg_number(a, AQ_OPT_SAMPLING)};
    if (is_aquila2(a)) {
        out->temperature = aq_arg_given(a, AQ_OPT_TEMPERATURE) ? out->temperature : 1;
        out->top_p = aq_arg_given(a, AQ_OPT_TOP_P) ? out->top_p : 0.9;
        out->top_k = aq_arg_given(a, AQ_OPT_TOP_K) ? out->top_k : 15;
    }
    return out->temperature > 0 ? find_seed(a, &out->seed) : AQ_OK;
}

aq_status aq_sampler_of(const aq_args *a, int64_t vocab, aq_rt_sampler **out) {
    aq_rt_sampling how;
    AQ_TRY(aq_sampling_of(a, &how));
    return aq_rt_sampler_open(&how, vocab, out);
}

int64_t aq_max_new_of(const aq_args *a) {
    return is_aquila2(a) && !aq_arg_given(a, AQ_OPT_MAX_NEW) ? 200 : aq_arg_number(a, AQ_OPT_MAX_NEW);
}
