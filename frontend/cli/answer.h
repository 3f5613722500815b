/* answer.h: an answer for people and as JSON: what `run` says of one answer and of each of many. */
#ifndef AQ_FRONTEND_CLI_ANSWER_H
#define AQ_FRONTEND_CLI_ANSWER_H

#include "frontend/cli/generate.h"
#include "frontend/cli/json.h"
#include "frontend/cli/prompt.h"

/* "text", "tokens", "logprobs", "prompt_tokens", "model_input", "stop_reason" into the object. */
void aq_answer_json(cJSON *object, const aq_subject *s, const aq_prompt *p, const aq_answer *a);
/* "load_ms" and "compile_ms" into the object. */
void aq_timings_json(cJSON *object, const aq_subject *s);
/* {"peak_bytes", "weights_bytes", "plan_bytes"}. */
cJSON *aq_memory_json(const aq_subject *s);

/* Without a tokenizer an answer is its ids. */
void aq_answer_print_ids(const aq_answer *a);

/* On standard error, where tokens were drawn from no numbers. */
void aq_answer_doubt(const aq_args *args, int64_t no_numbers);

/* n tokens in ns, a second; 0 where there was no time. */
double aq_rate(int64_t n, int64_t ns);

#endif
