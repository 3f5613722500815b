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
    char text[4096]; /* what is longer is cut; paths and names of files may be in it */
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    for (char *line = text, *end; line; line = end ? end + 1 : NULL) {
        if ((end = strchr(line, '\n')))
            *end = 0;
        aq_make_printable(line);
        fprintf(stderr, "%s\n", line);
    }
}

int aq_obeys(FILE *stream) {
    const char *kind = aq_switch(AQ_SWITCH_TERM);
    return kind && strcmp(kind, "dumb") && isatty(fileno(stream));
}

int aq_colours(FILE *stream) {
    return !aq_switch(AQ_SWITCH_NO_COLOR) && aq_obeys(stream);
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

static volatile sig_atomic_t heeding;
static char farewell[64]; /* made beforehand: a handler can format nothing */

static void handle_interrupt(int number) {
    (void)number;
    void (*call)(void *user) = on_interrupt;
    if (!is_patient && (interrupted++ || (!heeding && !call))) {
        aq_file_abandon_open();
        if (write(STDERR_FILENO, farewell, strlen(farewell)) < 0) /* nobody is there to read it */
            _exit(AQ_INTERRUPTED);
        _exit(AQ_INTERRUPTED);
    }
    interrupted = 1;
    if (call)
        call(on_interrupt_user);
}

/* A page of a mapped file that is no longer there: somebody cut the file, or its disk failed. Any other SIGBUS is ours: it comes again. */
static void handle_lost_page(int number, siginfo_t *info, void *context) {
    static char text[640] = "aquila: error: ";
    const char *path = aq_file_at(info->si_addr);
    (void)context;
    signal(number, SIG_DFL);
    if (info->si_code != BUS_ADRERR)
        return;
    aq_file_abandon_open();
    stpcpy(stpcpy(text + strlen(text), path ? path : "a file"), ": " AQ_FILE_LOST "\n");
    if (write(STDERR_FILENO, text, strlen(text)) < 0) /* nobody is there to read it */
        _exit(AQ_FAILED);
    _exit(AQ_FAILED);
}

void aq_signals_open(void) {
    /* RESTART: stdio gives up a write that a signal interrupts, and what it held is lost. Who waits for input waits in ppoll, which returns anyway. */
    struct sigaction act = {.sa_handler = handle_interrupt, .sa_flags = SA_RESTART}, lost = {.sa_sigaction = handle_lost_page, .sa_flags = SA_SIGINFO};
    int colours = aq_colours(stderr);
    snprintf(farewell, sizeof farewell, "%saquila: %serror:%s interrupted\n", aq_obeys(stderr) ? "\r\033[K" : "", colours ? "\033[1;31m" : "", colours ? "\033[0m" : "");
    sigemptyset(&act.sa_mask);
    sigemptyset(&lost.sa_mask);
    sigaction(SIGBUS, &lost, NULL);
    sigaction(SIGINT, &act, NULL);
    act.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &act, NULL);
    sigaction(SIGXFSZ, &act, NULL);
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

void aq_interrupt_heed(int more) {
    heeding += more;
}

void aq_interrupt_forget(void) {
    interrupted = 0;
}

void aq_interrupt_call(void (*call)(void *user), void *user) {
    on_interrupt = NULL;
    on_interrupt_user = user;
    on_interrupt = call;
}

/* Bytes at s[0..n) that a terminal would obey: 1, or 2 for U+0080 to U+009F; 0: plain text. */
static size_t control_at(const char *s, size_t n) {
    unsigned char c = (unsigned char)*s;
    if ((c < 32 && c != '\n' && c != '\t') || c == 127)
        return 1;
    return n > 1 && c == 0xc2 && (unsigned char)s[1] < 0xa0 ? 2 : 0;
}

int aq_output_text(const char *s, size_t n) {
    int is_terminal = isatty(STDOUT_FILENO);
    for (size_t i = 0, k; i < n; i += k) {
        size_t plain = is_terminal ? 0 : n;
        while (i + plain < n && !control_at(s + i + plain, n - i - plain))
            plain++;
        if (fwrite(s + i, 1, plain, stdout) != plain)
            return 1;
        k = plain;
        if (i + plain < n) {
            k += control_at(s + i + plain, n - i - plain);
            printf("^%c", (s[i + k - 1] & 31) + (s[i + k - 1] == 127 ? '?' - 31 : '@'));
        }
    }
    return ferror(stdout);
}

/* The write that failed may be long ago, and errno with it. */
static int reader_has_left(void) {
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
}

aq_status aq_output_finish(void) {
    errno = 0;
    if (!ferror(stdout) && fflush(stdout) == 0)
        return AQ_OK;
    if (errno == EPIPE || reader_has_left())
        return aq_fail(AQ_FAILED, NULL, "%s", "");
    return aq_fail(AQ_FAILED, "standard output", "%s", errno ? strerror(errno) : "a write failed");
}

aq_status aq_output_file(const char *path, const void *bytes, size_t size) {
    aq_file_writer *w;
    AQ_TRY(aq_file_create(path, &w));
    aq_status status = aq_file_append(w, bytes, size);
    if (status == AQ_OK)
        status = aq_file_commit(w);
    else
        aq_file_abandon(w);
    return status == AQ_FAILED && !strcmp(path, "-") && reader_has_left() ? aq_fail(AQ_FAILED, NULL, "%s", "") : status;
}
