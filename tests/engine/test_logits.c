/* test_logits.c: the whole line against transformers: logits, greedy text and perplexity of stored references (tests/oracle/logits.py), by the
 * interpreter (relative L2 at most 1e-5) and by compiled kernels (at most 5e-3). The real model is used where AQ_TEST_MODEL names it. */
#include "codegen/cpu/cpu.h"
#include "frontend/engine.h"
#include "frontend/import/json.h"
#include "ir/memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 1024 };

typedef struct model {
    aq_engine *e;
    cJSON *data;
    char *text;
    const char *target;
    double tolerance;
    int64_t vocabulary;
} model;

static model open_model(const char *path, const char *data, const char *target, double tolerance) {
    model m = {.target = target, .tolerance = tolerance};
    size_t n;
    aq_engine_options o = {.target = target, .context = MOST + 64, .batch = 512, .outputs = 256, .threads = 2};
    if (aq_engine_open(path, &o, &m.e) != AQ_OK || aq_file_read(data, 1 << 24, &m.text, &n) != AQ_OK || aq_json_parse(data, m.text, n, &m.data) != AQ_OK)
        fail_msg("%s: %s", target, aq_error());
    m.vocabulary = aq_engine_checkpoint(m.e)->config.V;
    return m;
}

static void close_model(model *m) {
    aq_engine_close(m->e);
    cJSON_Delete(m->data);
    aq_mem_free(m->text);
}

static int64_t read_ids(const cJSON *list, int32_t *out) {
    int64_t n = 0, id;
    const cJSON *x;
    cJSON_ArrayForEach(x, list) {
        assert_true(aq_json_whole(x, &id) && n < MOST);
        out[n++] = (int32_t)id;
    }
    return n;
}

static const float *feed(model *m, const int32_t *ids, int64_t n, int64_t want) {
    const float *logits;
    if (aq_engine_feed(m->e, 0, ids, n, want, &logits) != AQ_OK)
        fail_msg("%s: %s", m->target, aq_error());
    return logits;
}

static void forget(model *m) { assert_int_equal(aq_engine_truncate(m->e, 0, 0), AQ_OK); }

/* Sum of logits[i] * s(k, i); the signs are those of tests/oracle/logits.py. */
static double projection(const float *x, int64_t n, uint64_t k) {
    double sum = 0;
    for (uint64_t i = 0; i < (uint64_t)n; i++) {
        uint64_t u = (i * 2654435761u + k * 40503u) & 0xffffffffu;
        u ^= u >> 15;
        u = u * 2246822519u & 0xffffffffu;
        u ^= u >> 13;
        sum += u & 1 ? -x[i] : x[i];
    }
    return sum;
}

static void check_prompt(model *m, const cJSON *p) {
    int32_t ids[MOST];
    int64_t n = read_ids(aq_json_get(p, "ids"), ids);
    double size = aq_json_get(p, "norm")->valuedouble, error = 0;
    uint64_t k = 0;
    const cJSON *x;
    forget(m);
    const float *logits = feed(m, ids, n, 1);
    cJSON_ArrayForEach(x, aq_json_get(p, "projections")) {
        double d = projection(logits, m->vocabulary, k++) - x->valuedouble;
        error += d * d;
    }
    error = sqrt(error / (double)k) / size;
    print_message("%-4s %4lld tokens: relative L2 error of the logits %.1e\n", m->target, (long long)n, error);
    if (!(error <= m->tolerance))
        fail_msg("%s, %lld tokens: relative error %g of the logits: expected at most %g", m->target, (long long)n, error, m->tolerance);
}

