/* edits.c: a file of schedules and nests, split at its braces. Every entry is read from a copy of the whole text in which all others are blanks,
 * so that messages have the lines of the file. */
#include "frontend/edits.h"

#include "ir/scan.h"

#include <string.h>

/* Past the '}' that closes the first '{' from here; comments hold no braces. 0 if there is none. */
static size_t past_braces(const char *text, size_t at) {
    int depth = 0;
    for (; text[at]; at++) {
        if (text[at] == '#')
            at += strcspn(text + at, "\n") - 1;
        else if (text[at] == '{')
            depth++;
        else if (text[at] == '}' && --depth <= 0)
            return depth < 0 ? 0 : at + 1;
        if (!text[at])
            break;
    }
    return 0;
}

static int line_of(const char *text, size_t at) {
    int line = 1;
    for (size_t i = 0; i < at; i++)
        line += text[i] == '\n';
    return line;
}

aq_status aq_edits_open(aq_arena *arena, const char *file, const char *text, aq_edits *out) {
    aq_scan s = {file, text, 0, strlen(text)};
    *out = (aq_edits){.file = file, .text = text};
    while (aq_scan_more(&s)) {
        aq_edit e = {.from = s.at, .line = line_of(text, s.at)};
        e.is_nest = aq_scan_keyword(&s, "nest");
        if (!e.is_nest && !aq_scan_keyword(&s, "schedule"))
            return aq_scan_fail(&s, "no entry: expected schedule KERNEL { .. } or nest KERNEL(BUFFERS) { .. }");
        aq_word name = aq_scan_word(&s);
        if (!name.n)
            return aq_scan_fail(&s, "no name: expected that of a kernel, as compile --print schedules gives it");
        AQ_TRY(aq_arena_string(arena, name.at, name.n, &e.kernel));
        e.to = past_braces(text, s.at);
        if (!e.to)
            return aq_scan_fail(&s, "%s has no end: expected { and its }", e.kernel);
        for (uint32_t i = 0; i < out->list.n; i++)
            if (out->list.at[i].is_nest == e.is_nest && !strcmp(out->list.at[i].kernel, e.kernel))
                return aq_scan_fail(&s, "a second %s for %s: expected one", e.is_nest ? "nest" : "schedule", e.kernel);
        AQ_PUSH(arena, &out->list, e);
        s.at = e.to;
    }
    return AQ_OK;
}

static aq_edit *find(aq_edits *e, const char *kernel, int is_nest) {
    for (uint32_t i = 0; e && i < e->list.n; i++)
        if (e->list.at[i].is_nest == is_nest && !strcmp(e->list.at[i].kernel, kernel)) {
            e->list.at[i].used = 1;
            return &e->list.at[i];
        }
    return NULL;
}

static aq_status alone(const aq_edits *e, const aq_edit *entry, aq_arena *arena, const char **out) {
    void *copy;
    AQ_TRY(aq_arena_alloc(arena, entry->to + 1, 1, &copy));
    char *text = copy;
    for (size_t i = 0; i < entry->to; i++)
        text[i] = i >= entry->from || e->text[i] == '\n' ? e->text[i] : ' ';
    text[entry->to] = 0;
    *out = text;
    return AQ_OK;
}

aq_status aq_edits_schedule(aq_edits *e, aq_arena *arena, const char *kernel, aq_schedule **out) {
    const aq_edit *entry = find(e, kernel, 0);
    const char *text;
    if (!entry)
        return AQ_OK;
    AQ_TRY(alone(e, entry, arena, &text));
    return aq_read_schedule(arena, e->file, text, entry->to, out);
}

/* The i-th buffer that is an argument of the kernel; NULL past the last. */
static const aq_nest_buf *argument(const aq_nest *n, int i) {
    for (aq_id b = 1; b < n->bufs.n; b++)
        if (n->bufs.at[b].role != AQ_BUF_SCRATCH && n->bufs.at[b].role != AQ_BUF_LOCAL && i-- == 0)
            return &n->bufs.at[b];
    return NULL;
}

static int same_buffer(const aq_nest_buf *a, const aq_nest_buf *b) {
    return a && b && a->role == b->role && a->layout == b->layout && aq_type_same(&a->type, &b->type);
}

static aq_status buffer_text(const aq_module *m, const aq_nest_buf *b, aq_arena *arena, const char **out) {
    aq_nest one = {.name = "n", .module = m};
    aq_text t = {.arena = arena};
    AQ_PUSH(arena, &one.bufs, (aq_nest_buf){0});
    if (!b) {
        *out = "none";
        return AQ_OK;
    }
    AQ_PUSH(arena, &one.bufs, *b);
    AQ_TRY(aq_print_nest(&one, &t));
    AQ_TRY(aq_text_end(&t, out));
    char *text = (char *)(uintptr_t)*out; /* "nest n(\n  in %x: f32[T]\n) {..": the middle */
    char *from = strchr(text, '\n') + 3, *end = strchr(from, '\n');
    *end = 0;
    *out = from;
    return AQ_OK;
}

aq_status aq_nest_stands_for(const aq_nest *made, const aq_nest *n, const char *place, aq_arena *arena) {
    const char *wanted, *got;
    for (int i = 0;; i++) {
        const aq_nest_buf *want = argument(made, i), *have = argument(n, i);
        if (!want && !have)
            return AQ_OK;
        if (same_buffer(want, have))
            continue;
        AQ_TRY(buffer_text(made->module, want, arena, &wanted));
        AQ_TRY(buffer_text(made->module, have, arena, &got));
        return aq_fail(AQ_REFUSED, place, "nest %s: argument %d is %s: expected %s", n->name, i + 1, got, wanted);
    }
}

aq_status aq_edits_nest(aq_edits *e, aq_arena *arena, const aq_module *m, const char *kernel, aq_nest **nest, int *is_edited) {
    const aq_edit *entry = find(e, kernel, 1);
    const char *text, *place;
    aq_nest *n;
    *is_edited = 0;
    if (!entry)
        return AQ_OK;
    AQ_TRY(alone(e, entry, arena, &text));
    AQ_TRY(aq_read_nest(m, arena, e->file, text, entry->to, &n));
    AQ_TRY(aq_arena_format(arena, &place, "%s:%d", e->file, entry->line));
    AQ_TRY(aq_nest_stands_for(*nest, n, place, arena));
    *nest = n;
    *is_edited = 1;
    return AQ_OK;
}

aq_status aq_edits_all_used(const aq_edits *e) {
    for (uint32_t i = 0; i < e->list.n; i++)
        if (!e->list.at[i].used)
            return aq_fail(AQ_REFUSED, e->file, "line %d: no kernel is called %s: expected a name that compile --print schedules gives", e->list.at[i].line,
                           e->list.at[i].kernel);
    return AQ_OK;
}
