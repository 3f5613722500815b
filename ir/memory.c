/* memory.c: malloc and mmap behind one counter that tests can make fail. */
#define _GNU_SOURCE
#include "ir/memory.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static atomic_long fail_after; /* 0 off; counts down to 1, then stays 1 and every call fails */
static atomic_long open_blocks;
static atomic_long allocations;
static atomic_size_t bytes_now, bytes_peak;

static int must_fail(void) {
    atomic_fetch_add(&allocations, 1);
    long n = atomic_load(&fail_after);
    if (n == 0)
        return 0;
    if (n == 1)
        return 1;
    atomic_fetch_sub(&fail_after, 1);
    return 0;
}

static aq_status no_memory(size_t size) { return aq_fail(AQ_NO_MEMORY, NULL, "out of memory: %zu bytes wanted", size); }

aq_status aq_mem_alloc(size_t size, void **out) {
    if (size > PTRDIFF_MAX - 64 || must_fail())
        return no_memory(size);
    size_t rounded = (size + 63) & ~(size_t)63;
    void *p = aligned_alloc(64, rounded ? rounded : 64);
    if (!p)
        return no_memory(size);
    memset(p, 0, size);
    atomic_fetch_add(&open_blocks, 1);
    size_t own = malloc_usable_size(p), now = atomic_fetch_add(&bytes_now, own) + own, peak = atomic_load(&bytes_peak);
    while (now > peak && !atomic_compare_exchange_weak(&bytes_peak, &peak, now))
        ;
    *out = p;
    return AQ_OK;
}

aq_status aq_mem_resize(void **block, size_t old_size, size_t new_size) {
    void *p;
    AQ_TRY(aq_mem_alloc(new_size, &p));
    if (*block) {
        memcpy(p, *block, old_size < new_size ? old_size : new_size);
        aq_mem_free(*block);
    }
    *block = p;
    return AQ_OK;
}

void aq_mem_free(void *block) {
    if (!block)
        return;
    atomic_fetch_sub(&open_blocks, 1);
    atomic_fetch_sub(&bytes_now, malloc_usable_size(block));
    free(block);
}

aq_status aq_mem_map(size_t size, void **out) {
    if (size == 0 || size > PTRDIFF_MAX || must_fail())
        return no_memory(size);
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return no_memory(size);
    if (size >= (size_t)4 << 20)
        (void)madvise(p, size, MADV_HUGEPAGE); /* only advice: an old kernel may refuse it */
    atomic_fetch_add(&open_blocks, 1);
    *out = p;
    return AQ_OK;
}

void aq_mem_unmap(void *block, size_t size) {
    if (!block)
        return;
    atomic_fetch_sub(&open_blocks, 1);
    munmap(block, size);
}

void aq_mem_fail_after(long nth) { atomic_store(&fail_after, nth); }
long aq_mem_open_blocks(void) { return atomic_load(&open_blocks); }
long aq_mem_allocations(void) { return atomic_load(&allocations); }

size_t aq_mem_peak(int reset) {
    if (reset)
        atomic_store(&bytes_peak, atomic_load(&bytes_now));
    return atomic_load(&bytes_peak);
}
