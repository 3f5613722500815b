/* test_config.c: config.json in Hugging Face's and FlagAI's keys: what figures come out, and which line refuses what. */
#include "frontend/import/internal.h"
#include "frontend/import/json.h"
#include "ir/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define HF(rest)                                                                                                                            \
    "{\"model_type\": \"aquila\", \"hidden_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"intermediate_size\": 192,"     \
    " \"vocab_size\": 512, \"max_position_embeddings\": 256, \"rms_norm_eps\": 1e-6" rest "}"

static aq_status parse(aq_arena *arena, const char *json, aq_config *c) {
    aq_naming naming;
    return aq_config_parse(arena, "config.json", json, strlen(json), c, &naming);
}

static aq_config parsed(aq_arena *arena, const char *json) {
    aq_config c;
    if (parse(arena, json, &c) != AQ_OK)
        fail_msg("%s", aq_error());
    return c;
}

static void hugging_face_keys(void **state) {
    (void)state;
    aq_arena a = {0};
    aq_config c = parsed(&a, HF(""));
    assert_true(c.D == 64 && c.L == 2 && c.H == 4 && c.HKV == 4 && c.DH == 16 && c.F == 192 && c.V == 512 && c.max_length == 256);
    assert_true(c.eps == 1e-6 && c.theta == 10000 && c.scaling == AQ_ROPE_NONE && c.scaling_factor == 1 && !c.tied);
    assert_true(c.bos == -1 && c.eos == -1 && c.pad == -1 && c.initializer_range == 0.02);
    assert_string_equal(c.family, "aquila");
    c = parsed(&a, HF(", \"num_key_value_heads\": 2, \"head_dim\": 32, \"rope_theta\": 5e5, \"tie_word_embeddings\": true, \"bos_token_id\": 1,"
                      "\"eos_token_id\": [2, 3], \"pad_token_id\": null, \"initializer_range\": 0.006, \"_name_or_path\": \"x/y\""));
    assert_true(c.HKV == 2 && c.DH == 32 && c.theta == 5e5 && c.tied && c.bos == 1 && c.eos == 2 && c.pad == -1 && c.initializer_range == 0.006);
    assert_string_equal(c.name, "x/y");
    c = parsed(&a, HF(", \"pad_token_id\": 512, \"bos_token_id\": -1")); /* past the vocabulary: no token */
    assert_true(c.pad == -1 && c.bos == -1);
    aq_arena_close(&a);
}

/* As transformers' LlamaConfig and MistralConfig. */
static void figures_that_are_left_out(void **state) {
    (void)state;
#define BARE(type) "{\"model_type\": \"" type "\", \"hidden_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"intermediate_size\": 192, \"vocab_size\": 512}"
    aq_arena a = {0};
    aq_config c = parsed(&a, BARE("llama"));
    assert_true(c.eps == 1e-6 && c.max_length == 2048 && c.theta == 10000 && !c.tied && c.initializer_range == 0.02);
    c = parsed(&a, BARE("mistral"));
    assert_true(c.eps == 1e-6 && c.max_length == 4096); /* 4096 * 32, of which its window of 4096 is read */
    aq_arena_close(&a);
}

static void rope_scaling_in_all_spellings(void **state) {
    (void)state;
    static const struct {
        const char *json;
        aq_rope_scaling scaling;
        double factor, theta;
    } cases[] = {
        {HF(", \"rope_scaling\": null"), AQ_ROPE_NONE, 1, 10000},
        {HF(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 8}"), AQ_ROPE_LINEAR, 8, 10000},
        {HF(", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2.5}"), AQ_ROPE_DYNAMIC, 2.5, 10000},
        {HF(", \"rope_scaling\": {\"rope_type\": \"default\"}"), AQ_ROPE_NONE, 1, 10000},
        {HF(", \"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 4.0, \"rope_theta\": 777}"), AQ_ROPE_LINEAR, 4, 777},
    };
    aq_arena a = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        aq_config c = parsed(&a, cases[i].json);
        assert_true(c.scaling == cases[i].scaling && c.scaling_factor == cases[i].factor && c.theta == cases[i].theta);
    }
    aq_arena_close(&a);
}

/* FlagAI gives no width of the feed-forward layer: int(2 * 4 * dim / 3) rounded up to a multiple. 7B: 11008. */
static void flagai_keys(void **state) {
    (void)state;
    aq_arena a = {0};
    aq_config c = parsed(&a, "{\"dim\": 4096, \"multiple_of\": 256, \"n_heads\": 32, \"n_layers\": 32, \"norm_eps\": 1e-05, \"vocab_size\": 100008,"
                             "\"max_seq_len\": 2048, \"initializer_range\": 0.006, \"flash_atten\": true}");
    assert_true(c.D == 4096 && c.F == 11008 && c.H == 32 && c.HKV == 32 && c.DH == 128 && c.L == 32 && c.V == 100008 && c.max_length == 2048);
    assert_true(c.eps == 1e-5 && c.initializer_range == 0.006);
    assert_string_equal(c.family, "aquila");
    aq_arena_close(&a);
}

