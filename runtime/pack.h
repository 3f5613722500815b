/* pack.h: the work behind a binding: hash the stored tensors, write them in the plan's layouts; both on all workers of a team.
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
    aq_digest content;
} aq_pack_job;

/* XXH3-128 of each tensor's bytes (a tree over pieces of 4 MiB, so that one large tensor is shared too) into job.content. */
AQ_MUST_USE aq_status aq_pack_hash(aq_team *team, aq_pack_job *jobs, uint32_t n);

/* Everything into `block`, zeroed. progress as in aq_rt_weights_bind. */
AQ_MUST_USE aq_status aq_pack_run(aq_team *team, const aq_pack_job *jobs, uint32_t n, void *block, void (*progress)(void *, uint64_t, uint64_t),
                                  void *progress_user);

/* cache_file.c: the packed block of these jobs in `folder`. The key: recipes and contents of all jobs. */
typedef struct aq_cache_key {
    aq_digest digest;
    char path[4096];
} aq_cache_key;
AQ_MUST_USE aq_status aq_cache_name(const char *folder, const aq_pack_job *jobs, uint32_t n, aq_cache_key *out);

/* Maps the file and checks its head, its size and samples of every weight. AQ_REFUSED: there is none or it is damaged (then it has to be
 * written again). *out_block: the packed block inside the mapping. */
struct aq_file;
AQ_MUST_USE aq_status aq_cache_open(const aq_cache_key *key, const aq_pack_job *jobs, uint32_t n, struct aq_file *out_file, const void **out_block);
AQ_MUST_USE aq_status aq_cache_write(const char *folder, const aq_cache_key *key, const aq_pack_job *jobs, uint32_t n, const void *block);

#endif
