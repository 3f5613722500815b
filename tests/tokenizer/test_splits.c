/* Pre-tokenizers of any steps: the pieces that Hugging Face's tokenizers make (tests/oracle/splits.py made the file), what is not read or not read
 * alike is refused, and no expression runs without end. */
#include "frontend/import/json.h"
#include "frontend/tokenizer/internal.h"
#include "tests/tokenizer/vocab.h"

#include <cjson/cJSON.h>
#include <setjmp.h>
#include <stdarg.h>
// cmocka wants these first
#include <cmocka.h>

/* A tokenizer of one entry with this pre-tokenizer; NULL where it is refused. by_steps: SPLITS, whatever the steps mean. */
static aq_tokenizer *open_with(const char *pre, int by_steps) {
    static const char rest[] = "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}";
    char *text = malloc(strlen(pre) + sizeof rest + 64);
    aq_arena arena = {0};
    aq_tokenizer_source source = {.kind = AQ_TOKENIZER_BPE, .place = "test", .bos = -1, .eos = -1, .pad = -1, .unk = -1};
    aq_source_reader r = {.arena = &arena, .place = "test", .out = &source};
    aq_tokenizer *t = NULL;
    VOCAB_NEED(text);
    size_t n = (size_t)sprintf(text, "{\"pre_tokenizer\": %s, %s", pre, rest);
    if (aq_source_parse_json(&r, text, n) == AQ_OK) {
        source.pre = by_steps ? AQ_PRE_SPLITS : source.pre;
        if (aq_tokenizer_build(&source, &t) != AQ_OK)
            t = NULL;
    }
    aq_arena_close(&arena);
    free(text);
    return t;
}

static aq_tokenizer *open_regex(const char *regex) {
    char quoted[8192], pre[12288];
    size_t n = 0;
    for (; *regex; regex++) {
        if (*regex == '\\' || *regex == '"')
            quoted[n++] = '\\';
        quoted[n++] = *regex;
    }
    snprintf(pre, sizeof pre, "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": \"%.*s\"}, \"behavior\": \"Isolated\"}, "
                              "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}]}", (int)n, quoted);
    return open_with(pre, 1);
}

typedef struct lengths {
    size_t n, total, at[4096];
} lengths;

static aq_status take(void *taker, const char *s, size_t n) {
    lengths *l = taker;
    VOCAB_NEED(s && n && l->n < 4096);
    l->at[l->n++] = n;
    l->total += n;
    return AQ_OK;
}

static aq_status pieces(const aq_tokenizer *t, const char *text, size_t n, lengths *out) {
    out->n = out->total = 0;
    if (t->pre == AQ_PRE_SPLITS) {
        aq_regex_work work = {0};
        aq_status status = aq_splits_run(t, &work, text, n, take, out);
        aq_regex_end(&work);
        return status;
    }
    for (size_t at = 0, next; at < n; at = next) {
        next = aq_pretokenize_next(t->pre, t, text, n, at);
        AQ_TRY(take(out, text + at, next - at));
    }
    return AQ_OK;
}

static void check_case(const aq_tokenizer *t, const char *pre, const char *text, const cJSON *want) {
    static lengths got;
    assert_int_equal(pieces(t, text, strlen(text), &got), AQ_OK);
    size_t i = 0;
    for (const cJSON *w = want->child; w; w = w->next, i++)
        if (i >= got.n || (double)got.at[i] != w->valuedouble)
            fail_msg("%.300s: \"%s\": piece %zu has %zu bytes, Hugging Face's %g", pre, text, i, i < got.n ? got.at[i] : 0, w->valuedouble);
    assert_int_equal(i, got.n);
}

