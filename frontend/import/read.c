/* read.c: the small files of a model as texts: regular files only, of bounded length, every refusal with its number. */
#include "frontend/import/internal.h"
#include "frontend/reasons.h"

aq_status aq_import_unreadable(aq_status status) { return aq_refuse_as(AQ_WHY_UNREADABLE, status); }

aq_status aq_import_read(const char *path, char **text, size_t *n) {
    enum { LONGEST = 1 << 26 };
    if (aq_file_kind(path) > 1)
        return aq_refuse(AQ_WHY_NOT_REGULAR, path, "a folder, device or pipe: expected a regular file");
    return aq_import_unreadable(aq_file_read(path, LONGEST, text, n));
}

aq_status aq_import_name(aq_arena *arena, const char *s, size_t n, const char **out) {
    AQ_TRY(aq_arena_string(arena, s, n, out));
    aq_make_printable((char *)(uintptr_t)*out); /* fresh in the arena */
    return AQ_OK;
}