static int32_t best_of(const float *logits, int64_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Equal tokens as long as the reference's two best differ by more than we may be off; behind a closer call the texts may part. */
static void check_greedy(model *m, const cJSON *g) {
    int32_t ids[MOST], tokens[MOST];
    int64_t n = read_ids(aq_json_get(g, "prompt"), ids), n_tokens = read_ids(aq_json_get(g, "tokens"), tokens), i = 0;
    const cJSON *gap = aq_json_get(g, "gaps")->child;
    forget(m);
    const float *logits = feed(m, ids, n, 1);
    for (; i < n_tokens; i++, gap = gap->next) {
        double norm = 0;
        for (int64_t v = 0; v < m->vocabulary; v++)
            norm += (double)logits[v] * logits[v];
        int32_t token = best_of(logits, m->vocabulary);
        double may_be_off = 2 * m->tolerance * sqrt(norm / (double)m->vocabulary);
        if (token != tokens[i] && gap->valuedouble > may_be_off)
            fail_msg("%s: token %lld is %d: the reference says %d, by %g", m->target, (long long)i, token, tokens[i], gap->valuedouble);
        if (token != tokens[i])
            break;
        logits = feed(m, &token, 1, 1);
    }
    print_message("%-4s greedy: %lld of %lld tokens equal\n", m->target, (long long)i, (long long)n_tokens);
}

static void check_perplexity(model *m, int64_t longest) {
    const cJSON *p = aq_json_get(m->data, "perplexity"), *x = aq_json_get(p, "logprobs")->child;
    int32_t ids[MOST];
    int64_t n = read_ids(aq_json_get(p, "ids"), ids);
    double ours = 0, theirs = 0;
    n = n < longest ? n : longest;
    forget(m);
    for (int64_t first = 0; first < n; first += 64) {
        int64_t count = n - first < 64 ? n - first : 64;
        const float *logits = feed(m, ids + first, count, count);
        for (int64_t i = 0; i < count && first + i + 1 < n; i++, x = x->next) {
            const float *row = logits + i * m->vocabulary;
            double most = row[best_of(row, m->vocabulary)], sum = 0;
            for (int64_t v = 0; v < m->vocabulary; v++)
                sum += exp(row[v] - most);
            ours += row[ids[first + i + 1]] - most - log(sum);
            theirs += x->valuedouble;
        }
    }
    double a = exp(-ours / (double)(n - 1)), b = exp(-theirs / (double)(n - 1));
    print_message("%-4s perplexity of %lld tokens %.5f, reference %.5f\n", m->target, (long long)n, a, b);
    if (!(fabs(a / b - 1) <= 1e-3))
        fail_msg("%s: perplexity %g: the reference says %g", m->target, a, b);
}

static void check_model(const char *path, const char *data, const char *target, double tolerance, int64_t longest) {
    model m = open_model(path, data, target, tolerance);
    const cJSON *p;
    cJSON_ArrayForEach(p, aq_json_get(m.data, "prompts"))
        if (cJSON_GetArraySize(aq_json_get(p, "ids")) <= longest)
            check_prompt(&m, p);
    if (longest >= 48)
        cJSON_ArrayForEach(p, aq_json_get(m.data, "greedy")) check_greedy(&m, p);
    check_perplexity(&m, longest);
    close_model(&m);
}

static int no_compiler(void) {
    const char *version, *path;
    if (aq_cpu_llvm_version(&version, &path) == AQ_OK)
        return 0;
    print_message("left out: %s\n", aq_error());
    return 1;
}

static void tiny_ref(void **state) {
    (void)state;
    check_model("tests/data/tiny-hf", "tests/data/tiny_logits.json", "ref", 1e-5, MOST);
}

static void tiny_cpu(void **state) {
    (void)state;
    if (no_compiler())
        skip();
    check_model("tests/data/tiny-hf", "tests/data/tiny_logits.json", "cpu", 5e-3, MOST);
    check_model("tests/data/tiny-hf", "tests/data/tiny_logits.json", "cpu:v3", 5e-3, MOST);
}

static const char *real_model(void) {
    const char *path = getenv("AQ_TEST_MODEL");
    if (!path || !*path)
        print_message("AQ_TEST_MODEL names no file: left out\n");
    return path && *path ? path : NULL;
}

/* The interpreter takes a second a token under the sanitizers: AQ_TEST_LONG=1 checks all lengths (two minutes in a release build). */
static void real_ref(void **state) {
    (void)state;
    if (!real_model())
        skip();
    check_model(real_model(), "tests/data/smollm2_logits.json", "ref", 1e-5, getenv("AQ_TEST_LONG") ? MOST : 5);
}

static void real_cpu(void **state) {
    (void)state;
    if (!real_model() || no_compiler())
        skip();
    check_model(real_model(), "tests/data/smollm2_logits.json", "cpu", 5e-3, MOST);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tiny_ref), cmocka_unit_test(tiny_cpu), cmocka_unit_test(real_ref), cmocka_unit_test(real_cpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
