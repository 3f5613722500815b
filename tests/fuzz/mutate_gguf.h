/* mutate_gguf.h: changes of a GGUF file by its parts: counts, keys, types, lengths, values, the shape, type and place of a tensor. */
#ifndef AQ_TESTS_FUZZ_MUTATE_GGUF_H
#define AQ_TESTS_FUZZ_MUTATE_GGUF_H

#include "tests/fuzz/mutate.h"

enum { GGUF_HEAD = 24, MOST_RECORDS = 512, GGUF_STRING_TYPE = 8, GGUF_ARRAY_TYPE = 9, GGUF_TYPE_COUNT = 13 };

typedef struct gguf_record {
    size_t from, value, end; /* value: where the type of a key's value stands; of a tensor, its number of axes */
    int is_tensor;
} gguf_record;

static inline size_t gguf_value_end(const edit *e, uint64_t type, size_t at, int depth) {
    static const uint8_t size[GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type >= GGUF_TYPE_COUNT || at > e->n)
        return 0;
    if (size[type])
        return at + size[type];
    uint64_t n = get_bytes(e, at + (type == GGUF_ARRAY_TYPE ? 4 : 0), 8);
    if (n > e->n)
        return 0;
    if (type == GGUF_STRING_TYPE)
        return at + 8 + n;
    uint64_t element = get_bytes(e, at, 4);
    at += 12;
    if (element < GGUF_TYPE_COUNT && size[element])
        return at + n * size[element];
    for (uint64_t i = 0; i < n && at && at <= e->n && depth < 8; i++)
        at = gguf_value_end(e, element, at, depth + 1);
    return at;
}

/* As far as the file makes sense. */
static inline uint32_t gguf_records(const edit *e, gguf_record *out) {
    uint64_t tensors = get_bytes(e, 8, 8), keys = get_bytes(e, 16, 8), length;
    size_t at = GGUF_HEAD;
    uint32_t n = 0;
    for (uint64_t i = 0; i < keys + tensors && n < MOST_RECORDS; i++) {
        gguf_record r = {.from = at, .is_tensor = i >= keys};
        length = get_bytes(e, at, 8);
        if (at + 12 > e->n || length > e->n - at - 12)
            break;
        r.value = at + 8 + length;
        uint64_t first = get_bytes(e, r.value, 4);
        r.end = !r.is_tensor ? gguf_value_end(e, first, r.value + 4, 0) : first <= 8 ? r.value + 16 + 8 * first : 0;
        if (!r.end || r.end > e->n)
            break;
        out[n++] = r;
        at = r.end;
    }
    return n;
}

static inline void gguf_count(edit *e, int is_tensor, int64_t more) {
    size_t at = is_tensor ? 8 : 16;
    uint64_t n = get_bytes(e, at, 8) + (uint64_t)more;
    if (roll(e, 12))
        set_bytes(e, at, &n, 8);
}

static inline void gguf_change_key(edit *e, const gguf_record *r) {
    uint64_t x = telling(e), type = get_bytes(e, r->value, 4);
    uint32_t other = (uint32_t)roll(e, GGUF_TYPE_COUNT + 1);
    switch (roll(e, 5)) {
    case 0: set_bytes(e, r->value, &other, 4); break;
    case 1: set_bytes(e, r->value + 4 + (type == GGUF_ARRAY_TYPE ? 4 : 0), &x, 8); break; /* a length, or a number and what follows */
    case 2: mutate_part(e, r->value + 4 + (type == GGUF_ARRAY_TYPE || type == GGUF_STRING_TYPE ? 8 : 0), r->end); break;
    case 3: {
        float f = (float)x;
        set_bytes(e, r->value + 4, type == 6 ? (void *)&f : (void *)&x, r->end - r->value - 4 < 8 ? r->end - r->value - 4 : 8);
        break;
    }
    default:
        if (type == GGUF_ARRAY_TYPE && get_bytes(e, r->value + 4, 4) == GGUF_STRING_TYPE && roll(e, 2)) { /* a string of a list: its length with its bytes */
            size_t at = r->value + 16;
            for (size_t skip = roll(e, 8); skip-- && at + 8 <= r->end;)
                at += 8 + (size_t)get_bytes(e, at, 8);
            uint64_t n = get_bytes(e, at, 8), made = roll(e, 5);
            if (at + 8 <= r->end && n <= r->end - at - 8 && splice(e, at + 8, (size_t)n, "ab \xC4\xA0", (size_t)made))
                set_bytes(e, at, &made, 8);
        } else {
            mutate_part(e, r->from + 8, r->value); /* the name: its length stays wrong at times */
        }
    }
}

static inline void gguf_change_tensor(edit *e, const gguf_record *r) {
    uint64_t rank = get_bytes(e, r->value, 4), x = telling(e);
    uint32_t type = (uint32_t)roll(e, 42);
    switch (roll(e, 5)) {
    case 0: x = roll(e, 6); set_bytes(e, r->value, &x, 4); break;
    case 1: set_bytes(e, r->value + 4 + 8 * roll(e, rank), &x, 8); break;
    case 2: set_bytes(e, r->value + 4 + 8 * rank, &type, 4); break;
    case 3: x = roll(e, 2) ? x : 32 * roll(e, 64); set_bytes(e, r->end - 8, &x, 8); break;
    default: mutate_part(e, r->from + 8, r->value);
    }
}

static inline void gguf_change(edit *e) {
    static gguf_record records[MOST_RECORDS];
    static uint8_t copy[1 << 14];
    uint32_t n = gguf_records(e, records);
    uint64_t x = telling(e);
    if (n == 0) {
        mutate_part(e, 0, e->n);
        return;
    }
    const gguf_record *r = &records[roll(e, n)], *other = &records[roll(e, n)];
    size_t bytes = other->end - other->from;
    switch (roll(e, 10)) {
    case 0: /* a record goes */
        splice(e, r->from, r->end - r->from, "", 0);
        gguf_count(e, r->is_tensor, -1);
        return;
    case 1: /* another stands there too, or in its place */
        if (bytes <= sizeof copy && other->is_tensor == r->is_tensor) {
            memcpy(copy, e->p + other->from, bytes);
            int instead = roll(e, 2) != 0;
            if (splice(e, r->from, instead ? r->end - r->from : 0, copy, bytes) && !instead)
                gguf_count(e, r->is_tensor, 1);
        }
        return;
    case 2: set_bytes(e, roll(e, 2) ? 8 : 16, &x, 8); return;
    default:
        if (r->is_tensor)
            gguf_change_tensor(e, r);
        else
            gguf_change_key(e, r);
    }
}

static inline size_t mutate_gguf(edit *e) {
    if (e->n < GGUF_HEAD || roll(e, 8) == 0)
        mutate_part(e, 0, e->n);
    else
        for (size_t times = 1 + roll(e, 3); times--;)
            gguf_change(e);
    return e->n;
}

#endif
