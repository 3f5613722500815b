/* scan.h: the words of nest and schedule texts, one at a time, without a token list. Used by read_nest.c and schedule_text.c.
 *
 * A scanner stands before the next word; white space and comments (# to the end of the line) lie between words. Nothing is copied:
 * words are ranges of the text. Failures carry FILE:LINE:COLUMN. */
#ifndef AQ_IR_SCAN_H
#define AQ_IR_SCAN_H

#include "ir/graph.h"

typedef struct aq_scan {
    const char *file, *text;
    size_t at, n;
} aq_scan;

typedef struct aq_word { /* n = 0: none */
    const char *at;
    size_t n;
} aq_word;

/* Skips to the next word; 0 at the end of the text. */
int aq_scan_more(aq_scan *s);
/* Is the next thing exactly these characters (punctuation)? Takes it. */
int aq_scan_take(aq_scan *s, const char *punctuation);
/* [A-Za-z_][A-Za-z0-9_.]*, or none. */
aq_word aq_scan_word(aq_scan *s);
/* Takes the word if it is this one. */
int aq_scan_keyword(aq_scan *s, const char *keyword);
/* A sigil (% @ $) and [A-Za-z0-9_.]+, or none. */
aq_word aq_scan_name(aq_scan *s);
/* A number, signed, inf and nan too; 0 if the next thing is none. is_whole: written without point and exponent. */
int aq_scan_number(aq_scan *s, double *out, int *is_whole);
int aq_word_is(aq_word w, const char *text);

/* AQ_REFUSED, at the scanner's place: "what is wrong: what was expected". */
aq_status aq_scan_fail(aq_scan *s, const char *format, ...) AQ_PRINTF(2, 3);
/* aq_scan_take or refuse with what was expected. */
AQ_MUST_USE aq_status aq_scan_expect(aq_scan *s, const char *punctuation, const char *where);
/* A whole number lo..hi. */
AQ_MUST_USE aq_status aq_scan_whole(aq_scan *s, int64_t lo, int64_t hi, const char *what, int64_t *out);
/* k, SYMBOL or k*SYMBOL of m; k at least 0. */
AQ_MUST_USE aq_status aq_scan_dim(aq_scan *s, const aq_module *m, aq_dim *out);

#endif
