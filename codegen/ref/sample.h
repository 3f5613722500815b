/* sample.h: a graph on made-up inputs. */
#ifndef AQ_CODEGEN_REF_SAMPLE_H
#define AQ_CODEGEN_REF_SAMPLE_H

#include "codegen/ref/ref.h"
#include "ir/sample.h"

/* ir/sample.h says what; on ref, one thread. Weights without a type count as f32. */
AQ_MUST_USE aq_status aq_ref_sample(const aq_module *m, uint32_t graph, uint64_t seed, aq_arena *arena, aq_samples *out);

/* The pieces, for callers that run something else on the same inputs: sizes of the symbols (by id), a batch that fits them, the weights as stored
 * bytes, the states and the graph's inputs as values. All in `arena`. */
typedef struct aq_ref_inputs {
    int64_t *sym;
    aq_ref_batch batch;
    aq_ref_tensor *weights, *states, *in;
} aq_ref_inputs;
AQ_MUST_USE aq_status aq_ref_make_inputs(const aq_module *m, aq_id body, uint64_t seed, aq_arena *arena, aq_ref_inputs *out);

#endif
