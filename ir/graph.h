/* graph.h: the language in memory: modules, values, nodes, bodies.
 *
 * A module holds symbols, weights (@name), states ($name), graphs and nests. A body is an ordered list of nodes with parameters and
 * results: a graph is a body, a region (op `fused`) has one. Everything is a 32-bit index into the module's tables (0 = none), so
 * passes build new node lists and never chase pointers. Memory is the module's arena; nothing is freed singly.
 *
 * State is SSA: `append` takes a version and yields the next; the verifier allows one successor a version. */
#ifndef AQ_IR_GRAPH_H
#define AQ_IR_GRAPH_H

#include "ir/arena.h"
#include "ir/dtype.h"
#include "ir/layout.h"

typedef uint32_t aq_id;
enum { AQ_MAX_RANK = 4, AQ_MAX_IN = 4 };

typedef enum aq_op {
    AQ_OP_NONE = 0,
#define OP(id, axes, infer, grad, traits, doc) AQ_OP_##id,
#include "ir/ops.def"
#undef OP
    AQ_OP_COUNT
} aq_op;

enum {
    AQ_MAP = 1, AQ_COMMUTES = 2, AQ_REDUCE = 4, AQ_CONTRACT = 8, AQ_VIEW = 16, AQ_GATHER = 32, AQ_STATE = 64, AQ_ROUNDS = 128,
    AQ_COMPOSITE = 256, AQ_REGION = 512, AQ_INDEX = 1024
};

typedef struct aq_op_info {
    const char *name, *axes, *infer, *doc;
    uint32_t traits;
    uint8_t arity; /* counted off `axes`; for $rules set in the table of op.c; AQ_MAX_IN + 1 = any (fused) */
} aq_op_info;
const aq_op_info *aq_op_of(aq_op op);
aq_op aq_op_by_name(const char *name, size_t n); /* AQ_OP_NONE if there is none */

typedef enum aq_monoid {
#define MONOID(id, text, parts, doc) AQ_MONOID_##id,
#include "ir/reduce.def"
#undef MONOID
    AQ_MONOID_COUNT
} aq_monoid;
typedef struct aq_monoid_info {
    const char *name, *text;
    uint8_t parts;
} aq_monoid_info;
const aq_monoid_info *aq_monoid_of(aq_monoid m);

typedef enum aq_attr_key {
    AQ_ATTR_NONE = 0,
#define ATTR(key, kind, doc) AQ_ATTR_##key,
#include "ir/attrs.def"
#undef ATTR
    AQ_ATTR_COUNT
} aq_attr_key;

typedef enum aq_attr_kind { AQ_ATTR_KIND_NUM, AQ_ATTR_KIND_FLAG, AQ_ATTR_KIND_DTYPE, AQ_ATTR_KIND_TEXT, AQ_ATTR_KIND_DIMS } aq_attr_kind;
const char *aq_attr_name(aq_attr_key key); /* total for 0 < key < AQ_ATTR_COUNT */
aq_attr_kind aq_attr_kind_of(aq_attr_key key);
aq_attr_key aq_attr_by_name(const char *name, size_t n); /* AQ_ATTR_NONE if there is none */

/* The arrays of a batch by their row in batch.def: -1 if there is none of that name; NULL past the end. dims: names of symbols. */
typedef struct aq_batch_field {
    const char *name;
    uint8_t rank;
    const char *dim[2];
} aq_batch_field;
int aq_batch_field_by_name(const char *name, size_t n);
const aq_batch_field *aq_batch_field_of(int i);

/* A size: k, or k * symbol. Sums do not occur. */
typedef struct aq_dim {
    int64_t k;
    aq_id sym;
} aq_dim;

typedef struct aq_attr {
    aq_attr_key key;
    double num;       /* NUM, FLAG (1) and DTYPE (the enum) */
    const char *text; /* TEXT */
    uint8_t n_dims;   /* DIMS */
    aq_dim dim[AQ_MAX_RANK];
} aq_attr;

/* A tensor, or a batch record (is_batch; dtype and rank then mean nothing). */
typedef struct aq_type {
    aq_dtype dtype;
    uint8_t rank, is_batch;
    aq_dim dim[AQ_MAX_RANK];
} aq_type;

/* A free symbol: bound when a step runs (T tokens, O wanted rows, B sequences) or when a session opens (S slots, P pages a
 * sequence). Symbols of a config are numbers by the time a text is in memory. */
