/* Where tokenizers come from: files in their old and new forms, what they say about added tokens, and what is refused. Expected ids are
 * those of Hugging Face's tokenizers 0.23.3 on the same files. */
#include "ir/file.h"
#include "tests/support/micro.h"
#include "tests/tokenizer/vocab.h"

#include <setjmp.h>
#include <stdarg.h>
// cmocka wants these first
#include <cmocka.h>

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    aq_micro_folder(folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    aq_micro_remove(folder);
    return aq_mem_open_blocks() != 0;
}

static void put(const char *name, const char *text) { aq_micro_put(folder, name, text, strlen(text)); }

/* The ids of text as "1 2 3". */
static const char *ids_of(const aq_tokenizer *t, const char *text, size_t n, int match_special) {
    static char out[2000];
    aq_ids ids = {0};
    out[0] = 0;
    VOCAB_NEED(aq_tokenizer_encode(t, text, n, match_special, &ids) == AQ_OK);
    for (size_t i = 0; i < ids.n; i++)
        snprintf(out + strlen(out), sizeof out - strlen(out), "%s%d", i ? " " : "", ids.at[i]);
    aq_ids_close(&ids);
    return out;
}

static aq_tokenizer *open_json(const char *json) {
    aq_tokenizer *t;
    put("tokenizer.json", json);
    VOCAB_NEED(aq_tokenizer_open(folder, &t) == AQ_OK);
    return t;
}

#define VOCAB "\"vocab\": {\"a\": 0, \"b\": 1, \"\xC4\xA0\": 2, \"w\": 3, \"\xC3\xA9\": 4, \"ab\": 5, \"\xC4\xA0w\": 6, \"x\": 7, \"q\": 8}"
#define MODEL(more) "\"model\": {\"type\": \"BPE\", " VOCAB ", \"merges\": [\"a b\", [\"\xC4\xA0\", \"w\"]]" more "}"
#define BYTE_LEVEL "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}"

static void test_tokenizer_json(void **state) {
    (void)state;
    aq_tokenizer *t = open_json("{" BYTE_LEVEL ", \"added_tokens\": [{\"id\": 20, \"content\": \"<s>\", \"special\": true}],"
                                "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}},"
                                "{\"Sequence\": {\"id\": \"A\"}}], \"special_tokens\": {\"<s>\": {\"ids\": [20]}}}," MODEL("") "}");
    assert_int_equal(aq_tokenizer_size(t), 21);
    assert_int_equal(aq_tokenizer_bos(t), 20);
    assert_int_equal(aq_tokenizer_adds_bos(t), 1);
    assert_int_equal(aq_tokenizer_adds_eos(t), 0);
    assert_string_equal(ids_of(t, "ab w<s>wa", 9, 1), "5 6 20 3 0");
    assert_string_equal(ids_of(t, "<s>b", 4, 0), "1"); /* as plain text; the vocabulary has no <, s or > */
    assert_int_equal(aq_tokenizer_find(t, "<s>", 3), 20);
    assert_int_equal(aq_tokenizer_find(t, " w", 2), 6);
    assert_int_equal(aq_tokenizer_find(t, "", 0), -1);
    assert_int_equal(aq_tokenizer_find(t, "wa", 2), -1);
    assert_int_equal(aq_tokenizer_is_special(t, 20), 1);
    assert_int_equal(aq_tokenizer_is_special(t, 5), 0);
    assert_int_equal(aq_tokenizer_text(t, 10).n, 0); /* a hole */
    assert_int_equal(aq_tokenizer_text(t, -7).n, 0);
    assert_int_equal(aq_tokenizer_text(t, 21).n, 0);
    aq_tokenizer_close(t);
    t = open_json("{" BYTE_LEVEL "," MODEL(", \"unk_token\": \"q\"") "}");
    assert_string_equal(ids_of(t, "a?b", 3, 1), "0 8 1");
    assert_int_equal(aq_tokenizer_unk(t), 8);
    aq_tokenizer_close(t);
    t = open_json("{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true}," MODEL("") "}");
    assert_string_equal(ids_of(t, "w", 1, 1), "6");
    assert_string_equal(ids_of(t, " w", 2, 1), "6");
    assert_string_equal(ids_of(t, "", 0, 1), "");
    aq_tokenizer_close(t);
}

