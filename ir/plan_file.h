/* plan_file.h: how the tables of a plan lie in an .aqp file; shared by plan_write.c, plan_open.c and plan_check.c, and by nobody else.
 *
 *   header (64 bytes) | directory: one aq_plan_entry a table | tables, each at the next multiple of 64 | zeros up to a multiple of 64
 *
 * The place of every table follows from the counts before it, so a file has exactly one form: the reader computes the offsets and only
 * compares. Little endian, the structs of plan.h as they are (asserted below to have no holes). The code is last: the tables that are
 * walked at every start stay together in the first pages. */
#ifndef AQ_IR_PLAN_FILE_H
#define AQ_IR_PLAN_FILE_H

#include "ir/plan.h"

enum { AQ_PLAN_ALIGN = 64 };

#define AQ_PLAN_MAGIC "\x89" "AQP\r\n\x1a\n" /* not text, and broken by any transfer that translates line ends */

typedef struct aq_plan_header {
    unsigned char magic[8];
    uint32_t version, n_tables;
    uint64_t size, hash;     /* of the file; XXH3-64 of bytes [64, size) */
    uint64_t signature[4];   /* zero: room for a later use */
} aq_plan_header;

typedef struct aq_plan_entry {
    uint64_t offset, count;
    uint32_t record, reserved; /* bytes of one record */
} aq_plan_entry;

enum {
#define TABLE(name, type, count) AQ_TABLE_##name,
#define FIXED(name, type, count) AQ_TABLE_##name,
#define TEXTS(name) AQ_TABLE_##name,
#include "ir/plan_tables.def"
    AQ_TABLE_COUNT
};

_Static_assert(sizeof(aq_plan_header) == 64 && sizeof(aq_plan_entry) == 24, "the head of the file");
_Static_assert(sizeof(aq_size) == 16 && sizeof(aq_plan_weight) == 72 && sizeof(aq_plan_state) == 80 && sizeof(aq_plan_buffer) == 112 &&
                   sizeof(aq_plan_arg) == 8 && sizeof(aq_plan_grid) == 88 && sizeof(aq_plan_phase) == 16 && sizeof(aq_plan_step) == 64 &&
                   sizeof(aq_plan_input) == 80 && sizeof(aq_plan_variant) == 80 && sizeof(aq_plan_graph) == 32 &&
                   sizeof(aq_plan_model) == 88 && sizeof(aq_plan_sym) == 24,
               "a record changed: raise AQ_PLAN_VERSION, and keep it free of holes");

/* Every reference, range and size of an opened plan's records. `file` is for the message. */
AQ_MUST_USE aq_status aq_plan_check(const char *file, const aq_plan *p);

#endif
