/* cache_file.c: packed weights on disk, one file a model and recipe.
 *
 *   the packed block | zeros up to a multiple of 4096 | where each piece ends and its two sums (pack.h) | tail (64 bytes)
 *
 * The name is the key: recipes and contents. Offsets and sizes follow from the plan, so the file says nothing that could lie about them. A
 * file that is there was complete when it got its name (written beside, synced, renamed); what can go wrong afterwards is a disk or a user:
 * opening compares size and tail, the sums with their own sum, and the ends of four pieces of every weight (its first and last, two
 * within): of 20 GB it looks at 14 MB (from a cold disk the kernel reads the 2 MiB around each look, which decoding needs next; asked to read
 * less, it would keep small pages there for good). Such a file is written again. aq_rt_cache_file_check looks at every byte (`aquila show cache --check`).
 * Two processes that pack at once write two temporary files with the same bytes; the later rename wins and harms nobody. Whoever has a file
 * mapped keeps it when it is removed. Opening sets its time, so that the least recently used can be told.
 *
 * Large pages decide about the speed of decoding here too: read through 4 KiB pages, weights came at 11 to 25 GB/s of 30 (a virtual machine,
 * whose page walks are twice as deep). The kernel maps a file by 2 MiB where its cache holds such pieces: it does if the bytes were written
 * in large writes, as below, or were read in after MADV_HUGEPAGE. So there is no copy into memory of our own.
 * Dropped: that copy (as fast, but 20 ms at a start, and memory that processes cannot share); checking all of the packed bytes at every
 * start, which would double what it reads; the head in front of the block (its sums are known only when the last byte is). */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include "ir/arena.h"
#include "ir/file.h"
#include "runtime/aquila_rt.h"
#include "runtime/pack.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

enum { VERSION = 2, PAGE = 4096, LOOKS = 4 };

typedef struct tail {
    char magic[8];
    uint32_t version, reserved;
    uint64_t pieces;
    aq_digest key;
    uint64_t size; /* of the file */
    uint64_t sums; /* XXH3-64 of the sums before */
    uint64_t own;  /* XXH3-64 of the bytes of this tail before it */
} tail;
_Static_assert(sizeof(tail) == 64, "the tail of a cache file");

/* What decides about the packed bytes. */
typedef struct recipe {
    uint32_t version, dtype, layout, rank;
    int64_t dim[4], head_dim;
    uint64_t bytes;
    aq_digest content;
} recipe;

aq_status aq_cache_name(const char *folder, const aq_pack_list *l, aq_cache_key *out) {
    aq_digest chain = {VERSION, l->n};
    for (uint32_t i = 0; i < l->n; i++) {
        const aq_pack_job *j = &l->jobs[i];
        struct {
            aq_digest before;
            recipe r;
        } link = {chain, {VERSION, j->to->dtype, j->to->layout, j->to->rank, {0}, j->head_dim, j->to->bytes, j->content}};
        memcpy(link.r.dim, j->to->dim, sizeof link.r.dim);
        XXH128_hash_t h = XXH3_128bits(&link, sizeof link);
        chain = (aq_digest){h.low64, h.high64};
    }
    out->digest = chain;
    int length = snprintf(out->path, sizeof out->path, "%s/%016" PRIx64 "%016" PRIx64 ".aqw", folder, chain.high, chain.low);
    if (length < 0 || (size_t)length >= sizeof out->path)
        return aq_fail(AQ_FAILED, folder, "the name is too long");
    return AQ_OK;
}

static uint64_t block_bytes(const aq_pack_list *l) { return l->jobs[l->n].offset; }
static uint64_t pieces_of(const aq_pack_list *l) { return (uint64_t)l->jobs[l->n].first; }
static uint64_t sums_at(uint64_t block) { return (block + PAGE - 1) / PAGE * PAGE; }

static tail make_tail(const aq_cache_key *key, const aq_pack_list *l, const aq_pack_sums *sums) {
    tail t = {.magic = "AQWEIGH", .version = VERSION, .pieces = pieces_of(l), .key = key->digest};
    t.size = sums_at(block_bytes(l)) + t.pieces * sizeof *sums + sizeof t;
    t.sums = XXH3_64bits(sums, t.pieces * sizeof *sums);
    t.own = XXH3_64bits(&t, offsetof(tail, own));
    return t;
}

static int same_ends(const aq_pack_list *l, int64_t i, const unsigned char *block, const aq_pack_sums *sums) {
    uint64_t begin, end;
    aq_pack_extent(l, i, &begin, &end);
    return aq_pack_sum_ends(block + begin, end - begin) == sums[i].ends;
}

static aq_status check(const aq_cache_key *key, const aq_pack_list *l, const aq_file *f) {
    uint64_t at = sums_at(block_bytes(l)), size = at + pieces_of(l) * sizeof(aq_pack_sums) + sizeof(tail);
    if (f->size != size)
        return aq_fail(AQ_REFUSED, key->path, "size: %zu bytes: expected %" PRIu64, f->size, size);
    const aq_pack_sums *sums = (const aq_pack_sums *)(const void *)(f->bytes + at);
    tail t = make_tail(key, l, sums);
    if (memcmp(&t, f->bytes + size - sizeof t, sizeof t) != 0)
        return aq_fail(AQ_REFUSED, key->path, "tail: differs from the one expected");
    for (uint32_t j = 0; j < l->n; j++) {
        int64_t first = l->jobs[j].first, last = l->jobs[j + 1].first - 1;
        for (int64_t k = 0, before = -1; k < LOOKS; k++) {
            int64_t i = first + (last - first) * k / (LOOKS - 1);
            if (i != before && !same_ends(l, i, f->bytes, sums))
                return aq_fail(AQ_REFUSED, key->path, "weight %u: its bytes differ from those written", l->jobs[j].weight);
            before = i;
        }
    }
    return AQ_OK;
}

