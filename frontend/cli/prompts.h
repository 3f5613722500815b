/* prompts.h: `aquila run --prompts-file`: many prompts from one file, answered together. */
#ifndef AQ_FRONTEND_CLI_PROMPTS_H
#define AQ_FRONTEND_CLI_PROMPTS_H

#include "frontend/cli/batch.h"
#include "frontend/cli/prompt.h"

typedef struct aq_prompts_item { /* a line that asks for an answer */
    uint64_t line;
    aq_prompt prompt;
    const char *refused; /* why; NULL: it was not */
    aq_rt_sampling how;
    int64_t max_new;
} aq_prompts_item;

typedef struct aq_prompts {
    aq_arena arena;
    AQ_VEC(aq_prompts_item) items;
    uint32_t n_refused;
    const char *place; /* of the file, for messages */
} aq_prompts;

/* prompts_read.c: every line that is not empty becomes an item. JSON lines if the first of them begins with a brace. A line that is refused says so
 * on standard error, by its number, and stays as an item. Close in any case. */
AQ_MUST_USE aq_status aq_prompts_read(const aq_subject *s, const char *path, aq_prompts *out);
void aq_prompts_close(aq_prompts *p);
/* The current aq_error is why item i is not answered: told, and remembered. */
AQ_MUST_USE aq_status aq_prompts_refuse(aq_prompts *p, uint32_t i);

/* verb_run.c: how the answer to a prompt is made, but for its engine, sampler and reader. */
aq_generation aq_run_generation(const aq_subject *s, const aq_prompt *p, int64_t max_new);

/* prompts.c: reads, answers, prints in the order of the file. AQ_REFUSED with an empty message if a line was refused. */
AQ_MUST_USE aq_status aq_prompts_run(const aq_args *args);

#endif