typedef struct aq_sym {
    const char *name;
    int64_t lo, hi; /* inclusive bounds */
} aq_sym;

typedef enum aq_value_kind { AQ_VALUE_RESULT = 1, AQ_VALUE_PARAM, AQ_VALUE_WEIGHT, AQ_VALUE_STATE, AQ_VALUE_CONST } aq_value_kind;

typedef struct aq_value {
    aq_value_kind kind;
    aq_type type;
    const char *name; /* without its sigil; unique in its body; NULL = printed by number */
    aq_id node;       /* RESULT: who makes it */
    aq_id index;      /* RESULT: which result; WEIGHT, STATE: index of its row in weights/states */
    aq_id state;      /* versions of a state (results of append, region params and results that carry one): index of the row + 1 */
    aq_id origin;     /* the value of the model text that it computes through every pass; itself if it is one */
    double number;    /* CONST */
} aq_value;

typedef struct aq_node {
    aq_op op;
    uint8_t n_in, n_out, n_attr; /* fused: n_in up to 255 */
    aq_id in;                    /* first of n_in ids in module->inputs */
    aq_id out;                   /* first of n_out consecutive values */
    aq_id attr;                  /* first of n_attr in module->attrs */
    aq_id body;                  /* fused */
    int32_t layer;               /* of `repeat`, -1 outside */
    uint32_t line, column;       /* in the model text; 0 = made by a pass */
} aq_node;

struct aq_schedule; /* nest.h */
struct aq_nest;

typedef struct aq_body {
    const char *name;          /* graph name; region: kernel name once it has one */
    uint8_t is_region;
    AQ_VEC(aq_id) params;      /* values */
    AQ_VEC(aq_id) nodes;       /* in a legal order */
    AQ_VEC(aq_id) results;     /* values */
    struct aq_schedule *schedule; /* region: how, if said or chosen */
    const char *by_nest;       /* region: `by nest @name` */
    struct aq_cost *cost;      /* region: what `cost` found (passes/cost.h); not part of the text */
} aq_body;

/* A weight or a state of the module. Unrolled by `repeat`: name "wq.3", base "wq", layer 3. */
typedef struct aq_weight {
    const char *name, *base;
    int32_t layer;
    aq_id value;
    aq_layout layout;      /* set by `layout`; ROWS = as stored */
    uint8_t rotate_half;   /* the recipe interleaves the rows of each head (import says so) */
    int64_t head_dim;      /* for that */
    const char *alias;     /* tied: the weight whose storage this is, or NULL */
} aq_weight;
typedef struct aq_state {
    const char *name, *base;
    int32_t layer;
    aq_id value;           /* version 0 */
    aq_layout layout;
} aq_state;

/* What a pass decided about an edge, for --explain: the value, the node that reads it, and why they share a kernel or do not. */
typedef struct aq_note {
    aq_id value, reader;
    uint8_t fused;
    const char *why;
} aq_note;

typedef struct aq_module {
    aq_arena arena;
    const char *file;            /* for messages */
    const char *name;
    AQ_VEC(aq_sym) syms;         /* [0] unused in this and the next five */
    AQ_VEC(aq_value) values;
    AQ_VEC(aq_node) nodes;
    AQ_VEC(aq_body) bodies;
    AQ_VEC(aq_id) inputs;
    AQ_VEC(aq_attr) attrs;
    AQ_VEC(aq_weight) weights;   /* from 0 */
    AQ_VEC(aq_state) states;     /* from 0 */
    AQ_VEC(aq_id) graphs;        /* bodies */
    AQ_VEC(struct aq_nest *) nests;
    AQ_VEC(aq_note) notes;       /* from 0; not part of the text */
    struct {
        uint32_t line, column;   /* 0, 0 = made by a pass */
        int32_t layer;           /* -1 = none */
    } at;                        /* where new nodes come from: aq_node_add and aq_region_add copy it; a pass sets it from the node it replaces */
} aq_module;

/* Opens an empty module in *m. Closing frees all it holds. */
AQ_MUST_USE aq_status aq_module_open(aq_module *m, const char *file);
void aq_module_close(aq_module *m);

