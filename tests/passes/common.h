/* common.h: for the tests of fuse and what follows: options, texts to modules, goldens (AQ_BLESS=1 writes them anew), random bodies. */
#ifndef AQ_TESTS_PASSES_COMMON_H
#define AQ_TESTS_PASSES_COMMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/ref/sample.h"
#include "ir/file.h"
#include "ir/memory.h"
#include "ir/random.h"
#include "passes/validate.h"

#define CHECK(e)                                                                                                                           \
    do {                                                                                                                                   \
        if ((e) != AQ_OK)                                                                                                                  \
            fail_msg("%s:%d: %s\n%s", __FILE__, __LINE__, aq_error(), aq_error_detail());                                                  \
    } while (0)

static const aq_pass_options on_ref __attribute__((unused)) = {.target = "ref", .is_ref = 1, .activations = AQ_F32, .kv = AQ_F32, .t_lo = 1, .t_hi = 64,
                                                               .read_gb_per_s = 10, .gflops = 100, .launch_ns = 1000};
static const aq_pass_options on_cpu __attribute__((unused)) = {.target = "cpu", .activations = AQ_A16, .kv = AQ_F16, .panels = 1, .t_lo = 1, .t_hi = 1,
                                                               .read_gb_per_s = 10, .gflops = 100, .launch_ns = 1000};

static inline void read_text(const char *text, aq_module *m) {
    if (aq_read_module("test.aq", text, strlen(text), NULL, 0, m) != AQ_OK)
        fail_msg("%s\n%s\n%s", aq_error(), aq_error_detail(), text);
}

/* The model's head that most of these tests share; `graph` and what it declares follow. */
static inline void read_graph(const char *graph, aq_module *m) {
    static const char head[] = "model m {\n  sym T in 1..64  sym O in 1..64  sym B in 1..4  sym S in 64..4096  sym P in 1..64\n"
                               "  weight @e: q4_1[96, 64]  weight @g: f32[64]  weight @h: f32[64]  weight @wq: bf16[64, 64]  weight @wk: bf16[32, 64]\n"
                               "  weight @wv: bf16[32, 64]  weight @wo: q4_1[64, 64]  weight @w1: q4_1[96, 64]  weight @w3: q4_1[96, 64]\n"
                               "  weight @w2: q4_1[64, 96]  weight @w4: bf16[64, 32]  state $k: f32[S, 2, 16]  state $v: f32[S, 2, 16]\n";
    static char room[1 << 14];
    snprintf(room, sizeof room, "%s%s\n}\n", head, graph);
    read_text(room, m);
}

static inline void compare_with_golden(const char *name, const char *text) {
    char path[160], *want;
    size_t n;
    snprintf(path, sizeof path, "tests/goldens/%s.txt", name);
    if (getenv("AQ_BLESS")) {
        aq_file_writer *w;
        CHECK(aq_file_create(path, &w));
        CHECK(aq_file_append(w, text, strlen(text)));
        CHECK(aq_file_commit(w));
        return;
    }
    CHECK(aq_file_read(path, 1 << 20, &want, &n));
    if (strcmp(want, text))
        fail_msg("%s differs (AQ_BLESS=1 accepts it)\n--- expected\n%s\n--- got\n%s", path, want, text);
    aq_mem_free(want);
}

/* The story, the graph, what `passes` made of it after `before`, and with notes why its edges are inside kernels or not. Also run on ref. */
static inline void golden(const char *name, const char *before, const char *passes, const aq_pass_options *o, int notes, const char *story, const char *graph) {
    aq_module m;
    aq_arena a = {0};
    aq_text text = {.arena = &a};
    const char *out;
    read_graph(graph, &m);
    CHECK(aq_text_add(&text, "# %s\n# --passes=%s for %s\n%s\n# becomes\n", story, passes, o->target, graph));
    CHECK(aq_pipeline_run(&m, o, before, NULL, NULL, NULL, NULL, NULL));
    for (uint64_t seed = 1; seed <= 3; seed++)
        CHECK(aq_validate(&m, o, passes, seed, aq_ref_sample));
    CHECK(aq_pipeline_run(&m, o, passes, NULL, NULL, NULL, NULL, NULL));
    CHECK(aq_print_body(&m, m.graphs.at[0], &text));
    for (uint32_t i = 0; notes && i < m.notes.n; i++) {
        const aq_note *n = &m.notes.at[i];
        const aq_value *v = &m.values.at[n->value];
        CHECK(aq_text_add(&text, "# %s -> %s %s: %s\n", v->name ? v->name : aq_op_of(m.nodes.at[v->node].op)->name, aq_op_of(m.nodes.at[n->reader].op)->name,
                          n->fused ? "inside" : "between", n->why));
    }
    CHECK(aq_text_end(&text, &out));
    compare_with_golden(name, out);
    aq_module_close(&m);
    aq_arena_close(&a);
}

