/* op.c: the tables of the language as data: ops, monoids, attributes, fields of a batch. One row each in their .def file; here they only
 * become arrays. Nothing is listed twice: the arity of an op is counted off its axes string; the few ops whose axes are a rule of their
 * own ("$...") have it in special[]. The counting is done once, before main (C cannot count inside a literal at compile time).
 * Lookups by name are linear: the tables are short and texts are read once. */
#include "ir/graph.h"

#include <string.h>

enum { /* the words of the traits column */
    MAP = AQ_MAP,
    COMMUTES = AQ_COMMUTES,
    REDUCE = AQ_REDUCE,
    CONTRACT = AQ_CONTRACT,
    VIEW = AQ_VIEW,
    GATHER = AQ_GATHER,
    STATE = AQ_STATE,
    ROUNDS = AQ_ROUNDS,
    COMPOSITE = AQ_COMPOSITE,
    REGION = AQ_REGION,
    INDEX = AQ_INDEX
};

static aq_op_info ops[AQ_OP_COUNT] = {
    {"none", "", "", "no op", 0, 0},
#define OP(id, axes, infer, grad, traits, doc) {#id, axes, #infer, doc, traits, 0},
#include "ir/ops.def"
#undef OP
};

/* Inputs of the ops whose axes string is a rule. */
static const struct {
    const char *axes;
    uint8_t arity;
} special[] = {{"$spec", 2},  {"$append", 3},    {"$attend", 4},  {"$heads", 1}, {"$merge", 1},
               {"$slice", 1}, {"$transpose", 1}, {"$reshape", 1}, {"$field", 1}, {"$region", AQ_MAX_IN + 1}};

static uint8_t arity_of(const char *axes) {
    uint8_t n = 1;
    if (*axes == '$') {
        for (size_t i = 0; i < sizeof special / sizeof *special; i++)
            if (!strcmp(special[i].axes, axes))
                return special[i].arity;
        return 0; /* a row without a rule: the test of the table fails */
    }
    for (; *axes && *axes != '-'; axes++)
        n += *axes == ',';
    return n;
}

__attribute__((constructor)) static void count_arities(void) {
    for (int i = 1; i < AQ_OP_COUNT; i++)
        ops[i].arity = arity_of(ops[i].axes);
}

const aq_op_info *aq_op_of(aq_op op) { return &ops[op]; }

static int same(const char *word, const char *name, size_t n) { return strlen(word) == n && !memcmp(word, name, n); }

aq_op aq_op_by_name(const char *name, size_t n) {
    for (int i = 1; i < AQ_OP_COUNT; i++)
        if (same(ops[i].name, name, n))
            return (aq_op)i;
    return AQ_OP_NONE;
}

static const aq_monoid_info monoids[] = {
#define MONOID(id, text, parts, doc) {#id, text, parts},
#include "ir/reduce.def"
#undef MONOID
};

const aq_monoid_info *aq_monoid_of(aq_monoid m) { return &monoids[m]; }

static const struct {
    const char *name;
    aq_attr_kind kind;
} attrs[] = {
    {"none", AQ_ATTR_KIND_NUM},
#define ATTR(key, kind, doc) {#key, AQ_ATTR_KIND_##kind},
#include "ir/attrs.def"
#undef ATTR
};

const char *aq_attr_name(aq_attr_key key) { return attrs[key].name; }
aq_attr_kind aq_attr_kind_of(aq_attr_key key) { return attrs[key].kind; }

aq_attr_key aq_attr_by_name(const char *name, size_t n) {
    for (int i = 1; i < AQ_ATTR_COUNT; i++)
        if (same(attrs[i].name, name, n))
            return (aq_attr_key)i;
    return AQ_ATTR_NONE;
}

static const aq_batch_field fields[] = {
#define FIELD(name, n_dims, dim0, dim1, doc) {#name, n_dims, {#dim0, #dim1}},
#include "ir/batch.def"
#undef FIELD
};
enum { FIELDS = sizeof fields / sizeof *fields };

int aq_batch_field_by_name(const char *name, size_t n) {
    for (int i = 0; i < FIELDS; i++)
        if (same(fields[i].name, name, n))
            return i;
    return -1;
}

const aq_batch_field *aq_batch_field_of(int i) { return i >= 0 && i < FIELDS ? &fields[i] : NULL; }
