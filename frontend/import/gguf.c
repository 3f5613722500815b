/* gguf.c: the container: see gguf.h. Every count is checked against the bytes that are left before anything is allocated or looped
 * over, so time and memory are bounded by the file's size whatever the file says. */
#include "frontend/import/gguf.h"
#include "frontend/reasons.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DIMS = 4, MAX_NESTING = 4, LARGEST_ALIGNMENT = 1 << 16 };

typedef struct reader {
    const char *path;
    const unsigned char *bytes;
    size_t size, at;
    aq_bytes key; /* of the value that is being read */
} reader;

static aq_status refuse(int reason, const reader *r, const char *what) {
    char place[24];
    int n = snprintf(place, sizeof place, "%zu", r->at);
    return aq_import_refuse(reason, r->path, "byte", place, (size_t)n, "%s", what);
}

static aq_status take(reader *r, size_t n, const char *what, const unsigned char **out) {
    if (r->size - r->at < n) {
        char text[160];
        snprintf(text, sizeof text, "the file ends inside %s: expected %zu bytes more", what, n - (r->size - r->at));
        return refuse(AQ_WHY_GGUF_CUT, r, text);
    }
    *out = r->bytes + r->at;
    r->at += n;
    return AQ_OK;
}

static aq_status take_u32(reader *r, const char *what, uint32_t *out) {
    const unsigned char *p = NULL;
    AQ_TRY(take(r, 4, what, &p));
    memcpy(out, p, 4);
    return AQ_OK;
}

static aq_status take_u64(reader *r, const char *what, uint64_t *out) {
    const unsigned char *p = NULL;
    AQ_TRY(take(r, 8, what, &p));
    memcpy(out, p, 8);
    return AQ_OK;
}

static aq_status take_string(reader *r, const char *what, aq_bytes *out) {
    uint64_t n;
    const unsigned char *p = NULL;
    AQ_TRY(take_u64(r, what, &n));
    if (n > UINT32_MAX)
        return refuse(AQ_WHY_GGUF_STRING, r, "a string of more than 4 GiB");
    AQ_TRY(take(r, (size_t)n, what, &p));
    *out = (aq_bytes){(const char *)p, (uint32_t)n};
    return AQ_OK;
}

static aq_status refuse_value_type(const reader *r, uint32_t type) {
    return aq_import_refuse(AQ_WHY_GGUF_VALUE_TYPE, r->path, "key", r->key.s, r->key.n, "unknown value type %u: expected less than %d", type,
                            AQ_GGUF_TYPES);
}

