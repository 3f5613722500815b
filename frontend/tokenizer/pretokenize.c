/* pretokenize.c: the patterns by hand: cuts a segment into the pieces that BPE never merges across.
 *
 *   gpt2    's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *   llama3  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 *
 * smollm cuts out every \p{N} character first and applies gpt2's pattern to what lies between, so a digit also ends a segment: the
 * look-ahead of \s+(?!\S) sees the end of text there. A byte that is no UTF-8 is a character of its own of class "other".
 * Cost: every byte is looked at twice at most; PCRE2, which runs all other patterns (splits.c), takes ten times as long on these. */
#include "frontend/tokenizer/internal.h"

enum { O = AQ_CLASS_OTHER, L = AQ_CLASS_LETTER, N = AQ_CLASS_NUMBER, S = AQ_CLASS_SPACE };
static const uint8_t ascii_class[128] = {
    O, O, O, O, O, O, O, O, O, S, S, S, S, S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, /* control */
    S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O, /* punctuation, digits */
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O, /* A..Z */
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O, /* a..z */
};

/* What the functions below share: the tokenizer and the segment. */
typedef struct segment {
    const aq_tokenizer *t;
    const char *text;
    size_t n;
} segment;

/* Class and length of the character at `at` < n, beyond ASCII. Two and three bytes, the middle of the range, are worth their own lines. */
static aq_class class_beyond(const segment *s, size_t at, size_t *length) {
    const uint8_t *b = (const uint8_t *)s->text + at;
    uint32_t c;
    if (s->n - at >= 3 && b[0] >= 0xE1 && b[0] <= 0xEC && (b[1] & 0xC0) == 0x80 && (b[2] & 0xC0) == 0x80) {
        c = (b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3Fu);
        *length = 3;
        return (aq_class)(s->t->classes[c / 4] >> c % 4 * 2 & 3);
    }
    int decoded = aq_utf8_decode(s->text + at, s->n - at, &c);
    *length = decoded ? (size_t)decoded : 1;
    if (!decoded)
        return AQ_CLASS_OTHER;
    return c < 0x10000 ? (aq_class)(s->t->classes[c / 4] >> c % 4 * 2 & 3) : aq_class_of(s->t->pre, c);
}

static inline aq_class class_at(const segment *s, size_t at, size_t *length) {
    uint8_t b = (uint8_t)s->text[at];
    if (b >= 0x80)
        return class_beyond(s, at, length);
    *length = 1;
    return ascii_class[b];
}

static size_t run_end(const segment *s, size_t at, aq_class wanted) {
    size_t length;
    while (at < s->n && class_at(s, at, &length) == wanted)
        at += length;
    return at;
}

/* Length of the contraction at text[0..n), which begins with an apostrophe; 0 if it is none. */
static size_t contraction(const char *text, size_t n) {
    if (n < 2)
        return 0;
    char a = text[1], b = n > 2 ? text[2] : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return 3;
    return 0;
}

/* The piece at a run of white space that is not a single ' ' before something: all of it at the end of the segment, else all but
 * its last character, which may belong to the next piece; but a lone character is a piece. llama3 ends it after the last line break. */
static size_t space_end(const segment *s, size_t at, int breaks) {
    size_t end = at, last = at, length, line = at;
    aq_class next = AQ_CLASS_SPACE;
    while (end < s->n && (next = class_at(s, end, &length)) == AQ_CLASS_SPACE) {
        last = end;
        end += length;
        if (breaks && (s->text[last] == '\n' || s->text[last] == '\r'))
            line = end;
    }
    if (line > at)
        return line;
    int segment_ends = end == s->n || (s->t->pre == AQ_PRE_SMOLLM && next == AQ_CLASS_NUMBER);
    return segment_ends || last == at ? end : last;
}

static size_t next_gpt2(const segment *s, size_t at) {
    size_t length;
    if (s->text[at] == '\'') {
        length = contraction(s->text + at, s->n - at);
        if (length)
            return at + length;
    }
    int digits = s->t->pre == AQ_PRE_SMOLLM;
    aq_class class = class_at(s, at, &length);
    if (class == AQ_CLASS_NUMBER && digits)
        return at + length;
    if (class != AQ_CLASS_SPACE)
        return run_end(s, at + length, class);
    if (s->text[at] == ' ' && at + 1 < s->n) {
        aq_class next = class_at(s, at + 1, &length);
        if (next != AQ_CLASS_SPACE && !(next == AQ_CLASS_NUMBER && digits))
            return run_end(s, at + 1 + length, next);
    }
    return space_end(s, at, 0);
}

/* Without regard to case, by Unicode: U+017F, the long s, is an s. */
static size_t any_contraction(const char *text, size_t n) {
    char lower[3] = {'\''};
    if (n >= 3 && (uint8_t)text[1] == 0xC5 && (uint8_t)text[2] == 0xBF)
        return 3;
    for (size_t i = 1; i < 3 && i < n; i++)
        lower[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];
    return contraction(lower, n < 3 ? n : 3);
}

static size_t others_and_breaks(const segment *s, size_t at) {
    at = run_end(s, at, AQ_CLASS_OTHER);
    while (at < s->n && (s->text[at] == '\n' || s->text[at] == '\r'))
        at++;
    return at;
}

static size_t next_llama3(const segment *s, size_t at) {
    size_t length, after;
    if (s->text[at] == '\'') {
        length = any_contraction(s->text + at, s->n - at);
        if (length)
            return at + length;
    }
    aq_class class = class_at(s, at, &length), next = AQ_CLASS_SPACE;
    if (class == AQ_CLASS_LETTER)
        return run_end(s, at + length, AQ_CLASS_LETTER);
    if (class == AQ_CLASS_NUMBER) {
        for (int i = 0; i < 3 && at < s->n && class_at(s, at, &length) == AQ_CLASS_NUMBER; i++)
            at += length;
        return at;
    }
    if (at + length < s->n)
        next = class_at(s, at + length, &after);
    if (next == AQ_CLASS_LETTER && s->text[at] != '\n' && s->text[at] != '\r')
        return run_end(s, at + length + after, AQ_CLASS_LETTER);
    if (class == AQ_CLASS_OTHER)
        return others_and_breaks(s, at + length);
    if (s->text[at] == ' ' && next == AQ_CLASS_OTHER)
        return others_and_breaks(s, at + 1 + after);
    return space_end(s, at, 1);
}

size_t aq_pretokenize_next(aq_pretokenizer pre, const aq_tokenizer *t, const char *text, size_t n, size_t at) {
    const segment s = {t, text, n};
    return pre == AQ_PRE_LLAMA3 ? next_llama3(&s, at) : next_gpt2(&s, at);
}
