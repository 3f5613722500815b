/* mutate_protobuf.h: changes of a protobuf message by its fields, to any depth: a field goes, comes twice, gets another number, wire or value; the lengths
 * around what changed are mended, mostly. */
#ifndef AQ_TESTS_FUZZ_MUTATE_PROTOBUF_H
#define AQ_TESTS_FUZZ_MUTATE_PROTOBUF_H

#include "tests/fuzz/mutate.h"

enum { MOST_FIELDS = 512, MOST_DEPTH = 3, PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5, PB_ROOM = 10 };

/* tag: where it begins; length: where the length of bytes stands, or the value; body: the value. */
typedef struct pb_field {
    size_t tag, length, body, end;
    unsigned wire;
} pb_field;

static inline size_t pb_get(const edit *e, size_t at, size_t to, uint64_t *out) {
    *out = 0;
    for (size_t i = 0; i < PB_ROOM && at + i < to; i++) {
        *out |= (uint64_t)(e->p[at + i] & 127) << 7 * i;
        if (!(e->p[at + i] & 128))
            return i + 1;
    }
    return 0;
}

static inline size_t pb_put(uint8_t out[PB_ROOM], uint64_t x) {
    size_t n = 0;
    for (; x > 127 && n < PB_ROOM - 1; x >>= 7)
        out[n++] = (uint8_t)(x | 128);
    out[n++] = (uint8_t)x;
    return n;
}

/* The fields of [from, to), as far as they make sense. */
static inline uint32_t pb_fields(const edit *e, size_t from, size_t to, pb_field *out) {
    uint32_t n = 0;
    for (size_t at = from; at < to && n < MOST_FIELDS; at = out[n++].end) {
        uint64_t tag, x;
        size_t k = pb_get(e, at, to, &tag), m;
        pb_field f = {.tag = at, .length = at + k, .body = at + k, .wire = (unsigned)tag & 7};
        if (!k || (f.wire != PB_VARINT && f.wire != PB_FIXED64 && f.wire != PB_BYTES && f.wire != PB_FIXED32))
            break;
        if (f.wire == PB_VARINT || f.wire == PB_BYTES) {
            if (!(m = pb_get(e, f.body, to, &x)) || (f.wire == PB_BYTES && x > to - f.body - m))
                break;
            f.body += f.wire == PB_BYTES ? m : 0;
            f.end = f.wire == PB_BYTES ? f.body + (size_t)x : f.body + m;
        } else {
            f.end = f.body + (f.wire == PB_FIXED64 ? 8 : 4);
        }
        if (f.end > to)
            break;
        out[n] = f;
    }
    return n;
}

static inline void mutate_fields(edit *e, size_t from, size_t to, int depth);

static inline void pb_change_value(edit *e, const pb_field *f, int depth) {
    uint8_t bytes[PB_ROOM];
    size_t before = e->n;
    uint64_t x = telling(e);
    if (f->wire == PB_VARINT) {
        splice(e, f->body, f->end - f->body, bytes, pb_put(bytes, roll(e, 2) ? x : roll(e, 8)));
        return;
    }
    if (f->wire != PB_BYTES) {
        const float some[] = {0, -1, 1e30f, -0.0f, (float)x};
        if (roll(e, 2))
            memcpy(&x, &some[roll(e, 5)], sizeof *some);
        set_bytes(e, f->body, &x, f->wire == PB_FIXED64 ? 8 : 4);
        return;
    }
    if (depth < MOST_DEPTH && roll(e, 3))
        mutate_fields(e, f->body, f->end, depth + 1);
    else
        mutate_part(e, f->body, f->end);
    if (roll(e, 16))
        splice(e, f->length, f->body - f->length, bytes, pb_put(bytes, f->end - f->body + e->n - before));
}

static inline void mutate_fields(edit *e, size_t from, size_t to, int depth) {
    static pb_field room[MOST_DEPTH + 1][MOST_FIELDS];
    static uint8_t copy[1 << 12];
    uint8_t bytes[2 * PB_ROOM];
    pb_field *fields = room[depth];
    uint32_t n = pb_fields(e, from, to, fields);
    if (n == 0) {
        mutate_part(e, from, to);
        return;
    }
    const pb_field *f = &fields[roll(e, n)], *other = &fields[roll(e, n)];
    size_t k;
    switch (roll(e, 10)) {
    case 0: splice(e, f->tag, f->end - f->tag, "", 0); return;
    case 1: /* another stands there too, or in its place */
        if (other->end - other->tag <= sizeof copy) {
            memcpy(copy, e->p + other->tag, other->end - other->tag);
            splice(e, f->tag, roll(e, 2) ? f->end - f->tag : 0, copy, other->end - other->tag);
        }
        return;
    case 2: /* a new number */
        k = pb_put(bytes, roll(e, 46) << 3);
        k += pb_put(bytes + k, roll(e, 2) ? roll(e, 8) : telling(e));
        splice(e, f->tag, 0, bytes, k);
        return;
    case 3: /* another number or wire for what is there */
        splice(e, f->tag, f->length - f->tag, bytes, pb_put(bytes, roll(e, 46) << 3 | (roll(e, 4) ? f->wire : roll(e, 8))));
        return;
    default: pb_change_value(e, f, depth);
    }
}

#endif