/* --- random bodies ------------------------------------------------------------------------------------------------------------------------ */

/* A graph of maps, reductions, dots, gathers and views on f32[T, 32], f32[T, 64] and f32[T, 1], with values read near and far, once and often:
 * shapes that fuse can cut in many ways. Read as text, so that it can be shown. */
static inline void random_graph(uint64_t seed, aq_arena *arena, const char **out) {
    aq_random r = aq_random_open(seed);
    aq_text t = {.arena = arena};
    int width[80], n = 3, target = 4 + (int)aq_random_below(&r, 32);
    CHECK(aq_text_add(&t, "model m {\n  sym T in 1..64\n  weight @a: f32[64, 64]\n  weight @b: bf16[32, 64]\n  weight @c: f32[64, 32]\n  weight @d: f32[32, 32]\n"
                          "  weight @t: f32[9, 64]\n  graph g(%%v0: f32[T, 64], %%v1: f32[T, 32], %%v2: f32[T, 64], %%i: i32[T]) -> "));
    width[0] = 64, width[1] = 32, width[2] = 64;
    aq_text body = {.arena = arena};
    for (; n < 3 + target; n++) {
        static const char *const ones[] = {"neg", "tanh", "sigmoid", "silu"}, *const twos[] = {"add", "sub", "mul", "maximum", "minimum"};
        static const char *const sums[] = {"sum", "rmax", "lse", "rms"};
        int x = (int)aq_random_below(&r, aq_random_below(&r, 3) ? (uint32_t)n : 3), y = n - 1 - (int)aq_random_below(&r, n < 8 ? (uint32_t)n : 8), kind = (int)aq_random_below(&r, 12);
        x = aq_random_below(&r, 3) ? y : x;
        int z = (int)aq_random_below(&r, (uint32_t)n);
        CHECK(aq_text_add(&body, "    %%v%d = ", n));
        width[n] = width[x];
        if (kind < 3 && (width[x] == width[z] || width[z] == 1)) {
            CHECK(aq_text_add(&body, "%s %%v%d, %%v%d\n", twos[aq_random_below(&r, 5)], x, z));
        } else if (kind < 6) {
            CHECK(aq_text_add(&body, "%s %%v%d\n", ones[aq_random_below(&r, 4)], x));
        } else if (kind == 6) {
            int s = (int)aq_random_below(&r, 4);
            CHECK(aq_text_add(&body, "%s %%v%d%s\n", sums[s], x, s == 3 ? " {eps=0.01}" : ""));
            width[n] = 1;
        } else if (kind == 7) {
            CHECK(aq_text_add(&body, "rows @t, %%i\n"));
            width[n] = 64;
        } else if (kind == 8 && width[x] > 1) {
            CHECK(aq_text_add(&body, "merge (neg (heads %%v%d {heads=4}))\n", x));
        } else if (width[x] > 1) {
            int wide = (int)aq_random_below(&r, 2);
            CHECK(aq_text_add(&body, aq_random_below(&r, 2) ? "dot (tanh %%v%d), @%c {spec=\"tk,nk->tn\"}\n" : "dot %%v%d, @%c {spec=\"tk,nk->tn\"}\n", x, width[x] == 64 ? (wide ? 'a' : 'b') : (wide ? 'c' : 'd')));
            width[n] = wide ? 64 : 32;
        } else {
            CHECK(aq_text_add(&body, "mul %%v%d, 0.5\n", x));
        }
    }
    int results = 1 + (int)aq_random_below(&r, 3);
    const char *inner;
    CHECK(aq_text_end(&body, &inner));
    for (int i = 0; i < results; i++)
        CHECK(aq_text_add(&t, "%sf32[T, %d]", i ? ", " : "", width[n - 1 - i]));
    CHECK(aq_text_add(&t, " {\n%s    return ", inner));
    for (int i = 0; i < results; i++)
        CHECK(aq_text_add(&t, "%s%%v%d", i ? ", " : "", n - 1 - i));
    CHECK(aq_text_add(&t, "\n  }\n}\n"));
    CHECK(aq_text_end(&t, out));
}

#endif