static void test_cases(void **state) {
    (void)state;
    size_t n, n_cases = 0, n_pre = 0;
    char *file = vocab_gunzip("splits.gz", &n);
    cJSON *all;
    assert_int_equal(aq_json_parse("splits.gz", file, n, &all), AQ_OK);
    for (const cJSON *one = all->child; one; one = one->next, n_pre++) {
        char *pre = cJSON_PrintUnformatted(cJSON_GetObjectItem(one, "pre"));
        aq_tokenizer *t = open_with(pre, 0), *steps = open_with(pre, 1);
        if (!t || !steps)
            fail_msg("%s: %s", pre, aq_error());
        for (const cJSON *c = cJSON_GetObjectItem(one, "cases")->child; c; c = c->next, n_cases++) {
            check_case(t, pre, c->child->valuestring, c->child->next);
            check_case(steps, pre, c->child->valuestring, c->child->next);
        }
        aq_tokenizer_close(t);
        aq_tokenizer_close(steps);
        cJSON_free(pre);
    }
    print_message("%zu pre-tokenizers, %zu texts\n", n_pre, n_cases);
    cJSON_Delete(all);
    free(file);
}

/* Bytes that are no UTF-8 are text: none is lost, and each stands by itself. */
static void test_bytes(void **state) {
    (void)state;
    static const char text[] = "ab\xFFgh \xE4\xB8 x\xC0\xAF 12\xF5";
    static lengths got;
    aq_tokenizer *t = open_regex("\\p{L}+|\\p{N}");
    static const size_t want[] = {2, 1, 2, 4, 1, 3, 1, 1, 1};
    assert_int_equal(pieces(t, text, sizeof text - 1, &got), AQ_OK);
    assert_int_equal(got.n, sizeof want / sizeof *want);
    assert_memory_equal(got.at, want, sizeof want);
    assert_int_equal(got.total, sizeof text - 1);
    aq_ids ids = {0};
    assert_int_equal(aq_tokenizer_encode(t, text, sizeof text - 1, 1, &ids), AQ_OK);
    aq_ids_close(&ids);
    aq_tokenizer_close(t);
}

/* Read otherwise by PCRE2 than by Oniguruma, or by one of them only, or without bounds. */
static void test_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\\w+", "\\bx", "\\h", "\\R", "\\X", "\\K", "\\G", "\\A", "\\Z", "\\z", "\\C", "\\1", "\\N", "\\pL", "\\p{Han}", "\\p{^L}", "\\p{Mn}", "\\p{C}", "\\p{}", "\\p{L", "\\xE4", "\\x{110000}",
        "\\x{D800}", "\\uD800", "\\u41", "\\", "(?i)a", "(?m:.)", "(?s:.)", "(?-i:a)", "(?<n>a)", "(?P<n>a)", "(?#a)", "(?~a)", "(?1)", "(?C1)", "(*FAIL)", "(?|a|b)", "(?(1)a)", "(?R)", "(?'n'a)",
        "(?i:ss)", "(?i:sT)", "(?i:ff)", "(?i:f(?:i))", "(?i:\u00e9)", "(?i:.)", "(?i:\\s)", "(?i:[^a])", "(?i:[\u00e0-\u00ff])", "(?i:\\p{L})",
        "a**", "a+*", "a{2}+", "a{2}?", "a{,2}", "a{", "a{2,1}", "a{1001}", "a{2", "*a", "+", "?", "|*", "(a?)*", "(a|)+", "(?:a*)+", "(?=a)*", "^*", "$?", "\\Ba",
        "[", "[]", "[]a]", "[^]", "[a", "[[:alpha:]]", "[a&&b]", "[a[^b]]", "[z-a]", "[a-\\d]", "[\\d-z]", "[a-c-e]", "[\\Da]", "[a\\P{L}]", "[[\\P{L}]]", "[--a]", "[\\w]", "[\\h]",
        "(", ")", "(a", "a)", "((((((((((((((((((a))))))))))))))))))", "(?<=a+)b", "(?<!a*)b", "\xFF", "a\xE4\xB8"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        aq_tokenizer *t = open_regex(bad[i]);
        if (t)
            fail_msg("\"%s\" is not refused", bad[i]);
    }
    char many[800 * 5 + 1] = "";
    for (size_t i = 0; i < 800; i++)
        strcat(many, i % 2 ? "\\p{L}" : "\\P{S}");
    assert_null(open_regex(many)); /* as written for PCRE2 too long */
    assert_non_null(strstr(aq_error(), "too many classes"));
    assert_int_equal(aq_mem_open_blocks(), 0);
}

