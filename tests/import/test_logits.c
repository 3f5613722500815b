/* test_logits.c: what import says of a model is what the model means: a plain forward pass in f64, straight from the definition in double loops over
 * the checkpoint's tensors, gives the logits of transformers (tests/data, made by tests/oracle/logits.py). It shares no code with the compiler. */
#include "frontend/import/import.h"
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

static double *numbers(size_t n) {
    double *p = calloc(n, sizeof *p);
    if (!p)
        abort();
    return p;
}

static const aq_tensor *tensor(const aq_checkpoint *c, const char *house, int64_t layer) {
    char name[32];
    snprintf(name, sizeof name, layer < 0 ? "%s" : "%s.%lld", house, (long long)layer);
    const aq_tensor *t = aq_checkpoint_find(c, name);
    if (!t)
        fail_msg("no tensor %s", name);
    return t;
}

/* out[T, rows] = x[T, cols] by the tensor [rows, cols]. Each row is decoded once. */
static void matmul(const aq_tensor *t, const double *x, size_t T, double *out) {
    size_t rows = (size_t)t->dim[0], cols = (size_t)t->dim[1];
    double *w = numbers(cols);
    for (size_t r = 0; r < rows; r++) {
        aq_dtype_decode_f64(t->dtype, t->data, r * cols, cols, w);
        for (size_t i = 0; i < T; i++) {
            double sum = 0;
            for (size_t k = 0; k < cols; k++)
                sum += w[k] * x[i * cols + k];
            out[i * rows + r] = sum;
        }
    }
    free(w);
}

static void norm(const aq_tensor *t, double eps, const double *x, size_t T, double *out) {
    size_t n = (size_t)t->dim[0];
    double *w = numbers(n);
    aq_dtype_decode_f64(t->dtype, t->data, 0, n, w);
    for (size_t i = 0; i < T; i++) {
        double squares = 0;
        for (size_t k = 0; k < n; k++)
            squares += x[i * n + k] * x[i * n + k];
        for (size_t k = 0; k < n; k++)
            out[i * n + k] = x[i * n + k] / sqrt(squares / (double)n + eps) * w[k];
    }
    free(w);
}

/* Pairs (2i, 2i + 1) of each head, or (i, i + DH/2) where the rows are in that order. */
static void rope(const aq_config *c, int rotate_half, double *x, size_t T, size_t heads) {
    size_t E = (size_t)c->DH;
    for (size_t t = 0; t < T; t++)
        for (size_t h = 0; h < heads; h++)
            for (size_t i = 0; i < E / 2; i++) {
                double angle = (double)t * pow(c->theta, -2.0 * (double)i / (double)E), *v = x + (t * heads + h) * E;
                double *a = v + (rotate_half ? i : 2 * i), *b = v + (rotate_half ? i + E / 2 : 2 * i + 1), u = *a;
                *a = u * cos(angle) - *b * sin(angle);
                *b = u * sin(angle) + *b * cos(angle);
            }
}

static void attend(const aq_config *c, const double *q, const double *k, const double *v, size_t T, double *out) {
    size_t H = (size_t)c->H, G = (size_t)(c->H / c->HKV), KV = (size_t)c->HKV, E = (size_t)c->DH;
    double *p = numbers(T);
    for (size_t t = 0; t < T; t++)
        for (size_t h = 0; h < H; h++) {
            double max = -INFINITY, sum = 0, *o = out + (t * H + h) * E;
            for (size_t s = 0; s <= t; s++) {
                p[s] = 0;
                for (size_t e = 0; e < E; e++)
                    p[s] += q[(t * H + h) * E + e] * k[(s * KV + h / G) * E + e];
                p[s] /= sqrt((double)E);
                max = p[s] > max ? p[s] : max;
            }
            for (size_t s = 0; s <= t; s++)
                sum += p[s] = exp(p[s] - max);
            memset(o, 0, E * sizeof *o);
            for (size_t s = 0; s <= t; s++)
                for (size_t e = 0; e < E; e++)
                    o[e] += p[s] / sum * v[(s * KV + h / G) * E + e];
        }
    free(p);
}

