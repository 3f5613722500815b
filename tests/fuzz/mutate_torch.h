/* mutate_torch.h: changes of a torch archive that keep the parts which random bytes would break first: the entries are taken out (by the reader
 * itself), the pickle, a storage or one field of the directory changes, and a whole archive is written again. One in eight is of the plain bytes. */
#ifndef AQ_TESTS_FUZZ_MUTATE_TORCH_H
#define AQ_TESTS_FUZZ_MUTATE_TORCH_H

#include "frontend/import/zip.h"
#include "tests/fuzz/mutate.h"

static inline unsigned draw(unsigned *state, unsigned below) {
    *state = *state * 1103515245u + 12345u;
    return (*state >> 8) % below;
}

typedef struct part {
    char name[64];
    uint8_t data[4096];
    size_t name_bytes, bytes;
} part;
enum { PARTS = 24, HEADER = 30, CENTRAL = 46, END = 22 };

static inline uint8_t *put(uint8_t *p, uint64_t x, int n) {
    for (int i = 0; i < n; i++)
        *p++ = i < 8 ? (uint8_t)(x >> 8 * i) : 0;
    return p;
}

/* Whole steps of a pickle, which random bytes would hardly hit. */
static const struct snippet {
    const char *bytes;
    size_t n;
} snippets[] = {
#define SNIPPET(s) {s, sizeof s - 1}
    SNIPPET("cos\nsystem\n"),   SNIPPET("ccollections\nOrderedDict\n)R"), SNIPPET("ctorch\nFloatStorage\n"), SNIPPET("ctorch\nHalfStorage\n"),
    SNIPPET("ctorch.storage\nUntypedStorage\n"), SNIPPET("ctorch._utils\n_rebuild_tensor_v2\n"), SNIPPET("ctorch._utils\n_rebuild_parameter\n"),
    SNIPPET("ctorch._utils\n_rebuild_tensor_v3\n"), SNIPPET("ctorch\nbfloat16\n"), SNIPPET("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
    SNIPPET("\x8a\x08\0\0\0\0\0\0\0\x80"), SNIPPET("J\xff\xff\xff\xff"), SNIPPET("K\x02"), SNIPPET("("), SNIPPET("t"), SNIPPET("\x85"), SNIPPET("\x86"),
    SNIPPET("\x87"), SNIPPET("}"), SNIPPET("]"), SNIPPET(")"), SNIPPET("R"), SNIPPET("Q"), SNIPPET("b"), SNIPPET("s"), SNIPPET("u"), SNIPPET("a"),
    SNIPPET("e"), SNIPPET("h\x01"), SNIPPET("q\x01"), SNIPPET("N"), SNIPPET("\x94"), SNIPPET("\x93"), SNIPPET("\x8c\x01x"), SNIPPET("X\x01\0\0\0y"),
    SNIPPET("X\x06\0\0\0module"), SNIPPET("X\x0d\0\0\0lora_A.weight"), SNIPPET("X\x0d\0\0\0lora_B.weight"), SNIPPET("."), SNIPPET("K\x01K\x02\x86"), SNIPPET("\x81"), SNIPPET("G\0\0\0\0\0\0\0\0"),
#undef SNIPPET
};

static inline void mutate_pickle(part *p, unsigned *state) {
    const struct snippet *s = &snippets[draw(state, sizeof snippets / sizeof *snippets)];
    size_t at = p->bytes ? draw(state, (unsigned)p->bytes) : 0, cut = draw(state, 3) ? 0 : draw(state, 12);
    if (draw(state, 3) == 0) {
        p->bytes = LLVMFuzzerMutate(p->data, p->bytes, sizeof p->data);
        return;
    }
    cut = cut > p->bytes - at ? p->bytes - at : cut;
    if (p->bytes - cut + s->n > sizeof p->data)
        return;
    memmove(p->data + at + s->n, p->data + at + cut, p->bytes - at - cut);
    memcpy(p->data + at, s->bytes, s->n);
    p->bytes = p->bytes - cut + s->n;
}

/* The parts as an archive; *directory gets where its entries begin. 0: no room. */
static inline size_t write_archive(const part *parts, uint32_t n, uint8_t *out, size_t most, size_t *directory) {
    size_t at[PARTS], size = END;
    uint8_t *p = out;
    for (uint32_t i = 0; i < n; i++)
        size += HEADER + CENTRAL + 2 * parts[i].name_bytes + parts[i].bytes + 16;
    if (size > most)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        at[i] = (size_t)(p - out);
        size_t pad = (16 - (at[i] + HEADER + parts[i].name_bytes) % 16) % 16;
        p = put(put(put(put(p, 0x04034b50, 4), 0, 14), parts[i].bytes, 4), parts[i].bytes, 4);
        p = put(put(p, parts[i].name_bytes, 2), pad, 2);
        memcpy(p, parts[i].name, parts[i].name_bytes);
        p = put(p + parts[i].name_bytes, 0, (int)pad);
        memcpy(p, parts[i].data, parts[i].bytes);
        p += parts[i].bytes;
    }
    *directory = (size_t)(p - out);
    for (uint32_t i = 0; i < n; i++) {
        p = put(put(put(put(p, 0x02014b50, 4), 0, 16), parts[i].bytes, 4), parts[i].bytes, 4);
        p = put(put(put(p, parts[i].name_bytes, 2), 0, 12), at[i], 4);
        memcpy(p, parts[i].name, parts[i].name_bytes);
        p += parts[i].name_bytes;
    }
    size_t bytes = (size_t)(p - out) - *directory;
    p = put(put(put(put(p, 0x06054b50, 4), 0, 4), n, 2), n, 2);
    return (size_t)(put(put(put(p, bytes, 4), *directory, 4), 0, 2) - out);
}

