/* aquila_rt.h: load a plan, bind weights, run. C99, no third-party type; links libc only. (One of the two public headers.)
 *
 *   aq_rt_plan_load -> aq_rt_weights_bind -> aq_rt_session_open -> { aq_rt_batch_... aq_rt_step } -> close in the other order
 *
 * Steps allocate nothing. One session is used by one thread at a time; plan and weights may be shared by sessions. */
#ifndef AQUILA_RT_H
#define AQUILA_RT_H

#include "ir/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct aq_plan;
typedef struct aq_rt_plan aq_rt_plan;
typedef struct aq_rt_weights aq_rt_weights;
typedef struct aq_rt_session aq_rt_session;

/* Maps and checks an .aqp file, loads its code (own ELF loader; pages become read+execute only), checks that this processor has the
 * features of the plan's target (AQ_MISSING names the feature). */
AQ_MUST_USE aq_status aq_rt_plan_load(const char *path, aq_rt_plan **out);
/* The same from memory; `bytes` (64-byte aligned) must outlive the plan. */
AQ_MUST_USE aq_status aq_rt_plan_from_memory(const char *name, const void *bytes, size_t size, aq_rt_plan **out);
void aq_rt_plan_close(aq_rt_plan *p);
const struct aq_plan *aq_rt_plan_tables(const aq_rt_plan *p); /* ir/plan.h */
int aq_rt_plan_is_ours(const aq_rt_plan *p); /* it was loaded from a file that only this user or root can have written: a plan is code */

/* Where the bytes of a weight come from: fills in the stored tensor of that house name. dtype: the enum of ir/dtype.h; dim: its shape.
 * rotate_half: rows of each head still have to be interleaved. Returns AQ_REFUSED if there is none.
 * A tensor is either there (data) or made a few rows at a time: rows(maker, first, count, out) writes rows [first, first + count) as they
 * would be stored (of one axis: elements), is called by several threads at once, and always gives the same; content then names what it
 * gives. stamp: not 0 says that data is part of a file that has not changed as long as the stamp and samples of the tensor are the same;
 * otherwise all of data is hashed. */
typedef struct aq_rt_tensor {
    const void *data;
    size_t bytes;
    uint32_t dtype, rank;
    int64_t dim[4];
    int rotate_half;
    aq_status (*rows)(const void *maker, int64_t first, int64_t count, void *out);
    const void *maker;
    uint64_t content[2], stamp;
} aq_rt_tensor;
typedef aq_status (*aq_rt_tensor_source)(void *user, const char *name, aq_rt_tensor *out);

/* Binds every weight of the plan: as stored ones point into the source's memory (which must outlive the binding), others are packed by
 * their recipe on `threads` threads into `cache_folder` (one file a model, keyed by the contents of the tensors and the recipes, written
 * window by window beside and renamed, mapped; NULL or a disk without room: into memory). Checks dtype and shape of each. progress may be
 * NULL: called with done and all bytes. AQ_NO_MEMORY beforehand where the packed weights would have to be in memory and are larger than it. */
AQ_MUST_USE aq_status aq_rt_weights_bind(const aq_rt_plan *p, aq_rt_tensor_source source, void *user, const char *cache_folder, int threads,
                                         void (*progress)(void *user, uint64_t done, uint64_t all), void *progress_user, aq_rt_weights **out);
void aq_rt_weights_close(aq_rt_weights *w);
/* Why the packed weights were not kept in the cache folder, one line; NULL if there is nothing to say. */
const char *aq_rt_weights_note(const aq_rt_weights *w);

/* A file of packed weights by itself: *out_current: of the version that this runtime writes (others are never opened again); AQ_REFUSED:
 * damaged. full: every byte is looked at. */
AQ_MUST_USE aq_status aq_rt_cache_file_check(const char *path, int full, int *out_current);

/* What binding from this source will take, nothing is bound: bytes to be packed (a file in the cache folder, or memory) and bytes that are
 * used where they are. */
AQ_MUST_USE aq_status aq_rt_weights_measure(const aq_rt_plan *p, aq_rt_tensor_source source, void *user, uint64_t *out_packed, uint64_t *out_mapped);

typedef struct aq_rt_limits {
    int64_t context;    /* positions a sequence can hold; rounded up to pages */
    int64_t sequences;  /* B */
    int64_t batch;      /* T: most tokens a step takes; longer prompts go in chunks */
    int64_t outputs;    /* O: most rows of logits a step gives */
    int threads;
} aq_rt_limits;

