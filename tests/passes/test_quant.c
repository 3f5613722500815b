/* test_quant.c: matmul to the dot that a target runs, for every kind of weight; the types of caches; how much each form rounds. */
#include "tests/passes/common.h"

#include <math.h>

#define BEFORE "expand,canon,cse,dce"

static const char projections[] = "graph g(%x: f32[T, 64], %b: batch) -> f32[T, 64], f32[T, 96], f32[T, 96] {\n"
                                  "  append $k, (heads (matmul %x, @wk) {heads=2}), %b\n"
                                  "  return (matmul %x, @wq), (matmul %x, @w1), (matmul %x, @w3)\n}";

static void goldens(void **state) {
    (void)state;
    aq_pass_options a8 = on_cpu, f32 = on_cpu;
    a8.activations = AQ_A8;
    f32.activations = AQ_F32;
    golden("quant_cpu", BEFORE, "quant", &on_cpu, 0, "plain weights: dot. Block weights: one quantize for all that read the same value. Caches f16", projections);
    golden("quant_ref", BEFORE, "quant", &on_ref, 0, "ref multiplies the exact values: block weights are cast, caches stay f32", projections);
    golden("quant_f32", BEFORE, "quant", &f32, 0, "activations kept f32: block weights are cast as on ref", projections);
    aq_module m; /* int8 is `approx`: it may be further off than a golden's validation allows, so only its text is looked at */
    aq_arena arena = {0};
    aq_text t = {.arena = &arena};
    const char *text;
    read_graph(projections, &m);
    CHECK(aq_pipeline_run(&m, &a8, BEFORE ",quant", NULL, NULL, NULL, NULL, NULL));
    CHECK(aq_print_module(&m, &t));
    CHECK(aq_text_end(&t, &text));
    assert_non_null(strstr(text, "quantize %x {dtype=a8}"));
    assert_null(strstr(text, "a16"));
    aq_module_close(&m);
    aq_arena_close(&arena);
}

