/* test_lora.c: adapters against PEFT (tests/oracle/lora.py): what PEFT saves, FlagAI's names, its fused Wqkv; merged and as dots; by the
 * interpreter (relative L2 at most 1e-5) and by compiled kernels (5e-3; 2e-2 where merging rounds to bf16, 5e-2 where q8_0 does). */
#include "codegen/cpu/cpu.h"
#include "frontend/engine.h"
#include "frontend/import/json.h"
#include "frontend/lora.h"
#include "ir/memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char base[] = "tests/data/tiny-hf";
static cJSON *stored;
static char *text;

static int set_up(void **state) {
    size_t n;
    (void)state;
    return aq_file_read("tests/data/lora/logits.json", 1 << 24, &text, &n) == AQ_OK && aq_json_parse("logits.json", text, n, &stored) == AQ_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    cJSON_Delete(stored);
    aq_mem_free(text);
    assert_int_equal(aq_mem_open_blocks(), 0);
    return 0;
}

static double error_of(aq_engine *e, const cJSON *prompt, const cJSON *want) {
    int32_t ids[64];
    int64_t n = 0;
    const float *logits;
    const cJSON *x;
    double up = 0, down = 0;
    cJSON_ArrayForEach(x, prompt) ids[n++] = (int32_t)x->valuedouble;
    if (aq_engine_truncate(e, 0, 0) != AQ_OK || aq_engine_feed(e, 0, ids, n, 1, &logits) != AQ_OK)
        fail_msg("%s", aq_error());
    cJSON_ArrayForEach(x, want) {
        up += (*logits - x->valuedouble) * (*logits - x->valuedouble);
        down += x->valuedouble * x->valuedouble;
        logits++;
    }
    return sqrt(up / down);
}

/* n adapters; wanted: the entry of logits.json. Returns the largest error. */
static double check(const char *const *lora, uint32_t n, const char *wanted, const char *target, const char *mode, const char *type, double tolerance) {
    aq_engine *e;
    const aq_engine_options o = {.target = target, .context = 64, .threads = 2, .lora = lora, .n_lora = n, .lora_mode = mode, .weights_type = type};
    double most = 0;
    if (aq_engine_open(base, &o, &e) != AQ_OK)
        fail_msg("%s %s: %s", target, mode, aq_error());
    const cJSON *prompt = aq_json_get(stored, "prompts")->child, *want = aq_json_get(stored, wanted)->child;
    for (; prompt; prompt = prompt->next, want = want->next) {
        double error = error_of(e, prompt, want);
        most = error > most ? error : most;
    }
    aq_engine_close(e);
    print_message("%-4s %-6s %-5s %-9s relative L2 error of the logits %.1e\n", target, wanted, mode ? mode : "-", type ? type : "as-stored", most);
    if (!(most <= tolerance))
        fail_msg("%s, %s, %s: error %g: expected at most %g", target, wanted, mode, most, tolerance);
    return most;
}

static const struct {
    const char *name, *folder;
} adapters[] = {{"peft", "tests/data/lora/peft"}, {"flagai", "tests/data/lora/flagai"}, {"fused", "tests/data/lora/fused"}};

static void by_ref(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        check(&adapters[i].folder, 1, adapters[i].name, "ref", "dots", NULL, 1e-5);
        check(&adapters[i].folder, 1, adapters[i].name, "ref", "merge", "f32", 1e-5);
    }
}

static void by_cpu(void **state) {
    const char *version, *path;
    (void)state;
    if (aq_cpu_llvm_version(&version, &path) != AQ_OK)
        skip();
    for (size_t i = 0; i < 3; i++) {
        check(&adapters[i].folder, 1, adapters[i].name, "cpu", "dots", NULL, 5e-3);
        check(&adapters[i].folder, 1, adapters[i].name, "cpu", "merge", NULL, 2e-2);
    }
    check(&adapters[0].folder, 1, "peft", "cpu", "dots", "q8_0", 5e-2);
    check(&adapters[0].folder, 1, "peft", "cpu", "merge", "q8_0", 5e-2);
}

