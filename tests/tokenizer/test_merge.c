/* Merges: the rule itself on toy vocabularies, short and long pieces against a naive reference, and time that grows with the length. */
#include "frontend/tokenizer/internal.h"
#include "ir/clock.h"
#include "ir/random.h"
#include "tests/tokenizer/vocab.h"

#include <setjmp.h>
#include <stdarg.h>
// cmocka wants these first
#include <cmocka.h>

/* A vocabulary over a, b, c, ... with the given merges. */
static aq_tokenizer *toy(int n_letters, const char *const *merges, uint32_t n_merges) {
    static char made[600][40];
    static aq_bytes vocab[700], list[600];
    uint32_t n = 0;
    for (int i = 0; i < n_letters; i++) {
        made[n][0] = (char)('a' + i);
        made[n][1] = 0;
        vocab[n] = (aq_bytes){made[n], 1};
        n++;
    }
    for (uint32_t i = 0; i < n_merges; i++) {
        const char *space = strchr(merges[i], ' ');
        list[i] = (aq_bytes){merges[i], (uint32_t)strlen(merges[i])};
        int length = snprintf(made[n], sizeof made[n], "%.*s%s", (int)(space - merges[i]), merges[i], space + 1);
        vocab[n] = (aq_bytes){made[n], (uint32_t)length};
        int is_new = 1; /* two merges may make one text */
        for (uint32_t k = 0; k < n; k++)
            is_new &= strcmp(made[k], made[n]) != 0;
        n += (uint32_t)is_new;
    }
    aq_tokenizer_source s = {.kind = AQ_TOKENIZER_BPE, .place = "toy", .n_vocab = n, .vocab = vocab, .n_merges = n_merges,
                             .merges = list, .bos = -1, .eos = -1, .pad = -1, .unk = -1};
    aq_tokenizer *t;
    VOCAB_NEED(aq_tokenizer_build(&s, &t) == AQ_OK);
    return t;
}

static void expect(const aq_tokenizer *t, const char *text, const char *want) {
    aq_ids ids = {0};
    char got[500] = "";
    assert_int_equal(aq_tokenizer_encode(t, text, strlen(text), 1, &ids), AQ_OK);
    for (size_t i = 0; i < ids.n; i++) {
        aq_bytes b = aq_tokenizer_text(t, ids.at[i]);
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.*s", i ? "|" : "", (int)b.n, b.s);
    }
    assert_string_equal(got, want);
    aq_ids_close(&ids);
}

static void test_order_of_merges(void **state) {
    (void)state;
    const char *const merges[] = {"b c", "a b", "a bc", "ab c", "d d", "dd d"};
    aq_tokenizer *t = toy(4, merges, 6);
    expect(t, "abc", "abc");      /* b c goes first, then a bc */
    expect(t, "ab", "ab");
    expect(t, "aabc", "a|abc");
    expect(t, "ddd", "ddd");      /* the leftmost of two equal pairs: dd d */
    expect(t, "dddd", "dd|dd");   /* rank before length: both d d before dd d */
    expect(t, "ddddd", "dd|ddd"); /* dd dd d: then dd d */
    aq_tokenizer_close(t);
    /* A token that no order of merges reaches is never given, though the vocabulary holds it. */
    const char *const late[] = {"b c", "ab c", "a b"};
    t = toy(3, late, 3);
    expect(t, "abc", "a|bc");
    expect(t, "abc", "a|bc"); /* and the second time neither */
    expect(t, "aabcab", "a|a|bc|ab");
    aq_tokenizer_close(t);
}

/* The rule, word for word. */
static size_t naive(const aq_tokenizer *t, uint32_t *ids, size_t n) {
    for (;;) {
        size_t best = n;
        uint32_t lowest = AQ_NO_RANK;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t rank = aq_merge_find(t, aq_merge_hash(ids[i], ids[i + 1]), ids[i], ids[i + 1])->rank;
            if (rank < lowest)
                lowest = rank, best = i;
        }
        if (lowest == AQ_NO_RANK)
            return n;
        ids[best] = t->rank_id[lowest];
        memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof *ids);
        n--;
    }
}

