/* chat.h: a conversation as the text that a model was trained to continue.
 *
 * Order of calls: aq_chat_template_open picks a template, aq_chat_fit says which messages fit a budget of tokens, aq_chat_render makes
 * the text in parts, aq_chat_encode its ids; stop.h then watches what the model answers.
 * Text that a user typed never becomes a control token: only the template's own parts are searched for the texts of added tokens. The
 * parts are still tokenised as one text, so the ids are those of the joined text. */
#ifndef AQ_FRONTEND_CHAT_H
#define AQ_FRONTEND_CHAT_H

#include "frontend/tokenizer/tokenizer.h"

enum { AQ_CHAT_STOPS = 4 };

typedef struct aq_chat_template {
    const char *name;
    const char *system;                    /* its own system text; "" is none */
    const char *system_start, *system_end; /* around a system text */
    const char *user, *assistant;          /* before a text of that role */
    const char *end_even, *end_odd;        /* after turn 0, 2, ... and 1, 3, ...: by position, not by role */
    int is_colon;      /* an open turn ends without the space of its prefix: "Assistant:" */
    int is_open_empty; /* an empty text is an open turn wherever it stands */
    const char *instruction;           /* before an instruction; NULL: there is no place for one */
    const char *stops[AQ_CHAT_STOPS];  /* texts at which an answer ends; NULL-padded */
} aq_chat_template;

/* Row i of templates.def, NULL past the last; and the row of that name, NULL if there is none. */
const aq_chat_template *aq_chat_template_at(uint32_t i);
const aq_chat_template *aq_chat_template_find(const char *name);

/* wanted: a name, or "auto" (NULL likewise): chatml if `jinja`, the chat template in the checkpoint (NULL if none), holds
 * "<|im_start|>", else by the model's name, else none. A chatml template takes its system text from jinja where that states one.
 * Strings of *out live in the table or in `arena`. AQ_USAGE: no such template. */
AQ_MUST_USE aq_status aq_chat_template_open(aq_arena *arena, const char *wanted, const char *model_name, const char *jinja,
                                            aq_chat_template *out);

typedef enum aq_chat_role { AQ_CHAT_SYSTEM, AQ_CHAT_USER, AQ_CHAT_ASSISTANT } aq_chat_role;

typedef struct aq_chat_message {
    aq_chat_role role;
    aq_bytes text;
} aq_chat_message;

typedef struct aq_chat_request {
    const aq_chat_template *template;
    const char *system;      /* NULL: the template's own; "": none */
    const char *instruction; /* NULL: none */
    const aq_chat_message *messages;
    uint32_t n_messages;
} aq_chat_request;

/* "system", "user", "assistant" (and "human", "gpt" as in training data) to *out; 0 if it is none of them. */
int aq_chat_role_read(const char *name, aq_chat_role *out);

typedef struct aq_chat_part {
    aq_bytes text;
    int is_template; /* texts of added tokens count in it */
} aq_chat_part;

typedef struct aq_chat_text {
    AQ_VEC(aq_chat_part) parts;
} aq_chat_text;

/* The text that the model goes on from: system text, instruction, turns, and an open assistant turn unless the last message is one
 * already (an assistant's empty text). Strings of the request are not copied. Template "none": the one message as it is.
 * AQ_USAGE: an instruction or a system text that the template has no place for, "none" with several messages. */
AQ_MUST_USE aq_status aq_chat_render(aq_arena *arena, const aq_chat_request *request, aq_chat_text *out);

/* All parts in one string, for people to read. */
AQ_MUST_USE aq_status aq_chat_join(aq_arena *arena, const aq_chat_text *text, aq_bytes *out);

/* Appends the ids; bos first if the tokenizer's own encoder would add it and the text does not begin with it. */
AQ_MUST_USE aq_status aq_chat_encode(const aq_tokenizer *t, const aq_chat_text *text, aq_ids *ids);

/* Drops the oldest turns until the text takes at most `budget` ids: messages [*out_first, n) stay, and a system message at the front
 * stays too (the caller keeps it). History begins with a user's turn. AQ_REFUSED if the last user turn alone does not fit. */
AQ_MUST_USE aq_status aq_chat_fit(const aq_tokenizer *t, const aq_chat_request *request, size_t budget, uint32_t *out_first);
/* The request with what aq_chat_fit dropped left out; messages in the arena. */
AQ_MUST_USE aq_status aq_chat_cut(aq_arena *arena, const aq_chat_request *request, uint32_t first, aq_chat_request *out);

/* Ids that end an answer: eos, unk where it is a control token (Aquila stops at sep or unk), and stops that are one token. Returns how
 * many were written to out (room for AQ_CHAT_STOPS + 2). */
uint32_t aq_chat_stop_ids(const aq_chat_template *template, const aq_tokenizer *t, int32_t *out);

#endif