static const struct {
    const char *json, *message;
} refused[] = {
    {"", "config.json:1:1: not JSON: expected a value here"},
    {"{\n \"a\": 1,\n}", "config.json:3:1: not JSON: expected a value here"},
    {"7", "config.json: not a JSON object: expected the figures of a model"},
    {"{}", "config.json:key hidden_size: missing: expected a whole number"},
    {"{\"model_type\": \"gpt2\"}", "config.json:key model_type: another architecture: expected \"aquila\", \"llama\" or \"mistral\""},
    {"{\"hidden_size\": \"64\"}", "config.json:key hidden_size: not one number: expected a whole number"},
    {"{\"hidden_size\": 64.5}", "config.json:key hidden_size: 64.5: expected a whole number from 1 to 16777216"},
    {"{\"hidden_size\": 1e300}", "config.json:key hidden_size: 1.0000000000000001e+300: expected a whole number from 1 to 16777216"},
    {"{\"hidden_size\": -64}", "config.json:key hidden_size: -64: expected a whole number from 1 to 16777216"},
    {"{\"dim\": 64, \"n_layers\": 1, \"n_heads\": 4, \"norm_eps\": 1, \"vocab_size\": 8, \"max_seq_len\": 9}",
     "config.json:key multiple_of: missing: expected the figure that the feed-forward width is a multiple of (256 for Aquila-7B)"},
    {HF(", \"rms_norm_eps\": 0"), NULL}, /* the first of repeated keys counts */
    {HF(", \"rope_theta\": 1e-60"), "config.json:key rope_theta: 9.9999999999999997e-61: expected a number above 0, at most 1e12, in f32"},
    {HF(", \"rope_theta\": 0"), "config.json:key rope_theta: 0: expected a number above 0, at most 1e12, in f32"},
    {HF(", \"num_key_value_heads\": 3"), "config.json:key num_key_value_heads: 3: expected a divisor of the 4 heads"},
    {HF(", \"num_key_value_heads\": 8"), "config.json:key num_key_value_heads: 8: expected a divisor of the 4 heads"},
    {HF(", \"head_dim\": 7"), "config.json:key head_dim: a head's width of 7: expected an even number"},
    {HF(", \"head_dim\": 8388608"), "config.json:key head_dim: 4 heads of 8388608: expected at most 16777216 in all"},
    {HF(", \"hidden_act\": \"gelu\""), "config.json:key hidden_act: another activation: expected \"silu\""},
    {HF(", \"attention_bias\": true"), "config.json:key attention_bias: the model has biases: expected none in this architecture"},
    {HF(", \"quantization_config\": {}"), "config.json:key quantization_config: weights quantised by another tool: expected plain weights, or a GGUF file"},
    {HF(", \"tie_word_embeddings\": 1"), "config.json:key tie_word_embeddings: not true or false"},
    {HF(", \"eos_token_id\": []"), "config.json:key eos_token_id: not a token number: expected a whole number from -1 to 2147483647"},
    {HF(", \"rope_scaling\": {\"type\": \"longrope\", \"factor\": 2}"),
     "config.json:key rope_scaling.type: rope scaling \"longrope\" is not supported: expected linear, dynamic, yarn, llama3 or none"},
    {HF(", \"rope_scaling\": {\"type\": \"linear\"}"), "config.json:key rope_scaling.factor: missing: expected the factor of the rope scaling"},
    {"{\"hidden_size\": 65, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"intermediate_size\": 192, \"vocab_size\": 9,"
     "\"max_position_embeddings\": 9, \"rms_norm_eps\": 1}",
     "config.json:key num_attention_heads: 4 heads do not divide the width 65: expected a divisor, or the head's own width"},
};

/* Mistral: its length is that of its window, which transformers takes as 4096 where no key says it. */
static void a_window_bounds_the_length(void **state) {
    (void)state;
#define OF(type, rest)                                                                                                                            \
    "{\"model_type\": \"" type "\", \"hidden_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"intermediate_size\": 192,"        \
    " \"vocab_size\": 512, \"max_position_embeddings\": 8192, \"rms_norm_eps\": 1e-6" rest "}"
    static const struct {
        const char *json;
        int64_t length;
    } cases[] = {{OF("llama", ", \"sliding_window\": 9"), 8192}, /* no key of llama's */
                 {OF("mistral", ", \"sliding_window\": null"), 8192},
                 {OF("mistral", ", \"sliding_window\": 9"), 9},
                 {OF("mistral", ", \"sliding_window\": 1000000"), 8192},
                 {OF("mistral", ""), 4096}};
    aq_arena a = {0};
    aq_config c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (parse(&a, cases[i].json, &c) != AQ_OK)
            fail_msg("%s", aq_error());
        assert_int_equal(c.max_length, cases[i].length);
        assert_string_equal(c.family, "llama");
    }
    aq_arena_close(&a);
}

