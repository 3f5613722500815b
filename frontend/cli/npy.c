/* npy.c: the header is a Python dictionary literal; only the form that numpy writes is taken: three keys in any order, single quotes. */
#include "frontend/cli/npy.h"

#include "ir/file.h"
#include "ir/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* How numpy spells our types; WIDE: 64-bit integers, read as I32. */
static const struct {
    const char *descr;
    aq_dtype dtype;
    uint8_t bytes;
} kinds[] = {{"<f8", AQ_F64, 8}, {"<f4", AQ_F32, 4}, {"<f2", AQ_F16, 2}, {"|i1", AQ_I8, 1}, {"<i4", AQ_I32, 4}, {"<i8", AQ_I32, 8}};
enum { KINDS = sizeof kinds / sizeof *kinds };

typedef struct header {
    const char *at, *end, *file;
    int kind;  /* -1: not seen */
    int fortran, shaped;
} header;

static aq_status refuse(const header *h, const char *expected) {
    return aq_fail(AQ_REFUSED, h->file, "header near \"%.*s\": expected %s", (int)(h->end - h->at < 24 ? h->end - h->at : 24), h->at, expected);
}

static int take(header *h, const char *word) {
    size_t n = strlen(word);
    while (h->at < h->end && *h->at == ' ')
        h->at++;
    if ((size_t)(h->end - h->at) < n || memcmp(h->at, word, n))
        return 0;
    h->at += n;
    return 1;
}

static aq_status parse_shape(header *h, aq_npy *a) {
    if (!take(h, "("))
        return refuse(h, "a tuple of sizes");
    a->n = 1;
    while (!take(h, ")")) {
        int64_t x = 0;
        int digits = 0;
        take(h, "");
        for (; h->at < h->end && *h->at >= '0' && *h->at <= '9' && digits < 15; digits++)
            x = 10 * x + (*h->at++ - '0');
        if (!digits)
            return refuse(h, "a size");
        if (a->rank == AQ_NPY_MAX_RANK)
            return aq_fail(AQ_REFUSED, h->file, "more than %d axes", AQ_NPY_MAX_RANK);
        a->dim[a->rank++] = x;
        AQ_TRY(aq_size_mul(a->n, (size_t)x, h->file, &a->n));
        if (!take(h, ",") && (h->at == h->end || *h->at != ')'))
            return refuse(h, "a comma");
    }
    h->shaped = 1;
    return AQ_OK;
}

static aq_status parse_header(header *h, aq_npy *a) {
    if (!take(h, "{"))
        return refuse(h, "{");
    while (!take(h, "}")) {
        if (take(h, "'descr':")) {
            for (int i = 0; i < KINDS && h->kind < 0; i++) {
                char quoted[8];
                snprintf(quoted, sizeof quoted, "'%s'", kinds[i].descr);
                h->kind = take(h, quoted) ? i : -1;
            }
            if (h->kind < 0)
                return refuse(h, "'<f8' '<f4' '<f2' '|i1' '<i4' or '<i8'");
        } else if (take(h, "'fortran_order':")) {
            h->fortran = take(h, "False") ? 0 : -1;
            if (h->fortran)
                return refuse(h, "False: an array in C order");
        } else if (!h->shaped && take(h, "'shape':")) {
            AQ_TRY(parse_shape(h, a));
        } else {
            return refuse(h, "'descr', 'fortran_order' or 'shape', each once");
        }
        if (!take(h, ",") && (h->at == h->end || *h->at != '}'))
            return refuse(h, "a comma");
    }
    if (h->kind < 0 || !h->shaped)
        return refuse(h, "'descr' and 'shape'");
    return AQ_OK;
}

