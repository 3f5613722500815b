/* kv.h: the paged cache: which page holds which positions of which sequence, and the arrays of a batch (ir/batch.def) that tell the kernels.
 *
 * Rows of the cache states are dealt out in pages of AQ_PAGE. Every sequence can always reach its limit (pages = sequences * pages a
 * sequence), so a step never fails for want of a page. Host memory only; the kernels see the arrays. */
#ifndef AQ_RUNTIME_KV_H
#define AQ_RUNTIME_KV_H

#include "ir/layout.h"
#include "ir/status.h"

enum {
#define FIELD(name, n_dims, dim0, dim1, doc) AQ_FIELD_##name,
#include "ir/batch.def"
#undef FIELD
    AQ_FIELD_COUNT
};

typedef struct aq_run { /* tokens [first, first + n) of a step belong to sequence `seq` */
    int64_t seq, first, n;
} aq_run;

typedef struct aq_kv {
    int64_t sequences, per_sequence; /* pages a sequence */
    int64_t *length;  /* positions of each sequence */
    int64_t *held;    /* pages of each sequence */
    int32_t *table;   /* [sequences][per_sequence] */
    int32_t *spare;   /* stack of free pages */
    int64_t n_spare;
    int32_t *field[AQ_FIELD_COUNT]; /* filled for a step */
} aq_kv;

/* All sequences empty. */
void aq_kv_clear(aq_kv *kv);

/* Gives the sequences of the runs pages for their new tokens and fills the arrays: row b of start, rows, len, pages is runs[b]. Lengths
 * do not move yet. Every run fits (the caller checked). */
void aq_kv_fill(aq_kv *kv, const aq_run *runs, int64_t n_runs);
/* The step is done: the lengths move; or it was stopped: pages without positions go back. */
void aq_kv_commit(aq_kv *kv, const aq_run *runs, int64_t n_runs);
void aq_kv_undo(aq_kv *kv, const aq_run *runs, int64_t n_runs);

/* 0 <= length <= what it holds. Frees the pages behind. */
void aq_kv_truncate(aq_kv *kv, int64_t seq, int64_t length);

#endif
