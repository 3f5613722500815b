/* cache.c: see cache.h. Cost: two listings, and the tail of each file of packed weights; done after something was written. */
#include "frontend/cache.h"

#include "ir/clock.h"
#include "runtime/aquila_rt.h"

#include <stdlib.h>
#include <string.h>

#define SECONDS ((int64_t)1000000000)

static aq_cache_kind kind_of(const aq_folder_entry *f, int64_t now) {
    int current;
    if (strstr(f->path, ".aqp.tmp.") || strstr(f->path, ".aqw.tmp."))
        return now - f->mtime_ns > 3600 * SECONDS ? AQ_CACHE_LEFTOVER : AQ_CACHE_OTHER;
    if (aq_path_ends(f->path, ".aqp"))
        return AQ_CACHE_PLAN;
    if (!aq_path_ends(f->path, ".aqw"))
        return AQ_CACHE_OTHER;
    return aq_rt_cache_file_check(f->path, 0, &current) == AQ_OK && current ? AQ_CACHE_WEIGHTS : AQ_CACHE_LEFTOVER;
}

static int newest_first(const void *a, const void *b) {
    const aq_cache_item *x = a, *y = b;
    return x->used_ns != y->used_ns ? (x->used_ns < y->used_ns) - (x->used_ns > y->used_ns) : strcmp(x->path, y->path);
}

aq_status aq_cache_list(const char *folder, aq_arena *arena, aq_cache_items *out) {
    static const char *const parts[] = {"plans", "weights"};
    int64_t now = aq_clock_unix_ns();
    for (int i = 0; i < 2; i++) {
        const char *path;
        aq_folder_list_of files = {0};
        AQ_TRY(aq_arena_format(arena, &path, "%s/%s", folder, parts[i]));
        AQ_TRY(aq_folder_list(path, arena, &files));
        for (uint32_t k = 0; k < files.n; k++)
            AQ_PUSH(arena, out, (aq_cache_item){files.at[k].path, files.at[k].size, files.at[k].mtime_ns, kind_of(&files.at[k], now)});
    }
    if (out->n)
        qsort(out->at, out->n, sizeof *out->at, newest_first);
    return AQ_OK;
}

/* The newest of each kind is what is being used. */
static int may_go(const aq_cache_items *l, uint32_t i) {
    for (uint32_t k = 0; k < i; k++)
        if (l->at[k].kind == l->at[i].kind)
            return 1;
    return 0;
}

static uint64_t drop(const aq_cache_item *x) { return aq_file_remove(x->path) == AQ_OK ? x->size : 0; }

uint64_t aq_cache_trim(const char *folder, uint64_t limit) {
    aq_arena arena = {0};
    aq_cache_items l = {0};
    uint64_t kept = 0, gone = 0;
    int64_t now = aq_clock_unix_ns();
    if (aq_cache_list(folder, &arena, &l) == AQ_OK)
        for (uint32_t i = 0; i < l.n; i++) { /* from the most recently used on: what fits stays */
            const aq_cache_item *x = &l.at[i];
            int old = x->kind == AQ_CACHE_PLAN && now - x->used_ns > 30 * 86400 * SECONDS;
            if (x->kind == AQ_CACHE_OTHER)
                continue;
            if (x->kind == AQ_CACHE_LEFTOVER || (may_go(&l, i) && (old || kept + x->size > limit)))
                gone += drop(x);
            else
                kept += x->size;
        }
    aq_arena_close(&arena);
    return gone;
}
