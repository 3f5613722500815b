/* test_engine.c: what every plan and session promises: same plan from two compilations, same bits from any number of threads and any chunking of
 * the prompt, memory known beforehand, clean refusals when the Nth allocation fails anywhere in compile, open and decode. */
#include "codegen/cpu/cpu.h"
#include "frontend/engine.h"
#include "ir/memory.h"
#include "ir/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const int32_t prompt[] = {1, 17, 300, 42, 511, 7, 7, 99, 205, 64, 3, 128, 77};
enum { PROMPT = sizeof prompt / sizeof *prompt };
static const char model[] = "tests/data/tiny-hf";

static int no_compiler(void) {
    const char *version, *path;
    if (aq_cpu_llvm_version(&version, &path) == AQ_OK)
        return 0;
    print_message("left out: %s\n", aq_error());
    return 1;
}

static aq_engine *open_engine(const aq_engine_options *o) {
    aq_engine *e;
    if (aq_engine_open(model, o, &e) != AQ_OK)
        fail_msg("%s", aq_error());
    return e;
}

static void same_plan_from_two_compilations(void **state) {
    (void)state;
    if (no_compiler())
        skip();
    aq_checkpoint c;
    aq_arena a = {0}, b = {0};
    unsigned char *x, *y;
    size_t n, k;
    assert_int_equal(aq_checkpoint_open(model, &c), AQ_OK);
    static const char *const targets[] = {"cpu:v3", "cpu:v4", "cpu:v4+vnni", "cpu:v4+bf16+vnni"};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        aq_compile_options o = {.target = targets[i], .jobs = 1}, many = {.target = targets[i], .jobs = 3};
        if (aq_compile(&c, &o, &a, &x, &n, NULL) != AQ_OK || aq_compile(&c, &many, &b, &y, &k, NULL) != AQ_OK)
            fail_msg("%s: %s", targets[i], aq_error());
        assert_int_equal(n, k);
        assert_memory_equal(x, y, n);
        aq_arena_close(&a);
        aq_arena_close(&b);
    }
    aq_checkpoint_close(&c);
}

/* Logits of the prompt and of three greedy tokens behind it, fed in chunks of at most `batch`. */
static void answer(int threads, int64_t batch, const char *activations, float *out, int64_t V) {
    aq_engine_options o = {.threads = threads, .batch = batch, .context = 128, .activations = activations};
    aq_engine *e = open_engine(&o);
    const float *logits;
    int32_t token = 0;
    for (int i = 0; i < 4; i++) {
        if (aq_engine_feed(e, 0, i ? &token : prompt, i ? 1 : PROMPT, 1, &logits) != AQ_OK)
            fail_msg("%s", aq_error());
        memcpy(out + i * V, logits, (size_t)V * sizeof *out);
        token = 0;
        for (int32_t v = 0; v < V; v++) {
            if (logits[v] != logits[v])
                fail_msg("logit %d is NaN", v);
            token = logits[v] > logits[token] ? v : token;
        }
    }
    aq_engine_close(e);
}

static void same_bits_from_any_number_of_threads(void **state) {
    (void)state;
    if (no_compiler())
        skip();
    enum { V = 512 };
    static float one[4 * V], other[4 * V];
    static const char *const forms[] = {"int16", "f32"};
    for (int f = 0; f < 2; f++) {
        answer(1, 64, forms[f], one, V);
        for (int threads = 1; threads <= 5; threads++) {
            memset(other, 0xff, sizeof other);
            answer(threads, 64, forms[f], other, V);
            if (memcmp(one, other, sizeof one))
                fail_msg("%s: %d threads give other bits than one", forms[f], threads);
        }
    }
}

static void memory_is_known_beforehand(void **state) {
    (void)state;
    if (no_compiler())
        skip();
    static const aq_rt_limits limits[] = {{.context = 64, .sequences = 1, .batch = 1, .outputs = 1, .threads = 1},
                                          {.context = 250, .sequences = 3, .batch = 77, .outputs = 5, .threads = 2}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        aq_engine_options o = {.context = limits[i].context, .sequences = limits[i].sequences, .batch = limits[i].batch, .outputs = limits[i].outputs,
                               .threads = limits[i].threads};
        aq_engine *e = open_engine(&o);
        aq_rt_memory m;
        assert_int_equal(aq_engine_memory(e, aq_engine_limits(e), &m), AQ_OK);
        assert_int_equal(m.total, aq_rt_session_bytes(aq_engine_session(e)));
        aq_engine_close(e);
    }
}

static void no_allocation_per_token(void **state) {
    (void)state;
    if (no_compiler())
        skip();
    aq_engine_options o = {.threads = 2, .context = 128};
    aq_engine *e = open_engine(&o);
    const float *logits;
    assert_int_equal(aq_engine_feed(e, 0, prompt, PROMPT, 1, &logits), AQ_OK);
    long before = aq_mem_allocations();
    for (int i = 0; i < 20; i++)
        assert_int_equal(aq_engine_feed(e, 0, prompt + i % PROMPT, 1, 1, &logits), AQ_OK);
    assert_int_equal(aq_mem_allocations(), before);
    aq_engine_close(e);
}

/* Everything from the file to one decoded token; AQ_NO_MEMORY wherever the allocation fails, nothing left open. */
static aq_status whole_run(const char *target) {
    aq_engine_options o = {.threads = 1, .context = 64, .batch = 16, .target = target};
    aq_engine *e;
    const float *logits;
    AQ_TRY(aq_engine_open(model, &o, &e));
    aq_status status = aq_engine_feed(e, 0, prompt, PROMPT, 1, &logits);
    if (status == AQ_OK)
        status = aq_engine_feed(e, 0, prompt, 1, 1, &logits);
    aq_engine_close(e);
    return status;
}

static void the_nth_allocation_fails(const char *target) {
    long open = aq_mem_open_blocks(), before = aq_mem_allocations();
    if (whole_run(target) != AQ_OK)
        fail_msg("%s", aq_error());
    long all = aq_mem_allocations() - before;
    print_message("%s: %ld allocations\n", target, all);
    for (long n = 1; n <= all; n++) {
        aq_mem_fail_after(n);
        aq_status status = whole_run(target);
        aq_mem_fail_after(0);
        if (status != AQ_NO_MEMORY || aq_mem_open_blocks() != open)
            fail_msg("%s: allocation %ld failed: status %d (%s), %ld blocks left open: expected %d and none", target, n, status, aq_error(),
                     aq_mem_open_blocks() - open, AQ_NO_MEMORY);
    }
}

static void failing_allocations_ref(void **state) {
    (void)state;
    the_nth_allocation_fails("ref");
}

static void failing_allocations_cpu(void **state) {
    (void)state;
    if (no_compiler())
        skip();
    the_nth_allocation_fails("cpu");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_plan_from_two_compilations), cmocka_unit_test(same_bits_from_any_number_of_threads),
        cmocka_unit_test(memory_is_known_beforehand),      cmocka_unit_test(no_allocation_per_token),
        cmocka_unit_test(failing_allocations_ref),         cmocka_unit_test(failing_allocations_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
