/* test_mixed.c: a GGUF file whose matrices have all twelve block types, several in one region (q, k, v; gate and up): its logits are those that numpy
 * computes in f64 from the gguf package's values of the same bytes (tests/oracle/mixed.py), by the interpreter and by compiled kernels, in panels
 * and as stored. */
#include "codegen/cpu/cpu.h"
#include "frontend/engine.h"
#include "frontend/import/json.h"
#include "frontend/import/write_gguf.h"
#include "ir/block.h"
#include "ir/memory.h"
#include "tests/support/micro.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { D = 256, E = 64, F = 512, V = 64, N = 11 };

static const aq_config config = {.name = "mixed", .family = "llama", .D = D, .L = 2, .H = 4, .HKV = 2, .DH = E, .F = F, .V = V, .max_length = 128, .eps = 1e-5,
                                 .theta = 10000, .scaling_factor = 1, .bos = 1, .eos = 2, .pad = -1, .initializer_range = 0.02};

/* The halves of every block: where they are block.h says, what they are tests/oracle/mixed.py. */
static const struct {
    aq_dtype t;
    uint16_t d, m;
} halves[] = {{AQ_Q4_0, 0x2200, 0}, {AQ_Q4_1, 0x2200, 0xab80}, {AQ_Q5_0, 0x1e00, 0},      {AQ_Q5_1, 0x1e00, 0xabd0}, {AQ_Q8_0, 0x1000, 0},
              {AQ_Q2_K, 0x20c0, 0x2500}, {AQ_Q3_K, 0x1400, 0}, {AQ_Q4_K, 0x0c00, 0x1780}, {AQ_Q5_K, 0x0800, 0x17c0}, {AQ_Q6_K, 0x0200, 0},
              {AQ_IQ4_NL, 0x1400, 0}, {AQ_IQ4_XS, 0x0400, 0}};

static unsigned char hashed(uint64_t i, uint64_t k) {
    uint64_t u = (i * 2654435761u + k * 40503u) & 0xffffffffu;
    u ^= u >> 15;
    u = u * 2246822519u & 0xffffffffu;
    u ^= u >> 13;
    return (unsigned char)(u >> 8);
}

static void take(size_t n, void **out) {
    if (aq_mem_alloc(n, out) != AQ_OK)
        abort();
}

static aq_tensor matrix(const char *name, uint64_t k, aq_dtype t, int64_t rows, int64_t cols) {
    aq_tensor x = {.name = name, .file_name = name, .dtype = t, .rank = 2, .dim = {rows, cols}};
    void *p;
    assert_int_equal(aq_dtype_bytes(t, (uint64_t)(rows * cols), name, &x.bytes), AQ_OK);
    take(x.bytes, &p);
    unsigned char *b = p;
    for (size_t i = 0; i < x.bytes; i++)
        b[i] = hashed(i, k);
    for (size_t h = 0; h < sizeof halves / sizeof *halves; h++)
        for (size_t i = 0; halves[h].t == t && i < x.bytes; i += aq_dtype_of(t)->bytes) {
            memcpy(b + i + aq_block_of(t)->d_at, &halves[h].d, 2);
            if (aq_block_of(t)->m_at >= 0)
                memcpy(b + i + aq_block_of(t)->m_at, &halves[h].m, 2);
        }
    x.data = p;
    return x;
}

static aq_tensor norm(const char *name, uint64_t k) {
    aq_tensor x = {.name = name, .file_name = name, .dtype = AQ_F32, .rank = 1, .dim = {D}, .bytes = D * sizeof(float)};
    void *p;
    take(x.bytes, &p);
    for (int i = 0; i < D; i++)
        ((float *)p)[i] = 1 + ((float)hashed((uint64_t)i, k) - 128) / 512;
    x.data = p;
    return x;
}

