/* regex_set.c: characters, classes and sets of an expression (regex_read.c has the grammar): what stands for one character.
 *
 * White space is spelled out and categories get the characters of younger.def, so a class means the same whatever Unicode PCRE2 knows. A negated class
 * stands alone in its set, which is negated then: PCRE2 has no way to take younger.def's characters out of \P{L} beside others. */
#include "frontend/tokenizer/regex.h"

#include <stdio.h>
#include <string.h>

#define SPACES "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define NO_SPACES                                                                                                                                  \
    "\\x{0}-\\x{8}\\x{E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}"              \
    "\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{10FFFF}"

static void put_text(aq_regex_reader *r, const char *text) { aq_regex_put(r, "%s", text); }

/* ---- characters ---- */

aq_status aq_regex_char(aq_regex_reader *r, uint32_t *out) {
    int n = r->at >= r->in.n ? 0 : aq_utf8_decode(r->in.s + r->at, r->in.n - r->at, out);
    if (!n)
        return aq_regex_refuse(r, "no character: UTF-8 expected");
    r->at += (uint32_t)n;
    return AQ_OK;
}

static int hex_of(char c) { return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1; }

/* n digits, or up to the brace if n is 0. */
static aq_status take_hex(aq_regex_reader *r, uint32_t n, uint32_t most, uint32_t *out) {
    uint32_t c = 0, k = 0;
    for (; hex_of(aq_regex_peek(r, 0)) >= 0 && c <= most && (n ? k < n : 1); k++, r->at++)
        c = c << 4 | (uint32_t)hex_of(aq_regex_peek(r, 0));
    if (k == 0 || (n ? k < n : !aq_regex_take(r, "}")) || c > most || (c >= 0xD800 && c < 0xE000))
        return aq_regex_refuse(r, "no character has this number: \\x41 (below 80), \\u4E00 or \\x{4E00} expected");
    *out = c;
    return AQ_OK;
}

/* Behind a backslash: a character. */
static aq_status take_escape(aq_regex_reader *r, uint32_t *out) {
    static const char names[] = "tnrfvae", codes[] = "\t\n\r\f\v\a\x1B";
    char c = aq_regex_peek(r, 0);
    const char *name = c ? strchr(names, c) : NULL;
    if (name || (c > ' ' && c < 0x7F && !((c | 32) >= 'a' && (c | 32) <= 'z') && !(c >= '0' && c <= '9'))) {
        *out = name ? (uint32_t)codes[name - names] : (uint32_t)c;
        r->at++;
        return AQ_OK;
    }
    if (aq_regex_take(r, "x{"))
        return take_hex(r, 0, 0x10FFFF, out);
    if (aq_regex_take(r, "x"))
        return take_hex(r, 2, 0x7F, out);
    if (aq_regex_take(r, "u"))
        return take_hex(r, 4, 0xFFFF, out);
    return aq_regex_refuse(r, "not supported behind a backslash: \\s \\S \\d \\D \\p{L} \\P{L} \\t \\n \\r \\f \\v \\a \\e \\x{41} \\u0041 or a mark expected");
}

aq_status aq_regex_fold(aq_regex_reader *r, uint32_t c) {
    static const char pairs[][3] = {"ss", "st", "ff", "fi", "fl"};
    if (!r->caseless)
        return AQ_OK;
    if (c >= 0x80)
        return aq_regex_refuse(r, "inside (?i: ) only ASCII is supported");
    char lower = c >= 'A' && c <= 'Z' ? (char)(c + 32) : (char)c;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (r->fold == pairs[i][0] && lower == pairs[i][1])
            return aq_regex_refuse(r, "two letters inside (?i: ) that one character may stand for: not supported");
    r->fold = lower;
    return AQ_OK;
}

/* ---- classes: written as what stands inside of brackets ---- */

static aq_status put_category(aq_regex_reader *r) {
    static const char known[] = " L Lu Ll Lt Lm Lo M Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp Cc ";
    char name[5] = " ", wanted[4];
    uint32_t n = 0;
    while (n < 3 && aq_regex_peek(r, n) && aq_regex_peek(r, n) != '}')
        n++;
    snprintf(name + 1, sizeof name - 1, "%.*s ", (int)n, r->in.s + r->at);
    if (n == 0 || n > 2 || !strstr(known, name) || aq_regex_peek(r, n) != '}')
        return aq_regex_refuse(r, "not a category that is supported: L, Lu, Ll, M, N, Nd, P, S, Z ... expected");
    snprintf(wanted, sizeof wanted, "%.*s", (int)n, name + 1);
    r->at += n + 1;
    aq_regex_put(r, "\\p{%s}", wanted);
    for (size_t i = 0; i < aq_n_younger; i++) {
        const aq_younger *y = &aq_younger_characters[i];
        if (strncmp(y->category, wanted, n) == 0)
            aq_regex_put(r, y->first == y->last ? "\\x{%X}" : "\\x{%X}-\\x{%X}", y->first, y->last);
    }
    return AQ_OK;
}

/* A class behind a backslash, if there is one: *found; *negated: it is what is not in the class. */
static aq_status put_class(aq_regex_reader *r, int *found, int *negated) {
    static const struct {
        const char *name;
        int negated;
    } classes[] = {{"s", 0}, {"S", 1}, {"d", 0}, {"D", 1}, {"p{", 0}, {"P{", 1}};
    size_t k = 0;
    while (k < 6 && !aq_regex_take(r, classes[k].name))
        k++;
    *found = k < 6;
    if (!*found)
        return AQ_OK;
    *negated = classes[k].negated;
    if (r->caseless)
        return aq_regex_refuse(r, "a class inside (?i: ) is not supported");
    if (k < 2) {
        put_text(r, SPACES);
        return AQ_OK;
    }
    if (k >= 4)
        return put_category(r);
    aq_regex_reader digits = *r;
    digits.in = (aq_bytes){"Nd}", 3};
    digits.at = 0;
    AQ_TRY(put_category(&digits));
    r->n = digits.n;
    return AQ_OK;
}

