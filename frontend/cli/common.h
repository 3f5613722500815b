/* common.h: what every verb needs of the program around it: saying things, being interrupted, writing to standard output. */
#ifndef AQ_FRONTEND_CLI_COMMON_H
#define AQ_FRONTEND_CLI_COMMON_H

#include "frontend/cli/options.h"

#include <stdio.h>

/* The text of an option, or NULL; was a flag given; its number. */
static inline const char *aq_arg_text(const aq_args *a, aq_option_id id) { return a->at[id].text; }
static inline int aq_arg_given(const aq_args *a, aq_option_id id) { return a->at[id].n > 0; }
static inline int64_t aq_arg_number(const aq_args *a, aq_option_id id) { return a->at[id].number; }

/* A line on standard error: level 0 unless -q, 1 with -v, 2 with -vv. */
void aq_say(const aq_args *a, int level, const char *format, ...) AQ_PRINTF(3, 4);

/* "aquila: error: MESSAGE" (the current aq_error) on standard error, with the detail lines where verbose. Returns the exit status. */
int aq_report(aq_status status, int verbose);

/* Is `stream` a terminal that obeys control sequences: not a dumb one? And may it carry colours: is NO_COLOR not set? */
int aq_obeys(FILE *stream);
int aq_colours(FILE *stream);

/* SIGINT ends the program at once with 130, and no half file stays behind. Where somebody heeds it (aq_interrupt_heed(1) till aq_interrupt_heed(-1), or
 * a call is set) the first only sets the flag; with aq_interrupt_patiently all do. SIGPIPE and SIGXFSZ are
 * ignored: a closed pipe and a limit on files (ulimit -f) show as write errors. */
void aq_signals_open(void);
int aq_interrupted(void);
void aq_interrupt_heed(int more);
void aq_interrupt_note(void); /* as if SIGINT had come */
void aq_interrupt_forget(void);
void aq_interrupt_patiently(void); /* for a conversation: Ctrl-C pressed twice must not end it. Ctrl-\ still does */
/* Called in the signal handler as well (say, to stop a running step); NULL for none. */
void aq_interrupt_call(void (*call)(void *user), void *user);

/* Text that a model or a file said, on standard output. On a terminal its control characters are shown (^[) and not obeyed: they could rewrite what
 * was said before, or type. 0: it was written. */
int aq_output_text(const char *s, size_t n);

/* Flushes standard output; AQ_FAILED if anything written to it was lost. A pipe that its reader closed is no news: the message is "". */
AQ_MUST_USE aq_status aq_output_finish(void);

/* A whole file at once: it appears under `path` when every byte is there ("-" is standard output). */
AQ_MUST_USE aq_status aq_output_file(const char *path, const void *bytes, size_t size);

#endif
