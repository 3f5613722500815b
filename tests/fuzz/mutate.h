/* mutate.h: mutations that keep enough of an input's form to get past its reader's first checks; for LLVMFuzzerCustomMutator.
 *
 * A mutator cuts the input into pieces (tokens of a text, records of a file), changes some pieces, and mends what would give the change away at once
 * (lengths, counts). One time in four it lets libFuzzer change plain bytes instead, so that nothing stays out of reach. All of it is a function of
 * the seed. Each program includes this once; what it does not use costs nothing. */
#ifndef AQ_TESTS_FUZZ_MUTATE_H
#define AQ_TESTS_FUZZ_MUTATE_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

/* An input in place: at most max bytes at p. */
typedef struct edit {
    uint8_t *p;
    size_t n, max;
    uint64_t random;
} edit;

static inline edit edit_open(uint8_t *p, size_t n, size_t max, unsigned seed) {
    return (edit){p, n, max, (seed + 1) * 0x9E3779B97F4A7C15u};
}

/* The input from byte `from` on as one of its own; the whole has from + n bytes afterwards. */
static inline edit edit_part(const edit *e, size_t from) { return (edit){e->p + from, e->n - from, e->max - from, e->random * 0x9E3779B97F4A7C15u + 1}; }

/* 0 to n - 1. */
static inline size_t roll(edit *e, size_t n) {
    e->random ^= e->random << 13;
    e->random ^= e->random >> 7;
    e->random ^= e->random << 17;
    return n ? (size_t)((e->random >> 11) % n) : 0;
}

/* A number that sizes, counts and indices go wrong at. */
static inline uint64_t telling(edit *e) {
    static const uint64_t some[] = {0, 1, 2, 3, 4, 7, 8, 13, 31, 32, 33, 63, 64, 127, 128, 255, 256, 4095, 4096, 65535, 65536, 1 << 24, (1 << 24) + 1, INT32_MAX,
                                    1u << 31, UINT32_MAX, 1ull << 32, 1ull << 48, 1ull << 53, INT64_MAX / 16, INT64_MAX, 1ull << 63, UINT64_MAX - 1, UINT64_MAX};
    uint64_t x = some[roll(e, sizeof some / sizeof *some)];
    return roll(e, 4) ? x : x + roll(e, 5) - 2;
}

/* Bytes [from, from + old) become the n bytes at by, which lie outside the input; 0 where there is no room. */
static inline int splice(edit *e, size_t from, size_t old, const void *by, size_t n) {
    if (e->n - old + n > e->max)
        return 0;
    memmove(e->p + from + n, e->p + from + old, e->n - from - old);
    if (n)
        memcpy(e->p + from, by, n);
    e->n = e->n - old + n;
    return 1;
}

static inline void set_bytes(edit *e, size_t at, const void *value, size_t n) {
    if (at <= e->n && n <= e->n - at)
        memcpy(e->p + at, value, n);
}

static inline uint64_t get_bytes(const edit *e, size_t at, size_t n) {
    uint64_t x = 0;
    if (at <= e->n && n <= e->n - at)
        memcpy(&x, e->p + at, n);
    return x;
}

/* libFuzzer's own mutation of bytes [from, to); what is behind them moves. */
static inline void mutate_part(edit *e, size_t from, size_t to) {
    static uint8_t part[1 << 16];
    size_t n = to - from, room = sizeof part;
    if (n > room || e->max <= e->n)
        return;
    if (room > n + (e->max - e->n))
        room = n + (e->max - e->n);
    memcpy(part, e->p + from, n);
    size_t made = LLVMFuzzerMutate(part, n, room);
    splice(e, from, n, part, made);
}

/* ---- texts as tokens ---- */

typedef struct token {
    uint32_t from, n;
} token;
enum { MOST_TOKENS = 4096 };

