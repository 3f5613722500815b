/* regex.h: what regex_read.c and regex_set.c share. */
#ifndef AQ_FRONTEND_TOKENIZER_REGEX_H
#define AQ_FRONTEND_TOKENIZER_REGEX_H

#include "frontend/tokenizer/internal.h"

/* Groups, or sets, inside each other; bytes of what is written. */
enum { AQ_REGEX_DEPTH = 16, AQ_REGEX_ROOM = 1 << 16 };

typedef struct aq_regex_reader {
    const char *place;
    aq_bytes in;
    uint32_t at;
    char *out;
    uint32_t n;
    int depth, caseless;
    char fold; /* the letter before, inside (?i: ) */
    int steps;       /* parts since the last (?C) */
    uint32_t counts; /* (?C) so far */
} aq_regex_reader;


/* [R565], with the place in the expression. */
aq_status aq_regex_refuse(const aq_regex_reader *r, const char *what);
void aq_regex_put(aq_regex_reader *r, const char *format, ...) AQ_PRINTF(2, 3);
/* The byte so far ahead, 0 behind the end. */
char aq_regex_peek(const aq_regex_reader *r, uint32_t ahead);
/* Goes on behind `text` if it is next. */
int aq_regex_take(aq_regex_reader *r, const char *text);

/* ---- regex_set.c ---- */
AQ_MUST_USE aq_status aq_regex_char(aq_regex_reader *r, uint32_t *out);
/* Whether c may stand where it does, if that is inside (?i: ). */
AQ_MUST_USE aq_status aq_regex_fold(aq_regex_reader *r, uint32_t c);
/* Behind a backslash, outside of sets: a character or a class. */
AQ_MUST_USE aq_status aq_regex_escaped(aq_regex_reader *r);
/* Behind a [. */
AQ_MUST_USE aq_status aq_regex_set(aq_regex_reader *r);

#endif
