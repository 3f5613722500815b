/* talk.h: one conversation: what `chat` and its commands share. */
#ifndef AQ_FRONTEND_CLI_TALK_H
#define AQ_FRONTEND_CLI_TALK_H

#include "frontend/cli/generate.h"
#include "frontend/cli/prompt.h"
#include "frontend/cli/typed.h"

/* Tokens and times of one answer, or of all. */
typedef struct aq_tally {
    int64_t answers, prompt, reused, prefilled, tokens; /* prompt: tokens of the whole conversation; of them in the cache before; fed (not all if that was stopped) */
    int64_t steps;                              /* tokens behind the first of an answer: those that decode_ns is the time of */
    int64_t prefill_ns, decode_ns;
} aq_tally;

typedef struct aq_talk {
    const aq_subject *subject;
    aq_arena arena, scratch;
    aq_prompt prompt;
    aq_held held;
    aq_rt_sampler *sampler;
    aq_typed typed;
    int json;
    int64_t context, max_new;
    uint32_t told_cut; /* messages left out that were told of */
    aq_tally last, all;
    int done;
} aq_talk;

/* Answers the conversation, whose last message is the user's; the answer becomes its last message. After one that was stopped before its first
 * token, or that failed, the first `otherwise` messages stand as they were: those before the question, or, where it is answered again, all. */
AQ_MUST_USE aq_status aq_talk_answer(aq_talk *t, uint32_t otherwise);

/* A line that begins with '/'. */
AQ_MUST_USE aq_status aq_talk_obey(aq_talk *t, const char *line);

/* The messages of a file in the place of the conversation. A system message at the front becomes the system text; if_system_given 0: there must be
 * no other. */
AQ_MUST_USE aq_status aq_talk_load(aq_talk *t, const char *path, int replaces_system);

#endif
