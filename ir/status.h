/* status.h: how a function says that it did not work.
 *
 * A function that can fail returns an aq_status. Its value is the exit status of the program (shared meaning, no second
 * table); the sentence that explains it is kept per thread and read with aq_error(). assert() is for our own bugs, a
 * status for everything the world can do to us: files, memory, libraries, command lines.
 *
 * Cost: nothing on success; a failure formats one line into a thread-local buffer and allocates nothing. */
#ifndef AQ_IR_STATUS_H
#define AQ_IR_STATUS_H

#include <stddef.h>
#include <stdint.h>

#define AQ_MUST_USE __attribute__((warn_unused_result))
#define AQ_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

typedef enum aq_status {
    AQ_OK = 0,
    AQ_FAILED = 1,       /* failed at work: disk full, write error */
    AQ_USAGE = 2,        /* the command line is wrong */
    AQ_REFUSED = 3,      /* an input was refused: malformed, unsupported, inconsistent */
    AQ_MISSING = 4,      /* a device or library is missing */
    AQ_NO_MEMORY = 5,    /* it does not fit in memory */
    AQ_CHECK_FAILED = 6, /* a comparison that was asked for did not hold */
    AQ_INTERRUPTED = 130
} aq_status;

/* Sets this thread's message and returns code. `place` is FILE, FILE:LINE:COL, FILE:tensor NAME ... or NULL; the
 * message says what is wrong, then what was expected. One line, no final newline, no final dot. */
aq_status aq_fail(aq_status code, const char *place, const char *format, ...) AQ_PRINTF(3, 4);

/* aq_fail(AQ_REFUSED, ...) with the number of the reason: the tables of reasons belong to the folders that refuse (frontend/reasons.def).
 * One number, one cause, one file in tests/bad/. */
aq_status aq_refuse(int reason, const char *place, const char *format, ...) AQ_PRINTF(3, 4);
/* The number for a refusal that a folder below has given without one: as the callee's code comes, with its message. */
aq_status aq_refuse_as(int reason, aq_status code);
int aq_error_reason(void); /* of this thread's last failure; 0 if it gave none. aq_fail_prefix keeps it */

/* The message of this thread's last aq_fail, "PLACE: what is wrong: what was expected"; "" if there was none. Valid until
 * the next aq_fail of this thread. */
const char *aq_error(void);

/* Control characters (C1 in UTF-8 too) become '?': texts out of hostile files reach terminals, and a refusal is one line. */
void aq_make_printable(char *s);

/* Puts "PREFIX: " before the current message, for a caller that knows the file where the callee knew only the place. */
aq_status aq_fail_prefix(aq_status code, const char *prefix);

/* Optional second lines (a caret under a source line): shown by the program with -v and by tests. */
void aq_error_set_detail(const char *format, ...) AQ_PRINTF(1, 2);
const char *aq_error_detail(void);

#define AQ_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        aq_status aq_try_status_ = (expr);                                                                             \
        if (aq_try_status_ != AQ_OK)                                                                                   \
            return aq_try_status_;                                                                                     \
    } while (0)

/* As AQ_TRY, for functions with one close label: sets `status` and jumps. */
#define AQ_TRY_GOTO(status, label, expr)                                                                               \
    do {                                                                                                               \
        (status) = (expr);                                                                                             \
        if ((status) != AQ_OK)                                                                                         \
            goto label;                                                                                                \
    } while (0)

/* Checked arithmetic for sizes that come from a file or a model: AQ_REFUSED with `what` in the message on overflow.
 * *out is written on success only. */
AQ_MUST_USE aq_status aq_size_mul(size_t a, size_t b, const char *what, size_t *out);
AQ_MUST_USE aq_status aq_size_add(size_t a, size_t b, const char *what, size_t *out);

#endif
