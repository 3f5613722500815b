/* pack.h: the work behind a binding: name the contents of the tensors, write them in the plan's layouts; both on all workers of a team.
 * For weights.c and cache_file.c only. */
#ifndef AQ_RUNTIME_PACK_H
#define AQ_RUNTIME_PACK_H

#include "ir/plan.h"
#include "runtime/aquila_rt.h"
#include "runtime/team.h"

typedef struct aq_digest {
    uint64_t low, high;
} aq_digest;

/* A weight that cannot be used as stored. */
typedef struct aq_pack_job {
    aq_rt_tensor from;
    const aq_plan_weight *to;
    int64_t head_dim; /* > 0: interleave the rows of each head */
    uint64_t offset;  /* of its `to->bytes` bytes in the packed block, a multiple of 64 */
    uint32_t weight;  /* index in the plan */
    int64_t first;    /* number of its first piece */
    aq_digest content;
} aq_pack_job;

/* jobs[n] is a sentinel whose offset and first are the block's bytes and pieces. */
typedef struct aq_pack_list {
    aq_pack_job *jobs;
    uint32_t n;
} aq_pack_list;

/* A piece is what one worker packs at a time: about a MiB of whole panels and heads, with the padding behind it. Pieces lie in the block one
 * behind the other. end: where it ends in the block; ends: XXH3 of its first and last 4 KiB; all: of all of it. */
typedef struct aq_pack_sums {
    uint64_t end, ends, all;
} aq_pack_sums;
enum { AQ_PACK_ENDS = 4096 };
uint64_t aq_pack_sum_ends(const void *bytes, uint64_t n);
uint64_t aq_pack_sum_all(const void *bytes, uint64_t n);

/* Fills in `first` of every job and the sentinel. */
void aq_pack_cut(aq_pack_list *l);
/* Where piece i lies in the block: [*begin, *end). */
void aq_pack_extent(const aq_pack_list *l, int64_t i, uint64_t *begin, uint64_t *end);

/* Names the contents of each tensor in job.content: by what its maker says; by samples, size and the file's stamp; without a stamp by XXH3-128
 * of all its bytes (a tree over pieces of 4 MiB, so that one large tensor is shared too). */
AQ_MUST_USE aq_status aq_pack_name(aq_team *team, aq_pack_list *l);

/* Packs everything, in order, window by window: each window of consecutive pieces is handed to `put` (its bytes are valid during the call).
 * With block (zeroed) there is one window, the block itself, and put may be NULL. sums: one a piece, or NULL. progress as in
 * aq_rt_weights_bind. Memory: without block a window (64 MiB, or the largest piece if that is larger), and for tensors that are made a piece
 * a worker. */
typedef struct aq_pack_to {
    void *block;
    aq_status (*put)(void *user, const void *bytes, uint64_t n);
    void *user;
    aq_pack_sums *sums;
    void (*progress)(void *user, uint64_t done, uint64_t all);
    void *progress_user;
} aq_pack_to;
AQ_MUST_USE aq_status aq_pack_run(aq_team *team, const aq_pack_list *l, const aq_pack_to *to);

/* cache_file.c: the packed block of these jobs in `folder`. The key: recipes and contents of all jobs. */
typedef struct aq_cache_key {
    aq_digest digest;
    char path[4096];
} aq_cache_key;
AQ_MUST_USE aq_status aq_cache_name(const char *folder, const aq_pack_list *l, aq_cache_key *out);

/* Maps the file and checks its head, its size and samples of every weight; marks it as used. AQ_REFUSED: there is none or it is damaged (then
 * it has to be written again). *out_block: the packed block inside the mapping. */
struct aq_file;
AQ_MUST_USE aq_status aq_cache_open(const aq_cache_key *key, const aq_pack_list *l, struct aq_file *out_file, const void **out_block);
/* Packs into the file, window by window; it has its name when every byte is on the disk. AQ_FAILED: it could not be written. */
AQ_MUST_USE aq_status aq_cache_write(const char *folder, const aq_cache_key *key, aq_team *team, const aq_pack_list *l, const aq_pack_to *how);

#endif