/* Bytes of one value of a type; 0 for strings and arrays. */
static size_t type_size(uint32_t type) {
    static const unsigned char size[AQ_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return size[type];
}

/* Walks over n values of `type`. Arrays of arrays are walked, nothing uses them. */
static aq_status skip(reader *r, uint32_t type, uint64_t n, int depth) {
    const unsigned char *p = NULL;
    aq_bytes s;
    if (type != AQ_GGUF_STRING && type != AQ_GGUF_ARRAY) {
        if (n > (r->size - r->at) / type_size(type))
            return refuse(AQ_WHY_GGUF_ARRAY, r, "an array that is longer than the rest of the file");
        return take(r, (size_t)n * type_size(type), "an array", &p);
    }
    for (uint64_t i = 0; i < n; i++) { /* at least 8 bytes each: ends with the file at the latest */
        if (type == AQ_GGUF_STRING) {
            AQ_TRY(take_string(r, "a string", &s));
            continue;
        }
        uint32_t element;
        uint64_t count;
        AQ_TRY(take_u32(r, "an array", &element));
        AQ_TRY(take_u64(r, "an array", &count));
        if (element >= AQ_GGUF_TYPES)
            return refuse_value_type(r, element);
        if (depth == MAX_NESTING)
            return refuse(AQ_WHY_GGUF_NESTING, r, "arrays nested more than 4 deep");
        AQ_TRY(skip(r, element, count, depth + 1));
    }
    return AQ_OK;
}

static aq_status read_value(reader *r, aq_gguf_value *v) {
    uint32_t type, element = 0;
    *v = (aq_gguf_value){.n = 1};
    AQ_TRY(take_string(r, "a metadata key", &v->key));
    r->key = v->key;
    AQ_TRY(take_u32(r, "a value's type", &type));
    if (type >= AQ_GGUF_TYPES)
        return refuse_value_type(r, type);
    if (type == AQ_GGUF_STRING) {
        aq_bytes s;
        AQ_TRY(take_string(r, "a string value", &s));
        v->n = s.n;
        v->data = (const unsigned char *)s.s;
    } else if (type == AQ_GGUF_ARRAY) {
        AQ_TRY(take_u32(r, "an array", &element));
        AQ_TRY(take_u64(r, "an array", &v->n));
        if (element >= AQ_GGUF_TYPES)
            return refuse_value_type(r, element);
        v->data = r->bytes + r->at;
        AQ_TRY(skip(r, element, v->n, 0));
    } else {
        AQ_TRY(take(r, type_size(type), "a value", &v->data));
    }
    v->type = (aq_gguf_type)type;
    v->element = (aq_gguf_type)element;
    return AQ_OK;
}

static int compare_bytes(aq_bytes a, aq_bytes b) {
    int order = memcmp(a.s, b.s, a.n < b.n ? a.n : b.n);
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

static int by_key(const void *a, const void *b) { return compare_bytes(((const aq_gguf_value *)a)->key, ((const aq_gguf_value *)b)->key); }

static aq_status read_values(aq_arena *arena, reader *r, uint64_t count, aq_gguf *g) {
    if (count > (r->size - r->at) / 13) /* key length, type, one byte */
        return refuse(AQ_WHY_GGUF_VALUE_COUNT, r, "more metadata than the file can hold");
    aq_gguf_value *values;
    AQ_ALLOC(arena, values, count);
    for (uint64_t i = 0; i < count; i++)
        AQ_TRY(read_value(r, &values[i]));
    qsort(values, (size_t)count, sizeof *values, by_key);
    for (uint64_t i = 1; i < count; i++)
        if (by_key(&values[i - 1], &values[i]) == 0)
            return aq_import_refuse(AQ_WHY_GGUF_KEY_TWICE, r->path, "key", values[i].key.s, values[i].key.n, "occurs twice: expected once");
    g->values = values;
    g->n_values = (uint32_t)count;
    return AQ_OK;
}

const aq_gguf_value *aq_gguf_find(const aq_gguf *g, const char *key) {
    aq_gguf_value wanted = {.key = {key, (uint32_t)strlen(key)}};
    return g->n_values ? bsearch(&wanted, g->values, g->n_values, sizeof wanted, by_key) : NULL;
}

#define NUMBER(T)                                                                                                                           \
    {                                                                                                                                       \
        T x;                                                                                                                                \
        memcpy(&x, v->data, sizeof x);                                                                                                      \
        *out = (double)x;                                                                                                                   \
        return 1;                                                                                                                           \
    }

int aq_gguf_number(const aq_gguf_value *v, double *out) {
    switch (v->type) {
    case AQ_GGUF_BOOL:
    case AQ_GGUF_U8: NUMBER(uint8_t)
    case AQ_GGUF_I8: NUMBER(int8_t)
    case AQ_GGUF_U16: NUMBER(uint16_t)
    case AQ_GGUF_I16: NUMBER(int16_t)
    case AQ_GGUF_U32: NUMBER(uint32_t)
    case AQ_GGUF_I32: NUMBER(int32_t)
    case AQ_GGUF_U64: NUMBER(uint64_t)
    case AQ_GGUF_I64: NUMBER(int64_t)
    case AQ_GGUF_F32: NUMBER(float)
    case AQ_GGUF_F64: NUMBER(double)
    default: return 0;
    }
}

aq_status aq_gguf_strings(aq_arena *arena, const aq_gguf *g, const aq_gguf_value *v, const aq_bytes **out, uint32_t *out_n) {
    if (v->type != AQ_GGUF_ARRAY || v->element != AQ_GGUF_STRING || v->n > UINT32_MAX)
        return aq_import_refuse(AQ_WHY_GGUF_NOT_STRINGS, g->path, "key", v->key.s, v->key.n, "not an array of strings");
    aq_bytes *strings;
    AQ_ALLOC(arena, strings, v->n);
    reader r = {.path = g->path, .bytes = g->file->bytes, .size = g->file->size, .at = (size_t)(v->data - g->file->bytes)};
    for (uint64_t i = 0; i < v->n; i++) /* walked once already, but the file may have changed since */
        AQ_TRY(take_string(&r, "a string", &strings[i]));
    *out = strings;
    *out_n = (uint32_t)v->n;
    return AQ_OK;
}

/* ---- tensors ---- */

/* Names of types that files in circulation have and we do not: only for the message. */
static const char *foreign_type(uint32_t number) {
    static const char *const names[] = {[9] = "q8_1", [15] = "q8_K", [16] = "iq2_xxs", [17] = "iq2_xs", [18] = "iq3_xxs", [19] = "iq1_s",
                                        [21] = "iq3_s", [22] = "iq2_s", [25] = "i16", [27] = "i64", [29] = "iq1_m", [34] = "tq1_0",
                                        [35] = "tq2_0", [39] = "mxfp4", [40] = "nvfp4", [41] = "q1_0", [42] = "q2_0"};
    return number < sizeof names / sizeof *names && names[number] ? names[number] : "unknown";
}

static aq_status refuse_type(const char *path, aq_bytes name, uint32_t number) {
    char known[200] = "";
    for (int t = 1; t < AQ_DTYPE_COUNT; t++) {
        const aq_dtype_info *row = aq_dtype_of((aq_dtype)t);
        if (row->gguf >= 0 && row->kind != AQ_KIND_INT)
            snprintf(known + strlen(known), sizeof known - strlen(known), " %s", row->name);
    }
    return aq_import_refuse(AQ_WHY_GGUF_TENSOR_TYPE, path, "tensor", name.s, name.n, "type number %u (%s) is not supported: expected one of%s (llama-quantize "
                            "makes such a file of the unquantised model)", number, foreign_type(number), known);
}

/* data holds the offset until the data section is known. */
static aq_status read_tensor(reader *r, aq_stored *t, uint64_t *offset) {
    uint32_t rank, number;
    uint64_t dim, elements = 1;
    *t = (aq_stored){.file = r->path};
    AQ_TRY(take_string(r, "a tensor's name", &t->name));
    AQ_TRY(take_u32(r, "a tensor's rank", &rank));
    if (rank < 1 || rank > MAX_DIMS)
        return aq_import_refuse(AQ_WHY_GGUF_RANK, r->path, "tensor", t->name.s, t->name.n, "%u axes: expected 1 to %d", rank, MAX_DIMS);
    for (uint32_t i = 0; i < rank; i++) {
        AQ_TRY(take_u64(r, "a tensor's shape", &dim));
        if (dim < 1 || __builtin_mul_overflow(elements, dim, &elements) || elements > INT64_MAX / 16)
            return aq_import_refuse(AQ_WHY_GGUF_AXIS, r->path, "tensor",
                                    t->name.s, t->name.n, "an axis of %llu: expected a size above 0 that fits memory",
                                    (unsigned long long)dim);
        t->dim[rank - 1 - i] = (int64_t)dim;
    }
    AQ_TRY(take_u32(r, "a tensor's type", &number));
    AQ_TRY(take_u64(r, "a tensor's offset", offset));
    t->rank = (uint8_t)rank;
    t->dtype = aq_dtype_by_gguf(number);
    if (t->dtype == AQ_DTYPE_NONE)
        return refuse_type(r->path, t->name, number);
    uint64_t row = (uint64_t)t->dim[rank - 1];
    if (row % aq_dtype_of(t->dtype)->block)
        return aq_import_refuse(AQ_WHY_GGUF_BLOCK, r->path, "tensor",
                                t->name.s, t->name.n, "rows of %llu elements: expected a multiple of the block of %s, %u",
                                (unsigned long long)row, aq_dtype_of(t->dtype)->name, aq_dtype_of(t->dtype)->block);
    return aq_dtype_bytes(t->dtype, elements, r->path, &t->bytes);
}

static aq_status read_alignment(const aq_gguf *g, size_t *out) {
    const aq_gguf_value *v = aq_gguf_find(g, "general.alignment");
    double x = 32;
    if (v && (!aq_gguf_number(v, &x) || !(x >= 8 && x <= LARGEST_ALIGNMENT) || (size_t)x & ((size_t)x - 1) || x != (double)(size_t)x))
        return aq_import_refuse(AQ_WHY_GGUF_ALIGNMENT, g->path, "key", v->key.s, v->key.n, "expected a power of two from 8 to %d", LARGEST_ALIGNMENT);
    *out = (size_t)x;
    return AQ_OK;
}

static int by_data(const void *a, const void *b) {
    const unsigned char *x = (*(const aq_stored *const *)a)->data, *y = (*(const aq_stored *const *)b)->data;
    return (x > y) - (x < y);
}

static aq_status check_overlap(aq_arena *arena, const char *path, const aq_stored_list *tensors) {
    const aq_stored **sorted;
    AQ_ALLOC(arena, sorted, tensors->n);
    for (uint32_t i = 0; i < tensors->n; i++)
        sorted[i] = &tensors->at[i];
    qsort(sorted, tensors->n, sizeof(void *), by_data);
    for (uint32_t i = 1; i < tensors->n; i++)
        if ((size_t)(sorted[i]->data - sorted[i - 1]->data) < sorted[i - 1]->bytes)
            return aq_import_refuse(AQ_WHY_GGUF_OVERLAP, path, "tensor", sorted[i]->name.s, sorted[i]->name.n, "its data overlap those of %.*s",
                                    (int)(sorted[i - 1]->name.n < 80 ? sorted[i - 1]->name.n : 80), sorted[i - 1]->name.s);
    return AQ_OK;
}

static aq_status read_tensors(aq_arena *arena, reader *r, uint64_t count, aq_gguf *g) {
    size_t alignment = 32;
    uint64_t *offset;
    AQ_TRY(read_alignment(g, &alignment));
    if (count > (r->size - r->at) / 32) /* name length, rank, one axis, type, offset */
        return refuse(AQ_WHY_GGUF_TENSOR_COUNT, r, "more tensors than the file can hold");
    AQ_ALLOC(arena, offset, count);
    AQ_ALLOC(arena, g->tensors.at, count);
    g->tensors.n = g->tensors.room = (uint32_t)count;
    for (uint64_t i = 0; i < count; i++)
        AQ_TRY(read_tensor(r, &g->tensors.at[i], &offset[i]));
    size_t start = (r->at + alignment - 1) & ~(alignment - 1);
    for (uint64_t i = 0; i < count; i++) {
        aq_stored *t = &g->tensors.at[i];
        if (offset[i] % alignment)
            return aq_import_refuse(AQ_WHY_GGUF_OFFSET, r->path, "tensor",
                                    t->name.s, t->name.n, "offset %llu: expected a multiple of the alignment of %zu",
                                    (unsigned long long)offset[i], alignment);
        if (start > r->size || offset[i] > r->size - start || t->bytes > r->size - start - offset[i])
            return aq_import_refuse(AQ_WHY_GGUF_DATA, r->path, "tensor", t->name.s, t->name.n,
                                    "%zu bytes at offset %llu of the data, which begin at byte %zu: the file has only %zu bytes", t->bytes,
                                    (unsigned long long)offset[i], start, r->size);
        t->data = r->bytes + start + offset[i];
    }
    return check_overlap(arena, r->path, &g->tensors);
}

aq_status aq_gguf_read(aq_arena *arena, const char *path, const aq_file *file, aq_gguf *out) {
    reader r = {.path = path, .bytes = file->bytes, .size = file->size};
    aq_gguf g = {.path = path, .file = file};
    const unsigned char *magic = NULL;
    uint32_t version;
    uint64_t tensors, values;
    AQ_TRY(take(&r, 4, "the magic number", &magic));
    if (memcmp(magic, "GGUF", 4) != 0)
        return aq_refuse(AQ_WHY_GGUF_MAGIC, path, "not a GGUF file: expected it to begin with \"GGUF\"");
    AQ_TRY(take_u32(&r, "the version", &version));
    if (version != 2 && version != 3)
        return aq_refuse(AQ_WHY_GGUF_VERSION, path, "GGUF version %u%s: expected 2 or 3", version, version & 0xffff ? "" : " (a big-endian file)");
    AQ_TRY(take_u64(&r, "the number of tensors", &tensors));
    AQ_TRY(take_u64(&r, "the number of metadata values", &values));
    AQ_TRY(read_values(arena, &r, values, &g));
    AQ_TRY(read_tensors(arena, &r, tensors, &g));
    *out = g;
    return AQ_OK;
}
