/* test_batch.c: the promise behind every batch: what a token's row gives depends on its own sequence alone. Sequences grow by random steps, in any
 * mixture, any number of tokens each, some forgotten and begun again; every row of logits must have the bits that its sequence gives when it is fed
 * alone, one token at a time, by one thread. On ref and on every target that runs here, for weights of every form. */
#include "codegen/cpu/cpu.h"
#include "frontend/engine.h"
#include "ir/memory.h"
#include "ir/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char model[] = "tests/data/tiny-hf";
enum { V = 512, SEQUENCES = 5, LENGTH = 300, BATCH = 64, OUTPUTS = 24 };

typedef struct text { /* what a sequence says, if it is let, and the logits behind each of its tokens */
    int32_t token[LENGTH];
    float *logits; /* [LENGTH, V] */
} text;

static void check(aq_status status, const char *story) {
    if (status != AQ_OK)
        fail_msg("%s: %d: %s", story, status, aq_error());
}

static aq_engine *open_engine(const aq_engine_options *o, const char *story) {
    aq_engine *e;
    check(aq_engine_open(model, o, &e), story);
    return e;
}

static void make_texts(const aq_engine_options *how, int64_t length, text *texts, const char *story) {
    aq_engine_options o = *how;
    aq_random r = aq_random_open(3);
    o.sequences = 1;
    o.threads = 1;
    aq_engine *e = open_engine(&o, story);
    for (int i = 0; i < SEQUENCES; i++) {
        check(aq_engine_truncate(e, 0, 0), story);
        texts[i].logits = malloc((size_t)length * V * sizeof(float));
        for (int64_t k = 0; k < length; k++) {
            const float *logits;
            texts[i].token[k] = (int32_t)aq_random_below(&r, V);
            check(aq_engine_feed(e, 0, &texts[i].token[k], 1, 1, &logits), story);
            memcpy(texts[i].logits + k * V, logits, V * sizeof *logits);
        }
    }
    aq_engine_close(e);
}

typedef struct plays { /* sequence q plays text of[q] and holds length[q] of it */
    int of[SEQUENCES];
    int64_t length[SEQUENCES];
} plays;

static void expect_row(const float *got, const text *t, int64_t at, int turn, const char *story) {
    const float *want = t->logits + at * V;
    if (!memcmp(got, want, V * sizeof *got))
        return;
    int v = 0;
    while (!memcmp(&got[v], &want[v], sizeof *got))
        v++;
    fail_msg("%s: step %d, position %lld: logit %d is %.9g, alone it is %.9g", story, turn, (long long)at, v, got[v], want[v]);
}

/* One random step; some sequences first begin again with another text, or forget a part. */
static void one_step(aq_engine *e, aq_random *r, const text *texts, int64_t length, plays *p, int turn, const char *story) {
    int32_t token[BATCH];
    int64_t seq[BATCH], at[BATCH], n = 0, wanted = 0;
    uint8_t want[BATCH];
    const float *logits;
    int first = (int)aq_random_below(r, SEQUENCES), count = 1 + (int)aq_random_below(r, SEQUENCES);
    for (int k = 0; k < count; k++) {
        int q = (first + k) % SEQUENCES;
        if (p->length[q] == length || aq_random_below(r, 40) == 0) {
            p->length[q] = aq_random_below(r, 2) ? p->length[q] / 2 : 0;
            check(aq_engine_truncate(e, q, p->length[q]), story);
            p->of[q] = p->length[q] ? p->of[q] : (int)aq_random_below(r, SEQUENCES);
        }
        static const uint32_t most[] = {1, 1, 3, 9, 40};
        int64_t more = 1 + aq_random_below(r, most[aq_random_below(r, 5)]);
        for (; more > 0 && n < BATCH && p->length[q] < length; more--, n++) {
            token[n] = texts[p->of[q]].token[p->length[q]];
            seq[n] = q;
            at[n] = p->length[q]++;
            want[n] = wanted < OUTPUTS && (more == 1 || aq_random_below(r, 4) == 0);
            wanted += want[n];
        }
    }
    check(aq_engine_step(e, token, seq, want, n, &logits), story);
    for (int64_t i = 0, o = 0; i < n; i++)
        if (want[i])
            expect_row(logits + V * o++, &texts[p->of[seq[i]]], at[i], turn, story);
    for (int q = 0; q < SEQUENCES; q++)
        assert_int_equal(aq_engine_length(e, q), p->length[q]);
}

