/* test_sample.c: sampling against the plainest implementation of its description (aquila.md's order of filters): sort everything, libm's
 * exp, cut, renormalise. The set that survives must be the same, and the draws must follow its probabilities (chi-square). */
#include "ir/clock.h"
#include "ir/memory.h"
#include "ir/random.h"
#include "runtime/scan.h"
#include "tests/runtime/tiny.h"

#include <math.h>

enum { MAX_V = 60000 };

typedef struct entry {
    double logit, p;
    int32_t id;
} entry;

static entry e[MAX_V];
static double expected[MAX_V]; /* probability of each id */
static long drawn[MAX_V];

static int falling(const void *a, const void *b) {
    const entry *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit) - (x->logit > y->logit) : x->id - y->id;
}

static void softmax(entry *x, int64_t n, double temperature) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i].p = x[i].logit == x[0].logit ? 1 : exp((x[i].logit - x[0].logit) / temperature);
    for (int64_t i = 0; i < n; i++)
        x[i].p /= sum;
}

static int64_t cut_k(int64_t n, int64_t k) {
    if (k == 0 || k >= n)
        return n;
    while (k < n && e[k].logit == e[k - 1].logit)
        k++;
    return k;
}

static int64_t cut_p(int64_t n, double top_p, int order) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        if (top_p < 1 && (sum > top_p || (order == 1 && i && sum >= top_p)))
            return i;
        sum += e[i].p;
    }
    return n;
}

/* Fills expected; returns how many survive. */
static int64_t reference(const aq_rt_sampling *how, const float *logits, int64_t v) {
    int64_t n = v;
    for (int64_t i = 0; i < v; i++)
        e[i] = (entry){.logit = isnan(logits[i]) ? -INFINITY : (double)logits[i], .id = (int32_t)i};
    qsort(e, (size_t)v, sizeof *e, falling);
    if (how->order == 0) {
        n = cut_k(n, how->top_k);
        softmax(e, n, how->temperature);
        n = cut_p(n, how->top_p, 0);
    } else {
        softmax(e, n, 1);
        n = cut_p(n, how->top_p, 1);
        n = cut_k(n, how->top_k);
    }
    softmax(e, n, how->temperature);
    memset(expected, 0, sizeof expected);
    for (int64_t i = 0; i < n; i++)
        expected[e[i].id] = e[i].p;
    return n;
}

static void bumpy(float *x, int64_t v, uint64_t seed, double width, int ties) {
    aq_random r = aq_random_open(seed);
    for (int64_t i = 0; i < v; i++) {
        x[i] = (float)(width * aq_random_normal(&r));
        if (ties)
            x[i] = roundf(x[i]);
    }
}

/* Nothing outside the set is ever drawn; chi-square of those expected at least 20 times, within 6 standard deviations. */
static void compare(const aq_rt_sampling *how, const float *x, int64_t v, long draws) {
    aq_rt_sampler *s;
    int64_t kept = reference(how, x, v);
    double chi = 0, freedom = -1, rest_expected = 0;
    long rest = 0;
    assert_ok(aq_rt_sampler_open(how, v, &s));
    memset(drawn, 0, sizeof drawn);
    for (long i = 0; i < draws; i++)
        drawn[aq_rt_sample(s, x, NULL)]++;
    for (int64_t i = 0; i < v; i++) {
        double want = expected[i] * (double)draws;
        if (want == 0 && drawn[i])
            fail_msg("token %lld drawn %ld times, but it does not survive (T %g, k %lld, p %g, order %d, %lld kept)", (long long)i, drawn[i], how->temperature,
                     (long long)how->top_k, how->top_p, how->order, (long long)kept);
        if (want >= 20) {
            chi += ((double)drawn[i] - want) * ((double)drawn[i] - want) / want;
            freedom++;
        } else {
            rest += drawn[i];
            rest_expected += want;
        }
    }
    if (rest_expected >= 20) {
        chi += ((double)rest - rest_expected) * ((double)rest - rest_expected) / rest_expected;
        freedom++;
    }
    if (freedom > 0 && fabs(chi - freedom) > 6 * sqrt(2 * freedom) + 6)
        fail_msg("chi-square %g with %g degrees of freedom (T %g, k %lld, p %g, order %d, %lld kept)", chi, freedom, how->temperature, (long long)how->top_k,
                 how->top_p, how->order, (long long)kept);
    aq_rt_sampler_close(s);
}