/* What the config.json of published models say (but for keys that no program here reads), from memory: all open. */
static void published_figures_are_read(void **state) {
    (void)state;
#define SIZES(type, d, l, h, kv, f, v, n, theta, rest)                                                                                              \
    "{\"model_type\": \"" type "\", \"hidden_size\": " #d ", \"num_hidden_layers\": " #l ", \"num_attention_heads\": " #h ", \"num_key_value_heads\": " #kv \
    ", \"intermediate_size\": " #f ", \"vocab_size\": " #v ", \"max_position_embeddings\": " #n ", \"rope_theta\": " #theta                          \
    ", \"attention_bias\": false, \"attention_dropout\": 0.0, \"hidden_act\": \"silu\", \"pretraining_tp\": 1, \"rms_norm_eps\": 1e-05, "            \
    "\"torch_dtype\": \"bfloat16\", \"bos_token_id\": 1, \"use_cache\": true" rest "}"
#define LLAMA3(factor)                                                                                                                           \
    ", \"eos_token_id\": [128001, 128008, 128009], \"mlp_bias\": false, \"rope_scaling\": {\"factor\": " factor ", \"low_freq_factor\": 1.0, "              \
    "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\"}"
    static const struct {
        const char *name, *json;
        aq_rope_scaling scaling;
        int64_t length;
    } cases[] = {
        {"Llama-2-7b", SIZES("llama", 4096, 32, 32, 32, 11008, 32000, 4096, 10000.0, ", \"rope_scaling\": null"), AQ_ROPE_NONE, 4096},
        {"Llama-3-8B", SIZES("llama", 4096, 32, 32, 8, 14336, 128256, 8192, 500000.0, ", \"rope_scaling\": null"), AQ_ROPE_NONE, 8192},
        {"Llama-3.1-8B", SIZES("llama", 4096, 32, 32, 8, 14336, 128256, 131072, 500000.0, LLAMA3("8.0")), AQ_ROPE_LLAMA3, 131072},
        {"Llama-3.2-1B", SIZES("llama", 2048, 16, 32, 8, 8192, 128256, 131072, 500000.0, LLAMA3("32.0") ", \"head_dim\": 64, \"tie_word_embeddings\": true"),
         AQ_ROPE_LLAMA3, 131072},
        {"Llama-3.1-405B", SIZES("llama", 16384, 126, 128, 8, 53248, 128256, 131072, 500000.0, LLAMA3("8.0")), AQ_ROPE_LLAMA3, 131072},
        {"CodeLlama-7b", SIZES("llama", 4096, 32, 32, 32, 11008, 32016, 16384, 1000000, ", \"rope_scaling\": null"), AQ_ROPE_NONE, 16384},
        {"TinyLlama-1.1B", SIZES("llama", 2048, 22, 32, 4, 5632, 32000, 2048, 10000.0, ", \"rope_scaling\": null"), AQ_ROPE_NONE, 2048},
        {"Yi-34B-200K", SIZES("llama", 7168, 60, 56, 8, 20480, 64000, 200000, 10000000.0, ", \"rope_scaling\": null, \"pad_token_id\": 0"), AQ_ROPE_NONE, 200000},
        {"deepseek-coder-6.7b", SIZES("llama", 4096, 32, 32, 32, 11008, 32256, 16384, 100000, ", \"rope_scaling\": {\"factor\": 4.0, \"type\": \"linear\"}"),
         AQ_ROPE_LINEAR, 16384},
        {"Yarn-Llama-2-7b-64k", SIZES("llama", 4096, 32, 32, 32, 11008, 32000, 65536, 10000.0, ", \"rope_scaling\": {\"factor\": 16.0, "
                                      "\"original_max_position_embeddings\": 4096, \"type\": \"yarn\", \"finetuned\": true}"), AQ_ROPE_YARN, 65536},
        {"Mistral-7B-v0.1", SIZES("mistral", 4096, 32, 32, 8, 14336, 32000, 32768, 10000.0, ", \"sliding_window\": 4096"), AQ_ROPE_NONE, 4096},
        {"Mistral-7B-v0.3", SIZES("mistral", 4096, 32, 32, 8, 14336, 32768, 32768, 1000000.0, ", \"sliding_window\": null"), AQ_ROPE_NONE, 32768},
        {"Mistral-Nemo", SIZES("mistral", 5120, 40, 32, 8, 14336, 131072, 131072, 1000000.0, ", \"head_dim\": 128, \"sliding_window\": null"), AQ_ROPE_NONE, 131072},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        aq_arena a = {0};
        aq_config c;
        if (parse(&a, cases[i].json, &c) != AQ_OK)
            fail_msg("%s: %s", cases[i].name, aq_error());
        if (c.scaling != cases[i].scaling || c.max_length != cases[i].length)
            fail_msg("%s: scaling %d, %lld positions", cases[i].name, c.scaling, (long long)c.max_length);
        aq_arena_close(&a);
    }
}

