/* arena.h: memory that is freed all at once: one arena per compile, per model, per request.
 *
 * Pointers stay valid until aq_arena_close; nothing is freed singly. Memory comes zeroed. A failed allocation leaves the
 * arena as it was. Cost: a pointer bump; blocks double from 64 KiB to 8 MiB. */
#ifndef AQ_IR_ARENA_H
#define AQ_IR_ARENA_H

#include "ir/status.h"

typedef struct aq_arena {
    struct aq_arena_block *block; /* newest; NULL while empty, so a zeroed aq_arena is an open, empty arena */
    size_t total;
} aq_arena;

/* *out gets count * size zeroed bytes aligned to 16. */
AQ_MUST_USE aq_status aq_arena_alloc(aq_arena *a, size_t count, size_t size, void **out);

/* A NUL-terminated copy of s[0..n). */
AQ_MUST_USE aq_status aq_arena_string(aq_arena *a, const char *s, size_t n, const char **out);
AQ_MUST_USE aq_status aq_arena_format(aq_arena *a, const char **out, const char *format, ...) AQ_PRINTF(3, 4);

void aq_arena_close(aq_arena *a);

/* AQ_ALLOC(arena, p, n): p = n zeroed elements of *p's type, or return the failure. */
#define AQ_ALLOC(arena, p, n)                                                                                          \
    do {                                                                                                               \
        void *aq_alloc_;                                                                                               \
        AQ_TRY(aq_arena_alloc((arena), (size_t)(n), sizeof *(p), &aq_alloc_));                                         \
        (p) = aq_alloc_;                                                                                               \
    } while (0)

/* A growable array in an arena: AQ_VEC(T) is a struct type; aq_vec_grow makes room for one more and is what AQ_PUSH uses.
 * Elements move when the vector grows: keep indices, not pointers. */
#define AQ_VEC(T)                                                                                                      \
    struct {                                                                                                           \
        T *at;                                                                                                         \
        uint32_t n, room;                                                                                              \
    }
AQ_MUST_USE aq_status aq_vec_grow(aq_arena *a, void **at, uint32_t n, uint32_t *room, size_t size);
#define AQ_PUSH(arena, vec, ...)                                                                                       \
    do {                                                                                                               \
        void *aq_at_ = (vec)->at;                                                                                      \
        AQ_TRY(aq_vec_grow((arena), &aq_at_, (vec)->n, &(vec)->room, sizeof *(vec)->at));                              \
        (vec)->at = aq_at_;                                                                                            \
        (vec)->at[(vec)->n++] = __VA_ARGS__;                                                                           \
    } while (0)

#endif
