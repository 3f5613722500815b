/* history.h: what was typed, across runs: a text file, an entry a line, \n for a line end inside of one and \\ for \. */
#ifndef AQ_FRONTEND_CLI_HISTORY_H
#define AQ_FRONTEND_CLI_HISTORY_H

#include "ir/arena.h"

enum { AQ_HISTORY_ENTRIES = 500, AQ_HISTORY_BYTES = 1 << 20 };

typedef struct aq_history {
    const char *path; /* the caller's; NULL: nothing is kept */
    aq_arena arena;
    AQ_VEC(const char *) added;
} aq_history;

void aq_history_open(const char *path, aq_history *out);
void aq_history_close(aq_history *h);

/* Gives every entry of the file, oldest first; a file that is not there has none. Longer than AQ_HISTORY_BYTES, or no text: AQ_REFUSED. */
AQ_MUST_USE aq_status aq_history_read(aq_history *h, aq_status (*give)(void *user, const char *text), void *user);
AQ_MUST_USE aq_status aq_history_add(aq_history *h, const char *text);

/* The newest entries of the file and of what was added since the last time, in its place; mode 0600. Nothing added: nothing is written. On failure what
 * was added waits for the next time. */
AQ_MUST_USE aq_status aq_history_write(aq_history *h);

#endif