static void compare(const aq_tokenizer *t, aq_merge_work *w, const uint32_t *symbols, size_t n) {
    uint32_t want[2000], got[2000];
    memcpy(want, symbols, n * 4);
    size_t n_want = naive(t, want, n), n_got;
    memcpy(got, symbols, n * 4);
    assert_int_equal(aq_merge_long(t, w, got, n, &n_got), AQ_OK);
    assert_int_equal(n_got, n_want);
    assert_memory_equal(got, want, n_want * 4);
    if (n > AQ_SHORT_PIECE)
        return;
    memcpy(got, symbols, n * 4);
    assert_int_equal(aq_merge_short(t, got, n), n_want);
    assert_memory_equal(got, want, n_want * 4);
}

/* Random merges in random order of rank: pairs of low rank come up late, which real vocabularies hardly do. */
static void test_both_ways_agree(void **state) {
    (void)state;
    aq_random r = aq_random_open(7);
    aq_merge_work w = {0};
    uint32_t n_hashed = 0;
    for (int round = 0; round < 150; round++) {
        static char text[60][80];
        static const char *merges[60];
        static char made[64][40];
        uint32_t n_letters = 2 + aq_random_below(&r, 2), n_made = n_letters, n_merges = 0;
        for (uint32_t i = 0; i < n_letters; i++)
            snprintf(made[i], sizeof made[i], "%c", (int)('a' + i));
        for (int tries = 0; tries < 300 && n_merges < 40; tries++) {
            const char *x = made[aq_random_below(&r, n_made)], *y = made[aq_random_below(&r, n_made)];
            char both[80];
            snprintf(both, sizeof both, "%s%s", x, y);
            int is_new = 1, is_new_pair = strlen(both) < 8; /* a text may be made by several pairs */
            snprintf(text[n_merges], sizeof text[n_merges], "%s %s", x, y);
            for (uint32_t i = 0; i < n_made; i++)
                is_new &= strcmp(made[i], both) != 0;
            for (uint32_t i = 0; i < n_merges; i++)
                is_new_pair &= strcmp(text[i], text[n_merges]) != 0;
            if (!is_new_pair)
                continue;
            merges[n_merges] = text[n_merges];
            n_merges++;
            if (is_new)
                snprintf(made[n_made++], sizeof made[0], "%.39s", both);
        }
        for (uint32_t i = n_merges - 1; i > 0; i--) {
            uint32_t j = aq_random_below(&r, i + 1);
            const char *m = merges[i];
            merges[i] = merges[j], merges[j] = m;
        }
        aq_tokenizer *t = toy((int)n_letters, merges, n_merges);
        aq_merge_work_close(&w); /* its lists are made for one vocabulary */
        if (round % 3) /* rows that find no place, all or some */
            assert_int_equal(aq_rows_build(t, (uint32_t)round % 3 - 1), AQ_OK);
        n_hashed += (uint32_t)t->has_hashed;
        for (int k = 0; k < 20; k++) {
            uint32_t symbols[600];
            size_t n = 1 + aq_random_below(&r, k % 4 ? 64 : 600);
            uint32_t letters = 1 + aq_random_below(&r, n_letters);
            for (size_t i = 0; i < n; i++)
                symbols[i] = aq_random_below(&r, letters);
            compare(t, &w, symbols, n);
        }
        aq_tokenizer_close(t);
    }
    aq_merge_work_close(&w);
    assert_in_range(n_hashed, 50, 100);
    assert_int_equal(aq_mem_open_blocks(), 0);
}

/* ---- merging may start from characters (chars.c) ---- */

static size_t put_bytes(char *out, const char *bytes, size_t n) {
    size_t length = 0;
    for (size_t i = 0; i < n; i++)
        length += (size_t)aq_alphabet_of_byte((uint8_t)bytes[i], out + length);
    return length;
}

/* Random merges over the bytes of three characters, so that many take part of one together with something else, or make one late: the ids are
 * those of merging from bytes all the same, also where the vocabulary lacks a byte between two characters, which is left out. */
