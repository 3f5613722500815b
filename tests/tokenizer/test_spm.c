/* SentencePiece's BPE from tokenizer.model and from tokenizer.json, and Llama 3's pattern, against the ids and the text that sentencepiece and
 * Hugging Face's tokenizers give (tests/oracle/tokenizer_spm.py made the files); pieces of equal score; where words are cut; the time of long runs. */
#define _GNU_SOURCE
#include "frontend/import/write.h"
#include "frontend/tokenizer/internal.h"
#include "ir/clock.h"
#include "ir/random.h"
#include "tests/support/micro.h"
#include "tests/tokenizer/vocab.h"

#include <setjmp.h>
#include <stdarg.h>
// cmocka wants these first
#include <cmocka.h>

enum { MODEL, FAST, FIRST, LLAMA3, FORMS, WRITTEN = FORMS, WRITTEN_FIRST, ALL };
static const char *const names[ALL] = {"tokenizer.model", "tokenizer.json", "tokenizer.json with Metaspace", "the pattern of Llama 3", "tokenizer.json as convert writes it",
                                       "the same of \"legacy\": false"};
static aq_tokenizer *tokenizers[ALL];
static char *file;
static vocab_data data;

static aq_tokenizer *open_as(const char *name, const char *bytes, size_t n) {
    char folder[64], path[128];
    aq_tokenizer *t;
    aq_micro_folder(folder);
    aq_micro_put(folder, name, bytes, n);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    VOCAB_NEED(aq_tokenizer_open(path, &t) == AQ_OK);
    aq_micro_remove(folder);
    return t;
}

/* The document with another normalizer and pre-tokenizer. */
static aq_tokenizer *open_with_metaspace(const char *json, size_t n) {
    static const char from[] = "\"normalizer\": ", to[] = "\"post_processor\"";
    const char *a = memmem(json, n, from, sizeof from - 1), *b = memmem(json, n, to, sizeof to - 1);
    char *other = malloc(n + 400);
    VOCAB_NEED(a && b && other);
    int length = snprintf(other, n + 400, "%.*s\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", "
                          "\"prepend_scheme\": \"first\", \"split\": false}, %.*s", (int)(a - json), json, (int)(json + n - b), b);
    aq_tokenizer *t = open_as("tokenizer.json", other, (size_t)length);
    free(other);
    return t;
}

/* tokenizer.json as convert writes it of the model. */
static aq_tokenizer *open_written(const char *model, size_t n, int is_legacy) {
    char folder[64], path[128], config[40];
    aq_arena arena = {0};
    aq_tokenizer_source s;
    aq_file_writer *w;
    aq_tokenizer *t;
    aq_micro_folder(folder);
    aq_micro_put(folder, "tokenizer.model", model, n);
    aq_micro_put(folder, "tokenizer_config.json", config, (size_t)snprintf(config, sizeof config, "{\"legacy\": %s}", is_legacy ? "true" : "false"));
    VOCAB_NEED(aq_tokenizer_source_read(&arena, folder, &s) == AQ_OK);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    VOCAB_NEED(aq_file_create(path, &w) == AQ_OK && aq_tokenizer_put(&s, NULL, 0, AQ_FILE_TOKENIZER_JSON, w) == AQ_OK && aq_file_commit(w) == AQ_OK);
    VOCAB_NEED(aq_tokenizer_open(path, &t) == AQ_OK);
    aq_arena_close(&arena);
    aq_micro_remove(folder);
    return t;
}

static aq_tokenizer *open_llama3(void) {
    aq_arena arena = {0};
    aq_tokenizer_source s = vocab_source(&arena, "smollm2");
    aq_added_token added[17] = {{.id = 0}};
    aq_tokenizer *t;
    for (int i = 0; i < 17; i++)
        added[i] = (aq_added_token){.text = s.vocab[i], .id = i, .special = 1};
    s.added = added;
    s.n_added = 17;
    s.pre = AQ_PRE_LLAMA3;
    s.ignore_merges = 1;
    VOCAB_NEED(aq_tokenizer_build(&s, &t) == AQ_OK);
    aq_arena_close(&arena);
    return t;
}

static void check_ids(int form, aq_bytes text, aq_bytes want) {
    aq_ids ids = {0};
    assert_int_equal(aq_tokenizer_encode(tokenizers[form], text.s, text.n, form != MODEL, &ids), AQ_OK);
    size_t i = 0;
    int32_t id = -1;
    for (; i < ids.n && i < want.n; i++) {
        memcpy(&id, want.s + i * 4, 4);
        if (id != ids.at[i])
            break;
    }
    if (i < ids.n || i < want.n)
        fail_msg("%s: \"%.*s\": %zu ids, %u wanted; the first that differs is number %zu: %d, not %d", names[form], (int)text.n, text.s, ids.n, want.n,
                 i, i < ids.n ? ids.at[i] : -1, i < want.n ? id : -1);
    aq_ids_close(&ids);
}

