/* test_results.c: what a graph returns beside its logits: a value twice, views of one value, views of inputs, each in memory of its own, from one
 * token and from several, on any number of threads; a state is no result of a plan. */
#include "codegen/cpu/cpu.h"
#include "frontend/engine.h"
#include "ir/file.h"
#include "ir/memory.h"
#include "runtime/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { V = 512 };
static const char tail[] = "    return matmul (rmsnorm (rows %x, %want), @norm {eps=EPS}), @output\n", type[] = "-> f32[O, V] {";
static aq_arena arena;

/* models/aquila/aquila.aq with other results: their types, and what is returned (%l: the logits). */
static const char *with_results(const char *types, const char *what) {
    char *text, *at, *end;
    const char *out;
    size_t n;
    assert_int_equal(aq_file_read("models/aquila/aquila.aq", 1 << 20, &text, &n), AQ_OK);
    at = strstr(text, type);
    end = strstr(text, tail);
    assert_true(at && end);
    assert_int_equal(aq_arena_format(&arena, &out, "%.*s-> %s {%.*s    %%l = %s    return %s\n%s", (int)(at - text), text, types,
                                     (int)(end - at) - (int)strlen(type), at + strlen(type), tail + strlen("    return "), what, end + strlen(tail)), AQ_OK);
    aq_mem_free(text);
    return out;
}

static aq_status open_text(const char *text, int threads, aq_engine **out) {
    const aq_engine_options o = {.context = 64, .threads = threads, .outputs = 8, .text = text, .text_name = "results.aq"};
    return aq_engine_open("tests/data/tiny-hf", &o, out);
}

static void each_result_has_its_own_memory(void **state) {
    const char *version, *path;
    (void)state;
    if (aq_cpu_llvm_version(&version, &path) != AQ_OK)
        skip();
    const char *text = with_results("f32[O, V], f32[O, V], f32[O, 8, 64], f32[O, V], i32[T, 1], f32[O, V], i32[O, 1]",
                                    "%l, %l, (reshape %l {shape=[O, 8, 64]}), (neg %l), (reshape %tok {shape=[T, 1]}), %l, (reshape %want {shape=[O, 1]})");
    for (int threads = 1; threads <= 3; threads++) {
        aq_engine *e;
        const float *logits;
        int32_t tokens[5] = {7, 300, 42, 5, 99};
        if (open_text(text, threads, &e) != AQ_OK)
            fail_msg("%s", aq_error());
        aq_rt_session *s = aq_engine_session(e);
        static const int64_t steps[][2] = {{1, 1}, {3, 2}, {5, 5}, {5, 0}}; /* tokens, and of how many the logits are wanted */
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            int64_t n = steps[i][0], rows = steps[i][1];
            for (int k = 0; k < 7; k++)
                memset(s->output[k], 0xee, (size_t)(k == 4 ? n : k == 6 ? rows : rows * V) * 4);
            if (aq_engine_feed(e, 0, tokens, n, rows, &logits) != AQ_OK)
                fail_msg("%s", aq_error());
            for (int k = 1; k < 6; k++)
                assert_true(s->output[k] != s->output[0] && (k == 3 || k == 4 || !memcmp(s->output[k], s->output[0], (size_t)rows * V * 4)));
            for (int64_t j = 0; j < rows * V; j++)
                assert_true(((float *)s->output[3])[j] == -((float *)s->output[0])[j]);
            assert_memory_equal(s->output[4], tokens, (size_t)n * 4);
            for (int64_t j = 0; j < rows; j++)
                assert_int_equal(((int32_t *)s->output[6])[j], n - rows + j);
        }
        aq_engine_close(e);
    }
    aq_arena_close(&arena);
}

static void a_state_is_refused(void **state) {
    const char *version, *path;
    aq_engine *e;
    (void)state;
    if (aq_cpu_llvm_version(&version, &path) != AQ_OK)
        skip();
    assert_int_equal(open_text(with_results("f32[O, V], f32[S, HKV, DH]", "%l, $k.0"), 1, &e), AQ_REFUSED);
    assert_non_null(strstr(aq_error(), "results.aq: result 1 of graph step is a state: expected what its ops make"));
    aq_arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_result_has_its_own_memory), cmocka_unit_test(a_state_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