/* White space around, whole words, longest match, tokens that are matched before others, and an overlap that lstrip meets. */
static void test_added_tokens(void **state) {
    (void)state;
    aq_tokenizer *t = open_json(
        "{" BYTE_LEVEL ", \"added_tokens\": [{\"id\": 20, \"content\": \"<a>\", \"lstrip\": true, \"rstrip\": true},"
        "{\"id\": 21, \"content\": \"w\", \"single_word\": true, \"normalized\": false}, {\"id\": 22, \"content\": \" q\"},"
        "{\"id\": 23, \"content\": \"<a><b>\"}, {\"id\": 24, \"content\": \"b><\", \"special\": true}],"
        "\"model\": {\"vocab\": {\"x\": 0, \"\xC4\xA0\": 1, \"y\": 2, \"a\": 3, \"q\": 4, \"_\": 5, \"<\": 6, \">\": 7, \"b\": 8}, \"merges\": []}}");
    assert_string_equal(ids_of(t, "x  <a> \xE3\x80\x80 y", 12, 1), "0 20 2");
    assert_string_equal(ids_of(t, "w aw w. y_w w", 13, 1), "21 1 3 1 21 1 2 5 1 21");
    assert_string_equal(ids_of(t, "x <a>  q", 8, 1), "0 20 22");
    assert_string_equal(ids_of(t, "<a><b>x", 7, 1), "23 0");
    assert_string_equal(ids_of(t, "<a><b><", 7, 1), "20 6 24"); /* b>< is not normalized: its round comes first */
    aq_tokenizer_close(t);
}

static void test_slow_form(void **state) {
    (void)state;
    aq_arena arena = {0};
    aq_tokenizer_source source;
    aq_tokenizer *t;
    put("vocab.json", "{\"<|endoftext|>\": 0, \"a\": 1, \"b\": 2, \"ab\": 3, \"\xC4\xA0\": 4}");
    assert_int_equal(aq_tokenizer_source_read(&arena, folder, &source), AQ_OK);
    assert_int_equal(source.kind, AQ_TOKENIZER_NONE); /* vocab.json alone is nothing */
    put("merges.txt", "#version: 0.2\r\na b\r\n");
    put("added_tokens.json", "{\"[CLS]\": 6, \"</s>\": 5}");
    put("special_tokens_map.json", "{\"bos_token\": \"[CLS]\", \"eos_token\": {\"content\": \"</s>\", \"lstrip\": true}, \"pad_token\": null}");
    put("tokenizer_config.json", "{\"tokenizer_class\": \"GPT2Tokenizer\", \"unk_token\": \"<|endoftext|>\", \"model_max_length\": 2048}");
    assert_int_equal(aq_tokenizer_open(folder, &t), AQ_OK);
    assert_string_equal(ids_of(t, "[CLS]ab </s><|endoftext|>", 25, 1), "6 3 5 0");
    assert_int_equal(aq_tokenizer_bos(t), 6);
    assert_int_equal(aq_tokenizer_eos(t), 5);
    assert_int_equal(aq_tokenizer_pad(t), -1);
    assert_int_equal(aq_tokenizer_unk(t), 0);
    aq_tokenizer_close(t);
    char path[100];
    snprintf(path, sizeof path, "%s/vocab.json", folder);
    assert_int_equal(aq_tokenizer_open(path, &t), AQ_OK); /* a file of the folder stands for it */
    aq_tokenizer_close(t);
    aq_arena_close(&arena);
}

/* A byte that is no UTF-8 is a character of class "other", so it ends words and joins punctuation; nothing is lost. */
static void test_invalid_utf8(void **state) {
    (void)state;
    aq_tokenizer *t = vocab_open("gpt2");
    static const char text[] = "caf\xC3 \xE4\xB8x\xED\xA0\x80'\xFF!\xC0\x80 \xF4\x90\x80\x80";
    aq_ids ids = {0};
    char joined[100];
    size_t n = 0;
    assert_int_equal(aq_tokenizer_encode(t, text, sizeof text - 1, 1, &ids), AQ_OK);
    for (size_t i = 0; i < ids.n; i++) {
        aq_bytes b = aq_tokenizer_text(t, ids.at[i]);
        memcpy(joined + n, b.s, b.n);
        n += b.n;
    }
    assert_int_equal(n, sizeof text - 1);
    assert_memory_equal(joined, text, n);
    aq_ids_close(&ids);
    aq_tokenizer_close(t);
}