static void check_decode(aq_bytes ids, int skip, aq_bytes want) {
    aq_decoder d = aq_decoder_open(tokenizers[FAST], skip);
    d.whole_runs = 1;
    aq_bytes part;
    uint32_t done = 0;
    for (uint32_t i = 0; i <= ids.n; i++) {
        int32_t id = 0;
        if (i < ids.n)
            memcpy(&id, ids.s + i * 4, 4);
        assert_int_equal(i < ids.n ? aq_decoder_push(&d, id, &part) : aq_decoder_finish(&d, &part), AQ_OK);
        if (done + part.n > want.n || memcmp(want.s + done, part.s, part.n))
            fail_msg("after id %u of %u the text is no longer \"%.*s\"", i, ids.n, (int)want.n, want.s);
        done += part.n;
    }
    assert_int_equal(done, want.n);
    aq_decoder_close(&d);
}

static void test_cases(void **state) {
    (void)state;
    size_t n;
    file = vocab_gunzip("spm_cases.gz", &n);
    data = (vocab_data){file, file + n};
    uint32_t n_texts = vocab_u32(&data);
    for (uint32_t i = 0; i < n_texts; i++) {
        aq_bytes text = vocab_list(&data, 1);
        for (int form = 0; form < FORMS; form++) {
            aq_bytes want = vocab_list(&data, 4);
            check_ids(form, text, want);
            if (form == FAST || form == FIRST)
                check_ids(form == FAST ? WRITTEN : WRITTEN_FIRST, text, want);
        }
    }
    uint32_t n_decodes = vocab_u32(&data);
    for (uint32_t i = 0; i < n_decodes; i++) {
        aq_bytes ids = vocab_list(&data, 4);
        for (int skip = 0; skip < 2; skip++)
            check_decode(ids, skip, vocab_list(&data, 1));
    }
    assert_true(data.at == data.end);
    print_message("%u texts in four forms, %u lists of ids\n", n_texts, n_decodes);
    free(file);
}

static const char *streamed(const int32_t *ids, size_t n, int keeps_start) {
    static char out[200];
    aq_decoder d = aq_decoder_open(tokenizers[MODEL], 0);
    d.keeps_start = keeps_start;
    out[0] = 0;
    for (size_t i = 0; i <= n; i++) {
        aq_bytes part;
        VOCAB_NEED((i < n ? aq_decoder_push(&d, ids[i], &part) : aq_decoder_finish(&d, &part)) == AQ_OK);
        snprintf(out + strlen(out), sizeof out - strlen(out), "%.*s|", (int)part.n, part.s);
    }
    aq_decoder_close(&d);
    return out;
}

/* Bytes are ids 3 to 258. A character comes when its last byte does; what can be none is U+FFFD, a byte each. */
static void test_streamed_bytes(void **state) {
    (void)state;
    int32_t a = aq_tokenizer_find(tokenizers[MODEL], " a", 2);
    assert_true(a > 258);
    const int32_t good[] = {a, 3 + 0xE4, 3 + 0xB8, 3 + 0xAD, a}, cut[] = {3 + 0xE4, 3 + 0xB8, a}, bad[] = {3 + 0xE4, 3 + 0xE4, 3 + 0xB8, 3 + 0xAD, 3 + 0xFF};
    assert_string_equal(streamed(good, 5, 0), "a|||\xE4\xB8\xAD| a||");
    assert_string_equal(streamed(good, 5, 1), " a|||\xE4\xB8\xAD| a||");
    assert_string_equal(streamed(cut, 3, 0), "||\xEF\xBF\xBD\xEF\xBF\xBD a||");
    assert_string_equal(streamed(bad, 5, 0), "|\xEF\xBF\xBD||\xE4\xB8\xAD|\xEF\xBF\xBD||");
}

/* ---- pieces of equal score; words ---- */

/* SentencePiece's rule on texts: of all neighbours whose joined text is a piece the highest score, then the leftmost. */
static size_t naive(const aq_tokenizer *t, const float *scores, const char *text, size_t *cuts, size_t n) {
    for (;;) {
        size_t best = n;
        float high = 0;
        for (size_t i = 0; i + 2 <= n; i++) {
            size_t length = cuts[i + 2] - cuts[i];
            uint32_t id = i + 2 <= n ? aq_piece_find(t, aq_piece_hash(text + cuts[i], length), text + cuts[i], length) : AQ_NO_ID;
            if (id != AQ_NO_ID && (best == n || scores[id] > high))
                high = scores[id], best = i;
        }
        if (best == n)
            return n;
        memmove(cuts + best + 1, cuts + best + 2, (n - best - 1) * sizeof *cuts);
        n--;
    }
}