/* ---- sets ---- */

static aq_status put_range(aq_regex_reader *r, uint32_t first) {
    uint32_t last = first;
    AQ_TRY(aq_regex_fold(r, first));
    if (aq_regex_peek(r, 0) == '-' && aq_regex_peek(r, 1) && aq_regex_peek(r, 1) != ']') {
        r->at++;
        if (first == '-' || aq_regex_peek(r, 0) == '[' || aq_regex_peek(r, 0) == '-')
            return aq_regex_refuse(r, "a range of a set: a character on both sides of - expected");
        if (aq_regex_take(r, "\\"))
            AQ_TRY(take_escape(r, &last));
        else
            AQ_TRY(aq_regex_char(r, &last));
        AQ_TRY(aq_regex_fold(r, last));
        if (last < first)
            return aq_regex_refuse(r, "a range that ends before it begins");
    }
    r->fold = 0;
    aq_regex_put(r, first == last ? "\\x{%X}" : "\\x{%X}-\\x{%X}", first, last);
    return AQ_OK;
}

/* A class of a set: a negated one only alone, then the set is negated; but \S can be written as ranges. */
static aq_status read_set_class(aq_regex_reader *r, uint32_t *n_parts, int *found, int *flips) {
    uint32_t from = r->n;
    int negated = 0;
    AQ_TRY(put_class(r, found, &negated));
    if (!*found)
        return AQ_OK;
    if (negated && r->in.s[r->at - 1] == 'S') {
        r->n = from;
        put_text(r, NO_SPACES);
    } else if (negated && (*n_parts || aq_regex_peek(r, 0) != ']')) {
        return aq_regex_refuse(r, "a negated class beside others in a set is not supported");
    } else {
        *flips = negated;
    }
    return aq_regex_peek(r, 0) == '-' && aq_regex_peek(r, 1) != ']' ? aq_regex_refuse(r, "a range that begins with a class") : AQ_OK;
}

static aq_status read_parts(aq_regex_reader *r, int depth, int *flips) {
    for (uint32_t n = 0;; n++) {
        uint32_t c;
        int found = 0;
        if (r->at >= r->in.n)
            return aq_regex_refuse(r, "a set without an end: ] expected");
        if (aq_regex_peek(r, 0) == ']' && n == 0)
            return aq_regex_refuse(r, "an empty set");
        if (aq_regex_take(r, "]"))
            return AQ_OK;
        if (aq_regex_take(r, "[")) {
            if (aq_regex_peek(r, 0) == ':' || aq_regex_peek(r, 0) == '^' || depth == AQ_REGEX_DEPTH)
                return aq_regex_refuse(r, "[: :], or a negated set inside a set: not supported");
            int inner = 0;
            AQ_TRY(read_parts(r, depth + 1, &inner));
            if (inner)
                return aq_regex_refuse(r, "a negated class inside of two sets is not supported");
            continue;
        }
        if (aq_regex_peek(r, 0) == '&' && aq_regex_peek(r, 1) == '&')
            return aq_regex_refuse(r, "&& in a set is not supported");
        if (aq_regex_peek(r, 0) == '-' && n && aq_regex_peek(r, 1) != ']')
            return aq_regex_refuse(r, "- in a set: at its ends, between two characters, or behind a backslash expected");
        if (aq_regex_take(r, "\\")) {
            AQ_TRY(read_set_class(r, &n, &found, flips));
            if (found)
                continue;
            AQ_TRY(take_escape(r, &c));
        } else {
            AQ_TRY(aq_regex_char(r, &c));
        }
        AQ_TRY(put_range(r, c));
    }
}

aq_status aq_regex_set(aq_regex_reader *r) {
    int negated = aq_regex_take(r, "^"), flips = 0;
    if (negated && r->caseless)
        return aq_regex_refuse(r, "a negated set inside (?i: ) is not supported");
    put_text(r, "[ "); /* the space becomes ^, or goes */
    uint32_t from = r->n;
    AQ_TRY(read_parts(r, 0, &flips));
    if (r->n < AQ_REGEX_ROOM - 1) {
        r->out[from - 1] = '^';
        if (negated == flips) {
            memmove(r->out + from - 1, r->out + from, r->n - from);
            r->n--;
        }
    }
    put_text(r, "]");
    return AQ_OK;
}

/* ---- outside of sets ---- */

aq_status aq_regex_escaped(aq_regex_reader *r) {
    uint32_t from = r->n, c;
    int found, negated = 0;
    put_text(r, "[ ");
    AQ_TRY(put_class(r, &found, &negated));
    if (found) {
        if (r->n < AQ_REGEX_ROOM - 1 && negated) {
            r->out[from + 1] = '^';
        } else if (r->n < AQ_REGEX_ROOM - 1) {
            memmove(r->out + from + 1, r->out + from + 2, r->n - from - 2);
            r->n--;
        }
        put_text(r, "]");
        return AQ_OK;
    }
    r->n = from;
    AQ_TRY(take_escape(r, &c));
    AQ_TRY(aq_regex_fold(r, c));
    aq_regex_put(r, "\\x{%X}", c);
    return AQ_OK;
}