static inline int is_word(uint8_t c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' || c >= 128; }

/* A string in quotes, a word or number, a run of white space, or one sign. */
static inline uint32_t token_length(const uint8_t *p, size_t n) {
    size_t i = 1;
    if (*p == '"') {
        for (; i < n && p[i] != '"' && p[i] != '\n'; i++)
            i += p[i] == '\\' && i + 1 < n;
        return (uint32_t)(i < n ? i + 1 : n);
    }
    if (is_word(*p))
        while (i < n && is_word(p[i]))
            i++;
    else if (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')
        while (i < n && (p[i] == ' ' || p[i] == '\n' || p[i] == '\t' || p[i] == '\r'))
            i++;
    return (uint32_t)i;
}

static inline uint32_t cut_tokens(const edit *e, size_t from, size_t to, token *out) {
    uint32_t n = 0;
    for (size_t i = from; i < to && n < MOST_TOKENS; n++) {
        out[n] = (token){(uint32_t)i, token_length(e->p + i, to - i)};
        i += out[n].n;
    }
    return n;
}

/* The token behind the group that opens at i (or i + 1 where none does). */
static inline uint32_t group_end(const edit *e, const token *t, uint32_t n, uint32_t i) {
    int depth = 0;
    for (uint32_t k = i; k < n; k++) {
        uint8_t c = e->p[t[k].from];
        depth += c == '{' || c == '[' || c == '(';
        depth -= c == '}' || c == ']' || c == ')';
        if (depth <= 0)
            return k + 1;
    }
    return n;
}

static inline size_t write_number(edit *e, char *out, size_t room) {
    uint64_t x = telling(e);
    switch (roll(e, 8)) {
    case 0: return (size_t)snprintf(out, room, "-%llu", (unsigned long long)x);
    case 1: return (size_t)snprintf(out, room, "%llu.5", (unsigned long long)x);
    case 2: return (size_t)snprintf(out, room, "%llue%d", (unsigned long long)(x & 15), (int)roll(e, 700) - 350);
    case 3: return (size_t)snprintf(out, room, "1e%llu", (unsigned long long)(x & 511));
    default: return (size_t)snprintf(out, room, "%llu", (unsigned long long)x);
    }
}

/* One change of the text at [from, to), by its tokens; words: a NULL-ended list of what stands in such texts. */
static inline void change_tokens(edit *e, size_t from, size_t to, const char *const *words) {
    static token t[MOST_TOKENS];
    static uint8_t copy[1 << 16];
    char number[64];
    uint32_t n = cut_tokens(e, from, to, t), n_words = 0;
    while (words[n_words])
        n_words++;
    if (n == 0)
        return;
    uint32_t i = (uint32_t)roll(e, n), k = (uint32_t)roll(e, n), end;
    for (int tries = 0; tries < 4 && e->p[t[i].from] <= ' '; tries++)
        i = (uint32_t)roll(e, n);
    switch (roll(e, 8)) {
    case 0: /* a token goes, or the group that it opens */
        end = roll(e, 2) ? group_end(e, t, n, i) : i + 1;
        splice(e, t[i].from, t[end - 1].from + t[end - 1].n - t[i].from, "", 0);
        return;
    case 1:
    case 2: /* another stands there too: a token, a group, or a few tokens */
        end = roll(e, 2) ? group_end(e, t, n, k) : k + 1 + (uint32_t)roll(e, 6);
        end = end > n ? n : end;
        size_t bytes = t[end - 1].from + t[end - 1].n - t[k].from;
        if (bytes <= sizeof copy) {
            memcpy(copy, e->p + t[k].from, bytes);
            splice(e, t[i].from, roll(e, 2) ? t[i].n : 0, copy, bytes);
        }
        return;
    case 3:
    case 4: /* a number */
        for (uint32_t tries = 0; tries < n && !(e->p[t[i].from] >= '0' && e->p[t[i].from] <= '9'); tries++)
            i = (i + 1) % n;
        splice(e, t[i].from, t[i].n, number, write_number(e, number, sizeof number));
        return;
    case 5: /* a known word, in the place of a token or before it */
        if (n_words) {
            const char *word = words[roll(e, n_words)];
            splice(e, t[i].from, roll(e, 3) ? t[i].n : 0, word, strlen(word));
        }
        return;
    case 6: /* two tokens change places */
        if (t[i].n <= sizeof copy / 2 && t[k].n <= sizeof copy / 2 && i != k) {
            token a = i < k ? t[i] : t[k], b = i < k ? t[k] : t[i];
            memcpy(copy, e->p + a.from, a.n);
            memcpy(copy + a.n, e->p + b.from, b.n);
            if (splice(e, b.from, b.n, copy, a.n))
                splice(e, a.from, a.n, copy + a.n, b.n);
        }
        return;
    default: mutate_part(e, t[i].from, t[i].from + t[i].n);
    }
}

/* One to four changes of a text by its tokens, or plain bytes. */
static inline void mutate_text(edit *e, size_t from, size_t to, const char *const *words) {
    size_t behind = e->n - to;
    if (roll(e, 4) == 0) {
        mutate_part(e, from, to);
        return;
    }
    for (size_t times = 1 + roll(e, 4); times-- && e->n - behind > from;)
        change_tokens(e, from, e->n - behind, words);
}

#endif
