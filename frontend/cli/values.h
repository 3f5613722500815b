/* values.h: the value of one option, from its text, by its kind and range. */
#ifndef AQ_FRONTEND_CLI_VALUES_H
#define AQ_FRONTEND_CLI_VALUES_H

#include "frontend/cli/options.h"

/* Sets or (LIST, INTS) extends *value. AQ_USAGE "--NAME: TEXT: expected ...". */
AQ_MUST_USE aq_status aq_value_set(aq_arena *arena, const aq_option *o, const char *text, aq_option_value *value);

/* A size in bytes: digits, then nothing, B, K M G T, KB .. TB (powers of 1000) or KiB .. TiB (powers of 1024; K alone too). */
AQ_MUST_USE aq_status aq_value_bytes(const char *name, const char *text, int64_t *out);

#endif
