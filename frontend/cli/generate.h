/* generate.h: one answer: prefill, then a token at a time, streamed, until a stop id, a stop text, the limit, or Ctrl-C. */
#ifndef AQ_FRONTEND_CLI_GENERATE_H
#define AQ_FRONTEND_CLI_GENERATE_H

#include "frontend/engine.h"
#include "frontend/tokenizer/tokenizer.h"

typedef struct aq_generation {
    aq_engine *engine;
    const aq_tokenizer *tokenizer; /* NULL: ids only, no text */
    aq_rt_sampler *sampler;
    const int32_t *stop_ids;
    uint32_t n_stop_ids;
    const aq_bytes *stops;
    uint32_t n_stops;
    int64_t max_new;
    int drop_space;               /* templates that end in "Assistant:" get " answer" */
    int (*emit)(void *user, aq_bytes text); /* text as it becomes certain; not 0 = nobody reads on: stop; may be NULL */
    void *user;
} aq_generation;

typedef enum aq_stop_reason { AQ_STOP_EOS, AQ_STOP_STOP, AQ_STOP_LENGTH, AQ_STOP_INTERRUPTED } aq_stop_reason;
const char *aq_stop_reason_name(aq_stop_reason r); /* "eos" "stop" "length" "interrupted" */

typedef struct aq_answer {
    aq_ids tokens;                /* without the stop id */
    double *logprobs;             /* of each of them, under the model */
    char *text;
    size_t n_text, text_room;
    aq_stop_reason reason;
    int64_t prefilled;            /* tokens that had to be fed, not found in the cache */
    int64_t prefill_ns, decode_ns; /* decode: everything after the first token */
    int64_t first_token_ns;       /* clock at which the first token was known; 0 if there is none */
} aq_answer;

/* What sequence 0 of a session holds, so that the next turn feeds only what is new. Start with {0}. */
typedef struct aq_held {
    aq_ids ids;
} aq_held;

/* Continues prompt[0..n) on sequence 0; `held` says what the cache holds and is brought up to date. AQ_REFUSED if the prompt does not fit
 * the context. Interrupted is no failure: the reason says so. Allocates nothing per token. Close *out in any case. */
AQ_MUST_USE aq_status aq_generate(const aq_generation *g, const int32_t *prompt, size_t n, aq_held *held, aq_answer *out);
void aq_answer_close(aq_answer *a);

#endif
