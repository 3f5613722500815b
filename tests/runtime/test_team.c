/* test_team.c: every worker passes every barrier, sees what the others wrote before it, gets every item once; with more workers than
 * processors too, after sleeping too. Under the thread sanitizer this is the proof that the orderings are right. */
#include "ir/clock.h"
#include "ir/memory.h"
#include "tests/runtime/tiny.h"

#include <time.h>

enum { MOST = 9, ITEMS = 1000 };

typedef struct job {
    aq_team *team;
    int phases;
    int64_t written[MOST * 16]; /* plain memory: a line for each worker */
    int64_t seen_wrong;
    unsigned char taken[ITEMS];
    atomic_int stop;
    int64_t stopped_at[MOST * 16];
} job;

static void phases(void *user, int w) {
    job *j = user;
    int n = aq_team_size(j->team);
    for (int p = 1; p <= j->phases; p++) {
        j->written[w * 16]++;
        aq_team_barrier(j->team, NULL);
        for (int k = 0; k < n; k++)
            if (j->written[k * 16] != j->written[w * 16])
                __atomic_fetch_add(&j->seen_wrong, 1, __ATOMIC_RELAXED);
        aq_team_barrier(j->team, NULL);
    }
}

static void helpings(void *user, int w) {
    job *j = user;
    (void)w;
    for (int turn = 0; turn < 3; turn++) {
        for (int64_t i; (i = aq_team_take(j->team, 7)) < ITEMS;)
            for (int64_t k = i; k < i + 7 && k < ITEMS; k++)
                j->taken[k]++;
        aq_team_barrier(j->team, NULL); /* begins anew */
    }
}

static void every_number_of_workers(void **state) {
    (void)state;
    static job j;
    for (int n = 1; n <= MOST; n++) {
        memset(&j, 0, sizeof j);
        assert_ok(aq_team_open(n, &j.team));
        j.phases = n > 4 ? 20 : 300;
        for (int run = 0; run < 20; run++)
            aq_team_run(j.team, phases, &j);
        assert_int_equal(j.seen_wrong, 0);
        assert_int_equal(j.written[0], 20 * j.phases);
        aq_team_run(j.team, helpings, &j);
        for (int i = 0; i < ITEMS; i++)
            if (j.taken[i] != 3)
                fail_msg("%d workers: item %d was taken %d times, expected 3", n, i, j.taken[i]);
        aq_team_close(j.team);
    }
}

static void short_runs(void **state) {
    (void)state;
    static job j;
    memset(&j, 0, sizeof j);
    assert_ok(aq_team_open(3, &j.team));
    j.phases = 1;
    for (int run = 0; run < 3000; run++) {
        aq_team_run(j.team, phases, &j);
        if (run % 300 == 0)
            nanosleep(&(struct timespec){0, 2000000}, NULL); /* the workers fall asleep */
    }
    assert_int_equal(j.seen_wrong, 0);
    assert_int_equal(j.written[32], 3000);
    aq_team_close(j.team);
}

static void until_told(void *user, int w) {
    job *j = user;
    for (int64_t p = 0;; p++) {
        if (w == 1 && p == 100)
            atomic_store_explicit(&j->stop, 1, memory_order_relaxed);
        if (aq_team_barrier(j->team, &j->stop)) {
            j->stopped_at[w * 16] = p;
            return;
        }
    }
}

static void all_stop_at_the_same_barrier(void **state) {
    (void)state;
    static job j;
    for (int turn = 0; turn < 30; turn++) {
        memset(&j, 0, sizeof j);
        assert_ok(aq_team_open(4, &j.team));
        aq_team_run(j.team, until_told, &j);
        for (int w = 0; w < 4; w++)
            assert_int_equal(j.stopped_at[w * 16], j.stopped_at[0]);
        assert_true(j.stopped_at[0] >= 100);
        aq_team_close(j.team);
    }
}

static void refusals(void **state) {
    (void)state;
    aq_team *t;
    assert_refused(AQ_USAGE, "0 threads: expected 1 to 1024", aq_team_open(0, &t));
    assert_refused(AQ_USAGE, "1025 threads", aq_team_open(1025, &t));
    assert_int_equal(aq_mem_open_blocks(), 0);
    aq_team_close(NULL);
}

static void how_long_a_barrier_takes(void **state) {
    (void)state;
    static job j;
    for (int n = 1; n <= 4; n *= 2) {
        memset(&j, 0, sizeof j);
        assert_ok(aq_team_open(n, &j.team));
        j.phases = 500;
        int64_t best = INT64_MAX;
        for (int k = 0; k < 5; k++) {
            int64_t start = aq_clock_ns();
            aq_team_run(j.team, phases, &j);
            int64_t ns = aq_clock_ns() - start;
            best = ns < best ? ns : best;
        }
        print_message("%d workers on %d processors: %.2f us a barrier\n", n, aq_team_processors(), (double)best / 1000 / 1000);
        aq_team_close(j.team);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_of_workers), cmocka_unit_test(short_runs), cmocka_unit_test(all_stop_at_the_same_barrier),
        cmocka_unit_test(refusals), cmocka_unit_test(how_long_a_barrier_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
