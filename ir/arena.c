/* arena.c: a chain of blocks, newest first. */
#include "ir/arena.h"

#include "ir/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct aq_arena_block {
    struct aq_arena_block *previous;
    size_t size, used; /* bytes of this block in all, header included */
};

static aq_status add_block(aq_arena *a, size_t need) {
    size_t size = a->block ? a->block->size * 2 : (size_t)64 << 10;
    if (size > (size_t)8 << 20)
        size = (size_t)8 << 20;
    size_t least;
    AQ_TRY(aq_size_add(need, 64, "arena", &least));
    if (size < least)
        size = least;
    void *p;
    AQ_TRY(aq_mem_alloc(size, &p));
    struct aq_arena_block *b = p;
    b->previous = a->block;
    b->size = size;
    b->used = (sizeof *b + 15) & ~(size_t)15;
    a->block = b;
    a->total += size;
    return AQ_OK;
}

aq_status aq_arena_alloc(aq_arena *a, size_t count, size_t size, void **out) {
    size_t bytes;
    AQ_TRY(aq_size_mul(count, size, "arena", &bytes));
    AQ_TRY(aq_size_add(bytes, 15, "arena", &bytes));
    bytes &= ~(size_t)15;
    if (!a->block || a->block->size - a->block->used < bytes)
        AQ_TRY(add_block(a, bytes));
    *out = (char *)a->block + a->block->used;
    a->block->used += bytes;
    return AQ_OK;
}

aq_status aq_arena_string(aq_arena *a, const char *s, size_t n, const char **out) {
    void *p;
    size_t bytes;
    AQ_TRY(aq_size_add(n, 1, "string", &bytes));
    AQ_TRY(aq_arena_alloc(a, bytes, 1, &p));
    if (n)
        memcpy(p, s, n);
    *out = p;
    return AQ_OK;
}

aq_status aq_arena_format(aq_arena *a, const char **out, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    void *p = NULL;
    aq_status status = aq_arena_alloc(a, (size_t)n + 1, 1, &p);
    if (status == AQ_OK) {
        vsnprintf(p, (size_t)n + 1, format, again);
        *out = p;
    }
    va_end(again);
    return status;
}

void aq_arena_close(aq_arena *a) {
    while (a->block) {
        struct aq_arena_block *b = a->block;
        a->block = b->previous;
        aq_mem_free(b);
    }
    a->total = 0;
}

aq_status aq_vec_grow(aq_arena *a, void **at, uint32_t n, uint32_t *room, size_t size) {
    if (n < *room)
        return AQ_OK;
    uint32_t more = *room ? *room * 2 : 8;
    if (more <= n)
        return aq_fail(AQ_NO_MEMORY, NULL, "a list is too long: %u elements", n);
    void *p;
    AQ_TRY(aq_arena_alloc(a, more, size, &p));
    if (n)
        memcpy(p, *at, (size_t)n * size);
    *at = p;
    *room = more;
    return AQ_OK;
}
