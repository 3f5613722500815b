/* test_types.c: --weights-type x --activations x --layout: every combination gives the logits of the reference on the same weights, or is refused
 * by name with what to use instead. By default one combination a type, since each is a compile; AQ_TEST_ALL=1 in the environment: all. */
#include "codegen/cpu/cpu.h"
#include "frontend/engine.h"
#include "ir/memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { V = 512, N = 14 };
static const int32_t prompt[N] = {1, 17, 300, 42, 511, 7, 7, 99, 205, 64, 3, 128, 77, 5};
static const char model[] = "tests/data/tiny-hf", wide[] = "tiny-wide:random:3";

static const struct {
    const char *name;
    double tolerance; /* relative L2 of the logits against ref */
} activations[] = {{"f32", 3e-3}, {"int16", 3e-3}, {"bf16", 2e-2}, {"int8", 5e-2}};
enum { ACTIVATIONS = sizeof activations / sizeof *activations };

static const char *const types[] = {"f32", "bf16", "f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "q4_k", "q6_k", "iq4_xs", "q5_k", "q3_k", "q2_k"};
enum { TYPES = sizeof types / sizeof *types };

/* Prompt at once, then a token: both kinds of variants. */
static void logits_of(const aq_engine_options *o, float *out) {
    aq_engine *e;
    const float *logits;
    if (aq_engine_open(aq_dtype_of(aq_dtype_by_name(o->weights_type, strlen(o->weights_type)))->block == 256 ? wide : model, o, &e) != AQ_OK)
        fail_msg("%s %s: %s", o->weights_type, o->activations, aq_error());
    for (int i = 0; i < 2; i++) {
        assert_int_equal(aq_engine_feed(e, 0, i ? prompt : prompt + 1, i ? 1 : N - 1, 1, &logits), AQ_OK);
        memcpy(out + i * V, logits, V * sizeof *out);
    }
    aq_engine_close(e);
}

static void compare(const char *type, int a, int as_stored) {
    float got[2 * V], want[2 * V];
    double up = 0, down = 0;
    const aq_engine_options cpu = {.context = 64, .threads = 2, .weights_type = type, .activations = activations[a].name, .as_stored = as_stored};
    const aq_engine_options ref = {.context = 64, .threads = 2, .weights_type = type, .target = "ref"};
    logits_of(&cpu, got);
    logits_of(&ref, want);
    for (int i = 0; i < 2 * V; i++) {
        up += (got[i] - want[i]) * (got[i] - want[i]);
        down += want[i] * want[i];
    }
    print_message("%-5s %-5s %-9s %.1e\n", type, activations[a].name, as_stored ? "as-stored" : "panels", sqrt(up / down));
    if (!(sqrt(up / down) <= activations[a].tolerance))
        fail_msg("%s %s %d: relative error %g of the logits: expected at most %g", type, activations[a].name, as_stored, sqrt(up / down), activations[a].tolerance);
}

static void every_combination(void **state) {
    const char *version, *path;
    (void)state;
    if (aq_cpu_llvm_version(&version, &path) != AQ_OK)
        skip();
    for (int t = 0; t < TYPES; t++)
        for (int a = 0; a < ACTIVATIONS; a++)
            for (int stored = 0; stored < 2; stored++)
                if (getenv("AQ_TEST_ALL") || (t < 12 && a == (t + 2) % ACTIVATIONS && stored == (t / 2 + t) % 2))
                    compare(types[t], a, stored);
}

static void refused(const char *type, const char *how, aq_status wanted, const char *text) {
    const aq_engine_options o = {.context = 64, .threads = 1, .weights_type = type, .activations = how};
    aq_engine *e;
    aq_status status = aq_engine_open(model, &o, &e);
    if (status != wanted || !strstr(aq_error(), text))
        fail_msg("%s %s gave %d %s: expected %d, %s", type, how, status, status ? aq_error() : "", wanted, text);
}

static void refusals_say_what_to_use(void **state) {
    (void)state;
    refused("q4_k", NULL, AQ_REFUSED, "rows of 64 elements cannot be q4_k: expected a multiple of 256 (q4_0, q4_1, q8_0, q5_0, q5_1, iq4_nl take multiples of 32)");
    refused("i8", NULL, AQ_USAGE, "weights type i8: expected as-stored, f32, bf16");
    refused("a16", NULL, AQ_USAGE, "weights type a16: expected as-stored");
    refused("none", NULL, AQ_USAGE, "weights type none: expected as-stored");
    refused(NULL, "int4", AQ_USAGE, "activations int4: expected int16, int8, bf16 or f32");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_combination), cmocka_unit_test(refusals_say_what_to_use)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
