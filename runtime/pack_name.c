/* pack_name.c: what names the contents of a tensor in the key of a packed file.
 *
 *   made when bound (random, another type, merged)   what its maker says: the recipe and the contents it starts from
 *   of a file with a stamp (size, time of change)    the stamp, the tensor's bytes and 16 samples of 4 KiB
 *   other memory                                     XXH3-128 of all of it
 *
 * A start must not read 20 GB to learn that nothing has changed: that would throw the packed weights out of memory just before they are
 * needed. So a file is believed to be the same if its size, its time of change (nanoseconds) and the samples are; whoever edits weights in
 * place and sets the old time back has to empty the cache (`aquila show cache --clear`). A file that was copied without its time is packed once more. */
#define XXH_INLINE_ALL
#include "ir/arena.h"
#include "ir/file.h"
#include "runtime/pack.h"

#include <xxhash.h>

enum { SAMPLES = 16, SAMPLE = 4096 };
#define PIECE ((uint64_t)4 << 20)

typedef struct work {
    aq_team *team;
    const aq_pack_list *l;
    const int64_t *first; /* of n + 1: number of the first piece of each job */
    aq_digest *digest;    /* one a piece */
} work;

static int whole(const aq_pack_job *j) { return j->from.data && !j->from.stamp; }

static void hash_pieces(void *user, int worker) {
    work *w = user;
    uint32_t job = 0;
    (void)worker;
    for (int64_t i; (i = aq_team_take(w->team, 1)) < w->first[w->l->n];) {
        while (w->first[job + 1] <= i)
            job++;
        const aq_rt_tensor *t = &w->l->jobs[job].from;
        uint64_t at = (uint64_t)(i - w->first[job]) * PIECE;
        XXH128_hash_t h = XXH3_128bits((const char *)t->data + at, t->bytes - at < PIECE ? t->bytes - at : PIECE);
        w->digest[i] = (aq_digest){h.low64, h.high64};
    }
}

static aq_digest sampled(const aq_rt_tensor *t) {
    XXH128_hash_t h = XXH3_128bits_withSeed(&t->bytes, sizeof t->bytes, t->stamp);
    for (uint64_t i = 0; i < SAMPLES; i++) {
        uint64_t n = t->bytes < SAMPLE ? t->bytes : SAMPLE;
        h = XXH3_128bits_withSeed((const char *)t->data + (t->bytes - n) / (SAMPLES - 1) * i, n, h.low64 ^ (h.high64 << 1 | h.high64 >> 63));
        if (t->bytes <= SAMPLE)
            break;
    }
    aq_file_forget_at(t->data, t->bytes); /* around each page that is touched the kernel maps 15 more: of a small model that is all of it */
    return (aq_digest){h.low64, h.high64};
}

static aq_status name_whole(aq_team *team, aq_pack_list *l, aq_arena *arena) {
    work w = {.team = team, .l = l};
    int64_t *first;
    AQ_ALLOC(arena, first, l->n + 1);
    for (uint32_t i = 0; i < l->n; i++)
        first[i + 1] = first[i] + (whole(&l->jobs[i]) ? (int64_t)((l->jobs[i].from.bytes + PIECE - 1) / PIECE) : 0);
    if (!first[l->n])
        return AQ_OK;
    AQ_ALLOC(arena, w.digest, first[l->n]);
    w.first = first;
    aq_team_run(team, hash_pieces, &w);
    for (uint32_t i = 0; i < l->n; i++)
        if (whole(&l->jobs[i])) {
            XXH128_hash_t h = XXH3_128bits(w.digest + first[i], (size_t)(first[i + 1] - first[i]) * sizeof *w.digest);
            l->jobs[i].content = (aq_digest){h.low64, h.high64};
        }
    return AQ_OK;
}

aq_status aq_pack_name(aq_team *team, aq_pack_list *l) {
    aq_arena arena = {0};
    for (uint32_t i = 0; i < l->n; i++) {
        aq_pack_job *j = &l->jobs[i];
        if (!j->from.data)
            j->content = (aq_digest){j->from.content[0], j->from.content[1]};
        else if (j->from.stamp)
            j->content = sampled(&j->from);
    }
    aq_status status = name_whole(team, l, &arena);
    aq_arena_close(&arena);
    return status;
}
