/* fuzz_plan.c: any bytes as a plan, with the hash mended so that the verifier is what is tested: refused in one line; or its tables written
 * again give the same bytes, and a session of it opens and steps, with kernels that do nothing, inside the memory that was foretold. */
#define XXH_INLINE_ALL
#include "ir/memory.h"
#include "ir/plan_file.h"
#include "runtime/internal.h"
#include "tests/fuzz/mutate.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static const aq_plan *now;
static unsigned char zeros[1 << 20];

static void nothing(void *const *buf, const int64_t *sym, void *local, int64_t begin, int64_t end) {
    (void)buf, (void)local;
    if (begin < 0 || end < begin || sym[AQ_SYM_NONE] != 1)
        abort();
}

static aq_kernel find(void *user, const char *symbol) {
    (void)user;
    return strlen(symbol) ? nothing : NULL;
}

static aq_status zero_tensor(void *user, const char *name, aq_rt_tensor *out) {
    (void)user;
    for (uint32_t i = 0; i < now->n_weights; i++) {
        const aq_plan_weight *w = &now->weights[i];
        if (strcmp(now->strings + w->name, name) != 0)
            continue;
        size_t elements = 1;
        *out = (aq_rt_tensor){.data = zeros, .dtype = w->dtype, .rank = w->rank, .rotate_half = w->head_dim > 0};
        memcpy(out->dim, w->dim, sizeof out->dim);
        for (uint32_t k = 0; k < w->rank; k++)
            AQ_TRY(aq_size_mul(elements, (size_t)w->dim[k], "fuzz", &elements));
        AQ_TRY(aq_dtype_bytes((aq_dtype)w->dtype, elements, "fuzz", &out->bytes));
        return out->bytes <= sizeof zeros ? AQ_OK : aq_fail(AQ_REFUSED, "fuzz", "too large");
    }
    abort();
}

static void run(const aq_rt_plan *p) {
    aq_rt_limits limits = {.context = 100, .sequences = 2, .batch = 5, .outputs = 2, .threads = 1};
    aq_rt_memory m;
    aq_rt_weights *w = NULL;
    aq_rt_session *s = NULL;
    static const int32_t tok[7];
    if (aq_rt_memory_of(p, &limits, &m) != AQ_OK || m.total + m.weights_packed > (uint64_t)16 << 20)
        return;
    if (aq_rt_weights_bind(p, zero_tensor, NULL, NULL, 1, NULL, NULL, &w) == AQ_OK && aq_rt_session_open(p, w, &limits, &s) == AQ_OK) {
        if (aq_rt_session_bytes(s) != m.total || aq_rt_feed(s, 1, tok, 7, 1, NULL) != AQ_OK)
            abort();
        aq_rt_session_close(s);
    }
    aq_rt_weights_close(w);
}

/* A field of a record of some table (the target mends the hash): a number that goes wrong, a neighbour's, or that of the record before; or two
 * records change places. Counts and offsets in the directory are left right but for one time in sixteen. */
static void change_record(edit *e) {
    size_t table = roll(e, AQ_TABLE_COUNT), entry = sizeof(aq_plan_header) + table * sizeof(aq_plan_entry);
    uint64_t from = get_bytes(e, entry, 8), count = get_bytes(e, entry + 8, 8), record = get_bytes(e, entry + 16, 4), x = telling(e);
    if (count == 0 || record == 0 || from > e->n || count > (e->n - from) / record)
        return;
    size_t one = from + roll(e, count) * record, other = from + roll(e, count) * record, width = record % 8 == 0 && roll(e, 2) ? 8 : record % 4 == 0 ? 4 : 1;
    size_t field = roll(e, record / width) * width;
    switch (roll(e, 5)) {
    case 0: set_bytes(e, one + field, &x, width); break;
    case 1: x = roll(e, 2 * count + 4); set_bytes(e, one + field, &x, width); break;
    case 2: memmove(e->p + one + field, e->p + other + field, width); break;
    case 3: memmove(e->p + one, e->p + other, record); break;
    default: x = get_bytes(e, one + field, width) + (roll(e, 2) ? 1 : UINT64_MAX); set_bytes(e, one + field, &x, width);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    edit e = edit_open(data, size, max_size, seed);
    if (size < sizeof(aq_plan_header) + AQ_TABLE_COUNT * sizeof(aq_plan_entry) || roll(&e, 16) == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    for (size_t times = 1 + roll(&e, 3); times--;)
        change_record(&e);
    if (roll(&e, 16) == 0) {
        uint64_t x = telling(&e);
        set_bytes(&e, sizeof(aq_plan_header) + roll(&e, AQ_TABLE_COUNT * 3) * 8, &x, 8);
    }
    return e.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    aq_arena arena = {0};
    aq_rt_plan *p;
    unsigned char *copy = aligned_alloc(64, (n + 127) & ~(size_t)63), *again;
    size_t size;
    if (n)
        memcpy(copy, bytes, n);
    if (n >= 64) {
        uint64_t hash = XXH3_64bits(copy + 64, n - 64);
        memcpy(copy + offsetof(aq_plan_header, hash), &hash, sizeof hash);
    }
    aq_status status = aq_rt_plan_from_functions("f", copy, n, find, NULL, &p);
    if (status != AQ_OK && (status != AQ_REFUSED || strchr(aq_error(), '\n')))
        abort();
    if (status == AQ_OK) {
        now = aq_rt_plan_tables(p);
        if (aq_plan_write(now, &arena, &again, &size) != AQ_OK || size != n || memcmp(copy, again, n) != 0)
            abort();
        if (p->step)
            run(p);
        aq_rt_plan_close(p);
    }
    aq_arena_close(&arena);
    free(copy);
    if (aq_mem_open_blocks())
        abort();
    return 0;
}
