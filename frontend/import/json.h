/* json.h: cJSON behind our doors: its memory comes from ir/memory.h, its refusal is one line with line and column. */
#ifndef AQ_FRONTEND_IMPORT_JSON_H
#define AQ_FRONTEND_IMPORT_JSON_H

#include "ir/status.h"

#include <cjson/cJSON.h>

/* The whole of text[0..n) must be one JSON value (white space around it is fine). Nesting is bounded by cJSON (1000). Free with
 * cJSON_Delete, on the same thread. Memory: at most 40 MiB and 3 times n. AQ_REFUSED "FILE:LINE:COLUMN: not JSON ...", AQ_NO_MEMORY. */
AQ_MUST_USE aq_status aq_json_parse(const char *file, const char *text, size_t n, cJSON **out);

/* The member of an object (exact spelling), or NULL; the first where a key is repeated. */
const cJSON *aq_json_get(const cJSON *object, const char *key);

/* 1 and *out if x is a whole number of at most 2^53. */
int aq_json_whole(const cJSON *x, int64_t *out);

#endif
