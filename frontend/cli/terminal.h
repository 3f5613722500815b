/* terminal.h: lines typed at a terminal: editing, history across runs, pasted text with line ends in it. */
#ifndef AQ_FRONTEND_CLI_TERMINAL_H
#define AQ_FRONTEND_CLI_TERMINAL_H

#include "ir/status.h"

typedef struct aq_terminal aq_terminal;

/* history: a file that is read now and written on close; NULL: none. A history that cannot be read is none: *out_note then says why (a message of
 * this thread), else NULL. AQ_FAILED: the terminal cannot be set up. */
AQ_MUST_USE aq_status aq_terminal_open(const char *history, const char **out_note, aq_terminal **out);

/* *text: one line without its end, valid until the next call; it may hold line ends that were pasted or recalled. NULL at the end of input
 * (Ctrl-D). AQ_INTERRUPTED: Ctrl-C, the line is dropped. */
AQ_MUST_USE aq_status aq_terminal_line(aq_terminal *t, const char *prompt, const char **text, size_t *n);

/* text becomes the newest entry of the history. */
AQ_MUST_USE aq_status aq_terminal_remember(aq_terminal *t, const char *text);

/* Writes what was remembered behind what the file holds by then (another conversation may have ended meanwhile), newest 500 entries, readable for the
 * user alone; the old file or the new one, never half. NULL is fine. */
AQ_MUST_USE aq_status aq_terminal_close(aq_terminal *t);

#endif
