/* fuzz_model.c: any bytes as a model's text: refused with one line, or read, and then a print of it reads and prints the same; and every
 * pass leaves a module that does so too. */
#include "ir/graph.h"
#include "ir/memory.h"
#include "passes/passes.h"
#include "tests/fuzz/mutate_house.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const aq_bind binds[] = {{"V", 64}, {"D", 64}, {"L", 2}, {"H", 4}, {"HKV", 2}, {"DH", 16}, {"F", 96}, {"EPS", 1e-5}, {"THETA", 10000}, {"ROPE_FACTOR", 1}, {"ROPE_LOW", NAN}, {"ROPE_HIGH", NAN}, {"ROPE_RAMP", NAN}, {"ROPE_GAIN", NAN}};

static const char *print(const aq_module *m, aq_arena *a) {
    aq_text t = {.arena = a};
    const char *out;
    if (aq_print_module(m, &t) != AQ_OK || aq_text_end(&t, &out) != AQ_OK)
        abort();
    return out;
}

static void check_stable(const aq_module *m) {
    aq_arena a = {0};
    aq_module again;
    const char *first = print(m, &a);
    if (aq_read_module("printed", first, strlen(first), NULL, 0, &again) != AQ_OK)
        abort();
    if (strcmp(first, print(&again, &a)))
        abort();
    aq_module_close(&again);
    aq_arena_close(&a);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    edit e = edit_open(data, size, max_size, seed);
    mutate_text(&e, 0, e.n, aq_house_words);
    return e.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    aq_module m;
    const aq_pass_options o = {.target = "ref", .is_ref = 1, .activations = AQ_F32, .kv = AQ_F32, .t_lo = 1, .t_hi = 64, .read_gb_per_s = 10, .gflops = 100, .launch_ns = 1000};
    if (aq_read_module("fuzz.aq", (const char *)data, size, binds, sizeof binds / sizeof *binds, &m) != AQ_OK)
        return 0;
    check_stable(&m);
    if (aq_pipeline_run(&m, &o, "expand,canon,cse,dce", NULL, NULL, NULL, NULL, NULL) != AQ_OK)
        abort();
    check_stable(&m);
    /* The rest may refuse (weights without a type, sizes with two symbols), never break. */
    const aq_pass_options cpu = {.target = "cpu", .activations = AQ_A16, .kv = AQ_F16, .panels = 1, .t_lo = 1, .t_hi = 1, .read_gb_per_s = 10, .gflops = 100, .launch_ns = 1000};
    if (aq_pipeline_run(&m, &cpu, "quant,dce,fuse,cost,layout,order,buffers", NULL, NULL, NULL, NULL, NULL) == AQ_OK)
        check_stable(&m);
    aq_module_close(&m);
    if (aq_mem_open_blocks())
        abort();
    return 0;
}
