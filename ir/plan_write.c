/* plan_write.c: tables to the bytes of an .aqp file. The bytes are a function of the tables alone: no time, no path, no address. What was
 * built by code then passes the same verifier as what is read from a file (a millisecond), so that a builder's slip is found where it is
 * made and not at the user's. */
#define XXH_INLINE_ALL
#include "ir/plan_file.h"

#include <string.h>
#include <xxhash.h>

typedef struct table {
    const void *at;
    uint64_t count;
    uint32_t record;
} table;

static aq_status join_texts(const aq_plan *p, aq_arena *arena, const char **out, size_t *out_size) {
    const char *text[3] = {p->target, p->manifest, p->options};
    size_t size = 0;
    for (int i = 0; i < 3; i++)
        AQ_TRY(aq_size_add(size, (text[i] ? strlen(text[i]) : 0) + 1, "plan: texts", &size));
    char *all;
    AQ_ALLOC(arena, all, size);
    for (size_t i = 0, at = 0; i < 3; i++) {
        size_t n = text[i] ? strlen(text[i]) : 0;
        if (n)
            memcpy(all + at, text[i], n);
        at += n + 1;
    }
    *out = all;
    *out_size = size;
    return AQ_OK;
}

/* Where each table goes; *out_size is the size of the file. */
static aq_status place(const table *t, aq_plan_entry *entry, size_t *out_size) {
    size_t at = sizeof(aq_plan_header) + AQ_TABLE_COUNT * sizeof(aq_plan_entry);
    for (int i = 0; i < AQ_TABLE_COUNT; i++) {
        size_t bytes;
        AQ_TRY(aq_size_add(at, AQ_PLAN_ALIGN - 1, "plan", &at));
        at &= ~(size_t)(AQ_PLAN_ALIGN - 1);
        entry[i] = (aq_plan_entry){.offset = at, .count = t[i].count, .record = t[i].record};
        AQ_TRY(aq_size_mul(t[i].count, t[i].record, "plan", &bytes));
        AQ_TRY(aq_size_add(at, bytes, "plan", &at));
    }
    AQ_TRY(aq_size_add(at, AQ_PLAN_ALIGN - 1, "plan", &at));
    *out_size = at & ~(size_t)(AQ_PLAN_ALIGN - 1);
    return AQ_OK;
}

aq_status aq_plan_write(const aq_plan *p, aq_arena *arena, unsigned char **out_bytes, size_t *out_size) {
    const char *texts;
    size_t texts_size, size;
    AQ_TRY(join_texts(p, arena, &texts, &texts_size));
    const table t[AQ_TABLE_COUNT] = {
#define FIXED(name, type, n) [AQ_TABLE_##name] = {p->name, n, sizeof(type)},
#define TABLE(name, type, n) [AQ_TABLE_##name] = {p->name, p->n, sizeof(type)},
#define TEXTS(name) [AQ_TABLE_##name] = {texts, texts_size, 1},
#include "ir/plan_tables.def"
    };
    aq_plan_header head = {.version = AQ_PLAN_VERSION, .n_tables = AQ_TABLE_COUNT};
    aq_plan_entry entry[AQ_TABLE_COUNT];
    AQ_TRY(place(t, entry, &size));
    unsigned char *bytes;
    AQ_ALLOC(arena, bytes, size + AQ_PLAN_ALIGN);
    bytes += -(uintptr_t)bytes & (AQ_PLAN_ALIGN - 1);
    memcpy(bytes + sizeof head, entry, sizeof entry);
    for (int i = 0; i < AQ_TABLE_COUNT; i++)
        if (t[i].count)
            memcpy(bytes + entry[i].offset, t[i].at, t[i].count * t[i].record);
    memcpy(head.magic, AQ_PLAN_MAGIC, sizeof head.magic);
    head.size = size;
    head.hash = XXH3_64bits(bytes + sizeof head, size - sizeof head);
    memcpy(bytes, &head, sizeof head);
    aq_plan check;
    AQ_TRY(aq_plan_open("plan", bytes, size, &check));
    *out_bytes = bytes;
    *out_size = size;
    return AQ_OK;
}