static void what_is_wrong_is_named(void **state) {
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        aq_arena a = {0};
        aq_config c;
        aq_status status = parse(&a, refused[i].json, &c);
        const char *said = status == AQ_OK ? "(read)" : aq_error(), *want = refused[i].message ? refused[i].message : "(read)";
        if (strcmp(said, want) != 0) {
            print_error("%s\n  said     %s\n  expected %s\n", refused[i].json, said, want);
            bad++;
        }
        aq_arena_close(&a);
    }
    assert_int_equal(bad, 0);
    assert_int_equal(aq_mem_open_blocks(), 0);
}

/* Every built-in architecture reads, under its own name, from the program and from its file. */
static void built_in_architectures(void **state) {
    (void)state;
    int n = 0, sevens = 0;
    for (const aq_builtin_config *b = aq_builtin_configs; b->name; b++, n++) {
        aq_arena a = {0};
        aq_config c, from_file;
        char path[128];
        if (aq_config_read(&a, b->name, &c) != AQ_OK)
            fail_msg("%s", aq_error());
        assert_string_equal(c.name, b->name);
        snprintf(path, sizeof path, "models/aquila/configs/%s.json", b->name);
        if (aq_config_read(&a, path, &from_file) != AQ_OK)
            fail_msg("%s", aq_error());
        assert_true(c.D == from_file.D && c.F == from_file.F && c.initializer_range == from_file.initializer_range);
        sevens += c.D == 4096 && c.F == 11008 && c.V == 100008;
        aq_arena_close(&a);
    }
    assert_true(n >= 13 && sevens == 3);
    aq_arena a = {0};
    aq_config c;
    assert_int_equal(aq_config_read(&a, "aquila-8b", &c), AQ_REFUSED);
    assert_non_null(strstr(aq_error(), "aquila-8b: no such file or built-in architecture: expected a path, or one of"));
    assert_int_equal(aq_config_read(&a, "tiny:random:5", &c), AQ_OK);
    aq_arena_close(&a);
}

/* A tree's memory comes in chunks: all of them go with it, in whatever order its parts go, and a long text among short ones costs itself only. */
static void memory_of_json_goes_with_it(void **state) {
    (void)state;
    enum { N = 3000 };
    static char text[N * 40 + 200000];
    size_t n = 1;
    text[0] = '[';
    for (int i = 0; i < N; i++)
        n += (size_t)sprintf(text + n, "%s{\"k%d\": [%d, \"x\"]}", i ? "," : "", i, i);
    n += (size_t)sprintf(text + n, ",\"");
    memset(text + n, 'y', 100000);
    n += 100000;
    n += (size_t)sprintf(text + n, "\"]");
    long open = aq_mem_open_blocks();
    cJSON *a, *b;
    assert_int_equal(aq_json_parse("t", text, n, &a), AQ_OK);
    assert_true(aq_mem_open_blocks() < open + 20);
    assert_int_equal(aq_json_parse("t", text, n, &b), AQ_OK);
    cJSON_Delete(cJSON_DetachItemFromArray(a, N / 2));
    assert_int_equal(cJSON_GetArraySize(a), N);
    cJSON_Delete(a);
    assert_int_equal(cJSON_GetArraySize(b), N + 1);
    assert_int_equal(strlen(cJSON_GetArrayItem(b, N)->valuestring), 100000);
    cJSON_Delete(b);
    assert_int_equal(aq_mem_open_blocks(), open);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_of_json_goes_with_it),
        cmocka_unit_test(hugging_face_keys), cmocka_unit_test(figures_that_are_left_out), cmocka_unit_test(rope_scaling_in_all_spellings), cmocka_unit_test(flagai_keys),
        cmocka_unit_test(a_window_bounds_the_length), cmocka_unit_test(published_figures_are_read), cmocka_unit_test(what_is_wrong_is_named), cmocka_unit_test(built_in_architectures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