/* Every rank that matmul takes, to the letters of a dot. */
static void ranks(void **state) {
    (void)state;
    static const struct {
        const char *graph, *spec;
    } cases[] = {{"graph g(%x: f32[64]) -> f32[96] { return matmul %x, @w1 }", "\"k,nk->n\""},
                 {"graph g(%x: f32[T, 64]) -> f32[T, 96] { return matmul %x, @w1 }", "\"tk,nk->tn\""},
                 {"graph g(%x: f32[T, 3, 64]) -> f32[T, 3, 96] { return matmul %x, @w1 }", "\"thk,nk->thn\""},
                 {"graph g(%x: f32[T, 2, 3, 64]) -> f32[T, 2, 3, 96] { return matmul %x, @w1 }", "\"tshk,nk->tshn\""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        aq_module m;
        aq_arena arena = {0};
        aq_text t = {.arena = &arena};
        const char *text;
        read_graph(cases[i].graph, &m);
        CHECK(aq_validate(&m, &on_cpu, BEFORE ",quant", 3, aq_ref_sample));
        CHECK(aq_pipeline_run(&m, &on_cpu, BEFORE ",quant", NULL, NULL, NULL, NULL, NULL));
        CHECK(aq_print_module(&m, &t));
        CHECK(aq_text_end(&t, &text));
        if (!strstr(text, cases[i].spec))
            fail_msg("%s: expected a dot %s\n%s", cases[i].graph, cases[i].spec, text);
        aq_module_close(&m);
        aq_arena_close(&arena);
    }
}

/* A dot stands for the matmul that it was, or for what that stood for: so a wrong value is found in the text that it came from. */
static void dots_know_what_they_were(void **state) {
    (void)state;
    for (int target = 0; target < 2; target++)
        for (int of_old = 0; of_old < 2; of_old++) {
            aq_module m;
            aq_id matmul[4], n = 0, found = 0;
            read_graph(projections, &m);
            for (aq_id i = 1; i < m.nodes.n; i++)
                if (m.nodes.at[i].op == AQ_OP_matmul) {
                    aq_id out = m.nodes.at[i].out;
                    assert_in_range(n, 0, 3);
                    if (of_old) /* a pass before may have said what it stands for */
                        m.values.at[out].origin = m.bodies.at[m.graphs.at[0]].params.at[0];
                    matmul[n++] = m.values.at[out].origin;
                }
            CHECK(aq_pipeline_run(&m, target ? &on_cpu : &on_ref, "expand,canon,quant", NULL, NULL, NULL, NULL, NULL));
            for (aq_id i = 1; i < m.nodes.n; i++)
                for (aq_id k = 0; m.nodes.at[i].op == AQ_OP_dot && k < n; k++)
                    if (m.values.at[m.nodes.at[i].out].origin == matmul[k]) {
                        found++;
                        break;
                    }
            assert_true(n == 4 && found == 4);
            aq_module_close(&m);
        }
}

/* Relative L2 of the first result after quant against before, on ref. */
static double error_of(const aq_pass_options *o, aq_dtype weight, uint64_t seed) {
    aq_module before, after;
    aq_arena arena = {0};
    aq_samples x, y;
    double up = 0, down = 0;
    const char *graph = "graph g(%x: f32[T, 64]) -> f32[T, 96] { return matmul %x, @w1 }";
    read_graph(graph, &before);
    read_graph(graph, &after);
    for (uint32_t i = 0; i < before.weights.n; i++)
        if (!strcmp(before.weights.at[i].name, "w1"))
            before.values.at[before.weights.at[i].value].type.dtype = after.values.at[after.weights.at[i].value].type.dtype = weight;
    CHECK(aq_pipeline_run(&after, o, "expand,canon,quant", NULL, NULL, NULL, NULL, NULL));
    CHECK(aq_ref_sample(&before, 0, seed, &arena, &x));
    CHECK(aq_ref_sample(&after, 0, seed, &arena, &y));
    for (int64_t i = 0; i < x.at[0].n; i++) {
        up += (x.at[0].values[i] - y.at[0].values[i]) * (x.at[0].values[i] - y.at[0].values[i]);
        down += x.at[0].values[i] * x.at[0].values[i];
    }
    aq_module_close(&before);
    aq_module_close(&after);
    aq_arena_close(&arena);
    return sqrt(up / down);
}

/* int16 blocks round at 2e-5, finer than bf16; int8 at some 5e-3; casts and plain dots not at all. */
static void how_much_it_rounds(void **state) {
    (void)state;
    static const aq_dtype blocks[] = {AQ_Q4_0, AQ_Q4_1, AQ_Q8_0}, plain[] = {AQ_F32, AQ_BF16, AQ_F16};
    aq_pass_options a8 = on_cpu, f32 = on_cpu;
    a8.activations = AQ_A8;
    f32.activations = AQ_F32;
    for (uint64_t seed = 1; seed <= 10; seed++)
        for (int i = 0; i < 3; i++) {
            double e16 = error_of(&on_cpu, blocks[i], seed), e8 = error_of(&a8, blocks[i], seed);
            if (!(e16 > 0 && e16 < 6e-5))
                fail_msg("%s by a16: %.3g from exact", aq_dtype_of(blocks[i])->name, e16);
            if (!(e8 > 1e-4 && e8 < 2e-2))
                fail_msg("%s by a8: %.3g from exact", aq_dtype_of(blocks[i])->name, e8);
            assert_true(error_of(&f32, blocks[i], seed) == 0);
            assert_true(error_of(&on_ref, blocks[i], seed) == 0);
            assert_true(error_of(&on_cpu, plain[i], seed) == 0);
        }
}

static void a_weight_without_a_type_is_refused(void **state) {
    (void)state;
    aq_module m;
    read_text("model m { sym T in 1..9 weight @w: [4, 4] graph g(%x: f32[T, 4]) -> f32[T, 4] { return matmul %x, @w } }", &m);
    assert_int_equal(aq_pipeline_run(&m, &on_cpu, "expand,canon,quant", NULL, NULL, NULL, NULL, NULL), AQ_REFUSED);
    assert_string_equal(aq_error(), "test.aq: weight w has no type yet: bind a checkpoint or name a --weights-type");
    aq_module_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens),
        cmocka_unit_test(ranks),
        cmocka_unit_test(dots_know_what_they_were),
        cmocka_unit_test(how_much_it_rounds),
        cmocka_unit_test(a_weight_without_a_type_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
