/* engine.h: a model ready to run: what the verbs run, chat, score, bench and memory have in common. What a program outside calls stands in
 * aquila.h; here is what lies below it, for the files of frontend/. */
#ifndef AQ_FRONTEND_ENGINE_H
#define AQ_FRONTEND_ENGINE_H

#include "frontend/aquila.h"
#include "frontend/import/import.h"

const aq_checkpoint *aq_engine_checkpoint(const aq_engine *e); /* figures, tokenizer source, chat template; NULL tensors for plans without weights */
aq_rt_session *aq_engine_session(const aq_engine *e);          /* NULL on ref */
const aq_rt_plan *aq_engine_plan(const aq_engine *e);          /* NULL on ref */
aq_rt_limits aq_engine_limits_at(const aq_engine *e, int64_t context); /* those it would be opened with for another context */

/* engine_text.c: texts of an engine; made when the first is asked for. */
typedef struct aq_engine_text {
    aq_tokenizer *tokenizer; /* NULL: not made yet */
    aq_ids ids;
    aq_decoder decoder;
} aq_engine_text;
aq_engine_text *aq_engine_text_of(aq_engine *e);
void aq_engine_text_close(aq_engine_text *t);

#endif
