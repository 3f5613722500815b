/* show_cache.c: see show_cache.h. */
#include "frontend/cli/show_cache.h"

#include "frontend/cache.h"
#include "frontend/cli/common.h"
#include "frontend/cli/json.h"
#include "frontend/cli/subject.h"
#include "ir/clock.h"
#include "runtime/aquila_rt.h"

#include <inttypes.h>
#include <string.h>

static const char *const kinds[] = {"plan", "weights", "leftover", "other"};

/* Removes a damaged file: it would be written again anyway. */
static aq_status check(const aq_args *a, aq_cache_items *l) {
    int bad = 0, current;
    for (uint32_t i = 0; i < l->n; i++) {
        aq_cache_item *x = &l->at[i];
        if (x->kind != AQ_CACHE_WEIGHTS || aq_rt_cache_file_check(x->path, 1, &current) == AQ_OK)
            continue;
        aq_say(a, 0, "%s", aq_error());
        AQ_TRY(aq_file_remove(x->path));
        x->kind = AQ_CACHE_LEFTOVER;
        bad++;
    }
    return bad ? aq_fail(AQ_CHECK_FAILED, NULL, "%d damaged files of packed weights, removed: they are made again at the next start", bad) : AQ_OK;
}

static aq_status clear(const aq_args *a, const aq_cache_items *l) {
    uint64_t bytes = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->at[i].kind == AQ_CACHE_OTHER)
            continue;
        AQ_TRY(aq_file_remove(l->at[i].path));
        bytes += l->at[i].size;
        n++;
    }
    if (!aq_arg_given(a, AQ_OPT_JSON)) {
        printf("%" PRIu32 " files removed, %.1f MiB\n", n, (double)bytes / 0x1p20);
        return AQ_OK;
    }
    cJSON *o = cJSON_CreateObject();
    aq_json_set_int(o, "removed", n);
    aq_json_set_int(o, "bytes", (int64_t)bytes);
    return aq_json_print(o);
}

static aq_status print_json(const char *folder, uint64_t limit, const aq_cache_items *l, uint64_t bytes) {
    cJSON *o = cJSON_CreateObject();
    aq_json_set_string(o, "folder", folder);
    aq_json_set_int(o, "bytes", (int64_t)bytes);
    aq_json_set_int(o, "limit_bytes", (int64_t)limit);
    cJSON *list = cJSON_AddArrayToObject(o, "files");
    for (uint32_t i = 0; i < l->n; i++) {
        cJSON *one = cJSON_CreateObject();
        aq_json_set_string(one, "path", l->at[i].path);
        aq_json_set_string(one, "kind", kinds[l->at[i].kind]);
        aq_json_set_int(one, "bytes", (int64_t)l->at[i].size);
        aq_json_set_int(one, "used", l->at[i].used_ns / 1000000000);
        cJSON_AddItemToArray(list, one);
    }
    return aq_json_print(o);
}

static aq_status print(const aq_args *a, const char *folder, const aq_cache_items *l) {
    uint64_t bytes = 0, limit;
    int64_t now = aq_clock_unix_ns();
    AQ_TRY(aq_cache_limit(&limit));
    for (uint32_t i = 0; i < l->n; i++)
        bytes += l->at[i].size;
    if (aq_arg_given(a, AQ_OPT_JSON))
        return print_json(folder, limit, l, bytes);
    for (uint32_t i = 0; i < l->n; i++) {
        printf("%-8s %10.1f MiB  used %6.1f h ago  ", kinds[l->at[i].kind], (double)l->at[i].size / 0x1p20, (double)(now - l->at[i].used_ns) / 3.6e12);
        const char *name = l->at[i].path + strlen(folder) + 1;
        (void)aq_output_text(name, strlen(name));
        putchar('\n');
    }
    printf("%s: %.1f MiB in %" PRIu32 " files", folder, (double)bytes / 0x1p20, l->n);
    printf(limit ? ", at most %.1f GiB\n" : "\n", (double)limit / 0x1p30);
    return AQ_OK;
}

aq_status aq_cache_show(const aq_args *a) {
    aq_arena arena = {0};
    aq_cache_items l = {0};
    const char *folder = NULL;
    aq_status status;
    AQ_TRY_GOTO(status, close, aq_cache_folder(a, &arena, &folder));
    if (!folder)
        AQ_TRY_GOTO(status, close, aq_fail(AQ_USAGE, NULL, "show cache: there is none: expected --cache FOLDER, AQ_CACHE or a home folder"));
    AQ_TRY_GOTO(status, close, aq_cache_list(folder, &arena, &l));
    if (aq_arg_given(a, AQ_OPT_CACHE_CHECK))
        AQ_TRY_GOTO(status, close, check(a, &l));
    status = aq_arg_given(a, AQ_OPT_CACHE_CLEAR) ? clear(a, &l) : print(a, folder, &l);
close:
    aq_arena_close(&arena);
    return status;
}
