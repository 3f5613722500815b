/* test_plan.c: the plan file: the same tables give the same bytes, there and back; no byte of it can be changed, dropped or added unseen; and
 * what is malformed with a right hash is refused by the name of its field. */
#define XXH_INLINE_ALL
#include "ir/plan_file.h"
#include "ir/random.h"
#include "tests/runtime/tiny.h"

#include <xxhash.h>

static tiny_tables t;

static aq_status write_open(aq_arena *arena, unsigned char **bytes, size_t *size) { return aq_plan_write(&t.p, arena, bytes, size); }

static void there_and_back(void **state) {
    (void)state;
    aq_arena arena = {0};
    unsigned char *a, *b;
    size_t n, m;
    aq_plan p;
    tiny_fill(&t);
    assert_ok(write_open(&arena, &a, &n));
    assert_ok(aq_plan_open("F.aqp", a, n, &p));
    assert_string_equal(p.target, "cpu:v3");
    assert_string_equal(p.manifest, "a plan made by hand\nfor tests");
    assert_string_equal(p.strings + p.steps[0].name, "embed");
    assert_int_equal((uintptr_t)p.steps % 64, 0);
    assert_int_equal(p.n_variants, 2);
    assert_true(p.code + p.code_size <= a + n && p.code > (const unsigned char *)p.strings);
    assert_ok(aq_plan_write(&p, &arena, &b, &m));
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    aq_arena_close(&arena);
}

/* Without mending the hash: everything is seen. */
static void every_flip_and_cut(void **state) {
    (void)state;
    aq_arena arena = {0};
    unsigned char *a;
    size_t n;
    aq_plan p;
    tiny_fill(&t);
    assert_ok(write_open(&arena, &a, &n));
    for (size_t i = 0; i < n; i++) {
        a[i] ^= (unsigned char)(1 + i % 255);
        if (aq_plan_open("F.aqp", a, n, &p) != AQ_REFUSED)
            fail_msg("a plan with byte %zu of %zu changed was accepted", i, n);
        a[i] ^= (unsigned char)(1 + i % 255);
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char *tight = aligned_alloc(64, ((i + 63) & ~(size_t)63) + 64); /* the copy ends where the bytes end, for the sanitizer */
        memcpy(tight, a, i);
        if (aq_plan_open("F.aqp", tight, i, &p) != AQ_REFUSED)
            fail_msg("a plan of %zu of its %zu bytes was accepted", i, n);
        free(tight);
    }
    assert_refused(AQ_REFUSED, "multiple of 64", aq_plan_open("F.aqp", a + 8, n - 8, &p));
    aq_arena_close(&arena);
}

static void mend(unsigned char *a, size_t n) {
    uint64_t hash = XXH3_64bits(a + 64, n - 64);
    memcpy(a + offsetof(aq_plan_header, hash), &hash, sizeof hash);
}

/* Follows everything, as the runtime and `show` do: the sanitizer sees what the verifier missed. */
static int64_t follow(const aq_plan *p) {
    int64_t sum = 0, bound[AQ_SYM_COUNT] = {1, 5, 3, 2, 128, 2};
    for (uint32_t g = 0; g < p->n_graphs; g++)
        for (uint32_t v = p->graphs[g].first_variant; v < p->graphs[g].first_variant + p->graphs[g].n_variants; v++)
            for (uint32_t s = p->variants[v].first_step; s < p->variants[v].first_step + p->variants[v].n_steps; s++) {
                const aq_plan_step *x = &p->steps[s];
                sum += (int64_t)(strlen(p->strings + x->name) + strlen(p->strings + x->schedule));
                for (uint32_t i = x->first_phase; i < x->first_phase + x->n_phases; i++)
                    for (uint32_t k = 0; k < p->phases[i].n_grids; k++)
                        sum ^= aq_plan_grid_count(&p->grids[p->phases[i].first_grid + k], bound);
                for (uint32_t i = x->first_arg; i < x->first_arg + x->n_args; i++)
                    sum ^= p->args[i].kind == AQ_ARG_BUFFER ? p->buffers[p->args[i].index].offset : p->args[i].index;
            }
    for (uint32_t i = 0; i < p->n_weights; i++)
        sum += (int64_t)strlen(p->strings + p->weights[i].name) + (p->weights[i].alias ? (int64_t)p->weights[p->weights[i].alias - 1].bytes : 0);
    return sum;
}

