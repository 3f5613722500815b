/* typed.c: see typed.h. */
#include "frontend/cli/typed.h"

#include "ir/memory.h"

#include <string.h>

static const char quotes[] = "\"\"\"";
enum { QUOTES = 3 };

static aq_status append(aq_joiner *j, const char *s, size_t n) {
    size_t room;
    AQ_TRY(aq_size_add(j->n, n, "a message", &room));
    AQ_TRY(aq_size_add(room, 1, "a message", &room));
    if (room > j->room) {
        void *block = j->text;
        size_t more = room > 2 * j->room ? room : 2 * j->room;
        AQ_TRY(aq_mem_resize(&block, j->room, more));
        j->text = block;
        j->room = more;
    }
    memcpy(j->text + j->n, s, n);
    j->n += n;
    j->text[j->n] = 0;
    return AQ_OK;
}

/* A single one: two of them are text. */
static int ends_in_backslash(const char *s, size_t n) { return n && s[n - 1] == '\\' && (n < 2 || s[n - 2] != '\\'); }

static int ends_block(const char *s, size_t n) { return n >= QUOTES && !memcmp(s + n - QUOTES, quotes, QUOTES); }

/* What a line adds to the text; """ alone on a line adds nothing, not even a line end. */
static aq_status add_line(aq_joiner *j, const char *line, size_t n, int is_mark_alone) {
    if (is_mark_alone)
        return AQ_OK;
    if (j->has_lines)
        AQ_TRY(append(j, "\n", 1));
    j->has_lines = 1;
    return append(j, line, n);
}

aq_status aq_joiner_take(aq_joiner *j, const char *line, size_t n, int *out_done) {
    int is_first = !j->is_open, is_whole = memchr(line, '\n', n) != NULL; /* pasted: its own quotes and backslashes are text */
    if (is_first) {
        aq_joiner_drop(j);
        j->is_block = !is_whole && n >= QUOTES && !memcmp(line, quotes, QUOTES);
        if (j->is_block) {
            line += QUOTES;
            n -= QUOTES;
        }
    }
    int ends = j->is_block ? ends_block(line, n) : is_whole || !ends_in_backslash(line, n);
    size_t keep = n - (j->is_block ? (ends ? QUOTES : 0) : !ends);
    AQ_TRY(add_line(j, line, keep, j->is_block && keep == 0 && (ends || is_first)));
    j->is_open = !ends;
    *out_done = ends;
    return AQ_OK;
}

void aq_joiner_drop(aq_joiner *j) {
    j->is_open = j->has_lines = 0;
    j->n = 0;
}

void aq_joiner_close(aq_joiner *j) {
    aq_mem_free(j->text);
    *j = (aq_joiner){0};
}

aq_status aq_typed_open(int terminal, const char *history, const char **out_note, aq_typed *out) {
    *out = (aq_typed){0};
    *out_note = NULL;
    return terminal ? aq_terminal_open(history, out_note, &out->terminal) : aq_lines_open("-", &out->lines);
}

static aq_status next_line(aq_typed *t, const char **line, size_t *n) {
    char *bytes;
    if (t->terminal)
        return aq_terminal_line(t->terminal, t->joiner.is_open ? ". " : "> ", line, n);
    AQ_TRY(aq_lines_next(&t->lines, &bytes, n));
    while (bytes && *n && bytes[*n - 1] == '\r')
        bytes[--*n] = 0;
    *line = bytes;
    return AQ_OK;
}

static aq_status give(aq_typed *t, char **text, size_t *n) {
    *text = t->joiner.text;
    *n = t->joiner.n;
    t->joiner.is_open = 0;
    return t->terminal ? aq_terminal_remember(t->terminal, *text) : AQ_OK;
}

aq_status aq_typed_next(aq_typed *t, char **text, size_t *n) {
    const char *line;
    int done;
    *text = NULL;
    for (;;) {
        aq_status status = next_line(t, &line, n);
        if (status != AQ_OK) {
            aq_joiner_drop(&t->joiner);
            return status;
        }
        if (!line)
            return t->joiner.is_open && t->joiner.n ? give(t, text, n) : AQ_OK;
        AQ_TRY(aq_joiner_take(&t->joiner, line, *n, &done));
        if (done && t->joiner.n)
            return give(t, text, n);
    }
}

aq_status aq_typed_close(aq_typed *t) {
    aq_status status = aq_terminal_close(t->terminal);
    aq_lines_close(&t->lines);
    aq_joiner_close(&t->joiner);
    *t = (aq_typed){0};
    return status;
}
