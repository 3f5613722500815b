/* plan_cache.c: see plan_cache.h. A plan is called KEY-LLVM.aqp: a hash of what its bytes depend on (the key, and this very program: another build may schedule
 * otherwise), and size and time of LLVM's library, so that another version of it makes its own plan and does not take this one. Cost of a start that
 * finds its plan: the program is hashed, the library is looked for and not opened: that would take longer than all the rest. */
#include "frontend/plan_cache.h"

#include "codegen/cpu/cpu.h"
#include "ir/file.h"
#include "ir/plan.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* 0: it is not there. */
static uint64_t stamp_of_llvm(void) {
    char room[AQ_FILE_PATH];
    aq_file library;
    const char *path = aq_cpu_llvm_file(room);
    if (!path || aq_file_map(path, &library) != AQ_OK)
        return 0;
    uint64_t parts[] = {library.size, (uint64_t)library.mtime_ns};
    aq_file_unmap(&library);
    return XXH3_64bits(parts, sizeof parts);
}

/* Intact and made for this very key, and by this user or root? */
static int take(const char *path, const char *key, aq_rt_plan **out) {
    aq_rt_plan *plan;
    if (aq_file_kind(path) != 1 || aq_rt_plan_load(path, &plan) != AQ_OK)
        return 0;
    if (!aq_rt_plan_is_ours(plan) || strcmp(aq_rt_plan_tables(plan)->options, key)) {
        aq_rt_plan_close(plan);
        return 0;
    }
    aq_file_touch(path);
    *out = plan;
    return 1;
}

/* Whichever LLVM made it: there is none to make another. */
static void take_any(aq_arena *arena, const char *folder, const char *name, const char *key, aq_rt_plan **out) {
    aq_folder_list_of files = {0};
    if (aq_folder_list(folder, arena, &files) != AQ_OK)
        return;
    for (uint32_t i = 0; i < files.n && !*out; i++) {
        const char *slash = strrchr(files.at[i].path, '/'), *file = slash ? slash + 1 : files.at[i].path;
        if (!strncmp(file, name, strlen(name)) && file[strlen(name)] == '-' && aq_path_ends(file, ".aqp"))
            (void)take(files.at[i].path, key, out);
    }
}

aq_status aq_plan_cache_find(aq_arena *arena, const char *cache, const char *key, const char **out_path, aq_rt_plan **out_plan) {
    aq_file self;
    char name[20];
    const char *folder;
    *out_path = NULL;
    *out_plan = NULL;
    if (aq_file_map("/proc/self/exe", &self) != AQ_OK)
        return AQ_OK;
    uint64_t program = XXH3_64bits(self.bytes, self.size), llvm = stamp_of_llvm();
    aq_file_unmap(&self);
    snprintf(name, sizeof name, "%016" PRIx64, (uint64_t)XXH3_64bits_withSeed(key, strlen(key), program));
    AQ_TRY(aq_arena_format(arena, &folder, "%s/plans", cache));
    AQ_TRY(aq_arena_format(arena, out_path, "%s/%s-%016" PRIx64 ".aqp", folder, name, llvm));
    if (llvm)
        (void)take(*out_path, key, out_plan);
    else
        take_any(arena, folder, name, key, out_plan);
    return AQ_OK;
}

void aq_plan_cache_keep(aq_arena *arena, const char *cache, const char *path, const unsigned char *bytes, size_t n) {
    const char *folder;
    aq_file_writer *w;
    if (aq_arena_format(arena, &folder, "%s/plans", cache) != AQ_OK || aq_file_make_folder(folder) != AQ_OK || aq_file_create_as(path, 0644, 0, &w) != AQ_OK)
        return;
    if (aq_file_append(w, bytes, n) != AQ_OK) {
        aq_file_abandon(w);
        return;
    }
    if (aq_file_commit(w) != AQ_OK)
        return;
}
