/* gguf_parts.c: a model that llama-gguf-split, or a converter with --split-max-size, cut into files NAME-00001-of-00003.gguf ... The first holds all
 * keys (and perhaps no tensor), each has split.no, split.count and split.tensors.count; the tensors of all together are the model's.
 * Order: aq_gguf_first before anything is mapped (any part names the model), aq_gguf_join when the first is read. Which files are parts, their names
 * say, as llama.cpp has it; the keys inside must agree. Nothing is copied: each part stays mapped, its tensors point into it. */
#include "frontend/import/gguf.h"
#include "frontend/reasons.h"

#include <stdio.h>
#include <string.h>

enum { DIGITS = 5, END = 2 * DIGITS + 10 }; /* of "-00001-of-00003.gguf" */

static int digits_at(const char *s, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < DIGITS; i++) {
        if (s[i] < '0' || s[i] > '9')
            return 0;
        *out = 10 * *out + (uint32_t)(s[i] - '0');
    }
    return 1;
}

/* The length of NAME before "-00001-of-00003.gguf"; 0: path is no part's. */
static size_t stem_of(const char *path, uint32_t *number, uint32_t *count) {
    size_t n = strlen(path);
    const char *end = path + n - END;
    if (n <= END || *end != '-' || !digits_at(end + 1, number) || memcmp(end + 1 + DIGITS, "-of-", 4) || !digits_at(end + 5 + DIGITS, count) ||
        strcmp(end + 5 + 2 * DIGITS, ".gguf"))
        return 0;
    return n - END;
}

static aq_status part_path(aq_arena *arena, const char *path, uint32_t number, const char **out) {
    uint32_t old, count;
    size_t stem = stem_of(path, &old, &count);
    return aq_arena_format(arena, out, "%.*s-%05u-of-%05u.gguf", (int)stem, path, number, count);
}

aq_status aq_gguf_first(aq_arena *arena, const char *path, const char **out) {
    uint32_t number, count;
    const char *first = path;
    if (stem_of(path, &number, &count) && number > 1)
        AQ_TRY(part_path(arena, path, 1, &first));
    *out = aq_file_kind(first) == 1 ? first : path;
    return AQ_OK;
}

/* Its number, from 0, and how many there are, as the keys say. */
static int is_part(const aq_gguf *g, uint32_t number, uint32_t count) {
    const aq_gguf_value *no = aq_gguf_find(g, "split.no"), *of = aq_gguf_find(g, "split.count");
    double a = -1, b = -1;
    return no && of && aq_gguf_number(no, &a) && aq_gguf_number(of, &b) && a == number && b == count;
}

static aq_status read_part(aq_arena *arena, aq_checkpoint *c, const char *path, uint32_t number, uint32_t count, aq_gguf *g) {
    const aq_file *file;
    if (aq_file_kind(path) != 1)
        return aq_refuse(AQ_WHY_GGUF_PART_MISSING, path, "no such file: expected part %u of the %u of the model", number + 1, count);
    AQ_TRY(aq_import_map(c, path, &file));
    AQ_TRY(aq_gguf_read(arena, path, file, g));
    if (!is_part(g, number, count))
        return aq_import_refuse(AQ_WHY_GGUF_PART_KEYS, path, "key", "split.no", 8,
                                "not that of part %u of %u: expected split.no %u and split.count %u", number + 1, count, number, count);
    return AQ_OK;
}

static aq_status check_total(const aq_gguf *g) {
    const aq_gguf_value *v = aq_gguf_find(g, "split.tensors.count");
    double total = g->tensors.n;
    if (v && aq_gguf_number(v, &total) && total != g->tensors.n)
        return aq_import_refuse(AQ_WHY_GGUF_PART_TENSORS, g->path, "key", v->key.s, v->key.n, "%.0f, the parts hold %u: expected the same", total, g->tensors.n);
    return AQ_OK;
}

aq_status aq_gguf_join(aq_arena *arena, aq_checkpoint *c, aq_gguf *g) {
    const aq_gguf_value *parts = aq_gguf_find(g, "split.count");
    double wanted = 0;
    uint32_t number = 0, count = 0;
    if (!parts || !aq_gguf_number(parts, &wanted) || !(wanted > 1))
        return AQ_OK;
    if (!stem_of(g->path, &number, &count) || number != 1 || count > AQ_MOST_SHARDS || !is_part(g, 0, count))
        return aq_import_refuse(AQ_WHY_GGUF_SPLIT, g->path, "key", "split.count", 11,
                                "one of %.0f parts: expected the first of at most %d, named as llama-gguf-split does, NAME-00001-of-%05.0f.gguf", wanted, AQ_MOST_SHARDS,
                                wanted);
    for (uint32_t i = 1; i < count; i++) {
        aq_gguf part;
        const char *path;
        AQ_TRY(part_path(arena, g->path, i + 1, &path));
        AQ_TRY(read_part(arena, c, path, i, count, &part));
        for (uint32_t k = 0; k < part.tensors.n; k++)
            AQ_PUSH(arena, &g->tensors, part.tensors.at[k]);
    }
    return check_total(g);
}
