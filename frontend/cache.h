/* cache.h: the folder of plans and packed weights, looked after: what is in it, what can go.
 *
 *   FOLDER/plans/KEY.aqp       compiled plans      FOLDER/weights/KEY.aqw    packed weights (runtime/cache_file.c)
 *
 * Every use sets a file's time, so the least recently used is known. Whoever has a file mapped keeps it when it is removed. */
#ifndef AQ_FRONTEND_CACHE_H
#define AQ_FRONTEND_CACHE_H

#include "ir/file.h"

typedef enum aq_cache_kind {
    AQ_CACHE_PLAN,
    AQ_CACHE_WEIGHTS,
    AQ_CACHE_LEFTOVER, /* a temporary file that nobody has written to for an hour, packed weights of another version, damaged ones */
    AQ_CACHE_OTHER     /* a temporary file in use, or none of ours: left alone */
} aq_cache_kind;

typedef struct aq_cache_item {
    const char *path;
    uint64_t size;
    int64_t used_ns; /* when it was used last */
    aq_cache_kind kind;
} aq_cache_item;
typedef AQ_VEC(aq_cache_item) aq_cache_items;

/* Everything in the folder, the most recently used first. Nothing if there is no such folder. */
AQ_MUST_USE aq_status aq_cache_list(const char *folder, aq_arena *arena, aq_cache_items *out);

/* Removes leftovers, plans that nobody used for 30 days, and then the least recently used until at most `limit` bytes are left; the newest plan
 * and the newest packed weights stay in any case. What cannot be removed stays: no error. Returns the bytes removed. */
uint64_t aq_cache_trim(const char *folder, uint64_t limit);

#endif
