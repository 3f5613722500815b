/* engine_ref.h: the engine's other half: a model run by the interpreter (target ref). Weights are read as stored, in place; the cache is f64. */
#ifndef AQ_FRONTEND_ENGINE_REF_H
#define AQ_FRONTEND_ENGINE_REF_H

#include "frontend/compile.h"

typedef struct aq_engine_ref aq_engine_ref;

AQ_MUST_USE aq_status aq_engine_ref_open(const aq_checkpoint *c, const aq_compile_options *o, int64_t context, int64_t sequences, int threads,
                                         aq_engine_ref **out);
void aq_engine_ref_close(aq_engine_ref *r);
/* As aq_rt_step: the tokens of one sequence together; want may be NULL. Logits [wanted rows, V] as f32, valid until the next call. */
AQ_MUST_USE aq_status aq_engine_ref_step(aq_engine_ref *r, const int32_t *tokens, const int64_t *seq, const uint8_t *want, int64_t n, const float **out_logits);
/* As aq_rt_feed, in one step. */
AQ_MUST_USE aq_status aq_engine_ref_feed(aq_engine_ref *r, int64_t seq, const int32_t *tokens, int64_t n, int64_t n_want, const float **out_logits);
int64_t aq_engine_ref_length(const aq_engine_ref *r, int64_t seq);
AQ_MUST_USE aq_status aq_engine_ref_truncate(aq_engine_ref *r, int64_t seq, int64_t length);

#endif