/* The exact bytes that aq_rt_session_open with these limits allocates, by kind; equal to what it does, byte for byte. */
typedef struct aq_rt_memory {
    uint64_t cache, activations, local, tables, total;
    uint64_t weights_packed, weights_mapped, plan; /* of the binding and the plan, for the sum a user wants; not in total */
} aq_rt_memory;
AQ_MUST_USE aq_status aq_rt_memory_of(const aq_rt_plan *p, const aq_rt_limits *limits, aq_rt_memory *out);

AQ_MUST_USE aq_status aq_rt_session_open(const aq_rt_plan *p, const aq_rt_weights *w, const aq_rt_limits *limits, aq_rt_session **out);
void aq_rt_session_close(aq_rt_session *s);
uint64_t aq_rt_session_bytes(const aq_rt_session *s); /* allocated; equals aq_rt_memory.total */

/* Feeds n tokens of sequence `seq` (0 .. sequences-1) behind what it holds, in chunks of at most `batch`; gives logits [n_want, V] f32 of the
 * last n_want of them (n_want <= outputs and <= batch; pointer valid until the next call). AQ_REFUSED: no room left (names the limit), a
 * token out of range; nothing was fed then. AQ_INTERRUPTED: the chunks that were done stay (aq_rt_length), nothing of the others. With
 * n = 0 it only says whether an interrupt is waiting, and takes it. */
AQ_MUST_USE aq_status aq_rt_feed(aq_rt_session *s, int64_t seq, const int32_t *tokens, int64_t n, int64_t n_want, const float **out_logits);

/* One step of several sequences: row i is token tokens[i] of sequence seq[i] (equal ones together); logits of each row with want[i]. */
AQ_MUST_USE aq_status aq_rt_step(aq_rt_session *s, const int32_t *tokens, const int64_t *seq, const uint8_t *want, int64_t n, const float **out_logits);

int64_t aq_rt_length(const aq_rt_session *s, int64_t seq);
/* Forgets positions from `length` on (0: all); frees their pages. */
AQ_MUST_USE aq_status aq_rt_truncate(aq_rt_session *s, int64_t seq, int64_t length);
/* Asks a running feed or step (or else the next one) to stop with AQ_INTERRUPTED; callable from a signal handler. It stops between two
 * phases of a kernel: within milliseconds. */
void aq_rt_interrupt(aq_rt_session *s);

/* --- sampling (aquila.md section 4): temperature, top k (ties at the k-th kept), top p on the cumulative probability BEFORE a token ------- */
typedef struct aq_rt_sampling {
    double temperature, top_p; /* 0 = greedy */
    int64_t top_k;             /* 0 = all */
    uint64_t seed;
    int order;                 /* 0: temperature, top k, top p. 1 (aquila2): top p (dropped where that probability reaches it), top k, then temperature */
} aq_rt_sampling;
typedef struct aq_rt_sampler aq_rt_sampler;
AQ_MUST_USE aq_status aq_rt_sampler_open(const aq_rt_sampling *how, int64_t vocab, aq_rt_sampler **out);
/* Token and its log-probability under the model (temperature 1, nothing cut). Same seed, same logits: same tokens. */
int32_t aq_rt_sample(aq_rt_sampler *s, const float *logits, double *out_logprob);
/* The log-probability alone, of any token. */
double aq_rt_logprob(const aq_rt_sampler *s, const float *logits, int32_t id);
void aq_rt_sampler_close(aq_rt_sampler *s);

/* Per step times of the last feed or step, for bench and trace: kernel name and nanoseconds. n = 0 unless tracing is on. */
void aq_rt_trace(aq_rt_session *s, int on);
typedef struct aq_rt_trace_row {
    const char *kernel;
    int32_t layer;
    uint32_t count;
    int64_t ns;
} aq_rt_trace_row;
uint32_t aq_rt_trace_rows(const aq_rt_session *s, aq_rt_trace_row *out, uint32_t room);

/* --- the machine ------------------------------------------------------------------------------------------------------------------- */

/* What `threads` threads reach together here, best of several rounds of `seconds` (0.3 is enough) for each figure; 0: the processor has no
 * such instruction. Operations: a multiply and an add are two. */
typedef struct aq_rt_peaks {
    double read_gb_per_s; /* from 512 MiB, which it allocates for the time */
    double f32_gflops, bf16_gflops, int16_gops, int8_gops;
} aq_rt_peaks;
AQ_MUST_USE aq_status aq_rt_limits_measure(int threads, double seconds, aq_rt_peaks *out);

#ifdef __cplusplus
}
#endif
#endif