static void write_model(const char *path) {
    static const char *const names[] = {"wq", "wk", "wv", "wo", "w1", "w3", "w2"};
    static const int64_t shape[7][2] = {{D, D}, {2 * E, D}, {2 * E, D}, {D, D}, {F, D}, {F, D}, {D, F}};
    static const aq_dtype types[2][7] = {{AQ_Q2_K, AQ_Q3_K, AQ_Q4_K, AQ_Q5_K, AQ_Q6_K, AQ_Q5_0, AQ_Q5_1}, {AQ_Q8_0, AQ_Q4_0, AQ_Q4_1, AQ_Q6_K, AQ_IQ4_NL, AQ_Q5_K, AQ_IQ4_XS}};
    aq_tensor t[32];
    char name[32][16];
    uint32_t n = 0;
    t[n++] = matrix("tok_embeddings", 0, AQ_Q4_K, V, D);
    t[n++] = matrix("output", 1, AQ_Q6_K, V, D);
    t[n++] = norm("norm", 2);
    for (int layer = 0; layer < 2; layer++)
        for (int i = 0; i < 9; i++, n++) {
            uint64_t k = (uint64_t)(10 + 20 * layer + i);
            snprintf(name[n], sizeof name[n], "%s.%d", i < 7 ? names[i] : i == 7 ? "attn_norm" : "ffn_norm", layer);
            t[n] = i < 7 ? matrix(name[n], k, types[layer][i], shape[i][0], shape[i][1]) : norm(name[n], k);
        }
    if (aq_gguf_write(path, &config, t, n, NULL, NULL) != AQ_OK)
        fail_msg("%s", aq_error());
    for (uint32_t i = 0; i < n; i++)
        aq_mem_free((void *)(uintptr_t)t[i].data);
}

static void check(const char *path, const char *target, int as_stored, double tolerance, const int32_t *ids, const double *want) {
    const aq_engine_options o = {.context = 64, .threads = 2, .target = target, .as_stored = as_stored};
    aq_engine *e;
    const float *logits;
    double up = 0, down = 0;
    if (aq_engine_open(path, &o, &e) != AQ_OK || aq_engine_feed(e, 0, ids, N - 1, 0, &logits) != AQ_OK || aq_engine_feed(e, 0, ids + N - 1, 1, 1, &logits) != AQ_OK)
        fail_msg("%s: %s", target, aq_error());
    for (int i = 0; i < V; i++) {
        up += (logits[i] - want[i]) * (logits[i] - want[i]);
        down += want[i] * want[i];
    }
    print_message("%s%s: relative error %.1e\n", target, as_stored ? ", as stored" : "", sqrt(up / down));
    if (!(sqrt(up / down) <= tolerance))
        fail_msg("%s%s: logits off by %g: expected at most %g", target, as_stored ? ", as stored" : "", sqrt(up / down), tolerance);
    aq_engine_close(e);
}

static void logits_are_numpys(void **state) {
    (void)state;
    static const char data[] = "tests/data/mixed_logits.json";
    const char *version, *library;
    char folder[64], path[96], *text;
    size_t n;
    cJSON *json;
    int32_t ids[N];
    double want[V];
    aq_micro_folder(folder);
    snprintf(path, sizeof path, "%s/mixed.gguf", folder);
    write_model(path);
    if (aq_file_read(data, 1 << 20, &text, &n) != AQ_OK || aq_json_parse(data, text, n, &json) != AQ_OK)
        fail_msg("%s", aq_error());
    for (int i = 0; i < N; i++)
        ids[i] = (int32_t)cJSON_GetArrayItem(aq_json_get(json, "ids"), i)->valuedouble;
    for (int i = 0; i < V; i++)
        want[i] = cJSON_GetArrayItem(aq_json_get(json, "logits"), i)->valuedouble;
    check(path, "ref", 0, 1e-5, ids, want);
    if (aq_cpu_llvm_version(&version, &library) == AQ_OK) {
        check(path, "cpu", 0, 2e-3, ids, want);
        check(path, "cpu", 1, 2e-3, ids, want);
    }
    cJSON_Delete(json);
    aq_mem_free(text);
    aq_micro_remove(folder);
    assert_int_equal(aq_mem_open_blocks(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_are_numpys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
