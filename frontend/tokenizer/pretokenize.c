/* pretokenize.c: GPT-2's pattern by hand: cuts a segment into the pieces that BPE never merges across.
 *
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *
 * smollm cuts out every \p{N} character first and applies the pattern to what lies between, so a digit also ends a segment: the
 * look-ahead of \s+(?!\S) sees the end of text there. A byte that is no UTF-8 is a character of its own of class "other".
 * Cost: every byte is looked at twice at most. A regular-expression library was not tried: the pattern has one page. */
#include "frontend/tokenizer/internal.h"

#include <utf8proc.h>

/* Characters younger than Unicode 15.0, which the oldest utf8proc we meet knows: Hugging Face's tokenizers 0.23 see them so. NEWEST are
 * numbers to its digit splitter (Unicode 17), but not yet to its regular expressions. */
enum { NEWEST = 4 };
static const struct {
    uint32_t first, last;
    uint8_t class;
} younger[] = {
    {0x1C89, 0x1C8A, AQ_CLASS_LETTER},   {0xA7CB, 0xA7CD, AQ_CLASS_LETTER},   {0xA7DA, 0xA7DC, AQ_CLASS_LETTER},
    {0x105C0, 0x105F3, AQ_CLASS_LETTER}, {0x10D40, 0x10D49, AQ_CLASS_NUMBER}, {0x10D4A, 0x10D65, AQ_CLASS_LETTER},
    {0x10D6F, 0x10D85, AQ_CLASS_LETTER}, {0x10EC2, 0x10EC4, AQ_CLASS_LETTER}, {0x11380, 0x11389, AQ_CLASS_LETTER},
    {0x1138B, 0x1138B, AQ_CLASS_LETTER}, {0x1138E, 0x1138E, AQ_CLASS_LETTER}, {0x11390, 0x113B5, AQ_CLASS_LETTER},
    {0x113B7, 0x113B7, AQ_CLASS_LETTER}, {0x113D1, 0x113D1, AQ_CLASS_LETTER}, {0x113D3, 0x113D3, AQ_CLASS_LETTER},
    {0x116D0, 0x116E3, AQ_CLASS_NUMBER}, {0x11BC0, 0x11BE0, AQ_CLASS_LETTER}, {0x11BF0, 0x11BF9, AQ_CLASS_NUMBER},
    {0x11DE0, 0x11DE9, NEWEST},          {0x13460, 0x143FA, AQ_CLASS_LETTER}, {0x16100, 0x1611D, AQ_CLASS_LETTER},
    {0x16130, 0x16139, AQ_CLASS_NUMBER}, {0x16D40, 0x16D6C, AQ_CLASS_LETTER}, {0x16D70, 0x16D79, AQ_CLASS_NUMBER},
    {0x16FF4, 0x16FF6, NEWEST},          {0x18CFF, 0x18CFF, AQ_CLASS_LETTER}, {0x1CCF0, 0x1CCF9, AQ_CLASS_NUMBER},
    {0x1E5D0, 0x1E5ED, AQ_CLASS_LETTER}, {0x1E5F0, 0x1E5F0, AQ_CLASS_LETTER}, {0x1E5F1, 0x1E5FA, AQ_CLASS_NUMBER},
    {0x2EBF0, 0x2EE5D, AQ_CLASS_LETTER},
};

static aq_class class_of_younger(aq_pretokenizer pre, uint32_t c) {
    for (size_t i = 0; i < sizeof younger / sizeof *younger; i++)
        if (c >= younger[i].first && c <= younger[i].last)
            return younger[i].class != NEWEST ? (aq_class)younger[i].class : pre == AQ_PRE_SMOLLM ? AQ_CLASS_NUMBER : AQ_CLASS_OTHER;
    return AQ_CLASS_OTHER;
}

int aq_class_is_space(uint32_t c) {
    return c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

aq_class aq_class_of(aq_pretokenizer pre, uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return AQ_CLASS_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return AQ_CLASS_NUMBER;
    case UTF8PROC_CATEGORY_CN:
        return class_of_younger(pre, c);
    default:
        return aq_class_is_space(c) ? AQ_CLASS_SPACE : AQ_CLASS_OTHER;
    }
}

enum { O = AQ_CLASS_OTHER, L = AQ_CLASS_LETTER, N = AQ_CLASS_NUMBER, S = AQ_CLASS_SPACE };
static const uint8_t ascii_class[128] = {
    O, O, O, O, O, O, O, O, O, S, S, S, S, S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, /* control */
    S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O, /* punctuation, digits */
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O, /* A..Z */
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O, /* a..z */
};

/* Class and length of the character at `at` < n. */
static inline aq_class class_at(aq_pretokenizer pre, const char *text, size_t n, size_t at, size_t *length) {
    uint8_t b = (uint8_t)text[at];
    *length = 1;
    if (b < 0x80)
        return ascii_class[b];
    uint32_t c;
    int decoded = aq_utf8_decode(text + at, n - at, &c);
    if (!decoded)
        return AQ_CLASS_OTHER;
    *length = (size_t)decoded;
    return aq_class_of(pre, c);
}

static size_t run_end(aq_pretokenizer pre, const char *text, size_t n, size_t at, aq_class wanted) {
    size_t length;
    while (at < n && class_at(pre, text, n, at, &length) == wanted)
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
 * its last character, which may belong to the next piece; but a lone character is a piece. */
static size_t space_end(aq_pretokenizer pre, const char *text, size_t n, size_t at) {
    size_t end = at, last = at, length;
    aq_class next = AQ_CLASS_SPACE;
    while (end < n && (next = class_at(pre, text, n, end, &length)) == AQ_CLASS_SPACE) {
        last = end;
        end += length;
    }
    int segment_ends = end == n || (pre == AQ_PRE_SMOLLM && next == AQ_CLASS_NUMBER);
    return segment_ends || last == at ? end : last;
}

size_t aq_pretokenize_next(aq_pretokenizer pre, const char *text, size_t n, size_t at) {
    size_t length;
    if (text[at] == '\'') {
        length = contraction(text + at, n - at);
        if (length)
            return at + length;
    }
    aq_class class = class_at(pre, text, n, at, &length);
    if (class == AQ_CLASS_NUMBER && pre == AQ_PRE_SMOLLM)
        return at + length;
    if (class != AQ_CLASS_SPACE)
        return run_end(pre, text, n, at + length, class);
    if (text[at] == ' ' && at + 1 < n) {
        aq_class next = class_at(pre, text, n, at + 1, &length);
        if (next != AQ_CLASS_SPACE && !(next == AQ_CLASS_NUMBER && pre == AQ_PRE_SMOLLM))
            return run_end(pre, text, n, at + 1 + length, next);
    }
    return space_end(pre, text, n, at);
}

/* Rust's \w, by Unicode's UTS 18: Alphabetic, marks, decimal numbers, connector punctuation, join controls. Alphabetic goes beyond
 * letters and letter numbers only by Other_Alphabetic: marks, and the circled letters. */
int aq_class_is_word(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_PC:
        return 1;
    default:
        return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
               (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
    }
}
