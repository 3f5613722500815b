/* test_memory.c: what `aquila memory` foretells is what opening a session asks for, byte for byte. This program defines the door to memory
 * (ir/memory.h) itself, so it sees the size of every request; nothing in it comes from ir/memory.c. */
#define _GNU_SOURCE
#include "ir/memory.h"
#include "tests/runtime/tiny.h"

#include <sys/mman.h>

static uint64_t asked;  /* bytes, since it was set to 0 */
static uint64_t held;   /* bytes not given back */
static long blocks, calls;

typedef struct head {
    _Alignas(64) size_t size;
} head;

aq_status aq_mem_alloc(size_t size, void **out) {
    head *h = aligned_alloc(64, sizeof(head) + ((size + 63) & ~(size_t)63));
    memset(h, 0, sizeof(head) + size);
    h->size = size;
    asked += size, held += size, blocks++, calls++;
    *out = h + 1;
    return AQ_OK;
}

void aq_mem_free(void *block) {
    if (!block)
        return;
    head *h = (head *)block - 1;
    held -= h->size, blocks--;
    free(h);
}

aq_status aq_mem_resize(void **block, size_t old_size, size_t new_size) {
    void *p;
    AQ_TRY(aq_mem_alloc(new_size, &p));
    if (*block)
        memcpy(p, *block, old_size < new_size ? old_size : new_size);
    aq_mem_free(*block);
    *block = p;
    return AQ_OK;
}

aq_status aq_mem_map(size_t size, void **out) {
    *out = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(size > 0 && *out != MAP_FAILED);
    asked += size, held += size, blocks++, calls++;
    return AQ_OK;
}

void aq_mem_unmap(void *block, size_t size) {
    if (!block)
        return;
    held -= size, blocks--;
    munmap(block, size);
}

void aq_mem_fail_after(long nth) { (void)nth; }
long aq_mem_open_blocks(void) { return blocks; }
long aq_mem_allocations(void) { return calls; }

static void foretold_is_asked_for(void **state) {
    (void)state;
    static tiny model;
    aq_arena arena = {0};
    aq_rt_weights *w;
    tiny_make(&model, 1);
    aq_rt_plan *p = tiny_plan(&arena);
    assert_ok(aq_rt_weights_bind(p, tiny_source, &model, NULL, 1, NULL, NULL, &w));
    const aq_rt_limits limits[] = {{1, 1, 1, 1, 1}, {100, 1, 1, 1, 1}, {1000, 3, 1, 1, 2}, {64, 100, 100, 100, 1}, {5000, 7, 513, 9, 5}, {1 << 20, 1, 4096, 1, 2}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        aq_rt_memory m;
        aq_rt_session *s;
        int32_t tok[100] = {0};
        asked = 0;
        assert_ok(aq_rt_memory_of(p, &limits[i], &m));
        assert_int_equal(asked, 0); /* foretelling takes nothing */
        uint64_t before = held;
        assert_ok(aq_rt_session_open(p, w, &limits[i], &s));
        if (asked != m.total || held - before != m.total)
            fail_msg("limits %zu: %llu bytes foretold, %llu asked for, %llu held", i, (unsigned long long)m.total, (unsigned long long)asked,
                     (unsigned long long)(held - before));
        assert_int_equal(m.total, m.cache + m.activations + m.local + m.tables);
        assert_int_equal(aq_rt_session_bytes(s), m.total);
        int64_t pages = (limits[i].context + AQ_PAGE - 1) / AQ_PAGE;
        assert_int_equal(m.cache, pages * AQ_PAGE * limits[i].sequences * TINY_D * 4);
        assert_int_equal(m.local, 128 * limits[i].threads);
        assert_true(m.activations >= (uint64_t)(limits[i].batch * 3 * TINY_D * 4 + limits[i].outputs * TINY_V * 4));
        assert_int_equal(m.plan, p->tables.size);
        assert_int_equal(m.weights_mapped, sizeof model.emb + sizeof model.norm);
        asked = 0;
        assert_ok(aq_rt_feed(s, 0, tok, limits[i].context < 100 ? limits[i].context : 100, 1, NULL));
        assert_int_equal(asked, 0);
        aq_rt_session_close(s);
        assert_int_equal(held, before);
    }
    aq_rt_weights_close(w);
    aq_rt_plan_close(p);
    aq_arena_close(&arena);
    assert_int_equal(blocks, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(foretold_is_asked_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