static aq_status copy(const char *file, const unsigned char *from, int kind, aq_npy *a) {
    size_t bytes;
    a->dtype = kinds[kind].dtype;
    AQ_TRY(aq_dtype_bytes(a->dtype, a->n, file, &bytes));
    AQ_TRY(aq_mem_alloc(bytes, &a->data));
    if (strcmp(kinds[kind].descr, "<i8")) {
        memcpy(a->data, from, bytes);
        return AQ_OK;
    }
    for (size_t i = 0; i < a->n; i++) {
        int64_t x;
        memcpy(&x, from + 8 * i, 8);
        if (x != (int32_t)x) {
            aq_npy_close(a);
            return aq_fail(AQ_REFUSED, file, "element %zu is %" PRId64 ": expected what fits 32 bits", i, x);
        }
        ((int32_t *)a->data)[i] = (int32_t)x;
    }
    return AQ_OK;
}

aq_status aq_npy_parse(const char *file, const unsigned char *bytes, size_t size, aq_npy *a) {
    *a = (aq_npy){0};
    if (size < 12 || memcmp(bytes, "\x93NUMPY", 6) || bytes[6] < 1 || bytes[6] > 3 || bytes[7])
        return aq_fail(AQ_REFUSED, file, "no .npy file of format 1.0, 2.0 or 3.0");
    size_t start = bytes[6] == 1 ? 10 : 12;
    size_t length = bytes[8] | (size_t)bytes[9] << 8 | (bytes[6] == 1 ? 0 : (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24);
    if (length > size - start)
        return aq_fail(AQ_REFUSED, file, "header of %zu bytes: only %zu are there", length, size - start);
    header h = {(const char *)bytes + start, (const char *)bytes + start + length, file, -1, 0, 0};
    AQ_TRY(parse_header(&h, a));
    size_t want;
    AQ_TRY(aq_size_mul(a->n, kinds[h.kind].bytes, file, &want));
    if (want != size - start - length)
        return aq_fail(AQ_REFUSED, file, "%zu bytes of data: expected %zu", size - start - length, want);
    return copy(file, bytes + start + length, h.kind, a);
}

aq_status aq_npy_read(const char *path, aq_npy *out) {
    aq_file f;
    AQ_TRY(aq_file_map(path, &f));
    aq_status status = aq_npy_parse(path, f.bytes, f.size, out);
    aq_file_unmap(&f);
    return status;
}

void aq_npy_close(aq_npy *a) {
    aq_mem_free(a->data);
    *a = (aq_npy){0};
}

aq_status aq_npy_write(const char *path, aq_dtype dtype, const int64_t *dim, int rank, const void *data) {
    char text[256];
    size_t n = 1, bytes;
    int kind = 0;
    while (kind < KINDS && kinds[kind].dtype != dtype)
        kind++;
    if (kind == KINDS || rank > AQ_NPY_MAX_RANK)
        return aq_fail(AQ_REFUSED, path, "type %s with %d axes: .npy has none such", aq_dtype_of(dtype)->name, rank);
    int k = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (", kinds[kind].descr);
    for (int i = 0; i < rank; i++) {
        k += snprintf(text + k, sizeof text - (size_t)k, "%" PRId64 ",", dim[i]);
        AQ_TRY(aq_size_mul(n, (size_t)dim[i], path, &n));
    }
    k += snprintf(text + k, sizeof text - (size_t)k, "), }");
    while ((10 + k + 1) % 64) /* numpy aligns the data */
        text[k++] = ' ';
    text[k++] = '\n';
    const unsigned char head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)(k & 255), (unsigned char)(k >> 8)};
    AQ_TRY(aq_dtype_bytes(dtype, n, path, &bytes));
    aq_file_writer *w;
    AQ_TRY(aq_file_create(path, &w));
    aq_status status = aq_file_append(w, head, sizeof head);
    status = status == AQ_OK ? aq_file_append(w, text, (size_t)k) : status;
    status = status == AQ_OK ? aq_file_append(w, data, bytes) : status;
    if (status == AQ_OK)
        return aq_file_commit(w);
    aq_file_abandon(w);
    return status;
}