AQ_MUST_USE aq_status aq_sym_add(aq_module *m, const char *name, int64_t lo, int64_t hi, aq_id *out);
aq_id aq_sym_find(const aq_module *m, const char *name, size_t n); /* 0 if none */
AQ_MUST_USE aq_status aq_value_add(aq_module *m, aq_value v, aq_id *out);
AQ_MUST_USE aq_status aq_weight_add(aq_module *m, const char *base, int32_t layer, aq_type type, aq_id *out_value);
AQ_MUST_USE aq_status aq_state_add(aq_module *m, const char *base, int32_t layer, aq_type type, aq_id *out_value);
AQ_MUST_USE aq_status aq_const_add(aq_module *m, double number, aq_id *out_value); /* f32 scalar, rank 0 */
AQ_MUST_USE aq_status aq_body_add(aq_module *m, const char *name, int is_region, aq_id *out);
const aq_body *aq_graph_find(const aq_module *m, const char *name); /* NULL if none */

/* A new node at the end of body `body` (0: in no body yet) with its result values, typed by aq_infer_node (infer.h). Attributes are
 * copied. AQ_REFUSED if the shapes do not fit. fused: use aq_region_add. */
AQ_MUST_USE aq_status aq_node_add(aq_module *m, aq_id body, aq_op op, const aq_id *in, int n_in, const aq_attr *attr, int n_attr, aq_id *out_node);
/* A `fused` node that computes `region`: one input per param, one result per result of the body, same types. */
AQ_MUST_USE aq_status aq_region_add(aq_module *m, aq_id body, aq_id region, const aq_id *in, int n_in, aq_id *out_node);

static inline const aq_id *aq_node_in(const aq_module *m, const aq_node *n) { return m->inputs.at + n->in; }
const aq_attr *aq_node_attr(const aq_module *m, const aq_node *n, aq_attr_key key); /* NULL if absent */
double aq_node_num(const aq_module *m, const aq_node *n, aq_attr_key key, double otherwise);

static inline aq_dim aq_dim_const(int64_t k) { return (aq_dim){k, 0}; }
static inline int aq_dim_same(aq_dim a, aq_dim b) { return a.k == b.k && a.sym == b.sym; }
int aq_type_same(const aq_type *a, const aq_type *b);
/* The size for given values of the symbols (bound[sym]); a product that overflows gives INT64_MAX. */
int64_t aq_dim_eval(aq_dim d, const int64_t *bound);

/* How often each value is used as an input in `body` or as its result; array of m->values.n, in the arena given. */
AQ_MUST_USE aq_status aq_body_uses(const aq_module *m, const aq_body *b, aq_arena *arena, uint32_t **out);

/* infer.c: result types of a node from its inputs; exactly n_out types written. */
AQ_MUST_USE aq_status aq_infer_node(const aq_module *m, const aq_node *n, aq_type *out);
/* Re-infers every node of every graph and region in order and demands the stored types. */
AQ_MUST_USE aq_status aq_infer_module(aq_module *m);
/* The same, but writes the types instead of demanding them (region params from the values given to them, versions from their state): for a
 * pass that changed the type of a weight or a state. */
AQ_MUST_USE aq_status aq_infer_refresh(aq_module *m);
/* verify.c: everything a module must hold: ids in range, defined before used, types, one successor a state version, block types read
 * only where allowed, regions closed (bodies use their params, weights not, constants), unique names. Run after every pass. */
AQ_MUST_USE aq_status aq_verify_module(const aq_module *m);

/* read.c: a module from text; `file` for messages. binds: values of the config symbols (`dims` of the text) by name; a config symbol
 * without a value is refused with its name. NAN: the model has none, and an attribute that is this symbol is left out. *m is opened by it and closed again on failure. */
typedef struct aq_bind {
    const char *name;
    double value;
} aq_bind;
AQ_MUST_USE aq_status aq_read_module(const char *file, const char *text, size_t n, const aq_bind *binds, int n_binds, aq_module *m);

/* print.c: text that aq_read_module takes back to the same module. Appended to out; memory from `arena`. */
typedef struct aq_text {
    aq_arena *arena;
    AQ_VEC(char) chars; /* not NUL-terminated until aq_text_end */
} aq_text;
AQ_MUST_USE aq_status aq_text_add(aq_text *t, const char *format, ...) AQ_PRINTF(2, 3);
AQ_MUST_USE aq_status aq_text_end(aq_text *t, const char **out); /* NUL-terminated */
AQ_MUST_USE aq_status aq_print_module(const aq_module *m, aq_text *out);
AQ_MUST_USE aq_status aq_print_body(const aq_module *m, aq_id body, aq_text *out);

#endif