/* One U+FFFD for each maximal subpart (Unicode 3.9), shown as '?', whatever tokens the bytes come in; a beginning waits. */
static void test_decode_of_bad_bytes(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"\xE4\xB8\xAD", "\xE4\xB8\xAD"}, {"\xE4\xB8x", "?x"},          {"\xED\xA0\x80", "???"},     {"\xED\x9F\xBF", "\xED\x9F\xBF"},
        {"\xF0\x80\x80x", "???x"},      {"\xF0\x9F\x98", "?"},       {"\xF4\x90\x80\x80", "????"}, {"\xC0\x80\xC1", "???"},
        {"\xE0\x9F\xBF", "???"},        {"\xFF\xFE z", "?? z"},       {"\xC3\xC3\xA9", "?\xC3\xA9"}, {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"},
        {"a\xE4", "a?"},                {"\x80", "?"},                 {"\xF5\x80", "??"},            {"\xE4\xF0\x9F\x98\x80", "?\xF0\x9F\x98\x80"},
    };
    aq_tokenizer *t = vocab_open("gpt2");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char got[64] = "";
        size_t n = 0, length = strlen(cases[i][0]);
        aq_decoder d = aq_decoder_open(t, 1);
        aq_bytes part;
        for (size_t k = 0; k <= length; k++) {
            int32_t id = k < length ? aq_tokenizer_find(t, cases[i][0] + k, 1) : 0;
            assert_int_equal(k < length ? aq_decoder_push(&d, id, &part) : aq_decoder_finish(&d, &part), AQ_OK);
            for (uint32_t b = 0; b < part.n; b++) {
                int is_bad = memcmp(part.s + b, "\xEF\xBF\xBD", 3 < part.n - b ? 3 : part.n - b) == 0;
                got[n++] = is_bad ? '?' : part.s[b];
                b += is_bad ? 2 : 0;
            }
        }
        got[n] = 0;
        assert_string_equal(got, cases[i][1]);
        aq_decoder_close(&d);
    }
    aq_tokenizer_close(t);
}

static void refuse(const char *json, const char *what) {
    aq_tokenizer *t;
    put("tokenizer.json", json);
    assert_int_equal(aq_tokenizer_open(folder, &t), AQ_REFUSED);
    if (!strstr(aq_error(), what) || !strstr(aq_error(), "tokenizer.json") || strchr(aq_error(), '\n'))
        fail_msg("\"%s\" does not say \"%s\" of the file in one line", aq_error(), what);
    assert_int_equal(aq_mem_open_blocks(), 0);
}

static void test_refusals(void **state) {
    (void)state;
    refuse("", "not JSON");
    refuse("[", "not JSON");
    refuse("{} x", "after the JSON");
    refuse("[]", "object expected");
    refuse("{\"x\": \"\\u0000\"}", "\\u0000");
    refuse("{" MODEL("") "}", "no pre_tokenizer");
    refuse("{\"normalizer\": {\"type\": \"NFC\"}," BYTE_LEVEL "," MODEL("") "}", "normalizer \"NFC\" is not supported");
    refuse("{\"decoder\": {\"type\": \"WordPiece\"}," BYTE_LEVEL "," MODEL("") "}", "decoder \"WordPiece\"");
    refuse("{\"pre_tokenizer\": {\"type\": \"Metaspace\"}," MODEL("") "}", "pre_tokenizer \"Metaspace\"");
    refuse("{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\"}]}," MODEL("") "}", "pre_tokenizer \"Split\"");
    refuse("{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\"}, {\"type\": \"ByteLevel\"}]}," MODEL("") "}", "add_prefix_space");
    refuse("{" BYTE_LEVEL ", \"post_processor\": {\"type\": \"RobertaProcessing\"}," MODEL("") "}", "post_processor \"RobertaProcessing\"");
    refuse("{" BYTE_LEVEL ", \"model\": {\"type\": \"Unigram\"}}", "the model \"Unigram\" is not supported: BPE expected");
    refuse("{" BYTE_LEVEL "," MODEL(", \"unk_token\": \"ab\"") "}", "the unk token is what merge 0 makes");
    refuse("{" BYTE_LEVEL "," MODEL(", \"ignore_merges\": 1") "}", "ignore_merges");
    refuse("{" BYTE_LEVEL "," MODEL(", \"byte_fallback\": true") "}", "model.byte_fallback");
    refuse("{" BYTE_LEVEL "," MODEL(", \"dropout\": 0.1") "}", "model.dropout");
    refuse("{" BYTE_LEVEL ", \"model\": {\"vocab\": {}, \"merges\": []}}", "no vocabulary");
    refuse("{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}}", "id 0");
    refuse("{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0, \"a\": 1}, \"merges\": []}}", "the same text \"a\"");
    refuse("{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0.5}, \"merges\": []}}", "whole number");
    refuse("{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 4000000000}, \"merges\": []}}", "whole number");
    refuse("{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0}, \"merges\": [\"a c\"]}}", "not in the vocabulary");
    refuse("{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0}, \"merges\": [\"a a\"]}}", "what it makes");
    refuse("{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0}, \"merges\": [\"a\"]}}", "with a space between");
    refuse("{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0}, \"merges\": [[\"a\"]]}}", "merge 0");
    refuse("{" BYTE_LEVEL ", \"added_tokens\": [{\"id\": 0, \"content\": \"<s>\"}]," MODEL("") "}", "has the id 0 of \"a\"");
    refuse("{" BYTE_LEVEL ", \"added_tokens\": [{\"id\": 20, \"content\": \"y\"}, {\"id\": 21, \"content\": \"y\"}]," MODEL("") "}", "there twice");
    refuse("{" BYTE_LEVEL ", \"added_tokens\": [{\"id\": 20, \"content\": \"y\"}, {\"id\": 20, \"content\": \"z\"}]," MODEL("") "}", "two added tokens");
    refuse("{" BYTE_LEVEL ", \"added_tokens\": [{\"id\": 20, \"content\": \"x\"}]," MODEL("") "}", "that of the vocabulary, 7");
    refuse("{" BYTE_LEVEL ", \"added_tokens\": [{\"id\": 20, \"content\": \"\"}]," MODEL("") "}", "has no text");
}

