/* Stop texts in a stream: the cut does not depend on how the text was cut into pieces. */
#include "frontend/chat/stop.h"
#include "ir/memory.h"
#include "ir/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka wants these first
#include <cmocka.h>

/* Feeds text in pieces of at most `most` bytes; what comes out in order must be `want`. */
static void expect(const char *const *stops, uint32_t n, const char *text, uint32_t most, aq_random *r, const char *want, int is_stopped) {
    aq_bytes list[8];
    char got[400] = "";
    for (uint32_t i = 0; i < n; i++)
        list[i] = (aq_bytes){stops[i], (uint32_t)strlen(stops[i])};
    aq_stop_matcher m = aq_stop_open(list, n);
    aq_bytes out;
    for (size_t at = 0, length = strlen(text); at < length;) {
        size_t piece = most > 1 ? aq_random_below(r, most + 1) : 1;
        piece = piece < length - at ? piece : length - at;
        assert_int_equal(aq_stop_push(&m, (aq_bytes){text + at, (uint32_t)piece}, &out), AQ_OK);
        strncat(got, out.s, out.n);
        at += piece;
        assert_true(strncmp(want, got, strlen(got)) == 0); /* nothing is ever given that must be taken back */
    }
    out = aq_stop_finish(&m);
    strncat(got, out.s, out.n);
    assert_string_equal(got, want);
    assert_int_equal(m.is_stopped, is_stopped);
    aq_stop_close(&m);
}

static void all_ways(const char *const *stops, uint32_t n, const char *text, const char *want, int is_stopped) {
    aq_random r = aq_random_open(11);
    for (uint32_t most = 1; most < 12; most++)
        for (int k = 0; k < 20; k++)
            expect(stops, n, text, most, &r, want, is_stopped);
}

static void test_cases(void **state) {
    (void)state;
    static const char *const aquila[] = {"###", "</s>", "[UNK]"};
    all_ways(aquila, 3, "Hello.###Human: x", "Hello.", 1);
    all_ways(aquila, 3, "## a # b </ </s", "## a # b </ </s", 0); /* beginnings that came to nothing */
    all_ways(aquila, 3, "a####b", "a", 1);
    all_ways(aquila, 3, "a##[UNK]###", "a##", 1);
    all_ways(aquila, 3, "</s>", "", 1);
    all_ways(aquila, 3, "", "", 0);
    static const char *const nested[] = {"abcd", "bc", "c", ""};
    all_ways(nested, 4, "xabcd", "xa", 1); /* bc is complete before abcd, and longer than c */
    static const char *const shorter_first[] = {"c", "bc"};
    all_ways(shorter_first, 2, "abc", "a", 1);
    static const char *const self[] = {"aab"};
    all_ways(self, 1, "aaaab!", "aa", 1);
    all_ways(self, 0, "anything", "anything", 0);
}

/* What is held back is short: text goes out as soon as it is certain. */
static void test_holds_back_only_a_beginning(void **state) {
    (void)state;
    const aq_bytes stop = {"</s>", 4};
    aq_stop_matcher m = aq_stop_open(&stop, 1);
    aq_bytes out;
    assert_int_equal(aq_stop_push(&m, (aq_bytes){"ab</", 4}, &out), AQ_OK);
    assert_int_equal(out.n, 2);
    assert_int_equal(aq_stop_push(&m, (aq_bytes){"x<", 2}, &out), AQ_OK);
    assert_int_equal(out.n, 3);
    assert_memory_equal(out.s, "</x", 3);
    aq_mem_fail_after(1);
    assert_int_equal(aq_stop_push(&m, (aq_bytes){"0123456789012345678901234567890123456789", 40}, &out), AQ_NO_MEMORY);
    aq_mem_fail_after(0);
    assert_int_equal(aq_stop_push(&m, (aq_bytes){"/s>", 3}, &out), AQ_OK);
    assert_int_equal(out.n, 0);
    assert_int_equal(m.is_stopped, 1);
    aq_stop_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_holds_back_only_a_beginning)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed ? failed : aq_mem_open_blocks() != 0;
}
