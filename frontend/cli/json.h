/* json.h: JSON out and in. Documents are cJSON trees; its memory comes through our door. Text may hold any bytes: what is not UTF-8 is
 * written as U+FFFD, and NUL survives, which cJSON's own strings cannot do. */
#ifndef AQ_FRONTEND_CLI_JSON_H
#define AQ_FRONTEND_CLI_JSON_H

#include "frontend/import/json.h"

#include <stdio.h>

/* Once, before any other use of cJSON. */
void aq_json_open(void);

/* s[0..n) as a JSON string with its quotes on `to`. */
void aq_json_write(FILE *to, const char *s, size_t n);

/* object[name] = text (NULL: null). An item that could not be allocated is found by aq_json_print. */
void aq_json_set_text(cJSON *object, const char *name, const char *s, size_t n);
void aq_json_set_string(cJSON *object, const char *name, const char *s); /* up to its NUL */

/* object[name] = x where |x| < 2^53 or not: integers are written whole. */
void aq_json_set_int(cJSON *object, const char *name, int64_t x);

/* Prints the document on standard output with a final newline, and deletes it. NULL stands for one that ran out of memory. */
AQ_MUST_USE aq_status aq_json_print(cJSON *document);

/* One line of JSON as a tree (import/json.h does the reading). place: for messages. In its strings the byte 0xff stands for NUL (it cannot
 * occur otherwise: the line must be UTF-8); aq_json_restore gives the true bytes back, in place, and their number. */
AQ_MUST_USE aq_status aq_json_line_parse(const char *place, char *line, size_t n, cJSON **out);
size_t aq_json_restore(char *s);

/* s (base64, padded or not, no white space) decoded in place; AQ_REFUSED if it is none. */
AQ_MUST_USE aq_status aq_base64_decode(const char *place, char *s, size_t *out_n);

#endif