static void play(const char *target, const char *type, int64_t length, int turns) {
    char story[64], folder[] = "/tmp/aquila-test-XXXXXX", command[64]; /* the plan is compiled once */
    static text texts[SEQUENCES];
    assert_non_null(mkdtemp(folder));
    aq_engine_options o = {.target = target, .weights_type = type, .context = length, .cache = folder, .batch = BATCH, .outputs = OUTPUTS, .sequences = SEQUENCES};
    snprintf(story, sizeof story, "%s, %s", target, type);
    make_texts(&o, length, texts, story);
    for (o.threads = 1; o.threads <= 3; o.threads += 2) {
        aq_engine *e = open_engine(&o, story);
        aq_random r = aq_random_open((uint64_t)o.threads);
        plays p = {{0}, {0}};
        for (int turn = 0; turn < turns; turn++)
            one_step(e, &r, texts, length, &p, turn, story);
        aq_engine_close(e);
    }
    for (int i = 0; i < SEQUENCES; i++)
        free(texts[i].logits);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void ref(void **state) {
    (void)state;
    play("ref", "as-stored", 70, 15);
}

static int runs_here(const char *target) {
    aq_target t;
    const char *version, *path;
    return aq_cpu_llvm_version(&version, &path) == AQ_OK && aq_target_parse(target, &t) == AQ_OK && aq_target_runs_here(&t) == AQ_OK;
}

static void on_target(const char *target, const char *const *types) {
    if (!runs_here(target)) {
        print_message("left out: %s\n", aq_error());
        skip();
    }
    for (; *types; types++)
        play(target, *types, LENGTH, 50);
}

static void avx2(void **state) {
    (void)state;
    on_target("cpu:v3", (const char *const[]){"q4_0", NULL});
}

static void avx512(void **state) {
    (void)state;
    on_target("cpu:v4", (const char *const[]){"f32", NULL});
}

static void this_machine(void **state) {
    (void)state;
    on_target("cpu", (const char *const[]){"bf16", "q8_0", NULL});
}

/* What a step refuses changes nothing: names and limits, on ref as in the runtime (tests/runtime/test_session.c). */
static void refusals_of_ref(void **state) {
    (void)state;
    const aq_engine_options o = {.target = "ref", .context = 64, .sequences = 2, .threads = 1};
    aq_engine *e = open_engine(&o, "ref");
    static const int32_t token[70] = {1, 2, 3};
    static const int32_t beyond[] = {1, V};
    const int64_t zigzag[] = {0, 1, 0}, third[] = {2}, both[70] = {0};
    const float *logits;
    const struct {
        const int32_t *token;
        const int64_t *seq;
        int64_t n;
        const char *message;
    } bad[] = {{token, zigzag, 3, "row 2: the tokens of sequence 0 are not together"}, {token, third, 1, "sequence 2: expected 0 to 1"},
               {beyond, both, 2, "token 1 is 512"}, {token, both, 65, "no room"}, {token, both, 0, "at least one"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        aq_status status = aq_engine_step(e, bad[i].token, bad[i].seq, NULL, bad[i].n, &logits);
        if (status != AQ_REFUSED || !strstr(aq_error(), bad[i].message))
            fail_msg("%d \"%s\": expected \"%s\"", status, aq_error(), bad[i].message);
    }
    assert_int_equal(aq_engine_truncate(e, 0, 1), AQ_REFUSED);
    assert_int_equal(aq_engine_truncate(e, 2, 0), AQ_REFUSED);
    assert_int_equal(aq_engine_length(e, 0) + aq_engine_length(e, 1), 0);
    assert_int_equal(aq_engine_step(e, token, both, NULL, 64, NULL), AQ_OK);
    assert_int_equal(aq_engine_length(e, 0), 64);
    aq_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ref), cmocka_unit_test(avx2), cmocka_unit_test(avx512), cmocka_unit_test(this_machine), cmocka_unit_test(refusals_of_ref),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