/* With the hash mended: whatever is accepted can be followed. */
static void hostile_bytes(void **state) {
    (void)state;
    aq_arena arena = {0};
    unsigned char *a;
    size_t n;
    aq_plan p;
    long accepted = 0, refused = 0;
    int64_t sum = 0;
    tiny_fill(&t);
    assert_ok(write_open(&arena, &a, &n));
    static const unsigned char value[] = {0, 1, 0x7f, 0x80, 0xff};
    for (size_t i = 64; i < n; i++)
        for (size_t k = 0; k < sizeof value; k++) {
            unsigned char old = a[i];
            a[i] = value[k];
            mend(a, n);
            if (aq_plan_open("F.aqp", a, n, &p) == AQ_OK)
                sum += follow(&p), accepted++;
            else
                refused++;
            a[i] = old;
        }
    aq_random r = aq_random_open(1);
    unsigned char *b = aligned_alloc(64, n);
    for (int turn = 0; turn < 20000; turn++) {
        memcpy(b, a, n);
        for (uint32_t k = aq_random_below(&r, 4) + 1; k-- > 0;) {
            uint32_t at = 64 + aq_random_below(&r, (uint32_t)(n - 64) / 4) * 4, word = aq_random_u32(&r) >> aq_random_below(&r, 32);
            memcpy(b + at, &word, 4);
        }
        mend(b, n);
        if (aq_plan_open("F.aqp", b, n, &p) == AQ_OK)
            sum += follow(&p), accepted++;
        else
            refused++;
    }
    free(b);
    print_message("%ld changed plans accepted, %ld refused (%lld)\n", accepted, refused, (long long)sum);
    assert_true(refused > 20000);
    aq_arena_close(&arena);
}

#define SPOIL(text, ...)                                                                                                                    \
    do {                                                                                                                                    \
        tiny_fill(&t);                                                                                                                      \
        __VA_ARGS__;                                                                                                                        \
        assert_refused(AQ_REFUSED, text, write_open(&arena, &a, &n));                                                                       \
    } while (0)

static void fields_are_named(void **state) {
    (void)state;
    aq_arena arena = {0};
    unsigned char *a;
    size_t n;
    SPOIL("weights[1].dtype", t.weights[1].dtype = AQ_DTYPE_COUNT);
    SPOIL("weights[1].layout", t.weights[1].layout = 9);
    SPOIL("weights[1].bytes", t.weights[1].bytes++);
    SPOIL("weights[1].name", t.weights[1].name = t.used);
    SPOIL("weights[0].rank", t.weights[0].rank = 5);
    SPOIL("weights[0].dim", t.weights[0].dim[0] = -1);
    SPOIL("weight: size overflows", t.weights[0].dim[0] = t.weights[0].dim[1] = (int64_t)1 << 40);
    SPOIL("weights[2].head_dim", t.weights[2].head_dim = 6);
    SPOIL("weights[4].alias", t.weights[4].alias = 5);
    SPOIL("weights[4].alias", t.weights[4].alias = 1);
    SPOIL("states[0].dim", t.states[0].dim[0].sym = AQ_SYM_T);
    SPOIL("states[0].layout", t.states[0].layout = 77);
    SPOIL("io[2].dtype", t.io[2].dtype = AQ_F32);
    SPOIL("io[7].dim", t.io[7].dim[1].sym = AQ_SYM_S);
    SPOIL("io[2].field", t.io[2].field = 7);
    SPOIL("grids[0].step", t.grids[0].step[0] = 0);
    SPOIL("grids[0].step", t.grids[0].step[1] = 1);
    SPOIL("grids[0].n", t.grids[0].n = 5);
    SPOIL("grids[0].extent", t.grids[0].extent[0].sym = AQ_SYM_COUNT);
    SPOIL("grids[0].extent", t.grids[0].extent[0].k = -4);
    SPOIL("phases[0].symbol", t.phases[0].symbol = 0);
    SPOIL("phases[3].n_grids", t.phases[3].n_grids = 2);
    SPOIL("phases[3].ragged", t.phases[3].ragged = 2);
    SPOIL("steps[0].kind", t.steps[0].kind = 4);
    SPOIL("steps[0].device", t.steps[0].device = 1);
    SPOIL("steps[0].n_args", t.steps[0].n_args = 1000);
    SPOIL("steps[0].n_phases", t.steps[0].n_phases = 0);
    SPOIL("steps[1].n_phases", t.steps[1].n_phases = 1);
    SPOIL("steps[0].local_bytes", t.steps[0].local_bytes = UINT64_MAX);
    SPOIL("steps[0].layer", t.steps[0].layer = -2);
    SPOIL("steps[2].expected_ns_per_token", t.steps[2].expected_ns_per_token = -1);
    SPOIL("buffers[0].bytes", t.buffers[0].bytes.k = 32);
    SPOIL("buffers[0].bytes", t.buffers[0].bytes.sym = AQ_SYM_O);
    SPOIL("buffers[0].offset", t.buffers[0].offset = 4);
    SPOIL("buffers[2].offset", t.buffers[2].offset += 64);
    SPOIL("buffers[0].bytes: is 64", t.buffers[0].dim[1].k = 17);
    SPOIL("buffers[0].dim", t.buffers[0].dim[1] = tiny_size(1, AQ_SYM_B));
    SPOIL("buffers[0].last_step", t.buffers[0].last_step = 5);
    SPOIL("steps[5].first_arg", t.args[t.steps[5].first_arg + 3].index = 0); /* a buffer of the other variant */
    SPOIL("steps[0].first_arg", t.args[0].kind = 6);
    SPOIL("steps[0].first_arg", t.args[0].index = 8);
    SPOIL("steps[0].first_arg", t.args[2].index = 5);
    SPOIL("steps[3].first_arg", t.args[t.steps[3].first_arg + 1] = (aq_plan_arg){AQ_ARG_OUTPUT, 0});
    SPOIL("steps[1].first_arg", t.args[t.steps[1].first_arg] = (aq_plan_arg){AQ_ARG_WEIGHT, 0});
    SPOIL("variants[1].t_lo", t.variants[1].t_lo = 3);
    SPOIL("variants[0].t_lo", t.variants[0].t_lo = 0);
    SPOIL("graphs[0].n_variants", t.variants[1].t_hi = 100);
    SPOIL("variants[1].first_step", t.variants[1].first_step = 0);
    SPOIL("arena", t.variants[0].arena[AQ_SYM_T] = 65);
    SPOIL("graphs[0].n_inputs", t.graphs[0].n_inputs = 10);
    SPOIL("graphs[0].first_variant", t.graphs[0].first_variant = 1, t.graphs[0].n_variants = 1);
    SPOIL("variants: 1 of 2", t.graphs[0].n_variants = 1, t.syms[AQ_SYM_T].hi = 1);
    SPOIL("syms[1].hi", t.syms[1].hi = 0);
    SPOIL("model[0].V", t.model.V = -1);
    SPOIL("code: is empty", t.p.code_size = 0);
    SPOIL("strings: control character", t.strings[t.io[0].name] = 27);
    SPOIL("strings: does not end", t.p.strings_size--);
    SPOIL("texts: control character", t.p.manifest = "\x1b[2J");
    SPOIL("texts: control character", t.p.manifest = "U+009B is a control character in UTF-8: \xc2\x9b""2J");
    aq_arena_close(&arena);
}