/* Symbols that SentencePiece itself finds in a text: no prefix begins behind them, and what is between is merged as ever. */
static void test_user_defined(void **state) {
    (void)state;
    size_t n, n_cases;
    char *model = vocab_gunzip("spm_user.model.gz", &n_cases), *cases = vocab_gunzip("spm_user_cases.gz", &n);
    aq_tokenizer *t = open_as("tokenizer.model", model, n_cases);
    vocab_data at = {cases, cases + n};
    n_cases = vocab_u32(&at);
    for (size_t i = 0; i < n_cases; i++) {
        aq_bytes text = vocab_list(&at, 1), want = vocab_list(&at, 4);
        aq_ids ids = {0};
        assert_int_equal(aq_tokenizer_encode(t, text.s, text.n, 1, &ids), AQ_OK);
        if (ids.n != want.n || (ids.n && memcmp(ids.at, want.s, 4 * ids.n)))
            fail_msg("\"%.*s\": %zu ids, expected %u", (int)text.n, text.s, ids.n, want.n);
        aq_ids_close(&ids);
    }
    assert_true(n_cases == 300 && at.at == at.end);
    aq_tokenizer_close(t);
    free(model);
    free(cases);
}

static void check_naive(const aq_tokenizer *t, const float *scores, const char *text, size_t n) {
    size_t cuts[202];
    aq_ids ids = {0};
    for (size_t i = 0; i <= n; i++)
        cuts[i] = i;
    size_t n_want = naive(t, scores, text, cuts, n);
    assert_int_equal(aq_tokenizer_encode(t, text, n, 0, &ids), AQ_OK);
    assert_int_equal(ids.n, n_want);
    for (size_t i = 0; i < n_want; i++) {
        aq_bytes b = aq_tokenizer_text(t, ids.at[i]);
        if (b.n != cuts[i + 1] - cuts[i] || memcmp(b.s, text + cuts[i], b.n))
            fail_msg("\"%.*s\": piece %zu is \"%.*s\"", (int)n, text, i, (int)b.n, b.s);
    }
    aq_ids_close(&ids);
}

/* Random pieces over two letters and the space, scores with and without ties, spaces inside pieces or not. */
static void test_scores_by_the_rule(void **state) {
    (void)state;
    aq_random r = aq_random_open(5);
    for (int round = 0; round < 200; round++) {
        char made[60][24];
        aq_bytes vocab[60] = {{0}};
        float scores[60];
        uint32_t n = 0, n_scores = round % 2 ? 3 : 1000;
        static const char *const letters[3] = {"a", "b", "\xE2\x96\x81"};
        for (int tries = 0; tries < 80 && n < 40; tries++) {
            char text[24] = "";
            int is_new = 1;
            uint32_t length = n < 3 ? 1 : 2 + aq_random_below(&r, 4);
            for (uint32_t k = 0; k < length; k++)
                strcat(text, letters[n < 3 ? n : aq_random_below(&r, round % 3 && k ? 2 : 3)]);
            for (uint32_t k = 0; k < n; k++)
                is_new &= strcmp(made[k], text) != 0;
            if (!is_new)
                continue;
            strcpy(made[n], text);
            vocab[n] = (aq_bytes){made[n], (uint32_t)strlen(text)};
            scores[n++] = -(float)aq_random_below(&r, n_scores);
        }
        aq_tokenizer_source s = {.kind = AQ_TOKENIZER_SPM, .place = "toy", .pre = AQ_PRE_WHOLE, .n_vocab = n, .vocab = vocab, .scores = scores, .bos = -1,
                                 .eos = -1, .pad = -1, .unk = -1};
        aq_tokenizer *t;
        VOCAB_NEED(aq_tokenizer_build(&s, &t) == AQ_OK);
        for (int k = 0; k < 20; k++) {
            char text[200];
            size_t length = 1 + aq_random_below(&r, k % 4 ? 40 : 200);
            for (size_t i = 0; i < length; i++)
                text[i] = "ab "[aq_random_below(&r, 3)];
            check_naive(t, scores, text, length);
        }
        aq_tokenizer_close(t);
    }
}

static void test_time_is_linear(void **state) {
    (void)state;
    static const char *const runs[] = {"a", " ", "ab", "\n", "的", " a", "\xE2\x96\x81"};
    const size_t large = (size_t)192 << 10;
    char *text = malloc(large);
    for (int form = 0; form < FORMS; form += 1 + (form == FAST)) /* FIRST is as FAST */
        for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
            for (size_t i = 0; i < large; i++)
                text[i] = runs[k][i % strlen(runs[k])];
            vocab_need_linear(tokenizers[form], runs[k], text, large);
        }
    free(text);
}

static int setup(void **state) {
    (void)state;
    size_t n;
    char *bytes = vocab_gunzip("spm.model.gz", &n);
    tokenizers[MODEL] = open_as("tokenizer.model", bytes, n);
    tokenizers[WRITTEN] = open_written(bytes, n, 1);
    tokenizers[WRITTEN_FIRST] = open_written(bytes, n, 0);
    free(bytes);
    bytes = vocab_gunzip("spm.json.gz", &n);
    tokenizers[FAST] = open_as("tokenizer.json", bytes, n);
    tokenizers[FIRST] = open_with_metaspace(bytes, n);
    free(bytes);
    tokenizers[LLAMA3] = open_llama3();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    for (int form = 0; form < ALL; form++)
        aq_tokenizer_close(tokenizers[form]);
    return (int)aq_mem_open_blocks();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_streamed_bytes), cmocka_unit_test(test_user_defined), cmocka_unit_test(test_scores_by_the_rule),
                                       cmocka_unit_test(test_time_is_linear)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