#define FOUR(s) s s s s
#define MANY FOUR(FOUR("(?:a|a)(?:b|b)")) "x"

static void test_no_end(void **state) {
    (void)state;
    static const char *const slow[] = {"(?:a|a|b)+c", "(?:a|b|ab)*c", "(?:a?a?b?)(?:a|b|ab)+c", "(?:(?:ab|a|b)+[ab])+c", "(?:(?=[ab]* )[ab])+x", "(?:[ab]*+c|[ab])*x", "(?=[ab]*+ )x|[ab]*+x", "(?:(?>[ab]+)c|[ab])+x", "(?:[ab](?![ab]*c))+x",
                                       MANY,
                                       "[ab]*?[ab]*?[ab]*?[ab]*?x"};
    enum { N = 20000 };
    char *text = malloc(N + 3);
    static lengths got;
    VOCAB_NEED(text);
    for (size_t i = 0; i < N; i++)
        text[i] = "ab"[i % 2];
    memcpy(text + N, " cx", 3); /* what the expressions ask for is there, but not to be had */
    for (size_t i = 0; i < sizeof slow / sizeof *slow; i++) {
        aq_tokenizer *t = open_regex(slow[i]);
        if (!t)
            fail_msg("%s: %s", slow[i], aq_error());
        aq_status status = pieces(t, text, N + 3, &got);
        if (status != AQ_REFUSED || !strstr(aq_error(), "steps"))
            fail_msg("%s: status %d, \"%s\"", slow[i], (int)status, aq_error());
        aq_tokenizer_close(t);
    }
    free(text);
}

/* Every allocation fails once, PCRE2's among them: said so, and nothing stays behind. */
static void test_out_of_memory(void **state) {
    (void)state;
    static const char text[] = "ab  12 \xFF (abc)aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static lengths got;
    int done = 0;
    for (long nth = 1; !done && nth < 1000; nth++) {
        aq_mem_fail_after(nth);
        aq_tokenizer *t = open_regex("(?:[ab]{1,2}c?)+|\\s+(?!\\S)");
        aq_status status = t ? pieces(t, text, sizeof text - 1, &got) : AQ_NO_MEMORY;
        aq_mem_fail_after(0);
        done = status == AQ_OK;
        if (status != AQ_OK && !strstr(aq_error(), "memory"))
            fail_msg("allocation %ld: %s", nth, aq_error());
        aq_tokenizer_close(t);
        assert_int_equal(aq_mem_open_blocks(), 0);
    }
    assert_true(done);
    assert_int_equal(got.total, sizeof text - 1);
}

/* A run of white space as long as texts have it, and the ordinary patterns on long runs of anything. */
static void test_long_runs(void **state) {
    (void)state;
    static const char *const names[] = {"qwen2", "tekken", "gpt-4o", "deepseek-coder", "deepseek-v3", "falcon", "viking", "bailingmoe"};
    enum { N = 200000 };
    char *text = malloc(N);
    VOCAB_NEED(text);
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        const aq_named_pattern *p = aq_pattern_find((aq_bytes){names[k], (uint32_t)strlen(names[k])});
        const aq_bytes vocab[] = {{"a", 1}};
        const aq_tokenizer_source source = {.kind = AQ_TOKENIZER_BPE, .place = "test", .pre = p->pre, .splits = p->splits, .n_splits = p->n_splits, .n_vocab = 1, .vocab = vocab, .bos = -1, .eos = -1, .pad = -1, .unk = -1};
        aq_tokenizer *t;
        assert_int_equal(aq_tokenizer_build(&source, &t), AQ_OK);
        for (const char *c = " \naA1!"; *c; c++) {
            aq_ids ids = {0};
            memset(text, *c, N);
            if (aq_tokenizer_encode(t, text, N, 1, &ids) != AQ_OK)
                fail_msg("%s on a run of '%c': %s", names[k], *c, aq_error());
            aq_ids_close(&ids);
        }
        aq_tokenizer_close(t);
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_bytes), cmocka_unit_test(test_refused), cmocka_unit_test(test_no_end), cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_long_runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