/* The seed of fuzz_plan is this plan; AQ_BLESS=1 writes it anew. */
static void seed_of_the_fuzzer(void **state) {
    (void)state;
    aq_arena arena = {0};
    unsigned char *a;
    size_t n;
    const char *path = "tests/fuzz/corpus/plan/tiny.plan";
    aq_file f;
    tiny_fill(&t);
    assert_ok(write_open(&arena, &a, &n));
    if (getenv("AQ_BLESS")) {
        aq_file_writer *w;
        assert_ok(aq_file_make_folder("tests/fuzz/corpus/plan"));
        assert_ok(aq_file_create(path, &w));
        assert_ok(aq_file_append(w, a, n));
        assert_ok(aq_file_commit(w));
    }
    assert_ok(aq_file_map(path, &f));
    if (f.size != n || memcmp(f.bytes, a, n) != 0)
        fail_msg("%s is not the plan of tiny.h any more: run this test once with AQ_BLESS=1", path);
    aq_file_unmap(&f);
    aq_arena_close(&arena);
}

static void sizes(void **state) {
    (void)state;
    int64_t bound[AQ_SYM_COUNT] = {1, 512, 1, 2, INT64_MAX / 2, 3};
    assert_int_equal(aq_size_eval(tiny_size(7, 0), bound), 7);
    assert_int_equal(aq_size_eval(tiny_size(7, AQ_SYM_T), bound), 7 * 512);
    assert_int_equal(aq_size_eval(tiny_size(7, AQ_SYM_S), bound), INT64_MAX);
    aq_plan_grid g = {.n = 2, .extent = {tiny_size(1, AQ_SYM_T), tiny_size(50, 0)}, .step = {14, 16}};
    assert_int_equal(aq_plan_grid_count(&g, bound), 37 * 4);
    g.extent[0].sym = g.extent[1].sym = AQ_SYM_S;
    g.step[0] = g.step[1] = 1;
    assert_int_equal(aq_plan_grid_count(&g, bound), INT64_MAX);
    g.n = 0;
    assert_int_equal(aq_plan_grid_count(&g, bound), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back), cmocka_unit_test(every_flip_and_cut), cmocka_unit_test(hostile_bytes),
        cmocka_unit_test(fields_are_named), cmocka_unit_test(seed_of_the_fuzzer), cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
