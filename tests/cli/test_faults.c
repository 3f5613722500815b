/* test_faults.c: each call to the system that writing a conversation's history and its saved messages makes fails once, in each way that it can: the
 * file is the old one or the new one, never half; an interruption or a short write harms nothing; what is said is one line; no temporary file stays. */
#define _GNU_SOURCE
#include "frontend/cli/common.h"
#include "frontend/cli/history.h"
#include "ir/file.h"
#include "ir/file_call.h"
#include "ir/memory.h"
#include "tests/support/micro.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const call_name[AQ_FILE_CALLS] = {"open", "stat", "map", "read", "write", "sync", "close", "rename", "unlink", "mkdir", "list"};
static const char old_text[] = "what was asked\nthen\\nin two lines\n";
static char folder[64], path[128];

static aq_status write_history(void) {
    aq_history h;
    aq_history_open(path, &h);
    aq_status status = aq_history_add(&h, "new\nlines");
    if (status == AQ_OK)
        status = aq_history_write(&h);
    aq_history_close(&h);
    return status;
}

static aq_status write_saved(void) { return aq_output_file(path, "[{}]\n", 5); }

static int count(void *user, const char *name) {
    *(int *)user += strstr(name, ".tmp.") != NULL;
    return 1;
}

static int temporaries(void) {
    int n = 0;
    assert_int_equal(aq_file_list(folder, count, &n), AQ_OK);
    return n;
}

static int holds(const char *text) {
    char *bytes;
    size_t n;
    assert_int_equal(aq_file_read(path, 1 << 20, &bytes, &n), AQ_OK);
    int same = n == strlen(text) && memcmp(bytes, text, n) == 0;
    aq_mem_free(bytes);
    return same;
}

/* 0 when it makes fewer such calls. */
static int one_fault(aq_status (*write)(void), const char *new_text, aq_file_call call, long nth, int error) {
    assert_int_equal(aq_output_file(path, old_text, strlen(old_text)), AQ_OK);
    long blocks = aq_mem_open_blocks();
    aq_file_fail(call, nth, error);
    aq_status status = write();
    int failed = aq_file_failed();
    aq_file_fail(call, 0, 0);
    assert_int_equal(aq_mem_open_blocks(), blocks);
    if (!failed) {
        assert_int_equal(status, AQ_OK);
        return 0;
    }
    if (status != AQ_OK && (!*aq_error() || strchr(aq_error(), '\n') || error == EINTR || error == AQ_CALL_SHORT))
        fail_msg("%s %ld fails (%d): status %d, \"%s\"", call_name[call], nth, error, status, aq_error());
    if (!holds(new_text) && (status == AQ_OK || !holds(old_text)))
        fail_msg("%s %ld fails (%d): status %d, and what stands there is neither the old nor the new one", call_name[call], nth, error, status);
    if (temporaries() && call != AQ_CALL_UNLINK)
        fail_msg("%s %ld fails (%d): a temporary file is left", call_name[call], nth, error);
    return 1;
}

static void all_faults(aq_status (*write)(void), const char *new_text) {
    static const int errors[] = {EINTR, EIO, ENOSPC, AQ_CALL_SHORT};
    int faults = 0;
    aq_micro_folder(folder);
    snprintf(path, sizeof path, "%s/file", folder);
    for (int call = 0; call < AQ_FILE_CALLS; call++)
        for (int k = 0; k < 4; k++)
            for (long nth = 1; one_fault(write, new_text, (aq_file_call)call, nth, errors[k]); nth++)
                faults++;
    aq_micro_remove(folder);
    print_message("    %d faults\n", faults);
    assert_true(faults > 20);
}

static void while_history_is_written(void **state) {
    (void)state;
    all_faults(write_history, "what was asked\nthen\\nin two lines\nnew\\nlines\n");
}

static void while_messages_are_saved(void **state) {
    (void)state;
    all_faults(write_saved, "[{}]\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(while_history_is_written), cmocka_unit_test(while_messages_are_saved)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
