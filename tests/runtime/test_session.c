/* test_session.c: the tiny model of tiny.h through plan, weights and session, against its own formula: any chunking, any mixture of
 * sequences, any number of threads, the same bits. */
#include "ir/memory.h"
#include "ir/random.h"
#include "tests/runtime/tiny.h"

#include <pthread.h>

static aq_arena arena;
static aq_rt_plan *plan;
static aq_rt_weights *weights;
static tiny model;

static int set_up(void **state) {
    (void)state;
    tiny_make(&model, 1);
    plan = tiny_plan(&arena);
    assert_ok(aq_rt_weights_bind(plan, tiny_source, &model, NULL, 2, NULL, NULL, &weights));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    aq_rt_weights_close(weights);
    aq_rt_plan_close(plan);
    aq_arena_close(&arena);
    assert_int_equal(aq_mem_open_blocks(), 0);
    return 0;
}

static aq_rt_session *open_with(int64_t context, int64_t sequences, int64_t batch, int64_t outputs, int threads) {
    aq_rt_session *s;
    assert_ok(aq_rt_session_open(plan, weights, &(aq_rt_limits){context, sequences, batch, outputs, threads}, &s));
    return s;
}

static void some_tokens(int32_t *tok, int64_t n, uint64_t seed) {
    aq_random r = aq_random_open(seed);
    for (int64_t i = 0; i < n; i++)
        tok[i] = (int32_t)aq_random_below(&r, TINY_V);
}

static void expect_logits(const float *got, const int32_t *tok, int64_t n) {
    float want[TINY_V];
    tiny_logits(&model, tok, n, want);
    if (memcmp(got, want, sizeof want) != 0)
        fail_msg("logits behind %lld tokens differ: %g %g .., expected %g %g ..", (long long)n, got[0], got[1], want[0], want[1]);
}

static void one_token_at_a_time(void **state) {
    (void)state;
    int32_t tok[200];
    const float *logits;
    some_tokens(tok, 200, 1);
    aq_rt_session *s = open_with(200, 1, 1, 1, 1);
    for (int64_t i = 0; i < 200; i++) {
        assert_ok(aq_rt_feed(s, 0, tok + i, 1, 1, &logits));
        expect_logits(logits, tok, i + 1);
        assert_int_equal(aq_rt_length(s, 0), i + 1);
    }
    aq_rt_session_close(s);
}

static void chunks_do_not_matter(void **state) {
    (void)state;
    int32_t tok[300];
    const float *logits;
    some_tokens(tok, 300, 2);
    for (int threads = 1; threads <= 5; threads += threads == 1 ? 1 : 3)
        for (int64_t batch = 1; batch <= 300; batch = batch * 2 + 5)
            for (int64_t n_want = 0; n_want <= 7 && n_want <= batch; n_want += 1 + n_want) {
                aq_rt_session *s = open_with(300, 2, batch, 7, threads);
                assert_ok(aq_rt_feed(s, 1, tok, 299, n_want, &logits));
                for (int64_t i = 0; i < n_want; i++)
                    expect_logits(logits + i * TINY_V, tok, 299 - n_want + 1 + i);
                assert_ok(aq_rt_feed(s, 1, tok + 299, 1, 1, &logits));
                expect_logits(logits, tok, 300);
                aq_rt_session_close(s);
            }
}

