/* lines.c: one growing buffer. Reads with read(2): stdio would hide whether a line is already here. */
#define _GNU_SOURCE
#include "frontend/cli/lines.h"

#include "frontend/cli/common.h"
#include "ir/memory.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { STEP = 1 << 16 };
static const size_t longest = (size_t)1 << 30;

aq_status aq_lines_open(const char *path, aq_lines *l) {
    *l = (aq_lines){.path = path};
    l->is_mapped = strcmp(path, "-") && aq_file_kind(path) != 3;
    if (l->is_mapped) {
        AQ_TRY(aq_file_map(path, &l->file));
    } else if (strcmp(path, "-")) {
        AQ_TRY(aq_file_read(path, longest, &l->held, &l->n));
        l->room = l->n + 1; /* a NUL is behind it */
        l->ended = 1;
    }
    aq_interrupt_heed(1); /* what was answered so far is to be written */
    l->is_open = 1;
    return AQ_OK;
}

void aq_lines_close(aq_lines *l) {
    if (l->is_open)
        aq_interrupt_heed(-1);
    aq_mem_free(l->held);
    aq_file_unmap(&l->file);
    *l = (aq_lines){0};
}

static aq_status reserve(aq_lines *l, size_t room) {
    if (room <= l->room)
        return AQ_OK;
    size_t more = l->room * 2 > room ? l->room * 2 : room;
    void *block = l->held;
    AQ_TRY(aq_mem_resize(&block, l->room, more));
    l->held = block;
    l->room = more;
    return AQ_OK;
}

/* Waits until standard input has something, or SIGINT came. The signal is let in only while waiting, so it cannot slip in between
 * the look at its flag and the wait. */
static void wait_for_input(void) {
    sigset_t interrupt, before;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before);
    if (!aq_interrupted())
        ppoll(&input, 1, NULL, &before);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* Standard input: more bytes behind held[n). */
static aq_status read_more(aq_lines *l) {
    fflush(stdout);
    if (l->at)
        memmove(l->held, l->held + l->at, l->n - l->at);
    l->n -= l->at;
    l->at = 0;
    if (l->n > longest)
        return aq_fail(AQ_REFUSED, "standard input", "line %llu is longer than 1 GiB", (unsigned long long)l->number + 1);
    AQ_TRY(reserve(l, l->n + STEP + 1));
    wait_for_input();
    if (aq_interrupted())
        return aq_fail(AQ_INTERRUPTED, NULL, "interrupted");
    ssize_t k = read(STDIN_FILENO, l->held + l->n, l->room - l->n - 1);
    if (k < 0)
        return aq_fail(AQ_FAILED, "standard input", "%s", strerror(errno));
    l->n += (size_t)k;
    l->ended = k == 0;
    return AQ_OK;
}

static aq_status next_of_input(aq_lines *l, char **line, size_t *n) {
    size_t seen = 0;
    for (;;) {
        char *newline = l->n - l->at > seen ? memchr(l->held + l->at + seen, '\n', l->n - l->at - seen) : NULL;
        if (newline || (l->ended && l->n > l->at)) {
            *line = l->held + l->at;
            *n = newline ? (size_t)(newline - *line) : l->n - l->at;
            l->at += *n + (newline != NULL);
            return AQ_OK;
        }
        if (l->ended)
            return AQ_OK;
        seen = l->n - l->at;
        AQ_TRY(read_more(l));
    }
}

static aq_status next_of_file(aq_lines *l, char **line, size_t *n) {
    if (l->at >= l->file.size)
        return AQ_OK;
    const unsigned char *from = l->file.bytes + l->at, *newline = memchr(from, '\n', l->file.size - l->at);
    *n = newline ? (size_t)(newline - from) : l->file.size - l->at;
    AQ_TRY(reserve(l, *n + 1));
    memcpy(l->held, from, *n);
    *line = l->held;
    l->at += *n + 1;
    return AQ_OK;
}

aq_status aq_lines_next(aq_lines *l, char **line, size_t *n) {
    *line = NULL;
    *n = 0;
    if (aq_interrupted())
        return aq_fail(AQ_INTERRUPTED, NULL, "interrupted");
    AQ_TRY(l->is_mapped ? next_of_file(l, line, n) : next_of_input(l, line, n));
    if (*line) {
        (*line)[*n] = 0;
        l->number++;
    }
    return AQ_OK;
}
