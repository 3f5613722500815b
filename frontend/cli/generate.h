/* generate.h: answers: a token at a time, streamed, until a stop id, a stop text, the limit, or Ctrl-C.
 *
 * One answer behind what a session holds (chat, run): aq_generate. Many answers whose sequences share every step: batch.h, by the writer below. */
#ifndef AQ_FRONTEND_CLI_GENERATE_H
#define AQ_FRONTEND_CLI_GENERATE_H

#include "frontend/chat/stop.h"
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
    int64_t no_numbers;           /* tokens, the stop id too, whose log-probability is none: drawn from NaN or infinities */
    int64_t reused, prefilled;    /* of the prompt: tokens found in the cache, tokens fed */
    int64_t prefill_ns, decode_ns; /* decode: everything after the first token */
    int64_t first_token_ns;       /* clock at which the first token was known; 0 if there is none */
} aq_answer;

/* An answer under way: what comes between the logits of its last token and the next token to feed. Allocates nothing a token but for text. */
typedef struct aq_writer {
    const aq_generation *g;
    aq_answer *answer;
    aq_decoder decoder;
    aq_stop_matcher matcher;
    int64_t room;      /* tokens it may have */
    int done;          /* answer->reason says why */
} aq_writer;

/* Of the prompt's n tokens and at most `positions` with the answer: neither more than g->max_new new ones nor beyond that. Close in any case, and
 * before that *answer, which it fills and which is the caller's to close. */
AQ_MUST_USE aq_status aq_writer_open(const aq_generation *g, int64_t n, int64_t positions, aq_answer *answer, aq_writer *out);
/* The next token by its logits: *out_id is to be fed unless w->done. AQ_INTERRUPTED: nobody reads on. */
AQ_MUST_USE aq_status aq_writer_take(aq_writer *w, const float *logits, int32_t *out_id);
/* The answer is over, or the world stopped it with `status`: the text that was held back; returns what is left of the status. */
AQ_MUST_USE aq_status aq_writer_finish(aq_writer *w, aq_status status);
void aq_writer_close(aq_writer *w);

/* What sequence 0 of a session holds, so that the next turn feeds only what is new. Start with {0}. */
typedef struct aq_held {
    aq_ids ids;
} aq_held;

/* Continues prompt[0..n) on sequence 0; `held` says what the cache holds and is brought up to date. AQ_REFUSED if the prompt does not fit
 * the context. Interrupted is no failure: the reason says so. Allocates nothing per token. Close *out in any case. */
AQ_MUST_USE aq_status aq_generate(const aq_generation *g, const int32_t *prompt, size_t n, aq_held *held, aq_answer *out);
void aq_answer_close(aq_answer *a);

#endif
