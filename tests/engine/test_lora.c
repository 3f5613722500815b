/* test_lora.c: adapters against PEFT (tests/oracle/lora.py): what PEFT saves, FlagAI's names, its fused Wqkv, llama.cpp's file; merged and as dots; by the
 * interpreter (relative L2 at most 1e-5) and by compiled kernels (5e-3; 2e-2 where merging rounds to bf16, 5e-2 where q8_0 does). */
#define _GNU_SOURCE
#include "codegen/cpu/cpu.h"
#include "frontend/engine.h"
#include "frontend/import/json.h"
#include "frontend/lora.h"
#include "ir/memory.h"
#include "tests/support/micro.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
} adapters[] = {{"peft", "tests/data/lora/peft"}, {"flagai", "tests/data/lora/flagai"}, {"fused", "tests/data/lora/fused"}, {"patterns", "tests/data/lora/patterns"}, {"gguf", "tests/data/lora/gguf.gguf"}};
enum { ADAPTERS = sizeof adapters / sizeof *adapters };

/* What stands behind a matrix's name is lora_A or lora_B, at most an adapter's name, and weight; anything else is no part of an adapter. */
static void names_that_are_no_pair(void **state) {
    (void)state;
    static const char good[] = "lora_A.weight\":";
    static const char *const others[] = {good, "lora_.weight\" :", "lora_C.weight\":", "lora_A_weight\":", "lora_A.weighs\":", "lora_A\"       :", "lora_A.w\"     :",
                                         "lora_AB.weigh\":", "lora_a.weight\":"};
    char folder[64], path[128], *weights, *config;
    size_t n, n_config;
    assert_int_equal(aq_file_read("tests/data/lora/peft/adapter_model.safetensors", 1 << 24, &weights, &n), AQ_OK);
    assert_int_equal(aq_file_read("tests/data/lora/peft/adapter_config.json", 1 << 20, &config, &n_config), AQ_OK);
    char *at = memmem(weights, n, good, sizeof good - 1);
    assert_non_null(at);
    aq_micro_folder(folder);
    aq_micro_put(folder, "adapter_config.json", config, n_config);
    snprintf(path, sizeof path, "%s", folder);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        aq_checkpoint c;
        assert_int_equal(strlen(others[i]), sizeof good - 1);
        memcpy(at, others[i], sizeof good - 1);
        aq_micro_put(folder, "adapter_model.safetensors", weights, n);
        assert_int_equal(aq_checkpoint_open(base, &c), AQ_OK);
        aq_status status = aq_lora_add(&c, path, 1);
        if (i ? status != AQ_REFUSED || !strstr(aq_error(), "is no lora_A or lora_B of a matrix") : status != AQ_OK)
            fail_msg("%s: %s", others[i], status == AQ_OK ? "was taken" : aq_error());
        aq_checkpoint_close(&c);
    }
    aq_micro_remove(folder);
    aq_mem_free(weights);
    aq_mem_free(config);
}

static void by_ref(void **state) {
    (void)state;
    for (size_t i = 0; i < ADAPTERS; i++) {
        check(&adapters[i].folder, 1, adapters[i].name, "ref", "dots", NULL, 1e-5);
        check(&adapters[i].folder, 1, adapters[i].name, "ref", "merge", "f32", 1e-5);
    }
}

