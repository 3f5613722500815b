/* cache_file.c: packed weights on disk, one file a model and recipe.
 *
 *   header (64 bytes) | one 64-bit hash of samples a weight | zeros up to a multiple of 4096 | the packed block
 *
 * The name is the key: recipes and contents. Offsets and sizes follow from the plan, so the file says nothing that could lie about them. A
 * file that is there was complete when it got its name (written beside, synced, renamed); what can go wrong afterwards is a disk or a user,
 * and samples of every weight (its ends and two places within) catch what a look at the size does not. Such a file is written again.
 * Two processes that pack at once write two temporary files with the same bytes; the later rename wins and harms nobody.
 *
 * Large pages decide about the speed of decoding here too: read through 4 KiB pages, weights came at 11 to 25 GB/s of 30 (a virtual machine,
 * whose page walks are twice as deep). The kernel maps a file by 2 MiB where its cache holds such pieces: it does if the bytes were written
 * in one large write, as below, or were read in after MADV_HUGEPAGE. So there is no copy into memory of our own.
 * Dropped: that copy (as fast, but 20 ms at a start, and memory that processes cannot share); checking all of the packed bytes, which would
 * double what a start reads. */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include "ir/arena.h"
#include "ir/file.h"
#include "runtime/pack.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

enum { VERSION = 1, PAGE = 4096, SAMPLES = 4 };

typedef struct head {
    char magic[8];
    uint32_t version, n;
    aq_digest key;
    uint64_t size;    /* of the file */
    uint64_t samples; /* XXH3-64 of the hashes that follow */
    uint64_t reserved[2];
} head;
_Static_assert(sizeof(head) == 64, "the head of a cache file");

/* What decides about the packed bytes. */
typedef struct recipe {
    uint32_t version, dtype, layout, rank;
    int64_t dim[4], head_dim;
    uint64_t bytes;
    aq_digest content;
} recipe;

aq_status aq_cache_name(const char *folder, const aq_pack_job *jobs, uint32_t n, aq_cache_key *out) {
    aq_digest chain = {VERSION, n};
    for (uint32_t i = 0; i < n; i++) {
        struct {
            aq_digest before;
            recipe r;
        } link = {chain, {VERSION, jobs[i].to->dtype, jobs[i].to->layout, jobs[i].to->rank, {0}, jobs[i].head_dim, jobs[i].to->bytes, jobs[i].content}};
        memcpy(link.r.dim, jobs[i].to->dim, sizeof link.r.dim);
        XXH128_hash_t h = XXH3_128bits(&link, sizeof link);
        chain = (aq_digest){h.low64, h.high64};
    }
    out->digest = chain;
    int length = snprintf(out->path, sizeof out->path, "%s/%016" PRIx64 "%016" PRIx64 ".aqw", folder, chain.high, chain.low);
    if (length < 0 || (size_t)length >= sizeof out->path)
        return aq_fail(AQ_FAILED, folder, "the name is too long");
    return AQ_OK;
}

static uint64_t block_start(uint32_t n) { return (sizeof(head) + (uint64_t)n * 8 + PAGE - 1) / PAGE * PAGE; }
static uint64_t block_size(const aq_pack_job *jobs, uint32_t n) { return jobs[n - 1].offset + jobs[n - 1].to->bytes; }

static uint64_t sample(const unsigned char *at, uint64_t bytes) {
    uint64_t hash = bytes;
    if (bytes <= SAMPLES * PAGE)
        return XXH3_64bits_withSeed(at, bytes, hash);
    for (uint64_t i = 0; i < SAMPLES; i++)
        hash = XXH3_64bits_withSeed(at + (bytes - PAGE) * i / (SAMPLES - 1), PAGE, hash);
    return hash;
}

static head make_head(const aq_cache_key *key, const aq_pack_job *jobs, uint32_t n, const uint64_t *samples) {
    head h = {.magic = "AQWEIGH", .version = VERSION, .n = n, .key = key->digest};
    h.size = block_start(n) + block_size(jobs, n);
    h.samples = XXH3_64bits(samples, n * sizeof *samples);
    return h;
}

static aq_status check(const aq_cache_key *key, const aq_pack_job *jobs, uint32_t n, const aq_file *f) {
    uint64_t start = block_start(n);
    if (f->size != start + block_size(jobs, n))
        return aq_fail(AQ_REFUSED, key->path, "size: %zu bytes: expected %" PRIu64, f->size, start + block_size(jobs, n));
    const uint64_t *samples = (const uint64_t *)(const void *)(f->bytes + sizeof(head));
    head h = make_head(key, jobs, n, samples);
    if (memcmp(&h, f->bytes, sizeof h) != 0)
        return aq_fail(AQ_REFUSED, key->path, "header: differs from the one expected");
    for (uint32_t i = 0; i < n; i++)
        if (sample(f->bytes + start + jobs[i].offset, jobs[i].to->bytes) != samples[i])
            return aq_fail(AQ_REFUSED, key->path, "weight %u: its bytes differ from those written", jobs[i].weight);
    return AQ_OK;
}

aq_status aq_cache_open(const aq_cache_key *key, const aq_pack_job *jobs, uint32_t n, aq_file *out_file, const void **out_block) {
    aq_file f;
    AQ_TRY(aq_file_map(key->path, &f));
    if (f.size)
        (void)madvise((void *)(uintptr_t)f.bytes, f.size, MADV_HUGEPAGE); /* only advice */
    aq_status status = check(key, jobs, n, &f);
    if (status != AQ_OK) {
        aq_file_unmap(&f);
        return status;
    }
    *out_file = f;
    *out_block = f.bytes + block_start(n);
    return AQ_OK;
}

aq_status aq_cache_write(const char *folder, const aq_cache_key *key, const aq_pack_job *jobs, uint32_t n, const void *block) {
    static const char zeros[PAGE];
    aq_arena arena = {0};
    aq_file_writer *w = NULL;
    aq_status status;
    void *at;
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, n, sizeof(uint64_t), &at));
    uint64_t *samples = at;
    for (uint32_t i = 0; i < n; i++)
        samples[i] = sample((const unsigned char *)block + jobs[i].offset, jobs[i].to->bytes);
    head h = make_head(key, jobs, n, samples);
    AQ_TRY_GOTO(status, close, aq_file_make_folder(folder));
    AQ_TRY_GOTO(status, close, aq_file_create(key->path, &w));
    AQ_TRY_GOTO(status, close, aq_file_append(w, &h, sizeof h));
    AQ_TRY_GOTO(status, close, aq_file_append(w, samples, n * sizeof *samples));
    AQ_TRY_GOTO(status, close, aq_file_append(w, zeros, block_start(n) - sizeof h - n * sizeof *samples));
    AQ_TRY_GOTO(status, close, aq_file_append(w, block, block_size(jobs, n)));
    aq_file_writer *done = w;
    w = NULL;
    status = aq_file_commit(done);
close:
    aq_file_abandon(w);
    aq_arena_close(&arena);
    return status;
}