static inline void mutate_parts(part *parts, uint32_t *n, unsigned *state) {
    part *p = &parts[draw(state, *n)], *q = &parts[draw(state, *n)];
    switch (draw(state, 4)) {
    case 0: p->bytes = LLVMFuzzerMutate(p->data, p->bytes, sizeof p->data); break;
    case 1: memcpy(p->name, q->name, sizeof p->name); p->name_bytes = q->name_bytes; break;
    case 2: p->name_bytes = LLVMFuzzerMutate((uint8_t *)p->name, p->name_bytes, sizeof p->name); break;
    default: parts[draw(state, *n)] = parts[--*n]; break;
    }
}

static inline size_t mutate_torch(uint8_t *bytes, size_t n, size_t most, unsigned int seed) {
    static part parts[PARTS];
    aq_arena arena = {0};
    aq_zip z = {0};
    unsigned state = seed;
    uint32_t n_parts = 0;
    aq_file file = {.bytes = bytes, .size = n};
    if (draw(&state, 8) && aq_zip_open(&arena, "f", &file, &z) == AQ_OK)
        for (; n_parts < z.n && n_parts < PARTS && z.entries[n_parts].name_bytes <= sizeof parts->name && z.entries[n_parts].bytes <= sizeof parts->data; n_parts++) {
            parts[n_parts].name_bytes = z.entries[n_parts].name_bytes;
            parts[n_parts].bytes = z.entries[n_parts].bytes;
            memcpy(parts[n_parts].name, z.entries[n_parts].name, parts[n_parts].name_bytes);
            memcpy(parts[n_parts].data, z.entries[n_parts].data, parts[n_parts].bytes);
        }
    aq_arena_close(&arena);
    if (n_parts == 0)
        return LLVMFuzzerMutate(bytes, n, most);
    part *pickle = parts;
    for (uint32_t i = 0; i < n_parts; i++)
        if (parts[i].name_bytes >= 4 && memcmp(parts[i].name + parts[i].name_bytes - 4, ".pkl", 4) == 0)
            pickle = &parts[i];
    unsigned what = draw(&state, 8);
    for (unsigned times = 1 + draw(&state, 3); what < 6 && times; times--)
        mutate_pickle(pickle, &state);
    if (what == 6)
        mutate_parts(parts, &n_parts, &state);
    size_t directory, size = write_archive(parts, n_parts, bytes, most, &directory);
    if (size && what == 7)
        LLVMFuzzerMutate(bytes + directory, size - directory, size - directory);
    return size ? size : LLVMFuzzerMutate(bytes, n, most);
}

#endif
