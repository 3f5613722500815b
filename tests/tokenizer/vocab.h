/* vocab.h: the vocabularies of tests/data/tokenizer as tokenizers, and its compressed files. Included by the tests of tokenizer and chat.
 * Compressed files are read through gzip(1), which every Debian has. */
#ifndef AQ_TESTS_TOKENIZER_VOCAB_H
#define AQ_TESTS_TOKENIZER_VOCAB_H

#include "frontend/tokenizer/tokenizer.h"
#include "ir/clock.h"
#include "ir/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOCAB_UNUSED __attribute__((unused))
#define VOCAB_NEED(expr)                                                                                               \
    do {                                                                                                               \
        if (!(expr)) {                                                                                                 \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #expr, aq_error());                                 \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* All of tests/data/tokenizer/NAME, decompressed; free with free. */
static VOCAB_UNUSED char *vocab_gunzip(const char *name, size_t *out_n) {
    char command[300];
    size_t n = 0, room = 1 << 20;
    char *bytes = malloc(room);
    const char *root = getenv("AQ_SOURCE_DIR");
    snprintf(command, sizeof command, "gzip -dc '%s/tests/data/tokenizer/%s'", root ? root : ".", name);
    FILE *f = popen(command, "r");
    VOCAB_NEED(f && bytes);
    for (size_t got; (got = fread(bytes + n, 1, room - n, f)) > 0;) {
        n += got;
        if (n == room)
            VOCAB_NEED((bytes = realloc(bytes, room *= 2)));
    }
    VOCAB_NEED(pclose(f) == 0);
    *out_n = n;
    return bytes;
}

/* What the file NAME.vocab.gz says; strings point into the arena. */
static VOCAB_UNUSED aq_tokenizer_source vocab_source(aq_arena *arena, const char *name) {
    char file[64];
    size_t n;
    snprintf(file, sizeof file, "%s.vocab.gz", name);
    char *bytes = vocab_gunzip(file, &n);
    const char *text;
    VOCAB_NEED(aq_arena_string(arena, bytes, n, &text) == AQ_OK);
    free(bytes);
    const char *merges_at = strstr(text, "\n\n") + 2;
    uint32_t n_merges = 0, n_vocab = 0, rank = 0;
    for (const char *at = merges_at; (at = strchr(at, '\n')); at++)
        n_merges++;
    void *p, *q;
    VOCAB_NEED(aq_arena_alloc(arena, n_merges, sizeof(aq_bytes), &p) == AQ_OK);
    VOCAB_NEED(aq_arena_alloc(arena, n_merges + 512, sizeof(aq_bytes), &q) == AQ_OK);
    aq_bytes *merges = p, *vocab = q;
    for (const char *at = merges_at, *end; (end = strchr(at, '\n')); at = end + 1)
        merges[rank++] = (aq_bytes){at, (uint32_t)(end - at)};
    for (const char *at = text, *end; at < merges_at - 1; at = end + 1) {
        end = strchr(at, '\n');
        if (end - at != 3 || memcmp(at, "* *", 3)) {
            vocab[n_vocab++] = (aq_bytes){at, (uint32_t)(end - at)};
            continue;
        }
        for (uint32_t i = 0; i < n_merges; i++) {
            const char *space = memchr(merges[i].s, ' ', merges[i].n);
            char *made;
            VOCAB_NEED(aq_arena_alloc(arena, merges[i].n, 1, &p) == AQ_OK);
            made = p;
            memcpy(made, merges[i].s, (size_t)(space - merges[i].s));
            memcpy(made + (space - merges[i].s), space + 1, merges[i].n - (size_t)(space - merges[i].s) - 1);
            vocab[n_vocab++] = (aq_bytes){made, merges[i].n - 1};
        }
    }
    return (aq_tokenizer_source){.kind = AQ_TOKENIZER_BPE, .place = name, .n_vocab = n_vocab, .vocab = vocab, .n_merges = n_merges,
                                 .merges = merges, .bos = -1, .eos = -1, .pad = -1, .unk = -1};
}

/* smollm2, gpt2 or aquila, with the added tokens and roles that its files give it. */
static VOCAB_UNUSED aq_tokenizer *vocab_open(const char *name) {
    aq_arena arena = {0};
    aq_tokenizer_source s = vocab_source(&arena, name);
    aq_added_token added[32];
    memset(added, 0, sizeof added);
    if (strcmp(name, "smollm2") == 0) { /* the first 17 entries are control tokens */
        s.pre = AQ_PRE_SMOLLM;
        for (int i = 0; i < 17; i++)
            added[s.n_added++] = (aq_added_token){.text = s.vocab[i], .id = i, .special = 1};
        s.bos = 1, s.eos = 2, s.unk = 0, s.pad = 2;
    } else if (strcmp(name, "gpt2") == 0) {
        added[s.n_added++] = (aq_added_token){.text = {"<|endoftext|>", 13}, .id = 50256, .special = 1};
        s.bos = s.eos = s.unk = 50256;
    } else {
        static const char *const texts[8] = {"<|startofpiece|>", "<|endofpiece|>", "<|LDWANG|>", "[MASK]",
                                             "[gMASK]",          "[sMASK]",        "[CLS]",      "</s>"};
        added[s.n_added++] = (aq_added_token){.text = {"<|endoftext|>", 13}, .id = 0, .special = 1};
        for (int i = 0; i < 8; i++)
            added[s.n_added++] = (aq_added_token){
                .text = {texts[i], (uint32_t)strlen(texts[i])}, .id = 100000 + i, .special = i > 5, .normalized = i <= 5};
        s.bos = 100006, s.eos = 100007, s.pad = s.unk = 0;
    }
    s.added = added;
    aq_tokenizer *t;
    VOCAB_NEED(aq_tokenizer_build(&s, &t) == AQ_OK);
    aq_arena_close(&arena);
    return t;
}

/* Stored oracle data: numbers of 4 bytes, and lists `count, count * unit bytes`; aborts where the data ends. */
typedef struct vocab_data {
    const char *at, *end;
} vocab_data;
static VOCAB_UNUSED uint32_t vocab_u32(vocab_data *d) {
    uint32_t x;
    VOCAB_NEED(d->end - d->at >= 4);
    memcpy(&x, d->at, 4);
    d->at += 4;
    return x;
}
static VOCAB_UNUSED aq_bytes vocab_list(vocab_data *d, size_t unit) {
    uint32_t n = vocab_u32(d);
    VOCAB_NEED((size_t)(d->end - d->at) >= n * unit);
    aq_bytes b = {d->at, n};
    d->at += n * unit;
    return b;
}

static VOCAB_UNUSED double vocab_seconds(const aq_tokenizer *t, const char *text, size_t n) {
    aq_ids ids = {0};
    int64_t start = aq_clock_ns();
    VOCAB_NEED(aq_tokenizer_encode(t, text, n, 1, &ids) == AQ_OK);
    double s = (double)(aq_clock_ns() - start) * 1e-9;
    aq_ids_close(&ids);
    return s;
}
/* Not a speed but a growth: eight times the text may take twenty-four times the time (a busy machine), never sixty-four times. */
static VOCAB_UNUSED void vocab_need_linear(const aq_tokenizer *t, const char *what, const char *text, size_t n) {
    double a = vocab_seconds(t, text, n / 8), b = vocab_seconds(t, text, n);
    if (b > a * 24 + 0.5)
        fprintf(stderr, "a run of \"%s\": %zu bytes take %.3f s, %zu bytes %.3f s\n", what, n / 8, a, n, b);
    VOCAB_NEED(b <= a * 24 + 0.5);
}

#endif
