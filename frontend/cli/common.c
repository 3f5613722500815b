/* common.c: messages, signals, standard output, and finding a tokenizer. The flag of SIGINT is the one global of the program: a
 * signal handler can reach nothing else. */
#define _GNU_SOURCE
#include "frontend/cli/common.h"

#include "frontend/cli/switches.h"
#include "ir/file.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

void aq_say(const aq_args *a, int level, const char *format, ...) {
    int said = (int)a->at[AQ_OPT_VERBOSE].n - (a->at[AQ_OPT_QUIET].n ? 100 : 0);
    if (level > said)
        return;
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
}

int aq_colours(FILE *stream) {
    return !aq_switch(AQ_SWITCH_NO_COLOR) && isatty(fileno(stream));
}

int aq_report(aq_status status, int verbose) {
    const char *message = aq_error();
    if (status == AQ_OK || !*message)
        return (int)status;
    int colours = aq_colours(stderr);
    char reason[24] = "";
    if (aq_error_reason())
        snprintf(reason, sizeof reason, " [R%d]", aq_error_reason());
    fprintf(stderr, "aquila: %serror:%s %s%s\n", colours ? "\033[1;31m" : "", colours ? "\033[0m" : "", message, reason);
    if (verbose && *aq_error_detail())
        fprintf(stderr, "%s\n", aq_error_detail());
    return (int)status;
}

static volatile sig_atomic_t interrupted, is_patient;
static void (*volatile on_interrupt)(void *user);
static void *volatile on_interrupt_user;

static void handle_interrupt(int number) {
    (void)number;
    if (interrupted++ && !is_patient)
        _exit(AQ_INTERRUPTED);
    void (*call)(void *user) = on_interrupt;
    if (call)
        call(on_interrupt_user);
}

void aq_signals_open(void) {
    struct sigaction act = {.sa_handler = handle_interrupt};
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL); /* no SA_RESTART: a read of standard input must return */
    act.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &act, NULL);
}

int aq_interrupted(void) {
    return interrupted != 0;
}

void aq_interrupt_patiently(void) {
    is_patient = 1;
}

void aq_interrupt_note(void) {
    interrupted = 1;
}

void aq_interrupt_forget(void) {
    interrupted = 0;
}

void aq_interrupt_call(void (*call)(void *user), void *user) {
    on_interrupt = NULL;
    on_interrupt_user = user;
    on_interrupt = call;
}

aq_status aq_output_finish(void) {
    errno = 0;
    if (!ferror(stdout) && fflush(stdout) == 0)
        return AQ_OK;
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    if (errno == EPIPE || (poll(&out, 1, 0) == 1 && (out.revents & POLLERR))) /* the write that failed may be long ago */
        return aq_fail(AQ_FAILED, NULL, "%s", "");
    return aq_fail(AQ_FAILED, "standard output", "%s", errno ? strerror(errno) : "a write failed");
}

aq_status aq_output_file(const char *path, const void *bytes, size_t size) {
    aq_file_writer *w;
    AQ_TRY(aq_file_create(path, &w));
    aq_status status = aq_file_append(w, bytes, size);
    if (status == AQ_OK)
        return aq_file_commit(w);
    aq_file_abandon(w);
    return status;
}