static void by_cpu(void **state) {
    const char *version, *path;
    (void)state;
    if (aq_cpu_llvm_version(&version, &path) != AQ_OK)
        skip();
    for (size_t i = 0; i < 3; i++) { /* the others differ in how they are read */
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

static void write_all(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(bytes, 1, n, f) == n);
    fclose(f);
}

static void try_adapter(const char *folder, const char *story) {
    aq_checkpoint c;
    assert_int_equal(aq_checkpoint_open(base, &c), AQ_OK);
    aq_status status = aq_lora_add(&c, folder, 1);
    if (status == AQ_OK)
        status = aq_lora_dots(&c);
    if (status != AQ_OK && status != AQ_REFUSED)
        fail_msg("%s gave %d: %s", story, status, aq_error());
    if (status != AQ_OK && (!*aq_error() || strchr(aq_error(), '\n')))
        fail_msg("%s: not one line: %s", story, aq_error());
    aq_checkpoint_close(&c);
}

/* Every truncation (in steps) and a flipped bit of every byte that says something, of both files. */
static void damaged_files(void **state) {
    char folder[] = "/tmp/aq-lora-XXXXXX", path[2][64], story[64];
    char *bytes[2];
    size_t n[2];
    (void)state;
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "adapter_model.safetensors" : "adapter_config.json";
        char from[80];
        snprintf(from, sizeof from, "tests/data/lora/fused/%s", name);
        snprintf(path[i], sizeof path[i], "%s/%s", folder, name);
        assert_int_equal(aq_file_read(from, 1 << 20, &bytes[i], &n[i]), AQ_OK);
        write_all(path[i], bytes[i], n[i]);
    }
    for (int i = 0; i < 2; i++) {
        size_t told = i ? 600 : n[i]; /* the header: what follows are numbers, all of them legal */
        for (size_t at = 0; at < told; at++) {
            bytes[i][at] ^= (char)(1 << at % 8);
            write_all(path[i], bytes[i], n[i]);
            snprintf(story, sizeof story, "file %d, bit %zu of byte %zu flipped", i, at % 8, at);
            try_adapter(folder, story);
            bytes[i][at] ^= (char)(1 << at % 8);
        }
        for (size_t length = 0; length < n[i]; length += 1 + length / 20) {
            write_all(path[i], bytes[i], length);
            snprintf(story, sizeof story, "file %d cut to %zu bytes", i, length);
            try_adapter(folder, story);
        }
        write_all(path[i], bytes[i], n[i]);
    }
    for (int i = 0; i < 2; i++) {
        aq_mem_free(bytes[i]);
        assert_int_equal(remove(path[i]), 0);
    }
    assert_int_equal(remove(folder), 0);
}

static void a_damaged_gguf_file(void **state) {
    char path[] = "/tmp/aq-lora-XXXXXX.gguf", story[64];
    char *bytes;
    size_t n;
    (void)state;
    int file = mkstemps(path, 5);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(aq_file_read("tests/data/lora/gguf.gguf", 1 << 20, &bytes, &n), AQ_OK);
    for (size_t at = 0; at < 2000; at += 5) { /* keys and names: what follows are numbers */
        bytes[at] ^= (char)(1 << at % 8);
        write_all(path, bytes, n);
        snprintf(story, sizeof story, "bit %zu of byte %zu flipped", at % 8, at);
        try_adapter(path, story);
        bytes[at] ^= (char)(1 << at % 8);
    }
    for (size_t length = 0; length < n; length += 1 + length / 20) {
        write_all(path, bytes, length);
        snprintf(story, sizeof story, "cut to %zu bytes", length);
        try_adapter(path, story);
    }
    aq_mem_free(bytes);
    assert_int_equal(remove(path), 0);
}

static void too_many(void **state) {
    (void)state;
    aq_checkpoint c;
    assert_int_equal(aq_checkpoint_open(base, &c), AQ_OK);
    for (int i = 0; i < 16; i++)
        assert_int_equal(aq_lora_add(&c, "tests/data/lora/flagai", 1), AQ_OK);
    assert_int_equal(aq_lora_add(&c, "tests/data/lora/flagai", 1), AQ_USAGE);
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
        cmocka_unit_test(names_that_are_no_pair), cmocka_unit_test(by_ref),   cmocka_unit_test(by_cpu), cmocka_unit_test(two_halves), cmocka_unit_test(merged_like_dots_on_other_forms),
        cmocka_unit_test(refusals), cmocka_unit_test(damaged_files), cmocka_unit_test(a_damaged_gguf_file), cmocka_unit_test(too_many), cmocka_unit_test_setup(every_failed_allocation_is_reported, count_blocks),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