/* Half of an adapter twice is the adapter: scales of the user, several adapters of one matrix, both ways. */
static void two_halves(void **state) {
    (void)state;
    static const char *const halves[] = {"tests/data/lora/peft:0.5", "tests/data/lora/peft:0.5"};
    check(halves, 2, "peft", "ref", "dots", NULL, 1e-5);
    check(halves, 2, "peft", "ref", "merge", "f32", 1e-5);
}

static void merged_like_dots_on_other_forms(void **state) {
    (void)state;
    /* random weights are in interleaved order, the adapter's B in rotate-half order: the recipes meet */
    static const int32_t ids[] = {1, 2, 3, 4, 5};
    static const char *const lora[] = {"tests/data/lora/peft"};
    const float *logits;
    float first[512];
    double up = 0, down = 0;
    for (int k = 0; k < 2; k++) {
        aq_engine *e;
        const aq_engine_options o = {.target = "ref", .context = 64, .threads = 2, .lora = lora, .n_lora = 1, .lora_mode = k ? "merge" : "dots", .weights_type = "f32"};
        if (aq_engine_open("tiny:random:4", &o, &e) != AQ_OK || aq_engine_feed(e, 0, ids, 5, 1, &logits) != AQ_OK)
            fail_msg("%s", aq_error());
        for (int i = 0; i < 512; i++) {
            up += k ? (logits[i] - first[i]) * (logits[i] - first[i]) : 0;
            down += logits[i] * logits[i];
            first[i] = logits[i];
        }
        aq_engine_close(e);
    }
    if (!(sqrt(up / down) < 1e-5))
        fail_msg("merged and dots differ by %g on weights in interleaved order", sqrt(up / down));
}

static void refusals(void **state) {
    (void)state;
    aq_checkpoint c;
    aq_arena arena = {0};
    const char *path;
    double scale;
    assert_int_equal(aq_lora_parse("no/such:x", &arena, &path, &scale), AQ_USAGE);
    assert_int_equal(aq_lora_parse("no/such", &arena, &path, &scale), AQ_OK);
    assert_int_equal(aq_lora_parse("a:b:-0.25", &arena, &path, &scale), AQ_OK);
    assert_string_equal(path, "a:b");
    assert_true(scale == -0.25);
    aq_arena_close(&arena);
    assert_int_equal(aq_checkpoint_outline("smollm2-135m:random", AQ_BF16, &c), AQ_OK);
    assert_int_equal(aq_lora_add(&c, "tests/data/lora/peft", 1), AQ_REFUSED);
    assert_non_null(strstr(aq_error(), "expected rank x 576"));
    assert_int_equal(aq_lora_add(&c, "tests/data/none", 1), AQ_REFUSED);
    aq_checkpoint_close(&c);
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    for (int merge = 0; merge < 2; merge++) {
        aq_status status = AQ_NO_MEMORY;
        for (long nth = 1; status != AQ_OK; nth++) {
            aq_checkpoint c;
            if (aq_checkpoint_open(base, &c) != AQ_OK)
                fail_msg("%s", aq_error());
            aq_mem_fail_after(nth);
            status = aq_lora_add(&c, "tests/data/lora/peft", 1);
            if (status == AQ_OK)
                status = merge ? aq_lora_merge(&c, AQ_DTYPE_NONE) : aq_lora_dots(&c);
            aq_mem_fail_after(0);
            assert_true(status == AQ_OK || status == AQ_NO_MEMORY);
            aq_checkpoint_close(&c);
            assert_int_equal(aq_mem_open_blocks(), *(const long *)*state);
        }
    }
}

static int count_blocks(void **state) {
    static long blocks;
    blocks = aq_mem_open_blocks();
    *state = &blocks;
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_ref),   cmocka_unit_test(by_cpu), cmocka_unit_test(two_halves), cmocka_unit_test(merged_like_dots_on_other_forms),
        cmocka_unit_test(refusals), cmocka_unit_test_setup(every_failed_allocation_is_reported, count_blocks),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
