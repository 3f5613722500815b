/* test_cache.c: the folder of plans and packed weights: what an engine puts there, what is trimmed (the least recently used, leftovers, files of
 * another version, old plans), what stays (the newest of each kind, what is none of ours), that files in use may go, and a plan that cannot be written. */
#define _GNU_SOURCE
#include "codegen/cpu/cpu.h"
#include "frontend/cache.h"
#include "frontend/engine.h"
#include "ir/clock.h"
#include "ir/file_call.h"
#include "ir/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/aq-cache-XXXXXX";

static void path_of(const char *name, char *out, size_t room) { snprintf(out, room, "%s/%s", folder, name); }

static void age(const char *path, int seconds) {
    struct timespec t[2] = {{.tv_sec = (time_t)(aq_clock_unix_ns() / 1000000000) - seconds}, {.tv_sec = (time_t)(aq_clock_unix_ns() / 1000000000) - seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static void put(const char *name, int size, int seconds) {
    char path[256], zeros[1000] = {0};
    path_of(name, path, sizeof path);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0 && write(fd, zeros, (size_t)size) == size);
    close(fd);
    age(path, seconds);
}

static int there(const char *name) {
    char path[256];
    path_of(name, path, sizeof path);
    return access(path, F_OK) == 0;
}

static uint32_t count(aq_cache_kind kind) {
    aq_arena arena = {0};
    aq_cache_items l = {0};
    uint32_t n = 0;
    assert_int_equal(aq_cache_list(folder, &arena, &l), AQ_OK);
    for (uint32_t i = 0; i < l.n; i++)
        n += l.at[i].kind == kind;
    aq_arena_close(&arena);
    return n;
}

static int set_up(void **state) {
    char path[256];
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    path_of("plans", path, sizeof path);
    return mkdir(path, 0700);
}

static int tear_down(void **state) {
    char command[256];
    (void)state;
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    assert_int_equal(aq_mem_open_blocks(), 0);
    return system(command);
}

static void the_least_recently_used_goes(void **state) {
    (void)state;
    put("plans/a.aqp", 1000, 50);
    put("plans/b.aqp", 1000, 40);
    put("plans/c.aqp", 1000, 30);
    put("plans/old.aqp", 10, 31 * 86400);
    put("plans/d.aqp.tmp.1.0", 10, 10);
    put("plans/e.aqp.tmp.1.0", 10, 4000);
    put("plans/notes.txt", 10, 99 * 86400);
    assert_int_equal(aq_cache_trim(folder, 1 << 20), 20);
    assert_true(there("plans/a.aqp") && !there("plans/old.aqp") && there("plans/d.aqp.tmp.1.0") && !there("plans/e.aqp.tmp.1.0") && there("plans/notes.txt"));
    assert_int_equal(aq_cache_trim(folder, 2500), 1000);
    assert_true(!there("plans/a.aqp") && there("plans/b.aqp") && there("plans/c.aqp"));
    assert_int_equal(aq_cache_trim(folder, 1), 1000);
    assert_true(there("plans/c.aqp")); /* the newest stays */
    assert_int_equal(aq_cache_trim("/no/such/folder", 1), 0);
    assert_int_equal(count(AQ_CACHE_PLAN), 1);
}

static aq_engine *open_engine(const char *type) {
    const aq_engine_options o = {.context = 64, .threads = 2, .weights_type = type, .cache = folder, .cache_limit = 8 << 20};
    aq_engine *e;
    if (aq_engine_open("tests/data/tiny-hf", &o, &e) != AQ_OK)
        fail_msg("%s", aq_error());
    assert_null(aq_engine_note(e));
    return e;
}

static void packed_weights(void **state) {
    const char *version, *path;
    aq_cache_item item = {0};
    struct stat before, after;
    int current;
    (void)state;
    if (aq_cpu_llvm_version(&version, &path) != AQ_OK)
        skip();
    aq_engine *e = open_engine(NULL);
    assert_int_equal(count(AQ_CACHE_WEIGHTS), 1);
    aq_engine_close(e);
    aq_arena arena = {0};
    aq_cache_items l = {0};
    assert_int_equal(aq_cache_list(folder, &arena, &l), AQ_OK);
    for (uint32_t i = 0; i < l.n; i++)
        if (l.at[i].kind == AQ_CACHE_WEIGHTS)
            item = l.at[i];
    assert_int_equal(aq_rt_cache_file_check(item.path, 1, &current), AQ_OK);
    age(item.path, 1000);
    assert_int_equal(stat(item.path, &before), 0);
    e = open_engine(NULL); /* found again, and its time is now */
    assert_int_equal(stat(item.path, &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mtime < after.st_mtime);
    assert_int_equal(aq_engine_timing(e)->compile_ns, 0);
    age(item.path, 1000);
    aq_engine *other = open_engine("f32");
    assert_int_equal(count(AQ_CACHE_WEIGHTS), 2);
    aq_cache_trim(folder, 1);
    assert_int_equal(count(AQ_CACHE_WEIGHTS), 1); /* the older one has gone, though it is in use */
    assert_true(access(item.path, F_OK) != 0);
    const float *logits;
    const int32_t token = 3;
    assert_int_equal(aq_engine_feed(e, 0, &token, 1, 1, &logits), AQ_OK);
    aq_engine_close(e);
    aq_engine_close(other);
    aq_cache_items now = {0};
    assert_int_equal(aq_cache_list(folder, &arena, &now), AQ_OK);
    for (uint32_t i = 0; i < now.n; i++)
        if (now.at[i].kind == AQ_CACHE_WEIGHTS) { /* another version: its number is 8 bytes into the tail */
            int fd = open(now.at[i].path, O_RDWR);
            assert_true(fd >= 0 && pwrite(fd, "\1", 1, (off_t)now.at[i].size - 64 + 8) == 1);
            close(fd);
        }
    assert_int_equal(count(AQ_CACHE_LEFTOVER), 1);
    assert_true(aq_cache_trim(folder, UINT64_MAX) > 0);
    assert_int_equal(count(AQ_CACHE_WEIGHTS) + count(AQ_CACHE_LEFTOVER), 0);
    aq_arena_close(&arena);
}

/* A plan is of the LLVM that made it: another one, by the time or size of its file, makes its own; where there is none any will do. The library that is open
 * in this process stays the one that compiles, whatever the name says now. */
static void another_llvm_makes_its_own_plan(void **state) {
    const char *version, *path;
    char other[256], moved[256];
    (void)state;
    if (aq_cpu_llvm_version(&version, &path) != AQ_OK)
        skip();
    put("libLLVM.so", 100, 500);
    put("newer.so", 100, 400);
    path_of("libLLVM.so", other, sizeof other);
    path_of("newer.so", moved, sizeof moved);
    const struct {
        const char *library;
        int compiles;
        uint32_t plans;
    } starts[] = {{NULL, 1, 1}, {NULL, 0, 1}, {other, 1, 2}, {other, 0, 2}, {NULL, 0, 2}, {moved, 1, 3}, {"/nonexistent/libLLVM.so", 0, 3}, {other, 0, 3}};
    aq_cache_trim(folder, 1);
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        const aq_engine_options o = {.context = 64, .threads = 1, .cache = folder, .activations = "bf16"};
        aq_engine *e;
        aq_cpu_llvm_use(starts[i].library);
        if (aq_engine_open("tests/data/tiny-hf", &o, &e) != AQ_OK)
            fail_msg("start %zu: %s", i, aq_error());
        if (!!aq_engine_timing(e)->compile_ns != starts[i].compiles)
            fail_msg("start %zu: %s", i, starts[i].compiles ? "a plan of another LLVM was taken" : "its plan was not found");
        aq_engine_close(e);
        assert_int_equal(count(AQ_CACHE_PLAN) - 1, starts[i].plans); /* the newest of the tests before stays */
    }
    aq_cpu_llvm_use(NULL);
}

/* Without opening it, what is found is what was opened. */
static void llvm_is_found_where_it_is_opened(void **state) {
    const char *version, *path;
    char room[AQ_FILE_PATH], one[AQ_FILE_PATH], other[AQ_FILE_PATH];
    (void)state;
    if (aq_cpu_llvm_version(&version, &path) != AQ_OK)
        skip();
    const char *found = aq_cpu_llvm_file(room);
    assert_non_null(found);
    assert_string_equal(aq_file_real(found, one), aq_file_real(path, other));
}

/* Memory is looked at before anything is packed. */
static void what_does_not_fit_is_told_beforehand(void **state) {
    const char *version, *path;
    (void)state;
    if (aq_cpu_llvm_version(&version, &path) != AQ_OK)
        skip();
    const aq_engine_options o = {.context = 64, .threads = 1, .memory_limit = 100000};
    aq_engine *e;
    assert_int_equal(aq_engine_open("tests/data/tiny-hf", &o, &e), AQ_NO_MEMORY);
    assert_non_null(strstr(aq_error(), "tests/data/tiny-hf: needs 0.00 GiB (weights 0.00, session 0.00 with a context of 64): 0.00 GiB are free"));
    assert_true(aq_mem_available() > 1 << 20);
}

/* The calls that writing a plan makes, behind those that open the model, fail: the compile goes well, and what has a plan's name is a whole one. */
static void a_plan_that_cannot_be_kept(void **state) {
    static const struct {
        aq_file_call call;
        int from_last, error, kept; /* the how manieth from the last such call; is there a plan then? */
    } faults[] = {{AQ_CALL_OPEN, 0, 0, 1}, {AQ_CALL_OPEN, 1, ENOSPC, 0}, {AQ_CALL_WRITE, 0, ENOSPC, 0}, {AQ_CALL_WRITE, 0, AQ_CALL_SHORT, 1}, {AQ_CALL_SYNC, 1, EIO, 0},
                  {AQ_CALL_SYNC, 0, EIO, 1}, {AQ_CALL_RENAME, 0, ENOSPC, 0}, {AQ_CALL_MKDIR, 0, ENOSPC, 0}};
    const aq_engine_options o = {.context = 64, .threads = 1, .cache = folder, .compile_only = 1};
    const char *version, *llvm;
    long calls[AQ_FILE_CALLS] = {0};
    char dir[256], command[300];
    (void)state;
    if (aq_cpu_llvm_version(&version, &llvm) != AQ_OK)
        skip();
    path_of("plans", dir, sizeof dir);
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) { /* the first without a fault: it counts */
        aq_arena arena = {0};
        aq_folder_list_of files = {0};
        aq_rt_plan *plan = NULL;
        aq_engine *e;
        aq_file_fail(faults[i].call, i ? calls[faults[i].call] - faults[i].from_last : 0, faults[i].error);
        aq_status status = aq_engine_open("tests/data/tiny-hf", &o, &e);
        assert_int_equal(aq_file_failed(), i > 0);
        for (int k = 0; k < AQ_FILE_CALLS && !i; k++)
            calls[k] = aq_file_calls((aq_file_call)k);
        aq_file_fail(AQ_CALL_OPEN, 0, 0);
        if (status != AQ_OK)
            fail_msg("fault %zu: %s", i, aq_error());
        aq_engine_close(e);
        assert_int_equal(aq_folder_list(dir, &arena, &files), AQ_OK);
        if ((int)files.n != faults[i].kept)
            fail_msg("fault %zu: %u files in the cache", i, files.n);
        for (uint32_t k = 0; k < files.n; k++)
            if (strstr(files.at[k].path, ".tmp.") || aq_rt_plan_load(files.at[k].path, &plan) != AQ_OK)
                fail_msg("fault %zu: %s is no whole plan: %s", i, files.at[k].path, aq_error());
        aq_rt_plan_close(plan);
        aq_arena_close(&arena);
        assert_int_equal(aq_file_kind(dir) == 2 ? system(command) : 0, 0); /* so that the folder is made again */
    }
    assert_int_equal(mkdir(dir, 0700), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_plan_that_cannot_be_kept), cmocka_unit_test(the_least_recently_used_goes), cmocka_unit_test(packed_weights),
                                       cmocka_unit_test(another_llvm_makes_its_own_plan), cmocka_unit_test(llvm_is_found_where_it_is_opened),
                                       cmocka_unit_test(what_does_not_fit_is_told_beforehand)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
