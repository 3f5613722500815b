/* read_nest.h: what read_nest.c (header, statements) and read_expr.c (expressions) share. Not for others: they call aq_read_nest. */
#ifndef AQ_IR_READ_NEST_H
#define AQ_IR_READ_NEST_H

#include "ir/nest.h"
#include "ir/scan.h"

enum { AQ_NEST_TEXT_DEPTH = 48, AQ_NEST_TEXT_MAX = 1 << 20 };

typedef struct aq_nest_reader {
    aq_scan s;
    aq_nest *n;
    aq_arena *arena;
} aq_nest_reader;

#define AQ_SHOW(w) (int)((w).n < 60 ? (w).n : 60), (w).at /* for %.*s */

/* 0 if there is none. A tile's name means the newest tile of that name, so two trees may both call their accumulator %a. */
aq_id aq_nest_find_axis(const aq_nest *n, aq_word w);
aq_id aq_nest_find_buf(const aq_nest *n, aq_word name);
aq_id aq_nest_find_tile(const aq_nest *n, aq_word name);
AQ_MUST_USE aq_status aq_nest_read_axis(aq_nest_reader *r, aq_id *out);
AQ_MUST_USE aq_status aq_nest_read_expr(aq_nest_reader *r, int depth, aq_id *out);
/* Expressions up to `close`; at most `room`. */
AQ_MUST_USE aq_status aq_nest_read_list(aq_nest_reader *r, int depth, const char *close, int room, aq_id *ids, uint8_t *count);

#endif