/* Three sequences grow, shrink and mix in one step, in random ways, beside a plain list of what each should hold. */
static void many_sequences(void **state) {
    (void)state;
    enum { SEQ = 3, ROOM = 130, BATCH = 40 };
    int32_t held[SEQ][ROOM], tok[BATCH];
    int64_t length[SEQ] = {0}, seq[BATCH];
    uint8_t want[BATCH];
    const float *logits;
    aq_random r = aq_random_open(7);
    aq_rt_session *s = open_with(ROOM, SEQ, BATCH, BATCH, 2);
    for (int turn = 0; turn < 400; turn++) {
        int64_t n = 0, first = aq_random_below(&r, SEQ), count = 1 + aq_random_below(&r, SEQ);
        int64_t upto[BATCH], old[SEQ];
        memcpy(old, length, sizeof old);
        for (int64_t q = first; q < first + count; q++) {
            int64_t i = q % SEQ, more = 1 + aq_random_below(&r, turn % 3 ? 2 : 13);
            if (length[i] + more > ROOM) {
                int64_t keep = aq_random_below(&r, ROOM);
                keep = keep < length[i] ? keep : length[i] / 2;
                assert_ok(aq_rt_truncate(s, i, keep));
                length[i] = keep;
            }
            more = more > ROOM - length[i] ? ROOM - length[i] : more;
            for (int64_t k = 0; k < more; k++, n++) {
                tok[n] = held[i][length[i]++] = (int32_t)aq_random_below(&r, TINY_V);
                seq[n] = i, upto[n] = length[i], want[n] = (uint8_t)(aq_random_below(&r, 3) == 0);
            }
        }
        assert_ok(aq_rt_step(s, tok, seq, want, n, &logits));
        for (int64_t i = 0, o = 0; i < n; i++)
            if (want[i])
                expect_logits(logits + TINY_V * o++, held[seq[i]], upto[i]);
        for (int64_t i = 0; i < SEQ; i++)
            assert_int_equal(aq_rt_length(s, i), length[i]);
    }
    aq_rt_session_close(s);
}

static void truncated_positions_are_forgotten(void **state) {
    (void)state;
    int32_t a[140], b[140];
    const float *logits;
    some_tokens(a, 140, 3);
    some_tokens(b, 140, 4);
    aq_rt_session *s = open_with(140, 1, 64, 1, 2);
    assert_ok(aq_rt_feed(s, 0, a, 140, 1, &logits));
    for (int64_t keep = 139; keep >= 0; keep -= 23) {
        assert_ok(aq_rt_truncate(s, 0, keep));
        memcpy(a + keep, b + keep, (size_t)(140 - keep) * sizeof *a);
        assert_ok(aq_rt_feed(s, 0, a + keep, 140 - keep, 1, &logits));
        expect_logits(logits, a, 140);
    }
    for (int64_t keep = 140; keep >= 0; keep -= 20) { /* its pages are free again: 3 in all */
        assert_ok(aq_rt_truncate(s, 0, keep));
        assert_int_equal(s->kv.n_spare, 3 - (keep + AQ_PAGE - 1) / AQ_PAGE);
    }
    assert_ok(aq_rt_feed(s, 0, a, 140, 1, &logits));
    assert_refused(AQ_REFUSED, "length 141 of sequence 0: expected 0 to 140", aq_rt_truncate(s, 0, 141));
    assert_refused(AQ_REFUSED, "sequence 1: expected 0 to 0", aq_rt_truncate(s, 1, 0));
    aq_rt_session_close(s);
}

