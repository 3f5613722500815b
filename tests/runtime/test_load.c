/* test_load.c: a plan with real machine code: the kernels of tiny.h compiled to an object of their own, put into a plan, written to a file,
 * loaded by the house's own loader and run: the same bits as the formula. And a plan for a processor that this one is not. */
#include "ir/memory.h"
#include "runtime/cpu/features.h"
#include "tests/runtime/tiny.h"

#include <unistd.h>

static tiny_tables t;
static char path[] = "/tmp/aq-plan-XXXXXX";

static void write_plan(const char *target, const void *code, size_t size) {
    aq_arena arena = {0};
    unsigned char *bytes;
    size_t n;
    aq_file_writer *w;
    tiny_fill(&t);
    t.p.target = target;
    t.p.code = code, t.p.code_size = size;
    assert_ok(aq_plan_write(&t.p, &arena, &bytes, &n));
    assert_ok(aq_file_create(path, &w));
    assert_ok(aq_file_append(w, bytes, n));
    assert_ok(aq_file_commit(w));
    aq_arena_close(&arena);
}

static int set_up(void **state) {
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state) {
    (void)state;
    assert_int_equal(aq_mem_open_blocks(), 0);
    return unlink(path);
}

static void machine_code(void **state) {
    (void)state;
    static tiny model;
    aq_file object;
    aq_rt_plan *p;
    aq_rt_weights *w;
    aq_rt_session *s;
    const float *logits;
    float want[TINY_V];
    int32_t tok[100];
    tiny_make(&model, 2);
    assert_ok(aq_file_map(TINY_OBJECT, &object));
    write_plan("cpu:v3", object.bytes, object.size);
    aq_file_unmap(&object);
    if (aq_rt_cpu_check("here", "cpu:v3") != AQ_OK) {
        assert_refused(AQ_MISSING, "needs", aq_rt_plan_load(path, &p));
        skip();
    }
    assert_ok(aq_rt_plan_load(path, &p));
    assert_ok(aq_rt_weights_bind(p, tiny_source, &model, NULL, 1, NULL, NULL, &w));
    assert_ok(aq_rt_session_open(p, w, &(aq_rt_limits){100, 1, 30, 1, 2}, &s));
    for (int i = 0; i < 100; i++)
        tok[i] = i * 7 % TINY_V;
    assert_ok(aq_rt_feed(s, 0, tok, 99, 0, NULL));
    assert_ok(aq_rt_feed(s, 0, tok + 99, 1, 1, &logits));
    tiny_logits(&model, tok, 100, want);
    assert_memory_equal(logits, want, sizeof want);
    aq_rt_session_close(s);
    aq_rt_weights_close(w);
    aq_rt_plan_close(p);
}

static void what_cannot_be_loaded(void **state) {
    (void)state;
    aq_rt_plan *p = NULL;
    write_plan("cpu:v3", "not an object", 13);
    assert_refused(AQ_REFUSED, path, aq_rt_plan_load(path, &p));
    write_plan("cuda:sm_90a", "x", 1);
    assert_refused(AQ_REFUSED, "target: is cuda:sm_90a: expected a plan for cpu", aq_rt_plan_load(path, &p));
    write_plan("cpu:v5", "x", 1);
    assert_refused(AQ_REFUSED, "has a part v5: expected v3, v4, bf16, vnni", aq_rt_plan_load(path, &p));
    write_plan("cpu:v3+", "x", 1);
    assert_refused(AQ_REFUSED, "has a part :", aq_rt_plan_load(path, &p));
    assert_refused(AQ_REFUSED, "no such file", aq_rt_plan_load("/no/such.aqp", &p));
    assert_refused(AQ_REFUSED, "too short for a plan: 0 bytes", aq_rt_plan_load("/dev/null", &p) == AQ_REFUSED ? aq_rt_plan_from_memory("f", "", 0, &p) : AQ_OK);
    assert_null(p);
}

static void features(void **state) {
    (void)state;
    char name[64], list[512] = "";
    aq_rt_cpu_name(name);
    for (int i = 0; aq_rt_cpu_feature_name(i); i++)
        if (aq_rt_cpu_has(i))
            snprintf(list + strlen(list), sizeof list - strlen(list), " %s", aq_rt_cpu_feature_name(i));
    print_message("%s:%s\n", name, list);
    __builtin_cpu_init(); /* the compiler's own table says the same */
    assert_int_equal(aq_rt_cpu_has(AQ_CPU_avx2), __builtin_cpu_supports("avx2") != 0);
    assert_int_equal(aq_rt_cpu_has(AQ_CPU_fma), __builtin_cpu_supports("fma") != 0);
    assert_int_equal(aq_rt_cpu_has(AQ_CPU_avx512bw), __builtin_cpu_supports("avx512bw") != 0);
    assert_int_equal(aq_rt_cpu_has(AQ_CPU_avx512_vnni), __builtin_cpu_supports("avx512vnni") != 0);
    assert_int_equal(aq_rt_cpu_has(AQ_CPU_avx512_bf16), __builtin_cpu_supports("avx512bf16") != 0);
    if (!aq_rt_cpu_has(AQ_CPU_avx512_bf16))
        assert_refused(AQ_MISSING, "f: target: cpu:v4+bf16 needs", aq_rt_cpu_check("f", "cpu:v4+bf16"));
    else
        assert_ok(aq_rt_cpu_check("f", "cpu:v4+bf16"));
}

static void peaks(void **state) {
    (void)state;
    aq_rt_peaks p;
    assert_ok(aq_rt_limits_measure(2, 0.02, &p));
    print_message("read %.1f GB/s, f32 %.0f, bf16 %.0f, int16 %.0f, int8 %.0f G/s\n", p.read_gb_per_s, p.f32_gflops, p.bf16_gflops, p.int16_gops, p.int8_gops);
    assert_true(p.read_gb_per_s > 0.1 && p.f32_gflops > 1);
    assert_int_equal(p.bf16_gflops > 0, aq_rt_cpu_has(AQ_CPU_avx512_bf16));
    assert_refused(AQ_USAGE, "0 threads", aq_rt_limits_measure(0, 0.02, &p));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(machine_code), cmocka_unit_test(what_cannot_be_loaded), cmocka_unit_test(features),
                                       cmocka_unit_test(peaks)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
