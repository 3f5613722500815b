/* plan_open.c: the bytes of an .aqp file to tables. Three gates, cheapest first: the header, the hash (so damage is told from malice), the
 * directory; then plan_check.c looks at every record. A file has one form only (plan_file.h), hence no overlap or hole to think about. */
#define XXH_INLINE_ALL
#include "ir/plan_file.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

static const char *const table_name[AQ_TABLE_COUNT] = {
#define FIXED(name, type, n) #name,
#define TABLE(name, type, n) #name,
#define TEXTS(name) #name,
#include "ir/plan_tables.def"
};
static const uint32_t record_size[AQ_TABLE_COUNT] = {
#define FIXED(name, type, n) sizeof(type),
#define TABLE(name, type, n) sizeof(type),
#define TEXTS(name) 1,
#include "ir/plan_tables.def"
};

static aq_status check_header(const char *file, const unsigned char *bytes, size_t size, aq_plan_header *head) {
    if (size < sizeof *head + AQ_TABLE_COUNT * sizeof(aq_plan_entry))
        return aq_fail(AQ_REFUSED, file, "too short for a plan: %zu bytes", size);
    if ((uintptr_t)bytes % AQ_PLAN_ALIGN)
        return aq_fail(AQ_REFUSED, file, "the plan does not lie at a multiple of %d bytes in memory", AQ_PLAN_ALIGN);
    memcpy(head, bytes, sizeof *head);
    if (memcmp(head->magic, AQ_PLAN_MAGIC, sizeof head->magic) != 0)
        return aq_fail(AQ_REFUSED, file, "magic: not a plan: expected a file written by `aquila compile`");
    if (head->version != AQ_PLAN_VERSION)
        return aq_fail(AQ_REFUSED, file, "version: is %u: expected %d: compile again", head->version, AQ_PLAN_VERSION);
    if (head->n_tables != AQ_TABLE_COUNT)
        return aq_fail(AQ_REFUSED, file, "n_tables: is %u: expected %d", head->n_tables, AQ_TABLE_COUNT);
    if (head->size != size)
        return aq_fail(AQ_REFUSED, file, "size: the file has %zu bytes: expected %" PRIu64, size, head->size);
    for (int i = 0; i < 4; i++)
        if (head->signature[i])
            return aq_fail(AQ_REFUSED, file, "signature: is not zero: expected a plan without one");
    uint64_t hash = XXH3_64bits(bytes + sizeof *head, size - sizeof *head);
    if (hash != head->hash)
        return aq_fail(AQ_REFUSED, file, "hash: the bytes give %016" PRIx64 ": expected %016" PRIx64 ": the file is damaged", hash, head->hash);
    return AQ_OK;
}

static aq_status nothing_between(const char *file, const char *what, const unsigned char *from, const unsigned char *to) {
    for (; from < to; from++)
        if (*from)
            return aq_fail(AQ_REFUSED, file, "%s: bytes before it are not zero", what);
    return AQ_OK;
}

