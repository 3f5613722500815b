/* Texts chosen to make trouble, on three vocabularies, against the ids and the text that Hugging Face's tokenizers give
 * (tests/oracle/tokenizer.py made the file). */
#include "frontend/tokenizer/internal.h"
#include "tests/tokenizer/vocab.h"

#include <utf8proc.h>
#include <setjmp.h>
#include <stdarg.h>
// cmocka wants these first
#include <cmocka.h>

static int utf8proc_unicode_is_newer(void) { return atoi(utf8proc_unicode_version()) > 16; }

static const char *const names[3] = {"smollm2", "gpt2", "aquila"};
static aq_tokenizer *tokenizers[3];
static char *file;
static vocab_data data;

static void fail_ids(const char *name, aq_bytes text, const aq_ids *got, const int32_t *want, size_t n_want) {
    size_t i = 0;
    while (i < got->n && i < n_want && got->at[i] == want[i])
        i++;
    fail_msg("%s: \"%.*s\": %zu ids, Hugging Face has %zu; the first that differs is number %zu: %d, not %d", name, (int)text.n, text.s,
             got->n, n_want, i, i < got->n ? got->at[i] : -1, i < n_want ? want[i] : -1);
}

static void check_text(int v, aq_bytes text) {
    aq_ids ids = {0};
    int32_t want[8192];
    aq_bytes b = vocab_list(&data, 4);
    VOCAB_NEED(b.n <= 8192);
    memcpy(want, b.s, b.n * 4);
    assert_int_equal(aq_tokenizer_encode(tokenizers[v], text.s, text.n, 1, &ids), AQ_OK);
    if (ids.n != b.n || (b.n && memcmp(ids.at, want, b.n * 4)))
        fail_ids(names[v], text, &ids, want, b.n);
    aq_decoder d = aq_decoder_open(tokenizers[v], 0);
    aq_bytes part;
    uint32_t done = 0;
    for (size_t i = 0; i <= ids.n; i++) {
        assert_int_equal(i < ids.n ? aq_decoder_push(&d, ids.at[i], &part) : aq_decoder_finish(&d, &part), AQ_OK);
        assert_true(d.n_held <= 3);
        if (v) /* SmolLM2 lacks some bytes, so its texts need not come back */
            assert_true(done + part.n <= text.n && memcmp(text.s + done, part.s, part.n) == 0);
        done += part.n;
    }
    if (v)
        assert_int_equal(done, text.n);
    aq_decoder_close(&d);
    aq_ids_close(&ids);
}

static void check_decode(int v, aq_bytes ids, int skip, aq_bytes want) {
    aq_decoder d = aq_decoder_open(tokenizers[v], skip);
    aq_bytes part;
    uint32_t done = 0;
    for (uint32_t i = 0; i <= ids.n; i++) {
        int32_t id = 0;
        if (i < ids.n)
            memcpy(&id, ids.s + i * 4, 4);
        assert_int_equal(i < ids.n ? aq_decoder_push(&d, id, &part) : aq_decoder_finish(&d, &part), AQ_OK);
        if (done + part.n > want.n || memcmp(want.s + done, part.s, part.n))
            fail_msg("%s: after id %u of %u the text is no longer \"%.*s\"", names[v], i, ids.n, (int)want.n, want.s);
        done += part.n;
    }
    assert_int_equal(done, want.n);
    aq_decoder_close(&d);
}

static void test_cases(void **state) {
    (void)state;
    size_t n;
    file = vocab_gunzip("cases.gz", &n);
    data = (vocab_data){file, file + n};
    uint32_t n_texts = vocab_u32(&data), n_decodes = 0;
    for (uint32_t i = 0; i < n_texts; i++) {
        aq_bytes text = vocab_list(&data, 1);
        for (int v = 0; v < 3; v++)
            check_text(v, text);
    }
    for (int v = 0; v < 3; v++)
        for (uint32_t left = vocab_u32(&data); left; left--, n_decodes++) {
            aq_bytes ids = vocab_list(&data, 4);
            for (int skip = 0; skip < 2; skip++)
                check_decode(v, ids, skip, vocab_list(&data, 1));
        }
    assert_true(data.at == data.end);
    print_message("%u texts, %u lists of ids, three vocabularies\n", n_texts, n_decodes);
    free(file);
}

/* Every character has the class that the regular expressions, the digit splitter and single_word see. A utf8proc newer than Unicode 16 may know
 * characters that they do not know yet: a few are forgiven. */
static void test_classes(void **state) {
    (void)state;
    size_t n;
    uint32_t wrong = 0, first_wrong = 0;
    file = vocab_gunzip("classes.gz", &n);
    data = (vocab_data){file, file + n};
    uint32_t next = vocab_u32(&data), class = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000)
            continue;
        if (c == next) {
            class = vocab_u32(&data);
            next = data.at < data.end ? vocab_u32(&data) : UINT32_MAX;
        }
        int is_right = aq_class_of(AQ_PRE_GPT2, c) == (class & 3) && (aq_class_of(AQ_PRE_SMOLLM, c) == AQ_CLASS_NUMBER) == (class >> 2 & 1) &&
                       aq_class_is_space(c) == ((class & 3) == AQ_CLASS_SPACE) && aq_class_is_word(c) == (int)(class >> 3);
        if (!is_right && !wrong++)
            first_wrong = c;
    }
    if (wrong > (utf8proc_unicode_is_newer() ? 10000 : 0))
        fail_msg("%u characters have another class, U+%04X first", wrong, first_wrong);
    free(file);
}

static int setup(void **state) {
    (void)state;
    for (int v = 0; v < 3; v++)
        tokenizers[v] = vocab_open(names[v]);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    for (int v = 0; v < 3; v++)
        aq_tokenizer_close(tokenizers[v]);
    return (int)aq_mem_open_blocks();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_classes)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