static void draws_follow_the_description(void **state) {
    (void)state;
    static const double temperature[] = {0.1, 0.8, 1, 3}, top_p[] = {0, 0.5, 0.9, 0.95, 1};
    static const int64_t top_k[] = {0, 1, 5, 30, 1000}, vocab[] = {1, 2, 7, 64, 301};
    static float x[MAX_V];
    uint64_t seed = 1;
    for (size_t v = 0; v < 5; v++)
        for (size_t t = 0; t < 4; t++)
            for (size_t p = 0; p < 5; p++)
                for (size_t k = 0; k < 5; k++)
                    for (int order = 0; order < 2; order++) {
                        seed++;
                        bumpy(x, vocab[v], seed, 2, seed % 2 == 0);
                        compare(&(aq_rt_sampling){temperature[t], top_p[p], top_k[k], seed, order}, x, vocab[v], 400);
                    }
}

/* Large and flat: the head has to be taken again, larger. */
/* The sets and probabilities that FlagAI's own code and transformers' warpers give (tests/oracle/sampling.py): the reference has them, and the
 * sampler draws by them. */
static void as_the_originals(void **state) {
    (void)state;
    FILE *f = fopen("tests/data/sampling.txt", "r");
    int v, kept, cases = 0;
    aq_rt_sampling how = {.seed = 11};
    long long k;
    if (!f)
        fail_msg("tests/data/sampling.txt cannot be read");
    while (fscanf(f, "%d %lf %lld %lf %d %d", &how.order, &how.temperature, &k, &how.top_p, &v, &kept) == 6) {
        float x[100];
        assert_true(v > 0 && v <= 100);
        for (int i = 0, eighths; i < v; i++) {
            assert_int_equal(fscanf(f, "%d", &eighths), 1);
            x[i] = (float)eighths / 8;
        }
        how.top_k = k;
        int64_t n = reference(&how, x, v);
        if (n != kept)
            fail_msg("case %d: %lld survive, of the original %d", cases, (long long)n, kept);
        for (int i = 0; i < kept; i++) {
            double p;
            assert_int_equal(fscanf(f, "%lf", &p), 1);
            if (fabs(p - e[i].p) > 2e-5)
                fail_msg("case %d: probability %d is %.9g, of the original %.9g", cases, i, e[i].p, p);
        }
        compare(&how, x, v, 3000);
        cases++;
    }
    fclose(f);
    assert_int_equal(cases, 80);
}

static void long_heads(void **state) {
    (void)state;
    static float x[MAX_V];
    bumpy(x, MAX_V, 3, 1, 0);
    for (int order = 0; order < 2; order++) {
        compare(&(aq_rt_sampling){1, 0.3, 0, 5, order}, x, MAX_V, 60);
        compare(&(aq_rt_sampling){1, 0.95, 0, 6, order}, x, MAX_V, 20);
        compare(&(aq_rt_sampling){1, 0.5, 20000, 7, order}, x, MAX_V, 20);
        compare(&(aq_rt_sampling){0.5, 0.9, 30, 8, order}, x, MAX_V, 3000);
    }
    for (int64_t i = 0; i < MAX_V; i++)
        x[i] = 1; /* all tie */
    compare(&(aq_rt_sampling){0.8, 0.95, 30, 9, 0}, x, MAX_V, 20);
    compare(&(aq_rt_sampling){0.8, 1, 0, 9, 0}, x, MAX_V, 20);
}

static void ties_at_the_kth_are_kept(void **state) {
    (void)state;
    const float x[] = {1, 3, 2, 2, 3, 2, 0};
    assert_int_equal(reference(&(aq_rt_sampling){1, 1, 3, 0, 0}, x, 7), 5);
    compare(&(aq_rt_sampling){1, 1, 3, 1, 0}, x, 7, 20000);
    compare(&(aq_rt_sampling){1, 1, 3, 1, 1}, x, 7, 20000);
}

static void hostile_logits(void **state) {
    (void)state;
    enum { V = 37 };
    float x[V];
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, 3.4e38f, -3.4e38f, 1e-45f, 0};
    aq_random r = aq_random_open(4);
    for (int turn = 0; turn < 3000; turn++) {
        uint32_t kinds = aq_random_u32(&r);
        for (int i = 0; i < V; i++) {
            x[i] = (float)aq_random_normal(&r);
            if (aq_random_below(&r, 3) == 0)
                do
                    x[i] = bad[aq_random_below(&r, 8)];
                while (!(kinds >> aq_random_below(&r, 8) & 1) && aq_random_below(&r, 4));
            if (turn % 50 == 0)
                x[i] = turn % 100 ? NAN : -INFINITY;
        }
        aq_rt_sampler *s;
        aq_rt_sampling how = {turn % 7 == 0 ? 0 : turn % 11 == 0 ? 1e-310 : 0.8, turn % 5 ? 0.9 : 1, turn % 3 ? 5 : 0, (uint64_t)turn, turn % 2};
        double logprob;
        assert_ok(aq_rt_sampler_open(&how, V, &s));
        for (int i = 0; i < 20; i++) {
            int32_t id = aq_rt_sample(s, x, &logprob);
            assert_true(id >= 0 && id < V);
            assert_true(logprob <= 1e-12 && logprob == logprob);
            int any = 0;
            for (int k = 0; k < V; k++)
                any |= x[k] > -INFINITY;
            if (any && !(x[id] > -INFINITY))
                fail_msg("turn %d: token %d of logit %g was drawn", turn, id, x[id]);
        }
        aq_rt_sampler_close(s);
    }
}

