/* safetensors.c: the container of Hugging Face weights: 8 bytes of header length, a JSON object {name: {"dtype", "shape", "data_offsets"}},
 * the data. Format: github.com/huggingface/safetensors. The header names no file and no code; offsets are checked against each other and
 * the file's end. */
#include "frontend/import/internal.h"
#include "frontend/import/json.h"
#include "frontend/reasons.h"
#include "ir/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_HEADER = 100000000 }; /* the format's own limit */

#define REFUSE(why, t, ...) aq_import_refuse(why, (t)->file, "tensor", (t)->name.s, (t)->name.n, __VA_ARGS__)

static aq_status read_shape(const cJSON *shape, aq_stored *t, uint64_t *elements) {
    const cJSON *x;
    if (!cJSON_IsArray(shape))
        return REFUSE(AQ_WHY_SAFETENSORS_SHAPE, t, "no shape: expected a list of sizes");
    *elements = 1;
    cJSON_ArrayForEach(x, shape) {
        int64_t dim;
        if (t->rank == 4)
            return REFUSE(AQ_WHY_SAFETENSORS_RANK, t, "more than 4 axes");
        if (!aq_json_whole(x, &dim) || dim < 1 || __builtin_mul_overflow(*elements, (uint64_t)dim, elements) || *elements > INT64_MAX / 16)
            return REFUSE(AQ_WHY_SAFETENSORS_AXIS, t, "axis %u of its shape: expected a whole number above 0 that fits memory", t->rank);
        t->dim[t->rank++] = dim;
    }
    return AQ_OK;
}

/* Bytes of an element of a type that a file may hold beside the weights (masks, counters): 0 if there is no such type. */
static size_t width_of_other(const char *dtype) {
    static const struct {
        const char *name;
        size_t bytes;
    } others[] = {{"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"I32", 4}, {"U32", 4}, {"I64", 8}, {"U64", 8}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strcmp(others[i].name, dtype))
            return others[i].bytes;
    return 0;
}

static aq_status read_offsets(const cJSON *offsets, const unsigned char *data, size_t size, size_t align, aq_stored *t) {
    int64_t begin, end;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 || !aq_json_whole(offsets->child, &begin) ||
        !aq_json_whole(offsets->child->next, &end))
        return REFUSE(AQ_WHY_SAFETENSORS_NO_OFFSETS, t, "no data_offsets: expected [begin, end]");
    if (begin < 0 || end < begin || (uint64_t)end > size)
        return REFUSE(AQ_WHY_SAFETENSORS_OFFSETS, t, "data_offsets [%lld, %lld]: expected them inside the %zu bytes of data",
                      (long long)begin, (long long)end, size);
    if ((uint64_t)(end - begin) != t->bytes)
        return REFUSE(AQ_WHY_SAFETENSORS_SIZE, t, "data_offsets hold %lld bytes: expected %zu for its shape and type",
                      (long long)(end - begin), t->bytes);
    t->data = data + begin;
    if ((uintptr_t)t->data % align)
        return REFUSE(AQ_WHY_SAFETENSORS_ODD_PLACE, t,
                      "its data begin at an odd place: expected a multiple of %zu bytes (save the file again with safetensors 0.3 or newer)",
                      align);
    return AQ_OK;
}

/* Other types than ours (U8 masks, BOOL) may stand in a file, as AQ_DTYPE_NONE; only a tensor that is used must have one of ours. */
static aq_status read_tensor(aq_arena *arena, const char *path, const cJSON *entry, const unsigned char *data, size_t size, aq_stored *t) {
    const char *name;
    size_t n = strlen(entry->string);
    AQ_TRY(aq_arena_string(arena, entry->string, n, &name));
    *t = (aq_stored){.file = path, .name = {name, (uint32_t)n}};
    const cJSON *dtype = aq_json_get(entry, "dtype");
    uint64_t elements = 0;
    if (!cJSON_IsString(dtype))
        return REFUSE(AQ_WHY_SAFETENSORS_NO_DTYPE, t, "no dtype: expected the name of one");
    t->dtype = aq_dtype_by_safetensors(dtype->valuestring, strlen(dtype->valuestring));
    size_t width = t->dtype ? aq_dtype_of(t->dtype)->bytes : width_of_other(dtype->valuestring);
    if (!width)
        return REFUSE(AQ_WHY_SAFETENSORS_DTYPE, t, "type %.20s is not known: expected F32, F16, BF16 or F64", dtype->valuestring);
    AQ_TRY(read_shape(aq_json_get(entry, "shape"), t, &elements));
    AQ_TRY(aq_size_mul((size_t)elements, width, path, &t->bytes)); /* at most INT64_MAX / 2: read_shape */
    return read_offsets(aq_json_get(entry, "data_offsets"), data, size, width, t);
}

static int by_data(const void *a, const void *b) {
    const unsigned char *x = ((const aq_stored *)a)->data, *y = ((const aq_stored *)b)->data;
    return (x > y) - (x < y);
}

static aq_status read_header(aq_arena *arena, const char *path, const cJSON *root, const unsigned char *data, size_t size, aq_stored_list *out) {
    const cJSON *entry;
    uint32_t first = out->n;
    if (!cJSON_IsObject(root))
        return aq_refuse(AQ_WHY_SAFETENSORS_NO_OBJECT, path, "the header is no JSON object");
    cJSON_ArrayForEach(entry, root) {
        if (strcmp(entry->string, "__metadata__") == 0)
            continue;
        aq_stored t;
        AQ_TRY(read_tensor(arena, path, entry, data, size, &t));
        AQ_PUSH(arena, out, t);
    }
    if (out->n > first)
        qsort(out->at + first, out->n - first, sizeof *out->at, by_data);
    for (uint32_t i = first + 1; i < out->n; i++)
        if ((size_t)(out->at[i].data - out->at[i - 1].data) < out->at[i - 1].bytes)
            return REFUSE(AQ_WHY_SAFETENSORS_OVERLAP, &out->at[i], "its data overlap those of %.80s", out->at[i - 1].name.s);
    return AQ_OK;
}

aq_status aq_safetensors_read(aq_arena *arena, const char *path, const aq_file *file, aq_stored_list *out) {
    uint64_t n;
    if (file->size < 8)
        return aq_refuse(AQ_WHY_SAFETENSORS_SHORT, path, "%zu bytes: expected a safetensors file, which begins with 8 bytes of header length",
                         file->size);
    memcpy(&n, file->bytes, 8);
    if (n > LONGEST_HEADER || n > file->size - 8)
        return aq_refuse(AQ_WHY_SAFETENSORS_HEADER, path, "a header of %llu bytes in a file of %zu: expected a safetensors file, whole",
                         (unsigned long long)n,
                       file->size);
    cJSON *root;
    void *text; /* a copy: cJSON reads every string twice, and the file may change between */
    char place[512];
    snprintf(place, sizeof place, "%.480s:header", path);
    AQ_TRY(aq_mem_alloc((size_t)n + 1, &text));
    memcpy(text, file->bytes + 8, (size_t)n);
    aq_status status = aq_json_parse(place, text, (size_t)n, &root);
    aq_mem_free(text);
    AQ_TRY(status);
    status = read_header(arena, path, root, file->bytes + 8 + n, file->size - 8 - (size_t)n, out);
    cJSON_Delete(root);
    return status;
}
