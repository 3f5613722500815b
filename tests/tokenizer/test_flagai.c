/* FlagAI's own tokenizer on the vocabulary of Aquila: its special tokens, against ids and texts that flagai 1.8.4 itself gave
 * (tests/oracle/flagai_tokenizer.py made the file), and its folder, which names no ids. */
#include "ir/file.h"
#include "tests/support/micro.h"
#include "tests/tokenizer/vocab.h"

#include <setjmp.h>
#include <stdarg.h>
// cmocka wants these first
#include <cmocka.h>

/* As the Hugging Face form has the data: <|LDWANG|> is a token there. from_gguf: special tokens are entries of the vocabulary, and padding follows. */
static aq_tokenizer *open_flagai(int from_gguf) {
    static const char *const texts[8] = {"<|startofpiece|>", "<|endofpiece|>", "<|LDWANG|>", "[MASK]", "[gMASK]", "[sMASK]", "[CLS]", "</s>"};
    aq_arena arena = {0};
    aq_tokenizer_source s = vocab_source(&arena, "aquila");
    aq_added_token added[10] = {{.text = {"<|endoftext|>", 13}, .id = 0, .special = 1}};
    aq_bytes *vocab = (aq_bytes *)s.vocab;
    s.added = added;
    s.n_added = 1;
    for (int i = 0; i < 8; i++) {
        aq_bytes text = {texts[i], (uint32_t)strlen(texts[i])};
        added[s.n_added++] = (aq_added_token){.text = text, .id = 100000 + i, .special = i > 5, .normalized = i <= 5};
        if (from_gguf)
            vocab[s.n_vocab++] = text;
    }
    if (from_gguf)
        vocab[s.n_vocab++] = (aq_bytes){"[PAD100008]", 11};
    aq_tokenizer *t;
    VOCAB_NEED(aq_tokenizer_build_flagai(&s, &t) == AQ_OK);
    aq_arena_close(&arena);
    return t;
}

static void check_encode(const aq_tokenizer *t, aq_bytes text, aq_bytes want) {
    aq_ids ids = {0};
    assert_int_equal(aq_tokenizer_encode(t, text.s, text.n, 1, &ids), AQ_OK);
    if (ids.n != want.n || (want.n && memcmp(ids.at, want.s, want.n * 4)))
        fail_msg("\"%.*s\": %zu ids, FlagAI has %u, or others", (int)text.n, text.s, ids.n, want.n);
    aq_ids_close(&ids);
}

static void check_decode(const aq_tokenizer *t, aq_bytes ids, aq_bytes want) {
    aq_decoder d = aq_decoder_open(t, 0);
    aq_bytes part;
    uint32_t done = 0;
    for (uint32_t i = 0; i <= ids.n; i++) {
        int32_t id = 0;
        if (i < ids.n)
            memcpy(&id, ids.s + i * 4, 4);
        assert_int_equal(i < ids.n ? aq_decoder_push(&d, id, &part) : aq_decoder_finish(&d, &part), AQ_OK);
        if (done + part.n > want.n || (part.n && memcmp(want.s + done, part.s, part.n)))
            fail_msg("after id %u of %u the text is no longer \"%.*s\"", i, ids.n, (int)want.n, want.s);
        done += part.n;
    }
    assert_int_equal(done, want.n);
    aq_decoder_close(&d);
}

static void test_cases(void **state) {
    (void)state;
    size_t n;
    char *file = vocab_gunzip("flagai_cases.gz", &n);
    for (int from_gguf = 0; from_gguf < 2; from_gguf++) {
        aq_tokenizer *t = open_flagai(from_gguf);
        vocab_data data = {file, file + n};
        for (uint32_t left = vocab_u32(&data); left; left--) {
            aq_bytes text = vocab_list(&data, 1), ids = vocab_list(&data, 4);
            check_encode(t, text, ids);
            check_decode(t, ids, vocab_list(&data, 1));
        }
        for (uint32_t left = vocab_u32(&data); left; left--) {
            aq_bytes ids = vocab_list(&data, 4);
            check_decode(t, ids, vocab_list(&data, 1));
        }
        assert_true(data.at == data.end);
        aq_tokenizer_close(t);
    }
    free(file);
}

/* What the rest of the program asks of it. */
static void test_roles(void **state) {
    (void)state;
    aq_tokenizer *t = open_flagai(0);
    assert_int_equal(aq_tokenizer_bos(t), 100006);
    assert_int_equal(aq_tokenizer_eos(t), 100007);
    assert_int_equal(aq_tokenizer_unk(t), 0);
    assert_true(aq_tokenizer_is_special(t, 0) && aq_tokenizer_is_special(t, 100007)); /* an answer ends there */
    assert_false(aq_tokenizer_is_special(t, 100006));                                  /* and may show this one */
    assert_int_equal(aq_tokenizer_find(t, "[UNK]", 5), 0);
    assert_int_equal(aq_tokenizer_find(t, "<|endoftext|>", 13), 0);
    assert_int_equal(aq_tokenizer_find(t, "[SEP]", 5), 100004);
    assert_int_equal(aq_tokenizer_text(t, 100002).n, 0);
    aq_ids ids = {0};
    assert_int_equal(aq_tokenizer_encode(t, " [CLS] ", 7, 0, &ids), AQ_OK); /* typed inside a template: text */
    assert_true(ids.n > 2 && ids.at[0] == 995);
    aq_ids_close(&ids);
    aq_tokenizer_close(t);
}

static char folder[64];

static int32_t id_in(const char *text) {
    aq_tokenizer *t;
    VOCAB_NEED(aq_tokenizer_open(folder, &t) == AQ_OK);
    int32_t id = *text ? aq_tokenizer_find(t, text, strlen(text)) : aq_tokenizer_eos(t);
    aq_tokenizer_close(t);
    return id;
}

static void put(const char *name, const char *text) { aq_micro_put(folder, name, text, strlen(text)); }

/* A folder as FlagAI publishes it reads as the Hugging Face form of the same model: FlagAI's code counts on from the vocabulary. */
static void test_folder(void **state) {
    (void)state;
    aq_micro_folder(folder);
    put("vocab.json", "{\"<|endoftext|>\": 0, \"a\": 1, \"b\": 2, \"ab\": 3}");
    put("merges.txt", "#version: 0.2\na b\n");
    put("special_tokens_map.json", "{\"cls_token\": {\"content\": \"[CLS]\"}, \"sep_token\": {\"content\": \"</s>\"}}");
    assert_int_equal(id_in("<|startofpiece|>"), 4);
    assert_int_equal(id_in("<|LDWANG|>"), 6);
    assert_int_equal(id_in("[gMASK]"), 8);
    assert_int_equal(id_in("[CLS]"), 10);
    assert_int_equal(id_in("</s>"), 11);
    assert_int_equal(id_in(""), 11);
    assert_int_equal(id_in("[SEP]"), -1); /* which only flagai-v1 has */
    put("added_tokens.json", "{\"[CLS]\": 20, \"</s>\": 21}"); /* a file that numbers them has the last word */
    assert_int_equal(id_in("[CLS]"), 20);
    assert_int_equal(id_in("<|startofpiece|>"), -1);
    aq_micro_remove(folder);
}

static int teardown(void **state) {
    (void)state;
    return (int)aq_mem_open_blocks();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_roles), cmocka_unit_test(test_folder)};
    return cmocka_run_group_tests(tests, NULL, teardown);
}
