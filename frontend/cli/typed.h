/* typed.h: what a person says, message by message, from a terminal or a pipe.
 *
 * A message is a line. One that ends in a single backslash goes on in the next; one that begins with """ goes on up to a line that ends in
 * """. Line ends inside of pasted text belong to the message (terminal.h). What is open at the end of input is a message too. */
#ifndef AQ_FRONTEND_CLI_TYPED_H
#define AQ_FRONTEND_CLI_TYPED_H

#include "frontend/cli/lines.h"
#include "frontend/cli/terminal.h"

/* Puts lines together. Start with {0}. */
typedef struct aq_joiner {
    char *text; /* the message so far, with a NUL behind it */
    size_t n, room;
    int is_open, is_block, has_lines;
} aq_joiner;

/* Takes one line without its end; *out_done: j->text[0..j->n) is a message now, until the next call. */
AQ_MUST_USE aq_status aq_joiner_take(aq_joiner *j, const char *line, size_t n, int *out_done);
void aq_joiner_drop(aq_joiner *j); /* what is open is forgotten */
void aq_joiner_close(aq_joiner *j);

typedef struct aq_typed {
    aq_terminal *terminal; /* NULL: a pipe */
    aq_lines lines;
    aq_joiner joiner;
} aq_typed;

/* terminal: editing, with that history (NULL: none), else standard input as it comes. */
AQ_MUST_USE aq_status aq_typed_open(int terminal, const char *history, const char **out_note, aq_typed *out);

/* The next message, not empty, writable and with a NUL behind it, valid until the next call; NULL at the end. AQ_INTERRUPTED: Ctrl-C at a terminal's
 * prompt (what was typed of a message is dropped), or anywhere in a pipe. */
AQ_MUST_USE aq_status aq_typed_next(aq_typed *t, char **text, size_t *n);

/* The status of writing the history. Fine on {0}. */
AQ_MUST_USE aq_status aq_typed_close(aq_typed *t);

#endif