static void test_refusals_of_the_slow_form(void **state) {
    (void)state;
    aq_tokenizer *t;
    put("vocab.json", "{\"a\": 0}");
    put("merges.txt", "a b c\n");
    assert_int_equal(aq_tokenizer_open(folder, &t), AQ_REFUSED);
    assert_non_null(strstr(aq_error(), "merges.txt: line 1: not a merge"));
    put("merges.txt", "#version: 0.2\n");
    put("tokenizer_config.json", "{\"tokenizer_class\": \"Qwen2Tokenizer\"}"); /* the same files, another pattern */
    assert_int_equal(aq_tokenizer_open(folder, &t), AQ_REFUSED);
    assert_non_null(strstr(aq_error(), "Qwen2Tokenizer"));
    put("tokenizer_config.json", "{}");
    put("special_tokens_map.json", "{\"pad_token\": \"[PAD]\"}");
    assert_int_equal(aq_tokenizer_open(folder, &t), AQ_REFUSED);
    assert_non_null(strstr(aq_error(), "\"[PAD]\" has no id"));
    assert_int_equal(aq_tokenizer_open("/nowhere/at/all", &t), AQ_REFUSED);
    assert_int_equal(aq_mem_open_blocks(), 0);
}

/* The Nth allocation fails, for every N until none does: a clean status each time, nothing left open. */
static void test_out_of_memory(void **state) {
    (void)state;
    static char text[4000];
    memset(text, 'a', sizeof text);
    memcpy(text, "w <s> x", 7);
    put("tokenizer.json", "{" BYTE_LEVEL ", \"added_tokens\": [{\"id\": 20, \"content\": \"<s>\", \"special\": true}]," MODEL("") "}");
    aq_status status = AQ_NO_MEMORY;
    long n = 1;
    for (; status != AQ_OK && n < 10000; n++) {
        aq_tokenizer *t = NULL;
        aq_ids ids = {0};
        aq_bytes out;
        aq_mem_fail_after(n);
        status = aq_tokenizer_open(folder, &t);
        if (status == AQ_OK)
            status = aq_tokenizer_encode(t, text, sizeof text, 1, &ids);
        aq_decoder d = aq_decoder_open(t, 0);
        for (size_t i = 0; i < ids.n && status == AQ_OK; i++)
            status = aq_decoder_push(&d, ids.at[i], &out);
        aq_mem_fail_after(0);
        assert_true(status == AQ_OK || status == AQ_NO_MEMORY);
        aq_decoder_close(&d);
        aq_ids_close(&ids);
        aq_tokenizer_close(t);
        assert_int_equal(aq_mem_open_blocks(), 0);
    }
    assert_int_equal(status, AQ_OK);
    assert_true(n > 10);
    print_message("%ld allocations were made to fail\n", n - 2);
}

int main(void) {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_tokenizer_json), IN_FOLDER(test_added_tokens),              IN_FOLDER(test_slow_form),     IN_FOLDER(test_invalid_utf8),
        IN_FOLDER(test_refusals),       IN_FOLDER(test_refusals_of_the_slow_form), IN_FOLDER(test_out_of_memory),
        cmocka_unit_test(test_decode_of_bad_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