static void add(double *x, const double *y, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

static void layer(const aq_checkpoint *m, int64_t l, double *x, size_t T) {
    const aq_config *c = &m->config;
    size_t D = (size_t)c->D, F = (size_t)c->F, Q = (size_t)(c->H * c->DH), K = (size_t)(c->HKV * c->DH);
    double *n = numbers(T * D), *y = numbers(T * D), *q = numbers(T * Q), *o = numbers(T * Q), *k = numbers(T * K), *v = numbers(T * K);
    double *gate = numbers(T * F), *up = numbers(T * F);
    norm(tensor(m, "attn_norm", l), c->eps, x, T, n);
    matmul(tensor(m, "wq", l), n, T, q);
    matmul(tensor(m, "wk", l), n, T, k);
    matmul(tensor(m, "wv", l), n, T, v);
    rope(c, tensor(m, "wq", l)->rotate_half, q, T, (size_t)c->H);
    rope(c, tensor(m, "wk", l)->rotate_half, k, T, (size_t)c->HKV);
    attend(c, q, k, v, T, o);
    matmul(tensor(m, "wo", l), o, T, y);
    add(x, y, T * D);
    norm(tensor(m, "ffn_norm", l), c->eps, x, T, n);
    matmul(tensor(m, "w1", l), n, T, gate);
    matmul(tensor(m, "w3", l), n, T, up);
    for (size_t i = 0; i < T * F; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    matmul(tensor(m, "w2", l), gate, T, y);
    add(x, y, T * D);
    free(n), free(y), free(q), free(o), free(k), free(v), free(gate), free(up);
}

/* The logits after the last token: V numbers, free. */
static double *logits(const aq_checkpoint *m, const int64_t *ids, size_t T) {
    size_t D = (size_t)m->config.D;
    double *x = numbers(T * D), *n = numbers(D), *out = numbers((size_t)m->config.V);
    const aq_tensor *embedding = tensor(m, "tok_embeddings", -1);
    for (size_t t = 0; t < T; t++)
        aq_dtype_decode_f64(embedding->dtype, embedding->data, (size_t)ids[t] * D, D, x + t * D);
    for (int64_t l = 0; l < m->config.L; l++)
        layer(m, l, x, T);
    norm(tensor(m, "norm", -1), m->config.eps, x + (T - 1) * D, 1, n);
    matmul(m->config.tied ? embedding : tensor(m, "output", -1), n, 1, out);
    free(x), free(n);
    return out;
}

/* Sum of logits[i] * s(k, i); the signs are those of tests/oracle/logits.py. */
static double projection(const double *x, size_t n, uint64_t k) {
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t u = (i * 2654435761u + k * 40503u) & 0xffffffffu;
        u ^= u >> 15;
        u = u * 2246822519u & 0xffffffffu;
        u ^= u >> 13;
        sum += u & 1 ? -x[i] : x[i];
    }
    return sum;
}

static void check_prompt(const aq_checkpoint *m, const cJSON *p, double tolerance) {
    const cJSON *ids = aq_json_get(p, "ids"), *x;
    size_t T = (size_t)cJSON_GetArraySize(ids), V = (size_t)m->config.V, i = 0;
    int64_t *tokens = calloc(T, sizeof *tokens);
    cJSON_ArrayForEach(x, ids) assert_int_equal(aq_json_whole(x, &tokens[i++]), 1);
    double *out = logits(m, tokens, T), size = aq_json_get(p, "norm")->valuedouble, squares = 0, error = 0;
    for (i = 0; i < V; i++)
        squares += out[i] * out[i];
    i = 0;
    cJSON_ArrayForEach(x, aq_json_get(p, "projections")) {
        double d = projection(out, V, i++) - x->valuedouble;
        error += d * d;
    }
    error = sqrt(error / (double)i) / size;
    const cJSON *best = cJSON_GetArrayItem(aq_json_get(p, "top"), 0);
    print_message("%s: relative L2 error %.1e\n", aq_json_get(p, "name")->valuestring, error);
    if (error > tolerance || fabs(sqrt(squares) / size - 1) > tolerance || i < 16)
        fail_msg("%s: relative error %g of the logits, of their norm %g: expected at most %g", aq_json_get(p, "name")->valuestring, error,
                 fabs(sqrt(squares) / size - 1), tolerance);
    if (fabs(out[best->child->valueint] - best->child->next->valuedouble) > tolerance * size)
        fail_msg("%s: token %d has logit %g, expected %g", aq_json_get(p, "name")->valuestring, best->child->valueint, out[best->child->valueint],
                 best->child->next->valuedouble);
    free(out), free(tokens);
}

static void check_model(const char *path, const char *data, size_t longest) {
    aq_checkpoint m;
    char *text;
    size_t n;
    cJSON *root;
    const cJSON *p;
    int prompts = 0;
    if (aq_checkpoint_open(path, &m) != AQ_OK || aq_file_read(data, 1 << 24, &text, &n) != AQ_OK || aq_json_parse(data, text, n, &root) != AQ_OK)
        fail_msg("%s", aq_error());
    cJSON_ArrayForEach(p, aq_json_get(root, "prompts")) {
        if ((size_t)cJSON_GetArraySize(aq_json_get(p, "ids")) > longest)
            continue;
        check_prompt(&m, p, 1e-5);
        prompts++;
    }
    assert_true(prompts > 0);
    cJSON_Delete(root);
    aq_mem_free(text);
    aq_checkpoint_close(&m);
}

static void the_tiny_model(void **state) {
    (void)state;
    check_model("tests/data/tiny-hf", "tests/data/tiny_logits.json", 200);
}

static void the_real_model(void **state) {
    (void)state;
    if (!getenv("AQ_TEST_MODEL")) {
        print_message("AQ_TEST_MODEL names no file: left out\n");
        skip();
    }
    check_model(getenv("AQ_TEST_MODEL"), "tests/data/smollm2_logits.json", 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_tiny_model), cmocka_unit_test(the_real_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