static void limits_are_named(void **state) {
    (void)state;
    int32_t tok[200] = {0};
    int64_t seq[8] = {0, 0, 1, 1, 0, 2};
    uint8_t want[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    const float *logits;
    aq_rt_session *s = NULL;
#define TRY_OPEN(...) aq_rt_session_open(plan, weights, &(aq_rt_limits){__VA_ARGS__}, &s)
    assert_refused(AQ_REFUSED, "tiny.aqp: context of 0: expected 1 to", TRY_OPEN(0, 1, 1, 1, 1));
    assert_refused(AQ_REFUSED, "sequences of 101: expected 1 to 100", TRY_OPEN(1, 101, 1, 1, 1));
    assert_refused(AQ_REFUSED, "batch of 1048577: expected 1 to 1048576", TRY_OPEN(1, 1, (1 << 20) + 1, 1, 1));
    assert_refused(AQ_REFUSED, "outputs of -1", TRY_OPEN(1, 1, 1, -1, 1));
    assert_refused(AQ_REFUSED, "context * sequences of", TRY_OPEN(1 << 20, 100, 1, 1, 1));
    assert_refused(AQ_REFUSED, "0 threads", TRY_OPEN(1, 1, 1, 1, 0));
    assert_null(s);
    s = open_with(100, 2, 6, 3, 1); /* 128 positions */
    assert_refused(AQ_REFUSED, "no room for 129 tokens behind the 0 of sequence 0: the context holds 128", aq_rt_feed(s, 0, tok, 129, 1, &logits));
    assert_refused(AQ_REFUSED, "sequence 2: expected 0 to 1", aq_rt_feed(s, 2, tok, 1, 1, &logits));
    assert_refused(AQ_REFUSED, "logits of 4 tokens: expected at most 3", aq_rt_feed(s, 0, tok, 5, 4, &logits));
    assert_refused(AQ_REFUSED, "logits of 2 of 1 tokens", aq_rt_feed(s, 0, tok, 1, 2, &logits));
    tok[3] = TINY_V;
    assert_refused(AQ_REFUSED, "token 3 is 50: expected 0 to 49", aq_rt_feed(s, 0, tok, 5, 1, &logits));
    assert_refused(AQ_REFUSED, "token 3 is 50: expected 0 to 49", aq_rt_step(s, tok, seq, NULL, 4, &logits));
    tok[3] = -1;
    assert_refused(AQ_REFUSED, "token 3 is -1", aq_rt_feed(s, 0, tok, 5, 1, &logits));
    tok[3] = 0;
    assert_refused(AQ_REFUSED, "a step of 7 tokens: expected 1 to 6", aq_rt_step(s, tok, seq, NULL, 7, &logits));
    assert_refused(AQ_REFUSED, "row 4: the tokens of sequence 0 are not together", aq_rt_step(s, tok, seq, NULL, 5, &logits));
    assert_refused(AQ_REFUSED, "sequence 2: expected 0 to 1", aq_rt_step(s, tok, seq + 2, NULL, 4, &logits));
    assert_refused(AQ_REFUSED, "logits of more than 3 rows", aq_rt_step(s, tok, seq, want, 4, &logits));
    assert_int_equal(aq_rt_length(s, 0) + aq_rt_length(s, 1), 0);
    assert_ok(aq_rt_feed(s, 0, tok, 128, 1, &logits));
    assert_refused(AQ_REFUSED, "no room for 1 tokens behind the 128", aq_rt_feed(s, 0, tok, 1, 1, &logits));
    assert_ok(aq_rt_feed(s, 1, tok, 128, 0, NULL));
    aq_rt_session_close(s);
}

static void *interrupt_soon(void *s) {
    struct timespec a_little = {0, 20000000};
    nanosleep(&a_little, NULL);
    aq_rt_interrupt(s);
    return NULL;
}

static void interrupts(void **state) {
    (void)state;
    enum { N = 60000 };
    const float *logits;
    int32_t *tok = malloc(N * sizeof *tok);
    some_tokens(tok, N, 5);
    for (int threads = 1; threads <= 3; threads++) {
        aq_rt_session *s = open_with(N, 1, 256, 1, threads);
        pthread_t other;
        assert_ok(aq_rt_feed(s, 0, tok, 10, 0, NULL));
        assert_int_equal(pthread_create(&other, NULL, interrupt_soon, s), 0);
        assert_refused(AQ_INTERRUPTED, "interrupted", aq_rt_feed(s, 0, tok + 10, N - 10, 0, NULL));
        pthread_join(other, NULL);
        int64_t length = aq_rt_length(s, 0);
        assert_true(length >= 10 && length < N && (length - 10) % 256 == 0);
        assert_ok(aq_rt_truncate(s, 0, length < 500 ? length : 500));
        length = aq_rt_length(s, 0);
        assert_ok(aq_rt_feed(s, 0, tok + length, 1, 1, &logits)); /* and goes on as if nothing had been */
        expect_logits(logits, tok, length + 1);
        aq_rt_interrupt(s); /* before a feed: that one stops */
        length = aq_rt_length(s, 0);
        int64_t spare = s->kv.n_spare;
        assert_refused(AQ_INTERRUPTED, "interrupted", aq_rt_feed(s, 0, tok, 100, 0, NULL));
        assert_int_equal(aq_rt_length(s, 0), length); /* nothing of it stays, pages neither */
        assert_int_equal(s->kv.n_spare, spare);
        assert_ok(aq_rt_feed(s, 0, tok, 1, 0, NULL));
        aq_rt_interrupt(s);
        assert_refused(AQ_INTERRUPTED, "interrupted", aq_rt_feed(s, 0, tok, 0, 0, NULL));
        assert_ok(aq_rt_feed(s, 0, tok, 0, 0, NULL));
        aq_rt_session_close(s);
    }
    free(tok);
}

/* A step of three sequences that is stopped leaves each as it was; the same step then does what it would have done, and allocates nothing. */
static void an_interrupted_step(void **state) {
    (void)state;
    enum { SEQ = 3, N = 70 };
    int32_t tok[SEQ][N + 3], step[9];
    int64_t seq[9];
    uint8_t want[9];
    const float *logits;
    for (int threads = 1; threads <= 3; threads++) {
        aq_rt_session *s = open_with(200, SEQ, 80, 9, threads);
        for (int q = 0; q < SEQ; q++) {
            some_tokens(tok[q], N + 3, 20 + (uint64_t)q);
            assert_ok(aq_rt_feed(s, q, tok[q], N, 0, NULL));
        }
        for (int i = 0; i < 9; i++) {
            step[i] = tok[i / 3][N + i % 3];
            seq[i] = i / 3;
            want[i] = 1;
        }
        int64_t spare = s->kv.n_spare;
        aq_mem_fail_after(1);
        aq_rt_interrupt(s);
        assert_refused(AQ_INTERRUPTED, "interrupted", aq_rt_step(s, step, seq, want, 9, &logits));
        assert_int_equal(s->kv.n_spare, spare);
        for (int q = 0; q < SEQ; q++)
            assert_int_equal(aq_rt_length(s, q), N);
        assert_ok(aq_rt_step(s, step, seq, want, 9, &logits));
        aq_mem_fail_after(0);
        for (int i = 0; i < 9; i++)
            expect_logits(logits + i * TINY_V, tok[i / 3], N + i % 3 + 1);
        aq_rt_session_close(s);
    }
}

static void a_step_allocates_nothing(void **state) {
    (void)state;
    int32_t tok[64];
    const float *logits;
    aq_rt_sampler *sampler;
    some_tokens(tok, 64, 6);
    aq_rt_session *s = open_with(512, 2, 32, 4, 2);
    assert_ok(aq_rt_sampler_open(&(aq_rt_sampling){.temperature = 0.8, .top_k = 10, .top_p = 0.9}, TINY_V, &sampler));
    long before = aq_mem_allocations();
    aq_mem_fail_after(1);
    for (int i = 0; i < 8; i++) {
        assert_ok(aq_rt_feed(s, i % 2, tok, 64, 3, &logits));
        aq_rt_sample(sampler, logits, NULL);
        assert_ok(aq_rt_truncate(s, i % 2, 40));
    }
    aq_mem_fail_after(0);
    assert_int_equal(aq_mem_allocations(), before);
    aq_rt_sampler_close(sampler);
    aq_rt_session_close(s);
}

/* The Nth allocation fails, for every N, until all succeed: a clean error, nothing left open. */
static void every_allocation_may_fail(void **state) {
    (void)state;
    long open_before = aq_mem_open_blocks(), n = 0;
    const unsigned char *bytes = plan->tables.bytes;
    size_t size = plan->tables.size;
    for (aq_status status = AQ_NO_MEMORY; status != AQ_OK;) {
        aq_rt_plan *p = NULL;
        aq_rt_weights *w = NULL;
        aq_rt_session *s = NULL;
        const float *logits;
        int32_t tok[5] = {1, 2, 3, 4, 5};
        aq_mem_fail_after(++n);
        status = aq_rt_plan_from_functions("tiny.aqp", bytes, size, tiny_lookup, NULL, &p);
        if (status == AQ_OK)
            status = aq_rt_weights_bind(p, tiny_source, &model, NULL, 2, NULL, NULL, &w);
        if (status == AQ_OK)
            status = aq_rt_session_open(p, w, &(aq_rt_limits){100, 1, 4, 1, 2}, &s);
        if (status == AQ_OK)
            status = aq_rt_feed(s, 0, tok, 5, 1, &logits);
        aq_mem_fail_after(0);
        if (status == AQ_OK)
            expect_logits(logits, tok, 5);
        else
            assert_int_equal(status, AQ_NO_MEMORY);
        aq_rt_session_close(s);
        aq_rt_weights_close(w);
        aq_rt_plan_close(p);
        assert_int_equal(aq_mem_open_blocks(), open_before);
    }
    print_message("%ld allocations were made to fail\n", n - 1);
    assert_true(n > 8);
}

static void times_of_steps(void **state) {
    (void)state;
    int32_t tok[9] = {0};
    aq_rt_trace_row row[16];
    aq_rt_session *s = open_with(100, 1, 4, 1, 2);
    assert_ok(aq_rt_feed(s, 0, tok, 9, 1, NULL));
    assert_int_equal(aq_rt_trace_rows(s, row, 16), 0);
    aq_rt_trace(s, 1);
    assert_ok(aq_rt_feed(s, 0, tok, 9, 1, NULL)); /* chunks of 4, 4 and 1: both variants */
    assert_int_equal(aq_rt_trace_rows(s, row, 16), 10);
    assert_string_equal(row[0].kernel, "embed");
    assert_int_equal(row[0].count, 1);
    assert_int_equal(row[5].count, 2);
    assert_true(row[7].ns > 0 && row[7].layer == -1);
    assert_int_equal(aq_rt_trace_rows(s, row, 3), 3);
    aq_rt_session_close(s);
}

static void weights_of_another_plan(void **state) {
    (void)state;
    tiny_tables *t = malloc(sizeof *t);
    unsigned char *bytes;
    size_t size;
    aq_rt_plan *other;
    aq_rt_session *s;
    tiny_fill(t);
    t->p.options = "different";
    assert_ok(aq_plan_write(&t->p, &arena, &bytes, &size));
    assert_ok(aq_rt_plan_from_functions("other.aqp", bytes, size, tiny_lookup, NULL, &other));
    assert_refused(AQ_REFUSED, "bound for another plan", aq_rt_session_open(other, weights, &(aq_rt_limits){1, 1, 1, 1, 1}, &s));
    aq_rt_plan_close(other);
    memcpy(t->strings + t->phases[2].symbol, "tiny_odd", 8);
    assert_ok(aq_plan_write(&t->p, &arena, &bytes, &size));
    assert_refused(AQ_REFUSED, "phases[2].symbol: the code has no function tiny_odd",
                   aq_rt_plan_from_functions("other.aqp", bytes, size, tiny_lookup, NULL, &other));
    free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_token_at_a_time),      cmocka_unit_test(chunks_do_not_matter),     cmocka_unit_test(many_sequences),
        cmocka_unit_test(truncated_positions_are_forgotten), cmocka_unit_test(limits_are_named), cmocka_unit_test(interrupts),
        cmocka_unit_test(an_interrupted_step), cmocka_unit_test(a_step_allocates_nothing), cmocka_unit_test(every_allocation_may_fail), cmocka_unit_test(times_of_steps),
        cmocka_unit_test(weights_of_another_plan),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