aq_status aq_cache_open(const aq_cache_key *key, const aq_pack_list *l, aq_file *out_file, const void **out_block) {
    aq_file f;
    AQ_TRY(aq_file_map(key->path, &f));
    if (f.size)
        (void)madvise((void *)(uintptr_t)f.bytes, f.size, MADV_HUGEPAGE); /* only advice */
    aq_status status = check(key, l, &f);
    if (status != AQ_OK) {
        aq_file_unmap(&f);
        return status;
    }
    aq_file_touch(key->path);
    *out_file = f;
    *out_block = f.bytes;
    return AQ_OK;
}

/* ---- writing ---- */

static aq_status put(void *user, const void *bytes, uint64_t n) { return aq_file_append(user, bytes, (size_t)n); }

static aq_status write_file(const aq_cache_key *key, aq_team *team, const aq_pack_list *l, aq_pack_to *to, aq_file_writer *w) {
    static const char zeros[PAGE];
    to->put = put;
    to->user = w;
    AQ_TRY(aq_pack_run(team, l, to));
    AQ_TRY(aq_file_append(w, zeros, (size_t)(sums_at(block_bytes(l)) - block_bytes(l))));
    AQ_TRY(aq_file_append(w, to->sums, (size_t)(pieces_of(l) * sizeof *to->sums)));
    tail t = make_tail(key, l, to->sums);
    return aq_file_append(w, &t, sizeof t);
}

aq_status aq_cache_write(const char *folder, const aq_cache_key *key, aq_team *team, const aq_pack_list *l, const aq_pack_to *how) {
    aq_arena arena = {0};
    aq_pack_to to = *how;
    aq_file_writer *w = NULL;
    aq_status status;
    void *at;
    AQ_TRY(aq_file_make_folder(folder));
    uint64_t room = aq_folder_room(folder), wanted = block_bytes(l) + pieces_of(l) * sizeof *to.sums + ((uint64_t)16 << 20);
    if (room < wanted)
        return aq_fail(AQ_FAILED, folder, "%.2f GiB are free: expected %.2f GiB", (double)room / 0x1p30, (double)wanted / 0x1p30);
    AQ_TRY_GOTO(status, close, aq_arena_alloc(&arena, (size_t)pieces_of(l), sizeof *to.sums, &at));
    to.sums = at;
    AQ_TRY_GOTO(status, close, aq_file_create_as(key->path, 0666, 0, &w));
    AQ_TRY_GOTO(status, close, write_file(key, team, l, &to, w));
    aq_file_writer *done = w;
    w = NULL;
    status = aq_file_commit(done);
close:
    aq_file_abandon(w);
    aq_arena_close(&arena);
    return status;
}

/* ---- looking after files ---- */

static aq_status every_byte(const char *path, const aq_file *f, const tail *t) {
    const aq_pack_sums *sums = (const aq_pack_sums *)(const void *)(f->bytes + f->size - sizeof *t - t->pieces * sizeof *sums);
    uint64_t at = 0, most = f->size - sizeof *t - t->pieces * sizeof *sums;
    for (uint64_t i = 0, end; i < t->pieces; i++, at = end)
        if ((end = sums[i].end) < at || end > most || aq_pack_sum_all(f->bytes + at, end - at) != sums[i].all)
            return aq_fail(AQ_REFUSED, path, "piece %" PRIu64 " of %" PRIu64 ": its bytes differ from those written", i, t->pieces);
    return AQ_OK;
}

static aq_status check_alone(const char *path, const aq_file *f, int full, int *out_current) {
    tail t;
    *out_current = 0;
    if (f->size < sizeof t)
        return AQ_OK;
    memcpy(&t, f->bytes + f->size - sizeof t, sizeof t);
    if (memcmp(t.magic, "AQWEIGH", 8) != 0 || t.version != VERSION)
        return AQ_OK;
    *out_current = 1;
    size_t sums = t.pieces <= (f->size - sizeof t) / sizeof(aq_pack_sums) ? t.pieces * sizeof(aq_pack_sums) : SIZE_MAX;
    if (t.own != XXH3_64bits(&t, offsetof(tail, own)) || t.size != f->size || sums == SIZE_MAX || (f->size - sizeof t - sums) % PAGE != 0 ||
        t.sums != XXH3_64bits(f->bytes + f->size - sizeof t - sums, sums))
        return aq_fail(AQ_REFUSED, path, "tail: damaged");
    return full ? every_byte(path, f, &t) : AQ_OK;
}

aq_status aq_rt_cache_file_check(const char *path, int full, int *out_current) {
    aq_file f;
    AQ_TRY(aq_file_map(path, &f));
    aq_status status = check_alone(path, &f, full, out_current);
    aq_file_unmap(&f);
    return status;
}
