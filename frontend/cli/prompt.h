/* prompt.h: what a command line and a conversation say, as the ids that are fed. */
#ifndef AQ_FRONTEND_CLI_PROMPT_H
#define AQ_FRONTEND_CLI_PROMPT_H

#include "frontend/chat/chat.h"
#include "frontend/cli/subject.h"

typedef struct aq_prompt {
    aq_arena *arena;
    aq_chat_template template;
    aq_chat_messages messages;
    const char *system, *instruction;
    int drop_space;      /* an answer's first character, if it is a space, belongs to the template */
    const char *after;   /* a space behind the prompt, as Aquila2's predict has it; or NULL */
    aq_ids ids;
    aq_bytes text; /* the model's input as people read it; s NULL if only ids were given */
    int32_t stop_ids[AQ_CHAT_STOPS + 2 + AQ_MOST_ENDS];
    uint32_t n_stop_ids, n_stops;
    const char *place;   /* the file that the messages came from, or NULL */
    uint32_t cut;        /* messages that the last encoding left out */
    uint32_t first;      /* where the history begins that still fits; 0 after messages were taken away */
    int keep_room;       /* a conversation: leave out more at once than needed, so that the next turns find theirs in the cache */
    aq_arena *scratch;   /* of one encoding (text); NULL: arena */
    aq_bytes *stops;
} aq_prompt;

/* Template, system text, instruction and stops from the options and the model; no message yet. */
AQ_MUST_USE aq_status aq_prompt_open(const aq_subject *s, aq_arena *arena, aq_prompt *out);
/* The message of `run`: PROMPT, --prompt-file, --messages, --prompt-ids or what is piped in; exactly one of them. Ends encoded. */
AQ_MUST_USE aq_status aq_prompt_read(const aq_subject *s, aq_prompt *p);
/* Renders the messages and encodes them into ids (cleared first); the oldest turns go until budget ids are enough (0: no limit). p->cut says how
 * many messages were left out. */
AQ_MUST_USE aq_status aq_prompt_encode(const aq_subject *s, aq_prompt *p, size_t budget);
/* The messages of a JSON file (- is standard input) in the place of those that were there. */
AQ_MUST_USE aq_status aq_prompt_load(aq_prompt *p, const char *path);
AQ_MUST_USE aq_status aq_prompt_add(aq_prompt *p, aq_chat_role role, const char *text, size_t n);
void aq_prompt_close(aq_prompt *p);

#endif
