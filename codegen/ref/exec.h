/* exec.h: what the files that interpret graphs share: graph.c (bodies, memory), graph_ops.c (maps, reductions, views, gathers), graph_dot.c
 * (contractions), graph_attend.c (caches). Nobody else includes it. */
#ifndef AQ_CODEGEN_REF_EXEC_H
#define AQ_CODEGEN_REF_EXEC_H

#include "codegen/ref/ref.h"

/* Memory that several values may share (views, state versions): freed with its last user. */
typedef struct aq_ref_buffer {
    int64_t users;
    void *mem;
} aq_ref_buffer;

/* A value: t as ref.h says. Where t.values is NULL, t.blocks are stored bytes of type `stored` in row-major order; a lazy cast has another
 * t.dtype than `stored`. owner NULL: somebody else's memory. */
typedef struct aq_ref_val {
    aq_ref_tensor t;
    aq_dtype stored;
    aq_ref_buffer *owner;
} aq_ref_val;

typedef struct aq_ref_exec {
    const aq_module *m;
    const aq_ref_env *env;
    aq_arena arena;
    aq_ref_val *val;   /* by value id */
    uint32_t *left;    /* by value id: uses to come */
} aq_ref_exec;

/* Elements; never overflows for a value that was allocated. */
int64_t aq_ref_count(const aq_ref_tensor *t);
aq_ref_val *aq_ref_in(aq_ref_exec *x, const aq_node *n, int i);

/* The result of node n: dims from its type, fresh zeroed values (FLOAT, INT) or blocks (ACT). Already in x->val. */
AQ_MUST_USE aq_status aq_ref_result(aq_ref_exec *x, const aq_node *n, aq_ref_val **out);
/* The result shares the storage of `of`, with the dims of its own type. */
AQ_MUST_USE aq_status aq_ref_share(aq_ref_exec *x, const aq_node *n, aq_ref_val *of, aq_ref_val **out);
/* Fresh values for v (dims set). */
AQ_MUST_USE aq_status aq_ref_own(aq_ref_val *v);
void aq_ref_drop(aq_ref_val *v);

/* Before memory of a state's version is written into: a copy for it if it has readers to come besides the node at hand. */
AQ_MUST_USE aq_status aq_ref_keep_old(aq_ref_exec *x, aq_id version);

/* dst[0..n) = elements first .. of v. */
void aq_ref_load(const aq_ref_val *v, int64_t first, int64_t n, double *dst);
/* All elements as doubles: v's own values or a copy decoded into *scratch, which the caller frees with aq_mem_free (NULL if none). */
AQ_MUST_USE aq_status aq_ref_doubles(const aq_ref_val *v, double **scratch, const double **out);

/* One function an op, ref_ID; a row of ops.def without one does not link. */
#define OP(id, axes, infer, grad, traits, doc) aq_status aq_ref_op_##id(aq_ref_exec *x, const aq_node *n);
#include "ir/ops.def"
#undef OP

#endif
