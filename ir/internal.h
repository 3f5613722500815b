/* internal.h: what the files of ir/ share: names of things in messages, a table of names, numbers as text. */
#ifndef AQ_IR_INTERNAL_H
#define AQ_IR_INTERNAL_H

#include "ir/graph.h"

/* Writes "f32[T, 4*B, 64]", "[V]" for an unbound dtype, "batch"; returns buf. Cut where buf ends. */
enum { AQ_DESCRIBE = 256 };
const char *aq_describe_type(const aq_module *m, const aq_type *t, char *buf, size_t size);
/* Writes "%x is f32[T, 64]", "@wq.3 is ..", "$k.0 is ..", "0.5 is ..": for messages; no version marks. */
const char *aq_describe_value(const aq_module *m, aq_id v, char *buf, size_t size);

/* "FILE:LINE:COL: OP: ..." (FILE alone for nodes of a pass). */
aq_status aq_fail_node(const aq_module *m, const aq_node *n, const char *format, ...) AQ_PRINTF(3, 4);

/* The shortest decimal that reads back to x; "inf", "-inf", "nan". At least 32 bytes. */
const char *aq_number_text(double x, char *buf);

/* Names to numbers, open addressing, in an arena. A zeroed struct is an empty one. Texts are not copied. */
typedef struct aq_names {
    struct aq_names_slot {
        const char *key;
        size_t n;
        uint32_t value;
    } *slot;
    uint32_t n, room;
} aq_names;
/* 0 if there is none: values are from 1. */
uint32_t aq_names_find(const aq_names *t, const char *key, size_t n);
/* Adds or replaces. */
AQ_MUST_USE aq_status aq_names_put(aq_names *t, aq_arena *a, const char *key, size_t n, uint32_t value);

#endif
