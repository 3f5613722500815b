/* pickle.h: the pickle inside a torch archive as a table of values. It is data here, never a program: the one thing that the opcodes can do is
 * append rows to this table. */
#ifndef AQ_FRONTEND_IMPORT_PICKLE_H
#define AQ_FRONTEND_IMPORT_PICKLE_H

#include "frontend/tokenizer/tokenizer.h" /* aq_bytes */
#include "ir/arena.h"
#include "ir/dtype.h"

typedef enum aq_pickle_role { AQ_ROLE_ORDERED, AQ_ROLE_TENSOR, AQ_ROLE_PARAMETER, AQ_ROLE_STORAGE, AQ_ROLE_DTYPE, AQ_ROLE_OPAQUE } aq_pickle_role;

/* A row of pickle_names.def. */
typedef struct aq_pickle_name {
    const char *module, *name;
    aq_pickle_role role;
    aq_dtype dtype;
    uint8_t bytes;
} aq_pickle_name;
extern const aq_pickle_name aq_pickle_names[];

/* ONE: None, true, false, real numbers, opaque things: nobody asks for more. CALL: what a row of pickle_names.def would have been called with.
 * STORED: a persistent id: the bytes are elsewhere in the archive. */
typedef enum aq_pickle_kind {
    AQ_PICKLE_ONE, AQ_PICKLE_INT, AQ_PICKLE_TEXT, AQ_PICKLE_TUPLE, AQ_PICKLE_LIST, AQ_PICKLE_DICT, AQ_PICKLE_NAME, AQ_PICKLE_CALL, AQ_PICKLE_STORED
} aq_pickle_kind;

typedef struct aq_pickle_value {
    uint8_t kind;
    uint32_t n;          /* bytes of a text; items of a tuple, list or dictionary (key, value, key, value, ...); row of a NAME or CALL */
    uint32_t first, last; /* cells of the items; of CALL and STORED: first is the value of the arguments, a tuple */
    union {
        int64_t number;
        const char *text; /* in the pickle's bytes */
    };
} aq_pickle_value;

typedef struct aq_pickle_cell {
    uint32_t value, next; /* next: 0 behind the last */
} aq_pickle_cell;

typedef struct aq_pickle {
    AQ_VEC(aq_pickle_value) values;
    AQ_VEC(aq_pickle_cell) cells; /* cell 0 is not used */
    uint32_t root;
} aq_pickle;

/* bytes[0..n) of the archive at `path`, which messages name. The values may form circles (a list that holds itself): walk items of known kinds
 * only, to a fixed depth. Bounded: 2^17 values, items, stack and memo entries, so at most about 15 MB whatever the bytes are, and time linear in n.
 * AQ_REFUSED, AQ_NO_MEMORY. */
AQ_MUST_USE aq_status aq_pickle_read(aq_arena *arena, const char *path, const unsigned char *bytes, size_t n, aq_pickle *out);

/* Item i < n of a tuple, list or dictionary. Cost: i steps. */
const aq_pickle_value *aq_pickle_item(const aq_pickle *p, const aq_pickle_value *of, uint32_t i);

#endif
