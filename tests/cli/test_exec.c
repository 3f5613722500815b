/* test_exec.c: whole random graphs from text through passes, fuse, schedules, lower and the emitter, beside the reference on the same inputs: what
 * `aquila exec FILE --check ref` does. tests/chain has single regions under random schedules; here the cuts are fuse's and values pass from
 * kernel to kernel. */
#include "tests/passes/common.h"

#include "frontend/cli/exec.h"

static void put(const char *path, const char *text) {
    aq_file_writer *w;
    CHECK(aq_file_create(path, &w));
    CHECK(aq_file_append(w, text, strlen(text)));
    CHECK(aq_file_commit(w));
}

static void run_one(uint64_t seed, const char *path) {
    static const char *const targets[] = {"cpu", "cpu:v3", "cpu:v4", "cpu"};
    char tokens[16], number[24];
    const char *text, *shown = NULL, *target = targets[seed % 4];
    aq_arena arena = {0};
    aq_target t;
    aq_args args;
    aq_graph_file file;
    aq_exec_report report = {0};
    random_graph(seed, &arena, &text);
    put(path, text);
    CHECK(aq_target_parse(target, &t));
    snprintf(tokens, sizeof tokens, "T=%d", (int)(1 + seed * 7 % 37));
    snprintf(number, sizeof number, "%d", (int)seed);
    char *argv[] = {"aquila", "exec", (char *)(uintptr_t)path, "--check", "ref", "--bind", tokens, "--seed", number, "--target", (char *)(uintptr_t)target, NULL};
    CHECK(aq_args_parse(11, argv, &args));
    CHECK(aq_graph_file_open(&args, path, &file));
    if (aq_target_runs_here(&t) == AQ_OK) {
        if (aq_exec_graph(&file, &arena, &report, &shown) != AQ_OK)
            fail_msg("seed %d, %s, %s: %s\n%s", (int)seed, tokens, target, aq_error(), text);
        assert_true(report.compared && report.outputs.n > 0);
        for (uint32_t i = 0; i < report.outputs.n; i++)
            if (!(report.outputs.at[i].distance <= 2e-5)) /* f32 sums against f64 */
                fail_msg("seed %d, %s, %s: result %u is %.3g from ref\n%s", (int)seed, tokens, target, i, report.outputs.at[i].distance, text);
    }
    aq_graph_file_close(&file);
    aq_args_close(&args);
    aq_arena_close(&arena);
}

static void random_graphs_agree_with_ref(void **state) {
    (void)state;
    char folder[] = "/tmp/aq_exec_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/g.aq", folder);
    long blocks = aq_mem_open_blocks();
    for (uint64_t seed = 1; seed <= 100; seed++)
        run_one(seed, path);
    assert_int_equal(aq_mem_open_blocks(), blocks);
    remove(path);
    remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_graphs_agree_with_ref)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
