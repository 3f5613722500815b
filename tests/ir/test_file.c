/* test_file.c: reading maps exactly the file; writing shows the old file or the new one, never half, and leaves nothing else behind. */
#define _GNU_SOURCE
#include "ir/file.h"
#include "ir/memory.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static char path_room[4][128];

static const char *in_folder(int i, const char *name) {
    snprintf(path_room[i], sizeof path_room[i], "%s/%s", folder, name);
    return path_room[i];
}

static int open_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/aq_file_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int entries(void) {
    DIR *d = opendir(folder);
    int n = -2;
    while (d && readdir(d))
        n++;
    closedir(d);
    return n;
}

static int close_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void write_file(const char *path, const char *text) {
    aq_file_writer *w;
    assert_int_equal(aq_file_create(path, &w), AQ_OK);
    assert_int_equal(aq_file_append(w, text, strlen(text)), AQ_OK);
    assert_int_equal(aq_file_commit(w), AQ_OK);
}

static void assert_holds(const char *path, const char *text) {
    aq_file f;
    if (aq_file_map(path, &f) != AQ_OK)
        fail_msg("%s", aq_error());
    assert_int_equal(f.size, strlen(text));
    assert_memory_equal(f.bytes, text, f.size);
    assert_true(f.mtime_ns > 0);
    aq_file_unmap(&f);
}

static void what_was_written_is_read(void **state) {
    (void)state;
    const char *a = in_folder(0, "a");
    write_file(a, "one");
    assert_holds(a, "one");
    write_file(a, "two, longer");
    assert_holds(a, "two, longer");
    assert_int_equal(entries(), 1);
}

static void large_writes_in_small_and_large_pieces(void **state) {
    (void)state;
    const char *a = in_folder(0, "a");
    static unsigned char bytes[300000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 7 ^ i >> 9);
    aq_file_writer *w;
    aq_file f;
    assert_int_equal(aq_file_create(a, &w), AQ_OK);
    size_t at = 0;
    for (size_t piece = 1; at < sizeof bytes; piece = piece * 3 + 1) {
        size_t n = piece < sizeof bytes - at ? piece : sizeof bytes - at;
        assert_int_equal(aq_file_append(w, bytes + at, n), AQ_OK);
        at += n;
    }
    assert_int_equal(aq_file_commit(w), AQ_OK);
    assert_int_equal(aq_file_map(a, &f), AQ_OK);
    assert_int_equal(f.size, sizeof bytes);
    assert_memory_equal(f.bytes, bytes, sizeof bytes);
    aq_file_unmap(&f);
}

static void until_commit_the_old_file_stands(void **state) {
    (void)state;
    const char *a = in_folder(0, "a");
    write_file(a, "old");
    aq_file_writer *w, *second;
    assert_int_equal(aq_file_create(a, &w), AQ_OK);
    assert_int_equal(aq_file_create(a, &second), AQ_OK); /* two writers do not meet */
    assert_int_equal(aq_file_append(w, "new", 3), AQ_OK);
    assert_holds(a, "old");
    assert_int_equal(entries(), 3);
    aq_file_abandon(w);
    aq_file_abandon(second);
    aq_file_abandon(NULL);
    assert_holds(a, "old");
    assert_int_equal(entries(), 1);
}

static void a_link_is_followed_and_stays(void **state) {
    (void)state;
    struct stat st;
    const char *a = in_folder(0, "a"), *link = in_folder(1, "link");
    write_file(a, "old");
    assert_int_equal(symlink("a", link), 0);
    write_file(link, "new");
    assert_holds(a, "new");
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
}

static void assert_refusal(aq_status status, aq_status want, const char *message) {
    assert_int_equal(status, want);
    if (!strstr(aq_error(), message))
        fail_msg("\"%s\" does not say \"%s\"", aq_error(), message);
}