static void test_start_from_characters(void **state) {
    (void)state;
    static const char *const letters[] = {"\xE4\xB8\x80", "\xE4\xB8\x81", "a", "z"};
    static const char bytes[] = "\xE4\xB8\x80\x81" "a";
    aq_random r = aq_random_open(9);
    uint32_t started = 0;
    for (int round = 0; round < 400; round++) {
        char made[60][9], text[60][20], merge[60][40];
        aq_bytes vocab[60], merges[60];
        uint32_t n_made = 5, n_merges = 0;
        for (uint32_t i = 0; i < 5; i++)
            snprintf(made[i], sizeof made[i], "%c", bytes[i]);
        if (round % 2) { /* the characters first, as in vocabularies that were trained */
            static const char *const usual[][2] = {{"\xE4", "\xB8"}, {"\xE4\xB8", "\x80"}, {"\xE4\xB8", "\x81"}};
            for (; n_merges < 3; n_merges++) {
                size_t n = put_bytes(merge[n_merges], usual[n_merges][0], strlen(usual[n_merges][0]));
                merge[n_merges][n++] = ' ';
                n += put_bytes(merge[n_merges] + n, usual[n_merges][1], 1);
                merges[n_merges] = (aq_bytes){merge[n_merges], (uint32_t)n};
                snprintf(made[n_made++], sizeof made[0], "%s%s", usual[n_merges][0], usual[n_merges][1]);
            }
        }
        for (int tries = 0; tries < 100 && n_merges < 30; tries++) {
            uint32_t a = aq_random_below(&r, n_made), b = aq_random_below(&r, n_made);
            const char *x = made[a], *y = made[b];
            int is_new = strlen(x) + strlen(y) < 9;
            if (round % 6 == 3) /* no seams */
                is_new &= (a == 4 || a > 5) && (b == 4 || b > 5);
            char both[20];
            snprintf(both, sizeof both, "%.8s%.8s", x, y);
            for (uint32_t i = 0; i < n_made; i++)
                is_new &= strcmp(made[i], both) != 0;
            if (!is_new)
                continue;
            size_t n = put_bytes(merge[n_merges], x, strlen(x));
            merge[n_merges][n++] = ' ';
            n += put_bytes(merge[n_merges] + n, y, strlen(y));
            merges[n_merges] = (aq_bytes){merge[n_merges], (uint32_t)n};
            n_merges++;
            snprintf(made[n_made++], sizeof made[0], "%.8s", both);
        }
        for (uint32_t i = n_merges - 1; round % 3 == 0 && i > 0; i--) { /* ranks in any order: characters come late */
            uint32_t j = aq_random_below(&r, i + 1);
            aq_bytes m = merges[i];
            merges[i] = merges[j], merges[j] = m;
        }
        for (uint32_t i = 0; i < n_made; i++)
            vocab[i] = (aq_bytes){text[i], (uint32_t)put_bytes(text[i], made[i], strlen(made[i]))};
        aq_tokenizer_source s = {.kind = AQ_TOKENIZER_BPE, .place = "toy", .n_vocab = n_made, .vocab = vocab, .n_merges = n_merges, .merges = merges,
                                 .bos = -1, .eos = -1, .pad = -1, .unk = -1};
        aq_tokenizer *t;
        VOCAB_NEED(aq_tokenizer_build(&s, &t) == AQ_OK);
        started += t->starts_from_chars && t->chars[0x4E00] != AQ_CHAR_NONE;
        for (int k = 0; k < 20; k++) {
            char piece[400] = "";
            uint32_t want[400];
            aq_ids ids = {0};
            for (uint32_t n = 1 + aq_random_below(&r, 40); n; n--)
                strcat(piece, letters[aq_random_below(&r, k % 2 ? 3 : 4)]);
            size_t n_want = naive(t, want, aq_byte_symbols(t, piece, strlen(piece), want));
            assert_int_equal(aq_tokenizer_encode(t, piece, strlen(piece), 0, &ids), AQ_OK);
            assert_int_equal(ids.n, n_want);
            assert_memory_equal(ids.at, want, n_want * 4);
            aq_ids_close(&ids);
        }
        aq_tokenizer_close(t);
    }
    assert_true(started > 100);
}

static void test_time_is_linear(void **state) {
    (void)state;
    static const char *const runs[] = {"a", " ", "ab", "=", "\n", "的", "1", "x'", "<", " a", "aeht"};
    const size_t large = (size_t)512 << 10;
    aq_tokenizer *t = vocab_open("smollm2");
    char *text = malloc(large);
    aq_random r = aq_random_open(3);
    for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
        size_t length = strlen(runs[k]);
        int is_random = length == 4; /* letters in random order: the worst for a heap */
        for (size_t i = 0; i < large; i++)
            text[i] = runs[k][is_random ? aq_random_below(&r, 4) : i % length];
        vocab_need_linear(t, runs[k], text, large);
    }
    free(text);
    aq_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order_of_merges), cmocka_unit_test(test_both_ways_agree), cmocka_unit_test(test_start_from_characters),
                                       cmocka_unit_test(test_time_is_linear)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