static aq_status check_directory(const char *file, const unsigned char *bytes, size_t size, aq_plan_entry *entry) {
    memcpy(entry, bytes + sizeof(aq_plan_header), AQ_TABLE_COUNT * sizeof *entry);
    size_t at = sizeof(aq_plan_header) + AQ_TABLE_COUNT * sizeof *entry;
    for (int i = 0; i < AQ_TABLE_COUNT; i++) {
        size_t start = (at + AQ_PLAN_ALIGN - 1) & ~(size_t)(AQ_PLAN_ALIGN - 1);
        if (entry[i].record != record_size[i] || entry[i].reserved)
            return aq_fail(AQ_REFUSED, file, "%s: records of %u bytes: expected %u", table_name[i], entry[i].record, record_size[i]);
        if (entry[i].offset != start || start > size)
            return aq_fail(AQ_REFUSED, file, "%s: lies at %" PRIu64 ": expected %zu", table_name[i], entry[i].offset, start);
        if (entry[i].count > (size - start) / record_size[i])
            return aq_fail(AQ_REFUSED, file, "%s: %" PRIu64 " records do not fit into the file", table_name[i], entry[i].count);
        if (i != AQ_TABLE_code && entry[i].count > INT32_MAX)
            return aq_fail(AQ_REFUSED, file, "%s: %" PRIu64 " records: expected fewer than 2^31", table_name[i], entry[i].count);
        AQ_TRY(nothing_between(file, table_name[i], bytes + at, bytes + start));
        at = start + (size_t)entry[i].count * record_size[i];
    }
    if (((at + AQ_PLAN_ALIGN - 1) & ~(size_t)(AQ_PLAN_ALIGN - 1)) != size)
        return aq_fail(AQ_REFUSED, file, "size: %zu bytes follow the code: expected none", size - at);
    return nothing_between(file, "end of the file", bytes + at, bytes + size);
}

/* Names and texts go to terminals and logs: nothing in them may steer one. */
static aq_status check_text(const char *file, const char *what, const char *s, size_t n) {
    if (n == 0 || s[n - 1])
        return aq_fail(AQ_REFUSED, file, "%s: does not end with a NUL byte", what);
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)s[i] < 0x20 && s[i] && s[i] != '\n' && s[i] != '\t') || s[i] == 0x7f ||
            ((unsigned char)s[i] == 0xc2 && i + 1 < n && ((unsigned char)s[i + 1] & 0xe0) == 0x80)) /* U+0080 to U+009F */
            return aq_fail(AQ_REFUSED, file, "%s: control character %d at byte %zu", what, (unsigned char)s[i], i);
    return AQ_OK;
}

static aq_status split_texts(const char *file, const char *s, size_t n, aq_plan *p) {
    const char **out[3] = {&p->target, &p->manifest, &p->options};
    size_t at = 0;
    AQ_TRY(check_text(file, "texts", s, n));
    for (int i = 0; i < 3; i++) {
        if (at == n)
            return aq_fail(AQ_REFUSED, file, "texts: holds %d strings: expected target, manifest and options", i);
        *out[i] = s + at;
        at += strlen(s + at) + 1;
    }
    if (at != n)
        return aq_fail(AQ_REFUSED, file, "texts: bytes follow the options: expected none");
    return AQ_OK;
}

aq_status aq_plan_open(const char *file, const void *bytes, size_t size, aq_plan *out) {
    aq_plan_header head;
    aq_plan_entry entry[AQ_TABLE_COUNT];
    AQ_TRY(check_header(file, bytes, size, &head));
    AQ_TRY(check_directory(file, bytes, size, entry));
    aq_plan p = {.bytes = bytes, .size = size, .hash = head.hash};
#define FIXED(name, type, n)                                                                                                                \
    if (entry[AQ_TABLE_##name].count != (n))                                                                                                \
        return aq_fail(AQ_REFUSED, file, #name ": %" PRIu64 " records: expected %d", entry[AQ_TABLE_##name].count, (int)(n));               \
    p.name = (const void *)(p.bytes + entry[AQ_TABLE_##name].offset);
#define TABLE(name, type, n)                                                                                                                \
    p.n = (__typeof__(p.n))entry[AQ_TABLE_##name].count;                                                                                    \
    p.name = (const void *)(p.bytes + entry[AQ_TABLE_##name].offset);
#define TEXTS(name)                                                                                                                         \
    AQ_TRY(split_texts(file, (const char *)p.bytes + entry[AQ_TABLE_##name].offset, (size_t)entry[AQ_TABLE_##name].count, &p));
#include "ir/plan_tables.def"
    AQ_TRY(check_text(file, "strings", p.strings, p.strings_size));
    AQ_TRY(aq_plan_check(file, &p));
    *out = p;
    return AQ_OK;
}
