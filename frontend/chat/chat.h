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

typedef enum aq_chat_flag {
    AQ_CHAT_COLON = 1 << 0,             /* an open turn ends without the space of its prefix: "Assistant:" */
    AQ_CHAT_OPEN_EMPTY = 1 << 1,        /* an empty text is an open turn wherever it stands */
    AQ_CHAT_BY_POSITION = 1 << 2,       /* user_end stands behind turns 0, 2, ..., assistant_end behind 1, 3, ..., whoever speaks */
    AQ_CHAT_ALTERNATE = 1 << 3,         /* turns are the user's and the assistant's in turn; others are refused */
    AQ_CHAT_TRIM_USER = 1 << 4,         /* no white space at the ends of texts of that role */
    AQ_CHAT_TRIM_ASSISTANT = 1 << 5,
    AQ_CHAT_TRIM_SYSTEM = 1 << 6,
    AQ_CHAT_TRIM_ALL = AQ_CHAT_TRIM_USER | AQ_CHAT_TRIM_ASSISTANT | AQ_CHAT_TRIM_SYSTEM,
    AQ_CHAT_NO_SYSTEM = 1 << 7,         /* there is no place for a system text */
    AQ_CHAT_SYSTEM_FIRST = 1 << 8,      /* it stands inside the user's first turn, behind its prefix */
    AQ_CHAT_SYSTEM_LAST = 1 << 9,       /* inside the last message, if that is the user's */
    AQ_CHAT_SYSTEM_ANYWHERE = 1 << 10,  /* system messages may stand between turns too */
    AQ_CHAT_SYSTEM_ALWAYS = 1 << 11,    /* what is around it is there without it as well */
    AQ_CHAT_SKIP_EMPTY_SYSTEM = 1 << 12, /* an empty system message is none */
    AQ_CHAT_AFTER_THINK = 1 << 13,      /* of an answer only what is behind its last "</think>" */
    AQ_CHAT_SYSTEM_INSTEAD = 1 << 14,   /* its own system text only where no message is the system's, wherever that stands */
    AQ_CHAT_BARE_LAST = 1 << 15,        /* no line end behind an answer that is the last message */
} aq_chat_flag;

typedef struct aq_chat_template {
    const char *name;
    uint32_t flags;
    const char *start;                     /* before everything */
    const char *system;                    /* its own system text; "" is none */
    const char *system_start, *system_end; /* around a system text */
    const char *user, *user_end;           /* around a text of that role */
    const char *assistant, *assistant_end;
    const char *open;                      /* the answer's turn before its text; NULL: assistant, see AQ_CHAT_COLON */
    const char *instruction;               /* before an instruction; NULL: there is no place for one */
    const char *stops[AQ_CHAT_STOPS];      /* texts at which an answer ends; NULL-padded */
} aq_chat_template;

/* Row i of templates.def, NULL past the last; and the row of that name, NULL if there is none. In rows "\1" and "\2" stand for the texts of
 * the model's bos and eos: aq_chat_template_open puts them in. */
const aq_chat_template *aq_chat_template_at(uint32_t i);
const aq_chat_template *aq_chat_template_find(const char *name);

typedef struct aq_chat_choice {
    const char *wanted;    /* a name; NULL or "auto": see below */
    const char *known;     /* the template that belongs to the model's name; NULL: the name is not known */
    const char *jinja;     /* the chat template in the checkpoint; NULL: none */
    const char *place;     /* its file, for messages */
    const char *bos, *eos; /* texts of these tokens; NULL: none */
} aq_chat_choice;

/* auto: the template that `jinja` is, else `known`, else "none". Strings of *out live in the table or in `arena`. AQ_USAGE: no such template.
 * AQ_REFUSED: jinja is no template that is known, and the model's name is not known either. */
AQ_MUST_USE aq_status aq_chat_template_open(aq_arena *arena, const aq_chat_choice *choice, aq_chat_template *out);

typedef enum aq_chat_role { AQ_CHAT_SYSTEM, AQ_CHAT_USER, AQ_CHAT_ASSISTANT } aq_chat_role;

typedef struct aq_chat_message {
    aq_chat_role role;
    aq_bytes text;
} aq_chat_message;
typedef AQ_VEC(aq_chat_message) aq_chat_messages;

typedef struct aq_chat_request {
    const aq_chat_template *template;
    const char *system;      /* NULL: the template's own; "": none */
    const char *instruction; /* NULL or "": none */
    const aq_chat_message *messages;
    uint32_t n_messages;
    const char *after;       /* behind everything, as part of the template; NULL: nothing */
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
 * AQ_USAGE: an instruction or a system text that the template has no place for. AQ_REFUSED: messages that it has no place for. */
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
