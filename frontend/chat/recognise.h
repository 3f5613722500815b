/* recognise.h: a checkpoint's own chat template as a row of templates.def. */
#ifndef AQ_FRONTEND_CHAT_RECOGNISE_H
#define AQ_FRONTEND_CHAT_RECOGNISE_H

#include "ir/arena.h"

/* *name: the template whose texts `jinja` renders for plain conversations, NULL if it is not known. *system: the system text that it puts
 * where the messages have none; NULL: the table's. Both live in the table or the arena. */
AQ_MUST_USE aq_status aq_chat_recognise(aq_arena *arena, const char *jinja, const char **name, const char **system);

/* The template in the one spelling that forms.def is written in (for tests and for whoever adds a row). */
AQ_MUST_USE aq_status aq_chat_spelling(aq_arena *arena, const char *jinja, const char **out);

#endif
