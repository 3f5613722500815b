/* plan_cache.h: plans that are kept in the cache's folder `plans`, one a key and compiler. */
#ifndef AQ_FRONTEND_PLAN_CACHE_H
#define AQ_FRONTEND_PLAN_CACHE_H

#include "ir/arena.h"
#include "runtime/aquila_rt.h"

/* The plan made for `key` (aq_compile_key) by this program and the LLVM that is here; without LLVM, by whichever. *out_plan NULL where there is none, or it
 * is damaged, or somebody else can have written it: a plan is code. *out_path: where to keep the one that is compiled then; NULL: nowhere. Names are in
 * `arena`. Fails for want of memory only. */
AQ_MUST_USE aq_status aq_plan_cache_find(aq_arena *arena, const char *cache, const char *key, const char **out_path, aq_rt_plan **out_plan);
/* A cache that cannot be written costs the next start a compile: no error. */
void aq_plan_cache_keep(aq_arena *arena, const char *cache, const char *path, const unsigned char *bytes, size_t n);

#endif
