/* sample.h: what one run of a graph on made-up inputs gave, by name: the common word of passes (which compare) and interpreters (which run). */
#ifndef AQ_IR_SAMPLE_H
#define AQ_IR_SAMPLE_H

#include "ir/graph.h"

typedef struct aq_sample {
    const char *name; /* "0", "1", .. of the results; "$k.3" of the states afterwards */
    uint8_t is_int;
    int64_t n;
    const double *values;
} aq_sample;
typedef struct aq_samples {
    aq_sample *at;
    uint32_t n;
} aq_samples;

/* Runs graph number `graph` of m on weights, states, inputs and a batch made from `seed` and their names, at toy sizes of the free symbols (within
 * their bounds): the same for two modules that declare the same things. Results in `arena`. codegen/ref has one: aq_ref_sample. */
typedef aq_status (*aq_sample_run)(const aq_module *m, uint32_t graph, uint64_t seed, aq_arena *arena, aq_samples *out);

#endif