static void greedy_takes_the_lowest_of_equals(void **state) {
    (void)state;
    static float x[1000];
    aq_rt_sampler *s;
    double logprob;
    assert_ok(aq_rt_sampler_open(&(aq_rt_sampling){0}, 1000, &s));
    aq_random r = aq_random_open(5);
    for (int turn = 0; turn < 500; turn++) {
        int want = 0;
        double sum = 0;
        for (int i = 0; i < 1000; i++) {
            x[i] = (float)aq_random_below(&r, 100) / 16;
            want = x[i] > x[want] ? i : want;
        }
        for (int i = 0; i < 1000; i++)
            sum += exp((double)x[i] - (double)x[want]);
        assert_int_equal(aq_rt_sample(s, x, &logprob), want);
        if (fabs(logprob + log(sum)) > 1e-13)
            fail_msg("log-probability %.17g, expected %.17g", logprob, -log(sum));
    }
    x[0] = x[1] = 0.0f, x[0] = -0.0f; /* equal */
    for (int i = 2; i < 1000; i++)
        x[i] = -1;
    assert_int_equal(aq_rt_sample(s, x, NULL), 0);
    aq_rt_sampler_close(s);
}

static void log_probabilities(void **state) {
    (void)state;
    static float x[MAX_V];
    for (int width = 1; width <= 30; width += 7) {
        aq_rt_sampler *s;
        double logprob, sum = 0;
        float max = -INFINITY;
        bumpy(x, MAX_V, (uint64_t)width, width, 0);
        for (int i = 0; i < MAX_V; i++)
            max = x[i] > max ? x[i] : max;
        for (int i = 0; i < MAX_V; i++)
            sum += exp((double)x[i] - (double)max);
        assert_ok(aq_rt_sampler_open(&(aq_rt_sampling){2, 0.9, 100, 1, 0}, MAX_V, &s));
        for (int i = 0; i < 10; i++) {
            int32_t id = aq_rt_sample(s, x, &logprob);
            double want = (double)x[id] - (double)max - log(sum);
            if (fabs(logprob - want) > 1e-12)
                fail_msg("log-probability %.17g, expected %.17g", logprob, want);
        }
        aq_rt_sampler_close(s);
    }
}

/* The passes in every width that this processor has, at every length: the same bits; beside the plainest loops. */
static void widths_agree(void **state) {
    (void)state;
    enum { N = 333 };
    static float x[N], heap[N];
    static double weight[3][N];
    static aq_candidate out[N];
    bumpy(x, N, 9, 3, 1);
    x[40] = NAN, x[41] = -INFINITY, x[42] = -3000;
    for (int64_t n = 1; n <= N; n++) {
        float max = -INFINITY;
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            max = x[i] > max ? x[i] : max;
        for (int64_t i = 0; i < n; i++)
            sum += x[i] == x[i] ? exp(((double)x[i] - (double)max) * 1.25) : 0;
        const aq_scan *plain = aq_scan_of(0), *s;
        double first = plain->sum_exp(x, n, max, 1.25, weight[0]);
        assert_true(fabs(first - sum) < 1e-13 * sum);
        for (int w = 0; w < 3; w++) {
            if (!(s = aq_scan_of(w)))
                continue;
            assert_true(s->largest(x, n) == max && x[s->find(x, n, max)] == max);
            assert_true(s->sum_exp(x, n, max, 1.25, weight[w]) == first && s->sum_exp(x, n, max, 1.25, NULL) == first);
            assert_memory_equal(weight[w], weight[0], (size_t)n * sizeof(double));
            int64_t k = 1 + n / 3, above = 0, least = 0;
            float kth = s->kth_largest(x, n, k, heap);
            for (int64_t i = 0; i < n; i++)
                above += x[i] > kth, least += x[i] >= kth;
            assert_true(above < k && least >= k);
            assert_int_equal(s->gather(x, n, kth, out), least);
            for (int64_t i = 1; i < least; i++)
                assert_true(out[i].id > out[i - 1].id && out[i].logit == x[out[i].id]);
        }
    }
}

