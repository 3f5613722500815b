/* fuzz_cache.c: any bytes as a file of packed weights in the cache: refused, so that it is written again, or the block that was asked for, every byte
 * of it in the map. The mutator damages the file that the runtime itself writes and mends its sums, mostly: what is left to tell is what the
 * sums do not say. */
#define XXH_INLINE_ALL
#include "ir/file.h"
#include "ir/memory.h"
#include "runtime/aquila_rt.h"
#include "runtime/pack.h"
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/scratch.h"

#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { JOBS = 3, TAIL = 64, SUM = sizeof(aq_pack_sums), AT_PIECES = 16, AT_SIZE = 40, AT_SUMS = 48, AT_OWN = 56 };

static float numbers[16 * 24];
static aq_plan_weight wanted[JOBS];
static aq_pack_job jobs[JOBS + 1];
static aq_pack_list list = {jobs, JOBS};
static aq_cache_key key;
static uint8_t whole[1 << 14];
static size_t whole_bytes;

static void write_once(void) {
    static const struct {
        aq_dtype dtype;
        aq_layout layout;
        int64_t rows, columns;
    } of[JOBS] = {{AQ_F32, AQ_LAYOUT_PANEL, 16, 24}, {AQ_BF16, AQ_LAYOUT_PANEL, 32, 16}, {AQ_F16, AQ_LAYOUT_PANEL, 16, 16}};
    aq_team *team = NULL;
    aq_file f;
    const void *block;
    uint64_t at = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        numbers[i] = (float)i;
    for (int i = 0; i < JOBS; i++) {
        wanted[i] = (aq_plan_weight){.dtype = of[i].dtype, .layout = of[i].layout, .rank = 2, .dim = {of[i].rows, of[i].columns}};
        size_t bytes;
        need(aq_layout_bytes(of[i].layout, of[i].dtype, wanted[i].dim, 2, "fuzz", &bytes) == AQ_OK);
        wanted[i].bytes = bytes;
        size_t stored;
        need(aq_dtype_bytes(of[i].dtype, (size_t)(of[i].rows * of[i].columns), "fuzz", &stored) == AQ_OK);
        jobs[i] = (aq_pack_job){.from = {.data = numbers, .bytes = stored, .dtype = of[i].dtype, .rank = 2, .dim = {of[i].rows, of[i].columns}}, .to = &wanted[i], .offset = at, .weight = (uint32_t)i,
                                .content = {(uint64_t)i, 7}};
        at += (bytes + 63) / 64 * 64;
    }
    jobs[JOBS].offset = at;
    aq_pack_cut(&list);
    scratch_open();
    need(aq_cache_name(scratch_folder, &list, &key) == AQ_OK && aq_team_open(1, &team) == AQ_OK);
    need(aq_cache_write(scratch_folder, &key, team, &list, &(aq_pack_to){0}) == AQ_OK);
    aq_team_close(team);
    need(aq_cache_open(&key, &list, &f, &block) == AQ_OK && f.size <= sizeof whole);
    memcpy(whole, f.bytes, whole_bytes = f.size);
    aq_file_unmap(&f);
}

/* The sums as they would be of these bytes; which of them: all, or some. */
static void mend(edit *e) {
    if (e->n < TAIL)
        return;
    size_t tail = e->n - TAIL;
    uint64_t pieces = get_bytes(e, tail + AT_PIECES, 8), hash, size = e->n;
    if (roll(e, 4))
        set_bytes(e, tail + AT_SIZE, &size, 8);
    if (pieces <= tail / SUM && roll(e, 4)) {
        hash = XXH3_64bits(e->p + tail - pieces * SUM, pieces * SUM);
        set_bytes(e, tail + AT_SUMS, &hash, 8);
    }
    if (roll(e, 8)) {
        hash = XXH3_64bits(e->p + tail, AT_OWN);
        set_bytes(e, tail + AT_OWN, &hash, 8);
    }
}

static void change(edit *e) {
    uint64_t x = telling(e);
    size_t tail = e->n - TAIL, sums = tail > JOBS * SUM ? tail - JOBS * SUM : 0;
    switch (roll(e, 6)) {
    case 0: set_bytes(e, tail + 8 * roll(e, TAIL / 8), &x, 8); break;
    case 1: set_bytes(e, sums + 8 * roll(e, JOBS * SUM / 8), &x, 8); break;
    case 2: x = roll(e, 2 * e->n); set_bytes(e, sums + SUM * roll(e, JOBS), &x, 8); break; /* where a piece ends */
    case 3: set_bytes(e, roll(e, e->n), &x, 1 + roll(e, 8)); break;
    case 4: splice(e, roll(e, e->n), 0, "\0\0\0\0\0\0\0\0", 1 + roll(e, 8)); break;
    default: {
        size_t at = roll(e, e->n), n = 1 + roll(e, e->n - at);
        splice(e, at, roll(e, 2) ? n : 1 + roll(e, n < 64 ? n : 64), "", 0);
    }
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    if (!whole_bytes)
        write_once();
    edit e = edit_open(data, size, max_size, seed);
    if ((size < TAIL || roll(&e, 4) == 0) && whole_bytes <= max_size) {
        memcpy(data, whole, whole_bytes);
        e.n = whole_bytes;
    }
    if (e.n < TAIL)
        return LLVMFuzzerMutate(data, size, max_size);
    for (size_t times = 1 + roll(&e, 3); times-- && e.n >= TAIL;)
        change(&e);
    mend(&e);
    return e.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    aq_file f;
    const void *block;
    int current, all;
    if (!whole_bytes)
        write_once();
    FILE *to = fopen(key.path, "w");
    need(to && fwrite(data, 1, size, to) == size && fclose(to) == 0);
    aq_status status = aq_cache_open(&key, &list, &f, &block);
    need(status == AQ_OK || (status == AQ_REFUSED && *aq_error() && !strchr(aq_error(), '\n')));
    if (status == AQ_OK) {
        volatile unsigned sum = 0;
        for (size_t i = 0; i < jobs[JOBS].offset; i++)
            sum += ((const unsigned char *)block)[i];
        aq_file_unmap(&f);
    }
    aq_status looked = aq_rt_cache_file_check(key.path, 0, &current), checked = aq_rt_cache_file_check(key.path, 1, &all);
    need(current == all && (looked == AQ_OK || checked != AQ_OK));
    need(checked != AQ_OK || !all || status != AQ_OK || size != whole_bytes || memcmp(data, whole, jobs[JOBS].offset) == 0);
    need(aq_mem_open_blocks() == 0);
    return 0;
}
