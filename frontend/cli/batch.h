/* batch.h: many answers at once: continuous batching over the sequences of a session. Every step holds the next token of each answer under way
 * and, in the room that is left, pieces of the prompts that came last; an answer that ends gives its sequence to the next prompt. What a row of a
 * step gives does not depend on the other rows (a promise of the kernels), so each answer is the one it would be alone. */
#ifndef AQ_FRONTEND_CLI_BATCH_H
#define AQ_FRONTEND_CLI_BATCH_H

#include "frontend/cli/generate.h"

typedef struct aq_job {
    aq_generation g;        /* engine and sampler are set by aq_batch_run */
    aq_rt_sampling how;
    const int32_t *prompt;  /* 1 .. context ids */
    size_t n;
    int is_left_out;        /* not to be run */
    aq_answer answer;       /* filled in; the caller's to close */
} aq_job;

typedef struct aq_batch {
    aq_engine *engine;      /* its limits say how many sequences and how many tokens a step */
    int64_t vocab;
    aq_job *jobs;
    uint32_t n_jobs;
    void (*finished)(void *user, uint32_t job); /* as they finish; may be NULL */
    void *user;
    /* filled in */
    int64_t steps, prompt_tokens, ns;
} aq_batch;

/* Interrupted is no failure: the reasons say so, also of jobs that were never begun. Allocates nothing a step but for text. */
AQ_MUST_USE aq_status aq_batch_run(aq_batch *b);

#endif