static void same_seed_same_tokens(void **state) {
    (void)state;
    static float x[3000];
    int differ = 0;
    bumpy(x, 3000, 1, 2, 0);
    for (uint64_t seed = 0; seed < 20; seed++) {
        aq_rt_sampler *a, *b, *c;
        assert_ok(aq_rt_sampler_open(&(aq_rt_sampling){0.8, 0.95, 30, seed, 0}, 3000, &a));
        assert_ok(aq_rt_sampler_open(&(aq_rt_sampling){0.8, 0.95, 30, seed, 0}, 3000, &b));
        assert_ok(aq_rt_sampler_open(&(aq_rt_sampling){0.8, 0.95, 30, seed + 1, 0}, 3000, &c));
        for (int i = 0; i < 50; i++) {
            int32_t id = aq_rt_sample(a, x, NULL);
            assert_int_equal(aq_rt_sample(b, x, NULL), id);
            differ += aq_rt_sample(c, x, NULL) != id;
        }
        aq_rt_sampler_close(a);
        aq_rt_sampler_close(b);
        aq_rt_sampler_close(c);
    }
    assert_true(differ > 500);
}

static void refusals(void **state) {
    (void)state;
    aq_rt_sampler *s;
    assert_refused(AQ_USAGE, "temperature -1", aq_rt_sampler_open(&(aq_rt_sampling){-1, 1, 0, 0, 0}, 5, &s));
    assert_refused(AQ_USAGE, "temperature nan", aq_rt_sampler_open(&(aq_rt_sampling){NAN, 1, 0, 0, 0}, 5, &s));
    assert_refused(AQ_USAGE, "top-p -0.1", aq_rt_sampler_open(&(aq_rt_sampling){1, -0.1, 0, 0, 0}, 5, &s));
    assert_refused(AQ_USAGE, "top-k -1", aq_rt_sampler_open(&(aq_rt_sampling){1, 1, -1, 0, 0}, 5, &s));
    assert_refused(AQ_USAGE, "order 2", aq_rt_sampler_open(&(aq_rt_sampling){1, 1, 0, 0, 2}, 5, &s));
    assert_refused(AQ_REFUSED, "a vocabulary of 0", aq_rt_sampler_open(&(aq_rt_sampling){1, 1, 0, 0, 0}, 0, &s));
}

static void how_long_it_takes(void **state) {
    (void)state;
    enum { V = 49152, TURNS = 20 };
    static const struct {
        const char *name;
        aq_rt_sampling how;
        int logprob;
    } row[] = {{"greedy", {0, 1, 0, 0, 0}, 0}, {"greedy, log-probability", {0, 1, 0, 0, 0}, 1}, {"0.8, top 30, 0.95, log-probability", {0.8, 0.95, 30, 1, 0}, 1},
               {"0.9, top 1000, 0.95", {0.9, 0.95, 1000, 1, 0}, 0}, {"1, all, 0.95", {1, 0.95, 0, 1, 0}, 0}, {"1, all", {1, 1, 0, 1, 0}, 0}};
    static float x[V];
    bumpy(x, V, 1, 4, 0);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        aq_rt_sampler *s;
        double logprob;
        int64_t best = INT64_MAX;
        assert_ok(aq_rt_sampler_open(&row[i].how, V, &s));
        for (int k = 0; k < TURNS; k++) {
            int64_t start = aq_clock_ns();
            aq_rt_sample(s, x, row[i].logprob ? &logprob : NULL);
            int64_t ns = aq_clock_ns() - start;
            best = ns < best ? ns : best;
        }
        print_message("%d logits, %s: %.0f us\n", V, row[i].name, (double)best / 1000);
        aq_rt_sampler_close(s);
    }
    assert_int_equal(aq_mem_open_blocks(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_originals), cmocka_unit_test(draws_follow_the_description), cmocka_unit_test(long_heads),
        cmocka_unit_test(ties_at_the_kth_are_kept),     cmocka_unit_test(hostile_logits),
        cmocka_unit_test(greedy_takes_the_lowest_of_equals), cmocka_unit_test(log_probabilities),
        cmocka_unit_test(widths_agree), cmocka_unit_test(same_seed_same_tokens),        cmocka_unit_test(refusals),
        cmocka_unit_test(how_long_it_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
