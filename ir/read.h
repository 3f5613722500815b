/* read.h: what the files that read model text share: read.c (declarations), read_body.c (statements), read_call.c (names, calls),
 * read_region.c (graphs, regions),
 * read_num.c (numbers, sizes, types). Words come from scan.h. */
#ifndef AQ_IR_READ_H
#define AQ_IR_READ_H

#include "ir/internal.h"
#include "ir/scan.h"

/* Limits, so that no text can take more than its share of memory, time or stack: real models have under 10000 nodes. */
enum {
    AQ_TEXT_MAX = 16 << 20,
    AQ_TEXT_UNROLLED = 64 << 20, /* bytes of `repeat` bodies, times their turns */
    AQ_TEXT_DEPTH = 64,
    AQ_TEXT_LAYERS = 4096,
    AQ_TEXT_NODES = 200000,
    AQ_TEXT_ROWS = 65536, /* weights, states, symbols */
    AQ_TEXT_NESTS = 256,
    AQ_TEXT_INPUTS = 255
};

/* What the names of one body mean. Keys are texts with their sigils. */
typedef struct aq_scope {
    aq_id body;
    int is_region;
    aq_names value;   /* %name, @name as written -> value */
    aq_names newest;  /* state row's name -> its newest version here */
    aq_names zero;    /* state row's name -> the version that `$k.3` means once versions are numbered */
    aq_names marked;  /* state row's name -> 1: this body numbers its versions */
    aq_names taken;   /* result names -> next suffix to try */
} aq_scope;

typedef struct aq_reader {
    aq_scan s;
    aq_module *m;
    const aq_bind *binds;
    int n_binds;
    aq_names dims;     /* `dims` of the text: name -> index of its bind + 1 */
    aq_names rows;     /* @name and $name -> index of the weight or state + 1 */
    aq_names bases;    /* @base and $base of what has one row a layer -> 1 */
    int32_t layer;     /* inside `repeat` */
    size_t unrolled;
    size_t line_at;    /* where counting of lines stands */
    uint32_t line;
    size_t line_start;
} aq_reader;

/* AQ_REFUSED at the next word (or at byte `at`): FILE:LINE:COL, and line and caret as the detail. */
aq_status aq_read_fail(aq_reader *r, const char *format, ...) AQ_PRINTF(2, 3);
aq_status aq_read_fail_at(aq_reader *r, size_t at, const char *format, ...) AQ_PRINTF(3, 4);
/* Sets the module's place for new nodes to byte `at`. */
void aq_read_place(aq_reader *r, size_t at);
/* After a builder refused something that began at byte `at`: adds line and caret as the detail. */
aq_status aq_read_caret(aq_reader *r, size_t at, aq_status status);
AQ_MUST_USE aq_status aq_read_expect(aq_reader *r, const char *punctuation, const char *where);

/* The word as a NUL-terminated copy in the module's arena. */
AQ_MUST_USE aq_status aq_read_copy(aq_reader *r, aq_word w, const char **out);

/* Is the next thing the beginning of a number: digits, a minus, sqrt, or the name of one of the text's dims? */
int aq_read_at_number(aq_reader *r);
/* Is the next word the name of one of the text's dims that the model has not (its bind is NAN)? Then it is read over. */
int aq_read_none(aq_reader *r);
AQ_MUST_USE aq_status aq_read_number(aq_reader *r, double *out);
AQ_MUST_USE aq_status aq_read_whole(aq_reader *r, int64_t lo, int64_t hi, const char *what, int64_t *out);
AQ_MUST_USE aq_status aq_read_dim(aq_reader *r, aq_dim *out);
AQ_MUST_USE aq_status aq_read_type(aq_reader *r, aq_type *out);

/* "@wq" inside `repeat` of layer 3 is the row "wq.3": index + 1 of the weight (or state), 0 if there is none. */
uint32_t aq_read_row(aq_reader *r, aq_word name);

AQ_MUST_USE aq_status aq_read_graph(aq_reader *r);
/* Statements up to '}'; `return` or `yield` sets the results. */
AQ_MUST_USE aq_status aq_read_statements(aq_reader *r, aq_scope *scope, int depth);
/* A name, number or nested call; *out is its value. */
AQ_MUST_USE aq_status aq_read_operand(aq_reader *r, aq_scope *scope, int depth, aq_id *out);
/* An op with its operands and attributes; makes its node. */
AQ_MUST_USE aq_status aq_read_call(aq_reader *r, aq_scope *scope, int depth, aq_id *out_node);
/* Digits behind a ' that follows a state's name at once; -1 if there is none. */
AQ_MUST_USE aq_status aq_read_version(aq_reader *r, int64_t *out);
AQ_MUST_USE aq_status aq_read_name_value(aq_reader *r, aq_scope *scope, aq_id *out);
/* Behind the word `fused`: makes the node. */
AQ_MUST_USE aq_status aq_read_fused(aq_reader *r, aq_scope *scope, size_t at, aq_id *out_node);
/* The braces from the next '{' on as a text of their own whose lines and columns count as in the file; calls read(user, text, n). Nests and
 * schedules have readers of their own. `from`: first byte that belongs to it. */
AQ_MUST_USE aq_status aq_read_inner(aq_reader *r, size_t from, int with_braces, aq_status (*read)(aq_reader *r, void *user, const char *text, size_t n), void *user);

#endif
