/* history.c: see history.h. The file is read again before it is written: conversations at the same time lose none of each other's lines but
 * those of the moment between. */
#include "frontend/cli/history.h"

#include "ir/file.h"
#include "ir/memory.h"

#include <string.h>

typedef AQ_VEC(const char *) entries;

void aq_history_open(const char *path, aq_history *out) { *out = (aq_history){.path = path}; }

void aq_history_close(aq_history *h) {
    aq_arena_close(&h->arena);
    *h = (aq_history){0};
}

/* line[0..n) of the file as text. */
static aq_status decoded(aq_arena *arena, const char *line, size_t n, const char **out) {
    char *to;
    AQ_ALLOC(arena, to, n + 1);
    *out = to;
    for (size_t i = 0; i < n; i++) {
        int escaped = line[i] == '\\' && i + 1 < n;
        i += (size_t)escaped;
        *to++ = escaped && line[i] == 'n' ? '\n' : line[i];
    }
    *to = 0;
    return AQ_OK;
}

static aq_status read_entries(const aq_history *h, aq_arena *arena, entries *out) {
    char *bytes;
    size_t n;
    if (!h->path || aq_file_kind(h->path) == 0)
        return AQ_OK;
    if (aq_file_kind(h->path) != 1)
        return aq_fail(AQ_REFUSED, h->path, "a folder, device or pipe: expected a file for the history");
    AQ_TRY(aq_file_read(h->path, AQ_HISTORY_BYTES, &bytes, &n));
    aq_status status = memchr(bytes, 0, n) ? aq_fail(AQ_REFUSED, h->path, "holds bytes of 0: expected a history, one entry a line") : AQ_OK;
    for (char *at = bytes, *end; status == AQ_OK && (end = memchr(at, '\n', n - (size_t)(at - bytes))); at = end + 1) {
        const char *text;
        status = decoded(arena, at, (size_t)(end - at), &text);
        if (status == AQ_OK && (status = aq_vec_grow(arena, (void **)&out->at, out->n, &out->room, sizeof *out->at)) == AQ_OK)
            out->at[out->n++] = text;
    }
    aq_mem_free(bytes);
    return status;
}

aq_status aq_history_read(aq_history *h, aq_status (*give)(void *user, const char *text), void *user) {
    entries list = {0};
    AQ_TRY(read_entries(h, &h->arena, &list));
    for (uint32_t i = 0; i < list.n; i++)
        AQ_TRY(give(user, list.at[i]));
    return AQ_OK;
}

aq_status aq_history_add(aq_history *h, const char *text) {
    const char *copy;
    if (!h->path)
        return AQ_OK;
    AQ_TRY(aq_arena_string(&h->arena, text, strlen(text), &copy));
    AQ_PUSH(&h->arena, &h->added, copy);
    return AQ_OK;
}

static size_t encoded_length(const char *s) {
    size_t n = 1;
    for (; *s; s++)
        n += 1 + (*s == '\n' || *s == '\\');
    return n;
}

static aq_status append_encoded(aq_file_writer *w, const char *s) {
    while (*s) {
        size_t plain = strcspn(s, "\n\\");
        AQ_TRY(aq_file_append(w, s, plain));
        s += plain;
        if (*s)
            AQ_TRY(aq_file_append(w, *s++ == '\n' ? "\\n" : "\\\\", 2));
    }
    return aq_file_append(w, "\n", 1);
}

static aq_status write_entries(const aq_history *h, aq_arena *arena) {
    entries list = {0};
    aq_file_writer *w;
    AQ_TRY(read_entries(h, arena, &list));
    for (uint32_t i = 0; i < h->added.n; i++)
        AQ_PUSH(arena, &list, h->added.at[i]);
    size_t bytes = 0;
    uint32_t first = list.n;
    while (first && list.n - first < AQ_HISTORY_ENTRIES && bytes + encoded_length(list.at[first - 1]) <= AQ_HISTORY_BYTES)
        bytes += encoded_length(list.at[--first]);
    AQ_TRY(aq_file_create_as(h->path, 0600, 1, &w)); /* what was asked is nobody else's affair */
    aq_status status = AQ_OK;
    for (uint32_t i = first; i < list.n && status == AQ_OK; i++)
        status = append_encoded(w, list.at[i]);
    if (status == AQ_OK)
        return aq_file_commit(w);
    aq_file_abandon(w);
    return status;
}

aq_status aq_history_write(aq_history *h) {
    aq_arena scratch = {0};
    if (!h->path || !h->added.n)
        return AQ_OK;
    aq_status status = write_entries(h, &scratch);
    aq_arena_close(&scratch);
    if (status == AQ_OK)
        h->added.n = 0;
    return status;
}