static void what_cannot_be_is_said(void **state) {
    (void)state;
    aq_file f;
    aq_file_writer *w;
    const char *a = in_folder(0, "a");
    assert_refusal(aq_file_map(in_folder(1, "none"), &f), AQ_REFUSED, "none: no such file");
    assert_refusal(aq_file_map(folder, &f), AQ_REFUSED, "a folder: expected a regular file");
    assert_refusal(aq_file_map("/dev/null", &f), AQ_REFUSED, "expected a regular file");
    assert_refusal(aq_file_create(in_folder(1, "no/where"), &w), AQ_FAILED, "no such folder");
    assert_refusal(aq_file_create(folder, &w), AQ_FAILED, "is a folder");
    assert_refusal(aq_file_create("", &w), AQ_FAILED, "empty");
    write_file(a, "file");
    assert_refusal(aq_file_make_folder(in_folder(1, "a/b")), AQ_FAILED, "not a folder");
    assert_int_equal(entries(), 1);
}

static void a_full_disk_is_an_error_and_a_device_stays(void **state) {
    (void)state;
    aq_file_writer *w;
    assert_int_equal(aq_file_create("/dev/full", &w), AQ_OK);
    assert_int_equal(aq_file_append(w, "x", 1), AQ_OK);
    assert_refusal(aq_file_commit(w), AQ_FAILED, "cannot write");
    assert_int_equal(aq_file_kind("/dev/full"), 3);
}

static void kinds_and_folders(void **state) {
    (void)state;
    const char *deep = in_folder(0, "x/y//z/"), *a = in_folder(1, "a");
    assert_int_equal(aq_file_kind(deep), 0);
    assert_int_equal(aq_file_make_folder(deep), AQ_OK);
    assert_int_equal(aq_file_make_folder(deep), AQ_OK);
    assert_int_equal(aq_file_kind(deep), 2);
    write_file(a, "");
    assert_int_equal(aq_file_kind(a), 1);
    aq_file f;
    assert_int_equal(aq_file_map(a, &f), AQ_OK);
    assert_null(f.bytes);
    assert_int_equal(f.size, 0);
    aq_file_unmap(&f);
}

static void reading_has_a_limit(void **state) {
    (void)state;
    const char *a = in_folder(0, "a");
    char *text;
    size_t n;
    write_file(a, "12345");
    assert_int_equal(aq_file_read(a, 5, &text, &n), AQ_OK);
    assert_int_equal(n, 5);
    assert_string_equal(text, "12345");
    aq_mem_free(text);
    assert_refusal(aq_file_read(a, 4, &text, &n), AQ_REFUSED, "expected at most 4 bytes");
    assert_refusal(aq_file_read(folder, 4, &text, &n), AQ_REFUSED, "cannot read");
}

static void failed_allocations_leak_nothing(void **state) {
    (void)state;
    const char *a = in_folder(0, "a");
    write_file(a, "12345");
    long before = aq_mem_open_blocks();
    for (long nth = 1; nth < 4; nth++) {
        char *text;
        size_t n;
        aq_file_writer *w;
        aq_mem_fail_after(nth);
        aq_status read = aq_file_read(a, 5, &text, &n);
        aq_status made = aq_file_create(in_folder(1, "b"), &w);
        aq_mem_fail_after(0);
        assert_int_equal(read, nth == 1 ? AQ_NO_MEMORY : AQ_OK);
        assert_int_equal(made, nth <= 2 ? AQ_NO_MEMORY : AQ_OK);
        if (read == AQ_OK)
            aq_mem_free(text);
        if (made == AQ_OK)
            aq_file_abandon(w);
    }
    assert_int_equal(aq_mem_open_blocks(), before);
    assert_int_equal(entries(), 1);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_folder, close_folder)
    const struct CMUnitTest tests[] = {
        TEST(what_was_written_is_read),  TEST(large_writes_in_small_and_large_pieces), TEST(until_commit_the_old_file_stands),
        TEST(a_link_is_followed_and_stays), TEST(what_cannot_be_is_said), TEST(a_full_disk_is_an_error_and_a_device_stays),
        TEST(kinds_and_folders), TEST(reading_has_a_limit), TEST(failed_allocations_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
