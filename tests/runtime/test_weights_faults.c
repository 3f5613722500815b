/* test_weights_faults.c: each call to the system that binding with a cache folder makes fails once, in each way that it can: the weights are
 * bound and right in any case, at worst in memory with a note that says why; no temporary file stays, and what has the file's name is whole. */
#define _GNU_SOURCE
#include "ir/file_call.h"
#include "ir/memory.h"
#include "tests/runtime/tiny.h"

#include <errno.h>
#include <unistd.h>

static aq_arena arena;
static aq_rt_plan *plan;
static tiny model;
static char folder[64];

static const char *const call_name[AQ_FILE_CALLS] = {"open", "stat", "map", "read", "write", "sync", "close", "rename", "unlink", "mkdir", "list"};

static int set_up(void **state) {
    (void)state;
    tiny_make(&model, 3);
    plan = tiny_plan(&arena);
    strcpy(folder, "/dev/shm/aq-faults-XXXXXX");
    if (mkdtemp(folder))
        return 0;
    strcpy(folder, "/tmp/aq-faults-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

typedef struct found {
    int files, temporaries;
    char last[256];
} found;

static int look(void *user, const char *name) {
    found *f = user;
    f->files++;
    f->temporaries += strstr(name, ".tmp.") != NULL;
    snprintf(f->last, sizeof f->last, "%s/%s", folder, name);
    return 1;
}

static found in_folder(void) {
    found f = {0};
    assert_ok(aq_file_list(folder, look, &f));
    return f;
}

static void empty_folder(void) {
    for (found f; (f = in_folder()).files;)
        assert_ok(aq_file_remove(f.last));
}

static int tear_down(void **state) {
    (void)state;
    empty_folder();
    rmdir(folder);
    aq_rt_plan_close(plan);
    aq_arena_close(&arena);
    return aq_mem_open_blocks() != 0;
}

/* 0 when binding makes fewer such calls. */
static int one_fault(aq_file_call call, long nth, int error, int warm) {
    aq_rt_weights *w;
    long blocks = aq_mem_open_blocks();
    int current;
    aq_file_fail(call, nth, error);
    aq_status status = aq_rt_weights_bind(plan, tiny_source, &model, folder, 1, NULL, NULL, &w);
    int failed = aq_file_failed();
    aq_file_fail(call, 0, 0);
    if (status != AQ_OK)
        fail_msg("%s %ld fails (%d): %s", call_name[call], nth, error, aq_error());
    const char *note = aq_rt_weights_note(w);
    const float *out = aq_rt_weight_at(w, 1);
    int64_t dim[2] = {TINY_V, TINY_D};
    for (int64_t i = 0; i < TINY_V * TINY_D; i++)
        assert_true(aq_layout_get(AQ_LAYOUT_PANEL, AQ_F32, dim, 2, (int64_t[]){i / TINY_D, i % TINY_D}, out) == (double)model.out[i]);
    if (note && (!failed || error == EINTR || error == AQ_CALL_SHORT || !strstr(note, strerror(error))))
        fail_msg("%s %ld fails (%d): a note \"%s\"", call_name[call], nth, error, note);
    aq_rt_weights_close(w);
    assert_int_equal(aq_mem_open_blocks(), blocks);
    found f = in_folder();
    if (f.temporaries && call != AQ_CALL_UNLINK)
        fail_msg("%s %ld fails (%d): a temporary file is left", call_name[call], nth, error);
    if (!note && !f.files)
        fail_msg("%s %ld fails (%d): nothing was kept and nothing said", call_name[call], nth, error);
    if (f.files && !f.temporaries)
        assert_ok(aq_rt_cache_file_check(f.last, 1, &current));
    if (!warm)
        empty_folder();
    return failed;
}

static void all_faults(int warm) {
    static const int errors[] = {EINTR, EIO, ENOSPC, AQ_CALL_SHORT};
    int faults = 0;
    for (int call = 0; call < AQ_FILE_CALLS; call++)
        for (int k = 0; k < 4; k++)
            for (long nth = 1; one_fault((aq_file_call)call, nth, errors[k], warm); nth++)
                faults++;
    print_message("    %d faults\n", faults);
    assert_true(faults > (warm ? 5 : 20));
}

static void while_the_file_is_written(void **state) {
    (void)state;
    all_faults(0);
}

static void while_it_is_found_again(void **state) {
    (void)state;
    aq_rt_weights *w;
    assert_ok(aq_rt_weights_bind(plan, tiny_source, &model, folder, 1, NULL, NULL, &w));
    aq_rt_weights_close(w);
    all_faults(1);
}

/* The process that wrote it is gone: the next one that writes there removes it. A living one's stays. */
static void leftovers_go(void **state) {
    (void)state;
    char path[300];
    aq_rt_weights *w;
    aq_file_writer *living;
    assert_ok(aq_rt_weights_bind(plan, tiny_source, &model, folder, 1, NULL, NULL, &w));
    aq_rt_weights_close(w);
    found f = in_folder();
    assert_ok(aq_file_create(f.last, &living));
    assert_int_equal(in_folder().files, 2);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s.tmp.%ld.%d", f.last, i ? 4194304L + i : (long)getpid(), 7 + i); /* beyond the largest number; one of ours that no one holds */
        FILE *left = fopen(path, "w");
        assert_non_null(left);
        fclose(left);
    }
    assert_int_equal(in_folder().files, 5);
    assert_int_equal(truncate(f.last, 10), 0); /* so it is written again */
    assert_ok(aq_rt_weights_bind(plan, tiny_source, &model, folder, 1, NULL, NULL, &w));
    aq_rt_weights_close(w);
    assert_int_equal(in_folder().files, 2);
    aq_file_abandon(living);
    assert_int_equal(in_folder().files, 1);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {TEST(while_the_file_is_written), TEST(while_it_is_found_again), TEST(leftovers_go)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
